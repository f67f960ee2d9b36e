"""Clean-up is killed after each of its AWS and KFP calls in turn, and overtaken by itself between any two."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest

from baton.errors import BatonError, CleanUpIncomplete, NotGoneYet, RunEnded, Undecided
from baton.runs import Runs
from tests.support.ending_world import RUN_ID, EndingWorld, Killed, Thing

STORIES: dict[str, bool | None] = {
    "failed run": False,
    "failed training": False,
    "failed tuning": False,
    "endpoint still creating": False,
    "kept endpoint": True,
    "aborted run": None,
    "timed-out run whose jobs go on": None,
    "forgotten run": None,
    "kept endpoint of a run that was aborted afterwards": None,
    "late look at a kept endpoint": None,
}
"""What is to be cleaned up, and whether the caller says that it succeeded; None: the rule on ends, or the janitor."""

STATUSES = {
    "timed-out run whose jobs go on": "TIMED_OUT",
    "forgotten run": None,
    "late look at a kept endpoint": "SUCCEEDED",
}


def story(name: str) -> tuple[EndingWorld, bool | None]:
    """Return a world to clean up, and whether the caller says that its run succeeded."""
    world = EndingWorld(after="keep" if "kept" in name else "delete")
    things, succeeded = world.sagemaker.things, STORIES[name]
    if name == "endpoint still creating":
        things["endpoint"].status = "Creating"
    if name == "failed training":
        things["training"] = Thing("Failed", reason="AlgorithmError")
    if name == "failed tuning":
        things["tuning"] = Thing("Failed", reason="No training job succeeded.")
        world.sagemaker.failed_children = [{"TrainingJobName": "one", "FailureReason": "AlgorithmError"}]
    if "jobs go on" in name:
        things["tuning"].status = things["training"].status = "InProgress"
    if succeeded is None:
        if "kept" in name:
            world.finish(succeeded=True)
            world.calls.clear()
        world.stepfunctions.status = STATUSES.get(name, "ABORTED")
    return world, succeeded


def outcome(world: EndingWorld, succeeded: bool | None) -> dict[str, Any]:
    """Finish the clean-up and return what is left, and what the receipt says of it."""
    receipt = world.finish(succeeded)
    said = {item["kind"]: (item["action"], item["status"], item["reason"]) for item in receipt["items"]}
    return {**world.end_state(), "said": said, "cause": receipt["cause"], "kept": receipt["kept"]}


def undisturbed(name: str) -> tuple[dict[str, Any], int]:
    world, succeeded = story(name)
    expected = outcome(world, succeeded)
    return expected, len(world.calls)


def crash_after(world: EndingWorld, number: int) -> None:
    def kill(calls: int) -> None:
        if calls == number:
            raise Killed

    world.interrupt = kill


@pytest.mark.parametrize("name", STORIES)
def test_killed_after_any_call_and_run_again_it_ends_as_if_undisturbed(name: str) -> None:
    expected, calls = undisturbed(name)
    assert calls > 25, calls
    for number in range(1, calls + 1):
        world, succeeded = story(name)
        crash_after(world, number)
        with pytest.raises(Killed):
            world.finish(succeeded)
        world.interrupt = lambda calls: None
        says_how = {"ended_well", "ended_badly_at", "confirmed_at"} & set(world.row)
        assert says_how or "ended_at" not in world.row, f"killed after call {number}, {world.calls[number - 1]}"
        assert outcome(world, succeeded) == expected, f"killed after call {number}, {world.calls[number - 1]}"


@pytest.mark.parametrize("name", STORIES)
def test_overtaken_by_another_caller_after_any_call_it_ends_as_if_undisturbed(name: str) -> None:
    expected, calls = undisturbed(name)
    for number in range(1, calls + 1):
        world, succeeded = story(name)
        overtake_after(world, number, succeeded)
        assert outcome(world, succeeded) == expected, f"overtaken after call {number}, {world.calls[number - 1]}"


def test_the_stories_reach_every_call_that_clean_up_makes() -> None:
    made = set()
    for name in STORIES:
        world, succeeded = story(name)
        world.finish(succeeded)
        made |= set(world.calls)
    jobs, serving = ("TrainingJob", "HyperParameterTuningJob", "TransformJob"), ("Endpoint", "EndpointConfig", "Model")
    others = ("ListTags", "DeleteTags", "ListTrainingJobsForHyperParameterTuningJob")
    objects = ("list_object_versions", "list_multipart_uploads", "list_objects_v2", "delete_objects")
    assert made == {
        *("GetItem run", "UpdateItem run", "States.DescribeExecution", "S3.abort_multipart_upload"),
        *(f"SageMaker.Describe{thing}" for thing in (*jobs, *serving)),
        *(f"SageMaker.Stop{job}" for job in jobs),
        *(f"SageMaker.Delete{thing}" for thing in serving),
        *(f"SageMaker.{other}" for other in others),
        *(f"KFP.{call}" for call in ("FindExperiment", "ListRuns", "GetRun", "TerminateRun")),
        *(f"S3.{call}" for call in objects),
    }


def overtake_after(world: EndingWorld, number: int, succeeded: bool | None) -> None:
    def overtake(calls: int) -> None:
        if calls == number:
            world.interrupt = lambda calls: None
            try:
                world.call(succeeded)
            except BatonError as error:
                if not error.retryable:
                    raise

    world.interrupt = overtake


CALLS_OF_A_SWEEP = 40
"""No fewer calls does a sweep make that finds everything still there."""
CALLS_OF_A_SHORT_SWEEP = 30
"""And one that finds nothing but an endpoint that was kept."""


# --- overtaken by one who does not know ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", STORIES)
def test_overtaken_after_any_call_by_one_who_does_not_know_it_ends_as_if_undisturbed(name: str) -> None:
    """As when an event comes twice while the run's own clean-up is under way: its execution goes on."""
    expected, calls = undisturbed(name)
    for number in range(1, calls + 1):
        world, succeeded = story(name)
        overtake_after(world, number, None)
        assert outcome(world, succeeded) == expected, f"overtaken after call {number}, {world.calls[number - 1]}"


