"""Telling a process to stop, also from the handler of a signal."""

from __future__ import annotations

import queue


class Stop:
    """An event that a signal's handler may set.

    ``threading.Event`` locks itself out where the handler interrupts its own ``wait``; putting into a SimpleQueue is
    reentrant: https://docs.python.org/3/library/queue.html#simplequeue-objects
    """

    def __init__(self) -> None:
        self._told: queue.SimpleQueue[None] = queue.SimpleQueue()

    def set(self) -> None:
        """Tell the process to stop."""
        self._told.put(None)

    def is_set(self) -> bool:
        """Whether it was told."""
        return not self._told.empty()

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until it is told, or for so long; return whether it was."""
        try:
            self._told.get(timeout=seconds)
        except queue.Empty:
            return False
        self._told.put(None)
        return True
