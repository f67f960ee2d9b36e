"""The gate in front of the embedded cloud's services: boto3 with a role's credentials, over HTTP."""

from __future__ import annotations

import base64
import json
import urllib.error
import urllib.request
from typing import Any

import boto3
import pytest
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import ClientError

from baton_local import iam
from baton_local.accounts import Credentials
from baton_local.iam.pods import pod_credentials
from tests.integration.local.embedded import Cloud, running
from tests.support import key_policy

REGION = "eu-west-1"
ACCOUNT = "123456789012"


@pytest.fixture(scope="module")
def cloud(tmp_path_factory):
    with running(tmp_path_factory.mktemp("cloud"), "iam") as running_cloud:
        yield running_cloud


@pytest.fixture(scope="module")
def bucket(cloud: Cloud):
    s3 = cloud.client("s3", REGION)
    s3.create_bucket(Bucket="data-bucket", CreateBucketConfiguration={"LocationConstraint": REGION})
    for key in ("open/a", "secret/a"):
        s3.put_object(Bucket="data-bucket", Key=key, Body=b"1")
    return "data-bucket"


@pytest.fixture(scope="module")
def table(cloud: Cloud):
    cloud.client("dynamodb", REGION).create_table(
        TableName="table",
        BillingMode="PAY_PER_REQUEST",
        KeySchema=[{"AttributeName": "kind", "KeyType": "HASH"}, {"AttributeName": "name", "KeyType": "RANGE"}],
        AttributeDefinitions=[{"AttributeName": n, "AttributeType": "S"} for n in ("kind", "name")],
    )
    return "table"


def allow(action: Any, resource: Any = "*", **more: Any) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": action, "Resource": resource, **more}


def open_policy(action: str, resource: str) -> str:
    statement = {"Effect": "Allow", "Principal": "*", "Action": action, "Resource": resource}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def refusal(function: Any, *arguments: Any, **keywords: Any) -> tuple[str, str]:
    with pytest.raises(ClientError) as caught:
        function(*arguments, **keywords)
    error = caught.value.response["Error"]
    return error["Code"], error.get("Message", "")


def test_a_missing_permission_is_denied_in_aws_words(cloud: Cloud, bucket):
    role = cloud.role("reader", allow("s3:GetObject", f"arn:aws:s3:::{bucket}/open/*"))
    s3 = cloud.as_role(role, "s3", session="run-1")

    assert s3.get_object(Bucket=bucket, Key="open/a")["Body"].read() == b"1"
    code, message = refusal(s3.get_object, Bucket=bucket, Key="secret/a")

    assert code == "AccessDenied"
    assert message == (
        f"User: arn:aws:sts::{ACCOUNT}:assumed-role/reader/run-1 is not authorized to perform: s3:GetObject on "
        f"resource: arn:aws:s3:::{bucket}/secret/a because no identity-based policy allows the s3:GetObject action"
    )


@pytest.mark.parametrize(
    ("service", "operation", "arguments", "code"),
    [
        ("dynamodb", "get_item", {"TableName": "t", "Key": {"k": {"S": "1"}}}, "AccessDeniedException"),
        ("sqs", "list_queues", {}, "AccessDenied"),
        ("sns", "publish", {"TopicArn": f"arn:aws:sns:{REGION}:{ACCOUNT}:t", "Message": "m"}, "AuthorizationError"),
        ("lambda", "invoke", {"FunctionName": "f"}, "AccessDeniedException"),
        ("stepfunctions", "send_task_success", {"taskToken": "t", "output": "{}"}, "AccessDeniedException"),
        (
            "events",
            "put_events",
            {"Entries": [{"Source": "s", "DetailType": "d", "Detail": "{}"}]},
            "AccessDeniedException",
        ),
        ("sagemaker", "describe_endpoint", {"EndpointName": "e"}, "AccessDeniedException"),
        ("sagemaker-runtime", "invoke_endpoint", {"EndpointName": "e", "Body": b"1"}, "AccessDeniedException"),
        ("logs", "create_log_group", {"logGroupName": "g"}, "AccessDeniedException"),
        ("cloudwatch", "put_metric_data", {"Namespace": "N", "MetricData": [{"MetricName": "m"}]}, "AccessDenied"),
        ("iam", "list_roles", {}, "AccessDenied"),
        ("sts", "assume_role", {"RoleArn": f"arn:aws:iam::{ACCOUNT}:role/x", "RoleSessionName": "web"}, "AccessDenied"),
        ("cloudformation", "describe_stacks", {}, "AccessDenied"),
        ("eks", "describe_cluster", {"name": "c"}, "AccessDeniedException"),
        ("kms", "create_key", {}, "AccessDeniedException"),
    ],
)
def test_every_protocol_has_its_own_form_of_a_denial(cloud: Cloud, service, operation, arguments, code):
    role = cloud.role(f"nobody-{service}-{operation}".replace("_", "-"))
    found, message = refusal(getattr(cloud.as_role(role, service), operation), **arguments)
    assert found in (code, f"{code}Exception")
    assert "is not authorized to perform" in message


