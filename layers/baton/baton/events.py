"""EventBridge events, reduced to what they are good for: a hint that one awaited thing may have changed.

The events' own status is only used to tell an end from a beginning; the outcome always comes from Describe. Fields
and their traps: https://docs.aws.amazon.com/sagemaker/latest/dg/automating-sagemaker-with-eventbridge.html
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from baton.names import is_run_id, parse_name
from baton.things import PIPELINE_RUN, Phase, phase_of

PIPELINE_SOURCE = "baton.pipeline"
PIPELINE_DETAIL_TYPE = "Pipeline Run State Change"


@dataclass(frozen=True)
class Signal:
    """A hint about one thing: its kind, its run, and whether the event says that it has ended or is deleted."""

    kind: str
    run_id: str
    status: str
    says_ended: bool
    says_deleted: bool


_FIELDS = {
    "SageMaker Training Job State Change": ("training", "TrainingJobName", "TrainingJobStatus"),
    "SageMaker HyperParameter Tuning Job State Change": (
        "tuning",
        "HyperParameterTuningJobName",
        "HyperParameterTuningJobStatus",
    ),
    "SageMaker Transform Job State Change": ("transform", "TransformJobName", "TransformJobStatus"),
    "SageMaker Endpoint State Change": ("endpoint", "EndpointName", "EndpointStatus"),
    "SageMaker Endpoint Deployment State Change": ("endpoint", "EndpointName", "EndpointStatus"),
}


def read_signal(event: Mapping[str, Any], prefix: str = "bt-") -> Signal | None:
    """Return what an event hints at, or None for one that concerns no run's own thing.

    A tuning job's child jobs, other people's jobs and unknown detail types all give None.
    """
    detail = event.get("detail")
    if not isinstance(detail, Mapping):
        return None
    if event.get("source") == PIPELINE_SOURCE and event.get("detail-type") == PIPELINE_DETAIL_TYPE:
        return _pipeline_signal(detail, prefix)
    if event.get("source") != "aws.sagemaker":
        return None
    return _sagemaker_signal(str(event.get("detail-type")), detail, prefix)


def _pipeline_signal(detail: Mapping[str, Any], prefix: str) -> Signal | None:
    run_id = detail.get("run_id")
    if not isinstance(run_id, str) or not is_run_id(run_id, prefix):
        return None
    return Signal(PIPELINE_RUN, run_id, str(detail.get("state", "")), says_ended=True, says_deleted=False)


def _sagemaker_signal(detail_type: str, detail: Mapping[str, Any], prefix: str) -> Signal | None:
    if detail_type not in _FIELDS:
        return None
    kind, name_field, status_field = _FIELDS[detail_type]
    parsed = parse_name(str(detail.get(name_field, "")), prefix)
    if parsed is None or parsed[0] != kind:
        return None
    status = _api_spelling(str(detail.get(status_field, "")))
    deleted = status in ("Deleted", "Deleting")
    ended = deleted or phase_of(kind, status) in (Phase.SUCCEEDED, Phase.FAILED)
    return Signal(kind, parsed[1], status, says_ended=ended, says_deleted=deleted)


def _api_spelling(status: str) -> str:
    # Endpoint events say IN_SERVICE where the API says InService.
    return "".join(part.capitalize() for part in status.split("_")) if status.isupper() else status
