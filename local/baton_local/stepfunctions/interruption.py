"""How whatever an execution waits for ends at once when the execution, or a branch of it, is over."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any


class Interrupted(BaseException):
    """The execution or the branch is over: unwind, past every ``except Exception`` of the interpreter."""


class TimedOut(TimeoutError):
    """A task ran longer than its TimeoutSeconds."""


class HeartbeatTimedOut(TimeoutError):
    """A task did not report for longer than its HeartbeatSeconds."""


class Interruption:
    """Set once, when an evaluation is over; wakes everybody who waits in it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._over = False
        self._waiting: set[threading.Event] = set()

    def set(self) -> None:
        """Say that it is over."""
        with self._lock:
            self._over = True
            for event in self._waiting:
                event.set()

    def is_set(self) -> bool:
        """Tell whether it is over."""
        return self._over

    @contextmanager
    def watch(self, event: threading.Event) -> Iterator[None]:
        """Set an event, too, when it is over."""
        with self._lock:
            self._waiting.add(event)
            if self._over:
                event.set()
        try:
            yield
        finally:
            with self._lock:
                self._waiting.discard(event)

    def sleep(self, seconds: float) -> None:
        """Wait; raise Interrupted as soon as it is over."""
        event = threading.Event()
        with self.watch(event):
            event.wait(max(seconds, 0.0))
        self.check()

    def check(self) -> None:
        """Raise Interrupted if it is over."""
        if self._over:
            raise Interrupted


@dataclass
class Attempt:
    """The clocks of one attempt at a task, in seconds; None is no limit."""

    timeout: float | None = None
    heartbeat: float | None = None
    started: float = field(default_factory=time.monotonic)
    reported: float = field(default_factory=time.monotonic)

    def remaining(self) -> float | None:
        """Return how long until the first clock runs out."""
        ends = [self.started + self.timeout] if self.timeout is not None else []
        ends += [self.reported + self.heartbeat] if self.heartbeat is not None else []
        return max(min(ends) - time.monotonic(), 0.0) if ends else None

    def check(self) -> None:
        """Raise the error of a clock that has run out."""
        now = time.monotonic()
        if self.timeout is not None and now >= self.started + self.timeout:
            raise TimedOut
        if self.heartbeat is not None and now >= self.reported + self.heartbeat:
            raise HeartbeatTimedOut


def call(over: Interruption, attempt: Attempt, function: Callable[[], Any]) -> Any:
    """Return what a function returns or raises, unless it is over before or a clock runs out.

    The function runs in a thread of its own, which is left alone when nobody waits for it any more: like a Lambda
    function that goes on after its execution was stopped.
    """
    done = threading.Event()
    outcome: list[Any] = []
    error: list[BaseException] = []

    def work() -> None:
        try:
            outcome.append(function())
        except BaseException as problem:
            error.append(problem)
        done.set()

    threading.Thread(target=work, name="task", daemon=True).start()
    with over.watch(done):
        while not error and not outcome:
            done.wait(attempt.remaining())
            over.check()
            if not error and not outcome:
                attempt.check()
    if error:
        raise error[0]
    return outcome[0]
