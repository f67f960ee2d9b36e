"""Locks among processes, where the system has them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

fcntl: ModuleType | None
try:
    import fcntl
except ImportError:  # Windows
    fcntl = None


@contextlib.contextmanager
def alone(path: Path) -> Iterator[None]:
    """Let one process into the block while the others wait for it; where there are no such locks, let each in.

    ``path`` is the file that is locked; it is made, and stays. The system gives the lock back when a holder is killed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as lock:
        if fcntl is not None:
            # A file system without locks is like a system without them.
            with contextlib.suppress(OSError):
                fcntl.flock(lock, fcntl.LOCK_EX)
        yield
