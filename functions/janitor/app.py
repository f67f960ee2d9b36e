"""Janitor: every hour, finish what nobody finished."""

from __future__ import annotations

from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext

from baton.clients import client
from baton.items import DynamoItems
from baton.janitor import Janitor, Round, message_of
from baton.observability import count, lambda_entry, logger
from baton.runs import Runs
from baton.settings import settings


@lambda_entry
def handler(_event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Make one round over the run rows; return what it looked at and started."""
    items = DynamoItems.named(settings().table)
    janitor = Janitor(Runs(items), client("stepfunctions"), settings().clean_up_machine_arn, items.now)
    done = janitor.make_round(context.get_remaining_time_in_millis)
    _tell(done)
    return done.as_dict()


def _tell(done: Round) -> None:
    count("JanitorRound")
    count("JanitorNotReached", done.not_reached)
    count("OldestWaiterSeconds", max(0, done.oldest_waiter_seconds))
    count("OverdueSeconds", max(0, done.overdue_seconds))
    for reason, found in done.counts().items():
        count(f"JanitorFound{reason.capitalize()}", found)
    logger.info("The janitor has made its round.", extra=done.as_dict())
    if done.to_tell:
        subject, text = message_of(done)
        client("sns").publish(TopicArn=settings().topic_arn, Subject=subject, Message=text)
