"""The targets that a rule can have: each is called as EventBridge calls it, with the permission that it needs there."""

from __future__ import annotations

import functools
import json
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError
from moto.utilities.arns import parse_arn

from baton_local import iam
from baton_local.accounts import client, role_client
from baton_local.seams import register

SERVICE = "events.amazonaws.com"
_LATER = ("Throttl", "TooManyRequests", "ServiceException", "ServiceUnavailable", "InternalFailure", "InternalError")


class Undeliverable(Exception):
    """A target did not take an event. ``retry`` tells whether EventBridge would try again."""

    def __init__(self, code: str, message: str, retry: bool = False) -> None:
        super().__init__(message)
        self.code = code
        self.retry = retry


@dataclass(frozen=True)
class Consignment:
    """What goes to a target: the rule's ARN, the target as PutTargets has it, its input, and the event itself."""

    rule_arn: str
    target: Mapping[str, Any]
    text: str
    event: Mapping[str, Any]

    @property
    def arn(self) -> str:
        """The target's ARN."""
        return str(self.target["Arn"])


def deliver(url: str, consignment: Consignment) -> None:
    """Give a target its input; raise Undeliverable if it does not take it."""
    parsed = parse_arn(consignment.arn)
    send = _SENDERS.get(parsed.service)
    if send is None:
        raise Undeliverable("INVALID_PARAMETER", f"The embedded cloud has no target of the kind {consignment.arn}")
    try:
        send(url, consignment, parsed)
    except Undeliverable:
        raise
    except ClientError as error:
        raise _from_client_error(error) from error
    except (BotoCoreError, OSError) as error:
        raise Undeliverable("SERVICE_UNAVAILABLE", str(error), retry=True) from error
    except Exception as error:
        raise Undeliverable("SDK_CLIENT_ERROR", f"{type(error).__name__}: {error}") from error


def put_in_dead_letter_queue(
    queue_arn: str, consignment: Consignment, error: Undeliverable, attempts: int, exhausted: str
) -> None:
    """Put an event that could not be delivered into a queue, with the attributes that say why.

    https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-rule-dlq.html
    """
    _require(iam.service_may(SERVICE, "sqs:SendMessage", queue_arn, consignment.rule_arn))
    texts = {
        "RULE_ARN": consignment.rule_arn,
        "TARGET_ARN": consignment.arn,
        "ERROR_CODE": error.code,
        "ERROR_MESSAGE": str(error)[:1000],
    }
    if exhausted:
        texts["EXHAUSTED_RETRY_CONDITION"] = exhausted
    attributes = {name: {"DataType": "String", "StringValue": value} for name, value in texts.items()}
    attributes["RETRY_ATTEMPTS"] = {"DataType": "Number", "StringValue": str(attempts)}
    parsed = parse_arn(queue_arn)
    queues = _backend("sqs", parsed)
    body = json.dumps(consignment.event, separators=(",", ":"))
    queues.send_message(parsed.resource_id, body, message_attributes=attributes)


@functools.cache
def _backends(service: str) -> Any:
    return register(f"moto.{service}.models", f"{service}_backends")


def _backend(service: str, parsed: Any) -> Any:
    return _backends(service)[parsed.account][parsed.region]


def _require(decision: iam.Decision) -> None:
    if not decision:
        raise Undeliverable("NO_PERMISSIONS", f"{SERVICE} is not allowed by the resource's policy: {decision.reason}")


def _from_client_error(error: ClientError) -> Undeliverable:
    code, message = str(error.response["Error"].get("Code")), str(error.response["Error"].get("Message"))
    if "AccessDenied" in code:
        return Undeliverable("NO_PERMISSIONS", message)
    if "NotFound" in code or "DoesNotExist" in code:
        return Undeliverable("RESOURCE_NOT_FOUND", message)
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    return Undeliverable(
        "SDK_CLIENT_ERROR", f"{code}: {message}", status >= 500 or any(word in code for word in _LATER)
    )


def _json_text(text: str) -> str:
    """Return a target's input as JSON: a template that is plain text becomes a JSON string."""
    try:
        json.loads(text)
    except ValueError:
        return json.dumps(text)
    return text


def _to_lambda(url: str, consignment: Consignment, parsed: Any) -> None:
    _require(iam.service_may(SERVICE, "lambda:InvokeFunction", consignment.arn, consignment.rule_arn))
    client(url, "lambda", parsed.region).invoke(
        FunctionName=consignment.arn, InvocationType="Event", Payload=_json_text(consignment.text).encode()
    )


def _to_state_machine(url: str, consignment: Consignment, parsed: Any) -> None:
    role_arn = consignment.target.get("RoleArn")
    if not role_arn:
        raise Undeliverable("NO_PERMISSIONS", "RoleArn is required for a state machine as a target")
    # A name of its own per delivery: an event that comes twice starts twice, as it may on AWS.
    role_client(url, "stepfunctions", parsed.region, role_arn, "events").start_execution(
        stateMachineArn=consignment.arn, name=str(uuid.uuid4()), input=_json_text(consignment.text)
    )


def _to_queue(_url: str, consignment: Consignment, parsed: Any) -> None:
    backend = _backend("sqs", parsed)
    if parsed.resource_id not in backend.queues:
        raise Undeliverable("RESOURCE_NOT_FOUND", f"The queue {consignment.arn} does not exist")
    _require(iam.service_may(SERVICE, "sqs:SendMessage", consignment.arn, consignment.rule_arn))
    group = (consignment.target.get("SqsParameters") or {}).get("MessageGroupId")
    backend.send_message(parsed.resource_id, consignment.text, group_id=group)


def _to_topic(_url: str, consignment: Consignment, parsed: Any) -> None:
    backend = _backend("sns", parsed)
    if consignment.arn not in backend.topics:
        raise Undeliverable("RESOURCE_NOT_FOUND", f"The topic {consignment.arn} does not exist")
    _require(iam.service_may(SERVICE, "sns:Publish", consignment.arn, consignment.rule_arn))
    backend.publish(consignment.text, arn=consignment.arn)


def _to_logs(_url: str, consignment: Consignment, parsed: Any) -> None:
    backend = _backend("logs", parsed)
    group, stream = consignment.arn.split(":log-group:")[1].removesuffix(":*"), str(uuid.uuid4())
    if group not in backend.groups:
        raise Undeliverable("RESOURCE_NOT_FOUND", f"The log group {group} does not exist")
    backend.create_log_stream(group, stream)
    backend.put_log_events(group, stream, [{"timestamp": int(time.time() * 1000), "message": consignment.text}])


def _to_bus(_url: str, consignment: Consignment, parsed: Any) -> None:
    from baton_local import bus

    if parsed.resource_type != "event-bus":
        raise Undeliverable("INVALID_PARAMETER", f"The embedded cloud has no target of the kind {consignment.arn}")
    bus.forward(parsed.account, parsed.region, parsed.resource_id, consignment.event)


_SENDERS: dict[str, Callable[[str, Consignment, Any], None]] = {
    "lambda": _to_lambda,
    "states": _to_state_machine,
    "sqs": _to_queue,
    "sns": _to_topic,
    "logs": _to_logs,
    "events": _to_bus,
}
