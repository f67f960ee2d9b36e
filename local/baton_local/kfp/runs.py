"""Pipeline runs: their records as the API shows them, and their way from PENDING to an end."""

from __future__ import annotations

import signal
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from baton_local.kfp import journal
from baton_local.kfp.errors import InvalidArgument
from baton_local.kfp.launcher import Launcher, kill
from baton_local.kfp.packages import Spec, ir_of
from baton_local.kfp.runner import RunFolder

PENDING, RUNNING, SUCCEEDED, FAILED = "PENDING", "RUNNING", "SUCCEEDED", "FAILED"
CANCELING, CANCELED = "CANCELING", "CANCELED"
TERMINAL = (SUCCEEDED, FAILED, CANCELED, "SKIPPED")
_NEVER = "1970-01-01T00:00:00Z"

PodEnvironmentOf = Callable[["Run"], dict[str, str]]


def timestamp(seconds: float) -> str:
    """Return a time in the API's form."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@dataclass
class Task:
    """One task of a run, through all its attempts."""

    name: str
    started_at: float
    state: str = RUNNING
    ended_at: float | None = None
    task_id: str = field(default_factory=lambda: str(uuid.uuid4()))

    def as_detail(self, run_id: str) -> dict[str, Any]:
        """Return the PipelineTaskDetail."""
        detail = {
            "run_id": run_id,
            "task_id": self.task_id,
            "display_name": self.name,
            "create_time": timestamp(self.started_at),
            "start_time": timestamp(self.started_at),
            "state": self.state,
        }
        return {**detail, "end_time": timestamp(self.ended_at)} if self.ended_at else detail


@dataclass
class Run:
    """One pipeline run; what its process does is read from its journal whenever it is looked at."""

    run_id: str
    display_name: str
    experiment_id: str
    namespace: str
    service_account: str
    spec: Spec
    parameters: dict[str, Any]
    folder: RunFolder
    linger_seconds: float
    description: str = ""
    pipeline_root: str = ""
    version: dict[str, str] | None = None
    created_at: float = field(default_factory=time.time)
    archived: bool = False
    tasks: dict[str, Task] = field(default_factory=dict)
    history: list[tuple[float, str]] = field(default_factory=list)
    _pid: int | None = None
    _result: tuple[float, str] | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self._journal = journal.Reader(self.folder.journal)
        self.history.append((self.created_at, PENDING))

    @property
    def state(self) -> str:
        """The state that was last seen."""
        return self.history[-1][1]

    def start(self, launcher: Launcher, pod: dict[str, str]) -> None:
        """Start the run's process."""
        self.folder.prepare(self.run_id, ir_of(self.spec), self.parameters, pod)
        launcher.launch(self.folder)

    def fail_before_start(self) -> None:
        """End the run before its first task, as a failure of its root driver does."""
        self._become(RUNNING, time.time())
        self._result = (time.time(), FAILED)

    def refresh(self) -> None:
        """Read what has happened since the last look."""
        with self._lock:
            for event in self._journal.news():
                self._take(event)
            if self._result and self.state not in TERMINAL:
                ended, result = self._result
                # The backend reads a run's end from its workflow a little after its last task has ended.
                if time.time() >= ended + self.linger_seconds:
                    self._become(result, ended + self.linger_seconds)

    def terminate(self) -> None:
        """Ask the run to end: its tasks get SIGTERM; raise InvalidArgument if it has ended already."""
        self.refresh()
        with self._lock:
            if self.state in TERMINAL:
                raise InvalidArgument(f"Failed to terminate run {self.run_id}: a finished run cannot be terminated")
            if self.state != CANCELING:
                self._become(CANCELING, time.time())
            if self._pid is not None:
                kill(self._pid, signal.SIGTERM)

    def kill(self) -> None:
        """End the run's processes at once."""
        self.refresh()
        if self._pid is not None and self._result is None:
            kill(self._pid, getattr(signal, "SIGKILL", signal.SIGTERM))

    def _take(self, event: dict[str, Any]) -> None:
        at = event["at"]
        if event["event"] == "started":
            self._pid = event["pid"]
            if self.state == PENDING:
                self._become(RUNNING, at)
            else:
                # It was terminated before its process could say its id.
                kill(event["pid"], signal.SIGTERM)
        elif event["event"] == "task-started":
            self.tasks[event["task"]] = Task(event["task"], at)
        elif event["event"] == "task-ended":
            self.tasks[event["task"]].state, self.tasks[event["task"]].ended_at = event["state"], at
        elif self._result is None:
            self._end(event, at)

    def _end(self, event: dict[str, Any], at: float) -> None:
        result = event.get("state", FAILED)
        self._result = (at, CANCELED if self.state == CANCELING else result)
        for task in self.tasks.values():
            if task.ended_at is None:
                task.state, task.ended_at = CANCELED if self.state == CANCELING else FAILED, at

    def _become(self, state: str, at: float) -> None:
        self.history.append((at, state))

    def as_wire(self) -> dict[str, Any]:
        """Return the Run of the API, with empty fields left out."""
        ended = self.history[-1][0] if self.state in TERMINAL else None
        source = {"pipeline_version_reference": self.version} if self.version else {"pipeline_spec": self.spec}
        wire = {
            "experiment_id": self.experiment_id,
            "run_id": self.run_id,
            "display_name": self.display_name,
            "storage_state": "ARCHIVED" if self.archived else "AVAILABLE",
            "description": self.description,
            **source,
            "runtime_config": _present({"parameters": self.parameters, "pipeline_root": self.pipeline_root}),
            "service_account": self.service_account,
            "created_at": timestamp(self.created_at),
            "scheduled_at": timestamp(self.created_at),
            "finished_at": timestamp(ended) if ended else _NEVER,
            "state": self.state,
            "run_details": self._details(),
            "state_history": [{"update_time": timestamp(at), "state": state} for at, state in self.history],
        }
        return _present(wire)

    def _details(self) -> dict[str, Any]:
        details = [task.as_detail(self.run_id) for task in self.tasks.values()]
        return {"task_details": details} if details else {}


def _present(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value not in ("", {}, [], None)}
