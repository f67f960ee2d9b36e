"""However a run ends, and whenever somebody stops it, nothing of it is left."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from baton.janitor import LATE_SECONDS
from baton.names import Names, tags_of
from baton_local.run import Run
from tests.e2e.conftest import Stage, quick, wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("stage")]

KEEP = {"after": {"endpoint": "keep"}}
HOLD = {"after": {"endpoint": "hold", "hold_seconds": 60}}

STOPPED_IN: Mapping[str, dict[str, Any]] = {
    "Plan run": {},
    "Prepare data": {},
    "Launch pipeline": {},
    "Await pipeline run": {},
    "Await tuning": {},
    "Await training": {},
    "Await transform": {},
    "Await endpoint": KEEP,
    "Smoke-test endpoint": KEEP,
    "Hold endpoint": HOLD,
    "Clean up": {},
    "Write report": KEEP,
    "Notify": KEEP,
}
"""The states in which a run is stopped, and its input there: an endpoint to keep is one more thing to lose."""

QUIET = ("Await tuning", "Await training", "Hold endpoint")
"""The states in which none of Baton's functions is under way, so that one clean-up is always enough."""


@dataclass
class Ended:
    """How a run ended; ``sweeps`` are the statuses of its clean-ups, ``left`` what there is in the end."""

    run_id: str
    status: str
    error: str | None
    sweeps: set[str]
    left_at_first: list[str]
    left: list[str]


class Stopper:
    """Plays runs that end without their own clean-up, several at once."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self._changing = threading.Lock()

    def stop_in(self, state: str, given: Mapping[str, Any]) -> Ended:
        """Stop a run as soon as it is in a state."""
        change = deafen_topic if state == "Notify" else None
        run, execution = self.start(given, change)
        self.stage.wait_for_state(execution, state)
        self.stage.deployment.client("stepfunctions").stop_execution(
            executionArn=execution, error="Stopped", cause="A person stopped it."
        )
        return self.end(run, execution)

    def die(self, change: Callable[[dict[str, Any]], None]) -> Ended:
        """Play a run whose state machine was changed so that it dies by itself."""
        run, execution = self.start({}, change)
        wait_until(lambda: self.stage.execution(execution)["status"] != "RUNNING", "the run did not end")
        return self.end(run, execution)

    def start(
        self, given: Mapping[str, Any], change: Callable[[dict[str, Any]], None] | None = None
    ) -> tuple[Run, str]:
        """Start a run as the console does, with a state machine of its own where that is to be changed."""
        run = Run(self.stage.deployment, alone=False)
        content = {"dataset": run.put_dataset(self.stage.good), **quick(given)}
        # Others start in between, so that their state machine must be the true one.
        with self._changing:
            if change is None:
                return run, run.start_execution(content)
            with self.stage.changed_definition(change):
                return run, run.start_execution(content)

    def end(self, run: Run, execution: str) -> Ended:
        """Wait for the clean-up, and where a function wrote something after it, for the janitor's late look."""
        assert run.wait_for_sweep(execution)
        run_id, ended = run.run_id(execution), self.stage.execution(execution)
        first = left = self.left_of(run_id)
        if left:
            self.stage.age(run_id, LATE_SECONDS + 60)
            self.stage.make_janitors_round()
            wait_until(lambda: self.left_of(run_id) == [], f"{first} stays", seconds=30)
            left = self.left_of(run_id)
        assert run.wait_for_sweep(execution)
        sweeps = {self.stage.how_it_ended(sweep) for sweep in run.sweeps(execution)}
        return Ended(run_id, ended["status"], ended.get("error"), sweeps, first, left)

    def left_of(self, run_id: str) -> list[str]:
        """Name what is left of a run."""
        return self.stage.deployment.leftovers(run_id=run_id)


def deafen_topic(definition: dict[str, Any]) -> None:
    """Send to a topic that there is not, so that Notify is retried for a while."""
    notify = definition["States"]["Notify"]
    notify["Parameters"]["TopicArn"] += "-that-is-none"
    for retry in notify["Retry"]:
        # That there is no such topic is nothing that a retry helps, so it is not among the errors that are retried.
        retry |= {"ErrorEquals": ["States.TaskFailed"], "IntervalSeconds": 5, "MaxAttempts": 5}


