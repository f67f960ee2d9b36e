"""Asynchronous invocation: Lambda's own queue, its two retries, then the dead-letter queue and the destinations.

https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-error-handling.html
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from baton_local import accounts
from baton_local.context import CloudContext
from baton_local.lambda_.functions import Function
from baton_local.lambda_.invoking import InvokeError, Request
from baton_local.lambda_.sandbox import Outcome

RETRY_SECONDS = (60.0, 120.0)
"""How long Lambda waits before the first and the second retry of a function that failed."""

_THROTTLE_SECONDS = (1.0, 300.0)
_MAX_AGE_SECONDS = 6 * 3600
_MAX_RETRIES = 2
_PARALLEL = 64


@dataclass(frozen=True)
class Policy:
    """What happens to an event that its function cannot handle, as far as the function configures it."""

    retries: int = _MAX_RETRIES
    max_age_seconds: float = _MAX_AGE_SECONDS
    on_success: str = ""
    on_failure: str = ""
    dead_letter_arn: str = ""

    @classmethod
    def of(cls, config: dict[str, Any], dead_letter_arn: str) -> Policy:
        """Read an EventInvokeConfig."""
        destinations = config.get("DestinationConfig") or {}
        return cls(
            retries=int(config.get("MaximumRetryAttempts", _MAX_RETRIES)),
            max_age_seconds=float(config.get("MaximumEventAgeInSeconds", _MAX_AGE_SECONDS)),
            on_success=(destinations.get("OnSuccess") or {}).get("Destination", ""),
            on_failure=(destinations.get("OnFailure") or {}).get("Destination", ""),
            dead_letter_arn=dead_letter_arn,
        )


@dataclass(frozen=True)
class Event:
    """An event in Lambda's queue: the request, what to do when it fails, and how far it has come."""

    request: Request
    policy: Policy
    queued_at: float
    attempts: int = 0
    throttles: int = 0


class AsynchronousInvoker:
    """Takes events and sees them through in the background; its waits are shortened by the cloud's clock scale."""

    def __init__(self, context: CloudContext, run: Callable[[Request], Outcome]) -> None:
        self._context = context
        self._run = run
        self._pool = ThreadPoolExecutor(_PARALLEL, "lambda-event")

    def submit(self, request: Request, policy: Policy) -> None:
        """Put an event into the queue."""
        self._pool.submit(self._attempt, Event(request, policy, time.monotonic()))

    def shut_down(self) -> None:
        """Take no more events and forget those that wait."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _attempt(self, event: Event) -> None:
        try:
            outcome = self._run(event.request)
        except InvokeError as error:
            self._throttled(event, error)
            return
        except Exception as error:
            print(f"lambda: {event.request.function.name} could not be run: {error!r}", file=sys.stderr, flush=True)
            return
        event = replace(event, attempts=event.attempts + 1)
        if not outcome.is_error:
            self._finish(event, event.policy.on_success, "Success", outcome)
        elif event.attempts > event.policy.retries:
            self._give_up(event, "RetriesExhausted", outcome)
        else:
            self._later(event, RETRY_SECONDS[event.attempts - 1], outcome)

    def _throttled(self, event: Event, error: InvokeError) -> None:
        """Try again for as long as the event may live; the waits grow from one second to five minutes."""
        body = json.dumps({"errorType": error.code, "errorMessage": str(error)}).encode()
        seconds = min(_THROTTLE_SECONDS[0] * 2**event.throttles, _THROTTLE_SECONDS[1])
        outcome = Outcome(body, True, "", event.request.request_id)
        self._later(replace(event, throttles=event.throttles + 1), seconds, outcome)

    def _later(self, event: Event, seconds: float, outcome: Outcome) -> None:
        age = (time.monotonic() - event.queued_at) * self._context.clock_scale
        if age + seconds > event.policy.max_age_seconds:
            self._give_up(event, "EventAgeExceeded", outcome)
            return
        timer = threading.Timer(seconds / self._context.clock_scale, self._resubmit, (event,))
        timer.daemon = True
        timer.start()

    def _resubmit(self, event: Event) -> None:
        try:
            self._pool.submit(self._attempt, event)
        except RuntimeError:
            # The cloud is shutting down.
            return

    def _give_up(self, event: Event, condition: str, outcome: Outcome) -> None:
        if event.policy.dead_letter_arn:
            self._deliver(event.request.function, _dead_letter, event.policy.dead_letter_arn, (event, outcome))
        self._finish(event, event.policy.on_failure, condition, outcome)

    def _finish(self, event: Event, destination: str, condition: str, outcome: Outcome) -> None:
        if destination:
            record = destination_record(event, condition, outcome)
            self._deliver(event.request.function, _destination, destination, (record,))

    def _deliver(self, function: Function, send: Callable[..., None], arn: str, content: tuple[Any, ...]) -> None:
        """Send with the function's own role, as Lambda does; what the role may not do is lost, and said."""

        def client(service: str) -> Any:
            return accounts.role_client(
                self._context.url, service, function.region, function.role_arn, f"{function.name}-async"
            )

        try:
            send(client, arn, *content)
        except Exception as error:
            # AWS counts it as DeadLetterErrors or DestinationDeliveryFailures, and says nothing else.
            print(
                f"lambda: an event of {function.name} is lost: sending to {arn}: {error}", file=sys.stderr, flush=True
            )


