"""The AWS account that a command looks at, with the credentials of whoever calls it, and the stack in it."""

from __future__ import annotations

import argparse
import os
import re
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import boto3
from boto3.dynamodb.types import TypeDeserializer
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

_GONE = {
    *("ResourceNotFoundException", "ResourceNotFound", "NoSuchEntity", "NoSuchBucket", "StateMachineDoesNotExist"),
    *("AWS.SimpleQueueService.NonExistentQueue", "QueueDoesNotExist", "NotFound", "404"),
}


class BadSetting(BotoCoreError):
    """botocore does not take a setting, and said so by a ValueError, ``said``.

    It is one of botocore's errors, so that whoever tells of those tells of it.
    """

    fmt = "botocore does not take one of your settings: {said}"


class NoRegion(Exception):
    """No region is configured; the message says how to give one."""


COMMANDS = ".venv/bin/"
"""Where `make setup` puts the commands: what is printed can be pasted in a checkout, as the README writes it."""


MACHINE = "StateMachineArn"
"""The output by which a stack of Baton's is known."""

_STACK = re.compile("[A-Za-z][A-Za-z0-9-]{0,127}|arn:[A-Za-z0-9:/._+-]+")
"""A stack's name, or its id, as CloudFormation takes them.

https://docs.aws.amazon.com/AWSCloudFormation/latest/APIReference/API_CreateStack.html
"""

_PARAMETERS = frozenset({"KfpMode", "RunPrefix"})
"""Parameters of Baton's template, both with a default, so that every stack of it has them from its creation on."""

_TAKEN_APART = ("DELETE_", "ROLLBACK_")
"""How the statuses begin in which some of what the outputs name may have gone."""

_NO_MORE = ("CREATE_FAILED", "DELETE_COMPLETE", "DELETE_FAILED", "DELETE_SKIPPED")
"""The statuses of resources that are not the stack's: never made, not in the last template, or left to stay."""


REGION_VARIABLES = ("AWS_REGION", "AWS_DEFAULT_REGION")
"""What the AWS CLI reads the region from, in this order; boto3 reads the second one only."""


@dataclass(frozen=True)
class Origin:
    """Where region and credentials come from, which is where wrong ones are changed.

    ``region``: ``--region``, a variable's name, or empty for a file; ``credentials``: botocore's name of the way, such
    as ``env`` or ``sso``, or empty where there are none.
    """

    region: str = ""
    credentials: str = ""


class Clients:
    """Makes each client once; calling it gives the client of a service.

    ``patience``: the seconds that one answer may take, where the call must not be made again instead.
    """

    def __init__(self, session: boto3.Session) -> None:
        self._session = session
        self._made: dict[tuple[str, float | None], Any] = {}

    @property
    def credentials_from(self) -> str:
        """The way in which botocore found the credentials; empty where it finds none."""
        try:
            return str(getattr(self._session.get_credentials(), "method", "") or "")
        except (BotoCoreError, ValueError):
            return ""

    def __call__(self, service: str, patience: float | None = None) -> Any:
        """Return the client of a service; raises BadSetting, or another of botocore's errors about a setting."""
        key = (service, patience)
        if key not in self._made:
            self._made[key] = self._make(service, patience)
        return self._made[key]

    def _make(self, service: str, patience: float | None) -> Any:
        make: Any = self._session.client
        once = Config(read_timeout=patience, retries={"total_max_attempts": 1}, tcp_keepalive=True)
        try:
            return make(service) if patience is None else make(service, config=once)
        except BotoCoreError:
            # Some of them are ValueErrors, too.
            raise
        except ValueError as error:
            raise BadSetting(said=error) from error


