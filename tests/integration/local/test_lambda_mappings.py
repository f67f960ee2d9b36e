"""SQS to Lambda: batches, partial failures, redelivery, the dead-letter queue, and with whose permissions."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from baton_local.cloud import EmbeddedCloud
from baton_local.lambda_.mappings import failed_ids
from tests.integration.local.lambda_helpers import REGION, Lambda, eventually, receive_all

# Writes what it gets into a queue of its own, and reports as failed what its body asks for.
SOURCE = """
import json, os, boto3
sqs = boto3.client('sqs')
def handler(event, context):
    records = event['Records']
    sqs.send_message(QueueUrl=os.environ['SEEN'], MessageBody=json.dumps(records))
    if any(r['body'] == 'explode' for r in records):
        raise RuntimeError('exploded')
    failed = [r['messageId'] for r in records if r['body'].startswith('fail')]
    return {'batchItemFailures': [{'itemIdentifier': i} for i in failed]}
"""
SQS_STATEMENT = {
    "Effect": "Allow",
    "Action": ["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes", "sqs:SendMessage"],
    "Resource": "*",
}


class Mapped:
    """A function behind a queue with a dead-letter queue, and what it has seen."""

    def __init__(
        self, functions: Lambda, name: str, role: str | None = None, visibility: int = 3, **options: Any
    ) -> None:
        self.functions = functions
        self.sqs = functions.cloud.client("sqs", REGION)
        self.seen_url = self.sqs.create_queue(QueueName=f"{name}-seen")["QueueUrl"]
        self.dead_url = self.sqs.create_queue(QueueName=f"{name}-dead")["QueueUrl"]
        redrive = {"deadLetterTargetArn": arn(f"{name}-dead"), "maxReceiveCount": 2}
        attributes = {"VisibilityTimeout": str(visibility), "RedrivePolicy": json.dumps(redrive)}
        self.url = self.sqs.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"]
        self.function = functions.create(
            SOURCE,
            Environment={"Variables": {"SEEN": self.seen_url}},
            Timeout=min(visibility, 20),
            **({"Role": role} if role else {}),
        )
        self.mapping = functions.client.create_event_source_mapping(
            EventSourceArn=arn(name), FunctionName=self.function, **options
        )["UUID"]
        self._batches: list[list[dict[str, Any]]] = []

    def send(self, *bodies: str) -> None:
        entries = [{"Id": str(i), "MessageBody": body} for i, body in enumerate(bodies)]
        self.sqs.send_message_batch(QueueUrl=self.url, Entries=entries)

    def batches(self) -> list[list[dict[str, Any]]]:
        for message in receive_all(self.sqs, self.seen_url):
            self.sqs.delete_message(QueueUrl=self.seen_url, ReceiptHandle=message["ReceiptHandle"])
            self._batches.append(json.loads(message["Body"]))
        return self._batches

    def bodies(self) -> list[str]:
        return [record["body"] for batch in self.batches() for record in batch]

    def left(self) -> int:
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        values = self.sqs.get_queue_attributes(QueueUrl=self.url, AttributeNames=names)["Attributes"].values()
        return sum(int(value) for value in values)

    def dead(self) -> list[str]:
        return [message["Body"] for message in receive_all(self.sqs, self.dead_url)]


def collect(found: list[str], more: list[str]) -> list[str]:
    found.extend(more)
    return found


def arn(queue: str) -> str:
    return f"arn:aws:sqs:{REGION}:123456789012:{queue}"


@pytest.fixture(scope="module")
def functions() -> Iterator[Lambda]:
    with EmbeddedCloud(services=["lambda_"]) as cloud:
        yield Lambda(cloud)


def test_a_message_is_handled_as_lambda_hands_it_over_and_then_gone(functions: Lambda) -> None:
    mapped = Mapped(functions, "plain")
    attributes = {"who": {"DataType": "String", "StringValue": "me"}}
    sent = mapped.sqs.send_message(QueueUrl=mapped.url, MessageBody="hello", MessageAttributes=attributes)
    record = eventually(mapped.batches)[0][0]
    assert record.pop("receiptHandle")
    assert int(record["attributes"].pop("SentTimestamp")) <= time.time() * 1000
    assert record["attributes"].pop("ApproximateReceiveCount") == "1"
    assert {"SenderId", "ApproximateFirstReceiveTimestamp"} <= set(record.pop("attributes"))
    assert record == {
        "messageId": sent["MessageId"],
        "body": "hello",
        "md5OfBody": sent["MD5OfMessageBody"],
        "messageAttributes": {
            "who": {"stringValue": "me", "dataType": "String", "stringListValues": [], "binaryListValues": []}
        },
        "eventSource": "aws:sqs",
        "eventSourceARN": arn("plain"),
        "awsRegion": REGION,
    }
    eventually(lambda: mapped.left() == 0)


def test_only_the_messages_reported_as_failed_come_again_and_then_go_to_the_dead_letter_queue(
    functions: Lambda,
) -> None:
    mapped = Mapped(functions, "partial", FunctionResponseTypes=["ReportBatchItemFailures"])
    mapped.send("fine-1", "fail-2", "fine-3")
    assert eventually(mapped.dead) == ["fail-2"]
    bodies = mapped.bodies()
    assert (bodies.count("fine-1"), bodies.count("fail-2"), bodies.count("fine-3")) == (1, 2, 1)
    counts = [r["attributes"]["ApproximateReceiveCount"] for b in mapped.batches() for r in b if r["body"] == "fail-2"]
    assert counts == ["1", "2"]
    assert mapped.left() == 0


def test_without_partial_answers_a_report_of_failures_means_nothing(functions: Lambda) -> None:
    mapped = Mapped(functions, "whole")
    mapped.send("fail-1")
    eventually(mapped.batches)
    eventually(lambda: mapped.left() == 0)
    time.sleep(1.5)
    assert mapped.bodies() == ["fail-1"]
    assert mapped.dead() == []


def test_a_batch_whose_function_fails_comes_again_as_a_whole(functions: Lambda) -> None:
    mapped = Mapped(functions, "exploding", FunctionResponseTypes=["ReportBatchItemFailures"])
    mapped.send("explode", "explode")
    dead: list[str] = []
    eventually(lambda: len(collect(dead, mapped.dead())) == 2)
    assert mapped.bodies() == ["explode"] * 4


def test_batches_have_at_most_the_batch_size_and_fill_within_the_window(functions: Lambda) -> None:
    mapped = Mapped(functions, "batched", visibility=30, BatchSize=3, MaximumBatchingWindowInSeconds=2)
    mapped.send("a")
    time.sleep(0.3)
    mapped.send("b", "c", "d")
    eventually(lambda: len(mapped.bodies()) == 4)
    assert sorted(len(batch) for batch in mapped.batches()) == [1, 3]


def test_a_disabled_mapping_waits_and_a_deleted_one_is_over(functions: Lambda) -> None:
    mapped = Mapped(functions, "disabled", Enabled=False)
    mapped.send("one")
    time.sleep(1)
    assert mapped.batches() == []
    functions.client.update_event_source_mapping(UUID=mapped.mapping, Enabled=True)
    assert eventually(mapped.bodies) == ["one"]
    eventually(lambda: mapped.left() == 0)
    functions.client.delete_event_source_mapping(UUID=mapped.mapping)
    mapped.send("two")
    time.sleep(6)
    assert mapped.bodies() == ["one"]
    assert mapped.left() == 1


def test_sending_does_not_wait_for_the_function(functions: Lambda) -> None:
    seen = functions.cloud.client("sqs", REGION).create_queue(QueueName="slow")
    name = functions.create("import time\ndef handler(event, context): time.sleep(3)\n")
    functions.client.create_event_source_mapping(EventSourceArn=arn("slow"), FunctionName=name)
    begin = time.monotonic()
    functions.cloud.client("sqs", REGION).send_message(QueueUrl=seen["QueueUrl"], MessageBody="x")
    assert time.monotonic() - begin < 1.5


def test_a_filter_is_refused_rather_than_ignored(functions: Lambda) -> None:
    functions.cloud.client("sqs", REGION).create_queue(QueueName="filtered")
    name = functions.create(SOURCE)
    with pytest.raises(functions.client.exceptions.InvalidParameterValueException, match="does not filter"):
        functions.client.create_event_source_mapping(
            EventSourceArn=arn("filtered"), FunctionName=name, FilterCriteria={"Filters": [{"Pattern": "{}"}]}
        )


def test_a_queue_is_refused_that_shows_messages_again_while_the_function_has_time_for_them(functions: Lambda) -> None:
    sqs, client = functions.cloud.client("sqs", REGION), functions.client
    url = sqs.create_queue(QueueName="hasty", Attributes={"VisibilityTimeout": "19"})["QueueUrl"]
    quick, other, slow = (functions.create(SOURCE, Timeout=seconds) for seconds in (19, 19, 20))
    words = "Queue visibility timeout: 19 seconds is less than Function timeout: 20 seconds"
    refused = client.exceptions.InvalidParameterValueException
    with pytest.raises(refused, match=words):
        client.create_event_source_mapping(EventSourceArn=arn("hasty"), FunctionName=slow, Enabled=False)
    made = client.create_event_source_mapping(EventSourceArn=arn("hasty"), FunctionName=quick, Enabled=False)["UUID"]
    with pytest.raises(refused, match=words):
        client.update_event_source_mapping(UUID=made, FunctionName=slow)
    client.update_event_source_mapping(UUID=made, FunctionName=other)
    client.update_function_configuration(FunctionName=other, Timeout=20)
    with pytest.raises(refused, match=words):
        client.update_event_source_mapping(UUID=made, BatchSize=1)
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"VisibilityTimeout": "20"})
    client.update_event_source_mapping(UUID=made, BatchSize=1)
    client.delete_event_source_mapping(UUID=made)


@pytest.fixture(scope="module")
def strict() -> Iterator[Lambda]:
    """Functions on a cloud where IAM is enforced; an hour of Lambda's own waits is seconds."""
    with EmbeddedCloud(services=["iam", "lambda_"], speed=600.0) as cloud:
        yield Lambda(cloud)


