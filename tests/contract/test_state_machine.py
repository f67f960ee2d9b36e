"""The state machines against the code that they call: errors that they retry, states, and what a run costs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from botocore.session import Session

from baton.errors import BatonError, all_errors, retryable_errors
from baton.payloads import execution_of, moment
from baton.things import KINDS
from tests.e2e.test_aborts import STOPPED_IN
from tests.support.playing import chosen, ended, parameters

ROOT = Path(__file__).resolve().parents[2]
MACHINES = sorted((ROOT / "statemachine").glob("*.asl.json"))
OF_LAMBDA = ("Lambda.", "Runtime.", "Sandbox.")
OF_STEP_FUNCTIONS = {"States.HeartbeatTimeout"}
OF_SNS = {
    "SNS.InternalErrorException",
    "SNS.ThrottledException",
    "SNS.KMSThrottlingException",
    "SNS.AmazonSNSException",
    "SNS.SdkClientException",
}
"""The classes of AWS's Java SDK by which Step Functions names SNS's errors: those of a service that is busy or fails,
the one of an error without a class of its own, and the one of a call that never got an answer."""


EVENTS_OF_A_HEARTBEAT = 4
EVENTS_OF_A_RETRY = 3
"""TaskScheduled, TaskStarted, TaskSubmitted and TaskTimedOut; an attempt whose function fails is not submitted."""


def states(machine: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, state in machine["States"].items():
        yield name, state
        for branch in state.get("Branches", []):
            yield from states(branch)


def retried(state: dict[str, Any]) -> set[str]:
    return {error for retrier in state.get("Retry", []) for error in retrier["ErrorEquals"]}


@pytest.mark.parametrize("path", MACHINES, ids=lambda p: p.stem)
def test_only_errors_that_a_retry_helps_are_retried(path: Path) -> None:
    ours = {error for _, state in states(json.loads(path.read_text())) for error in retried(state)}
    ours = {error for error in ours if not error.startswith(OF_LAMBDA)}
    assert ours - OF_STEP_FUNCTIONS - OF_SNS <= set(retryable_errors())


@pytest.mark.parametrize("path", MACHINES, ids=lambda p: p.stem)
def test_the_topic_is_told_again_only_where_sns_may_take_it_the_next_time(path: Path) -> None:
    notify = json.loads(path.read_text())["States"]["Notify"]
    assert retried(notify) == OF_SNS
    # Every error of Publish that SNS's own model has is told apart from them, the refusal of a permission above all.
    model = Session().get_service_model("sns")
    refusals = {f"SNS.{shape.name}" for shape in model.operation_model("Publish").error_shapes} - OF_SNS
    assert {"SNS.AuthorizationErrorException", "SNS.NotFoundException", "SNS.KMSAccessDeniedException"} <= refusals
    assert not refusals & retried(notify)


def test_every_retryable_error_that_leaves_a_function_is_retried_somewhere() -> None:
    everywhere = {
        error for path in MACHINES for _, state in states(json.loads(path.read_text())) for error in retried(state)
    }
    # Unsettled never leaves settle_outcome, which the queue calls and no state machine.
    assert set(retryable_errors()) - {"Unsettled"} <= everywhere


def test_the_heartbeat_is_retried_for_as_long_as_it_takes_and_nothing_else_so() -> None:
    machine = json.loads((ROOT / "statemachine" / "training_run.asl.json").read_text())
    awaits = {name: state for name, state in states(machine) if name.startswith("Await ")}
    assert {state["Parameters"]["Payload"]["kind"] for state in awaits.values()} == set(KINDS)
    for state in awaits.values():
        heartbeat = next(r for r in state["Retry"] if "States.HeartbeatTimeout" in r["ErrorEquals"])
        assert heartbeat["ErrorEquals"] == ["States.HeartbeatTimeout"]
        assert (heartbeat["BackoffRate"], heartbeat["MaxAttempts"]) == (1, 99_999_999)
        assert state["HeartbeatSecondsPath"] == "$.plan.heartbeat_seconds"
        assert "States.Timeout" not in retried(state)


def test_every_state_with_a_task_fails_into_clean_up_or_beyond() -> None:
    machine = json.loads((ROOT / "statemachine" / "training_run.asl.json").read_text())
    for name, state in machine["States"].items():
        if state["Type"] in ("Task", "Parallel"):
            catches = [c for c in state["Catch"] if c["ErrorEquals"] == ["States.ALL"]]
            assert len(catches) == 1, name


def test_the_longest_good_path_stays_within_its_price() -> None:
    machine = json.loads((ROOT / "statemachine" / "training_run.asl.json").read_text())
    assert longest(machine, machine["StartAt"]) <= 40


def longest(machine: dict[str, Any], name: str, passed: frozenset[str] = frozenset()) -> int:
    """Count the states of the longest way through a machine without failures; no state is passed twice."""
    if name in passed:
        return 0
    passed |= {name}
    state = machine["States"][name]
    inside = sum(longest(branch, branch["StartAt"]) for branch in state.get("Branches", []))
    following = [c["Next"] for c in state.get("Choices", [])] + [state[k] for k in ("Next", "Default") if k in state]
    return 1 + inside + max((longest(machine, n, passed) for n in following), default=0)


def test_a_run_is_stopped_in_every_state_that_takes_time() -> None:
    machine = json.loads((ROOT / "statemachine" / "training_run.asl.json").read_text())
    assert set(STOPPED_IN) == {name for name, state in states(machine) if state["Type"] in ("Task", "Wait")}


TRAINING_RUN = json.loads((ROOT / "statemachine" / "training_run.asl.json").read_text())["States"]


@pytest.mark.parametrize(
    ("redrive_count", "of_the_receipt", "follows"),
    [(0, 0, "Run succeeded"), (1, 0, "Clean up"), (1, 1, "Run succeeded"), (2, 1, "Clean up"), (1, 2, "Run succeeded")],
)
def test_a_success_looks_again_where_it_was_redriven_after_its_receipt_and_only_there(
    redrive_count: int, of_the_receipt: int, follows: str
) -> None:
    value = {"verdict": {"status": "SUCCEEDED"}, "receipt": {"redrive_count": of_the_receipt}}
    assert chosen(TRAINING_RUN["Did the run succeed?"], value, redrive_count) == follows


@pytest.mark.parametrize("receipt", [None, {"redrive_count": 0}])
def test_a_failure_never_looks_again(receipt: Any) -> None:
    value = {"verdict": {"status": "FAILED"}, "receipt": receipt}
    assert chosen(TRAINING_RUN["Did the run succeed?"], value, redrive_count=1) == "Run failed"


SAID = 'baton-WriteReport lacks a permission: {"a": "s3:PutObject"}'
REPORTED = json.dumps({"errorMessage": SAID, "errorType": "AccessDenied", "requestId": "4f", "stackTrace": ["  app"]})
TIMED_OUT = json.dumps({"errorType": "Sandbox.Timedout", "errorMessage": "Task timed out after 300.00 seconds"})


@pytest.mark.parametrize(
    ("cause", "told"),
    [
        (REPORTED, SAID),
        (TIMED_OUT, "Task timed out after 300.00 seconds"),
        ("plain words", "plain words"),
        ("", ""),
        ('{"of": "something else"}', '{"of": "something else"}'),
        ('{of "errorMessage": the disk}', '{of "errorMessage": the disk}'),
        (REPORTED[:-20], REPORTED[:-20]),
    ],
    ids=["exception", "time-out", "words", "nothing", "other JSON", "no JSON", "cut JSON"],
)
@pytest.mark.parametrize("failed_before", [False, True])
def test_without_a_report_the_cause_is_a_sentence_all_the_same(cause: str, told: str, failed_before: bool) -> None:
    failure = {"Error": "Mine", "Cause": cause}
    other = {"Error": "Other", "Cause": "not this one"}
    value = (
        {"failure": failure, "report_failure": other} if failed_before else {"failure": None, "report_failure": failure}
    )
    verdict = notified(value)["verdict"]
    assert verdict == {"status": "FAILED", "error": "Mine", "cause": told, "report": None, "output": None}


def notified(value: Any) -> Any:
    """Return the state data with which Notify is entered where no report could be written."""
    return ended(TRAINING_RUN, TRAINING_RUN["Write report"]["Catch"][0]["Next"], "Notify", value)


def test_clean_up_and_write_report_know_in_which_redrive_they_are() -> None:
    value = {"failure": None}
    assert parameters(TRAINING_RUN["Clean up"], value, redrive_count=2)["redrive_count"] == 2
    told = parameters(TRAINING_RUN["Write report"], value, redrive_count=2)
    assert (execution_of(told)["redrive_count"], told["state"]) == (2, value)
    entered = datetime.fromisoformat(moment(told, "entered"))
    assert abs(datetime.now(UTC) - entered) < timedelta(minutes=1)


def test_an_outage_of_hours_loses_no_wait_and_its_retries_fit_into_the_history() -> None:
    """An execution's history has 25,000 events; the plan lets the heartbeats of one wait take 2,500 times four."""
    machine = json.loads((ROOT / "statemachine" / "training_run.asl.json").read_text())
    for name, state in states(machine):
        if name.startswith("Await "):
            (transient,) = [r for r in state["Retry"] if "TransientAwsError" in r["ErrorEquals"]]
            # With full jitter, an attempt waits half of its interval on average.
            assert transient["MaxAttempts"] * transient["MaxDelaySeconds"] / 2 >= 2 * 3600, name
            events = 2 * (2_500 * EVENTS_OF_A_HEARTBEAT + transient["MaxAttempts"] * EVENTS_OF_A_RETRY)
            assert events + 1_000 <= 25_000, name


def test_errors_say_whether_a_retry_helps() -> None:
    assert all(issubclass(error, BatonError) and error.__doc__ for error in all_errors())
    assert set(retryable_errors()) == {
        "KfpUnavailable",
        "LaunchUncertain",
        "LaunchInProgress",
        "NotGoneYet",
        "Undecided",
        "Unsettled",
        "TransientAwsError",
    }
