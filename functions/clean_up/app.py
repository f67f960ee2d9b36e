"""Clean up: what the run made is deleted, and a receipt says so."""

from __future__ import annotations

from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext

from baton.clients import client
from baton.ending import Receipt, Request, Tools, clean_up
from baton.items import DynamoItems
from baton.kfp import kfp_client
from baton.observability import correlate, lambda_entry, logger
from baton.settings import settings


@lambda_entry
def handler(event: dict[str, Any], _context: LambdaContext) -> Receipt:
    """Return the receipt of a clean-up that is complete; raise NotGoneYet while it is not (see ``baton.ending``)."""
    request = Request.parse(event, settings().run_prefix)
    correlate(request.run_id)
    receipt = clean_up(request, _tools())
    logger.info("Everything that the run made is gone.", extra={"receipt": receipt})
    return receipt


def _tools() -> Tools:
    config = settings()
    return Tools(
        items=DynamoItems.named(config.table),
        sagemaker=client("sagemaker"),
        stepfunctions=client("stepfunctions"),
        s3=client("s3"),
        bucket=config.bucket,
        pipelines=lambda: kfp_client(config),
        experiment=config.kfp_experiment,
        installation=config.kfp_installation,
    )
