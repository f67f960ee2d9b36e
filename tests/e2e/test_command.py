"""`baton local run`: what it shows, what it writes, and its exit code."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from baton_local import datasets
from tests.e2e.conftest import ENDED_WELL, FIELDS, GRAPH, QUICK

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("command")]


def baton(folder: Path, *arguments: str) -> tuple[subprocess.CompletedProcess[str], dict[str, Any]]:
    """Run the command in a folder; return what it printed, and what it wrote about its run."""
    written = folder / "result.json"
    command = [sys.executable, "-m", "baton_cli.main", "local", "run", *arguments, "--json", str(written)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=240)
    return done, json.loads(written.read_text())


def test_the_command_plays_a_run_shows_it_and_writes_what_became_of_it(tmp_path: Path) -> None:
    dataset = datasets.small(tmp_path / "small.pkl.gz", 1200)
    done, result = baton(tmp_path, "--dataset", str(dataset), "--input", json.dumps({"parameters": QUICK}))
    assert done.returncode == 0, done.stdout + done.stderr
    assert set(FIELDS) <= set(result)
    assert (result["status"], result["leftovers"], result["error"]) == ("SUCCEEDED", [], None)
    assert {kind: thing["status"] for kind, thing in result["sagemaker"].items()} == ENDED_WELL
    for shown in (*GRAPH, "SUCCEEDED", "Left over", "nothing", "Ten predictions"):
        assert shown in done.stdout
    assert (tmp_path / result["report_file"]).read_text().startswith("<!doctype html>")


def test_the_command_fails_with_a_run_that_fails(tmp_path: Path) -> None:
    bad = tmp_path / "bad.pkl.gz"
    bad.write_bytes(b"This is no pickle.")
    done, result = baton(tmp_path, "--dataset", str(bad))
    assert done.returncode == 1
    assert set(FIELDS) <= set(result)
    assert (result["status"], result["error"], result["leftovers"]) == ("FAILED", "InvalidDataset", [])
    assert "is not a pickle" in result["cause"]
    assert "InvalidDataset" in done.stdout
