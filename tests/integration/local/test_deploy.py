"""The repository's own template, built by the real SAM CLI and deployed onto the embedded cloud."""

from __future__ import annotations

import json
import re
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from baton_local import deploy
from baton_local.cloudformation.templates import load
from tests.integration.local.embedded import Cloud, running

ROOT = Path(__file__).parents[3]
PARAMETERS = {"KfpUrl": "http://localhost:1", "EksClusterName": "embedded", "OidcProvider": "oidc.example.com/id/1"}


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A copy of what is deployed, so that tests may change it."""
    copy = tmp_path_factory.mktemp("source")
    for name in ("functions", "layers", "pipelines", "statemachine"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "template.yaml", copy)
    return copy


@pytest.fixture(scope="module")
def built(source):
    return deploy.build(source, source / ".baton")


@pytest.fixture(scope="module")
def cloud(tmp_path_factory):
    with running(tmp_path_factory.mktemp("cloud"), "iam", "lambda_", "cloudformation") as running_cloud:
        yield running_cloud


def test_an_unchanged_tree_is_not_built_again(source, built):
    before = built.template.stat().st_mtime_ns

    again = deploy.build(source, source / ".baton")

    assert again == built
    assert again.template.stat().st_mtime_ns == before


def test_of_two_builds_of_a_tree_at_once_one_waits_for_the_other(tmp_path, monkeypatch):
    """Both would write into one cache of sam's."""
    (tmp_path / "template.yaml").write_text("Resources: {}")
    building = []

    def run_build(_source, work, _runtime):
        building.append(work)
        time.sleep(0.3)
        (work / "template.yaml").touch()

    monkeypatch.setattr(deploy, "_run_build", run_build)
    with ThreadPoolExecutor(3) as pool:
        builds = list(pool.map(lambda _: deploy.build(tmp_path, tmp_path / "out"), range(3)))
    assert len(building) == 1
    assert builds[0].template.is_file()
    assert builds == [builds[0]] * 3


def test_a_changed_function_has_another_fingerprint(source):
    before = deploy.fingerprint(source, "python3.13")
    app = source / "functions" / "janitor" / "app.py"
    text = app.read_text()
    app.write_text(text + "\n# changed\n")
    try:
        assert deploy.fingerprint(source, "python3.13") != before
    finally:
        app.write_text(text)
    assert deploy.fingerprint(source, "python3.13") == before
    assert deploy.fingerprint(source, "python3.12") != before


def test_a_failed_build_says_what_sam_said(tmp_path):
    (tmp_path / "template.yaml").write_text("Transform: AWS::Serverless-2016-10-31\nResources: nonsense\n")
    with pytest.raises(deploy.DeployError, match="sam build failed"):
        deploy.build(tmp_path, tmp_path / "out")


@pytest.mark.parametrize(("region", "partition"), [("eu-west-1", "aws"), ("cn-northwest-1", "aws-cn")])
def test_the_template_deploys_and_goes(cloud: Cloud, built, region, partition):
    outputs = deploy.deploy(cloud, "baton", region, PARAMETERS, built)

    assert outputs["StateMachineArn"] == (
        f"arn:{partition}:states:{region}:123456789012:stateMachine:baton-training-run"
    )
    functions = cloud.client("lambda", region).list_functions()["Functions"]
    assert {f["Runtime"] for f in functions} == {built.runtime}
    assert all(f["Layers"] for f in functions)
    assert len({f["Role"] for f in functions}) == len(functions)
    policies = cloud.get("/_baton/iam-policies")
    assert all(policies[f["Role"]] for f in functions)
    machine = cloud.client("stepfunctions", region).describe_state_machine(stateMachineArn=outputs["StateMachineArn"])
    assert (
        f"arn:{partition}:states:::lambda" in machine["definition"]
        or f"arn:{partition}:lambda:" in machine["definition"]
    )
    assert "${" not in machine["definition"]

    kept = deploy.teardown(cloud, "baton", region)

    assert any(outputs["RunBucketName"] == k for k in kept)
    assert not cloud.client("lambda", region).list_functions()["Functions"]
    assert deploy.teardown(cloud, "baton", region) == []


def test_deploying_again_changes_nothing_and_an_update_changes_the_function(cloud: Cloud, source, built):
    region = "us-east-1"
    deploy.deploy(cloud, "again", region, PARAMETERS, built)
    lambdas = cloud.client("lambda", region)
    before = {f["FunctionName"]: f["CodeSha256"] for f in lambdas.list_functions()["Functions"]}
    events = len(cloud.client("cloudformation", region).describe_stack_events(StackName="again")["StackEvents"])

    deploy.deploy(cloud, "again", region, PARAMETERS, built)
    assert len(cloud.client("cloudformation", region).describe_stack_events(StackName="again")["StackEvents"]) == events

    extra, packaged = built.folder / "JanitorFunction" / "extra.py", built.folder / ".packages" / "JanitorFunction.zip"
    extra.write_text("X = 1\n")
    packaged.unlink()
    try:
        deploy.deploy(cloud, "again", region, PARAMETERS, built)
    finally:
        extra.unlink()
        packaged.unlink()
    after = {f["FunctionName"]: f["CodeSha256"] for f in lambdas.list_functions()["Functions"]}
    assert [name for name in before if before[name] != after[name]] == [n for n in before if "Janitor" in n]
    deploy.teardown(cloud, "again", region)


