"""The function janitor as Lambda invokes it, on moto's DynamoDB, Step Functions and SNS; and its state machine."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto import mock_aws
from moto.core import DEFAULT_ACCOUNT_ID
from moto.sns import sns_backends

from baton.errors import KfpUnavailable, NotGoneYet, TransientAwsError, Undecided
from baton.items import DynamoItems
from baton.runs import Runs
from tests.support.functions import app_of, context_of, forget_what_a_sandbox_keeps

ROOT = Path(__file__).parents[2]
REGION = "cn-northwest-1"
ROLE = f"arn:aws-cn:iam::{DEFAULT_ACCOUNT_ID}:role/states"
TRIVIAL = json.dumps({"StartAt": "End", "States": {"End": {"Type": "Succeed"}}})


class Account:
    """A training machine and a clean-up machine, the table, and the topic."""

    def __init__(self) -> None:
        states = boto3.client("stepfunctions")
        names = ("training-run", "clean-up-run")
        self.training, self.clean_up = (
            states.create_state_machine(name=name, definition=TRIVIAL, roleArn=ROLE)["stateMachineArn"]
            for name in names
        )
        self.topic = boto3.client("sns").create_topic(Name="topic")["TopicArn"]
        key = [{"AttributeName": "kind", "KeyType": "HASH"}, {"AttributeName": "name", "KeyType": "RANGE"}]
        types = [{"AttributeName": name, "AttributeType": "S"} for name in ("kind", "name")]
        boto3.client("dynamodb").create_table(
            TableName="table", KeySchema=key, AttributeDefinitions=types, BillingMode="PAY_PER_REQUEST"
        )

    def execution(self, run_id: str, aborted: bool) -> str:
        states = boto3.client("stepfunctions")
        arn: str = states.start_execution(stateMachineArn=self.training, name=run_id, input="{}")["executionArn"]
        if aborted:
            states.stop_execution(executionArn=arn)
        plan = {"run_id": run_id, "execution_arn": arn, "pipeline": "p", "created_at": 1_800_000_000}
        tags = {"baton:expires-at": "2999-01-01T00:00:00Z"}
        Runs(DynamoItems.named("table")).open(
            {**plan, "deadline_at": 32_472_144_000, "tags": tags, "after": {"endpoint": "delete"}}
        )
        return arn

    def clean_ups(self) -> list[dict[str, Any]]:
        states = boto3.client("stepfunctions")
        inputs = [states.describe_execution(executionArn=arn)["input"] for arn in self.clean_up_arns()]
        return [json.loads(text) for text in inputs]

    def clean_up_arns(self) -> list[str]:
        started = boto3.client("stepfunctions").list_executions(stateMachineArn=self.clean_up)["executions"]
        return [one["executionArn"] for one in started]

    def messages(self) -> list[str]:
        topic = sns_backends[DEFAULT_ACCOUNT_ID][REGION].topics[self.topic]
        return [message for _, message, *_ in topic.sent_notifications]


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> Iterator[Account]:
    environment = {
        "AWS_ACCESS_KEY_ID": "x",
        "AWS_SECRET_ACCESS_KEY": "x",
        "AWS_DEFAULT_REGION": REGION,
        "AWS_REGION": REGION,
        "BATON_PARTITION": "aws-cn",
        "BATON_URL_SUFFIX": "amazonaws.com.cn",
        "BATON_TABLE": "table",
        "POWERTOOLS_TRACE_DISABLED": "true",
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with mock_aws():
        made = Account()
        monkeypatch.setenv("BATON_TOPIC_ARN", made.topic)
        monkeypatch.setenv("BATON_CLEAN_UP_MACHINE_ARN", made.clean_up)
        forget_what_a_sandbox_keeps()
        yield made
    forget_what_a_sandbox_keeps()


def make_round(remaining_ms: int = 300_000) -> Any:
    return app_of("janitor").handler({"detail-type": "Scheduled Event"}, context_of("janitor", remaining_ms))


def metrics_of(printed: str) -> dict[str, Any]:
    lines = [json.loads(line) for line in printed.splitlines() if line.startswith("{")]
    return {name: value for line in lines if "_aws" in line for name, value in line.items()}


def test_it_starts_the_clean_up_of_an_aborted_run_and_tells_the_topic(
    account: Account, capsys: pytest.CaptureFixture[str]
) -> None:
    aborted = account.execution("bt-0000000000001", aborted=True)
    account.execution("bt-0000000000002", aborted=False)
    answer = make_round()
    assert [one["reason"] for one in answer["started"]] == ["unfinished"]
    assert account.clean_ups() == [{"execution_arn": aborted, "run_id": "bt-0000000000001"}]
    (message,) = account.messages()
    assert f"- bt-0000000000001 (unfinished): {account.clean_up_arns()[0]}\n" in f"{message}\n"
    metrics = metrics_of(capsys.readouterr().out)
    assert (metrics["JanitorRound"], metrics["JanitorFoundUnfinished"], metrics["JanitorFoundExpired"]) == (
        [1],
        [1],
        [0],
    )


def test_it_says_nothing_where_there_is_nothing_to_do(account: Account, capsys: pytest.CaptureFixture[str]) -> None:
    account.execution("bt-0000000000002", aborted=False)
    assert make_round() == {"looked_at": 1, "not_reached": 0, "started": []}
    assert account.messages() == []
    assert metrics_of(capsys.readouterr().out)["JanitorRound"] == [1]


def test_without_time_it_leaves_the_rest_to_the_next_hour(account: Account) -> None:
    account.execution("bt-0000000000001", aborted=True)
    assert make_round(remaining_ms=5_000)["not_reached"] == 1
    assert account.clean_ups() == []


# --- the state machine clean-up-run -------------------------------------------------------------------------------


def machine() -> dict[str, Any]:
    definition: dict[str, Any] = json.loads((ROOT / "statemachine/clean_up_run.asl.json").read_text())
    return definition


def test_the_machine_retries_exactly_what_clean_up_raises_as_retryable() -> None:
    retried = [name for retry in machine()["States"]["Clean up"]["Retry"] for name in retry["ErrorEquals"]]
    ours = {name for name in retried if not name.startswith(("Lambda.", "Runtime.", "Sandbox."))}
    assert ours == {error.__name__ for error in (NotGoneYet, KfpUnavailable, TransientAwsError, Undecided)}


def test_a_sweep_that_cannot_decide_ends_without_an_alarm() -> None:
    states = machine()["States"]
    (retry,) = [r for r in states["Clean up"]["Retry"] if "Undecided" in r["ErrorEquals"]]
    assert retry["ErrorEquals"] == ["Undecided"], "what a run's own length costs must not use up the other retries"
    (catch,) = [c for c in states["Clean up"]["Catch"] if "Undecided" in c["ErrorEquals"]]
    assert states["Clean up"]["Catch"][0] == catch
    assert states[catch["Next"]]["Type"] == "Succeed"


def test_the_machine_waits_for_an_endpoint_that_is_created_for_an_hour() -> None:
    retry = machine()["States"]["Clean up"]["Retry"][0]
    assert "NotGoneYet" in retry["ErrorEquals"]
    waits = [
        min(retry["IntervalSeconds"] * retry["BackoffRate"] ** attempt, retry["MaxDelaySeconds"])
        for attempt in range(retry["MaxAttempts"])
    ]
    # JitterStrategy FULL waits for anything between nothing and this, so half of it on average.
    assert sum(waits) / 2 > 1.5 * 3600


def test_the_machine_tells_of_what_is_left_and_fails() -> None:
    states = machine()["States"]
    catch = states["Clean up"]["Catch"][-1]
    assert catch == {"ErrorEquals": ["States.ALL"], "ResultPath": "$.failure", "Next": "Notify"}
    assert states["Notify"]["Next"] == "Something is left"
    assert states["Something is left"]["Error"] == "CleanUpIncomplete"