def test_an_explicit_deny_wins(cloud: Cloud, bucket):
    role = cloud.role(
        "denied", allow("s3:*"), {"Effect": "Deny", "Action": "s3:Get*", "Resource": f"arn:aws:s3:::{bucket}/secret/*"}
    )
    s3 = cloud.as_role(role, "s3")
    s3.get_object(Bucket=bucket, Key="open/a")
    assert refusal(s3.get_object, Bucket=bucket, Key="secret/a")[1].endswith(
        "with an explicit deny in an identity-based policy"
    )


def test_a_changed_policy_counts_at_once(cloud: Cloud, bucket):
    role = cloud.role("changing")
    s3 = cloud.as_role(role, "s3")
    assert refusal(s3.list_objects_v2, Bucket=bucket)[0] == "AccessDenied"
    document = json.dumps({"Version": "2012-10-17", "Statement": [allow("s3:ListBucket", f"arn:aws:s3:::{bucket}")]})
    cloud.client("iam", REGION).put_role_policy(RoleName="changing", PolicyName="more", PolicyDocument=document)
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 2


def test_customer_and_aws_managed_policies_count(cloud: Cloud):
    role = cloud.role("managed")
    client = cloud.client("iam", REGION)
    document = json.dumps({"Version": "2012-10-17", "Statement": [allow("sqs:ListQueues")]})
    own = client.create_policy(PolicyName="own-managed", PolicyDocument=document)["Policy"]["Arn"]
    client.attach_role_policy(RoleName="managed", PolicyArn=own)
    aws = "arn:aws:iam::aws:policy/service-role/AWSLambdaBasicExecutionRole"
    client.attach_role_policy(RoleName="managed", PolicyArn=aws)

    cloud.as_role(role, "sqs").list_queues()
    cloud.as_role(role, "logs").create_log_group(logGroupName="/aws/lambda/managed")

    assert refusal(cloud.as_role(role, "logs").describe_log_groups)[0] == "AccessDeniedException"


def test_conditions_on_request_tags(cloud: Cloud):
    role = cloud.role("tagger", allow("sqs:*", "*", Condition={"StringLike": {"aws:RequestTag/baton:run-id": "bt-*"}}))
    sqs = cloud.as_role(role, "sqs")
    sqs.create_queue(QueueName="tagged", tags={"baton:run-id": "bt-1"})
    assert refusal(sqs.create_queue, QueueName="untagged")[0].startswith("AccessDenied")
    assert refusal(sqs.create_queue, QueueName="wrong", tags={"baton:run-id": "other"})[0].startswith("AccessDenied")


def test_conditions_on_resource_tags(cloud: Cloud):
    sqs = cloud.client("sqs", REGION)
    mine = sqs.create_queue(QueueName="mine", tags={"owner": "baton"})["QueueUrl"]
    theirs = sqs.create_queue(QueueName="theirs", tags={"owner": "others"})["QueueUrl"]
    role = cloud.role("owner", allow("sqs:*", "*", Condition={"StringEquals": {"aws:ResourceTag/owner": "baton"}}))
    own = cloud.as_role(role, "sqs")
    own.send_message(QueueUrl=mine, MessageBody="m")
    assert refusal(own.send_message, QueueUrl=theirs, MessageBody="m")[0].startswith("AccessDenied")


def test_conditions_on_leading_keys(cloud: Cloud, table):
    condition = {"ForAllValues:StringEquals": {"dynamodb:LeadingKeys": ["run"]}}
    role = cloud.role(
        "rows", allow("dynamodb:PutItem", f"arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/{table}", Condition=condition)
    )
    dynamodb = cloud.as_role(role, "dynamodb")
    dynamodb.put_item(TableName=table, Item={"kind": {"S": "run"}, "name": {"S": "1"}})
    denied = refusal(dynamodb.put_item, TableName=table, Item={"kind": {"S": "wait"}, "name": {"S": "1"}})
    assert denied[0] == "AccessDeniedException"


