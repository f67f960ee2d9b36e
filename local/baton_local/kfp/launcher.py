"""Starts the processes of pipeline runs: forked from a zygote where that is sound, a new interpreter elsewhere."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from baton_local.forking import CAN_FORK
from baton_local.kfp import journal
from baton_local.kfp.runner import RunFolder


def import_path() -> str:
    """Return the PYTHONPATH by which a new interpreter finds what this one finds of Baton."""
    found = [importlib.util.find_spec(name) for name in ("baton_local", "baton_steps")]
    folders = [str(Path(spec.submodule_search_locations[0]).parent) for spec in found
               if spec and spec.submodule_search_locations]  # fmt: skip
    return os.pathsep.join(dict.fromkeys(folders))


class Launcher:
    """Starts run processes, and ends them all when it is closed."""

    def __init__(self, fork: bool = CAN_FORK) -> None:
        self._fork = fork
        self._zygote: subprocess.Popen[bytes] | None = None
        self._runs: list[subprocess.Popen[bytes]] = []
        self._lock = threading.Lock()

    def warm_up(self) -> None:
        """Start loading kfp, so that the first run need not wait for it."""
        if self._fork:
            with self._lock:
                self._live_zygote()

    def launch(self, folder: RunFolder) -> None:
        """Start the run of a folder; its journal tells how it goes on, to the exit of its process."""
        if not self._fork:
            self._launch_interpreter(folder)
            return
        with self._lock:
            stdin = self._live_zygote().stdin
            assert stdin is not None
            stdin.write(f"{folder.path}\n".encode())
            stdin.flush()

    def close(self) -> None:
        """Kill every run and wait until they are gone."""
        with self._lock:
            zygote, self._zygote = self._zygote, None
        if zygote is not None and zygote.stdin:
            zygote.stdin.close()
            zygote.wait()
        for process in self._runs:
            kill(process.pid, getattr(signal, "SIGKILL", signal.SIGTERM))

    def _live_zygote(self) -> subprocess.Popen[bytes]:
        if self._zygote is None or self._zygote.poll() is not None:
            self._zygote = self._interpreter(["-m", "baton_local.kfp.zygote"], subprocess.PIPE, None)
        return self._zygote

    def _launch_interpreter(self, folder: RunFolder) -> None:
        with (folder.path / "run.log").open("ab") as log:
            process = self._interpreter(["-m", "baton_local.kfp.runner", str(folder.path)], subprocess.DEVNULL, log)
        self._runs.append(process)
        threading.Thread(target=_watch, args=(process, folder), daemon=True).start()

    def _interpreter(self, arguments: list[str], stdin: Any, log: Any) -> subprocess.Popen[bytes]:
        # Nothing of the server's AWS settings goes on: what a pod gets is in the run's folder.
        environment = {k: v for k, v in os.environ.items() if not k.startswith("AWS_")}
        environment["PYTHONPATH"] = import_path()
        return subprocess.Popen(
            [sys.executable, *arguments],
            stdin=stdin,
            stdout=log,
            stderr=log,
            env=environment,
            cwd=Path(__file__).parent,
            # An interrupt at the terminal must not end it before it has ended its runs.
            process_group=0,
        )


def kill(pid: int, number: int) -> None:
    """Send a signal to a run's process group, or to its process where there are no groups; it may be gone."""
    try:
        if hasattr(os, "killpg") and number != signal.SIGTERM:
            os.killpg(pid, number)
        else:
            # The run's process passes SIGTERM on itself, and then waits for its tasks.
            os.kill(pid, number)
    except ProcessLookupError:
        return


def _watch(process: subprocess.Popen[bytes], folder: RunFolder) -> None:
    code = process.wait()
    if folder.path.exists():
        journal.write(folder.journal, "exited", code=code)
