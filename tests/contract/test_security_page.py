"""docs/security.md names what the template has, and only that."""

from __future__ import annotations

import re
from pathlib import Path

from tests.support.permissions import Reasons
from tools.lint.iam import expanded, statements

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "security.md").read_text("utf-8")
RESOURCES = expanded((ROOT / "template.yaml").read_text("utf-8"))["Resources"]


def section(title: str) -> str:
    return PAGE.partition(f"## {title}\n")[2].partition("\n## ")[0].partition("\n### ")[0]


def first_cells(text: str) -> list[str]:
    rows = [line.split("|")[1].strip() for line in text.splitlines() if line.startswith("| ")]
    return rows[1:]


def test_every_role_is_in_the_table_and_no_other() -> None:
    named = {name.strip() for cell in first_cells(section("Who may do what")) for name in cell.split(",")}
    assert named == {name for name, resource in RESOURCES.items() if resource["Type"] == "AWS::IAM::Role"}


def test_every_star_has_its_row() -> None:
    stars = {s.sid for s in statements(RESOURCES) if s.resources == ("*",) and s.raw["Effect"] == "Allow"}
    managed = Reasons.read(ROOT / "tests" / "e2e" / "permissions_reasons.toml").managed_policies
    cells = " ".join(first_cells(PAGE.partition("### Every `*` and its reason\n")[2].partition("\n## ")[0]))
    assert stars | set(managed) == set(re.findall(r"[A-Z]\w+", re.sub(r"`\w*Vpc\w*`|with|only", " ", cells)))


def test_what_the_page_points_to_is_there() -> None:
    for path in re.findall(r"`((?:tests|tools|deploy|docs)/[\w./-]+)`", PAGE):
        assert (ROOT / path).exists(), path


def test_the_page_names_parameters_that_there_are() -> None:
    template = (ROOT / "template.yaml").read_text("utf-8")
    for name in re.findall(r"`((?:Kfp|Vpc|Kms|Pod|Dataset|Run|Eks|Oidc)[A-Z]\w+)(?:=[\w-]+)?`", PAGE):
        assert f"\n  {name}:" in template, name
