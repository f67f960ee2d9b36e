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


def console_link(region: str, page: str, name: str) -> str:
    """Return the address of a SageMaker thing in the partition's console; ``page`` is like ``jobs``."""
    partition = boto3.session.Session().get_partition_for_region(region)
    host = _CONSOLES.get(partition, _CONSOLES["aws"])
    return f"https://{region}.{host}/sagemaker/home?region={region}#/{page}/{name}"


def log_tail(logs: Any, group: str, stream_prefix: str, lines: int = TAIL_LINES) -> list[str]:
    """Return the last lines of the first log stream with a prefix, or one line that says why there are none.

    A log that cannot be read never fails the step: it is only for reading.
    """
    try:
        found = logs.describe_log_streams(logGroupName=group, logStreamNamePrefix=stream_prefix, limit=1)
        streams = found.get("logStreams", [])
        if not streams:
            return [f"({group} has no log stream {stream_prefix}…)"]
        stream = streams[0]["logStreamName"]
        answer = logs.get_log_events(logGroupName=group, logStreamName=stream, limit=lines, startFromHead=False)
    except (ClientError, BotoCoreError) as error:
        return [f"(the log in {group} cannot be read: {error})"]
    return [event["message"].rstrip() for event in answer.get("events", [])]
