"""What the runs of a soak are, each with the end that is known before it starts, and how an end is judged.

The same seed draws the same stories, the same ways to start and the same moments to stop.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

GOOD, KEEP, HOLD, GATE, DATASET, JOB, INPUT = "good", "keep", "hold", "gate", "dataset", "job", "input"
STOP, STOP_KEPT, STOP_HELD = "stop", "stop-kept", "stop-held"

DECK = (GOOD, GOOD, GOOD, GOOD, STOP, STOP, STOP_KEPT, STOP_HELD, KEEP, HOLD, GATE, DATASET, JOB, INPUT)
"""How often each story is told: every fourteen runs, in an order of their own."""

EXPECTED_FAILURES: Mapping[str, tuple[str, str]] = {
    GATE: ("GateNotMet", "0.9999"),
    DATASET: ("InvalidDataset", "data set"),
    JOB: ("JobFailed", "No training job succeeded"),
    INPUT: ("InvalidInput", "clusters"),
}
"""The error of a run that must fail, and what its cause must say."""

STOPPABLE: Mapping[str, Sequence[str]] = {
    STOP: (
        "Plan run",
        "Prepare data",
        "Launch pipeline",
        "Await pipeline run",
        "Await tuning",
        "Await training",
        "Await transform",
        "Await endpoint",
        "Smoke-test endpoint",
        "Clean up",
        "Write report",
        "Notify",
    ),
    # With an endpoint that is to stay, an end of which nobody hears is one more thing to lose.
    STOP_KEPT: ("Smoke-test endpoint", "Clean up", "Write report", "Notify"),
    STOP_HELD: ("Hold endpoint",),
}
"""The states in which the run of each story that is to be stopped may be."""

PREDICTIONS = 10
_LONGEST_STOP_SECONDS = 1.5


@dataclass(frozen=True)
class Part:
    """One run of a soak: its story, whether an upload starts it, and where and when it is stopped, if it is."""

    number: int
    story: str
    by_upload: bool
    stop_in: str = ""
    stop_after: float = 0.0

    @property
    def keeps(self) -> bool:
        """Whether the run's endpoint stays if the run succeeds."""
        return self.story in (KEEP, STOP_KEPT)

    @property
    def stops(self) -> bool:
        """Whether somebody is to stop the run."""
        return self.story in STOPPABLE

    @property
    def must_succeed(self) -> bool:
        """Whether the run has no other good end than success."""
        return self.story in (GOOD, KEEP, HOLD)


def cast(runs: int, seed: int) -> list[Part]:
    """Draw the runs of a soak; a longer one begins as a shorter one of the same seed."""
    stories = _dealt(DECK, f"{seed}:stories")
    states = {story: _dealt(where, f"{seed}:{story}") for story, where in STOPPABLE.items()}
    chance = random.Random(f"{seed}:soak")  # noqa: S311 (a schedule, no secret)
    return [_part(number, next(stories), states, chance) for number in range(runs)]


def _dealt(cards: Sequence[str], seed: str) -> Iterator[str]:
    """Deal cards for ever, all of them in every round."""
    chance = random.Random(seed)  # noqa: S311 (a schedule, no secret)
    while True:
        yield from chance.sample(cards, len(cards))


def _part(number: int, story: str, states: Mapping[str, Iterator[str]], chance: random.Random) -> Part:
    by_upload, stop_after = chance.random() < 0.5, chance.uniform(0, _LONGEST_STOP_SECONDS)
    if story not in states:
        return Part(number, story, by_upload)
    # What comes last is over in a moment, so nobody waits before stopping it.
    stop_after = stop_after if story == STOP else 0.0
    return Part(number, story, by_upload, next(states[story]), stop_after)


