"""The check of the state machines says which validators looked."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tools.lint import asl

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def rendered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asl, "OUT", tmp_path / "asl")


def at_hand(monkeypatch: pytest.MonkeyPatch, folder: Path, exit_code: int) -> None:
    """Put a Node.js there that answers for the validator."""
    node = folder / "node"
    node.write_text(f"#!/bin/sh\necho no such state\nexit {exit_code}\n")
    node.chmod(0o755)
    monkeypatch.setattr(shutil, "which", lambda _: str(node))


def test_without_node_it_says_that_one_validator_looked(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    assert asl.main() == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("Without Node.js only one of the two validators looked")
    assert second == "The state machines are valid."


def test_with_node_the_second_validator_must_be_there(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    at_hand(monkeypatch, tmp_path, 0)
    monkeypatch.setattr(asl, "NODE_VALIDATOR", tmp_path / "none.js")
    assert asl.main() == 1
    [line] = capsys.readouterr().out.splitlines()
    assert line.endswith(": npm ci --prefix tools/lint")


@pytest.mark.parametrize(("exit_code", "said"), [(0, "The state machines are valid."), (1, "no such state")])
def test_what_the_second_validator_finds_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, exit_code: int, said: str
) -> None:
    at_hand(monkeypatch, tmp_path, exit_code)
    validator = tmp_path / "validator.js"
    validator.touch()
    monkeypatch.setattr(asl, "NODE_VALIDATOR", validator)
    assert asl.main() == exit_code
    assert said in capsys.readouterr().out


@pytest.mark.parametrize(
    ("right", "wrong", "said"),
    [
        ("States.HeartbeatTimeout", "States.Timeot", "Step Functions has no error States.Timeot"),
        (
            "arn:${Partition}:states:::sns:publish",
            "arn:aws:states:::sns:publish",
            "arn:aws:states:::sns:publish is of one partition; write arn:${Partition}:…",
        ),
    ],
)
def test_what_neither_validator_sees_is_said(tmp_path: Path, right: str, wrong: str, said: str) -> None:
    text = (ROOT / "statemachine" / "training_run.asl.json").read_text("utf-8")
    assert right in text
    path = tmp_path / "machine.asl.json"
    path.write_text(text.replace(right, wrong, 1), "utf-8")
    assert asl.own_problems(path) == [f"machine.asl.json: {said}"]


def test_make_lint_looks_at_the_event_patterns_too() -> None:
    lint = (ROOT / "Makefile").read_text("utf-8").split("\nlint:", 1)[1].split("\n\n", 1)[0]
    for check in ("tools/lint/asl.py", "tests/contract/test_event_rules.py", "cfn-lint", "sam validate --lint"):
        assert check in lint
