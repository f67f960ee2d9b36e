"""Prepare data: the data set on S3 becomes RecordIO-protobuf and CSV on S3."""

from __future__ import annotations

import tomllib
from importlib.resources import files
from typing import Any

from aws_lambda_powertools import Logger, Metrics, Tracer
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.typing import LambdaContext

from baton.clients import client
from baton.dataset.prepare import prepare
from baton.dataset.source import Limits
from baton.items import DynamoItems
from baton.runs import Runs
from baton.settings import settings

logger = Logger()
tracer = Tracer()
metrics = Metrics()


@logger.inject_lambda_context(correlation_id_path="plan.run_id")
@tracer.capture_lambda_handler(capture_response=False)
@metrics.log_metrics
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:  # noqa: ARG001
    """Return the facts of the prepared data for a plan; see ``baton.dataset.prepare``."""
    plan = event["plan"]
    runs = Runs(DynamoItems.named(settings().table))
    data = prepare(plan, _limits(plan["pipeline"]), client("s3"), runs)
    metrics.add_metric("RowsPrepared", MetricUnit.Count, sum(data[name]["rows"] for name in ("train", "test", "valid")))
    logger.info("data prepared", data=data)
    return data


def _limits(pipeline: str) -> Limits:
    definition = tomllib.loads((files("baton_pipelines") / pipeline / "pipeline.toml").read_text("utf-8"))
    dataset = definition["dataset"]
    return Limits(max_bytes=dataset["max_bytes"], max_unpacked_bytes=dataset["max_unpacked_bytes"])
