"""Many runs under faults, each with an outcome that is known before it starts.

Runs are started as executions (an S3 event that the dials lose before any rule has seen it is AWS's loss, not Baton's).
What a run must come to is drawn from the seed: success; a gate that cannot be met; a data set that must be refused; an
algorithm that refuses its job; or somebody who stops the execution at some moment.
"""

from __future__ import annotations

import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from baton_local import datasets
from baton_local.deployment import Deployment

GOOD, GATE, DATASET, JOB, STOP = "good", "gate", "dataset", "job", "stop"
STORIES = (GOOD, GOOD, GOOD, GATE, DATASET, JOB, STOP)
EXPECTED_ERRORS = {GATE: "GateNotMet", DATASET: "InvalidDataset", JOB: "JobFailed"}

EXHAUSTED = (
    "Lambda.Unknown",
    "Runtime.ExitError",
    "TransientAwsError",
    "KfpUnavailable",
    "LaunchUncertain",
    "LaunchInProgress",
    "CleanUpIncomplete",
    "NotGoneYet",
    "PipelineRunFailed",
)
"""Errors with which a run may fail for the faults' own sake: its retries ran out, and it said so."""

DEADLINE_SECONDS = 300
_MARGIN_SECONDS = 120
_POLL_SECONDS = 0.5


@dataclass
class Outcome:
    """What one run was to come to, and what it came to."""

    number: int
    story: str
    execution_arn: str
    status: str = "RUNNING"
    error: str | None = None
    cause: str | None = None
    output: dict[str, Any] = field(default_factory=dict)

    @property
    def verdict(self) -> str:
        """One of succeeded, failed_as_intended, stuck and wrong."""
        if self.status == "RUNNING":
            return "stuck"
        if self.story == STOP:
            return "failed_as_intended" if self.status == "ABORTED" else self._unstopped()
        if self.status == "SUCCEEDED":
            complete = len(self.output.get("predictions") or []) == 10 and self.output.get("model_artefact")
            return "succeeded" if self.story == GOOD and complete else "wrong"
        if self.status == "FAILED" and self.error == EXPECTED_ERRORS.get(self.story):
            return "failed_as_intended"
        return "failed_as_intended" if self.status == "FAILED" and self.error in EXHAUSTED else "wrong"

    def _unstopped(self) -> str:
        # The stop came after the end: then it is a run like any other good one.
        if self.status == "SUCCEEDED":
            return "succeeded"
        return "failed_as_intended" if self.error in EXHAUSTED else "wrong"


@dataclass
class Soak:
    """What a soak came to; ``good`` only where nothing is lost, stuck, wrong or left."""

    runs: int
    seconds: float = 0.0
    succeeded: int = 0
    failed_as_intended: int = 0
    lost: int = 0
    stuck: int = 0
    wrong: int = 0
    leftovers: list[str] = field(default_factory=list)
    unexpected: list[dict[str, Any]] = field(default_factory=list)

    @property
    def good(self) -> bool:
        """Whether every promise held."""
        return not (self.lost or self.stuck or self.wrong or self.leftovers)

    def as_dict(self) -> dict[str, Any]:
        """Return what ``--json`` writes; ``leftovers`` is their number, ``left`` names them."""
        facts = asdict(self)
        return {**facts, "leftovers": len(self.leftovers), "left": self.leftovers}


