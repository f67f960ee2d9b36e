"""Least privilege: every permission is needed by something that was seen to happen, or has a written reason."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from baton_local.cloud import EmbeddedCloud
from baton_local.deployment import STACK, Deployment, repository
from tests.e2e.conftest import Stage, succeeded
from tests.e2e.flows import Flows
from tests.support.permissions import Document, Mutation, Reasons, Recording
from tools.lint.iam import expanded, statements

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("permissions"), pytest.mark.timeout(1500)]

REGION, PROXY_REGION = "eu-west-1", "eu-central-1"
DATASETS = "other-datasets"


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recording]:
    """Every flow, played once on a cloud of their own, and a run that reaches Kubeflow Pipelines by the cluster."""
    with EmbeddedCloud(speed=400, cache_dir=repository() / ".cache") as cloud:
        stage = Stage(_deployed(cloud), tmp_path_factory.mktemp("flows"))
        for flow in Flows(stage, DATASETS).all():
            flow()
        log, documents = _get(cloud, "iam-log"), _documents(stage.deployment)
        more_log, more_documents = _through_the_cluster(cloud, tmp_path_factory.mktemp("proxy"))
        yield Recording.of([*log, *more_log], [*documents, *more_documents])


def _through_the_cluster(cloud: EmbeddedCloud, folder: Path) -> tuple[list[dict[str, Any]], list[Document]]:
    """Play a good run in mode eks-proxy; return what was asked of EKS, and the policy that is for it.

    The rest of that deployment is as the other one, and recorded there.
    """
    _get(cloud, "iam-log", "DELETE")
    # Its own service account: the one Kubeflow Pipelines has one association for each.
    parameters = {"KfpMode": "eks-proxy", "KfpUrl": "", "PipelineServiceAccount": "by-the-cluster"}
    parameters |= {"UploadPrefix": "in/of-mine/"}
    stage = Stage(Deployment.make(cloud, PROXY_REGION, parameters), folder)
    succeeded(stage.play())
    asked = [entry for entry in _get(cloud, "iam-log") if entry["action"].startswith("eks:")]
    return asked, [d for d in _documents(stage.deployment) if d.holder == "EksProxyPolicy"]


@pytest.fixture(scope="module")
def reasons() -> Reasons:
    return Reasons.read(Path(__file__).with_name("permissions_reasons.toml"))


def _deployed(cloud: EmbeddedCloud) -> Deployment:
    """Deploy with what a user may add: a bucket with data sets, and a secret for Kubeflow Pipelines."""
    cloud.client("s3", REGION).create_bucket(Bucket=DATASETS, CreateBucketConfiguration={"LocationConstraint": REGION})
    secret = cloud.client("secretsmanager", REGION).create_secret(Name="kfp", SecretString='{"token": "of-kfp"}')
    parameters = {"DatasetBucketArns": f"arn:aws:s3:::{DATASETS}", "KfpSecretArn": secret["ARN"]}
    return Deployment.make(cloud, REGION, parameters)


def _get(cloud: EmbeddedCloud, what: str, method: str = "GET") -> Any:
    request = urllib.request.Request(f"{cloud.url}/_baton/{what}", method=method)
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def _documents(deployment: Deployment) -> list[Document]:
    """Return the policies of the stack's roles, queues and functions."""
    described = deployment.client("cloudformation").describe_stack_resources(StackName=STACK)["StackResources"]
    ids = {resource["PhysicalResourceId"]: resource["LogicalResourceId"] for resource in described}
    found: dict[tuple[str, str], Document] = {}
    for role, policies in _get(deployment.cloud, "iam-policies").items():
        if role.rpartition("/")[2] not in ids:
            continue
        for policy in policies:
            name = policy["name"]
            managed = name.startswith("arn:")
            holder = ids.get(name, name.rpartition("/")[2]) if managed else ids[role.rpartition("/")[2]]
            document = Document(holder, policy["document"], frozenset({role}), aws_managed=":iam::aws:" in name)
            key = (name, "") if managed else (role, name)
            found[key] = replace(document, principals=document.principals | found.get(key, document).principals)
    return [*found.values(), *_resource_documents(deployment)]


