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
from tests.support import key_policy
from tests.support.permissions import Document, Mutation, Reasons, Recording, as_list, counts_for
from tests.support.strangers import PLACES, Strange, allowed, strange, widened
from tools.lint.iam import expanded, statements

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("permissions"), pytest.mark.timeout(1500)]

REGION, PROXY_REGION = "eu-west-1", "eu-central-1"
DATASETS = "other-datasets"
KEY_POLICY = {"Version": "2012-10-17", "Statement": key_policy.statements("123456789012", PROXY_REGION)}
"""What docs/security.md asks for, without which no event comes; roles need no permission of the key's policy here."""
_ROW = "dynamodb/table: dynamodb:LeadingKeys of another"
_TAG = "aws:RequestTag/baton:run-id"
_ALL_ROWS = "The rendezvous keeps the waits, which are rows of other kinds than the runs."
_OWN_CONFIG = "Its tags are the endpoint's; the configuration is bounded by its name, and was made with the run's tag."
_LISTING = "Keys may be listed, not read; listing unfinished uploads knows no condition on the prefix."
_DATASETS = "A data set may be anywhere in the run bucket: the input of an execution says where."
_SWEEP = "What a step wrote twice or left unfinished may be in any folder of the run; the code keeps what is current."
_READ_BACK = "What else of a run SageMaker reads for its jobs nobody sees from here; it is the run's own."
BEYOND = {
    f"AwaitOutcomeRole dynamodb:GetItem {_ROW}": _ALL_ROWS,
    f"AwaitOutcomeRole dynamodb:UpdateItem {_ROW}": _ALL_ROWS,
    f"SettleOutcomeRole dynamodb:GetItem {_ROW}": _ALL_ROWS,
    f"SettleOutcomeRole dynamodb:UpdateItem {_ROW}": _ALL_ROWS,
    f"PipelineRole sagemaker:CreateEndpoint sagemaker/endpoint-config: {_TAG} of another": _OWN_CONFIG,
    f"PipelineRole sagemaker:CreateEndpoint sagemaker/endpoint-config: no {_TAG}": _OWN_CONFIG,
    "CleanUpRole s3:ListBucket s3: s3:prefix of another": _LISTING,
    "CleanUpRole s3:ListBucket s3: no s3:prefix": _LISTING,
    **{
        f"CleanUpRole s3:{action} s3: s3:prefix of {place}": _LISTING
        for action in ("ListBucket", "ListBucketMultipartUploads", "ListBucketVersions")
        for place in ("uploads", "a run of another stack")
    },
    **{
        f"{role} s3:{action} s3: {place}": _DATASETS
        for role in ("PlanRunRole", "PrepareDataRole")
        for action in ("GetObject", "GetObjectVersion")
        for place in PLACES.keys() - {"an upload", "elsewhere"}
    },
    **{
        f"CleanUpRole s3:{action} s3: a run's {folder}/": _SWEEP
        for action, folders in {
            "AbortMultipartUpload": ("data", "input", "model", "predictions", "report"),
            "DeleteObjectVersion": ("model", "predictions", "report"),
        }.items()
        for folder in folders
    },
    **{
        f"CleanUpRole s3:{action} s3: more in {name}": _SWEEP
        for action, folders in {
            "AbortMultipartUpload": ["tuning"],
            "DeleteObjectVersion": ["data", "input", "tuning"],
        }.items()
        for folder in folders
        for name in (f"/*{folder}/", f"/{folder}*/")
    },
    **{
        f"SageMakerRole s3:GetObject s3: a run's {folder}/": _READ_BACK
        for folder in ("predictions", "report", "tuning")
    },
    **{
        f"SageMakerRole s3:GetObject s3: more in {name}": _READ_BACK
        for folder in ("data", "input", "model")
        for name in (f"/*{folder}/", f"/{folder}*/")
    },
}
"""What is a stranger's and allowed all the same, and why."""
_NOBODY = "Nobody asks for it in the embedded cloud: see permissions_reasons.toml."
UNSEEN = {
    "SageMakerRole/PullBuiltInImages: bound resource": _NOBODY,
    "SageMakerRole/PullBuiltInImages: bound names like repository/kmeans": _NOBODY,
    "SageMakerRole/WriteJobMetrics: bound StringLike cloudwatch:namespace": _NOBODY,
    "FunctionPolicy/WriteLogs: bound resource": _NOBODY,
    "FunctionPolicy/WriteLogs: bound names like log-group:/aws/lambda/baton:*": _NOBODY,
}
"""Bounds that nothing recorded runs into, and why; tests/contract/test_roles.py knows what they must be."""
BY_THE_CLUSTER = ("EksProxyPolicy", "KmsPolicy", "OutputKeyPolicy")


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
    """Play a good run in mode eks-proxy and with a KMS key; return what was asked of EKS and KMS, and their policies.

    The rest of that deployment is as the other one, and recorded there.
    """
    _get(cloud, "iam-log", "DELETE")
    # Its own service account: the one Kubeflow Pipelines has one association for each.
    parameters = {"KfpMode": "eks-proxy", "KfpUrl": "", "PipelineServiceAccount": "by-the-cluster"}
    key = cloud.client("kms", PROXY_REGION).create_key(Policy=json.dumps(KEY_POLICY))["KeyMetadata"]["Arn"]
    parameters |= {"UploadPrefix": "in/of-mine/", "KmsKeyArn": key}
    stage = Stage(Deployment.make(cloud, PROXY_REGION, parameters), folder)
    succeeded(stage.play())
    log = [entry for entry in _get(cloud, "iam-log") if ":role/" in entry["role"]]
    asked = [entry for entry in log if entry["action"].startswith(("eks:", "kms:"))]
    return asked, [d for d in _documents(stage.deployment) if d.holder in BY_THE_CLUSTER]


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


