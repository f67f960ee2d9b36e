"""Plays one or some states of a state machine with moto's interpreter, the one of the embedded cloud."""

from __future__ import annotations

import json
from typing import Any

from moto.stepfunctions.parser.api import StateMachineType
from moto.stepfunctions.parser.asl.eval.environment import Environment
from moto.stepfunctions.parser.asl.eval.evaluation_details import AWSExecutionDetails
from moto.stepfunctions.parser.asl.eval.event.event_manager import EventHistoryContext
from moto.stepfunctions.parser.asl.eval.program_state import ProgramEnded

from baton_local.stepfunctions.definitions import program_of

EXECUTION = {
    "Id": "arn:aws:states:eu-west-1:123456789012:execution:baton-training-run:one",
    "Name": "one",
    "StartTime": "2026-11-23T22:00:00.000Z",
}


def chosen(choice: dict[str, Any], value: Any, redrive_count: int = 0) -> str:
    """Return the name of the state to which a Choice state leads with an input, in a redrive of its execution."""
    following = {case["Next"] for case in choice["Choices"]} | {choice["Default"]}
    ends = {name: {"Type": "Pass", "Result": name, "End": True} for name in following}
    return str(_output({"Choose": choice, **ends}, value, redrive_count))


def parameters(state: dict[str, Any], value: Any, redrive_count: int = 0) -> dict[str, Any]:
    """Return what a Task state hands to its function with an input, in a redrive of its execution."""
    handed: dict[str, Any] = _output(
        {"Hand": {"Type": "Pass", "Parameters": state["Parameters"], "End": True}}, value, redrive_count
    )
    return handed


def ended(machine: dict[str, Any], start: str, end: str, value: Any) -> Any:
    """Return what comes into one state of a machine where another is entered with an input; no Task is between them."""
    between = {name: state for name, state in machine.items() if state["Type"] in ("Pass", "Choice", "Fail", "Succeed")}
    first = between.pop(start)
    return _output({start: first, **between, end: {"Type": "Pass", "End": True}}, value, redrive_count=0)


def _output(states: dict[str, Any], value: Any, redrive_count: int) -> Any:
    execution = {**EXECUTION, "Input": value, "RedriveCount": redrive_count}
    context: Any = {"Execution": execution, "StateMachine": {"Id": "machine", "Name": "machine"}}
    environment = Environment(
        aws_execution_details=AWSExecutionDetails("123456789012", "eu-west-1", "role"),
        execution_type=StateMachineType.STANDARD,
        context=context,
        event_history_context=EventHistoryContext.of_program_start(),
        cloud_watch_logging_session=None,
        activity_store={},
    )
    program_of(json.dumps({"StartAt": next(iter(states)), "States": states})).eval(environment)
    assert isinstance(environment.program_state(), ProgramEnded), environment.program_state()
    return environment.states.get_input()
