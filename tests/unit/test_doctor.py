"""``baton doctor`` on fake accounts: everything that can be wrong, and the command that mends it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import EndpointConnectionError, NoCredentialsError

from baton.errors import KfpRefused, KfpUnavailable
from baton.kfp.models import Health
from baton_cli import checks, doctor
from baton_cli.checks import OK, UNKNOWN, WRONG, Finding, Patient, examine
from baton_cli.main import main, parser
from tests.support.aws_command import AwsCommand
from tests.support.aws_fake import FakeAws, refusal
from tests.support.kfp_fake import Reply, as_json, serving

ROOT = Path(__file__).parents[2]
REGION = "eu-west-1"
ACCOUNT = "111122223333"
HEALTHY = {"tag_name": "2.17.0", "commit_sha": "abc", "multi_user": False}
RULES = ("TrainingJobRule", "UploadRule")
MACHINE = f"arn:aws:states:{REGION}:{ACCOUNT}:stateMachine:baton-training-run"
CLIENTS = [f"arn:aws:iam::{ACCOUNT}:role/baton-{name}" for name in ("LaunchPipelineRole-1", "CleanUpRole-1")]
CALLED = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:baton-launch:7"
DEFINITION = {
    "States": {
        "Plan run": {"Type": "Task", "Resource": CALLED.replace("launch", "plan")},
        "Launch pipeline": {"Type": "Task", "Resource": CALLED},
    }
}
TRUST = {
    "Statement": [{"Effect": "Allow", "Principal": {"Service": "sagemaker.amazonaws.com"}, "Action": "sts:AssumeRole"}]
}


@pytest.fixture
def health() -> dict[str, Any]:
    """What the Kubeflow Pipelines server says of itself; ``status`` is its HTTP status."""
    return {"status": 200, "body": HEALTHY}


@pytest.fixture
def kfp_url(health: dict[str, Any]) -> Iterator[str]:
    def answer(_method: str, _target: str, _headers: Any, _body: bytes) -> Reply:
        if isinstance(health["body"], str):
            return health["status"], {"Content-Type": "text/html"}, health["body"].encode()
        return as_json(health["body"], health["status"])

    with serving(answer) as port:
        yield f"http://localhost:{port}"


def quotas(value: float = 5.0) -> list[dict[str, Any]]:
    uses = ("training job usage", "transform job usage", "endpoint usage")
    return [
        {"Quotas": [{"QuotaName": f"ml.m5.large for {use}", "QuotaCode": f"L-{i}ABCDEF0", "Value": value}]}
        for i, use in enumerate(uses)
    ]


@pytest.fixture
def aws(kfp_url: str) -> FakeAws:
    """An account in which nothing is wrong."""
    outputs = {
        "RunBucketName": "run-bucket",
        "DeadLetterQueueUrl": "https://sqs/dead",
        "SageMakerRoleArn": f"arn:aws:iam::{ACCOUNT}:role/jobs",
        "StateMachineArn": MACHINE,
        "KfpClientRoleArns": ",".join(CLIENTS),
    }
    resources = {
        **{rule: f"baton-{rule}-1A" for rule in RULES},
        "LaunchPipelineFunction": "baton-launch",
        "OutcomeQueueMapping": "11111111-2222-3333-4444-555555555555",
        "PodIdentity": "a-1",
        "RunBucketPolicy": "run-bucket",
    }
    environment = {
        "BATON_PARTITION": "aws",
        "BATON_URL_SUFFIX": "amazonaws.com",
        "BATON_KFP_URL": kfp_url,
        "BATON_KFP_CLUSTER": "flow",
    }
    summaries = [{"LogicalResourceId": k, "PhysicalResourceId": v} for k, v in resources.items()]
    stack = {
        "StackStatus": "UPDATE_COMPLETE",
        "Outputs": [{"OutputKey": k, "OutputValue": v} for k, v in outputs.items()],
    }
    return FakeAws(
        {
            "sts.get_caller_identity": {"Arn": f"arn:aws:sts::{ACCOUNT}:assumed-role/admin/me", "Account": ACCOUNT},
            "service-quotas.list_service_quotas": quotas(),
            "cloudformation.describe_stacks": {"Stacks": [stack]},
            "cloudformation.list_stack_resources": {"StackResourceSummaries": summaries},
            "s3.get_bucket_notification_configuration": {"EventBridgeConfiguration": {}, "ResponseMetadata": {}},
            "s3.get_bucket_versioning": {"Status": "Enabled"},
            "events.describe_rule": {"State": "ENABLED"},
            "sqs.get_queue_attributes": {"Attributes": {"ApproximateNumberOfMessages": "0"}},
            "lambda.get_event_source_mapping": {"State": "Enabled"},
            "lambda.get_function_configuration": {"Environment": {"Variables": environment}},
            "stepfunctions.describe_state_machine": {"definition": json.dumps(DEFINITION)},
            "iam.get_role": {"Role": {"AssumeRolePolicyDocument": TRUST}},
            "eks.describe_cluster": {"cluster": {"status": "ACTIVE"}},
            "eks.describe_addon": {"addon": {"status": "ACTIVE"}},
        }
    )


def look(aws: FakeAws, region: str = REGION, **given: str) -> list[Finding]:
    return list(examine(Patient(aws, region, "baton", doctor.packaged(), **given)))


def the(findings: list[Finding], check: str, state: str) -> Finding:
    """Return the one finding of a check that is in this state."""
    [found] = [finding for finding in findings if (finding.check, finding.state) == (check, state)]
    return found


def stack_of(aws: FakeAws) -> dict[str, Any]:
    stack: dict[str, Any] = aws.answers["cloudformation.describe_stacks"]["Stacks"][0]
    return stack


def understood(command: str) -> None:
    """Fail unless every part of a command is one that its program takes."""
    for part in command.replace("&&", "\n").replace(" & ", "\n").splitlines():
        words = shlex.split(part)
        if words[0] == "aws" and words[1] != "configure":
            AwsCommand(part)
        elif words[0] == ".venv/bin/baton":
            parser().parse_args(words[1:])
        assert words[0] not in ("baton", "sam"), f"{part}: not as the README writes it"


def test_a_healthy_account_has_no_complaint(aws: FakeAws) -> None:
    findings = look(aws)
    assert {finding.state for finding in findings} == {OK}
    checks = [finding.check for finding in findings]
    assert checks == [
        *("identity", "image", "quota", "quota", "quota", "plan", "stack", "notifications", "versions"),
        *("rule", "rule", "dead letters", "queue mapping", "role", "cluster", "pod identity", "kubeflow pipelines"),
    ]
    assert the(findings, "kubeflow pipelines", OK).detail == "2.17.0, single-user, direct"
    assert not any(finding.mend for finding in findings)


def test_the_plan_tells_what_costs(aws: FakeAws) -> None:
    detail = the(look(aws), "plan", OK).detail
    assert "9 tuning jobs and one training job" in detail
    assert "2 x ml.m5.large (training)" in detail
    assert "endpoint afterwards: delete" in detail


def _attribute(value: str) -> dict[str, Any]:
    return {"Attributes": {"ApproximateNumberOfMessages": value}}


FOREIGN_TRUST = {
    "Statement": {"Effect": "Allow", "Principal": {"Service": ["ec2.amazonaws.com"]}, "Action": "sts:AssumeRole"}
}
SAID = {
    "quota": ("service-quotas.list_service_quotas", quotas(1.0), "request-service-quota-increase"),
    "notifications": ("s3.get_bucket_notification_configuration", {}, "put-bucket-notification-configuration"),
    "versions": ("s3.get_bucket_versioning", {"Status": "Suspended"}, "put-bucket-versioning --bucket run-bucket"),
    "rule": ("events.describe_rule", {"State": "DISABLED"}, "enable-rule --name baton-UploadRule-1A"),
    "dead letters": ("sqs.get_queue_attributes", _attribute("3"), ".venv/bin/baton redrive --stack-name baton"),
    "queue mapping": ("lambda.get_event_source_mapping", {"State": "Disabled"}, "--uuid 11111111-2222"),
    "role": ("iam.get_role", {"Role": {"AssumeRolePolicyDocument": FOREIGN_TRUST}}, "--role-name jobs"),
    "cluster": ("eks.describe_cluster", {"cluster": {"status": "CREATING"}}, "wait cluster-active --name flow"),
    "pod identity": ("eks.describe_addon", refusal("ResourceNotFoundException"), "--addon-name eks-pod-identity-agent"),
}


@pytest.mark.parametrize("check", SAID)
def test_what_is_wrong_is_found_with_the_command_that_mends_it(aws: FakeAws, check: str) -> None:
    operation, answer, mend = SAID[check]
    aws.answers[operation] = answer
    found = [finding for finding in look(aws) if finding.state == WRONG]
    assert {finding.check for finding in found} == {check}
    assert mend in found[-1].mend
    for finding in found:
        understood(finding.mend)


def test_a_quota_is_wrong_only_where_a_run_needs_more(aws: FakeAws) -> None:
    aws.answers["service-quotas.list_service_quotas"] = quotas(1.0)
    findings = look(aws)
    wrong = the(findings, "quota", WRONG)
    assert wrong.detail == "ml.m5.large for training job usage is 1, and a run takes 2 at once."
    assert AwsCommand(wrong.mend).parameters == {
        "ServiceCode": "sagemaker",
        "QuotaCode": "L-0ABCDEF0",
        "DesiredValue": 2.0,
    }
    assert [f.state for f in findings if f.check == "quota"] == [WRONG, OK, OK]


def test_a_quota_that_is_not_listed_is_unknown(aws: FakeAws) -> None:
    aws.answers["service-quotas.list_service_quotas"] = quotas()[:2]
    assert "does not list ml.m5.large for endpoint usage" in the(look(aws), "quota", UNKNOWN).detail


def test_mending_notifications_keeps_those_of_others(aws: FakeAws) -> None:
    others = [{"TopicArn": "arn:aws:sns:eu-west-1:1:t", "Events": ["s3:ObjectRemoved:*"]}]
    aws.answers["s3.get_bucket_notification_configuration"] = {"TopicConfigurations": others, "ResponseMetadata": {}}
    given = AwsCommand(the(look(aws), "notifications", WRONG).mend).parameters["NotificationConfiguration"]
    assert given == {"TopicConfigurations": others, "EventBridgeConfiguration": {}}


def test_mending_the_trust_lets_sagemaker_in_for_this_account_only(aws: FakeAws) -> None:
    aws.answers["iam.get_role"] = {"Role": {"AssumeRolePolicyDocument": json.dumps(FOREIGN_TRUST)}}
    document = json.loads(AwsCommand(the(look(aws), "role", WRONG).mend).parameters["PolicyDocument"])
    [statement] = document["Statement"]
    assert statement["Principal"] == {"Service": "sagemaker.amazonaws.com"}
    assert statement["Condition"] == {"StringEquals": {"aws:SourceAccount": ACCOUNT}}


@pytest.mark.parametrize(
    ("operation", "check"),
    [
        ("service-quotas.list_service_quotas", "quotas"),
        ("s3.get_bucket_versioning", "bucket"),
        ("events.describe_rule", "rules"),
        ("sqs.get_queue_attributes", "queue"),
        ("iam.get_role", "role"),
        ("eks.describe_cluster", "cluster"),
        ("lambda.get_function_configuration", "kfp"),
    ],
)
def test_what_the_credentials_may_not_see_is_unknown_and_the_rest_is_seen(
    aws: FakeAws, operation: str, check: str
) -> None:
    aws.answers[operation] = refusal("AccessDeniedException", "not authorized")
    findings = look(aws)
    assert "not authorized" in the(findings, check, UNKNOWN).detail
    assert WRONG not in {finding.state for finding in findings}
    assert len([finding for finding in findings if finding.state == OK]) >= 12


def test_a_service_that_cannot_be_reached_is_unknown(aws: FakeAws) -> None:
    aws.answers["service-quotas.list_service_quotas"] = EndpointConnectionError(endpoint_url="https://x")
    assert the(look(aws), "quotas", UNKNOWN)


def test_what_somebody_deleted_is_wrong(aws: FakeAws) -> None:
    aws.answers["iam.get_role"] = refusal("NoSuchEntity", "The role with name jobs cannot be found.")
    finding = the(look(aws), "role", WRONG)
    assert "does not exist any more" in finding.detail
    assert AwsCommand(finding.mend).operation == "detect_stack_drift"


@pytest.mark.parametrize(
    ("region", "arn", "state"),
    [
        ("cn-north-1", "arn:aws-cn:iam::1:user/u", OK),
        ("us-gov-west-1", "arn:aws-us-gov:iam::1:user/u", OK),
        ("cn-north-1", "arn:aws:iam::1:user/u", WRONG),
        ("eu-west-1", "arn:aws-cn:iam::1:user/u", WRONG),
        ("nowhere", "arn:aws:iam::1:user/u", WRONG),
    ],
)
def test_the_credentials_must_be_of_the_regions_partition(aws: FakeAws, region: str, arn: str, state: str) -> None:
    aws.answers["sts.get_caller_identity"] = {"Arn": arn}
    assert the(look(aws, region), "identity", state)


def test_the_image_has_the_partitions_own_address(aws: FakeAws) -> None:
    aws.answers["sts.get_caller_identity"] = {"Arn": "arn:aws-cn:iam::1:user/u"}
    assert ".dkr.ecr.cn-northwest-1.amazonaws.com.cn/" in the(look(aws, "cn-northwest-1"), "image", OK).detail


def test_a_region_without_a_known_image(aws: FakeAws) -> None:
    finding = the(look(aws, "mx-central-1"), "image", WRONG)
    assert "parameters.training_image" in finding.detail
    assert finding.mend == "${EDITOR:-vi} pipelines/mnist_kmeans/pipeline.toml"


def test_before_deploying_it_looks_at_what_there_is(aws: FakeAws, kfp_url: str) -> None:
    aws.answers["cloudformation.describe_stacks"] = refusal("ValidationError", "Stack with id baton does not exist")
    findings = look(aws, kfp_url=kfp_url, cluster="flow")
    assert the(findings, "stack", WRONG).mend.startswith(
        "make build && .venv/bin/sam deploy --guided --stack-name baton"
    )
    assert [finding.check for finding in findings if finding.state == OK] == [
        *("identity", "image", "quota", "quota", "quota", "plan", "cluster", "pod identity", "kubeflow pipelines")
    ]
    assert the(findings, "kubeflow pipelines", OK).detail == f"2.17.0, single-user, at {kfp_url}"
    assert len(look(aws)) == 7


def test_a_stack_that_may_not_be_seen_is_not_called_missing(aws: FakeAws) -> None:
    aws.answers["cloudformation.describe_stacks"] = refusal("AccessDenied", "not authorized")
    findings = look(aws)
    assert "not authorized" in the(findings, "stack", UNKNOWN).detail
    assert WRONG not in {finding.state for finding in findings}


@pytest.mark.parametrize(
    ("status", "mend"),
    [
        ("ROLLBACK_COMPLETE", "aws cloudformation delete-stack"),
        ("UPDATE_ROLLBACK_FAILED", "aws cloudformation continue-update-rollback"),
        ("UPDATE_IN_PROGRESS", "aws cloudformation wait stack-update-complete"),
        ("CREATE_IN_PROGRESS", "aws cloudformation wait stack-create-complete"),
        ("UPDATE_ROLLBACK_COMPLETE", ".venv/bin/sam deploy"),
        ("REVIEW_IN_PROGRESS", ".venv/bin/sam deploy"),
    ],
)
def test_a_stack_that_is_not_well(aws: FakeAws, status: str, mend: str) -> None:
    stack_of(aws).update(StackStatus=status, Outputs=[])
    finding = the(look(aws), "stack", WRONG)
    assert finding.mend.startswith(mend)
    understood(finding.mend)


def test_a_cluster_that_does_not_exist(aws: FakeAws) -> None:
    aws.answers["eks.describe_cluster"] = refusal("ResourceNotFoundException")
    assert the(look(aws), "cluster", WRONG).mend.endswith("--parameter-overrides EksClusterName=NAME")
    aws.answers["cloudformation.describe_stacks"] = refusal("ValidationError", "Stack with id baton does not exist")
    assert the(look(aws, cluster="flow"), "cluster", WRONG).mend == f"aws eks list-clusters --region {REGION}"


# --- through the Kubernetes API server --------------------------------------------------------------------------------


@pytest.fixture
def proxied(aws: FakeAws, monkeypatch: pytest.MonkeyPatch) -> FakeAws:
    """A healthy account in mode eks-proxy; ``refused`` of the fixture's client says why there is no answer."""
    aws.answers["lambda.get_function_configuration"]["Environment"]["Variables"]["BATON_KFP_MODE"] = "eks-proxy"
    cluster = {"status": "ACTIVE", "accessConfig": {"authenticationMode": "API_AND_CONFIG_MAP"}}
    aws.answers["eks.describe_cluster"] = {"cluster": cluster}
    aws.answers["eks.describe_access_entry"] = {"accessEntry": {"kubernetesGroups": ["baton-kfp"]}}
    monkeypatch.setattr(checks, "connect", lambda *_: Answering())
    return aws


