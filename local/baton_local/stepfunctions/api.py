"""The Step Functions API, where moto's answers differ from AWS's or are missing."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from moto.core.responses import ActionResult, EmptyResult
from moto.utilities.utils import get_partition

from baton_local.seams import add, replace
from baton_local.stepfunctions import machines
from baton_local.stepfunctions.definitions import diagnostics
from baton_local.stepfunctions.errors import api_error
from baton_local.stepfunctions.tokens import Failure, Success, desk

_RESPONSES = "moto.stepfunctions.responses"
_PAGE = 100
_LONGEST_PAGE = 1000
_moto: dict[str, Any] = {}


def install() -> None:
    """Open the seams, and add the operations that moto does not have."""
    for operation in (
        describe_execution,
        describe_state_machine_for_execution,
        get_execution_history,
        list_executions,
        send_task_failure,
        send_task_heartbeat,
        send_task_success,
        stop_execution,
    ):
        replace(_RESPONSES, f"StepFunctionResponse.{operation.__name__}", operation, ("self",))
    for name, operation in (("update_state_machine", update_state_machine),):
        _moto[name] = replace(_RESPONSES, f"StepFunctionResponse.{name}", operation, ("self",))
    _moto["describe"] = replace(
        _RESPONSES,
        "StepFunctionResponse._describe_state_machine",
        _describe_state_machine,
        ("self", "state_machine_arn"),
    )
    for operation in (
        delete_state_machine_version,
        list_state_machine_versions,
        publish_state_machine_version,
        redrive_execution,
        validate_state_machine_definition,
    ):
        add(_RESPONSES, f"StepFunctionResponse.{operation.__name__}", operation)


# --- executions -------------------------------------------------------------------------------------------------------


def _run(self: Any) -> Any:
    return self.stepfunction_backend.describe_execution(self._get_param("executionArn"))


def _summary(run: Any) -> dict[str, Any]:
    summary = {
        "executionArn": run.exec_arn,
        "stateMachineArn": run.state_machine_arn,
        "stateMachineVersionArn": run.version_arn,
        "stateMachineAliasArn": run.alias_arn,
        "name": run.name,
        "status": run.status,
        "startDate": run.start_date,
        "stopDate": run.stop_date,
        "redriveCount": run.redrive_count,
        "redriveDate": run.redrive_date,
    }
    return {name: value for name, value in summary.items() if value is not None}


def describe_execution(self: Any) -> Any:
    """Answer DescribeExecution."""
    run = _run(self)
    answer = {**_summary(run), "input": run.execution_input, "inputDetails": {"included": True}}
    if run.output_text is not None:
        answer |= {"output": run.output_text, "outputDetails": {"included": True}}
    texts = {
        "error": run.error,
        "cause": run.cause,
        "traceHeader": run.trace_header,
        "redriveStatus": run.redrive_status,
        "redriveStatusReason": run.redrive_status_reason,
    }
    return ActionResult(answer | {name: text for name, text in texts.items() if text is not None})


def list_executions(self: Any) -> Any:
    """Answer ListExecutions, newest first; the ARN may be a version's or an alias's."""
    arn = self._get_param("stateMachineArn")
    machine, _, _ = machines._resolve(self.stepfunction_backend, arn)
    status, redrive = self._get_param("statusFilter"), self._get_param("redriveFilter")
    runs = [run for run in reversed(list(machine.executions)) if status in (None, run.status)]
    if arn != machine.arn:
        runs = [run for run in runs if arn in (run.version_arn, run.alias_arn)]
    if redrive:
        runs = [run for run in runs if (run.redrive_count > 0) == (redrive == "REDRIVEN")]
    page, token = _page(self, runs, lambda run: str(run.exec_arn))
    return ActionResult({"executions": [_summary(run) for run in page], **token})


def _page(self: Any, items: Sequence[Any], name: Callable[[Any], str]) -> tuple[Sequence[Any], dict[str, str]]:
    """Return one page, and the token that leads to the next, which names the last item seen."""
    size = min(int(self._get_param("maxResults") or 0) or _PAGE, _LONGEST_PAGE)
    token = self._get_param("nextToken")
    start = 0
    if token:
        last = base64.b64decode(token).decode(errors="replace")
        names = [name(item) for item in items]
        if last not in names:
            raise api_error("InvalidToken", "Invalid Token: 'Invalid token'")
        start = names.index(last) + 1
    page = items[start : start + size]
    more = start + size < len(items)
    return page, {"nextToken": base64.b64encode(name(page[-1]).encode()).decode()} if more else {}


def get_execution_history(self: Any) -> Any:
    """Answer GetExecutionHistory, in pages and in either order."""
    events = _run(self).history.get_event_history()
    if str(self._get_param("reverseOrder")).lower() == "true":
        events.reverse()
    page, token = _page(self, events, lambda event: str(event["id"]))
    if str(self._get_param("includeExecutionData")).lower() == "false":
        page = [_without_data(event) for event in page]
    # moto's serializer looks for each of an event's forty fields by several names, and this is read again and again.
    return json.dumps({"events": [{**_stated(event), "timestamp": _seconds(event)} for event in page], **token})


def _stated(value: Any) -> Any:
    """Return a value without the fields that have none."""
    if isinstance(value, dict):
        return {name: _stated(item) for name, item in value.items() if item is not None}
    return value


def _seconds(event: Mapping[str, Any]) -> float:
    """Return when an event was, in seconds since 1970 as the protocol has it; moto keeps it as text."""
    return datetime.fromisoformat(str(event["timestamp"])).timestamp()


def _without_data(event: dict[str, Any]) -> dict[str, Any]:
    return {
        name: {k: v for k, v in value.items() if k not in ("input", "output")} if isinstance(value, dict) else value
        for name, value in event.items()
    }


def stop_execution(self: Any) -> Any:
    """Answer StopExecution; an execution that is over stays as it is."""
    run = _run(self)
    run.stop(datetime.now(UTC), self._get_param("error"), self._get_param("cause"))
    return ActionResult({"stopDate": run.stop_date})


def redrive_execution(self: Any) -> Any:
    """Answer RedriveExecution."""
    return ActionResult({"redriveDate": _run(self).redrive()})


def describe_state_machine_for_execution(self: Any) -> Any:
    """Answer DescribeStateMachineForExecution with what the execution runs, not with what came after."""
    snapshot = _run(self).state_machine
    return ActionResult(
        {
            "stateMachineArn": snapshot.arn,
            "name": snapshot.name,
            "definition": snapshot.definition,
            "roleArn": snapshot.roleArn,
            "updateDate": snapshot.update_date,
            "loggingConfiguration": snapshot.loggingConfiguration,
            "tracingConfiguration": snapshot.tracingConfiguration,
            "encryptionConfiguration": snapshot.encryptionConfiguration,
            "revisionId": snapshot.revision_id,
        }
    )


# --- task tokens ------------------------------------------------------------------------------------------------------


def _settle(self: Any, outcome: Success | Failure) -> Any:
    desk(self.current_account, self.region).settle(self._get_param("taskToken") or "", outcome)
    return EmptyResult()


def send_task_success(self: Any) -> Any:
    """Answer SendTaskSuccess."""
    output = self._get_param("output")
    text = output if isinstance(output, str) else json.dumps(output)
    machines.check_data(text, "output", "InvalidOutput", "Invalid Output")
    return _settle(self, Success(text))


def send_task_failure(self: Any) -> Any:
    """Answer SendTaskFailure."""
    return _settle(self, Failure(self._get_param("error"), self._get_param("cause")))


def send_task_heartbeat(self: Any) -> Any:
    """Answer SendTaskHeartbeat."""
    desk(self.current_account, self.region).beat(self._get_param("taskToken") or "")
    return EmptyResult()


# --- state machines ---------------------------------------------------------------------------------------------------


def _describe_state_machine(self: Any, state_machine_arn: str) -> Any:
    answer = _moto["describe"](self, state_machine_arn)
    machine = self.stepfunction_backend.describe_state_machine(state_machine_arn)
    result = answer._result if hasattr(answer, "_result") else answer.result
    result["revisionId"] = machines.revision_id(machine)
    return answer


def update_state_machine(self: Any) -> Any:
    """Answer UpdateStateMachine, with the revision that it makes."""
    answer = _moto["update_state_machine"](self)
    machine = self.stepfunction_backend.describe_state_machine(self._get_param("stateMachineArn"))
    answer.result["revisionId"] = machines.revision_id(machine)
    return answer


def _machine(self: Any) -> Any:
    return machines._resolve(self.stepfunction_backend, self._get_param("stateMachineArn"))[0]


def publish_state_machine_version(self: Any) -> Any:
    """Answer PublishStateMachineVersion."""
    machine = _machine(self)
    wanted = self._get_param("revisionId")
    if wanted and wanted != machines.revision_id(machine):
        raise api_error("ConflictException", "The revision ID does not match the current one.")
    machine.publish(self._get_param("description"))
    version = machine.latest_version
    return ActionResult({"creationDate": version.creation_date, "stateMachineVersionArn": version.arn})


def list_state_machine_versions(self: Any) -> Any:
    """Answer ListStateMachineVersions, newest first."""
    versions = sorted(_machine(self).versions.values(), key=lambda version: -version.version)
    page, token = _page(self, versions, lambda version: str(version.arn))
    listed = [{"stateMachineVersionArn": v.arn, "creationDate": v.creation_date} for v in page]
    return ActionResult({"stateMachineVersions": listed, **token})


def delete_state_machine_version(self: Any) -> Any:
    """Answer DeleteStateMachineVersion; a version that an alias leads to is refused."""
    arn = self._get_param("stateMachineVersionArn")
    machine = machines._resolve(self.stepfunction_backend, arn)[0]
    routes = [route for alias in machine.aliases.values() for route in alias.routing_configuration]
    if any(route["stateMachineVersionArn"] == arn for route in routes):
        raise api_error("ConflictException", f"Version to be deleted must not be referenced by an alias: {arn}")
    del machine.versions[int(arn.rsplit(":", 1)[1])]
    return EmptyResult()


def validate_state_machine_definition(self: Any) -> Any:
    """Answer ValidateStateMachineDefinition."""
    problems = diagnostics(self._get_param("definition"), get_partition(self.region))
    return ActionResult({"result": "FAIL" if problems else "OK", "diagnostics": problems, "truncated": False})
