"""Alarms and dashboard look at metrics of AWS or of their own stack, and at no other stack's; alarms tell the topic."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

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
FIVE_MINUTES, HOUR = 300, 3600


class Rings(NamedTuple):
    """When an alarm rings: a statistic of metrics (of their sum, where there are several), over how many periods of
    how many seconds, compared with a threshold, and what a period without data counts as.
    """

    metrics: tuple[str, ...]
    statistic: str
    comparison: str
    threshold: float
    periods: int
    seconds: int
    missing: str


MORE, LESS, FINE = "GreaterThanThreshold", "LessThanThreshold", "notBreaching"
BAD_ENDS = ("ExecutionsFailed", "ExecutionsTimedOut", "ExecutionsAborted")
OLDEST_WAITER_SECONDS = 7200
WHEN = {
    "RunFailedAlarm": Rings(("ExecutionsFailed",), "Sum", MORE, 0, 1, FIVE_MINUTES, FINE),
    "RunTimedOutAlarm": Rings(("ExecutionsTimedOut",), "Sum", MORE, 0, 1, FIVE_MINUTES, FINE),
    "CleanUpFailedAlarm": Rings(BAD_ENDS, "Sum", MORE, 0, 1, FIVE_MINUTES, FINE),
    "DeadLetterAlarm": Rings(("ApproximateNumberOfMessagesVisible",), "Maximum", MORE, 0, 1, FIVE_MINUTES, FINE),
    "QueueAgeAlarm": Rings(("ApproximateAgeOfOldestMessage",), "Maximum", MORE, 900, 3, FIVE_MINUTES, FINE),
    "OldestWaiterAlarm": Rings(("OldestWaiterSeconds",), "Maximum", MORE, OLDEST_WAITER_SECONDS, 1, HOUR, FINE),
    "OverdueRunAlarm": Rings(("OverdueSeconds",), "Maximum", MORE, 3600, 1, HOUR, FINE),
    "EndpointPastExpiryAlarm": Rings(("JanitorFoundExpired",), "Sum", MORE, 0, 1, HOUR, FINE),
    # A janitor that does not run writes nothing, so here it is the missing data that rings.
    "JanitorSilentAlarm": Rings(("JanitorRound",), "Sum", LESS, 1, 3, HOUR, "breaching"),
    "InvalidTokenAlarm": Rings(("InvalidToken",), "Sum", MORE, 0, 1, FIVE_MINUTES, FINE),
}
"""When each alarm rings, with the parameter OldestWaiterSeconds at ``OLDEST_WAITER_SECONDS``."""
ELEMENTS = {"AlarmDescription", "AlarmActions", "Metrics", "Namespace", "MetricName", "Dimensions", "Statistic"}
ELEMENTS |= {"Period", "EvaluationPeriods", "Threshold", "ComparisonOperator", "TreatMissingData"}
"""What an alarm may have; another property, such as DatapointsToAlarm, changes when it rings."""

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


@pytest.mark.parametrize("name", WHEN)
def test_when_each_alarm_rings(name: str) -> None:
    """The embedded cloud has no metrics, so no alarm is ever seen to ring."""
    given = {"OldestWaiterSeconds": str(OLDEST_WAITER_SECONDS)}
    alarm = of_type("AWS::CloudWatch::Alarm", given)[name]
    assert set(alarm) <= ELEMENTS
    [(statistic, seconds)] = {(each["Stat"], each["Period"]) for each in statistics_of(alarm)}
    assert WHEN[name] == Rings(
        tuple(metric for _, metric, _ in metrics_of(alarm)),
        statistic,
        alarm["ComparisonOperator"],
        float(alarm["Threshold"]),
        alarm["EvaluationPeriods"],
        seconds,
        alarm["TreatMissingData"],
    )


def statistics_of(alarm: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the statistic of an alarm's metric, or of each of those from which it is computed."""
    several = [query["MetricStat"] for query in alarm.get("Metrics", []) if "MetricStat" in query]
    return several or [{"Stat": alarm["Statistic"], "Period": alarm["Period"]}]


def test_every_alarm_has_its_row() -> None:
    assert set(alarms()) == set(WHEN)


def test_an_alarm_on_several_metrics_looks_at_nothing_but_their_sum() -> None:
    """A metric without data has none for a sum either, unless it is filled."""
    computed = {name: alarm["Metrics"] for name, alarm in alarms().items() if "Metrics" in alarm}
    assert set(computed) == {name for name, when in WHEN.items() if len(when.metrics) > 1}
    for queries in computed.values():
        # What returns data is what the alarm looks at, and it must be one.
        returned = [query for query in queries if query.get("ReturnData", True)]
        assert [query.get("Expression") for query in returned] == ["SUM(FILL(METRICS(), 0))"]


def test_the_dashboard_shows_what_the_alarms_look_at_but_for_what_hardly_ever_happens() -> None:
    looked_at = {metric for alarm in alarms().values() for metric in metrics_of(alarm)}
    missing = looked_at - set(shown(resources()["Dashboard"]["DashboardBody"]))
    rare = {("ExecutionsTimedOut", "id-of-CleanUpRunMachine"), ("ExecutionsAborted", "id-of-CleanUpRunMachine")}
    assert {(name, value) for _, name, [(_, value)] in missing} == {*rare, ("InvalidToken", STACK)}


def test_every_function_writes_under_the_stacks_name() -> None:
    functions = [name for name, found in resources().items() if "BATON_PARTITION" in str(found.get("Environment"))]
    assert len(functions) == 10
    assert {variables(name)["POWERTOOLS_SERVICE_NAME"] for name in functions} == {STACK}
    assert {variables(name)["POWERTOOLS_METRICS_NAMESPACE"] for name in functions} == {"Baton"}


def test_two_stacks_of_an_account_share_no_metric() -> None:
    assert watched_of_its_own("one") & watched_of_its_own("other") == set()