class Answering:
    """A client of Kubeflow Pipelines that is well, or raises what it was given."""

    def __init__(self, error: Exception | None = None) -> None:
        self._error = error

    def require_version(self) -> Health:
        if self._error:
            raise self._error
        return Health("2.17.0", "abc", False)


def test_the_functions_are_let_into_the_cluster(proxied: FakeAws) -> None:
    findings = look(proxied)
    assert {finding.state for finding in findings} == {OK}
    access = [finding.detail for finding in findings if finding.check == "cluster access"]
    assert access == ["baton-LaunchPipelineRole-1 is in baton-kfp", "baton-CleanUpRole-1 is in baton-kfp"]
    assert proxied.called("eks.describe_access_entry")[0] == {"clusterName": "flow", "principalArn": CLIENTS[0]}
    assert checks.KFP_GROUP in (ROOT / "deploy" / "kubernetes" / "kfp-proxy-access.yaml").read_text()


def test_who_reaches_kubeflow_directly_needs_no_access_entry(aws: FakeAws) -> None:
    assert "cluster access" not in {finding.check for finding in look(aws)}


def test_a_role_without_an_access_entry_is_given_one(proxied: FakeAws) -> None:
    proxied.answers["eks.describe_access_entry"] = refusal("ResourceNotFoundException")
    found = [finding for finding in look(proxied) if finding.state == WRONG]
    assert [AwsCommand(finding.mend).operation for finding in found] == ["create_access_entry"] * 2
    assert AwsCommand(found[1].mend).parameters == {
        "clusterName": "flow",
        "principalArn": CLIENTS[1],
        "kubernetesGroups": ["baton-kfp"],
    }


