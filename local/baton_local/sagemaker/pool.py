"""The worker processes in which jobs compute, so that the server's interpreter stays free to answer."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from baton_local.forking import CAN_FORK
from baton_local.sagemaker.kmeans import ClientError

_WAIT_SECONDS = 0.05
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


class WorkerKilledError(Exception):
    """The worker was killed, or died, while it computed."""


class Worker:
    """One worker process, at the other end of a socket; it lives as long as the socket is open."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._lines = connection.makefile("r")
        self._killed = False

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
        try:
            self._socket.sendall(json.dumps(request).encode() + b"\n")
            for line in self._lines:
                message = json.loads(line)
                if "phase" in message:
                    tell(message["phase"])
                elif "failed" in message:
                    raise JobFailure(message["failed"])
                else:
                    result: dict[str, Any] = message["done"]
                    return result
        except OSError as error:
            raise WorkerKilledError from error
        raise WorkerKilledError

    def kill(self) -> None:
        """End the process at once."""
        self._killed = True
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    def alive(self) -> bool:
        """Tell whether the process runs, and is to go on."""
        if self._killed:
            return False
        try:
            return self._socket.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) != b""
        except BlockingIOError:
            return True
        except OSError:
            return False

    def close(self) -> None:
        """Kill the process and wait until it is gone."""
        self.kill()
        with contextlib.suppress(OSError, ValueError):
            while self._socket.recv(4096):
                pass
        self._lines.close()
        self._socket.close()


class _Nursery:
    """Starts workers: forks of a process that has loaded what they need, where that is sound."""

    def __init__(self, fork: bool) -> None:
        self._can_fork = fork
        self._asking: socket.socket | None = None
        self._started: list[subprocess.Popen[bytes]] = []

    def start(self) -> Worker:
        """Start one more worker."""
        ours, theirs = socket.socketpair()
        with theirs:
            if self._can_fork:
                self._fork(theirs)
            else:
                self._run("serve", theirs)
        return Worker(ours)

    def close(self) -> None:
        """End the processes that were started here; a fork of one ends with its socket."""
        if self._asking:
            self._asking.close()
            self._asking = None
        for process in self._started:
            process.kill()
            process.wait()
        self._started.clear()

    def _fork(self, theirs: socket.socket) -> None:
        if self._asking:
            with contextlib.suppress(OSError):
                socket.send_fds(self._asking, [b"."], [theirs.fileno()])
                return
            self._asking.close()
        self._asking, asked = socket.socketpair()
        with asked:
            self._run("fork", asked)
        socket.send_fds(self._asking, [b"."], [theirs.fileno()])

    def _run(self, task: str, standard_input: socket.socket) -> None:
        environment = {**os.environ, **_ONE_THREAD, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
        command = [sys.executable, "-m", "baton_local.sagemaker.worker", task]
        # Those that have ended are reaped, and forgotten.
        self._started = [process for process in self._started if process.poll() is None]
        self._started.append(subprocess.Popen(command, stdin=standard_input.fileno(), env=environment))


class JobFailure(Exception):
    """A job's FailureReason."""

    @classmethod
    def of(cls, error: ClientError) -> JobFailure:
        """Return the failure that a customer's error makes."""
        return cls(str(error))


class WorkerPool:
    """At most ``size`` workers, started when they are first needed."""

    def __init__(self, size: int, fork: bool = CAN_FORK) -> None:
        self._size = size
        self._free = threading.BoundedSemaphore(size)
        self._lock = threading.Lock()
        self._idle: list[Worker] = []
        self._all: list[Worker] = []
        self._nursery = _Nursery(fork)
        self._closed = False

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
            if not self._closed and not self._idle and len(self._all) < self._size:
                self._idle.append(self._start())

    def close(self) -> None:
        """Kill every worker, and start no more."""
        with self._lock:
            self._closed = True
            workers, self._all, self._idle = self._all, [], []
            # First, so that a worker that is yet to be forked needs no waiting for.
            self._nursery.close()
        for worker in workers:
            worker.close()

    def _take(self) -> Worker:
        with self._lock:
            if self._closed:
                raise WorkerKilledError
            while self._idle:
                worker = self._idle.pop()
                if worker.alive():
                    return worker
                self._all.remove(worker)
                worker.close()
            return self._start()

    def _start(self) -> Worker:
        worker = self._nursery.start()
        self._all.append(worker)
        return worker

    def _give_back(self, worker: Worker) -> None:
        with self._lock:
            if worker in self._all:
                self._idle.append(worker)
