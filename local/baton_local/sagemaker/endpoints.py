"""Endpoints: they load a model for good, and answer InvokeEndpoint while they are in service."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

from baton_local.sagemaker import engine, events, images, kmeans
from baton_local.sagemaker.errors import validation
from baton_local.sagemaker.events import Description, Tags
from baton_local.sagemaker.kmeans import ClientError
from baton_local.sagemaker.pool import JobFailure
from baton_local.sagemaker.recordio import Matrix
from baton_local.sagemaker.resources import MAX_REASON, Resource, now
from baton_local.sagemaker.storage import S3Object, read, split_uri

DELETABLE = ("InService", "Failed", "OutOfService", "UpdateRollbackFailed")


@dataclass(frozen=True)
class Deployment:
    """What an endpoint serves: its configuration and, for each production variant's model, what Describe answers.

    A model that is gone is None: then the endpoint fails.
    """

    config: Description
    models: dict[str, Description | None]


class Endpoint(Resource):
    """One endpoint."""

    event = (events.ENDPOINT, events.endpoint_detail)

    def __init__(self, arn: str, tags: Tags, request: dict[str, Any]) -> None:
        created = now()
        self.fault = engine.current().faults.strike("endpoint", request["EndpointName"])
        self.centres: Matrix | None = None
        self._closing = threading.Event()
        super().__init__(
            arn,
            tags,
            {
                "EndpointName": request["EndpointName"],
                "EndpointArn": arn,
                "EndpointConfigName": request["EndpointConfigName"],
                "EndpointStatus": "Creating",
                "CreationTime": created,
                "LastModifiedTime": created,
            },
        )

    @property
    def status(self) -> str:
        """Its status, as the API spells it."""
        return str(self.description["EndpointStatus"])

    def create(self, deployment: Deployment) -> None:
        """Announce the endpoint and bring it into service."""
        self.announce()
        threading.Thread(target=self._create, args=(deployment,), name=self.arn, daemon=True).start()

    def update(self, deployment: Deployment) -> None:
        """Announce the update and go over to another configuration, or back if that fails."""
        with self.lock:
            self.check_idle()
            self._become("Updating", FailureReason=None)
        threading.Thread(target=self._update, args=(deployment,), name=self.arn, daemon=True).start()

    def delete(self, gone: Any) -> None:
        """Announce the deletion; call ``gone`` when there is nothing left."""
        with self.lock:
            self.check_idle()
            self._become("Deleting")
            self.centres = None
        threading.Thread(target=self._delete, args=(gone,), name=self.arn, daemon=True).start()

    def check_idle(self) -> None:
        """Raise ValidationException, in AWS's words, while the endpoint is being created, updated or deleted."""
        if self.status not in DELETABLE:
            raise validation(f'Cannot update in-progress endpoint "{self.arn}".')

    def _become(self, status: str, **changes: Any) -> None:
        self.change(EndpointStatus=status, LastModifiedTime=now(), **changes)

    def _create(self, deployment: Deployment) -> None:
        try:
            self._prepare()
            self._serve(deployment)
        except JobFailure as failure:
            self._become("Failed", FailureReason=str(failure)[:MAX_REASON])

    def _update(self, deployment: Deployment) -> None:
        try:
            self._prepare()
            self._serve(deployment)
        except JobFailure as failure:
            self._become("RollingBack", FailureReason=str(failure)[:MAX_REASON])
            engine.current().pause(engine.current().pauses.stop, self._closing)
            self._become("InService")

    def _prepare(self) -> None:
        """Wait as long as instances take; raise JobFailure with what the fault says."""
        engine.current().pause(engine.current().pauses.create_endpoint, self._closing)
        self._closing.wait(self.fault.creating_seconds)
        if self.fault.fail is not None:
            raise JobFailure(self.fault.fail)

    def _serve(self, deployment: Deployment) -> None:
        loaded = [load(model, self.region) for model in deployment.models.values()]
        with self.lock:
            self.centres = loaded[0]
            self._become(
                "InService",
                EndpointConfigName=deployment.config["EndpointConfigName"],
                ProductionVariants=_variants(deployment),
            )

    def _delete(self, gone: Any) -> None:
        self._closing.wait(self.fault.deleting_seconds)
        engine.current().pause(engine.current().pauses.delete_endpoint, self._closing)
        gone()


def load(model: Description | None, region: str) -> Matrix:
    """Return the centres of a model, read with its execution role; raise JobFailure in SageMaker's words."""
    if model is None:
        raise JobFailure("The model of a production variant does not exist any more.")
    container = model["PrimaryContainer"]
    url = container["ModelDataUrl"]
    try:
        images.check_image(container["Image"], region)
        session = engine.current().session(model["ExecutionRoleArn"], region)
        return kmeans.load_model(read(session, S3Object(*split_uri(url), "", 0)))
    except ClientError as error:
        if "pull image" in str(error):
            raise JobFailure.of(error) from error
        raise JobFailure(
            f'Failed to download model data for container "container_1" from URL: "{url}". Please ensure that there '
            "is an object located at the URL and that the role passed to CreateModel has permissions to download "
            "the model."
        ) from error
    except ValueError as error:
        raise JobFailure(
            "The primary container for production variant AllTraffic did not pass the ping health check. "
            "Please check CloudWatch logs for this endpoint."
        ) from error


def _variants(deployment: Deployment) -> list[Description]:
    return [_variant(v, deployment.models[v["ModelName"]]) for v in deployment.config["ProductionVariants"]]


def _variant(variant: Description, model: Description | None) -> Description:
    image = (model or {})["PrimaryContainer"]["Image"]
    count, weight = variant.get("InitialInstanceCount", 1), variant["InitialVariantWeight"]
    deployed = {"SpecifiedImage": image, "ResolvedImage": image, "ResolutionTime": now()}
    return {
        "VariantName": variant["VariantName"],
        "DeployedImages": [deployed],
        "CurrentWeight": weight,
        "DesiredWeight": weight,
        "CurrentInstanceCount": count,
        "DesiredInstanceCount": count,
    }
