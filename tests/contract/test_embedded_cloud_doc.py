"""What docs/embedded-cloud.md and its list of seams say is what the embedded cloud is."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from baton_local.dials import Dials
from baton_local.seams import MOTO_VERSION
from baton_local.server import SERVICES

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "embedded-cloud.md").read_text("utf-8")
LOCAL = ROOT / "local" / "baton_local"


def test_the_list_of_seams_is_the_one_that_is_opened(tmp_path: Path) -> None:
    """In a process of its own, for what is opened stays open until the process ends."""
    written = tmp_path / "seams.md"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p), "HOME": str(tmp_path)}
    subprocess.run(
        [sys.executable, "-m", "tools.seams", str(written)], cwd=ROOT, env=environment, check=True, timeout=120
    )
    assert written.read_text("utf-8").count("\n- `") > 60
    assert (ROOT / "docs" / "embedded-cloud-seams.md").read_text("utf-8") == written.read_text("utf-8")


def test_the_version_of_moto_is_the_one_that_is_checked() -> None:
    assert f"moto](https://docs.getmoto.org) {MOTO_VERSION};" in PAGE


@pytest.mark.parametrize("service", SERVICES)
def test_every_service_module_is_named(service: str) -> None:
    name = service if (LOCAL / service).is_dir() else f"{service}.py"
    assert re.search(rf"`{re.escape(name)}/?`", PAGE), name


def test_the_modules_that_it_names_exist() -> None:
    for name in re.findall(r"`([a-z_0-9*]+(?:\.py|/))`", PAGE):
        assert list(LOCAL.glob(name.rstrip("/"))), name


def test_every_dial_is_named() -> None:
    named = set(re.findall(r"`--([a-z]+)`", PAGE))
    assert {field.name.removesuffix("_seconds") for field in fields(Dials)} <= named


def test_the_admin_routes_are_those_that_the_modules_answer() -> None:
    named = set(re.findall(r"(/_baton/[a-z/-]*[a-z])", PAGE))
    sources = "\n".join(path.read_text("utf-8") for path in LOCAL.rglob("*.py"))
    answered = set(re.findall(r"\"(/_baton/[a-z/-]*[a-z])\"", sources)) | {"/_baton/runs"}
    assert named <= answered
    assert answered - {"/_baton/iam"} <= named
