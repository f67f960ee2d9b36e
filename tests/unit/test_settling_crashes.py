"""settle_outcome is killed after each of its AWS and KFP calls in turn, and SQS delivers its message again.

Whatever happens, the end must be that of an undisturbed delivery: the same waits are settled with the same outcomes,
the same items are in the table, and the same clean-ups are started.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.exceptions import ClientError

from baton.rendezvous import Rendezvous
from baton.runs import RUN, Runs
from baton.settings import Settings
from baton.settling import Settling
from baton.things import JOB_KINDS, KINDS, PIPELINE_RUN, Things, thing_name
from baton.tokens import StepFunctionsTokens
from tests.support.memory import MemoryItems
from tests.unit.test_events import RUN_ID, event

NOW = 1_777_890_000
ROW = {
    "kind": RUN,
    "name": RUN_ID,
    "execution_arn": "arn:aws:states:eu-west-1:123456789012:execution:baton-training-run:mnist-5f2c",
    "created_at": NOW - 600,
    "deadline_at": NOW + 3600,
    "pipeline_run_id": "kfp-1",
    "worker_run_id": "kfp-1",
}
SETTINGS = Settings("aws", "eu-west-1", "amazonaws.com", outcome_queue_url="outcomes", dead_letter_queue_url="dead")


class Killed(BaseException):
    """The function's process is gone: nothing in it may catch this."""


@dataclass(frozen=True)
class Story:
    """A message and what it finds: the things' statuses, who waits, and whether the run has ended."""

    body: str
    statuses: Mapping[str, str]
    waiting: tuple[str, ...] = ()
    ended: bool = False


def body(name: str) -> str:
    return json.dumps(event(name))


STORIES = {
    "a job's end that is awaited": Story(
        body("sagemaker_training_job_completed"), {"training": "Completed", PIPELINE_RUN: "RUNNING"}, ("training",)
    ),
    "a job's end that nobody awaits yet": Story(
        body("sagemaker_training_job_completed"), {"training": "Completed", PIPELINE_RUN: "RUNNING"}
    ),
    "a job's end that is not visible yet": Story(
        body("sagemaker_training_job_completed"), {"training": "InProgress", PIPELINE_RUN: "RUNNING"}, ("training",)
    ),
    "a job's bad end": Story(
        body("sagemaker_training_job_failed"), {"training": "Failed", PIPELINE_RUN: "RUNNING"}, ("training",)
    ),
    "a good end of the pipeline run, whose jobs' events got lost": Story(
        body("pipeline_run_succeeded"),
        {PIPELINE_RUN: "SUCCEEDED", **dict.fromkeys(("tuning", "training", "transform"), "Completed")}
        | {"endpoint": "InService"},
        KINDS,
    ),
    "a bad end of the pipeline run, which never made its jobs": Story(
        body("pipeline_run_failed"), {PIPELINE_RUN: "FAILED"}, KINDS
    ),
    "an endpoint that comes after the end": Story(
        body("sagemaker_endpoint_creating"), {"endpoint": "Creating", PIPELINE_RUN: "CANCELED"}, ended=True
    ),
    "no event": Story("This is no event.", {}),
}


class Services:
    """SageMaker, KFP, Step Functions and SQS; each call is counted, and the process may be killed right after it."""

    def __init__(self, story: Story, around: Callable[[str, Callable[[], Any]], Any]) -> None:
        self.story = story
        self.around = around
        self.settled: dict[str, tuple[str, Any]] = {}
        self.started: dict[str, str] = {}
        self.dead: set[tuple[str, str]] = set()

    # --- SageMaker
    def __getattr__(self, operation: str) -> Callable[..., Any]:
        if not operation.startswith("describe_"):
            raise AttributeError(operation)
        return lambda **request: self.around(operation, lambda: self._describe(*request.popitem()))

    def _describe(self, name_field: str, name: str) -> dict[str, Any]:
        prefix = name_field.removesuffix("Name")
        kind = next(kind for kind in JOB_KINDS if thing_name(kind, RUN_ID) == name)
        if kind not in self.story.statuses:
            raise client_error("ValidationException", "Requested resource not found.")
        created = datetime.fromtimestamp(NOW - 300, UTC)
        return {f"{prefix}Arn": name, "CreationTime": created, f"{prefix}Status": self.story.statuses[kind]}

    def list_tags(self, ResourceArn: str, MaxResults: int) -> Any:
        return self.around("list_tags", lambda: {"Tags": [{"Key": "baton:run-id", "Value": RUN_ID}]})

    # --- Kubeflow Pipelines
    def get_run(self, run_id: str) -> Any:
        state = self.story.statuses[PIPELINE_RUN]
        return self.around("get_run", lambda: SimpleNamespace(id=run_id, state=state, error=None))

    # --- Step Functions
    def send_task_success(self, taskToken: str, output: str) -> None:
        self.around("send_task_success", lambda: self._settle(taskToken, ("success", json.loads(output))))

    def send_task_failure(self, taskToken: str, error: str, cause: str) -> None:
        self.around("send_task_failure", lambda: self._settle(taskToken, (error, cause)))

    def _settle(self, token: str, how: tuple[str, Any]) -> None:
        if token in self.settled:
            raise client_error("TaskTimedOut")
        self.settled[token] = how

    def start_execution(self, stateMachineArn: str, name: str, input: str) -> None:
        self.around("start_execution", lambda: self._start(name, input))

    def _start(self, name: str, content: str) -> None:
        if name in self.started:
            raise client_error("ExecutionAlreadyExists")
        self.started[name] = content

    # --- SQS
    def send_message(self, QueueUrl: str, MessageBody: str, MessageAttributes: dict[str, dict[str, str]]) -> None:
        # A second copy of a dead letter is allowed: whoever redrives it may do so twice.
        reason = MessageAttributes["Reason"]["StringValue"]
        self.around("send_message", lambda: self.dead.add((MessageBody, reason)))

    def change_message_visibility(self, **_request: Any) -> None:
        self.around("change_message_visibility", lambda: None)


