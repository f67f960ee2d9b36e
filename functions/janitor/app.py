"""Janitor: every hour, finish what nobody finished."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext

from baton.clients import client
from baton.items import DynamoItems
from baton.janitor import Janitor, Round, message_of
from baton.observability import count, lambda_entry, logger, write_counts
from baton.runs import Runs
from baton.settings import settings


@lambda_entry
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Make one round over the run rows; return what it looked at and started.

    ``event`` is that of the schedule, with its ``time``; without one, nobody is taken to try again.
    """
    items = DynamoItems.named(settings().table)
    janitor = Janitor(Runs(items), client("stepfunctions"), settings().clean_up_machine_arn, items.now)
    asked_at = datetime.fromisoformat(event["time"]).timestamp() if "time" in event else None
    made = janitor.make_round(context.get_remaining_time_in_millis, _tell, asked_at)
    # Of whole rounds only: an alarm tells of a janitor that makes none.
    count("JanitorRound")
    logger.info("The janitor has made its round.", extra=made.as_dict())
    return made.as_dict()


def _tell(made: Round) -> None:
    """Count, log and publish what a round has found, at once: the process may die in what comes after."""
    count("JanitorNotReached", made.not_reached)
    count("OldestWaiterSeconds", max(0, made.oldest_waiter_seconds))
    count("OverdueSeconds", max(0, made.overdue_seconds))
    for reason, found in made.counts().items():
        count(f"JanitorFound{reason.capitalize()}", found)
    write_counts()
    found_ones = [one.as_dict() for one in made.found]
    logger.info("The janitor has looked at the runs.", extra={"found": found_ones, "unseen": made.unseen})
    if made.to_tell or made.unseen:
        subject, text = message_of(made)
        client("sns").publish(TopicArn=settings().topic_arn, Subject=subject, Message=text)
