from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from baton_local.patterns import InvalidPattern, matches, parse_pattern, validate_pattern

EVENT = {
    "source": "aws.sagemaker",
    "detail": {
        "name": "bt-0001-train",
        "count": 3,
        "ratio": 2.5,
        "flag": True,
        "nothing": None,
        "empty": [],
        "ip": "10.0.3.7",
        "tags": ["a", "b"],
        "jobs": [{"id": 1, "state": "done"}, {"id": 2, "state": "failed"}],
    },
}


def on(field: str, *values: Any) -> dict[str, Any]:
    return {"detail": {field: list(values)}}


@pytest.mark.parametrize(
    "pattern",
    [
        on("name", "bt-0001-train"),
        on("name", "other", "bt-0001-train"),
        on("count", 3),
        on("flag", True),
        on("nothing", None),
        on("name", {"prefix": "bt-"}),
        on("name", {"prefix": {"equals-ignore-case": "BT-"}}),
        on("name", {"suffix": "-train"}),
        on("name", {"suffix": {"equals-ignore-case": "-TRAIN"}}),
        on("name", {"equals-ignore-case": "BT-0001-TRAIN"}),
        on("name", {"wildcard": "bt-*-tra*"}),
        on("name", {"anything-but": "other"}),
        on("name", {"anything-but": ["other", "another"]}),
        on("count", {"anything-but": [1, 2]}),
        on("name", {"anything-but": {"prefix": "xx-"}}),
        on("name", {"anything-but": {"suffix": ["-tune", "-endpoint"]}}),
        on("name", {"anything-but": {"wildcard": "*-tune"}}),
        on("name", {"anything-but": {"equals-ignore-case": ["A", "B"]}}),
        on("count", {"numeric": ["=", 3.0]}),
        on("count", {"numeric": [">", 0, "<=", 3]}),
        on("ratio", {"numeric": ["<", 2.6]}),
        on("name", {"exists": True}),
        on("nothing", {"exists": True}),
        on("missing", {"exists": False}),
        on("empty", {"exists": False}),
        on("missing", "value", {"exists": False}),
        {"missing": {"inner": [{"exists": False}]}},
        on("ip", {"cidr": "10.0.0.0/16"}),
        on("tags", "b"),
        on("tags", {"anything-but": "a"}),
        {"detail": {"jobs": {"id": [2], "state": ["failed"]}}},
        {"detail": {"$or": [{"name": ["x"]}, {"count": [3]}]}},
        {"source": ["aws.sagemaker"], "detail": {"name": [{"prefix": "bt-"}], "count": [3]}},
    ],
)
def test_what_matches(pattern: dict[str, Any]) -> None:
    validate_pattern(pattern)
    assert matches(pattern, EVENT)


@pytest.mark.parametrize(
    "pattern",
    [
        on("name", "bt-0001"),
        on("name", "BT-0001-TRAIN"),
        on("count", "3"),
        on("count", 3.0),
        on("flag", 1),
        on("flag", "true"),
        on("nothing", "null"),
        on("name", {"prefix": "train"}),
        on("name", {"suffix": "bt-"}),
        on("name", {"wildcard": "bt-*-tune"}),
        on("name", {"anything-but": {"prefix": "bt-"}}),
        on("name", {"anything-but": {"wildcard": ["x*", "bt*"]}}),
        on("missing", {"anything-but": "x"}),
        on("count", {"numeric": [">", 3]}),
        on("name", {"numeric": [">", 0]}),
        on("flag", {"numeric": [">", 0]}),
        on("name", {"exists": False}),
        on("missing", {"exists": True}),
        on("jobs", {"exists": True}),
        on("ip", {"cidr": "10.1.0.0/16"}),
        on("name", {"cidr": "10.0.0.0/16"}),
        on("tags", "c"),
        {"detail": {"jobs": {"id": [1], "state": ["failed"]}}},
        {"detail": {"$or": [{"name": ["x"]}, {"count": [4]}]}},
        {"detail": {"$or": [{"name": ["x"]}, {"count": [3]}], "flag": [False]}},
        {"source": ["aws.sagemaker"], "detail": {"count": [4]}},
        {"detail-type": ["anything"]},
        {"source": {"inner": ["aws.sagemaker"]}},
    ],
)
def test_what_does_not_match(pattern: dict[str, Any]) -> None:
    validate_pattern(pattern)
    assert not matches(pattern, EVENT)


