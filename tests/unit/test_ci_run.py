"""What CI prints at its end, and how it exits: with make, pytest and the browser played by small scripts."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

CI_RUN = Path(__file__).parents[2] / ".ci" / "run"
GOOD = "===== 900 passed in 400.00s (0:06:40) ====="
BAD = """FAILED tests/e2e/test_soak.py::test_a - TimeoutError
ERROR tests/unit/test_b.py::test_c[x::y] - OSError
===== 1 failed, 899 passed, 1 error in 400.00s (0:06:40) ====="""
AGAIN = "===== 12 passed in 9.00s ====="


def script(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Return a checkout with nothing but CI's script, a browser, and a make that sets up and lints well."""
    (tmp_path / ".ci").mkdir()
    shutil.copy(CI_RUN, tmp_path / ".ci" / "run")
    script(tmp_path / "bin" / "chromium", "exit 0")
    return tmp_path


def says(folder: Path, name: str, text: str, code: int) -> str:
    """Return shell commands that print a text and exit."""
    (folder / name).write_text(f"{text}\n")
    return f"cat {folder / name}; exit {code}"


def ci(checkout: Path, whole: tuple[str, int], again: tuple[str, int] = ("", 9)) -> tuple[list[str], int]:
    """Run CI; return the lines that it printed, and its exit code."""
    make = f'[ "$1" = test ] || exit 0\n{says(checkout, "whole", *whole)}'
    script(checkout / "bin" / "make", make)
    script(checkout / ".venv" / "bin" / "python", f"echo pytest $3 $4 $5\n{says(checkout, 'again', *again)}")
    environment = {**os.environ, "PATH": f"{checkout / 'bin'}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        [checkout / ".ci" / "run"], env=environment, capture_output=True, text=True, check=False, timeout=60
    )
    return done.stdout.splitlines(), done.returncode


def test_where_all_passed_the_summary_is_last(checkout: Path) -> None:
    lines, code = ci(checkout, (GOOD, 0))
    assert (lines[-1], code) == (GOOD, 0)
    assert "alone" not in "".join(lines)


def test_what_passed_only_alone_is_named_with_both_summaries(checkout: Path) -> None:
    lines, code = ci(checkout, (BAD, 1), (AGAIN, 0))
    assert code == 0
    assert "pytest tests/e2e/test_soak.py tests/unit/test_b.py" in lines
    assert lines[-3:] == [
        "Passed only when played again alone: tests/e2e/test_soak.py tests/unit/test_b.py",
        f"The whole run: {BAD.splitlines()[-1]}",
        f"Played again: {AGAIN}",
    ]


def test_what_fails_alone_too_fails_ci(checkout: Path) -> None:
    lines, code = ci(checkout, (BAD, 1), (BAD, 1))
    assert code == 1
    assert lines[-1] == BAD.splitlines()[-1]
    assert not any(line.startswith("Passed only") for line in lines)


@pytest.mark.parametrize(
    "text", ["make: *** [test] Error 4", "\n".join(f"FAILED tests/test_{n}.py::a" for n in range(13))]
)
def test_nothing_is_played_again_where_it_is_no_accident(checkout: Path, text: str) -> None:
    lines, code = ci(checkout, (text, 1))
    assert code == 1
    assert not any(line.startswith("pytest") for line in lines)