def die_by_runtime_error(definition: dict[str, Any]) -> None:
    """Ask for a field that there is not: States.Runtime, which nothing can catch."""
    after_launch(definition, {"Type": "Pass", "InputPath": "$.no.such.field"})


def die_by_too_much_data(definition: dict[str, Any]) -> None:
    """Let a state's output exceed 256 KiB: States.DataLimitExceeded, which States.ALL does not catch."""
    after_launch(definition, {"Type": "Pass", "Result": "x" * 270_000, "ResultPath": "$.much"})


def after_launch(definition: dict[str, Any], state: dict[str, Any]) -> None:
    """Put a state between Launch pipeline and Watch, so that a run dies while its pods are at work."""
    definition["States"]["Launch pipeline"]["Next"] = "Die"
    definition["States"]["Die"] = {**state, "Next": "Watch"}


def time_out(definition: dict[str, Any]) -> None:
    """Give the whole execution less time than it needs."""
    definition["TimeoutSeconds"] = 7


DEATHS: Mapping[str, tuple[Callable[[dict[str, Any]], None], str, str | None]] = {
    "States.Runtime": (die_by_runtime_error, "FAILED", "States.Runtime"),
    "States.DataLimitExceeded": (die_by_too_much_data, "FAILED", "States.DataLimitExceeded"),
    "TIMED_OUT": (time_out, "TIMED_OUT", None),
}


@pytest.fixture(scope="module")
def ends(stage: Stage) -> Iterator[dict[str, Future[Ended]]]:
    """Every run that ends without its own clean-up, three under way at a time.

    No run is handed over twice in an hour, so a scheduled round that comes to one early would take its late look away.
    """
    stage.heal()
    stopper = Stopper(stage)
    with stage.without_hourly_rounds(), ThreadPoolExecutor(3) as pool:
        deaths = {name: pool.submit(stopper.die, change) for name, (change, _, _) in DEATHS.items()}
        stops = {state: pool.submit(stopper.stop_in, state, given) for state, given in STOPPED_IN.items()}
        yield {**deaths, **stops}


def test_every_state_in_which_a_run_can_be_stopped_is_among_them() -> None:
    definition = json.loads((Path(__file__).parents[2] / "statemachine/training_run.asl.json").read_text("utf-8"))
    assert set(STOPPED_IN) == set(_states_that_take_time(definition))


def _states_that_take_time(definition: Mapping[str, Any]) -> Iterator[str]:
    for name, state in definition["States"].items():
        if state["Type"] in ("Task", "Wait"):
            yield name
        for branch in state.get("Branches", []):
            yield from _states_that_take_time(branch)


@pytest.mark.parametrize("state", STOPPED_IN)
def test_a_run_that_is_stopped_leaves_nothing(stage: Stage, ends: dict[str, Future[Ended]], state: str) -> None:
    ended = ends[state].result()
    assert (ended.status, ended.error) == ("ABORTED", "Stopped")
    assert (ended.sweeps, ended.left) == ({"SUCCEEDED"}, [])
    assert stage.receipt(ended.run_id)["complete"]
    if state in QUIET:
        assert ended.left_at_first == []


@pytest.mark.parametrize("death", DEATHS)
def test_a_run_that_dies_leaves_nothing(stage: Stage, ends: dict[str, Future[Ended]], death: str) -> None:
    ended = ends[death].result()
    assert (ended.status, ended.error) == DEATHS[death][1:]
    assert (ended.sweeps, ended.left) == ({"SUCCEEDED"}, [])
    assert stage.receipt(ended.run_id)["complete"]


def test_what_was_kept_for_a_run_that_was_stopped_afterwards_goes_all_the_same(
    stage: Stage, ends: dict[str, Future[Ended]]
) -> None:
    # Its own clean-up had kept the endpoint, because until then the run had succeeded.
    ended = ends["Notify"].result()
    actions = {item["kind"]: item["action"] for item in stage.receipt(ended.run_id)["items"]}
    assert (actions["endpoint"], actions["endpoint_config"], actions["model"]) == ("deleted",) * 3


