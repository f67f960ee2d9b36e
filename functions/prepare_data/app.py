"""Prepare data: the data set on S3 becomes RecordIO-protobuf and CSV on S3."""

from __future__ import annotations

import tomllib
from importlib.resources import files
from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext
from baton.clients import client
from baton.dataset.prepare import prepare
from baton.dataset.source import Limits
from baton.items import DynamoItems
from baton.observability import count, lambda_entry, logger
from baton.runs import Runs
from baton.settings import settings


@lambda_entry
def handler(event: dict[str, Any], _context: LambdaContext) -> dict[str, Any]:
    """Return the facts of the prepared data for ``{"plan"}``; see ``baton.dataset.prepare``."""
    plan = event["plan"]
    data = prepare(plan, _limits(plan["pipeline"]), client("s3"), Runs(DynamoItems.named(settings().table)))
    count("RowsPrepared", sum(data[split]["rows"] for split in ("train", "test", "valid")))
    logger.info("The data is prepared.", extra={"data": data})
    return data


def _limits(pipeline: str) -> Limits:
    definition = tomllib.loads((files("baton_pipelines") / pipeline / "pipeline.toml").read_text("utf-8"))
    dataset = definition["dataset"]
    return Limits(max_bytes=dataset["max_bytes"], max_unpacked_bytes=dataset["max_unpacked_bytes"])
