"""The worker processes in which jobs compute, so that the server's interpreter stays free to answer."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from baton_local.sagemaker.kmeans import ClientError

_WAIT_SECONDS = 0.05
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


class WorkerKilledError(Exception):
    """The worker was killed, or died, while it computed."""


class Worker:
    """One worker process."""

    def __init__(self) -> None:
        environment = {**os.environ, **_ONE_THREAD, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "baton_local.sagemaker.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            text=True,
            bufsize=1,
        )

    def call(self, request: dict[str, Any], tell: Callable[[str], None]) -> dict[str, Any]:
        """Return the result of a request; raise JobFailure with its FailureReason, or WorkerKilledError.

        ``tell`` gets the name of each phase. A call that does not get its answer leaves the worker dead.
        """
        try:
            return self._ask(request, tell)
        except JobFailure:
            raise
        except BaseException:
            self.kill()
            raise

    def _ask(self, request: dict[str, Any], tell: Callable[[str], None]) -> dict[str, Any]:
        assert self._process.stdin
        assert self._process.stdout
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
        except OSError as error:
            raise WorkerKilledError from error
        for line in self._process.stdout:
            message = json.loads(line)
            if "phase" in message:
                tell(message["phase"])
            elif "failed" in message:
                raise JobFailure(message["failed"])
            else:
                result: dict[str, Any] = message["done"]
                return result
        raise WorkerKilledError

    def kill(self) -> None:
        """End the process at once."""
        self._process.kill()

    def alive(self) -> bool:
        """Tell whether the process runs."""
        return self._process.poll() is None

    def close(self) -> None:
        """Kill the process and wait until it is gone."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe:
                pipe.close()


class JobFailure(Exception):
    """A job's FailureReason."""

    @classmethod
    def of(cls, error: ClientError) -> JobFailure:
        """Return the failure that a customer's error makes."""
        return cls(str(error))


class WorkerPool:
    """At most ``size`` workers, started when they are first needed."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._free = threading.BoundedSemaphore(size)
        self._lock = threading.Lock()
        self._idle: list[Worker] = []
        self._all: list[Worker] = []

    @contextmanager
    def lease(self, given_up: Callable[[], bool]) -> Iterator[Worker]:
        """Wait for a worker and lend it; raise WorkerKilledError if ``given_up()`` turns true first."""
        while not self._free.acquire(timeout=_WAIT_SECONDS):
            if given_up():
                raise WorkerKilledError
        try:
            worker = self._take()
            try:
                yield worker
            finally:
                self._give_back(worker)
        finally:
            self._free.release()

    def warm(self) -> None:
        """Start a worker that will soon be needed, unless one is idle or there are enough."""
        with self._lock:
            if not self._idle and len(self._all) < self._size:
                self._idle.append(self._start())

    def close(self) -> None:
        """Kill every worker."""
        with self._lock:
            workers, self._all, self._idle = self._all, [], []
        for worker in workers:
            worker.close()

    def _take(self) -> Worker:
        with self._lock:
            while self._idle:
                worker = self._idle.pop()
                if worker.alive():
                    return worker
                self._all.remove(worker)
                worker.close()
            return self._start()

    def _start(self) -> Worker:
        worker = Worker()
        self._all.append(worker)
        return worker

    def _give_back(self, worker: Worker) -> None:
        with self._lock:
            if worker in self._all:
                self._idle.append(worker)
