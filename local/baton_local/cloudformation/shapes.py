"""From a resource's properties to the arguments of an API call, by botocore's model of the call.

CloudFormation takes ``"300"`` for a number and ``"true"`` for a boolean, and objects where an API wants JSON text. What
the API does not have is an error that names it, never left out in silence.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


class UnsupportedProperty(ValueError):
    """A property that the resource type does not have, or that the embedded cloud cannot give it."""

    def __init__(self, path: str) -> None:
        super().__init__(f"Encountered unsupported property {path}")
        self.path = path


class PropertyError(ValueError):
    """A property's value is of the wrong kind."""


def fit(client: Any, operation: str, properties: Mapping[str, Any], **extra: Any) -> dict[str, Any]:
    """Return the arguments for an operation of a boto3 client: the properties under the API's names and types.

    ``extra`` is added as it is. Names differ at most in the case of their first letter.
    """
    model = client.meta.service_model.operation_model(operation)
    return {**_structure(model.input_shape, properties, ""), **extra}


def fit_member(client: Any, operation: str, member: str, value: Any) -> Any:
    """Return a value in the form that one (top-level) member of an operation's input has."""
    shape = client.meta.service_model.operation_model(operation).input_shape.members[member]
    return _value(shape, value, member)


def _structure(shape: Any, value: Any, path: str) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise PropertyError(f"Value of property {path or '/'} must be an object")
    names = {name[:1].lower() + name[1:]: name for name in shape.members}
    fitted = {}
    for key, item in value.items():
        name = names.get(key[:1].lower() + key[1:])
        where = f"{path}/{key}" if path else key
        if name is None:
            raise UnsupportedProperty(where)
        fitted[name] = _value(shape.members[name], item, where)
    return fitted


def _value(shape: Any, value: Any, path: str) -> Any:
    kind = shape.type_name
    if kind == "structure":
        return _structure(shape, value, path)
    if kind == "list":
        items = value if isinstance(value, list) else [value]
        return [_value(shape.member, item, f"{path}/{index}") for index, item in enumerate(items)]
    if kind == "map":
        return {str(k): _value(shape.value, v, f"{path}/{k}") for k, v in value.items()}
    return _scalar(kind, value, path)


def _scalar(kind: str, value: Any, path: str) -> Any:
    if kind == "string":
        return text(value)
    if kind in ("integer", "long"):
        return _number(value, path, int)
    if kind in ("float", "double"):
        return _number(value, path, float)
    if kind == "boolean":
        return boolean(value, path)
    return value


def _number(value: Any, path: str, kind: type[int] | type[float]) -> int | float:
    try:
        return kind(str(value)) if not isinstance(value, float) else kind(value)
    except ValueError:
        raise PropertyError(
            f"Value of property {path} must be of type {'Integer' if kind is int else 'Number'}"
        ) from None


def boolean(value: Any, path: str = "") -> bool:
    """Return a boolean that may be written as text."""
    lowered = str(value).lower()
    if lowered not in ("true", "false"):
        raise PropertyError(f"Value of property {path} must be of type Boolean")
    return lowered == "true"


def text(value: Any) -> str:
    """Return a value as text: objects and lists as JSON, booleans in lower case."""
    if isinstance(value, Mapping | list):
        return json.dumps(value)
    return str(value).lower() if isinstance(value, bool) else str(value)


def tag_dict(tags: Any) -> dict[str, str]:
    """Return tags, a list of Key and Value or an object, as a dictionary."""
    if isinstance(tags, Mapping):
        return {str(k): text(v) for k, v in tags.items()}
    return {str(t["Key"]): text(t["Value"]) for t in tags or []}


def tag_list(tags: Mapping[str, str], key: str = "Key", value: str = "Value") -> list[dict[str, str]]:
    """Return tags as a list of pairs under the names that an API has for them."""
    return [{key: k, value: v} for k, v in tags.items()]
