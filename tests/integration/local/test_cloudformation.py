"""Stacks on the embedded cloud: create, update, roll back, delete, over HTTP with boto3."""

from __future__ import annotations

import io
import json
import re
import zipfile
from typing import Any

import pytest
from botocore.exceptions import ClientError

from baton_local.cloudformation.resources import compute
from tests.integration.local.embedded import Cloud, running

REGION = "eu-west-1"
CAPABILITIES = ["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"]


@pytest.fixture(scope="module")
def cloud(tmp_path_factory):
    with running(tmp_path_factory.mktemp("cloud"), "iam", "lambda_", "cloudformation") as running_cloud:
        yield running_cloud


@pytest.fixture(scope="module")
def cfn(cloud: Cloud):
    return cloud.client("cloudformation", REGION)


@pytest.fixture(scope="module")
def code(cloud: Cloud):
    """A bucket with two versions of a function's package and a state machine's definition."""
    s3 = cloud.client("s3", REGION)
    s3.create_bucket(Bucket="code", CreateBucketConfiguration={"LocationConstraint": REGION})
    for number in (1, 2):
        package = io.BytesIO()
        with zipfile.ZipFile(package, "w") as archive:
            archive.writestr("app.py", f"def handler(event, context):\n    return {number}\n")
        s3.put_object(Bucket="code", Key=f"v{number}.zip", Body=package.getvalue())
    machine = {"StartAt": "A", "States": {"A": {"Type": "Task", "Resource": "${FunctionArn}", "End": True}}}
    s3.put_object(Bucket="code", Key="machine.json", Body=json.dumps(machine).encode())
    return "code"


def create(cfn: Any, name: str, body: str, **parameters: str) -> dict[str, Any]:
    given = [{"ParameterKey": k, "ParameterValue": v} for k, v in parameters.items()]
    cfn.create_stack(StackName=name, TemplateBody=body, Parameters=given, Capabilities=CAPABILITIES)
    return stack(cfn, name)


def update(cfn: Any, name: str, body: str, **parameters: str) -> dict[str, Any]:
    given = [{"ParameterKey": k, "ParameterValue": v} for k, v in parameters.items()]
    cfn.update_stack(StackName=name, TemplateBody=body, Parameters=given, Capabilities=CAPABILITIES)
    return stack(cfn, name)


def stack(cfn: Any, name: str) -> dict[str, Any]:
    found: dict[str, Any] = cfn.describe_stacks(StackName=name)["Stacks"][0]
    found["Out"] = {o["OutputKey"]: o["OutputValue"] for o in found.get("Outputs", [])}
    return found


def reasons(cfn: Any, name: str) -> dict[str, str]:
    events = cfn.describe_stack_events(StackName=name)["StackEvents"]
    return {
        e["LogicalResourceId"]: e["ResourceStatusReason"] for e in events if e["ResourceStatus"].endswith("_FAILED")
    }


def history(cfn: Any, name: str) -> list[tuple[str, str]]:
    """Return what happened to a stack and its resources, oldest first: logical ids with statuses."""
    events = cfn.describe_stack_events(StackName=name)["StackEvents"]
    return [(event["LogicalResourceId"], event["ResourceStatus"]) for event in reversed(events)]


def resources(cfn: Any, name: str) -> dict[str, str]:
    found = cfn.list_stack_resources(StackName=name)["StackResourceSummaries"]
    return {r["LogicalResourceId"]: r["PhysicalResourceId"] for r in found}


