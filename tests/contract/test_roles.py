"""Who may assume each role, which of the shared policies each role has, and for whom services use what there is."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest

from tests.e2e.test_permissions import UNSEEN
from tests.support import resolved_template
from tests.support.permissions import as_list

REGIONS = ("eu-west-1", "cn-northwest-1")
EVERYTHING = {
    "DatasetBucketArns": "arn:aws:s3:::data",
    "EksClusterName": "flow",
    "KfpMode": "eks-proxy",
    "KfpSecretArn": "arn:aws:secretsmanager:eu-west-1:123456789012:secret:kfp",
    "KmsKeyArn": "arn:aws:kms:eu-west-1:123456789012:key/1",
    "VpcSecurityGroupIds": "sg-1",
    "VpcSubnetIds": "subnet-1",
}
"""Parameters with which there is every role and every policy that roles share."""
OTHERS = {
    "ExecutionEndRole": "events.amazonaws.com",
    "SageMakerRole": "sagemaker.amazonaws.com",
    "TrainingRunMachineRole": "states.amazonaws.com",
    "CleanUpRunMachineRole": "states.amazonaws.com",
}
"""The roles that are no function's, with who assumes them; test_pod_role.py is about that of the pods."""
FOR_US = {"StringEquals": {"aws:SourceAccount": "123456789012"}}
IN_THE_CLUSTERS_NETWORK = {"LaunchPipeline", "AwaitOutcome", "SettleOutcome", "CleanUp"}
"""The functions that call Kubeflow Pipelines."""
MACHINES = {"TrainingRunMachine", "CleanUpRunMachine"}


@cache
def of_type(region: str, kind: str) -> dict[str, dict[str, Any]]:
    """Return the properties of all resources of a type, by logical id."""
    return resolved_template.of_type(kind, EVERYTHING, region)


@pytest.mark.parametrize("region", REGIONS)
def test_each_function_has_a_role_of_its_own(region: str) -> None:
    functions = of_type(region, "AWS::Lambda::Function")
    assert len(functions) == 10
    for name, function in functions.items():
        assert function["Role"] == f"Arn-of-{name.removesuffix('Function')}Role"


@pytest.mark.parametrize("region", REGIONS)
def test_each_role_is_assumed_by_its_service_only(region: str) -> None:
    functions = [name.removesuffix("Function") for name in of_type(region, "AWS::Lambda::Function")]
    services = {f"{name}Role": "lambda.amazonaws.com" for name in functions} | OTHERS
    roles = of_type(region, "AWS::IAM::Role")
    assert set(roles) == {*services, "PipelineRole"}
    for name, service in services.items():
        [statement] = roles[name]["AssumeRolePolicyDocument"]["Statement"]
        assert (statement["Effect"], as_list(statement["Action"])) == ("Allow", ["sts:AssumeRole"]), name
        assert {kind: as_list(who) for kind, who in statement["Principal"].items()} == {"Service": [service]}, name
        assert statement.get("Condition") == (FOR_US if name == "SageMakerRole" else None), name


@pytest.mark.parametrize("region", REGIONS)
def test_each_shared_policy_is_attached_to_those_roles_only_that_it_is_for(region: str) -> None:
    """No recorded call tells whether a role needs what Lambda, the network or the delivery of logs do with it."""
    roles = of_type(region, "AWS::IAM::Role")
    holders = {
        policy: {name.removesuffix("Role") for name, role in roles.items() if _has(role, policy)}
        for policy in of_type(region, "AWS::IAM::ManagedPolicy")
    }
    functions = {name.removesuffix("Function") for name in of_type(region, "AWS::Lambda::Function")}
    assert holders == {
        "FunctionPolicy": functions,
        "MachinePolicy": MACHINES,
        "NetworkPolicy": IN_THE_CLUSTERS_NETWORK,
        "KfpSecretPolicy": IN_THE_CLUSTERS_NETWORK,
        "EksProxyPolicy": IN_THE_CLUSTERS_NETWORK,
        "RendezvousPolicy": {"AwaitOutcome", "SettleOutcome"},
        "DatasetBucketsPolicy": {"PlanRun", "PrepareData"},
        "KmsPolicy": functions | MACHINES | {"SageMaker", "Pipeline"},
        "OutputKeyPolicy": {"SageMaker"},
    }
    in_vpc = {name for name, function in of_type(region, "AWS::Lambda::Function").items() if function.get("VpcConfig")}
    assert in_vpc == {f"{name}Function" for name in IN_THE_CLUSTERS_NETWORK}


