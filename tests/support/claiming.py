"""The pipeline's first task on the in-memory table: DynamoDB's low-level UpdateItem, with its expressions as texts."""

from __future__ import annotations

import re
from typing import Any

from boto3.dynamodb.conditions import Attr, ConditionBase
from boto3.dynamodb.types import TypeDeserializer, TypeSerializer
from botocore.exceptions import ClientError

from baton.items import ConditionFailed
from baton_steps.run import Run
from tests.support.memory import MemoryItems

_TOKEN = re.compile(r"\s*(attribute_exists|attribute_not_exists|AND|OR|[()=]|:?\w+)")
_plain, _typed = TypeDeserializer().deserialize, TypeSerializer().serialize


class MemoryDynamo:
    """A low-level client over the in-memory table, as far as a claim needs one."""

    def __init__(self, items: MemoryItems) -> None:
        self._items = items

    def update_item(
        self,
        TableName: str,
        Key: dict[str, Any],
        UpdateExpression: str,
        ConditionExpression: str,
        ExpressionAttributeValues: dict[str, Any],
        ReturnValuesOnConditionCheckFailure: str,
    ) -> None:
        given = {name: _plain(value) for name, value in ExpressionAttributeValues.items()}
        name, value = re.fullmatch(r"SET (\w+) = (:\w+)", UpdateExpression).groups()  # type: ignore[union-attr]
        key = {name: _plain(value) for name, value in Key.items()}
        condition = _Condition(ConditionExpression, given).read()
        try:
            self._items.update(key["kind"], key["name"], {name: given[value]}, only_if=condition)
        except ConditionFailed as failed:
            assert ReturnValuesOnConditionCheckFailure == "ALL_OLD"
            old = {name: _typed(value) for name, value in failed.item.items()}
            refused: Any = {"Error": {"Code": "ConditionalCheckFailedException", "Message": ""}, "Item": old}
            raise ClientError(refused, "UpdateItem") from None


class _Condition:
    """Reads a condition expression: AND binds closer than OR, as DynamoDB has it."""

    def __init__(self, text: str, values: dict[str, Any]) -> None:
        self._tokens = _TOKEN.findall(text)
        assert "".join(self._tokens) == re.sub(r"\s", "", text), "the expression has what is not read here"
        self._values = values

    def read(self) -> ConditionBase:
        condition = self._either()
        assert not self._tokens
        return condition

    def _either(self) -> ConditionBase:
        condition = self._all()
        while self._take("OR"):
            condition = condition | self._all()
        return condition

    def _all(self) -> ConditionBase:
        condition = self._one()
        while self._take("AND"):
            condition = condition & self._one()
        return condition

    def _one(self) -> ConditionBase:
        if self._take("("):
            condition = self._either()
            assert self._take(")")
            return condition
        word = self._tokens.pop(0)
        if word.startswith("attribute_"):
            _, name, _ = (self._tokens.pop(0) for _ in range(3))
            return Attr(name).exists() if word == "attribute_exists" else Attr(name).not_exists()
        assert self._take("=")
        return Attr(word).eq(self._values[self._tokens.pop(0)])

    def _take(self, token: str) -> bool:
        if self._tokens and self._tokens[0] == token:
            self._tokens.pop(0)
            return True
        return False


class ClaimingRun(Run):
    """A run whose table is in memory."""

    @classmethod
    def of_parameters(cls, parameters: dict[str, Any], items: MemoryItems) -> ClaimingRun:
        """Make the run of a pipeline run's runtime parameters."""
        names = ("run_id", "execution_arn", "pipeline", "expires_at", "region", "table", "role_arn", "training_image")
        run = cls(**{name: parameters[name] for name in names})
        object.__setattr__(run, "dynamo", MemoryDynamo(items))
        return run

    def client(self, service: str) -> Any:
        assert service == "dynamodb"
        return self.dynamo  # type: ignore[attr-defined]
