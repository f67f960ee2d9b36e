"""Why a step failed, written into the run's row, so that the control plane can tell it where nobody reads pods' logs.

Each step has an attribute of its own, ``step_failure_<step>``, a map of ``error``, ``cause`` and ``noted_at`` (epoch
seconds), under conditions that make it the true one: only the pipeline run that does the work writes it, nothing is
written after the tombstone, the last attempt of a step says why it failed, and a step that goes well takes back what
its earlier attempts have noted.
"""

from __future__ import annotations

import functools
import re
import time
from collections.abc import Callable, Mapping
from typing import Any, Concatenate, ParamSpec, TypeVar

from botocore.exceptions import BotoCoreError, ClientError

from baton_steps.errors import TERMINATED_EXIT, ClaimLost, NotAdoptable, RunEnded, Terminated
from baton_steps.run import Run

MAX_ERROR = 128
MAX_CAUSE = 2048
"""Characters; a DynamoDB item takes 400 KB, and the cause has to be read by a person."""

_TERMINATED = "Its pod was told to end, as when a node goes, or when somebody ends the pipeline run or deletes the pod."
"""What is told of a step that SIGTERM ends; one that clean-up ends has a tombstone, and notes nothing."""

_ATTRIBUTE = "step_failure_"
_OURS = "worker_run_id = :me AND attribute_not_exists(ended_at)"
# Access key ids (IAM's identifiers page has their prefixes), names and passwords in addresses, the parameters that sign
# one, and whatever is called a secret, token, password or authorization.
_SECRETS = (
    re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{12,}\b"),
    re.compile(r"(?<=://)[^/@\s]+(?=@)"),
    re.compile(r"(?i)\bX-Amz-(?:Signature|Credential|Security-Token)=[^&\s\"']+"),
    re.compile(
        r"(?i)\b\w*(?:secret|token|password|authorization)\w*[\"']?\s*[=:]\s*[\"']?(?:(?:bearer|basic)\s+)?[^\s\"',;&]+"
    ),
)

Rest = ParamSpec("Rest")
Result = TypeVar("Result")


def recorded(
    step: str,
) -> Callable[[Callable[Concatenate[Run, Rest], Result]], Callable[Concatenate[Run, Rest], Result]]:
    """Record why a step fails; the error goes on to fail the step itself."""

    def decorate(work: Callable[Concatenate[Run, Rest], Result]) -> Callable[Concatenate[Run, Rest], Result]:
        @functools.wraps(work)
        def recording(run: Run, /, *rest: Rest.args, **named: Rest.kwargs) -> Result:
            try:
                result = work(run, *rest, **named)
            except Exception as error:
                record(run, step, error)
                raise
            except SystemExit as ended:
                if ended.code == TERMINATED_EXIT:
                    _note(run, step, Terminated.__name__, _TERMINATED)
                elif ended.code:
                    _note(run, step, *describe(ended))
                raise
            forget(run, step)
            return result

        return recording

    return decorate


def record(run: Run, step: str, error: Exception) -> None:
    """Write why a step failed into the run's row; a step that must not work for the run has nothing to tell."""
    if isinstance(error, ClaimLost | RunEnded):
        return
    # What an attempt of the step has made and left in such a state is not why: that attempt has said it.
    also = " AND attribute_not_exists(#failure)" if isinstance(error, NotAdoptable) else ""
    _note(run, step, *describe(error), also)


def _note(run: Run, step: str, name: str, cause: str, also: str = "") -> None:
    failure = {"error": {"S": name}, "cause": {"S": cause}, "noted_at": {"N": f"{time.time():.3f}"}}
    _update(run, step, "SET #failure = :failure", f"{_OURS}{also}", {":failure": {"M": failure}})


def forget(run: Run, step: str) -> None:
    """Take back what an earlier attempt of this step has written."""
    _update(run, step, "REMOVE #failure", f"{_OURS} AND attribute_exists(#failure)")


def describe(error: BaseException) -> tuple[str, str]:
    """Return an error's name and its message, without secrets and of bounded length; AWS's own code is its name."""
    if isinstance(error, ClientError):
        details = error.response["Error"]
        name, message = details.get("Code") or type(error).__name__, details.get("Message") or str(error)
    else:
        name, message = type(error).__name__, str(error)
    for secret in _SECRETS:
        message = secret.sub("[removed]", message)
    # DynamoDB takes an empty text, and a person nothing from it.
    return name[:MAX_ERROR], message[:MAX_CAUSE] or "It gives no reason."


def _update(run: Run, step: str, expression: str, condition: str, values: Mapping[str, Any] | None = None) -> None:
    """Update the row if it is still this pipeline run's; that it cannot be written never changes how the step ends."""
    if not run.pipeline_run_id:
        return
    try:
        run.client("dynamodb").update_item(
            TableName=run.table,
            Key=run.key(),
            UpdateExpression=expression,
            ConditionExpression=condition,
            ExpressionAttributeNames={"#failure": f"{_ATTRIBUTE}{step}"},
            ExpressionAttributeValues={":me": {"S": run.pipeline_run_id}, **(values or {})},
        )
    except (ClientError, BotoCoreError) as error:
        code = error.response["Error"]["Code"] if isinstance(error, ClientError) else ""
        if code != "ConditionalCheckFailedException":
            print(f"The failure of a step cannot be noted in the run's row: {error}", flush=True)
