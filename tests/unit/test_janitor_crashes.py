"""The janitor is killed before and after each of its AWS calls, or the call fails; Lambda invokes it again.

A clean-up that it starts is done at once here: by the time of the next invocation its row is no longer looked at. So a
run of which nobody was told before is one of which nobody ever hears.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from botocore.exceptions import ClientError

from baton.errors import AccessDenied, TransientAwsError
from baton.janitor import LATE_SECONDS
from baton.runs import RUN
from baton.settings import Settings
from tests.support.functions import app_of, context_of
from tests.support.memory import MemoryItems

NOW = 1_800_003_000
MACHINE = "arn:aws-cn:states:cn-northwest-1:123456789012:stateMachine:baton-clean-up-run"
SETTINGS = Settings("aws-cn", "cn-northwest-1", "amazonaws.com.cn", clean_up_machine_arn=MACHINE, topic_arn="topic")
ABORTED = ["bt-1", "bt-2", "bt-3", "bt-4"]
EXPIRED, LATE, GOES_ON = "bt-5", "bt-6", "bt-7"
STATUSES = {**dict.fromkeys([*ABORTED, LATE], "ABORTED"), EXPIRED: "RUNNING", GOES_ON: "RUNNING"}
TO_TELL = {*ABORTED, EXPIRED}
CALLS = ["Query run", *["DescribeExecution"] * 7, "Publish", *["StartExecution"] * 6]
"""What a round without a fault calls."""


class Killed(BaseException):
    """The function's process is gone: nothing in it may catch this."""


def throttled() -> ClientError:
    return ClientError({"Error": {"Code": "ThrottlingException"}}, "Operation")


def refused() -> ClientError:
    return ClientError({"Error": {"Code": "AccessDeniedException"}}, "Operation")


Fault = Callable[[], BaseException]


class World:
    """The runs, what is started and told, and the log; ``fault`` decides about each call before and after its effect.

    It is given the call's number, from 1, its name and whether the effect is there, and returns what to raise, or None.
    """

    def __init__(self, capture: pytest.CaptureFixture[str]) -> None:
        self.now = float(NOW)
        self.calls: list[str] = []
        self.fault: Callable[[int, str, bool], BaseException | None] = lambda *_call: None
        self.items = MemoryItems(lambda: self.now, self.around)
        self.started: dict[str, dict[str, Any]] = {}
        self.messages: list[str] = []
        self.metrics: Counter[str] = Counter()
        self.logged: dict[str, Any] = {}
        self._capture = capture
        for run_id in STATUSES:
            self._add(run_id)

    def _add(self, run_id: str) -> None:
        expires = "2027-01-15T08:30:00+00:00" if run_id == EXPIRED else "2027-01-17T00:00:00+00:00"
        times = {"created_at": NOW - 9000, "deadline_at": NOW + 9000, "expires_tag": expires}
        if run_id == LATE:
            times |= {"ended_at": NOW - 5000, "receipt": "{}", "receipt_at": NOW - 4999}
        self.items.stored[RUN, run_id] = {"kind": RUN, "name": run_id, "execution_arn": f"arn:{run_id}", **times}

    def around(self, name: str, effect: Callable[[], Any]) -> Any:
        self.calls.append(name)
        number = len(self.calls)
        self._meet(self.fault(number, name, False))
        result = effect()
        self._meet(self.fault(number, name, True))
        return result

    def _meet(self, fault: BaseException | None) -> None:
        if isinstance(fault, Killed):
            # What a process would still write when it unwinds, one that is killed does not.
            self.read_metrics()
        if fault:
            raise fault

    def read_metrics(self) -> None:
        """Take what was written so far into account."""
        for line in self._capture.readouterr().out.splitlines():
            written = json.loads(line)
            if "_aws" in written:
                self.metrics.update({name: value[0] for name, value in written.items() if isinstance(value, list)})

    def forget_output(self) -> None:
        """Drop what was written after the process was killed."""
        self._capture.readouterr()

    # --- Step Functions and SNS
    def describe_execution(self, executionArn: str) -> dict[str, str]:
        status = STATUSES[executionArn.removeprefix("arn:")]
        return self.around("DescribeExecution", lambda: {"status": status})

    def start_execution(self, stateMachineArn: str, name: str, input: str) -> dict[str, str]:
        assert stateMachineArn == MACHINE
        return self.around("StartExecution", lambda: self._start(name, json.loads(input)))

    def _start(self, name: str, request: dict[str, Any]) -> dict[str, str]:
        if name in self.started:
            raise ClientError({"Error": {"Code": "ExecutionAlreadyExists"}}, "StartExecution")
        self.started[name] = request
        ended = self.now - LATE_SECONDS
        self.items.stored[RUN, request["run_id"]] |= {"ended_at": ended, "receipt": "{}", "receipt_at": self.now}
        return {"executionArn": name}

    def publish(self, TopicArn: str, Subject: str, Message: str) -> None:
        assert TopicArn == "topic"
        assert len(Subject) <= 100
        self.around("Publish", lambda: self.messages.append(Message))

    # --- what there is in the end
    @property
    def swept(self) -> set[str]:
        return {request["run_id"] for request in self.started.values()}

    @property
    def told(self) -> set[str]:
        return {run_id for run_id in STATUSES for message in self.messages if f"- {run_id} (" in message}


FAULTS = [
    (number, fault)
    for number, call in enumerate(CALLS, 1)
    for fault in (throttled, refused, Killed)
    if (call, fault) != ("Publish", refused)
]
"""A call and what happens at it; the topic that refuses a message for good has a test of its own."""

Invoke = Callable[[World], Any]