EVERYTHING = """
Transform: AWS::Serverless-2016-10-31
Parameters:
  Package: {Type: String, Default: v1.zip}
  Seconds: {Type: Number, Default: 30}
Globals:
  Function: {Runtime: python3.11, Handler: app.handler, Tracing: Active, Timeout: !Ref Seconds}
Resources:
  Bucket:
    Type: AWS::S3::Bucket
    Properties:
      VersioningConfiguration: {Status: Enabled}
      BucketEncryption: {ServerSideEncryptionConfiguration: [{ServerSideEncryptionByDefault: {SSEAlgorithm: AES256}}]}
      PublicAccessBlockConfiguration: {BlockPublicAcls: true, BlockPublicPolicy: true}
      OwnershipControls: {Rules: [{ObjectOwnership: BucketOwnerEnforced}]}
      NotificationConfiguration: {EventBridgeConfiguration: {EventBridgeEnabled: true}}
      LifecycleConfiguration:
        Rules:
          - {Id: a, Status: Enabled, AbortIncompleteMultipartUpload: {DaysAfterInitiation: 1}}
          - Id: b
            Status: Enabled
            Prefix: tmp/
            ExpirationInDays: 3
            NoncurrentVersionExpiration: {NoncurrentDays: 2}
      Tags: [{Key: a, Value: b}]
  BucketPolicy:
    Type: AWS::S3::BucketPolicy
    Properties:
      Bucket: !Ref Bucket
      PolicyDocument:
        Version: 2012-10-17
        Statement:
          - Effect: Deny
            Principal: "*"
            Action: s3:*
            Resource: [!GetAtt Bucket.Arn, !Sub "${Bucket.Arn}/*"]
            Condition: {Bool: {"aws:SecureTransport": "false"}}
  Table:
    Type: AWS::DynamoDB::Table
    Properties:
      BillingMode: PAY_PER_REQUEST
      AttributeDefinitions: [{AttributeName: k, AttributeType: S}]
      KeySchema: [{AttributeName: k, KeyType: HASH}]
      TimeToLiveSpecification: {AttributeName: expires_at, Enabled: true}
      PointInTimeRecoverySpecification: {PointInTimeRecoveryEnabled: true}
  Dead: {Type: AWS::SQS::Queue}
  Queue:
    Type: AWS::SQS::Queue
    Properties:
      VisibilityTimeout: 180
      RedrivePolicy: {deadLetterTargetArn: !GetAtt Dead.Arn, maxReceiveCount: 3}
  QueuePolicy:
    Type: AWS::SQS::QueuePolicy
    Properties:
      Queues: [!Ref Queue]
      PolicyDocument:
        Version: 2012-10-17
        Statement:
          - Effect: Allow
            Principal: {Service: events.amazonaws.com}
            Action: sqs:SendMessage
            Resource: !GetAtt Queue.Arn
  Topic: {Type: AWS::SNS::Topic, Properties: {DisplayName: T}}
  TopicPolicy:
    Type: AWS::SNS::TopicPolicy
    Properties:
      Topics: [!Ref Topic]
      PolicyDocument:
        Version: 2012-10-17
        Statement:
          - {Effect: Allow, Principal: {Service: events.amazonaws.com}, Action: sns:Publish, Resource: !Ref Topic}
  Subscription:
    Type: AWS::SNS::Subscription
    Properties: {TopicArn: !Ref Topic, Protocol: sqs, Endpoint: !GetAtt Queue.Arn, RawMessageDelivery: true}
  Rule:
    Type: AWS::Events::Rule
    Properties:
      EventPattern: {source: [own]}
      Targets: [{Id: q, Arn: !GetAtt Queue.Arn, DeadLetterConfig: {Arn: !GetAtt Dead.Arn}}]
  Function:
    Type: AWS::Serverless::Function
    Properties:
      CodeUri: {Bucket: code, Key: !Ref Package}
      Layers: [!Ref Layer]
      AutoPublishAlias: live
      Environment: {Variables: {TABLE: !Ref Table, N: 5}}
      LoggingConfig: {LogFormat: JSON}
      EphemeralStorage: {Size: 1024}
      Tags: {team: ml}
      Policies:
        - Statement: [{Effect: Allow, Action: dynamodb:GetItem, Resource: !GetAtt Table.Arn}]
        - !Ref Extra
  Layer:
    Type: AWS::Serverless::LayerVersion
    Properties: {ContentUri: {Bucket: code, Key: v1.zip}, CompatibleRuntimes: [python3.11], RetentionPolicy: Delete}
  Extra:
    Type: AWS::IAM::ManagedPolicy
    Properties:
      PolicyDocument:
        Version: 2012-10-17
        Statement:
          - Effect: Allow
            Action: [sqs:ReceiveMessage, sqs:DeleteMessage, sqs:GetQueueAttributes]
            Resource: !GetAtt Queue.Arn
  Mapping:
    Type: AWS::Lambda::EventSourceMapping
    Properties:
      EventSourceArn: !GetAtt Queue.Arn
      FunctionName: !Ref Function
      FunctionResponseTypes: [ReportBatchItemFailures]
      ScalingConfig: {MaximumConcurrency: 5}
  Permission:
    Type: AWS::Lambda::Permission
    Properties:
      Action: lambda:InvokeFunction
      FunctionName: !Ref Function
      Principal: events.amazonaws.com
      SourceArn: !GetAtt Rule.Arn
  Logs: {Type: AWS::Logs::LogGroup, Properties: {RetentionInDays: 7}}
  Machine:
    Type: AWS::Serverless::StateMachine
    Properties:
      DefinitionUri: {Bucket: code, Key: machine.json}
      DefinitionSubstitutions: {FunctionArn: !GetAtt Function.Arn}
      Logging:
        Level: ALL
        Destinations: [{CloudWatchLogsLogGroup: {LogGroupArn: !GetAtt Logs.Arn}}]
      Tracing: {Enabled: true}
      Policies: [{Statement: [{Effect: Allow, Action: lambda:InvokeFunction, Resource: !GetAtt Function.Arn}]}]
  Alarm:
    Type: AWS::CloudWatch::Alarm
    Properties:
      Namespace: AWS/SQS
      MetricName: ApproximateNumberOfMessagesVisible
      Dimensions: [{Name: QueueName, Value: !GetAtt Dead.QueueName}]
      Statistic: Maximum
      Period: 60
      EvaluationPeriods: 1
      Threshold: 0
      ComparisonOperator: GreaterThanThreshold
      AlarmActions: [!Ref Topic]
  Dashboard: {Type: AWS::CloudWatch::Dashboard, Properties: {DashboardBody: !Sub '{"widgets": []}'}}
  Key:
    Type: AWS::KMS::Key
    Properties:
      EnableKeyRotation: true
      KeyPolicy:
        Version: 2012-10-17
        Statement:
          - Effect: Allow
            Principal: {AWS: !Sub "arn:${AWS::Partition}:iam::${AWS::AccountId}:root"}
            Action: kms:*
            Resource: "*"
  Alias: {Type: AWS::KMS::Alias, Properties: {AliasName: !Sub "alias/${AWS::StackName}", TargetKeyId: !Ref Key}}
Outputs:
  FunctionName: {Value: !Ref Function}
  FunctionRole: {Value: !Ref FunctionRole}
  Bucket: {Value: !Ref Bucket}
  Table: {Value: !Ref Table}
  Queue: {Value: !Ref Queue}
  QueueArn: {Value: !GetAtt Queue.Arn}
  Topic: {Value: !Ref Topic}
  Machine: {Value: !Ref Machine}
  Seconds: {Value: !Ref Seconds}
  Key: {Value: !Ref Key}
  Mapping: {Value: !Ref Mapping}
"""


@pytest.fixture(scope="module")
def everything(cfn, code):
    made = create(cfn, "everything", EVERYTHING)
    assert made["StackStatus"] == "CREATE_COMPLETE", reasons(cfn, "everything")
    return made["Out"]


def test_a_function_has_everything_that_its_properties_say(cloud: Cloud, everything):
    client = cloud.client("lambda", REGION)
    found = client.get_function(FunctionName=everything["FunctionName"])
    configuration = found["Configuration"]
    assert configuration["Timeout"] == 30
    assert configuration["TracingConfig"] == {"Mode": "Active"}
    assert configuration["EphemeralStorage"] == {"Size": 1024}
    assert configuration["Environment"]["Variables"] == {"TABLE": everything["Table"], "N": "5"}
    assert len(configuration["Layers"]) == 1
    assert found["Tags"] == {"team": "ml", "lambda:createdBy": "SAM"}
    assert client.get_alias(FunctionName=everything["FunctionName"], Name="live")["FunctionVersion"] == "1"
    policy = json.loads(client.get_policy(FunctionName=everything["FunctionName"])["Policy"])
    assert policy["Statement"][0]["Principal"] == {"Service": "events.amazonaws.com"}
    mapping = client.get_event_source_mapping(UUID=everything["Mapping"])
    assert mapping["FunctionResponseTypes"] == ["ReportBatchItemFailures"]


def test_a_bucket_has_everything_that_its_properties_say(cloud: Cloud, everything):
    s3, name = cloud.client("s3", REGION), everything["Bucket"]
    assert s3.get_bucket_versioning(Bucket=name)["Status"] == "Enabled"
    assert "EventBridgeConfiguration" in s3.get_bucket_notification_configuration(Bucket=name)
    rules = {r["ID"]: r for r in s3.get_bucket_lifecycle_configuration(Bucket=name)["Rules"]}
    assert rules["a"]["AbortIncompleteMultipartUpload"] == {"DaysAfterInitiation": 1}
    assert rules["b"]["Expiration"]["Days"] == 3
    assert rules["b"]["NoncurrentVersionExpiration"] == {"NoncurrentDays": 2}
    assert s3.get_public_access_block(Bucket=name)["PublicAccessBlockConfiguration"]["BlockPublicPolicy"] is True
    assert s3.get_bucket_encryption(Bucket=name)["ServerSideEncryptionConfiguration"]["Rules"]
    assert "SecureTransport" in s3.get_bucket_policy(Bucket=name)["Policy"]
    assert s3.get_bucket_tagging(Bucket=name)["TagSet"] == [{"Key": "a", "Value": "b"}]
    assert s3.get_bucket_ownership_controls(Bucket=name)["OwnershipControls"]["Rules"]


