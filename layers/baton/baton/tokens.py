"""Settling a task token: the three ways in which Step Functions answers, told apart.

https://docs.aws.amazon.com/step-functions/latest/apireference/API_SendTaskSuccess.html
"""

from __future__ import annotations

import json
from typing import Any, Protocol

from botocore.exceptions import ClientError

from baton.errors import TransientAwsError
from baton.transient import is_transient

_CAUSE_LIMIT = 32_768
_ERROR_LIMIT = 256
_OUTPUT_LIMIT = 100_000
"""Bytes; Step Functions refuses more than 262,144, which a state's whole data must share."""


class TokenOver(Exception):
    """This task token has timed out, or was settled before: its attempt is over, the wait may go on with another."""


class TokenInvalid(Exception):
    """Step Functions does not know this token at all, which no order of events explains: somebody must look."""


class Tokens(Protocol):
    """Whoever can settle a task token."""

    def settle(self, token: str, outcome: dict[str, Any]) -> None:
        """End the wait of this token with an outcome; raise TokenOver, TokenInvalid or TransientAwsError."""


class StepFunctionsTokens:
    """Settles task tokens through Step Functions."""

    def __init__(self, stepfunctions: Any) -> None:
        self._stepfunctions = stepfunctions

    def settle(self, token: str, outcome: dict[str, Any]) -> None:
        """Send the outcome as the task's success, or its error and reason as the task's failure."""
        try:
            if outcome["succeeded"]:
                self._stepfunctions.send_task_success(taskToken=token, output=_output(outcome))
            else:
                self._stepfunctions.send_task_failure(
                    taskToken=token, error=outcome["error"][:_ERROR_LIMIT], cause=outcome["reason"][:_CAUSE_LIMIT]
                )
        except ClientError as error:
            raise _meaning(error) from error


def _output(outcome: dict[str, Any]) -> str:
    """Return an outcome as JSON (ASCII, so a character is a byte), with what makes it too large to send left empty."""
    result = dict(outcome["result"])
    text = json.dumps(outcome)
    while len(text) > _OUTPUT_LIMIT and any(result.values()):
        # A hundred hyperparameters may have 2,500 characters each; what is short is what the run goes on with.
        longest = max(result, key=lambda name: len(json.dumps(result[name])))
        result[longest] = type(result[longest])()
        text = json.dumps({**outcome, "result": result})
    return text


def _meaning(error: ClientError) -> Exception:
    code = error.response["Error"]["Code"]
    if code in ("TaskTimedOut", "TaskDoesNotExist"):
        return TokenOver(code)
    if code == "InvalidToken":
        return TokenInvalid(str(error))
    if is_transient(error):
        return TransientAwsError(str(error))
    return error
