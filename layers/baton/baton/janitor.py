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

What a round finds is told before any of it is handed over. A round that dies afterwards is made again, and by then the
clean-ups that it started may have written their receipts: whoever told last would never tell of those runs. So a run
may be told of twice; none is cleaned up unheard of, unless the topic does not take the message in any of the tries.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from botocore.exceptions import ClientError

from baton.executions import SUCCEEDED, execution_arn_of, is_over, status_of
from baton.items import Item
from baton.observability import logger
from baton.runs import Runs
from baton.transient import is_transient, retryable_aws_errors

UNFINISHED, EXPIRED, LATE = "unfinished", "expired", "late"
REASONS = (UNFINISHED, EXPIRED, LATE)

LATE_SECONDS = 1200
"""Longer than the 900 s that a Lambda function may run: after it nothing of an ended execution is under way."""

_TIME_TO_FINISH_MS = 10_000
_TIME_TO_START_MS = 100
"""What one StartExecution takes, with room to spare."""
_LAST_TRY_SECONDS = 150
"""Lambda tries an event again one minute after it failed, and once more two minutes later.

https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-error-handling.html
"""
_MOST_LINES = 300
"""Of each list in a message: SNS takes 256 KiB, and refuses a longer message as a whole."""


@dataclass(frozen=True)
class HandOver:
    """A run that goes to clean-up, why, as which execution of clean-up-run, and with what input."""

    run_id: str
    reason: str
    execution_arn: str
    request: dict[str, Any]

    @property
    def execution_name(self) -> str:
        """The name by which the execution is started."""
        return self.execution_arn.rpartition(":")[2]

    def as_dict(self) -> dict[str, str]:
        """Return it as it is logged and answered."""
        return {"run_id": self.run_id, "reason": self.reason, "execution_arn": self.execution_arn}


@dataclass
class Round:
    """What a round looks at, finds and does; ``not_reached`` are the rows left to the next round for want of time.

    ``oldest_waiter_seconds``: the age of the oldest run that has not ended; ``overdue_seconds``: how far the one that
    is furthest past its deadline is past it, the time for which it holds its endpoint not counted. ``found`` are the
    runs to hand over, ``started`` those whose clean-up was started, or went on already. ``unseen`` says of each run at
    which a look was refused, and not only failed in passing, what went wrong; ``errors`` are all that the round went
    on past, the first one first.
    """

    looked_at: int = 0
    not_reached: int = 0
    oldest_waiter_seconds: float = 0
    overdue_seconds: float = 0
    found: list[HandOver] = field(default_factory=list)
    started: list[HandOver] = field(default_factory=list)
    unseen: dict[str, str] = field(default_factory=dict)
    errors: list[Exception] = field(default_factory=list)

    def counts(self) -> dict[str, int]:
        """Return how many runs were found, by reason."""
        counted = Counter(one.reason for one in self.found)
        return {reason: counted[reason] for reason in REASONS}

    @property
    def to_tell(self) -> list[HandOver]:
        """What somebody should hear of: every run is looked at once more, and that is no news."""
        return [one for one in self.found if one.reason != LATE]

    def go_past(self, error: Exception, run_id: str | None = None) -> None:
        """Log and remember an error that must not cost the other runs their turn."""
        logger.warning("The janitor goes on past an error.", exc_info=error, extra={"run_id": run_id})
        self.errors.append(error)

    def as_dict(self) -> dict[str, Any]:
        """Return the round as the function's answer."""
        return {
            "looked_at": self.looked_at,
            "not_reached": self.not_reached,
            "started": [one.as_dict() for one in self.started],
        }