class Soaker:
    """Plays many runs on one deployment, a few at a time."""

    def __init__(self, deployment: Deployment, seed: int, folder: Path) -> None:
        self._deployment = deployment
        self._random = random.Random(f"{seed}:soak")  # noqa: S311 (a schedule, no secret)
        self._inputs = _uploaded(deployment, folder)
        self._lock = threading.Lock()
        self.outcomes: list[Outcome] = []

    def soak(self, runs: int, parallel: int, tell: Callable[[str], None]) -> Soak:
        """Play the runs, let the janitor make its rounds, and count."""
        began = time.monotonic()
        stories = [self._random.choice(STORIES) for _ in range(runs)]
        moments = [self._random.uniform(0.5, 12) for _ in range(runs)]
        with ThreadPoolExecutor(parallel) as pool:
            played = [pool.submit(self._play, n, stories[n], moments[n]) for n in range(runs)]
            while not all(future.done() for future in played):
                tell(self._progress(runs))
                time.sleep(_POLL_SECONDS * 4)
        lost = sum(1 for future in played if future.exception())
        counted = Counter(outcome.verdict for outcome in self.outcomes)
        left = self._swept(tell)
        return Soak(
            runs=runs,
            seconds=round(time.monotonic() - began, 1),
            succeeded=counted["succeeded"],
            failed_as_intended=counted["failed_as_intended"],
            lost=lost,
            stuck=counted["stuck"],
            wrong=counted["wrong"],
            leftovers=left,
            unexpected=[asdict(o) for o in self.outcomes if o.verdict in ("stuck", "wrong")],
        )

    def _play(self, number: int, story: str, moment: float) -> None:
        stepfunctions = self._deployment.client("stepfunctions")
        given = {**self._inputs[story], "deadline_seconds": DEADLINE_SECONDS}
        answer = stepfunctions.start_execution(
            stateMachineArn=self._deployment.state_machine, name=f"soak-{number:04d}-{story}", input=json.dumps(given)
        )
        outcome = Outcome(number, story, answer["executionArn"])
        with self._lock:
            self.outcomes.append(outcome)
        began = time.monotonic()
        while time.monotonic() - began < DEADLINE_SECONDS + _MARGIN_SECONDS:
            if story == STOP and time.monotonic() - began > moment:
                stepfunctions.stop_execution(executionArn=outcome.execution_arn, error="Soak", cause="on purpose")
            execution = stepfunctions.describe_execution(executionArn=outcome.execution_arn)
            if execution["status"] != "RUNNING":
                outcome.status, outcome.error = execution["status"], execution.get("error")
                outcome.cause, outcome.output = execution.get("cause"), json.loads(execution.get("output") or "{}")
                return
            time.sleep(_POLL_SECONDS)

    def _swept(self, tell: Callable[[str], None]) -> list[str]:
        """Wait for the clean-ups under way, then let the janitor do what they did not; return what is left."""
        until = time.monotonic() + _MARGIN_SECONDS
        left = self._deployment.leftovers()
        while (left or self._sweeping()) and time.monotonic() < until:
            tell(f"clean-up: {len(left)} things are left")
            time.sleep(_POLL_SECONDS * 4)
            if not self._sweeping():
                self._janitor()
            left = self._deployment.leftovers()
        return left

    def _sweeping(self) -> bool:
        stepfunctions = self._deployment.client("stepfunctions")
        machine = self._deployment.clean_up_machine
        return bool(stepfunctions.list_executions(stateMachineArn=machine, statusFilter="RUNNING")["executions"])

    def _janitor(self) -> None:
        name = self._deployment.physical_id("JanitorFunction")
        self._deployment.client("lambda").invoke(FunctionName=name, Payload=b"{}")

    def _progress(self, runs: int) -> str:
        counted = Counter(o.verdict for o in self.outcomes if o.status != "RUNNING")
        parts = [f"{counted[v]} {v.replace('_', ' ')}" for v in ("succeeded", "failed_as_intended", "wrong")]
        return f"{sum(counted.values())}/{runs} ended: " + ", ".join(parts)


def _uploaded(deployment: Deployment, folder: Path) -> dict[str, dict[str, Any]]:
    """Upload a small data set and a bad one; return the input of each story."""
    s3, bucket = deployment.client("s3"), deployment.bucket
    good, bad = datasets.small(folder / "good.pkl.gz", 600), folder / "bad.pkl.gz"
    bad.write_bytes(b"This is no data set.")
    for path in (good, bad):
        s3.upload_file(str(path), bucket, f"datasets/{path.name}")
    quick = {"max_tuning_jobs": 1, "parallel_tuning_jobs": 1, "mini_batch_size_min": 100, "mini_batch_size_max": 120}
    dataset = f"s3://{bucket}/datasets/good.pkl.gz"
    usual = {"dataset": dataset, "parameters": quick, "smoke_test": {"min_accuracy": 0.1}}
    return {
        GOOD: usual,
        STOP: usual,
        GATE: {**usual, "smoke_test": {"min_accuracy": 0.9999}},
        DATASET: {**usual, "dataset": f"s3://{bucket}/datasets/bad.pkl.gz"},
        # More clusters than there are rows: the algorithm itself refuses.
        JOB: {**usual, "parameters": {**quick, "k": 900}},
    }