def test_a_sweep_that_the_whole_end_of_a_good_run_overtakes_after_any_call_keeps_its_endpoint() -> None:
    expected, _calls = undisturbed("kept endpoint")
    for number in range(1, CALLS_OF_A_SWEEP):
        world, _ = story("kept endpoint")
        overtaken_by_end(world, number)
        assert outcome(world, succeeded=None) == expected, f"overtaken after call {number}, {world.calls[number - 1]}"


def overtaken_by_end(world: EndingWorld, number: int) -> None:
    """Let the run's own clean-up, which has begun, and its execution come to their good end after a call of a sweep."""
    Runs(world.items).end_well(RUN_ID)
    world.calls.clear()

    def end(calls: int) -> None:
        if calls == number:
            world.interrupt = lambda calls: None
            world.finish(succeeded=True)
            world.stepfunctions.status = "SUCCEEDED"

    world.interrupt = end
    with suppress(NotGoneYet, Undecided):
        world.call(succeeded=None)
    assert world.stepfunctions.status == "SUCCEEDED", "a sweep makes more calls than are interrupted here"


@pytest.mark.parametrize("succeeds", [True, False])
@pytest.mark.parametrize("stopped_in", ["Await training", "Notify"])
def test_a_sweep_of_an_aborted_run_that_a_redrive_overtakes_after_any_call_leaves_no_success_without_its_endpoint(
    stopped_in: str, succeeds: bool
) -> None:
    """Either the redriven clean-up is refused and nothing is left, or it succeeds and its endpoint stays.

    After Notify that is the second look of a run that was cleaned up well before it was stopped.
    """
    seen = set()
    for number in range(1, CALLS_OF_A_SWEEP):
        world, _ = story("kept endpoint")
        if stopped_in == "Notify":
            world.finish(succeeded=True)
            world.calls.clear()
            world.now += 1
        world.stepfunctions.status = "ABORTED"
        was_refused = overtaken_by_redrive(world, number, succeeds)
        if was_refused is None:
            assert number > CALLS_OF_A_SHORT_SWEEP
            break
        world.stepfunctions.status = "FAILED" if was_refused or not succeeds else "SUCCEEDED"
        world.finish(succeeded=None)
        kept = "endpoint" in world.sagemaker.things
        assert kept is (world.stepfunctions.status == "SUCCEEDED"), f"after call {number}, {world.calls[number - 1]}"
        seen.add(kept)
    assert seen == ({True, False} if succeeds else {False})


def overtaken_by_redrive(world: EndingWorld, number: int, succeeds: bool) -> bool | None:
    """Redrive the execution after a call of the sweep; return whether its own clean-up was refused.

    None where the sweep does not make so many calls.
    """
    refused = []

    def redrive(calls: int) -> None:
        if calls == number:
            world.interrupt = lambda calls: None
            world.stepfunctions.status = "RUNNING"
            try:
                world.finish(succeeded=succeeds)
            except RunEnded:
                refused.append(number)

    world.interrupt = redrive
    with suppress(NotGoneYet, Undecided):
        world.call(succeeded=None)
    world.interrupt = lambda calls: None
    return None if world.stepfunctions.status == "ABORTED" else bool(refused)


