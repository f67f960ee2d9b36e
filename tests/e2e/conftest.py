"""One embedded cloud with Baton's own stack, shared by the tests of a session."""

from __future__ import annotations

import contextlib
import json
import pickle
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from baton_local import datasets
from baton_local.cloud import EmbeddedCloud
from baton_local.deployment import Deployment, repository
from baton_local.history import History
from baton_local.run import Result, Run

QUICK = {"max_tuning_jobs": 2, "mini_batch_size_min": 100, "mini_batch_size_max": 120}
"""Parameters that make a run on a small data set short."""

FIELDS = [
    *("status", "error", "cause", "run_id", "execution_arn", "region", "seconds", "transitions", "states"),
    *("pipeline_run", "sagemaker", "data", "smoke_test", "kept", "leftovers", "report"),
]
"""What `baton local run --json` writes of a run."""

GRAPH = [
    *("Plan run", "Prepare data", "Launch pipeline", "Watch", "Await pipeline run", "Await tuning"),
    *("Await training", "Await transform", "Await endpoint", "Smoke-test endpoint", "Clean up", "Write report"),
    *("Notify", "Run succeeded"),
]
"""The states that every good run of the pipeline passes."""

ENDED_WELL = {
    "tuning": "Completed",
    "training": "Completed",
    "model": "Deleted",
    "transform": "Completed",
    "endpoint": "Deleted",
}
"""What SageMaker says of a good run's things afterwards."""

PATIENCE_SECONDS = 120.0


