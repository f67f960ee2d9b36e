"""Embedded clouds that are forked from a process that has imported them, so that not each test waits for moto.

What is different from ``baton_local.cloud.new_interpreter`` is only when modules are imported.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from typing import IO

PRELOADED = "tests.support.cloud_modules"


class ForkedCloud:
    """A forked process, as ``subprocess.Popen`` has it."""

    def __init__(self, process: ForkServerProcess, stdin: IO[bytes]) -> None:
        assert process.pid is not None
        self._process = process
        self.pid: int = process.pid
        self.stdin: IO[bytes] | None = stdin

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        code = self._process.exitcode
        if code is None:
            raise subprocess.TimeoutExpired("baton_local.server", timeout or 0.0)
        return code

    def terminate(self) -> None:
        self._process.terminate()

    def kill(self) -> None:
        self._process.kill()


def launch(arguments: Sequence[str], log: IO[bytes]) -> ForkedCloud:
    """Start a cloud's process, as ``new_interpreter`` does."""
    context = _context()
    reader, writer = context.Pipe(duplex=False)
    with reader, writer:
        process = context.Process(target=_serve, args=(list(arguments), dict(os.environ), log.name, reader))
        process.start()
        return ForkedCloud(process, os.fdopen(os.dup(writer.fileno()), "wb"))


@cache
def _context() -> ForkServerContext:
    """Return the context of the process that forks; it starts with the first cloud, with this one's import path."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([PRELOADED])
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(p for p in sys.path if p)
    try:
        importlib.import_module("multiprocessing.forkserver").ensure_running()
    finally:
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before
    return context


def _serve(arguments: Sequence[str], environment: Mapping[str, str], log: str, standard_input: Connection) -> None:
    """Become the cloud's process; never return."""
    from baton_local import server

    os.dup2(standard_input.fileno(), 0)
    with Path(log).open("ab") as written:
        os.dup2(written.fileno(), 1)
        os.dup2(written.fileno(), 2)
    standard_input.close()
    os.environ.clear()
    os.environ.update({**environment, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)})
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    code = 1
    try:
        code = server.main(arguments)
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
