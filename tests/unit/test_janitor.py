"""The janitor: which runs it hands over, with what, and that it stops in time."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError

from baton.errors import TransientAwsError
from baton.janitor import LATE_SECONDS, Janitor, Round, message_of
from baton.runs import RUN, Runs
from tests.support.memory import MemoryItems

NOW = 1_800_003_000
MACHINE = "arn:aws-cn:states:cn-northwest-1:123456789012:stateMachine:baton-clean-up-run"
EXECUTIONS = "arn:aws-cn:states:cn-northwest-1:123456789012:execution:baton-clean-up-run"
EXPIRES_LATER = "2027-01-17T00:00:00Z"
EXPIRED = "2027-01-15T08:30:00+00:00"


class FakeStepFunctions:
    """Knows executions by ARN, and refuses a second start of a name as the service does."""

    def __init__(self) -> None:
        self.statuses: dict[str, str] = {}
        self.started: dict[str, dict[str, Any]] = {}
        self.throttles = False

    def describe_execution(self, executionArn: str) -> dict[str, str]:
        if self.throttles:
            raise ClientError({"Error": {"Code": "ThrottlingException"}}, "DescribeExecution")
        if executionArn not in self.statuses:
            raise ClientError({"Error": {"Code": "ExecutionDoesNotExist"}}, "DescribeExecution")
        return {"status": self.statuses[executionArn]}

    def start_execution(self, stateMachineArn: str, name: str, input: str) -> dict[str, str]:
        assert stateMachineArn == MACHINE
        assert len(name) <= 80
        if name in self.started:
            raise ClientError({"Error": {"Code": "ExecutionAlreadyExists"}}, "StartExecution")
        self.started[name] = json.loads(input)
        return {"executionArn": f"arn:{name}"}


class Hour:
    """An hour in which the janitor may come, with the rows and executions there are."""

    def __init__(self) -> None:
        self.now = float(NOW)
        self.items = MemoryItems(lambda: self.now)
        self.stepfunctions = FakeStepFunctions()
        self.told: list[Round] = []

    def run(self, number: int, status: str | None, **attributes: Any) -> str:
        """Add a run; a status of None means that Step Functions has forgotten its execution."""
        run_id, arn = f"bt-{number:013}", f"arn:execution:{number}"
        row = {
            "execution_arn": arn,
            "created_at": NOW - 3000,
            "deadline_at": NOW + 3000,
            "expires_tag": EXPIRES_LATER,
            **attributes,
        }
        self.items.stored[RUN, run_id] = {"kind": RUN, "name": run_id, **row}
        if status:
            self.stepfunctions.statuses[arn] = status
        return run_id

    def round(self, remaining_ms: Callable[[], int] = lambda: 300_000) -> Round:
        janitor = Janitor(Runs(self.items), self.stepfunctions, MACHINE, lambda: self.now)
        return janitor.make_round(remaining_ms, self.told.append)

    def reasons(self) -> dict[str, str]:
        return {handed.run_id: handed.reason for handed in self.round().started}


@pytest.mark.parametrize("status", ["FAILED", "TIMED_OUT", "ABORTED"])
def test_a_run_whose_end_nobody_heard_of_is_handed_over_and_clean_up_asks_how_it_ended(status: str) -> None:
    hour = Hour()
    run_id = hour.run(1, status)
    done = hour.round()
    assert [handed.reason for handed in done.started] == ["unfinished"]
    (request,) = hour.stepfunctions.started.values()
    assert request == {"execution_arn": "arn:execution:1", "run_id": run_id}


def test_a_run_whose_execution_is_forgotten_is_over() -> None:
    hour = Hour()
    run_id = hour.run(1, None)
    assert hour.reasons() == {run_id: "unfinished"}
    (request,) = hour.stepfunctions.started.values()
    assert "succeeded" not in request


def test_a_clean_up_that_died_after_its_tombstone_is_finished() -> None:
    hour = Hour()
    run_id = hour.run(1, "ABORTED", ended_at=NOW - 60)
    assert hour.reasons() == {run_id: "unfinished"}


def test_a_running_run_is_left_alone_until_its_resources_expire() -> None:
    hour = Hour()
    hour.run(1, "RUNNING")
    expired = hour.run(2, "RUNNING", expires_tag=EXPIRED)
    assert hour.reasons() == {expired: "expired"}
    (request,) = hour.stepfunctions.started.values()
    assert request == {"execution_arn": "arn:execution:2", "run_id": expired, "expired": True}


def test_an_expired_run_that_cleans_up_after_its_success_is_left_alone() -> None:
    hour = Hour()
    hour.run(1, "RUNNING", expires_tag=EXPIRED, ended_at=NOW - 60, ended_well=True)
    assert hour.reasons() == {}


def test_an_expired_run_that_was_redriven_after_its_clean_up_is_not_handed_over_each_hour() -> None:
    hour = Hour()
    ended = {"ended_at": NOW - 60, "ended_badly_at": NOW - 60, "receipt": "{}", "receipt_at": NOW - 30}
    hour.run(1, "RUNNING", expires_tag=EXPIRED, **ended)
    assert hour.reasons() == {}


def test_a_run_with_a_receipt_is_left_alone_without_a_call() -> None:
    hour = Hour()
    hour.run(1, None, ended_at=NOW - 90_000, receipt="{}", receipt_at=NOW - 90_000 + LATE_SECONDS, expires_tag=EXPIRED)
    well = {"ended_well": True, "endpoint_kept_at": NOW - 90_000, "confirmed_at": NOW - 80_000}
    hour.run(2, None, ended_at=NOW - 90_000, receipt="{}", receipt_at=NOW - 80_000, **well)
    done = hour.round()
    assert (done.looked_at, done.started) == (0, [])


def test_a_receipt_that_a_late_write_may_have_overtaken_is_looked_at_once_more() -> None:
    hour = Hour()
    run_id = hour.run(1, "ABORTED", ended_at=NOW, receipt="{}", receipt_at=NOW + 2)
    assert hour.reasons() == {}
    hour.now += LATE_SECONDS
    assert hour.reasons() == {run_id: "late"}
    Runs(hour.items).keep_receipt(run_id, {}, decided={})
    hour.now += 3600
    assert hour.reasons() == {}


# --- a run that was cleaned up as a success, and whose end is to come ---------------------------------------------


def after_its_clean_up(hour: Hour, status: str | None, **attributes: Any) -> str:
    """Add a run whose own clean-up kept its endpoint, so that only its report and its notification were to come."""
    kept = {"ended_at": NOW - 60, "receipt": "{}", "receipt_at": NOW - 50, "ended_well": True}
    return hour.run(1, status, **{**kept, "endpoint_kept_at": NOW - 55, **attributes})


@pytest.mark.parametrize("status", ["FAILED", "TIMED_OUT", "ABORTED", None])
def test_an_endpoint_that_was_kept_for_a_run_that_failed_afterwards_is_found(status: str | None) -> None:
    hour = Hour()
    run_id = after_its_clean_up(hour, status)
    assert hour.reasons() == {run_id: "unfinished"}
    (request,) = hour.stepfunctions.started.values()
    assert "succeeded" not in request


def test_it_is_found_however_late_and_until_somebody_has_decided() -> None:
    hour = Hour()
    long_ago = {"ended_at": NOW - 900_000, "receipt_at": NOW - 800_000, "endpoint_kept_at": NOW - 800_000}
    run_id = after_its_clean_up(hour, "ABORTED", **long_ago)
    assert hour.reasons() == {run_id: "unfinished"}
    hour.now += 3600
    assert hour.reasons() == {run_id: "unfinished"}
    runs = Runs(hour.items)
    runs.keep_receipt(run_id, {}, decided=runs.end_badly(run_id))
    hour.now += 3600
    assert hour.reasons() == {}


@pytest.mark.parametrize("status", ["RUNNING", "PENDING_REDRIVE"])
def test_while_its_execution_goes_on_no_late_look_is_spent(status: str) -> None:
    hour = Hour()
    run_id = after_its_clean_up(hour, status)
    aborted = hour.run(2, status, ended_at=NOW - 60, receipt="{}", receipt_at=NOW - 50)
    hour.now += LATE_SECONDS
    assert hour.reasons() == {}
    hour.stepfunctions.statuses = dict.fromkeys(hour.stepfunctions.statuses, "SUCCEEDED")
    hour.now += 3600
    assert hour.reasons() == {run_id: "late", aborted: "late"}


def test_a_success_is_looked_at_once_more_which_confirms_it_and_then_left_alone() -> None:
    hour = Hour()
    run_id = after_its_clean_up(hour, "SUCCEEDED")
    assert hour.reasons() == {}, "a function may be under way for a while yet"
    hour.now += LATE_SECONDS
    assert hour.reasons() == {run_id: "late"}
    runs = Runs(hour.items)
    runs.keep_receipt(run_id, {}, decided=runs.confirm(run_id))
    hour.now += 3600
    assert hour.round().looked_at == 0


def test_a_success_whose_clean_up_took_long_is_confirmed_all_the_same() -> None:
    hour = Hour()
    run_id = after_its_clean_up(hour, "SUCCEEDED", ended_at=NOW - 9000)
    assert hour.reasons() == {run_id: "late"}


def test_nobody_is_told_of_a_late_look() -> None:
    hour = Hour()
    after_its_clean_up(hour, "SUCCEEDED", ended_at=NOW - 9000)
    done = hour.round()
    assert (len(done.started), done.to_tell) == (1, [])
    unfinished = hour.run(2, "ABORTED")
    hour.now += 3600
    done = hour.round()
    subject, text = message_of(done)
    assert subject == "Baton: the janitor cleans up after 1 run(s)"
    assert unfinished in text
    assert "(late)" not in text


# --- the run that is overdue --------------------------------------------------------------------------------------


def test_the_time_for_which_a_run_holds_its_endpoint_does_not_make_it_overdue() -> None:
    hour = Hour()
    hour.run(1, "RUNNING", deadline_at=NOW - 7200, hold_seconds=7000)
    assert hour.round().overdue_seconds == 200
    hour.run(2, "RUNNING", deadline_at=NOW - 300)
    assert hour.round().overdue_seconds == 300


def test_the_tombstone_of_an_execution_that_never_planned_is_left_alone() -> None:
    hour = Hour()
    hour.items.stored[RUN, "bt-x"] = {"kind": RUN, "name": "bt-x", "ended_at": NOW - 9999}
    assert hour.round().looked_at == 0


def test_two_rounds_in_one_hour_start_one_clean_up_and_the_next_hour_another() -> None:
    hour = Hour()
    run_id = hour.run(1, "ABORTED")
    assert hour.reasons() == {run_id: "unfinished"}
    hour.now += 60
    assert hour.reasons() == {}
    hour.now += 3600
    assert hour.reasons() == {run_id: "unfinished"}


def test_it_stops_in_time_and_every_row_has_its_turn() -> None:
    hour = Hour()
    runs = {hour.run(number, "ABORTED") for number in range(7)}
    reached: set[str] = set()
    for _ in range(24):
        clock = iter([300_000, 150_000, 9_000])
        done = hour.round(lambda clock=clock: next(clock))
        assert (done.looked_at, done.not_reached) == (2, 5)
        reached |= {handed.run_id for handed in done.started}
        hour.now += 3600
    assert reached == runs


def test_it_counts_by_reason_and_tells_of_each_run() -> None:
    hour = Hour()
    run_id = hour.run(1, "ABORTED")
    hour.run(2, "RUNNING", expires_tag=EXPIRED)
    done = hour.round()
    assert done.counts() == {"unfinished": 1, "expired": 1, "late": 0}
    subject, text = message_of(done)
    assert subject == "Baton: the janitor cleans up after 2 run(s)"
    assert len(subject) <= 100
    assert f"- {run_id} (unfinished): {EXECUTIONS}:janitor-{run_id}-{NOW // 3600}" in text
    assert json.loads(json.dumps(done.as_dict()))["looked_at"] == 2


def test_the_more_there_is_to_start_the_earlier_it_stops_looking() -> None:
    hour = Hour()
    for number in range(7):
        hour.run(number, "ABORTED")
    assert hour.round(lambda: 10_250).not_reached == 4
    hour.now += 3600
    assert hour.round(lambda: 10_650).not_reached == 0


def test_the_longest_message_is_one_that_sns_takes() -> None:
    hour = Hour()
    for number in range(2000):
        hour.run(number, "ABORTED")
    done = hour.round()
    done.unseen = {run_id: "x" * 450 for _, run_id in hour.items.stored}
    _, text = message_of(done)
    assert len(text.encode()) < 262_144
    assert text.count("\n- and 1700 more") == 2


def test_throttling_is_retryable() -> None:
    hour = Hour()
    hour.run(1, "ABORTED")
    hour.stepfunctions.throttles = True
    with pytest.raises(TransientAwsError):
        hour.round()
