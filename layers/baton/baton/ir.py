"""Reads from a compiled pipeline the one thing that a launch must know: which runtime parameters it declares.

kfp's compiler writes block-style YAML with sorted keys. Reading these few lines by their indentation spares every
function a YAML library; a test compares the reading with PyYAML's on the packaged pipelines.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_KEY = re.compile(r"(?P<indent> *)(?P<key>[A-Za-z_][\w.-]*|'[^']*'|\"[^\"]*\"):(?: (?P<value>.*))?$")
_WHERE = ["root", "inputDefinitions", "parameters"]


@dataclass(frozen=True)
class InputDefinition:
    """A runtime parameter of a compiled pipeline; ``type`` is KFP's: STRING, NUMBER_INTEGER, NUMBER_DOUBLE, …"""

    name: str
    type: str
    required: bool


def root_inputs(ir: str) -> dict[str, InputDefinition]:
    """Return the runtime parameters that a compiled pipeline declares, by name."""
    fields: dict[str, dict[str, str]] = {}
    for path, value in _keys(ir):
        if path[:3] == _WHERE and len(path) >= 4:
            details = fields.setdefault(path[3], {})
            if len(path) == 5:
                details[path[4]] = value
    return {name: _definition(name, details) for name, details in fields.items()}


def _definition(name: str, details: dict[str, str]) -> InputDefinition:
    optional = "defaultValue" in details or details.get("isOptional") == "true"
    return InputDefinition(name, details.get("parameterType", "STRING"), required=not optional)


def _keys(ir: str) -> Iterator[tuple[list[str], str]]:
    """Yield every mapping key with its path, of the first document; kfp indents by two."""
    path: list[str] = []
    indents: list[int] = []
    for line in ir.split("\n---", 1)[0].splitlines():
        match = _KEY.match(line)
        if match is None:
            continue
        indent = len(match["indent"])
        while indents and indents[-1] >= indent:
            indents.pop()
            path.pop()
        indents.append(indent)
        path.append(match["key"].strip("'\""))
        yield list(path), (match["value"] or "").strip("'\"")
