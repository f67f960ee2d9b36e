"""Reads the outcome queue: each message is an EventBridge event that may end a wait."""

from __future__ import annotations

from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext

from baton.observability import lambda_entry
from baton.payloads import field
from baton.settling import Settling


@lambda_entry
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Settle a batch of SQS records; return ``{"batchItemFailures": [...]}``; see ``baton.settling``."""
    return Settling.here().handle(field(event, "Records", list), context.get_remaining_time_in_millis)
