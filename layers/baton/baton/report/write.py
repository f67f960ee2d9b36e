"""Writing the report of a run, and giving its verdict."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from botocore.exceptions import ClientError

from baton.names import Layout, run_id_for, split_s3_uri
from baton.observability import logger
from baton.report.document import Json, Material, document_of
from baton.report.links import Console
from baton.report.page import render
from baton.report.timeline import Timeline
from baton.transient import is_transient
from baton.verdict import unwrap, verdict_of

_WROTE_PREDICTIONS = ("GateNotMet",)
_ORDER = "order"
"""The object's metadata that says which of two reports is the newer one."""


@dataclass(frozen=True)
class Writer:
    """Writes reports; ``partition`` and ``region`` decide where links lead, ``bucket`` takes refused runs' reports."""

    s3: Any
    stepfunctions: Any
    partition: str
    region: str
    bucket: str
    run_prefix: str

    def write(self, execution: Json, state: Mapping[str, Any], order: str, now: datetime) -> Json:
        """Write ``report.json`` and ``report.html`` for a run in whatever state it is; return the verdict.

        ``order`` is that of the state's entry (``entry_order``): an older report is replaced, and what is as new or
        newer stays.
        """
        run_id = self._run_id(execution, state)
        layout = Layout(self._bucket_of(state), run_id)
        verdict = verdict_of(state, layout.uri("report/report.html"))
        document = document_of(
            Material(
                execution=execution,
                run_id=run_id,
                state=state,
                verdict=verdict,
                timeline=self._timeline(execution["id"]),
                smoke_test=self._smoke_test(state),
                console=Console(self.partition, self.region),
                now=now,
            )
        )
        self._put(layout, "report/report.json", json.dumps(document, indent=1), "application/json", order)
        self._put(layout, "report/report.html", render(document), "text/html; charset=utf-8", order)
        return verdict

    def _run_id(self, execution: Json, state: Mapping[str, Any]) -> str:
        """Return the plan's run id, or the one that the refused execution would have had."""
        plan = state.get("plan")
        if plan:
            return str(plan["run_id"])
        started = datetime.fromisoformat(execution["start_time"]).astimezone(UTC)
        return run_id_for(execution["id"], int(started.timestamp()), self.run_prefix)

    def _bucket_of(self, state: Mapping[str, Any]) -> str:
        plan = state.get("plan")
        return split_s3_uri(plan["uris"]["report"])[0] if plan else self.bucket

    def _timeline(self, execution_arn: str) -> Timeline | None:
        """Return the execution's timeline; a report without one is better than no report."""
        try:
            pages = self.stepfunctions.get_paginator("get_execution_history").paginate(
                executionArn=execution_arn, includeExecutionData=False
            )
            return Timeline(event for page in pages for event in page["events"])
        except ClientError as error:
            if is_transient(error):
                raise
            logger.warning("The history cannot be read, so the report has no timeline.", extra={"reason": str(error)})
            return None

    def _smoke_test(self, state: Mapping[str, Any]) -> Json | None:
        """Return what the smoke test kept on S3, pixels and all; None where it did not come so far."""
        failure = state.get("failure")
        if not state.get("smoke_test") and not (failure and unwrap(failure)[0] in _WROTE_PREDICTIONS):
            return None
        bucket, key = split_s3_uri(state["plan"]["uris"]["smoke_test"])
        found: Json = json.loads(self.s3.get_object(Bucket=bucket, Key=key)["Body"].read())
        return found

    def _put(self, layout: Layout, path: str, text: str, content_type: str, order: str) -> None:
        """Write an object unless one that is as new is there; an older one is replaced.

        The report comes after clean-up, so that neither a repeated attempt nor a later report (of a redriven execution)
        must leave a non-current version behind. An invocation may outlive its state, and even the execution's redrive,
        so whatever it does to an object is tied to the one that it saw.
        """
        place = {"Bucket": layout.bucket, "Key": layout.key(path)}
        content = {"Body": text.encode(), "ContentType": content_type, "Metadata": {_ORDER: order}}
        while not self._put_if(place, content, IfNoneMatch="*"):
            try:
                there = self.s3.head_object(**place)
            except ClientError:
                # Another invocation may be replacing it, and S3 calls what is not there forbidden to who may not list.
                if self._put_if(place, content, IfNoneMatch="*"):
                    return
                raise
            if there["Metadata"].get(_ORDER, "") >= order:
                return
            version = there.get("VersionId", "null")
            if version != "null":
                # Before the new one is written: a crash in between leaves none, and the next attempt writes it.
                self.s3.delete_object(**place, VersionId=version)
            elif self._put_if(place, content, IfMatch=there["ETag"]):
                # Without versioning all have the one version null, so a deletion might strike a newer one.
                return

    def _put_if(self, place: Mapping[str, str], content: Mapping[str, Any], **condition: str) -> bool:
        """Write an object on a condition; return whether it held.

        https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html
        """
        try:
            self.s3.put_object(**place, **content, **condition)
        except ClientError as error:
            if error.response["Error"]["Code"] not in ("PreconditionFailed", "NoSuchKey"):
                raise
            return False
        return True
