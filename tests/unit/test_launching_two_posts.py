"""A POST that times out and is committed after the second one: two KFP runs, of which one does the work.

The real code plays on both sides: the launch, the pipeline's first task, the wait and the clean-up, on one table.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from baton.errors import LaunchInProgress, LaunchUncertain, RunEnded, Unsettled
from baton.events import Signal
from baton.kfp import KfpClient
from baton.kfp.client import POST_SECONDS
from baton.launching import LEASE_SECONDS
from baton.rendezvous import Answer, Rendezvous
from baton.things import PIPELINE_RUN, Things
from baton_steps.claim import claim
from baton_steps.errors import ClaimLost
from baton_steps.errors import RunEnded as StepsRunEnded
from tests.support.claiming import ClaimingRun
from tests.support.kfp_fake import InProcess
from tests.support.launch_world import LaunchWorld, commit_later, on

ENTERED = "2026-03-01T09:31:00.000Z"
ORDERS = list(itertools.permutations(("late", "second")))
CLAIMED = ["before the second is recorded", "after the second is recorded"]


class TwoPosts:
    """Two KFP runs of one run; ``ids`` has them as "late" (posted first, committed last) and "second"."""

    def __init__(self, late_claims: str = CLAIMED[1]) -> None:
        self.world = LaunchWorld()
        self.ids: dict[str, str] = {}
        self.settled: list[dict[str, Any]] = []
        self.working: list[str] = []
        self._early = late_claims == CLAIMED[0]
        self._post_and_lose()
        self.world.now += LEASE_SECONDS + 1
        self._post_again()
        self.client = KfpClient(InProcess(self.world.fake), sleep=lambda _: None)
        things = Things(None, lambda: self.client, self.world.settings.kfp_installation)
        self.rendezvous = Rendezvous(self.world.items, things, SimpleNamespace(settle=self._settle))

    def _post_and_lose(self) -> None:
        on(self.world, "POST /runs", commit_later(self.world))
        with pytest.raises(LaunchUncertain):
            self.world.launch()

    def _post_again(self) -> None:
        """The second POST is committed, and right after it, while its answer travels, the first one."""

        def then_the_late_one(_name: str, effect: Any) -> Any:
            answer = effect()
            self._commit()
            return answer

        on(self.world, "POST /runs", then_the_late_one)
        self.world.launch()

    def _commit(self) -> None:
        (second,) = self.world.fake.runs
        self.world.fake.commit_late()
        late = next(run_id for run_id in self.world.fake.runs if run_id != second)
        self.ids = {"late": late, "second": second}
        if self._early:
            self.claims("late")

    def _settle(self, token: str, outcome: dict[str, Any]) -> None:
        self.settled.append(outcome)

    def claims(self, which: str) -> None:
        """Let a KFP run begin: its first task claims the work, and fails its run where it does not get it."""
        run = self.world.fake.runs[self.ids[which]]
        run["state"] = "RUNNING"
        me = ClaimingRun.of_parameters(run["runtime_config"]["parameters"], self.world.items)
        try:
            claim(me, self.ids[which])
            self.working.append(which)
        except ClaimLost:
            run["state"] = "FAILED"

    def ends(self, which: str, state: str) -> None:
        self.world.fake.runs[self.ids[which]]["state"] = state

    def tells(self, state: str) -> Answer:
        """Let the exit handler of either tell of an end: the event names the run, and KFP is asked."""
        return self.rendezvous.signal(
            Signal(PIPELINE_RUN, self.world.run_id, state, says_ended=True, says_deleted=False)
        )


@pytest.mark.parametrize("order", ORDERS)
def test_one_run_does_the_work_and_the_wait_follows_it(order: tuple[str, str]) -> None:
    two = TwoPosts()
    assert two.world.row["pipeline_run_id"] == two.ids["second"]
    first, other = order
    assert two.rendezvous.register(PIPELINE_RUN, two.world.run_id, "token", ENTERED, 0) is Answer.WAITING
    for which in order:
        two.claims(which)
    assert two.working == [first]
    assert two.world.fake.runs[two.ids[other]]["state"] == "FAILED"
    assert two.world.launch()["id"] == two.ids[first]
    with pytest.raises(Unsettled):
        two.tells("FAILED")
    assert two.settled == [], "the loser's end is not the run's"
    two.ends(first, "SUCCEEDED")
    assert two.tells("SUCCEEDED") is Answer.SETTLED
    assert [(o["succeeded"], o["result"]["id"]) for o in two.settled] == [(True, two.ids[first])]


@pytest.mark.parametrize("order", ORDERS)
def test_a_wait_that_registers_after_the_losers_end_waits_for_the_worker(order: tuple[str, str]) -> None:
    two = TwoPosts()
    for which in order:
        two.claims(which)
    assert two.rendezvous.register(PIPELINE_RUN, two.world.run_id, "token", ENTERED, 0) is Answer.WAITING
    two.ends(order[0], "FAILED")
    assert two.rendezvous.register(PIPELINE_RUN, two.world.run_id, "token", ENTERED, 1) is Answer.SETTLED
    assert two.settled[0]["succeeded"] is False


def test_the_late_run_may_claim_before_the_second_is_even_recorded() -> None:
    two = TwoPosts(late_claims=CLAIMED[0])
    two.claims("second")
    assert two.working == ["late"]
    assert two.world.launch()["id"] == two.ids["late"]


@pytest.mark.parametrize("claimed", [(), ("late",), ("second",), *ORDERS])
def test_a_run_that_is_stopped_then_terminates_both_and_neither_claims_any_more(claimed: tuple[str, ...]) -> None:
    two = TwoPosts()
    for which in claimed:
        two.claims(which)
    two.world.runs.end_badly(two.world.run_id)
    with pytest.raises(RunEnded):
        two.world.launch()
    assert {run["state"] for run in two.world.fake.runs.values()} <= {"CANCELING", "FAILED"}
    for which in ("late", "second"):
        with pytest.raises(StepsRunEnded):
            two.claims(which)


def test_an_attempt_whose_run_was_recorded_while_it_stalled_does_not_post_again() -> None:
    """The first attempt's POST comes late, the second looks and stalls, the third adopts and records what was made."""
    world = LaunchWorld()
    on(world, "POST /runs", commit_later(world))
    with pytest.raises(LaunchUncertain):
        world.launch()
    world.now += LEASE_SECONDS + 1
    adopted: list[str] = []

    def overtake(_name: str, effect: Callable[[], Any]) -> Any:
        seen = effect()
        world.fake.commit_late()
        adopted.append(world.launch()["id"])
        return seen

    on(world, "GET /runs", overtake)
    with pytest.raises(LaunchInProgress):
        world.launch()
    assert [run["run_id"] for run in world.posted] == adopted


def test_an_attempt_that_is_held_up_at_its_renewal_does_not_post() -> None:
    """Its POST could be answered when the lease is another's already."""
    world = LaunchWorld()

    def slow(_name: str, effect: Callable[[], Any]) -> Any:
        renewed = effect()
        world.now += LEASE_SECONDS - POST_SECONDS + 1
        return renewed

    def looked(_name: str, effect: Callable[[], Any]) -> Any:
        on(world, "UpdateItem run", slow)
        return effect()

    on(world, "GET /runs", looked)
    with pytest.raises(LaunchInProgress, match="held up"):
        world.launch()
    assert world.posted == []
    assert world.launch_until_done()["id"] == world.posted[0]["run_id"]
