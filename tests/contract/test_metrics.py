"""Alarms and dashboard look at metrics of AWS or of their own stack, and at no other stack's; alarms tell the topic."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from baton.janitor import REASONS
from baton.rendezvous import Answer
from tests.support.resolved_template import of_type, resolved

ROOT = Path(__file__).parents[2]
STACK = "one-of-two"
Metric = tuple[str, str, tuple[tuple[str, str], ...]]
"""A metric's namespace, name and dimensions."""
PUBLISHED = {
    # https://docs.aws.amazon.com/step-functions/latest/dg/procedure-cw-metrics.html
    ("AWS/States", "StateMachineArn"): {
        "ExecutionsAborted",
        "ExecutionsFailed",
        "ExecutionsStarted",
        "ExecutionsSucceeded",
        "ExecutionsTimedOut",
    },
    # https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-available-cloudwatch-metrics.html
    ("AWS/SQS", "QueueName"): {"ApproximateAgeOfOldestMessage", "ApproximateNumberOfMessagesVisible"},
}
"""What AWS publishes under a namespace with one dimension, as far as it is watched."""
SUBJECTS = {
    "RunFailedAlarm": "id-of-TrainingRunMachine",
    "RunTimedOutAlarm": "id-of-TrainingRunMachine",
    "CleanUpFailedAlarm": "id-of-CleanUpRunMachine",
    "DeadLetterAlarm": "QueueName-of-DeadLetterQueue",
    "QueueAgeAlarm": "QueueName-of-OutcomeQueue",
}
"""The alarms on metrics of AWS, each with the state machine or the queue that it is about."""

WRITE = """
import sys
from types import SimpleNamespace
from baton.observability import count, lambda_entry
@lambda_entry
def handler(event, context):
    for name in event["names"]:
        count(name)
context = SimpleNamespace(function_name="f", memory_limit_in_mb=1, invoked_function_arn="a", aws_request_id="1")
handler({"names": sys.argv[1:]}, context)
"""


def counted(folder: str) -> Iterator[str]:
    """Yield the name of each metric that the code of a folder counts, as it stands in its calls."""
    for path in (ROOT / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "count":
                yield from names_of(node.args[0])


def names_of(argument: ast.expr) -> list[str]:
    """Return what a first argument may be: a text, one of two, or one with an answer or a reason at its end."""
    if isinstance(argument, ast.Constant):
        return [str(argument.value)]
    if isinstance(argument, ast.IfExp):
        return [*names_of(argument.body), *names_of(argument.orelse)]
    assert isinstance(argument, ast.JoinedStr)
    [beginning, ending] = argument.values
    assert isinstance(beginning, ast.Constant)
    assert isinstance(beginning.value, str)
    assert isinstance(ending, ast.FormattedValue)
    endings = {
        "answer.value": [answer.value for answer in Answer],
        "reason.capitalize()": [reason.capitalize() for reason in REASONS],
    }[ast.unparse(ending.value)]
    return [f"{beginning.value}{end}" for end in endings]


def resources(stack: str = STACK) -> dict[str, dict[str, Any]]:
    return resolved({}, stack=stack)


@pytest.fixture(scope="module")
def written() -> set[Metric]:
    """What a function writes into its log for CloudWatch, with the environment that it has in the stack."""
    environment = {**os.environ, **variables("JanitorFunction"), "POWERTOOLS_TRACE_DISABLED": "true"}
    names = sorted({*counted("functions"), *counted("layers/baton/baton")})
    command = [sys.executable, "-c", WRITE, *names]
    answer = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=60)
    found = set()
    for line in answer.stdout.splitlines():
        record = json.loads(line)
        for directive in record.get("_aws", {}).get("CloudWatchMetrics", []):
            [keys] = directive["Dimensions"]
            dimensions = tuple(sorted((key, record[key]) for key in keys))
            found |= {(directive["Namespace"], metric["Name"], dimensions) for metric in directive["Metrics"]}
    return found


def variables(function: str) -> dict[str, str]:
    found: dict[str, Any] = resources()[function]["Environment"]["Variables"]
    return {name: str(value) for name, value in found.items()}


def alarms(stack: str = STACK) -> dict[str, dict[str, Any]]:
    return of_type("AWS::CloudWatch::Alarm", {}, stack=stack)


def metrics_of(alarm: dict[str, Any]) -> Iterator[Metric]:
    """Yield the metric of an alarm, or each of those from which it is computed."""
    several = [query["MetricStat"]["Metric"] for query in alarm.get("Metrics", []) if "MetricStat" in query]
    for metric in several or [alarm]:
        dimensions = sorted((dimension["Name"], dimension["Value"]) for dimension in metric["Dimensions"])
        yield metric["Namespace"], metric["MetricName"], tuple(dimensions)


def is_of_aws(metric: Metric) -> bool:
    return metric[0].startswith("AWS/")


def watched(stack: str = STACK) -> set[Metric]:
    """Return the metrics of the alarms and of the dashboard."""
    found = {metric for alarm in alarms(stack).values() for metric in metrics_of(alarm)}
    return found | set(shown(resources(stack)["Dashboard"]["DashboardBody"]))


def watched_of_its_own(stack: str = STACK) -> set[Metric]:
    """Return those of the metrics that are no service's own."""
    return {metric for metric in watched(stack) if not is_of_aws(metric)}


def shown(body: str) -> Iterator[Metric]:
    """Yield the metrics of a dashboard, in which a dot stands for what the metric before has in its place."""
    for widget in json.loads(body)["widgets"]:
        row: list[str] = []
        for metric in widget["properties"]["metrics"]:
            row = [row[place] if text == "." else text for place, text in enumerate(metric)]
            yield row[0], row[1], ((row[2], row[3]),)


def test_each_metric_that_is_watched_is_written(written: set[Metric]) -> None:
    assert len(watched_of_its_own()) > 10
    assert watched_of_its_own() - written == set()


def test_each_metric_of_aws_that_is_watched_is_published() -> None:
    found = {metric for metric in watched() if is_of_aws(metric)}
    assert len(found) > 5
    for namespace, name, dimensions in found:
        [(dimension, _)] = dimensions
        assert name in PUBLISHED.get((namespace, dimension), set())


def test_each_alarm_on_a_metric_of_aws_is_about_its_own_machine_or_queue() -> None:
    about = {
        name: {value for metric in metrics_of(alarm) if is_of_aws(metric) for _, value in metric[2]}
        for name, alarm in alarms().items()
    }
    assert {name: found for name, found in about.items() if found} == {n: {s} for n, s in SUBJECTS.items()}


def test_each_alarm_tells_the_topic() -> None:
    assert len(alarms()) == 10
    assert {name for name, alarm in alarms().items() if alarm.get("AlarmActions") != ["id-of-Topic"]} == set()
    assert {name for name, alarm in alarms().items() if "ActionsEnabled" in alarm} == set()


def test_every_function_writes_under_the_stacks_name() -> None:
    functions = [name for name, found in resources().items() if "BATON_PARTITION" in str(found.get("Environment"))]
    assert len(functions) == 10
    assert {variables(name)["POWERTOOLS_SERVICE_NAME"] for name in functions} == {STACK}
    assert {variables(name)["POWERTOOLS_METRICS_NAMESPACE"] for name in functions} == {"Baton"}


def test_two_stacks_of_an_account_share_no_metric() -> None:
    assert watched_of_its_own("one") & watched_of_its_own("other") == set()
