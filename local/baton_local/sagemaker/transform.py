"""Batch transform jobs."""

from __future__ import annotations

from typing import Any

from baton_local.sagemaker import engine, events
from baton_local.sagemaker.errors import validation
from baton_local.sagemaker.events import Description, Tags
from baton_local.sagemaker.resources import Job, now

MAX_PAYLOADS_MB = 100
"""What the requests under way to one instance may come to, as may one of them by itself:
https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_CreateTransformJob.html, MaxPayloadInMB."""
_DEFAULT_PAYLOAD_MB = 6

_INPUT_DEFAULTS = {"CompressionType": "None", "SplitType": "None"}
_OUTPUT_DEFAULTS = {"AssembleWith": "None"}


def check_request(request: dict[str, Any]) -> None:
    """Raise ValidationException for payloads that SageMaker does not take; the words are ours."""
    payload = request.get("MaxPayloadInMB", _DEFAULT_PAYLOAD_MB)
    concurrent = request.get("MaxConcurrentTransforms") or 1
    if payload * concurrent > MAX_PAYLOADS_MB:
        raise validation(
            f"MaxConcurrentTransforms ({concurrent}) multiplied by MaxPayloadInMB ({payload}) must not exceed "
            f"{MAX_PAYLOADS_MB} MB."
        )


class TransformJob(Job):
    """One batch transform with a model."""

    kind = "transform"
    status_field = "TransformJobStatus"
    end_field = "TransformEndTime"
    event = (events.TRANSFORM, events.transform_detail)

    def __init__(self, arn: str, tags: Tags, request: dict[str, Any], model: Description) -> None:
        description = {name: value for name, value in request.items() if name != "Tags"}
        description |= {
            "TransformInput": {**_INPUT_DEFAULTS, **request["TransformInput"]},
            "TransformOutput": {**_OUTPUT_DEFAULTS, **request["TransformOutput"]},
            "TransformJobArn": arn,
            "TransformJobStatus": "InProgress",
            "CreationTime": now(),
        }
        self._model = model
        super().__init__(arn, tags, description)

    def work(self) -> Description:
        """Predict every object under the input prefix."""
        self.pause(engine.current().pauses.start)
        self.change(TransformStartTime=now())
        self.suffer()
        self.compute(self._request(), lambda _phase: None)
        return {}

    def _request(self) -> dict[str, Any]:
        names = ("TransformJobName", "TransformInput", "TransformOutput", "MaxPayloadInMB", "BatchStrategy")
        return {
            "task": "transform",
            "session": engine.current().session(self._model["ExecutionRoleArn"], self.region).as_dict(),
            "job": {name: self.description[name] for name in names if name in self.description},
            "model_url": self._model["PrimaryContainer"]["ModelDataUrl"],
        }
