"""EventBridge event patterns: whether one is valid, and whether it matches an event.

The rules are those of AWS (https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-event-patterns.html) and, where
its pages are silent, of Ruler, the library that EventBridge itself uses (https://github.com/aws/event-ruler).
"""

from __future__ import annotations

import ipaddress
import itertools
import json
import operator
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

MAXIMUM_PATTERN_CHARACTERS = 2048
_NUMERIC_BOUND = 5.0e9
_MISSING: Any = object()
_COMPARE: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    "=": operator.eq,
    ">": operator.gt,
    ">=": operator.ge,
}


class InvalidPattern(ValueError):
    """EventBridge would refuse this pattern; the message says why."""


def parse_pattern(text: str) -> dict[str, Any]:
    """Return a pattern from its JSON text; raise InvalidPattern if EventBridge would refuse it."""
    if len(text) > MAXIMUM_PATTERN_CHARACTERS:
        raise InvalidPattern(f"Event pattern is longer than {MAXIMUM_PATTERN_CHARACTERS} characters")
    try:
        pattern = json.loads(text)
    except ValueError as error:
        raise InvalidPattern(f"Event pattern is not JSON: {error}") from error
    validate_pattern(pattern)
    return pattern  # type: ignore[no-any-return]


def validate_pattern(pattern: Any) -> None:
    """Raise InvalidPattern if EventBridge would refuse this pattern."""
    if not isinstance(pattern, dict):
        raise InvalidPattern("Event pattern must be a JSON object")
    _validate_object(pattern, "")


def matches(pattern: Mapping[str, Any], event: Mapping[str, Any]) -> bool:
    """Return whether a valid pattern matches an event."""
    return _object_matches(pattern, event)


# --- validation -------------------------------------------------------------------------------------------------------


def _validate_object(pattern: Mapping[str, Any], path: str) -> None:
    if not pattern:
        raise InvalidPattern("Empty objects are not allowed" + _at(path))
    for name, value in pattern.items():
        here = f"{path}.{name}" if path else name
        if name == "$or":
            _validate_or(value, path)
        elif isinstance(value, dict):
            _validate_object(value, here)
        elif isinstance(value, list):
            _validate_leaf(value, here)
        else:
            raise InvalidPattern(f'"{name}" must be an object or an array' + _at(here))


def _validate_or(value: Any, path: str) -> None:
    if not isinstance(value, list) or len(value) < 2 or not all(isinstance(v, dict) for v in value):
        raise InvalidPattern('"$or" must be an array of two objects or more' + _at(path))
    for alternative in value:
        _validate_object(alternative, path)


def _validate_leaf(values: list[Any], path: str) -> None:
    if not values:
        raise InvalidPattern("Empty arrays are not allowed" + _at(path))
    for value in values:
        if isinstance(value, dict):
            _validate_operator(value, path)
        elif isinstance(value, list):
            raise InvalidPattern("Match value must be String, number, true, false, or null" + _at(path))


def _validate_operator(match: Mapping[str, Any], path: str) -> None:
    if len(match) != 1:
        raise InvalidPattern("Only one key allowed in match expression" + _at(path))
    name, operand = next(iter(match.items()))
    check = _OPERAND_CHECKS.get(name)
    if check is None:
        raise InvalidPattern(f"Unrecognized match type {name}" + _at(path))
    problem = check(operand)
    if problem:
        raise InvalidPattern(f"{name}: {problem}" + _at(path))


def _check_text(operand: Any) -> str:
    return "" if isinstance(operand, str) else "match pattern must be a string"


def _check_affix(operand: Any) -> str:
    if isinstance(operand, dict):
        right = set(operand) == {"equals-ignore-case"} and isinstance(operand["equals-ignore-case"], str)
        return "" if right else "only equals-ignore-case with a string is allowed inside"
    return _check_text(operand)


def _check_wildcard(operand: Any) -> str:
    if not isinstance(operand, str):
        return "match pattern must be a string"
    tokens = list(_wildcard_tokens(operand))
    if (None, None) in itertools.pairwise(tokens):
        return "consecutive wildcard characters are not allowed"
    return ""


def _check_exists(operand: Any) -> str:
    return "" if isinstance(operand, bool) else "match pattern must be either true or false"


def _check_cidr(operand: Any) -> str:
    try:
        ipaddress.ip_network(operand, strict=False)
    except (ValueError, TypeError):
        return "malformed CIDR"
    return ""


def _check_numeric(operand: Any) -> str:
    if not isinstance(operand, list) or len(operand) not in (2, 4):
        return "must be an array of one or two comparisons"
    comparisons = _comparisons(operand)
    if not all(isinstance(sign, str) and sign in _COMPARE for sign, _ in comparisons):
        return "unrecognized comparison"
    if not all(_is_number(bound) and abs(bound) <= _NUMERIC_BOUND for _, bound in comparisons):
        return f"bounds must be numbers between -{_NUMERIC_BOUND:g} and {_NUMERIC_BOUND:g}"
    return _check_range(comparisons) if len(comparisons) == 2 else ""


def _check_range(comparisons: list[tuple[str, float]]) -> str:
    (low_sign, low), (high_sign, high) = comparisons
    if low_sign not in (">", ">=") or high_sign not in ("<", "<="):
        return "a range is a lower bound and then an upper one"
    return "" if low < high else "bottom must be less than top"


