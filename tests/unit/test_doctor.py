"""``baton doctor`` on fake accounts: everything that can be wrong, and the command that mends it."""

from __future__ import annotations

import json
import os
import re
import shlex
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import jmespath
import pytest
import yaml
from botocore import xform_name
from botocore.exceptions import EndpointConnectionError, NoCredentialsError, UnauthorizedSSOTokenError

from baton.errors import KfpMisconfigured, KfpRefused, KfpUnavailable
from baton.kfp import connect
from baton.kfp.answers import LOGIN_PAGE, NO_API
from baton.kfp.connect import PROXIED_SERVICE
from baton.kfp.models import Health
from baton.kfp.transport import TLS_FAILED, Unreached
from baton.settings import Settings
from baton_cli import checks, doctor, proxy_access, stack
from baton_cli.account import Account, Origin
from baton_cli.checks import examine
from baton_cli.configurations import Configurations
from baton_cli.main import main, parser
from baton_cli.patient import DESCRIBED, OK, UNKNOWN, WRONG, Finding, Patient
from baton_local.cloudformation.templates import load
from baton_local.server import free_port
from tests.support.aws_command import AwsCommand
from tests.support.aws_fake import FakeAws, refusal
from tests.support.aws_models import session, values_of
from tests.support.kfp_fake import Reply, as_json, grpc_error, serving

ROOT = Path(__file__).parents[2]
REGION = "eu-west-1"
ACCOUNT = "111122223333"
HEALTHY = {"tag_name": "2.17.0", "commit_sha": "abc", "multi_user": False}
RULES = ("TrainingJobRule", "UploadRule")
TYPES = {
    **dict.fromkeys(RULES, "AWS::Events::Rule"),
    "LaunchPipelineFunction": "AWS::Lambda::Function",
    "OutcomeQueueMapping": "AWS::Lambda::EventSourceMapping",
    "PodIdentity": "AWS::EKS::PodIdentityAssociation",
    "RunBucket": "AWS::S3::Bucket",
    "TrainingRunMachine": "AWS::StepFunctions::StateMachine",
    "Table": "AWS::DynamoDB::Table",
    "DeadLetterQueue": "AWS::SQS::Queue",
    "SageMakerRole": "AWS::IAM::Role",
    "RunBucketPolicy": "AWS::S3::BucketPolicy",
}
"""What CloudFormation calls the things of the stack."""
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
    def answer(_method: str, target: str, headers: Any, _body: bytes) -> Reply:
        if "/experiments?" in target and health["body"].get("multi_user"):
            # A multi-user installation knows profiles, and whose they are.
            mine = headers.get("kubeflow-userid") == "me@example.org" and "namespace=mine" in target
            return as_json({"experiments": []}) if mine else grpc_error(401, 16, "there is no user identity header.")
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


def messages(visible: int = 0, hidden: int = 0) -> dict[str, Any]:
    """What SQS says of a queue; it counts what somebody has just taken apart."""
    name = "ApproximateNumberOfMessages"
    return {"Attributes": {name: str(visible), f"{name}NotVisible": str(hidden), f"{name}Delayed": "0"}}


def parameters(**given: str) -> list[dict[str, str]]:
    """The parameters by which CloudFormation knows the stack, and some that are given."""
    values = {"KfpMode": "direct", "RunPrefix": "bt-", **given}
    return [{"ParameterKey": name, "ParameterValue": value} for name, value in values.items()]


@pytest.fixture
def aws(kfp_url: str) -> FakeAws:
    """An account in which nothing is wrong."""
    outputs = {
        "RunBucketName": "run-bucket",
        "DeadLetterQueueUrl": "https://sqs/dead",
        "SageMakerRoleArn": f"arn:aws:iam::{ACCOUNT}:role/jobs",
        "StateMachineArn": MACHINE,
        "TableName": "baton-table",
        "KfpClientRoleArns": ",".join(CLIENTS),
    }
    resources = {
        **{rule: f"baton-{rule}-1A" for rule in RULES},
        "LaunchPipelineFunction": "baton-launch",
        "OutcomeQueueMapping": "11111111-2222-3333-4444-555555555555",
        "PodIdentity": "a-1",
        "RunBucket": "run-bucket",
        "TrainingRunMachine": MACHINE,
        "Table": "baton-table",
        "DeadLetterQueue": "https://sqs/dead",
        "SageMakerRole": "jobs",
        "RunBucketPolicy": "run-bucket",
    }
    environment = {
        "BATON_PARTITION": "aws",
        "BATON_URL_SUFFIX": "amazonaws.com",
        "BATON_KFP_URL": kfp_url,
        "BATON_KFP_CLUSTER": "flow",
    }
    summaries = [
        {"LogicalResourceId": k, "PhysicalResourceId": v, "ResourceType": TYPES[k]} for k, v in resources.items()
    ]
    stack = {
        "StackStatus": "UPDATE_COMPLETE",
        "Parameters": parameters(),
        "Outputs": [{"OutputKey": k, "OutputValue": v} for k, v in outputs.items()],
    }
    return FakeAws(
        {
            "sts.get_caller_identity": {"Arn": f"arn:aws:sts::{ACCOUNT}:assumed-role/admin/me", "Account": ACCOUNT},
            "service-quotas.list_service_quotas": quotas(),
            "service-quotas.list_aws_default_service_quotas": {"Quotas": []},
            "cloudformation.describe_stacks": {"Stacks": [stack]},
            "cloudformation.list_stack_resources": {"StackResourceSummaries": summaries},
            "s3.get_bucket_notification_configuration": {"EventBridgeConfiguration": {}, "ResponseMetadata": {}},
            "s3.get_bucket_versioning": {"Status": "Enabled"},
            "events.describe_rule": {"State": "ENABLED"},
            "sqs.get_queue_attributes": messages(),
            "lambda.get_event_source_mapping": {"State": "Enabled"},
            "lambda.get_function_configuration": {"Environment": {"Variables": environment}},
            "stepfunctions.describe_state_machine": {"definition": json.dumps(DEFINITION)},
            "stepfunctions.list_executions": {"executions": []},
            "dynamodb.query": {"Items": []},
            "dynamodb.describe_table": {"Table": {"TableStatus": "ACTIVE"}},
            "iam.get_role": {"Role": {"AssumeRolePolicyDocument": TRUST}},
            "eks.describe_cluster": {"cluster": {"status": "ACTIVE"}},
            "eks.describe_addon": {"addon": {"status": "ACTIVE"}},
        }
    )


def look(aws: FakeAws, region: str = REGION, **given: Any) -> list[Finding]:
    return list(examine(Patient(aws, region, "baton", doctor.packaged(), **given)))


def the(findings: list[Finding], check: str, state: str) -> Finding:
    """Return the one finding of a check that is in this state."""
    [found] = [finding for finding in findings if (finding.check, finding.state) == (check, state)]
    return found


def stack_of(aws: FakeAws) -> dict[str, Any]:
    stack: dict[str, Any] = aws.answers["cloudformation.describe_stacks"]["Stacks"][0]
    return stack


def variables_of(aws: FakeAws) -> dict[str, str]:
    """The environment of the function that launches pipelines."""
    variables: dict[str, str] = aws.answers["lambda.get_function_configuration"]["Environment"]["Variables"]
    return variables


def in_a_vpc(aws: FakeAws) -> FakeAws:
    """Let the functions that call Kubeflow Pipelines be in a VPC."""
    aws.answers["lambda.get_function_configuration"]["VpcConfig"] = {"SubnetIds": ["subnet-1"]}
    return aws


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
        *("identity", "image", "quota", "quota", "quota", "plan", "plan", "plan", "plan"),
        *("stack", "runs", "notifications", "versions"),
        *("rule", "rule", "dead letters", "queue mapping", "role", "cluster", "pod identity", "kubeflow pipelines"),
    ]
    assert the(findings, "kubeflow pipelines", OK).detail == "2.17.0, single-user, direct"
    assert not any(finding.mend for finding in findings)


def test_a_stacks_name_stays_one_word_of_every_command(aws: FakeAws) -> None:
    """Also one that no stack can have, which is found only where the region is good."""
    patient = Patient(
        aws, "eu-wset-1", "my; stack", doctor.packaged(), origin=Origin("--region"), configurations=SAMCONFIG
    )
    mends = [*(finding.mend for finding in examine(patient)), patient.look_again, patient.deploy_first()]
    for mend in mends:
        words = shlex.split(mend)
        assert words[words.index("--stack-name") + 1] == "my; stack"
        assert "--config-env" not in words or words[words.index("--config-env") + 1] == "my; stack"


@pytest.mark.parametrize("name", ["baton_prod", "my; stack", "1st", "-x", "", "bäton", "b" * 129, "baton\n"])
def test_a_name_that_no_stack_can_have_is_found_before_cloudformation_is_asked(aws: FakeAws, name: str) -> None:
    findings = list(examine(Patient(aws, REGION, name, doctor.packaged())))
    finding = the(findings, "stack", WRONG)
    assert finding.detail.startswith(f"{name!r} can be no stack's name: ")
    assert AwsCommand(finding.mend).operation == "describe_stacks"
    assert {each.state for each in findings if each != finding} == {OK}
    assert aws.called("cloudformation.describe_stacks") == []


@pytest.mark.parametrize("name", ["b" * 128, "B-1", f"arn:aws-cn:cloudformation:{REGION}:{ACCOUNT}:stack/b/1a-2b"])
def test_a_stack_may_be_given_by_its_name_or_its_id(aws: FakeAws, name: str) -> None:
    assert the(list(examine(Patient(aws, REGION, name, doctor.packaged()))), "stack", OK)


def test_the_plan_tells_what_costs(aws: FakeAws) -> None:
    assert [finding.detail for finding in look(aws) if finding.check == "plan"] == [
        "mnist_kmeans: 9 tuning jobs and 1 training job, each at most 3600 s",
        "mnist_kmeans: 2 x ml.m5.large at once for training",
        "mnist_kmeans: 1 x ml.m5.large at once for transform",
        "mnist_kmeans: 1 x ml.m5.large at once for endpoint, then delete",
    ]


