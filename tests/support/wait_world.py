"""The waits of one run, with everything around them that can come in any order.

Baton's real code runs here: the registration as ``await_outcome`` invokes it, and ``Settling`` with its queue, down to
the calls of AWS and of Kubeflow Pipelines, which this world answers. Each call is one step. Besides, the world lets
things go on, states time out, messages come, invocations die at any call, and calls be refused or lose their answer.

What never happens needs no step of its own (an event that is lost, a process that stalls for good): each point is
checked as if nothing of what is under way went on any more.
"""

from __future__ import annotations

import functools
import json
from bisect import insort
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import permutations
from typing import Any, NamedTuple

from baton.errors import BatonError
from baton.events import read_signal
from baton.items import ConditionFailed
from baton.rendezvous import Answer, Rendezvous
from baton.runs import RUN, Runs
from baton.settings import Settings
from baton.settling import Settling
from baton.things import DELETED, JOB_KINDS, KINDS, PIPELINE_RUN, Phase, Things, phase_of, thing_name
from baton.tokens import StepFunctionsTokens
from baton.transient import retryable_aws_errors
from tests.support.interleavings import Ask, Local, Programs
from tests.support.memory import updated
from tests.support.wait_fakes import NOW, AskedItems, FakeKfp, FakeQueue, FakeSageMaker, FakeStepFunctions

RUN_ID = "bt-0abcdef000001"
EXECUTION = "arn:aws:states:eu-west-1:123456789012:execution:baton-training-run:one"
DEADLINE = NOW + 3600
ABSENT = "ABSENT"
SETTINGS = Settings("aws", "eu-west-1", "amazonaws.com", outcome_queue_url="queue", dead_letter_queue_url="dead")
KFP_RUNS = {"kfp-a": PIPELINE_RUN, "kfp-b": "kfp-b"}
"""The run's KFP runs and the things of a story that they are: the launched one, and one whose POST came late."""

_EVENTS = {
    "training": ("SageMaker Training Job State Change", "TrainingJobName", "TrainingJobStatus"),
    "tuning": (
        "SageMaker HyperParameter Tuning Job State Change",
        "HyperParameterTuningJobName",
        "HyperParameterTuningJobStatus",
    ),
    "transform": ("SageMaker Transform Job State Change", "TransformJobName", "TransformJobStatus"),
    "endpoint": ("SageMaker Endpoint State Change", "EndpointName", "EndpointStatus"),
}


@dataclass(frozen=True)
class Message:
    """An event in the queue: it says that a thing has a status.

    It comes when the thing has (or had) the status ``after``, or at any time. ``genuine`` is false for an event that is
    about another thing of the same name, or that nobody should believe.
    """

    kind: str
    status: str
    after: str | None = None
    copies: int = 1
    genuine: bool = True

    @cached_property
    def body(self) -> str:
        """The EventBridge event as SQS has it."""
        if self.kind == PIPELINE_RUN:
            detail = {"run_id": RUN_ID, "pipeline_run_id": "kfp-a", "state": self.status}
            return json.dumps(
                {"source": "baton.pipeline", "detail-type": "Pipeline Run State Change", "detail": detail}
            )
        detail_type, name_field, status_field = _EVENTS[self.kind]
        detail = {name_field: thing_name(self.kind, RUN_ID), status_field: self.status}
        return json.dumps({"source": "aws.sagemaker", "detail-type": detail_type, "detail": detail})

    @cached_property
    def announces_end(self) -> bool:
        """Whether it is a true word of the thing's end, which must not get lost once it was heard."""
        signal = read_signal(json.loads(self.body))
        return self.genuine and signal is not None and signal.says_ended


Guards = Mapping[tuple[str, str], tuple[str, tuple[str, ...]]]


