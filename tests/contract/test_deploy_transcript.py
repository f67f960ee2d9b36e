"""docs/deploy-transcript.md shows a deployment of the template as it is now; test_readme.py compares its commands."""

from __future__ import annotations

from pathlib import Path

import pytest

from baton_local.cloudformation.templates import load

ROOT = Path(__file__).parents[2]
TEMPLATE = load((ROOT / "template.yaml").read_text("utf-8"))
TRANSCRIPT = (ROOT / "docs" / "deploy-transcript.md").read_text("utf-8")
SHORT = 20
"""`sam deploy` folds longer names in its tables."""


@pytest.mark.parametrize("name", TEMPLATE["Parameters"])
def test_every_parameter_is_asked_for(name: str) -> None:
    assert f"Parameter {name} [" in TRANSCRIPT


@pytest.mark.parametrize(
    "name", [n for n, resource in TEMPLATE["Resources"].items() if "Condition" not in resource and len(n) <= SHORT]
)
def test_every_resource_is_made(name: str) -> None:
    assert f" {name}" in TRANSCRIPT


@pytest.mark.parametrize("name", [n for n, output in TEMPLATE["Outputs"].items() if "Condition" not in output])
def test_every_output_is_told(name: str) -> None:
    assert f" {name}\n" in TRANSCRIPT
