"""What the runs of a soak are, and how it judges what each of them came to."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from baton_local.soak import Soak
from baton_local.soak_stories import (
    DATASET,
    DECK,
    EXPECTED_FAILURES,
    GATE,
    GOOD,
    HOLD,
    INPUT,
    JOB,
    KEEP,
    STOP,
    STOP_HELD,
    STOP_KEPT,
    STOPPABLE,
    Outcome,
    Part,
    cast,
    exhausted_state,
    may_be_excused,
    retriers_of,
)

DEFINITION = json.loads((Path(__file__).resolve().parents[3] / "statemachine" / "training_run.asl.json").read_text())
COMPLETE = {"predictions": list(range(10)), "metrics": {"test:msd": 1.0}, "receipt": {"complete": True}}


def outcome(story: str, status: str, error: str | None = None, **facts: Any) -> Outcome:
    cause = EXPECTED_FAILURES.get(story, ("", ""))[1]
    return Outcome(**{
        "part": Part(0, story, False),
        "execution_arn": "arn",
        "started": True,
        "status": status,
        "error": error,
        "cause": f"It says: {cause}.",
        "output": COMPLETE,
        **facts,
    })  # fmt: skip


@pytest.mark.parametrize(
    ("judged", "verdict"),
    [
        (outcome(GOOD, "SUCCEEDED"), "succeeded"),
        (outcome(KEEP, "SUCCEEDED"), "succeeded"),
        (outcome(HOLD, "SUCCEEDED"), "succeeded"),
        (outcome(HOLD, "ABORTED"), "wrong"),
        (outcome(GOOD, "SUCCEEDED", output={**COMPLETE, "predictions": []}), "wrong"),
        (outcome(GOOD, "SUCCEEDED", output={**COMPLETE, "metrics": {}}), "wrong"),
        (outcome(GOOD, "SUCCEEDED", output={**COMPLETE, "receipt": {"complete": False}}), "wrong"),
        (outcome(GOOD, "SUCCEEDED", missing=["s3://b/report.html"]), "wrong"),
        (outcome(GOOD, "FAILED", "GateNotMet"), "wrong"),
        (outcome(GOOD, "FAILED", "Runtime.ExitError"), "wrong"),
        (outcome(GOOD, "FAILED", "Runtime.ExitError", gave_up="Plan run"), "failed_as_intended"),
        (outcome(GOOD, "TIMED_OUT"), "wrong"),
        (outcome(GOOD, "ABORTED"), "wrong"),
        (outcome(GOOD, "RUNNING"), "stuck"),
        (outcome(GOOD, "RUNNING", started=False), "lost"),
        (outcome(GATE, "SUCCEEDED"), "wrong"),
        (outcome(GATE, "FAILED", "GateNotMet"), "failed_as_intended"),
        (outcome(GATE, "FAILED", "GateNotMet", cause="The latency is too high."), "wrong"),
        (outcome(GATE, "FAILED", "JobFailed"), "wrong"),
        (outcome(DATASET, "FAILED", "InvalidDataset"), "failed_as_intended"),
        (outcome(JOB, "FAILED", "JobFailed"), "failed_as_intended"),
        (outcome(JOB, "FAILED", "PipelineRunFailed"), "wrong"),
        (outcome(INPUT, "FAILED", "InvalidInput"), "failed_as_intended"),
        (outcome(STOP, "ABORTED"), "failed_as_intended"),
        (outcome(STOP, "SUCCEEDED"), "succeeded"),
        (outcome(STOP_KEPT, "ABORTED"), "failed_as_intended"),
        (outcome(STOP_KEPT, "SUCCEEDED"), "succeeded"),
        (outcome(STOP_HELD, "ABORTED"), "failed_as_intended"),
        (outcome(STOP, "FAILED", "States.Runtime"), "wrong"),
    ],
)
def test_the_verdict_on_one_run(judged: Outcome, verdict: str) -> None:
    assert judged.verdict == verdict
    assert judged.as_dict()["verdict"] == verdict


@pytest.mark.parametrize("bad", [{"lost": 1}, {"stuck": 1}, {"wrong": 1}, {"leftovers": ["endpoint bt-x"]}])
def test_one_broken_promise_spoils_a_soak(bad: dict[str, Any]) -> None:
    assert Soak(runs=5, parallel=1, seed=0, succeeded=5).good
    spoilt = Soak(runs=5, parallel=1, seed=0, succeeded=4, **bad)
    assert not spoilt.good
    assert spoilt.as_dict()["leftovers"] == len(spoilt.leftovers)


@pytest.mark.parametrize(
    ("counts", "too_little"),
    [
        ({"succeeded": 100, "failed_as_intended": 100}, ""),
        ({"succeeded": 95, "failed_as_intended": 105, "excused": 5}, ""),
        ({"succeeded": 94, "failed_as_intended": 106, "excused": 6}, "6 runs are excused, at most 5 may be"),
        ({"failed_as_intended": 200, "excused": 200}, "200 runs are excused"),
        ({"succeeded": 99, "failed_as_intended": 101}, "99 runs succeeded, at least 100 had to."),
    ],
)
def test_a_soak_in_which_nothing_gets_anywhere_is_not_good(counts: dict[str, int], too_little: str) -> None:
    soak = Soak(runs=200, parallel=1, seed=0, must_succeed=100, **counts)
    assert soak.too_little.startswith(too_little)
    assert soak.good == (not too_little) == (not soak.too_little)


# --- the cast -----------------------------------------------------------------------------------------------------


def test_the_seed_decides_what_is_played() -> None:
    assert cast(50, 3) == cast(50, 3)
    assert cast(50, 3) != cast(50, 4)
    assert cast(50, 3)[:20] == cast(20, 3)


def test_every_story_and_every_way_to_start_is_played() -> None:
    parts = cast(200, 1)
    stories = Counter(part.story for part in parts)
    assert set(stories) == set(DECK)
    assert min(stories.values()) >= 200 // len(DECK)
    assert 60 < sum(part.by_upload for part in parts) < 140
    for story, states in STOPPABLE.items():
        assert {part.stop_in for part in parts if part.story == story} == set(states)
    assert not any(part.stop_in for part in parts if not part.stops)
    assert {part.story for part in parts if part.keeps} == {KEEP, STOP_KEPT}


def test_runs_are_stopped_in_states_that_there_are() -> None:
    assert {state for states in STOPPABLE.values() for state in states} <= set(retriers_of(DEFINITION))


# --- what excuses a failure ---------------------------------------------------------------------------------------


class Story:
    """Writes the history of an execution, event by event."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []

    def add(self, kind: str, previous: int, **details: Any) -> int:
        self.events.append({"id": len(self.events) + 1, "previousEventId": previous, "type": kind, **details})
        return len(self.events)

    def enter(self, state: str, previous: int = 0) -> int:
        return self.add("TaskStateEntered", previous, stateEnteredEventDetails={"name": state})

    def fail(self, previous: int, error: str, times: int, cause: str = "signal: killed") -> int:
        details = {"error": error, "cause": f"RequestId: 1 Error: Runtime exited with error: {cause}"}
        for _ in range(times):
            scheduled = self.add("LambdaFunctionScheduled", previous)
            previous = self.add("LambdaFunctionFailed", scheduled, lambdaFunctionFailedEventDetails=details)
        return previous