def test_an_access_entry_keeps_the_groups_that_it_has(proxied: FakeAws) -> None:
    proxied.answers["eks.describe_access_entry"] = {"accessEntry": {"kubernetesGroups": ["others"]}}
    found = [finding for finding in look(proxied) if finding.state == WRONG]
    command = AwsCommand(found[0].mend.replace("others baton-kfp", "'others baton-kfp'"))
    assert command.operation == "update_access_entry"
    assert command.parameters["kubernetesGroups"] == ["others", "baton-kfp"]


@pytest.mark.parametrize("access", [None, {}, {"authenticationMode": "CONFIG_MAP"}])
def test_a_cluster_that_takes_no_access_entries(proxied: FakeAws, access: Any) -> None:
    proxied.answers["eks.describe_cluster"]["cluster"]["accessConfig"] = access
    finding = the(look(proxied), "cluster access", WRONG)
    assert AwsCommand(finding.mend).parameters == {
        "name": "flow",
        "accessConfig": {"authenticationMode": "API_AND_CONFIG_MAP"},
    }
    assert proxied.called("eks.describe_access_entry") == []


@pytest.mark.parametrize(
    ("error", "state", "mend"),
    [
        (KfpRefused("403"), UNKNOWN, "kubectl apply -f deploy/kubernetes/kfp-proxy-access.yaml"),
        (KfpUnavailable("503"), WRONG, "kubectl rollout restart deployment/ml-pipeline --namespace kubeflow"),
    ],
)
def test_behind_the_api_server_no_url_mends_anything(
    proxied: FakeAws, monkeypatch: pytest.MonkeyPatch, error: Exception, state: str, mend: str
) -> None:
    monkeypatch.setattr(checks, "connect", lambda *_: Answering(error))
    assert the(look(proxied), "kubeflow pipelines", state).mend == mend


