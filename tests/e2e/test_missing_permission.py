"""With one permission taken from a role by hand, the run fails and names the function and the action."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from baton_local.deployment import STACK
from tests.e2e.conftest import Stage
from tests.support.permissions import as_list

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("second-stage")]


@contextmanager
def without(stage: Stage, role: str, action: str) -> Iterator[None]:
    """Take one action out of a role's own policies for a while."""
    iam, name = stage.deployment.client("iam"), stage.deployment.physical_id(role)
    names = iam.list_role_policies(RoleName=name)["PolicyNames"]
    before = {each: iam.get_role_policy(RoleName=name, PolicyName=each)["PolicyDocument"] for each in names}
    [changed] = [each for each in names if any(action in as_list(s["Action"]) for s in before[each]["Statement"])]
    _put(iam, name, changed, _without(before[changed], action))
    try:
        yield
    finally:
        _put(iam, name, changed, before[changed])


def _put(iam: Any, role: str, policy: str, document: dict[str, Any]) -> None:
    iam.put_role_policy(RoleName=role, PolicyName=policy, PolicyDocument=json.dumps(document))


def _without(document: dict[str, Any], action: str) -> dict[str, Any]:
    """Return a policy without an action, and without the statements that gave nothing else."""
    left = [
        {**statement, "Action": [other for other in as_list(statement["Action"]) if other != action]}
        for statement in document["Statement"]
    ]
    return {**document, "Statement": [statement for statement in left if statement["Action"]]}


@pytest.mark.parametrize(
    ("role", "function", "action", "state"),
    [
        ("PlanRunRole", "PlanRunFunction", "dynamodb:UpdateItem", "Plan run"),
        ("PrepareDataRole", "PrepareDataFunction", "s3:GetObjectVersion", "Prepare data"),
        ("SmokeTestRole", "SmokeTestFunction", "sagemaker:InvokeEndpoint", "Smoke-test endpoint"),
    ],
)
def test_a_missing_permission_is_named(stage: Stage, role: str, function: str, action: str, state: str) -> None:
    stage.heal()
    with without(stage, role, action):
        result = stage.play()
    assert result.status == "FAILED"
    assert result.error == "AccessDenied"
    assert result.cause is not None
    assert f"is not authorized to perform: {action}" in result.cause
    assert f"assumed-role/{STACK}-{role}" in result.cause
    assert f"{STACK}-{function}" in result.cause
    assert state in [visit["name"] for visit in result.states]
    assert result.leftovers == []
