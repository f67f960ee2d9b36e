"""Folders that are made once, by the hash of what is in them, and used again by later embedded clouds."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from baton_local.locks import fcntl

KEPT_SECONDS = 7 * 24 * 3600.0
"""How long a folder that no cloud uses stays: each build of Baton's layers and functions makes new ones."""


class FolderCache:
    """The folders under one root; what nobody has used for a week is forgotten when it is opened.

    Nothing is forgotten while another process has it open, because a cloud uses its folders for as long as it runs;
    nor where the system has no locks by which to know that.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        root.mkdir(parents=True, exist_ok=True)
        self._lock = _open(root)

    def folder(self, kind: str, key: list[str], fill: Callable[[Path], None]) -> Path:
        """Return the folder of a key; ``fill`` puts into an empty one what belongs there, where it is not there yet."""
        digest = hashlib.sha256("\n".join([sys.version, *key]).encode()).hexdigest()[:20]
        folder = self._root / f"{kind}-{digest}"
        if folder.is_dir():
            with contextlib.suppress(OSError):  # another user's
                os.utime(folder)
            return folder
        building = Path(tempfile.mkdtemp(prefix=f"{kind}-building-", dir=self._root))
        fill(building)
        _publish(building, folder)
        return folder


def _open(root: Path) -> int | None:
    """Forget what is old unless another process has the cache open; return the lock that says that this one has.

    It is held until the process ends, whatever ends it.
    """
    if fcntl is None:
        return None
    lock = os.open(root / "in-use", os.O_RDONLY | os.O_CREAT, 0o644)
    with contextlib.suppress(OSError):
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _forget(root, time.time() - KEPT_SECONDS)
    # A file system without locks gives nobody the first one either.
    with contextlib.suppress(OSError):
        fcntl.flock(lock, fcntl.LOCK_SH)
    return lock


def _forget(root: Path, before: float) -> None:
    for folder in root.iterdir():
        if folder.is_dir() and folder.stat().st_mtime < before:
            shutil.rmtree(folder, ignore_errors=True)


def _publish(building: Path, folder: Path) -> None:
    """Put a finished folder in its place at once; another process may have been first."""
    try:
        building.rename(folder)
    except OSError:
        if not folder.is_dir():
            raise
        shutil.rmtree(building, ignore_errors=True)
