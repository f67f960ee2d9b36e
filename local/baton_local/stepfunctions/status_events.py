"""What an execution tells others about itself: status-change events on EventBridge, and log events in CloudWatch.

https://docs.aws.amazon.com/step-functions/latest/dg/eventbridge-integration.html
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from moto.logs.models import logs_backends
from moto.stepfunctions.parser.asl.eval.event.logging import (
    CloudWatchLoggingConfiguration,
    CloudWatchLoggingSession,
)

from baton_local import bus
from baton_local.seams import replace

MAXIMUM_DATA_BYTES = 248 * 1024
"""How large the escaped input and output may be in an event; beyond it first the input is left out."""


def install() -> None:
    """Open the seams."""
    replace(
        "moto.stepfunctions.parser.asl.eval.event.logging",
        "CloudWatchLoggingSession.publish_history_log",
        _publish_log,
        ("self", "history_log"),
    )


def emit_status(run: Any) -> None:
    """Put an execution's present status on the default bus."""
    bus.emit(
        run.account_id,
        run.region_name,
        "aws.states",
        "Step Functions Execution Status Change",
        [run.exec_arn],
        status_detail(run),
    )


def status_detail(run: Any) -> dict[str, Any]:
    """Return the event's detail; times are in epoch milliseconds."""
    output = run.output_text
    with_output = output is not None and _escaped_bytes(output) <= MAXIMUM_DATA_BYTES
    rest = MAXIMUM_DATA_BYTES - (_escaped_bytes(output) if output is not None and with_output else 0)
    with_input = _escaped_bytes(run.execution_input) <= rest
    return {
        "executionArn": run.exec_arn,
        "stateMachineArn": run.state_machine_arn,
        "stateMachineVersionArn": run.version_arn,
        "stateMachineAliasArn": run.alias_arn,
        "name": run.name,
        "status": run.status,
        "startDate": _milliseconds(run.start_date),
        "stopDate": _milliseconds(run.stop_date),
        "input": run.execution_input if with_input else None,
        "inputDetails": {"included": with_input},
        "output": output if with_output else None,
        "outputDetails": None if output is None else {"included": with_output},
        "error": run.error,
        "cause": run.cause,
        "redriveCount": run.redrive_count,
        "redriveDate": _milliseconds(run.redrive_date),
        "redriveStatus": run.redrive_status,
        "redriveStatusReason": run.redrive_status_reason,
    }


def _escaped_bytes(text: str) -> int:
    return len(json.dumps(text).encode())


def _milliseconds(moment: datetime | None) -> int | None:
    return None if moment is None else int(moment.timestamp() * 1000)


def logging_session(run: Any, configuration: Mapping[str, Any] | None) -> CloudWatchLoggingSession | None:
    """Return where an execution's history is logged, or None if its state machine does not ask for it."""
    asked = {"includeExecutionData": False, **(configuration or {})}
    parsed = CloudWatchLoggingConfiguration.from_logging_configuration(run.state_machine_arn, asked)  # type: ignore[arg-type]
    return CloudWatchLoggingSession(run.exec_arn, parsed) if parsed else None


def _publish_log(self: Any, history_log: Mapping[str, Any]) -> None:
    """Write one log event, in the stream of the execution."""
    configuration = self.configuration
    group = configuration.log_group_name
    backend = logs_backends[configuration.log_account_id][configuration.log_region]
    if group not in backend.groups:
        return
    moment = datetime.fromisoformat(str(history_log["event_timestamp"]).replace("Z", "+00:00"))
    machine, name = self.execution_arn.split(":")[6:8]
    stream = f"states/{machine}/{name}"
    if stream not in backend.groups[group].streams:
        backend.create_log_stream(group, stream)
    at = int(moment.astimezone(UTC).timestamp() * 1000)
    message = {**history_log, "event_timestamp": str(at), "redrive_count": "0"}
    backend.put_log_events(group, stream, [{"timestamp": at, "message": json.dumps(message, default=str)}])