def test_the_others_have_what_their_properties_say(cloud: Cloud, everything):
    dynamodb = cloud.client("dynamodb", REGION)
    ttl = dynamodb.describe_time_to_live(TableName=everything["Table"])["TimeToLiveDescription"]
    assert ttl == {"TimeToLiveStatus": "ENABLED", "AttributeName": "expires_at"}
    backups = dynamodb.describe_continuous_backups(TableName=everything["Table"])["ContinuousBackupsDescription"]
    assert backups["PointInTimeRecoveryDescription"]["PointInTimeRecoveryStatus"] == "ENABLED"

    attributes = cloud.client("sqs", REGION).get_queue_attributes(QueueUrl=everything["Queue"], AttributeNames=["All"])
    assert attributes["Attributes"]["VisibilityTimeout"] == "180"
    assert json.loads(attributes["Attributes"]["RedrivePolicy"])["maxReceiveCount"] == 3
    assert "events.amazonaws.com" in attributes["Attributes"]["Policy"]

    topic = cloud.client("sns", REGION).get_topic_attributes(TopicArn=everything["Topic"])["Attributes"]
    assert topic["DisplayName"] == "T"
    assert "events.amazonaws.com" in topic["Policy"]
    subscriptions = cloud.client("sns", REGION).list_subscriptions_by_topic(TopicArn=everything["Topic"])
    assert subscriptions["Subscriptions"][0]["Endpoint"] == everything["QueueArn"]

    machine = cloud.client("stepfunctions", REGION).describe_state_machine(stateMachineArn=everything["Machine"])
    assert f"function:{everything['FunctionName']}" in machine["definition"]
    assert machine["loggingConfiguration"]["level"] == "ALL"
    assert machine["tracingConfiguration"] == {"enabled": True}

    assert cloud.client("kms", REGION).get_key_rotation_status(KeyId=everything["Key"])["KeyRotationEnabled"] is True
    assert cloud.client("cloudwatch", REGION).describe_alarms()["MetricAlarms"][0]["Threshold"] == 0.0


def test_an_update_changes_the_function_its_role_and_the_outputs(cloud: Cloud, cfn, everything):
    changed = EVERYTHING.replace("dynamodb:GetItem", "dynamodb:PutItem").replace("DisplayName: T", "DisplayName: U")
    client = cloud.client("lambda", REGION)
    before = client.get_function_configuration(FunctionName=everything["FunctionName"])

    made = update(cfn, "everything", changed, Package="v2.zip", Seconds="31")

    assert made["StackStatus"] == "UPDATE_COMPLETE", reasons(cfn, "everything")
    after = client.get_function_configuration(FunctionName=everything["FunctionName"])
    assert after["CodeSha256"] != before["CodeSha256"]
    assert after["Timeout"] == 31
    assert made["Out"]["Seconds"] == "31"
    assert made["Out"]["FunctionName"] == everything["FunctionName"]
    assert client.get_alias(FunctionName=everything["FunctionName"], Name="live")["FunctionVersion"] == "2"
    iam = cloud.client("iam", REGION)
    names = iam.list_role_policies(RoleName=everything["FunctionRole"])["PolicyNames"]
    document = iam.get_role_policy(RoleName=everything["FunctionRole"], PolicyName=names[0])["PolicyDocument"]
    assert document["Statement"][0]["Action"] == "dynamodb:PutItem"
    sqs = cloud.client("sqs", REGION).get_queue_attributes(QueueUrl=everything["Queue"], AttributeNames=["Policy"])
    assert "events.amazonaws.com" in sqs["Attributes"]["Policy"]


def test_deleting_leaves_nothing(cloud: Cloud, cfn, everything):
    made = resources(cfn, "everything")
    cfn.delete_stack(StackName="everything")
    with pytest.raises(ClientError, match="Stack with id everything does not exist"):
        cfn.describe_stacks(StackName="everything")
    assert len(made) >= 25
    lambdas = cloud.client("lambda", REGION)
    assert lambdas.list_functions()["Functions"] == []
    assert lambdas.list_event_source_mappings()["EventSourceMappings"] == []
    assert lambdas.list_layers()["Layers"] == []
    assert cloud.client("dynamodb", REGION).list_tables()["TableNames"] == []
    assert [b["Name"] for b in cloud.client("s3", REGION).list_buckets()["Buckets"]] == ["code"]
    assert "QueueUrls" not in cloud.client("sqs", REGION).list_queues()
    assert cloud.client("sns", REGION).list_topics()["Topics"] == []
    assert cloud.client("events", REGION).list_rules()["Rules"] == []
    assert cloud.client("stepfunctions", REGION).list_state_machines()["stateMachines"] == []
    assert cloud.client("iam", REGION).list_roles()["Roles"] == []
    assert cloud.client("iam", REGION).list_policies(Scope="Local")["Policies"] == []
    assert cloud.client("cloudwatch", REGION).describe_alarms()["MetricAlarms"] == []


# --- failures
def test_a_failed_creation_says_why_and_leaves_nothing(cloud: Cloud, cfn):
    body = """
Resources:
  Good: {Type: AWS::SQS::Queue}
  Bad:
    Type: AWS::Lambda::Function
    DependsOn: Good
    Properties:
      Runtime: python3.11
      Handler: a.b
      Code: {S3Bucket: code, S3Key: v1.zip}
      Role: !Sub "arn:aws:iam::${AWS::AccountId}:role/there-is-none"
  Never: {Type: AWS::SNS::Topic, DependsOn: Bad}
"""
    made = create(cfn, "failing", body)

    assert made["StackStatus"] == "ROLLBACK_COMPLETE"
    assert "cannot be assumed by Lambda" in reasons(cfn, "failing")["Bad"]
    assert "QueueUrls" not in cloud.client("sqs", REGION).list_queues()
    statuses = [
        (e["LogicalResourceId"], e["ResourceStatus"])
        for e in reversed(cfn.describe_stack_events(StackName="failing")["StackEvents"])
    ]
    assert ("Bad", "CREATE_FAILED") in statuses
    assert statuses.index(("failing", "ROLLBACK_IN_PROGRESS")) < statuses.index(("Good", "DELETE_COMPLETE"))
    assert not any(name == "Never" for name, _ in statuses)
    with pytest.raises(ClientError, match="ROLLBACK_COMPLETE state and can not be updated"):
        cfn.update_stack(StackName="failing", TemplateBody=body)
    cfn.delete_stack(StackName="failing")


