"""Prepare data: the data set on S3 becomes RecordIO-protobuf and CSV on S3."""

from __future__ import annotations

from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext

from baton.catalogue import Catalogue
from baton.clients import client
from baton.dataset.prepare import prepare
from baton.dataset.source import Limits
from baton.items import DynamoItems
from baton.observability import count, lambda_entry, logger
from baton.payloads import plan_of
from baton.runs import Runs
from baton.settings import settings


@lambda_entry
def handler(event: dict[str, Any], _context: LambdaContext) -> dict[str, Any]:
    """Return the facts of the prepared data for ``{"plan"}``; see ``baton.dataset.prepare``."""
    plan = plan_of(event)
    limits = Limits.of(Catalogue.packaged().get(plan["pipeline"]).dataset_rules)
    data = prepare(plan, limits, client("s3"), Runs(DynamoItems.named(settings().table)))
    count("RowsPrepared", sum(data[split]["rows"] for split in ("train", "test", "valid")))
    logger.info("The data is prepared.", extra={"data": data})
    return data
