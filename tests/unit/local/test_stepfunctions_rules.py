from __future__ import annotations

import json
import threading
import time
from typing import Any

import pytest
from moto.stepfunctions.parser.asl.utils.json_path import NoSuchJsonPathError

from baton_local.stepfunctions.definitions import diagnostics, program_of
from baton_local.stepfunctions.environment import Progress
from baton_local.stepfunctions.errors import is_matched
from baton_local.stepfunctions.interruption import Attempt, HeartbeatTimedOut, Interrupted, Interruption, TimedOut, call
from baton_local.stepfunctions.paths import extract_json
from baton_local.stepfunctions.tokens import Success, TokenDesk


@pytest.mark.parametrize(
    ("error", "expected", "matched"),
    [
        ("Refused", ["Refused"], True),
        ("Refused", ["Other"], False),
        ("Refused", ["States.ALL"], True),
        ("Refused", ["States.TaskFailed"], True),
        (None, ["States.ALL"], True),
        ("States.Timeout", ["States.TaskFailed"], False),
        ("States.Timeout", ["States.ALL"], True),
        ("States.HeartbeatTimeout", ["States.HeartbeatTimeout"], True),
        ("States.HeartbeatTimeout", ["States.Timeout"], False),
        ("States.HeartbeatTimeout", ["States.TaskFailed"], False),
        ("States.Runtime", ["States.ALL"], False),
        ("States.Runtime", ["States.Runtime"], False),
        ("States.DataLimitExceeded", ["States.ALL"], False),
        ("States.DataLimitExceeded", ["States.TaskFailed"], False),
        ("States.DataLimitExceeded", ["States.DataLimitExceeded"], True),
    ],
)
def test_which_errors_a_name_matches(error: str | None, expected: list[str], matched: bool) -> None:
    assert is_matched(error, expected) is matched


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("$", {"a": [{"b": 1}, {"b": 2}], "c": []}),
        ("$.a[1].b", 2),
        ("$.a[0]", {"b": 1}),
        ("$.a[*].b", [1, 2]),
        ("$.a[0:1].b", [1]),
        ("$.a[?(@.b==2)].b", [2]),
        ("$.a[?(@.b==3)].b", []),
        ("$..b", [1, 2]),
        ("$.c[*]", []),
        ("$.a[*].b[0]", []),
        ("$['a'][0]['b']", 1),
    ],
)
def test_definite_paths_give_values_and_others_lists(path: str, value: Any) -> None:
    assert extract_json(path, {"a": [{"b": 1}, {"b": 2}], "c": []}) == value


@pytest.mark.parametrize("path", ["$.x", "$.a[5]", "$.a.b"])
def test_a_definite_path_that_finds_nothing(path: str) -> None:
    with pytest.raises(NoSuchJsonPathError):
        extract_json(path, {"a": [1]})


def machine(states: dict[str, Any]) -> str:
    return json.dumps({"StartAt": next(iter(states)), "States": states})


def test_every_problem_of_a_definition_is_told_with_its_place() -> None:
    inner = {"StartAt": "Q", "States": {"P": {"Type": "Pass", "End": True}}}
    definition = machine(
        {"A": {"Type": "Pass", "Next": "B"}, "C": {"Type": "Parallel", "Branches": [inner], "Next": "D"}}
    )
    places = {problem["location"] for problem in diagnostics(definition, "aws")}
    assert places == {
        "/States/A/Next",
        "/States/C/Next",
        "/States/C",
        "/States/C/Branches[0]/StartAt",
        "/States/C/Branches[0]/States/P",
    }


@pytest.mark.parametrize("definition", ["{", "[]", "{}", '{"StartAt": "A", "States": {"A": 1}}', " " * 1048577])
def test_what_is_no_definition_at_all(definition: str) -> None:
    assert diagnostics(definition, "aws")


def test_a_definition_is_parsed_once_unless_it_has_a_map() -> None:
    plain = machine({"A": {"Type": "Pass", "End": True}})
    assert program_of(plain) is program_of(plain)
    inner = {"StartAt": "I", "States": {"I": {"Type": "Pass", "End": True}}}
    mapped = machine({"A": {"Type": "Map", "ItemProcessor": inner, "End": True}})
    assert program_of(mapped) is not program_of(mapped)


def test_a_call_that_nobody_waits_for_any_more_is_left_alone() -> None:
    over, going_on = Interruption(), threading.Event()
    threading.Timer(0.1, over.set).start()
    started = time.monotonic()
    with pytest.raises(Interrupted):
        call(over, Attempt(), lambda: (time.sleep(0.6), going_on.set()))
    assert time.monotonic() - started < 0.5
    assert going_on.wait(5)
    with pytest.raises(Interrupted):
        over.sleep(60)


def test_the_clock_that_runs_out_first_names_the_error() -> None:
    for attempt, error in ((Attempt(0.05, 60.0), TimedOut), (Attempt(60.0, 0.05), HeartbeatTimedOut)):
        with pytest.raises(error):
            call(Interruption(), attempt, lambda: time.sleep(0.5))


def test_what_a_call_returns_or_raises_comes_through() -> None:
    assert call(Interruption(), Attempt(), lambda: None) is None
    with pytest.raises(ValueError, match="no"):
        call(Interruption(), Attempt(), lambda: int("no"))


def test_whoever_settles_a_token_is_told_the_truth_even_when_the_clock_runs_out() -> None:
    """A settlement that is accepted is the outcome, and one that is not accepted is an error, never neither."""
    for _ in range(60):
        desk = TokenDesk("here")
        token = desk.open(Attempt(0.005))
        accepted: list[bool] = []

        def settle(desk: TokenDesk = desk, text: str = token.text, accepted: list[bool] = accepted) -> None:
            time.sleep(0.005)
            try:
                desk.settle(text, Success("1"))
                accepted.append(True)
            except Exception:
                accepted.append(False)

        sender = threading.Thread(target=settle)
        sender.start()
        try:
            outcome: Success | None = token.wait(Interruption())  # type: ignore[assignment]
        except TimedOut:
            outcome = None
        sender.join()
        assert accepted == [outcome is not None]


def test_only_what_did_not_end_is_resumed() -> None:
    progress = Progress("Both", {}, [Progress("A", ended=True, output=1), Progress("B", {"x": 1})])
    progress.resume()
    assert progress.branches is not None
    assert [progress.resuming, *(branch.resuming for branch in progress.branches)] == [True, False, True]