@pytest.mark.parametrize(
    ("resource", "reason"),
    [
        ("{Type: AWS::SQS::Queue, Properties: {Speed: 9}}", "Encountered unsupported property Speed"),
        (
            "{Type: AWS::Events::Rule, Properties: {EventPattern: {a: [b]}, Targets: [{Id: a, Arn: b, Wing: 2}]}}",
            "Encountered unsupported property Targets/0/Wing",
        ),
        ("{Type: AWS::S3::BucketPolicy, Properties: {Bucket: b}}", r"required key \[PolicyDocument\] not found"),
        ("{Type: AWS::SQS::Queue, Properties: {VisibilityTimeout: '{{resolve:ssm:/none}}'}}", "ParameterNotFound"),
        ("{Type: AWS::CloudWatch::Alarm, Properties: {EvaluationPeriods: x, ComparisonOperator: y}}", "Integer"),
        (
            "{Type: AWS::SQS::Queue, Properties: {SqsManagedSseEnabled: true, KmsMasterKeyId: alias/aws/sqs}}",
            "one type of server-side encryption",
        ),
        (f"{{Type: AWS::AppConfig::Application, Properties: {{Name: {'n' * 65}}}}}", "less than or equal to 64"),
        (
            "{Type: AWS::AppConfig::ConfigurationProfile, Properties: "
            f"{{ApplicationId: a, LocationUri: hosted, Name: {'n' * 129}}}}}",
            "less than or equal to 128",
        ),
    ],
)
def test_what_a_type_does_not_have_is_an_error_that_names_it(cfn, resource, reason):
    create(cfn, "unsupported", f"Resources: {{X: {resource}}}")
    assert re.search(reason, reasons(cfn, "unsupported")["X"])
    cfn.delete_stack(StackName="unsupported")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("Resources: {X: {Type: AWS::Made::Up}}", r"Unrecognized resource types: \[AWS::Made::Up\]"),
        (
            "Resources: {X: {Type: AWS::SQS::Queue, DeletionPolicy: Keep}}",
            "Unrecognized DeletionPolicy Keep for X",
        ),
        (
            "Resources: {X: {Type: AWS::SQS::Queue, UpdateReplacePolicy: RetainExceptOnCreate}}",
            "Unrecognized UpdateReplacePolicy RetainExceptOnCreate for X",
        ),
        (
            "Resources: {X: {Type: AWS::SQS::Queue, Properties: {QueueName: !Ref Nothing}}}",
            r"Unresolved resource dependencies \[Nothing\] in the Resources block",
        ),
        (
            "Resources: {A: {Type: AWS::SQS::Queue, DependsOn: B}, B: {Type: AWS::SQS::Queue, DependsOn: A}}",
            r"Circular dependency between resources: \[A, B\]",
        ),
        (
            "Resources: {A: {Type: AWS::SQS::Queue}}\nOutputs: {O: {Value: !Ref B}}",
            r"Unresolved resource dependencies \[B\] in the Outputs block",
        ),
    ],
)
def test_what_can_be_seen_to_be_wrong_is_refused_at_once(cfn, body, message):
    with pytest.raises(ClientError, match=message):
        cfn.create_stack(StackName="refused", TemplateBody=body)
    with pytest.raises(ClientError, match="does not exist"):
        cfn.describe_stacks(StackName="refused")


def test_capabilities_must_be_given(cfn):
    body = 'Resources: {R: {Type: AWS::IAM::Role, Properties: {AssumeRolePolicyDocument: {Version: "2012-10-17"}}}}'
    with pytest.raises(ClientError) as caught:
        cfn.create_stack(StackName="caps", TemplateBody=body)
    assert caught.value.response["Error"]["Code"] == "InsufficientCapabilitiesException"
    with pytest.raises(ClientError, match="CAPABILITY_AUTO_EXPAND"):
        cfn.create_stack(StackName="caps", TemplateBody=EVERYTHING, Capabilities=["CAPABILITY_IAM"])


QUEUES = """
Parameters: {Name: {Type: String, Default: ""}, Seconds: {Type: Number, Default: 30}}
Conditions: {Named: !Not [!Equals [!Ref Name, ""]]}
Resources:
  One:
    Type: AWS::SQS::Queue
    Properties: {VisibilityTimeout: !Ref Seconds, QueueName: !If [Named, !Ref Name, !Ref AWS::NoValue]}
  Two: {Type: AWS::SQS::Queue, DependsOn: One}
Outputs: {One: {Value: !GetAtt One.QueueName}, Arn: {Value: !GetAtt One.Arn}}
"""


def queue_names(cloud: Cloud) -> set[str]:
    urls = cloud.client("sqs", REGION).list_queues().get("QueueUrls", [])
    return {u.rpartition("/")[2] for u in urls}


def test_an_update_replaces_what_it_cannot_change_and_removes_what_is_gone(cloud: Cloud, cfn):
    first = create(cfn, "queues", QUEUES)["Out"]["One"]
    second = update(cfn, "queues", QUEUES.replace("  Two: {Type: AWS::SQS::Queue, DependsOn: One}\n", ""), Name="own")
    assert second["StackStatus"] == "UPDATE_COMPLETE"
    assert second["Out"]["One"] == "own"
    assert first not in queue_names(cloud)
    assert queue_names(cloud) == {"own"}
    cfn.delete_stack(StackName="queues")
    assert queue_names(cloud) == set()


def test_a_failed_update_goes_back(cloud: Cloud, cfn):
    create(cfn, "back", QUEUES)
    broken = QUEUES.replace(
        "Outputs:", "  Bad: {Type: AWS::SQS::Queue, DependsOn: Two, Properties: {Speed: 9}}\nOutputs:"
    )
    made = update(cfn, "back", broken, Seconds="99")

    assert made["StackStatus"] == "UPDATE_ROLLBACK_COMPLETE"
    assert "Speed" in reasons(cfn, "back")["Bad"]
    url = resources(cfn, "back")["One"]
    attributes = cloud.client("sqs", REGION).get_queue_attributes(QueueUrl=url, AttributeNames=["VisibilityTimeout"])
    assert attributes["Attributes"]["VisibilityTimeout"] == "30"
    assert set(resources(cfn, "back")) == {"One", "Two"}
    again = update(cfn, "back", QUEUES, Seconds="45")
    assert again["StackStatus"] == "UPDATE_COMPLETE"
    cfn.delete_stack(StackName="back")


