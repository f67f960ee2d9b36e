"""What the topic is told, as somebody who subscribed to it hears it."""

from __future__ import annotations

import json
import uuid
from types import TracebackType

from baton_local.deployment import Deployment

_BATCH = 10


class Topic:
    """A context manager: a subscription of its own to a deployment's topic, through a queue of the administrator's."""

    def __init__(self, deployment: Deployment) -> None:
        self._sqs, self._sns = deployment.client("sqs"), deployment.client("sns")
        self._queue = self._sqs.create_queue(QueueName=f"baton-local-listener-{uuid.uuid4().hex[:12]}")["QueueUrl"]
        arn = self._sqs.get_queue_attributes(QueueUrl=self._queue, AttributeNames=["QueueArn"])["Attributes"][
            "QueueArn"
        ]
        topic = deployment.outputs["TopicArn"]
        self._subscription = self._sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)["SubscriptionArn"]

    def __enter__(self) -> Topic:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._sns.unsubscribe(SubscriptionArn=self._subscription)
        self._sqs.delete_queue(QueueUrl=self._queue)

    def hear(self) -> list[str]:
        """Return the texts of the messages that came since the last call."""
        heard: list[str] = []
        while messages := self._sqs.receive_message(QueueUrl=self._queue, MaxNumberOfMessages=_BATCH).get("Messages"):
            for message in messages:
                self._sqs.delete_message(QueueUrl=self._queue, ReceiptHandle=message["ReceiptHandle"])
                heard.append(json.loads(message["Body"])["Message"])
        return heard