def test_what_a_direct_kubeflow_refuses_is_the_secrets_fault(aws: FakeAws, health: dict[str, Any]) -> None:
    health.update(status=403, body={"message": "no"})
    assert the(look(aws), "kubeflow pipelines", WRONG).mend.endswith(" KfpSecretArn=ARN")


# --- versions ---------------------------------------------------------------------------------------------------------


def test_it_looks_at_the_version_that_the_state_machine_calls(aws: FakeAws) -> None:
    """The newest code and its environment may not be what runs use, after a deployment that failed half-way."""
    look(aws)
    assert aws.called("stepfunctions.describe_state_machine") == [{"stateMachineArn": MACHINE}]
    assert {call["FunctionName"] for call in aws.called("lambda.get_function_configuration")} == {CALLED}


def test_a_cluster_in_auto_mode_has_the_agent(aws: FakeAws) -> None:
    aws.answers["eks.describe_cluster"] = {"cluster": {"status": "ACTIVE", "computeConfig": {"enabled": True}}}
    aws.answers["eks.describe_addon"] = refusal("ResourceNotFoundException")
    assert the(look(aws), "pod identity", OK)


@pytest.mark.parametrize(
    ("status", "body", "said", "mend"),
    [
        (200, {**HEALTHY, "tag_name": "2.5.0"}, "KfpTooOld", "kubectl apply"),
        (200, "<html>Log in</html>", "You reached the login page, not the API", ".venv/bin/sam deploy"),
        (404, "nothing here", "KfpMisconfigured", ".venv/bin/sam deploy"),
        (503, {"message": "starting"}, "KfpUnavailable", ".venv/bin/sam deploy"),
    ],
)
def test_a_kubeflow_that_cannot_be_used(
    aws: FakeAws, health: dict[str, Any], status: int, body: Any, said: str, mend: str
) -> None:
    health.update(status=status, body=body)
    finding = the(look(aws), "kubeflow pipelines", WRONG)
    assert said in finding.detail
    assert finding.mend.startswith(mend)


