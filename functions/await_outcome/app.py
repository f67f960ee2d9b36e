"""Await pipeline run, tuning, training, transform, endpoint: stores the token, looks whether the thing has ended.

Invoked with ``.waitForTaskToken``: what this function returns is ignored, the token carries the outcome.
"""

from __future__ import annotations

from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext

from baton.observability import count, lambda_entry, logger
from baton.payloads import field
from baton.settling import rendezvous
from baton.tokens import TokenInvalid


@lambda_entry
def handler(event: dict[str, Any], _context: LambdaContext) -> None:
    """Register ``{"kind", "run_id", "token", "entered", "retry_count", "redrive_count"}``; see ``baton.rendezvous``."""
    try:
        answer = rendezvous().register(
            field(event, "kind", str),
            field(event, "run_id", str),
            field(event, "token", str),
            field(event, "entered", str),
            field(event, "retry_count", int),
            field({"redrive_count": 0} | event, "redrive_count", int),
        )
    except TokenInvalid:
        count("InvalidToken")
        raise
    count(f"Registration{answer.value}")
    logger.info("Registered.", extra={"kind": event["kind"], "answer": answer.value})
