"""EventBridge on the embedded cloud: targets, their permissions, dead letters, S3's events, schedules, the dials."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from baton_local.dials import Dials
from tests.integration.local.lambda_helpers import eventually
from tests.integration.local.stepfunctions_helpers import Machines, document, machines

REGION = "eu-west-1"


class World:
    """A cloud with rules, and queues in which to see what they let through."""

    def __init__(self, made: Machines) -> None:
        self.machines = made
        self.region = made.region
        self.events = self.client("events")
        self.sqs = self.client("sqs")
        self._count = 0

    def client(self, service: str) -> Any:
        return self.machines.cloud.client(service, self.machines.region)

    def unique(self) -> str:
        self._count += 1
        return f"n{self._count}"

    def queue(self, allow: bool = True) -> tuple[str, str]:
        """Make a queue, which EventBridge may or may not write to; return its URL and ARN."""
        url = self.sqs.create_queue(QueueName=self.unique())["QueueUrl"]
        arn = self.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        if allow:
            statement = {"Effect": "Allow", "Principal": {"Service": "events.amazonaws.com"}}
            policy = document({**statement, "Action": "sqs:SendMessage", "Resource": arn})
            self.sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": policy})
        return url, arn

    def rule(self, pattern: dict[str, Any], *targets: dict[str, Any], bus: str = "default") -> str:
        name = self.unique()
        arn = self.events.put_rule(Name=name, EventPattern=json.dumps(pattern), EventBusName=bus)["RuleArn"]
        numbered = [{"Id": str(number), **target} for number, target in enumerate(targets)]
        self.events.put_targets(Rule=name, EventBusName=bus, Targets=numbered)
        return str(arn)

    def put(self, source: str, detail: Any = None, **fields: Any) -> dict[str, Any]:
        entry = {"Source": source, "DetailType": "Test", "Detail": json.dumps(detail or {}), **fields}
        return self.events.put_events(Entries=[entry])["Entries"][0]  # type: ignore[no-any-return]

    def messages(self, url: str, count: int = 1, seconds: float = 15) -> list[dict[str, Any]]:
        """Wait for some messages, and return all there are then."""
        found: list[dict[str, Any]] = []

        def enough() -> bool:
            answer = self.sqs.receive_message(
                QueueUrl=url, MaxNumberOfMessages=10, MessageAttributeNames=["All"], VisibilityTimeout=600
            )
            found.extend(answer.get("Messages", []))
            return len(found) >= count

        eventually(enough, seconds)
        return found

    def bodies(self, url: str, count: int = 1) -> list[Any]:
        return [json.loads(message["Body"]) for message in self.messages(url, count)]

    def all_bodies(self, url: str) -> list[Any]:
        """Return what comes until nothing has come for a second."""
        found: list[Any] = []
        while messages := self.sqs.receive_message(
            QueueUrl=url, MaxNumberOfMessages=10, VisibilityTimeout=600, WaitTimeSeconds=1
        ).get("Messages", []):
            found += [json.loads(message["Body"]) for message in messages]
        return found

    def is_empty(self, url: str, seconds: float = 0.7) -> bool:
        time.sleep(seconds)
        return "Messages" not in self.sqs.receive_message(QueueUrl=url)


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with machines(REGION) as made:
        yield World(made)


# --- PutEvents ----------------------------------------------------------------------------------------------------


def test_an_event_reaches_a_queue_as_eventbridge_writes_it(world: World) -> None:
    url, arn = world.queue()
    world.rule({"source": ["baton.pipeline"], "detail": {"run_id": [{"prefix": "bt-"}]}}, {"Arn": arn})
    entry = world.put("baton.pipeline", {"run_id": "bt-1"}, Resources=["arn:x"], Time=1700000000)
    world.put("baton.pipeline", {"run_id": "other"})
    world.put("baton.other", {"run_id": "bt-1"})
    (event,) = world.bodies(url)
    assert event == {
        "version": "0",
        "id": entry["EventId"],
        "detail-type": "Test",
        "source": "baton.pipeline",
        "account": "123456789012",
        "time": "2023-11-14T22:13:20Z",
        "region": REGION,
        "resources": ["arn:x"],
        "detail": {"run_id": "bt-1"},
    }
    assert world.is_empty(url)


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"Source": "aws.s3"}, "NotAuthorizedForSourceException"),
        ({"Detail": "{"}, "MalformedDetail"),
        ({"Detail": "[1]"}, "MalformedDetail"),
        ({"DetailType": ""}, "InvalidArgument"),
    ],
)
def test_entries_that_eventbridge_refuses(world: World, fields: dict[str, str], code: str) -> None:
    good = {"Source": "baton.test", "DetailType": "Test", "Detail": "{}"}
    answer = world.events.put_events(Entries=[{**good, **fields}, good])
    assert answer["FailedEntryCount"] == 1
    assert answer["Entries"][0]["ErrorCode"] == code
    assert "EventId" in answer["Entries"][1]


def test_a_request_is_at_most_256_kib_and_ten_entries(world: World) -> None:
    with pytest.raises(ClientError, match="over the limit"):
        world.put("baton.test", {"x": "y" * 256 * 1024})
    entry = {"Source": "baton.test", "DetailType": "Test", "Detail": "{}"}
    with pytest.raises(ClientError, match="less than or equal to 10"):
        world.events.put_events(Entries=[entry] * 11)


def test_an_invalid_pattern_is_refused(world: World) -> None:
    with pytest.raises(ClientError) as error:
        world.events.put_rule(Name="bad", EventPattern='{"detail": {"a": [{"regex": "x"}]}}')
    assert error.value.response["Error"]["Code"] == "InvalidEventPatternException"
    pattern, event = '{"detail": {"a": [{"suffix": "x"}]}}', {"detail": {"a": "yx"}, "source": "s"}
    assert world.events.test_event_pattern(EventPattern=pattern, Event=json.dumps(event))["Result"]


def test_a_disabled_rule_lets_nothing_through(world: World) -> None:
    url, arn = world.queue()
    rule = world.rule({"source": ["baton.disabled"]}, {"Arn": arn})
    world.events.disable_rule(Name=rule.rsplit("/", 1)[1])
    world.put("baton.disabled")
    assert world.is_empty(url)
    world.events.enable_rule(Name=rule.rsplit("/", 1)[1])
    world.put("baton.disabled")
    assert len(world.messages(url)) == 1


# --- targets ------------------------------------------------------------------------------------------------------


def test_every_kind_of_target(world: World) -> None:
    made = world.machines
    url, queue_arn = world.queue()
    sns, logs, functions = world.client("sns"), world.client("logs"), world.client("lambda")
    topic = sns.create_topic(Name="alarm")["TopicArn"]
    events_may = {"Effect": "Allow", "Principal": {"Service": "events.amazonaws.com"}}
    policy = document({**events_may, "Action": "sns:Publish", "Resource": topic})
    sns.set_topic_attributes(TopicArn=topic, AttributeName="Policy", AttributeValue=policy)
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=queue_arn, Attributes={"RawMessageDelivery": "true"})
    logs.create_log_group(logGroupName="/aws/events/seen")
    world.events.create_event_bus(Name="second")
    world.rule({"source": ["baton.kinds"]}, {"Arn": queue_arn, "InputPath": "$.source"}, bus="second")
    machine = made.create({"P": {"Type": "Pass", "End": True}})
    starter = made.make_role("starter", "states:StartExecution", service="events")
    account = f"{REGION}:123456789012"
    rule = world.rule(
        {"source": ["baton.kinds"]},
        {"Arn": made.function},
        {"Arn": machine, "RoleArn": starter, "InputPath": "$.detail"},
        {"Arn": topic, "Input": '"from the topic"'},
        {"Arn": f"arn:aws:logs:{account}:log-group:/aws/events/seen"},
        {"Arn": f"arn:aws:events:{account}:event-bus/second"},
    )
    functions.add_permission(
        FunctionName="does",
        StatementId="rule",
        Action="lambda:InvokeFunction",
        Principal="events.amazonaws.com",
        SourceArn=rule,
    )
    world.put("baton.kinds", {"do": "echo", "from": "bus"})

    executions = eventually(lambda: made.client.list_executions(stateMachineArn=machine)["executions"])
    assert json.loads(made.end(executions[0]["executionArn"])["output"]) == {"do": "echo", "from": "bus"}
    assert sorted(world.bodies(url, 2)) == ["baton.kinds", "from the topic"]
    logged = eventually(lambda: logs.filter_log_events(logGroupName="/aws/events/seen")["events"])
    assert json.loads(logged[0]["message"])["source"] == "baton.kinds"
    eventually(lambda: logs.describe_log_groups(logGroupNamePrefix="/aws/lambda/does")["logGroups"])


def test_an_input_transformer_gives_what_it_makes(world: World) -> None:
    url, arn = world.queue()
    transformer = {
        "InputPathsMap": {"arn": "$.detail.executionArn", "start": "$.detail.startDate"},
        "InputTemplate": '{"execution_arn": "<arn>", "start_time": <start>, "rule": <aws.events.rule-arn>}',
    }
    rule = world.rule({"source": ["baton.shape"]}, {"Arn": arn, "InputTransformer": transformer})
    world.put("baton.shape", {"executionArn": "arn:x", "startDate": 5})
    assert world.bodies(url) == [{"execution_arn": "arn:x", "start_time": 5, "rule": rule}]


@pytest.mark.parametrize("kind", ["queue", "function", "machine"])
def test_what_may_not_be_delivered_goes_to_the_dead_letters_with_its_reason(world: World, kind: str) -> None:
    made = world.machines
    dead_url, dead_arn = world.queue()
    powerless = made.make_role("powerless", service="events")
    targets = {
        "queue": {"Arn": world.queue(allow=False)[1]},
        "function": {"Arn": made.function},
        "machine": {"Arn": made.create({"P": {"Type": "Pass", "End": True}}), "RoleArn": powerless},
    }
    source = f"baton.forbidden.{kind}"
    rule = world.rule({"source": [source]}, {**targets[kind], "DeadLetterConfig": {"Arn": dead_arn}})
    world.put(source, {"n": 1})
    (message,) = world.messages(dead_url)
    assert json.loads(message["Body"])["detail"] == {"n": 1}
    attributes = {name: value["StringValue"] for name, value in message["MessageAttributes"].items()}
    assert attributes["RULE_ARN"] == rule
    assert attributes["TARGET_ARN"] == targets[kind]["Arn"]
    assert attributes["ERROR_CODE"] == "NO_PERMISSIONS"
    assert attributes["RETRY_ATTEMPTS"] == "0"
    assert attributes["ERROR_MESSAGE"]


def test_a_target_that_is_gone_and_an_input_that_is_no_json_go_to_the_dead_letters(world: World) -> None:
    dead_url, dead_arn = world.queue()
    url, arn = world.queue()
    world.sqs.delete_queue(QueueUrl=url)
    transformer = {"InputPathsMap": {"x": "$.absent"}, "InputTemplate": '{"x": <x>}'}
    dead = {"DeadLetterConfig": {"Arn": dead_arn}}
    world.rule({"source": ["baton.gone"]}, {"Arn": arn, **dead})
    world.rule({"source": ["baton.gone"]}, {"Arn": dead_arn, "InputTransformer": transformer, **dead})
    world.put("baton.gone")
    codes = {message["MessageAttributes"]["ERROR_CODE"]["StringValue"] for message in world.messages(dead_url, 2)}
    assert codes == {"RESOURCE_NOT_FOUND", "INVALID_JSON"}


def test_what_nobody_can_take_is_said_and_not_lost_quietly(world: World) -> None:
    _, arn = world.queue(allow=False)
    world.rule({"source": ["baton.unheard"]}, {"Arn": arn})
    world.put("baton.unheard")
    eventually(lambda: f"Test did not reach {arn} (NO_PERMISSIONS" in world.machines.cloud.log_tail())
    assert "the target has no dead-letter queue" in world.machines.cloud.log_tail()


# --- S3 -----------------------------------------------------------------------------------------------------------


class Bucket:
    def __init__(self, world: World, versioned: bool, notify: bool = True) -> None:
        self.s3 = world.client("s3")
        self.name = f"bucket-{time.monotonic_ns()}"
        self.s3.create_bucket(Bucket=self.name, CreateBucketConfiguration={"LocationConstraint": world.region})
        if versioned:
            self.s3.put_bucket_versioning(Bucket=self.name, VersioningConfiguration={"Status": "Enabled"})
        if notify:
            self.s3.put_bucket_notification_configuration(
                Bucket=self.name, NotificationConfiguration={"EventBridgeConfiguration": {}}
            )
        self.url, arn = world.queue()
        world.rule({"source": ["aws.s3"], "detail": {"bucket": {"name": [self.name]}}}, {"Arn": arn})


KEY = "uploads/mnist kmeans/ä+b&c=1.pkl.gz"


@pytest.mark.parametrize("versioned", [True, False])
def test_a_put_is_one_event_as_documented(world: World, versioned: bool) -> None:
    bucket = Bucket(world, versioned)
    put = bucket.s3.put_object(Bucket=bucket.name, Key=KEY, Body=b"12345", Tagging="a=b")
    (event,) = world.bodies(bucket.url)
    assert event["detail-type"] == "Object Created"
    assert event["resources"] == [f"arn:aws:s3:::{bucket.name}"]
    detail = event["detail"]
    assert re.fullmatch("[0-9a-f]{16}", detail["object"].pop("sequencer"))
    assert re.fullmatch("[0-9A-F]{16}", detail.pop("request-id"))
    expected = {"key": KEY, "size": 5, "etag": put["ETag"].strip('"')}
    if versioned:
        expected["version-id"] = put["VersionId"]
    assert detail == {
        "version": "0",
        "bucket": {"name": bucket.name},
        "object": expected,
        "requester": "123456789012",
        "source-ip-address": "127.0.0.1",
        "reason": "PutObject",
    }
    assert world.is_empty(bucket.url)


def test_sequencers_increase(world: World) -> None:
    bucket = Bucket(world, versioned=False)
    for number in range(5):
        bucket.s3.put_object(Bucket=bucket.name, Key="k", Body=b"x" * number)
    details = [event["detail"]["object"] for event in world.bodies(bucket.url, 5)]
    ordered = sorted(details, key=lambda found: found["sequencer"])
    assert [found["size"] for found in ordered] == [0, 1, 2, 3, 4]


def test_copies_multipart_uploads_and_tags_have_their_own_events(world: World) -> None:
    bucket = Bucket(world, versioned=True)
    s3, name = bucket.s3, bucket.name
    upload = s3.create_multipart_upload(Bucket=name, Key="big")["UploadId"]
    part = s3.upload_part(Bucket=name, Key="big", UploadId=upload, PartNumber=1, Body=b"x" * 10)
    parts = {"Parts": [{"ETag": part["ETag"], "PartNumber": 1}]}
    s3.complete_multipart_upload(Bucket=name, Key="big", UploadId=upload, MultipartUpload=parts)
    s3.copy_object(Bucket=name, Key="copy", CopySource={"Bucket": name, "Key": "big"})
    s3.put_object_tagging(Bucket=name, Key="copy", Tagging={"TagSet": [{"Key": "a", "Value": "b"}]})
    events = world.bodies(bucket.url, 3)
    assert world.is_empty(bucket.url)
    seen = sorted((e["detail-type"], e["detail"].get("reason"), e["detail"]["object"]["key"]) for e in events)
    assert seen == [
        ("Object Created", "CompleteMultipartUpload", "big"),
        ("Object Created", "CopyObject", "copy"),
        ("Object Tags Added", None, "copy"),
    ]


def test_deletions_say_what_kind_they_are(world: World) -> None:
    bucket = Bucket(world, versioned=True)
    version = bucket.s3.put_object(Bucket=bucket.name, Key="k", Body=b"x")["VersionId"]
    marker = bucket.s3.delete_object(Bucket=bucket.name, Key="k")["VersionId"]
    bucket.s3.delete_object(Bucket=bucket.name, Key="k", VersionId=version)
    events = [event for event in world.bodies(bucket.url, 3) if event["detail-type"] == "Object Deleted"]
    seen = {e["detail"]["object"]["version-id"]: (e["detail"]["deletion-type"], e["detail"]["reason"]) for e in events}
    assert seen == {
        marker: ("Delete Marker Created", "DeleteObject"),
        version: ("Permanently Deleted", "DeleteObject"),
    }
    plain = Bucket(world, versioned=False)
    plain.s3.put_object(Bucket=plain.name, Key="k", Body=b"x")
    plain.s3.delete_objects(Bucket=plain.name, Delete={"Objects": [{"Key": "k"}]})
    deleted = [event for event in world.bodies(plain.url, 2) if event["detail-type"] == "Object Deleted"]
    assert deleted[0]["detail"]["deletion-type"] == "Permanently Deleted"
    assert "version-id" not in deleted[0]["detail"]["object"]


def test_a_bucket_without_eventbridge_notifications_sends_none(world: World) -> None:
    bucket = Bucket(world, versioned=False, notify=False)
    bucket.s3.put_object(Bucket=bucket.name, Key="k", Body=b"x")
    assert world.is_empty(bucket.url)


# --- schedules ----------------------------------------------------------------------------------------------------


def test_scheduled_rules_fire_on_the_clock_of_the_cloud() -> None:
    with machines(REGION, speed=1800.0, dials=Dials(loss=1.0)) as made:
        world = World(made)
        url, arn = world.queue()
        rule = world.events.put_rule(Name="hourly", ScheduleExpression="rate(1 hour)")["RuleArn"]
        world.events.put_targets(Rule="hourly", Targets=[{"Id": "q", "Arn": arn}])
        first = world.bodies(url, 2)[0]
        assert (first["source"], first["detail-type"], first["detail"]) == ("aws.events", "Scheduled Event", {})
        assert first["resources"] == [rule]
        world.events.disable_rule(Name="hourly")
        world.is_empty(url)
        assert world.is_empty(url, 3)


@pytest.mark.parametrize("expression", ["rate(1 minutes)", "cron(0 * * * *)", "cron(61 * * * ? *)"])
def test_a_schedule_that_eventbridge_refuses(world: World, expression: str) -> None:
    with pytest.raises(ClientError) as error:
        world.events.put_rule(Name="bad", ScheduleExpression=expression)
    assert error.value.response["Error"]["Code"] == "ValidationException"


# --- dials --------------------------------------------------------------------------------------------------------


def test_the_dials_lose_double_and_reorder_what_services_and_users_send() -> None:
    dials = Dials(loss=0.3, duplicate=0.3, reorder=0.3, delay_seconds=0.2, seed=7)
    with machines(REGION, dials=dials) as made:
        world = World(made)
        url, arn = world.queue()
        world.rule({"source": ["baton.test", "aws.s3"]}, {"Arn": arn})
        bucket = Bucket(world, versioned=False)
        for number in range(40):
            world.put("baton.test", {"n": number})
            bucket.s3.put_object(Bucket=bucket.name, Key=str(number), Body=b"")
        time.sleep(2.5)
        events = world.all_bodies(url)
        for source, name in (
            ("baton.test", lambda e: e["detail"]["n"]),
            ("aws.s3", lambda e: e["detail"]["object"]["key"]),
        ):
            numbers = [int(name(event)) for event in events if event["source"] == source]
            # S3's events reach EventBridge at least once, whatever the loss dial says.
            assert len(set(numbers)) == 40 if source == "aws.s3" else 10 < len(set(numbers)) < 40
            assert len(numbers) > len(set(numbers))
            assert numbers != sorted(numbers)