class Account:
    """An account, a region and a stack; ``client`` gives a boto3 client by service.

    ``profile``: that of the credentials, where one was named; the commands that are printed name it, too.
    """

    def __init__(self, client: Callable[..., Any], region: str, stack_name: str, profile: str = "") -> None:
        self.client = client
        self.region = region
        self.stack_name = stack_name
        self.profile = profile

    @classmethod
    def chosen(cls, options: argparse.Namespace) -> Account:
        """Return the account that the options of ``add_options`` name; raises NoRegion."""
        return cls(*open_account(options), options.profile or "")

    @property
    def as_chosen(self) -> str:
        """The option that gives a command the credentials that were chosen; empty where they are the default ones."""
        return profile_option(self.profile)

    @property
    def here(self) -> str:
        """The options by which a command of aws, sam or baton is about this region of this account."""
        return f"--region {self.region}{self.as_chosen}"

    @property
    def this_stack(self) -> str:
        """The options by which a command of aws, sam or baton is about this stack."""
        return f"--stack-name {shlex.quote(self.stack_name)} {self.here}"

    @property
    def misnamed(self) -> str:
        """The sentence about a name that no stack can have; empty where one can."""
        if _STACK.fullmatch(self.stack_name):
            return ""
        rule = "letters, digits and hyphens, at most 128, of which the first is a letter"
        return f"{self.stack_name!r} can be no stack's name: that has {rule}."

    @cached_property
    def stack(self) -> Mapping[str, Any] | None:
        """The stack, or None where there is none of this name."""
        if self.misnamed:
            # CloudFormation's answer to it is the same error as to a name that no stack has.
            return None
        try:
            answer = self.client("cloudformation").describe_stacks(StackName=self.stack_name)
        except ClientError as error:
            if "does not exist" in str(error):
                return None
            raise
        found: Mapping[str, Any] = answer["Stacks"][0]
        return found

    @cached_property
    def outputs(self) -> Mapping[str, str]:
        """The stack's outputs by name; none while it has not been deployed to its end once."""
        return {o["OutputKey"]: o["OutputValue"] for o in (self.stack or {}).get("Outputs", [])}

    @cached_property
    def parameters(self) -> Mapping[str, str]:
        """The stack's parameters by name."""
        return {p["ParameterKey"]: p.get("ParameterValue", "") for p in (self.stack or {}).get("Parameters", [])}

    @property
    def of_batons_template(self) -> bool:
        """Whether the stack has the parameters of Baton's template, as one has whose creation has begun."""
        return self.parameters.keys() >= _PARAMETERS

    @property
    def status(self) -> str:
        """The stack's status; empty where there is no stack of this name."""
        return str((self.stack or {}).get("StackStatus", ""))

    @property
    def whole(self) -> bool:
        """Whether there is a stack of Baton's that was deployed to its end once, and that nobody takes apart."""
        return self._was_batons and not self.status.startswith(_TAKEN_APART)

    @property
    def _was_batons(self) -> bool:
        """Whether there is a stack of Baton's that was deployed to its end once: others may have an output like it."""
        return MACHINE in self.outputs and self.of_batons_template

    @property
    def not_whole(self) -> str:
        """The sentence about a stack with which nothing can be done, and what says how it goes on."""
        if self._was_batons:
            look = f"{COMMANDS}baton doctor {self.this_stack}"
            return f"The stack {self.stack_name} in {self.region} is {self.status}. This says what leads on: {look}"
        return self.misnamed or (
            f"There is no stack {self.stack_name} in {self.region} that was ever complete and is Baton's."
        )

    @cached_property
    def listed(self) -> list[Mapping[str, Any]]:
        """CloudFormation's summaries of the stack's resources, also of those that it has deleted."""
        pages = self.client("cloudformation").get_paginator("list_stack_resources").paginate(StackName=self.stack_name)
        return [summary for page in pages for summary in page["StackResourceSummaries"]]

    @property
    def made(self) -> list[Mapping[str, Any]]:
        """CloudFormation's summaries of what the stack has made, and neither deleted, or tried to, nor let go."""
        return [r for r in self.listed if r.get("PhysicalResourceId") and r.get("ResourceStatus") not in _NO_MORE]

    @cached_property
    def resources(self) -> Mapping[str, str]:
        """The physical resource ids, by logical id, of what the stack has made and not deleted."""
        return {r["LogicalResourceId"]: r["PhysicalResourceId"] for r in self.made}

    def messages_in(self, output: str) -> int:
        """Return how many messages are in a queue, about: those that somebody has just taken count, too.

        ``output``: the stack's output with the queue's URL.
        """
        names = [f"ApproximateNumberOfMessages{suffix}" for suffix in ("", "NotVisible", "Delayed")]
        answer = self.client("sqs").get_queue_attributes(QueueUrl=self.outputs[output], AttributeNames=names)
        return sum(int(answer["Attributes"][name]) for name in names)

    def running(self, output: str) -> list[str]:
        """Return the ARNs of the executions under way of the state machine whose ARN a stack's output has."""
        pages = self.client("stepfunctions").get_paginator("list_executions")
        found = pages.paginate(stateMachineArn=self.outputs[output], statusFilter="RUNNING")
        return sorted(run["executionArn"] for page in found for run in page["executions"])

    def unfinished(self) -> Iterator[dict[str, Any]]:
        """Yield the rows of the runs that were not cleaned up to the end."""
        for row in self.runs():
            # A row without execution_arn is the mark of an execution that never planned, and made nothing.
            if "execution_arn" in row and "receipt" not in row:
                yield row

    def runs(self) -> Iterator[dict[str, Any]]:
        """Yield every run row of the stack's table."""
        pages = (
            self.client("dynamodb")
            .get_paginator("query")
            .paginate(
                TableName=self.outputs["TableName"],
                KeyConditionExpression="kind = :kind",
                ExpressionAttributeValues={":kind": {"S": "run"}},
                ConsistentRead=True,
            )
        )
        read = TypeDeserializer().deserialize
        for page in pages:
            for item in page["Items"]:
                yield {name: read(value) for name, value in item.items()}


