"""await_outcome and settle_outcome as Lambda invokes them, on moto's DynamoDB, SageMaker and SQS."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from baton import settling
from baton.errors import DeadlineExceeded, ForeignResource, RunEnded
from baton.tokens import TokenInvalid
from tests.support.functions import Function, _load, deployed, runs

RUN_ID = "bt-0sq1x2k4f0a9c"
EXECUTION = "arn:aws-cn:states:cn-northwest-1:123456789012:execution:baton-training-run:one"
ENTERED = "2026-05-04T09:30:12.417Z"


class RecordedStepFunctions:
    """Takes what is sent to task tokens and what is started; moto settles no tokens of made-up executions."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, str, Any]] = []
        self.started: list[dict[str, str]] = []

    def send_task_success(self, taskToken: str, output: str) -> None:
        self.sent.append(("success", taskToken, json.loads(output)))

    def send_task_failure(self, taskToken: str, error: str, cause: str) -> None:
        self.sent.append(("failure", taskToken, error))

    def start_execution(self, **request: str) -> None:
        self.started.append(request)


class Deployment:
    """The two functions with what is around them."""

    def __init__(self, await_outcome: Function, states: RecordedStepFunctions) -> None:
        self.await_outcome = await_outcome
        self.settle_outcome = _load("settle_outcome")
        self.states = states
        self.dead = boto3.client("sqs").create_queue(QueueName="dead")["QueueUrl"]
        self.outcomes = boto3.client("sqs").create_queue(QueueName="outcomes")["QueueUrl"]

    def register(self, token: str = "token-0", retry_count: int = 0, redrive_count: int = 0) -> None:
        payload = {"kind": "training", "run_id": RUN_ID, "token": token}
        self.await_outcome({**payload, "entered": ENTERED, "retry_count": retry_count, "redrive_count": redrive_count})

    def settle(self, *bodies: str) -> Any:
        """Put messages through the queue and hand what is received to the function."""
        client = boto3.client("sqs")
        for body in bodies:
            client.send_message(QueueUrl=self.outcomes, MessageBody=body)
        received = client.receive_message(
            QueueUrl=self.outcomes, MaxNumberOfMessages=10, AttributeNames=["ApproximateReceiveCount"]
        )["Messages"]
        names = {"MessageId": "messageId", "ReceiptHandle": "receiptHandle", "Body": "body"}
        records = [
            {**{new: message[old] for old, new in names.items()}, "attributes": message["Attributes"]}
            for message in received
        ]
        return self.settle_outcome({"Records": records})

    def dead_letters(self) -> list[dict[str, Any]]:
        answer = boto3.client("sqs").receive_message(
            QueueUrl=self.dead, MaxNumberOfMessages=10, MessageAttributeNames=["All"]
        )
        found: list[dict[str, Any]] = answer.get("Messages", [])
        return found


@pytest.fixture
def deployment(monkeypatch: pytest.MonkeyPatch) -> Iterator[Deployment]:
    states = RecordedStepFunctions()
    make = settling.client
    monkeypatch.setattr(settling, "client", lambda service: states if service == "stepfunctions" else make(service))
    environment = {
        "BATON_OUTCOME_QUEUE_URL": "https://sqs.cn-northwest-1.amazonaws.com.cn/123456789012/outcomes",
        "BATON_DEAD_LETTER_QUEUE_URL": "https://sqs.cn-northwest-1.amazonaws.com.cn/123456789012/dead",
        "BATON_CLEAN_UP_MACHINE_ARN": "arn:aws-cn:states:cn-northwest-1:123456789012:stateMachine:clean-up-run",
    }
    settling.rendezvous.cache_clear()
    with deployed("await_outcome", monkeypatch, **environment) as await_outcome:
        yield Deployment(await_outcome, states)
    settling.rendezvous.cache_clear()


def open_run(deadline_in: float = 3600) -> None:
    now = int(time.time())
    runs().open(
        {
            "run_id": RUN_ID,
            "execution_arn": EXECUTION,
            "pipeline": "mnist_kmeans",
            "created_at": now - 5,
            "deadline_at": int(now + deadline_in),
            "tags": {"baton:expires-at": "2999-01-01T00:00:00Z"},
            "after": {"endpoint": "delete"},
        }
    )


