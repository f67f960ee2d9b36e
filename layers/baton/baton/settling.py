"""The outcome queue's messages, one by one: settled, looked at again later, or set aside with their reason.

=============================  ======================================================================================
what happens                   what becomes of the message
=============================  ======================================================================================
settled, parked or ignored     done
its KFP run is elsewhere       done: the run's own version of await_outcome looks there, at each heartbeat
the end is not visible yet     again after 5 to 60 s, a few times, then dropped with a metric: the heartbeat looks too
AWS or KFP does not answer     again after 5 to 60 s
the invocation's time is up    again after 5 to 60 s
it cannot be read              dead-letter queue at once, with its reason
it fails again and again       dead-letter queue, with its last reason, before SQS would move it there without one
=============================  ======================================================================================
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cache
from typing import Any

from botocore.exceptions import ClientError

from baton.clients import client
from baton.errors import Unsettled
from baton.events import Signal, read_signal
from baton.items import DynamoItems
from baton.kfp import kfp_client
from baton.observability import correlate, count, logger
from baton.rendezvous import Answer, Rendezvous
from baton.runs import Runs
from baton.settings import Settings, settings
from baton.things import Things
from baton.tokens import StepFunctionsTokens, TokenInvalid

FIRST_DELAY_SECONDS = 5
LONGEST_DELAY_SECONDS = 60
UNSETTLED_LOOKS = 8
"""After so many looks (about four minutes) an end that Describe never confirmed is dropped."""
LONGEST_MESSAGE_MS = 48_000
"""What one message may take: three GETs of Kubeflow Pipelines that time out, and the pauses between them."""
LAST_RECEIVE = 11
"""One less than the queue's maxReceiveCount: the last chance to say why a message fails."""


@cache
def rendezvous() -> Rendezvous:
    """Return this process's rendezvous, over the real services."""
    things = Things(client("sagemaker"), lambda: kfp_client(settings()), settings().kfp_installation)
    return Rendezvous(DynamoItems.named(settings().table), things, StepFunctionsTokens(client("stepfunctions")))


class Settling:
    """Handles the messages of one queue."""

    def __init__(self, meeting: Rendezvous, runs: Runs, sqs: Any, stepfunctions: Any, where: Settings) -> None:
        self._rendezvous = meeting
        self._runs = runs
        self._sqs = sqs
        self._stepfunctions = stepfunctions
        self._settings = where

    @classmethod
    def here(cls) -> Settling:
        """Return the settling of this process."""
        runs = Runs(DynamoItems.named(settings().table))
        return cls(rendezvous(), runs, client("sqs"), client("stepfunctions"), settings())

    def handle(self, records: list[dict[str, Any]], remaining_ms: Callable[[], int]) -> dict[str, Any]:
        """Handle a batch of SQS records; the answer names those that must come again (ReportBatchItemFailures).

        ``remaining_ms``: the time that this invocation still has. The first message is always handled; what would not
        be done in time comes again, because a function that is killed has handled none.
        """
        again = []
        for number, record in enumerate(records):
            if number and remaining_ms() < LONGEST_MESSAGE_MS:
                count("SignalPutOff")
                self._delay(record)
                again.append(record["messageId"])
            elif not self._handle_one(record):
                again.append(record["messageId"])
        return {"batchItemFailures": [{"itemIdentifier": message_id} for message_id in again]}

    def _handle_one(self, record: Mapping[str, Any]) -> bool:
        """Return whether the message is done."""
        try:
            event = json.loads(record["body"])
            signal = read_signal(event, self._settings.run_prefix) if isinstance(event, dict) else _unreadable()
        except (ValueError, RecursionError) as error:
            return self._set_aside(record, f"The message is no EventBridge event: {error}")
        if signal is None:
            count("SignalIgnored")
            return True
        correlate(signal.run_id)
        try:
            return self._act(signal)
        except Unsettled as error:
            return self._look_again(record, error)
        except Exception as error:
            if isinstance(error, TokenInvalid):
                count("InvalidToken")
            logger.exception("The message could not be handled.")
            return self._try_again(record, error)

    def _act(self, signal: Signal) -> bool:
        answer = self._rendezvous.signal(signal)
        count(f"Signal{answer.value}")
        logger.info("Signal handled.", extra={"kind": signal.kind, "status": signal.status, "answer": answer.value})
        if answer is Answer.ELSEWHERE:
            logger.warning(
                "The run was launched at another Kubeflow Pipelines; its own version of await_outcome looks there.",
                extra={"here": self._settings.kfp_installation},
            )
        if answer is Answer.AFTER_THE_END:
            self._sweep_again(signal)
        return True

    def _sweep_again(self, signal: Signal) -> None:
        """Start clean-up for something that appeared, or still is, after the run's tombstone."""
        row = self._runs.get(signal.run_id) or {}
        try:
            self._stepfunctions.start_execution(
                stateMachineArn=self._settings.clean_up_machine_arn,
                name=f"{signal.run_id}-{signal.kind}-{re.sub('[^A-Za-z]', '', signal.status)[:30]}",
                input=json.dumps({"run_id": signal.run_id, "execution_arn": row["execution_arn"]}),
            )
        except ClientError as error:
            # A sweep of this name that has ended already leaves the rest to the janitor's hourly round.
            if error.response["Error"]["Code"] != "ExecutionAlreadyExists":
                raise

    def _look_again(self, record: Mapping[str, Any], error: Unsettled) -> bool:
        if _receives(record) >= UNSETTLED_LOOKS:
            count("SignalUnsettledDropped")
            logger.warning("The end that an event claims was never confirmed.", extra={"reason": str(error)})
            return True
        count("SignalUnsettled")
        self._delay(record)
        return False

    def _try_again(self, record: Mapping[str, Any], error: Exception) -> bool:
        if _receives(record) >= LAST_RECEIVE:
            return self._set_aside(record, f"{type(error).__name__}: {error}")
        self._delay(record)
        return False

    def _delay(self, record: Mapping[str, Any]) -> None:
        seconds = min(LONGEST_DELAY_SECONDS, FIRST_DELAY_SECONDS * 2 ** (_receives(record) - 1))
        # Where this fails the message comes again all the same, after the queue's own time-out.
        with suppress(ClientError):
            self._sqs.change_message_visibility(
                QueueUrl=self._settings.outcome_queue_url,
                ReceiptHandle=record["receiptHandle"],
                VisibilityTimeout=seconds,
            )

    def _set_aside(self, record: Mapping[str, Any], reason: str) -> bool:
        """Move a message to the dead-letter queue with its reason; SQS itself would give none."""
        count("SignalSetAside")
        logger.error("The message was set aside.", extra={"reason": reason})
        self._sqs.send_message(
            QueueUrl=self._settings.dead_letter_queue_url,
            MessageBody=record["body"],
            MessageAttributes={"Reason": {"DataType": "String", "StringValue": _sayable(reason)[:1024]}},
        )
        return True


def _receives(record: Mapping[str, Any]) -> int:
    return int(record.get("attributes", {}).get("ApproximateReceiveCount", 1))


def _sayable(reason: str) -> str:
    # SQS takes no control characters: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessage.html
    return "".join(character if character.isprintable() else " " for character in reason)


def _unreadable() -> Signal | None:
    raise ValueError("it is not a JSON object")
