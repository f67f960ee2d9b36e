"""The run rows: what Baton remembers of each run, from its plan to its receipt.

One item of kind ``run``, named by the run id:

=====================  ==============================================================================================
execution_arn          the execution that the run belongs to
pipeline               the pipeline's name
created_at             epoch seconds of the execution's start; what was created earlier is not this run's
deadline_at            epoch seconds; no wait is registered after it
expires_tag            the value of the ``baton:expires-at`` tag (ISO 8601, UTC)
hold_seconds           how long the plan holds the endpoint of a run that succeeds, after the deadline perhaps
keeps_endpoint         true where the plan keeps the endpoint of a run that succeeds
launch_attempt         the attempt that holds, or last held, the launch lease
launch_lease_until     epoch seconds
kfp_installation       the Kubeflow Pipelines at which it is launched, as ``Settings`` names it; older rows have none
kfp_experiment         the experiment there in which it is launched, by name; older rows have none
may_be_posted          the attempt whose POST may have made a KFP run that nobody recorded; SEVERAL for more than one
pipeline_run_id        the KFP run that launch_pipeline started or found
worker_run_id          the KFP run whose first task claimed the work; it wins over pipeline_run_id
step_failure_<step>    {"error", "cause", "noted_at"}: why a step of the worker run failed, as that step noted it
ended_at               the tombstone, epoch seconds: nothing may be started for the run any more. One of the next three
                       comes with it, in the same update
ended_well             true once the state machine has said that the run succeeded (but it may still fail afterwards)
ended_badly_at         epoch seconds; somebody who knows has said that the run did not succeed, and that is final
confirmed_at           epoch seconds; Step Functions has said that the execution succeeded, and that is final too
receipt, receipt_at    the receipt of a clean-up that verified that all is gone
expires_at             epoch seconds; long after the 14 days in which an execution can be redriven
=====================  ==============================================================================================
"""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

from boto3.dynamodb.conditions import Attr, ConditionBase

from baton.errors import LaunchInProgress, NotGoneYet, RunEnded
from baton.items import ConditionFailed, Item, Items, absent

RUN = "run"
_STEP_FAILURE = "step_failure_"
SEVERAL = "several"
"""The mark of more than one POST without an answer: no single attempt's refusal takes it away."""
REMEMBER_SECONDS = 60 * 24 * 3600
"""How long a run row outlives its last change: well over the 14 days of Step Functions' redrive."""


