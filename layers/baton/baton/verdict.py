"""The verdict on a run: whether it succeeded, and if not, the one true error and its cause.

Whatever the state data holds by then, there is a verdict: a plan that was refused leaves only a failure, and a
clean-up that broke leaves no receipt.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from baton.errors import CleanUpIncomplete, JobFailed, NeverCreated, PipelineRunFailed, RunEnded

SUCCEEDED, FAILED = "SUCCEEDED", "FAILED"

# https://docs.aws.amazon.com/step-functions/latest/apireference/API_HistoryEvent.html allows 256 and 32,768 characters.
_ERROR_LIMIT = 256
_CAUSE_LIMIT = 8_000
_REST = " … (the rest is left out)"

_ENDED_BADLY = ("FAILED", "CANCELED", "SKIPPED")
"""The states in which a pipeline run has ended and not succeeded."""

_TERMINATED = "Terminated"
"""What a step notes whose pod was told to end."""

_SAYS_IT_ALL = (CleanUpIncomplete.__name__, RunEnded.__name__)

Json = dict[str, Any]


def verdict_of(state: Mapping[str, Any], report_uri: str | None) -> Json:
    """Return ``{"status", "error", "cause", "report", "output"}`` for a run's state data.

    ``output`` is the execution's output where the run succeeded, and null where it failed.
    """
    failure = failure_of(state)
    if failure is None:
        output = _output(state, report_uri)
        return {"status": SUCCEEDED, "error": None, "cause": None, "report": report_uri, "output": output}
    error, cause = failure
    cut = {"error": error[:_ERROR_LIMIT], "cause": _cut(cause)}
    return {"status": FAILED, **cut, "report": report_uri, "output": None}


def failure_of(state: Mapping[str, Any]) -> tuple[str, str] | None:
    """Return the run's true error and cause, or None where it succeeded.

    What SageMaker said of the run's own job comes before what the state machine caught first, and what a step of the
    pipeline run noted in the run's row comes before "the pipeline run failed". A clean-up that did not finish (or that
    refused, because the run was ended before) fails a good run, and is only added to the cause of one that had failed
    before.
    """
    caught = state.get("failure")
    left = _unfinished_clean_up(state)
    if not caught:
        return (_error_of_clean_up(state), left) if left else None
    error, cause = _true_failure(*unwrap(caught), state)
    return error, f"{cause} Besides, clean-up did not finish: {left}" if left else cause


def _cut(cause: str) -> str:
    return cause if len(cause) <= _CAUSE_LIMIT else f"{cause[: _CAUSE_LIMIT - len(_REST)]}{_REST}"


def _true_failure(error: str, cause: str, state: Mapping[str, Any]) -> tuple[str, str]:
    """Return what made the run fail, as the receipt knows it, or else what was caught."""
    receipt = state.get("receipt") or {}
    stated, noted = receipt.get("cause"), receipt.get("step_failure")
    pipeline_run = receipt.get("pipeline_run") or {}
    if stated:
        return str(stated["error"]), str(stated.get("cause") or cause)
    if error == NeverCreated.__name__ and pipeline_run.get("state") in _ENDED_BADLY:
        # Whichever of the two branches of Watch ended first: that the job is missing is the failed run's doing.
        how = f"The pipeline run {pipeline_run['id']} ended {pipeline_run['state']}."
        error, cause = PipelineRunFailed.__name__, f"{how} {cause}"
    if error == PipelineRunFailed.__name__:
        return error, _cause_of_pipeline_run(cause, state)
    if error == JobFailed.__name__ and noted and noted["error"] == _TERMINATED:
        # That step has stopped its job, and SageMaker can only say that somebody did.
        return error, f"{cause} {_told(noted)}"
    return error, cause


def _cause_of_pipeline_run(cause: str, state: Mapping[str, Any]) -> str:
    """Return why a pipeline run ended badly: what a step noted, and what was caught where that says more."""
    receipt = state.get("receipt") or {}
    noted, how = receipt.get("step_failure"), (receipt.get("pipeline_run") or {}).get("state")
    if not noted:
        return f"{cause} {_where_to_look(state)}"
    # Somebody has cancelled it: what a step noted may be of an attempt that would not have been the last.
    return f"{cause} {_told(noted)}" if how in _ENDED_BADLY and how != "FAILED" else _told(noted)


def _told(noted: Mapping[str, Any]) -> str:
    return f"Step {noted['step']}: {noted['error']}: {noted['cause']}"


def _where_to_look(state: Mapping[str, Any]) -> str:
    address = (state.get("pipeline_run") or {}).get("url")
    return "No step noted why; the logs of its pods tell" + (f": {address}" if address else ".")


def unwrap(failure: Mapping[str, Any]) -> tuple[str, str]:
    """Return the error's name and plain message of ``{"Error", "Cause"}``.

    For an exception in a Lambda function, Step Functions' Cause is a JSON text with errorType and errorMessage.
    """
    error, cause = str(failure.get("Error") or "Unknown"), str(failure.get("Cause") or "")
    try:
        details = json.loads(cause)
    except ValueError:
        return error, cause
    if not isinstance(details, dict) or "errorMessage" not in details:
        return error, cause
    return error, str(details["errorMessage"])


def endpoint_kept(state: Mapping[str, Any]) -> str | None:
    """Return the name of the endpoint that the receipt says was kept, or None."""
    items = (state.get("receipt") or {}).get("items", [])
    kept = [item["name"] for item in items if (item["kind"], item["action"]) == ("endpoint", "kept")]
    return kept[0] if kept else None


def outcomes_of(state: Mapping[str, Any]) -> Json:
    """Return the outcomes by kind; those that never came are left out."""
    watched = state.get("outcomes") or []
    found: list[Any] = list(watched) if isinstance(watched, list) else [watched]
    for part in list(found):
        if isinstance(part, dict) and "kind" not in part:
            found += [part.get("tuning"), part.get("training"), *(part.get("serving") or [])]
    return {part["kind"]: part for part in found if isinstance(part, dict) and "kind" in part}


def _error_of_clean_up(state: Mapping[str, Any]) -> str:
    # A run that was ended before it could succeed is no clean-up that something stood in the way of.
    error, _ = unwrap(state.get("clean_up_failure") or {})
    return error if error == RunEnded.__name__ else CleanUpIncomplete.__name__


def _unfinished_clean_up(state: Mapping[str, Any]) -> str | None:
    broke = state.get("clean_up_failure")
    if broke:
        error, cause = unwrap(broke)
        return cause if error in _SAYS_IT_ALL else f"{error}: {cause}"
    receipt = state.get("receipt")
    if receipt is None:
        return "there is no receipt of a clean-up."
    return None if receipt.get("complete") else "its receipt is not complete."


def _output(state: Mapping[str, Any], report_uri: str | None) -> Json:
    training = outcomes_of(state).get("training", {}).get("result", {})
    smoke_test = state.get("smoke_test") or {}
    quality = {name: smoke_test[name] for name in ("accuracy", "purity", "latency_ms") if name in smoke_test}
    return {
        "run_id": state["plan"]["run_id"],
        "model_artefact": training.get("model_artefact"),
        "metrics": {**(training.get("metrics") or {}), **quality},
        "predictions": smoke_test.get("predictions", []),
        "endpoint": endpoint_kept(state),
        "receipt": state["receipt"],
        "report": report_uri,
    }