def _resource_documents(deployment: Deployment) -> Iterator[Document]:
    queues = [deployment.outputs[f"{name}Url"] for name in ("OutcomeQueue", "DeadLetterQueue")]
    asked = [
        deployment.client("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
        for url in queues
    ]
    arns = frozenset(attributes["QueueArn"] for attributes in asked)
    yield Document("QueuePolicy", json.loads(asked[0]["Policy"]), resources=arns)
    for name in ("StartRunFunction", "JanitorFunction"):
        policy = json.loads(deployment.client("lambda").get_policy(FunctionName=deployment.physical_id(name))["Policy"])
        function = frozenset(statement["Resource"] for statement in policy["Statement"])
        yield Document(name, policy, resources=function)


def _unneeded(recording: Recording) -> list[Mutation]:
    return [mutation for mutation in recording.mutations() if not recording.needs(mutation)]


def test_the_replay_answers_as_the_cloud_did(recording: Recording) -> None:
    assert len(recording.asked) > 300
    assert recording.refused(recording.documents) == []


def test_nothing_was_denied_but_what_the_flows_forbade(recording: Recording) -> None:
    denied = {(role.rpartition("/")[2], action) for role, action in recording.denied}
    assert {action for _role, action in denied} == {"lambda:InvokeFunction", "states:StartExecution"}
    forbidden = ("events.amazonaws.com", "ExecutionEndRole", "StartRunRole")
    assert all(any(name in who for name in forbidden) for who, _action in denied)


def test_each_permission_is_needed_or_has_a_reason(recording: Recording, reasons: Reasons) -> None:
    assert [str(mutation) for mutation in _unneeded(recording) if not reasons.explain(mutation)] == []


def test_each_reason_is_for_a_permission_that_nothing_shows_to_be_needed(
    recording: Recording, reasons: Reasons
) -> None:
    unneeded = {(m.document.holder, m.sid, m.value) for m in _unneeded(recording) if m.kind == "action"}
    assert set(reasons.actions) - unneeded == _not_recorded(recording)
    for entry in [*reasons.actions.values(), *reasons.managed_policies.values()]:
        assert entry["reason"]
        assert entry["documentation"].startswith("https://docs.aws.amazon.com/")


def _not_recorded(recording: Recording) -> set[tuple[str, str, str]]:
    """Return what the template may give, and the recorded deployment does not have."""
    recorded = {(d.holder, s.get("Sid")) for d in recording.documents for s in d.content["Statement"]}
    template = expanded((repository() / "template.yaml").read_text("utf-8"))["Resources"]
    allowed = [s for s in statements(template) if not s.trust and s.raw["Effect"] == "Allow"]
    return {
        (s.where.split()[0], s.sid, action)
        for s in allowed
        for action in s.actions
        if (s.where.split()[0], s.sid) not in recorded
    }


def test_each_managed_policy_of_aws_has_a_reason(reasons: Reasons) -> None:
    template = json.dumps(expanded((repository() / "template.yaml").read_text("utf-8")))
    attached = {part.partition('"')[0].rpartition("/")[2] for part in template.split(":iam::aws:policy/")[1:]}
    assert attached == set(reasons.managed_policies)


def test_a_permission_too_many_is_found(recording: Recording, reasons: Reasons) -> None:
    wide = next(d for d in recording.documents if d.holder == "SmokeTestRole")
    extra = {"Sid": "Extra", "Effect": "Allow", "Action": ["s3:GetObject", "s3:DeleteBucket"], "Resource": "*"}
    wider = replace(wide, content={**wide.content, "Statement": [*wide.content["Statement"], extra]})
    documents = tuple(wider if d is wide else d for d in recording.documents)
    found = [str(m) for m in _unneeded(replace(recording, documents=documents)) if not reasons.explain(m)]
    assert "SmokeTestRole/Extra: action s3:DeleteBucket" in found
    assert "SmokeTestRole/Extra: action s3:GetObject" in found
    # What the wide statement covers as well is not needed by itself any more.
    assert "SmokeTestRole/ReadHeldOutRows: action s3:GetObject" in found