@pytest.mark.parametrize("region", REGIONS)
def test_a_service_uses_what_the_stack_has_only_for_this_account_or_for_a_rule_of_the_stack(region: str) -> None:
    rules = {f"Arn-of-{name}" for name in of_type(region, "AWS::Events::Rule")}
    documents = [each.get("PolicyDocument", {}) for each in resolved_template.resolved(EVERYTHING, region).values()]
    statements = [statement for document in documents for statement in document.get("Statement", [])]
    of_services = [statement for statement in statements if "Service" in statement.get("Principal", {})]
    assert len(of_services) == 2
    assert [statement for statement in of_services if not _is_for_us(statement.get("Condition", {}), rules)] == []
    permissions = of_type(region, "AWS::Lambda::Permission")
    assert len(permissions) == 2
    assert {permission.get("SourceArn") for permission in permissions.values()} <= rules


@pytest.mark.parametrize("region", REGIONS)
def test_what_the_stack_has_is_used_by_services_and_by_this_account_only(region: str) -> None:
    """A denial may name everybody; the test before knows for whom the services may act."""
    roles = of_type(region, "AWS::IAM::Role")
    policies = {
        name: list(_with_principals(resource))
        for name, resource in resolved_template.resolved(EVERYTHING, region).items()
        if name not in roles
    }
    assert {name for name, found in policies.items() if found} == {"QueuePolicy", "TopicPolicy", "RunBucketPolicy"}
    allowing = [each for found in policies.values() for each in found if each["Effect"] != "Deny"]
    assert [each for each in allowing if not _is_a_service_or_ours(each["Principal"])] == []
    permissions = of_type(region, "AWS::Lambda::Permission")
    assert {permission["Principal"] for permission in permissions.values()} == {"events.amazonaws.com"}


def _with_principals(value: Any) -> Iterator[dict[str, Any]]:
    """Yield the statements of resources' own policies, wherever they are in a resource."""
    if isinstance(value, dict) and {"Effect", "Principal"} <= set(value):
        yield value
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _with_principals(inner)


def _is_a_service_or_ours(principal: Any) -> bool:
    if not isinstance(principal, dict) or not set(principal) <= {"Service", "AWS"}:
        return False
    accounts = [who.split(":")[4] if who.startswith("arn:") else who for who in as_list(principal.get("AWS", []))]
    services = as_list(principal.get("Service", []))
    return set(accounts) <= {"123456789012"} and all(who.endswith(".amazonaws.com") for who in services)


BOUNDS: dict[str, tuple[str, dict[str, Any] | None]] = {
    "FunctionPolicy/WriteLogs": ("Arn-of-FunctionLogs", None),
    "SageMakerRole/PullBuiltInImages": ("arn:{partition}:ecr:{region}:*:repository/kmeans", None),
    "SageMakerRole/WriteJobMetrics": ("*", {"StringLike": {"cloudwatch:namespace": "/aws/sagemaker/*"}}),
}
"""The resource and the condition of each statement that only AWS's own services run into, so that no call shows it."""


@pytest.mark.parametrize("region", REGIONS)
@pytest.mark.parametrize("place", BOUNDS)
def test_what_only_services_ask_for_is_bounded(region: str, place: str) -> None:
    holder, _, sid = place.partition("/")
    found = resolved_template.resolved(EVERYTHING, region)[holder]
    documents = [found.get("PolicyDocument", {}), *(policy["PolicyDocument"] for policy in found.get("Policies", []))]
    [statement] = [each for document in documents for each in document.get("Statement", []) if each["Sid"] == sid]
    resource, condition = BOUNDS[place]
    partition = resolved_template.PLACES[region]["AWS::Partition"]
    assert statement["Resource"] == resource.format(partition=partition, region=region)
    assert statement.get("Condition") == condition


def test_the_bounds_that_no_call_runs_into_are_tested_here() -> None:
    assert set(BOUNDS) == {bound.partition(":")[0] for bound in UNSEEN}


def _is_for_us(condition: dict[str, Any], rules: set[str]) -> bool:
    sources = as_list(condition.get("ArnEquals", {}).get("aws:SourceArn", []))
    return condition == FOR_US or (bool(sources) and set(sources) <= rules)


def _has(role: dict[str, Any], policy: str) -> bool:
    return f"id-of-{policy}" in (role.get("ManagedPolicyArns") or [])
