"""A registration whose look fails, and how long a wait is remembered: what the explored orders leave out."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import ClientError, ConnectionClosedError

from baton.errors import KfpMisconfigured, KfpRefused, KfpUnavailable
from baton.events import Signal
from baton.rendezvous import Answer, Rendezvous
from baton.runs import RUN
from baton.things import Observation, Phase
from baton.tokens import TokenOver
from tests.support.memory import MemoryItems
from tests.unit.test_events import RUN_ID

DAY = 24 * 3600.0
START = 1_777_890_000.0
ENTERED = "2026-05-04T09:30:12.417Z"
ENDED = Observation(Phase.SUCCEEDED, "Completed")
COMPLETED = Signal("training", RUN_ID, "Completed", says_ended=True, says_deleted=False)


class Waiting:
    """A run that waits for its training job, long before its deadline; whoever holds a token in ``over`` has gone."""

    def __init__(self) -> None:
        self.now = START
        self.items = MemoryItems(lambda: self.now)
        row = {
            "kind": RUN,
            "name": RUN_ID,
            "execution_arn": "arn",
            "created_at": START,
            "deadline_at": START + 999 * DAY,
        }
        self.items.stored[RUN, RUN_ID] = row
        self.seen: Observation | Exception = Observation(Phase.ACTIVE, "InProgress")
        self.over: set[str] = set()
        self.settled: list[str] = []
        self.rendezvous = Rendezvous(self.items, self, self)

    def observe(self, kind: str, row: dict[str, Any]) -> Observation:
        if isinstance(self.seen, Exception):
            raise self.seen
        return self.seen

    def settle(self, token: str, outcome: dict[str, Any]) -> None:
        if token in self.over:
            raise TokenOver(token)
        self.settled.append(token)

    def register(self, retry_count: int = 0) -> Answer:
        return self.rendezvous.register("training", RUN_ID, f"token {retry_count}", ENTERED, retry_count)

    def days_pass(self, days: float) -> None:
        """Let time pass; DynamoDB deletes what has expired."""
        self.now += days * DAY
        for key, item in list(self.items.stored.items()):
            if item.get("expires_at", self.now + 1) <= self.now:
                del self.items.stored[key]


@pytest.fixture
def waiting() -> Waiting:
    return Waiting()


@pytest.mark.parametrize(
    "failure",
    [
        ClientError({"Error": {"Code": "AccessDeniedException", "Message": "denied"}}, "DescribeTrainingJob"),
        ConnectionClosedError(endpoint_url="https://api.sagemaker.eu-west-1.amazonaws.com"),
        KfpUnavailable("down"),
        KfpRefused("403"),
        KfpMisconfigured("the login page"),
    ],
    ids=lambda failure: type(failure).__name__,
)
def test_a_look_that_fails_leaves_the_token_for_the_event(waiting: Waiting, failure: Exception) -> None:
    waiting.seen = failure
    assert waiting.register() is Answer.LOOK_FAILED
    waiting.seen = ENDED
    assert waiting.rendezvous.signal(COMPLETED) is Answer.SETTLED
    assert waiting.settled == ["token 0"]


@pytest.mark.parametrize(("days", "answer"), [(29, Answer.SETTLED), (30, Answer.PARKED)])
def test_a_token_is_remembered_for_thirty_days(waiting: Waiting, days: int, answer: Answer) -> None:
    waiting.register()
    waiting.days_pass(days)
    waiting.seen = ENDED
    assert waiting.rendezvous.signal(COMPLETED) is answer


@pytest.mark.parametrize(("days", "answer"), [(29, Answer.SETTLED), (30, Answer.PARKED)])
def test_every_heartbeat_lets_a_token_be_remembered_anew(waiting: Waiting, days: int, answer: Answer) -> None:
    waiting.register(0)
    waiting.days_pass(20)
    waiting.register(1)
    waiting.days_pass(days)
    waiting.seen = ENDED
    assert waiting.rendezvous.signal(COMPLETED) is answer


@pytest.mark.parametrize(("days", "answer"), [(29, Answer.SETTLED), (30, Answer.WAITING)])
def test_a_parked_outcome_is_remembered_for_thirty_days(waiting: Waiting, days: int, answer: Answer) -> None:
    waiting.seen = ENDED
    waiting.rendezvous.signal(COMPLETED)
    waiting.seen = Observation(Phase.ABSENT)
    waiting.days_pass(days)
    assert waiting.register() is answer


def test_an_outcome_lets_the_wait_be_remembered_anew(waiting: Waiting) -> None:
    """It comes for a token that is over, and its successor comes with a redrive."""
    waiting.register(0)
    waiting.over = {"token 0"}
    waiting.days_pass(29)
    waiting.seen = ENDED
    assert waiting.rendezvous.signal(COMPLETED) is Answer.PARKED
    waiting.seen = Observation(Phase.ABSENT)
    waiting.days_pass(29)
    assert waiting.register(1) is Answer.SETTLED
    assert waiting.settled == ["token 1"]


def test_a_heartbeat_does_not_let_an_old_outcome_live_on(waiting: Waiting) -> None:
    waiting.seen = ENDED
    waiting.rendezvous.signal(COMPLETED)
    waiting.over = {"token 0"}
    waiting.seen = Observation(Phase.ABSENT)
    waiting.days_pass(20)
    waiting.register(0)
    waiting.days_pass(20)
    assert waiting.register(1) is Answer.WAITING