def test_the_poller_has_the_functions_permissions_and_no_more(strict: Lambda) -> None:
    mapped = Mapped(strict, "polled", strict.role("polls", [SQS_STATEMENT]))
    mapped.send("y")
    # A message comes again where its handling takes longer than the queue's time-out, which is short here.
    assert set(eventually(mapped.bodies)) == {"y"}
    strict.cloud.client("iam", REGION).delete_role_policy(RoleName="polls", PolicyName="p")
    mapped.send("x")
    eventually(lambda: "AccessDenied" in strict.cloud.log_tail())
    assert "could not receive from" in strict.cloud.log_tail()


@pytest.mark.parametrize("operation", ["ReceiveMessage", "DeleteMessage", "GetQueueAttributes"])
def test_a_mapping_is_refused_whose_function_may_not_poll(strict: Lambda, operation: str) -> None:
    rest = [a for a in SQS_STATEMENT["Action"] if a != f"sqs:{operation}"]
    role = strict.role(f"lacks-{operation}", [{**SQS_STATEMENT, "Action": rest}])
    message = f"The provided execution role does not have permissions to call {operation} on SQS"
    with pytest.raises(ClientError, match=message) as refusal:
        Mapped(strict, f"lacks-{operation}", role)
    assert refusal.value.response["Error"]["Code"] == "InvalidParameterValueException"


