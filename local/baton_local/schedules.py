"""Scheduled EventBridge rules fire, on a clock that the context may let run faster than the world's."""

from __future__ import annotations

import sys
import threading
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from baton_local import bus
from baton_local.context import CloudContext
from baton_local.schedule_expressions import InvalidSchedule, parse_schedule
from baton_local.seams import register, replace

_TICK_SECONDS = 0.1
_moto: dict[str, Any] = {}
_clocks: list[ScheduleClock] = []


@dataclass
class ScheduleClock:
    """Knows when each scheduled rule fires next. ``scale``: simulated seconds in one real second."""

    scale: float = 1.0
    _start: datetime = field(default_factory=lambda: datetime.now(UTC))
    _started: float = field(default_factory=time.monotonic)
    _due: dict[tuple[str, str], datetime | None] = field(default_factory=dict)
    _stop: threading.Event = field(default_factory=threading.Event)

    def now(self) -> datetime:
        """Return the simulated time."""
        return self._start + timedelta(seconds=(time.monotonic() - self._started) * self.scale)

    def due(self, rules: list[Any], now: datetime) -> list[Any]:
        """Return the rules that fire now; a rule seen for the first time waits for its next time."""
        known = {_key(rule): rule for rule in rules}
        self._due = {key: moment for key, moment in self._due.items() if key in known}
        return [rule for key, rule in known.items() if self._fires(key, now)]

    def _fires(self, key: tuple[str, str], now: datetime) -> bool:
        schedule = parse_schedule(key[1])
        if key not in self._due:
            self._due[key] = schedule.next_after(now)
        moment = self._due[key]
        if moment is None or moment > now:
            return False
        # A clock that ran past several times fires once, as the next one is counted from now.
        self._due[key] = schedule.next_after(now)
        return True

    def run(self) -> None:
        """Let rules fire until ``stop``."""
        while not self._stop.wait(_TICK_SECONDS):
            try:
                for rule in self.due(list(_scheduled_rules()), self.now()):
                    bus.emit_scheduled(rule)
            except Exception:
                print(f"baton: a schedule failed:\n{traceback.format_exc()}", file=sys.stderr, flush=True)

    def stop(self) -> None:
        """End ``run``."""
        self._stop.set()


def install(context: CloudContext) -> None:
    """Start the clock, and refuse expressions that EventBridge would refuse."""
    _moto["put_rule"] = replace(
        "moto.events.models",
        "EventsBackend.put_rule",
        _put_rule,
        (
            "self",
            "name",
            "description",
            "event_bus_arn",
            "event_pattern",
            "role_arn",
            "scheduled_expression",
            "state",
            "managed_by",
            "tags",
        ),
    )
    _moto["ValidationException"] = register("moto.events.exceptions", "ValidationException")
    shutdown()
    _clocks[:] = [ScheduleClock(context.clock_scale)]
    threading.Thread(target=_clocks[0].run, name="schedules", daemon=True).start()


def shutdown() -> None:
    """Stop the clock."""
    for clock in _clocks:
        clock.stop()


def _key(rule: Any) -> tuple[str, str]:
    return rule.arn, rule.scheduled_expression


def _scheduled_rules() -> Iterator[Any]:
    for regions in list(bus.backends().values()):
        for backend in list(regions.values()):
            for rule in list(backend.event_buses["default"].rules.values()):
                if rule.scheduled_expression and rule.state != "DISABLED":
                    yield rule


def _put_rule(self: Any, *arguments: Any, **options: Any) -> Any:
    expression = options.get("scheduled_expression")
    if expression:
        try:
            parse_schedule(expression)
        except InvalidSchedule as error:
            raise _moto["ValidationException"]("Parameter ScheduleExpression is not valid.") from error
    return _moto["put_rule"](self, *arguments, **options)
