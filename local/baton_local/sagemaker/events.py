"""The events that SageMaker puts on the default bus, as AWS documents them.

"Events that Amazon SageMaker AI sends to Amazon EventBridge" (automating-sagemaker-with-eventbridge). Its traps are
kept: job times are strings of epoch milliseconds, endpoint times numbers, transform times ISO 8601; FailureReason
is there only when a training or transform job failed; Tags is a map; an endpoint's status is spelt IN_SERVICE.
"""

from __future__ import annotations

import queue
import re
import threading
from collections.abc import Callable
from datetime import datetime
from typing import Any

SOURCE = "aws.sagemaker"
TRAINING = "SageMaker Training Job State Change"
TUNING = "SageMaker HyperParameter Tuning Job State Change"
TRANSFORM = "SageMaker Transform Job State Change"
ENDPOINT = "SageMaker Endpoint State Change"
ENDPOINT_CONFIG = "SageMaker Endpoint Config State Change"
MODEL = "SageMaker Model State Change"

_TRAINING_FIELDS = [
    "TrainingJobName",
    "TrainingJobArn",
    "TrainingJobStatus",
    "SecondaryStatus",
    "FailureReason",
    "HyperParameters",
    "AlgorithmSpecification",
    "RoleArn",
    "InputDataConfig",
    "OutputDataConfig",
    "ResourceConfig",
    "VpcConfig",
    "StoppingCondition",
    "ModelArtifacts",
    "CreationTime",
    "TrainingStartTime",
    "TrainingEndTime",
    "LastModifiedTime",
    "SecondaryStatusTransitions",
]
_TUNING_FIELDS = [
    "HyperParameterTuningJobName",
    "HyperParameterTuningJobArn",
    "TrainingJobDefinition",
    "HyperParameterTuningJobStatus",
    "CreationTime",
    "LastModifiedTime",
    "TrainingJobStatusCounters",
    "ObjectiveStatusCounters",
]
_TRANSFORM_FIELDS = [
    "TransformJobName",
    "TransformJobArn",
    "TransformJobStatus",
    "FailureReason",
    "ModelName",
    "MaxConcurrentTransforms",
    "MaxPayloadInMB",
    "BatchStrategy",
    "Environment",
    "TransformInput",
    "TransformOutput",
    "TransformResources",
    "CreationTime",
    "TransformStartTime",
    "TransformEndTime",
]
_ENDPOINT_FIELDS = [
    "EndpointName",
    "EndpointArn",
    "EndpointConfigName",
    "ProductionVariants",
    "CreationTime",
    "LastModifiedTime",
]

Description = dict[str, Any]
Tags = list[dict[str, str]]
Emit = Callable[..., Any]


def milliseconds(moment: datetime) -> int:
    """Return epoch milliseconds."""
    return round(moment.timestamp() * 1000)


def _milliseconds_text(moment: datetime) -> str:
    return str(milliseconds(moment))


def _iso(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _milliseconds_float(moment: datetime) -> float:
    return float(milliseconds(moment))


def _detail(fields: list[str], description: Description, tags: Tags, time: Callable[[datetime], Any]) -> Description:
    found = {name: _jsonable(description[name], time) for name in fields if description.get(name) is not None}
    return {**found, "Tags": {tag["Key"]: tag["Value"] for tag in tags}}


def _jsonable(value: Any, time: Callable[[datetime], Any]) -> Any:
    if isinstance(value, datetime):
        return time(value)
    if isinstance(value, dict):
        return {name: _jsonable(item, time) for name, item in value.items()}
    return [_jsonable(item, time) for item in value] if isinstance(value, list) else value


def training_detail(description: Description, tags: Tags) -> Description:
    """Return the detail of a training job's event from what DescribeTrainingJob answers."""
    return _detail(_TRAINING_FIELDS, description, tags, _milliseconds_text)


def tuning_detail(description: Description, tags: Tags) -> Description:
    """Return the detail of a tuning job's event; the best training job is not in it."""
    return _detail(_TUNING_FIELDS, description, tags, _milliseconds_text)


def transform_detail(description: Description, tags: Tags) -> Description:
    """Return the detail of a transform job's event."""
    return _detail(_TRANSFORM_FIELDS, description, tags, _iso)


def endpoint_detail(description: Description, tags: Tags) -> Description:
    """Return the detail of an endpoint's event."""
    detail = _detail(_ENDPOINT_FIELDS, description, tags, _milliseconds_float)
    return {**detail, "EndpointStatus": event_status(description["EndpointStatus"])}


def event_status(api_status: str) -> str:
    """Return an endpoint's status as events spell it: InService becomes IN_SERVICE."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", api_status).upper()


def endpoint_config_detail(description: Description, tags: Tags) -> Description:
    """Return the detail of an endpoint configuration's event."""
    return _detail(["EndpointConfigName", "EndpointConfigArn", "CreationTime"], description, tags, _milliseconds_float)


def model_detail(description: Description, tags: Tags) -> Description:
    """Return the detail of a model's event, of which AWS documents the pattern only."""
    return _detail(["ModelName", "ModelArn", "CreationTime"], description, tags, _milliseconds_float)


class Emitter:
    """Puts events on the bus in the order in which they happened, from a thread of its own.

    Who changes a state holds a lock, and the bus may call back into the cloud: so it must not run under that lock.
    """

    def __init__(self, emit: Emit) -> None:
        self._emit = emit
        self._queue: queue.SimpleQueue[tuple[Any, ...]] = queue.SimpleQueue()
        threading.Thread(target=self._run, name="sagemaker-events", daemon=True).start()

    def put(self, account_id: str, region: str, detail_type: str, resources: list[str], detail: Description) -> None:
        """Queue an event."""
        self._queue.put((account_id, region, SOURCE, detail_type, resources, detail))

    def _run(self) -> None:
        while True:
            self._emit(*self._queue.get())
