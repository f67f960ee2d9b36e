"""The AWS clients of a function, made when first asked for and kept while its sandbox lives."""

from __future__ import annotations

from functools import cache
from typing import Any

import boto3
from botocore.config import Config

_CONFIG = Config(retries={"total_max_attempts": 4, "mode": "standard"}, connect_timeout=5, read_timeout=30)


@cache
def client(service: str) -> Any:
    """Return the process's client of an AWS service; endpoints come from the standard environment variables."""
    make: Any = boto3.client
    return make(service, config=_CONFIG)
