"""Filters, order and pages of the API's list calls."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import unquote_plus

from baton_local.kfp.errors import InvalidArgument

Row = Mapping[str, Any]

_OPERATIONS = ("", "EQUALS", "NOT_EQUALS", "GREATER_THAN", "", "GREATER_THAN_EQUALS", "LESS_THAN", "LESS_THAN_EQUALS",
               "IN", "IS_SUBSTRING")  # fmt: skip
"""By their numbers in the API's enumeration, which has no 4."""

_TESTS: dict[str, Callable[[Any, Any], bool]] = {
    "EQUALS": lambda have, want: bool(have == want),
    "NOT_EQUALS": lambda have, want: bool(have != want),
    "GREATER_THAN": lambda have, want: bool(have > want),
    "GREATER_THAN_EQUALS": lambda have, want: bool(have >= want),
    "LESS_THAN": lambda have, want: bool(have < want),
    "LESS_THAN_EQUALS": lambda have, want: bool(have <= want),
    "IN": lambda have, want: have in want,
    "IS_SUBSTRING": lambda have, want: str(want) in str(have),
}
_VALUES = ("string_value", "int_value", "long_value", "timestamp_value", "string_values", "int_values", "long_values")
_DEFAULT_PAGE = 20
_LARGEST_PAGE = 200


def page_of(rows: list[Row], query: Mapping[str, str], keys: Mapping[str, str]) -> tuple[list[Row], int, str]:
    """Return one page of the rows that a list call asks for, how many there are in all, and the next page's token.

    ``keys`` maps the names by which the API filters and sorts to the rows' fields. Raises InvalidArgument.
    """
    predicates = _predicates(query.get("filter", ""), keys)
    found = [row for row in rows if all(holds(row) for holds in predicates)]
    field, backwards = _order(query.get("sort_by") or "created_at asc", keys)
    found.sort(key=lambda row: str(row.get(field, "")), reverse=backwards)
    start, size = _start(query.get("page_token", "")), _size(query.get("page_size", ""))
    end = start + size
    return found[start:end], len(found), _token(end) if end < len(found) else ""


def _predicates(text: str, keys: Mapping[str, str]) -> list[Callable[[Row], bool]]:
    # The backend decodes the filter once more after the HTTP layer has, so "+" and "%" in it do not survive.
    decoded = unquote_plus(text)
    if not decoded:
        return []
    try:
        predicates = json.loads(decoded).get("predicates", [])
        return [_predicate({_snake(k): v for k, v in p.items()}, keys) for p in predicates]
    except (ValueError, AttributeError) as error:
        raise InvalidArgument(f"Failed to parse filter {decoded!r}: {error}") from error


def _predicate(predicate: Mapping[str, Any], keys: Mapping[str, str]) -> Callable[[Row], bool]:
    operation = predicate.get("operation", "")
    name = _OPERATIONS[operation] if isinstance(operation, int) and 0 <= operation < len(_OPERATIONS) else operation
    field = keys.get(str(predicate.get("key")))
    values = [predicate[v] for v in _VALUES if v in predicate]
    if name not in _TESTS or field is None or len(values) != 1:
        raise InvalidArgument(f"Invalid predicate: {json.dumps(dict(predicate))}")
    want = values[0]["values"] if isinstance(values[0], dict) else values[0]
    return lambda row: _TESTS[name](row.get(field, ""), want)


def _snake(name: str) -> str:
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in name)


def _order(text: str, keys: Mapping[str, str]) -> tuple[str, bool]:
    name, _, direction = text.strip().partition(" ")
    if name not in keys or direction not in ("", "asc", "desc"):
        raise InvalidArgument(f"Invalid sort_by: {text!r}")
    return keys[name], direction == "desc"


def _size(text: str) -> int:
    try:
        size = int(text or 0)
    except ValueError as error:
        raise InvalidArgument(f"Invalid page_size: {text!r}") from error
    if size < 0:
        raise InvalidArgument("The page size should be greater than 0")
    return min(size or _DEFAULT_PAGE, _LARGEST_PAGE)


def _token(position: int) -> str:
    return base64.urlsafe_b64encode(json.dumps({"start": position}).encode()).decode()


def _start(token: str) -> int:
    if not token:
        return 0
    try:
        return int(json.loads(base64.urlsafe_b64decode(token))["start"])
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidArgument("Invalid page token") from error
