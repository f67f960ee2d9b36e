"""What of a run exists in SageMaker, whose it is, and how to make it go.

A resource belongs to a run if it has the name that the run derives **and** carries the run's tag. Nothing here changes
a resource without its caller having seen both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

from botocore.exceptions import ClientError

from baton.denied import is_denial
from baton.names import TAG_EXPIRES_AT, TAG_RUN_ID, Names
from baton.observability import logger
from baton.things import is_not_found

JOBS = ("tuning", "training", "transform")
SERVING = ("endpoint", "endpoint_config", "model")
"""In the order of deletion: a configuration must outlive its endpoint, and a model its configuration."""
TELLING = (*JOBS, "endpoint")
"""What can say why a run failed."""

_API_NAMES: Mapping[str, tuple[str, str]] = {
    "tuning": ("hyper_parameter_tuning_job", "HyperParameterTuningJob"),
    "training": ("training_job", "TrainingJob"),
    "transform": ("transform_job", "TransformJob"),
    "endpoint": ("endpoint", "Endpoint"),
    "endpoint_config": ("endpoint_config", "EndpointConfig"),
    "model": ("model", "Model"),
}
_MOVING_JOB = ("InProgress", "Stopping", "Deleting")
# https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_DescribeEndpoint.html: in these states an endpoint
# "cannot be updated, deleted, or re-scaled", or is on its way to another state by itself.
_BUSY_ENDPOINT = ("Creating", "Updating", "SystemUpdating", "RollingBack", "Deleting")
_TIME_LIMITS = ("MaxRuntimeExceeded", "MaxWaitTimeExceeded")
_REFUSALS = ("ValidationException", "ResourceNotFound", "ResourceInUse", "ConflictException")


@dataclass(frozen=True)
class Resource:
    """A SageMaker resource under a name that a run derives; ``arn`` is None where there is none."""

    kind: str
    name: str
    arn: str | None = None
    status: str | None = None
    reason: str | None = None
    secondary_status: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def present(self) -> bool:
        """Whether anything has this name."""
        return self.arn is not None

    def belongs_to(self, run_id: str) -> bool:
        """Whether it is there and carries the run's tag."""
        return self.present and self.tags.get(TAG_RUN_ID) == run_id

    @property
    def moving(self) -> bool:
        """Whether it is on its way to another state: a job that has not ended, an endpoint that is being changed."""
        return self.status in (_MOVING_JOB if self.kind in JOBS else _BUSY_ENDPOINT)

    @property
    def expires(self) -> bool:
        """Whether it still carries the tag that makes it go."""
        return TAG_EXPIRES_AT in self.tags

    def __str__(self) -> str:
        return f"{self.kind.replace('_', ' ')} {self.name}" + (f" ({self.status})" if self.status else "")


class Survey:
    """Describes and ends the SageMaker resources of runs."""

    def __init__(self, sagemaker: Any) -> None:
        self._sagemaker = sagemaker

    def look(self, run_id: str, attempt: Callable[[str], AbstractContextManager[None]]) -> dict[str, Resource]:
        """Describe the six resources that a run can have by kind, with their tags.

        ``attempt`` takes the error of a kind that AWS does not show; that kind is left out.
        """
        found = {}
        for kind, name in Names.of(run_id).as_dict().items():
            with attempt(kind):
                found[kind] = self._describe(kind, name)
        return found

    def stop(self, job: Resource) -> None:
        """Ask a job to stop; a job that has ended meanwhile is left as it is."""
        self._ask("stop", job)

    def delete(self, resource: Resource) -> None:
        """Ask for a deletion; what has gone, or cannot go now, shows when one looks again."""
        self._ask("delete", resource)

    def lift_expiry(self, resource: Resource) -> None:
        """Remove the tag ``baton:expires-at``: the resource is to stay."""
        self._sagemaker.delete_tags(ResourceArn=resource.arn, TagKeys=[TAG_EXPIRES_AT])

    def _describe(self, kind: str, name: str) -> Resource:
        snake, camel = _API_NAMES[kind]
        try:
            answer = getattr(self._sagemaker, f"describe_{snake}")(**{f"{camel}Name": name})
            tags = self._tags(answer[f"{camel}Arn"])
        except ClientError as error:
            if is_not_found(error):
                return Resource(kind, name)
            raise
        status, reason = answer.get(f"{camel}Status"), answer.get("FailureReason")
        if (kind, status) == ("tuning", "Failed"):
            reason = self._with_reason_of_a_training_job(name, reason)
        return Resource(
            kind,
            name,
            arn=answer[f"{camel}Arn"],
            status=status,
            reason=reason,
            secondary_status=answer.get("SecondaryStatus"),
            tags=tags,
        )

    def _with_reason_of_a_training_job(self, name: str, reason: str | None) -> str | None:
        """Return a tuning job's reason with that of one of its training jobs; its own only says that they failed.

        https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_HyperParameterTrainingJobSummary.html
        """
        try:
            answer = self._sagemaker.list_training_jobs_for_hyper_parameter_tuning_job(
                HyperParameterTuningJobName=name, StatusEquals="Failed", MaxResults=1
            )
        except ClientError as error:
            if is_denial(error) or is_not_found(error):
                logger.warning("A failed tuning job's training jobs cannot be listed.", extra={"reason": str(error)})
                return reason
            raise
        for job in answer["TrainingJobSummaries"]:
            if job.get("FailureReason") and job["FailureReason"] not in (reason or ""):
                return f"{reason or 'It failed.'} Training job {job['TrainingJobName']}: {job['FailureReason']}"
        return reason

    def _tags(self, arn: str) -> dict[str, str]:
        pages = self._sagemaker.get_paginator("list_tags").paginate(ResourceArn=arn)
        return {tag["Key"]: tag["Value"] for page in pages for tag in page["Tags"]}

    def _ask(self, verb: str, resource: Resource) -> None:
        snake, camel = _API_NAMES[resource.kind]
        try:
            getattr(self._sagemaker, f"{verb}_{snake}")(**{f"{camel}Name": resource.name})
        except ClientError as error:
            if error.response["Error"]["Code"] not in _REFUSALS:
                raise


def failure_of(resources: Mapping[str, Resource], run_id: str) -> dict[str, str] | None:
    """Return why the run failed as SageMaker itself states it, or None where nothing of the run is seen to have failed.

    The first in the pipeline's order wins, because the later ones build on it.
    """
    for kind in TELLING:
        resource = resources.get(kind)
        if resource and resource.belongs_to(run_id) and (words := _failure_words(resource)):
            return {"error": "JobFailed", "cause": f"{kind.capitalize()} {resource.name}: {words}"}
    return None


def _failure_words(resource: Resource) -> str | None:
    if resource.status == "Failed":
        return resource.reason or "it failed, and SageMaker gives no reason."
    if resource.secondary_status in _TIME_LIMITS:
        return resource.reason or f"SageMaker stopped it: {resource.secondary_status}."
    return None
