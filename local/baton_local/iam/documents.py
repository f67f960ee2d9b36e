"""Policy documents, parsed once: statements with their elements as tuples, ready to be matched."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

CURRENT_VERSION = "2012-10-17"
"""The only version whose documents may hold policy variables such as ``${aws:username}``."""

Conditions = tuple[tuple[str, str, tuple[str, ...]], ...]
"""Condition blocks, flattened: (operator, key, values)."""


@dataclass(frozen=True)
class Principals:
    """A ``Principal`` or ``NotPrincipal`` element: the values by kind (``AWS``, ``Service``, ``Federated``; ``*``)."""

    by_kind: tuple[tuple[str, tuple[str, ...]], ...]
    negated: bool = False

    @classmethod
    def of(cls, element: Any, negated: bool = False) -> Principals:
        """Read the element; ``"*"`` is everyone, as is ``{"AWS": "*"}``."""
        kinds = {"AWS": ("*",)} if element == "*" else {kind: strings(v) for kind, v in dict(element).items()}
        return cls(tuple(kinds.items()), negated)

    def values(self, kind: str) -> tuple[str, ...]:
        """Return the values of one kind."""
        return dict(self.by_kind).get(kind, ())


@dataclass(frozen=True)
class Statement:
    """One statement; an element that the document leaves out is None, an empty one cannot match."""

    sid: str
    effect: str
    actions: tuple[str, ...] | None
    not_actions: tuple[str, ...] | None
    resources: tuple[str, ...] | None
    not_resources: tuple[str, ...] | None
    principals: Principals | None
    conditions: Conditions
    variables: bool = True

    @property
    def denies(self) -> bool:
        """Whether the statement's effect is Deny."""
        return self.effect == "Deny"


@dataclass(frozen=True)
class Policy:
    """A parsed document with the name that it has in messages and in the decision log."""

    name: str
    statements: tuple[Statement, ...]
    text: str = field(default="", compare=False)


def strings(value: Any) -> tuple[str, ...]:
    """Return the values of an element that may be one string or a list of them."""
    values = value if isinstance(value, list | tuple) else [value]
    return tuple(_text(v) for v in values)


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _optional(statement: Mapping[str, Any], element: str) -> tuple[str, ...] | None:
    return strings(statement[element]) if element in statement else None


def _conditions(block: Mapping[str, Mapping[str, Any]]) -> Conditions:
    return tuple((operator, key, strings(v)) for operator, keys in block.items() for key, v in keys.items())


def _principals(statement: Mapping[str, Any]) -> Principals | None:
    if "NotPrincipal" in statement:
        return Principals.of(statement["NotPrincipal"], negated=True)
    return Principals.of(statement["Principal"]) if "Principal" in statement else None


def _statement(raw: Mapping[str, Any], version: str) -> Statement:
    return Statement(
        sid=str(raw.get("Sid", "")),
        effect=str(raw["Effect"]),
        actions=_optional(raw, "Action"),
        not_actions=_optional(raw, "NotAction"),
        resources=_optional(raw, "Resource"),
        not_resources=_optional(raw, "NotResource"),
        principals=_principals(raw),
        conditions=_conditions(raw.get("Condition", {})),
        variables=version == CURRENT_VERSION,
    )


@lru_cache(maxsize=2048)
def _parse(name: str, text: str) -> Policy:
    document = json.loads(text)
    raw = document.get("Statement", [])
    version = str(document.get("Version", "2008-10-17"))
    statements = [raw] if isinstance(raw, dict) else raw
    return Policy(name, tuple(_statement(s, version) for s in statements), text)


def parse(name: str, document: str | Mapping[str, Any]) -> Policy:
    """Parse a document, given as JSON text or as an object; raise ValueError if it is neither."""
    text = document if isinstance(document, str) else json.dumps(document)
    return _parse(name, text)


@lru_cache(maxsize=8192)
def _pattern(glob: str, ignore_case: bool) -> re.Pattern[str]:
    parts = [".*" if c == "*" else "." if c == "?" else re.escape(c) for c in glob]
    return re.compile("".join(parts), re.DOTALL | (re.IGNORECASE if ignore_case else 0))


def glob_match(glob: str, value: str, ignore_case: bool = False) -> bool:
    """Match IAM's wildcards: ``*`` is any number of characters, ``?`` one, everything else stands for itself."""
    return _pattern(glob, ignore_case).fullmatch(value) is not None


def any_glob(globs: Iterable[str], value: str, ignore_case: bool = False) -> bool:
    """Return whether one of the wildcard patterns matches."""
    return any(glob_match(g, value, ignore_case) for g in globs)