def train(owner: str = RUN_ID) -> None:
    """Create the run's training job, which moto completes at once."""
    boto3.client("sagemaker").create_training_job(
        TrainingJobName=f"{RUN_ID}-train",
        AlgorithmSpecification={"TrainingImage": "kmeans:1", "TrainingInputMode": "File"},
        RoleArn="arn:aws-cn:iam::123456789012:role/sagemaker",
        OutputDataConfig={"S3OutputPath": f"s3://baton-runs/runs/{RUN_ID}/model/"},
        ResourceConfig={"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 50},
        StoppingCondition={"MaxRuntimeInSeconds": 3600},
        Tags=[{"Key": "baton:run-id", "Value": owner}],
    )


def completed() -> str:
    detail = {"TrainingJobName": f"{RUN_ID}-train", "TrainingJobStatus": "Completed"}
    event = {"source": "aws.sagemaker", "detail-type": "SageMaker Training Job State Change", "detail": detail}
    return json.dumps(event)


def test_a_token_waits_until_the_event_settles_it(deployment: Deployment) -> None:
    open_run()
    deployment.register()
    assert deployment.states.sent == []
    train()
    assert deployment.settle(completed()) == {"batchItemFailures": []}
    ((how, token, outcome),) = deployment.states.sent
    assert (how, token, outcome["status"], outcome["name"]) == ("success", "token-0", "Completed", f"{RUN_ID}-train")


def test_an_outcome_waits_until_the_token_comes(deployment: Deployment) -> None:
    open_run()
    train()
    assert deployment.settle(completed()) == {"batchItemFailures": []}
    assert deployment.states.sent == []
    deployment.register()
    assert [(how, token) for how, token, _ in deployment.states.sent] == [("success", "token-0")]


def test_an_outcome_that_is_older_than_it_is_remembered_counts_as_absent(deployment: Deployment) -> None:
    # DynamoDB deletes expired items only days later, and a registration lets the item live on.
    open_run()
    outcome = {"kind": "training", "succeeded": False, "error": "JobFailed", "reason": "long ago"}
    past = int(time.time()) - 1
    item = {"kind": "training", "name": f"{RUN_ID}-train", "run_id": RUN_ID, "outcome": json.dumps(outcome)}
    boto3.resource("dynamodb").Table("table").put_item(Item={**item, "outcome_until": past, "expires_at": past})
    deployment.register()
    assert deployment.states.sent == []
    train()
    deployment.settle(completed())
    assert [(how, token) for how, token, _ in deployment.states.sent] == [("success", "token-0")]


def test_a_lost_event_is_made_good_by_the_registration(deployment: Deployment) -> None:
    open_run()
    train()
    deployment.register()
    assert [token for _, token, _ in deployment.states.sent] == ["token-0"]


def test_a_later_attempts_token_is_the_one_that_is_settled(deployment: Deployment) -> None:
    open_run()
    deployment.register("token-1", retry_count=1)
    deployment.register("token-0", retry_count=0)
    train()
    deployment.settle(completed())
    assert [token for _, token, _ in deployment.states.sent] == ["token-1"]


def test_a_redriven_executions_token_is_later_than_any_before_though_its_retries_begin_anew(
    deployment: Deployment,
) -> None:
    open_run()
    deployment.register("token-0", retry_count=0, redrive_count=10)
    deployment.register("token-2", retry_count=7, redrive_count=2)
    deployment.register("token-9", retry_count=9, redrive_count=0)
    train()
    deployment.settle(completed())
    assert [token for _, token, _ in deployment.states.sent] == ["token-0"]


def test_a_redrive_after_clean_up_is_refused_even_where_the_outcome_is_there(deployment: Deployment) -> None:
    open_run()
    train()
    deployment.settle(completed())
    runs().end_badly(RUN_ID)
    with pytest.raises(RunEnded, match="start a new execution"):
        deployment.register("token-0", redrive_count=1)
    assert deployment.states.sent == []


def test_a_token_that_step_functions_does_not_know_is_counted_by_whoever_meets_it(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def malformed(**_request: str) -> None:
        raise ClientError({"Error": {"Code": "InvalidToken", "Message": "Invalid token"}}, "SendTaskSuccess")

    monkeypatch.setattr(deployment.states, "send_task_success", malformed)
    open_run()
    train()
    with pytest.raises(TokenInvalid):
        deployment.register()
    assert '"InvalidToken":[1' in capsys.readouterr().out.replace(" ", "")


def test_an_end_that_sagemaker_does_not_confirm_comes_again(deployment: Deployment) -> None:
    open_run()
    deployment.register()
    answer = deployment.settle(completed())
    assert len(answer["batchItemFailures"]) == 1
    assert deployment.states.sent == []


def test_somebody_elses_job_of_the_same_name_is_refused(deployment: Deployment) -> None:
    open_run()
    train(owner="bt-0zzzzzzzzzzzz")
    assert deployment.settle(completed()) == {"batchItemFailures": []}
    with pytest.raises(ForeignResource):
        deployment.register()
    assert deployment.states.sent == []


def test_nothing_is_awaited_after_the_tombstone_or_the_deadline(deployment: Deployment) -> None:
    open_run(deadline_in=-1)
    with pytest.raises(DeadlineExceeded):
        deployment.register()
    runs().end_badly(RUN_ID)
    with pytest.raises(RunEnded):
        deployment.register()


def test_a_poison_message_reaches_the_dead_letter_queue_with_its_reason_and_the_others_are_handled(
    deployment: Deployment,
) -> None:
    open_run()
    train()
    deployment.register()
    deployment.states.sent.clear()
    assert deployment.settle("poison", completed()) == {"batchItemFailures": []}
    (dead,) = deployment.dead_letters()
    assert dead["Body"] == "poison"
    assert dead["MessageAttributes"]["Reason"]["StringValue"].startswith("The message is no EventBridge event")