FOREIGN_TRUST = {
    "Statement": {"Effect": "Allow", "Principal": {"Service": ["ec2.amazonaws.com"]}, "Action": "sts:AssumeRole"}
}
SAID = {
    "quota": ("service-quotas.list_service_quotas", quotas(1.0), "request-service-quota-increase"),
    "notifications": ("s3.get_bucket_notification_configuration", {}, "put-bucket-notification-configuration"),
    "versions": ("s3.get_bucket_versioning", {"Status": "Suspended"}, "put-bucket-versioning --bucket run-bucket"),
    "rule": ("events.describe_rule", {"State": "DISABLED"}, "enable-rule --name baton-UploadRule-1A"),
    "dead letters": ("sqs.get_queue_attributes", messages(3), ".venv/bin/baton redrive --stack-name baton"),
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


def test_a_quota_that_has_its_default_only_is_that(aws: FakeAws) -> None:
    applied, default = quotas(4.0)[:1], quotas(0.0)
    aws.answers["service-quotas.list_service_quotas"] = applied
    aws.answers["service-quotas.list_aws_default_service_quotas"] = default
    findings = [finding for finding in look(aws) if finding.check == "quota"]
    assert [finding.state for finding in findings] == [OK, WRONG, WRONG]
    assert findings[0].detail == "ml.m5.large for training job usage: 4, 2 needed"
    assert findings[1].detail == "ml.m5.large for transform job usage is 0, and a run takes 1 at once."
    assert AwsCommand(findings[1].mend).parameters["QuotaCode"] == "L-1ABCDEF0"


def test_a_quota_that_is_not_listed_is_unknown(aws: FakeAws) -> None:
    aws.answers["service-quotas.list_service_quotas"] = quotas()[:2]
    finding = the(look(aws), "quota", UNKNOWN)
    assert finding.detail.startswith("Service Quotas lists no ml.m5.large for endpoint usage: ")
    assert AwsCommand(finding.mend).operation == "list_aws_default_service_quotas"


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


JOB = f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:*"


@pytest.mark.parametrize(
    ("changes", "state"),
    [
        ({"Condition": {"StringEquals": {"aws:SourceAccount": ACCOUNT}}}, OK),
        ({"Condition": {"StringEquals": {"aws:SourceAccount": "444455556666"}}}, WRONG),
        ({"Condition": {"ArnLike": {"aws:SourceArn": JOB}}}, OK),
        ({"Condition": {"ArnLike": {"aws:SourceArn": JOB.replace(REGION, "us-east-1")}}}, WRONG),
        ({"Action": ["sts:TagSession", "sts:assumerole"]}, OK),
        ({"Action": "sts:TagSession"}, WRONG),
        ({"Effect": "Deny"}, WRONG),
    ],
)
def test_a_trust_must_let_sagemaker_assume_the_role_for_this_account(
    aws: FakeAws, changes: dict[str, Any], state: str
) -> None:
    trust = {"Version": "2012-10-17", "Statement": [{**TRUST["Statement"][0], **changes}]}
    aws.answers["iam.get_role"] = {"Role": {"AssumeRolePolicyDocument": trust}}
    assert the(look(aws), "role", state)


def test_events_that_somebody_has_just_taken_are_not_called_none(aws: FakeAws) -> None:
    aws.answers["sqs.get_queue_attributes"] = messages(hidden=2)
    assert the(look(aws), "dead letters", WRONG).detail.startswith("2 events ")


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
        ("stepfunctions.list_executions", "runs"),
        ("dynamodb.query", "runs"),
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


def test_an_environment_that_the_credentials_may_not_decrypt_is_unknown(aws: FakeAws) -> None:
    error = {"ErrorCode": "AccessDeniedException", "Message": "Lambda was unable to decrypt the variables."}
    aws.answers["lambda.get_function_configuration"] = {"Environment": {"Error": error}}
    findings = look(aws)
    for check in ("cluster", "kfp"):
        detail = the(findings, check, UNKNOWN).detail
        assert detail.startswith("These credentials cannot look: ")
        assert detail.endswith("Lambda was unable to decrypt the variables.")
    assert WRONG not in {finding.state for finding in findings}


def test_a_service_that_cannot_be_reached_is_unknown(aws: FakeAws) -> None:
    aws.answers["service-quotas.list_service_quotas"] = EndpointConnectionError(endpoint_url="https://x")
    assert the(look(aws), "quotas", UNKNOWN)


STATUSES = values_of("cloudformation", "StackStatus")


def was_complete(status: str) -> bool:
    """Whether a stack has once been complete for certain, so that it has its outputs."""
    return status in stack.WELL or status.startswith(("UPDATE_", "IMPORT_"))


DELETED = {
    "RunBucket": ("s3.get_bucket_notification_configuration", "NoSuchBucket", "bucket"),
    "Table": ("dynamodb.query", "ResourceNotFoundException", "runs"),
    "TrainingRunMachine": ("stepfunctions.list_executions", "StateMachineDoesNotExist", "runs"),
    "LaunchPipelineFunction": ("lambda.get_function_configuration", "ResourceNotFoundException", "cluster"),
    "TrainingJobRule": ("events.describe_rule", "ResourceNotFoundException", "rule"),
    "DeadLetterQueue": ("sqs.get_queue_attributes", "AWS.SimpleQueueService.NonExistentQueue", "dead letters"),
    "OutcomeQueueMapping": ("lambda.get_event_source_mapping", "ResourceNotFoundException", "queue mapping"),
    "SageMakerRole": ("iam.get_role", "NoSuchEntity", "role"),
}
"""What somebody may delete, how that is seen, and which line says so."""

IN_PASSING = {
    "RunBucket": "s3.get_bucket_versioning",
    "Table": "dynamodb.describe_table",
    "TrainingRunMachine": "stepfunctions.describe_state_machine",
}
"""What else says so, of that which is seen in passing."""


def delete(aws: FakeAws, logical_id: str) -> str:
    """Delete something of the stack behind CloudFormation's back; return the physical id that it keeps showing."""
    operation, code, _ = DELETED[logical_id]
    if logical_id in IN_PASSING:
        aws.answers[IN_PASSING[logical_id]] = refusal(code)
    summaries = aws.answers["cloudformation.list_stack_resources"]["StackResourceSummaries"]
    [physical] = [each["PhysicalResourceId"] for each in summaries if each["LogicalResourceId"] == logical_id]
    before = aws.answers[operation]

    def answer(**parameters: Any) -> Any:
        if logical_id.endswith("Rule") and parameters["Name"] != physical:
            return before
        raise refusal(code)

    aws.answers[operation] = answer
    return physical


@pytest.mark.parametrize("logical_id", DELETED)
def test_what_somebody_deleted_is_named_and_made_again(aws: FakeAws, logical_id: str) -> None:
    stack_of(aws)["Parameters"] = parameters(KfpUrl="http://kfp")
    well = len(look(aws))
    physical_id = delete(aws, logical_id)
    findings = look(aws)
    [finding] = [each for each in findings if each.state == WRONG]
    assert finding.check == DELETED[logical_id][2]
    assert finding.detail.startswith(f"{logical_id} ({physical_id}) does not exist any more: somebody deleted it. ")
    _name, create, *others = finding.mend.split(" && ")[3 if logical_id == "Table" else 0 :]
    command = AwsCommand(create)
    assert command.parameters["DeploymentMode"] == "REVERT_DRIFT"
    assert command.parameters["UsePreviousTemplate"] is True
    assert command.parameters["Parameters"] == [
        f"ParameterKey={name},UsePreviousValue=true" for name in ("KfpMode", "KfpUrl", "RunPrefix")
    ]
    assert command.parameters["Capabilities"] == ["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"]
    assert [AwsCommand(part).operation for part in others] == [
        *("change_set_create_complete", "execute_change_set", "stack_update_complete"),
    ]
    # The other lines are there, but for those about the same thing.
    assert len(findings) >= well - 2
    assert {"rule", "queue mapping", "role"} <= {each.check for each in findings}


def waited_for(loop: str) -> str:
    """Return the waiter in a loop that waits for longer than the waiter does."""
    found = re.fullmatch("until (aws .*); do sleep 1; done", loop)
    assert found
    return found[1]


def test_a_deleted_table_comes_back_with_its_rows(aws: FakeAws) -> None:
    """Its name is that of the stack's table, so nothing else has to change."""
    delete(aws, "Table")
    finding = the(look(aws, profile="my own"), "runs", WRONG)
    backup, restore, wait, *_ = finding.mend.split(" && ")
    listing = AwsCommand(backup.removeprefix("backup=$(").removesuffix(" --output text)"))
    assert listing.parameters == {"TableName": "baton-table", "BackupType": "SYSTEM"}
    kept = [{"BackupArn": f"arn-{day}", "BackupCreationDateTime": f"2026-07-0{day}T00:00:00Z"} for day in (1, 3, 2)]
    assert jmespath.search(listing.options["query"], {"BackupSummaries": kept}) == "arn-3"
    assert AwsCommand(restore).parameters == {"TargetTableName": "baton-table", "BackupArn": "$backup"}
    assert AwsCommand(waited_for(wait)).operation == "table_exists"
    assert finding.mend.count(" --profile 'my own'") == 7


@pytest.mark.parametrize("logical_id", ["Table", "TrainingJobRule"])
def test_nothing_is_made_again_before_the_tables_rows_are_back(aws: FakeAws, logical_id: str) -> None:
    """The change set would make the table, too, and without them."""
    delete(aws, "Table")
    delete(aws, "TrainingJobRule")
    [finding] = [each for each in look(aws) if each.detail.startswith(f"{logical_id} (")]
    assert finding.state == WRONG
    assert [part.split()[2] for part in finding.mend.split(" && ")[1:2]] == ["restore-table-from-backup"]
    assert " 35 days" in finding.detail


@pytest.mark.parametrize("logical_id", ["Table", "TrainingJobRule"])
def test_a_table_that_is_being_restored_is_waited_for(aws: FakeAws, logical_id: str) -> None:
    """DynamoDB answers a query of it as one of a table that there is not, and refuses to restore it twice."""
    delete(aws, "Table")
    delete(aws, "TrainingJobRule")
    aws.answers["dynamodb.describe_table"] = {"Table": {"TableStatus": "CREATING"}}
    [finding] = [each for each in look(aws) if each.detail.startswith(f"{logical_id} (")]
    wait, _name, create, *_ = finding.mend.split(" && ")
    assert AwsCommand(waited_for(wait)).parameters == {"TableName": "baton-table"}
    assert AwsCommand(create).operation == "create_change_set"
    assert finding.state == (UNKNOWN if logical_id == "Table" else WRONG)
    assert "35 days" not in finding.detail


def test_a_table_that_is_being_deleted_is_restored_when_that_is_over(aws: FakeAws) -> None:
    delete(aws, "Table")
    aws.answers["dynamodb.describe_table"] = {"Table": {"TableStatus": "DELETING"}}
    finding = the(look(aws), "runs", WRONG)
    gone, _backup, restore, *_ = finding.mend.split(" && ")
    assert [AwsCommand(part).operation for part in (gone, restore)] == ["table_not_exists", "restore_table_from_backup"]
    assert " 35 days" in finding.detail


@pytest.mark.parametrize(
    ("answer", "said", "mends"),
    [({"Table": {"TableStatus": "ACTIVE"}}, "is ACTIVE", True), (refusal("AccessDenied"), "cannot see which", False)],
)
def test_a_table_that_may_be_there_is_not_restored(aws: FakeAws, answer: Any, said: str, mends: bool) -> None:
    delete(aws, "Table")
    aws.answers["dynamodb.describe_table"] = answer
    finding = the(diagnose(aws), "runs", UNKNOWN)
    assert said in finding.detail
    assert finding.mend.startswith(".venv/bin/baton doctor ") if mends else not finding.mend


def test_a_refused_restore_ends_the_command(aws: FakeAws, tmp_path: Path) -> None:
    delete(aws, "Table")
    (tmp_path / "aws").write_text('#!/bin/sh\necho "$2" >> calls\n[ "$2" != restore-table-from-backup ]\n')
    (tmp_path / "aws").chmod(0o755)
    ended = shell(the(look(aws), "runs", WRONG).mend, tmp_path)
    assert ended.returncode
    assert (tmp_path / "calls").read_text().split() == ["list-backups", "restore-table-from-backup"]


def test_a_restore_may_take_longer_than_one_wait(aws: FakeAws, tmp_path: Path) -> None:
    delete(aws, "Table")
    waits = '[ "$3" != table-exists ] || [ "$(grep -c table-exists calls)" = 2 ]'
    (tmp_path / "aws").write_text(f'#!/bin/sh\necho "$2-$3" >> calls\n{waits}\n')
    (tmp_path / "aws").chmod(0o755)
    assert shell(the(look(aws), "runs", WRONG).mend, tmp_path).returncode == 0
    assert (tmp_path / "calls").read_text().split()[-1] == "wait-stack-update-complete"


@pytest.mark.parametrize("logical_id", DELETED)
@pytest.mark.parametrize("status", [each for each in STATUSES if was_complete(each)])
def test_what_was_deleted_is_made_again_only_where_the_stack_takes_an_update(
    aws: FakeAws, status: str, logical_id: str
) -> None:
    stack_of(aws).update(StackStatus=status)
    physical_id = delete(aws, logical_id)
    [finding, *_] = [each for each in look(aws) if each.detail.startswith(f"{logical_id} ({physical_id})")]
    if status in ("CREATE_COMPLETE", "UPDATE_COMPLETE", "IMPORT_COMPLETE", *stack.DEPLOYABLE):
        assert finding.state == WRONG
        assert " create-change-set " in finding.mend
        assert not finding.mend.startswith("aws cloudformation wait ")
    elif status == "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS":
        assert finding.state == WRONG
        assert finding.mend.startswith("aws cloudformation wait stack-update-complete ")
    else:
        assert (finding.state, finding.mend) == (UNKNOWN, "")
        assert finding.detail.endswith(f"no update while it is {status}: mend the stack first.")
        assert "The command" not in finding.detail
        assert "restores the table" not in finding.detail
        assert the(look(aws), "stack", WRONG).mend


def test_a_deleted_rule_hides_no_other_that_is_wrong(aws: FakeAws) -> None:
    aws.answers["events.describe_rule"] = {"State": "DISABLED"}
    delete(aws, "TrainingJobRule")
    missing, disabled = [each for each in look(aws) if each.check == "rule"]
    assert missing.detail.startswith("TrainingJobRule (baton-TrainingJobRule-1A) ")
    assert disabled.detail == "UploadRule is disabled."


OTHERS = {
    "CleanUpRunMachine": ("AWS::StepFunctions::StateMachine", f"{MACHINE}-clean-up", "StateMachineDoesNotExist"),
    "OutcomeQueue": ("AWS::SQS::Queue", "https://sqs/outcomes", "AWS.SimpleQueueService.NonExistentQueue"),
    "StartRunFunction": ("AWS::Lambda::Function", "baton-start", "ResourceNotFoundException"),
    "StartRunRole": ("AWS::IAM::Role", "baton-start-role", "NoSuchEntity"),
    "Topic": ("AWS::SNS::Topic", f"arn:aws:sns:{REGION}:{ACCOUNT}:topic", "NotFound"),
}
"""What is only looked for: its type, its physical id, and the error of who asks for it when it is gone."""


def with_others(aws: FakeAws) -> list[tuple[str, str]]:
    """Let the stack have the others, too, and return the operation and the physical id by which each is looked for."""
    summaries = aws.answers["cloudformation.list_stack_resources"]["StackResourceSummaries"]
    aws.answers["sns.get_topic_attributes"] = {"Attributes": {}}
    for logical_id, (kind, physical_id, _) in OTHERS.items():
        summary = {"LogicalResourceId": logical_id, "PhysicalResourceId": physical_id, "ResourceType": kind}
        summaries.append(summary)
    return [(".".join(DESCRIBED[kind][:2]), physical_id) for kind, physical_id, _ in OTHERS.values()]


def gone_only(aws: FakeAws, logical_id: str) -> None:
    """Answer for what is there as before, and for one thing as its service does when it is gone."""
    kind, physical_id, code = OTHERS[logical_id]
    operation = ".".join(DESCRIBED[kind][:2])
    before = aws.answers[operation]

    def answer(**given: Any) -> Any:
        if physical_id in given.values():
            raise refusal(code)
        return before

    aws.answers[operation] = answer


def test_what_is_only_looked_for_has_no_line_while_it_is_there(aws: FakeAws) -> None:
    well = look(aws)
    asked = with_others(aws)
    assert look(aws) == well
    for operation, physical_id in asked:
        assert any(physical_id in given.values() for given in aws.called(operation))


@pytest.mark.parametrize("logical_id", OTHERS)
def test_what_else_somebody_deleted_is_named_and_made_again(aws: FakeAws, logical_id: str) -> None:
    with_others(aws)
    gone_only(aws, logical_id)
    finding = the(look(aws), "resources", WRONG)
    _, physical_id, _ = OTHERS[logical_id]
    assert finding.detail.startswith(f"{logical_id} ({physical_id}) does not exist any more: somebody deleted it. ")
    assert " --deployment-mode REVERT_DRIFT " in finding.mend


MADE_BY_SAM = {
    "AWS::Serverless::Function": "AWS::Lambda::Function",
    "AWS::Serverless::StateMachine": "AWS::StepFunctions::StateMachine",
}
"""What AWS::Serverless makes of the template's types."""


def test_of_the_templates_things_none_of_the_types_that_are_looked_for_is_left_out(aws: FakeAws) -> None:
    template = load((ROOT / "template.yaml").read_text("utf-8"))
    kinds = {name: MADE_BY_SAM.get(each["Type"], each["Type"]) for name, each in template["Resources"].items()}
    wanted = {name for name, kind in kinds.items() if kind in checks.OTHERS and name not in DELETED}
    assert {"CleanUpRole", "JanitorFunction", "OutcomeQueue", "Topic", "CleanUpRunMachine"} <= wanted
    summaries = aws.answers["cloudformation.list_stack_resources"]["StackResourceSummaries"]
    summaries += [
        {"LogicalResourceId": name, "PhysicalResourceId": f"the-{name}", "ResourceType": kinds[name]} for name in wanted
    ]
    for kind, _, code in OTHERS.values():
        aws.answers[".".join(DESCRIBED[kind][:2])] = refusal(code)
    found = {each.detail.partition(" (")[0] for each in look(aws) if each.check == "resources"}
    assert found == wanted


def test_who_may_not_look_for_some_things_sees_the_others(aws: FakeAws) -> None:
    with_others(aws)
    gone_only(aws, "Topic")
    aws.answers["iam.get_role"] = refusal("AccessDenied", "not authorized")
    findings = look(aws)
    assert "not authorized" in the(findings, "resources", UNKNOWN).detail
    assert the(findings, "resources", WRONG).detail.startswith("Topic (")


def summary_of(aws: FakeAws, logical_id: str) -> dict[str, Any]:
    """Return what CloudFormation lists of a resource."""
    summaries = aws.answers["cloudformation.list_stack_resources"]["StackResourceSummaries"]
    [summary] = [each for each in summaries if each["LogicalResourceId"] == logical_id]
    found: dict[str, Any] = summary
    return found


@pytest.mark.parametrize("status", ["CREATE_IN_PROGRESS", "UPDATE_IN_PROGRESS", "DELETE_IN_PROGRESS"])
@pytest.mark.parametrize("logical_id", ["Topic", "TrainingJobRule"])
def test_what_cloudformation_is_at_work_on_nobody_has_deleted(aws: FakeAws, logical_id: str, status: str) -> None:
    """CloudFormation knows a topic's ARN, or a rule's name, before there is one."""
    with_others(aws)
    summary_of(aws, logical_id)["ResourceStatus"] = status
    stack_of(aws).update(StackStatus="UPDATE_IN_PROGRESS")
    well = look(aws)
    if logical_id in OTHERS:
        gone_only(aws, logical_id)
    else:
        delete(aws, logical_id)
    [finding] = [each for each in look(aws) if each not in well]
    assert finding.detail.startswith(f"{logical_id} (")
    assert finding.detail.endswith(") is not there while CloudFormation makes or changes it.")
    assert (finding.state, finding.mend) == (UNKNOWN, "")


@pytest.mark.parametrize("status", ["CREATE_FAILED", "DELETE_COMPLETE", "DELETE_FAILED", "DELETE_SKIPPED"])
def test_what_cloudformation_has_deleted_or_left_itself_is_not_missed(aws: FakeAws, status: str) -> None:
    """It still lists what the last template no longer has, and what it never made."""
    with_others(aws)
    for logical_id in ("TrainingJobRule", "StartRunRole"):
        summary_of(aws, logical_id)["ResourceStatus"] = status
    delete(aws, "TrainingJobRule")
    gone_only(aws, "StartRunRole")
    findings = look(aws)
    assert {each.state for each in findings} == {OK}
    assert [each.detail for each in findings if each.check == "rule"] == ["UploadRule is enabled"]


def test_a_state_machine_that_is_being_deleted_is_made_again_when_it_has_gone(aws: FakeAws, tmp_path: Path) -> None:
    """Step Functions still shows it and its executions, but starts none."""
    answer = aws.answers["stepfunctions.describe_state_machine"]
    answer["status"] = "DELETING"
    finding = the(look(aws), "cluster", WRONG)
    assert finding.detail.startswith(f"TrainingRunMachine ({MACHINE}) is being deleted, ")
    (tmp_path / "aws").write_text('#!/bin/sh\necho "$2-$3" >> calls\n[ "$1" != stepfunctions ]\n')
    (tmp_path / "aws").chmod(0o755)
    assert shell(finding.mend, tmp_path).returncode == 0
    called = (tmp_path / "calls").read_text().split()
    assert called[0] == "describe-state-machine---state-machine-arn"
    assert called[-1] == "wait-stack-update-complete"
    loop, *_ = finding.mend.split(" && ")
    found = re.fullmatch("while (aws .*); do sleep 5; done", loop)
    assert found
    assert AwsCommand(found[1]).parameters == {"stateMachineArn": MACHINE}


def test_what_fails_in_the_first_check_is_one_line(aws: FakeAws) -> None:
    aws.answers["sts.get_caller_identity"] = {}
    [finding] = look(aws)
    assert (finding.check, finding.state) == ("identity", UNKNOWN)
    assert "KeyError: 'Arn'" in finding.detail


def test_two_things_that_are_well_in_the_same_words_stay_so(aws: FakeAws, monkeypatch: pytest.MonkeyPatch) -> None:
    def check_well(_patient: Patient) -> Iterator[Finding]:
        yield Finding("one", OK, "well")
        yield Finding("two", OK, "well")

    monkeypatch.setattr(checks, "check_role", check_well)
    findings = look(aws)
    assert the(findings, "one", OK)
    assert the(findings, "two", OK)


def test_what_several_checks_need_is_made_again_once(aws: FakeAws) -> None:
    delete(aws, "LaunchPipelineFunction")
    about = [each for each in look(aws) if each.detail.startswith("LaunchPipelineFunction (")]
    assert [(each.check, each.state, bool(each.mend)) for each in about] == [
        ("cluster", WRONG, True),
        ("kfp", UNKNOWN, False),
    ]


def without(aws: FakeAws, logical_id: str) -> None:
    """Let the stack never have had something."""
    summaries = aws.answers["cloudformation.list_stack_resources"]["StackResourceSummaries"]
    summaries[:] = [each for each in summaries if each["LogicalResourceId"] != logical_id]


def test_a_table_that_the_stack_never_had_is_not_restored(aws: FakeAws) -> None:
    without(aws, "Table")
    delete(aws, "TrainingJobRule")
    finding = the(look(aws), "rule", WRONG)
    assert " create-change-set " in finding.mend
    assert "restore" not in f"{finding.mend} {finding.detail}"


def test_of_a_function_of_which_a_version_alone_is_gone_that_is_told(aws: FakeAws) -> None:
    well = aws.answers["lambda.get_function_configuration"]

    def answer(FunctionName: str) -> Any:
        if FunctionName == CALLED:
            raise refusal("ResourceNotFoundException")
        return well

    aws.answers["lambda.get_function_configuration"] = answer
    finding = the(look(aws), "cluster", WRONG)
    assert finding.detail.startswith("LaunchPipelineFunction (version 7 of baton-launch) does not exist any more: ")
    assert " create-change-set " in finding.mend


def test_a_bucket_of_ones_own_that_is_gone_is_replaced(aws: FakeAws) -> None:
    delete(aws, "RunBucket")
    without(aws, "RunBucket")
    assert the(look(aws), "bucket", WRONG).mend.endswith(" --parameter-overrides ExistingBucketName=BUCKET")


def own_bucket_in(aws: FakeAws, answer: Any) -> None:
    """Let the run bucket be one that the stack has not made, and S3 answer who asks for it."""
    stack_of(aws)["Parameters"] = parameters(ExistingBucketName="run-bucket")
    aws.answers["s3.head_bucket"] = answer


@pytest.mark.parametrize("region", [REGION, "us-east-1"])
def test_a_bucket_of_ones_own_must_be_in_the_stacks_region(aws: FakeAws, region: str) -> None:
    """botocore follows S3 to the bucket's own region, whose EventBridge is another."""
    own_bucket_in(aws, {"BucketRegion": region})
    assert {each.state for each in look(aws, region)} == {OK}
    own_bucket_in(aws, {"BucketRegion": "eu-central-1"})
    findings = look(aws, region)
    finding = the(findings, "bucket", WRONG)
    assert finding.detail.startswith("run-bucket is in eu-central-1, ")
    assert f" none starts a run in {region}, " in finding.detail
    assert finding.mend.endswith(" --parameter-overrides ExistingBucketName=BUCKET")
    assert not {"notifications", "versions"} & {each.check for each in findings}


def test_where_a_bucket_is_may_not_be_seen_and_the_rest_of_it_is(aws: FakeAws) -> None:
    own_bucket_in(aws, refusal("403", "Forbidden"))
    findings = look(aws)
    assert "in which region run-bucket is (s3:ListBucket): " in the(findings, "bucket", UNKNOWN).detail
    assert {"notifications", "versions"} <= {each.check for each in findings if each.state == OK}


def test_what_the_stack_never_had_is_deployed(aws: FakeAws) -> None:
    without(aws, "OutcomeQueueMapping")
    finding = the(diagnose(aws), "queue mapping", UNKNOWN)
    assert finding.detail.startswith("The stack has no OutcomeQueueMapping, ")
    assert finding.mend == DEPLOY


# --- region and credentials -------------------------------------------------------------------------------------------


def asked_in(region: str, partition: str = "aws") -> Any:
    """STS as it answers: to credentials of its own partition, and only where there is such a host."""
    if region not in session().get_available_regions("sts", partition):
        if any(region in doctors_regions(other) for other in ("aws", "aws-cn", "aws-us-gov")):
            return refusal("InvalidClientTokenId", "The security token included in the request is invalid.")
        return EndpointConnectionError(endpoint_url=f"https://sts.{region}.amazonaws.com/")
    return {"Arn": f"arn:{partition}:iam::{ACCOUNT}:user/u"}


def doctors_regions(partition: str) -> list[str]:
    regions: list[str] = session().get_available_regions("sts", partition)
    return regions


@pytest.mark.parametrize(("region", "partition"), [("cn-north-1", "aws-cn"), ("us-gov-west-1", "aws-us-gov")])
def test_credentials_of_the_regions_partition_are_well(aws: FakeAws, region: str, partition: str) -> None:
    aws.answers["sts.get_caller_identity"] = asked_in(region, partition)
    assert the(look(aws, region), "identity", OK).detail == f"u of {ACCOUNT} in {region}, partition {partition}"


@pytest.mark.parametrize(("region", "partition"), [("cn-north-1", "aws"), ("eu-west-1", "aws-cn")])
def test_credentials_of_another_partition_are_all_that_is_found(aws: FakeAws, region: str, partition: str) -> None:
    aws.answers["sts.get_caller_identity"] = asked_in(region, partition)
    [finding] = look(aws, region, origin=Origin(credentials="env"))
    assert (finding.check, finding.state) == ("identity", WRONG)
    assert "of another partition than " in finding.detail
    assert finding.mend.endswith(" AWS_SESSION_TOKEN && export AWS_PROFILE=PROFILE")


@pytest.mark.parametrize("region", ["eu-wset-1", "eu-west-1a", "eu-west-11", "nowhere", "euwest1", ""])
def test_a_region_that_there_is_not_is_found_before_aws_is_asked(aws: FakeAws, region: str) -> None:
    [finding] = look(aws, region)
    assert (finding.check, finding.state) == ("region", WRONG)
    assert f"There is no region {region!r}; " in finding.detail
    assert aws.calls == []


@pytest.mark.parametrize(
    ("origin", "mend"),
    [
        ("--region", ".venv/bin/baton doctor --stack-name baton --region eu-west-1 --profile 'my own'"),
        ("AWS_REGION", "export AWS_REGION=eu-west-1"),
        ("AWS_DEFAULT_REGION", "export AWS_DEFAULT_REGION=eu-west-1"),
        ("", "aws configure set region eu-west-1 --profile 'my own'"),
    ],
)
def test_a_mistyped_region_is_changed_where_it_was_given(aws: FakeAws, origin: str, mend: str) -> None:
    [finding] = look(aws, "eu-wset-1", profile="my own", origin=Origin(region=origin))
    assert finding.mend == mend
    assert "perhaps eu-west-1 is meant" in finding.detail


def test_a_region_that_may_be_newer_than_botocore_is_unseen_where_aws_answers_there(aws: FakeAws) -> None:
    findings = look(aws, "eu-west-9")
    assert "newer than this botocore" in the(findings, "region", UNKNOWN).detail
    assert the(findings, "identity", OK)
    aws.answers["sts.get_caller_identity"] = asked_in("eu-west-9")
    [finding] = look(aws, "eu-west-9")
    assert (finding.check, finding.state) == ("region", WRONG)
    assert finding.detail.startswith("Nobody answers there. ")
    assert finding.mend.startswith("aws configure set region eu-")


def test_where_aws_cannot_be_reached_nothing_is_called_wrong(aws: FakeAws) -> None:
    aws.answers["sts.get_caller_identity"] = EndpointConnectionError(endpoint_url="https://x")
    [finding] = look(aws)
    assert (finding.check, finding.state, finding.mend) == ("identity", UNKNOWN, "")


FILES, ENVIRONMENT = "shared-credentials-file", "env"
CONFIGURE = "aws configure --profile mine"
INSTEAD = "unset AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AWS_SESSION_TOKEN && export AWS_PROFILE=PROFILE"


@pytest.mark.parametrize(
    ("error", "origin", "said", "mend"),
    [
        (refusal("InvalidClientTokenId"), FILES, "AWS does not know your credentials", CONFIGURE),
        (refusal("UnrecognizedClientException"), ENVIRONMENT, "AWS does not know your credentials", INSTEAD),
        (refusal("SignatureDoesNotMatch"), FILES, "The secret of your credentials is not that of their key", CONFIGURE),
        (
            refusal("SignatureDoesNotMatch", "Signature expired: 1 is now earlier than 2"),
            FILES,
            "The clock of this machine is wrong",
            "sudo timedatectl set-ntp true",
        ),
        (
            refusal("ExpiredToken"),
            FILES,
            "Your credentials have expired",
            f"{CONFIGURE} && aws configure set aws_session_token TOKEN --profile mine",
        ),
        (refusal("ExpiredTokenException"), ENVIRONMENT, "Your credentials have expired", INSTEAD),
        (refusal("ExpiredToken"), "sso", "Your credentials have expired", "aws sso login --profile mine"),
        (UnauthorizedSSOTokenError(), "", "Your credentials do not work", "aws sso login --profile mine"),
        (NoCredentialsError(), "", "Your credentials do not work", CONFIGURE),
        (refusal("InvalidClientTokenId"), "iam-role", "AWS does not know", "export AWS_PROFILE=PROFILE"),
    ],
)
def test_bad_credentials_are_changed_where_they_came_from(
    aws: FakeAws, error: Exception, origin: str, said: str, mend: str
) -> None:
    aws.answers["sts.get_caller_identity"] = error
    [finding] = look(aws, profile="mine", origin=Origin(credentials=origin))
    assert (finding.check, finding.state, finding.mend) == ("identity", WRONG, mend)
    assert finding.detail.startswith(said)


def test_the_image_has_the_partitions_own_address(aws: FakeAws) -> None:
    aws.answers["sts.get_caller_identity"] = {"Arn": "arn:aws-cn:iam::1:user/u"}
    assert ".dkr.ecr.cn-northwest-1.amazonaws.com.cn/" in the(look(aws, "cn-northwest-1"), "image", OK).detail


def test_a_region_without_a_known_image(aws: FakeAws) -> None:
    finding = the(look(aws, "mx-central-1"), "image", WRONG)
    assert "parameters.training_image" in finding.detail
    edit = "${EDITOR:-vi} pipelines/mnist_kmeans/pipeline.toml"
    deploy = (
        "make build && .venv/bin/sam deploy --config-env baton --stack-name baton --region mx-central-1 --resolve-s3"
    )
    assert finding.mend == f"{edit} && {deploy}"
    aws.answers["cloudformation.describe_stacks"] = refusal("ValidationError", "Stack with id baton does not exist")
    assert the(look(aws, "mx-central-1"), "image", WRONG).mend == edit


def test_before_deploying_it_looks_at_what_there_is(aws: FakeAws, kfp_url: str) -> None:
    aws.answers["cloudformation.describe_stacks"] = refusal("ValidationError", "Stack with id baton does not exist")
    findings = look(aws, kfp_url=kfp_url, cluster="flow")
    command = "make build && .venv/bin/sam deploy --guided --config-env baton --stack-name baton"
    assert the(findings, "stack", WRONG).mend == f"{command} --region {REGION} --resolve-s3"
    assert [finding.check for finding in findings if finding.state == OK] == [
        *("identity", "image", "quota", "quota", "quota", "plan", "plan", "plan", "plan"),
        *("cluster", "pod identity", "kubeflow pipelines"),
    ]
    assert the(findings, "kubeflow pipelines", OK).detail == f"2.17.0, single-user, at {kfp_url}"
    assert len(look(aws)) == 10


def test_a_stack_that_may_not_be_seen_is_not_called_missing(aws: FakeAws) -> None:
    aws.answers["cloudformation.describe_stacks"] = refusal("AccessDenied", "not authorized")
    findings = look(aws)
    assert "not authorized" in the(findings, "stack", UNKNOWN).detail
    assert WRONG not in {finding.state for finding in findings}


DELETE = ["delete_stack", "stack_delete_complete"]
BUILD, GUIDED, DEPLOYED = "make build", "sam deploy --guided", "sam deploy"
LEADS_ON = {
    **{status: [] for status in stack.WELL},
    **{status: [waiter.replace("-", "_")] for status, waiter in stack.WAITERS.items()},
    # https://docs.aws.amazon.com/AWSCloudFormation/latest/APIReference/API_RollbackStack.html
    "CREATE_FAILED": ["rollback_stack"],
    "UPDATE_FAILED": ["rollback_stack", "stack_rollback_complete", BUILD, DEPLOYED],
    # …/API_ContinueUpdateRollback.html
    "UPDATE_ROLLBACK_FAILED": ["continue_update_rollback", "stack_rollback_complete", BUILD, DEPLOYED],
    "ROLLBACK_COMPLETE": [*DELETE, BUILD, GUIDED],
    "ROLLBACK_FAILED": [*DELETE, BUILD, GUIDED],
    # …/API_DeleteStack.html
    "DELETE_FAILED": DELETE,
    "DELETE_COMPLETE": [BUILD, GUIDED],
    "REVIEW_IN_PROGRESS": [BUILD, GUIDED],
    "UPDATE_ROLLBACK_COMPLETE": [BUILD, DEPLOYED],
    "IMPORT_ROLLBACK_COMPLETE": [BUILD, DEPLOYED],
    "IMPORT_ROLLBACK_IN_PROGRESS": ["baton doctor"],
    "IMPORT_ROLLBACK_FAILED": ["describe_stack_events"],
}
"""What CloudFormation takes in each status, in the order in which it leads to a deployment that can succeed."""


def steps_of(command: str) -> list[str]:
    """Return the operations of a chain of commands by name."""
    steps = []
    for part in command.split(" && ") if command else []:
        words = shlex.split(part)
        if words[0] == "aws":
            steps.append(AwsCommand(part).operation)
        else:
            guided = " --guided" if "--guided" in words else ""
            steps.append(f"{words[0].removeprefix('.venv/bin/')} {words[1]}{guided}")
    return steps


@pytest.mark.parametrize("complete", [True, False])
@pytest.mark.parametrize("status", STATUSES)
def test_every_status_of_a_stack_leads_on(aws: FakeAws, status: str, complete: bool) -> None:
    failed_ones(aws, status if status == "DELETE_FAILED" else "UPDATE_FAILED")
    stack_of(aws).update(StackStatus=status)
    if not complete and not was_complete(status):
        stack_of(aws).update(Outputs=[])
    finding = the(look(aws), "stack", OK if status in stack.WELL else WRONG)
    assert steps_of(finding.mend) == LEADS_ON[status]
    if finding.mend:
        understood(finding.mend)


def take_apart(aws: FakeAws, listed: bool) -> None:
    """Delete most of what a stack has made, as CloudFormation does; it may still list that."""
    [*gone, _last] = aws.answers["cloudformation.list_stack_resources"]["StackResourceSummaries"]
    if not listed:
        aws.answers["cloudformation.list_stack_resources"] = {"StackResourceSummaries": []}
    for each in gone:
        each["ResourceStatus"] = "DELETE_COMPLETE"
    for operation in ("events.describe_rule", "lambda.get_event_source_mapping", "sqs.get_queue_attributes"):
        aws.answers[operation] = refusal("ResourceNotFoundException")
    aws.answers["iam.get_role"] = refusal("NoSuchEntity")
    aws.answers["s3.get_bucket_versioning"] = refusal("NoSuchBucket")
    aws.answers["stepfunctions.describe_state_machine"] = refusal("StateMachineDoesNotExist")
    aws.answers["stepfunctions.list_executions"] = refusal("StateMachineDoesNotExist")


@pytest.mark.parametrize("listed", [True, False])
@pytest.mark.parametrize("status", [each for each in STATUSES if each.startswith(("DELETE_", "ROLLBACK_"))])
def test_a_stack_that_is_taken_apart_is_told_once_though_it_has_its_outputs(
    aws: FakeAws, status: str, listed: bool
) -> None:
    stack_of(aws).update(StackStatus=status)
    take_apart(aws, listed)
    [finding] = [each for each in look(aws) if each.state != OK]
    assert (finding.check, finding.state) == ("stack", WRONG)
    assert "by hand" not in finding.detail


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("listed", [True, False])
def test_whatever_is_gone_no_check_ends_the_others(
    aws: FakeAws, health: dict[str, Any], status: str, listed: bool
) -> None:
    stack_of(aws).update(StackStatus=status)
    take_apart(aws, listed)
    shuts_user_out(with_runs_under_way(aws), health)
    assert the(look(aws), "stack", OK if status in stack.WELL else WRONG)


@pytest.mark.parametrize("status", ["CREATE_COMPLETE", "UPDATE_ROLLBACK_COMPLETE", "DELETE_FAILED"])
def test_a_stack_of_others_is_left_alone(aws: FakeAws, status: str) -> None:
    stack_of(aws).update(StackStatus=status, Outputs=[{"OutputKey": "VpcId", "OutputValue": "vpc-1"}])
    [finding] = [each for each in look(aws) if each.state != OK]
    assert finding.detail.startswith("baton is no stack of Baton's: it has no output StateMachineArn.")
    assert (finding.check, finding.state) == ("stack", WRONG)
    command = AwsCommand(finding.mend)
    found = jmespath.search(command.options["query"], {"Stacks": [{**stack_of(aws), "StackName": "theirs"}, BATONS]})
    assert (command.operation, found) == ("describe_stacks", ["mine"])


@pytest.mark.parametrize("output", ["", "StateMachineArn"])
@pytest.mark.parametrize("status", [each for each in STATUSES if each not in ("REVIEW_IN_PROGRESS", "DELETE_COMPLETE")])
def test_a_stack_of_others_is_neither_deleted_nor_rolled_back(aws: FakeAws, status: str, output: str) -> None:
    """One that never was complete has no outputs, and an output of theirs may have the name of one of Baton's."""
    outputs = [{"OutputKey": output, "OutputValue": MACHINE}] if output else []
    theirs = [{"ParameterKey": "RunPrefix", "ParameterValue": "bt-"}]
    stack_of(aws).update(StackStatus=status, Outputs=outputs, Parameters=theirs)
    failed_ones(aws, "DELETE_FAILED")
    [finding] = [each for each in look(aws) if each.state != OK]
    assert finding.detail.startswith("baton is no stack of Baton's: it has not")
    assert AwsCommand(finding.mend).operation == "describe_stacks"


@pytest.mark.parametrize("status", ["REVIEW_IN_PROGRESS", "DELETE_COMPLETE"])
def test_a_stack_that_has_not_begun_has_no_parameters_and_is_deployed(aws: FakeAws, status: str) -> None:
    stack_of(aws).update(StackStatus=status, Outputs=[], Parameters=[])
    assert " --guided " in the(look(aws), "stack", WRONG).mend


BATONS = {"StackName": "mine", "Outputs": [{"OutputKey": "StateMachineArn", "OutputValue": MACHINE}]}


def test_an_error_that_nobody_foresaw_is_one_line_with_its_name(aws: FakeAws) -> None:
    aws.answers["iam.get_role"] = {}
    findings = look(aws)
    assert "KeyError: 'Role'" in the(findings, "role", UNKNOWN).detail
    assert the(findings, "kubeflow pipelines", OK)


def failed_ones(aws: FakeAws, status: str) -> None:
    """Let two resources have failed."""
    summaries = aws.answers["cloudformation.list_stack_resources"]["StackResourceSummaries"]
    for logical_id in ("Topic", "Queue"):
        reason = {"ResourceStatusReason": f"{logical_id} is in use"} if logical_id == "Topic" else {}
        summaries.append({"LogicalResourceId": logical_id, "ResourceStatus": status, **reason})


def test_a_deletion_that_failed_says_why_and_is_not_only_repeated(aws: FakeAws) -> None:
    failed_ones(aws, "DELETE_FAILED")
    stack_of(aws).update(StackStatus="DELETE_FAILED", Outputs=[])
    finding = the(look(aws), "stack", WRONG)
    assert finding.detail.startswith("baton is DELETE_FAILED. Topic: Topic is in use. Queue: no reason is given. ")
    assert AwsCommand(finding.mend.partition(" && ")[0]).parameters["RetainResources"] == ["Topic", "Queue"]


def test_a_deletion_whose_failures_cannot_be_seen_shows_its_events(aws: FakeAws) -> None:
    aws.answers["cloudformation.list_stack_resources"] = refusal("AccessDenied")
    stack_of(aws).update(StackStatus="DELETE_FAILED", Outputs=[])
    assert steps_of(the(look(aws), "stack", WRONG).mend) == ["describe_stack_events"]


@pytest.mark.parametrize("status", ["UPDATE_ROLLBACK_COMPLETE", "UPDATE_ROLLBACK_FAILED"])
def test_a_rollback_whose_failures_cannot_be_seen_leads_on_all_the_same(aws: FakeAws, status: str) -> None:
    aws.answers["cloudformation.list_stack_resources"] = refusal("AccessDenied")
    stack_of(aws).update(StackStatus=status)
    assert steps_of(the(look(aws), "stack", WRONG).mend) == LEADS_ON[status]


def test_a_rollback_that_failed_says_what_keeps_it(aws: FakeAws) -> None:
    failed_ones(aws, "UPDATE_FAILED")
    stack_of(aws).update(StackStatus="UPDATE_ROLLBACK_FAILED")
    assert " Topic: Topic is in use. Queue: " in the(look(aws), "stack", WRONG).detail


ENDS = {
    "CREATE_IN_PROGRESS": "CREATE_COMPLETE",
    "ROLLBACK_IN_PROGRESS": "ROLLBACK_COMPLETE",
    "DELETE_IN_PROGRESS": "DELETE_COMPLETE",
    "UPDATE_IN_PROGRESS": "UPDATE_COMPLETE",
    "UPDATE_ROLLBACK_IN_PROGRESS": "UPDATE_ROLLBACK_COMPLETE",
    "UPDATE_ROLLBACK_COMPLETE_CLEANUP_IN_PROGRESS": "UPDATE_ROLLBACK_COMPLETE",
    "IMPORT_IN_PROGRESS": "IMPORT_COMPLETE",
}


def rollback_failed(aws: FakeAws, **reasons: str) -> None:
    """Let the rollback of an update have failed at some things."""
    stack_of(aws).update(StackStatus="UPDATE_ROLLBACK_FAILED")
    for each in aws.answers["cloudformation.list_stack_resources"]["StackResourceSummaries"]:
        if each["LogicalResourceId"] in reasons:
            each.update(ResourceStatus="UPDATE_FAILED", ResourceStatusReason=reasons[each["LogicalResourceId"]])


MADE_AGAIN = ["change_set_create_complete", "execute_change_set", "stack_update_complete"]
"""How the command ends that makes again what was deleted."""


@pytest.mark.parametrize("logical_id", DELETED)
def test_a_rollback_goes_on_without_what_was_deleted_which_is_then_made_again(aws: FakeAws, logical_id: str) -> None:
    delete(aws, logical_id)
    rollback_failed(aws, **{logical_id: "There is no such thing"})
    finding = the(look(aws), "stack", WRONG)
    back, wait, *others = finding.mend.split(" && ")
    assert AwsCommand(back).operation == "continue_update_rollback"
    assert AwsCommand(back).parameters["ResourcesToSkip"] == [logical_id]
    assert AwsCommand(wait).operation == "stack_rollback_complete"
    assert ("restore-table-from-backup" in finding.mend) == (logical_id == "Table")
    assert steps_of(" && ".join(others[-3:])) == MADE_AGAIN
    assert "Mend " not in finding.detail


def test_a_rollback_that_failed_for_want_of_something_else_goes_on_and_it_is_made_again(aws: FakeAws) -> None:
    """A function cannot be changed whose role has gone, and the role itself has not failed."""
    with_others(aws)
    gone_only(aws, "StartRunRole")
    rollback_failed(aws, StartRunFunction="The role defined for the function cannot be assumed by Lambda.")
    finding = the(look(aws), "stack", WRONG)
    back, wait, *others = finding.mend.split(" && ")
    assert AwsCommand(back).parameters["ResourcesToSkip"] == ["StartRunFunction"]
    assert AwsCommand(wait).operation == "stack_rollback_complete"
    assert steps_of(" && ".join(others[-3:])) == MADE_AGAIN
    assert "Somebody deleted StartRunRole: the rollback goes on without StartRunFunction, and then " in finding.detail
    assert "Mend " not in finding.detail


@pytest.mark.parametrize(
    "reason",
    [
        'Resource handler returned message: "User: arn:aws:sts::123456789012:assumed-role/admin/me is not authorized '
        'to perform: dynamodb:UpdateTable on resource: …" (HandlerErrorCode: AccessDenied)',
        "API: s3:PutBucketPolicy Access Denied",
        "You are not authorized to perform: dynamodb:UpdateTable",
        "API: dynamodb:UpdateTable Access denied (Error Code: AccessDeniedException)",
    ],
)
def test_a_rollback_does_not_go_on_without_what_was_denied_beside_what_was_deleted(aws: FakeAws, reason: str) -> None:
    """The change set that makes again what was deleted would be denied the same."""
    with_others(aws)
    gone_only(aws, "Topic")
    rollback_failed(aws, Table=reason, Topic="Topic does not exist", DeadLetterQueue="is in use")
    finding = the(look(aws), "stack", WRONG)
    back, _wait, *others = finding.mend.split(" && ")
    assert sorted(AwsCommand(back).parameters["ResourcesToSkip"]) == ["DeadLetterQueue", "Topic"]
    assert steps_of(" && ".join(others[-3:])) == MADE_AGAIN
    assert finding.detail.endswith(" Before, allow what Table was denied, or the rollback fails again.")


def test_a_rollback_goes_on_without_what_failed_for_want_of_a_deleted_role(aws: FakeAws) -> None:
    with_others(aws)
    gone_only(aws, "Topic")
    reason = (
        "Neither the global service principal states.amazonaws.com, nor the regional one is authorized to assume the "
        "provided role. (Service: Sfn, Status Code: 400) (Error Code: AccessDeniedException)"
    )
    rollback_failed(aws, TrainingRunMachine=reason)
    back = the(look(aws), "stack", WRONG).mend.split(" && ")[0]
    assert AwsCommand(back).parameters["ResourcesToSkip"] == ["TrainingRunMachine"]


def test_what_was_denied_and_is_gone_is_skipped(aws: FakeAws) -> None:
    with_others(aws)
    gone_only(aws, "Topic")
    rollback_failed(aws, Topic="AccessDenied")
    finding = the(look(aws), "stack", WRONG)
    assert AwsCommand(finding.mend.partition(" && ")[0]).parameters["ResourcesToSkip"] == ["Topic"]
    assert "Before, " not in finding.detail


def test_of_what_cloudformation_failed_to_make_a_rollback_says_no_more_than_what_keeps_it(aws: FakeAws) -> None:
    """A role is listed by its name also where it was never made."""
    with_others(aws)
    gone_only(aws, "StartRunRole")
    rollback_failed(aws, Table="not authorized to perform: dynamodb:UpdateTable")
    reason = "not authorized to perform: iam:TagRole"
    summary_of(aws, "StartRunRole").update(ResourceStatus="CREATE_FAILED", ResourceStatusReason=reason)
    finding = the(look(aws), "stack", WRONG)
    assert steps_of(finding.mend) == LEADS_ON["UPDATE_ROLLBACK_FAILED"]
    assert "ResourcesToSkip" not in AwsCommand(finding.mend.partition(" && ")[0]).parameters
    assert finding.detail.endswith(" Mend what keeps it first, or the rollback fails again.")
    assert "omebody deleted" not in finding.detail


def test_a_rollback_without_a_failure_that_is_shown_goes_on_before_what_was_deleted_is_made_again(
    aws: FakeAws,
) -> None:
    delete(aws, "TrainingJobRule")
    rollback_failed(aws)
    back, *others = the(look(aws), "stack", WRONG).mend.split(" && ")
    assert "ResourcesToSkip" not in AwsCommand(back).parameters
    assert steps_of(" && ".join(others[-3:])) == MADE_AGAIN


@pytest.mark.parametrize("status", sorted(stack.DEPLOYABLE))
def test_what_was_deleted_is_made_again_before_the_next_deployment(aws: FakeAws, status: str) -> None:
    """Which would fail as the last one did, and its rollback too."""
    with_others(aws)
    gone_only(aws, "StartRunRole")
    stack_of(aws).update(StackStatus=status)
    finding = the(look(aws), "stack", WRONG)
    assert steps_of(finding.mend.partition(" && ")[2]) == ["create_change_set", *MADE_AGAIN, BUILD, DEPLOYED]
    assert " Somebody deleted StartRunRole: a change set makes all of it as the template has it, " in finding.detail


@pytest.mark.parametrize("status", ["UPDATE_ROLLBACK_COMPLETE", "UPDATE_ROLLBACK_FAILED"])
def test_a_state_machine_that_is_being_deleted_is_neither_skipped_nor_made_again_before_it_has_gone(
    aws: FakeAws, status: str
) -> None:
    aws.answers["stepfunctions.describe_state_machine"]["status"] = "DELETING"
    rollback_failed(aws, TrainingRunMachine="State Machine is being deleted")
    stack_of(aws).update(StackStatus=status)
    finding = the(look(aws), "stack", WRONG)
    first, *others = finding.mend.split(" && ")
    assert AwsCommand(first.removeprefix("while ").removesuffix("; do sleep 5; done")).operation == (
        "describe_state_machine"
    )
    assert any(part.startswith("aws cloudformation execute-change-set ") for part in others)
    assert "TrainingRunMachine is only gone when its runs have ended." in finding.detail


def test_a_rollback_skips_all_that_failed_where_something_is_gone_but_what_was_cancelled(aws: FakeAws) -> None:
    """CloudFormation refuses to skip that; and who may not look believes what CloudFormation says."""
    aws.answers["lambda.get_event_source_mapping"] = refusal("AccessDenied")
    reasons = {
        "UploadRule": "HandlerErrorCode: NotFound, of its target",
        "RunBucketPolicy": "The bucket is no more (HandlerErrorCode: NotFound)",
        "OutcomeQueueMapping": "Not there (HandlerErrorCode: NotFound)",
        "TrainingJobRule": "Resource update cancelled",
    }
    rollback_failed(aws, **reasons)
    finding = the(look(aws), "stack", WRONG)
    skipped = AwsCommand(finding.mend.partition(" && ")[0]).parameters["ResourcesToSkip"]
    assert sorted(skipped) == ["OutcomeQueueMapping", "RunBucketPolicy", "UploadRule"]
    assert "Somebody deleted OutcomeQueueMapping and RunBucketPolicy: " in finding.detail


def heeded_by(service: str, waiter: str) -> dict[str, str]:
    """Return what the waiter of a command makes of each status or error that it heeds: success or failure."""
    model = session().get_waiter_model(service)
    [name] = [name for name in model.waiter_names if xform_name(name) == waiter]
    return {acceptor.expected: acceptor.state for acceptor in model.get_waiter(name).acceptors}


@pytest.mark.parametrize("status", ENDS)
def test_an_operation_under_way_is_waited_for_until_it_ends(aws: FakeAws, status: str) -> None:
    stack_of(aws).update(StackStatus=status)
    finding = the(look(aws), "stack", WRONG)
    command = AwsCommand(finding.mend)
    assert command.waits
    heeded = heeded_by("cloudformation", command.operation)
    assert status not in heeded, "it would end at once"
    # A creation that is rolled back has no waiter that calls its end a success.
    failed = status == "ROLLBACK_IN_PROGRESS"
    assert heeded[ENDS[status]] == ("failure" if failed else "success")
    assert ("The wait will end with an error" in finding.detail) == failed


def test_a_cluster_that_does_not_exist(aws: FakeAws) -> None:
    aws.answers["eks.describe_cluster"] = refusal("ResourceNotFoundException")
    for asked in ("", "flow"):
        mend = the(look(aws, cluster=asked), "cluster", WRONG).mend
        assert mend.endswith("--parameter-overrides EksClusterName=NAME")
    assert the(look(aws, cluster="flwo"), "cluster", WRONG).mend == f"aws eks list-clusters --region {REGION}"
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
    monkeypatch.setattr(proxy_access, "may_use", lambda *_: True)
    return aws


class Answering:
    """A client of Kubeflow Pipelines that is well, or raises what it was given."""

    def __init__(self, error: Exception | None = None, multi_user: bool = False) -> None:
        self._error = error
        self._multi_user = multi_user

    def require_version(self) -> Health:
        if self._error:
            raise self._error
        return Health("2.17.0", "abc", self._multi_user)

    def find_experiment(self, name: str) -> None:
        assert name == "baton"


def test_the_functions_are_let_into_the_cluster(proxied: FakeAws) -> None:
    findings = look(proxied)
    assert {finding.state for finding in findings} == {OK}
    access = [finding.detail for finding in findings if finding.check == "cluster access"]
    assert access == [
        "baton-kfp may use the proxy of ml-pipeline:http in kubeflow",
        "baton-LaunchPipelineRole-1 is in baton-kfp",
        "baton-CleanUpRole-1 is in baton-kfp",
    ]
    assert proxied.called("eks.describe_access_entry")[0] == {"clusterName": "flow", "principalArn": CLIENTS[0]}


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
    command = AwsCommand(found[0].mend)
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


MANIFEST = "deploy/kubernetes/kfp-proxy-access.yaml"


@pytest.mark.parametrize(
    ("namespace", "mend"),
    [
        ("kubeflow", f"kubectl apply -f {MANIFEST}"),
        ("flows", f"sed 's/namespace: kubeflow/namespace: flows/' {MANIFEST} | kubectl apply -f -"),
    ],
)
def test_a_group_that_is_not_bound_is_let_in(
    proxied: FakeAws, monkeypatch: pytest.MonkeyPatch, namespace: str, mend: str
) -> None:
    variables_of(proxied)["BATON_KFP_NAMESPACE"] = namespace
    monkeypatch.setattr(proxy_access, "may_use", lambda *asked: asked[-1] == "get")
    finding = the(look(proxied), "cluster access", WRONG)
    assert finding.detail.startswith(f"baton-kfp may not create the proxy of ml-pipeline:http in {namespace}, ")
    assert finding.mend == mend
    role, binding = yaml.safe_load_all(shell(mend.replace("kubectl apply -f", "cat"), ROOT).stdout)
    assert {each["metadata"]["namespace"] for each in (role, binding)} == {namespace}
    [rule], [subject] = role["rules"], binding["subjects"]
    assert (rule["resourceNames"], rule["verbs"]) == ([PROXIED_SERVICE], list(proxy_access.VERBS))
    assert subject["name"] == proxy_access.KFP_GROUP


def shell(command: str, folder: Path) -> subprocess.CompletedProcess[bytes]:
    """Do what a printed command says, with the programs of a folder before those of the machine."""
    path = {"PATH": f"{folder}:{os.environ['PATH']}"}
    words = ["bash", "-c", command]
    return subprocess.run(words, cwd=folder, env=path, timeout=30, capture_output=True, check=False)


def test_a_group_that_is_not_bound_is_found_without_the_right_to_see_access_entries(
    proxied: FakeAws, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxied.answers["eks.describe_access_entry"] = refusal("AccessDeniedException")
    monkeypatch.setattr(proxy_access, "may_use", lambda *_: False)
    finding = the(look(proxied), "cluster access", WRONG)
    assert finding.detail.startswith("baton-kfp may not get nor create the proxy of ")


@pytest.mark.parametrize("error", [KfpRefused("cannot create resource subjectaccessreviews"), Unreached("timed out")])
def test_who_may_not_ask_what_the_group_may_does_not_know(
    proxied: FakeAws, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def ask(*_: Any) -> bool:
        raise error

    monkeypatch.setattr(proxy_access, "may_use", ask)
    finding = the(look(proxied), "cluster access", UNKNOWN)
    assert str(error) in finding.detail
    assert finding.mend == "kubectl apply -f deploy/kubernetes/kfp-proxy-access.yaml"


def unreached() -> KfpUnavailable:
    """What the client raises where no connection comes about."""
    error = KfpUnavailable("Kubeflow Pipelines could not be reached: timed out.")
    error.__cause__ = Unreached("timed out")
    return error


RESTART = (
    "kubectl rollout restart deployment/ml-pipeline --namespace kubeflow"
    " && kubectl rollout status deployment/ml-pipeline --namespace kubeflow"
)
AGAIN = f".venv/bin/baton doctor --stack-name baton --region {REGION}"
NO_SERVICE = KfpMisconfigured(f'{NO_API}: services "ml-pipeline" not found')
PRIVATE = {"endpointPublicAccess": False, "endpointPrivateAccess": True}


@pytest.mark.parametrize(
    ("error", "endpoint", "inside", "state", "mend"),
    [
        (KfpRefused("403"), {}, False, UNKNOWN, ""),
        (KfpUnavailable("Kubeflow Pipelines answered 503: no endpoints"), {}, False, WRONG, RESTART),
        (KfpUnavailable("Kubeflow Pipelines answered 429: slowly", 429), {}, False, UNKNOWN, AGAIN),
        (NO_SERVICE, {}, False, WRONG, "KfpNamespace=NAMESPACE"),
        (KfpMisconfigured(f"{TLS_FAILED} https://x: self-signed certificate."), {}, False, UNKNOWN, AGAIN),
        (KfpMisconfigured(f"{LOGIN_PAGE}: the answer is HTML."), {}, False, WRONG, "KfpMode=direct KfpUrl=URL"),
        (unreached(), PRIVATE, False, WRONG, "VpcSubnetIds=SUBNETS VpcSecurityGroupIds=GROUPS"),
        (unreached(), PRIVATE, True, UNKNOWN, AGAIN),
        (unreached(), {"endpointPublicAccess": True}, False, UNKNOWN, AGAIN),
    ],
)
def test_what_is_wrong_behind_the_api_server_or_with_the_way_to_it(
    proxied: FakeAws,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    endpoint: dict[str, bool],
    inside: bool,
    state: str,
    mend: str,
) -> None:
    monkeypatch.setattr(checks, "connect", lambda *_: Answering(error))
    proxied.answers["eks.describe_cluster"]["cluster"]["resourcesVpcConfig"] = endpoint
    if inside:
        in_a_vpc(proxied)
    found = the(look(proxied, configurations=SAMCONFIG), "kubeflow pipelines", state).mend
    assert found == (f"{DEPLOY} --parameter-overrides {mend}" if "=" in mend else mend)


def test_an_authority_that_cannot_be_read_is_looked_at_and_no_parameter_changed(
    aws: FakeAws, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proxy_access, "may_use", lambda *_: True)
    variables_of(aws)["BATON_KFP_MODE"] = "eks-proxy"
    broken = {"status": "ACTIVE", "endpoint": "https://x.invalid", "certificateAuthority": {"data": "bm8gUEVN"}}
    aws.answers["eks.describe_cluster"] = {"cluster": broken}
    finding = the(look(aws), "kubeflow pipelines", WRONG)
    assert "flow: certificateAuthority.data of DescribeCluster is not PEM in base64." in finding.detail
    command = AwsCommand(finding.mend)
    assert (command.operation, command.parameters) == ("describe_cluster", {"name": "flow"})
    assert command.options["query"] == "cluster.certificateAuthority"


def test_a_cluster_that_has_gone_is_told_once(aws: FakeAws) -> None:
    variables_of(aws)["BATON_KFP_MODE"] = "eks-proxy"
    aws.answers["eks.describe_cluster"] = refusal("ResourceNotFoundException")
    findings = look(aws)
    assert [finding.check for finding in findings if finding.state == WRONG] == ["cluster"]
    assert "flow, which is not there" in the(findings, "kubeflow pipelines", UNKNOWN).detail


def test_what_a_direct_kubeflow_refuses_is_the_secrets_fault(aws: FakeAws, health: dict[str, Any]) -> None:
    health.update(status=403, body={"message": "no"})
    assert the(look(aws), "kubeflow pipelines", WRONG).mend.endswith(" KfpSecretArn=ARN")


# --- versions ---------------------------------------------------------------------------------------------------------


def test_it_looks_at_the_version_that_the_state_machine_calls(aws: FakeAws) -> None:
    """The newest code and its environment may not be what runs use, after a deployment that failed half-way."""
    look(aws)
    assert aws.called("stepfunctions.describe_state_machine") == [{"stateMachineArn": MACHINE}]
    assert {call["FunctionName"] for call in aws.called("lambda.get_function_configuration")} == {CALLED}


CLUSTER_MENDS = {
    "CREATING": ["wait cluster-active --name flow"],
    "PENDING": ["wait cluster-active --name flow"],
    "DELETING": ["EksClusterName=NAME"],
    "FAILED": ["EksClusterName=NAME"],
}


@pytest.mark.parametrize("status", values_of("eks", "ClusterStatus"))
def test_every_status_of_a_cluster_has_its_mend_or_needs_none(
    aws: FakeAws, monkeypatch: pytest.MonkeyPatch, status: str
) -> None:
    """One that is being made, or never came about, has no API server."""
    monkeypatch.setattr(proxy_access, "may_use", lambda *_: True)
    variables_of(aws)["BATON_KFP_MODE"] = "eks-proxy"
    aws.answers["eks.describe_cluster"] = {"cluster": {"status": status}}
    findings = look(aws, configurations=SAMCONFIG)
    mends = CLUSTER_MENDS.get(status, [])
    assert the(findings, "cluster", WRONG if mends else OK).detail.startswith(f"flow is {status}")
    offered = [finding.mend for finding in findings if finding.check == "cluster"]
    assert all(mend in one for mend, one in zip(mends, offered, strict=bool(mends)))
    what = "will not answer any more" if status in checks.CLUSTER_LOST else "has no API server yet"
    found = the(findings, "kubeflow pipelines", UNKNOWN)
    assert (found.detail, found.mend) == (f"reached through flow, which is {status} and {what}", "")


@pytest.mark.parametrize("status", sorted(checks.CLUSTER_LOST))
@pytest.mark.parametrize("error", [unreached(), KfpUnavailable("Kubeflow Pipelines answered 503: no endpoints")])
def test_nobody_waits_for_or_restarts_what_is_in_a_cluster_that_is_lost(
    proxied: FakeAws, monkeypatch: pytest.MonkeyPatch, status: str, error: Exception
) -> None:
    """One that is being deleted shows its API server for a while."""
    monkeypatch.setattr(checks, "connect", lambda *_: Answering(error))
    proxied.answers["eks.describe_cluster"]["cluster"]["status"] = status
    finding = the(look(proxied), "kubeflow pipelines", UNKNOWN)
    assert f"flow, which is {status} and will not" in finding.detail
    assert finding.mend == ""


AGENT = "--cluster-name flow --addon-name eks-pod-identity-agent"


@pytest.mark.parametrize("status", values_of("eks", "AddonStatus"))
def test_every_status_of_the_agent_has_its_mend_or_needs_none(aws: FakeAws, status: str) -> None:
    health = {"issues": [{"code": "InsufficientNumberOfReplicas", "message": "No node has room."}]}
    aws.answers["eks.describe_addon"] = {"addon": {"status": status, "health": health}}
    steps = checks.AGENT_MENDS.get(status)
    finding = the(look(aws), "pod identity", WRONG if steps else OK)
    assert (status in checks.AGENT_AT_WORK) == (steps is None)
    if steps:
        assert f"is {status}, " in finding.detail
        assert finding.detail.endswith("No node has room.")
        parts = finding.mend.split(" && ")
        assert all(part.startswith(f"aws eks {step} {AGENT}") for part, step in zip(parts, steps, strict=True))
        understood(finding.mend)


def test_a_status_of_the_agent_that_nobody_knows_yet_is_waited_out(aws: FakeAws) -> None:
    aws.answers["eks.describe_addon"] = {"addon": {"status": "MIGRATING"}}
    finding = the(look(aws), "pod identity", WRONG)
    assert "is MIGRATING, " in finding.detail
    assert finding.mend.startswith(f"aws eks wait addon-active {AGENT}")


@pytest.mark.parametrize("status", values_of("eks", "AddonStatus"))
def test_a_wait_for_the_agent_ends_also_where_what_it_waits_for_fails(aws: FakeAws, status: str) -> None:
    aws.answers["eks.describe_addon"] = {"addon": {"status": status}}
    [finding] = [finding for finding in look(aws) if finding.check == "pod identity"]
    under_way = status.removesuffix("ING") + "E" if status.endswith("ING") else ""
    for step in steps_of(finding.mend):
        if step.endswith("_addon"):
            under_way = step.removesuffix("_addon").upper()
        else:
            failed = f"{under_way}_FAILED"
            assert failed in values_of("eks", "AddonStatus")
            assert heeded_by("eks", step).get(failed) == "failure", f"{step} would not end with {failed}"


def test_a_cluster_in_auto_mode_has_the_agent(aws: FakeAws) -> None:
    aws.answers["eks.describe_cluster"] = {"cluster": {"status": "ACTIVE", "computeConfig": {"enabled": True}}}
    aws.answers["eks.describe_addon"] = refusal("ResourceNotFoundException")
    assert the(look(aws), "pod identity", OK)


@pytest.mark.parametrize(
    ("status", "body", "said", "mend"),
    [
        (200, "<html>Log in</html>", "You reached the login page, not the API", "make build && .venv/bin/sam deploy"),
        (404, "nothing here", "KfpMisconfigured", "make build && .venv/bin/sam deploy"),
        (503, {"message": "starting"}, "It is there, so no deployment mends it", "kubectl rollout restart"),
    ],
)
def test_a_kubeflow_that_cannot_be_used(
    aws: FakeAws, health: dict[str, Any], status: int, body: Any, said: str, mend: str
) -> None:
    health.update(status=status, body=body)
    finding = the(look(aws), "kubeflow pipelines", WRONG)
    assert said in finding.detail
    assert finding.mend.startswith(mend)


def test_a_kubeflow_that_is_too_old_is_upgraded_as_it_was_installed_and_between_runs(
    aws: FakeAws, health: dict[str, Any]
) -> None:
    health.update(body={**HEALTHY, "tag_name": "2.5.0"})
    finding = the(look(aws), "kubeflow pipelines", WRONG)
    assert finding.detail.startswith("KfpTooOld: ")
    assert "Upgrade it the way in which it was installed: https://www.kubeflow.org/" in finding.detail
    assert finding.mend == ""
    finding = the(look(with_runs_under_way(aws)), "kubeflow pipelines", WRONG)
    assert finding.mend == DRAIN
    assert finding.detail.endswith(f"enable uploads after it: {ENABLE}")


def test_a_kubeflow_that_is_too_old_before_deploying_is_no_matter_of_a_drain(
    aws: FakeAws, health: dict[str, Any], kfp_url: str
) -> None:
    aws.answers["cloudformation.describe_stacks"] = refusal("ValidationError", "Stack does not exist")
    health.update(body={**HEALTHY, "tag_name": "2.5.0"})
    finding = the(look(aws, kfp_url=kfp_url), "kubeflow pipelines", WRONG)
    assert (finding.mend, "Drain" in finding.detail) == ("", False)


@pytest.mark.parametrize("state", ["Creating", "Enabling", "Updating"])
def test_a_mapping_on_its_way_is_looked_at_again(aws: FakeAws, state: str) -> None:
    aws.answers["lambda.get_event_source_mapping"] = {"State": state}
    finding = the(look(aws), "queue mapping", UNKNOWN)
    assert finding.mend == ".venv/bin/baton doctor --stack-name baton --region eu-west-1"


def test_a_wrong_region_is_mended_with_the_options_that_were_given(aws: FakeAws) -> None:
    given = {"kfp_url": "http://kfp:80", "cluster": "c 1", "origin": Origin("--region", "")}
    finding = look(aws, "eu-wset-1", **given)[0]
    assert finding.mend.endswith("--region eu-west-1 --kfp-url http://kfp:80 --cluster 'c 1'")


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("AWS_ENDPOINT_URL", "foo", "Invalid endpoint: foo."),
        ("AWS_ENDPOINT_URL_STS", "foo", "Invalid endpoint: foo."),
        ("AWS_MAX_ATTEMPTS", "x", "invalid literal for int() with base 10: 'x'."),
        ("AWS_MAX_ATTEMPTS", "-1", 'Value provided to "max_attempts": -1 must be '),
        ("AWS_RETRY_MODE", "foo", 'Invalid value provided to "mode": "foo" must be one of: '),
        ("AWS_DEFAULTS_MODE", "foo", "Client configured with invalid defaults mode: foo. "),
        ("AWS_REQUEST_CHECKSUM_CALCULATION", "foo", "Unsupported configuration value "),
        ("AWS_ACCOUNT_ID_ENDPOINT_MODE", "foo", "The configured value 'foo' "),
        ("AWS_ACCOUNT_ID_ENDPOINT_MODE", "FOO", "The configured value 'foo' "),
        ("AWS_MAX_ATTEMPTS", "", "invalid literal for int() with base 10: ''."),
        ("AWS_RETRY_MODE", "", 'Invalid value provided to "mode": "" must be one of: '),
        ("AWS_DEFAULTS_MODE", "", "Client configured with invalid defaults mode: . "),
        ("AWS_REQUEST_CHECKSUM_CALCULATION", "", "Unsupported configuration value "),
    ],
)
def test_a_variable_that_botocore_does_not_take_is_no_matter_of_the_credentials(
    aws: FakeAws, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, said: str
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv(variable, value)
    aws.answers["sts.get_caller_identity"] = lambda: boto3.Session(region_name=REGION).client("sts")
    [finding] = look(aws)
    assert (finding.check, finding.state, finding.mend) == ("identity", WRONG, f"unset {variable}")
    assert finding.detail.startswith(f"botocore does not take {variable}: {said}")


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("AWS_METADATA_SERVICE_TIMEOUT", "x"),
        ("AWS_METADATA_SERVICE_NUM_ATTEMPTS", "x"),
        ("AWS_EC2_METADATA_SERVICE_ENDPOINT", "bad"),
        ("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE", "bad"),
        ("AWS_MAX_ATTEMPTS", "x"),
    ],
)
def test_a_variable_about_where_credentials_come_from_that_botocore_does_not_take_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], variable: str, value: str
) -> None:
    """The command asks for the credentials before any check."""
    for name in ("AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv(variable, value)
    assert main(["doctor", "--region", REGION]) == 2
    [finding, *_] = capsys.readouterr().out.splitlines()
    assert finding.startswith(f"!!  identity: botocore does not take {variable}: ")
    assert finding.endswith(f"  mend: unset {variable}")


@pytest.mark.parametrize("service", ["S3", "SQS"])
def test_an_endpoint_of_another_service_that_botocore_does_not_take_is_not_batons_fault(
    command: FakeAws, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], service: str
) -> None:
    def client(_session: boto3.Session, name: str, **options: Any) -> Any:
        if name == service.lower():
            raise ValueError("Invalid endpoint: foo")
        return command(name, **options)

    monkeypatch.setattr(boto3.Session, "client", client)
    assert main(["doctor", "--region", REGION]) == 0
    said = capsys.readouterr().out
    assert "This cannot be seen from here: botocore does not take one of your settings: Invalid endpoint: foo" in said
    assert "Baton is to blame" not in said


