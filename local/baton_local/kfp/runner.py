"""The process of one pipeline run: ``kfp.local`` executes the uploaded IR here.

The run's folder holds ``run.json`` (see ``RunFolder``), and gets the journal, one log a task, and kfp's outputs. A
task runs in a process of its own, with the pod's environment and nothing of the server's.
"""

from __future__ import annotations

import builtins
import contextlib
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from baton_local.kfp import journal

SUCCEEDED, FAILED = "SUCCEEDED", "FAILED"
GRACE_SECONDS = 30.0
"""How long a task may go on after SIGTERM: a pod's terminationGracePeriodSeconds."""

_COMPONENT_COMMAND = ["sh", "-ec"]
_EXECUTOR = "python3 -m kfp.dsl.executor_main"
_task_name: ContextVar[str] = ContextVar("task_name", default="task")
_terminating = threading.Event()
_print = builtins.print


@dataclass(frozen=True)
class RunFolder:
    """Where a run's process finds what to run, and leaves what it says."""

    path: Path

    @property
    def journal(self) -> Path:
        """The run's events, as JSON lines."""
        return self.path / "journal.jsonl"

    def prepare(self, run_id: str, ir: dict[str, Any], parameters: dict[str, Any], pod: dict[str, str]) -> None:
        """Write what the run's process needs; ``pod`` is the environment of its tasks."""
        self.path.mkdir(parents=True, mode=0o700)
        (self.path / "logs").mkdir()
        (self.path / "work").mkdir()
        content = {"run_id": run_id, "ir": ir, "parameters": parameters, "pod": pod}
        (self.path / "run.json").write_text(json.dumps(content))

    def read(self) -> dict[str, Any]:
        """Return what ``prepare`` wrote."""
        content: dict[str, Any] = json.loads((self.path / "run.json").read_text())
        return content

    def log(self, task: str) -> Path:
        """The log of a task."""
        return self.path / "logs" / f"{task}.log"

    def logs(self) -> dict[str, str]:
        """Return every task's log."""
        return {p.stem: p.read_text(errors="replace") for p in sorted((self.path / "logs").glob("*.log"))}


def execute(folder: RunFolder, fork: bool) -> int:
    """Run the pipeline of a folder to its end; return the exit code.

    With ``fork`` a lightweight component starts as a copy of this process, which has kfp and boto3 loaded already,
    instead of a shell that starts a new interpreter; what it executes is the same.
    """
    _lead_a_process_group()
    signal.signal(signal.SIGTERM, _terminate_tasks)
    journal.write(folder.journal, "started", pid=os.getpid())
    content = folder.read()
    try:
        _run_pipeline(folder, content, fork)
    except Exception as error:
        print(f"The pipeline run failed: {error}", file=sys.stderr, flush=True)
        journal.write(folder.journal, "ended", state=FAILED)
        return 1
    journal.write(folder.journal, "ended", state=SUCCEEDED)
    return 0


def _lead_a_process_group() -> None:
    # So that a signal reaches every task, also those behind a shell.
    if hasattr(os, "setpgid"):
        with contextlib.suppress(PermissionError):
            os.setpgid(0, 0)


