"""Write report: JSON and one HTML page on S3, and the verdict on the run."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext

from baton.clients import client
from baton.executions import entry_order
from baton.observability import count, lambda_entry, logger
from baton.payloads import execution_of, field, moment
from baton.report.write import Writer
from baton.settings import settings


@lambda_entry
def handler(event: dict[str, Any], _context: LambdaContext) -> dict[str, Any]:
    """Return the verdict for ``{"execution", "entered", "state"}``; see ``baton.verdict``."""
    known = settings()
    writer = Writer(
        client("s3"), client("stepfunctions"), known.partition, known.region, known.bucket, known.run_prefix
    )
    execution, state = execution_of(event), field(event, "state", dict)
    order = entry_order(moment(event, "entered"), field(execution, "redrive_count", int, "execution"))
    verdict = writer.write(execution, state, order, datetime.now(UTC))
    count("RunsSucceeded" if verdict["status"] == "SUCCEEDED" else "RunsFailed")
    logger.info("The report is written.", extra={name: verdict[name] for name in ("status", "error", "report")})
    return verdict
