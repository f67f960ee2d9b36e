"""What a step prints so that a person need not search: a console link, and the end of the job's own log."""

from __future__ import annotations

from typing import Any

import boto3
from botocore.exceptions import BotoCoreError, ClientError

_CONSOLES = {
    "aws": "console.aws.amazon.com",
    "aws-cn": "console.amazonaws.cn",
    "aws-us-gov": "console.amazonaws-us-gov.com",
}
TAIL_LINES = 20
MIN_LINES = 4


def console_link(region: str, page: str, name: str) -> str | None:
    """Return the address of a SageMaker thing in the partition's console; ``page`` is like ``jobs``.

    None in a partition whose console is not public.
    """
    # The session of the step's clients has read the partitions already.
    session = boto3.DEFAULT_SESSION or boto3.session.Session()
    host = _CONSOLES.get(session.get_partition_for_region(region))
    return f"https://{region}.{host}/sagemaker/home?region={region}#/{page}/{name}" if host else None


def log_tails(logs: Any, group: str, stream_prefix: str, streams: int = 1) -> list[tuple[str, list[str]]]:
    """Return the names of the first log streams with a prefix, each with its last lines.

    Where there are none, or they cannot be read, one nameless entry says why: a log never fails a step, because it is
    only for reading. Several streams share the lines of one.
    """
    # An empty prefix is refused.
    wanted = {"logStreamNamePrefix": stream_prefix} if stream_prefix else {}
    try:
        found = logs.describe_log_streams(logGroupName=group, limit=streams, **wanted)
        names = [stream["logStreamName"] for stream in found.get("logStreams", [])]
        if not names:
            return [("", [f"({group} has no log stream {stream_prefix}…)"])]
        lines = max(MIN_LINES, TAIL_LINES // len(names))
        return [(name, _tail(logs, group, name, lines)) for name in names]
    except (ClientError, BotoCoreError) as error:
        return [("", [f"(the log in {group} cannot be read: {error})"])]


def _tail(logs: Any, group: str, stream: str, lines: int) -> list[str]:
    answer = logs.get_log_events(logGroupName=group, logStreamName=stream, limit=lines, startFromHead=False)
    return [event["message"].rstrip() for event in answer.get("events", [])]
