"""Starts the processes of sandboxes: a new interpreter for a function's first ones, forks of a zygote from then on.

Importing boto3 and the function's library costs most of a second of processor time, which a cloud whose sandboxes are
killed again and again would pay every time.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from baton_local.lambda_ import zygote

CAN_FORK = sys.platform == "linux"
"""macOS's system libraries do not survive a fork without an exec, and Windows has none."""

INTERPRETERS = 2
"""How many sandboxes of a function start as new interpreters before a zygote pays."""

PYTHON = [sys.executable, "-S", "-P", "-u"]
"""The interpreter with nothing of this environment's site-packages."""


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
        self._births: Counter[Any] = Counter()
        self._zygotes: dict[Any, _Zygote] = {}

    def start(self, key: Any, birth: Birth, secret: Sequence[str]) -> Process:
        """Start a process; ``secret`` are the variables of its own, which no zygote gets."""
        with self._lock:
            self._births[key] += 1
            zygote_ = self._zygote(key, birth, secret) if self._births[key] > INTERPRETERS and self._fork else None
        return zygote_.start(birth) if zygote_ else _interpreter(birth)

    def close(self) -> None:
        """End every zygote, and with it the sandboxes that are its children."""
        with self._lock:
            zygotes, self._zygotes = list(self._zygotes.values()), {}
            self._fork = False
        for each in zygotes:
            each.close()

    def _zygote(self, key: Any, birth: Birth, secret: Sequence[str]) -> _Zygote:
        found = self._zygotes.get(key)
        if found is None or not found.is_alive:
            shared = {name: value for name, value in birth.environment.items() if name not in secret}
            found = self._zygotes[key] = _Zygote(birth, shared)
        return found


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


class _Zygote:
    """A running zygote of one function."""

    def __init__(self, birth: Birth, environment: Mapping[str, str]) -> None:
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        self._forks: dict[int, _Fork] = {}
        self._process = subprocess.Popen(
            [*PYTHON, str(Path(zygote.__file__).resolve()), birth.client, birth.handler],
            cwd=birth.folder,
            env=dict(environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        threading.Thread(target=self._listen, name="zygote", daemon=True).start()

    @property
    def is_alive(self) -> bool:
        """Whether it can fork."""
        return self._process.poll() is None

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
        if self._process.stdin:
            self._process.stdin.close()
        self._process.wait()

    def _ask(self, request: Mapping[str, Any], fork: _Fork) -> None:
        assert self._process.stdin is not None
        try:
            with self._lock:
                self._process.stdin.write(f"{json.dumps(request)}\n".encode())
                self._process.stdin.flush()
        except OSError:
            fork.end(1)

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            facts = json.loads(line)
            if "pid" in facts:
                fork = self._forks[facts["number"]]
                fork.pid = facts["pid"]
                fork.born.set()
            else:
                self._forks.pop(facts["number"]).end(facts["code"])
        with self._lock:
            left, self._forks = list(self._forks.values()), {}
        for fork in left:
            fork.end(1)
