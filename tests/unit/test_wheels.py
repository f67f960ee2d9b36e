"""What is deployed has the wheels of Lambda's platform, whatever builds it; only the embedded cloud takes others."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path

import pytest

from baton_local import deploy

ROOT = Path(__file__).parents[2]
FAKE_PYTHON = """#!/bin/sh
if [ "$1" = -c ]; then echo 3.12; else echo "$@" >> "$SEEN"; fi
"""


BUILT = {
    "BatonLayer": ("layers/baton", "python/baton/names.py"),
    "PrepareDataFunction": ("functions/prepare_data", "app.py"),
    "WriteReportFunction": ("functions/write_report", "app.py"),
}
"""What is built with packages, by its name in the template: its folder, and a file of its own that it must hold."""


def pip_arguments(built: str, folder: Path, **environment: str) -> list[str]:
    """Build a thing with a Python 3.12 that only writes down what it is told; return what pip was told."""
    source, own_file = BUILT[built]
    programs, seen = folder / "bin", folder / "seen"
    programs.mkdir()
    (programs / "python3").write_text(FAKE_PYTHON)
    (programs / "python3").chmod(0o755)
    own = {
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "SEEN": str(seen),
        "ARTIFACTS_DIR": str(folder / "a b"),
    }
    subprocess.run(
        ["make", f"build-{built}"],
        cwd=ROOT / source,
        env={**os.environ, **own, **environment},
        check=True,
        capture_output=True,
    )
    assert (folder / "a b" / own_file).is_file()
    [line] = seen.read_text().splitlines()
    return line.split()


def test_everything_with_packages_is_built_here() -> None:
    with_packages = {path.parent.relative_to(ROOT).as_posix() for path in ROOT.glob("functions/*/requirements.txt")}
    assert {folder for folder, _ in BUILT.values()} == {"layers/baton", *with_packages}


@pytest.mark.parametrize("built", BUILT)
def test_a_deployment_gets_lambdas_wheels_on_every_machine(built: str, tmp_path: Path) -> None:
    told = pip_arguments(built, tmp_path)
    for option, value in (
        ("--platform", "manylinux2014_x86_64"),
        ("--implementation", "cp"),
        ("--python-version", "3.12"),
        ("--only-binary", ":all:"),
    ):
        assert told[told.index(option) + 1] == value
    assert "--require-hashes" in told


@pytest.mark.parametrize("built", BUILT)
def test_the_embedded_cloud_can_take_the_machines_own(built: str, tmp_path: Path) -> None:
    assert "--platform" not in pip_arguments(built, tmp_path, BATON_WHEELS="host")


@pytest.mark.parametrize(
    ("system", "machine", "wheels"),
    [
        ("Linux", "x86_64", "lambda"),
        ("Linux", "aarch64", "host"),
        ("Darwin", "arm64", "host"),
        ("Windows", "AMD64", "host"),
    ],
)
def test_it_does_so_only_where_lambdas_do_not_run(
    monkeypatch: pytest.MonkeyPatch, system: str, machine: str, wheels: str
) -> None:
    monkeypatch.setattr(platform, "system", lambda: system)
    monkeypatch.setattr(platform, "machine", lambda: machine)
    assert deploy.sam_environment()["BATON_WHEELS"] == wheels
