from __future__ import annotations

import json
from typing import Any

import pytest

from baton_local.event_input import InvalidInput, RuleName, select, target_input

RULE = RuleName("arn:aws:events:eu-west-1:123456789012:rule/r", "r")
EVENT: dict[str, Any] = {
    "id": "i",
    "detail-type": "T",
    "resources": ["arn:1", "arn:2"],
    "detail": {"name": 'a "quoted" name', "start": 1700000000123, "inner": {"x": [1, 2]}, "flag": True},
}


def made(target: dict[str, Any]) -> str:
    return target_input(target, EVENT, RULE, 1700000000.0)


def transformed(template: str, **paths: str) -> str:
    return made({"InputTransformer": {"InputPathsMap": paths, "InputTemplate": template}})


def test_a_target_gets_the_whole_event_unless_it_asks_for_less() -> None:
    assert json.loads(made({})) == EVENT
    assert made({"Input": '{"constant": 1}'}) == '{"constant": 1}'
    assert json.loads(made({"InputPath": "$.detail.inner"})) == {"x": [1, 2]}
    assert made({"InputPath": "$.detail.absent"}) == "null"


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("$", EVENT),
        ("$.detail-type", "T"),
        ("$['detail-type']", "T"),
        ("$.resources[1]", "arn:2"),
        ("$.resources[*]", ["arn:1", "arn:2"]),
        ("$.detail.inner.x[0]", 1),
    ],
)
def test_json_paths(path: str, value: Any) -> None:
    assert select(EVENT, path) == value


@pytest.mark.parametrize("path", ["detail", "$detail", "$.detail.", "$.a[b]"])
def test_what_is_no_json_path_is_refused(path: str) -> None:
    with pytest.raises(InvalidInput):
        select(EVENT, path)


def test_a_json_template_quotes_bare_strings_and_leaves_numbers_and_objects_bare() -> None:
    text = transformed(
        '{"name": <name>, "start": <start>, "inner": <inner>, "flag": <flag>, "text": "at <start> of <name>"}',
        name="$.detail.name",
        start="$.detail.start",
        inner="$.detail.inner",
        flag="$.detail.flag",
    )
    detail = EVENT["detail"]
    assert json.loads(text) == {
        "name": detail["name"],
        "start": detail["start"],
        "inner": detail["inner"],
        "flag": True,
        "text": f"at {detail['start']} of {detail['name']}",
    }


def test_a_text_template_is_text() -> None:
    assert transformed("<t> happened to <n>", t="$.detail-type", n="$.detail.name") == 'T happened to a "quoted" name'
    assert json.loads(transformed('"<t> happened"', t="$.detail-type")) == "T happened"


def test_the_predefined_variables() -> None:
    text = transformed(
        '{"arn": <aws.events.rule-arn>, "name": "<aws.events.rule-name>", "at": <aws.events.event.ingestion-time>, '
        '"event": <aws.events.event.json>, "envelope": <aws.events.event>}'
    )
    assert json.loads(text) == {
        "arn": RULE.arn,
        "name": "r",
        "at": "2023-11-14T22:13:20Z",
        "event": EVENT,
        "envelope": {name: value for name, value in EVENT.items() if name != "detail"},
    }


def test_an_unknown_variable_stays_as_it_is_and_an_absent_value_is_left_out() -> None:
    assert transformed("<a> <b>!", a="$.absent") == " <b>!"
    with pytest.raises(InvalidInput, match="no JSON"):
        transformed('{"a": <a>}', a="$.absent")