@pytest.mark.parametrize("setting", ["retry_mode = foo", "max_attempts = x", "endpoint_url = foo"])
def test_a_setting_of_a_file_that_botocore_does_not_take_is_changed_there(
    aws: FakeAws, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, setting: str
) -> None:
    (tmp_path / "config").write_text(f"[default]\n{setting}\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    for name in ("AWS_PROFILE", "AWS_ENDPOINT_URL", "AWS_MAX_ATTEMPTS", "AWS_RETRY_MODE"):
        monkeypatch.delenv(name, raising=False)
    aws.answers["sts.get_caller_identity"] = lambda: boto3.Session(region_name=REGION).client("sts")
    [finding] = look(aws)
    assert finding.detail.startswith("botocore does not take a setting of your configuration file: ")
    assert finding.mend == '${EDITOR:-vi} "${AWS_CONFIG_FILE:-$HOME/.aws/config}"'


@pytest.mark.parametrize(
    ("variable", "value", "others"),
    [
        ("AWS_MAX_ATTEMPTS", "0", {"AWS_SDK_LOAD_CONFIG": "1", "AWS_METADATA_SERVICE_NUM_ATTEMPTS": "1"}),
        ("AWS_MAX_ATTEMPTS", "x", {"AWS_METADATA_SERVICE_TIMEOUT": "10"}),
        ("AWS_DEFAULTS_MODE", "zz", {"AWS_RETRY_MODE": "standard"}),
        (
            "AWS_REQUEST_CHECKSUM_CALCULATION",
            "zz",
            {"AWS_RESPONSE_CHECKSUM_VALIDATION": "when_required", "AWS_EXECUTION_ENV": "zz"},
        ),
    ],
)
@pytest.mark.parametrize("in_file", [False, True])
def test_of_variables_those_are_left_whose_values_botocore_takes(
    aws: FakeAws,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    variable: str,
    value: str,
    others: dict[str, str],
    in_file: bool,
) -> None:
    """Its message also names the values that it would take."""
    config = tmp_path / "config"
    config.write_text(f"[default]\n{variable.removeprefix('AWS_').lower()} = {value}\n" if in_file else "")
    given = {"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_CONFIG_FILE": str(config)}
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    monkeypatch.delenv(variable, raising=False)
    for name, good in (given | others | ({} if in_file else {variable: value})).items():
        monkeypatch.setenv(name, good)
    aws.answers["sts.get_caller_identity"] = lambda: boto3.Session(region_name=REGION).client("sts")
    [finding] = look(aws)
    assert ("your configuration file: " in finding.detail, finding.mend == f"unset {variable}") == (
        in_file,
        not in_file,
    )


@pytest.mark.parametrize("deployed", [True, False])
def test_where_nobody_answers_at_the_given_url_no_deployment_is_offered(aws: FakeAws, deployed: bool) -> None:
    variables_of(aws)["BATON_KFP_NAMESPACE"] = "flows"
    if not deployed:
        aws.answers["cloudformation.describe_stacks"] = refusal("ValidationError", "Stack does not exist")
    namespace = "flows" if deployed else "kubeflow"
    for url, mend in (
        ("http://localhost:1", f"kubectl port-forward --namespace {namespace} service/ml-pipeline 1:8888"),
        ("http://kfp.invalid", "curl -v http://kfp.invalid"),
    ):
        finding = the(look(aws, kfp_url=url), "kubeflow pipelines", WRONG)
        assert finding.detail.startswith(f"Nobody answers at {url}: KfpUnavailable: ")
        assert finding.mend == mend


def test_what_answers_badly_at_the_given_url_is_mended_there(
    aws: FakeAws, health: dict[str, Any], kfp_url: str
) -> None:
    health.update(status=404, body="nothing here")
    finding = the(look(aws, kfp_url=kfp_url), "kubeflow pipelines", WRONG)
    assert finding.detail.startswith(f"There is no Kubeflow Pipelines at {kfp_url}: ")
    assert finding.mend == f"curl -v {kfp_url}"


UNREADABLE = ["http://[::1", "http://kfp:88888", "kfp:8888", "http://"]


@pytest.mark.parametrize("url", UNREADABLE)
def test_a_given_url_that_is_none_is_given_again(aws: FakeAws, url: str) -> None:
    finding = the(look(aws, kfp_url=url), "kubeflow pipelines", WRONG)
    assert "The URL must begin with http:// or https:// and name a host, not be" in finding.detail
    assert finding.mend == f"{AGAIN} --kfp-url URL"


@pytest.mark.parametrize("url", UNREADABLE)
def test_a_deployed_url_that_is_none_is_deployed_again(aws: FakeAws, url: str) -> None:
    variables_of(aws)["BATON_KFP_URL"] = url
    assert the(look(aws), "kubeflow pipelines", WRONG).mend.endswith(" KfpUrl=URL")


SECRET = f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:kfp-AbCdEf"


@pytest.mark.parametrize(
    ("secret", "said", "mend"),
    [
        ({"SecretString": "{}"}, "must be", "put_secret_value"),
        (refusal("InvalidRequestException"), "is marked for deletion", "restore_secret"),
        (refusal("ResourceNotFoundException"), "There is no secret", "KfpSecretArn=ARN"),
    ],
)
def test_a_secret_that_cannot_be_used_is_mended_itself(aws: FakeAws, secret: Any, said: str, mend: str) -> None:
    variables_of(aws)["BATON_KFP_SECRET_ARN"] = SECRET
    aws.answers["secretsmanager.get_secret_value"] = secret
    finding = the(diagnose(with_runs_under_way(aws)), "kubeflow pipelines", WRONG)
    assert said in finding.detail
    if mend.startswith("Kfp"):
        assert finding.mend == f"{DEPLOY} --parameter-overrides {mend}"
        return
    command = AwsCommand(finding.mend)
    assert (command.operation, command.parameters["SecretId"]) == (mend, SECRET)


@pytest.mark.parametrize(
    ("status", "body"), [(403, {"message": "no"}), (401, {"message": "no"}), (200, "<html>Log in")]
)
def test_a_token_that_is_refused_is_put_into_its_secret(
    aws: FakeAws, health: dict[str, Any], status: int, body: Any
) -> None:
    """Nobody can drain before that, since no clean-up can look; and no deployment is needed."""
    variables_of(aws)["BATON_KFP_SECRET_ARN"] = SECRET
    aws.answers["secretsmanager.get_secret_value"] = {"SecretString": "hush-hush"}
    health.update(status=status, body=body)
    finding = the(diagnose(with_runs_under_way(aws)), "kubeflow pipelines", WRONG)
    command = AwsCommand(finding.mend)
    assert command.operation == "put_secret_value"
    assert command.parameters == {"SecretId": SECRET, "SecretString": '{"token": "TOKEN"}'}
    assert "No deployment is needed." in finding.detail
    assert "hush-hush" not in finding.detail


def behind_the_vpc(aws: FakeAws, **variables: str) -> str:
    """Return the command for a Kubeflow Pipelines that only the functions reach, from a VPC."""
    variables_of(aws).update(BATON_KFP_URL=f"http://localhost:{free_port()}", **variables)
    return the(look(in_a_vpc(aws)), "kubeflow pipelines", UNKNOWN).mend


def test_a_private_kubeflow_is_not_seen_from_here(aws: FakeAws) -> None:
    forward = "(kubectl port-forward --namespace flows service/ml-pipeline 8888 & "
    assert behind_the_vpc(aws, BATON_KFP_NAMESPACE="flows").startswith(forward)
    # In a multi-user installation that is a profile's namespace, and the server is not in it.
    mend = behind_the_vpc(aws, BATON_KFP_NAMESPACE="flows", BATON_KFP_USER="me@example.org")
    assert mend.startswith(forward.replace("flows", "kubeflow"))


OTHERS_HEALTH: list[dict[str, Any]] = [{}, {"status": "ok"}, {"tag_name": 5}]


@pytest.mark.parametrize("body", OTHERS_HEALTH)
def test_who_is_healthy_need_not_be_kubeflow(aws: FakeAws, health: dict[str, Any], kfp_url: str, body: Any) -> None:
    health.update(body=body)
    assert the(look(aws), "kubeflow pipelines", WRONG).mend.endswith(" KfpUrl=URL")
    finding = the(look(aws, kfp_url=kfp_url), "kubeflow pipelines", WRONG)
    assert finding.detail.startswith(f"There is no Kubeflow Pipelines at {kfp_url}: KfpMisconfigured: ")


PLAIN = ["Forbidden"]
"""An answer without an object, as of a load balancer."""


@pytest.mark.parametrize("status", [400, 405, 418])
@pytest.mark.parametrize("secret", ["", SECRET])
def test_what_is_refused_whoever_asks_needs_no_secret(
    aws: FakeAws, health: dict[str, Any], kfp_url: str, status: int, secret: str
) -> None:
    variables_of(aws)["BATON_KFP_SECRET_ARN"] = secret
    aws.answers["secretsmanager.get_secret_value"] = {"SecretString": "hush-hush"}
    health.update(status=status, body={"message": "no"})
    assert the(look(aws), "kubeflow pipelines", WRONG).mend.endswith(" --parameter-overrides KfpUrl=URL")
    assert the(look(aws, kfp_url=kfp_url), "kubeflow pipelines", WRONG).mend == f"curl -v {kfp_url}"


@pytest.mark.parametrize("status", [401, 403])
def test_what_is_seen_through_a_forwarded_port_is_certain(
    aws: FakeAws, health: dict[str, Any], kfp_url: str, status: int
) -> None:
    health.update(status=status, body={"message": "no"})
    finding = the(look(in_a_vpc(aws), kfp_url=kfp_url), "kubeflow pipelines", WRONG)
    assert finding.mend.endswith(" --parameter-overrides KfpSecretArn=ARN")


THROUGH = "(kubectl port-forward --namespace kubeflow service/ml-pipeline 8888 & "


@pytest.mark.parametrize(
    ("status", "body"),
    [
        *((200, "<html>Log in"), (302, "elsewhere"), (404, "nothing here"), (404, {"kind": "Status"}), (200, "hello")),
        *((401, {"message": "who are you?"}), (403, PLAIN), (400, {"message": "Bad request"}), (405, PLAIN)),
        *((200, body) for body in OTHERS_HEALTH),
    ],
)
@pytest.mark.parametrize("secret", ["", "arn:secret"])
def test_what_else_has_a_private_kubeflows_name_here_says_nothing_about_the_functions(
    aws: FakeAws, health: dict[str, Any], status: int, body: Any, secret: str
) -> None:
    """The name may be another server's inside the VPC."""
    variables_of(aws)["BATON_KFP_SECRET_ARN"] = secret
    aws.answers["secretsmanager.get_secret_value"] = {"SecretString": "hush-hush"}
    health.update(status=status, body=body)
    finding = the(look(in_a_vpc(aws)), "kubeflow pipelines", UNKNOWN)
    assert re.match("Not seen from here: Kfp(Misconfigured|Refused): ", finding.detail)
    assert finding.mend.startswith(THROUGH)


@pytest.mark.parametrize("inside", [True, False])
def test_a_tls_connection_that_fails_is_a_fault_only_where_the_functions_have_the_same_way(
    aws: FakeAws, kfp_url: str, inside: bool
) -> None:
    """The server of the fixture speaks no TLS."""
    variables_of(aws)["BATON_KFP_URL"] = kfp_url.replace("http:", "https:")
    finding = the(look(in_a_vpc(aws) if inside else aws), "kubeflow pipelines", UNKNOWN if inside else WRONG)
    assert TLS_FAILED in finding.detail
    assert finding.mend.startswith(THROUGH) if inside else finding.mend.endswith(" KfpUrl=URL")


def test_a_private_kubeflow_that_is_unwell_from_here_is_looked_at_through_a_port_before_a_restart(
    aws: FakeAws, health: dict[str, Any], kfp_url: str
) -> None:
    health.update(status=503, body={"message": "starting"})
    finding = the(look(in_a_vpc(aws)), "kubeflow pipelines", WRONG)
    assert "The functions may see another server in their VPC." in finding.detail
    assert finding.mend.startswith(THROUGH)
    assert the(look(aws, kfp_url=kfp_url), "kubeflow pipelines", WRONG).mend == RESTART


def test_the_api_server_proves_who_it_is_so_what_is_unwell_behind_it_is_restarted(
    proxied: FakeAws, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = KfpUnavailable("Kubeflow Pipelines answered 503: no endpoints")
    monkeypatch.setattr(checks, "connect", lambda *_: Answering(error))
    assert the(look(in_a_vpc(proxied)), "kubeflow pipelines", WRONG).mend == RESTART


@pytest.mark.parametrize(("url", "secret"), [("kfp.internal:8888", ""), ("", "{}")])
def test_what_is_wrong_with_a_private_kubeflows_parameters_is_so_from_everywhere(
    aws: FakeAws, url: str, secret: str
) -> None:
    if secret:
        variables_of(aws)["BATON_KFP_SECRET_ARN"] = SECRET
        aws.answers["secretsmanager.get_secret_value"] = {"SecretString": secret}
    else:
        variables_of(aws)["BATON_KFP_URL"] = url
    mend = the(look(in_a_vpc(aws)), "kubeflow pipelines", WRONG).mend
    assert AwsCommand(mend).operation == "put_secret_value" if secret else mend.endswith(" KfpUrl=URL")


FORWARD = """#!{python}
import http.server, pathlib, sys, time
if {broken}: sys.exit("error: services not found")
time.sleep(1)
http.server.HTTPServer(("localhost", int(sys.argv[-1])), http.server.SimpleHTTPRequestHandler).serve_forever()
"""
LOOK = """#!{python}
import pathlib, sys, urllib.request
assert urllib.request.urlopen(sys.argv[-1]).status == 200
pathlib.Path("looked").write_text(" ".join(sys.argv[1:]))
"""


@pytest.mark.parametrize("broken", [False, True])
def test_the_forwarded_port_is_waited_for_and_closed_again(aws: FakeAws, tmp_path: Path, broken: bool) -> None:
    port = str(free_port())
    command = behind_the_vpc(aws).replace("8888", port)
    for name, text in (("kubectl", FORWARD), (".venv/bin/baton", LOOK)):
        program = tmp_path / name
        program.parent.mkdir(parents=True, exist_ok=True)
        program.write_text(text.format(python=sys.executable, broken=broken))
        program.chmod(0o755)
    done = shell(command, tmp_path)
    looked = tmp_path / "looked"
    assert (done.returncode == 0, looked.exists()) == (not broken, not broken)
    assert broken or f"--kfp-url http://localhost:{port}" in looked.read_text()
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("localhost", int(port)), timeout=1)


def test_a_server_that_answers_badly_at_the_given_url_is_there(
    aws: FakeAws, health: dict[str, Any], kfp_url: str
) -> None:
    health.update(status=503, body={"message": "starting"})
    assert the(look(aws, kfp_url=kfp_url), "kubeflow pipelines", WRONG).mend == RESTART


@pytest.mark.parametrize(
    ("user", "namespace", "mend"),
    [
        ("", "kubeflow", "KfpUser=USER KfpNamespace=NAMESPACE"),
        ("me@example.org", "kubeflow", "KfpNamespace=NAMESPACE"),
        ("me@example.org", "mine", ""),
    ],
)
def test_a_multi_user_installation_must_let_the_stacks_user_into_its_namespace(
    aws: FakeAws, health: dict[str, Any], user: str, namespace: str, mend: str
) -> None:
    health.update(body={**HEALTHY, "multi_user": True})
    variables_of(aws).update(BATON_KFP_USER=user, BATON_KFP_NAMESPACE=namespace)
    finding = the(look(aws), "kubeflow pipelines", WRONG if mend else OK)
    assert finding.detail.startswith("multi-user, " if mend else "2.17.0, multi-user, ")
    assert finding.mend.partition(" --parameter-overrides ")[2] == mend


def test_a_multi_user_installation_is_not_for_the_mode_eks_proxy(
    proxied: FakeAws, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks, "connect", lambda *_: Answering(multi_user=True))
    assert " KfpMode=direct KfpUrl=URL " in the(look(proxied), "kubeflow pipelines", WRONG).mend


# --- the pods' role ---------------------------------------------------------------------------------------------------


def without_pod_identity(aws: FakeAws, **given: str) -> FakeAws:
    summaries = aws.answers["cloudformation.list_stack_resources"]["StackResourceSummaries"]
    summaries[:] = [each for each in summaries if each["LogicalResourceId"] != "PodIdentity"]
    stack_of(aws)["Parameters"] = parameters(**given)
    return aws


def test_pods_without_a_role_are_found_in_china(aws: FakeAws) -> None:
    aws.answers["sts.get_caller_identity"] = {"Arn": "arn:aws-cn:iam::1:user/u"}
    without_pod_identity(aws, PodCredentials="auto", OidcProvider="")
    finding = the(look(aws, "cn-northwest-1"), "pod credentials", WRONG)
    assert finding.mend.endswith(" --parameter-overrides OidcProvider=ISSUER")


def test_elsewhere_somebody_else_may_give_the_pods_their_role(aws: FakeAws) -> None:
    finding = the(look(without_pod_identity(aws, PodCredentials="auto", OidcProvider="")), "pod credentials", UNKNOWN)
    assert finding.mend.endswith(" --parameter-overrides EksClusterName=NAME")
    assert "pod credentials" not in {each.check for each in look(without_pod_identity(aws, PodCredentials="none"))}


def test_pods_with_a_role_by_their_tokens_are_well(aws: FakeAws) -> None:
    findings = look(without_pod_identity(aws, PodCredentials="auto", OidcProvider="oidc.example.org/id/1"))
    assert the(findings, "pod credentials", OK)


# --- runs under way ---------------------------------------------------------------------------------------------------

RUNS = [f"{MACHINE.replace('stateMachine', 'execution')}:{name}" for name in ("one", "two")]
DEPLOY = f"make build && .venv/bin/sam deploy --config-env default --stack-name baton --region {REGION}"
DRAIN = f".venv/bin/baton drain --stack-stays --calm 200 --stack-name baton --region {REGION}"
ENABLE = f"aws events enable-rule --name baton-UploadRule-1A --region {REGION}"


def between_runs(overrides: str) -> str:
    """The command that builds, so that a failing build changes nothing, and then deploys on a drained stack."""
    build, _, deploy = DEPLOY.partition(" && ")
    return f"{build} && {DRAIN} && {deploy} --parameter-overrides {overrides} && {ENABLE}"


def with_runs_under_way(aws: FakeAws) -> FakeAws:
    """Give an account a run that runs, one that has ended and is not cleaned up, and some that are over."""
    rows = [
        {"name": {"S": "bt-1"}, "execution_arn": {"S": RUNS[0]}},
        {"name": {"S": "bt-2"}, "execution_arn": {"S": RUNS[1]}},
        {"name": {"S": "bt-3"}, "execution_arn": {"S": f"{RUNS[0]}-over"}, "receipt": {"S": "{}"}},
        {"name": {"S": "bt-4"}, "ended_at": {"N": "1"}},
    ]
    aws.answers["stepfunctions.list_executions"] = {"executions": [{"executionArn": RUNS[0]}]}
    aws.answers["dynamodb.query"] = [{"Items": rows[:2]}, {"Items": rows[2:]}]
    return aws


def diagnose(aws: FakeAws, region: str = REGION) -> list[Finding]:
    return look(aws, region, configurations=SAMCONFIG)


def test_runs_under_way_are_told_and_are_nothing_wrong(aws: FakeAws) -> None:
    assert the(diagnose(aws), "runs", OK).detail == "none under way"
    findings = diagnose(with_runs_under_way(aws))
    assert {finding.state for finding in findings} == {OK}
    words = "2 under way; docs/operations.md lists what must not change meanwhile"
    assert the(findings, "runs", OK) == Finding("runs", OK, words)
    assert aws.called("stepfunctions.list_executions")[-1] == {"stateMachineArn": MACHINE, "statusFilter": "RUNNING"}


def refuses(aws: FakeAws, health: dict[str, Any]) -> str:
    health.update(status=403, body={"message": "no"})
    return "KfpSecretArn=ARN"


def shuts_user_out(aws: FakeAws, health: dict[str, Any]) -> str:
    health.update(body={**HEALTHY, "multi_user": True})
    return "KfpUser=USER KfpNamespace=NAMESPACE"


def loses_cluster(aws: FakeAws, _health: dict[str, Any]) -> str:
    aws.answers["eks.describe_cluster"] = refusal("ResourceNotFoundException")
    return "EksClusterName=NAME"


def gives_pods_nothing(aws: FakeAws, _health: dict[str, Any]) -> str:
    without_pod_identity(aws, PodCredentials="auto", OidcProvider="")
    return "EksClusterName=NAME"


def gives_pods_nothing_in_china(aws: FakeAws, health: dict[str, Any]) -> str:
    aws.answers["sts.get_caller_identity"] = {"Arn": "arn:aws-cn:iam::1:user/u"}
    gives_pods_nothing(aws, health)
    return "OidcProvider=ISSUER"


HINDRANCES = [(refuses, REGION), (shuts_user_out, REGION), (loses_cluster, REGION)]
"""What keeps clean-ups from looking, too."""

HARMS = [
    (gives_pods_nothing, REGION, "EksClusterName"),
    (gives_pods_nothing_in_china, "cn-northwest-1", "OidcProvider"),
]


def in_place(command: str, region: str) -> str:
    configured = command.replace("--config-env default", "--config-env cn") if region != REGION else command
    return configured.replace(REGION, region)


@pytest.mark.parametrize(("harm", "region", "names"), HARMS)
def test_a_parameter_that_runs_under_way_depend_on_waits_for_the_drain(
    aws: FakeAws, health: dict[str, Any], harm: Any, region: str, names: str
) -> None:
    overrides = harm(with_runs_under_way(aws), health)
    [finding] = [each for each in diagnose(aws, region) if each.mend]
    assert finding.mend == in_place(between_runs(overrides), region)
    assert finding.detail.endswith(f" 2 runs are under way, and {names} may only change on a drained stack.")
    understood(finding.mend)


@pytest.mark.parametrize(("harm", "region"), [*HINDRANCES, *((harm, region) for harm, region, _ in HARMS)])
def test_without_runs_under_way_nothing_is_drained(
    aws: FakeAws, health: dict[str, Any], harm: Any, region: str
) -> None:
    overrides = harm(aws, health)
    [finding] = [each for each in diagnose(aws, region) if each.mend]
    assert finding.mend == in_place(f"{DEPLOY} --parameter-overrides {overrides}", region)
    assert "drained" not in finding.detail
    assert "under way" not in finding.detail
    kept = in_place("--config-env default", region).removeprefix("--config-env ")
    where = f"Write it into [{kept}.deploy.parameters] of samconfig.toml too, or the next deployment takes it back."
    assert where in finding.detail


@pytest.mark.parametrize(("harm", "region"), HINDRANCES)
def test_what_keeps_clean_ups_from_looking_is_not_drained_before(
    aws: FakeAws, health: dict[str, Any], harm: Any, region: str
) -> None:
    """The drain would end with runs that are not cleaned up, and the deployment never begin."""
    overrides = harm(with_runs_under_way(aws), health)
    [finding] = [each for each in diagnose(aws, region) if each.mend]
    assert finding.mend == f"{DEPLOY} --parameter-overrides {overrides}"
    words = " 2 runs are under way; clean-ups that start after the deployment can look again."
    assert finding.detail.endswith(words)


def test_before_a_first_deployment_no_run_is_looked_for(aws: FakeAws, health: dict[str, Any], kfp_url: str) -> None:
    aws.answers["cloudformation.describe_stacks"] = refusal("ValidationError", "Stack does not exist")
    refuses(aws, health)
    finding = the(look(aws, kfp_url=kfp_url), "kubeflow pipelines", WRONG)
    assert "under way" not in finding.detail
    assert aws.called("stepfunctions.list_executions") == []


def test_one_run_is_not_called_several(aws: FakeAws, health: dict[str, Any]) -> None:
    gives_pods_nothing(with_runs_under_way(aws), health)
    aws.answers["dynamodb.query"] = {"Items": []}
    finding = the(diagnose(aws), "pod credentials", UNKNOWN)
    assert " 1 run is under way, and EksClusterName may only change on a drained stack." in finding.detail


def test_where_runs_cannot_be_seen_there_may_be_some(aws: FakeAws, health: dict[str, Any]) -> None:
    overrides = gives_pods_nothing(aws, health)
    aws.answers["stepfunctions.list_executions"] = refusal("AccessDenied", "not authorized")
    finding = the(diagnose(aws), "pod credentials", UNKNOWN)
    assert " Runs may be under way, and EksClusterName may only change on a drained stack." in finding.detail
    assert finding.mend == between_runs(overrides)


def test_the_mode_waits_for_the_drain_and_so_does_what_changes_with_it(
    proxied: FakeAws, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks, "connect", lambda *_: Answering(multi_user=True))
    finding = the(diagnose(with_runs_under_way(proxied)), "kubeflow pipelines", WRONG)
    overrides = "KfpMode=direct KfpUrl=URL KfpUser=USER KfpNamespace=NAMESPACE"
    assert finding.mend == between_runs(overrides)
    assert "and KfpMode, KfpUser and KfpNamespace may only change on a drained stack." in finding.detail


def test_another_url_need_not_wait_and_runs_under_way_keep_theirs(aws: FakeAws) -> None:
    variables_of(aws)["BATON_KFP_URL"] = "http://localhost:1"
    finding = the(diagnose(with_runs_under_way(aws)), "kubeflow pipelines", WRONG)
    assert finding.mend == f"{DEPLOY} --parameter-overrides KfpUrl=URL"
    assert finding.detail.endswith(" 2 runs are under way; each looks at its own KfpUrl to the end.")


# --- the profile of the credentials -----------------------------------------------------------------------------------


def everything_wrong(aws: FakeAws, health: dict[str, Any]) -> None:
    for operation, answer, _ in SAID.values():
        aws.answers[operation] = answer
    health.update(status=503, body={"message": "starting"})
    without_pod_identity(aws)
    stack_of(aws).update(StackStatus="UPDATE_ROLLBACK_FAILED")


def nothing_deployed(aws: FakeAws, _health: dict[str, Any]) -> None:
    aws.answers["cloudformation.describe_stacks"] = refusal("ValidationError", "Stack does not exist")
    aws.answers["eks.describe_cluster"] = refusal("ResourceNotFoundException")


def no_such_region(_aws: FakeAws, _health: dict[str, Any]) -> None:
    """The region of the test is none."""


def no_access(aws: FakeAws, _health: dict[str, Any]) -> None:
    variables_of(aws)["BATON_KFP_MODE"] = "eks-proxy"
    cluster = {"status": "ACTIVE", "accessConfig": {"authenticationMode": "API"}}
    aws.answers["eks.describe_cluster"] = {"cluster": cluster}
    aws.answers["eks.describe_access_entry"] = refusal("ResourceNotFoundException")


def no_entries(aws: FakeAws, _health: dict[str, Any]) -> None:
    variables_of(aws)["BATON_KFP_MODE"] = "eks-proxy"


def deleted_role(aws: FakeAws, health: dict[str, Any]) -> None:
    aws.answers["iam.get_role"] = refusal("NoSuchEntity")
    shuts_user_out(aws, health)


def behind_a_vpc(aws: FakeAws, health: dict[str, Any]) -> None:
    health.update(status=503, body={"message": "no"})
    in_a_vpc(aws)
    gives_pods_nothing(with_runs_under_way(aws), health)


@pytest.mark.parametrize(
    ("harm", "region"),
    [
        *((harm, REGION) for harm in (everything_wrong, nothing_deployed, no_access, no_entries, deleted_role)),
        (behind_a_vpc, REGION),
        (no_such_region, "nowhere"),
    ],
)
def test_commands_name_the_profile_that_was_chosen(
    aws: FakeAws, health: dict[str, Any], monkeypatch: pytest.MonkeyPatch, harm: Any, region: str
) -> None:
    """Without it they would act on the account of the default credentials."""
    monkeypatch.setattr(checks, "connect", connect_unless_proxied)
    monkeypatch.setattr(proxy_access, "may_use", lambda *_: True)
    harm(aws, health)
    plain = [finding.mend for finding in look(aws, region, cluster="flow", configurations=SAMCONFIG)]
    chosen = [finding.mend for finding in look(aws, region, cluster="flow", configurations=SAMCONFIG, profile="my own")]
    assert any(plain)
    assert not any("--profile" in mend for mend in plain)
    assert [mend.replace(" --profile 'my own'", "") for mend in chosen] == plain
    for part in (part for mend in chosen for part in re.split(r" && | & |; |\|\| ", mend)):
        ours = part.startswith(("aws ", ".venv/bin/sam ", ".venv/bin/baton "))
        assert part.count(" --profile 'my own'") == int(ours), part


def connect_unless_proxied(settings: Settings, clients: Any) -> Any:
    return Answering() if settings.kfp_mode == "eks-proxy" else connect(settings, clients)


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
    assert capsys.readouterr().out.startswith("!!  identity: Your credentials do not work. ")


@pytest.mark.parametrize(
    ("options", "check", "mend"),
    [
        ([], "region", "aws configure set region REGION"),
        (["--region", "eu-wset-1"], "region", ".venv/bin/baton doctor --stack-name baton --region eu-west-1"),
        (["--region", REGION, "--profile", "none"], "identity", "aws configure list-profiles"),
        (["--region", REGION], "identity", INSTEAD),
    ],
)
def test_where_nothing_can_be_looked_at_json_says_why(
    command: FakeAws,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    check: str,
    mend: str,
) -> None:
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    command.answers["sts.get_caller_identity"] = refusal("ExpiredToken")
    assert main(["doctor", "--json", *options]) == 2
    [finding] = json.loads(capsys.readouterr().out)
    assert (finding["check"], finding["state"], finding["mend"]) == (check, WRONG, mend)


@pytest.mark.parametrize("variable", ["AWS_REGION", "AWS_DEFAULT_REGION"])
def test_the_region_of_the_environment_is_taken_and_changed_there(
    command: FakeAws, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], variable: str
) -> None:
    assert command
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, "eu-wset-1")
    assert main(["doctor"]) == 2
    assert f"mend: export {variable}=eu-west-1\n" in capsys.readouterr().out


