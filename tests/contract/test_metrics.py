"""The alarms and the dashboard look at metrics that the functions of their own stack write, and at no other stack's."""

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
from tests.support.resolved_template import resolved

ROOT = Path(__file__).parents[2]
STACK = "one-of-two"
Metric = tuple[str, str, tuple[tuple[str, str], ...]]
"""A metric's namespace, name and dimensions."""

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


def watched(stack: str = STACK) -> set[Metric]:
    """Return the metrics of the alarms and of the dashboard that are no service's own."""
    found = set()
    for properties in resources(stack).values():
        if "AlarmActions" in properties and "MetricName" in properties:
            dimensions = {d["Name"]: d["Value"] for d in properties["Dimensions"]}
            found.add((properties["Namespace"], properties["MetricName"], tuple(sorted(dimensions.items()))))
    found |= set(shown(resources(stack)["Dashboard"]["DashboardBody"]))
    return {metric for metric in found if not metric[0].startswith("AWS/")}


def shown(body: str) -> Iterator[Metric]:
    """Yield the metrics of a dashboard, in which a dot stands for what the metric before has in its place."""
    for widget in json.loads(body)["widgets"]:
        row: list[str] = []
        for metric in widget["properties"]["metrics"]:
            row = [row[place] if text == "." else text for place, text in enumerate(metric)]
            yield row[0], row[1], ((row[2], row[3]),)


def test_each_metric_that_is_watched_is_written(written: set[Metric]) -> None:
    assert len(watched()) > 10
    assert watched() - written == set()


def test_every_function_writes_under_the_stacks_name() -> None:
    functions = [name for name, found in resources().items() if "BATON_PARTITION" in str(found.get("Environment"))]
    assert len(functions) == 10
    assert {variables(name)["POWERTOOLS_SERVICE_NAME"] for name in functions} == {STACK}
    assert {variables(name)["POWERTOOLS_METRICS_NAMESPACE"] for name in functions} == {"Baton"}


def test_two_stacks_of_an_account_share_no_metric() -> None:
    assert watched("one") & watched("other") == set()
