"""Logs, traces and metrics, made in one place, and the one decorator of every handler.

Every ``functions/<name>/app.py`` looks like this::

    @lambda_entry
    def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
        return do_the_work(event)

What is logged of an event is its run id and nothing else: events carry task tokens and whole data sets' names.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, TypeVar

from aws_lambda_powertools import Logger, Metrics, Tracer
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.typing import LambdaContext

from baton.denied import denials_by_name
from baton.errors import BatonError
from baton.transient import retryable_aws_errors

_SERVICE = os.environ.get("POWERTOOLS_SERVICE_NAME", "baton")
_NAMESPACE = os.environ.get("POWERTOOLS_METRICS_NAMESPACE", "Baton")

logger = Logger(service=_SERVICE)
"""The process's structured logger; ``logger.info("One sentence.", extra={"key": value})``."""

tracer = Tracer(service=_SERVICE, patch_modules=("botocore",))
"""The process's X-Ray tracer; it does nothing outside Lambda."""

metrics = Metrics(namespace=_NAMESPACE, service=_SERVICE)
"""The process's CloudWatch metrics, one log line when the handler returns or raises, or asks for it."""

# A handler that counted nothing is the normal case, and Powertools would warn of it in every log.
warnings.filterwarnings("ignore", "No application metrics to publish")

Result = TypeVar("Result")
Entry = Callable[[Any, LambdaContext], Result]


def count(metric: str, value: float = 1) -> None:
    """Add to a counting metric of the current invocation."""
    metrics.add_metric(name=metric, unit=MetricUnit.Count, value=value)


def write_counts() -> None:
    """Write at once what was counted so far, for what follows may kill the process."""
    metrics.flush_metrics()


def correlate(run_id: str | None) -> None:
    """Put the run id into every later log line of this invocation, and into its trace."""
    logger.set_correlation_id(run_id)
    if run_id:
        tracer.put_annotation("run_id", run_id)


def run_id_of(event: Any) -> str | None:
    """Return the run id that a function's payload names, or None: its own, its plan's, or its state's plan's."""
    if not isinstance(event, Mapping):
        return None
    plan = event.get("plan")
    found = plan.get("run_id") if isinstance(plan, Mapping) else event.get("run_id")
    if found is None and "state" in event:
        return run_id_of(event["state"])
    return found if isinstance(found, str) else None


def lambda_entry(handler: Entry[Result]) -> Entry[Result]:
    """Make a function a Lambda handler: logs with the run id, a trace, metrics, and AWS errors by retryable name.

    An AWS failure that passes leaves as TransientAwsError, a missing permission as AccessDenied; everything else leaves
    as it is. Each failure is one log
    line: a BatonError's sentence is enough, anything else comes with its traceback.
    """

    @logger.inject_lambda_context(clear_state=True)
    @metrics.log_metrics(capture_cold_start_metric=True)
    @tracer.capture_lambda_handler(capture_response=False, capture_error=False)
    @wraps(handler)
    def entry(event: Any, context: LambdaContext) -> Result:
        correlate(run_id_of(event))
        try:
            with denials_by_name(context.function_name), retryable_aws_errors():
                return handler(event, context)
        except BatonError as error:
            logger.error(str(error), extra={"error": type(error).__name__, "retryable": error.retryable})
            raise
        except Exception:
            logger.exception("The function failed in a way that it does not expect.")
            raise

    decorated: Entry[Result] = entry
    return decorated