def _check_anything_but(operand: Any) -> str:
    if isinstance(operand, dict):
        if len(operand) != 1 or next(iter(operand)) not in _ANYTHING_BUT_INNER:
            return f"only one of {', '.join(_ANYTHING_BUT_INNER)} is allowed inside"
        name, inner = next(iter(operand.items()))
        texts = inner if isinstance(inner, list) else [inner]
        checks = [_OPERAND_CHECKS[name](text) for text in texts] or ["must not be empty"]
        return next((problem for problem in checks if problem), "")
    values = operand if isinstance(operand, list) else [operand]
    if not values:
        return "must not be empty"
    kinds = {str if isinstance(v, str) else float for v in values if isinstance(v, str) or _is_number(v)}
    right = all(isinstance(v, str) or _is_number(v) for v in values) and len(kinds) == 1
    return "" if right else "must be strings only or numbers only"


_ANYTHING_BUT_INNER = ("prefix", "suffix", "equals-ignore-case", "wildcard")
_OPERAND_CHECKS: dict[str, Callable[[Any], str]] = {
    "prefix": _check_affix,
    "suffix": _check_affix,
    "equals-ignore-case": _check_text,
    "wildcard": _check_wildcard,
    "anything-but": _check_anything_but,
    "numeric": _check_numeric,
    "exists": _check_exists,
    "cidr": _check_cidr,
}


def _at(path: str) -> str:
    return f" at {path}" if path else ""


# --- matching ---------------------------------------------------------------------------------------------------------


def _object_matches(pattern: Mapping[str, Any], value: Any) -> bool:
    """Match a pattern object; of an array of objects one element has to match all of it."""
    if isinstance(value, list) and value:
        return any(_object_matches(pattern, element) for element in value)
    fields = value if isinstance(value, Mapping) else {}
    return all(_field_matches(name, expected, fields) for name, expected in pattern.items())


def _field_matches(name: str, expected: Any, fields: Mapping[str, Any]) -> bool:
    if name == "$or":
        return any(_object_matches(alternative, fields) for alternative in expected)
    value = fields.get(name, _MISSING)
    if isinstance(expected, Mapping):
        return _object_matches(expected, value)
    leaves = list(_leaves(value))
    return any(_choice_matches(choice, leaves) for choice in expected)


def _leaves(value: Any) -> Iterator[Any]:
    """Yield the scalars of a field; an absent field, an object and an empty array have none."""
    if isinstance(value, list):
        for element in value:
            yield from _leaves(element)
    elif value is not _MISSING and not isinstance(value, Mapping):
        yield value


def _choice_matches(choice: Any, leaves: list[Any]) -> bool:
    if isinstance(choice, Mapping):
        name, operand = next(iter(choice.items()))
        if name == "exists":
            return bool(leaves) is operand
        return any(_MATCHERS[name](operand, leaf) for leaf in leaves)
    return any(_same(choice, leaf) for leaf in leaves)


def _same(expected: Any, value: Any) -> bool:
    # EventBridge compares numbers by their text, so 300 and 300.0 differ.
    return type(expected) is type(value) and expected == value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _affix_matches(test: Callable[[str, str], bool]) -> Callable[[Any, Any], bool]:
    def matcher(operand: Any, value: Any) -> bool:
        if not isinstance(value, str):
            return False
        if isinstance(operand, Mapping):
            return test(value.casefold(), operand["equals-ignore-case"].casefold())
        return test(value, str(operand))

    return matcher


def _ignoring_case_matches(operand: str, value: Any) -> bool:
    return isinstance(value, str) and value.casefold() == operand.casefold()


def _wildcard_tokens(text: str) -> Iterator[str | None]:
    """Yield each character of a wildcard pattern, None for a ``*`` that is no character."""
    characters = iter(text)
    for character in characters:
        if character == "\\":
            yield next(characters, "\\")
        else:
            yield None if character == "*" else character


def _wildcard_matches(operand: str, value: Any) -> bool:
    expression = "".join(".*" if token is None else re.escape(token) for token in _wildcard_tokens(operand))
    return isinstance(value, str) and re.fullmatch(expression, value, re.DOTALL) is not None


def _comparisons(operand: list[Any]) -> list[tuple[str, float]]:
    return list(zip(operand[::2], operand[1::2], strict=True))


def _numeric_matches(operand: list[Any], value: Any) -> bool:
    return _is_number(value) and all(_COMPARE[sign](value, bound) for sign, bound in _comparisons(operand))


def _cidr_matches(operand: str, value: Any) -> bool:
    try:
        return bool(ipaddress.ip_address(value) in ipaddress.ip_network(operand, strict=False))
    except ValueError:
        return False


def _anything_but_matches(operand: Any, value: Any) -> bool:
    if isinstance(operand, Mapping):
        name, inner = next(iter(operand.items()))
        texts = inner if isinstance(inner, list) else [inner]
        return not any(_MATCHERS[name](text, value) for text in texts)
    return not any(_same(v, value) for v in (operand if isinstance(operand, list) else [operand]))


_MATCHERS: dict[str, Callable[[Any, Any], bool]] = {
    "prefix": _affix_matches(str.startswith),
    "suffix": _affix_matches(str.endswith),
    "equals-ignore-case": _ignoring_case_matches,
    "wildcard": _wildcard_matches,
    "anything-but": _anything_but_matches,
    "numeric": _numeric_matches,
    "cidr": _cidr_matches,
}
