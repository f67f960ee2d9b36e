"""Why a step failed, written into the run's row, so that the control plane can tell it where nobody reads pods' logs.

The row gets the attribute ``step_failure``, a map of ``step``, ``error`` and ``cause``, under conditions that make it
the true one: only the pipeline run that does the work writes it, nothing is written after the tombstone, the first
failure stays, and a step that goes well in the end takes its own back (a pod may have been tried before). That its pod
was told to end gives way to what its next attempt fails for.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, TypeVar

from botocore.exceptions import BotoCoreError, ClientError

from baton_steps.errors import ClaimLost, NotAdoptable, RunEnded, Terminated
from baton_steps.run import Run

MAX_ERROR = 128
MAX_CAUSE = 2048
"""Characters; a DynamoDB item takes 400 KB, and the cause has to be read by a person."""

_TERMINATED = "Its pod was told to end, as when a node goes, or when somebody ends the pipeline run or deletes the pod."
"""What is told of a step that SIGTERM ends; one that clean-up ends has a tombstone, and notes nothing."""

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
            except SystemExit:
                _note(run, step, Terminated.__name__, _TERMINATED)
                raise
            forget(run, step)
            return result

        return recording

    return decorate


def record(run: Run, step: str, error: Exception) -> None:
    """Write why a step failed into the run's row; a step that must not work for the run has nothing to tell."""
    if isinstance(error, ClaimLost | RunEnded):
        return
    # The job that a terminated pod stopped cannot be adopted by its next attempt: the termination is why.
    _note(run, step, *describe(error), instead_of_a_termination=not isinstance(error, NotAdoptable))


def _note(run: Run, step: str, name: str, cause: str, *, instead_of_a_termination: bool = False) -> None:
    failure = {"step": {"S": step}, "error": {"S": name}, "cause": {"S": cause}}
    values: dict[str, Any] = {":failure": {"M": failure}}
    condition, names = "attribute_not_exists(step_failure)", {}
    if instead_of_a_termination:
        condition = f"({condition} OR (step_failure.#step = :step AND step_failure.#error = :terminated))"
        values |= {":step": {"S": step}, ":terminated": {"S": Terminated.__name__}}
        names = {"#step": "step", "#error": "error"}
    _update(run, "SET step_failure = :failure", condition, values, names)


def forget(run: Run, step: str) -> None:
    """Take back what an earlier attempt of this step has written."""
    _update(run, "REMOVE step_failure", "step_failure.#step = :step", {":step": {"S": step}}, {"#step": "step"})


def describe(error: Exception) -> tuple[str, str]:
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


def _update(
    run: Run, expression: str, condition: str, values: dict[str, Any], names: dict[str, str] | None = None
) -> None:
    """Update the row if it is still this pipeline run's; that it cannot be written never changes how the step ends."""
    if not run.pipeline_run_id:
        return
    try:
        run.client("dynamodb").update_item(
            TableName=run.table,
            Key=run.key(),
            UpdateExpression=expression,
            ConditionExpression=f"{_OURS} AND {condition}",
            ExpressionAttributeValues={":me": {"S": run.pipeline_run_id}, **values},
            **({"ExpressionAttributeNames": names} if names else {}),
        )
    except (ClientError, BotoCoreError) as error:
        code = error.response["Error"]["Code"] if isinstance(error, ClientError) else ""
        if code != "ConditionalCheckFailedException":
            print(f"The failure of a step cannot be noted in the run's row: {error}", flush=True)
