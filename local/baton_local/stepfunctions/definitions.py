"""State machine definitions: refused where AWS refuses them, and parsed once."""

from __future__ import annotations

import functools
import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from typing import Any

from moto.stepfunctions.parser.asl.parse.asl_parser import AmazonStateLanguageParser

from baton_local.stepfunctions.errors import api_error

MAXIMUM_BYTES = 1024 * 1024
_SHARED = 64
_lock = threading.Lock()


def check_definition(definition: str, partition: str) -> None:
    """Raise the API's InvalidDefinition if AWS would refuse a definition in this partition."""
    problems = diagnostics(definition, partition)
    if problems:
        text = ", ".join(f"{p['code']}: {p['message']}" for p in problems)
        raise api_error("InvalidDefinition", f"Invalid State Machine Definition: '{text}'")


def diagnostics(definition: str, partition: str) -> list[dict[str, str]]:
    """Return what is wrong with a definition, as ValidateStateMachineDefinition has it."""
    if len(definition.encode()) > MAXIMUM_BYTES:
        return [_problem("DEFINITION_TOO_LARGE", f"more than {MAXIMUM_BYTES} bytes")]
    try:
        machine = json.loads(definition)
    except ValueError as error:
        return [_problem("INVALID_JSON_DESCRIPTION", str(error))]
    if not isinstance(machine, dict):
        return [_problem("INVALID_JSON_DESCRIPTION", "a definition is a JSON object")]
    problems = list(_machine_problems(machine, "", partition))
    return problems or _syntax_problems(definition)


def program_of(definition: str) -> Any:
    """Return the program of a valid definition; executions share it unless it has Map states, which keep state."""
    if '"Map"' in definition:
        return AmazonStateLanguageParser.parse(definition)[0]
    with _lock:
        return _shared_program(hashlib.sha256(definition.encode()).digest(), definition)


@functools.lru_cache(maxsize=_SHARED)
def _shared_program(_digest: bytes, definition: str) -> Any:
    return AmazonStateLanguageParser.parse(definition)[0]


def _syntax_problems(definition: str) -> list[dict[str, str]]:
    try:
        program_of(definition)
    except Exception as error:
        return [_problem("SCHEMA_VALIDATION_FAILED", f"{type(error).__name__}: {error}")]
    return []


def _machine_problems(machine: Mapping[str, Any], path: str, partition: str) -> Iterator[dict[str, str]]:
    states = machine.get("States")
    if not isinstance(states, dict) or not states:
        yield _problem("SCHEMA_VALIDATION_FAILED", "States is missing or empty", f"{path}/States")
        return
    if machine.get("StartAt") not in states:
        yield _dangling(machine.get("StartAt"), f"{path}/StartAt")
    for name, state in states.items():
        here = f"{path}/States/{name}"
        if not isinstance(state, dict):
            yield _problem("SCHEMA_VALIDATION_FAILED", "a state is an object", here)
            continue
        yield from _state_problems(state, states, here, partition)
    yield from _unreachable(machine, states, path)


def _state_problems(
    state: Mapping[str, Any], states: Mapping[str, Any], path: str, partition: str
) -> Iterator[dict[str, str]]:
    for place, target in _targets(state):
        if target not in states:
            yield _dangling(target, f"{path}/{place}")
    ends = state.get("Type") in ("Succeed", "Fail", "Choice")
    if not ends and ("Next" in state) == (state.get("End") is True):
        yield _problem("SCHEMA_VALIDATION_FAILED", "a state has either Next or End", path)
    yield from _resource_problems(state, path, partition)
    inner = [(f"Branches[{number}]", branch) for number, branch in enumerate(state.get("Branches") or [])]
    inner += [(key, state[key]) for key in ("ItemProcessor", "Iterator") if key in state]
    for place, machine in inner:
        yield from _machine_problems(machine, f"{path}/{place}", partition)


def _targets(state: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield each transition of a state: where it stands, and where it leads."""
    for key in ("Next", "Default"):
        if key in state:
            yield key, state[key]
    for key in ("Choices", "Catch"):
        for number, rule in enumerate(state.get(key) or []):
            yield f"{key}[{number}]/Next", rule.get("Next")


def _resource_problems(state: Mapping[str, Any], path: str, partition: str) -> Iterator[dict[str, str]]:
    resource = state.get("Resource")
    if state.get("Type") != "Task":
        return
    parts = str(resource).split(":")
    if len(parts) < 6 or parts[0] != "arn" or parts[1] != partition:
        yield _problem(
            "SCHEMA_VALIDATION_FAILED",
            f"The resource provided {resource} is not recognized. The value is not a valid resource ARN, "
            "or the resource is not available in this region.",
            f"{path}/Resource",
        )


def _unreachable(machine: Mapping[str, Any], states: Mapping[str, Any], path: str) -> Iterator[dict[str, str]]:
    seen: set[str] = set()
    ahead = [machine.get("StartAt")]
    while ahead:
        name = ahead.pop()
        if isinstance(name, str) and name in states and name not in seen:
            seen.add(name)
            ahead += [target for _, target in _targets(states[name])] if isinstance(states[name], dict) else []
    for name in states:
        if name not in seen:
            yield _problem("MISSING_TRANSITION_TARGET", f'State "{name}" is not reachable.', f"{path}/States/{name}")


def _dangling(target: Any, path: str) -> dict[str, str]:
    return _problem("MISSING_TRANSITION_TARGET", f"Missing 'Next' target: {target}", path)


def _problem(code: str, message: str, location: str = "") -> dict[str, str]:
    problem = {"severity": "ERROR", "code": code, "message": f"{message} at {location}" if location else message}
    return {**problem, "location": location} if location else problem
