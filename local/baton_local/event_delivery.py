"""Deliveries on their way from an event bus to a target: in the background, with the faults that the dials ask for."""

from __future__ import annotations

import heapq
import itertools
import sys
import threading
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from baton_local.dials import Dials

_WORKERS = 16
HOLD_SECONDS = 1.0
"""How long a delivery that the reorder dial holds back waits for a later one to overtake it."""
_OVERTAKEN_SECONDS = 0.05

Job = Callable[[], None]


@dataclass(order=True)
class _Entry:
    at: float
    number: int
    job: Job = field(compare=False)
    key: str = field(compare=False, default="")
    done: bool = field(compare=False, default=False)


class Dispatcher:
    """Runs jobs in a pool of threads, some of them later, and knows how many are under way.

    Jobs with the same ``key`` go to the same place: only among them does an order exist that the reorder dial can turn.
    """

    def __init__(self, dials: Dials) -> None:
        self._dials = dials
        self._random = dials.randomness("events")
        self._state = threading.Condition()
        self._queue: list[_Entry] = []
        self._held: dict[str, list[_Entry]] = {}
        self._numbers = itertools.count()
        self._pending = 0
        self._closed = False
        self._pool = ThreadPoolExecutor(_WORKERS, thread_name_prefix="events")
        threading.Thread(target=self._run, name="events-clock", daemon=True).start()

    def submit(self, job: Job, key: str = "", faulty: bool = False, durable: bool = False) -> None:
        """Run a job soon; with ``faulty`` the dials may double, delay, hold back and, unless ``durable``, lose it."""
        now = time.monotonic()
        with self._state:
            for delay, hold in self._draw(durable) if faulty else [(0.0, False)]:
                entry = self._add(now + delay + (HOLD_SECONDS if hold else 0.0), job, key)
                if hold:
                    self._held.setdefault(key, []).append(entry)
                else:
                    self._release(key, entry.at + _OVERTAKEN_SECONDS)
            self._state.notify_all()

    def later(self, seconds: float, job: Job) -> None:
        """Run a job after some seconds."""
        with self._state:
            self._add(time.monotonic() + seconds, job, "")
            self._state.notify_all()

    def pending(self) -> int:
        """Return how many jobs wait or run."""
        with self._state:
            return self._pending

    def drain(self, seconds: float) -> bool:
        """Wait until nothing is under way; return whether that was reached in time."""
        with self._state:
            return self._state.wait_for(lambda: self._pending == 0, seconds)

    def shutdown(self) -> int:
        """Stop; return how many jobs will not run any more."""
        with self._state:
            self._closed = True
            left = sum(1 for entry in self._queue if not entry.done)
            self._queue.clear()
            self._state.notify_all()
        self._pool.shutdown(wait=False, cancel_futures=True)
        return left

    def _draw(self, durable: bool) -> list[tuple[float, bool]]:
        """Draw what becomes of a delivery: the delay of each copy that arrives, and whether it is held back."""
        lost, double = self._random.random() < self._dials.loss, self._random.random() < self._dials.duplicate
        copies = [
            (self._random.uniform(0.0, self._dials.delay_seconds), self._random.random() < self._dials.reorder)
            for _ in range(2 if double else 1)
        ]
        return [] if lost and not durable else copies

    def _add(self, at: float, job: Job, key: str) -> _Entry:
        entry = _Entry(at, next(self._numbers), job, key)
        if not self._closed:
            heapq.heappush(self._queue, entry)
            self._pending += 1
        return entry

    def _release(self, key: str, at: float) -> None:
        """Let what was held back for this key follow the delivery that has overtaken it."""
        for held in self._held.pop(key, []):
            if not held.done and held.at > at:
                held.done = True
                self._pending -= 1
                self._add(at, held.job, key)

    def _run(self) -> None:
        with self._state:
            while not self._closed:
                if not self._queue:
                    self._state.wait()
                    continue
                wait = self._queue[0].at - time.monotonic()
                if wait > 0:
                    self._state.wait(wait)
                else:
                    self._start(heapq.heappop(self._queue))

    def _start(self, entry: _Entry) -> None:
        if not entry.done:
            entry.done = True
            held = self._held.get(entry.key, [])
            if entry in held:
                held.remove(entry)
            self._pool.submit(self._work, entry.job)

    def _work(self, job: Job) -> None:
        try:
            job()
        except Exception:
            print(f"baton: an event delivery failed:\n{traceback.format_exc()}", file=sys.stderr, flush=True)
        finally:
            with self._state:
                self._pending -= 1
                self._state.notify_all()