def test_a_private_kubeflow_is_not_seen_from_here(aws: FakeAws, health: dict[str, Any]) -> None:
    health.update(status=503, body={"message": "no"})
    configuration = aws.answers["lambda.get_function_configuration"]
    configuration["VpcConfig"] = {"SubnetIds": ["subnet-1"]}
    finding = the(look(aws), "kubeflow pipelines", UNKNOWN)
    assert finding.mend.startswith("kubectl port-forward")
    understood(finding.mend)


def test_multi_user_is_told(aws: FakeAws, health: dict[str, Any]) -> None:
    health.update(body={**HEALTHY, "multi_user": True})
    assert "multi-user" in the(look(aws), "kubeflow pipelines", OK).detail


# --- the command ------------------------------------------------------------------------------------------------------


@pytest.fixture
def command(aws: FakeAws, monkeypatch: pytest.MonkeyPatch) -> FakeAws:
    """Let the command talk to the fake account."""
    monkeypatch.setenv("AWS_REGION", REGION)
    monkeypatch.setattr(boto3.Session, "client", lambda _self, service, **options: aws(service, **options))
    return aws


def test_exit_codes(command: FakeAws, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--region", REGION]) == 0
    assert "0 wrong" in capsys.readouterr().out
    command.answers["iam.get_role"] = refusal("AccessDenied")
    assert main(["doctor", "--region", REGION]) == 0
    assert "1 that could not be seen" in capsys.readouterr().out
    command.answers["events.describe_rule"] = {"State": "DISABLED"}
    assert main(["doctor", "--region", REGION]) == 1
    assert "2 wrong" in capsys.readouterr().out
    command.answers["sts.get_caller_identity"] = NoCredentialsError()
    assert main(["doctor", "--region", REGION]) == 2
    assert "Your credentials do not work" in capsys.readouterr().err


def test_without_a_region_nothing_is_looked_at(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")
    assert main(["doctor"]) == 2
    assert "give --region" in capsys.readouterr().err


def test_json_says_the_same(command: FakeAws, capsys: pytest.CaptureFixture[str]) -> None:
    command.answers["events.describe_rule"] = {"State": "DISABLED"}
    assert main(["doctor", "--region", REGION, "--json"]) == 1
    said = [Finding(**entry) for entry in json.loads(capsys.readouterr().out)]
    assert said == look(command)


def test_it_fits_into_80_columns_but_for_commands(command: FakeAws, capsys: pytest.CaptureFixture[str]) -> None:
    for operation, answer, _ in SAID.values():
        command.answers[operation] = answer
    main(["doctor", "--region", REGION])
    lines = capsys.readouterr().out.splitlines()
    assert all(len(line) < 80 for line in lines if not line.startswith("      mend: "))
    mends = [line.removeprefix("      mend: ") for line in lines if line.startswith("      mend: ")]
    assert len(mends) >= len(SAID)
    for mend in mends:
        understood(mend)