BROKEN = QUEUES.replace("Outputs:", "  Bad: {Type: AWS::SQS::Queue, DependsOn: Two, Properties: {Speed: 9}}\nOutputs:")


def keep_what_was_done(cfn: Any, name: str, body: str, **parameters: str) -> str:
    """Update a stack with its rollback disabled; return its status."""
    given = [{"ParameterKey": k, "ParameterValue": v} for k, v in parameters.items()]
    cfn.update_stack(StackName=name, TemplateBody=body, Parameters=given, DisableRollback=True)
    return str(stack(cfn, name)["StackStatus"])


def visibility(cloud: Cloud, cfn: Any, name: str) -> str:
    url = resources(cfn, name)["One"]
    attributes = cloud.client("sqs", REGION).get_queue_attributes(QueueUrl=url, AttributeNames=["VisibilityTimeout"])
    return str(attributes["Attributes"]["VisibilityTimeout"])


def test_a_failed_update_without_rollback_goes_on_only_without_rollback(cloud: Cloud, cfn):
    create(cfn, "paused", QUEUES)
    assert keep_what_was_done(cfn, "paused", BROKEN, Seconds="99") == "UPDATE_FAILED"
    assert visibility(cloud, cfn, "paused") == "99"
    with pytest.raises(ClientError, match=r"non-terminal \[UPDATE_FAILED\] state.*rollback-stack API"):
        update(cfn, "paused", QUEUES, Seconds="98")
    change = cfn.create_change_set(StackName="paused", ChangeSetName="again", TemplateBody=QUEUES)
    with pytest.raises(ClientError, match=r"non-terminal \[UPDATE_FAILED\] state"):
        cfn.execute_change_set(ChangeSetName=change["Id"])
    assert keep_what_was_done(cfn, "paused", QUEUES, Seconds="98") == "UPDATE_COMPLETE"
    with pytest.raises(ClientError, match="can not be rolled back"):
        cfn.rollback_stack(StackName="paused")
    assert update(cfn, "paused", QUEUES, Seconds="97")["StackStatus"] == "UPDATE_COMPLETE"
    cfn.delete_stack(StackName="paused")


def test_what_failed_without_rollback_can_be_rolled_back(cloud: Cloud, cfn):
    create(cfn, "taken-back", QUEUES)
    for seconds in ("99", "98"):
        assert keep_what_was_done(cfn, "taken-back", BROKEN, Seconds=seconds) == "UPDATE_FAILED"
    cfn.rollback_stack(StackName="taken-back")
    assert stack(cfn, "taken-back")["StackStatus"] == "UPDATE_ROLLBACK_COMPLETE"
    assert visibility(cloud, cfn, "taken-back") == "30"
    assert update(cfn, "taken-back", QUEUES, Seconds="45")["StackStatus"] == "UPDATE_COMPLETE"
    cfn.delete_stack(StackName="taken-back")


def test_nothing_is_replaced_while_rollback_is_disabled(cloud: Cloud, cfn):
    create(cfn, "replacing", QUEUES)
    before = resources(cfn, "replacing")["One"]
    assert keep_what_was_done(cfn, "replacing", QUEUES, Name="another") == "UPDATE_FAILED"
    assert reasons(cfn, "replacing")["One"] == "Replacement type updates not supported on stack with disable-rollback."
    assert resources(cfn, "replacing")["One"] == before
    cfn.rollback_stack(StackName="replacing")
    assert update(cfn, "replacing", QUEUES, Name="another")["StackStatus"] == "UPDATE_COMPLETE"
    cfn.delete_stack(StackName="replacing")


def test_a_stack_that_never_was_complete_is_deleted_by_its_rollback(cfn):
    created = cfn.create_stack(StackName="half-made", TemplateBody=BROKEN, DisableRollback=True)["StackId"]
    assert stack(cfn, "half-made")["StackStatus"] == "CREATE_FAILED"
    with pytest.raises(ClientError, match=r"non-terminal \[CREATE_FAILED\] state"):
        update(cfn, "half-made", QUEUES)
    cfn.rollback_stack(StackName="half-made")
    assert stack(cfn, created)["StackStatus"] == "DELETE_COMPLETE"


def test_the_rollback_of_a_creation_also_deletes_what_is_retained_but_not_on_its_creation(cloud: Cloud, cfn):
    """https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/aws-attribute-deletionpolicy.html"""
    kept = BROKEN.replace("  Two: {", "  Two: {DeletionPolicy: RetainExceptOnCreate, ")
    cfn.create_stack(StackName="except", TemplateBody=kept, DisableRollback=True)
    assert len(queue_names(cloud)) == 2
    cfn.rollback_stack(StackName="except")
    assert queue_names(cloud) == set()

    create(cfn, "except", kept.replace(", Properties: {Speed: 9}", ""))
    cfn.delete_stack(StackName="except")
    [left] = queue_names(cloud)
    assert left.startswith("except-Two-")
    cloud.client("sqs", REGION).delete_queue(QueueUrl=left)


@pytest.fixture
def unable_to_go_back(cloud: Cloud, cfn):
    """A stack whose queue somebody deleted between two updates that failed and their rollback."""
    create(cfn, "stuck", QUEUES)
    for seconds in ("99", "98"):
        assert keep_what_was_done(cfn, "stuck", BROKEN, Seconds=seconds) == "UPDATE_FAILED"
    sqs, url = cloud.client("sqs", REGION), resources(cfn, "stuck")["One"]
    sqs.delete_queue(QueueUrl=url)
    cfn.rollback_stack(StackName="stuck")
    yield lambda: sqs.create_queue(QueueName=url.rpartition("/")[2])
    cfn.delete_stack(StackName="stuck")
    assert queue_names(cloud) == set()


def test_a_rollback_that_failed_goes_on_when_its_reason_is_mended(cloud: Cloud, cfn, unable_to_go_back):
    assert stack(cfn, "stuck")["StackStatus"] == "UPDATE_ROLLBACK_FAILED"
    assert "does not exist" in reasons(cfn, "stuck")["One"]
    with pytest.raises(ClientError, match="UPDATE_ROLLBACK_FAILED state and can not be updated"):
        update(cfn, "stuck", QUEUES, Seconds="45")
    cfn.continue_update_rollback(StackName="stuck")
    assert stack(cfn, "stuck")["StackStatus"] == "UPDATE_ROLLBACK_FAILED"

    unable_to_go_back()
    cfn.continue_update_rollback(StackName="stuck")
    assert stack(cfn, "stuck")["StackStatus"] == "UPDATE_ROLLBACK_COMPLETE"
    assert visibility(cloud, cfn, "stuck") == "30"
    with pytest.raises(ClientError, match="UPDATE_ROLLBACK_COMPLETE state and can not be rolled back"):
        cfn.continue_update_rollback(StackName="stuck")