class Stage:
    """A deployment on which tests play their runs."""

    def __init__(self, deployment: Deployment, folder: Path) -> None:
        self.deployment = deployment
        self.folder = folder
        self.good = datasets.small(folder / "digits.pkl.gz", 1200)

    def play(self, dataset: Path | None = None, given: Mapping[str, Any] | None = None, alone: bool = True) -> Result:
        """Upload a data set (and an input that names it) and follow the run to its end."""
        run = Run(self.deployment, alone=alone)
        return run.follow(run.start(dataset or self.good, quick(given)))

    def file(self, name: str, content: bytes) -> Path:
        """Write a file to upload."""
        path = self.folder / name
        path.write_bytes(content)
        return path

    def pickle_of(self, name: str, splits: object) -> Path:
        """Write a pickle of some splits, in the form of the MNIST file where they have it."""
        return self.file(name, pickle.dumps(splits, protocol=2))

    # --- faults -------------------------------------------------------------------------------------------------------

    def sagemaker_faults(self, **faults: object) -> None:
        """Set what SageMaker suffers; no argument heals it."""
        self._post(f"{self.deployment.cloud.url}/_baton/sagemaker/faults", faults, "POST" if faults else "DELETE")

    def kfp_faults(self, **faults: object) -> None:
        """Set what Kubeflow Pipelines suffers."""
        self._post(f"{self.deployment.cloud.kfp_url}/_baton/faults", faults, "POST")

    def heal(self) -> None:
        """Take every fault away."""
        self.sagemaker_faults()
        self.kfp_faults(down="", login_page=False, fail_next_runs=0)

    # --- looking ------------------------------------------------------------------------------------------------------

    def execution(self, arn: str) -> dict[str, Any]:
        """Return what Step Functions says of an execution."""
        found: dict[str, Any] = self.deployment.client("stepfunctions").describe_execution(executionArn=arn)
        return found

    def how_it_ended(self, arn: str) -> str:
        """Return an execution's status, with its name and its error where it failed."""
        found = self.execution(arn)
        if "error" not in found:
            return str(found["status"])
        return f"{found['status']} {found['name']} {found['error']}: {found.get('cause')}"

    def row(self, run_id: str) -> dict[str, Any]:
        """Return a run's row, with plain values."""
        answer = self.deployment.client("dynamodb").get_item(
            TableName=self.deployment.outputs["TableName"], Key={"kind": {"S": "run"}, "name": {"S": run_id}}
        )
        return {name: next(iter(value.values())) for name, value in answer.get("Item", {}).items()}

    def receipt(self, run_id: str) -> dict[str, Any]:
        """Return the receipt of a run's last clean-up; {} where there is none."""
        receipt: dict[str, Any] = json.loads(self.row(run_id).get("receipt", "{}"))
        return receipt

    def report(self, run_id: str) -> dict[str, Any]:
        """Return a run's report as data."""
        answer = self.deployment.client("s3").get_object(
            Bucket=self.deployment.bucket, Key=f"runs/{run_id}/report/report.json"
        )
        report: dict[str, Any] = json.load(answer["Body"])
        return report

    def make_janitors_round(self) -> dict[str, Any]:
        """Invoke the janitor as its hourly rule does; return its answer."""
        answer = self.deployment.client("lambda").invoke(
            FunctionName=self.deployment.physical_id("JanitorFunction"), Payload=b"{}"
        )
        done: dict[str, Any] = json.load(answer["Payload"])
        assert "FunctionError" not in answer, done
        return done

    @contextlib.contextmanager
    def without_rule(self, logical_id: str) -> Iterator[None]:
        """Disable one of the stack's EventBridge rules for a while."""
        events, rule = self.deployment.client("events"), self.deployment.physical_id(logical_id)
        events.disable_rule(Name=rule)
        try:
            yield
        finally:
            events.enable_rule(Name=rule)

    @contextlib.contextmanager
    def without_hourly_rounds(self) -> Iterator[None]:
        """Keep the janitor's schedule, an hour of which is seconds here, from doing what a test is to see done.

        A round that is under way goes on, so this is to begin before the run of which the test is.
        """
        with self.without_rule("JanitorRule"):
            yield

    def age(self, run_id: str, seconds: int) -> None:
        """Let a run have ended that much earlier."""
        row = self.row(run_id)
        self.deployment.client("dynamodb").update_item(
            TableName=self.deployment.outputs["TableName"],
            Key={"kind": {"S": "run"}, "name": {"S": run_id}},
            UpdateExpression="SET ended_at = :ended, receipt_at = :receipt",
            ExpressionAttributeValues={
                ":ended": {"N": str(int(row["ended_at"]) - seconds)},
                ":receipt": {"N": str(int(row["receipt_at"]) - seconds)},
            },
        )

    @contextlib.contextmanager
    def changed_definition(self, change: Callable[[dict[str, Any]], None]) -> Iterator[None]:
        """Change the state machine for the executions that are started inside; they keep what they started with."""
        stepfunctions, arn = self.deployment.client("stepfunctions"), self.deployment.state_machine
        original = stepfunctions.describe_state_machine(stateMachineArn=arn)["definition"]
        changed = json.loads(original)
        change(changed)
        stepfunctions.update_state_machine(stateMachineArn=arn, definition=json.dumps(changed))
        try:
            yield
        finally:
            stepfunctions.update_state_machine(stateMachineArn=arn, definition=original)

    def wait_for_state(self, execution: str, state: str) -> None:
        """Return as soon as an execution has entered a state."""
        history = History(self.deployment.client("stepfunctions"), execution)

        def entered(*states: str) -> bool:
            history.read()
            return any(visit.name in states for visit in history.visits)

        if state in GRAPH[1:]:
            # Some states are over at once; but who looks for them all the time takes the processor from the run.
            before = GRAPH[GRAPH.index(state) - 1]
            wait_until(lambda: entered(before, state), f"the run never came near {state}", pause=0.1)
        takes_time = state.startswith(("Await", "Hold"))
        wait_until(lambda: entered(state), f"the run never came to {state}", pause=0.1 if takes_time else 0.02)

    def _post(self, url: str, body: Mapping[str, object], method: str) -> None:
        request = urllib.request.Request(
            url, json.dumps(body).encode(), {"Content-Type": "application/json"}, method=method
        )
        urllib.request.urlopen(request, timeout=10).close()


@pytest.fixture(scope="session")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """The stage that the tests of a worker share, in a European region; two groups of modules have one each."""
    folder = tmp_path_factory.mktemp("stage")
    with EmbeddedCloud(speed=400, cache_dir=repository() / ".cache") as cloud:
        yield Stage(Deployment.make(cloud, "eu-west-1"), folder)


def quick(given: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return an execution's input with what makes it short, and forgiving of a machine that has much else to do."""
    content = dict(given or {})
    return {
        **content,
        "parameters": {**QUICK, **content.get("parameters", {})},
        "smoke_test": {"max_p95_ms": 30_000, **content.get("smoke_test", {})},
    }


def succeeded(result: Result) -> Result:
    """Check that a run succeeded and left nothing; return it."""
    assert (result.status, result.error, result.cause, result.leftovers) == ("SUCCEEDED", None, None, [])
    assert result.transitions <= 40
    return result


def wait_until(
    true: Callable[[], object], otherwise: str, pause: float = 0.2, seconds: float = PATIENCE_SECONDS
) -> None:
    """Return once something is true; fail where it never is."""
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until, otherwise
        time.sleep(pause)


def digits(rows: int, seed: int = 7) -> tuple[np.ndarray, np.ndarray]:
    """Return a split of random pixels, for data sets that are refused before anybody looks at the digits."""
    random = np.random.default_rng(seed)
    return random.random((rows, 784), dtype=np.float32), random.integers(0, 10, rows)
