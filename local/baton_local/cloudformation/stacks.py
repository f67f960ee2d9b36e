"""Stacks, change sets and events, as they are kept and as Describe calls show them."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from baton_local.accounts import Credentials
from baton_local.cloudformation.resources.base import Made, random_suffix
from baton_local.cloudformation.templates import Template

IN_PROGRESS = "_IN_PROGRESS"
GONE = "DELETE_COMPLETE"
_KIND = "AWS::CloudFormation::Stack"
_STABLE = ("CREATE_COMPLETE", "UPDATE_COMPLETE", "UPDATE_ROLLBACK_COMPLETE")


def now() -> datetime:
    """Return this moment."""
    return datetime.now(UTC)


@dataclass
class Record:
    """A resource of a stack: its declaration as deployed, its resolved properties, and what was made of it."""

    logical_id: str
    type: str
    declaration: Mapping[str, Any]
    properties: Mapping[str, Any]
    made: Made
    depends_on: frozenset[str] = frozenset()
    suffix: str = field(default_factory=random_suffix)
    status: str = "CREATE_COMPLETE"
    changed_at: datetime = field(default_factory=now)

    def retained(self, policy: str = "DeletionPolicy", *, creating: bool = False) -> bool:
        """Return whether the resource stays when the stack, its creation or the old version of it goes."""
        retaining = ("Retain",) if creating else ("Retain", "RetainExceptOnCreate")
        return str(self.declaration.get(policy, "Delete")) in retaining


@dataclass(frozen=True)
class Event:
    """One line of a stack's history."""

    stack_id: str
    stack_name: str
    logical_id: str
    physical_id: str
    resource_type: str
    status: str
    reason: str = ""
    event_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    at: datetime = field(default_factory=now)

    def shown(self) -> dict[str, Any]:
        """Return the event as DescribeStackEvents has it."""
        shown = {
            "StackId": self.stack_id,
            "EventId": self.event_id,
            "StackName": self.stack_name,
            "LogicalResourceId": self.logical_id,
            "PhysicalResourceId": self.physical_id,
            "ResourceType": self.resource_type,
            "Timestamp": self.at,
            "ResourceStatus": self.status,
        }
        return {**shown, "ResourceStatusReason": self.reason} if self.reason else shown


@dataclass(frozen=True)
class Deployment:
    """What a stack is, or is to become: the template as given and expanded, the parameters, the tags."""

    body: str
    original: Template
    template: Template
    parameters: Mapping[str, str]
    tags: Mapping[str, str]
    capabilities: tuple[str, ...] = ()