def _terminate_tasks(_signal: int, _frame: FrameType | None) -> NoReturn:
    """End the run as a cluster does: SIGTERM to every task, a grace period, then SIGKILL; no exit task runs."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    _terminating.set()
    until = time.monotonic() + GRACE_SECONDS
    os.killpg(0, signal.SIGTERM)
    while time.monotonic() < until and (_children_left() or _group_left()):
        time.sleep(0.02)
    os.killpg(0, signal.SIGKILL)
    os._exit(128 + signal.SIGTERM)


def _children_left() -> bool:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return False
    return True


def _group_left() -> bool:
    """Whether a task goes on whose shell is gone: a shell ends by SIGTERM at once, and its command is no child of ours.

    Where there is no /proc, such a task gets no grace period.
    """
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _parent, group = stat.read_text().rpartition(")")[2].split()[:3]
            if int(group) == os.getpgrp() and state != "Z" and int(stat.parent.name) != os.getpid():
                return True
    return False


def _run_pipeline(folder: RunFolder, content: dict[str, Any], fork: bool) -> None:
    from kfp import components, local  # type: ignore[import-untyped]

    from baton_local.kfp import dag

    # KFP's backend resolves this placeholder to the run's id too, wherever it stands in a parameter.
    text = json.dumps(content["ir"]).replace("{{$.pipeline_job_uuid}}", content["run_id"])
    local.init(
        runner=local.SubprocessRunner(use_venv=False),
        pipeline_root=str(folder.path / "outputs"),
        workspace_root=str(folder.path / "workspace"),
        raise_on_error=True,
    )
    dag.install()
    _follow_tasks(folder)
    _put_tasks_into_pods(folder, content["pod"], fork)
    components.load_component_from_text(text)(**content["parameters"])


def _follow_tasks(folder: RunFolder) -> None:
    """Tell the journal when each task starts and ends."""
    from kfp.local.orchestrator import task_executor  # type: ignore[import-untyped]

    inner = task_executor.execute_single_task

    def execute_single_task(task_name: str, **arguments: Any) -> Any:
        _task_name.set(task_name)
        journal.write(folder.journal, "task-started", task=task_name)
        state = FAILED
        try:
            outputs, status = inner(task_name=task_name, **arguments)
            state = SUCCEEDED if status.name == "SUCCESS" else FAILED
            return outputs, status
        finally:
            journal.write(folder.journal, "task-ended", task=task_name, state=state)

    task_executor.execute_single_task = execute_single_task


def _put_tasks_into_pods(folder: RunFolder, pod: dict[str, str], fork: bool) -> None:
    """Make ``kfp.local`` start its tasks with the pod's environment and a log each."""
    from kfp.local import status, subprocess_task_handler  # type: ignore[import-untyped]

    class PodTaskHandler(subprocess_task_handler.SubprocessTaskHandler):  # type: ignore[misc]
        def validate_image(self, image: str) -> None:
            """Accept any image: its content is what this interpreter has installed."""

        def run(self) -> Any:
            """Run the task's command and return whether it succeeded; a terminated run starts no task, and no retry."""
            if _terminating.is_set():
                return status.Status.FAILURE
            environment = {**pod, **self.env_vars}
            with folder.log(_task_name.get()).open("ab", buffering=0) as log:
                if fork and _is_lightweight(self.full_command):
                    code = _run_forked(self.full_command, environment, folder, log.fileno())
                else:
                    code = _run_command(self.full_command, environment, folder, log.fileno())
            return status.Status.SUCCESS if code == 0 else status.Status.FAILURE

    subprocess_task_handler.SubprocessTaskHandler = PodTaskHandler


def _is_lightweight(command: list[str]) -> bool:
    return command[:2] == _COMPONENT_COMMAND and _EXECUTOR in command[2]


def _run_command(command: list[str], environment: dict[str, str], folder: RunFolder, log: int) -> int:
    from kfp.local.subprocess_task_handler import replace_python_executable  # type: ignore[import-untyped]

    return subprocess.run(
        replace_python_executable(command, sys.executable),
        env=environment,
        cwd=folder.path / "work",
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        check=False,
    ).returncode


def _run_forked(command: list[str], environment: dict[str, str], folder: RunFolder, log: int) -> int:
    sys.stdout.flush()
    sys.stderr.flush()
    # A SIGTERM that arrived in between would run this process's handler in the task's.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    pid = os.fork()
    if pid:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    code = 1
    try:
        with _as_pod(environment, folder, log):
            _execute_component(command[3], command[4:])
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 1
    finally:
        os._exit(code)


@contextlib.contextmanager
def _as_pod(environment: dict[str, str], folder: RunFolder, log: int) -> Iterator[None]:
    """Turn this forked process into what a new interpreter in the pod would be, for the with block."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder.path / "work")
    tempfile.tempdir = None
    os.dup2(log, 1)
    os.dup2(log, 2)
    sys.stdout = open(1, "w", buffering=1, closefd=False)  # noqa: SIM115 (lives as long as the process)
    sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115
    logging.root.handlers.clear()
    # kfp.local indents what is printed while a task runs, which this process has inherited.
    builtins.print = _print
    try:
        yield
    except Exception:
        logging.getLogger().exception("The task failed.")
        raise SystemExit(1) from None
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


def _execute_component(source: str, arguments: list[str]) -> None:
    """Do what the shell command of a lightweight component does: write its source to a file and execute that."""
    from kfp.dsl import executor_main  # type: ignore[import-untyped]

    os.environ["_KFP_RUNTIME"] = "true"
    program = Path(tempfile.mkdtemp()) / "ephemeral_component.py"
    program.write_text(source)
    sys.argv = [executor_main.__file__ or "", "--component_module_path", str(program), *arguments]
    try:
        executor_main.executor_main()
    finally:
        shutil.rmtree(program.parent, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(execute(RunFolder(Path(sys.argv[1])), fork=False))
