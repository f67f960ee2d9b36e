"""An execution of the state machine training-run: how it ended, and which of two entries of its states is later."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from botocore.exceptions import ClientError

SUCCEEDED = "SUCCEEDED"
ENDED_BADLY = ("FAILED", "TIMED_OUT", "ABORTED")
"""The other ends; a status that is neither (RUNNING, PENDING_REDRIVE) is none:
https://docs.aws.amazon.com/step-functions/latest/apireference/API_DescribeExecution.html"""


def execution_arn_of(machine_arn: str, name: str) -> str:
    """Return the ARN of a state machine's execution of that name, whether it was started yet or not."""
    return f"{machine_arn.replace(':stateMachine:', ':execution:')}:{name}"


def status_of(stepfunctions: Any, execution_arn: str) -> str | None:
    """Return an execution's status, or None where Step Functions has forgotten it: it is over, then."""
    try:
        answer = stepfunctions.describe_execution(executionArn=execution_arn)
    except ClientError as error:
        if error.response["Error"]["Code"] == "ExecutionDoesNotExist":
            return None
        raise
    status: str = answer["status"]
    return status


def is_over(status: str | None) -> bool:
    """Whether a status is an end; a status that nobody knows counts as none."""
    return status is None or status == SUCCEEDED or status in ENDED_BADLY


def entry_order(entered: str, redrive_count: int) -> str:
    """Return what sorts the entries of an execution's states: the later one is the greater text.

    ``entered`` is the state's entered time (ISO 8601), ``redrive_count`` counts the execution's redrives so far.
    """
    milliseconds = int(datetime.fromisoformat(entered).timestamp() * 1000)
    # A letter sorts after every digit, so what a redriven execution enters comes after all of what was before.
    redriven = f"r{redrive_count:06d}#" if redrive_count else ""
    return f"{redriven}{milliseconds:016d}"
