"""How an execution of the state machine training-run ended, as Step Functions itself says it."""

from __future__ import annotations

from typing import Any

from botocore.exceptions import ClientError

SUCCEEDED = "SUCCEEDED"
ENDED_BADLY = ("FAILED", "TIMED_OUT", "ABORTED")
"""The other ends; a status that is neither (RUNNING, PENDING_REDRIVE) is none:
https://docs.aws.amazon.com/step-functions/latest/apireference/API_DescribeExecution.html"""


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
