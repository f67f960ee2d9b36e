"""Smoke-test endpoint: real predictions from the run's endpoint, against the pipeline's gates."""

from __future__ import annotations

from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext

from baton.clients import client
from baton.items import DynamoItems
from baton.observability import count, lambda_entry, logger
from baton.payloads import plan_of
from baton.runs import Runs
from baton.settings import settings
from baton.smoke import run_smoke_test


@lambda_entry
def handler(event: dict[str, Any], _context: LambdaContext) -> dict[str, Any]:
    """Return the smoke test's summary for ``{"plan"}``; see ``baton.smoke``."""
    plan = plan_of(event)
    Runs(DynamoItems.named(settings().table)).require_open(plan["run_id"])
    summary = run_smoke_test(plan, client("s3"), client("sagemaker-runtime"))
    count("RowsPredicted", summary["rows"])
    logger.info("The endpoint passed.", extra={"accuracy": summary["accuracy"], "latency_ms": summary["latency_ms"]})
    return summary
