"""Errors of the Step Functions API, and which error names a Retrier or Catcher matches."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from moto.core.exceptions import AWSError

ALL = "States.ALL"
DATA_LIMIT = "States.DataLimitExceeded"
HEARTBEAT_TIMEOUT = "States.HeartbeatTimeout"
RUNTIME = "States.Runtime"
TASK_FAILED = "States.TaskFailed"
TIMEOUT = "States.Timeout"


def api_error(kind: str, message: str) -> Any:
    """Return an error of the API, to be raised."""
    return AWSError(message, exception_type=kind, status=400)


def is_matched(error: str | None, expected: Iterable[str | None]) -> bool:
    """Return whether an ``ErrorEquals`` matches an error name.

    https://docs.aws.amazon.com/step-functions/latest/dg/concepts-error-handling.html: States.Runtime always fails the
    execution; States.ALL does not match States.DataLimitExceeded; States.TaskFailed matches all but time-outs.
    """
    names = set(expected)
    if error == RUNTIME:
        return False
    if error in names:
        return True
    if error == DATA_LIMIT:
        return False
    return ALL in names or (TASK_FAILED in names and error not in (TIMEOUT, HEARTBEAT_TIMEOUT))
