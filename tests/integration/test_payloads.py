"""The functions refuse a payload that the state machines would not send, with one sentence and no traceback."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from baton.errors import InvalidInput
from baton.payloads import plan_of
from tests.support.functions import deployed
from tests.support.packaged import packaged_pipelines
from tests.support.report_samples import EXECUTION, plan

AWAITED = {"kind": "training", "run_id": "bt-1", "token": "t", "entered": "2026-03-01T09:30:00Z"}
STARTED = EXECUTION["start_time"]
REPORTED = {"execution": EXECUTION, "state": {}}
UNCOUNTED = {"id": EXECUTION["id"], "start_time": STARTED}
NO_PLAN = "The payload has no 'plan', which must be an object."
NO_TIME = "'start_time' of the execution must be a time in ISO 8601, not 'noon'."


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[pytest.MonkeyPatch]:
    with packaged_pipelines(tmp_path, monkeypatch):
        yield monkeypatch


@pytest.mark.parametrize(
    ("function", "payload", "sentence"),
    [
        ("plan_run", {}, "The payload has no 'input', which must be there."),
        ("plan_run", {"input": {}}, "The payload has no 'execution', which must be an object."),
        ("plan_run", {"input": {}, "execution": {"id": "arn", "start_time": "noon"}}, NO_TIME),
        ("prepare_data", {}, NO_PLAN),
        ("prepare_data", {"plan": {}}, "The plan has no 'run_id', which must be a text."),
        ("launch_pipeline", {}, NO_PLAN),
        ("launch_pipeline", {"plan": plan()}, "The payload has no 'attempt', which must be a text."),
        ("smoke_test", [], "The payload must be an object with 'plan', not []."),
        ("smoke_test", {"plan": None}, "'plan' of the payload must be an object, not null."),
        ("await_outcome", {}, "The payload has no 'kind', which must be a text."),
        ("await_outcome", {**AWAITED, "retry_count": True}, "'retry_count' of the payload must be a whole number"),
        ("write_report", {}, "The payload has no 'execution', which must be an object."),
        ("write_report", {"execution": EXECUTION}, "The payload has no 'state', which must be an object."),
        ("write_report", REPORTED, "The payload has no 'entered', which must be a text."),
        ("write_report", {**REPORTED, "entered": "noon"}, "'entered' of the payload must be a time in ISO 8601"),
        (
            "write_report",
            {**REPORTED, "entered": STARTED, "execution": UNCOUNTED},
            "The execution has no 'redrive_count'",
        ),
        ("settle_outcome", {}, "The payload has no 'Records', which must be a list."),
        ("clean_up", {}, "A clean-up needs execution_arn, and run_id or start_time."),
    ],
)
def test_a_wrong_payload_is_refused_with_a_sentence(
    place: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, function: str, payload: Any, sentence: str
) -> None:
    with deployed(function, place) as handler, pytest.raises(InvalidInput) as refused:
        handler(payload)
    assert str(refused.value).startswith(sentence)
    # Powertools' tracer has a word of its own.
    (error,) = [r for r in caplog.records if r.levelno >= logging.ERROR and r.module == "observability"]
    assert error.getMessage() == str(refused.value)
    assert error.exc_info is None


def test_a_plan_has_every_field_of_a_plan() -> None:
    whole = plan()
    assert plan_of({"plan": whole}) == whole
    for name in whole:
        with pytest.raises(InvalidInput, match=f"The plan has no '{name}'"):
            plan_of({"plan": {key: value for key, value in whole.items() if key != name}})