def test_each_reason_for_an_attachment_is_for_one_that_nothing_shows_to_be_needed(
    recording: Recording, reasons: Reasons
) -> None:
    unneeded = [(m.document.holder, m.value) for m in _unneeded(recording) if m.kind == "attachment"]
    for (holder, role), entry in reasons.attachments.items():
        assert any(holder == one and f"/baton-{role}-" in arn for one, arn in unneeded), role
        assert entry["reason"]
        assert entry["documentation"].startswith("https://docs.aws.amazon.com/")


def test_each_reason_for_a_value_is_for_one_that_nothing_shows_to_be_needed(
    recording: Recording, reasons: Reasons
) -> None:
    unneeded = [(m.document.holder, m.sid, m.value) for m in _unneeded(recording) if m.kind == "value"]
    for (holder, sid, value), entry in reasons.values.items():
        assert any((holder, sid) == one[:2] and one[2].startswith(value) for one in unneeded), value
        assert entry["reason"]
        assert entry["documentation"].startswith("https://docs.aws.amazon.com/")


def test_nobody_reaches_what_is_a_strangers(recording: Recording) -> None:
    asked = list(strange(recording))
    assert len(asked) > 150
    assert {"of another region", "of another account", "a sibling's"} <= {one.what for one in asked}
    assert allowed(recording, asked, recording.documents) == set(BEYOND)


def test_each_bound_that_is_taken_away_is_noticed(recording: Recording) -> None:
    asked = list(strange(recording))
    assert {str(m) for m in widened(recording) if not _noticed(recording, asked, m)} == set(UNSEEN)


def _noticed(recording: Recording, asked: list[Strange], mutation: Mutation) -> bool:
    actions = as_list(mutation.statement["Action"])
    concerned = [
        one
        for one in asked
        if one.question.action in actions and counts_for(mutation.document, one.caller, one.question)
    ]
    others = tuple(d for d in recording.documents if d is not mutation.document)
    return bool(allowed(recording, concerned, (*others, mutation.replacement)) - set(BEYOND))


def test_each_managed_policy_of_aws_has_a_reason(reasons: Reasons) -> None:
    template = json.dumps(expanded((repository() / "template.yaml").read_text("utf-8")))
    attached = {part.partition('"')[0].rpartition("/")[2] for part in template.split(":iam::aws:policy/")[1:]}
    assert attached == set(reasons.managed_policies)


def test_a_permission_too_many_is_found(recording: Recording, reasons: Reasons) -> None:
    wide = next(d for d in recording.documents if d.holder == "SmokeTestRole")
    condition = {"StringEqualsIfExists": {"s3:DataAccessPointAccount": ["123456789012", "210987654321"]}}
    extra = {"Sid": "Extra", "Effect": "Allow", "Action": ["s3:GetObject", "s3:DeleteBucket"], "Resource": "*"}
    extra["Condition"] = condition
    wider = replace(wide, content={**wide.content, "Statement": [*wide.content["Statement"], extra]})
    documents = tuple(wider if d is wide else d for d in recording.documents)
    found = [str(m) for m in _unneeded(replace(recording, documents=documents)) if not reasons.explain(m)]
    assert "SmokeTestRole/Extra: action s3:DeleteBucket" in found
    assert "SmokeTestRole/Extra: action s3:GetObject" in found
    assert "SmokeTestRole/Extra: value s3:DataAccessPointAccount 123456789012" in found
    # What the wide statement covers as well is not needed by itself any more.
    assert "SmokeTestRole/ReadHeldOutRows: action s3:GetObject" in found
