"""What is looked at, the account with its stack, and what is found there: a finding for each thing."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from baton.catalogue import Catalogue, Pipeline
from baton.settings import Settings
from baton_cli.account import COMMANDS, MACHINE, Account, Origin, is_gone
from baton_cli.configurations import Configurations
from baton_cli.drained import between_runs
from baton_local.regions import partitions

OK, WRONG, UNKNOWN = "ok", "wrong", "unknown"

UNSEEN = "UNSEEN"
"""What stands for a status that these credentials cannot see."""

DESCRIBED = {
    "AWS::DynamoDB::Table": ("dynamodb", "describe_table", "TableName"),
    "AWS::Events::Rule": ("events", "describe_rule", "Name"),
    "AWS::IAM::Role": ("iam", "get_role", "RoleName"),
    "AWS::Lambda::EventSourceMapping": ("lambda", "get_event_source_mapping", "UUID"),
    "AWS::Lambda::Function": ("lambda", "get_function_configuration", "FunctionName"),
    "AWS::S3::Bucket": ("s3", "get_bucket_versioning", "Bucket"),
    "AWS::SNS::Topic": ("sns", "get_topic_attributes", "TopicArn"),
    "AWS::SQS::Queue": ("sqs", "get_queue_attributes", "QueueUrl"),
    "AWS::StepFunctions::StateMachine": ("stepfunctions", "describe_state_machine", "stateMachineArn"),
}
"""The service, the operation and the parameter that tell whether a resource is there, by CloudFormation's type."""

_VERSION = re.compile(r'"(arn:[\w-]+:lambda:[^"]*:function:([^":]+):\d+)"')


@dataclass(frozen=True)
class Finding:
    """What a check found; ``mend`` is a command, or an empty text where there is nothing to mend."""

    check: str
    state: str
    detail: str
    mend: str = ""


class Going(Exception):
    """A state machine is being deleted."""


class Missing(Exception):
    """Something that the stack made is there no more, or the stack has no such thing; then ``physical_id`` is empty.

    ``going``: it is a state machine that is being deleted, which lasts as long as its executions.
    """

    def __init__(self, logical_id: str, physical_id: str = "", going: bool = False) -> None:
        super().__init__(f"{logical_id} is missing.")
        self.going = going
        self.logical_id = logical_id
        self.physical_id = physical_id


