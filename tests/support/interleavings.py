"""Explores every order in which processes can make their calls.

A process is real code that runs in a greenlet and stops before each call that it makes to the world. The explorer
picks who goes next; it visits every choice, by running the world anew from its beginning along each path. Two points
with equal worlds, whose processes have seen equal answers, have equal futures, so each is explored once; the number
of schedules (complete paths) is counted all the same, by adding up the paths below each point.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any, Protocol

from greenlet import greenlet


class Crashed(BaseException):
    """Thrown into a process that is killed; nothing of it runs any more."""


class Process:
    """One invocation of a function: real code, stopped before each of its calls."""

    def __init__(self, name: str, body: Callable[[], Any]) -> None:
        self.name = name
        self.seen: list[str] = []
        self.result: Any = None
        self.done = False
        self.crashed = False
        self.pending = "start"
        self._greenlet = greenlet(lambda _: self._run(body))

    def _run(self, body: Callable[[], Any]) -> None:
        try:
            self.result = body()
        except Crashed:
            self.crashed = True
        except Exception as error:  # an invocation that ends with an error has a result like any other
            self.result = error
        self.done = True

    def step(self) -> None:
        """Let the process make its pending call and run up to its next one."""
        self._greenlet.switch(False)

    def crash(self) -> None:
        """Let the process make its pending call, and kill it before it sees the answer."""
        self._greenlet.switch(True)

    def call(self, name: str, effect: Callable[[], Any]) -> Any:
        """Make a call from inside the process, when the explorer says so."""
        self.pending = name
        killed = greenlet.getcurrent().parent.switch()
        try:
            answer = effect()
        except Exception as error:
            self.seen.append(f"{name} -> {error!r}")
            if killed:
                raise Crashed from None
            raise
        self.seen.append(f"{name} -> {answer!r}")
        if killed:
            raise Crashed
        return answer


class World(Protocol):
    """What is explored."""

    def choices(self) -> list[str]:
        """Name what can happen next; none when everything is over."""

    def do(self, choice: str) -> None:
        """Let it happen."""

    def state(self) -> Hashable:
        """Everything on which the future depends."""

    def check(self) -> None:
        """Assert what must hold at all times."""

    def check_end(self) -> None:
        """Assert what must hold when nothing more can happen."""


@dataclass
class Explored:
    """What an exploration saw."""

    points: int = 0
    schedules: int = 0
    longest: int = 0
    ends: dict[str, int] = field(default_factory=dict)


def explore(make_world: Callable[[], World], limit: int = 2_000_000) -> Explored:
    """Visit every order; raise AssertionError with the schedule that breaks a promise."""
    explored = Explored()
    paths_below: dict[Hashable, int] = {}

    def replay(path: tuple[str, ...]) -> World:
        world = make_world()
        try:
            for choice in path:
                world.do(choice)
                world.check()
        except AssertionError as error:
            raise AssertionError(f"{error}\nschedule:\n  " + "\n  ".join(path)) from error
        return world

    def visit(path: tuple[str, ...]) -> int:
        world = replay(path)
        state = world.state()
        if state in paths_below:
            return paths_below[state]
        explored.points += 1
        assert explored.points < limit, "the exploration does not end"
        explored.longest = max(explored.longest, len(path))
        choices = world.choices()
        if not choices:
            try:
                world.check_end()
            except AssertionError as error:
                raise AssertionError(f"{error}\nschedule:\n  " + "\n  ".join(path)) from error
        total = sum(visit((*path, choice)) for choice in choices) or 1
        paths_below[state] = total
        return total

    explored.schedules = visit(())
    return explored
