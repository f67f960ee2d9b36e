"""With one permission taken out of the template, the run fails and names the function and the action."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from baton_local.cloud import EmbeddedCloud
from baton_local.cloudformation.templates import load
from baton_local.deploy import Build, build, deploy, runtime_at_hand
from baton_local.deployment import QUICK as QUICK_STACK
from baton_local.deployment import STACK, Deployment, repository
from tests.e2e.conftest import Stage

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("missing-permission")]

REGION = "eu-west-1"


@contextmanager
def without(built: Build, role: str, action: str) -> Iterator[Build]:
    """Give a copy of a built template without one action of a role; it is beside the artefacts that it names."""
    template = load(built.template.read_text())
    assert _remove(template["Resources"][role]["Properties"]["Policies"], action) == 1
    copy = built.template.with_name(f"without-{role}.json")
    copy.write_text(json.dumps(template))
    try:
        yield Build(copy, built.runtime)
    finally:
        copy.unlink()


def _remove(policies: list[dict[str, Any]], action: str) -> int:
    """Remove an action from every statement; return how often it was there."""
    removed = 0
    for document in (policy["PolicyDocument"] for policy in policies):
        for statement in list(document["Statement"]):
            actions = [statement["Action"]] if isinstance(statement["Action"], str) else statement["Action"]
            removed += action in actions
            statement["Action"] = [other for other in actions if other != action]
        document["Statement"] = [statement for statement in document["Statement"] if statement["Action"]]
    return removed


@pytest.mark.parametrize(
    ("role", "function", "action", "state"),
    [
        ("PlanRunRole", "PlanRunFunction", "dynamodb:UpdateItem", "Plan run"),
        ("SmokeTestRole", "SmokeTestFunction", "sagemaker:InvokeEndpoint", "Smoke-test endpoint"),
    ],
)
def test_a_missing_permission_is_named(role: str, function: str, action: str, state: str, tmp_path: Path) -> None:
    built = build(repository(), repository() / ".aws-sam" / "baton-local", runtime_at_hand())
    with EmbeddedCloud(speed=400, cache_dir=repository() / ".cache") as cloud, without(built, role, action) as changed:
        parameters = {"KfpUrl": cloud.kfp_url, "EksClusterName": "embedded", "PodCredentials": "pod-identity"}
        outputs = deploy(cloud, STACK, REGION, {**parameters, **QUICK_STACK}, changed)
        result = Stage(Deployment(cloud, REGION, outputs), tmp_path).play()
    assert result.status == "FAILED"
    assert result.error == "AccessDenied"
    assert result.cause is not None
    assert f"is not authorized to perform: {action}" in result.cause
    assert f"assumed-role/{STACK}-{role}" in result.cause
    assert f"{STACK}-{function}" in result.cause
    assert state in [visit["name"] for visit in result.states]
    assert result.leftovers == []