def test_the_command_keeps_the_profile(
    command: FakeAws, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "config").write_text("[profile work]\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    command.answers["events.describe_rule"] = {"State": "DISABLED"}
    main(["doctor", "--region", REGION, "--profile", "work"])
    assert f"mend: {ENABLE} --profile work\n" in capsys.readouterr().out


def test_json_says_the_same(command: FakeAws, capsys: pytest.CaptureFixture[str]) -> None:
    command.answers["events.describe_rule"] = {"State": "DISABLED"}
    with_runs_under_way(command)
    assert main(["doctor", "--region", REGION, "--json"]) == 1
    said = [Finding(**entry) for entry in json.loads(capsys.readouterr().out)]
    assert said == list(examine(Patient(command, REGION, "baton", doctor.packaged(), configurations=SAMCONFIG)))


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_a_reader_that_has_seen_enough_is_no_error(options: list[str]) -> None:
    call = [sys.executable, "-m", "baton_cli.main", "doctor", "--region", "nowhere", *options]
    with subprocess.Popen(call, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_where_the_output_is_closed_the_exit_code_tells(options: list[str]) -> None:
    call = [sys.executable, "-m", "baton_cli.main", "doctor", "--region", "nowhere", *options]
    closed = subprocess.run(["sh", "-c", 'exec "$@" >&-', "sh", *call], capture_output=True, check=False)
    assert (closed.returncode, closed.stderr) == (2, b"")


def test_another_pipe_that_breaks_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_options: Any) -> list[Finding]:
        raise BrokenPipeError

    monkeypatch.setattr(doctor, "_look", broken)
    with pytest.raises(BrokenPipeError):
        main(["doctor"])


def lines_of(command: FakeAws, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Return what doctor prints, but for its last line, the count, and the empty one before."""
    main(["doctor", "--region", REGION])
    *lines, empty, _count = capsys.readouterr().out.splitlines()
    assert empty == ""
    return lines


def test_it_has_a_line_for_each_finding_of_80_columns_where_all_is_well(
    command: FakeAws, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = lines_of(command, capsys)
    assert len(lines) == len(look(command))
    assert all(line.startswith("ok  ") and len(line) < 80 for line in lines)


def test_what_is_wrong_has_one_line_too_that_ends_with_the_command(
    command: FakeAws, capsys: pytest.CaptureFixture[str]
) -> None:
    for operation, answer, _ in SAID.values():
        command.answers[operation] = answer
    command.answers["s3.get_bucket_versioning"] = refusal("AccessDenied", "You may\nnot")
    lines = lines_of(command, capsys)
    findings = look(command)
    assert len(lines) == len(findings)
    assert [line.partition("  mend: ")[2] for line in lines] == [finding.mend for finding in findings]
    assert any(line.startswith("?? ") and line.endswith("You may not") for line in lines)
    for finding in findings:
        if finding.mend:
            understood(finding.mend)


# --- which configuration deploys the stack ----------------------------------------------------------------------------

SAMCONFIG = Configurations.read(ROOT / "samconfig.toml")
NEW = "--resolve-s3 --capabilities CAPABILITY_IAM CAPABILITY_AUTO_EXPAND"


@pytest.mark.parametrize(
    ("stack", "region", "options"),
    [
        ("baton", "eu-west-1", "--config-env default --stack-name baton --region eu-west-1"),
        ("baton", "cn-northwest-1", "--config-env cn --stack-name baton --region cn-northwest-1"),
        ("baton-prod", "eu-west-1", "--config-env prod --stack-name baton-prod --region eu-west-1"),
        ("baton-test", "us-east-1", f"--config-env baton-test --stack-name baton-test --region us-east-1 {NEW}"),
        ("prod", "us-east-1", f"--config-env prod-us-east-1 --stack-name prod --region us-east-1 {NEW}"),
    ],
)
def test_a_deployment_names_the_configuration_of_its_stack(aws: FakeAws, stack: str, region: str, options: str) -> None:
    """Without one SAM takes the parameters of another stack, and --guided overwrites its configuration."""
    patient = Patient(aws, region, stack, doctor.packaged(), configurations=SAMCONFIG)
    assert patient.deploy() == f"make build && .venv/bin/sam deploy {options}"
    assert patient.deploy("KfpUrl=URL") == f"{patient.deploy()} --parameter-overrides KfpUrl=URL"
    assert patient.deploy_first() == f"make build && .venv/bin/sam deploy --guided {options}"


def test_where_guided_has_kept_a_region_the_stack_of_another_has_no_configuration(tmp_path: Path) -> None:
    """That is what --guided writes: the region under all commands, and the stack's name under deploy."""
    kept = tmp_path / "samconfig.toml"
    kept.write_text(
        '[default.global.parameters]\nregion = "eu-west-1"\n[default.deploy.parameters]\nstack_name = "mine"\n'
    )
    configurations = Configurations.read(kept)
    mine, elsewhere = (Account(FakeAws({}), region, "mine") for region in ("eu-west-1", "us-east-1"))
    assert configurations.options(mine) == "--config-env default --stack-name mine --region eu-west-1"
    assert configurations.options(elsewhere).startswith("--config-env mine ")
    assert Configurations.read(tmp_path / "none.toml") == Configurations()


def test_the_command_reads_the_checkouts_own_configurations(
    command: FakeAws, capsys: pytest.CaptureFixture[str]
) -> None:
    command.answers["cloudformation.describe_stacks"] = refusal("ValidationError", "Stack does not exist")
    main(["doctor", "--region", REGION, "--stack-name", "baton-prod"])
    lines = [line for line in capsys.readouterr().out.splitlines() if not line.startswith("ok ")]
    deploy = "make build && .venv/bin/sam deploy --guided --config-env prod --stack-name baton-prod"
    assert lines[0] == (f"!!  stack: There is no stack baton-prod in {REGION}.  mend: {deploy} --region {REGION}")
