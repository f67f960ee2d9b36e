"""The exploration finds the schedule that breaks a protocol which is wrong on purpose.

Each class here is the real one with one rule left out, and the exploration has to say which promise that breaks.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from baton.errors import RunEnded, Unsettled
from baton.events import Signal
from baton.items import Item
from baton.rendezvous import Answer, Rendezvous, _failure, _outcome_of
from baton.settling import Settling
from baton.things import PIPELINE_RUN, Observation, Phase, Things, phase_of, thing_name
from baton.tokens import TokenOver
from tests.support.interleavings import Violation, explore
from tests.support.wait_stories import COMPLETED, COMPLETES, ENDED_EARLY, ENDS, STORIES
from tests.support.wait_world import Message, Parts, Story, WaitWorld

pytestmark = pytest.mark.usefixtures("quiet_settling")


class StoresAnyToken(Rendezvous):
    def _store_token(self, kind: str, run_id: str, token: str, order: str) -> Item:
        values = {"run_id": run_id, "token": token, "token_order": order}
        return self._items.update(kind, thing_name(kind, run_id), values)


class BelievesTheEvent(Rendezvous):
    def signal(self, signal: Signal) -> Answer:
        told = Observation(phase_of(signal.kind, signal.status), signal.status)
        outcome = _outcome_of(signal.kind, signal.run_id, told)
        return self._send(self._park(signal.kind, signal.run_id, outcome)) if outcome else Answer.IGNORED


class RegistersWithoutLooking(Rendezvous):
    def _look(self, kind: str, row: Item) -> dict[str, Any] | None:
        return None


class ParksOverWhatIsParked(Rendezvous):
    def _park(self, kind: str, run_id: str, outcome: dict[str, Any]) -> Item:
        values = {"outcome": json.dumps(outcome), "outcome_until": self._forget_at()}
        return self._items.update(kind, thing_name(kind, run_id), values)


class ReadsTheTokenBeforeParking(Rendezvous):
    def _park(self, kind: str, run_id: str, outcome: dict[str, Any]) -> Item:
        before = self._items.get(kind, thing_name(kind, run_id)) or {}
        after = super()._park(kind, run_id, outcome)
        seen = {name: value for name, value in after.items() if name not in ("token", "token_order")}
        return {**seen, **{name: before[name] for name in ("token",) if name in before}}


class ReadsTheOutcomeBeforeStoring(Rendezvous):
    def _store_token(self, kind: str, run_id: str, token: str, order: str) -> Item:
        before = self._items.get(kind, thing_name(kind, run_id)) or {}
        after = super()._store_token(kind, run_id, token, order)
        seen = {name: value for name, value in after.items() if not name.startswith("outcome")}
        return {**seen, **{name: value for name, value in before.items() if name.startswith("outcome")}}

    def _look(self, kind: str, row: Item) -> dict[str, Any] | None:
        return None


class LooksOnceForWhatWasNeverCreated(Rendezvous):
    def _never_created(self, kind: str, row: Item) -> dict[str, Any] | None:
        pipeline = self._items.get(PIPELINE_RUN, row["name"])
        if pipeline is None or not self._parked(pipeline):
            return None
        return _failure(kind, row["name"], "Absent", "does not exist", "NeverCreated")


class CallsWhatIsAbsentDeleted(Rendezvous):
    def _never_created(self, kind: str, row: Item) -> dict[str, Any] | None:
        return _failure(kind, row["name"], "Absent", "was deleted", "NeverCreated")


class ForgetsWhatIsNotSettledYet(Rendezvous):
    def _not_ended(self, signal: Signal, observation: Observation) -> Answer:
        try:
            return super()._not_ended(signal, observation)
        except Unsettled:
            return Answer.IGNORED


class TrustsTheRowItHas(Rendezvous):
    def _observe(self, kind: str, row: Item) -> Observation:
        return self._things.observe(kind, row)


class LeavesParkedJobsAlone(Rendezvous):
    def _end_if_over(self, kind: str, row: Item, wait: Item) -> None:
        if not self._parked(wait):
            super()._end_if_over(kind, row, wait)


class EndsOnlyThePipelineRunsOwnWait(Rendezvous):
    def _look_at_every_job(self, row: Item) -> None:
        return


class IgnoresTheTombstone(Rendezvous):
    def register(self, kind: str, run_id: str, token: str, entered: str, retry_count: int) -> Answer:
        try:
            return super().register(kind, run_id, token, entered, retry_count)
        except RunEnded:
            return Answer.WAITING


class TakesEveryTagForOurs(Things):
    def _is_ours(self, arn: str, created: float, row: Item) -> bool:
        return True


class TakesEveryEndForGood(Things):
    def observe(self, kind: str, row: Item) -> Observation:
        seen = super().observe(kind, row)
        return Observation(Phase.SUCCEEDED, seen.status) if seen.ended else seen


class DropsWhatFails(Settling):
    def _try_again(self, record: Any, error: Exception) -> bool:
        return True


class SweepsNothing(Settling):
    def _sweep_again(self, signal: Signal) -> None:
        return


A_JOB = STORIES["a job completes; one invocation dies"]
NEVER = STORIES["a pipeline run ends and never creates the job; one invocation dies"]
NO_EVENT = STORIES["a pipeline run fails and never creates the job; its event is lost, a heartbeat is missed"]
LAST_MOMENT = STORIES["a pipeline run creates the job at the last moment"]
FOREIGN = STORIES["a foreign endpoint of the same name is in service"]
APPEARS = STORIES["a foreign endpoint appears while ours is awaited"]
SWEEP = STORIES["a pod creates an endpoint after the sweep"]
TOMBSTONE = STORIES["the tombstone is written while a job completes"]
LOSER = STORIES["the pipeline run that lost the claim fails, and the other does the work"]
DELETED = STORIES["an endpoint is deleted while it is awaited"]
FORGED = STORIES["a job fails; an event said long before that it had completed"]
NOT_OURS = STORIES["a foreign endpoint's deletion is told when ours is not created yet"]
FAULTS = STORIES["a job fails; two calls are refused or lose their answers"]
EARLY = Story(ENDS, (ENDED_EARLY,), awaits=(PIPELINE_RUN,))

MISSED = "missed its end"
NOT_TRUE = "is not true"
HEARTBEAT = "a heartbeat did not end the wait"

MUTANTS: list[tuple[Parts, Story, str]] = [
    (Parts(rendezvous=StoresAnyToken), A_JOB, MISSED),
    (Parts(rendezvous=BelievesTheEvent), FORGED, NOT_TRUE),
    (Parts(rendezvous=BelievesTheEvent), FOREIGN, NOT_TRUE),
    (Parts(rendezvous=RegistersWithoutLooking), A_JOB, HEARTBEAT),
    (Parts(rendezvous=ParksOverWhatIsParked), DELETED, "is parked"),
    (Parts(rendezvous=ReadsTheTokenBeforeParking), FAULTS, MISSED),
    (Parts(rendezvous=ReadsTheOutcomeBeforeStoring), Story(COMPLETES, (COMPLETED,)), "missed|heartbeat"),
    (Parts(rendezvous=LooksOnceForWhatWasNeverCreated), LAST_MOMENT, NOT_TRUE),
    (Parts(rendezvous=CallsWhatIsAbsentDeleted), NOT_OURS, NOT_TRUE),
    (Parts(rendezvous=ForgetsWhatIsNotSettledYet), EARLY, MISSED),
    (Parts(rendezvous=TrustsTheRowItHas), LOSER, NOT_TRUE),
    (Parts(rendezvous=LeavesParkedJobsAlone), NEVER, MISSED),
    (Parts(rendezvous=EndsOnlyThePipelineRunsOwnWait), NO_EVENT, HEARTBEAT),
    (Parts(rendezvous=EndsOnlyThePipelineRunsOwnWait), NEVER, f"{MISSED}|{HEARTBEAT}"),
    (Parts(rendezvous=IgnoresTheTombstone), TOMBSTONE, HEARTBEAT),
    (Parts(things=TakesEveryTagForOurs), APPEARS, NOT_TRUE),
    (Parts(things=TakesEveryEndForGood), FAULTS, NOT_TRUE),
    (Parts(settling=DropsWhatFails), FAULTS, MISSED),
    (Parts(settling=SweepsNothing), SWEEP, "nobody swept"),
]


def name_of(mutant: Any) -> str | None:
    return " ".join(c.__name__ for c in vars(mutant).values() if c.__module__ == __name__) if mutant else None


NAMES = [f"{name_of(parts)}-{number}" for number, (parts, _, _) in enumerate(MUTANTS)]


@pytest.mark.parametrize(("parts", "story", "broken"), MUTANTS, ids=NAMES)
def test_the_exploration_finds_what_a_missing_rule_breaks(parts: Parts, story: Story, broken: str) -> None:
    with pytest.raises(Violation, match=broken) as found:
        explore(WaitWorld(story, parts))
    assert "schedule:" in str(found.value)


class StopsAtTheFirstToken(Rendezvous):
    def _send(self, wait: Item) -> Answer:
        if "token" in wait:
            try:
                self._tokens.settle(wait["token"], json.loads(wait["outcome"]))
                return Answer.SETTLED
            except TokenOver:
                pass
        return Answer.PARKED


@pytest.mark.parametrize("story", [A_JOB, NEVER, FAULTS], ids=["a job", "never created", "faults"])
def test_following_the_token_to_newer_attempts_is_a_short_cut_and_no_promise_rests_on_it(story: Story) -> None:
    # Whoever stores a newer token after an outcome is parked sees the outcome in the same update, and sends it.
    explore(WaitWorld(story, Parts(rendezvous=StopsAtTheFirstToken)))


def test_a_violation_is_told_with_its_schedule() -> None:
    story = Story({"training": ("InProgress",)}, (Message("training", "Completed", genuine=False),), heartbeats=0)
    with pytest.raises(Violation) as found:
        explore(WaitWorld(story, Parts(rendezvous=BelievesTheEvent)))
    assert str(found.value).splitlines()[1:] == [
        "schedule:",
        "  registration training 0: GetItem run",
        "  registration training 0: UpdateItem training",
        "  registration training 0: Describe training",
        "  registration training 0: ListTags training",
        "  message 0 comes",
        "  message 0 receive 1: UpdateItem training",
    ]
