"""Checks a request against botocore's model of SageMaker, as the service itself does before anything else."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator
from typing import Any

from botocore.model import ListShape, MapShape, Shape, StructureShape
from botocore.session import get_session

from baton_local.sagemaker.errors import Refusal, validation

_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "long": (int,),
    "float": (int, float),
    "double": (int, float),
    "boolean": (bool,),
    "timestamp": (int, float),
    "list": (list,),
    "map": (dict,),
    "structure": (dict,),
}


@functools.cache
def _service_model() -> Any:
    return get_session().get_service_model("sagemaker")


def check_input(operation: str, parameters: dict[str, Any]) -> None:
    """Raise ValidationException with every constraint that a request breaks, or SerializationException for a type."""
    shape = _service_model().operation_model(operation).input_shape
    problems = list(_problems(shape, parameters, ""))
    if problems:
        found = "error" if len(problems) == 1 else "errors"
        raise validation(f"{len(problems)} validation {found} detected: {'; '.join(problems)}")


def _problems(shape: Shape, value: Any, path: str) -> Iterator[str]:
    expected = _TYPES.get(shape.type_name)
    if expected and (not isinstance(value, expected) or (isinstance(value, bool) and bool not in expected)):
        raise Refusal("SerializationException", f"{path or 'request'} must be of type {shape.type_name}")
    yield from _CHECKS.get(shape.type_name, _no_problem)(shape, value, path)


def _no_problem(_shape: Any, _value: Any, _path: str) -> Iterator[str]:
    return iter(())


def _structure(shape: StructureShape, value: dict[str, Any], path: str) -> Iterator[str]:
    for name in shape.required_members:
        if value.get(name) is None:
            yield _broken("null", _join(path, name), "Member must not be null")
    for name, member in shape.members.items():
        if value.get(name) is not None:
            yield from _problems(member, value[name], _join(path, name))


def _list(shape: ListShape, value: list[Any], path: str) -> Iterator[str]:
    yield from _size(shape, value, len(value), path)
    for number, item in enumerate(value, 1):
        yield from _problems(shape.member, item, f"{path}.{number}.member")


def _map(shape: MapShape, value: dict[str, Any], path: str) -> Iterator[str]:
    yield from _size(shape, value, len(value), path)
    for key, item in value.items():
        yield from _problems(shape.key, key, f"{path}.key")
        yield from _problems(shape.value, item, f"{path}.{key}.member")


def _string(shape: Any, value: str, path: str) -> Iterator[str]:
    yield from _size(shape, value, len(value), path)
    pattern = shape.metadata.get("pattern")
    if shape.enum and value not in shape.enum:
        yield _broken(f"'{value}'", path, f"Member must satisfy enum value set: [{', '.join(shape.enum)}]")
    if pattern and not _compiled(pattern).fullmatch(value):
        yield _broken(f"'{value}'", path, f"Member must satisfy regular expression pattern: {pattern}")


def _size(shape: Shape, value: Any, length: int, path: str) -> Iterator[str]:
    minimum, maximum = shape.metadata.get("min", 0), shape.metadata.get("max")
    if length < minimum:
        yield _broken(f"'{value}'", path, f"Member must have length greater than or equal to {minimum}")
    if maximum is not None and length > maximum:
        yield _broken(f"'{value}'", path, f"Member must have length less than or equal to {maximum}")


def _number(shape: Shape, value: float, path: str) -> Iterator[str]:
    minimum, maximum = shape.metadata.get("min"), shape.metadata.get("max")
    if minimum is not None and value < minimum:
        yield _broken(f"'{value}'", path, f"Member must have value greater than or equal to {minimum}")
    if maximum is not None and value > maximum:
        yield _broken(f"'{value}'", path, f"Member must have value less than or equal to {maximum}")


_CHECKS: dict[str, Callable[[Any, Any, str], Iterator[str]]] = {
    "structure": _structure,
    "list": _list,
    "map": _map,
    "string": _string,
    "integer": _number,
    "long": _number,
    "float": _number,
    "double": _number,
}


@functools.cache
def _compiled(pattern: str) -> re.Pattern[str]:
    """Compile one of the model's patterns, whose Unicode classes Python does not know."""
    for unicode_class, ours in ((r"\p{L}", r"\w"), (r"\p{N}", r"\d"), (r"\p{Z}", r"\s"), (r"\p{M}", "")):
        pattern = pattern.replace(unicode_class, ours)
    return re.compile(pattern, re.DOTALL)


def _join(path: str, name: str) -> str:
    lower = name[0].lower() + name[1:]
    return f"{path}.{lower}" if path else lower


def _broken(value: str, path: str, constraint: str) -> str:
    return f"Value {value} at '{path}' failed to satisfy constraint: {constraint}"