def test_the_pipeline_run_of_a_run_that_was_stopped_is_terminated(stage: Stage, ends: dict[str, Future[Ended]]) -> None:
    receipt = stage.receipt(ends["Await training"].result().run_id)
    assert receipt["pipeline_run"]["state"] == "CANCELED"
    assert {item["action"] for item in receipt["items"] if item["kind"] == "pipeline-run"} == {"terminated"}


# --- the sweeps themselves --------------------------------------------------------------------------------------------


@pytest.fixture
def alone(stage: Stage, ends: dict[str, Future[Ended]]) -> Iterator[Stopper]:
    """A stage on which nothing else is under way, the janitor neither, and which is healthy afterwards."""
    for future in ends.values():
        future.exception()
    yield Stopper(stage)
    stage.heal()


@contextlib.contextmanager
def deaf_to_ends(stage: Stage) -> Iterator[None]:
    """Lose the status events of executions, however late they come."""
    with stage.without_rule("ExecutionEndRule"):
        yield
        time.sleep(1)


def reasons_to_clean_up(stage: Stage, run_id: str) -> list[str]:
    """Let the janitor make a round; return why it handed a run over, if it did."""
    return [one["reason"] for one in stage.make_janitors_round()["started"] if one["run_id"] == run_id]


def test_the_status_event_of_an_abort_is_lost_and_the_janitor_finishes(stage: Stage, alone: Stopper) -> None:
    stage.sagemaker_faults(training={"match": "bt-*-train", "in_progress_seconds": 60})
    run, execution = alone.start({})
    stage.wait_for_state(execution, "Await training")
    run_id = run.run_id(execution)
    with deaf_to_ends(stage):
        stage.deployment.client("stepfunctions").stop_execution(executionArn=execution)
        assert alone.left_of(run_id) != []
        assert run.sweeps(execution) == {}
        assert reasons_to_clean_up(stage, run_id) == ["unfinished"]
        assert run.wait_for_sweep(execution)
        assert alone.left_of(run_id) == []
        assert reasons_to_clean_up(stage, run_id) == []


def test_what_was_kept_for_a_run_whose_abort_nobody_heard_of_is_found_by_the_janitor(
    stage: Stage, alone: Stopper
) -> None:
    # Its own clean-up was that of a success and gave a receipt; then it was stopped, and the event got lost.
    run, execution = alone.start(KEEP, deafen_topic)
    stage.wait_for_state(execution, "Notify")
    run_id = run.run_id(execution)
    with deaf_to_ends(stage):
        assert reasons_to_clean_up(stage, run_id) == [], "it is still going on"
        stage.deployment.client("stepfunctions").stop_execution(executionArn=execution)
        assert stage.receipt(run_id)["complete"]
        assert f"endpoint {Names.of(run_id).endpoint}" in alone.left_of(run_id)
        assert reasons_to_clean_up(stage, run_id) == ["unfinished"]
        assert run.wait_for_sweep(execution)
        assert alone.left_of(run_id) == []


def test_an_endpoint_that_is_still_creating_when_clean_up_comes(stage: Stage, alone: Stopper) -> None:
    stage.sagemaker_faults(endpoint={"creating_seconds": 6})
    run, execution = alone.start({})
    run_id = run.run_id(execution)
    endpoint = Names.of(run_id).endpoint
    wait_until(lambda: f"endpoint {endpoint}" in alone.left_of(run_id), "the run never made its endpoint")
    stage.deployment.client("stepfunctions").stop_execution(executionArn=execution)
    ended = alone.end(run, execution)
    assert (ended.sweeps, ended.left) == ({"SUCCEEDED"}, [])
    (item,) = [i for i in stage.receipt(run_id)["items"] if i["kind"] == "endpoint"]
    assert (item["action"], item["status"]) == ("deleted", "Creating")


