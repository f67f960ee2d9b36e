"""What a rule's target gets of an event: all of it, a part, a constant, or what an input transformer makes of it.

https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-transform-target-input.html
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

_STEP = re.compile(r"\.(?P<name>[^.\[\]]+)|\['(?P<quoted>[^']+)'\]|\[(?P<index>\d+|\*)\]")
_VARIABLE = re.compile(r"<([A-Za-z0-9_.\-]+)>")
_ABSENT: Any = object()


class InvalidInput(ValueError):
    """A target's input cannot be made from an event; the message says why."""


@dataclass(frozen=True)
class RuleName:
    """The rule that an event matched, for the variables that an input template may use."""

    arn: str
    name: str


def target_input(target: Mapping[str, Any], event: Mapping[str, Any], rule: RuleName, ingested_at: float) -> str:
    """Return the text that a target gets of an event; raise InvalidInput if its transformer makes no valid one."""
    if target.get("Input"):
        return str(target["Input"])
    if target.get("InputPath"):
        return _dump(_found_or_none(select(event, target["InputPath"])))
    transformer = target.get("InputTransformer")
    return _transform(transformer, event, rule, ingested_at) if transformer else _dump(event)


def select(document: Any, path: str) -> Any:
    """Return what a JSON path finds: a value, a list for a path with ``[*]``, or a marker that is in no JSON."""
    if not path.startswith("$"):
        raise InvalidInput(f"not a JSON path: {path}")
    found = [document]
    position, many = 1, False
    while position < len(path):
        step = _STEP.match(path, position)
        if step is None:
            raise InvalidInput(f"not a JSON path: {path}")
        many = many or step["index"] == "*"
        found = [inner for value in found for inner in _step(value, step)]
        position = step.end()
    if many:
        return found
    return found[0] if found else _ABSENT


def _step(value: Any, step: re.Match[str]) -> Iterator[Any]:
    name = step["name"] or step["quoted"]
    if name is not None:
        if isinstance(value, Mapping) and name in value:
            yield value[name]
    elif isinstance(value, list):
        yield from value if step["index"] == "*" else value[int(step["index"]) : int(step["index"]) + 1]


def _found_or_none(value: Any) -> Any:
    return None if value is _ABSENT else value


def _transform(transformer: Mapping[str, Any], event: Mapping[str, Any], rule: RuleName, ingested_at: float) -> str:
    template = str(transformer["InputTemplate"])
    values = {name: select(event, path) for name, path in (transformer.get("InputPathsMap") or {}).items()}
    values |= {
        "aws.events.rule-arn": rule.arn,
        "aws.events.rule-name": rule.name,
        "aws.events.event.ingestion-time": iso_time(ingested_at),
        "aws.events.event": {name: value for name, value in event.items() if name != "detail"},
        "aws.events.event.json": event,
    }
    text = _substitute(template, values)
    if template.lstrip()[:1] not in ("{", "[", '"'):
        return text
    try:
        json.loads(text)
    except ValueError as error:
        raise InvalidInput(f"the input template makes no JSON: {error}") from error
    return text


def _substitute(template: str, values: Mapping[str, Any]) -> str:
    is_json = template.lstrip()[:1] in ("{", "[", '"')
    parts: list[str] = []
    end = 0
    for variable in _VARIABLE.finditer(template):
        if variable[1] not in values:
            continue
        parts.append(template[end : variable.start()])
        quoted = not is_json or _inside_quotes(template, variable.start())
        parts.append(_rendered(values[variable[1]], quoted, escape=is_json))
        end = variable.end()
    return "".join([*parts, template[end:]])


def _inside_quotes(template: str, position: int) -> bool:
    return len(re.findall(r'(?<!\\)"', template[:position])) % 2 == 1


def _rendered(value: Any, quoted: bool, escape: bool) -> str:
    """Return a variable's text: bare strings get quotes, a variable without a value is left out."""
    if value is _ABSENT:
        return ""
    if not quoted:
        return _dump(value)
    text = value if isinstance(value, str) else _dump(value)
    return json.dumps(text)[1:-1] if escape else text


def iso_time(seconds: float) -> str:
    """Return epoch seconds as EventBridge writes a time: UTC, to the second."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _dump(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))
