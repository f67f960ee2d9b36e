"""The services as the explored code sees them: every call is asked of the world, which answers in JSON."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

from boto3.dynamodb.conditions import ConditionBase
from botocore.exceptions import ClientError

from baton.errors import KfpUnavailable
from baton.items import ConditionFailed, Item
from baton.things import DELETED
from tests.support.interleavings import Ask

NOW = 1_800_000_000


def client_error(code: str, message: str = "") -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": message}}, "Operation")


def answer_of(text: str) -> Any:
    """Read an answer; raise the ClientError of a call that AWS refused, or whose answer got lost."""
    answer = json.loads(text)
    if isinstance(answer, dict) and "fault" in answer:
        raise client_error("ThrottlingException", "Rate exceeded")
    return answer


class AskedItems:
    """The table.

    What never changes in a story is read without a step of its own, as no order makes a difference: the clock, where
    it does not go on, and the items of waits that nobody registers.
    """

    def __init__(self, ask: Ask, kinds: Collection[str], has_clock: bool) -> None:
        self._ask = ask
        self._kinds = kinds
        self._has_clock = has_clock

    def now(self) -> float:
        return float(self._ask("Now")) if self._has_clock else float(NOW)

    def get(self, kind: str, name: str) -> Item | None:
        if kind not in self._kinds:
            return None
        item: Item | None = answer_of(self._ask("GetItem", kind, name))["item"]
        return item

    def update(self, kind: str, name: str, values: Mapping[str, Any], only_if: ConditionBase | None = None) -> Item:
        answer = answer_of(self._ask("UpdateItem", kind, name, dict(values), only_if))
        if "condition_failed" in answer:
            raise ConditionFailed(answer["condition_failed"])
        item: Item = answer["item"]
        return item

    def of_kind(self, kind: str) -> Iterator[Item]:
        raise NotImplementedError("no rendezvous lists a kind")


class FakeSageMaker:
    """Describe and ListTags; a foreign thing is as young as the run's own, so only its tags tell."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask

    def _describe(self, kind: str, prefix: str, status_field: str) -> dict[str, Any]:
        found = answer_of(self._ask("Describe", kind))
        if found is None:
            raise client_error("ValidationException", f"Could not find {kind}.")
        created = datetime.fromtimestamp(NOW, UTC)
        return {f"{prefix}Arn": kind, "CreationTime": created, status_field: found["status"]}

    def describe_training_job(self, TrainingJobName: str) -> dict[str, Any]:
        return self._describe("training", "TrainingJob", "TrainingJobStatus")

    def describe_hyper_parameter_tuning_job(self, HyperParameterTuningJobName: str) -> dict[str, Any]:
        return self._describe("tuning", "HyperParameterTuningJob", "HyperParameterTuningJobStatus")

    def describe_transform_job(self, TransformJobName: str) -> dict[str, Any]:
        return self._describe("transform", "TransformJob", "TransformJobStatus")

    def describe_endpoint(self, EndpointName: str) -> dict[str, Any]:
        return self._describe("endpoint", "Endpoint", "EndpointStatus")

    def list_tags(self, ResourceArn: str, MaxResults: int) -> dict[str, Any]:
        found = answer_of(self._ask("ListTags", ResourceArn))
        if found is None:
            raise client_error("ValidationException", "The resource does not exist.")
        return {"Tags": [{"Key": "baton:run-id", "Value": found["owner"]}]}


class FakeKfp:
    """GET of a run."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask

    def get_run(self, run_id: str) -> Any:
        found = json.loads(self._ask("GetRun", run_id))
        if "fault" in found:
            raise KfpUnavailable("Kubeflow Pipelines did not answer.")
        if found["state"] == DELETED:
            return None
        return SimpleNamespace(id=run_id, state=found["state"], error=None)


class FakeStepFunctions:
    """SendTaskSuccess, SendTaskFailure and StartExecution."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask

    def send_task_success(self, taskToken: str, output: str) -> None:
        self._send(taskToken, {"output": json.loads(output)})

    def send_task_failure(self, taskToken: str, error: str, cause: str) -> None:
        self._send(taskToken, {"error": error, "cause": cause})

    def _send(self, token: str, sent: dict[str, Any]) -> None:
        answer = answer_of(self._ask("SendTask", token, json.dumps(sent)))
        if answer != "sent":
            raise client_error(answer)

    def start_execution(self, **_request: str) -> None:
        answer = answer_of(self._ask("StartExecution"))
        if answer != "started":
            raise client_error(answer)


class FakeQueue:
    """ChangeMessageVisibility; setting aside takes more receives than any story has."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask

    def change_message_visibility(self, QueueUrl: str, ReceiptHandle: str, VisibilityTimeout: int) -> None:
        answer_of(self._ask("ChangeMessageVisibility", VisibilityTimeout))
