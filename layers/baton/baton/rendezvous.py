"""The rendezvous of a task token and the outcome that ends its wait, in either order.

One item of the table for each awaited thing, with the key (kind, name):

=================  =================================================================================================
run_id             the run that waits
token              the task token of the attempt that waits now
token_order        the execution's redrives, when that attempt entered its state, and its retry count: a later one's
                   sorts after it
outcome            how the thing ended, as JSON, once anybody has seen it (*parked*)
outcome_until      epoch seconds; a parked outcome that is older counts as absent
expires_at         epoch seconds; the item's own end
=================  =================================================================================================

Both sides write with one conditional update and look at the whole new item that it answers with. Two updates of one
item are ordered by DynamoDB, so the second of the two always sees what the first one wrote, and settles.
See docs/adr/0005-rendezvous.md for the promises and why they hold.
"""

from __future__ import annotations

import json
from contextlib import suppress
from enum import Enum
from typing import Any, Protocol

from boto3.dynamodb.conditions import Attr
from botocore.exceptions import BotoCoreError, ClientError

from baton.errors import DeadlineExceeded, ForeignResource, KfpMisconfigured, KfpRefused, KfpUnavailable, Unsettled
from baton.events import Signal
from baton.executions import entry_order
from baton.items import ConditionFailed, Item, Items, absent
from baton.runs import Runs
from baton.things import JOB_KINDS, PIPELINE_RUN, Observation, Phase, thing_name
from baton.tokens import TokenOver, Tokens

REMEMBER_SECONDS = 30 * 24 * 3600
"""How long a wait is remembered after its last change: longer than the 14 days in which a run can be redriven."""

LOOK_FAILURES = (ClientError, BotoCoreError, KfpUnavailable, KfpRefused, KfpMisconfigured)


class Answer(Enum):
    """What became of a registration or a signal; the handlers count them as metrics."""

    WAITING = "Waiting"
    SETTLED = "Settled"
    PARKED = "Parked"
    SUPERSEDED = "Superseded"
    IGNORED = "Ignored"
    AFTER_THE_END = "AfterTheEnd"
    LOOK_FAILED = "LookFailed"
    ELSEWHERE = "Elsewhere"


class Looker(Protocol):
    """Whoever can say what an awaited thing is now (see baton.things.Things)."""

    def observe(self, kind: str, row: Item) -> Observation:
        """Return what the run's thing of this kind is now."""