@pytest.mark.parametrize("dies", [False, True])
def test_no_run_succeeds_whose_hold_the_sweep_of_its_abort_cut_short(dies: bool) -> None:
    """Redriven in Hold endpoint after any call of the sweep, of which the hold outlasts any number of further ones.

    Where the sweep dies there and then, the next one goes on in its place.
    """
    seen = set()
    for redriven_after in range(1, CALLS_OF_A_SWEEP):
        for held_until in range(redriven_after, 2 * CALLS_OF_A_SWEEP):
            world = EndingWorld(after="hold")
            world.stepfunctions.status = "ABORTED"
            seen.add(redriven_in_hold(world, redriven_after, held_until, dies))
    assert seen == {("succeeded", "whole"), ("refused", "whole"), ("refused", "cut short")}


def redriven_in_hold(world: EndingWorld, redriven_after: int, held_until: int, dies: bool) -> tuple[str, str]:
    """Redrive the execution after a call of two sweeps, and let its hold end after another, or after both sweeps.

    Returns how its own clean-up went, and what the hold had been until then.
    """
    went: list[tuple[str, str]] = []

    def play(calls: int) -> None:
        if calls == redriven_after:
            world.stepfunctions.status = "RUNNING"
        if calls == held_until:
            world.interrupt = lambda calls: None
            went.append(end_of_hold(world))
        if calls == redriven_after and dies:
            raise Killed

    world.interrupt = play
    for _ in range(2):
        with suppress(Killed, NotGoneYet, Undecided):
            world.call(succeeded=None)
    world.interrupt = lambda calls: None
    return went[0] if went else end_of_hold(world)


def end_of_hold(world: EndingWorld) -> tuple[str, str]:
    endpoint = world.sagemaker.things.get("endpoint")
    whole = endpoint is not None and endpoint.status == "InService" and "model" in world.sagemaker.things
    try:
        world.finish(succeeded=True)
    except RunEnded:
        return "refused", "whole" if whole else "cut short"
    return "succeeded", "whole" if whole else "cut short"


def test_a_success_that_is_given_up_after_any_call_of_its_clean_up_keeps_nothing_and_never_says_so() -> None:
    _expected, calls = undisturbed("kept endpoint")
    for number in range(1, calls + 1):
        world, succeeded = story("kept endpoint")
        overtake_after(world, number, succeeded=False)
        with suppress(RunEnded, CleanUpIncomplete):
            world.finish(succeeded)
        if number < calls:
            assert "endpoint_kept_at" not in world.row, f"after call {number}, {world.calls[number - 1]}"
            # Who gave it up may have died since.
            assert "receipt" not in world.row, f"after call {number}, {world.calls[number - 1]}"
        world.finish(succeeded=False)
        assert set(world.sagemaker.things) == {"tuning", "training", "transform"}


def test_killed_after_its_tombstone_and_overtaken_the_clean_up_of_a_success_still_finds_its_endpoint() -> None:
    """The order that lost one: the tombstone, a crash, a doubled event, and the retry."""
    world, succeeded = story("kept endpoint")
    crash_after(world, 2)
    with pytest.raises(Killed):
        world.call(succeeded)
    assert world.calls == ["GetItem run", "UpdateItem run"]
    world.interrupt = lambda calls: None
    for _ in range(3):
        with pytest.raises((NotGoneYet, Undecided)):
            world.call(succeeded=None)
        world.tick()
    assert {item["kind"]: item["action"] for item in world.finish(succeeded)["items"]}["endpoint"] == "kept"


def test_a_kept_endpoint_whose_run_dies_before_its_receipt_is_deleted_by_the_clean_up_of_the_failed_run() -> None:
    world, succeeded = story("kept endpoint")
    world.interrupt = lambda calls: _die_at_the_lifting(world)
    with pytest.raises(Killed):
        world.finish(succeeded)
    world.interrupt = lambda calls: None
    world.finish(succeeded=False)
    assert set(world.sagemaker.things) == {"tuning", "training", "transform"}
    assert world.end_state()["kept"] is False


def _die_at_the_lifting(world: EndingWorld) -> None:
    if world.calls[-1] == "SageMaker.DeleteTags":
        raise Killed