class Patient(Account):
    """The account, the region and the stack that are looked at.

    ``kfp_url`` and ``cluster`` are where to look before there is a stack, or instead of its own URL;
    ``configurations`` are those of samconfig.toml; ``origin`` is where region and credentials come from.
    """

    def __init__(
        self,
        client: Callable[..., Any],
        region: str,
        stack_name: str,
        catalogue: Catalogue,
        kfp_url: str = "",
        cluster: str = "",
        configurations: Configurations | None = None,
        profile: str = "",
        origin: Origin | None = None,
    ) -> None:
        super().__init__(client, region, stack_name, profile)
        self.origin = origin or Origin()
        self.catalogue = catalogue
        self.configurations = configurations or Configurations()
        self.kfp_url = kfp_url
        self.cluster = cluster

    @property
    def as_asked(self) -> str:
        """The options with which doctor was asked to look elsewhere than the stack says."""
        given = (("--kfp-url", self.kfp_url), ("--cluster", self.cluster))
        return "".join(f" {option} {shlex.quote(value)}" for option, value in given if value)

    @property
    def look_again(self) -> str:
        """The command that looks at the same once more."""
        return f"{COMMANDS}baton doctor {self.this_stack}{self.as_asked}"

    @cached_property
    def identity(self) -> Mapping[str, str]:
        """Who the credentials are."""
        answer: Mapping[str, str] = self.client("sts").get_caller_identity()
        return answer

    @property
    def pipelines(self) -> list[Pipeline]:
        """The pipelines of this checkout."""
        return [self.catalogue.get(name) for name in self.catalogue.names]

    @property
    def partition(self) -> str:
        """The partition of the credentials: aws, aws-cn, …"""
        return self.identity["Arn"].split(":")[1]

    @property
    def url_suffix(self) -> str:
        """The suffix of the partition's addresses."""
        return str({each["id"]: each["outputs"]["dnsSuffix"] for each in partitions()}[self.partition])

    @property
    def deployed(self) -> bool:
        """Whether there is a whole stack of Baton's, and it can be seen."""
        try:
            return self.whole
        except (ClientError, BotoCoreError):
            return False

    @property
    def under_way(self) -> set[str]:
        """The logical ids of what CloudFormation makes, changes or deletes at present."""
        return {r["LogicalResourceId"] for r in self.made if r.get("ResourceStatus", "").endswith("_IN_PROGRESS")}

    @contextmanager
    def resource(self, logical_id: str) -> Iterator[str]:
        """Give the physical id of what the stack made; raises Missing where there is none, or its service says so."""
        physical_id = self.resources.get(logical_id, "")
        if not physical_id:
            raise Missing(logical_id)
        try:
            yield physical_id
        except Going as going:
            raise Missing(logical_id, physical_id, going=True) from going
        except ClientError as error:
            if is_gone(error):
                raise Missing(logical_id, physical_id) from error
            raise

    @cached_property
    def launcher(self) -> Mapping[str, Any]:
        """The configuration of the function that launches pipelines, in the version that the state machine calls.

        Raises Missing where somebody has deleted one of the two.
        """
        called = {name: version for version, name in _VERSION.findall(self.machine["definition"])}
        with self.resource("LaunchPipelineFunction") as function:
            wanted = called.get(function, function)
            try:
                return self.describe("AWS::Lambda::Function", wanted)
            except ClientError as error:
                if not is_gone(error):
                    raise
                # Missing is the function itself, or it is there and the version alone is not.
                self.describe("AWS::Lambda::Function", function)
                version = f"version {wanted.rpartition(':')[2]} of {function}"
                raise Missing("LaunchPipelineFunction", version) from error

    @cached_property
    def settings(self) -> Settings:
        """The settings of the deployed function that launches pipelines; raises ClientError where they are hidden."""
        environment = self.launcher["Environment"]
        if "Variables" not in environment:
            # So Lambda answers who may see the function, and not use the key under which its environment is.
            why = environment["Error"]
            error: Any = {"Error": {"Code": why["ErrorCode"], "Message": why["Message"]}}
            raise ClientError(error, "GetFunctionConfiguration")
        return Settings.read({"AWS_REGION": self.region, **environment["Variables"]})

    @cached_property
    def executions(self) -> list[str]:
        """The ARNs of the runs that have not ended."""
        return self.running(MACHINE)

    @cached_property
    def not_cleaned_up(self) -> list[str]:
        """The ARNs of the runs that were not cleaned up to the end."""
        return [row["execution_arn"] for row in self.unfinished()]

    @property
    def runs_under_way(self) -> int:
        """How many runs have not ended, or were not cleaned up to the end; raises botocore's errors."""
        return len({*self.executions, *self.not_cleaned_up})

    def deploy(self, *parameters: str) -> str:
        """Return the command that deploys again, with some parameters changed and the others as they are."""
        return f"{_BUILD} && {self._sam_deploy(*parameters)}"

    def deploy_between_runs(self, *parameters: str) -> str:
        """Return the command that does the same on a drained stack; a build that fails leaves the uploads alone."""
        return f"{_BUILD} && {between_runs(self, self._sam_deploy(*parameters))}"

    def deploy_first(self) -> str:
        """Return the command that deploys for the first time, and asks for the parameters."""
        return f"{_BUILD} && {COMMANDS}sam deploy --guided {self.configurations.options(self)}"

    def describe(self, kind: str, physical_id: str) -> Mapping[str, Any]:
        """Ask the service of one of DESCRIBED for a resource; raises its ClientError where there is none, or Going."""
        service, operation, parameter = DESCRIBED[kind]
        answer: Mapping[str, Any] = getattr(self.client(service), operation)(**{parameter: physical_id})
        if answer.get("status") == "DELETING":
            raise Going(physical_id)
        return answer

    @cached_property
    def machine(self) -> Mapping[str, Any]:
        """The state machine of the runs; raises Missing where somebody has deleted it, or it is being deleted."""
        with self.resource("TrainingRunMachine") as arn:
            return self.describe("AWS::StepFunctions::StateMachine", arn)

    @cached_property
    def table_status(self) -> str:
        """DynamoDB's status of the stack's table; empty where there is none any more, UNSEEN where it is not told."""
        try:
            with self.resource("Table") as name:
                return str(self.describe("AWS::DynamoDB::Table", name)["Table"]["TableStatus"])
        except Missing as missing:
            return "" if missing.physical_id else UNSEEN
        except (ClientError, BotoCoreError):
            return UNSEEN

    def _table_first(self) -> list[str]:
        """Return the commands that bring the table back before a change set would make it again without its rows.

        https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/PointInTimeRecovery_Howitworks.html
        """
        status, table = self.table_status, self.resources.get("Table", "")
        # Restored is all but what is no data, such as TTL.
        latest = shlex.quote("sort_by(BackupSummaries, &BackupCreationDateTime)[-1].BackupArn")
        kept = f"aws dynamodb list-backups --table-name {table} --backup-type SYSTEM --query {latest} {self.here}"
        gone = [f"aws dynamodb wait table-not-exists --table-name {table} {self.here}"]
        restore = [
            f"backup=$({kept} --output text)",
            f'aws dynamodb restore-table-from-backup --target-table-name {table} --backup-arn "$backup" {self.here}',
        ]
        # One wait gives up after 500 seconds, and a restore may take hours.
        there = [f"until aws dynamodb wait table-exists --table-name {table} {self.here}; do sleep 1; done"]
        first = {"": [*restore, *there], "DELETING": [*gone, *restore, *there], "CREATING": there}
        return first.get(status, [])

    def make_again(self) -> str:
        """Return the command that makes again whatever of the stack somebody deleted, by a drift-aware change set.

        https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/drift-aware-change-sets.html and, on what was
        deleted, Scenario 3 of
        https://aws.amazon.com/blogs/devops/safely-handle-configuration-drift-with-cloudformation-drift-aware-change-sets/
        """
        # A name of its own, since a change set that failed keeps its name; and a parameter that is not named would
        # get its default.
        same = "".join(f" ParameterKey={name},UsePreviousValue=true" for name in sorted(self.parameters))
        steps = (
            *self._table_first(),
            'change="again-$(date +%s)"',
            f'aws cloudformation create-change-set {self.this_stack} --change-set-name "$change" '
            "--use-previous-template --deployment-mode REVERT_DRIFT "
            f"--capabilities CAPABILITY_IAM CAPABILITY_AUTO_EXPAND{' --parameters' if same else ''}{same}",
            f'aws cloudformation wait change-set-create-complete {self.this_stack} --change-set-name "$change"',
            f'aws cloudformation execute-change-set {self.this_stack} --change-set-name "$change"',
            f"aws cloudformation wait stack-update-complete {self.this_stack}",
        )
        return " && ".join(steps)

    def make_again_after(self, machine: str) -> str:
        """Return the command that does the same when the deletion of a state machine is over."""
        return f"{self.deletion_of(machine)} && {self.make_again()}"

    def deletion_of(self, machine: str) -> str:
        """Return the command that waits for the end of the deletion of a state machine."""
        look = f"aws stepfunctions describe-state-machine --state-machine-arn {machine} --query status {self.here}"
        return f"while {look}; do sleep 5; done"

    def _sam_deploy(self, *parameters: str) -> str:
        overrides = f" --parameter-overrides {' '.join(parameters)}" if parameters else ""
        return f"{COMMANDS}sam deploy {self.configurations.options(self)}{overrides}"


_BUILD = "make build"
"""Unbuilt, the template names folders in which no function can run."""


def judge(check: str, good: bool, right: str, wrong: str, mend: str) -> Finding:
    """Return a finding that is ok, with what is right, or wrong, with what is wrong and the command that mends it."""
    return Finding(check, OK, right) if good else Finding(check, WRONG, wrong, mend)


def sentence(text: str) -> str:
    """Return a text with the full stop that it may lack."""
    return text if text.endswith((".", "?")) else f"{text}."