def test_a_rollback_that_failed_goes_on_without_what_is_skipped(cfn, unable_to_go_back):
    with pytest.raises(ClientError, match=r"can be skipped: \[Nothing, Two\]"):
        cfn.continue_update_rollback(StackName="stuck", ResourcesToSkip=["Two", "One", "Nothing"])
    before = len(history(cfn, "stuck"))
    cfn.continue_update_rollback(StackName="stuck", ResourcesToSkip=["One"])
    assert history(cfn, "stuck")[before:] == [
        ("stuck", "UPDATE_ROLLBACK_IN_PROGRESS"),
        ("One", "UPDATE_COMPLETE"),
        ("stuck", "UPDATE_ROLLBACK_COMPLETE"),
    ]
    [one] = cfn.describe_stack_resources(StackName="stuck", LogicalResourceId="One")["StackResources"]
    assert one["ResourceStatus"] == "UPDATE_COMPLETE"
    unable_to_go_back()
    assert update(cfn, "stuck", QUEUES, Seconds="45")["StackStatus"] == "UPDATE_COMPLETE"


def test_an_update_without_a_change_is_refused(cfn):
    create(cfn, "same", QUEUES)
    with pytest.raises(ClientError, match="No updates are to be performed"):
        update(cfn, "same", QUEUES)
    cfn.delete_stack(StackName="same")


def test_deletion_policies_are_honoured(cloud: Cloud, cfn):
    body = """
Resources:
  Kept: {Type: AWS::SQS::Queue, DeletionPolicy: Retain}
  Gone: {Type: AWS::SQS::Queue}
  Fails: {Type: AWS::SQS::Queue, DependsOn: [Kept, Gone, Tried], Properties: {Speed: 1}}
  Tried: {Type: AWS::SQS::Queue, DeletionPolicy: RetainExceptOnCreate}
"""
    create(cfn, "kept", body)
    left = queue_names(cloud)
    assert [n for n in left if "-Kept-" in n]
    assert not [n for n in left if "-Gone-" in n or "-Tried-" in n]
    cfn.delete_stack(StackName="kept")
    create(
        cfn,
        "kept",
        body.replace("  Fails: {Type: AWS::SQS::Queue, DependsOn: [Kept, Gone, Tried], Properties: {Speed: 1}}\n", ""),
    )
    cfn.delete_stack(StackName="kept")
    left = queue_names(cloud)
    assert len([n for n in left if "-Kept-" in n]) == 2
    assert [n for n in left if "-Tried-" in n]
    sqs = cloud.client("sqs", REGION)
    for url in sqs.list_queues()["QueueUrls"]:
        sqs.delete_queue(QueueUrl=url)


VERSIONED = """
Transform: AWS::Serverless-2016-10-31
Parameters:
  Colour: {Type: String, Default: blue}
  Note: {Type: String, Default: first}
Resources:
  Settings: {Type: AWS::AppConfig::Application, Properties: {Name: mine}}
  Profile:
    Type: AWS::AppConfig::ConfigurationProfile
    Properties: {ApplicationId: !GetAtt Settings.ApplicationId, Name: settings, LocationUri: hosted}
  Colours:
    Type: AWS::AppConfig::HostedConfigurationVersion
    Properties:
      ApplicationId: !GetAtt Settings.ApplicationId
      ConfigurationProfileId: !GetAtt Profile.ConfigurationProfileId
      ContentType: text/plain
      Content: !Sub "Colour=${Colour}"
  Function:
    Type: AWS::Serverless::Function
    UpdateReplacePolicy: Retain
    Properties:
      CodeUri: {Bucket: code, Key: v1.zip}
      Runtime: python3.11
      Handler: app.handler
      AutoPublishAlias: live
      AutoPublishAliasAllProperties: true
      VersionDescription: !Sub "${Colours.VersionNumber} ${Note}"
      Environment: {Variables: {COLOUR: !Ref Colour, N: !GetAtt Colours.VersionNumber}}
Outputs:
  Version: {Value: !Ref Function.Version}
"""


def test_a_version_with_another_description_is_another_version_and_the_old_one_stays(cloud: Cloud, cfn, code):
    lambdas = cloud.client("lambda", REGION)

    def published(arn: str) -> tuple[str, dict[str, str]]:
        found = lambdas.get_function_configuration(FunctionName=arn)
        return found["Description"], found["Environment"]["Variables"]

    first = create(cfn, "versioned", VERSIONED)["Out"]["Version"]
    second = update(cfn, "versioned", VERSIONED, Colour="red")["Out"]["Version"]
    assert (first[-2:], second[-2:]) == (":1", ":2")
    assert published(first) == ("1 first", {"COLOUR": "blue", "N": "1"})
    assert published(second) == ("2 first", {"COLOUR": "red", "N": "2"})
    assert lambdas.get_alias(FunctionName=first.rpartition(":")[0], Name="live")["FunctionVersion"] == "2"


def test_a_new_version_of_an_unchanged_function_is_refused(cloud: Cloud, cfn, code):
    before = stack(cfn, "versioned")["Out"]["Version"]
    changed = update(cfn, "versioned", VERSIONED, Colour="red", Note="second")
    assert changed["StackStatus"] == "UPDATE_ROLLBACK_COMPLETE"
    [reason] = reasons(cfn, "versioned").values()
    assert reason == "A version for this Lambda function exists ( 2 ). Modify the function to create a new version."
    assert changed["Out"]["Version"] == before
    application = resources(cfn, "versioned")["Settings"]
    cfn.delete_stack(StackName="versioned")
    appconfig = cloud.client("appconfig", REGION)
    with pytest.raises(ClientError, match="ResourceNotFoundException"):
        appconfig.get_application(ApplicationId=application)


NOT_IN_A_VERSION = {"FunctionName", "PackageType", "ReservedConcurrentExecutions", "Tags"}
_ANYTHING = {"Effect": "Allow", "Action": "*", "Resource": "*"}
_LAMBDA = {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}
CHANGES = {
    "Architectures": ["arm64"],
    "Code": {"S3Bucket": "code", "S3Key": "v2.zip"},
    "DeadLetterConfig": {"TargetArn": {"Fn::GetAtt": ["Letters", "Arn"]}},
    "Description": "another",
    "Environment": {"Variables": {"COLOUR": "red"}},
    "EphemeralStorage": {"Size": 1024},
    "FileSystemConfigs": [{"Arn": {"Fn::GetAtt": ["Letters", "Arn"]}, "LocalMountPath": "/mnt/data"}],
    "Handler": "app.other",
    "KmsKeyArn": {"Fn::GetAtt": ["Key", "Arn"]},
    "Layers": [{"Ref": "Layer"}],
    "LoggingConfig": {"LogFormat": "JSON"},
    "MemorySize": 256,
    "Role": {"Fn::GetAtt": ["Other", "Arn"]},
    "Runtime": "python3.12",
    "SnapStart": {"ApplyOn": "PublishedVersions"},
    "Timeout": 20,
    "TracingConfig": {"Mode": "Active"},
    "VpcConfig": {"SubnetIds": [{"Ref": "Subnet"}], "SecurityGroupIds": []},
}
"""For each property of a function that is part of a version: another value than the one that is deployed first."""


