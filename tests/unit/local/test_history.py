"""An execution's history, as it is followed and shown: the same lines, however the reads fall between the events."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from baton_cli.show import Screen
from baton_local.history import History, Step

START = datetime(2026, 11, 23, tzinfo=UTC)


class Events:
    """Writes history events as Step Functions does, one a second; pages them as GetExecutionHistory does."""

    def __init__(self, page: int = 1000) -> None:
        self.all: list[dict[str, Any]] = []
        self.visible = 0
        self._page = page

    def add(self, kind: str, before: int | None = None, **details: Any) -> int:
        number = len(self.all) + 1
        previous = number - 1 if before is None else before
        when = START + timedelta(seconds=number)
        self.all.append({"id": number, "previousEventId": previous, "type": kind, "timestamp": when, **details})
        return number

    def entered(self, kind: str, name: str, before: int | None = None) -> int:
        return self.add(f"{kind}StateEntered", before, stateEnteredEventDetails={"name": name})

    def exited(self, kind: str, name: str, before: int | None = None) -> int:
        return self.add(f"{kind}StateExited", before, stateExitedEventDetails={"name": name})

    def get_execution_history(
        self, executionArn: str, maxResults: int, reverseOrder: bool, includeExecutionData: bool, nextToken: str = ""
    ) -> dict[str, Any]:
        assert reverseOrder
        assert not includeExecutionData
        last = int(nextToken or self.visible)
        first = max(last - min(self._page, maxResults), 0)
        return {"events": self.all[first:last][::-1], **({"nextToken": str(first)} if first else {})}

    def seen_in(self, reads: Iterable[int]) -> tuple[list[Step], History]:
        """Read whenever so many events are there; return all that was said."""
        history, steps = History(self, "arn"), []
        for visible in [*reads, len(self.all)]:
            self.visible = visible
            steps += history.read()
        return steps, history


def good_run() -> Events:
    """A task, a choice, a parallel state with two waits that overlap, a pass, and the good end."""
    run = Events(page=5)
    run.add("ExecutionStarted")
    run.entered("Task", "Plan run")
    run.add("TaskScheduled")
    run.add("TaskSucceeded")
    run.exited("Task", "Plan run")
    run.entered("Choice", "Is tuning planned?")
    run.exited("Choice", "Is tuning planned?")
    watch = run.entered("Parallel", "Watch")
    first = run.entered("Task", "Await tuning", watch)
    second = run.entered("Wait", "Hold endpoint", watch)
    run.exited("Task", "Await tuning", first)
    run.exited("Wait", "Hold endpoint", second)
    run.add("ParallelStateSucceeded")
    run.exited("Parallel", "Watch")
    run.entered("Pass", "No transform")
    run.exited("Pass", "No transform")
    run.entered("Succeed", "Run succeeded")
    run.exited("Succeed", "Run succeeded")
    run.add("ExecutionSucceeded")
    return run


GOOD = [
    *("> Plan run", ". Plan run succeeded in 3.0 s", "- Is tuning planned?", "> Watch", "> Await tuning"),
    *("> Hold endpoint", ". Await tuning succeeded in 2.0 s", ". Hold endpoint succeeded in 2.0 s"),
    *(". Watch succeeded in 6.0 s", "- No transform", "- Run succeeded"),
]


def bad_run() -> Events:
    """A branch of a branch fails and the other is aborted; the failure is caught, and ends in a Fail state."""
    run = Events()
    run.add("ExecutionStarted")
    watch = run.entered("Parallel", "Watch")
    await_run = run.entered("Task", "Await pipeline run", watch)
    scheduled = run.add("TaskScheduled", await_run)
    inner = run.entered("Parallel", "Watch deployment", watch)
    transform = run.entered("Task", "Await transform", inner)
    failed = run.add("TaskFailed", transform)
    run.add("TaskStateAborted", scheduled)
    run.add("ParallelStateFailed", failed)
    run.exited("Parallel", "Watch")
    run.entered("Fail", "Run failed")
    run.add("ExecutionFailed")
    return run


BAD = [
    *("> Watch", "> Await pipeline run", "> Watch deployment", "> Await transform"),
    *("! Await pipeline run aborted in 5.0 s", "! Await transform failed in 4.0 s"),
    *("! Watch deployment failed in 5.0 s", "! Watch failed in 8.0 s", "- Run failed"),
]


def shown(steps: list[Step], capsys: pytest.CaptureFixture[str]) -> list[str]:
    screen = Screen()
    for step in steps:
        screen.state(step)
    lines = capsys.readouterr().out.splitlines()
    assert all(len(line) < 80 for line in lines)
    return [" ".join(line.split()[1:]) for line in lines]


@pytest.mark.parametrize(("run", "lines"), [(good_run(), GOOD), (bad_run(), BAD)], ids=["good", "bad"])
def test_what_is_shown_does_not_depend_on_when_it_is_read(
    run: Events, lines: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """All in one read, an event a read, and a cut at every place."""
    total = len(run.all)
    for reads in ([], range(total), *([cut] for cut in range(total))):
        steps, _ = run.seen_in(reads)
        assert shown(steps, capsys) == lines, reads


def test_every_visit_is_counted_with_its_end() -> None:
    _, history = good_run().seen_in(range(6))
    assert history.transitions == len(history.visits) == 7
    assert {visit.outcome for visit in history.visits} == {"succeeded"}
    assert [visit.kind for visit in history.visits] == [
        *("Task", "Choice", "Parallel", "Task", "Wait", "Pass", "Succeed")
    ]


def test_a_state_that_is_entered_again_is_left_again() -> None:
    run = Events()
    for _ in range(2):
        run.entered("Task", "Clean up")
        run.exited("Task", "Clean up")
    steps, history = run.seen_in([1, 3])
    assert [(step.visit.name, step.what) for step in steps] == [("Clean up", "entered"), ("Clean up", "left")] * 2
    assert history.visits[0] is not history.visits[1]


@pytest.mark.parametrize("end", ["Failed", "Aborted", "TimedOut"])
def test_the_end_of_the_execution_ends_what_goes_on_from_the_inside(end: str) -> None:
    run = Events()
    watch = run.entered("Parallel", "Watch")
    run.entered("Task", "Await training", watch)
    run.add(f"Execution{end}")
    steps, _ = run.seen_in([])
    assert [(step.visit.name, step.visit.outcome) for step in steps[2:]] == [
        ("Await training", end.lower()),
        ("Watch", end.lower()),
    ]
