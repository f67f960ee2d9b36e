"""Executions: each is started once, ends once, and tells so."""

from __future__ import annotations

import copy
import json
import threading
import weakref
from datetime import UTC, datetime, timedelta
from typing import Any

from moto.stepfunctions.parser.api import ExecutionStatus, HistoryEventType
from moto.stepfunctions.parser.asl.eval.environment import Environment
from moto.stepfunctions.parser.asl.eval.evaluation_details import AWSExecutionDetails
from moto.stepfunctions.parser.asl.eval.event.event_manager import EventHistoryContext
from moto.stepfunctions.parser.asl.eval.program_state import ProgramEnded, ProgramError, ProgramStopped
from moto.stepfunctions.parser.asl.utils.encoding import to_json_str
from moto.stepfunctions.parser.backend.execution import Execution

from baton_local.dials import Dials
from baton_local.event_delivery import Dispatcher
from baton_local.stepfunctions.definitions import program_of
from baton_local.stepfunctions.environment import Progress, end
from baton_local.stepfunctions.errors import RUNTIME, api_error
from baton_local.stepfunctions.evaluation import timestamp
from baton_local.stepfunctions.history import History
from baton_local.stepfunctions.status_events import emit_status, logging_session

REDRIVABLE_FOR = timedelta(days=14)
_clock: list[Dispatcher] = []
_ENDS = {
    ExecutionStatus.SUCCEEDED: (HistoryEventType.ExecutionSucceeded, "executionSucceededEventDetails"),
    ExecutionStatus.FAILED: (HistoryEventType.ExecutionFailed, "executionFailedEventDetails"),
    ExecutionStatus.ABORTED: (HistoryEventType.ExecutionAborted, "executionAbortedEventDetails"),
    ExecutionStatus.TIMED_OUT: (HistoryEventType.ExecutionTimedOut, "executionTimedOutEventDetails"),
}


def start_clock() -> None:
    """Start the one clock by which executions time out."""
    stop_clock()
    _clock[:] = [Dispatcher(Dials())]


def stop_clock() -> None:
    """Stop it."""
    for clock in _clock:
        clock.shutdown()
    _clock.clear()


class Worker:
    """Where moto looks for an execution's environment."""

    env: Any = None


