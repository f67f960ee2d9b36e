"""An in-memory table with DynamoDB's conditional semantics, evaluated from boto3's own condition objects."""

from __future__ import annotations

import copy
import operator
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from boto3.dynamodb.conditions import AttributeBase, ConditionBase

from baton.items import ConditionFailed, Item

_COMPARE: Mapping[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def holds(condition: ConditionBase, item: Mapping[str, Any]) -> bool:
    """Evaluate a condition as DynamoDB does: a comparison with what is absent or of another type is false."""
    expression = condition.get_expression()
    kind, values = expression["operator"], expression["values"]
    if kind == "AND":
        return holds(values[0], item) and holds(values[1], item)
    if kind == "OR":
        return holds(values[0], item) or holds(values[1], item)
    if kind == "NOT":
        return not holds(values[0], item)
    assert isinstance(values[0], AttributeBase)
    name = values[0].name
    if kind == "attribute_exists":
        return name in item
    if kind == "attribute_not_exists":
        return name not in item
    return name in item and type(item[name]) is type(values[1]) and _COMPARE[kind](item[name], values[1])


def updated(
    item: Item | None, kind: str, name: str, values: Mapping[str, Any], only_if: ConditionBase | None = None
) -> Item:
    """Return the item that an UpdateItem makes of another (None: there is none); the other is left as it is.

    Raises ConditionFailed with the item that stood there.
    """
    if only_if is not None and not holds(only_if, item or {}):
        raise ConditionFailed(copy.deepcopy(item or {}))
    changed = {"kind": kind, "name": name, **(item or {}), **values}
    return {attribute: value for attribute, value in changed.items() if value is not None}


Around = Callable[[str, Callable[[], Any]], Any]


class MemoryItems:
    """Items in memory; ``around`` is handed every call by name, and decides when it has its effect."""

    def __init__(self, clock: Callable[[], float], around: Around = lambda name, effect: effect()) -> None:
        self.stored: dict[tuple[str, str], Item] = {}
        self._clock = clock
        self._around = around

    def now(self) -> float:
        return self._clock()

    def get(self, kind: str, name: str) -> Item | None:
        return self._around(f"GetItem {kind}", lambda: self._get(kind, name))

    def _get(self, kind: str, name: str) -> Item | None:
        item = self.stored.get((kind, name))
        if item is None or item.get("expires_at", float("inf")) <= self.now():
            return None
        return copy.deepcopy(item)

    def update(self, kind: str, name: str, values: Mapping[str, Any], only_if: ConditionBase | None = None) -> Item:
        return self._around(f"UpdateItem {kind}", lambda: self._update(kind, name, values, only_if))

    def _update(self, kind: str, name: str, values: Mapping[str, Any], only_if: ConditionBase | None) -> Item:
        self.stored[kind, name] = updated(self.stored.get((kind, name)), kind, name, values, only_if)
        return copy.deepcopy(self.stored[kind, name])

    def of_kind(self, kind: str) -> Iterator[Item]:
        names = self._around(f"Query {kind}", lambda: sorted(name for (of, name) in self.stored if of == kind))
        live = (self._get(kind, name) for name in names)
        yield from (item for item in live if item is not None)
