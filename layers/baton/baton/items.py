"""The one DynamoDB table, seen as items with conditional updates.

Everything that Baton must remember is an item with the key (``kind``, ``name``). All writes are single conditional
updates that answer with the whole new item, so no decision ever rests on an earlier read. Conditions are boto3's own
condition objects, which the tests' in-memory table evaluates with DynamoDB's semantics.

An item whose ``expires_at`` (epoch seconds) has passed counts as absent, because DynamoDB deletes it only days later:
https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/ttl-expired-items.html
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from typing import Any, Protocol

from boto3.dynamodb.conditions import Attr, ConditionBase, Key
from botocore.exceptions import ClientError

from baton.clients import table

Item = dict[str, Any]


class ConditionFailed(Exception):
    """A conditional update did not hold; ``item`` is what stood there instead ({} when nothing did)."""

    def __init__(self, item: Item) -> None:
        super().__init__("the condition did not hold")
        self.item = item


class Items(Protocol):
    """What the domain needs of a table."""

    def get(self, kind: str, name: str) -> Item | None:
        """Return the item as it is now (strongly consistent), or None where there is none or it has expired."""

    def update(self, kind: str, name: str, values: Mapping[str, Any], only_if: ConditionBase | None = None) -> Item:
        """Set the values (None removes one) if the condition holds; return the whole new item.

        Raises ConditionFailed with the item that stood there.
        """

    def of_kind(self, kind: str) -> Iterator[Item]:
        """Yield every live item of a kind, in order of name."""

    def now(self) -> float:
        """Return the time in epoch seconds."""


class DynamoItems:
    """Items in a DynamoDB table with the key (kind, name)."""

    def __init__(self, table: Any, clock: Callable[[], float] = time.time) -> None:
        self._table = table
        self._clock = clock

    @classmethod
    def named(cls, table_name: str) -> DynamoItems:
        """Return the items of a table in this process's region."""
        return cls(table(table_name))

    def now(self) -> float:
        """Return the time in epoch seconds."""
        return self._clock()

    def get(self, kind: str, name: str) -> Item | None:
        """Return the item, or None where there is none or it has expired."""
        answer = self._table.get_item(Key={"kind": kind, "name": name}, ConsistentRead=True)
        item = _plain(answer.get("Item"))
        return item if item and not self._expired(item) else None

    def update(self, kind: str, name: str, values: Mapping[str, Any], only_if: ConditionBase | None = None) -> Item:
        """Set the values if the condition holds; return the whole new item or raise ConditionFailed."""
        request: dict[str, Any] = {
            "Key": {"kind": kind, "name": name},
            "ReturnValues": "ALL_NEW",
            **_update_expression(values),
        }
        if only_if is not None:
            request["ConditionExpression"] = only_if
            request["ReturnValuesOnConditionCheckFailure"] = "ALL_OLD"
        try:
            answer = self._table.update_item(**request)
        except ClientError as error:
            if error.response["Error"]["Code"] == "ConditionalCheckFailedException":
                raise ConditionFailed(_old_item(error)) from None
            raise
        return _plain(answer["Attributes"]) or {}

    def of_kind(self, kind: str) -> Iterator[Item]:
        """Yield every live item of a kind, in order of name."""
        request: dict[str, Any] = {"KeyConditionExpression": Key("kind").eq(kind), "ConsistentRead": True}
        while True:
            page = self._table.query(**request)
            for raw in page["Items"]:
                item = _plain(raw) or {}
                if not self._expired(item):
                    yield item
            if "LastEvaluatedKey" not in page:
                return
            request["ExclusiveStartKey"] = page["LastEvaluatedKey"]

    def _expired(self, item: Item) -> bool:
        return bool(item.get("expires_at")) and item["expires_at"] <= self._clock()


def absent(*names: str) -> ConditionBase:
    """Return the condition that none of these attributes exists."""
    condition: ConditionBase = Attr(names[0]).not_exists()
    for name in names[1:]:
        condition = condition & Attr(name).not_exists()
    return condition


def _update_expression(values: Mapping[str, Any]) -> dict[str, Any]:
    names = {f"#{i}": name for i, name in enumerate(values)}
    sets = {f"#{i}": f":{i}" for i, name in enumerate(values) if values[name] is not None}
    removes = [f"#{i}" for i, name in enumerate(values) if values[name] is None]
    parts = []
    if sets:
        parts.append("SET " + ", ".join(f"{k} = {v}" for k, v in sets.items()))
    if removes:
        parts.append("REMOVE " + ", ".join(removes))
    request: dict[str, Any] = {"UpdateExpression": " ".join(parts), "ExpressionAttributeNames": names}
    if sets:
        request["ExpressionAttributeValues"] = {f":{i}": v for i, v in enumerate(values.values()) if v is not None}
    return request


def _old_item(error: ClientError) -> Item:
    # With the resource interface the error carries the item in DynamoDB's own typed form.
    from boto3.dynamodb.types import TypeDeserializer

    response: dict[str, Any] = {**error.response}
    raw: dict[str, Any] = response.get("Item") or {}
    deserialize: Any = TypeDeserializer().deserialize
    typed = {k: deserialize(v) if isinstance(v, dict) and len(v) == 1 else v for k, v in raw.items()}
    return _plain(typed) or {}


def _plain(value: Any) -> Any:
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_plain(v) for v in value]
    return value
