"""An execution's history, read as the states that it went through."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

_BAD_ENDS = ("Failed", "TimedOut", "Aborted")
_ENDS = ("Succeeded", *_BAD_ENDS)
INSTANT = frozenset({"Choice", "Pass", "Succeed", "Fail"})
"""The types of states that take no time of their own."""
_PAGE = 20


@dataclass
class Visit:
    """One visit of a state: its name and type, when it was entered and left (None: not left), what became of it.

    ``inside`` is the visit of the Parallel state around it, or None.
    """

    name: str
    entered: datetime
    left: datetime | None = None
    outcome: str = "running"
    kind: str = "Task"
    inside: Visit | None = None

    @property
    def seconds(self) -> float:
        """How long the visit took; 0 while it lasts."""
        return (self.left - self.entered).total_seconds() if self.left else 0.0

    @property
    def instant(self) -> bool:
        """Whether the state is one that takes no time of its own."""
        return self.kind in INSTANT

    def is_inside(self, other: Visit) -> bool:
        """Whether another visit is around this one, at any depth."""
        return self.inside is not None and (self.inside is other or self.inside.is_inside(other))


@dataclass(frozen=True)
class Step:
    """A visit that began, or ended."""

    visit: Visit
    what: Literal["entered", "left"]


class History:
    """Follows an execution through its history events; every call of ``read`` takes up the new ones.

    ``visits`` are those of its states, in order; ``is_over`` tells whether the last event is the execution's end.
    """

    def __init__(self, stepfunctions: Any, execution_arn: str) -> None:
        self._stepfunctions = stepfunctions
        self._arn = execution_arn
        self._last_id = 0
        self._types: dict[int, str] = {}
        self._visit_of: dict[int, Visit] = {}
        self.visits: list[Visit] = []
        self.is_over = False

    @property
    def transitions(self) -> int:
        """How many states have been entered; Step Functions bills retries beside them."""
        return len(self.visits)

    def read(self) -> list[Step]:
        """Take up what is new; return in order which visits began and which ended, each of it once."""
        steps: list[Step] = []
        for event in reversed(list(self._new_events())):
            self._last_id = event["id"]
            steps += self._take(event)
        return steps

    def _new_events(self) -> Iterator[dict[str, Any]]:
        """Yield the events that were not read yet, the last first: a look costs what is new and not the whole."""
        request = {"executionArn": self._arn, "reverseOrder": True, "maxResults": _PAGE, "includeExecutionData": False}
        while True:
            page = self._stepfunctions.get_execution_history(**request)
            for event in page["events"]:
                if event["id"] <= self._last_id:
                    return
                yield event
            if not page.get("nextToken"):
                return
            request["nextToken"] = page["nextToken"]

    def _take(self, event: dict[str, Any]) -> list[Step]:
        kind, when, before = event["type"], event["timestamp"], event.get("previousEventId", 0)
        self._types[event["id"]] = kind
        if kind.startswith("Execution"):
            self.is_over = kind.endswith(_ENDS)
        if kind.endswith("StateEntered"):
            return self._enter(event, Visit(event["stateEnteredEventDetails"]["name"], when))
        if before in self._visit_of:
            self._visit_of[event["id"]] = self._visit_of[before]
        if kind.endswith("StateExited"):
            return self._leave(event, "failed" if self._types.get(before, "").endswith(_BAD_ENDS) else "succeeded")
        if kind.endswith("StateAborted"):
            # It names no state: the one to which the event before it belongs.
            return _close([v for v in self._open() if v is self._visit_of.get(event["id"])], when, "aborted")
        if kind.startswith("Execution") and kind.endswith(_BAD_ENDS):
            return _close(self._open()[::-1], when, kind.removeprefix("Execution").lower())
        return []

    def _enter(self, event: dict[str, Any], visit: Visit) -> list[Step]:
        visit.kind = event["type"].removesuffix("StateEntered")
        before = self._visit_of.get(event.get("previousEventId", 0))
        # After a state was left comes the next of the same level, else the first state inside a Parallel.
        visit.inside = before if before is None or before.left is None else before.inside
        self._visit_of[event["id"]] = visit
        self.visits.append(visit)
        return [Step(visit, "entered")]

    def _leave(self, event: dict[str, Any], outcome: str) -> list[Step]:
        found = self._open(event["stateExitedEventDetails"]["name"])[-1:]
        for visit in found:
            self._visit_of[event["id"]] = visit
        # A state that fails inside a Parallel has no event of its own for it.
        inner = [visit for visit in self._open()[::-1] if any(visit.is_inside(outer) for outer in found)]
        return _close(inner, event["timestamp"], "failed") + _close(found, event["timestamp"], outcome)

    def _open(self, name: str = "") -> list[Visit]:
        """Return the visits that go on: all of them, or those of one state."""
        return [visit for visit in self.visits if visit.left is None and name in ("", visit.name)]


def _close(visits: list[Visit], when: datetime, outcome: str) -> list[Step]:
    for visit in visits:
        visit.left, visit.outcome = when, outcome
    return [Step(visit, "left") for visit in visits]
