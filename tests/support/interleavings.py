"""Explores every order in which processes can make their calls.

A process is real code. It runs until it makes a call to the world, and is left there; what it does next depends on
nothing but the answers that it has had, so "a process that has had these answers" is a value (``Local``), and the real
code runs only once for each. A point of the world is a value as well: the table, the things, the tokens, the processes
under way. So all that the future depends on is in the point, equal points have equal futures, and each is explored
once; the number of schedules (complete paths) is counted all the same, by adding up the paths below each point.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

Call = tuple[Any, ...]
"""What a process asks of the world: the operation's name, then its parameters."""

Ask = Callable[..., str]
"""What a process's code makes its calls with: ``ask(operation, *parameters)`` gives the answer, as JSON text."""


class Paused(BaseException):
    """Leaves the real code at a call that has no answer yet; no ``except Exception`` in it sees this."""

    def __init__(self, call: Call) -> None:
        super().__init__(call)
        self.call = call


class Local:
    """A process as far as it has come: which call it is about to make, or how it ended."""

    __slots__ = ("answers", "call", "following", "key", "number", "result")

    def __init__(self, number: int, key: Hashable, answers: tuple[str, ...]) -> None:
        self.number = number
        self.key: Any = key
        self.answers = answers
        self.call: Call | None = None
        self.result: Any = None
        self.following: dict[str, Local] = {}

    def __repr__(self) -> str:
        return f"{self.key} about to {self.call}" if self.call else f"{self.key} done: {self.result!r}"


class Programs:
    """Runs the real code of processes, once for each sequence of answers that one can get.

    ``body`` runs the process of a key with an Ask; an exception that leaves it is a result like any other.
    """

    def __init__(self, body: Callable[[Any, Ask], Any]) -> None:
        self._body = body
        self._started: dict[Hashable, Local] = {}
        self.made = 0

    def start(self, key: Hashable) -> Local:
        """Return a process before its first call."""
        if key not in self._started:
            self._started[key] = self._run(key, ())
        return self._started[key]

    def after(self, local: Local, answer: str) -> Local:
        """Return what becomes of a process whose pending call is answered."""
        following = local.following.get(answer)
        if following is None:
            following = local.following[answer] = self._run(local.key, (*local.answers, answer))
        return following

    def _run(self, key: Hashable, answers: tuple[str, ...]) -> Local:
        self.made += 1
        local = Local(self.made, key, answers)
        given = iter(answers)

        def ask(*call: Any) -> str:
            for answer in given:
                return answer
            raise Paused(call)

        try:
            local.result = self._body(key, ask)
        except Paused as paused:
            local.call = paused.call
        except Exception as error:
            local.result = error
        return local


Point = TypeVar("Point", bound=Hashable)


class World(Protocol[Point]):
    """What is explored."""

    def first(self) -> Point:
        """Return where everything begins."""

    def moves(self, point: Point) -> Iterable[tuple[str, Point]]:
        """Name what can happen next, with the point to which it leads; nothing when everything is over."""

    def check(self, point: Point) -> None:
        """Assert what must hold at this point."""


@dataclass
class Explored:
    """What an exploration saw."""

    points: int = 0
    schedules: int = 0
    longest: int = 0

    def __str__(self) -> str:
        return f"{self.schedules:,} schedules through {self.points:,} points, the longest of {self.longest} steps"


class Violation(AssertionError):
    """A promise is broken; the message has the schedule that breaks it."""


class _Exploration(Generic[Point]):
    def __init__(self, world: World[Point], limit: int) -> None:
        self.world = world
        self.limit = limit
        self.below: dict[Point, tuple[int, int]] = {}
        self.path: list[str] = []

    def visit(self, point: Point) -> tuple[int, int]:
        """Return how many paths there are below a new point, and how long the longest is."""
        assert len(self.below) < self.limit, "the exploration does not end"
        try:
            self.world.check(point)
        except AssertionError as error:
            raise Violation(f"{error}\nschedule:\n  " + "\n  ".join(self.path)) from None
        paths, depth = 0, 0
        for label, following in self.world.moves(point):
            # Most points that one comes to are known, and a call takes as long as a look.
            found = self.below.get(following)
            if found is None:
                self.path.append(label)
                found = self.visit(following)
                self.path.pop()
            paths += found[0]
            if found[1] >= depth:
                depth = found[1] + 1
        seen = self.below[point] = (paths or 1, depth)
        return seen


def explore(world: World[Point], limit: int = 5_000_000) -> Explored:
    """Visit every order; raise Violation with the schedule that breaks a promise."""
    exploration = _Exploration(world, limit)
    # Nothing that is made here refers back to itself, and looking for that in millions of points takes a quarter more.
    gc.disable()
    try:
        schedules, longest = exploration.visit(world.first())
    finally:
        gc.enable()
    return Explored(len(exploration.below), schedules, longest)
