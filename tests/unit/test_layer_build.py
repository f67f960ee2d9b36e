"""The layer has the wheels of Lambda's platform, whatever machine builds it; only the embedded cloud takes others."""

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


def pip_arguments(folder: Path, **environment: str) -> list[str]:
    """Build the layer with a Python 3.12 that only writes down what it is told; return what pip was told."""
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
        ["make", "build-BatonLayer"],
        cwd=ROOT / "layers" / "baton",
        env={**os.environ, **own, **environment},
        check=True,
        capture_output=True,
    )
    assert (folder / "a b" / "python" / "baton" / "names.py").is_file()
    [line] = seen.read_text().splitlines()
    return line.split()


def test_a_deployment_gets_lambdas_wheels_on_every_machine(tmp_path: Path) -> None:
    told = pip_arguments(tmp_path)
    for option, value in (
        ("--platform", "manylinux2014_x86_64"),
        ("--implementation", "cp"),
        ("--python-version", "3.12"),
        ("--only-binary", ":all:"),
    ):
        assert told[told.index(option) + 1] == value
    assert "--require-hashes" in told


def test_the_embedded_cloud_can_take_the_machines_own(tmp_path: Path) -> None:
    assert "--platform" not in pip_arguments(tmp_path, BATON_LAYER_WHEELS="host")


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
    assert deploy.sam_environment()["BATON_LAYER_WHEELS"] == wheels