def destination_record(event: Event, condition: str, outcome: Outcome) -> dict[str, Any]:
    """Return the record that a destination gets about an event that is done."""
    function = event.request.function
    context: dict[str, Any] = {"statusCode": 200, "executedVersion": function.version}
    if outcome.is_error:
        context["functionError"] = "Unhandled"
    return {
        "version": "1.0",
        "timestamp": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z",
        "requestContext": {
            "requestId": event.request.request_id,
            "functionArn": f"{event.request.invoked_arn}:{function.version}",
            "condition": condition,
            "approximateInvokeCount": event.attempts,
        },
        "requestPayload": json.loads(event.request.payload),
        "responseContext": context,
        "responsePayload": json.loads(outcome.body or b"null"),
    }


def _queue_url(client: Any, arn: str) -> str:
    """Return a queue's URL without asking for it: Lambda needs sqs:SendMessage, and nothing else."""
    account, name = arn.split(":")[4:6]
    return f"{client.meta.endpoint_url}/{account}/{name}"


def _dead_letter(client: Callable[[str], Any], arn: str, event: Event, outcome: Outcome) -> None:
    message = str(json.loads(outcome.body).get("errorMessage", ""))[:1024]
    texts = {"RequestID": event.request.request_id, "ErrorCode": "200", "ErrorMessage": message or "-"}
    attributes = {
        n: {"DataType": "Number" if n == "ErrorCode" else "String", "StringValue": v} for n, v in texts.items()
    }
    body = event.request.payload.decode()
    if arn.split(":")[2] == "sqs":
        sqs = client("sqs")
        sqs.send_message(QueueUrl=_queue_url(sqs, arn), MessageBody=body, MessageAttributes=attributes)
    else:
        client("sns").publish(TopicArn=arn, Message=body, MessageAttributes=attributes)


def _destination(client: Callable[[str], Any], arn: str, record: dict[str, Any]) -> None:
    service, text = arn.split(":")[2], json.dumps(record)
    if service == "sqs":
        sqs = client("sqs")
        sqs.send_message(QueueUrl=_queue_url(sqs, arn), MessageBody=text)
    elif service == "sns":
        client("sns").publish(TopicArn=arn, Message=text)
    elif service == "lambda":
        client("lambda").invoke(FunctionName=arn, InvocationType="Event", Payload=text)
    else:
        _put_event(client("events"), arn, record, text)


def _put_event(events: Any, arn: str, record: dict[str, Any], text: str) -> None:
    succeeded = record["requestContext"]["condition"] == "Success"
    entry = {
        "Source": "lambda",
        "DetailType": f"Lambda Function Invocation Result - {'Success' if succeeded else 'Failure'}",
        "Resources": [arn, record["requestContext"]["functionArn"]],
        "Detail": text,
        "EventBusName": arn,
    }
    events.put_events(Entries=[entry])