def test_kubeflow_pipelines_is_down_when_clean_up_comes(stage: Stage, alone: Stopper) -> None:
    stage.sagemaker_faults(training={"match": "bt-*-train", "in_progress_seconds": 60})
    run, execution = alone.start({})
    stage.wait_for_state(execution, "Await training")
    stage.kfp_faults(down="unavailable")
    stage.deployment.client("stepfunctions").stop_execution(executionArn=execution)
    wait_until(lambda: "KfpUnavailable" in errors_of(stage, run.sweeps(execution)), "clean-up did not ask")
    # It stopped what it could meanwhile, and it does not say that it is done.
    assert set(run.sweeps(execution).values()) == {"RUNNING"}
    stage.kfp_faults(down="")
    ended = alone.end(run, execution)
    assert (ended.sweeps, ended.left) == ({"SUCCEEDED"}, [])
    # Its job was stopped meanwhile, so the pipeline run may have failed before it could be terminated.
    assert stage.receipt(ended.run_id)["pipeline_run"]["state"] in ("CANCELED", "FAILED")


def errors_of(stage: Stage, executions: Iterable[str]) -> set[str]:
    """Return every error that a state of some executions met."""
    found = set()
    for arn in executions:
        events = stage.deployment.client("stepfunctions").get_execution_history(executionArn=arn)["events"]
        found |= {
            details["error"]
            for event in events
            for name, details in event.items()
            if name.endswith("EventDetails") and "error" in details
        }
    return found


def test_an_endpoint_that_appears_after_the_sweep_is_deleted_too(
    stage: Stage, alone: Stopper, ends: dict[str, Future[Ended]]
) -> None:
    # As a pod makes it that looked for the tombstone just before it was written, and then took its time.
    run_id = ends["Hold endpoint"].result().run_id
    names, row = Names.of(run_id), stage.row(run_id)
    artefact = f"s3://{stage.deployment.bucket}/runs/{run_id}/model/{names.training}/output/model.tar.gz"
    tags = tags_of(run_id, row["execution_arn"], row["pipeline"], row["expires_tag"])
    stage.sagemaker_faults(endpoint={"creating_seconds": 3})
    serve(stage, names, artefact, [{"Key": key, "Value": value} for key, value in tags.items()])
    assert f"endpoint {names.endpoint}" in alone.left_of(run_id)
    wait_until(lambda: alone.left_of(run_id) == [], "the late endpoint stays")


def serve(stage: Stage, names: Names, artefact: str, tags: list[dict[str, str]]) -> None:
    """Create what serves a model."""
    sagemaker = stage.deployment.client("sagemaker")
    job = sagemaker.describe_training_job(TrainingJobName=names.training)
    container = {"Image": job["AlgorithmSpecification"]["TrainingImage"], "ModelDataUrl": artefact}
    sagemaker.create_model(
        ModelName=names.model, PrimaryContainer=container, ExecutionRoleArn=job["RoleArn"], Tags=tags
    )
    variant = {"VariantName": "AllTraffic", "ModelName": names.model, "InitialInstanceCount": 1}
    sagemaker.create_endpoint_config(
        EndpointConfigName=names.endpoint_config,
        ProductionVariants=[{**variant, "InstanceType": "ml.m5.large"}],
        Tags=tags,
    )
    sagemaker.create_endpoint(EndpointName=names.endpoint, EndpointConfigName=names.endpoint_config, Tags=tags)


def test_what_a_function_wrote_after_the_sweep_is_found_by_a_late_look(stage: Stage, alone: Stopper) -> None:
    # A run of its own, because the others may have had their late look this hour.
    run_id = alone.stop_in("Prepare data", {}).run_id
    stage.deployment.client("s3").put_object(
        Bucket=stage.deployment.bucket, Key=f"runs/{run_id}/data/train_data", Body=b"late"
    )
    assert reasons_to_clean_up(stage, run_id) == []
    stage.age(run_id, LATE_SECONDS + 60)
    assert reasons_to_clean_up(stage, run_id) == ["late"]
    wait_until(lambda: alone.left_of(run_id) == [], "what came late stays")


# --- redrives ---------------------------------------------------------------------------------------------------------


