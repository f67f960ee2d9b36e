"""moto's evaluation environments, made so that their end is final and is felt at once everywhere below them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from moto.stepfunctions.parser.asl.eval.program_state import (
    ProgramEnded,
    ProgramError,
    ProgramRunning,
    ProgramStopped,
    ProgramTimedOut,
)

from baton_local.seams import replace
from baton_local.stepfunctions.interruption import Interruption

_MODULE = "moto.stepfunctions.parser.asl.eval.environment"
_moto: dict[str, Any] = {}


@dataclass
class Progress:
    """How far a program came: its present state with that state's input, and how far the state's branches came.

    ``resuming``: the program is to start here, because the execution was redriven.
    """

    state: str | None = None
    input: Any = None
    branches: list[Progress] | None = None
    ended: bool = False
    output: Any = None
    resuming: bool = False

    def enter(self, state: str, value: Any) -> None:
        """Note that a state is entered."""
        if not self.resuming:
            self.branches = None
        self.state, self.input = state, value

    def resume(self) -> None:
        """Let the program, and the branches that did not end, start where they are."""
        self.resuming = not self.ended
        for branch in self.branches or []:
            branch.resume()


def install() -> None:
    """Open the seams."""
    _moto["init"] = replace(
        _MODULE,
        "Environment.__init__",
        _init,
        (
            "self",
            "aws_execution_details",
            "execution_type",
            "context",
            "event_history_context",
            "cloud_watch_logging_session",
            "activity_store",
            "variable_store",
            "mock_test_case",
        ),
    )
    replace(_MODULE, "Environment.set_ended", lambda self: end(self, ProgramEnded), ("self",))
    replace(_MODULE, "Environment.set_error", _set_error, ("self", "error"))
    replace(_MODULE, "Environment.set_timed_out", lambda self: end(self, ProgramTimedOut), ("self",))
    replace(_MODULE, "Environment.set_stop", _set_stop, ("self", "stop_date", "cause", "error"))
    for name in ("open_frame", "open_inner_frame"):
        _moto[name] = replace(_MODULE, f"Environment.{name}", _open_with(name), ("self", "event_history_context"))


def end(env: Any, make_state: Callable[[], Any]) -> None:
    """End an environment and every frame in it; the first end counts."""
    with env._state_mutex:
        if env._program_state is None or isinstance(env._program_state, ProgramRunning):
            env._program_state = make_state()
            for frame in list(env._frames):
                end(frame, make_state)
    env.over.set()
    env.program_state_event.set()


def _init(self: Any, *arguments: Any, **options: Any) -> None:
    _moto["init"](self, *arguments, **options)
    self.over = Interruption()
    self.progress = Progress()


def _set_error(self: Any, error: Any) -> None:
    end(self, lambda: ProgramError(error=error))


def _set_stop(self: Any, stop_date: Any, cause: str | None, error: str | None) -> None:
    end(self, lambda: ProgramStopped(stop_date=stop_date, cause=cause, error=error))


def _open_with(name: str) -> Callable[..., Any]:
    def opened(self: Any, event_history_context: Any = None) -> Any:
        with self._state_mutex:
            frame = _moto[name](self, event_history_context)
            if not self.is_running():
                frame.over.set()
        return frame

    return opened