def test_a_parameter_reaches_the_functions_that_the_state_machine_calls(cloud: Cloud, built):
    region = "us-west-2"
    outputs = deploy.deploy(cloud, "given", region, PARAMETERS, built)
    lambdas, states = cloud.client("lambda", region), cloud.client("stepfunctions", region)

    def called() -> dict[str, str]:
        definition = states.describe_state_machine(stateMachineArn=outputs["StateMachineArn"])["definition"]
        arns = set(re.findall(r"arn:aws:lambda:[^\"]+", definition))
        return {arn: lambdas.get_function_configuration(FunctionName=arn)["Environment"]["Variables"] for arn in arns}

    first = called()
    deploy.deploy(cloud, "given", region, {**PARAMETERS, "KfpUrl": "http://elsewhere"}, built)
    second = called()
    assert len(first) == len(second) == 7
    assert not set(first) & set(second)
    assert {variables["BATON_KFP_URL"] for variables in second.values()} == {"http://elsewhere"}
    # A run that is under way calls the versions that there were when it began.
    assert all(
        lambdas.get_function_configuration(FunctionName=arn)["Environment"]["Variables"] == first[arn] for arn in first
    )
    deploy.deploy(cloud, "given", region, {**PARAMETERS, "KfpUrl": "http://elsewhere", "HeartbeatSeconds": "60"}, built)
    assert [name for name in called() if name not in second] == [name for name in called() if "PlanRun" in name]
    deploy.teardown(cloud, "given", region)


def test_a_function_whose_role_may_not_set_events_aside_is_refused(cloud: Cloud, built):
    """As on AWS: so the permission is needed by the first deployment, not on the day on which a start fails."""
    template = load(built.template.read_text("utf-8"))
    [policy] = template["Resources"]["StartRunRole"]["Properties"]["Policies"]
    statements = policy["PolicyDocument"]["Statement"]
    statements[:] = [statement for statement in statements if statement["Sid"] != "SetFailedUploadsAside"]
    changed = built.folder / "refused.json"
    changed.write_text(json.dumps(template), "utf-8")
    with pytest.raises(deploy.DeployError, match="does not have permissions to call SendMessage on SQS"):
        deploy.deploy(cloud, "lacking", "eu-west-2", PARAMETERS, replace(built, template=changed))


@pytest.mark.parametrize(
    ("given", "refusal"),
    [
        ({}, "KfpMode direct needs KfpUrl"),
        ({**PARAMETERS, "VpcSubnetIds": "subnet-1,subnet-2"}, "VpcSubnetIds needs VpcSecurityGroupIds"),
        ({**PARAMETERS, "VpcSecurityGroupIds": "sg-1"}, "VpcSecurityGroupIds needs VpcSubnetIds"),
    ],
)
def test_a_rule_of_the_template_refuses_wrong_parameters(cloud: Cloud, built, given, refusal):
    with pytest.raises(deploy.DeployError, match=refusal):
        deploy.deploy(cloud, "refused", "eu-west-1", given, built)


def test_functions_in_a_vpc_with_reserved_concurrency(cloud: Cloud, built):
    region = "eu-west-3"
    given = {"VpcSubnetIds": "subnet-1,subnet-2", "VpcSecurityGroupIds": "sg-1", "SettleOutcomeConcurrency": "12"}
    deploy.deploy(cloud, "inside", region, {**PARAMETERS, **given}, built)
    lambdas = cloud.client("lambda", region)
    functions = {f["FunctionName"]: f for f in lambdas.list_functions()["Functions"]}
    inside = {name for name, f in functions.items() if f.get("VpcConfig", {}).get("SubnetIds")}
    assert len(inside) == 4
    policies = cloud.get("/_baton/iam-policies")
    for name, function in functions.items():
        documents = str(policies[function["Role"]])
        assert ("ec2:CreateNetworkInterface" in documents) == (name in inside)
        # Whose logs it may write: its own group's, and no other's.
        assert "logs:CreateLogGroup" not in documents
    reserved = {
        name: lambdas.get_function_concurrency(FunctionName=name).get("ReservedConcurrentExecutions")
        for name in functions
    }
    assert [(name.split("-")[1][:6], n) for name, n in reserved.items() if n] == [("Settle", 12)]
    deploy.teardown(cloud, "inside", region)
