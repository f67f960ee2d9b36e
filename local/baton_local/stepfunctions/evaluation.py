"""The interpreter's inner loop: programs, attempts at states, branches, waits and retries, all of them stoppable."""

from __future__ import annotations

import copy
import threading
from datetime import UTC, datetime
from typing import Any

from moto.stepfunctions.parser.api import HistoryEventType, TaskFailedEventDetails
from moto.stepfunctions.parser.asl.component.common.error_name.error_name import ErrorName
from moto.stepfunctions.parser.asl.component.common.error_name.failure_event import (
    FailureEvent,
    FailureEventException,
)
from moto.stepfunctions.parser.asl.component.common.retry.max_attempts_decl import MaxAttemptsOutcome
from moto.stepfunctions.parser.asl.component.common.retry.retrier_outcome import RetrierOutcome
from moto.stepfunctions.parser.asl.component.common.timeouts.timeout import TimeoutSeconds
from moto.stepfunctions.parser.asl.component.state.exec.state_parallel.state_parallel import StateParallel
from moto.stepfunctions.parser.asl.component.state.exec.state_task.service.state_task_service import StateTaskService
from moto.stepfunctions.parser.asl.eval.event.event_detail import EventDetails
from moto.stepfunctions.parser.asl.eval.program_state import ProgramEnded, ProgramError
from moto.stepfunctions.parser.asl.utils.encoding import to_json_str
from moto.stepfunctions.parser.asl.utils.json_path import NoSuchJsonPathError

from baton_local.seams import replace
from baton_local.stepfunctions.environment import Progress
from baton_local.stepfunctions.errors import RUNTIME, is_matched
from baton_local.stepfunctions.interruption import Attempt, Interrupted, call

_COMPONENT = "moto.stepfunctions.parser.asl.component"
_moto: dict[str, Any] = {}
_ABORTED = {
    "StateParallel": HistoryEventType.ParallelStateAborted,
    "StateMap": HistoryEventType.MapStateAborted,
    "StateWait": HistoryEventType.WaitStateAborted,
}


def install() -> None:
    """Open the seams."""
    state = f"{_COMPONENT}.state"
    replace(f"{_COMPONENT}.program.program", "Program.eval", _eval_program, ("self", "env"))
    execute = f"{state}.exec.execute_state"
    replace(execute, "ExecutionState._evaluate_with_timeout", _attempt, ("self", "env"))
    _moto["from_error"] = replace(execute, "ExecutionState._from_error", _from_error, ("self", "env", "ex"))
    _moto["props"] = replace(execute, "ExecutionState.from_state_props", _from_state_props, ("self", "state_props"))
    replace(f"{state}.exec.state_parallel.branches_decl", "BranchesDecl._eval_body", _eval_branches, ("self", "env"))
    replace(
        f"{state}.wait.wait_function.wait_function",
        "WaitFunction._wait_interval",
        _wait,
        ("self", "env", "wait_seconds"),
    )
    replace(f"{_COMPONENT}.common.retry.retrier_decl", "RetrierDecl._eval_body", _eval_retrier, ("self", "env"))
    equals = f"{_COMPONENT}.common.error_name.error_equals_decl"
    replace(equals, "ErrorEqualsDecl._eval_body", _eval_error_equals, ("self", "env"))
    replace(f"{state}.state", "StateData", _state_data)
    # Interpreted programs are shared by executions, so a key made on first use could be made twice at once.
    replace(f"{_COMPONENT}.eval_component", "EvalComponent.heap_key", property(lambda self: str(id(self))), property)