def _with_settings(step: int, **settings: Any) -> str:
    role = {
        "AssumeRolePolicyDocument": {"Statement": [_LAMBDA]},
        "Policies": [{"PolicyName": "all", "PolicyDocument": {"Statement": [_ANYTHING]}}],
    }
    package = {"S3Bucket": "code", "S3Key": "v1.zip"}
    function = {"Code": package, "Handler": "app.handler", "Runtime": "python3.11", **settings}
    function.setdefault("Role", {"Fn::GetAtt": ["One", "Arn"]})
    found: dict[str, Any] = {
        "One": {"Type": "AWS::IAM::Role", "Properties": role},
        "Other": {"Type": "AWS::IAM::Role", "Properties": role},
        "Letters": {"Type": "AWS::SQS::Queue"},
        "Key": {"Type": "AWS::KMS::Key", "Properties": {"KeyPolicy": {"Statement": [{**_ANYTHING, "Principal": "*"}]}}},
        "Layer": {"Type": "AWS::Lambda::LayerVersion", "Properties": {"Content": package}},
        "Function": {"Type": "AWS::Lambda::Function", "Properties": function},
        "Version": {
            "Type": "AWS::Lambda::Version",
            "UpdateReplacePolicy": "Retain",
            "Properties": {"FunctionName": {"Ref": "Function"}, "Description": f"step {step}"},
        },
    }
    subnet = {"Subnet": {"Type": "String"}}
    outputs = {"Function": {"Value": {"Ref": "Function"}}, "Version": {"Value": {"Ref": "Version"}}}
    return json.dumps({"Parameters": subnet, "Resources": found, "Outputs": outputs})


def test_a_change_of_any_one_setting_of_a_function_is_deployed_as_another_version(cloud: Cloud, cfn, code):
    assert set(CHANGES) == set(compute.Function.properties) - NOT_IN_A_VERSION
    lambdas = cloud.client("lambda", REGION)
    subnet = cloud.client("ec2", REGION).describe_subnets()["Subnets"][0]["SubnetId"]
    shown = [_published(lambdas, create(cfn, "settings", _with_settings(0), Subnet=subnet))]
    settings: dict[str, Any] = {}
    for step, (name, value) in enumerate([*CHANGES.items(), ("nothing", None)], start=1):
        settings = {**settings, name: value} if name in CHANGES else {}
        found = update(cfn, "settings", _with_settings(step, **settings), Subnet=subnet)
        assert found["StackStatus"] == "UPDATE_COMPLETE", (name, reasons(cfn, "settings"))
        shown.append(_published(lambdas, found))
    *others, last = shown
    assert last == others[0]
    assert all(one not in others[:index] for index, one in enumerate(others))
    cfn.delete_stack(StackName="settings")


def _published(lambdas: Any, found: dict[str, Any]) -> dict[str, Any]:
    """Return what Lambda shows of a function, which its version shows too but for what names a version."""
    names = ("ResponseMetadata", "Version", "FunctionArn", "LastModified")
    function, version = (
        {k: v for k, v in lambdas.get_function_configuration(FunctionName=found["Out"][name]).items() if k not in names}
        for name in ("Function", "Version")
    )
    assert version == {**function, "Description": version["Description"]}
    return function


def test_a_version_that_a_rollback_left_is_in_the_way_of_the_same_deployment(cloud: Cloud, cfn, code):
    """SAM's versions are retained, and Lambda publishes nothing that is what the last version is.

    https://github.com/serverless/serverless/issues/9001
    """
    lambdas = cloud.client("lambda", REGION)
    first = create(cfn, "retried", VERSIONED)["Out"]["Version"]
    function = first.split(":")[-2]
    second = VERSIONED.replace("v1.zip", "v2.zip")
    failing = second.replace(
        "Outputs:", "  Bad: {Type: AWS::SQS::Queue, DependsOn: FunctionAliaslive, Properties: {Speed: 1}}\nOutputs:"
    )

    assert update(cfn, "retried", failing)["StackStatus"] == "UPDATE_ROLLBACK_COMPLETE"
    assert lambdas.get_alias(FunctionName=function, Name="live")["FunctionVersion"] == "1"
    versions = lambdas.list_versions_by_function(FunctionName=function)["Versions"]
    assert [version["Version"] for version in versions] == ["$LATEST", "1", "2"]

    assert update(cfn, "retried", second)["StackStatus"] == "UPDATE_ROLLBACK_COMPLETE"
    message = "A version for this Lambda function exists ( 2 ). Modify the function to create a new version."
    assert message in reasons(cfn, "retried").values()

    lambdas.delete_function(FunctionName=function, Qualifier="2")
    third = update(cfn, "retried", second)
    assert (third["StackStatus"], third["Out"]["Version"][-2:]) == ("UPDATE_COMPLETE", ":3")
    cfn.delete_stack(StackName="retried")


def test_a_bucket_that_is_not_empty_is_not_deleted(cloud: Cloud, cfn):
    body = "Resources: {B: {Type: AWS::S3::Bucket, Properties: {VersioningConfiguration: {Status: Enabled}}}}"
    create(cfn, "full", body)
    name = resources(cfn, "full")["B"]
    s3 = cloud.client("s3", REGION)
    version = s3.put_object(Bucket=name, Key="k", Body=b"1")["VersionId"]
    marker = s3.delete_object(Bucket=name, Key="k")["VersionId"]

    cfn.delete_stack(StackName="full")
    assert stack(cfn, "full")["StackStatus"] == "DELETE_FAILED"
    assert "not empty. You must delete all versions" in reasons(cfn, "full")["B"]

    for one in (version, marker):
        s3.delete_object(Bucket=name, Key="k", VersionId=one)
    identity = stack(cfn, "full")["StackId"]
    cfn.delete_stack(StackName="full")
    assert cfn.describe_stacks(StackName=identity)["Stacks"][0]["StackStatus"] == "DELETE_COMPLETE"