@pytest.fixture
def invoke(monkeypatch: pytest.MonkeyPatch) -> Iterator[Invoke]:
    """Yield what invokes the function once, and raises what it raises."""
    monkeypatch.setenv("POWERTOOLS_TRACE_DISABLED", "true")
    module, context = app_of("janitor"), context_of("janitor", 300_000)

    def once(world: World) -> Any:
        monkeypatch.setattr(module, "settings", lambda: SETTINGS)
        monkeypatch.setattr(module, "client", lambda service: world)
        monkeypatch.setattr(module.logger, "info", lambda message, extra: world.logged.update({message: extra}))
        monkeypatch.setattr(module.DynamoItems, "named", lambda table: world.items)
        try:
            answer = module.handler({"time": "2027-01-15T08:50:00Z"}, context)
        except Killed:
            world.forget_output()
            raise
        except BaseException:
            world.read_metrics()
            raise
        world.read_metrics()
        return answer

    return once


def as_lambda_does(invoke: Invoke, world: World) -> None:
    """Invoke the function, and up to twice more where it fails, a minute later and then two."""
    for wait in (60, 120, 0):
        with suppress(Exception, Killed):
            invoke(world)
            return
        world.now += wait


def at(number: int, fault: Fault, after: bool) -> Callable[[int, str, bool], BaseException | None]:
    """Return what lets one call fail, and every other pass."""
    return lambda call, _name, done: fault() if (call, done) == (number, after) else None


def of(name: str, fault: Fault) -> Callable[[int, str, bool], BaseException | None]:
    """Return what never lets an operation have its effect."""
    return lambda _call, called, _done: fault() if called == name else None


def test_a_round_without_a_fault_tells_before_it_starts_anything(
    invoke: Invoke, capsys: pytest.CaptureFixture[str]
) -> None:
    world = World(capsys)
    assert len(invoke(world)["started"]) == 6
    assert world.calls == CALLS
    assert (world.told, world.swept) == (TO_TELL, {*TO_TELL, LATE})
    assert (world.metrics["JanitorFoundExpired"], world.metrics["JanitorRound"]) == (1, 1)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(("number", "fault"), FAULTS)
def test_whatever_happens_at_one_call_each_run_is_told_of_swept_and_counted(
    invoke: Invoke, capsys: pytest.CaptureFixture[str], number: int, fault: Fault, after: bool
) -> None:
    world = World(capsys)
    world.fault = at(number, fault, after)
    as_lambda_does(invoke, world)
    assert world.told == TO_TELL
    assert world.swept == {*TO_TELL, LATE}
    assert world.metrics["JanitorFoundExpired"] >= 1
    assert world.metrics["JanitorRound"] == 1, "one round was whole"


@pytest.mark.parametrize(("fault", "is_told"), [(throttled, False), (refused, True)])
def test_a_run_that_can_never_be_looked_at_does_not_keep_the_others_from_their_turn_and_is_told_if_that_may_not_pass(
    invoke: Invoke, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, fault: Fault, is_told: bool
) -> None:
    world = World(capsys)
    look = world.describe_execution

    def describe_execution(executionArn: str) -> dict[str, str]:
        if executionArn == "arn:bt-1":
            raise fault()
        return look(executionArn)

    monkeypatch.setattr(world, "describe_execution", describe_execution)
    as_lambda_does(invoke, world)
    assert (world.told, world.swept) == (TO_TELL - {"bt-1"}, {*TO_TELL, LATE} - {"bt-1"})
    assert (f"- bt-1: {fault()}" in "".join(world.messages)) == is_told
    assert world.metrics["JanitorRound"] == 0, "somebody must hear of it after some hours"


def test_where_nothing_but_a_refused_look_is_to_tell_it_is_told(
    invoke: Invoke, capsys: pytest.CaptureFixture[str]
) -> None:
    world = World(capsys)
    world.fault = of("DescribeExecution", refused)
    with pytest.raises(AccessDenied):
        invoke(world)
    (message,) = world.messages
    assert "could not look at 7 run(s)" in message
    assert "cleans up" not in message


def test_a_run_whose_clean_up_cannot_be_started_does_not_keep_the_others_from_their_turn(
    invoke: Invoke, capsys: pytest.CaptureFixture[str]
) -> None:
    world = World(capsys)
    world.fault = at(CALLS.index("StartExecution") + 1, refused, after=False)
    with pytest.raises(AccessDenied):
        invoke(world)
    assert len(world.swept) == 5


@pytest.mark.parametrize("code", ["Throttled", "KMSThrottling", "InternalError"])
def test_nothing_is_started_while_the_topic_may_take_the_message_at_the_next_try_and_all_at_the_last(
    invoke: Invoke, capsys: pytest.CaptureFixture[str], code: str
) -> None:
    world = World(capsys)
    world.fault = of("Publish", lambda: ClientError({"Error": {"Code": code}}, "Publish"))
    swept = []
    for wait in (60, 120, 0):
        with pytest.raises(TransientAwsError):
            invoke(world)
        swept.append(world.swept)
        world.now += wait
    assert swept == [set(), set(), {*TO_TELL, LATE}]


def test_a_topic_that_refuses_the_message_for_good_does_not_keep_what_is_billed(
    invoke: Invoke, capsys: pytest.CaptureFixture[str]
) -> None:
    world = World(capsys)
    world.fault = of("Publish", refused)
    with pytest.raises(AccessDenied):
        invoke(world)
    assert world.swept == {*TO_TELL, LATE}
    assert world.metrics["JanitorFoundExpired"] == 1
    logged = world.logged["The janitor has looked at the runs."]["found"]
    assert {one["run_id"] for one in logged} == {*TO_TELL, LATE}