@dataclass
class Stack:
    """One stack. ``resources`` is in the order in which they were made."""

    name: str
    region: str
    account_id: str
    partition: str
    stack_id: str
    credentials: Credentials
    deployment: Deployment | None = None
    status: str = "REVIEW_IN_PROGRESS"
    reason: str = ""
    resources: dict[str, Record] = field(default_factory=dict)
    outputs: list[dict[str, str]] = field(default_factory=list)
    imports: set[str] = field(default_factory=set)
    events: list[Event] = field(default_factory=list)
    created_at: datetime = field(default_factory=now)
    updated_at: datetime | None = None
    deleted_at: datetime | None = None
    change_set_id: str = ""
    role_arn: str = ""
    notification_arns: list[str] = field(default_factory=list)
    disable_rollback: bool = False
    termination_protection: bool = False
    unfinished: list[Callable[[frozenset[str]], dict[str, str]]] = field(default_factory=list)
    """How to take back each failed operation but for some logical ids; each returns what it could not, and why."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def new(cls, name: str, region: str, account_id: str, partition: str, credentials: Credentials) -> Stack:
        """Return a stack that has nothing yet."""
        stack_id = f"arn:{partition}:cloudformation:{region}:{account_id}:stack/{name}/{uuid.uuid4()}"
        return cls(name, region, account_id, partition, stack_id, credentials)

    @property
    def busy(self) -> bool:
        """Whether something is going on."""
        return self.status.endswith(IN_PROGRESS) and self.status != "REVIEW_IN_PROGRESS"

    @property
    def ever_complete(self) -> bool:
        """Whether there is a state to go back to."""
        return any(e.resource_type == _KIND and e.status in _STABLE for e in self.events)

    def become(self, status: str, reason: str = "") -> None:
        """Take a status, and write it down."""
        self.status, self.reason = status, reason
        self.add_event(self.name, self.stack_id, _KIND, status, reason)

    def add_event(self, logical_id: str, physical_id: str, kind: str, status: str, reason: str = "") -> None:
        """Write down what happened to a resource or to the stack itself."""
        self.events.append(Event(self.stack_id, self.name, logical_id, physical_id, kind, status, reason))

    def shown(self, parameters: Mapping[str, str]) -> dict[str, Any]:
        """Return the stack as DescribeStacks has it; ``parameters`` as they may be shown."""
        template = self.deployment.template if self.deployment else {}
        optional = {
            "StackStatusReason": self.reason,
            "Description": str(template.get("Description") or ""),
            "LastUpdatedTime": self.updated_at,
            "DeletionTime": self.deleted_at,
            "ChangeSetId": self.change_set_id,
            "RoleARN": self.role_arn,
            "Outputs": self.outputs,
        }
        return {
            "StackId": self.stack_id,
            "StackName": self.name,
            "CreationTime": self.created_at,
            "StackStatus": self.status,
            "DisableRollback": self.disable_rollback,
            "EnableTerminationProtection": self.termination_protection,
            "NotificationARNs": self.notification_arns,
            "Capabilities": list(self.deployment.capabilities if self.deployment else ()),
            "Parameters": [{"ParameterKey": k, "ParameterValue": v} for k, v in parameters.items()],
            "Tags": [{"Key": k, "Value": v} for k, v in (self.deployment.tags if self.deployment else {}).items()],
            "DriftInformation": {"StackDriftStatus": "NOT_CHECKED"},
            **{k: v for k, v in optional.items() if v},
        }


@dataclass(frozen=True)
class Change:
    """One line of a change set."""

    action: str
    logical_id: str
    physical_id: str
    resource_type: str
    replacement: str = ""

    def shown(self) -> dict[str, Any]:
        """Return the change as DescribeChangeSet has it."""
        shown: dict[str, Any] = {
            "Action": self.action,
            "LogicalResourceId": self.logical_id,
            "ResourceType": self.resource_type,
            "Scope": ["Properties"] if self.action == "Modify" else [],
            "Details": [],
        }
        if self.physical_id:
            shown["PhysicalResourceId"] = self.physical_id
        if self.replacement:
            shown["Replacement"] = self.replacement
        return {"Type": "Resource", "ResourceChange": shown}


@dataclass
class ChangeSet:
    """A change set: a deployment that waits to be executed."""

    name: str
    change_set_id: str
    stack: Stack
    kind: str
    deployment: Deployment | None
    changes: list[Change] = field(default_factory=list)
    status: str = "CREATE_COMPLETE"
    execution_status: str = "AVAILABLE"
    reason: str = ""
    description: str = ""
    on_failure: str = ""
    created_at: datetime = field(default_factory=now)

    def shown(self, parameters: Mapping[str, str]) -> dict[str, Any]:
        """Return the change set as DescribeChangeSet has it."""
        deployment = self.deployment
        optional = {"StatusReason": self.reason, "Description": self.description, "OnStackFailure": self.on_failure}
        return {
            "ChangeSetName": self.name,
            "ChangeSetId": self.change_set_id,
            "StackId": self.stack.stack_id,
            "StackName": self.stack.name,
            "Parameters": [{"ParameterKey": k, "ParameterValue": v} for k, v in parameters.items()],
            "CreationTime": self.created_at,
            "ExecutionStatus": self.execution_status,
            "Status": self.status,
            "Capabilities": list(deployment.capabilities if deployment else ()),
            "Tags": [{"Key": k, "Value": v} for k, v in (deployment.tags if deployment else {}).items()],
            "Changes": [change.shown() for change in self.changes],
            "NotificationARNs": [],
            "IncludeNestedStacks": False,
            **{k: v for k, v in optional.items() if v},
        }