CONFIGURATIONS: dict[str, tuple[dict[str, Any], str, str]] = {
    "queue": ({"DeadLetterConfig": {"TargetArn": arn("dead")}}, "sqs:SendMessage", "SendMessage on SQS"),
    "topic": (
        {"DeadLetterConfig": {"TargetArn": f"arn:aws:sns:{REGION}:123456789012:dead"}},
        "sns:Publish",
        "Publish on SNS",
    ),
    "network": (
        {"VpcConfig": {"SubnetIds": ["subnet-1"], "SecurityGroupIds": ["sg-1"]}},
        "ec2:CreateNetworkInterface",
        "CreateNetworkInterface on EC2",
    ),
}
"""A configuration, the action that the role must be allowed for it, and how Lambda calls that."""


@pytest.mark.parametrize("case", CONFIGURATIONS)
def test_a_configuration_is_refused_that_the_role_does_not_carry(strict: Lambda, case: str) -> None:
    configuration, action, called = CONFIGURATIONS[case]
    message = f"The provided execution role does not have permissions to call {called}"
    source = "def handler(event, context): pass\n"
    with pytest.raises(ClientError, match=message) as refusal:
        strict.create(source, Role=strict.role(f"no-{case}"), **configuration)
    assert refusal.value.response["Error"]["Code"] == "InvalidParameterValueException"
    plain = strict.create(source)
    with pytest.raises(ClientError, match=message):
        strict.client.update_function_configuration(FunctionName=plain, **configuration)
    allowed = strict.role(f"with-{case}", [{"Effect": "Allow", "Action": action, "Resource": "*"}])
    strict.client.update_function_configuration(FunctionName=plain, Role=allowed, **configuration)
    with pytest.raises(ClientError, match=message):
        strict.client.update_function_configuration(FunctionName=plain, Role=strict.role(f"loses-{case}"))
    strict.create(source, Role=allowed, **configuration)


