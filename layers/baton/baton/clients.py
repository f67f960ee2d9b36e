"""The AWS clients of a function, made when first asked for and kept while its sandbox lives."""

from __future__ import annotations

from functools import cache
from typing import Any

import boto3
from botocore.config import Config

CONFIG = Config(retries={"total_max_attempts": 4, "mode": "standard"}, connect_timeout=5, read_timeout=30)
"""Of every client: one connection that hangs must not cost a whole invocation."""


@cache
def client(service: str) -> Any:
    """Return the process's client of an AWS service; endpoints come from the standard environment variables."""
    make: Any = boto3.client
    return make(service, config=CONFIG)


@cache
def table(name: str) -> Any:
    """Return the process's DynamoDB table of a name, which speaks in plain values."""
    return boto3.resource("dynamodb", config=CONFIG).Table(name)
