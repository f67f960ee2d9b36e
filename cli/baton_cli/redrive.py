"""``baton redrive``: gives every event of the dead-letter queue to whom it was meant for.

The queue holds three kinds of events, and SQS's own redrive knows only the queue that they came through: what may end
a wait goes to the outcome queue, an upload to start_run, the bad end of an execution to the state machine clean-up-run.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from baton_cli.account import COMMANDS, Account, NoRegion, add_options, counted, refuse

_HIDDEN_SECONDS = 60
_BATCH = 10
_PLACES = {
    "outcomes": "to the outcome queue",
    "start_run": "to start_run",
    "clean-up-run": "to clean-up-run",
    "": "it is no event",
}
_REASONS = ("Reason", "ERROR_MESSAGE", "ErrorMessage", "ERROR_CODE")
"""Where settle_outcome, EventBridge, Lambda and EventBridge again say why a message is here."""


@dataclass(frozen=True)
class Letter:
    """A message of the dead-letter queue; ``event`` is None where its body is none."""

    handle: str
    body: str
    reason: str
    event: Mapping[str, Any] | None

    @classmethod
    def read(cls, message: Mapping[str, Any]) -> Letter:
        """Read a message as SQS gives it."""
        said = {name: value.get("StringValue", "") for name, value in message.get("MessageAttributes", {}).items()}
        reason = next((said[name] for name in _REASONS if said.get(name)), "no reason given")
        return cls(message["ReceiptHandle"], message["Body"], reason, _event(message["Body"]))

    @property
    def addressee(self) -> str:
        """Who handles the event: outcomes, start_run, clean-up-run, or nobody."""
        if self.event is None:
            return ""
        if self.event.get("source") == "aws.s3":
            return "start_run"
        return "clean-up-run" if self.event.get("source") == "aws.states" else "outcomes"


def _event(body: str) -> Mapping[str, Any] | None:
    try:
        event = json.loads(body)
    except ValueError:
        return None
    return event if isinstance(event, dict) and "detail-type" in event else None


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``baton redrive``."""
    redrive = commands.add_parser("redrive", help="handle the events of the dead-letter queue again")
    add_options(redrive)
    how = redrive.add_mutually_exclusive_group()
    how.add_argument("--dry-run", action="store_true", help="only show them, with the reason why they are there")
    how.add_argument("--discard", action="store_true", help="also delete what is no event, and so can go to nobody")
    redrive.set_defaults(run=_run)


def _run(chosen: argparse.Namespace) -> int:
    try:
        account = Account.chosen(chosen)
        if not account.whole:
            return refuse(account.not_whole)
        return redrive(account, chosen.dry_run, chosen.discard)
    except NoRegion as error:
        return refuse(str(error))
    except (BotoCoreError, ClientError) as error:
        return refuse(str(error))


def redrive(account: Account, dry_run: bool, discard: bool = False) -> int:
    """Hand on every event, and say where each went and why it was there; return 1 where something is left.

    ``discard`` deletes what is no event, which is left otherwise. What stays in the queue can be seen again at once.
    """
    letters = list(_letters(account))
    staying = {letter.handle for letter in letters}
    try:
        for letter in letters:
            print(f"{_title(letter)}: {_fate(letter, discard)}\n      {letter.reason}")
            if dry_run or not (letter.addressee or discard):
                continue
            # Deleted only afterwards: handling an event twice changes nothing, losing it might.
            if letter.addressee:
                _hand_on(account, letter)
            _delete(account, letter)
            staying.remove(letter.handle)
    finally:
        _release(account, sorted(staying))
    print(
        f"{counted(len(letters), 'event')} in the dead-letter queue"
        + (", of which nothing was moved" if dry_run else "")
    )
    poison = sum(not letter.addressee for letter in letters)
    if poison and not discard:
        told = "1 is no event, and rings" if poison == 1 else f"{poison} are no events, and ring"
        print(f"{told} the alarm until deleted. This deletes {'it' if poison == 1 else 'them'}:")
        print(f"    {COMMANDS}baton redrive --discard {account.this_stack}")
        return 1
    return 0


def _fate(letter: Letter, discard: bool) -> str:
    fate = _PLACES[letter.addressee]
    if letter.addressee:
        return fate
    return f"deleted: {fate}" if discard else f"left: {fate}"


def _letters(account: Account) -> Iterator[Letter]:
    """Yield each message once; it stays hidden until it is deleted or released."""
    seen: set[str] = set()
    while True:
        answer = account.client("sqs").receive_message(
            QueueUrl=account.outputs["DeadLetterQueueUrl"],
            MessageAttributeNames=["All"],
            MaxNumberOfMessages=_BATCH,
            WaitTimeSeconds=1,
            VisibilityTimeout=_HIDDEN_SECONDS,
        )
        fresh = [message for message in answer.get("Messages", []) if message["MessageId"] not in seen]
        if not fresh:
            return
        seen |= {message["MessageId"] for message in fresh}
        yield from map(Letter.read, fresh)


def _release(account: Account, handles: Sequence[str]) -> None:
    """Let messages be seen again at once, so that the next command finds them."""
    for start in range(0, len(handles), _BATCH):
        entries = [
            {"Id": str(number), "ReceiptHandle": handle, "VisibilityTimeout": 0}
            for number, handle in enumerate(handles[start : start + _BATCH])
        ]
        url = account.outputs["DeadLetterQueueUrl"]
        account.client("sqs").change_message_visibility_batch(QueueUrl=url, Entries=entries)


def _title(letter: Letter) -> str:
    event = letter.event or {}
    return f"{event.get('detail-type', 'A message')} of {event.get('time', 'an unknown time')}"


def _hand_on(account: Account, letter: Letter) -> None:
    if letter.addressee == "outcomes":
        account.client("sqs").send_message(QueueUrl=account.outputs["OutcomeQueueUrl"], MessageBody=letter.body)
    elif letter.addressee == "start_run":
        function = account.resources["StartRunFunction"]
        account.client("lambda").invoke(FunctionName=function, InvocationType="Event", Payload=letter.body.encode())
    else:
        _clean_up(account, (letter.event or {})["detail"])


def _delete(account: Account, letter: Letter) -> None:
    url = account.outputs["DeadLetterQueueUrl"]
    account.client("sqs").delete_message(QueueUrl=url, ReceiptHandle=letter.handle)


def _clean_up(account: Account, detail: Mapping[str, Any]) -> None:
    # Without a verdict, as the rule hands it over: the execution may have been redriven since, and have succeeded.
    request = {"execution_arn": detail["executionArn"], "start_time": detail["startDate"]}
    machine = account.outputs["CleanUpMachineArn"]
    account.client("stepfunctions").start_execution(stateMachineArn=machine, input=json.dumps(request))
