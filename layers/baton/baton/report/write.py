"""Writing the report of a run, and giving its verdict."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from botocore.exceptions import ClientError

from baton.names import Layout, run_id_for, split_s3_uri
from baton.report.document import Json, Material, document_of
from baton.report.links import Console
from baton.report.page import render
from baton.report.timeline import Timeline
from baton.transient import is_transient
from baton.verdict import unwrap, verdict_of

_WROTE_PREDICTIONS = ("GateNotMet",)
_MARK = "verdict"
"""The object's metadata by which a repeated attempt knows its own report."""


@dataclass(frozen=True)
class Writer:
    """Writes reports; ``partition`` and ``region`` decide where links lead, ``bucket`` takes refused runs' reports."""

    s3: Any
    stepfunctions: Any
    partition: str
    region: str
    bucket: str
    run_prefix: str

    def write(self, execution: Json, state: Mapping[str, Any], now: datetime) -> Json:
        """Write ``report.json`` and ``report.html`` for a run in whatever state it is; return the verdict.

        Where a report of another verdict is there, it is replaced.
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
        mark = _mark_of(verdict)
        self._put(layout, "report/report.json", json.dumps(document, indent=1), "application/json", mark)
        self._put(layout, "report/report.html", render(document), "text/html; charset=utf-8", mark)
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
            return None

    def _smoke_test(self, state: Mapping[str, Any]) -> Json | None:
        """Return what the smoke test kept on S3, pixels and all; None where it did not come so far."""
        failure = state.get("failure")
        if not state.get("smoke_test") and not (failure and unwrap(failure)[0] in _WROTE_PREDICTIONS):
            return None
        bucket, key = split_s3_uri(state["plan"]["uris"]["smoke_test"])
        found: Json = json.loads(self.s3.get_object(Bucket=bucket, Key=key)["Body"].read())
        return found

    def _put(self, layout: Layout, path: str, text: str, content_type: str, mark: str) -> None:
        """Write an object unless the one of this verdict is there; that of another verdict is replaced.

        The report comes after clean-up, so that neither a repeated attempt nor a second verdict (of a redriven
        execution) must leave a non-current version behind.
        """
        place = {"Bucket": layout.bucket, "Key": layout.key(path)}
        content = {"Body": text.encode(), "ContentType": content_type, "Metadata": {_MARK: mark}}
        while not self._put_first(place, content):
            there = self.s3.head_object(**place)
            if there["Metadata"].get(_MARK) == mark:
                return
            # Before the new one is written: a crash in between leaves none, and the next attempt writes it.
            self.s3.delete_object(**place, VersionId=there.get("VersionId", "null"))

    def _put_first(self, place: Mapping[str, str], content: Mapping[str, Any]) -> bool:
        """Write an object that is not there yet; return whether it was not.

        https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html
        """
        try:
            self.s3.put_object(**place, **content, IfNoneMatch="*")
        except ClientError as error:
            if error.response["Error"]["Code"] != "PreconditionFailed":
                raise
            return False
        return True


def _mark_of(verdict: Json) -> str:
    return hashlib.sha256(json.dumps(verdict, sort_keys=True).encode()).hexdigest()
