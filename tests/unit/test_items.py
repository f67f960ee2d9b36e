"""The table: it behaves the same on moto's DynamoDB and in the tests' memory, on which the exploration rests."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any
from unittest.mock import Mock

import boto3
import pytest
from boto3.dynamodb.conditions import Attr
from botocore.exceptions import ClientError
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from moto import mock_aws

from baton import clients
from baton.items import ConditionFailed, DynamoItems, Items, absent
from tests.support.memory import MemoryItems, holds

NOW = 1_800_000_000


def dynamo() -> DynamoItems:
    resource = boto3.resource("dynamodb", "eu-west-1", aws_access_key_id="x", aws_secret_access_key="x")
    keys = [{"AttributeName": "kind", "KeyType": "HASH"}, {"AttributeName": "name", "KeyType": "RANGE"}]
    types = [{"AttributeName": key["AttributeName"], "AttributeType": "S"} for key in keys]
    table = resource.create_table(
        TableName="baton", KeySchema=keys, AttributeDefinitions=types, BillingMode="PAY_PER_REQUEST"
    )
    return DynamoItems(table, lambda: NOW)


MAKERS: dict[str, Callable[[], Items]] = {"dynamodb": dynamo, "memory": lambda: MemoryItems(lambda: NOW)}


@pytest.fixture
def resource(monkeypatch: pytest.MonkeyPatch) -> Iterator[Mock]:
    """What makes the resource of a sandbox that was never called."""
    make = Mock()
    monkeypatch.setattr(boto3, "resource", make)
    clients.table.cache_clear()
    yield make
    clients.table.cache_clear()


def test_a_connection_to_the_table_that_hangs_ends_before_the_invocation(resource: Mock) -> None:
    DynamoItems.named("baton")
    config = resource.call_args.kwargs["config"]
    assert (config.connect_timeout, config.read_timeout) == (5, 30)


def test_a_sandbox_makes_its_table_once(resource: Mock) -> None:
    for _ in range(3):
        DynamoItems.named("baton")
    resource.assert_called_once()
    DynamoItems.named("another")
    assert [call.args for call in resource.return_value.Table.call_args_list] == [("baton",), ("another",)]


@pytest.fixture(params=MAKERS)
def items(request: pytest.FixtureRequest) -> Iterator[Items]:
    with mock_aws():
        yield MAKERS[request.param]()


def test_an_update_makes_the_item_and_answers_with_all_of_it(items: Items) -> None:
    assert items.update("run", "a", {"x": 1, "y": "two"}) == {"kind": "run", "name": "a", "x": 1, "y": "two"}
    assert items.update("run", "a", {"x": 3}) == {"kind": "run", "name": "a", "x": 3, "y": "two"}
    assert items.get("run", "a") == {"kind": "run", "name": "a", "x": 3, "y": "two"}


def test_what_is_not_there_is_none(items: Items) -> None:
    assert items.get("run", "a") is None


def test_items_of_one_name_and_different_kinds_are_different(items: Items) -> None:
    items.update("run", "a", {"x": 1})
    assert items.get("training", "a") is None


def test_none_removes_an_attribute(items: Items) -> None:
    items.update("run", "a", {"x": 1, "y": 2})
    assert items.update("run", "a", {"x": None, "z": 3}) == {"kind": "run", "name": "a", "y": 2, "z": 3}
    assert items.update("run", "a", {"y": None}) == {"kind": "run", "name": "a", "z": 3}


def test_numbers_booleans_lists_and_maps_come_back_as_they_were(items: Items) -> None:
    value = {"flag": True, "nothing_here": [], "list": [1, "a", {"deep": 2}], "map": {"n": 3, "s": "x"}}
    assert items.update("run", "a", value) == {"kind": "run", "name": "a", **value}
    stored = items.get("run", "a") or {}
    assert type(stored["map"]["n"]) is int
    assert not isinstance(stored["list"][0], Decimal)


def test_words_that_dynamodb_reserves_are_attributes_like_others(items: Items) -> None:
    items.update("run", "a", {"status": "x", "token": "y", "timestamp": 1, "name-with-dash": 2})
    assert (items.get("run", "a") or {})["name-with-dash"] == 2


def test_a_condition_that_fails_shows_what_stood_there_and_changes_nothing(items: Items) -> None:
    items.update("run", "a", {"x": 1, "map": {"n": 3}, "list": [1]})
    with pytest.raises(ConditionFailed) as failed:
        items.update("run", "a", {"x": 2}, only_if=absent("x"))
    assert failed.value.item == {"kind": "run", "name": "a", "x": 1, "map": {"n": 3}, "list": [1]}
    assert items.get("run", "a") == failed.value.item


def test_a_condition_that_fails_where_nothing_stands_makes_no_item(items: Items) -> None:
    with pytest.raises(ConditionFailed) as failed:
        items.update("run", "a", {"x": 2}, only_if=Attr("x").exists())
    assert failed.value.item == {}
    assert items.get("run", "a") is None


def test_absence_of_several_attributes_is_the_absence_of_each(items: Items) -> None:
    items.update("run", "a", {"x": 1}, only_if=absent("x", "y"))
    with pytest.raises(ConditionFailed):
        items.update("run", "a", {"z": 1}, only_if=absent("y", "x"))


@pytest.mark.parametrize(("expires_at", "is_there"), [(NOW + 1, True), (NOW, False), (NOW - 1, False)])
def test_an_item_that_has_expired_counts_as_absent_though_dynamodb_still_has_it(
    items: Items, expires_at: int, is_there: bool
) -> None:
    items.update("run", "a", {"expires_at": expires_at})
    assert (items.get("run", "a") is not None) is is_there
    assert [item["name"] for item in items.of_kind("run")] == (["a"] if is_there else [])


def test_items_of_a_kind_come_in_order_of_name_over_all_pages(items: Items) -> None:
    # A page of a Query holds one megabyte.
    for number in (3, 1, 2, 5, 4):
        items.update("run", f"run-{number}", {"filling": "x" * 390_000})
    items.update("training", "run-6", {"x": 1})
    assert [item["name"] for item in items.of_kind("run")] == [f"run-{number}" for number in range(1, 6)]


def test_what_a_caller_does_with_an_item_does_not_change_the_table(items: Items) -> None:
    items.update("run", "a", {"map": {"n": 1}})["map"]["n"] = 2
    (items.get("run", "a") or {})["map"]["n"] = 3
    assert (items.get("run", "a") or {})["map"]["n"] == 1


def test_other_errors_of_dynamodb_are_not_swallowed() -> None:
    with mock_aws():
        resource = boto3.resource("dynamodb", "eu-west-1", aws_access_key_id="x", aws_secret_access_key="x")
        items = DynamoItems(resource.Table("missing"), lambda: NOW)
        with pytest.raises(ClientError, match="ResourceNotFoundException"):
            items.update("run", "a", {"x": 1}, only_if=absent("x"))


def test_an_item_knows_the_time() -> None:
    assert DynamoItems(None, lambda: 12.5).now() == 12.5


# moto compares what is of one type only; that DynamoDB calls the rest unequal is written in the table in memory.
VALUES = {"x": st.integers(-2, 2), "y": st.integers(-2, 2), "token_order": st.sampled_from(["a", "b", "0000#1"])}
NAMES = st.sampled_from(sorted(VALUES))
OPERATORS = st.sampled_from(["eq", "lt", "lte", "gt", "gte"])


@st.composite
def comparisons(draw: st.DrawFn) -> Any:
    name = draw(NAMES)
    return getattr(Attr(name), draw(OPERATORS))(draw(VALUES[name]))


def combined(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    pairs = st.tuples(inner, inner)
    return pairs.map(lambda two: two[0] & two[1]) | pairs.map(lambda two: two[0] | two[1]) | inner.map(lambda one: ~one)


NUMBERS = itertools.count()
PRESENCE = NAMES.map(lambda name: Attr(name).exists()) | NAMES.map(lambda name: Attr(name).not_exists())
CONDITIONS = st.recursive(comparisons() | PRESENCE, combined, max_leaves=4)


@pytest.fixture(scope="module")
def table() -> Iterator[DynamoItems]:
    with mock_aws():
        yield dynamo()


@hypothesis_settings(max_examples=100, deadline=None)
@given(st.fixed_dictionaries({}, optional=VALUES), CONDITIONS)
def test_conditions_hold_in_memory_exactly_where_they_hold_in_dynamodb(
    table: DynamoItems, stored: dict[str, Any], condition: Any
) -> None:
    name = f"item-{next(NUMBERS)}"
    if stored:
        table.update("run", name, stored)
    try:
        table.update("run", name, {"z": 1}, only_if=condition)
        held = True
    except ConditionFailed:
        held = False
    assert holds(condition, {"kind": "run", "name": name, **stored} if stored else {}) is held


def test_a_comparison_of_different_types_is_false_and_no_error() -> None:
    # https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Expressions.OperatorsAndFunctions.html
    assert not holds(Attr("x").lt(1), {"x": "0"})
    assert holds(~Attr("x").lt(1), {"x": "0"})
