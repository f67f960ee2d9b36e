"""Launch pipeline: one KFP run, exactly once."""

from __future__ import annotations

from functools import cache
from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext

from baton.catalogue import Catalogue
from baton.items import DynamoItems
from baton.kfp import kfp_client
from baton.launching import Launcher
from baton.observability import lambda_entry, logger
from baton.payloads import field, plan_of
from baton.runs import Runs
from baton.settings import settings


@cache
def launcher() -> Launcher:
    """Return the sandbox's launcher."""
    runs = Runs(DynamoItems.named(settings().table))
    return Launcher(runs, kfp_client(settings()), Catalogue.packaged(), settings())


@lambda_entry
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Return the KFP run of a run, ``{"id", "url", "pipeline_id", "version_id", "experiment_id"}``.

    The payload is ``{"plan", "attempt"}``.
    """
    plan = plan_of(event)
    # An invocation of its own, also where an attempt of the state machine should be invoked twice.
    attempt = f"{field(event, 'attempt', str)}/{context.aws_request_id}"
    pipeline_run = launcher().launch(plan, attempt)
    logger.info("The pipeline run is launched.", extra={"pipeline_run": pipeline_run["id"]})
    return pipeline_run