def timestamp(moment: datetime) -> str:
    """Return a time as the context object has it: ISO 8601 in UTC with milliseconds."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


def runtime_failure(env: Any, cause: str) -> FailureEventException:
    """Return a States.Runtime error, to be raised."""
    details = EventDetails(taskFailedEventDetails=TaskFailedEventDetails(error=RUNTIME, cause=cause))  # type: ignore[typeddict-item]
    return FailureEventException(FailureEvent(env, ErrorName(RUNTIME), HistoryEventType.TaskFailed, details))


def _state_data(**given: Any) -> dict[str, Any]:
    return {"EnteredTime": timestamp(datetime.now(UTC)), "Name": given["Name"], "RetryCount": 0}


def _eval_program(self: Any, env: Any) -> None:
    """Run a program in this thread until it ends, fails, or is over."""
    progress = env.progress
    resumed = progress.resuming and progress.state is not None
    if resumed:
        env.states.reset(input_value=progress.input)
    try:
        env.next_state_name = progress.state if resumed else self.start_at.start_at_name
        _run_states(self, env)
    except Interrupted:
        _note_aborted_state(self, env)
    except FailureEventException as failure:
        env.set_error(error=failure.get_execution_failed_event_details())
    except Exception as error:
        env.set_error({"error": RUNTIME, "cause": f"{type(error).__name__}({error})"})


def _run_states(program: Any, env: Any) -> None:
    while env.is_running():
        state = program._get_state(env.next_state_name)
        env.progress.enter(state.name, env.states.get_input())
        state.eval(env)
        env.progress.resuming = False
        env.stack.clear()
        env.heap.clear()


def _note_aborted_state(program: Any, env: Any) -> None:
    state = program.states.states.get(env.progress.state)
    kind = type(state).__name__
    event = HistoryEventType.TaskStateAborted if kind.startswith("StateTask") else _ABORTED.get(kind)
    if event is not None:
        env.event_manager.add_event(context=env.event_history_context, event_type=event)


def _attempt(self: Any, env: Any) -> None:
    """Attempt a state once; on success leave its result where the state's output is made of it."""
    frame = env.open_frame()
    frame.progress = env.progress
    frame.states.reset(input_value=env.states.get_input())
    frame.stack = copy.deepcopy(env.stack)
    try:
        if isinstance(self, StateTaskService | StateParallel):
            self._eval_execution(frame)
        else:
            call(frame.over, Attempt(_timeout(self, env)), lambda: self._eval_execution(frame))
        frame.over.check()
    finally:
        frame.set_ended()
        env.close_frame(frame)
    _take_result(self, env, frame.stack.pop())


def _timeout(state: Any, env: Any) -> float | None:
    """Return a state's time-out in seconds, or None if it has none."""
    if state.timeout.is_default_value():
        return None
    state.timeout.eval(env=env)
    return positive_seconds(env, "TimeoutSeconds")


def positive_seconds(env: Any, name: str) -> float:
    """Take a number of seconds off the stack; raise States.Runtime if it is no positive whole number."""
    seconds = env.stack.pop()
    if isinstance(seconds, bool) or not isinstance(seconds, int) or seconds <= 0:
        raise runtime_failure(env, f"The value of the field {name} must be a positive integer, but is {seconds!r}")
    return float(seconds)


def _take_result(state: Any, env: Any, result: Any) -> None:
    env.stack.append(result)
    if not state._is_language_query_jsonpath():
        env.states.set_result(result)
    if state.assign_decl:
        state.assign_decl.eval(env=env)
    if state.result_selector:
        state.result_selector.eval(env=env)
    if state.result_path:
        state.result_path.eval(env)
    else:
        env.states.reset(input_value=env.stack.pop())


def _from_state_props(self: Any, state_props: Any) -> None:
    _moto["props"](self, state_props)
    # moto gives a task with a heartbeat and no TimeoutSeconds 60 seconds; AWS's default is 99999999.
    if isinstance(self.timeout, TimeoutSeconds) and self.timeout.is_default:
        self.timeout = TimeoutSeconds(TimeoutSeconds.DEFAULT_TIMEOUT_SECONDS)


