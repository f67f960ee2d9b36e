"""Clean-up is killed after each of its AWS and KFP calls in turn, and overtaken by itself between any two."""

from __future__ import annotations

from typing import Any

import pytest

from baton.errors import BatonError
from tests.support.ending_world import EndingWorld, Killed, Thing


def story(name: str) -> tuple[EndingWorld, bool]:
    """Return a world to clean up, and whether its run succeeded."""
    world = EndingWorld(after="keep" if name == "kept endpoint" else "delete")
    if name == "endpoint still creating":
        world.sagemaker.things["endpoint"].status = "Creating"
    if name == "failed training":
        world.sagemaker.things["training"] = Thing("Failed", reason="AlgorithmError")
    return world, name == "kept endpoint"


STORIES = ["aborted run", "failed training", "endpoint still creating", "kept endpoint"]


def outcome(world: EndingWorld, succeeded: bool) -> dict[str, Any]:
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
    assert calls > 40, calls
    for number in range(1, calls + 1):
        world, succeeded = story(name)
        crash_after(world, number)
        with pytest.raises(Killed):
            world.finish(succeeded)
        world.interrupt = lambda calls: None
        assert outcome(world, succeeded) == expected, f"killed after call {number}, {world.calls[number - 1]}"


@pytest.mark.parametrize("name", STORIES)
def test_overtaken_by_another_caller_after_any_call_it_ends_as_if_undisturbed(name: str) -> None:
    expected, calls = undisturbed(name)
    for number in range(1, calls + 1):
        world, succeeded = story(name)
        overtake_after(world, number, succeeded)
        assert outcome(world, succeeded) == expected, f"overtaken after call {number}, {world.calls[number - 1]}"


def overtake_after(world: EndingWorld, number: int, succeeded: bool) -> None:
    def overtake(calls: int) -> None:
        if calls == number:
            world.interrupt = lambda calls: None
            try:
                world.call(succeeded)
            except BatonError as error:
                if not error.retryable:
                    raise

    world.interrupt = overtake


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