class Janitor:
    """Makes the rounds; ``now`` gives epoch seconds, ``remaining_ms`` the time that this invocation still has."""

    def __init__(self, runs: Runs, stepfunctions: Any, clean_up_machine_arn: str, now: Callable[[], float]) -> None:
        self._runs = runs
        self._stepfunctions = stepfunctions
        self._machine = clean_up_machine_arn
        self._now = now

    def make_round(
        self, remaining_ms: Callable[[], int], tell: Callable[[Round], None], asked_at: float | None = None
    ) -> Round:
        """Look at every run that may be left, in time; ``tell`` of those that are, and then hand them over.

        One run's error does not cost the others their turn. Raises the first error once all else is done, so that the
        round is made again. ``asked_at`` (epoch seconds) is when the round was asked for, so that the last of Lambda's
        tries is known: where the topic does not take the message, that one starts the clean-ups all the same.
        """
        made = Round()
        with retryable_aws_errors():
            self._look_at_all(made, remaining_ms)
            self._tell(made, tell, self._is_last_try(asked_at))
            self._start_all(made)
            if made.errors:
                raise made.errors[0]
        return made

    def _look_at_all(self, made: Round, remaining_ms: Callable[[], int]) -> None:
        rows = self._in_turn([row for row in self._runs.all() if self._may_be_left(row)])
        self._measure(rows, made)
        for row in rows:
            if remaining_ms() < _TIME_TO_FINISH_MS + _TIME_TO_START_MS * len(made.found):
                made.not_reached = len(rows) - made.looked_at
                break
            made.looked_at += 1
            self._look(row, made)

    def _is_last_try(self, asked_at: float | None) -> bool:
        return asked_at is None or self._now() - asked_at >= _LAST_TRY_SECONDS

    def _tell(self, made: Round, tell: Callable[[Round], None], is_last_try: bool) -> None:
        try:
            tell(made)
        except Exception as error:
            # The next try may tell; but no topic must keep what is billed from being deleted.
            if is_transient(error) and not is_last_try:
                raise
            made.go_past(error)

    def _start_all(self, made: Round) -> None:
        for one in made.found:
            try:
                if self._start(one):
                    made.started.append(one)
            except Exception as error:
                made.go_past(error, one.run_id)

    def _measure(self, rows: list[Item], made: Round) -> None:
        waiting = [row for row in rows if "ended_at" not in row]
        made.oldest_waiter_seconds = max((self._now() - row["created_at"] for row in waiting), default=0)
        made.overdue_seconds = max((self._now() - _time_is_up_at(row) for row in waiting), default=0)

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

    def _look(self, row: Item, made: Round) -> None:
        try:
            reason = self._reason(row, status_of(self._stepfunctions, row["execution_arn"]))
        except Exception as error:
            if not is_transient(error):
                made.unseen[row["name"]] = str(error)
            made.go_past(error, row["name"])
            return
        if reason:
            made.found.append(self._hand_over(row, reason))

    def _reason(self, row: Item, status: str | None) -> str | None:
        if not is_over(status):
            begun = {"receipt", "ended_well"} & set(row)
            return EXPIRED if not begun and self._is_expired(row) else None
        if "receipt" not in row or (_is_unconfirmed(row) and status != SUCCEEDED):
            return UNFINISHED
        return LATE if self._is_quiet(row) else None

    def _is_expired(self, row: Item) -> bool:
        return datetime.fromisoformat(row["expires_tag"]).timestamp() <= self._now()

    def _hand_over(self, row: Item, reason: str) -> HandOver:
        why = {"expired": True} if reason == EXPIRED else {}
        request = {"execution_arn": row["execution_arn"], "run_id": row["name"], **why}
        name = f"janitor-{row['name']}-{self._hour()}"
        return HandOver(row["name"], reason, execution_arn_of(self._machine, name), request)

    def _start(self, one: HandOver) -> bool:
        """Start the clean-up of a run, at most once an hour; return whether it goes on now."""
        content = json.dumps(one.request)
        try:
            self._stepfunctions.start_execution(stateMachineArn=self._machine, name=one.execution_name, input=content)
        except ClientError as error:
            if error.response["Error"]["Code"] == "ExecutionAlreadyExists":
                return False
            raise
        return True

    def _hour(self) -> int:
        return int(self._now() // 3600)


def message_of(made: Round) -> tuple[str, str]:
    """Return subject and text of the message about a round that has to act, or could not look at every run."""
    found = [f"- {one.run_id} ({one.reason}): {one.execution_arn}" for one in made.to_tell]
    unseen = [f"- {run_id}: {wrong}" for run_id, wrong in made.unseen.items()]
    does, fails = f"cleans up after {len(found)} run(s)", f"could not look at {len(unseen)} run(s)"
    lines = [f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC: the janitor has looked at the runs."]
    if found:
        lines += [f"It {does} that nobody had finished, each in an execution of its own:", *_shortened(found)]
    if unseen:
        lines += [f"It {fails}, and tries again:", *_shortened(unseen)]
    return f"Baton: the janitor {does if found else fails}", "\n".join(lines)


def _shortened(lines: list[str]) -> list[str]:
    more = len(lines) - _MOST_LINES
    return [*lines[:_MOST_LINES], *([f"- and {more} more, which the log of the janitor names"] if more > 0 else [])]


def _is_unconfirmed(row: Item) -> bool:
    """Whether the run was cleaned up as a success, and Step Functions has not been heard yet to say that it is one."""
    return "ended_well" in row and "confirmed_at" not in row


def _time_is_up_at(row: Item) -> float:
    until: float = row["deadline_at"] + row.get("hold_seconds", 0)
    return until
