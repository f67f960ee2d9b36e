import json
from pathlib import Path

import boto3
import pytest

from baton_steps import console, events
from baton_steps.errors import EventNotSent
from tests.unit.steps import world

COMMITTED = Path(__file__).parents[3] / "events"


@pytest.fixture
def queue(aws):
    sqs, bus = boto3.client("sqs"), boto3.client("events")
    url = sqs.create_queue(QueueName="ends")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    bus.put_rule(Name="ends", EventPattern=json.dumps({"source": ["baton.pipeline"]}))
    bus.put_targets(Rule="ends", Targets=[{"Id": "1", "Arn": arn}])
    return lambda: [json.loads(m["Body"]) for m in sqs.receive_message(QueueUrl=url).get("Messages", [])]


@pytest.mark.parametrize(
    ("said", "state"),
    [
        ("SUCCEEDED", "SUCCEEDED"), ("succeeded", "SUCCEEDED"), ("COMPLETE", "SUCCEEDED"), ("CACHED", "SUCCEEDED"),
        ("CANCELLED", "CANCELED"), ("CANCELED", "CANCELED"), ("FAILED", "FAILED"), ("", "FAILED"), ("NEW", "FAILED"),
    ],
)  # fmt: skip
def test_only_a_success_passes_for_one(said, state):
    assert events.run_state(said) == state


def test_the_end_of_a_run_reaches_the_bus_in_the_committed_form(queue):
    committed = json.loads((COMMITTED / "pipeline_run_succeeded.json").read_text())
    detail = committed["detail"]
    events.announce_end(detail["run_id"], detail["pipeline_run_id"], "SUCCEEDED", world.REGION)
    (event,) = queue()
    same = ("source", "detail-type", "detail", "region")
    assert {name: event[name] for name in same} == {name: committed[name] for name in same}


class Refusing:
    """An event bus that refuses an entry some times."""

    def __init__(self, times):
        self.left = times

    def put_events(self, Entries):
        self.left -= 1
        if self.left < 0:
            return {"FailedEntryCount": 0, "Entries": [{"EventId": "1"}]}
        return {"FailedEntryCount": 1, "Entries": [{"ErrorCode": "ThrottlingException", "ErrorMessage": "slow"}]}


def announce(monkeypatch, bus):
    slept = []
    monkeypatch.setattr(events.boto3, "client", lambda *_, **__: bus)
    events.announce_end("bt-1", "kfp-1", "FAILED", world.REGION, slept.append)
    return slept


def test_a_refused_entry_is_put_again(monkeypatch):
    assert announce(monkeypatch, Refusing(2)) == [1.0, 2.0]


def test_an_entry_that_stays_refused_fails_the_exit_task(monkeypatch):
    with pytest.raises(EventNotSent, match="ThrottlingException: slow"):
        announce(monkeypatch, Refusing(99))


@pytest.mark.parametrize(
    ("region", "host"),
    [
        ("eu-west-1", "eu-west-1.console.aws.amazon.com"),
        ("cn-north-1", "cn-north-1.console.amazonaws.cn"),
        ("us-gov-west-1", "us-gov-west-1.console.amazonaws-us-gov.com"),
    ],
)
def test_the_console_is_that_of_the_partition(region, host):
    link = console.console_link(region, "jobs", "n")
    assert link == f"https://{host}/sagemaker/home?region={region}#/jobs/n"


@pytest.mark.parametrize("region", ["us-iso-east-1", "us-isob-east-1", "eusc-de-east-1"])
def test_where_the_console_is_not_public_there_is_no_link(region):
    assert console.console_link(region, "jobs", "n") is None


def test_the_tail_of_a_log_without_streams_says_so():
    class Empty:
        def describe_log_streams(self, **_):
            return {"logStreams": []}

    assert console.log_tails(Empty(), "/group", "n/") == [("", ["(/group has no log stream n/…)"])]