class Runs:
    """The run rows of a table."""

    def __init__(self, items: Items) -> None:
        self._items = items

    def open(self, plan: dict[str, Any]) -> Item:
        """Create the row of a planned run; a second call for the same run changes nothing and returns the row."""
        values = {
            "execution_arn": plan["execution_arn"],
            "pipeline": plan["pipeline"],
            "created_at": plan["created_at"],
            "deadline_at": plan["deadline_at"],
            "expires_tag": plan["tags"]["baton:expires-at"],
            "hold_seconds": plan["after"].get("hold_seconds", 0),
            "keeps_endpoint": plan["after"]["endpoint"] == "keep",
            "expires_at": self._forget_at(plan["deadline_at"]),
        }
        try:
            return self._items.update(RUN, plan["run_id"], values, only_if=absent("execution_arn"))
        except ConditionFailed as failed:
            return failed.item

    def get(self, run_id: str) -> Item | None:
        """Return the run's row, or None."""
        return self._items.get(RUN, run_id)

    def all(self) -> list[Item]:
        """Return every run row, oldest run first."""
        return list(self._items.of_kind(RUN))

    def require_open(self, run_id: str) -> Item:
        """Return the run's row; raise RunEnded where the run is unknown or has a tombstone."""
        row = self.get(run_id)
        if row is None:
            raise RunEnded(f"Run {run_id} has no row in the table: it was never planned, or was forgotten.")
        if "ended_at" in row:
            raise RunEnded(f"Run {run_id} was ended; start a new execution instead of redriving this one.")
        return row

    def claim_launch(
        self, run_id: str, attempt: str, lease_seconds: float, installation: str = "", experiment: str = ""
    ) -> Item:
        """Take the launch lease for an attempt; raise LaunchInProgress while another attempt holds it.

        With the lease the row says at which Kubeflow Pipelines, and in which experiment there, the attempt launches, so
        that it does wherever there may be a KFP run. Raises RunEnded where the run has a tombstone.
        """
        now = self._items.now()
        free = (
            Attr("launch_lease_until").not_exists()
            | Attr("launch_lease_until").lt(_number(now))
            | Attr("launch_attempt").eq(attempt)
        )
        values = {"launch_attempt": attempt, "launch_lease_until": _number(now + lease_seconds)}
        told = {"kfp_installation": installation, "kfp_experiment": experiment}
        where = {name: value for name, value in told.items() if value}
        may = Attr("execution_arn").exists() & absent("ended_at") & free
        try:
            return self._items.update(RUN, run_id, {**values, **where}, only_if=may)
        except ConditionFailed as failed:
            if "ended_at" in failed.item or "execution_arn" not in failed.item:
                raise RunEnded(f"Run {run_id} was ended before its pipeline run could be launched.") from None
            raise LaunchInProgress(f"Another attempt is launching run {run_id}.") from None

    def renew_launch(self, run_id: str, attempt: str, lease_seconds: float, needed_seconds: float) -> Item:
        """Take the lease that this attempt holds for another while, right before it posts, and mark that it does.

        Raises LaunchInProgress where the attempt holds it no longer, or where less than ``needed_seconds`` are left of
        it because the renewal itself took so long, and RunEnded where the run has a tombstone.
        """
        until = _number(self._items.now() + lease_seconds)
        try:
            row = self._mark_post(run_id, attempt, until)
        except ConditionFailed as failed:
            if "ended_at" in failed.item:
                raise RunEnded(f"Run {run_id} was ended before its pipeline run could be launched.") from None
            raise LaunchInProgress(f"Another attempt has taken over the launch of run {run_id}.") from None
        if self._items.now() + needed_seconds > until:
            raise LaunchInProgress(f"This attempt was held up too long to launch run {run_id}.")
        return row

    def _mark_post(self, run_id: str, attempt: str, until: int) -> Item:
        held = Attr("launch_attempt").eq(attempt) & Attr("launch_lease_until").exists()
        may = Attr("execution_arn").exists() & absent("ended_at") & held
        first = absent("may_be_posted") | Attr("may_be_posted").eq(attempt)
        values: dict[str, Any] = {"launch_lease_until": until, "may_be_posted": attempt}
        with suppress(ConditionFailed):
            return self._items.update(RUN, run_id, values, only_if=may & first)
        # An earlier attempt's POST is still uncertain, and no refusal of one of them is the other's.
        return self._items.update(RUN, run_id, {**values, "may_be_posted": SEVERAL}, only_if=may)

    def release_launch(self, run_id: str, attempt: str) -> None:
        """Free the lease of an attempt that certainly launched nothing, and take its own mark away.

        A lease that others have taken is left alone, and so is the mark of an attempt whose POST is uncertain.
        """
        holds, marked = Attr("launch_attempt").eq(attempt), Attr("may_be_posted").eq(attempt)
        free: dict[str, Any] = {"launch_lease_until": None}
        with suppress(ConditionFailed):
            self._items.update(RUN, run_id, {**free, "may_be_posted": None}, only_if=holds & marked)
            return
        with suppress(ConditionFailed):
            self._items.update(RUN, run_id, free, only_if=holds)

    def record_launch(self, run_id: str, pipeline_run_id: str) -> Item:
        """Record the KFP run of a run, tombstone or not, and free the lease; return the row as it is now.

        It is written even after a tombstone, so that clean-up knows what to terminate. The record takes the place of
        the mark: whatever else was posted, clean-up asks Kubeflow Pipelines for all of the run's.
        """
        values = {"pipeline_run_id": pipeline_run_id, "launch_lease_until": None, "may_be_posted": None}
        return self._items.update(RUN, run_id, values)

    def end_well(self, run_id: str) -> Item:
        """Write the tombstone of a run that succeeded, and that it did; return the row.

        Raises RunEnded where the run was ended before: a redriven execution must not succeed without what its plan
        promised. A clean-up of a success that was interrupted may be called again.
        """
        may = absent("ended_at") | Attr("ended_well").exists()
        try:
            return self._end(run_id, {"ended_well": True}, only_if=may)
        except ConditionFailed:
            raise RunEnded(
                f"Run {run_id} was ended and cleaned up; start a new execution instead of redriving this one."
            ) from None

    def end_badly(self, run_id: str, as_seen: Item | None = None) -> Item:
        """Write the tombstone, and for good that the run did not succeed, so that nothing of it stays; return the row.

        Its receipt goes: were the clean-up that follows to die, the janitor must find the run unfinished. With
        ``as_seen`` it is written only if no clean-up of a success went on since that row was read, or else raises
        ConditionFailed.
        """
        values = {"ended_badly_at": _number(self._items.now())}
        none = ("ended_well", "endpoint_kept_at", "confirmed_at", "receipt", "receipt_at")
        unchanged = absent("ended_badly_at")
        if as_seen is not None:
            unchanged = unchanged & same(as_seen, "ended_well") & same(as_seen, "receipt_at")
        try:
            return self._end(run_id, {**values, **dict.fromkeys(none)}, only_if=unchanged)
        except ConditionFailed as failed:
            if "ended_badly_at" in failed.item:
                return failed.item
            raise

    def confirm(self, run_id: str) -> Item:
        """Write the tombstone, and that the execution has succeeded unless the run was given up; return the row."""
        values = {"confirmed_at": _number(self._items.now())}
        try:
            return self._end(run_id, values, only_if=absent("ended_badly_at"))
        except ConditionFailed as failed:
            return failed.item

    def _end(self, run_id: str, values: dict[str, Any], only_if: ConditionBase) -> Item:
        """Write the tombstone (the first one stays) and how the run ended in one update; return the row.

        A tombstone that does not say how leaves it open whether a redriven execution may still succeed, while what it
        lives on is deleted already.
        """
        now = self._items.now()
        tombstone = {"ended_at": _number(now), "expires_at": self._forget_at(now)}
        with suppress(ConditionFailed):
            return self._items.update(RUN, run_id, {**tombstone, **values}, only_if=absent("ended_at") & only_if)
        return self._items.update(RUN, run_id, values, only_if=Attr("ended_at").exists() & only_if)

    def keep_receipt(self, run_id: str, receipt: dict[str, Any], decided: Item) -> Item:
        """Store the receipt of a finished clean-up that went by the row ``decided``.

        Raises NotGoneYet where the run was given up meanwhile, so that what the receipt says is kept must go.
        """
        now = self._items.now()
        values = {"receipt": json.dumps(receipt), "receipt_at": _number(now), "expires_at": self._forget_at(now)}
        same = None if "ended_badly_at" in decided else absent("ended_badly_at")
        try:
            return self._items.update(RUN, run_id, values, only_if=same)
        except ConditionFailed:
            raise NotGoneYet(f"Run {run_id} was given up while it was cleaned up; what it kept must go.") from None

    def _forget_at(self, last_change: float) -> int:
        return int(last_change) + REMEMBER_SECONDS