def open_account(options: argparse.Namespace) -> tuple[Clients, str, str]:
    """Return clients, region and stack name that the options of ``add_options`` name; raises NoRegion."""
    variable = region_origin(options)
    region = options.region or os.environ.get(variable)
    session = boto3.Session(profile_name=options.profile, region_name=region)
    if not session.region_name:
        raise NoRegion("No region is configured: give --region, or set AWS_REGION.")
    return Clients(session), session.region_name, options.stack_name


def profile_option(profile: str) -> str:
    """Return the option, after a space, that gives a command a profile; empty for none."""
    return f" --profile {shlex.quote(profile)}" if profile else ""


def region_origin(options: argparse.Namespace) -> str:
    """Return where the region comes from: ``--region``, a variable's name, or empty for a configuration file."""
    if options.region:
        return "--region"
    return next((name for name in REGION_VARIABLES if os.environ.get(name)), "")


def add_options(command: argparse.ArgumentParser) -> None:
    """Add the options that say which stack is meant."""
    command.add_argument("--stack-name", default="baton", metavar="NAME", help="the stack (default: %(default)s)")
    command.add_argument("--region", help="the region (default: that of your configuration)")
    command.add_argument("--profile", help="the profile of your credentials")


def is_gone(error: ClientError) -> bool:
    """Tell whether a service says that the thing does not exist."""
    return error.response["Error"]["Code"] in _GONE


def counted(number: int, noun: str) -> str:
    """Return a number of things in words: ``1 run``, ``2 runs``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def there_are(number: int, noun: str) -> str:
    """Return the beginning of a sentence about a number of things: ``1 run is``, ``2 runs are``."""
    return f"{counted(number, noun)} {'is' if number == 1 else 'are'}"


def refuse(sentence: str) -> int:
    """Say on standard error why nothing is done; return the exit code for that."""
    print(f"baton: {sentence}", file=sys.stderr)
    return 2
