"""Reads the payloads with which the functions are invoked; a wrong one is refused with one sentence.

The state machines send them as docs/architecture.md has it. A person who invokes a function by hand may not.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any, TypeVar

from baton.errors import InvalidInput

Kind = TypeVar("Kind")

_KINDS: Mapping[type, str] = {object: "there", dict: "an object", list: "a list", str: "a text", int: "a whole number"}
_PLAN: Mapping[str, type] = {
    **dict.fromkeys(("run_id", "execution_arn", "pipeline", "deadline", "role_arn"), str),
    **dict.fromkeys(("created_at", "deadline_at", "heartbeat_seconds"), int),
    **dict.fromkeys(("dataset", "parameters", "smoke_test", "after", "stages"), dict),
    **dict.fromkeys(("names", "uris", "images", "tags"), dict),
    "kms_key_arn": object,
}


def field(content: Any, name: str, kind: type[Kind], where: str = "payload") -> Kind:
    """Return a field of a JSON object; raise InvalidInput where it is missing or of another kind."""
    if not isinstance(content, Mapping):
        raise InvalidInput(f"The {where} must be an object with {name!r}, not {shown(content)}.")
    if name not in content:
        raise InvalidInput(f"The {where} has no {name!r}, which must be {_KINDS[kind]}.")
    value = content[name]
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise InvalidInput(f"{name!r} of the {where} must be {_KINDS[kind]}, not {shown(value)}.")
    return value


def plan_of(event: Any) -> dict[str, Any]:
    """Return the plan of ``{"plan"}``, with all fields that Plan run makes; raise InvalidInput for any other."""
    plan = field(event, "plan", dict)
    for name, kind in _PLAN.items():
        field(plan, name, kind, "plan")
    return plan


def execution_of(event: Any) -> dict[str, Any]:
    """Return ``{"id", "start_time"}`` and whatever else there is of ``{"execution"}``; raise InvalidInput.

    They are as the state machine's context object has them: an ARN, and a time in ISO 8601.
    """
    execution = field(event, "execution", dict)
    field(execution, "id", str, "execution")
    moment(execution, "start_time", "execution")
    return execution


def moment(content: Any, name: str, where: str = "payload") -> str:
    """Return a field that is a time in ISO 8601; raise InvalidInput where it is none."""
    text = field(content, name, str, where)
    try:
        datetime.fromisoformat(text)
    except ValueError:
        raise InvalidInput(f"{name!r} of the {where} must be a time in ISO 8601, not {shown(text)}.") from None
    return text


def shown(value: Any) -> str:
    """Return a value of a JSON document as a sentence may show it, cut to 80 characters."""
    text = repr(value) if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=repr)
    text = in_one_line(text)
    return text if len(text) <= 80 else text[:77] + "..."


def in_one_line(text: str) -> str:
    """Return a text with escapes for line ends, other controls and halves of surrogate pairs."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