@dataclass(frozen=True)
class Story:
    """What happens to the things of a run, and how often the world interferes.

    ``courses`` has the statuses that each thing goes through, in order: those of the API, ``ABSENT``, or ``foreign …``
    for a thing of the same name that another made; a KFP run may be ``Deleted``. Besides the awaited kinds there are
    ``kfp-b`` (a second KFP run), ``worker`` (which KFP run has claimed the work), ``tombstone`` (no, yes) and ``clock``
    (early, late: past the deadline). ``guards`` says of a step ``(thing, status)`` which other thing must then be in
    which statuses.
    """

    courses: Mapping[str, tuple[str, ...]]
    messages: tuple[Message, ...] = ()
    awaits: tuple[str, ...] = ("training",)
    guards: Guards = field(default_factory=dict)
    heartbeats: int = 1
    crashes: int = 0
    faults: int = 0
    receives: int = 2
    must_sweep: bool = False


class Wait(NamedTuple):
    """One waiting state: its attempt, whether that one has registered, whether its end was heard, how it ended.

    A registration is under way, registered, blind (its token is stored, its look failed), or failed (to be retried).
    """

    attempt: int = 0
    registration: str = "under way"
    heard: bool = False
    ended: str | None = None


class Point(NamedTuple):
    """Everything on which the future depends."""

    positions: tuple[int, ...]
    table: tuple[str | None, ...]
    waits: tuple[Wait, ...]
    live: tuple[Local, ...]
    heartbeats: int
    crashes: int
    faults: int
    copies: tuple[int, ...]
    swept: bool = False


POSITIONS, TABLE, LIVE, CRASHES, FAULTS = map(Point._fields.index, ("positions", "table", "live", "crashes", "faults"))


def _put(point: Point, field_number: int, value: Any) -> Point:
    """Return the point with another value in a field, as ``_replace`` does, which takes thrice as long."""
    return tuple.__new__(Point, (*point[:field_number], value, *point[field_number + 1 :]))


@dataclass(frozen=True)
class Parts:
    """The classes under test; the tests that show what the exploration can find put broken ones here."""

    rendezvous: type[Rendezvous] = Rendezvous
    things: type[Things] = Things
    settling: type[Settling] = Settling


