"""One wait of Baton, with everything around it that can come in any order."""

from __future__ import annotations

import json
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

from greenlet import greenlet

from baton.events import Signal
from baton.rendezvous import Rendezvous
from baton.runs import RUN
from baton.things import ABSENT, FOREIGN, Observation, Phase, phase_of, thing_name
from baton.tokens import TokenOver
from tests.support.interleavings import Process
from tests.support.memory import MemoryItems

RUN_ID = "bt-0abcdef000001"
NOW = 1_800_000_000


@dataclass(frozen=True)
class Story:
    """What happens to the awaited thing, and how often the world interferes."""

    kind: str = "training"
    course: tuple[str, ...] = ("InProgress", "Completed")
    """The statuses that the thing goes through; None-like words ABSENT and FOREIGN stand for those phases."""
    heartbeats: int = 1
    crashes: int = 1
    deliveries: int = 2
    stale_events: int = 1
    forged_events: int = 0
    loses_events: bool = True


class WaitWorld:
    """A state machine that waits for one thing; the thing; the events; the invocations of Baton's real functions."""

    def __init__(self, story: Story) -> None:
        self.story = story
        self.status = story.course[0]
        self.steps_left = list(story.course[1:])
        self.processes: dict[str, Process] = {}
        self.attempt = -1
        self.ended: dict[str, Any] | None = None
        self.settled = 0
        self.heartbeats = story.heartbeats
        self.crashes = story.crashes
        self.deliveries = story.deliveries
        self.stale = story.stale_events
        self.forged = story.forged_events
        self.redeliveries = 2
        self.counter = 0
        self.complaints: list[str] = []
        self.items = MemoryItems(lambda: NOW, self._around)
        self.items.stored[RUN, RUN_ID] = {
            "kind": RUN,
            "name": RUN_ID,
            "execution_arn": "arn:x",
            "created_at": NOW - 100,
            "deadline_at": NOW + 10_000,
        }
        self.rendezvous = Rendezvous(self.items, self, self)
        self._enter()

    # --- what Baton's functions call ---------------------------------------------------------------------------------

    def _around(self, name: str, effect: Any) -> Any:
        current = self._current()
        return current.call(name, effect) if current else effect()

    def _current(self) -> Process | None:
        running = greenlet.getcurrent()
        return next((p for p in self.processes.values() if p._greenlet is running), None)

    def observe(self, kind: str, row: dict[str, Any]) -> Observation:
        return self._around(f"Describe {kind}", self._observe)

    def _observe(self) -> Observation:
        if self.status == "ABSENT":
            return ABSENT
        if self.status == "FOREIGN":
            return FOREIGN
        return Observation(phase_of(self.story.kind, self.status), self.status)

    def settle(self, token: str, outcome: dict[str, Any]) -> None:
        self._around("SendTask", lambda: self._settle(token, outcome))

    def _settle(self, token: str, outcome: dict[str, Any]) -> None:
        if self.ended is not None or token != f"token-{self.attempt}":
            raise TokenOver("TaskTimedOut")
        self.settled += 1
        self.ended = outcome
        if outcome["status"] != self.status:
            self.complaints.append(f"the wait ended with {outcome['status']} while the thing is {self.status}")

    # --- what can happen next ----------------------------------------------------------------------------------------

    def _live(self) -> list[Process]:
        return [p for p in self.processes.values() if not p.done]

    def choices(self) -> list[str]:
        live = self._live()
        found = [f"run {p.name}" for p in live]
        if self.crashes:
            found += [f"crash {p.name}" for p in live if p.pending != "start"]
        if self.steps_left:
            found.append("thing changes")
        if self.ended is None and (self.heartbeats or self._attempt_failed()):
            found.append("next attempt")
        if not self.steps_left and self.deliveries:
            found.append("deliver")
            if self.story.loses_events:
                found.append("lose")
        if self.stale:
            found.append("stale event")
        if self.forged and self.steps_left:
            found.append("forged event")
        return found

    def _attempt_failed(self) -> bool:
        register = self.processes.get(f"register-{self.attempt}")
        return register is not None and register.done and (register.crashed or isinstance(register.result, Exception))

    def do(self, choice: str) -> None:
        verb, _, name = choice.partition(" ")
        if verb == "run":
            self._run(self.processes[name])
        elif verb == "crash":
            self.crashes -= 1
            self._run(self.processes[name], crash=True)
        elif choice == "thing changes":
            self.status = self.steps_left.pop(0)
        elif choice == "next attempt":
            if not self._attempt_failed():
                self.heartbeats -= 1
            self._enter()
        elif choice == "deliver":
            self.deliveries -= 1
            self._signal("event", ended=True)
        elif choice == "lose":
            self.deliveries -= 1
        elif choice == "stale event":
            self.stale -= 1
            self._signal("stale", ended=False)
        elif choice == "forged event":
            self.forged -= 1
            self._signal("forged", ended=True)

    def _run(self, process: Process, crash: bool = False) -> None:
        process.crash() if crash else process.step()
        if process.done and not process.name.startswith("register") and self.redeliveries:
            # SQS delivers again what was not handled: after a crash, and after Unsettled or any other error.
            if process.crashed or isinstance(process.result, Exception):
                self.redeliveries -= 1
                self._signal("again", ended=True)

    def _enter(self) -> None:
        self.attempt += 1
        number = self.attempt
        self._start(
            f"register-{number}",
            lambda: self.rendezvous.register(
                self.story.kind, RUN_ID, f"token-{number}", "2026-11-01T00:00:00.000Z", number
            ),
        )

    def _signal(self, why: str, ended: bool) -> None:
        self.counter += 1
        signal = Signal(self.story.kind, RUN_ID, self.status, says_ended=ended, says_deleted=self.status == "ABSENT")
        self._start(f"{why}-{self.counter}", lambda: self.rendezvous.signal(signal))

    def _start(self, name: str, body: Any) -> None:
        process = Process(name, body)
        self.processes[name] = process
        process.step()

    # --- what must hold ----------------------------------------------------------------------------------------------

    def state(self) -> Hashable:
        live = tuple(sorted((p.name, tuple(p.seen), p.pending) for p in self._live()))
        wait = json.dumps(self.items.stored.get((self.story.kind, thing_name(self.story.kind, RUN_ID))), sort_keys=True)
        budgets = (self.heartbeats, self.crashes, self.deliveries, self.stale, self.forged, self.redeliveries)
        ended = json.dumps(self.ended)
        return (live, wait, self.status, len(self.steps_left), self.attempt, ended, self._attempt_failed(), budgets)

    def check(self) -> None:
        assert not self.complaints, self.complaints[0]
        assert self.settled <= 1, "the wait ended twice"

    def check_end(self) -> None:
        """One more heartbeat, undisturbed, must end a wait that is still open: no wake-up is lost."""
        if self.ended is None:
            self._enter()
            register = self.processes[f"register-{self.attempt}"]
            while not register.done:
                register.step()
            self.check()
        assert self.ended is not None, "the wait did not end within one heartbeat of the thing's end"
        good = phase_of(self.story.kind, self.status) is Phase.SUCCEEDED
        assert self.ended["succeeded"] is good