def awaited_pipeline_run(row: Item) -> str | None:
    """Return the id of the KFP run that does the run's work, or None before there is one."""
    return row.get("worker_run_id") or row.get("pipeline_run_id")


def first_step_failure(row: Item) -> dict[str, str] | None:
    """Return ``step``, ``error`` and ``cause`` of the step that noted its failure first, or None where none did."""
    noted = [(name.removeprefix(_STEP_FAILURE), row[name]) for name in row if name.startswith(_STEP_FAILURE)]
    if not noted:
        return None
    step, failure = min(noted, key=lambda each: float(each[1]["noted_at"]))
    return {"step": step, "error": failure["error"], "cause": failure["cause"]}


def launched_elsewhere(row: Item, here: str) -> bool:
    """Whether a run was launched at another Kubeflow Pipelines than ``here``, a ``Settings.kfp_installation``.

    What is not found here may then go on there. A row that does not say where counts as launched here.
    """
    return bool(row.get("kfp_installation", here) != here)


def same(row: Item, name: str) -> ConditionBase:
    """Return the condition that an attribute is what it is in a row, or absent as there."""
    return Attr(name).eq(row[name]) if name in row else absent(name)


def _number(seconds: float) -> int:
    # DynamoDB takes no binary floats; milliseconds would only be noise in a lease of minutes.
    return int(seconds)