@dataclass
class Outcome:
    """What one run was to come to, and what it came to.

    ``gave_up``: the state whose retries ran out, as ``exhausted_state`` finds it. ``missing``: what the run's output
    names and S3 does not have. ``started``: whether there ever was an execution.
    """

    part: Part
    execution_arn: str
    started: bool = False
    status: str = "RUNNING"
    error: str | None = None
    cause: str | None = None
    output: Mapping[str, Any] = field(default_factory=dict)
    gave_up: str = ""
    missing: Sequence[str] = ()

    @property
    def verdict(self) -> str:
        """One of lost, stuck, wrong, succeeded and failed_as_intended."""
        if not self.started:
            return "lost"
        if self.status == "RUNNING":
            return "stuck"
        if self.status == "SUCCEEDED":
            return "succeeded" if self._may_succeed and self.is_complete else "wrong"
        if self.status == "ABORTED":
            return "failed_as_intended" if self.part.stops else "wrong"
        return "failed_as_intended" if self._fails_truly or self.gave_up else "wrong"

    @property
    def is_complete(self) -> bool:
        """Whether a success brings all that it promises."""
        told = len(self.output.get("predictions") or []) == PREDICTIONS and bool(self.output.get("metrics"))
        return told and bool((self.output.get("receipt") or {}).get("complete")) and not self.missing

    @property
    def _may_succeed(self) -> bool:
        # A run that ends before its moment to be stopped is a good one like others.
        return self.part.must_succeed or self.part.stops

    @property
    def _fails_truly(self) -> bool:
        error, said = EXPECTED_FAILURES.get(self.part.story, ("", ""))
        return self.status == "FAILED" and self.error == error and said in (self.cause or "")

    def as_dict(self) -> dict[str, Any]:
        """Return what a person needs to look into an unexpected end."""
        return {
            "number": self.part.number,
            "story": self.part.story,
            "verdict": self.verdict,
            "execution_arn": self.execution_arn,
            "status": self.status,
            "error": self.error,
            "cause": self.cause,
            "missing": list(self.missing),
        }


Retriers = Mapping[str, Sequence[Mapping[str, Any]]]
"""The Retry list of each state, by the state's name."""


def retriers_of(definition: Mapping[str, Any]) -> Retriers:
    """Return the Retry lists of a state machine's states, those inside its Parallel states too."""
    found: dict[str, Sequence[Mapping[str, Any]]] = {}
    for name, state in definition["States"].items():
        found[name] = state.get("Retry", [])
        for branch in state.get("Branches", []):
            found.update(retriers_of(branch))
    return found


KILLED = ("Runtime.ExitError", "signal: killed")
"""The error of an invocation whose process the crash dial killed, and what its cause says; all others are Baton's own.

A process that hangs is killed, too, but its error is Sandbox.Timedout.
"""

EXCUSING = 2
"""How many of the failures that used a retrier up must be a dial's: one more than a lease that nobody frees needs."""


def exhausted_state(events: Iterable[Mapping[str, Any]], retriers: Retriers) -> str:
    """Return the state of an execution's history in which faults used a retrier up, or an empty text.

    Only that excuses a run which fails although nothing was wrong with it: it was tried as often as it says, and the
    crash dial was in the way again and again. Baton's own errors alone excuse nothing, however often they came.
    """
    by_id = {event["id"]: event for event in events}
    failures: dict[tuple[int, str, int], list[bool]] = {}
    for event in by_id.values():
        error, cause = _failure_of(event)
        entered = _entered(event, by_id) if error else None
        if entered is None:
            continue
        name = entered["stateEnteredEventDetails"]["name"]
        index = _retrier_for(error, retriers.get(name, []))
        if index is None:
            continue
        killed = failures.setdefault((entered["id"], name, index), [])
        killed.append(error == KILLED[0] and KILLED[1] in cause)
        if len(killed) > retriers[name][index].get("MaxAttempts", 3) and sum(killed) >= EXCUSING:
            return str(name)
    return ""


def may_be_excused(error: str | None, retriers: Retriers) -> bool:
    """Whether an execution's error is one with which a state gives up; a word about the run itself is not excused."""
    retried = {name for of_state in retriers.values() for retrier in of_state for name in retrier["ErrorEquals"]}
    return error in retried | {"CleanUpIncomplete"}


def _failure_of(event: Mapping[str, Any]) -> tuple[str, str]:
    """Return the error and the cause of an event that says how a try failed; empty texts for all others."""
    if not event["type"].startswith(("LambdaFunction", "Task")) or not event["type"].endswith(("Failed", "TimedOut")):
        return "", ""
    details: Mapping[str, Any] = next((value for key, value in event.items() if key.endswith("EventDetails")), {})
    return str(details.get("error") or ""), str(details.get("cause") or "")


def _entered(event: Mapping[str, Any], by_id: Mapping[int, Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """Return the event with which the state was entered that an event belongs to."""
    while not event["type"].endswith("StateEntered"):
        previous = by_id.get(event.get("previousEventId", 0))
        if previous is None:
            return None
        event = previous
    return event


def _retrier_for(error: str, retriers: Sequence[Mapping[str, Any]]) -> int | None:
    return next((i for i, r in enumerate(retriers) if {error, "States.ALL"} & set(r["ErrorEquals"])), None)
