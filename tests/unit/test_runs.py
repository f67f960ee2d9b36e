"""The run rows: each step is one conditional update, so that the first of two callers wins and both know it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from baton.errors import LaunchInProgress, NotGoneYet, RunEnded
from baton.items import ConditionFailed
from baton.runs import REMEMBER_SECONDS, RUN, SEVERAL, Runs, awaited_pipeline_run
from tests.support.memory import MemoryItems

RUN_ID = "bt-0sq1x2k4f0a9c"
START = 1_777_886_952
PLAN: dict[str, Any] = {
    "run_id": RUN_ID,
    "execution_arn": "arn:aws:states:eu-west-1:123456789012:execution:baton-training-run:one",
    "pipeline": "mnist_kmeans",
    "created_at": START,
    "deadline_at": START + 7200,
    "after": {"endpoint": "keep"},
    "tags": {"baton:expires-at": "2026-05-05T09:30:12Z"},
}
REDRIVABLE_SECONDS = 14 * 24 * 3600


class Clock:
    def __init__(self) -> None:
        self.now = float(START)

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def items(clock: Clock) -> MemoryItems:
    return MemoryItems(clock)


@pytest.fixture
def runs(items: MemoryItems) -> Runs:
    runs = Runs(items)
    runs.open(PLAN)
    return runs


def test_a_planned_run_has_a_row_with_what_its_plan_fixed(runs: Runs) -> None:
    assert runs.get(RUN_ID) == {
        "kind": RUN,
        "name": RUN_ID,
        "execution_arn": PLAN["execution_arn"],
        "pipeline": "mnist_kmeans",
        "created_at": START,
        "deadline_at": START + 7200,
        "expires_tag": "2026-05-05T09:30:12Z",
        "hold_seconds": 0,
        "keeps_endpoint": True,
        "expires_at": START + 7200 + REMEMBER_SECONDS,
    }


def test_planning_again_changes_nothing(runs: Runs) -> None:
    runs.end_badly(RUN_ID)
    again = runs.open({**PLAN, "deadline_at": START + 9999})
    assert (again["deadline_at"], "ended_at" in again) == (START + 7200, True)


def test_a_run_that_was_ended_before_it_was_planned_is_opened_with_its_tombstone(items: MemoryItems) -> None:
    runs = Runs(items)
    runs.end_badly(RUN_ID)
    assert "ended_at" in runs.open(PLAN)
    with pytest.raises(RunEnded):
        runs.require_open(RUN_ID)


@pytest.mark.parametrize("endpoint", ["delete", "hold"])
def test_only_a_plan_that_keeps_the_endpoint_keeps_it(items: MemoryItems, endpoint: str) -> None:
    assert Runs(items).open({**PLAN, "after": {"endpoint": endpoint}})["keeps_endpoint"] is False


def test_an_open_run_is_returned_and_an_unknown_one_refused(runs: Runs) -> None:
    assert runs.require_open(RUN_ID)["name"] == RUN_ID
    with pytest.raises(RunEnded, match="never planned"):
        runs.require_open("bt-0000000000000")


def test_a_run_with_a_tombstone_is_refused(runs: Runs) -> None:
    runs.end_badly(RUN_ID)
    with pytest.raises(RunEnded, match="start a new execution"):
        runs.require_open(RUN_ID)


def test_the_first_tombstone_stays(runs: Runs, clock: Clock) -> None:
    assert runs.end_well(RUN_ID)["ended_at"] == START
    clock.now += 100
    assert runs.end_badly(RUN_ID)["ended_at"] == START


def test_rows_are_remembered_longer_than_an_execution_can_be_redriven(runs: Runs, clock: Clock) -> None:
    clock.now += 7200
    assert runs.end_badly(RUN_ID)["expires_at"] > clock.now + REDRIVABLE_SECONDS
    clock.now += REDRIVABLE_SECONDS
    with pytest.raises(RunEnded):
        runs.require_open(RUN_ID)


def test_runs_are_listed_oldest_first(runs: Runs) -> None:
    for name in ("bt-0sq1x2k5f0a9c", "bt-0sq1x2k3f0a9c"):
        runs.open({**PLAN, "run_id": name})
    assert [row["name"] for row in runs.all()] == ["bt-0sq1x2k3f0a9c", RUN_ID, "bt-0sq1x2k5f0a9c"]


def test_one_attempt_holds_the_launch_lease(runs: Runs) -> None:
    assert runs.claim_launch(RUN_ID, "one", 60)["launch_lease_until"] == START + 60
    with pytest.raises(LaunchInProgress):
        runs.claim_launch(RUN_ID, "two", 60)


def test_the_same_attempt_may_claim_again(runs: Runs) -> None:
    runs.claim_launch(RUN_ID, "one", 60)
    assert runs.claim_launch(RUN_ID, "one", 90)["launch_lease_until"] == START + 90


def test_a_lease_that_ran_out_is_free_for_the_next(runs: Runs, clock: Clock) -> None:
    runs.claim_launch(RUN_ID, "one", 60)
    clock.now += 61
    assert runs.claim_launch(RUN_ID, "two", 60)["launch_attempt"] == "two"


def test_nobody_claims_a_run_that_was_ended_or_never_planned(runs: Runs) -> None:
    with pytest.raises(RunEnded):
        runs.claim_launch("bt-0000000000000", "one", 60)
    runs.end_badly(RUN_ID)
    with pytest.raises(RunEnded):
        runs.claim_launch(RUN_ID, "one", 60)


def test_a_released_lease_is_free_at_once(runs: Runs) -> None:
    runs.claim_launch(RUN_ID, "one", 60)
    runs.release_launch(RUN_ID, "one")
    assert runs.claim_launch(RUN_ID, "two", 60)["launch_attempt"] == "two"


def test_a_lease_that_others_have_taken_is_not_released(runs: Runs, clock: Clock) -> None:
    runs.claim_launch(RUN_ID, "one", 60)
    clock.now += 61
    runs.claim_launch(RUN_ID, "two", 60)
    runs.release_launch(RUN_ID, "one")
    with pytest.raises(LaunchInProgress):
        runs.claim_launch(RUN_ID, "three", 60)


def test_the_holder_renews_its_lease(runs: Runs, clock: Clock) -> None:
    runs.claim_launch(RUN_ID, "one", 60)
    clock.now += 50
    assert runs.renew_launch(RUN_ID, "one", 60, needed_seconds=30)["launch_lease_until"] == START + 110


def test_who_holds_the_lease_no_longer_does_not_renew_it(runs: Runs, clock: Clock) -> None:
    runs.claim_launch(RUN_ID, "one", 60)
    clock.now += 61
    runs.claim_launch(RUN_ID, "two", 60)
    with pytest.raises(LaunchInProgress, match="taken over"):
        runs.renew_launch(RUN_ID, "one", 60, needed_seconds=30)


def test_a_lease_is_not_renewed_after_the_tombstone(runs: Runs) -> None:
    runs.claim_launch(RUN_ID, "one", 60)
    runs.end_badly(RUN_ID)
    with pytest.raises(RunEnded):
        runs.renew_launch(RUN_ID, "one", 60, needed_seconds=30)


def test_a_renewal_that_took_too_long_is_no_licence_to_post(clock: Clock) -> None:
    def takes_forty_seconds(name: str, effect: Any) -> Any:
        clock.now += 40
        return effect()

    runs = Runs(MemoryItems(clock, takes_forty_seconds))
    runs.open(PLAN)
    runs.claim_launch(RUN_ID, "one", 600)
    with pytest.raises(LaunchInProgress, match="held up"):
        runs.renew_launch(RUN_ID, "one", 60, needed_seconds=30)


def marked(runs: Runs) -> str | None:
    mark: str | None = (runs.get(RUN_ID) or {}).get("may_be_posted")
    return mark


def post(runs: Runs, attempt: str) -> None:
    runs.claim_launch(RUN_ID, attempt, 60)
    runs.renew_launch(RUN_ID, attempt, 60, needed_seconds=30)


def test_who_is_about_to_post_marks_that_there_may_be_a_run(runs: Runs) -> None:
    runs.claim_launch(RUN_ID, "one", 60)
    assert marked(runs) is None
    runs.renew_launch(RUN_ID, "one", 60, needed_seconds=30)
    assert marked(runs) == "one"


def test_a_certain_refusal_takes_the_mark_of_its_own_post_away(runs: Runs) -> None:
    post(runs, "one")
    runs.release_launch(RUN_ID, "one")
    assert marked(runs) is None


def test_the_mark_of_an_unanswered_post_outlives_the_attempts_after_it(runs: Runs, clock: Clock) -> None:
    post(runs, "one")
    clock.now += 61
    runs.claim_launch(RUN_ID, "two", 60)
    runs.release_launch(RUN_ID, "two")
    assert marked(runs) == "one"
    post(runs, "three")
    runs.release_launch(RUN_ID, "three")
    assert marked(runs) == SEVERAL


def test_a_late_refusal_does_not_take_the_mark_of_another_unanswered_post_away(runs: Runs, clock: Clock) -> None:
    post(runs, "one")
    clock.now += 61
    post(runs, "two")
    runs.release_launch(RUN_ID, "one")
    assert marked(runs) == SEVERAL
    assert "launch_lease_until" in (runs.get(RUN_ID) or {}), "it is the other's"


def test_a_late_refusal_does_not_free_the_lease_that_another_has_taken(runs: Runs, clock: Clock) -> None:
    post(runs, "one")
    clock.now += 61
    runs.claim_launch(RUN_ID, "two", 60)
    runs.release_launch(RUN_ID, "one")
    with pytest.raises(LaunchInProgress):
        runs.claim_launch(RUN_ID, "three", 60)


def test_the_record_takes_the_place_of_the_mark(runs: Runs) -> None:
    post(runs, "one")
    assert "may_be_posted" not in runs.record_launch(RUN_ID, "kfp-a")


def test_the_pipeline_run_is_recorded_even_after_the_tombstone(runs: Runs) -> None:
    runs.claim_launch(RUN_ID, "one", 60)
    runs.end_badly(RUN_ID)
    row = runs.record_launch(RUN_ID, "kfp-a")
    assert (row["pipeline_run_id"], "launch_lease_until" in row, "ended_at" in row) == ("kfp-a", False, True)


def test_the_run_that_claimed_the_work_is_awaited_before_the_one_that_was_launched() -> None:
    assert awaited_pipeline_run({}) is None
    assert awaited_pipeline_run({"pipeline_run_id": "kfp-a"}) == "kfp-a"
    assert awaited_pipeline_run({"pipeline_run_id": "kfp-a", "worker_run_id": "kfp-b"}) == "kfp-b"


def test_a_receipt_is_kept_with_its_time(runs: Runs, clock: Clock) -> None:
    clock.now += 10
    row = runs.keep_receipt(RUN_ID, {"complete": True}, decided=runs.end_badly(RUN_ID))
    assert json.loads(row["receipt"]) == {"complete": True}
    assert row["receipt_at"] == START + 10
    assert row["expires_at"] == START + 10 + REMEMBER_SECONDS


def test_a_success_writes_its_tombstone_and_that_it_is_one_in_one_update(runs: Runs, clock: Clock) -> None:
    row = runs.end_well(RUN_ID)
    assert (row["ended_at"], row["ended_well"], row["expires_at"]) == (START, True, START + REMEMBER_SECONDS)
    clock.now += 100
    assert runs.end_well(RUN_ID)["ended_at"] == START


def test_a_success_whose_clean_up_was_interrupted_may_be_told_again(runs: Runs) -> None:
    decided = runs.end_well(RUN_ID)
    assert runs.end_well(RUN_ID)["ended_well"] is True
    runs.keep_receipt(RUN_ID, {}, decided)
    assert runs.end_well(RUN_ID)["ended_well"] is True


def test_a_run_that_was_given_up_never_succeeds_again(runs: Runs) -> None:
    runs.keep_receipt(RUN_ID, {}, decided=runs.end_well(RUN_ID))
    runs.confirm(RUN_ID)
    row = runs.end_badly(RUN_ID)
    assert not {"ended_well", "receipt", "receipt_at", "confirmed_at"} & set(row)
    with pytest.raises(RunEnded, match="instead of redriving"):
        runs.end_well(RUN_ID)
    assert runs.confirm(RUN_ID) == row
    assert runs.end_badly(RUN_ID) == row


@pytest.mark.parametrize("says", ["ended_well", "ended_badly_at", "confirmed_at"])
def test_the_tombstone_comes_in_the_same_update_as_how_the_run_ended(
    items: MemoryItems, runs: Runs, clock: Clock, says: str
) -> None:
    write = {"ended_well": runs.end_well, "ended_badly_at": runs.end_badly, "confirmed_at": runs.confirm}[says]
    clock.now += 5
    row = write(RUN_ID)
    assert (row["ended_at"], row["expires_at"], says in row) == (START + 5, START + 5 + REMEMBER_SECONDS, True)


@pytest.mark.parametrize("saw", ["a run without a tombstone", "the tombstone of a success", "its receipt"])
def test_who_asked_gives_a_run_up_only_as_it_saw_it(runs: Runs, clock: Clock, saw: str) -> None:
    seen = runs.get(RUN_ID)
    decided = runs.end_well(RUN_ID)
    if saw != "a run without a tombstone":
        seen = runs.keep_receipt(RUN_ID, {}, decided) if saw == "its receipt" else decided
        clock.now += 1
        decided = runs.keep_receipt(RUN_ID, {}, decided)
    with pytest.raises(ConditionFailed):
        runs.end_badly(RUN_ID, as_seen=seen)
    assert "ended_badly_at" in runs.end_badly(RUN_ID, as_seen=decided)


def test_a_receipt_of_what_was_kept_is_not_stored_once_the_run_was_given_up(runs: Runs) -> None:
    decided = runs.end_well(RUN_ID)
    given_up = runs.end_badly(RUN_ID)
    with pytest.raises(NotGoneYet):
        runs.keep_receipt(RUN_ID, {}, decided)
    assert "receipt" in runs.keep_receipt(RUN_ID, {}, given_up)
