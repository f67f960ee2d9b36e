"""The first step of a pipeline run: claim the run's work, so that of two pipeline runs only one does it.

Kubeflow Pipelines has no idempotency key: a launch that timed out may still be committed later, beside its successor.
"""

from __future__ import annotations

from typing import Any

from botocore.exceptions import ClientError

from baton_steps.errors import ClaimLost, RunEnded
from baton_steps.run import Run

_FREE = (
    "attribute_exists(execution_arn) AND execution_arn = :execution AND attribute_not_exists(ended_at) "
    "AND (attribute_not_exists(worker_run_id) OR worker_run_id = :me)"
)


def claim(run: Run, pipeline_run_id: str) -> dict[str, Any]:
    """Write this pipeline run's id into the run's row and return the run for the next steps.

    The same pipeline run may claim again (a rescheduled pod). Raises ClaimLost where another one has the work, and
    RunEnded where the run has a tombstone, no row, or belongs to another execution.
    """
    try:
        run.client("dynamodb").update_item(
            TableName=run.table,
            Key=run.key(),
            UpdateExpression="SET worker_run_id = :me",
            ConditionExpression=_FREE,
            ExpressionAttributeValues={":me": {"S": pipeline_run_id}, ":execution": {"S": run.execution_arn}},
            ReturnValuesOnConditionCheckFailure="ALL_OLD",
        )
    except ClientError as error:
        if error.response["Error"]["Code"] != "ConditionalCheckFailedException":
            raise
        row: Any = error.response.get("Item") or {}
        raise _refusal(run, row) from None
    print(f"Pipeline run {pipeline_run_id} does the work of run {run.run_id} ({run.execution_arn}).")
    return {**run.as_dict(), "pipeline_run_id": pipeline_run_id}


def _refusal(run: Run, row: dict[str, Any]) -> Exception:
    if not row:
        return RunEnded(f"Run {run.run_id} has no row in table {run.table}: it was never planned, or was forgotten.")
    if "ended_at" in row:
        return RunEnded(f"Run {run.run_id} was ended before its pipeline run began.")
    if row.get("execution_arn", {}).get("S") != run.execution_arn:
        return RunEnded(f"Run {run.run_id} belongs to another execution than {run.execution_arn}.")
    worker = row.get("worker_run_id", {}).get("S")
    return ClaimLost(f"Pipeline run {worker} does the work of run {run.run_id} already; this one ends itself.")