def test_conditions_on_the_prefix_of_a_listing(cloud: Cloud, bucket):
    condition = {"StringLike": {"s3:prefix": "open/*"}}
    role = cloud.role("lister", allow("s3:ListBucket", f"arn:aws:s3:::{bucket}", Condition=condition))
    s3 = cloud.as_role(role, "s3")
    assert s3.list_objects_v2(Bucket=bucket, Prefix="open/")["KeyCount"] == 1
    assert refusal(s3.list_objects_v2, Bucket=bucket)[0] == "AccessDenied"
    assert refusal(s3.list_objects_v2, Bucket=bucket, Prefix="secret/")[0] == "AccessDenied"


def test_conditions_on_the_source_of_events(cloud: Cloud):
    bus = f"arn:aws:events:{REGION}:{ACCOUNT}:event-bus/default"
    condition = {"StringEquals": {"events:source": "baton.pipeline"}}
    events = cloud.as_role(cloud.role("announcer", allow("events:PutEvents", bus, Condition=condition)), "events")
    good = {"Source": "baton.pipeline", "DetailType": "d", "Detail": "{}"}
    assert events.put_events(Entries=[good])["FailedEntryCount"] == 0
    assert refusal(events.put_events, Entries=[good, {**good, "Source": "aws.s3"}])[0] == "AccessDeniedException"


def test_a_missing_object_looks_forbidden_to_whom_may_not_list(cloud: Cloud, bucket):
    objects = allow("s3:GetObject", f"arn:aws:s3:::{bucket}/*")
    blind = cloud.as_role(cloud.role("blind", objects), "s3")
    seeing = cloud.as_role(cloud.role("seeing", objects, allow("s3:ListBucket", f"arn:aws:s3:::{bucket}")), "s3")
    code, message = refusal(blind.get_object, Bucket=bucket, Key="none")
    assert code == "AccessDenied"
    assert f"is not authorized to perform: s3:ListBucket on resource: arn:aws:s3:::{bucket}" in message
    assert refusal(blind.head_object, Bucket=bucket, Key="none")[0] == "403"
    assert refusal(seeing.get_object, Bucket=bucket, Key="none")[0] == "NoSuchKey"
    assert refusal(seeing.head_object, Bucket=bucket, Key="none")[0] == "404"


