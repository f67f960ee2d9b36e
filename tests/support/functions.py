"""Functions as Lambda loads and invokes them, with the bucket and the table that they need on moto."""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from moto import mock_aws

from baton import clients, settings
from baton.items import DynamoItems
from baton.runs import Runs

REGION = "cn-northwest-1"
ROOT = Path(__file__).parents[2]
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "x",
    "AWS_SECRET_ACCESS_KEY": "x",
    "AWS_DEFAULT_REGION": REGION,
    "AWS_REGION": REGION,
    "BATON_PARTITION": "aws-cn",
    "BATON_URL_SUFFIX": "amazonaws.com.cn",
    "BATON_TABLE": "table",
    "BATON_BUCKET": "baton-runs",
    "POWERTOOLS_TRACE_DISABLED": "true",
}

Function = Callable[[Any], Any]


@contextmanager
def deployed(name: str, monkeypatch: pytest.MonkeyPatch, **environment: str) -> Iterator[Function]:
    """Yield a function's handler in a fresh account with a versioned bucket and the table."""
    for variable, value in {**ENVIRONMENT, **environment}.items():
        monkeypatch.setenv(variable, value)
    forget_what_a_sandbox_keeps()
    with mock_aws():
        _make_account()
        yield _load(name)
    forget_what_a_sandbox_keeps()


@functools.cache
def aws(service: str) -> Any:
    """Return the client of whoever looks at what a function did, for the length of a test."""
    return boto3.client(service)


def runs() -> Runs:
    return Runs(DynamoItems.named("table"))


def put(key: str, content: bytes) -> str:
    """Put an object into the run bucket and return its version id."""
    return str(aws("s3").put_object(Bucket="baton-runs", Key=key, Body=content)["VersionId"])


def get(key: str) -> dict[str, Any]:
    """Return an object of the run bucket with its content as ``Body``."""
    found: dict[str, Any] = aws("s3").get_object(Bucket="baton-runs", Key=key)
    return {**found, "Body": found["Body"].read()}


def keys() -> set[str]:
    found = aws("s3").list_objects_v2(Bucket="baton-runs").get("Contents", [])
    return {entry["Key"] for entry in found}


def forget_what_a_sandbox_keeps() -> None:
    """Let the next call of a function be the first one of its sandbox."""
    aws.cache_clear()
    clients.client.cache_clear()
    clients.table.cache_clear()
    settings.settings.cache_clear()


def app_of(name: str) -> Any:
    """Return a function's module, loaded anew as by a new sandbox."""
    spec = importlib.util.spec_from_file_location(f"{name}_app", ROOT / "functions" / name / "app.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def context_of(name: str, remaining_ms: int = 60_000) -> SimpleNamespace:
    """Return what Lambda tells a function of an invocation."""
    return SimpleNamespace(
        function_name=name,
        memory_limit_in_mb=512,
        invoked_function_arn="arn",
        aws_request_id="1",
        get_remaining_time_in_millis=lambda: remaining_ms,
    )


def _load(name: str) -> Function:
    module, context = app_of(name), context_of(name)
    return lambda event: module.handler(event, context)


def _make_account() -> None:
    key = [{"AttributeName": "kind", "KeyType": "HASH"}, {"AttributeName": "name", "KeyType": "RANGE"}]
    types = [{"AttributeName": name, "AttributeType": "S"} for name in ("kind", "name")]
    aws("dynamodb").create_table(
        TableName="table", KeySchema=key, AttributeDefinitions=types, BillingMode="PAY_PER_REQUEST"
    )
    s3 = aws("s3")
    s3.create_bucket(Bucket="baton-runs", CreateBucketConfiguration={"LocationConstraint": REGION})
    s3.put_bucket_versioning(Bucket="baton-runs", VersioningConfiguration={"Status": "Enabled"})