def test_exports_are_shared_and_kept_while_they_are_used(cfn):
    create(
        cfn,
        "exporter",
        QUEUES.replace("Arn: {Value: !GetAtt One.Arn}", "Arn: {Value: !GetAtt One.Arn, Export: {Name: q}}"),
    )
    importer = """
Resources:
  Q: {Type: AWS::SQS::Queue, Properties: {RedrivePolicy: {deadLetterTargetArn: !ImportValue q, maxReceiveCount: 1}}}
"""
    assert create(cfn, "importer", importer)["StackStatus"] == "CREATE_COMPLETE"
    assert cfn.list_imports(ExportName="q")["Imports"] == ["importer"]
    with pytest.raises(ClientError, match="Cannot delete export q as it is in use by importer"):
        cfn.delete_stack(StackName="exporter")
    cfn.delete_stack(StackName="importer")
    cfn.delete_stack(StackName="exporter")
    assert cfn.list_exports()["Exports"] == []


# --- change sets
def change_set(cfn: Any, name: str, kind: str, body: str, **parameters: str) -> dict[str, Any]:
    given = [{"ParameterKey": k, "ParameterValue": v} for k, v in parameters.items()]
    made = cfn.create_change_set(
        StackName=name,
        ChangeSetName="c",
        ChangeSetType=kind,
        TemplateBody=body,
        Parameters=given,
        Capabilities=CAPABILITIES,
    )
    described: dict[str, Any] = cfn.describe_change_set(ChangeSetName=made["Id"])
    return described


def test_change_sets_show_and_do_what_they_show(cfn):
    first = change_set(cfn, "sets", "CREATE", QUEUES)
    assert stack(cfn, "sets")["StackStatus"] == "REVIEW_IN_PROGRESS"
    assert [(c["ResourceChange"]["Action"], c["ResourceChange"]["LogicalResourceId"]) for c in first["Changes"]] == [
        ("Add", "One"),
        ("Add", "Two"),
    ]
    cfn.execute_change_set(ChangeSetName=first["ChangeSetId"])
    cfn.get_waiter("stack_create_complete").wait(StackName="sets", WaiterConfig={"Delay": 1})

    same = change_set(cfn, "sets", "UPDATE", QUEUES)
    assert same["Status"] == "FAILED"
    assert "didn't contain changes" in same["StatusReason"]

    changed = change_set(cfn, "sets", "UPDATE", QUEUES, Seconds="31")
    only = changed["Changes"][0]["ResourceChange"]
    assert (only["Action"], only["LogicalResourceId"], only["Replacement"]) == ("Modify", "One", "False")
    assert len(changed["Changes"]) == 1
    cfn.execute_change_set(ChangeSetName="c", StackName="sets")
    cfn.get_waiter("stack_update_complete").wait(StackName="sets", WaiterConfig={"Delay": 1})
    with pytest.raises(ClientError, match="cannot be executed"):
        cfn.execute_change_set(ChangeSetName=changed["ChangeSetId"])
    cfn.delete_stack(StackName="sets")
    cfn.get_waiter("stack_delete_complete").wait(StackName="sets", WaiterConfig={"Delay": 1})


def test_a_drift_aware_change_set_is_refused_instead_of_finding_nothing_to_do(cfn):
    create(cfn, "drifted", QUEUES)
    with pytest.raises(ClientError, match="knows no drift and makes no REVERT_DRIFT change set"):
        cfn.create_change_set(
            StackName="drifted", ChangeSetName="again", UsePreviousTemplate=True, DeploymentMode="REVERT_DRIFT"
        )
    assert cfn.list_change_sets(StackName="drifted")["Summaries"] == []
    cfn.delete_stack(StackName="drifted")


def test_templates_are_summarised_and_given_back(cfn):
    summary = cfn.get_template_summary(TemplateBody=EVERYTHING)
    assert summary["DeclaredTransforms"] == ["AWS::Serverless-2016-10-31"]
    assert {p["ParameterKey"] for p in summary["Parameters"]} == {"Package", "Seconds"}
    assert "CAPABILITY_AUTO_EXPAND" in cfn.validate_template(TemplateBody=EVERYTHING)["Capabilities"]
    create(cfn, "body", QUEUES)
    assert cfn.get_template(StackName="body")["TemplateBody"] is not None
    cfn.delete_stack(StackName="body")


def test_resources_are_made_with_the_deployers_credentials(cloud: Cloud):
    statements = [
        {"Effect": "Allow", "Action": "cloudformation:*", "Resource": "*"},
        {"Effect": "Allow", "Action": ["sqs:CreateQueue", "sqs:DeleteQueue"], "Resource": "*"},
    ]
    own = cloud.as_role(cloud.role("deployer", *statements), "cloudformation")
    assert create(own, "allowed", "Resources: {Q: {Type: AWS::SQS::Queue}}")["StackStatus"] == "CREATE_COMPLETE"
    own.delete_stack(StackName="allowed")
    create(own, "denied", "Resources: {Q: {Type: AWS::SQS::Queue, DependsOn: T}, T: {Type: AWS::SNS::Topic}}")
    assert "not authorized to perform: sns:CreateTopic" in reasons(own, "denied")["T"]
    own.delete_stack(StackName="denied")


@pytest.mark.parametrize(
    ("region", "partition", "suffix"),
    [
        ("cn-north-1", "aws-cn", "amazonaws.com.cn"),
        ("us-gov-west-1", "aws-us-gov", "amazonaws.com"),
        ("us-iso-east-1", "aws-iso", "c2s.ic.gov"),
    ],
)
def test_every_partition_has_its_suffix_and_awss_own_policies(cloud: Cloud, region: str, partition: str, suffix: str):
    body = """
Resources:
  B: {Type: AWS::S3::Bucket}
  R:
    Type: AWS::IAM::Role
    Properties:
      AssumeRolePolicyDocument:
        Statement: [{Effect: Allow, Principal: {Service: lambda.amazonaws.com}, Action: "sts:AssumeRole"}]
      ManagedPolicyArns: [!Sub "arn:${AWS::Partition}:iam::aws:policy/AWSXRayDaemonWriteAccess"]
Outputs:
  Arn: {Value: !GetAtt B.Arn}
  Suffix: {Value: !Sub "${AWS::Partition} ${AWS::URLSuffix}"}
  Domain: {Value: !GetAtt B.RegionalDomainName}
"""
    cfn = cloud.client("cloudformation", region)
    out = create(cfn, "own", body)["Out"]
    assert out["Arn"].startswith(f"arn:{partition}:s3:::own-b-")
    assert out["Suffix"] == f"{partition} {suffix}"
    assert out["Domain"].endswith(f".s3.{region}.{suffix}")
    cfn.delete_stack(StackName="own")