def test_a_bucket_policy_that_wants_tls_lets_the_embedded_endpoint_in_and_can_deny(cloud: Cloud, bucket):
    s3 = cloud.client("s3", REGION)
    both = [f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/*"]
    deny = {"Effect": "Deny", "Principal": "*", "Action": "s3:*", "Resource": both}
    role = cloud.role("tls", allow("s3:GetObject", f"arn:aws:s3:::{bucket}/*"))
    reader = cloud.as_role(role, "s3")
    try:
        tls = {**deny, "Condition": {"Bool": {"aws:SecureTransport": "false"}}}
        s3.put_bucket_policy(Bucket=bucket, Policy=json.dumps({"Version": "2012-10-17", "Statement": [tls]}))
        reader.get_object(Bucket=bucket, Key="open/a")
        s3.put_object(Bucket=bucket, Key="open/b", Body=b"2")

        except_me = {**deny, "Condition": {"ArnNotEquals": {"aws:PrincipalArn": f"arn:aws:iam::{ACCOUNT}:role/other"}}}
        s3.put_bucket_policy(Bucket=bucket, Policy=json.dumps({"Version": "2012-10-17", "Statement": [except_me]}))
        assert "explicit deny in a resource-based policy" in refusal(reader.get_object, Bucket=bucket, Key="open/a")[1]
    finally:
        s3.delete_bucket_policy(Bucket=bucket)
        s3.delete_object(Bucket=bucket, Key="open/b")


def test_a_bucket_policy_can_let_a_role_in(cloud: Cloud, bucket):
    role = cloud.role("guest")
    statement = {
        "Effect": "Allow",
        "Principal": {"AWS": role},
        "Action": "s3:GetObject",
        "Resource": f"arn:aws:s3:::{bucket}/open/*",
    }
    s3 = cloud.client("s3", REGION)
    s3.put_bucket_policy(Bucket=bucket, Policy=json.dumps({"Version": "2012-10-17", "Statement": [statement]}))
    try:
        guest = cloud.as_role(role, "s3")
        guest.get_object(Bucket=bucket, Key="open/a")
        assert refusal(guest.get_object, Bucket=bucket, Key="secret/a")[0] == "AccessDenied"
    finally:
        s3.delete_bucket_policy(Bucket=bucket)


# --- roles that are passed and assumed
def machine(role: str, name: str) -> dict[str, str]:
    return {
        "name": name,
        "roleArn": role,
        "definition": json.dumps({"StartAt": "A", "States": {"A": {"Type": "Succeed"}}}),
    }


def test_passing_a_role_needs_pass_role_for_that_service(cloud: Cloud):
    passed = cloud.role("machine-role", service="states")
    create = allow("states:CreateStateMachine")
    passing = allow("iam:PassRole", passed, Condition={"StringEquals": {"iam:PassedToService": "states.amazonaws.com"}})
    wrong = allow("iam:PassRole", passed, Condition={"StringEquals": {"iam:PassedToService": "lambda.amazonaws.com"}})

    without = cloud.as_role(cloud.role("without-pass", create), "stepfunctions")
    code, message = refusal(without.create_state_machine, **machine(passed, "m1"))
    assert code == "AccessDeniedException"
    assert f"iam:PassRole on resource: {passed}" in message

    other = cloud.as_role(cloud.role("wrong-pass", create, wrong), "stepfunctions")
    assert "iam:PassRole" in refusal(other.create_state_machine, **machine(passed, "m2"))[1]

    good = cloud.as_role(cloud.role("with-pass", create, passing), "stepfunctions")
    good.create_state_machine(**machine(passed, "m3"))


def test_a_service_refuses_a_role_that_does_not_trust_it(cloud: Cloud):
    wrong = cloud.role("lambda-only", service="lambda")
    client = cloud.client("stepfunctions", REGION)
    code, message = refusal(client.create_state_machine, **machine(wrong, "m4"))
    assert code == "AccessDeniedException"
    assert "authorized to assume the provided role" in message
    missing = f"arn:aws:iam::{ACCOUNT}:role/there-is-none"
    assert refusal(client.create_state_machine, **machine(missing, "m5"))[0] == "AccessDeniedException"


def test_assuming_a_role_needs_its_trust(cloud: Cloud):
    caller = cloud.role("caller", allow("sts:AssumeRole"))
    trust = {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Principal": {"AWS": caller}, "Action": "sts:AssumeRole"}],
    }
    client = cloud.client("iam", REGION)
    trusting = client.create_role(RoleName="trusting", AssumeRolePolicyDocument=json.dumps(trust))["Role"]["Arn"]
    stranger = cloud.role("stranger")

    session = cloud.as_role(caller, "sts").assume_role(RoleArn=trusting, RoleSessionName="own")["Credentials"]

    own = Credentials(session["AccessKeyId"], session["SecretAccessKey"], session["SessionToken"])
    identity = cloud.client("sts", REGION, own).get_caller_identity()
    assert identity["Arn"] == f"arn:aws:sts::{ACCOUNT}:assumed-role/trusting/own"
    denied = refusal(cloud.as_role(stranger, "sts").assume_role, RoleArn=trusting, RoleSessionName="own")
    assert denied[0] == "AccessDenied"


# --- who has which key
def test_unknown_keys_wrong_tokens_and_no_keys_are_refused(cloud: Cloud, bucket):
    nobody = Credentials("AKIAIOSFODNN7EXAMPLE", "x" * 40)
    assert refusal(cloud.client("s3", REGION, nobody).list_buckets)[0] == "InvalidAccessKeyId"
    assert refusal(cloud.client("dynamodb", REGION, nobody).list_tables)[0] == "UnrecognizedClientException"
    assert refusal(cloud.client("iam", REGION, nobody).list_roles)[0] == "InvalidClientTokenId"

    from baton_local.accounts import role_credentials

    real = role_credentials(cloud.role("real"), REGION)
    forged = Credentials(real.access_key_id, real.secret_access_key, "not-its-token")
    assert refusal(cloud.client("sts", REGION, forged).get_caller_identity)[0] == "InvalidClientTokenId"

    unsigned = boto3.client("s3", endpoint_url=cloud.url, region_name=REGION, config=Config(signature_version=UNSIGNED))
    assert refusal(unsigned.get_object, Bucket=bucket, Key="open/a")[0] == "AccessDenied"


def test_an_expired_session_is_told_so(cloud: Cloud):
    from datetime import timedelta

    from moto.sts.models import sts_backends

    from baton_local.accounts import role_credentials

    credentials = role_credentials(cloud.role("old"), REGION)
    session = next(
        s for s in sts_backends[ACCOUNT]["aws"].assumed_roles if s.access_key_id == credentials.access_key_id
    )
    session.expiration -= timedelta(days=1)
    assert refusal(cloud.client("dynamodb", REGION, credentials).list_tables)[0] == "ExpiredTokenException"


def test_a_presigned_url_acts_for_whoever_signed_it(cloud: Cloud, bucket):
    role = cloud.role("signer", allow("s3:GetObject", f"arn:aws:s3:::{bucket}/open/*"))
    s3 = cloud.as_role(role, "s3")
    good = s3.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "open/a"})
    bad = s3.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "secret/a"})
    with urllib.request.urlopen(good) as answer:
        assert answer.read() == b"1"
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(bad)
    assert caught.value.code == 403


def test_users_have_policies_too(cloud: Cloud):
    client = cloud.client("iam", REGION)
    client.create_user(UserName="ada")
    key = client.create_access_key(UserName="ada")["AccessKey"]
    credentials = Credentials(key["AccessKeyId"], key["SecretAccessKey"])
    sqs = cloud.client("sqs", REGION, credentials)
    assert "user/ada is not authorized" in refusal(sqs.list_queues)[1]
    document = json.dumps({"Version": "2012-10-17", "Statement": [allow("sqs:ListQueues")]})
    client.put_user_policy(UserName="ada", PolicyName="own", PolicyDocument=document)
    sqs.list_queues()


def test_the_permissions_boundary_limits(cloud: Cloud):
    client = cloud.client("iam", REGION)
    role = cloud.role("bounded", allow("*"))
    document = json.dumps({"Version": "2012-10-17", "Statement": [allow("sqs:*")]})
    boundary = client.create_policy(PolicyName="only-sqs", PolicyDocument=document)["Policy"]["Arn"]
    client.put_role_permissions_boundary(RoleName="bounded", PermissionsBoundary=boundary)
    cloud.as_role(role, "sqs").list_queues()
    assert "permissions boundary" in refusal(cloud.as_role(role, "sns").list_topics)[1]


def test_china_is_enforced_with_its_partition(cloud: Cloud):
    region = "cn-northwest-1"
    s3 = cloud.client("s3", region)
    s3.create_bucket(Bucket="cn-bucket", CreateBucketConfiguration={"LocationConstraint": region})
    role = cloud.role("cn", allow("s3:PutObject", "arn:aws-cn:s3:::cn-bucket/*"), region=region)
    assert role.startswith("arn:aws-cn:")
    own = cloud.as_role(role, "s3", region)
    own.put_object(Bucket="cn-bucket", Key="k", Body=b"1")
    assert "arn:aws-cn:s3:::cn-bucket" in refusal(own.list_objects_v2, Bucket="cn-bucket")[1]


# --- services
def test_a_queue_policy_decides_what_a_rule_may_send(cloud: Cloud):
    sqs = cloud.client("sqs", REGION)
    url = sqs.create_queue(QueueName="target")["QueueUrl"]
    queue, rule = f"arn:aws:sqs:{REGION}:{ACCOUNT}:target", f"arn:aws:events:{REGION}:{ACCOUNT}:rule/r"
    assert not iam.service_may("events.amazonaws.com", "sqs:SendMessage", queue, rule)
    statement = {
        "Effect": "Allow",
        "Principal": {"Service": "events.amazonaws.com"},
        "Action": "sqs:SendMessage",
        "Resource": queue,
        "Condition": {"ArnEquals": {"aws:SourceArn": rule}},
    }
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": policy})
    assert iam.service_may("events.amazonaws.com", "sqs:SendMessage", queue, rule)
    assert not iam.service_may("events.amazonaws.com", "sqs:SendMessage", queue, rule + "2")


def test_an_encrypted_queue_needs_a_key_that_lets_the_service_in(cloud: Cloud):
    kms, sqs = cloud.client("kms", REGION), cloud.client("sqs", REGION)
    root = {"Effect": "Allow", "Principal": {"AWS": f"arn:aws:iam::{ACCOUNT}:root"}, "Action": "kms:*", "Resource": "*"}
    key = kms.create_key(Policy=json.dumps({"Version": "2012-10-17", "Statement": [root]}))["KeyMetadata"]["KeyId"]
    queue, rule = f"arn:aws:sqs:{REGION}:{ACCOUNT}:encrypted", f"arn:aws:events:{REGION}:{ACCOUNT}:rule/r"
    policy = open_policy("sqs:SendMessage", queue)
    sqs.create_queue(QueueName="encrypted", Attributes={"KmsMasterKeyId": key, "Policy": policy})
    decision = iam.service_may("events.amazonaws.com", "sqs:SendMessage", queue, rule)
    assert not decision
    assert "kms:GenerateDataKey" in decision.reason
    events = {
        "Effect": "Allow",
        "Principal": {"Service": "events.amazonaws.com"},
        "Action": ["kms:GenerateDataKey", "kms:Decrypt"],
        "Resource": "*",
    }
    bounded = {**events, "Condition": {"StringEquals": {"aws:SourceAccount": ACCOUNT}}}
    for statement in (bounded, events):
        document = {"Version": "2012-10-17", "Statement": [root, statement]}
        kms.put_key_policy(KeyId=key, PolicyName="default", Policy=json.dumps(document))
        decision = iam.service_may("events.amazonaws.com", "sqs:SendMessage", queue, rule)
        assert bool(decision) == (statement is events)


@pytest.mark.parametrize("written", ["alias/aws/{0}", f"arn:aws:kms:{REGION}:{ACCOUNT}:alias/aws/{{0}}"])
def test_no_service_uses_a_key_that_aws_manages(cloud: Cloud, written: str):
    """The policies of aws/sqs and aws/sns let in the account's principals, a role's say, and no service."""
    name = "managed" + str(len(written))
    rule = f"arn:aws:events:{REGION}:{ACCOUNT}:rule/r"
    queue, topic = f"arn:aws:sqs:{REGION}:{ACCOUNT}:{name}", f"arn:aws:sns:{REGION}:{ACCOUNT}:{name}"
    asked = [
        ("events.amazonaws.com", "sqs:SendMessage", queue),
        ("events.amazonaws.com", "sns:Publish", topic),
        ("cloudwatch.amazonaws.com", "sns:Publish", topic),
    ]
    sqs, sns = cloud.client("sqs", REGION), cloud.client("sns", REGION)
    attributes = {"Policy": open_policy("sqs:SendMessage", queue)}
    url = sqs.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"]
    sns.create_topic(Name=name)
    policy = open_policy("sns:Publish", topic)
    sns.set_topic_attributes(TopicArn=topic, AttributeName="Policy", AttributeValue=policy)
    assert all(iam.service_may(*question, rule) for question in asked)

    # moto forgets a policy that is not given again.
    sqs.set_queue_attributes(QueueUrl=url, Attributes={**attributes, "KmsMasterKeyId": written.format("sqs")})
    sns.set_topic_attributes(TopicArn=topic, AttributeName="KmsMasterKeyId", AttributeValue=written.format("sns"))

    decisions = [iam.service_may(*question, rule) for question in asked]
    assert not any(decisions)
    assert all("kms:GenerateDataKey" in decision.reason for decision in decisions)
    role = cloud.role(name, allow(["sqs:SendMessage", "sns:Publish"]))
    cloud.as_role(role, "sqs").send_message(QueueUrl=url, MessageBody="hello")
    cloud.as_role(role, "sns").publish(TopicArn=topic, Message="hello")


@pytest.mark.parametrize("region", ["eu-west-1", "cn-northwest-1"])
def test_a_log_group_needs_a_key_that_lets_cloudwatch_logs_in(cloud: Cloud, region: str):
    kms, logs = cloud.client("kms", region), cloud.client("logs", region)
    asked_for = key_policy.statements(ACCOUNT, region)
    [statement] = [s for s in asked_for if s["Sid"] == "Logs"]
    elsewhere = {**statement, "Principal": {"Service": "logs.us-east-1.amazonaws.com"}}
    less = {**statement, "Action": [action for action in statement["Action"] if action != "kms:Encrypt"]}
    for number, statements in enumerate([[elsewhere], [less], asked_for[:2], asked_for]):
        policy = json.dumps({"Version": "2012-10-17", "Statement": statements})
        key, name = kms.create_key(Policy=policy)["KeyMetadata"]["Arn"], f"under-a-key-{number}"
        if statements is asked_for:
            logs.create_log_group(logGroupName=name, kmsKeyId=key)
            continue
        code, message = refusal(logs.create_log_group, logGroupName=name, kmsKeyId=key)
        assert (code, f":log-group:{name}'" in message) == ("AccessDeniedException", True)
    made = [group["logGroupName"] for group in logs.describe_log_groups(logGroupNamePrefix="under-")["logGroups"]]
    assert made == ["under-a-key-3"]


# --- pods
def pods_role(cloud: Cloud, name: str, trust: dict[str, Any]) -> str:
    document = json.dumps({"Version": "2012-10-17", "Statement": [trust]})
    role = cloud.client("iam", REGION).create_role(RoleName=name, AssumeRolePolicyDocument=document)
    return str(role["Role"]["Arn"])


def test_pod_identity_gives_a_service_account_its_role(cloud: Cloud):
    trust = {
        "Effect": "Allow",
        "Principal": {"Service": "pods.eks.amazonaws.com"},
        "Action": ["sts:AssumeRole", "sts:TagSession"],
    }
    role = pods_role(cloud, "pods", trust)
    eks = cloud.client("eks", REGION)
    place = {"clusterName": "c", "namespace": "kubeflow", "serviceAccount": "steps"}
    assert pod_credentials("kubeflow", "steps") is None

    made = eks.create_pod_identity_association(**place, roleArn=role)["association"]
    assert refusal(eks.create_pod_identity_association, **place, roleArn=role)[0] == "ResourceInUseException"
    assert [a["associationId"] for a in eks.list_pod_identity_associations(clusterName="c")["associations"]] == [
        made["associationId"]
    ]
    environment = cloud.get("/_baton/pod-credentials?namespace=kubeflow&service_account=steps")

    assert environment["AWS_REGION"] == REGION
    own = Credentials(
        environment["AWS_ACCESS_KEY_ID"], environment["AWS_SECRET_ACCESS_KEY"], environment["AWS_SESSION_TOKEN"]
    )
    identity = cloud.client("sts", REGION, own).get_caller_identity()
    assert identity["Arn"] == f"arn:aws:sts::{ACCOUNT}:assumed-role/pods/eks-kubeflow-steps"
    eks.delete_pod_identity_association(clusterName="c", associationId=made["associationId"])
    assert pod_credentials("kubeflow", "steps") is None
    denied = refusal(eks.describe_pod_identity_association, clusterName="c", associationId=made["associationId"])
    assert denied[0] == "ResourceNotFoundException"


@pytest.mark.parametrize(
    ("tag", "value", "given"),
    [
        ("kubernetes-namespace", "kubeflow", True),
        ("kubernetes-namespace", "other", False),
        ("kubernetes-service-account", "tagged", True),
        ("kubernetes-service-account", "other", False),
        ("eks-cluster-arn", f"arn:aws:eks:{REGION}:{ACCOUNT}:cluster/c", True),
        ("eks-cluster-arn", f"arn:aws:eks:{REGION}:{ACCOUNT}:cluster/other", False),
    ],
)
def test_pod_identity_gives_a_role_only_to_whom_its_trust_policy_names_by_the_sessions_tags(
    cloud: Cloud, tag: str, value: str, given: bool
):
    trust = {
        "Effect": "Allow",
        "Principal": {"Service": "pods.eks.amazonaws.com"},
        "Action": ["sts:AssumeRole", "sts:TagSession"],
        "Condition": {"StringEquals": {f"aws:RequestTag/{tag}": value, "aws:SourceAccount": ACCOUNT}},
    }
    role = pods_role(cloud, f"tagged-{tag}-{given}", trust)
    eks, place = cloud.client("eks", REGION), {"clusterName": "c", "namespace": "kubeflow", "serviceAccount": "tagged"}
    made = eks.create_pod_identity_association(**place, roleArn=role)["association"]
    try:
        assert (pod_credentials("kubeflow", "tagged") is not None) is given
    finally:
        eks.delete_pod_identity_association(clusterName="c", associationId=made["associationId"])


def test_a_role_uses_a_key_by_the_service_whose_data_it_encrypts(cloud: Cloud):
    key = cloud.client("kms", REGION).create_key()["KeyMetadata"]["Arn"]
    queue = cloud.client("sqs", REGION).create_queue(QueueName="of-a-key", Attributes={"KmsMasterKeyId": key})
    url = queue["QueueUrl"]
    arn = f"arn:aws:sqs:{REGION}:{ACCOUNT}:of-a-key"

    def sent(name: str, via: str, *actions: str) -> str:
        condition = {"StringEquals": {"kms:ViaService": f"{via}.{REGION}.amazonaws.com"}}
        using = {"Effect": "Allow", "Action": list(actions), "Resource": key, "Condition": condition}
        role = cloud.role(name, {"Effect": "Allow", "Action": "sqs:SendMessage", "Resource": arn}, using)
        sqs = cloud.as_role(role, "sqs", REGION)
        try:
            sqs.send_message(QueueUrl=url, MessageBody="x")
        except ClientError as error:
            return str(error)
        return "sent"

    assert sent("by-sqs", "sqs", "kms:GenerateDataKey", "kms:Decrypt") == "sent"
    assert "kms:GenerateDataKey" in sent("by-s3", "s3", "kms:GenerateDataKey", "kms:Decrypt")
    assert "kms:Decrypt" in sent("half", "sqs", "kms:GenerateDataKey")


def web_identity_trust(subject: str, audience: str = "sts.amazonaws.com") -> dict[str, Any]:
    issuer = "oidc.eks.eu-west-1.amazonaws.com/id/ABC"
    return {
        "Effect": "Allow",
        "Principal": {"Federated": f"arn:aws:iam::{ACCOUNT}:oidc-provider/{issuer}"},
        "Action": "sts:AssumeRoleWithWebIdentity",
        "Condition": {"StringEquals": {f"{issuer}:sub": subject, f"{issuer}:aud": audience}},
    }


def test_irsa_gives_a_service_account_its_role(cloud: Cloud):
    pods_role(cloud, "irsa", web_identity_trust("system:serviceaccount:kubeflow:irsa-steps"))
    environment = pod_credentials("kubeflow", "irsa-steps")
    assert environment is not None
    assert environment["AWS_ACCESS_KEY_ID"].startswith("ASIA")
    assert pod_credentials("kubeflow", "other") is None
    assert pod_credentials("default", "irsa-steps") is None


def test_irsa_is_refused_where_the_trust_asks_for_another_audience_than_ekss(cloud: Cloud):
    """Its webhook makes tokens for sts.amazonaws.com, in the China regions too."""
    pods_role(cloud, "other-audience", web_identity_trust("system:serviceaccount:ns:cn", "sts.amazonaws.com.cn"))
    assert pod_credentials("ns", "cn") is None


def token(subject: str, audience: str = "sts.amazonaws.com") -> str:
    claims = base64.urlsafe_b64encode(json.dumps({"sub": subject, "aud": [audience]}).encode()).decode().rstrip("=")
    return f"e30.{claims}.c2ln"


def test_a_web_identity_is_taken_by_its_subject(cloud: Cloud):
    role = pods_role(cloud, "web", web_identity_trust("system:serviceaccount:ns:web"))
    sts = boto3.client("sts", endpoint_url=cloud.url, region_name=REGION, config=Config(signature_version=UNSIGNED))
    arguments = {"RoleArn": role, "RoleSessionName": "web"}
    sts.assume_role_with_web_identity(**arguments, WebIdentityToken=token("system:serviceaccount:ns:web"))
    wrong = token("system:serviceaccount:ns:other")
    denied = refusal(sts.assume_role_with_web_identity, **arguments, WebIdentityToken=wrong)
    assert denied == ("AccessDenied", "Not authorized to perform sts:AssumeRoleWithWebIdentity")


# --- the log
def test_the_log_says_who_asked_for_what(cloud: Cloud, bucket):
    role = cloud.role("logged", allow("s3:GetObject", f"arn:aws:s3:::{bucket}/open/*"))
    cloud.get("/_baton/iam-log", method="DELETE")
    s3 = cloud.as_role(role, "s3")
    s3.get_object(Bucket=bucket, Key="open/a")
    refusal(s3.delete_object, Bucket=bucket, Key="open/a")

    log = [e for e in cloud.get("/_baton/iam-log") if e["role"] == role]

    assert [(e["action"], e["resource"], e["allowed"]) for e in log] == [
        ("s3:GetObject", f"arn:aws:s3:::{bucket}/open/a", True),
        ("s3:DeleteObject", f"arn:aws:s3:::{bucket}/open/a", False),
    ]
    assert log[0]["by"] == "own#0"
    assert log[0]["context"]["aws:PrincipalArn"] == role
    assert cloud.get("/_baton/iam-policies")[role][0]["document"]["Statement"][0]["Action"] == "s3:GetObject"
