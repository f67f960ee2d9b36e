"""Reads a TOML table field by field, and notes everything that is wrong instead of stopping at the first."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

Kind = TypeVar("Kind")
_MISSING: Any = object()


class Table:
    """One table of a TOML file; ``problems`` is shared with its parent and holds sentences."""

    def __init__(self, content: Mapping[str, Any], path: str, problems: list[str]) -> None:
        self._content = content
        self._path = path
        self._problems = problems
        self._asked: set[str] = set()

    @property
    def fields(self) -> list[str]:
        """The names of the table's fields, in the file's order."""
        return list(self._content)

    def problem(self, key: str, what: str) -> None:
        """Note that something is wrong with a field."""
        where = ".".join(part for part in (self._path, key) if part) or "The file"
        self._problems.append(f"{where} {what}.")

    def finish(self) -> None:
        """Note every field that nobody asked for."""
        for key in self._content:
            if key not in self._asked:
                self.problem(key, "is not a known field")

    def table(self, key: str) -> Table:
        """Return a table of this table."""
        path = f"{self._path}.{key}" if self._path else key
        return Table(self._field(key, dict, {}), path, self._problems)

    def text(self, key: str, default: str = _MISSING) -> str:
        """Return a text."""
        value: str = self._field(key, str, "", default)
        return value

    def matching(self, key: str, pattern: str) -> str:
        """Return a text that matches a pattern as a whole."""
        value = self.text(key)
        if value and not re.fullmatch(pattern, value):
            self.problem(key, f"is {value!r}, and must match {pattern}")
        return value

    def choice(self, key: str, choices: Sequence[str]) -> str:
        """Return one of the given texts."""
        value = self.text(key)
        if value and value not in choices:
            self.problem(key, f"is {value!r}, and must be one of {', '.join(choices)}")
        return value

    def texts(self, key: str, choices: Sequence[str] = ()) -> tuple[str, ...]:
        """Return a list of texts, each one of the choices where there are any."""
        values = self._field(key, list, [])
        wrong = [v for v in values if not isinstance(v, str) or not v or (choices and v not in choices)]
        if wrong:
            self.problem(key, f"has {wrong[0]!r}, and takes {', '.join(choices) or 'texts'}")
        return tuple(v for v in values if v not in wrong)

    def integer(self, key: str, minimum: int, maximum: int | None = None) -> int:
        """Return a whole number within its bounds."""
        value: int = self._field(key, int, minimum)
        if isinstance(value, bool) or value < minimum or (maximum is not None and value > maximum):
            self.problem(
                key, f"is {value!r}, and must be a whole number from {minimum}" + (f" to {maximum}" if maximum else "")
            )
            return minimum
        return value

    def number(self, key: str) -> float | None:
        """Return a number, or None where the field is absent."""
        value = self._field(key, object, None, None)
        if value is None or (isinstance(value, int | float) and not isinstance(value, bool)):
            return value
        self.problem(key, f"is {value!r}, and must be a number")
        return None

    def flag(self, key: str, default: bool) -> bool:
        """Return true or false."""
        value: bool = self._field(key, bool, default, default)
        return value

    def scalar(self, key: str) -> bool | int | float | str:
        """Return a text, a number, or true or false."""
        value = self._field(key, object, "")
        if isinstance(value, str | int | float):
            return value
        self.problem(key, f"is {value!r}, and must be a text, a number, or true or false")
        return ""

    def scalars(self, key: str) -> tuple[bool | int | float | str, ...]:
        """Return a list of texts, numbers and truth values; an empty one where the field is absent."""
        values = self._field(key, list, [], [])
        wrong = [value for value in values if not isinstance(value, str | int | float)]
        if wrong:
            self.problem(key, f"has {wrong[0]!r}, and takes texts, numbers, or true and false")
        return tuple(value for value in values if value not in wrong)

    def _field(self, key: str, kind: type[Any], fallback: Any, default: Any = _MISSING) -> Any:
        self._asked.add(key)
        if key not in self._content:
            if default is _MISSING:
                self.problem(key, "is missing")
                return fallback
            return default
        value = self._content[key]
        if isinstance(value, kind):
            return value
        self.problem(key, f"is {value!r}, and must be {_KIND_NAMES[kind]}")
        return fallback


_KIND_NAMES: Mapping[type, str] = {
    str: "a text",
    int: "a whole number",
    bool: "true or false",
    list: "a list",
    dict: "a table",
}
