"""Event source mappings from SQS: a poller for each, with the function's role, as Lambda's own pollers work.

https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-errorhandling.html
"""

from __future__ import annotations

import base64
import json
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from baton_local import accounts
from baton_local.lambda_.invoking import InvokeError
from baton_local.lambda_.sandbox import Outcome

_RECEIVE_SECONDS = 5
_RECEIVE_MAX = 10
_DEFAULT_CONCURRENCY = 5
_BACK_OFF_SECONDS = 1.0

Message = dict[str, Any]
Invoke = Callable[[str, bytes], Outcome]
"""(function name or ARN, payload) -> what came of it."""


class Poller:
    """Feeds one queue to one function until it is stopped.

    ``mapping`` is moto's EventSourceMapping, read anew for every batch, so that updates count at once.
    """

    def __init__(self, url: str, mapping: Any, role_of: Callable[[str], str], invoke: Invoke) -> None:
        self._url = url
        self._mapping = mapping
        self._role_of = role_of
        self._invoke = invoke
        self._stopped = threading.Event()
        self._running = threading.Semaphore(concurrency(mapping))
        self._workers = ThreadPoolExecutor(concurrency(mapping), "mapping")
        self._thread = threading.Thread(target=self._poll, name="mapping", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Receive nothing more; a batch that is being worked on is finished."""
        self._stopped.set()
        self._workers.shutdown(wait=False)

    def _poll(self) -> None:
        while not self._stopped.is_set():
            if not self._mapping.enabled:
                self._stopped.wait(0.2)
                continue
            self._running.acquire()
            messages = self._try_to_receive()
            if messages and not self._stopped.is_set():
                self._workers.submit(self._work, messages)
            else:
                self._running.release()
                self._give_back(messages)

    def _try_to_receive(self) -> list[Message]:
        try:
            return self._receive_batch()
        except Exception as error:
            if not self._stopped.is_set():
                self._complain("could not receive from", error)
            self._stopped.wait(_BACK_OFF_SECONDS)
            return []

    def _give_back(self, messages: list[Message]) -> None:
        """Let others see at once what came in while the mapping was being deleted."""
        for message in messages:
            self._sqs().change_message_visibility(
                QueueUrl=self._queue_url(), ReceiptHandle=message["ReceiptHandle"], VisibilityTimeout=0
            )

    def _receive_batch(self) -> list[Message]:
        """Return the next batch: what there is, or what comes within the batching window, up to the batch size."""
        messages = self._receive(min(_RECEIVE_MAX, self._mapping.batch_size), _RECEIVE_SECONDS)
        until = time.monotonic() + (self._mapping.max_batch_window or 0)
        while messages and len(messages) < self._mapping.batch_size and time.monotonic() < until:
            room = min(_RECEIVE_MAX, self._mapping.batch_size - len(messages))
            more = self._receive(room, min(1, max(0, int(until - time.monotonic()))))
            messages += more
            if not more:
                self._stopped.wait(0.05)
        return messages

    def _receive(self, count: int, seconds: int) -> list[Message]:
        answer = self._sqs().receive_message(
            QueueUrl=self._queue_url(),
            MaxNumberOfMessages=count,
            WaitTimeSeconds=seconds,
            MessageSystemAttributeNames=["All"],
            MessageAttributeNames=["All"],
        )
        messages: list[Message] = answer.get("Messages", [])
        return messages

    def _work(self, messages: list[Message]) -> None:
        try:
            done = self._handled(messages)
            if done:
                self._delete(done)
        except Exception as error:
            self._complain("could not finish a batch of", error)
        finally:
            self._running.release()

    def _handled(self, messages: list[Message]) -> list[Message]:
        """Run the function on a batch and return the messages that it has handled."""
        records = [record_of(m, self._mapping.event_source_arn, self._mapping.region) for m in messages]
        try:
            outcome = self._invoke(self._mapping.function_name, json.dumps({"Records": records}).encode())
        except InvokeError:
            # Throttled: the messages come back when their visibility time-out has passed.
            return []
        if outcome.is_error:
            return []
        if "ReportBatchItemFailures" not in (self._mapping.function_response_types or ()):
            return messages
        failed = failed_ids(outcome.body, {m["MessageId"] for m in messages})
        return [m for m in messages if m["MessageId"] not in failed]

    def _delete(self, messages: list[Message]) -> None:
        for start in range(0, len(messages), _RECEIVE_MAX):
            part = messages[start : start + _RECEIVE_MAX]
            entries = [{"Id": str(i), "ReceiptHandle": m["ReceiptHandle"]} for i, m in enumerate(part)]
            self._sqs().delete_message_batch(QueueUrl=self._queue_url(), Entries=entries)

    def _sqs(self) -> Any:
        name = self._mapping.function_name
        return accounts.role_client(
            self._url, "sqs", self._mapping.region, self._role_of(name), name.split(":function:")[-1].split(":")[0]
        )

    def _queue_url(self) -> str:
        account, queue = self._mapping.event_source_arn.split(":")[4:6]
        return f"{self._url}/{account}/{queue}"

    def _complain(self, what: str, error: Exception) -> None:
        arn = self._mapping.event_source_arn
        print(f"lambda: mapping {self._mapping.uuid} {what} {arn}: {error}", file=sys.stderr, flush=True)


def concurrency(mapping: Any) -> int:
    """Return how many batches of a mapping may be worked on at a time."""
    return int((mapping.scaling_config or {}).get("MaximumConcurrency") or _DEFAULT_CONCURRENCY)


def record_of(message: Message, queue_arn: str, region: str) -> dict[str, Any]:
    """Return an SQS message as a function gets it."""
    attributes = message.get("MessageAttributes") or {}
    return {
        "messageId": message["MessageId"],
        "receiptHandle": message["ReceiptHandle"],
        "body": message["Body"],
        "attributes": message.get("Attributes", {}),
        "messageAttributes": {name: _attribute(value) for name, value in attributes.items()},
        "md5OfBody": message["MD5OfBody"],
        "eventSource": "aws:sqs",
        "eventSourceARN": queue_arn,
        "awsRegion": region,
    }


def failed_ids(body: bytes, sent: set[str]) -> set[str]:
    """Return the ids of the messages that a function's answer reports as failed.

    As on Lambda, nothing or an empty list means that all were handled, and an answer that makes no sense (no JSON, an
    empty, missing or unknown identifier) that none was.
    """
    try:
        failures = (json.loads(body or b"null") or {}).get("batchItemFailures") or []
        ids = {failure["itemIdentifier"] for failure in failures}
    except (ValueError, AttributeError, KeyError, TypeError):
        return sent
    return ids if ids <= sent else sent


def _attribute(value: dict[str, Any]) -> dict[str, Any]:
    result: dict[str, Any] = {"stringListValues": [], "binaryListValues": [], "dataType": value["DataType"]}
    if "StringValue" in value:
        result["stringValue"] = value["StringValue"]
    if "BinaryValue" in value:
        result["binaryValue"] = base64.b64encode(value["BinaryValue"]).decode()
    return result