def test_a_star_and_a_backslash_can_be_escaped_in_a_wildcard() -> None:
    assert matches({"a": [{"wildcard": r"1\*2\\3*"}]}, {"a": r"1*2\3!"})
    assert not matches({"a": [{"wildcard": r"1\*2"}]}, {"a": "1x2"})


@pytest.mark.parametrize(
    "pattern",
    [
        "[]",
        "{",
        "{}",
        '{"a": {}}',
        '{"a": []}',
        '{"a": "b"}',
        '{"a": 1}',
        '{"a": [["b"]]}',
        '{"a": [{}]}',
        '{"a": [{"prefix": "x", "suffix": "y"}]}',
        '{"a": [{"regex": "x"}]}',
        '{"a": [{"prefix": 1}]}',
        '{"a": [{"prefix": {"suffix": "x"}}]}',
        '{"a": [{"wildcard": "a**b"}]}',
        '{"a": [{"exists": "true"}]}',
        '{"a": [{"cidr": "10.0.0.0/99"}]}',
        '{"a": [{"numeric": [">"]}]}',
        '{"a": [{"numeric": [">", "1"]}]}',
        '{"a": [{"numeric": ["=>", 1]}]}',
        '{"a": [{"numeric": ["<", 1, ">", 0]}]}',
        '{"a": [{"numeric": [">", 2, "<", 1]}]}',
        '{"a": [{"numeric": [">", 6e9]}]}',
        '{"a": [{"anything-but": []}]}',
        '{"a": [{"anything-but": [1, "x"]}]}',
        '{"a": [{"anything-but": {"numeric": [">", 1]}}]}',
        '{"a": [{"anything-but": {"prefix": []}}]}',
        '{"$or": [{"a": ["b"]}]}',
        '{"$or": {"a": ["b"]}}',
        '{"$or": [{"a": ["b"]}, {"a": "b"}]}',
        json.dumps({"a": ["x" * 2100]}),
    ],
)
def test_what_eventbridge_refuses(pattern: str) -> None:
    with pytest.raises(InvalidPattern):
        parse_pattern(pattern)


def test_the_place_of_what_is_refused_is_told() -> None:
    with pytest.raises(InvalidPattern, match=r"Unrecognized match type regex at detail\.name"):
        parse_pattern('{"detail": {"name": [{"regex": "x"}]}}')


_names = st.sampled_from(["a", "b", "c"])
_scalars = st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(["x", "y", ""])
_events = st.recursive(
    st.dictionaries(_names, _scalars | st.lists(_scalars, max_size=2), max_size=3),
    lambda inner: st.dictionaries(_names, inner | _scalars, max_size=3),
    max_leaves=6,
)


@given(_events)
def test_an_event_matches_the_pattern_made_of_its_own_values(event: dict[str, Any]) -> None:
    def exactly(value: Any) -> Any:
        if isinstance(value, dict):
            parts = {name: exactly(inner) for name, inner in value.items()}
            return {name: part for name, part in parts.items() if part}
        return [value[0]] if isinstance(value, list) and value else [] if isinstance(value, list) else [value]

    pattern = exactly(event)
    if pattern:
        validate_pattern(pattern)
        assert matches(pattern, event)


@given(_events, _names, st.sampled_from(["x", "y"]))
def test_exists_is_the_opposite_of_not_exists(event: dict[str, Any], name: str, value: str) -> None:
    assert matches({name: [{"exists": True}]}, event) != matches({name: [{"exists": False}]}, event)
    if matches({name: [value]}, event):
        assert matches({name: [{"exists": True}]}, event)
