"""What botocore's models of AWS say."""

from __future__ import annotations

from functools import cache

import botocore.session
from botocore.session import Session

NAMES_OF_SAGEMAKER = {
    "tuning": "HyperParameterTuningJobName",
    "training": "TrainingJobName",
    "model": "ModelName",
    "transform": "TransformJobName",
    "endpoint": "EndpointName",
    "endpoint_config": "EndpointConfigName",
}
"""How SageMaker's model calls the name of each kind of thing."""


@cache
def session() -> Session:
    """Return the session through which tests read botocore's data; making one takes longer than reading."""
    return botocore.session.get_session()


@cache
def values_of(service: str, shape: str) -> tuple[str, ...]:
    """Return the values of an enumeration of a service."""
    return tuple(session().get_service_model(service).shape_for(shape).enum)
