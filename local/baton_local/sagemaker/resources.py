"""The things that SageMaker keeps: each has a name, an ARN, tags, and what Describe answers about it."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from baton_local.sagemaker import engine
from baton_local.sagemaker.events import Description, Tags
from baton_local.sagemaker.pool import JobFailure, WorkerKilledError

MAX_REASON = 1024


def now() -> datetime:
    """Return the time in UTC, to the millisecond, as SageMaker's answers have it."""
    moment = datetime.now(UTC)
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


class Resource:
    """One named thing. moto's tagging API reads ``arn`` and ``tags``.

    ``region``: where it is. ``description``: what Describe answers; change it only under ``lock``.
    """

    event: tuple[str, Callable[[Description, Tags], Description]]
    """The detail type of its events, and what makes their detail."""

    def __init__(self, arn: str, tags: Tags, description: Description) -> None:
        self.arn = arn
        self.name = arn.partition("/")[2]
        self.region, self.account_id = arn.split(":")[3:5]
        self.tags = tags
        self.lock = threading.RLock()
        self.description = description

    def describe(self) -> Description:
        """Return a copy of what Describe answers."""
        with self.lock:
            return copy.deepcopy({name: value for name, value in self.description.items() if value is not None})

    def change(self, **changes: Any) -> None:
        """Change the description and announce it, as one step."""
        with self.lock:
            self.description.update(changes)
            self.announce()

    def announce(self) -> None:
        """Put an event with the present state on the bus."""
        detail_type, detail = self.event
        with self.lock:
            made = detail(copy.deepcopy(self.description), list(self.tags))
            engine.current().emitter.put(self.account_id, self.region, detail_type, [self.arn], made)


class StoppedError(Exception):
    """The job was told to stop, or ran longer than it may."""


class Job(Resource):
    """Something that runs in a thread of its own and ends Completed, Failed or Stopped.

    ``interrupt`` is set when it is told to stop and when its time is over.
    """

    kind: str
    """Its kind in ``faults``."""
    status_field: str
    end_field: str

    def __init__(self, arn: str, tags: Tags, description: Description) -> None:
        super().__init__(arn, tags, description)
        self.interrupt = threading.Event()
        self.overran = False
        self.fault = engine.current().faults.strike(self.kind, self.name)
        self._worker: Any = None
        self._listeners: list[Callable[[], None]] = []

    @property
    def status(self) -> str:
        """Its status, as the API spells it."""
        return str(self.description[self.status_field])

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self.status in ("InProgress", "Stopping")

    def start(self) -> None:
        """Announce the job and run it."""
        self.announce()
        engine.current().pool.warm()
        threading.Thread(target=self._run, name=self.arn, daemon=True).start()

    def when_ended(self, listener: Callable[[], None]) -> None:
        """Have something called when the job has ended."""
        self._listeners.append(listener)

    def stop(self) -> bool:
        """Tell the job to stop; return false if it is not in progress any more."""
        with self.lock:
            if self.status != "InProgress":
                return False
            self.change(**self.stopping_changes())
            self._interrupt()
        return True

    def work(self) -> Description:
        """Do the job; return what changes in the description when it is Completed."""
        raise NotImplementedError

    def settle(self) -> None:
        """Wait for what has to end before the job itself can."""

    def stopping_changes(self) -> Description:
        """Return what changes when the job is told to stop."""
        return {self.status_field: "Stopping", "LastModifiedTime": now()}

    def end_changes(self, status: str) -> Description:
        """Return what changes whenever the job ends with a status."""
        return {self.status_field: status, self.end_field: now(), "LastModifiedTime": now()}

    def pause(self, simulated_seconds: float) -> None:
        """Wait; raise StoppedError when interrupted."""
        if engine.current().pause(simulated_seconds, self.interrupt):
            raise StoppedError

    def suffer(self) -> None:
        """Do to the job what its fault says: keep it in progress, let it fail."""
        if self.interrupt.wait(self.fault.in_progress_seconds):
            raise StoppedError
        if self.fault.fail is not None:
            raise JobFailure(self.fault.fail)

    def compute(self, request: dict[str, Any], tell: Callable[[str], None]) -> dict[str, Any]:
        """Run a request in a worker process, which is killed when the job is interrupted."""
        with engine.current().pool.lease(self.interrupt.is_set) as worker:
            with self.lock:
                if self.interrupt.is_set():
                    raise StoppedError
                self._worker = worker
            try:
                return worker.call(request, tell)
            finally:
                with self.lock:
                    self._worker = None

    def limit_runtime(self, seconds: float) -> threading.Timer:
        """Start the clock of the stopping condition; the caller cancels it."""
        timer = threading.Timer(seconds, self._overrun)
        timer.daemon = True
        timer.start()
        return timer

    def _overrun(self) -> None:
        with self.lock:
            self.overran = True
            self._interrupt()

    def _interrupt(self) -> None:
        self.interrupt.set()
        if self._worker:
            self._worker.kill()

    def _run(self) -> None:
        try:
            self._end(*self._outcome())
        finally:
            for listener in self._listeners:
                listener()

    def _outcome(self) -> tuple[str, Description]:
        try:
            return "Completed", self.work()
        except JobFailure as failure:
            return "Failed", {"FailureReason": str(failure)[:MAX_REASON]}
        except (StoppedError, WorkerKilledError):
            if self.interrupt.is_set():
                return "Stopped", {}
            return "Failed", {
                "FailureReason": "InternalServerError: We encountered an internal error. Please try again."
            }
        except Exception as error:
            return "Failed", {"FailureReason": f"InternalServerError: {error!r}"[:MAX_REASON]}

    def _end(self, status: str, changes: Description) -> None:
        if status == "Stopped" or self.status == "Stopping":
            threading.Event().wait(engine.current().pauses.stop / engine.current().context.clock_scale)
        self.settle()
        with self.lock:
            final = "Stopped" if self.status == "Stopping" else status
            self.change(**changes, **self.end_changes(final))