class Rendezvous:
    """Brings task tokens and outcomes together."""

    def __init__(self, items: Items, things: Looker, tokens: Tokens) -> None:
        self._items = items
        self._runs = Runs(items)
        self._things = things
        self._tokens = tokens

    def register(
        self, kind: str, run_id: str, token: str, entered: str, retry_count: int, redrive_count: int = 0
    ) -> Answer:
        """Let an attempt of a state wait for a run's thing; settle at once where it has ended already.

        ``entered`` is the state's entered time (ISO 8601), ``retry_count`` counts the state's retries, and
        ``redrive_count`` the execution's redrives, with which the retries begin anew. Raises RunEnded after the run's
        tombstone, DeadlineExceeded after its deadline, ForeignResource where the thing is another's.
        """
        row = self._runs.require_open(run_id)
        if self._items.now() >= row["deadline_at"]:
            raise DeadlineExceeded(f"Run {run_id} passed its deadline while it waited for its {kind}.")
        try:
            wait = self._store_token(kind, run_id, token, _order(entered, retry_count, redrive_count))
        except ConditionFailed:
            return Answer.SUPERSEDED
        if not self._parked(wait):
            try:
                outcome = self._look(kind, row)
            except LOOK_FAILURES:
                # The token is stored, so an event or the next heartbeat still ends the wait: failing would not help.
                return Answer.LOOK_FAILED
            if outcome is None:
                return Answer.WAITING
            wait = self._park(kind, run_id, outcome)
        answer = self._send(wait)
        if kind == PIPELINE_RUN:
            # Its end event may be lost, and a job that it never created would wait for another heartbeat of its own.
            with suppress(*LOOK_FAILURES):
                self._look_at_every_job(row)
        return answer

    def signal(self, signal: Signal) -> Answer:
        """Act on a hint that a thing has changed: look at it, park its outcome if it has ended, settle who waits.

        Raises Unsettled where the event says that the thing ended and Describe does not say so yet.
        """
        row = self._runs.get(signal.run_id)
        if row is None or "execution_arn" not in row:
            return Answer.IGNORED
        observation = self._observe(signal.kind, row)
        if "ended_at" in row:
            return Answer.AFTER_THE_END if _still_costs(signal.kind, observation) else Answer.IGNORED
        outcome = _outcome_of(signal.kind, row["name"], observation)
        if outcome is None and signal.says_deleted and observation.phase is Phase.ABSENT:
            # Absence alone does not tell a deleted thing from one that is still to be created.
            outcome = self._never_created(signal.kind, row)
        if outcome is None:
            return self._not_ended(signal, observation)
        answer = self._send(self._park(signal.kind, signal.run_id, outcome))
        if signal.kind == PIPELINE_RUN:
            self._look_at_every_job(row)
        return answer

    def _not_ended(self, signal: Signal, observation: Observation) -> Answer:
        if observation.phase is Phase.ELSEWHERE:
            return Answer.ELSEWHERE
        if signal.says_ended and observation.phase in (Phase.ACTIVE, Phase.ABSENT):
            raise Unsettled(
                f"An event says that the {signal.kind} of run {signal.run_id} is {signal.status}; "
                f"Describe says {observation.status or 'that there is none'}."
            )
        return Answer.IGNORED

    def _observe(self, kind: str, row: Item) -> Observation:
        """Look at a run's thing; a KFP run's end counts only if that is the one that does the work."""
        observation = self._things.observe(kind, row)
        if kind == PIPELINE_RUN and observation.ended and "worker_run_id" not in row:
            # A KFP run that lost the claim fails itself, and the claim may be younger than the row that we have.
            claimed = self._runs.get(row["name"])
            if claimed and "worker_run_id" in claimed:
                return self._things.observe(kind, claimed)
        return observation

    def _look(self, kind: str, row: Item) -> dict[str, Any] | None:
        observation = self._observe(kind, row)
        if observation.phase is Phase.FOREIGN:
            raise ForeignResource(
                f"{thing_name(kind, row['name'])} exists and does not carry the tag of run {row['name']}: "
                "another run or person made it, so it is left alone."
            )
        if observation.phase is Phase.ABSENT and kind != PIPELINE_RUN:
            return self._never_created(kind, row)
        return _outcome_of(kind, row["name"], observation)

    def _never_created(self, kind: str, row: Item) -> dict[str, Any] | None:
        """Return the outcome of a job that is absent: none while the pipeline run may still create it."""
        pipeline = self._items.get(PIPELINE_RUN, row["name"])
        if pipeline is None or not self._parked(pipeline):
            return None
        # The run may have created it between the first look and its end: only a look after the end is final.
        observation = self._things.observe(kind, row)
        if observation.phase is not Phase.ABSENT:
            return _outcome_of(kind, row["name"], observation)
        return _failure(
            kind,
            row["name"],
            "Absent",
            "does not exist, and the pipeline run that creates it has ended",
            "NeverCreated",
        )

    def _look_at_every_job(self, row: Item) -> None:
        """Settle the waits for jobs that a pipeline run, now ended, never created (or whose events were lost)."""
        for kind in JOB_KINDS:
            wait = self._items.get(kind, thing_name(kind, row["name"]))
            if wait and "token" in wait:
                self._end_if_over(kind, row, wait)

    def _end_if_over(self, kind: str, row: Item, wait: Item) -> None:
        if self._parked(wait):
            # Whoever parked it may have died before sending it, perhaps this very message when it came before.
            self._send(wait)
            return
        try:
            outcome = self._look(kind, row)
        except ForeignResource as error:
            outcome = _failure(kind, row["name"], "Foreign", str(error), "ForeignResource")
        if outcome:
            self._send(self._park(kind, row["name"], outcome))

    def _store_token(self, kind: str, run_id: str, token: str, order: str) -> Item:
        newer = absent("token_order") | Attr("token_order").lt(order) | Attr("token").eq(token)
        values = {"run_id": run_id, "token": token, "token_order": order, "expires_at": self._forget_at()}
        return self._items.update(kind, thing_name(kind, run_id), values, only_if=newer)

    def _park(self, kind: str, run_id: str, outcome: dict[str, Any]) -> Item:
        until = self._forget_at()
        values = {"run_id": run_id, "outcome": json.dumps(outcome), "outcome_until": until, "expires_at": until}
        free = absent("outcome") | Attr("outcome_until").lte(int(self._items.now()))
        try:
            return self._items.update(kind, thing_name(kind, run_id), values, only_if=free)
        except ConditionFailed as failed:
            return failed.item

    def _send(self, wait: Item) -> Answer:
        """Settle whoever waits with the parked outcome, following the token to newer attempts."""
        while "token" in wait:
            try:
                self._tokens.settle(wait["token"], json.loads(wait["outcome"]))
                return Answer.SETTLED
            except TokenOver:
                newer = self._items.get(wait["kind"], wait["name"])
                if newer is None or newer["token"] == wait["token"]:
                    return Answer.PARKED
                wait = newer
        return Answer.PARKED

    def _parked(self, wait: Item) -> bool:
        return "outcome" in wait and bool(wait["outcome_until"] > self._items.now())

    def _forget_at(self) -> int:
        return int(self._items.now()) + REMEMBER_SECONDS


def _still_costs(kind: str, observation: Observation) -> bool:
    """Whether a thing of an ended run goes on, and nobody has asked it to go yet."""
    if observation.status in ("Stopping", "Deleting", "CANCELING"):
        return False
    return observation.phase is Phase.ACTIVE or (kind == "endpoint" and observation.ended)


def _order(entered: str, retry_count: int, redrive_count: int) -> str:
    return f"{entry_order(entered, redrive_count)}#{retry_count:09d}"


def _outcome_of(kind: str, run_id: str, observation: Observation) -> dict[str, Any] | None:
    if not observation.ended:
        return None
    status = str(observation.status)
    if observation.phase is Phase.SUCCEEDED:
        name = thing_name(kind, run_id)
        return {
            "kind": kind,
            "name": name,
            "status": status,
            "succeeded": True,
            "reason": None,
            "result": observation.result,
        }
    reason = f"ended {status}" + (f": {observation.reason}" if observation.reason else "")
    return _failure(kind, run_id, status, reason, result=observation.result)


def _failure(
    kind: str, run_id: str, status: str, reason: str, error: str = "", result: dict[str, Any] | None = None
) -> dict[str, Any]:
    name = thing_name(kind, run_id)
    return {
        "kind": kind,
        "name": name,
        "status": status,
        "succeeded": False,
        "error": error or ("PipelineRunFailed" if kind == PIPELINE_RUN else "JobFailed"),
        "reason": f"The {_WORDS[kind]} {name} {reason}.".replace("..", "."),
        "result": result or {},
    }


_WORDS = {
    PIPELINE_RUN: "pipeline run",
    "tuning": "tuning job",
    "training": "training job",
    "transform": "transform job",
    "endpoint": "endpoint",
}
