"""Models and endpoint configurations: what exists at once and does not run."""

from __future__ import annotations

from typing import Any

from botocore.exceptions import ClientError as AwsError

from baton_local.sagemaker import engine, events
from baton_local.sagemaker.errors import validation
from baton_local.sagemaker.events import Tags
from baton_local.sagemaker.resources import Resource, now
from baton_local.sagemaker.storage import split_uri


class Model(Resource):
    """A model: an image and the artefact of a training job."""

    event = (events.MODEL, events.model_detail)

    def __init__(self, arn: str, tags: Tags, request: dict[str, Any]) -> None:
        description = {name: value for name, value in request.items() if name != "Tags"}
        container = {"Mode": "SingleModel", "Environment": {}, **request["PrimaryContainer"]}
        description |= {"ModelArn": arn, "CreationTime": now(), "PrimaryContainer": container}
        super().__init__(arn, tags, {"EnableNetworkIsolation": False, **description})


class EndpointConfig(Resource):
    """An endpoint configuration."""

    event = (events.ENDPOINT_CONFIG, events.endpoint_config_detail)

    def __init__(self, arn: str, tags: Tags, request: dict[str, Any]) -> None:
        description = {name: value for name, value in request.items() if name != "Tags"}
        variants = [{"InitialVariantWeight": 1.0, **variant} for variant in request["ProductionVariants"]]
        description |= {"EndpointConfigArn": arn, "CreationTime": now(), "ProductionVariants": variants}
        super().__init__(arn, tags, {"EnableNetworkIsolation": False, **description})


def check_model_request(request: dict[str, Any], region: str) -> None:
    """Raise ValidationException for a model that SageMaker would refuse, or that the embedded cloud cannot serve."""
    container = request.get("PrimaryContainer") or {}
    if not container.get("Image") or not container.get("ModelDataUrl"):
        raise validation("The embedded cloud serves models of one PrimaryContainer with Image and ModelDataUrl.")
    if not request.get("ExecutionRoleArn"):
        raise validation("ExecutionRoleArn is required for a model whose data is on S3.")
    engine.check_role(request["ExecutionRoleArn"])
    _check_model_data(container["ModelDataUrl"], request["ExecutionRoleArn"], region)


def _check_model_data(url: str, role_arn: str, region: str) -> None:
    bucket, key = split_uri(url)
    try:
        engine.current().session(role_arn, region).client("s3").head_object(Bucket=bucket, Key=key)
    except AwsError as error:
        if error.response["Error"]["Code"] in ("404", "NoSuchKey", "NoSuchBucket"):
            raise validation(f"Could not find model data at {url}.") from error
        raise validation(
            f'Could not access model data at {url}. Please ensure that the role "{role_arn}" exists and that its '
            'trust relationship policy allows the action "sts:AssumeRole" for the service principal '
            '"sagemaker.amazonaws.com". Also ensure that the role has "s3:GetObject" permissions and that the '
            f"object is located in {region}."
        ) from error


def check_endpoint_config_request(request: dict[str, Any]) -> None:
    """Raise ValidationException for a configuration that makes no sense."""
    variants = request["ProductionVariants"]
    names = [variant["VariantName"] for variant in variants]
    if len(set(names)) != len(names):
        raise validation("Production variant names must be unique.")
    for variant in variants:
        if not variant.get("ModelName"):
            raise validation("The embedded cloud serves production variants that name a model.")
        if "ServerlessConfig" not in variant and not variant.get("InstanceType"):
            raise validation("InstanceType is required for a production variant that is not serverless.")
