"""A process that has kfp and boto3 loaded, and becomes each pipeline run's process by forking.

Loading them costs a second of processor time; a run would pay it once, and its tasks again and again. One line of
standard input is the folder of a run to start. When standard input ends, every run is killed.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import select
import signal
import sys
import warnings
from pathlib import Path

import boto3
import botocore.session

from baton_local.kfp import journal
from baton_local.kfp.runner import RunFolder, execute

_MODULES = (
    "kfp.components",
    "kfp.dsl.executor_main",
    "kfp.local",
    "baton_local.kfp.dag",
    "baton_steps.claim",
    "baton_steps.events",
    "baton_steps.stages",
)
_SERVICES = ("dynamodb", "events", "logs", "sagemaker")
"""What the steps call: their API models are parsed once, here."""


def main() -> None:
    """Serve until standard input ends."""
    _load()
    wake = _wake_on_child_exit()
    runs: dict[int, RunFolder] = {}
    pending = b""
    while True:
        ready, _, _ = select.select([0, wake], [], [])
        if wake in ready:
            os.read(wake, 4096)
            _reap(runs)
        if 0 in ready:
            news = os.read(0, 65536)
            if not news:
                break
            *lines, pending = (pending + news).split(b"\n")
            for line in lines:
                folder = RunFolder(Path(line.decode()))
                runs[_fork(folder, wake)] = folder
    for pid in runs:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)


def _load() -> None:
    # A run forks its tasks from a thread while its main thread waits; they only execute what was loaded here.
    warnings.filterwarnings("ignore", category=DeprecationWarning, message=".*fork.*")
    warnings.filterwarnings("ignore", category=FutureWarning)
    for module in _MODULES:
        importlib.import_module(module)
    session = botocore.session.Session()
    loader = session.get_component("data_loader")
    for service in _SERVICES:
        loader.load_service_model(service, "service-2")
        loader.load_service_model(service, "endpoint-rule-set-1")
    for data in ("endpoints", "partitions", "sdk-default-configuration", "_retry"):
        loader.load_data(data)
    boto3.setup_default_session(botocore_session=session)
    # So that no collection touches, and thereby copies, the memory that the runs and their tasks share.
    gc.freeze()


def _wake_on_child_exit() -> int:
    read, write = os.pipe()
    os.set_blocking(write, False)
    signal.set_wakeup_fd(write)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    return read


def _fork(folder: RunFolder, wake: int) -> int:
    pid = os.fork()
    if pid:
        with contextlib.suppress(PermissionError, ProcessLookupError):
            os.setpgid(pid, pid)
        return pid
    code = 1
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.close(wake)
        _redirect(folder)
        code = execute(folder, fork=True)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _redirect(folder: RunFolder) -> None:
    nothing = os.open(os.devnull, os.O_RDONLY)
    log = os.open(folder.path / "run.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(nothing, 0)
    os.dup2(log, 1)
    os.dup2(log, 2)


def _reap(runs: dict[int, RunFolder]) -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not pid:
            return
        folder = runs.pop(pid, None)
        if folder is not None:
            _say_exited(folder, status)


def _say_exited(folder: RunFolder, status: int) -> None:
    with contextlib.suppress(FileNotFoundError):
        journal.write(folder.journal, "exited", code=os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    main()