def client_error(code: str, message: str = "") -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": message}}, "Operation")


class World:
    """One message and its deliveries; the process is killed after the calls that ``kill_after`` numbers, from 1."""

    def __init__(self, story: Story, kill_after: tuple[int, ...] = ()) -> None:
        self.story = story
        self.kill_after = kill_after
        self.calls: list[str] = []
        self.items = MemoryItems(lambda: NOW, self._around)
        self.services = Services(story, self._around)
        self.items.stored[RUN, RUN_ID] = {**ROW, **({"ended_at": NOW - 60} if story.ended else {})}
        for kind in story.waiting:
            name = thing_name(kind, RUN_ID)
            wait = {"token": f"token-{kind}", "token_order": "0", "run_id": RUN_ID}
            self.items.stored[kind, name] = {"kind": kind, "name": name, **wait}

    def _around(self, name: str, effect: Callable[[], Any]) -> Any:
        self.calls.append(name)
        try:
            return effect()
        finally:
            if len(self.calls) in self.kill_after:
                raise Killed

    def deliver(self, receives: int) -> bool:
        """Deliver the message; return whether SQS may delete it."""
        services = self.services
        meeting = Rendezvous(self.items, Things(services, lambda: services, "here"), StepFunctionsTokens(services))
        settling = Settling(meeting, Runs(self.items), services, services, SETTINGS)
        attributes = {"ApproximateReceiveCount": str(receives)}
        record = {"messageId": "1", "receiptHandle": "h", "body": self.story.body, "attributes": attributes}
        return settling.handle([record], lambda: 60_000) == {"batchItemFailures": []}

    def play(self) -> dict[str, Any]:
        """Deliver the message until it is done; return what there is then."""
        for receives in range(1, 12):
            try:
                if self.deliver(receives):
                    break
            except Killed:
                pass
        services = self.services
        return {
            "table": self.items.stored,
            "settled": services.settled,
            "started": services.started,
            "dead": services.dead,
        }


@pytest.mark.parametrize("name", STORIES)
def test_killed_after_any_call_and_delivered_again_it_ends_as_if_undisturbed(quiet_settling: None, name: str) -> None:
    undisturbed = World(STORIES[name])
    expected = undisturbed.play()
    assert set(expected["settled"]) == {
        f"token-{kind}" for kind in STORIES[name].waiting if "not visible" not in name
    }, "every wait is settled, but for the end that Describe never confirms"
    for number in range(1, len(undisturbed.calls) + 1):
        world = World(STORIES[name], (number,))
        assert world.play() == expected, f"killed after call {number}, {undisturbed.calls[number - 1]}"


@pytest.mark.parametrize("name", STORIES)
def test_killed_twice_after_any_two_calls_it_ends_as_if_undisturbed(quiet_settling: None, name: str) -> None:
    undisturbed = World(STORIES[name])
    expected = undisturbed.play()
    # The second number counts on through the second delivery, so this kills the recovery at each of its calls too.
    for numbers in itertools.combinations(range(1, 2 * len(undisturbed.calls) + 1), 2):
        assert World(STORIES[name], numbers).play() == expected, numbers


def test_the_stories_reach_every_call_that_the_function_makes(quiet_settling: None) -> None:
    made = set()
    for story in STORIES.values():
        world = World(story)
        world.play()
        made |= set(world.calls)
    assert {name.split()[0] for name in made} >= {
        *("GetItem", "UpdateItem", "describe_training_job", "list_tags", "get_run", "send_task_success"),
        *("send_task_failure", "start_execution", "send_message", "change_message_visibility"),
    }
