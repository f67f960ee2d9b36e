"""What README.md says is what the repository does."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from cfnlint.decode import cfn_yaml

from baton.errors import all_errors
from baton_cli.main import parser

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text("utf-8")
TEMPLATE: dict[str, Any] = cfn_yaml.load(str(ROOT / "template.yaml"))


def section(title: str) -> str:
    """Return the text under a heading."""
    return README.split(f"\n## {title}", 1)[1].split("\n## ", 1)[0]


def rows(text: str) -> list[list[str]]:
    """Return the cells of a table's rows, without its head."""
    lines = [line for line in text.splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def test_its_sections_come_in_the_order_in_which_a_stranger_needs_them() -> None:
    titles = re.findall(r"^## (.*)$", README, re.MULTILINE)
    wanted = ["Try it", "Deploy it", "Start a run", "Watch it", "Clean up", "Parameters", "Troubleshooting"]
    assert [title.split(":")[0] for title in titles] == wanted


def test_its_parameters_are_the_templates() -> None:
    said = {name.strip("`"): (default, what.strip(" |")) for name, default, what in rows(section("Parameters"))}
    real = {
        name: (f"`{found['Default']}`" if found["Default"] != "" else "(empty)", " ".join(found["Description"].split()))
        for name, found in TEMPLATE["Parameters"].items()
    }
    assert said == real


def test_its_errors_exist() -> None:
    known = {error.__name__ for error in all_errors()}
    named = {row[0].strip("`") for row in rows(section("Troubleshooting")) if re.fullmatch(r"`[A-Z]\w+`", row[0])}
    assert len(named) > 8
    assert named <= known


def test_its_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    targets = set(re.findall(r"^([a-z]+):", makefile, re.MULTILINE))
    assert {"setup", "demo", "test", "lint", "bench", "build", "deploy", "clean", "help"} <= targets
    named = {word for line in re.findall(r"make ((?:[a-z]+\b ?)+)", README) for word in line.split()}
    assert {word for word in named if word in ("demo", "setup", "build", "deploy", "clean")} <= targets


def _commands() -> list[str]:
    return re.findall(r"^ {4,}\.venv/bin/baton (.*)$", README, re.MULTILINE)


@pytest.mark.parametrize("command", [command for command in _commands() if "--help" not in command])
def test_its_baton_commands_are_understood(command: str) -> None:
    assert parser().parse_args(shlex.split(command)).run


def test_its_outputs_are_the_templates() -> None:
    named = set(re.findall(r"output\s+`(\w+)`", README))
    assert named
    assert named <= set(TEMPLATE["Outputs"])


def test_its_links_lead_somewhere() -> None:
    for document in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/**/*.md"))]:
        for target in re.findall(r"\]\((?!https?://|#)([^)#]+)", document.read_text("utf-8")):
            assert (document.parent / target).exists(), f"{document.name}: {target}"