def test_a_state_whose_retries_ran_out_is_found() -> None:
    story = Story()
    story.fail(story.enter("Plan run"), "Runtime.ExitError", 6)
    assert exhausted_state(story.events, retriers_of(DEFINITION)) == "Plan run"


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        ("Runtime.ExitError", "exit status 1"),
        ("Runtime.ExitError", "signal: segmentation fault"),
        ("Sandbox.Timedout", "signal: killed"),
        ("Lambda.Unknown", "signal: killed"),
        ("Lambda.TooManyRequestsException", "signal: killed"),
    ],
)
def test_only_a_process_that_the_crash_dial_killed_excuses(error: str, cause: str) -> None:
    story = Story()
    story.fail(story.enter("Plan run"), error, 20, cause)
    assert exhausted_state(story.events, retriers_of(DEFINITION)) == ""


def test_batons_own_errors_alone_are_no_excuse_however_often_they_came() -> None:
    story = Story()
    story.fail(story.enter("Clean up"), "NotGoneYet", 200)
    assert exhausted_state(story.events, retriers_of(DEFINITION)) == ""
    # A lease that nobody frees after one crash.
    last = story.fail(story.enter("Launch pipeline"), "Runtime.ExitError", 1)
    story.fail(last, "LaunchInProgress", 10)
    assert exhausted_state(story.events, retriers_of(DEFINITION)) == ""


def test_two_crashes_excuse_a_launch_that_others_held_up() -> None:
    story = Story()
    last = story.fail(story.enter("Launch pipeline"), "Runtime.ExitError", 2)
    story.fail(last, "LaunchInProgress", 9)
    assert exhausted_state(story.events, retriers_of(DEFINITION)) == "Launch pipeline"


def test_a_state_that_was_not_tried_as_often_as_it_may_be_is_no_excuse() -> None:
    story = Story()
    story.fail(story.enter("Plan run"), "Runtime.ExitError", 5)
    assert exhausted_state(story.events, retriers_of(DEFINITION)) == ""


def test_failures_of_several_states_or_retriers_do_not_add_up() -> None:
    story = Story()
    last = story.fail(story.enter("Plan run"), "Runtime.ExitError", 4)
    last = story.fail(story.enter("Prepare data", last), "Runtime.ExitError", 4)
    last = story.enter("Await tuning", last)
    story.fail(story.fail(last, "States.HeartbeatTimeout", 15), "Runtime.ExitError", 15)
    assert exhausted_state(story.events, retriers_of(DEFINITION)) == ""


def test_an_error_that_is_not_tried_again_is_no_excuse() -> None:
    story = Story()
    story.fail(story.enter("Prepare data"), "InvalidDataset", 9)
    assert exhausted_state(story.events, retriers_of(DEFINITION)) == ""


@pytest.mark.parametrize("error", ["Runtime.ExitError", "TransientAwsError", "LaunchInProgress", "CleanUpIncomplete"])
def test_a_state_that_gives_up_may_be_excused(error: str) -> None:
    assert may_be_excused(error, retriers_of(DEFINITION))


@pytest.mark.parametrize("error", ["JobFailed", "PipelineRunFailed", "NeverCreated", "GateNotMet", "RunEnded", None])
def test_a_false_word_about_a_run_is_not_excused_by_another_state_that_gave_up(error: str | None) -> None:
    assert not may_be_excused(error, retriers_of(DEFINITION))
