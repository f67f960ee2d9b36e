"""What Lambda asks of a function's role before it takes a configuration, in its words.

Tracing is not among it: Lambda does not refuse a role that may not write traces.
https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-retain-records.html#invocation-dlq,
https://docs.aws.amazon.com/lambda/latest/dg/configuration-vpc.html#configuration-vpc-permissions,
https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-configure.html#events-sqs-permissions
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from baton_local import iam

_SERVICES = {"sqs": ("SQS", "SendMessage"), "sns": ("SNS", "Publish")}
_POLLER_ACTIONS = ("ReceiveMessage", "DeleteMessage", "GetQueueAttributes")


@dataclass(frozen=True)
class Need:
    """One action on one resource that a role must be allowed; ``service`` is how Lambda calls the service."""

    action: str
    resource: str
    service: str

    def refusal(self) -> str:
        """Return what Lambda answers where the role may not."""
        operation = self.action.partition(":")[2]
        return f"The provided execution role does not have permissions to call {operation} on {self.service}"


def needs_of_function(place: str, spec: dict[str, Any]) -> Iterator[Need]:
    """Yield what a function's configuration needs; ``place``: partition, region and account as ``aws:eu-west-1:1``."""
    dead_letters = (spec.get("DeadLetterConfig") or {}).get("TargetArn")
    if dead_letters:
        prefix = dead_letters.split(":")[2]
        service, operation = _SERVICES[prefix]
        yield Need(f"{prefix}:{operation}", dead_letters, service)
    if (spec.get("VpcConfig") or {}).get("SubnetIds"):
        partition, region, account = place.split(":")
        interfaces = f"arn:{partition}:ec2:{region}:{account}:network-interface/*"
        yield Need("ec2:CreateNetworkInterface", interfaces, "EC2")


def needs_of_mapping(event_source_arn: str) -> Iterator[Need]:
    """Yield what the pollers of an event source need."""
    if event_source_arn.split(":")[2] == "sqs":
        yield from (Need(f"sqs:{operation}", event_source_arn, "SQS") for operation in _POLLER_ACTIONS)


def first_refusal(role_arn: str, needs: Iterator[Need]) -> str | None:
    """Return what Lambda answers for the first thing that the role may not do, or None."""
    return next((need.refusal() for need in needs if not iam.role_may(role_arn, need.action, need.resource)), None)
