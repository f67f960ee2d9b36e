"""What becomes of each message of the outcome queue."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.exceptions import ClientError

from baton import settling
from baton.ending import Request
from baton.errors import KfpUnavailable, TransientAwsError, Unsettled
from baton.events import Signal
from baton.kfp import client as client_module
from baton.rendezvous import Answer, Rendezvous
from baton.runs import RUN, Runs
from baton.settings import Settings
from baton.settling import LAST_RECEIVE, LONGEST_MESSAGE_MS, UNSETTLED_LOOKS, Settling
from baton.things import PHASES, PIPELINE_RUN, Observation, Things, phase_of
from baton.tokens import TokenInvalid
from tests.support.memory import MemoryItems
from tests.unit.test_events import EVENTS, RUN_ID, event

EXECUTION = "arn:aws:states:eu-west-1:123456789012:execution:baton-training-run:mnist-5f2c"
SETTINGS = Settings(
    "aws",
    "eu-west-1",
    "amazonaws.com",
    outcome_queue_url="https://sqs/outcomes",
    dead_letter_queue_url="https://sqs/dead",
    clean_up_machine_arn="arn:aws:states:eu-west-1:123456789012:stateMachine:clean-up-run",
)


def client_error(code: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": code}}, "Operation")


class Queue:
    def __init__(self) -> None:
        self.delays: list[int] = []
        self.dead: list[tuple[str, str]] = []
        self.fails_with: Exception | None = None

    def change_message_visibility(self, QueueUrl: str, ReceiptHandle: str, VisibilityTimeout: int) -> None:
        assert (QueueUrl, ReceiptHandle) == ("https://sqs/outcomes", "handle")
        if self.fails_with:
            raise self.fails_with
        self.delays.append(VisibilityTimeout)

    def send_message(self, QueueUrl: str, MessageBody: str, MessageAttributes: dict[str, dict[str, str]]) -> None:
        assert QueueUrl == "https://sqs/dead"
        assert MessageAttributes["Reason"]["DataType"] == "String"
        self.dead.append((MessageBody, MessageAttributes["Reason"]["StringValue"]))


class Machine:
    def __init__(self) -> None:
        self.started: list[dict[str, str]] = []
        self.fails_with: Exception | None = None

    def start_execution(self, **request: str) -> None:
        if self.fails_with:
            raise self.fails_with
        self.started.append(request)


class ScriptedRendezvous:
    """Answers each signal with the next of a script."""

    def __init__(self, *script: Answer | Exception) -> None:
        self.script = list(script)
        self.signals: list[Signal] = []

    def signal(self, signal: Signal) -> Answer:
        self.signals.append(signal)
        result = self.script.pop(0)
        if isinstance(result, Exception):
            raise result
        return result


class Bench:
    """Settling with fakes around it."""

    def __init__(self, *script: Answer | Exception, meeting: Any = None) -> None:
        self.items = MemoryItems(lambda: 1_777_890_000)
        self.items.stored[RUN, RUN_ID] = {"kind": RUN, "name": RUN_ID, "execution_arn": EXECUTION}
        self.meeting = meeting or ScriptedRendezvous(*script)
        self.queue, self.machine = Queue(), Machine()
        self.settling = Settling(self.meeting, Runs(self.items), self.queue, self.machine, SETTINGS)

    def handle(self, body: str, receives: int = 1) -> bool:
        """Handle one message; return whether it is done."""
        return self.settling.handle([record(body, receives)], lambda: 60_000) == {"batchItemFailures": []}


def record(body: str, receives: int = 1, message_id: str = "one") -> dict[str, Any]:
    attributes = {"ApproximateReceiveCount": str(receives)}
    return {"messageId": message_id, "receiptHandle": "handle", "body": body, "attributes": attributes}


COMPLETED = json.dumps(event("sagemaker_training_job_completed"))


@pytest.mark.parametrize("answer", [Answer.SETTLED, Answer.PARKED, Answer.IGNORED])
def test_a_signal_that_was_handled_is_done(counted: list[str], answer: Answer) -> None:
    bench = Bench(answer)
    assert bench.handle(COMPLETED)
    assert counted == [f"Signal{answer.value}"]
    assert (bench.queue.delays, bench.queue.dead, bench.machine.started) == ([], [], [])


def test_an_event_about_nothing_of_ours_is_done_without_a_look(counted: list[str]) -> None:
    bench = Bench()
    for path in EVENTS.glob("*foreign*.json"):
        assert bench.handle(path.read_text())
    assert set(counted) == {"SignalIgnored"}
    assert bench.meeting.signals == []


@pytest.mark.parametrize(
    ("receives", "seconds"), [(1, 5), (2, 10), (3, 20), (4, 40), (5, 60), (6, 60), (UNSETTLED_LOOKS - 1, 60)]
)
def test_an_end_that_is_not_visible_yet_is_looked_at_again_after_5_to_60_seconds(
    counted: list[str], receives: int, seconds: int
) -> None:
    bench = Bench(Unsettled("still RUNNING"))
    assert not bench.handle(COMPLETED, receives)
    assert bench.queue.delays == [seconds]
    assert counted == ["SignalUnsettled"]


def test_an_end_that_is_never_confirmed_is_dropped_after_eight_looks_with_a_metric(counted: list[str]) -> None:
    bench = Bench(Unsettled("still RUNNING"))
    assert UNSETTLED_LOOKS == 8
    assert bench.handle(COMPLETED, receives=8)
    assert counted == ["SignalUnsettledDropped"]
    assert (bench.queue.delays, bench.queue.dead) == ([], [])


@pytest.mark.parametrize(
    "error", [KfpUnavailable("down"), TransientAwsError("throttled"), client_error("AccessDenied"), KeyError("x")]
)
def test_what_fails_is_tried_again_later(counted: list[str], error: Exception) -> None:
    bench = Bench(error)
    assert not bench.handle(COMPLETED, receives=3)
    assert bench.queue.delays == [20]
    assert bench.queue.dead == []


def test_a_message_whose_delay_is_refused_comes_again_with_the_queues_own_time_out(counted: list[str]) -> None:
    bench = Bench(KfpUnavailable("down"), Answer.SETTLED)
    bench.queue.fails_with = client_error("InvalidParameterValue")
    answer = bench.settling.handle(
        [record(COMPLETED, message_id="one"), record(COMPLETED, message_id="two")], lambda: 60_000
    )
    assert answer == {"batchItemFailures": [{"itemIdentifier": "one"}]}


def test_what_would_not_be_done_in_time_comes_again_instead_of_being_killed_with_all_the_rest(
    counted: list[str],
) -> None:
    bench = Bench(Answer.SETTLED, Answer.SETTLED, Answer.SETTLED)
    clock = iter([60_000, LONGEST_MESSAGE_MS - 1, LONGEST_MESSAGE_MS - 1])
    records = [record(COMPLETED, receives=2, message_id=name) for name in ("one", "two", "three", "four")]
    answer = bench.settling.handle(records, lambda: next(clock))
    assert answer == {"batchItemFailures": [{"itemIdentifier": "three"}, {"itemIdentifier": "four"}]}
    assert bench.queue.delays == [10, 10]
    assert counted == ["SignalSettled", "SignalSettled", "SignalPutOff", "SignalPutOff"]


def test_the_first_message_is_handled_however_late_it_is(counted: list[str]) -> None:
    bench = Bench(Answer.SETTLED)
    assert bench.settling.handle([record(COMPLETED)], lambda: 1) == {"batchItemFailures": []}


def test_the_time_kept_for_a_message_is_enough_for_what_kubeflow_pipelines_may_take() -> None:
    looks = 1 + len(client_module._GET_PAUSES)
    assert looks * client_module.GET_SECONDS + sum(client_module._GET_PAUSES) < LONGEST_MESSAGE_MS / 1000


def test_the_last_receive_sets_a_failing_message_aside_with_its_reason(counted: list[str]) -> None:
    bench = Bench(KfpUnavailable("Kubeflow Pipelines\x00did not\nanswer."))
    assert bench.handle(COMPLETED, receives=LAST_RECEIVE)
    assert bench.queue.dead == [(COMPLETED, "KfpUnavailable: Kubeflow Pipelines did not answer.")]
    assert counted == ["SignalSetAside"]


def test_a_reason_is_cut_to_what_people_read(counted: list[str]) -> None:
    bench = Bench(KfpUnavailable("x" * 5000))
    bench.handle(COMPLETED, receives=LAST_RECEIVE)
    assert len(bench.queue.dead[0][1]) == 1024


def test_a_token_that_nobody_gave_is_counted_for_the_alarm(counted: list[str]) -> None:
    bench = Bench(TokenInvalid("Invalid Token"))
    assert not bench.handle(COMPLETED)
    assert counted == ["InvalidToken"]


@pytest.mark.parametrize(
    "body", ["", "not JSON", "[1, 2]", "null", '"text"', "{", "[" * 200_000], ids=lambda body: body[:8] or "empty"
)
def test_a_poison_message_goes_to_the_dead_letter_queue_at_once_with_its_reason(counted: list[str], body: str) -> None:
    bench = Bench()
    assert bench.handle(body)
    assert [dead for dead, _ in bench.queue.dead] == [body]
    assert bench.queue.dead[0][1].startswith("The message is no EventBridge event: ")
    assert counted == ["SignalSetAside"]


def test_one_bad_message_does_not_hold_up_its_batch(counted: list[str]) -> None:
    bench = Bench(Answer.SETTLED, Unsettled("not yet"), Answer.PARKED, KfpUnavailable("down"))
    bodies = {"a": COMPLETED, "b": COMPLETED, "c": "poison", "d": COMPLETED, "e": COMPLETED}
    answer = bench.settling.handle([record(body, message_id=name) for name, body in bodies.items()], lambda: 60_000)
    assert answer == {"batchItemFailures": [{"itemIdentifier": "b"}, {"itemIdentifier": "e"}]}
    assert len(bench.meeting.signals) == 4


def test_what_goes_on_after_the_runs_end_is_swept_again(counted: list[str]) -> None:
    bench = Bench(Answer.AFTER_THE_END)
    assert bench.handle(json.dumps(event("sagemaker_endpoint_creating")))
    (started,) = bench.machine.started
    assert started["stateMachineArn"] == SETTINGS.clean_up_machine_arn
    assert started["name"] == f"{RUN_ID}-endpoint-Creating"
    assert Request.parse(json.loads(started["input"]), "bt-") == Request(EXECUTION, RUN_ID, None)
    assert counted == ["SignalAfterTheEnd"]


def test_a_sweep_that_was_started_before_is_enough(counted: list[str]) -> None:
    bench = Bench(Answer.AFTER_THE_END)
    bench.machine.fails_with = client_error("ExecutionAlreadyExists")
    assert bench.handle(COMPLETED)


def test_a_sweep_that_cannot_be_started_is_tried_again(counted: list[str]) -> None:
    bench = Bench(Answer.AFTER_THE_END)
    bench.machine.fails_with = client_error("ThrottlingException")
    assert not bench.handle(COMPLETED)
    assert bench.queue.delays == [5]


def test_a_state_that_somebody_made_up_still_gives_a_sweep_a_valid_name(counted: list[str]) -> None:
    bench = Bench(Answer.AFTER_THE_END)
    odd = event("pipeline_run_succeeded")
    odd["detail"]["state"] = "RUN <NING>" * 50
    assert bench.handle(json.dumps(odd))
    name = bench.machine.started[0]["name"]
    assert len(name) <= 80
    assert name.replace("-", "").isalnum()


def test_the_end_of_a_pipeline_run_elsewhere_is_left_to_its_own_version(
    counted: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(settling.logger, "warning", lambda text, **_more: said.append(text))
    items = MemoryItems(lambda: 1_777_890_000)
    knows_none = SimpleNamespace(get_run=lambda _run_id: None)
    bench = Bench(meeting=Rendezvous(items, Things(None, lambda: knows_none, "http://here"), NoTokens()))
    launched = {"pipeline_run_id": "kfp-1", "kfp_installation": "http://there"}
    items.stored[RUN, RUN_ID] = {**bench.items.stored[RUN, RUN_ID], **launched}
    assert bench.handle(json.dumps(event("pipeline_run_succeeded")))
    assert counted == ["SignalElsewhere"]
    assert "its own version of await_outcome looks there" in said[0]
    assert set(items.stored) == {(RUN, RUN_ID)}, "no end is parked for the run"


class Seen:
    """Things that are what the test says."""

    def __init__(self, kind: str, status: str) -> None:
        self.observation = Observation(phase_of(kind, status), status)

    def observe(self, kind: str, row: dict[str, Any]) -> Observation:
        return self.observation


class NoTokens:
    def settle(self, token: str, outcome: dict[str, Any]) -> None:
        raise AssertionError("a run that was ended has nobody who waits")


LEFT_TO_THEMSELVES = {
    "tuning": {"Stopping", "Completed", "Failed", "Stopped", "Deleting", "DeleteFailed"},
    "training": {"Stopping", "Completed", "Failed", "Stopped", "Deleting"},
    "transform": {"Stopping", "Completed", "Failed", "Stopped"},
    "endpoint": {"Deleting"},
    PIPELINE_RUN: {"CANCELING", "SUCCEEDED", "SKIPPED", "FAILED", "CANCELED"},
}
EVENT_OF = {
    "tuning": "sagemaker_tuning_job_in_progress",
    "training": "sagemaker_training_job_in_progress",
    "transform": "sagemaker_transform_job_in_progress",
    "endpoint": "sagemaker_endpoint_creating",
    PIPELINE_RUN: "pipeline_run_succeeded",
}


@pytest.mark.parametrize(("kind", "status"), [(kind, status) for kind, table in PHASES.items() for status in table])
def test_after_the_end_only_what_still_costs_and_is_not_on_its_way_out_is_swept(
    counted: list[str], kind: str, status: str
) -> None:
    items = MemoryItems(lambda: 1_777_890_000)
    bench = Bench(meeting=Rendezvous(items, Seen(kind, status), NoTokens()))
    ended = {**bench.items.stored[RUN, RUN_ID], "ended_at": 1_777_889_000}
    items.stored[RUN, RUN_ID] = bench.items.stored[RUN, RUN_ID] = ended
    assert bench.handle(json.dumps(event(EVENT_OF[kind])))
    assert bool(bench.machine.started) is (status not in LEFT_TO_THEMSELVES[kind])


def test_an_event_of_a_run_that_nobody_remembers_changes_nothing(counted: list[str]) -> None:
    items = MemoryItems(lambda: 1_777_890_000)
    bench = Bench(meeting=Rendezvous(items, Seen("training", "Completed"), NoTokens()))
    assert bench.handle(COMPLETED)
    assert items.stored == {}
    assert counted == ["SignalIgnored"]


def test_an_event_of_a_claimed_run_that_was_never_planned_changes_nothing(counted: list[str]) -> None:
    items = MemoryItems(lambda: 1_777_890_000)
    items.stored[RUN, RUN_ID] = {"kind": RUN, "name": RUN_ID, "worker_run_id": "kfp-x"}
    bench = Bench(meeting=Rendezvous(items, Seen("training", "Completed"), NoTokens()))
    assert bench.handle(COMPLETED)
    assert set(items.stored) == {(RUN, RUN_ID)}
