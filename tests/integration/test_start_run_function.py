"""The function start_run as Lambda invokes it, on moto's S3, SNS, SQS and Step Functions."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.client import BaseClient
from botocore.exceptions import ClientError

from baton import clients
from baton.errors import TransientAwsError
from tests.support.functions import REGION, Function, deployed, put
from tests.support.packaged import packaged_pipelines
from tests.support.starting import ROOT, event

ACCOUNT = "123456789012"
MACHINE = f"arn:aws-cn:states:{REGION}:{ACCOUNT}:stateMachine:baton-training-run"
TOPIC = f"arn:aws-cn:sns:{REGION}:{ACCOUNT}:baton"
KEY = "uploads/mnist_kmeans/mnist.pkl.gz"
DEFINITION = {"StartAt": "Wait", "States": {"Wait": {"Type": "Wait", "Seconds": 600, "End": True}}}


@pytest.fixture
def start_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Function]:
    with packaged_pipelines(tmp_path, monkeypatch):
        environment = {"BATON_STATE_MACHINE_ARN": MACHINE, "BATON_TOPIC_ARN": TOPIC}
        with deployed("start_run", monkeypatch, **environment) as function:
            role = f"arn:aws-cn:iam::{ACCOUNT}:role/states"
            boto3.client("stepfunctions").create_state_machine(
                name="baton-training-run", definition=json.dumps(DEFINITION), roleArn=role
            )
            boto3.client("sns").create_topic(Name="baton")
            queue = boto3.client("sqs").create_queue(QueueName="mail")["QueueUrl"]
            boto3.client("sns").subscribe(
                TopicArn=TOPIC, Protocol="sqs", Endpoint=f"arn:aws-cn:sqs:{REGION}:{ACCOUNT}:mail"
            )
            assert queue
            yield function


def uploaded(key: str, content: bytes) -> dict[str, Any]:
    """Put an object and return the event that S3 makes of it."""
    version = put(key, content)
    made = copy.deepcopy(event("object_created"))
    made["detail"]["bucket"]["name"] = "baton-runs"
    made["detail"]["object"].update({"key": key, "size": len(content), "version-id": version})
    return made


def executions() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = boto3.client("stepfunctions").list_executions(stateMachineArn=MACHINE)["executions"]
    return found


def input_of(arn: str) -> dict[str, Any]:
    described = boto3.client("stepfunctions").describe_execution(executionArn=arn)
    content: dict[str, Any] = json.loads(described["input"])
    return content


def mail() -> list[dict[str, str]]:
    sqs = boto3.client("sqs")
    url = sqs.get_queue_url(QueueName="mail")["QueueUrl"]
    received = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", [])
    return [json.loads(message["Body"]) for message in received]


def test_an_upload_starts_one_execution_however_often_it_is_told(start_run: Function) -> None:
    upload = uploaded(KEY, b"data")
    first = start_run(upload)
    assert start_run(upload) == first
    assert [execution["executionArn"] for execution in executions()] == [first["started"]]
    assert input_of(first["started"]) == {
        "pipeline": "mnist_kmeans",
        "dataset": f"s3://baton-runs/{KEY}",
        "dataset_version": upload["detail"]["object"]["version-id"],
    }


def test_a_redelivery_after_the_execution_ended_starts_no_other(start_run: Function) -> None:
    upload = uploaded(KEY, b"data")
    first = start_run(upload)
    boto3.client("stepfunctions").stop_execution(executionArn=first["started"])
    assert start_run(upload) == first
    assert len(executions()) == 1


def test_the_same_bytes_again_are_another_run(start_run: Function) -> None:
    assert start_run(uploaded(KEY, b"data")) != start_run(uploaded(KEY, b"data"))
    assert len(executions()) == 2


def test_a_run_file_starts_a_run_with_the_version_that_the_event_is_about(start_run: Function) -> None:
    key = "uploads/mnist_kmeans/run.json"
    first = uploaded(key, b'{"parameters": {"k": 7}}')
    put(key, b'{"parameters": {"k": 8}}')
    started = start_run(first)["started"]
    assert input_of(started) == {"pipeline": "mnist_kmeans", "parameters": {"k": 7}}


def test_a_refused_upload_is_logged_counted_and_told_once_each(
    start_run: Function, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    answer = start_run(uploaded("uploads/mnist_kmeans/empty.pkl", b""))
    assert answer == {"refused": "It has 0 bytes; a data set has from 1 to 268435456."}
    assert executions() == []
    (warning,) = [record.__dict__ for record in caplog.records if record.levelname == "WARNING"]
    assert warning["upload"] == "s3://baton-runs/uploads/mnist_kmeans/empty.pkl"
    assert warning["reason"] == answer["refused"]
    (metric,) = [line for line in capsys.readouterr().out.splitlines() if '"UploadRefused"' in line and "_aws" in line]
    assert json.loads(metric)["UploadRefused"] == [1.0]
    (message,) = mail()
    assert message["Subject"] == "Baton refused an upload"
    assert answer["refused"] in message["Message"]
    assert warning["upload"] in message["Message"]


def test_other_json_files_start_nothing_and_trouble_nobody(start_run: Function) -> None:
    assert "refused" in start_run(uploaded("uploads/mnist_kmeans/notes.json", b"{}"))
    assert executions() == []
    assert mail() == []


def test_an_event_that_is_not_s3s_is_refused(start_run: Function) -> None:
    assert "refused" in start_run({"source": "aws.ec2", "detail-type": "x"})
    assert len(mail()) == 1


def test_throttling_is_raised_by_its_retryable_name(start_run: Function, monkeypatch: pytest.MonkeyPatch) -> None:
    def throttled(**_: Any) -> None:
        raise ClientError({"Error": {"Code": "ThrottlingException", "Message": "slow down"}}, "StartExecution")

    monkeypatch.setattr(clients.client("stepfunctions"), "start_execution", throttled)
    with pytest.raises(TransientAwsError):
        start_run(uploaded(KEY, b"data"))


# --- killed after each call that it makes -------------------------------------------------------------------------


class Killed(BaseException):
    """The function's process is gone: nothing in it may catch this."""


