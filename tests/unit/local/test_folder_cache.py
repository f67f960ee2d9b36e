"""The cache of unpacked packages: what is made once, found again, and forgotten when no cloud can use it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from baton_local.lambda_ import folder_cache
from baton_local.lambda_.folder_cache import KEPT_SECONDS, FolderCache

HOLD = """
import sys, pathlib
from baton_local.lambda_.folder_cache import FolderCache
cache = FolderCache(pathlib.Path(sys.argv[1]))
print("open", flush=True)
sys.stdin.read()
"""


def made(path: Path, age: float) -> Path:
    path.mkdir(parents=True)
    (path / "handler.py").write_text("x")
    os.utime(path, (time.time() - age,) * 2)
    return path


def names(root: Path) -> set[str]:
    return {path.name for path in root.iterdir() if path.is_dir()}


def test_a_folder_is_filled_once_by_its_key(tmp_path: Path) -> None:
    filled: list[Path] = []
    cache = FolderCache(tmp_path)
    folders = [cache.folder("task", [key], filled.append) for key in ("a", "a", "b")]
    assert folders[0] == folders[1] != folders[2]
    assert len(filled) == 2
    assert names(tmp_path) == {folders[0].name, folders[2].name}


def test_what_was_not_used_for_a_week_is_forgotten_with_what_was_never_finished(tmp_path: Path) -> None:
    made(tmp_path / "task-old", KEPT_SECONDS + 60)
    made(tmp_path / "opt-building-x", KEPT_SECONDS + 60)
    made(tmp_path / "task-new", KEPT_SECONDS - 60)
    FolderCache(tmp_path)
    assert names(tmp_path) == {"task-new"}


def test_what_is_used_is_young_again(tmp_path: Path) -> None:
    folder = FolderCache(tmp_path).folder("task", ["a"], lambda target: None)
    os.utime(folder, (0, 0))
    FolderCache(tmp_path).folder("task", ["a"], lambda target: None)
    assert time.time() - folder.stat().st_mtime < 60


@pytest.mark.skipif(folder_cache.fcntl is None, reason="has no locks")
def test_nothing_is_forgotten_while_another_cloud_runs(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    other = subprocess.Popen(
        [sys.executable, "-c", HOLD, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
    )
    with other:
        assert other.stdout
        assert other.stdout.readline() == b"open\n"
        made(tmp_path / "task-old", KEPT_SECONDS + 60)
        FolderCache(tmp_path)
        other.kill()
    assert names(tmp_path) == {"task-old"}


def test_where_there_are_no_locks_nothing_is_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder_cache, "fcntl", None)
    made(tmp_path / "task-old", KEPT_SECONDS + 60)
    FolderCache(tmp_path)
    assert names(tmp_path) == {"task-old"}
