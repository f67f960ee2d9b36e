"""Plan run: the execution's input and the pipeline's defaults become the plan."""

from __future__ import annotations

from functools import cache
from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext

from baton.catalogue import Catalogue
from baton.clients import client
from baton.items import DynamoItems
from baton.observability import correlate, lambda_entry, logger
from baton.payloads import field
from baton.plan import Execution, Planner
from baton.runs import Runs
from baton.settings import settings


@cache
def planner() -> Planner:
    """Return the sandbox's planner."""
    return Planner(Catalogue.packaged(), client("s3"), Runs(DynamoItems.named(settings().table)), settings())


@lambda_entry
def handler(event: dict[str, Any], _context: LambdaContext) -> dict[str, Any]:
    """Return the plan of ``{"input": …, "execution": {"id", "name", "start_time"}}``."""
    plan = planner().plan(field(event, "input", object), Execution.read(event))
    correlate(plan["run_id"])
    logger.info("The run is planned.", extra={"pipeline": plan["pipeline"], "deadline": plan["deadline"]})
    return plan