UPLOADS = {
    "a data set": ("mnist.pkl", b"data"),
    "a run.json": ("run.json", b"{}"),
    "an upload that is refused": ("mnist.pkl", b""),
    "a run.json that is refused when it is read": ("run.json", b"[]"),
    "an upload that starts nothing": ("notes.json", b"{}"),
}


def calls_of(start_run: Function, upload: dict[str, Any], kill_after: int | None = None) -> list[str]:
    """Invoke the function and return the AWS calls that it made; it may be killed right after one, counted from 1."""
    made: list[str] = []
    real = BaseClient._make_api_call

    def recorded(self: Any, operation: str, parameters: Any) -> Any:
        answer = real(self, operation, parameters)
        made.append(operation)
        if len(made) == kill_after:
            raise Killed
        return answer

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(BaseClient, "_make_api_call", recorded)
        start_run(upload)
    return made


@pytest.mark.parametrize("what", UPLOADS)
def test_killed_after_any_call_and_delivered_again_it_leaves_what_one_delivery_leaves(
    start_run: Function, what: str
) -> None:
    file, content = UPLOADS[what]
    made = calls_of(start_run, uploaded(f"uploads/mnist_kmeans/{file}", content))
    started, told = len(executions()), len(mail())
    for number in range(1, len(made) + 1):
        upload = uploaded(f"uploads/mnist_kmeans/{file}", content)
        before = len(executions())
        with pytest.raises(Killed):
            calls_of(start_run, upload, kill_after=number)
        answer = start_run(upload)
        assert len(executions()) - before == started, f"killed after {made[number - 1]}"
        assert ("started" in answer) is bool(started)
        # The sender of a refused upload hears of it, twice perhaps.
        assert bool(mail()) is bool(told)


def test_these_uploads_reach_every_call_that_the_function_makes(start_run: Function) -> None:
    made = {
        call
        for file, content in UPLOADS.values()
        for call in calls_of(start_run, uploaded(f"uploads/mnist_kmeans/{file}", content))
    }
    source = (ROOT / "layers/baton/baton/uploads.py").read_text("utf-8")
    written = {f"{service}.{call}" for service, call in re.findall(r"self\._(s3|stepfunctions|sns)\.(\w+)\(", source)}
    assert written == {"s3.get_object", "stepfunctions.start_execution", "sns.publish"}
    assert made == {"GetObject", "StartExecution", "Publish"}
