"""An execution's history, read as the states that it went through."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any


@dataclass
class Visit:
    """One visit of a state: its name, when it was entered and left (None: not left), and what became of it."""

    name: str
    entered: datetime
    left: datetime | None = None
    outcome: str = "running"

    @property
    def seconds(self) -> float:
        """How long the visit took; 0 while it lasts."""
        return (self.left - self.entered).total_seconds() if self.left else 0.0


class History:
    """Follows an execution through its history events; every call of ``read`` takes up the new ones."""

    def __init__(self, stepfunctions: Any, execution_arn: str) -> None:
        self._stepfunctions = stepfunctions
        self._arn = execution_arn
        self._seen = 0
        self._types: dict[int, str] = {}
        self.visits: list[Visit] = []

    @property
    def transitions(self) -> int:
        """How many states have been entered, which is what Step Functions bills."""
        return len(self.visits)

    def read(self) -> list[Visit]:
        """Take up what is new; return the visits that began or ended."""
        changed = []
        for event in list(self._events())[self._seen :]:
            self._seen += 1
            visit = self._take(event)
            if visit:
                changed.append(visit)
        return changed

    def _events(self) -> Iterator[dict[str, Any]]:
        request = {"executionArn": self._arn, "maxResults": 1000}
        while True:
            page = self._stepfunctions.get_execution_history(**request)
            yield from page["events"]
            if not page.get("nextToken"):
                return
            request["nextToken"] = page["nextToken"]

    def _take(self, event: dict[str, Any]) -> Visit | None:
        kind, when = event["type"], event["timestamp"]
        self._types[event["id"]] = kind
        if kind.endswith("StateEntered"):
            visit = Visit(event["stateEnteredEventDetails"]["name"], when)
            self.visits.append(visit)
            return visit
        if kind.endswith("StateExited"):
            caught = self._types.get(event.get("previousEventId", 0), "").endswith(("Failed", "TimedOut", "Aborted"))
            return self._close(event["stateExitedEventDetails"]["name"], when, "failed" if caught else "succeeded")
        if kind in ("ExecutionFailed", "ExecutionAborted", "ExecutionTimedOut"):
            for visit in self.visits:
                if visit.left is None:
                    visit.left, visit.outcome = when, kind.removeprefix("Execution").lower()
        return None

    def _close(self, name: str, when: datetime, outcome: str) -> Visit | None:
        visit = next((v for v in reversed(self.visits) if v.name == name and v.left is None), None)
        if visit:
            visit.left, visit.outcome = when, outcome
        return visit