def redrive(stage: Stage, execution: str) -> dict[str, Any]:
    """Redrive an execution; return how it ended."""
    stage.deployment.client("stepfunctions").redrive_execution(executionArn=execution)
    wait_until(lambda: stage.execution(execution)["status"] != "RUNNING", "the redriven run did not end")
    return stage.execution(execution)


@pytest.mark.parametrize("state", ["Prepare data", "Await training", "Clean up", "Write report"])
def test_a_redrive_after_clean_up_is_refused(
    stage: Stage, alone: Stopper, ends: dict[str, Future[Ended]], state: str
) -> None:
    """Stopped in Write report, its own clean-up had kept its endpoint; it is refused when it looks again."""
    run_id = ends[state].result().run_id
    ended = redrive(stage, stage.row(run_id)["execution_arn"])
    assert (ended["status"], ended["error"]) == ("FAILED", "RunEnded")
    assert run_id in ended["cause"]
    # No old version of a report either, although it had told of a success before.
    wait_until(lambda: alone.left_of(run_id) == [], "the redrive left something")
    assert stage.report(run_id)["error"] == "RunEnded"


def test_a_redrive_before_clean_up_looks_again_and_keeps_its_endpoint(stage: Stage, alone: Stopper) -> None:
    run, execution = alone.start(KEEP)
    stage.wait_for_state(execution, "Write report")
    run_id = run.run_id(execution)
    with deaf_to_ends(stage):
        stage.deployment.client("stepfunctions").stop_execution(executionArn=execution)
        ended = redrive(stage, execution)
    assert (ended["status"], ended["redriveCount"]) == ("SUCCEEDED", 1)
    assert json.loads(ended["output"])["endpoint"] == Names.of(run_id).endpoint
    assert (stage.receipt(run_id)["redrive_count"], stage.report(run_id)["status"]) == (1, "SUCCEEDED")
    assert [what for what in alone.left_of(run_id) if what.startswith("object")] == []
    described = stage.deployment.client("sagemaker").describe_endpoint(EndpointName=Names.of(run_id).endpoint)
    assert described["EndpointStatus"] == "InService"
    clean_up(stage, execution, succeeded=False)
    wait_until(lambda: alone.left_of(run_id) == [], "what a person gave up stays")


def test_an_abort_that_is_told_when_the_run_has_been_redriven_does_not_end_it(stage: Stage, alone: Stopper) -> None:
    stage.sagemaker_faults(training={"match": "bt-*-train", "in_progress_seconds": 8})
    run, execution = alone.start({})
    stage.wait_for_state(execution, "Await training")
    run_id = run.run_id(execution)
    with deaf_to_ends(stage):
        stage.deployment.client("stepfunctions").stop_execution(executionArn=execution)
        stage.deployment.client("stepfunctions").redrive_execution(executionArn=execution)
    sweep = clean_up(stage, execution)
    wait_until(lambda: "Undecided" in errors_of(stage, [sweep]), "the clean-up did not ask")
    assert stage.execution(execution)["status"] == "RUNNING"
    assert "ended_at" not in stage.row(run_id)
    wait_until(lambda: stage.execution(execution)["status"] != "RUNNING", "the redriven run did not end")
    assert stage.execution(execution)["status"] == "SUCCEEDED"
    wait_until(lambda: stage.execution(sweep)["status"] != "RUNNING", "the clean-up did not end")
    assert (stage.execution(sweep)["status"], alone.left_of(run_id)) == ("SUCCEEDED", [])


def clean_up(stage: Stage, execution: str, **verdict: bool) -> str:
    """Start a clean-up as the rule on executions' ends does, or with a person's word; return its ARN."""
    started = int(stage.execution(execution)["startDate"].timestamp() * 1000)
    content = {"execution_arn": execution, "start_time": started, **verdict}
    stepfunctions, machine = stage.deployment.client("stepfunctions"), stage.deployment.clean_up_machine
    arn: str = stepfunctions.start_execution(stateMachineArn=machine, input=json.dumps(content))["executionArn"]
    return arn
