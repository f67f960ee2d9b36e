"""The hourly round: runs that ended and that nobody cleaned up are handed to the state machine clean-up-run.

It starts from the run rows, never from tags alone. A run is handed over

- ``unfinished``: its execution is over, and there is no receipt (the status event was lost, or clean-up gave up), or
  its clean-up was that of a success, and then it failed all the same: what it kept must go;
- ``expired``: its execution goes on past the time in its ``baton:expires-at`` tag, there is no receipt, and its own
  clean-up of a success has not begun either;
- ``late``: its receipt came so soon after its tombstone that a function that was under way then may have written
  something afterwards. It is looked at once more, when its execution is over and no function can be under way any
  longer; the clean-up then also notes for good that the execution succeeded, where it did.

The clean-up asks Step Functions itself how the run ended, when it acts: an execution may be redriven meanwhile.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from botocore.exceptions import ClientError

from baton.executions import SUCCEEDED, is_over, status_of
from baton.items import Item
from baton.runs import Runs
from baton.transient import retryable_aws_errors

UNFINISHED, EXPIRED, LATE = "unfinished", "expired", "late"
REASONS = (UNFINISHED, EXPIRED, LATE)

LATE_SECONDS = 1200
"""Longer than the 900 s that a Lambda function may run: after it nothing of an ended execution is under way."""

_TIME_TO_FINISH_MS = 10_000


@dataclass(frozen=True)
class HandedOver:
    """A run for which the janitor started a clean-up, and why."""

    run_id: str
    reason: str
    execution_arn: str


@dataclass
class Round:
    """What a round looked at and did; ``not_reached`` are the rows left to the next round for want of time.

    ``oldest_waiter_seconds``: the age of the oldest run that has not ended; ``overdue_seconds``: how far the one that
    is furthest past its deadline is past it, the time for which it holds its endpoint not counted.
    """

    looked_at: int = 0
    not_reached: int = 0
    oldest_waiter_seconds: float = 0
    overdue_seconds: float = 0
    handed_over: list[HandedOver] = field(default_factory=list)

    def counts(self) -> dict[str, int]:
        """Return how many runs were handed over, by reason."""
        counted = Counter(handed.reason for handed in self.handed_over)
        return {reason: counted[reason] for reason in REASONS}

    @property
    def to_tell(self) -> list[HandedOver]:
        """What somebody should hear of: every run is looked at once more, and that is no news."""
        return [handed for handed in self.handed_over if handed.reason != LATE]

    def as_dict(self) -> dict[str, Any]:
        """Return the round as the function's answer."""
        return {
            "looked_at": self.looked_at,
            "not_reached": self.not_reached,
            "started": [vars(handed) for handed in self.handed_over],
        }


class Janitor:
    """Makes the rounds; ``now`` gives epoch seconds, ``remaining_ms`` the time that this invocation still has."""

    def __init__(self, runs: Runs, stepfunctions: Any, clean_up_machine_arn: str, now: Callable[[], float]) -> None:
        self._runs = runs
        self._stepfunctions = stepfunctions
        self._machine = clean_up_machine_arn
        self._now = now

    def make_round(self, remaining_ms: Callable[[], int]) -> Round:
        """Look at every run that may be left and hand over those that are; stop in time."""
        done = Round()
        with retryable_aws_errors():
            rows = self._in_turn([row for row in self._runs.all() if self._may_be_left(row)])
            self._measure(rows, done)
            for row in rows:
                if remaining_ms() < _TIME_TO_FINISH_MS:
                    done.not_reached = len(rows) - done.looked_at
                    break
                done.looked_at += 1
                self._look(row, done)
        return done

    def _measure(self, rows: list[Item], done: Round) -> None:
        waiting = [row for row in rows if "ended_at" not in row]
        done.oldest_waiter_seconds = max((self._now() - row["created_at"] for row in waiting), default=0)
        done.overdue_seconds = max((self._now() - _time_is_up_at(row) for row in waiting), default=0)

    def _in_turn(self, rows: list[Item]) -> list[Item]:
        # Were there too many for one round, each hour begins elsewhere, so that every row has its turn.
        start = self._hour() * 7919 % len(rows) if rows else 0
        return rows[start:] + rows[:start]

    def _may_be_left(self, row: Item) -> bool:
        # A row without execution_arn is the tombstone of an execution that never planned, and made nothing.
        if "execution_arn" not in row:
            return False
        return "receipt" not in row or self._is_late(row) or _is_unconfirmed(row)

    def _is_late(self, row: Item) -> bool:
        return self._is_quiet(row) and bool(row["receipt_at"] < row["ended_at"] + LATE_SECONDS)

    def _is_quiet(self, row: Item) -> bool:
        """Whether no function of the run can be under way any more."""
        return "ended_at" in row and bool(row["ended_at"] + LATE_SECONDS <= self._now())

    def _look(self, row: Item, done: Round) -> None:
        status = status_of(self._stepfunctions, row["execution_arn"])
        reason = self._reason(row, status)
        if reason and (started := self._hand_over(row, reason)):
            done.handed_over.append(HandedOver(row["name"], reason, started))

    def _reason(self, row: Item, status: str | None) -> str | None:
        if not is_over(status):
            begun = {"receipt", "ended_well"} & set(row)
            return EXPIRED if not begun and self._is_expired(row) else None
        if "receipt" not in row or (_is_unconfirmed(row) and status != SUCCEEDED):
            return UNFINISHED
        return LATE if self._is_quiet(row) else None

    def _is_expired(self, row: Item) -> bool:
        return datetime.fromisoformat(row["expires_tag"]).timestamp() <= self._now()

    def _hand_over(self, row: Item, reason: str) -> str | None:
        """Start the clean-up of a run, at most once an hour; return its execution's ARN, or None if it was started."""
        why = {"expired": True} if reason == EXPIRED else {}
        request = {"execution_arn": row["execution_arn"], "run_id": row["name"], **why}
        try:
            answer = self._stepfunctions.start_execution(
                stateMachineArn=self._machine,
                name=f"janitor-{row['name']}-{self._hour()}",
                input=json.dumps(request),
            )
        except ClientError as error:
            if error.response["Error"]["Code"] == "ExecutionAlreadyExists":
                return None
            raise
        arn: str = answer["executionArn"]
        return arn

    def _hour(self) -> int:
        return int(self._now() // 3600)


def message_of(done: Round) -> tuple[str, str]:
    """Return subject and text of the message that tells of a round which had to act."""
    count = len(done.to_tell)
    when = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    lines = [f"- {handed.run_id} ({handed.reason}): {handed.execution_arn}" for handed in done.to_tell]
    text = "\n".join([f"{when}: the janitor started the clean-up of {count} run(s) that nobody had finished:", *lines])
    return f"Baton: the janitor cleaned up after {count} run(s)", text


def _is_unconfirmed(row: Item) -> bool:
    """Whether the run was cleaned up as a success, and Step Functions has not been heard yet to say that it is one."""
    return "ended_well" in row and "confirmed_at" not in row


def _time_is_up_at(row: Item) -> float:
    until: float = row["deadline_at"] + row.get("hold_seconds", 0)
    return until