class WaitWorld:
    """A state machine that waits, the things that it waits for, the queue, and Baton's invocations."""

    def __init__(self, story: Story, parts: Parts | None = None) -> None:
        self.story = story
        self.parts = parts or Parts()
        self.things = tuple(story.courses)
        self.programs = Programs(self._body)
        self._names: dict[Local, str] = {}
        self._true: set[tuple[Any, ...]] = set()
        self._effects: dict[tuple[Local, str | None], tuple[str | None, str]] = {}

    # --- the real code ------------------------------------------------------------------------------------------------

    def _body(self, key: tuple[Any, ...], ask: Ask) -> Any:
        items = AskedItems(ask, (RUN, *self.story.awaits), has_clock="clock" in self.story.courses)
        kfp = FakeKfp(ask)
        stepfunctions = FakeStepFunctions(ask)
        things = self.parts.things(FakeSageMaker(ask), lambda: kfp, SETTINGS.kfp_installation)
        rendezvous = self.parts.rendezvous(items, things, StepFunctionsTokens(stepfunctions))
        with retryable_aws_errors():
            if key[0] == "registration":
                _, kind, attempt = key
                return rendezvous.register(kind, RUN_ID, token(kind, attempt), "2026-11-01T00:00:00.000Z", attempt)
            _, index, receive = key
            settling = self.parts.settling(rendezvous, Runs(items), FakeQueue(ask), stepfunctions, SETTINGS)
            return settling.handle([self._record(index, receive)], lambda: 60_000)

    def _record(self, index: int, receive: int) -> dict[str, Any]:
        return {
            "messageId": f"message-{index}",
            "receiptHandle": "handle",
            "body": self.story.messages[index].body,
            "attributes": {"ApproximateReceiveCount": str(receive)},
        }

    # --- what can happen ----------------------------------------------------------------------------------------------

    def first(self) -> Point:
        story = self.story
        live = sorted((self.programs.start(("registration", kind, 0)) for kind in story.awaits), key=_number)
        return Point(
            positions=(0,) * len(self.things),
            table=(None,) * len(KINDS),
            waits=tuple(Wait() for _ in story.awaits),
            live=tuple(live),
            heartbeats=story.heartbeats,
            crashes=story.crashes,
            faults=story.faults,
            copies=tuple(message.copies for message in story.messages),
        )

    def moves(self, point: Point) -> Iterator[tuple[str, Point]]:
        """Name everything that can happen next, with where it leads."""
        for local in dict.fromkeys(point.live):
            yield from self._calls(point, local)
        yield from self._courses(point)
        yield from self._attempts(point)
        for index, message in enumerate(self.story.messages):
            if point.copies[index] and self._has_come(point, message):
                yield f"message {index} comes", self._receive(_spend(point, index), index, 1)

    def _calls(self, point: Point, local: Local) -> Iterator[tuple[str, Point]]:
        name = self._names.get(local) or self._names.setdefault(local, label(local))
        changed, answer = self._perform(point, local)
        yield name, self._answered(changed, local, answer)
        if point.crashes:
            yield f"{name}, and it dies", self._crashed(_put(changed, CRASHES, point.crashes - 1), local)
        if point.faults:
            fewer = point.faults - 1
            refused = self._answered(_put(point, FAULTS, fewer), local, FAULT)
            yield f"{name}, refused", refused
            if changed is point:
                # A call that changes nothing gets the same answer again.
                yield f"{name}, answer lost", refused
                return
            yield f"{name}, answer lost", self._answered(_put(changed, FAULTS, fewer), local, FAULT)
            again, second = self._perform(changed, local)
            if (again, second) != (changed, answer):
                # The SDK repeats a call whose answer was lost, and the process sees only what the second one says.
                yield f"{name}, repeated by the SDK", self._answered(_put(again, FAULTS, fewer), local, second)

    def _courses(self, point: Point) -> Iterator[tuple[str, Point]]:
        for number, thing in enumerate(self.things):
            course, position = self.story.courses[thing], point.positions[number]
            if position + 1 < len(course) and self._may(point, thing, course[position + 1]):
                positions = _with(point.positions, number, position + 1)
                yield f"{thing} becomes {course[position + 1]}", _put(point, POSITIONS, positions)

    def _may(self, point: Point, thing: str, status: str) -> bool:
        other, statuses = self.story.guards.get((thing, status), (thing, None))
        return statuses is None or self.status(point, other) in statuses

    def _attempts(self, point: Point) -> Iterator[tuple[str, Point]]:
        for number, kind in enumerate(self.story.awaits):
            wait = point.waits[number]
            if wait.ended is not None:
                continue
            if wait.registration == "failed":
                yield f"{kind} is tried again", self._enter(point, number)
            elif point.heartbeats:
                yield (
                    f"{kind} misses its heartbeat",
                    self._enter(point._replace(heartbeats=point.heartbeats - 1), number),
                )

    def _enter(self, point: Point, number: int) -> Point:
        attempt = point.waits[number].attempt + 1
        wait = point.waits[number]._replace(attempt=attempt, registration="under way")
        started = self.programs.start(("registration", self.story.awaits[number], attempt))
        return _add(point._replace(waits=_with(point.waits, number, wait)), started)

    def _receive(self, point: Point, index: int, receive: int) -> Point:
        return _add(point, self.programs.start(("message", index, receive)))

    def _has_come(self, point: Point, message: Message) -> bool:
        return message.after is None or message.after in self._statuses_so_far(point, message.kind)

    # --- what becomes of processes ------------------------------------------------------------------------------------

    def _answered(self, point: Point, local: Local, answer: str) -> Point:
        following = self.programs.after(local, answer)
        if following.call:
            return _go_on(point, local, following)
        return self._finished(_remove(point, local), following)

    def _finished(self, point: Point, local: Local) -> Point:
        if local.key[0] == "message":
            return self._message_done(point, local)
        _, kind, attempt = local.key
        number = self.story.awaits.index(kind)
        wait = point.waits[number]
        if wait.attempt != attempt or wait.ended is not None:
            return point
        if not isinstance(local.result, Exception):
            is_blind = local.result is Answer.LOOK_FAILED
            wait = wait._replace(registration="blind" if is_blind else "registered")
        elif not isinstance(local.result, BatonError):
            raise local.result
        elif local.result.retryable:
            wait = wait._replace(registration="failed")
        else:
            wait = wait._replace(ended=json.dumps({"error": type(local.result).__name__, "by": "registration"}))
        return point._replace(waits=_with(point.waits, number, wait))

    def _message_done(self, point: Point, local: Local) -> Point:
        _, index, receive = local.key
        message = self.story.messages[index]
        if local.result != {"batchItemFailures": []}:
            # SQS delivers again what was not handled.
            return self._receive(point, index, receive + 1) if receive < self.story.receives else point
        if message.announces_end and message.kind in self.story.awaits:
            number = self.story.awaits.index(message.kind)
            return point._replace(waits=_with(point.waits, number, point.waits[number]._replace(heard=True)))
        return point

    def _crashed(self, point: Point, local: Local) -> Point:
        point = _remove(point, local)
        if local.key[0] == "message":
            _, index, receive = local.key
            return self._receive(point, index, receive + 1) if receive < self.story.receives else point
        _, kind, attempt = local.key
        number = self.story.awaits.index(kind)
        wait = point.waits[number]
        if wait.attempt != attempt or wait.ended is not None:
            return point
        return point._replace(waits=_with(point.waits, number, wait._replace(registration="failed")))

    # --- the services -------------------------------------------------------------------------------------------------

    def _perform(self, point: Point, local: Local) -> tuple[Point, str]:
        """Carry out a process's pending call; return the world after it, and its answer."""
        assert local.call is not None
        perform: Callable[..., tuple[Point, str]] = getattr(self, f"_{local.call[0]}")
        return perform(point, local, *local.call[1:])

    def _Now(self, point: Point, local: Local) -> tuple[Point, str]:
        return point, str(NOW if self.status(point, "clock") == "early" else DEADLINE + 1)

    def _GetItem(self, point: Point, local: Local, kind: str, name: str) -> tuple[Point, str]:
        if kind == RUN:
            return point, _row(self.status(point, "worker"), self.status(point, "tombstone") == "yes")
        return point, f'{{"item": {point.table[KINDS.index(kind)] or "null"}}}'

    def _UpdateItem(self, point: Point, local: Local, kind: str, name: str, *change: Any) -> tuple[Point, str]:
        number = KINDS.index(kind)
        before = point.table[number]
        effect = self._effects.get((local, before))
        if effect is None:
            try:
                item = json.dumps(updated(json.loads(before) if before else None, kind, name, *change), sort_keys=True)
                effect = (item, f'{{"item": {item}}}')
            except ConditionFailed as failed:
                effect = (before, json.dumps({"condition_failed": failed.item}, sort_keys=True))
            self._effects[local, before] = effect
        after, answer = effect
        return (point if after == before else _put(point, TABLE, _with(point.table, number, after))), answer

    def _Describe(self, point: Point, local: Local, kind: str) -> tuple[Point, str]:
        status = self.status(point, kind)
        return point, json.dumps(None if status == ABSENT else {"status": status.removeprefix("foreign ")})

    def _ListTags(self, point: Point, local: Local, kind: str) -> tuple[Point, str]:
        status = self.status(point, kind)
        if status == ABSENT:
            return point, "null"
        return point, json.dumps({"owner": "somebody" if _is_foreign(status) else RUN_ID})

    def _GetRun(self, point: Point, local: Local, pipeline_run_id: str) -> tuple[Point, str]:
        return point, json.dumps({"state": self.status(point, KFP_RUNS[pipeline_run_id])})

    def _SendTask(self, point: Point, local: Local, task_token: str, sent: str) -> tuple[Point, str]:
        for number, kind in enumerate(self.story.awaits):
            wait = point.waits[number]
            is_over = wait.ended is not None or self.status(point, "tombstone") == "yes"
            if task_token == token(kind, wait.attempt) and not is_over:
                waits = _with(point.waits, number, wait._replace(ended=sent))
                return point._replace(waits=waits), '"sent"'
        return point, '"TaskTimedOut"'

    def _StartExecution(self, point: Point, local: Local) -> tuple[Point, str]:
        return point._replace(swept=True), '"ExecutionAlreadyExists"' if point.swept else '"started"'

    def _ChangeMessageVisibility(self, point: Point, local: Local, seconds: int) -> tuple[Point, str]:
        return point, "null"

    # --- what is true -------------------------------------------------------------------------------------------------

    def status(self, point: Point, thing: str) -> str:
        """Return a thing's status now; one that the story does not have is absent, open, or early."""
        if thing not in self.story.courses:
            return {"tombstone": "no", "clock": "early", "worker": ""}.get(thing, ABSENT)
        return self.story.courses[thing][point.positions[self.things.index(thing)]]

    def _statuses_so_far(self, point: Point, thing: str) -> tuple[str, ...]:
        return self.story.courses[thing][: point.positions[self.things.index(thing)] + 1]

    def _awaited(self, point: Point, kind: str) -> str:
        """Return the thing of the story that a kind is: a pipeline run is the one that does the work."""
        return KFP_RUNS[self.status(point, "worker") or "kfp-a"] if kind == PIPELINE_RUN else kind

    def _has_ended(self, point: Point, kind: str) -> bool:
        status = self.status(point, self._awaited(point, kind))
        if status == ABSENT:
            return kind in JOB_KINDS and PIPELINE_RUN in self.story.awaits and self._has_ended(point, PIPELINE_RUN)
        return _is_end(kind, status)

    def _must_end(self, point: Point, kind: str) -> bool:
        """Whether a wait that looks now must end."""
        is_over = self.status(point, "tombstone") == "yes" or self.status(point, "clock") == "late"
        return is_over or _is_foreign(self.status(point, kind)) or self._has_ended(point, kind)

    # --- what must hold -----------------------------------------------------------------------------------------------

    def check(self, point: Point) -> None:
        """Assert the promises at a point."""
        if not point.live:
            self._check_heard(point)
        # The rest does not depend on who is under way, so points that differ in nothing else need it once.
        key = (point.positions, point.table, point.waits)
        if key not in self._true:
            self._check_truths(point)
            self._check_heartbeat(point)
            self._true.add(key)

    def _check_truths(self, point: Point) -> None:
        for kind, wait in zip(self.story.awaits, point.waits, strict=True):
            self._check_truth(point, kind, wait)

    def _check_truth(self, point: Point, kind: str, wait: Wait) -> None:
        parked = point.table[KINDS.index(kind)]
        outcome = json.loads(json.loads(parked).get("outcome", "null")) if parked else None
        if outcome:
            assert self._is_true(point, kind, outcome), f"what is parked for the {kind} is not true: {outcome}"
        if wait.ended is None:
            return
        ended = json.loads(wait.ended)
        if ended.get("by") == "registration":
            assert self._may_refuse(point, kind, ended["error"]), f"the {kind} was refused: {ended['error']}"
            return
        assert outcome, f"the wait for the {kind} ended with something that is not parked"
        same = ended == {"output": outcome} if outcome["succeeded"] else ended == _as_failure(outcome)
        assert same, f"the wait for the {kind} ended with {ended} and {outcome} is parked"

    def _is_true(self, point: Point, kind: str, outcome: Mapping[str, Any]) -> bool:
        awaited = self._awaited(point, kind)
        if outcome.get("error") == "NeverCreated":
            there_is_none = self.status(point, kind) == ABSENT or _is_foreign(self.status(point, kind))
            return there_is_none and not outcome["succeeded"] and self._has_ended(point, PIPELINE_RUN)
        if outcome.get("error") == "ForeignResource":
            return any(map(_is_foreign, self._statuses_so_far(point, kind)))
        status = outcome["status"]
        was_so = status in self._statuses_so_far(point, awaited) and _is_end(kind, status)
        return was_so and outcome["succeeded"] is (phase_of(kind, status) is Phase.SUCCEEDED)

    def _may_refuse(self, point: Point, kind: str, error: str) -> bool:
        if error == "RunEnded":
            return self.status(point, "tombstone") == "yes"
        if error == "DeadlineExceeded":
            return self.status(point, "clock") == "late"
        foreign = any(map(_is_foreign, self._statuses_so_far(point, kind)))
        return error == "ForeignResource" and foreign

    def _check_heard(self, point: Point) -> None:
        """Nothing is under way: who has registered, and whose end was heard, waits no more."""
        if self.status(point, "tombstone") == "yes":
            done = not any(point.copies)
            assert point.swept or not (done and self.story.must_sweep), "nobody swept what came after the end"
            return
        heard = {kind for kind, wait in zip(self.story.awaits, point.waits, strict=True) if wait.heard}
        for kind, wait in zip(self.story.awaits, point.waits, strict=True):
            never_created = PIPELINE_RUN in heard and self.status(point, kind) == ABSENT
            should_know = kind in heard or (never_created and wait.registration != "blind")
            is_open = wait.ended is None and wait.registration in ("registered", "blind")
            missed = should_know and is_open and self._has_ended(point, kind)
            assert not missed, f"the wait for the {kind} missed its end"

    def _check_heartbeat(self, point: Point) -> None:
        """One more attempt of each wait, with all else stalled for good, must end those whose thing has ended."""
        due = [n for n, kind in enumerate(self.story.awaits) if point.waits[n].ended is None]
        if not any(self._must_end(point, self.story.awaits[n]) for n in due):
            return
        assert all(self._ends(point, order, due) for order in permutations(due)), "a heartbeat did not end the wait"

    def _ends(self, point: Point, order: tuple[int, ...], due: list[int]) -> bool:
        for number in order:
            if point.waits[number].ended is None:
                point = self._alone(self._enter(point._replace(live=()), number))
        open_kinds = [self.story.awaits[n] for n in due if point.waits[n].ended is None]
        self._check_truths(point)
        return not any(self._must_end(point, kind) for kind in open_kinds)

    def _alone(self, point: Point) -> Point:
        while point.live:
            changed, answer = self._perform(point, point.live[0])
            point = self._answered(changed, point.live[0], answer)
        return point