def _from_error(self: Any, env: Any, ex: Exception) -> Any:
    if isinstance(ex, NoSuchJsonPathError):
        cause = (
            f"The JSONPath '{ex.json_path}' specified for the field '{env.next_field_name}' "
            f"could not be found in the input '{to_json_str(ex.data)}'"
        )
        return runtime_failure(env, cause).failure_event
    return _moto["from_error"](self, env=env, ex=ex)


def _wait(self: Any, env: Any, wait_seconds: float) -> None:
    del self
    env.over.sleep(wait_seconds)


def _eval_retrier(self: Any, env: Any) -> None:
    self.error_equals.eval(env)
    if not env.stack.pop():
        env.stack.append(RetrierOutcome.Skipped)
        return
    self.max_attempts.eval(env=env)
    if env.stack.pop() == MaxAttemptsOutcome.EXHAUSTED:
        env.stack.append(RetrierOutcome.Failed)
        return
    for part in (self.interval_seconds, self.backoff_rate, self.max_delay_seconds, self.jitter_strategy):
        part.eval(env=env)
    env.over.sleep(env.stack.pop())
    env.stack.append(RetrierOutcome.Executed)


def _eval_error_equals(self: Any, env: Any) -> None:
    error = env.stack.pop()
    name = error.error_name if error is not None else None
    env.stack.append(is_matched(name, [expected.error_name for expected in self.error_names]))


# --- Parallel ---------------------------------------------------------------------------------------------------------


class _Branch:
    """One branch of a Parallel state, in a thread of its own."""

    def __init__(self, program: Any, env: Any, value: Any, progress: Progress) -> None:
        self.progress = progress
        self.frame = env.open_inner_frame()
        self.frame.progress = progress
        self.frame.states.reset(input_value=value)
        self._program = program
        self._thread: threading.Thread | None = None

    def start(self, changed: threading.Event, failures: list[Any]) -> None:
        """Run the branch, unless it ended before a redrive; ``failures`` collects errors in the order they come."""
        if self.progress.ended:
            return

        def work() -> None:
            self._program.eval(self.frame)
            state = self.frame.program_state()
            if isinstance(state, ProgramError):
                failures.append(state.error or {})
            elif isinstance(state, ProgramEnded):
                self.progress.output = self.frame.states.get_input()
                self.progress.ended = True
            changed.set()

        self._thread = threading.Thread(target=work, name="branch", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the branch and wait until its thread is gone."""
        self.frame.set_stop(datetime.now(UTC), None, None)
        if self._thread:
            self._thread.join()


def _eval_branches(self: Any, env: Any) -> None:
    """Run the branches of a Parallel state; the first that fails ends the others."""
    value = env.stack.pop()
    before = env.progress.branches if env.progress.resuming else None
    env.progress.resuming = False
    env.progress.branches = before or [Progress() for _ in self.programs]
    changed, failures = threading.Event(), list[Any]()
    branches = [
        _Branch(program, env, value, progress)
        for program, progress in zip(self.programs, env.progress.branches, strict=True)
    ]
    for branch in branches:
        branch.start(changed, failures)
    _await_branches(env, branches, changed, failures)
    if failures:
        for branch in branches:
            branch.stop()
    for branch in branches:
        env.close_frame(branch.frame)
    if failures:
        raise _branch_failure(env, failures[0])
    env.stack.append([branch.progress.output for branch in branches])


def _await_branches(env: Any, branches: list[_Branch], changed: threading.Event, failures: list[Any]) -> None:
    with env.over.watch(changed):
        while not failures and not all(branch.progress.ended for branch in branches):
            changed.wait()
            changed.clear()
            env.over.check()


def _branch_failure(env: Any, error: dict[str, Any]) -> FailureEventException:
    return FailureEventException(
        FailureEvent(
            env=env,
            error_name=ErrorName(error.get("error")),
            event_type=HistoryEventType.ExecutionFailed,
            event_details=EventDetails(executionFailedEventDetails=error),  # type: ignore[typeddict-item]
        )
    )
