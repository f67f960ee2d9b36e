"""Starts the processes of sandboxes: forks of a zygote where that is sound, new interpreters elsewhere.

Importing boto3 and the function's library costs most of a second of processor time, which a cloud would pay for each
function, and one whose sandboxes are killed again and again would pay every time.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from baton_local.forking import CAN_FORK
from baton_local.lambda_ import zygote

PYTHON = [sys.executable, "-S", "-P", "-u"]
"""The interpreter with nothing of this environment's site-packages."""

_AT_START = ("LANG", "LC_", "LD_", "PATH", "PYTHON", "TZ")
"""How the names of variables begin that an interpreter goes by when it starts."""


class Process(Protocol):
    """A sandbox's process, as ``subprocess.Popen`` has it; a negative exit code is a signal's number."""

    @property
    def pid(self) -> int:
        """Its process id, which is its process group's too."""

    def poll(self) -> int | None:
        """Return its exit code, or None while it runs."""

    def wait(self) -> int:
        """Wait for its end and return its exit code."""

    def kill(self) -> None:
        """End it at once."""


@dataclass(frozen=True)
class Birth:
    """What a sandbox's process starts with: the runtime client (a module or a file), its handler, and where it is."""

    client: str
    handler: str
    environment: Mapping[str, str]
    folder: Path
    log: Path

    @property
    def command(self) -> list[str]:
        """The command that starts it as a new interpreter."""
        module = [self.client] if self.client.endswith(".py") else ["-m", self.client]
        return [*PYTHON, *module, self.handler]


class Nursery:
    """Starts processes, and ends its zygotes when it is closed; functions are told apart by any key."""

    def __init__(self, fork: bool = CAN_FORK) -> None:
        self._fork = fork
        self._lock = threading.Lock()
        self._runtimes: dict[Any, _Runtime] = {}
        self._zygotes: dict[Any, _Zygote] = {}

    def start(self, key: Any, birth: Birth, secret: Sequence[str]) -> Process:
        """Start a process; ``secret`` are the variables of its own, which no zygote gets.

        Its log is there from now on, also where it never comes to writing into it.
        """
        birth.log.touch(mode=0o600)
        with self._lock:
            zygote_ = self._zygote(key, birth, secret) if self._fork else None
        return zygote_.start(birth) if zygote_ else _interpreter(birth)

    def close(self) -> None:
        """End every zygote, and with it the sandboxes that are its children."""
        with self._lock:
            runtimes, self._runtimes = list(self._runtimes.values()), {}
            zygotes, self._zygotes = list(self._zygotes.values()), {}
            self._fork = False
        for zygote_ in zygotes:
            zygote_.close()
        for runtime in runtimes:
            runtime.close()

    def _zygote(self, key: Any, birth: Birth, secret: Sequence[str]) -> _Zygote:
        found = self._zygotes.get(key)
        if found is None or not found.is_alive:
            shared = {name: value for name, value in birth.environment.items() if name not in secret}
            runtime = self._runtime(_at_start(shared))
            found = self._zygotes[key] = _Zygote(runtime.fork(birth, shared))
        return found

    def _runtime(self, environment: Mapping[str, str]) -> _Runtime:
        key = tuple(sorted(environment.items()))
        found = self._runtimes.get(key)
        if found is None or not found.is_alive:
            found = self._runtimes[key] = _Runtime(environment)
        return found


def _at_start(environment: Mapping[str, str]) -> dict[str, str]:
    """Return what a runtime starts with: what an interpreter goes by, but for the function's own code."""
    found = {name: value for name, value in environment.items() if name.startswith(_AT_START)}
    layers = found.get("PYTHONPATH", "").split(os.pathsep)[1:]
    # Without a home botocore would look for models of services in that of whoever runs the cloud.
    return {**found, "PYTHONPATH": os.pathsep.join(layers), "HOME": os.devnull}


def _interpreter(birth: Birth) -> subprocess.Popen[bytes]:
    with birth.log.open("ab") as log:
        return subprocess.Popen(
            birth.command,
            cwd=birth.folder,
            env=dict(birth.environment),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


class _Fork:
    """A process that a zygote has forked."""

    def __init__(self) -> None:
        self.born = threading.Event()
        self._ended = threading.Event()
        self._code = 1
        self.pid = 0

    def end(self, code: int) -> None:
        """Take in its exit code."""
        if not self._ended.is_set():
            self._code = code
        self.born.set()
        self._ended.set()

    def poll(self) -> int | None:
        """Return its exit code, or None while it runs."""
        return self._code if self._ended.is_set() else None

    def wait(self) -> int:
        """Wait for its end and return its exit code."""
        self._ended.wait()
        return self._code

    def kill(self) -> None:
        """End it at once."""
        os.kill(self.pid, signal.SIGKILL)


class _Runtime:
    """A running process that has imported what the functions with some layers have in common."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._socket, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with other:
            self._process = subprocess.Popen(
                [*PYTHON, str(Path(zygote.__file__).resolve())],
                env=dict(environment),
                stdin=other.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )

    @property
    def is_alive(self) -> bool:
        """Whether it can fork."""
        return self._process.poll() is None

    def fork(self, birth: Birth, environment: Mapping[str, str]) -> socket.socket:
        """Fork a function's zygote and return the socket to speak with it; it says nothing where it could not be."""
        own, other = socket.socketpair()
        request = {"client": birth.client, "handler": birth.handler, "folder": str(birth.folder)}
        with other, contextlib.suppress(OSError):
            message = json.dumps({**request, "environment": dict(environment)}).encode()
            socket.send_fds(self._socket, [message], [other.fileno()])
        return own

    def close(self) -> None:
        """Let it end."""
        self._socket.close()
        self._process.wait()


class _Zygote:
    """A running zygote of one function."""

    def __init__(self, speaking: socket.socket) -> None:
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        self._forks: dict[int, _Fork] = {}
        self._socket = speaking
        self._listener = threading.Thread(target=self._listen, name="zygote", daemon=True)
        self._listener.start()

    @property
    def is_alive(self) -> bool:
        """Whether it can fork."""
        return self._listener.is_alive()

    def start(self, birth: Birth) -> _Fork:
        """Fork a sandbox's process and return it once it has an id; it has ended at once where the zygote is gone."""
        fork = _Fork()
        with self._lock:
            number = next(self._numbers)
            self._forks[number] = fork
        place = {"folder": str(birth.folder), "log": str(birth.log)}
        self._ask({"number": number, "environment": dict(birth.environment), **place}, fork)
        fork.born.wait()
        return fork

    def close(self) -> None:
        """Let it end its sandboxes, and itself."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)
        self._listener.join()
        self._socket.close()

    def _ask(self, request: Mapping[str, Any], fork: _Fork) -> None:
        try:
            with self._lock:
                self._socket.sendall(f"{json.dumps(request)}\n".encode())
        except OSError:
            fork.end(1)

    def _listen(self) -> None:
        with contextlib.suppress(OSError), self._socket.makefile("rb") as lines:
            for line in lines:
                self._take_in(json.loads(line))
        with self._lock:
            left, self._forks = list(self._forks.values()), {}
        for fork in left:
            # A zygote that was killed could not take its sandboxes with it, and nobody would learn of their ends.
            if fork.pid:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(fork.pid, signal.SIGKILL)
            fork.end(1)

    def _take_in(self, facts: Mapping[str, int]) -> None:
        if "pid" in facts:
            fork = self._forks[facts["number"]]
            fork.pid = facts["pid"]
            fork.born.set()
        else:
            self._forks.pop(facts["number"]).end(facts["code"])
