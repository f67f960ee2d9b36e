"""`baton local run`: what it shows, what it writes, and its exit code."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from baton_cli.main import main
from baton_local import datasets
from tests.e2e.conftest import ENDED_WELL, FIELDS, GRAPH, QUICK, wait_until

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


def test_the_command_fails_with_a_run_that_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = tmp_path / "bad.pkl.gz"
    bad.write_bytes(b"This is no pickle.")
    monkeypatch.chdir(tmp_path)
    assert main(["local", "run", "--dataset", str(bad), "--json", "result.json"]) == 1
    result = json.loads((tmp_path / "result.json").read_text())
    assert set(FIELDS) <= set(result)
    assert (result["status"], result["error"], result["leftovers"]) == ("FAILED", "InvalidDataset", [])
    assert "is not a pickle" in result["cause"]
    assert "InvalidDataset" in capsys.readouterr().out


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="only Linux shows the environment of processes")
@pytest.mark.parametrize(
    ("verb", "until", "signals", "code"),
    [
        (["run", "--dataset", "small.pkl.gz"], "Await tuning", [signal.SIGINT], 130),
        (["up"], "Ctrl-C ends it", [signal.SIGINT, signal.SIGINT], 0),
        (["up"], "Ctrl-C ends it", [signal.SIGTERM], 0),
        (["up"], "Ctrl-C ends it", [signal.SIGHUP], 0),
    ],
    ids=["run", "twice", "terminated", "hung up"],
)
def test_whoever_ends_the_command_ends_every_process_and_file(
    tmp_path: Path, verb: list[str], until: str, signals: list[int], code: int
) -> None:
    datasets.small(tmp_path / "small.pkl.gz", 1200)
    (tmp_path / "tmp").mkdir()
    mark = f"BATON_TEST={tmp_path}"
    process = subprocess.Popen(
        [sys.executable, "-m", "baton_cli.main", "local", *verb],
        cwd=tmp_path,
        env={**os.environ, "TMPDIR": str(tmp_path / "tmp"), "BATON_TEST": str(tmp_path)},
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout
    assert any(until in line for line in process.stdout)
    assert len(marked(mark)) > 1
    for number in signals:
        # As a terminal does: to the command and to all that it has in its own process group.
        os.killpg(process.pid, number)
        time.sleep(0.1)
    process.communicate(timeout=30)
    assert process.returncode == code
    wait_until(lambda: not marked(mark), "a process outlives the command", seconds=3)
    assert list((tmp_path / "tmp").iterdir()) == []


def marked(mark: str) -> list[int]:
    """Return the processes that have something in their environment."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with suppress(OSError):
                if mark.encode() in (folder / "environ").read_bytes().split(b"\0"):
                    found.append(int(folder.name))
    return found
