"""What is installed is pinned, hashed, and the same everywhere."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COMPILED = sorted(
    path
    for pattern in (
        "requirements/*.txt",
        "functions/*/requirements.txt",
        "layers/*/requirements.txt",
        "pipelines/*/requirements.txt",
    )
    for path in ROOT.glob(pattern)
)

Pins = dict[str, set[str]]


def entries(path: Path) -> list[str]:
    """Return the requirements of a compiled file, each with its hashes, without comments."""
    text = re.sub(r"\\\n", " ", path.read_text("utf-8"))
    lines = [line.split(" #")[0].strip() for line in text.splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


def pins(path: Path) -> Pins:
    """Return the pinned versions by package; there is more than one where markers choose."""
    found: Pins = {}
    for entry in entries(path):
        match = re.match(r"([A-Za-z0-9._-]+)(?:\[[^]]*\])?==([^\s;]+)", entry)
        assert match, entry
        found.setdefault(re.sub(r"[-_.]+", "-", match[1]).lower(), set()).add(match[2])
    return found


def test_there_are_requirements_for_development_the_layer_functions_and_steps() -> None:
    names = {str(path.relative_to(ROOT)) for path in COMPILED}
    wanted = {"requirements/dev.txt", "layers/baton/requirements.txt", "pipelines/steps/requirements.txt"}
    assert wanted <= names


@pytest.mark.parametrize("path", COMPILED, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_requirement_is_pinned_and_hashed_and_names_no_host(path: Path) -> None:
    for entry in entries(path):
        assert not entry.startswith("-"), f"an option: {entry}"
        assert re.match(r"[A-Za-z0-9._-]+(\[[^]]*\])?==\S+", entry), entry
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", entry), entry
    assert "://" not in "".join(entries(path))


@pytest.mark.parametrize("path", COMPILED, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_package_named_by_hand_is_in_the_compiled_file(path: Path) -> None:
    source = path.with_suffix(".in")
    named = re.findall(r"^([A-Za-z0-9._-]+)", source.read_text("utf-8"), re.MULTILINE)
    wanted = {re.sub(r"[-_.]+", "-", name).lower() for name in named}
    assert wanted
    assert wanted <= set(pins(path))


# sam build takes wheels for manylinux2014 only, and the newest numpy has none there.
DEPLOYED_OTHERWISE = {"numpy"}

# Checkov is never deployed, and pins some of the same packages in other versions: so it has an environment of its own.
APART = ROOT / "requirements" / "checkov.txt"


def test_what_is_tested_is_what_is_deployed() -> None:
    developed = pins(ROOT / "requirements/dev.txt")
    for path in (path for path in COMPILED if path != APART):
        for package, versions in pins(path).items():
            if package in DEPLOYED_OTHERWISE:
                continue
            assert versions <= developed.get(package, versions), f"{path.parent.name}: {package}"


def test_the_project_takes_the_pythons_that_the_template_offers_and_has_one_command() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert project["requires-python"] == ">=3.11,<3.14"
    assert project["scripts"] == {"baton": "baton_cli.main:main"}
