"""When each state of an execution ran, read from its history.

https://docs.aws.amazon.com/step-functions/latest/apireference/API_HistoryEvent.html
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

_SHOWN = ("Task", "Wait", "Parallel", "Map")
_BAD_ENDS = ("Failed", "TimedOut", "Aborted")


@dataclass
class Span:
    """One visit of a state; ``ended`` is None while it goes, ``attempts`` counts the starts of a task."""

    name: str
    kind: str
    depth: int
    started: datetime
    parent: Span | None = None
    ended: datetime | None = None
    outcome: str = "going"
    attempts: int = 0
    exited: bool = False

    def as_dict(self, now: datetime) -> dict[str, Any]:
        """Return the span for the report; ``seconds`` of a span that still goes is counted up to ``now``."""
        return {
            "name": self.name,
            "kind": self.kind,
            "depth": self.depth,
            "started": self.started.astimezone(UTC).isoformat(timespec="milliseconds"),
            "seconds": round(((self.ended or now) - self.started).total_seconds(), 3),
            "outcome": self.outcome,
            "attempts": max(1, self.attempts),
        }


class Timeline:
    """The spans of an execution, and how many state transitions it took so far."""

    def __init__(self, events: Iterable[Mapping[str, Any]]) -> None:
        self.spans: list[Span] = []
        self.transitions = 0
        self._owners: dict[int, Span | None] = {}
        for event in events:
            self._read(event)
        self._end_abandoned()

    @property
    def retries(self) -> int:
        """How many more starts its tasks took."""
        return sum(max(0, span.attempts - 1) for span in self.spans)

    def shown(self) -> list[Span]:
        """Return the spans in which something happens; choices and passes take no time."""
        return [span for span in self.spans if span.kind in _SHOWN]

    def ended(self, name: str) -> datetime | None:
        """Return when a state was left for the last time, or None."""
        ends = [span.ended for span in self.spans if span.name == name and span.ended]
        return max(ends) if ends else None

    def succeeded(self, name: str) -> datetime | None:
        """Return when the last visit of a state had done its work, or None where it has not."""
        spans = [span for span in self.spans if span.name == name]
        return spans[-1].ended if spans and spans[-1].outcome == "succeeded" else None

    def seconds(self, name: str) -> float | None:
        """Return how long a state took in all its visits that ended, or None where there are none."""
        spans = [span for span in self.spans if span.name == name]
        took = [(span.ended - span.started).total_seconds() for span in spans if span.ended]
        return round(sum(took), 3) if took else None

    def _read(self, event: Mapping[str, Any]) -> None:
        kind = event["type"]
        owner = self._owners.get(event.get("previousEventId", 0))
        if kind.endswith("StateEntered"):
            owner = self._enter(event, kind.removesuffix("StateEntered"), owner)
        elif kind.endswith("StateExited"):
            owner = self._exit(event)
        elif owner is not None:
            owner = _note(event, kind, owner)
        self._owners[event["id"]] = owner

    def _enter(self, event: Mapping[str, Any], kind: str, parent: Span | None) -> Span:
        self.transitions += 1
        depth = parent.depth + 1 if parent else 0
        span = Span(event["stateEnteredEventDetails"]["name"], kind, depth, event["timestamp"], parent)
        self.spans.append(span)
        return span

    def _exit(self, event: Mapping[str, Any]) -> Span | None:
        """End the state, and return the one around it: whatever follows in the history belongs there."""
        name = event["stateExitedEventDetails"]["name"]
        for span in reversed(self.spans):
            if span.name == name and not span.exited:
                span.exited, span.ended = True, event["timestamp"]
                span.outcome = "succeeded" if span.outcome == "going" else span.outcome
                return span.parent
        return None

    def _end_abandoned(self) -> None:
        """End what never left its state because the state around it did."""
        for span in self.spans:
            around = span.parent
            while around and not span.exited:
                if around.exited and (span.outcome == "going" or span.ended is None):
                    span.ended = around.ended
                    span.outcome = "aborted" if span.outcome == "going" else span.outcome
                around = around.parent


def _note(event: Mapping[str, Any], kind: str, owner: Span) -> Span:
    """Note what an event says of a state, and return the state that it is about."""
    for group in ("Parallel", "Map"):
        if kind.startswith(f"{group}State"):
            while owner.kind != group and owner.parent:
                owner = owner.parent
    if kind in ("TaskScheduled", "LambdaFunctionScheduled"):
        owner.attempts += 1
        owner.outcome, owner.ended = "going", None
    elif kind.endswith(_BAD_ENDS):
        owner.outcome, owner.ended = "failed", event["timestamp"]
    elif kind.endswith("Succeeded"):
        owner.outcome = "succeeded"
    return owner