def test_tracing_is_not_refused(strict: Lambda) -> None:
    strict.create("def handler(event, context): pass\n", TracingConfig={"Mode": "Active"})


def test_a_dead_letter_that_may_not_be_sent_any_more_is_told(strict: Lambda) -> None:
    strict.cloud.client("sqs", REGION).create_queue(QueueName="dead")
    role = strict.role("sends", [{"Effect": "Allow", "Action": "sqs:SendMessage", "Resource": arn("dead")}])
    source = "def handler(event, context): raise ValueError('no')\n"
    name = strict.create(source, Role=role, DeadLetterConfig={"TargetArn": arn("dead")})
    strict.cloud.client("iam", REGION).delete_role_policy(RoleName="sends", PolicyName="p")
    strict.client.invoke(FunctionName=name, InvocationType="Event", Payload=b"{}")
    eventually(lambda: f"lambda: an event of {name} is lost" in strict.cloud.log_tail())
    assert "sqs:SendMessage" in strict.cloud.log_tail()


def test_a_function_may_do_what_its_role_allows_and_no_more() -> None:
    source = "import boto3\ndef handler(event, context): return boto3.client('s3').list_buckets()['Buckets']\n"
    with EmbeddedCloud(services=["iam", "lambda_"]) as cloud:
        functions = Lambda(cloud)
        statement = {"Effect": "Allow", "Action": "s3:ListAllMyBuckets", "Resource": "*"}
        allowed = functions.create(source, Role=functions.role("lists", [statement]))
        denied = functions.create(source, Role=functions.role("does-not-list"))
        assert functions.invoke(allowed).payload == []
        answer = functions.invoke(denied)
        assert "AccessDenied" in answer.payload["errorMessage"]


@pytest.mark.parametrize(
    ("body", "failed"),
    [
        (b"null", set()),
        (b"", set()),
        (b"{}", set()),
        (b'{"batchItemFailures": null}', set()),
        (b'{"batchItemFailures": []}', set()),
        (b'{"batchItemFailures": [{"itemIdentifier": "a"}]}', {"a"}),
        (b'{"batchItemFailures": [{"itemIdentifier": ""}]}', {"a", "b"}),
        (b'{"batchItemFailures": [{"itemIdentifier": null}]}', {"a", "b"}),
        (b'{"batchItemFailures": [{"id": "a"}]}', {"a", "b"}),
        (b'{"batchItemFailures": [{"itemIdentifier": "other"}]}', {"a", "b"}),
        (b'"done"', {"a", "b"}),
        (b"{", {"a", "b"}),
    ],
)
def test_answers_to_a_batch_are_read_as_lambda_reads_them(body: bytes, failed: set[str]) -> None:
    assert failed_ids(body, {"a", "b"}) == failed