FAULT = '{"fault": true}'


@functools.cache
def _row(worker: str, is_over: bool) -> str:
    """Return the answer to a look at the run's row."""
    row: dict[str, Any] = {
        "kind": RUN,
        "name": RUN_ID,
        "execution_arn": EXECUTION,
        "created_at": NOW - 100,
        "deadline_at": DEADLINE,
        "pipeline_run_id": "kfp-a",
    }
    if worker:
        row["worker_run_id"] = worker
    if is_over:
        row["ended_at"] = NOW
    return json.dumps({"item": row})


def token(kind: str, attempt: int) -> str:
    """Return the task token of an attempt of a waiting state."""
    return f"{kind} token {attempt}"


def label(local: Local) -> str:
    """Return what a process's next step is called in a schedule."""
    what, first, second = local.key
    operation, *parameters = local.call or ("",)
    on = f" {parameters[0]}" if operation in ("GetItem", "UpdateItem", "Describe", "ListTags", "GetRun") else ""
    return f"{what} {first}{' receive' if what == 'message' else ''} {second}: {operation}{on}"


def _is_end(kind: str, status: str) -> bool:
    if kind == PIPELINE_RUN and status == DELETED:
        return True
    is_ours = status != ABSENT and not _is_foreign(status)
    return is_ours and phase_of(kind, status) in (Phase.SUCCEEDED, Phase.FAILED)


def _is_foreign(status: str) -> bool:
    return status.startswith("foreign ")


def _as_failure(outcome: Mapping[str, Any]) -> dict[str, Any]:
    return {"error": outcome["error"], "cause": outcome["reason"]}


def _number(local: Local) -> int:
    return local.number


def _with(values: tuple[Any, ...], number: int, value: Any) -> tuple[Any, ...]:
    return (*values[:number], value, *values[number + 1 :])


def _add(point: Point, local: Local) -> Point:
    return point._replace(live=tuple(sorted((*point.live, local), key=_number)))


def _remove(point: Point, local: Local) -> Point:
    number = point.live.index(local)
    return _put(point, LIVE, point.live[:number] + point.live[number + 1 :])


def _go_on(point: Point, local: Local, following: Local) -> Point:
    """Put a process in the place of what it was before its last answer: in one step, as this is most of the work."""
    live = list(point.live)
    live.remove(local)
    insort(live, following, key=_number)
    return _put(point, LIVE, tuple(live))


def _spend(point: Point, index: int) -> Point:
    return point._replace(copies=_with(point.copies, index, point.copies[index] - 1))
