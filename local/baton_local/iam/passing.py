"""Where API calls hand a role to a service: ``iam:PassRole``, and the service that must be trusted to assume it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from baton_local.iam.calls import Call


@dataclass(frozen=True)
class Passed:
    """A role that a call hands over, and the principal of the service that gets it."""

    role_arn: str
    service: str


_ROLES: dict[tuple[str, str], tuple[str, tuple[str, ...]]] = {
    ("lambda", "CreateFunction"): ("lambda.amazonaws.com", ("Role",)),
    ("lambda", "UpdateFunctionConfiguration"): ("lambda.amazonaws.com", ("Role",)),
    ("stepfunctions", "CreateStateMachine"): ("states.amazonaws.com", ("roleArn",)),
    ("stepfunctions", "UpdateStateMachine"): ("states.amazonaws.com", ("roleArn",)),
    ("sagemaker", "CreateTrainingJob"): ("sagemaker.amazonaws.com", ("RoleArn",)),
    ("sagemaker", "CreateHyperParameterTuningJob"): (
        "sagemaker.amazonaws.com",
        ("TrainingJobDefinition.RoleArn", "TrainingJobDefinitions.RoleArn"),
    ),
    ("sagemaker", "CreateModel"): ("sagemaker.amazonaws.com", ("ExecutionRoleArn",)),
    ("sagemaker", "CreateProcessingJob"): ("sagemaker.amazonaws.com", ("RoleArn",)),
    ("sagemaker", "CreatePipeline"): ("sagemaker.amazonaws.com", ("RoleArn",)),
    ("events", "PutRule"): ("events.amazonaws.com", ("RoleArn",)),
    ("events", "PutTargets"): ("events.amazonaws.com", ("Targets.RoleArn",)),
    ("scheduler", "CreateSchedule"): ("scheduler.amazonaws.com", ("Target.RoleArn",)),
    ("scheduler", "UpdateSchedule"): ("scheduler.amazonaws.com", ("Target.RoleArn",)),
    ("pipes", "CreatePipe"): ("pipes.amazonaws.com", ("RoleArn",)),
    ("eks", "CreatePodIdentityAssociation"): ("pods.eks.amazonaws.com", ("roleArn",)),
    ("eks", "UpdatePodIdentityAssociation"): ("pods.eks.amazonaws.com", ("roleArn",)),
    ("eks", "CreateCluster"): ("eks.amazonaws.com", ("roleArn",)),
    ("cloudformation", "CreateStack"): ("cloudformation.amazonaws.com", ("RoleARN",)),
    ("cloudformation", "UpdateStack"): ("cloudformation.amazonaws.com", ("RoleARN",)),
    ("cloudformation", "DeleteStack"): ("cloudformation.amazonaws.com", ("RoleARN",)),
    ("cloudformation", "CreateChangeSet"): ("cloudformation.amazonaws.com", ("RoleARN",)),
}
"""(botocore's service, operation): the service that gets the role, and where in the input the role's ARN is."""


def _at(value: Any, path: list[str]) -> Iterator[str]:
    if isinstance(value, list):
        for item in value:
            yield from _at(item, path)
    elif not path:
        if isinstance(value, str):
            yield value
    elif isinstance(value, dict) and path[0] in value:
        yield from _at(value[path[0]], path[1:])


def passed_roles(call: Call) -> list[Passed]:
    """Return the roles that the call hands to a service, in the input's order."""
    service, paths = _ROLES.get((call.service, call.operation), ("", ()))
    roles = [role for path in paths for role in _at(dict(call.params), path.split("."))]
    return [Passed(role, service) for role in dict.fromkeys(roles)]
