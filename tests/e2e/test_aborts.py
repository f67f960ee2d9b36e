"""A run that is stopped, in every state of its graph in turn, leaves nothing."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest

from baton_local.history import History
from baton_local.run import Run
from tests.e2e.conftest import QUICK, Stage

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("stage")]

STATES = [
    "Plan run",
    "Prepare data",
    "Launch pipeline",
    "Await tuning",
    "Await training",
    "Await endpoint",
    "Smoke-test endpoint",
    "Hold endpoint",
    "Clean up",
    "Write report",
]


@pytest.fixture(autouse=True)
def healthy_again(stage: Stage) -> Iterator[None]:
    yield
    stage.sagemaker_faults()


def stop_in(stage: Stage, state: str) -> Run:
    """Start a run and stop its execution as soon as it is in a state."""
    run = Run(stage.deployment)
    stepfunctions = stage.deployment.client("stepfunctions")
    execution = run.start(stage.good, {"parameters": QUICK, "after": {"endpoint": "hold", "hold_seconds": 3}})
    history, until = History(stepfunctions, execution), time.monotonic() + 60
    while state not in [visit.name for visit in history.visits]:
        assert time.monotonic() < until, f"the run never came to {state}"
        history.read()
        time.sleep(0.02)
    stepfunctions.stop_execution(executionArn=execution, error="Stopped", cause="A person stopped it.")
    assert stepfunctions.describe_execution(executionArn=execution)["status"] == "ABORTED"
    return run


def left_after_a_while(stage: Stage, seconds: float = 30) -> list[str]:
    """Return what is left once clean-up has had its time: a function that was under way may still have written."""
    until = time.monotonic() + seconds
    while (left := stage.deployment.leftovers()) and time.monotonic() < until:
        time.sleep(0.5)
    return left


@pytest.mark.parametrize("state", STATES)
def test_stopped_in(stage: Stage, state: str) -> None:
    run = stop_in(stage, state)
    run._wait_for_sweeps()
    assert left_after_a_while(stage) == []


def test_the_status_event_of_an_abort_is_lost_and_the_janitor_finishes(stage: Stage) -> None:
    events, rule = (
        stage.deployment.client("events"),
        stage.deployment.physical_id("ExecutionEndRule").rpartition("/")[2],
    )
    events.disable_rule(Name=rule)
    try:
        stop_in(stage, "Await training")
    finally:
        events.enable_rule(Name=rule)
    time.sleep(1)
    assert stage.deployment.leftovers() != []
    answer = stage.deployment.client("lambda").invoke(
        FunctionName=stage.deployment.physical_id("JanitorFunction"), Payload=b"{}"
    )
    done = json.load(answer["Payload"])
    assert [started["reason"] for started in done["started"]] == ["unfinished"]
    assert left_after_a_while(stage) == []


def test_an_endpoint_that_is_still_creating_when_clean_up_comes(stage: Stage) -> None:
    stage.sagemaker_faults(endpoint={"creating_seconds": 6})
    run = Run(stage.deployment)
    execution = run.start(stage.good, {"parameters": QUICK})
    until = time.monotonic() + 60
    while not any(line.startswith("endpoint bt-") for line in stage.deployment.leftovers()):
        assert time.monotonic() < until, "the run never made its endpoint"
        time.sleep(0.1)
    stage.deployment.client("stepfunctions").stop_execution(executionArn=execution)
    run._wait_for_sweeps()
    assert left_after_a_while(stage) == []


def test_a_redrive_after_clean_up_is_refused(stage: Stage) -> None:
    stage.sagemaker_faults(training={"match": "bt-*-train", "fail": "AlgorithmError: out of memory"})
    run = Run(stage.deployment)
    execution = run.start(stage.good, {"parameters": QUICK})
    assert run.follow(execution).error == "JobFailed"
    stepfunctions = stage.deployment.client("stepfunctions")
    stepfunctions.redrive_execution(executionArn=execution)
    result = run.follow(execution)
    assert result.status == "FAILED"
    assert result.leftovers == []