class Run(Execution):
    """An execution of a state machine, of one of its versions, or through an alias.

    ``state_machine`` is a snapshot of what runs; ``state_machine_arn`` is always the machine's own ARN.
    """

    def __init__(self, version_arn: str | None, alias_arn: str | None, machine_arn: str, **fields: Any) -> None:
        super().__init__(cloud_watch_logging_session=None, activity_store={}, **fields)
        self.state_machine_arn = machine_arn
        self.version_arn = version_arn
        self.alias_arn = alias_arn
        self.exec_status = ExecutionStatus.RUNNING
        self.output_text: str | None = None
        self.redrive_count = 0
        self.redrive_date: datetime | None = None
        self.progress = Progress()
        self.history = History(logging_session(self, self.state_machine.loggingConfiguration))  # type: ignore[attr-defined]
        self.exec_worker = Worker()  # type: ignore[assignment]
        self._lock = threading.RLock()

    @property
    def env(self) -> Any:
        """The environment of the present drive."""
        return self.exec_worker.env  # type: ignore[union-attr]

    @property
    def redrive_status(self) -> str:
        """Return whether the execution can be redriven."""
        return "NOT_REDRIVABLE" if self.redrive_status_reason else "REDRIVABLE"

    @property
    def redrive_status_reason(self) -> str | None:
        """Return why the execution cannot be redriven, or None if it can."""
        if self.exec_status == ExecutionStatus.RUNNING:
            return "Execution is RUNNING and cannot be redriven"
        if self.exec_status == ExecutionStatus.SUCCEEDED:
            return "Execution is SUCCEEDED and cannot be redriven"
        if datetime.now(UTC) - self.start_date > REDRIVABLE_FOR:
            return "Execution was started more than 14 days ago"
        return None

    def start(self) -> None:
        """Start the execution."""
        emit_status(self)
        self._drive(HistoryEventType.ExecutionStarted, self._started_details())

    def redrive(self) -> datetime:
        """Start it again where it failed; return when. Raise the API's error if that cannot be."""
        with self._lock:
            reason = self.redrive_status_reason
            if reason:
                raise api_error("ExecutionNotRedrivable", f"{reason}: '{self.exec_arn}'")
            self.redrive_count += 1
            self.redrive_date = datetime.now(UTC)
            self.exec_status = ExecutionStatus.RUNNING
            self.stop_date = self.error = self.cause = None
            # Copies: threads of the former drive may not have noticed yet that it is over.
            self.progress = copy.deepcopy(self.progress)
            self.progress.resume()
            self.history = self.history.continued()
        emit_status(self)
        details = {"executionRedrivenEventDetails": {"redriveCount": self.redrive_count}}
        self._drive(HistoryEventType.ExecutionRedriven, details)
        return self.redrive_date

    def stop(self, stop_date: datetime, error: str | None, cause: str | None) -> None:
        """Abort the execution, whatever it is doing."""
        self._finish(ExecutionStatus.ABORTED, error=error, cause=cause)
        env = self.env
        if env is not None:
            end(env, lambda: ProgramStopped(stop_date=stop_date, error=error, cause=cause))

    def time_out(self, redrive_count: int) -> None:
        """End the execution because it took too long, unless it was redriven since the clock was set."""
        if redrive_count == self.redrive_count and self._finish(ExecutionStatus.TIMED_OUT, error=None, cause=None):
            self.env.set_timed_out()

    def _drive(self, event_type: Any, details: Any) -> None:
        with self._lock:
            if self.exec_status != ExecutionStatus.RUNNING:
                return
            env = self.exec_worker.env = self._environment()  # type: ignore[union-attr]
            self.history.add_event(
                context=env.event_history_context,
                event_type=event_type,
                event_details=details,
                update_source_event_id=False,
            )
        threading.Thread(target=self._work, args=(env,), name=f"execution {self.name}", daemon=True).start()

    def _work(self, env: Any) -> None:
        try:
            program = program_of(self.state_machine.definition)
            limit = program.timeout_seconds.timeout_seconds if program.timeout_seconds else None
            if limit and _clock:
                _clock[0].later(limit, _time_out_later(weakref.ref(self), self.redrive_count))
            program.eval(env)
        except Exception as error:
            env.set_error({"error": RUNTIME, "cause": f"{type(error).__name__}({error})"})
        self._reflect(env)

    def _reflect(self, env: Any) -> None:
        """Take over how the program ended, unless the execution was ended from outside."""
        state = env.program_state()
        if isinstance(state, ProgramEnded):
            output = env.states.get_input()
            self._finish(ExecutionStatus.SUCCEEDED, output=output)
        elif isinstance(state, ProgramError):
            failure = state.error or {}
            self._finish(ExecutionStatus.FAILED, error=failure.get("error"), cause=failure.get("cause"))

    def _finish(
        self, status: ExecutionStatus, error: str | None = None, cause: str | None = None, output: Any = None
    ) -> bool:
        """End the execution if it still runs; return whether this was its end."""
        with self._lock:
            if self.exec_status != ExecutionStatus.RUNNING:
                return False
            self.stop_date = datetime.now(UTC)
            self.error, self.cause = error, cause
            if status == ExecutionStatus.SUCCEEDED:
                self.output = output
                self.output_text = to_json_str(output, separators=(",", ":"))
            event_type, name = _ENDS[status]
            self.history.close_with(event_type, {name: self._end_details()})
            self.exec_status = status
        emit_status(self)
        return True

    def _end_details(self) -> dict[str, Any]:
        if self.output_text is not None:
            return {"output": self.output_text, "outputDetails": {"truncated": False}}
        texts = {"error": self.error, "cause": self.cause}
        return {name: text for name, text in texts.items() if text is not None}

    def _started_details(self) -> dict[str, Any]:
        details = {"input": self.execution_input, "inputDetails": {"truncated": False}, "roleArn": self.role_arn}
        arns = {"stateMachineVersionArn": self.version_arn, "stateMachineAliasArn": self.alias_arn}
        details |= {name: arn for name, arn in arns.items() if arn}
        return {"executionStartedEventDetails": details}

    def _environment(self) -> Any:
        """Return the environment of a drive, with the context object that ``$$`` shows."""
        execution = {
            "Id": self.exec_arn,
            "Input": json.loads(self.execution_input),
            "Name": self.name,
            "RoleArn": self.role_arn,
            "StartTime": timestamp(self.start_date),
            "RedriveCount": self.redrive_count,
        }
        if self.redrive_date:
            execution["RedriveTime"] = timestamp(self.redrive_date)
        machine = {"Id": self.state_machine_arn, "Name": self.state_machine.name}
        env: Any = Environment(
            aws_execution_details=AWSExecutionDetails(self.account_id, self.region_name, self.role_arn),
            execution_type=self.state_machine.sm_type,
            context={"Execution": execution, "StateMachine": machine},  # type: ignore[typeddict-item]
            event_history_context=EventHistoryContext(previous_event_id=self.history.last_id()),
            cloud_watch_logging_session=None,
            activity_store={},
        )
        env.event_manager = self.history
        env.progress = self.progress
        return env


def _time_out_later(run: weakref.ref[Run], redrive_count: int) -> Any:
    def time_out() -> None:
        found = run()
        if found is not None:
            found.time_out(redrive_count)

    return time_out
