"""The last step of a pipeline run: tell the control plane that it ends, and how."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import boto3
from botocore.config import Config

from baton_steps.errors import EventNotSent

SOURCE = "baton.pipeline"
DETAIL_TYPE = "Pipeline Run State Change"
_CONFIG = Config(retries={"mode": "standard", "total_max_attempts": 5}, connect_timeout=5, read_timeout=20)
_ATTEMPTS = 5

_STATES = {
    "SUCCEEDED": "SUCCEEDED",
    "COMPLETE": "SUCCEEDED",
    "COMPLETED": "SUCCEEDED",
    "CACHED": "SUCCEEDED",
    "CANCELED": "CANCELED",
    "CANCELLED": "CANCELED",
}


def run_state(final_status: str) -> str:
    """Return the pipeline run's state for the final status that Kubeflow Pipelines hands to an exit task.

    The status comes in the words of the SDK, of the API or of the metadata store, as the backend's release has it; a
    word that is in none of them counts as a failure, so that it cannot pass for success.
    """
    return _STATES.get(final_status.upper(), "FAILED")


def announce_end(
    run_id: str,
    pipeline_run_id: str,
    final_status: str,
    region: str,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Put the end-of-run event on the default event bus; raise EventNotSent where EventBridge keeps refusing it."""
    detail = {"run_id": run_id, "pipeline_run_id": pipeline_run_id, "state": run_state(final_status)}
    entry = {"Source": SOURCE, "DetailType": DETAIL_TYPE, "Detail": json.dumps(detail)}
    events = boto3.client("events", region_name=region, config=_CONFIG)
    problem = ""
    for attempt in range(_ATTEMPTS):
        if attempt:
            sleep(2.0 ** (attempt - 1))
        problem = _put(events, entry)
        if not problem:
            print(f"Told the event bus that pipeline run {pipeline_run_id} of run {run_id} ends: {detail['state']}.")
            return
    raise EventNotSent(f"EventBridge did not take the end of pipeline run {pipeline_run_id}: {problem}")


def _put(events: Any, entry: dict[str, str]) -> str:
    # PutEvents answers 200 also where it refused an entry:
    # https://docs.aws.amazon.com/eventbridge/latest/APIReference/API_PutEvents.html
    answer = events.put_events(Entries=[entry])
    if not answer.get("FailedEntryCount"):
        return ""
    failed = answer["Entries"][0]
    return f"{failed.get('ErrorCode')}: {failed.get('ErrorMessage')}"
