"""CloudFormation's API on the service: methods that take the place of those of moto's response class."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from baton_local.accounts import ADMINISTRATOR, Credentials, role_credentials
from baton_local.cloudformation import templates
from baton_local.cloudformation.service import (
    ChangeSetMissing,
    CloudFormation,
    InvalidChangeSetStatus,
    MissingCapabilities,
    StackExists,
    shown_parameters,
)
from baton_local.cloudformation.stacks import GONE, Record, Stack
from baton_local.cloudformation.templates import Template, TemplateError
from baton_local.seams import add, register, replace

_Result = register("moto.core.responses", "ActionResult", ("result",))
_Error = register("moto.cloudformation.exceptions", "CloudFormationError", Exception)
_sts = register("moto.sts.models", "sts_backends")
_iam = register("moto.iam.models", "iam_backends")

_CODES: dict[type[Exception], str] = {
    TemplateError: "ValidationError",
    MissingCapabilities: "InsufficientCapabilitiesException",
    StackExists: "AlreadyExistsException",
    ChangeSetMissing: "ChangeSetNotFound",
    InvalidChangeSetStatus: "InvalidChangeSetStatus",
}


class Request:
    """One API call: its parameters, and whom it acts for."""

    def __init__(self, response: Any) -> None:
        self._response = response
        self.region = str(response.region)
        self.partition = str(response.partition)

    def get(self, name: str, default: Any = None) -> Any:
        """Return a parameter of the call."""
        value = self._response._get_param(name)
        return default if value is None else value

    def text(self, name: str, default: str = "") -> str:
        """Return a parameter as text."""
        return str(self.get(name, default))

    def flag(self, name: str) -> bool | None:
        """Return a boolean parameter, or None if it is not given."""
        value = self.get(name)
        return None if value is None else str(value).lower() == "true"

    def pairs(self, name: str, key: str, value: str) -> dict[str, str]:
        """Return a list of pairs as a dictionary; pairs without a value are left out."""
        return {str(p[key]): str(p[value]) for p in self.get(name, []) if p.get(value) is not None}

    def credentials(self) -> Credentials:
        """Return the credentials that the resources are made with: of the role that is named, or the caller's own."""
        role = self.get("RoleARN")
        if role:
            return role_credentials(str(role), self.region, "AWSCloudFormation")
        key = str(self._response.access_key)
        for session in _sts[self._response.current_account][self.partition].assumed_roles:
            if session.access_key_id == key:
                return Credentials(key, session.secret_access_key, session.session_token)
        return self._user_credentials(key)

    def _user_credentials(self, key_id: str) -> Credentials:
        for user in _iam[self._response.current_account][self.partition].users.values():
            for key in user.access_keys:
                if key.access_key_id == key_id:
                    return Credentials(key_id, key.secret_access_key)
        return ADMINISTRATOR

    def body(self, stack: Stack | None = None) -> str:
        """Return the template: given, at a URL, or the stack's own."""
        if self.get("TemplateBody"):
            return self.text("TemplateBody")
        if self.get("TemplateURL"):
            return self._at_url(self.text("TemplateURL"))
        if stack is not None and stack.deployment is not None:
            return stack.deployment.body
        raise TemplateError("Either Template URL or Template Body must be specified.")

    def _at_url(self, url: str) -> str:
        try:
            return str(self._response._get_stack_from_s3_url(url))
        except Exception as error:
            raise TemplateError(f"S3 error: Access Denied or no such object: {url}") from error

    def given_parameters(self, stack: Stack | None = None) -> dict[str, str]:
        """Return the parameters of the call, with the stack's values where it says UsePreviousValue."""
        given = self.pairs("Parameters", "ParameterKey", "ParameterValue")
        before = stack.deployment.parameters if stack is not None and stack.deployment is not None else {}
        for entry in self.get("Parameters", []):
            if str(entry.get("UsePreviousValue", "")).lower() == "true" and entry["ParameterKey"] in before:
                given[str(entry["ParameterKey"])] = before[entry["ParameterKey"]]
        return given

    def tags(self, stack: Stack | None = None) -> dict[str, str]:
        """Return the stack tags of the call, or those that the stack has."""
        if self.get("Tags") is None and stack is not None and stack.deployment is not None:
            return dict(stack.deployment.tags)
        return self.pairs("Tags", "Key", "Value")

    def configure(self, stack: Stack) -> None:
        """Set what the call says about a new stack."""
        stack.role_arn = self.text("RoleARN")
        stack.notification_arns = list(self.get("NotificationARNs", []))
        stack.disable_rollback = bool(self.flag("DisableRollback")) or self.text("OnFailure") == "DO_NOTHING"
        stack.termination_protection = bool(self.flag("EnableTerminationProtection"))


class Api:
    """The operations, by the name of moto's method that they replace."""

    def __init__(self, service: CloudFormation) -> None:
        self._service = service

    def _deployment(self, request: Request, stack: Stack | None = None) -> Any:
        return self._service.deployment(
            request.region,
            request.partition,
            request.body(stack),
            request.given_parameters(stack),
            request.tags(stack),
            tuple(request.get("Capabilities", [])),
        )

    def _stack(self, request: Request) -> Stack:
        return self._service.find(request.region, request.text("StackName"))

    # --- stacks
    def create_stack(self, request: Request) -> dict[str, Any]:
        """CreateStack."""
        name = request.text("StackName")
        if not re.fullmatch(r"[a-zA-Z][-a-zA-Z0-9]{0,127}", name):
            raise TemplateError(
                f"1 validation error detected: Value '{name}' at 'stackName' failed to satisfy constraint: "
                f"Member must satisfy regular expression pattern: [a-zA-Z][-a-zA-Z0-9]*"
            )
        deployment = self._deployment(request)
        stack = self._service.create(
            name, request.region, request.partition, request.credentials(), deployment, request.configure
        )
        if request.text("OnFailure") == "DELETE" and stack.status == "ROLLBACK_COMPLETE":
            self._service.delete(stack, request.credentials(), frozenset())
        return {"StackId": stack.stack_id}

    def update_stack(self, request: Request) -> dict[str, Any]:
        """UpdateStack."""
        stack = self._stack(request)
        deployment, keep = self._deployment(request, stack), bool(request.flag("DisableRollback"))
        self._service.update(stack, deployment, request.credentials(), keep)
        return {"StackId": stack.stack_id}

    def rollback_stack(self, request: Request) -> dict[str, Any]:
        """RollbackStack."""
        stack = self._stack(request)
        self._service.roll_back(stack, request.credentials())
        return {"StackId": stack.stack_id}

    def continue_update_rollback(self, request: Request) -> dict[str, Any]:
        """ContinueUpdateRollback."""
        skip = frozenset(str(name) for name in request.get("ResourcesToSkip", []))
        self._service.go_on_rolling_back(self._stack(request), request.credentials(), skip)
        return {}

    def delete_stack(self, request: Request) -> dict[str, Any]:
        """DeleteStack; a stack that does not exist is no error."""
        try:
            stack = self._stack(request)
        except TemplateError:
            return {}
        retain = frozenset(str(r) for r in request.get("RetainResources", []))
        self._service.delete(stack, request.credentials(), retain)
        return {}

    def describe_stacks(self, request: Request) -> dict[str, Any]:
        """DescribeStacks."""
        if request.get("StackName"):
            found = [self._stack(request)]
        else:
            found = [s for s in self._service.stacks(request.region) if s.status != GONE]
        return {"Stacks": [s.shown(shown_parameters(s.deployment)) for s in found]}

    def list_stacks(self, request: Request) -> dict[str, Any]:
        """ListStacks."""
        wanted = request.get("StackStatusFilter", [])
        found = [s for s in self._service.stacks(request.region) if not wanted or s.status in wanted]
        names = ("StackId", "StackName", "CreationTime", "StackStatus", "LastUpdatedTime", "DeletionTime")
        return {"StackSummaries": [{k: v for k, v in s.shown({}).items() if k in names} for s in found]}

    def describe_stack_events(self, request: Request) -> dict[str, Any]:
        """DescribeStackEvents, newest first."""
        return {"StackEvents": [event.shown() for event in reversed(self._stack(request).events)]}

    def update_termination_protection(self, request: Request) -> dict[str, Any]:
        """UpdateTerminationProtection."""
        stack = self._stack(request)
        stack.termination_protection = bool(request.flag("EnableTerminationProtection"))
        return {"StackId": stack.stack_id}

    # --- resources
    def describe_stack_resource(self, request: Request) -> dict[str, Any]:
        """DescribeStackResource."""
        stack, name = self._stack(request), request.text("LogicalResourceId")
        if name not in stack.resources:
            raise TemplateError(f"Resource {name} does not exist for stack {stack.name}")
        record = stack.resources[name]
        shown = _shown_resource(record) | {"StackName": stack.name, "StackId": stack.stack_id}
        metadata = {"Metadata": json.dumps(record.declaration["Metadata"])} if "Metadata" in record.declaration else {}
        return {"StackResourceDetail": shown | {"LastUpdatedTimestamp": record.changed_at} | metadata}

    def describe_stack_resources(self, request: Request) -> dict[str, Any]:
        """DescribeStackResources, by stack or by physical id."""
        stack = self._stack_of_resource(request)
        wanted = request.text("LogicalResourceId")
        shown = [
            _shown_resource(r) | {"StackName": stack.name, "StackId": stack.stack_id, "Timestamp": r.changed_at}
            for r in stack.resources.values()
            if wanted in ("", r.logical_id)
        ]
        return {"StackResources": shown}

    def _stack_of_resource(self, request: Request) -> Stack:
        physical_id = request.text("PhysicalResourceId")
        if not physical_id:
            return self._stack(request)
        for stack in self._service.stacks(request.region):
            if any(r.made.physical_id == physical_id for r in stack.resources.values()):
                return stack
        raise TemplateError(f"Stack for {physical_id} does not exist")

    def list_stack_resources(self, request: Request) -> dict[str, Any]:
        """ListStackResources."""
        found = self._stack(request).resources.values()
        return {"StackResourceSummaries": [_shown_resource(r) | {"LastUpdatedTimestamp": r.changed_at} for r in found]}

    # --- change sets
    def create_change_set(self, request: Request) -> dict[str, Any]:
        """CreateChangeSet, but for drift-aware ones: of no resource is it asked here whether it is still there."""
        if request.get("DeploymentMode"):
            raise TemplateError(
                f"The embedded cloud knows no drift and makes no {request.text('DeploymentMode')} change set: "
                f"delete the stack and create it anew."
            )
        kind, name = request.text("ChangeSetType", "UPDATE"), request.text("StackName")
        stack = None
        if kind == "UPDATE":
            stack = self._service.find(request.region, name)
        change_set = self._service.create_change_set(
            request.text("ChangeSetName"),
            name,
            kind,
            request.region,
            request.partition,
            request.credentials(),
            self._deployment(request, stack),
            request.text("Description"),
            request.text("OnStackFailure"),
            request.configure,
        )
        return {"Id": change_set.change_set_id, "StackId": change_set.stack.stack_id}

    def _change_set(self, request: Request) -> Any:
        return self._service.find_change_set(request.region, request.text("ChangeSetName"), request.get("StackName"))

    def describe_change_set(self, request: Request) -> dict[str, Any]:
        """DescribeChangeSet."""
        change_set = self._change_set(request)
        shown: dict[str, Any] = change_set.shown(shown_parameters(change_set.deployment))
        return shown

    def list_change_sets(self, request: Request) -> dict[str, Any]:
        """ListChangeSets."""
        names = ("StackId", "StackName", "ChangeSetId", "ChangeSetName", "ExecutionStatus", "Status", "CreationTime")
        found = [c.shown({}) for c in self._service.change_sets(self._stack(request))]
        return {"Summaries": [{k: v for k, v in c.items() if k in names} for c in found]}

    def execute_change_set(self, request: Request) -> dict[str, Any]:
        """ExecuteChangeSet."""
        change_set = self._change_set(request)
        self._service.execute(change_set, request.credentials(), request.flag("DisableRollback"))
        return {}

    def delete_change_set(self, request: Request) -> dict[str, Any]:
        """DeleteChangeSet."""
        self._service.delete_change_set(self._change_set(request))
        return {}

    # --- templates
    def get_template(self, request: Request) -> dict[str, Any]:
        """GetTemplate: as it was given, or Processed."""
        stack = self._stack(request)
        if stack.deployment is None:
            return {"TemplateBody": "{}", "StagesAvailable": ["Original", "Processed"]}
        processed = request.text("TemplateStage", "Original") == "Processed"
        body = json.dumps(stack.deployment.template) if processed else stack.deployment.body
        return {"TemplateBody": body, "StagesAvailable": ["Original", "Processed"]}

    def get_template_summary(self, request: Request) -> dict[str, Any]:
        """GetTemplateSummary."""
        stack = self._stack(request) if request.get("StackName") else None
        template = templates.load(request.body(stack))
        summary = _shown_template(template)
        summary["ResourceTypes"] = sorted({str(r["Type"]) for r in template["Resources"].values()})
        summary["Version"] = str(template.get("AWSTemplateFormatVersion", "2010-09-09"))
        if "Metadata" in template:
            summary["Metadata"] = json.dumps(template["Metadata"])
        return summary

    def validate_template(self, request: Request) -> dict[str, Any]:
        """ValidateTemplate."""
        summary = _shown_template(templates.load(request.body()))
        for parameter in summary["Parameters"]:
            for name in ("ParameterType", "ParameterConstraints"):
                parameter.pop(name, None)
        return summary

    def list_exports(self, request: Request) -> dict[str, Any]:
        """ListExports."""
        found = self._service.exports(request.region).items()
        return {"Exports": [{"ExportingStackId": s.stack_id, "Name": n, "Value": v} for n, (s, v) in found]}

    def list_imports(self, request: Request) -> dict[str, Any]:
        """ListImports."""
        name = request.text("ExportName")
        return {"Imports": [s.name for s in self._service.stacks(request.region) if name in s.imports]}


def _shown_resource(record: Record) -> dict[str, Any]:
    return {
        "LogicalResourceId": record.logical_id,
        "PhysicalResourceId": record.made.physical_id,
        "ResourceType": record.type,
        "ResourceStatus": record.status,
        "DriftInformation": {"StackResourceDriftStatus": "NOT_CHECKED"},
    }


def _shown_template(template: Template) -> dict[str, Any]:
    needed, reasons = templates.needed_capabilities(template)
    declared = templates.transforms(template)
    if declared:
        needed = needed | {"CAPABILITY_AUTO_EXPAND"}
    shown: dict[str, Any] = {
        "Parameters": [_shown_parameter(n, d) for n, d in (template.get("Parameters") or {}).items()],
        "Description": str(template.get("Description", "")),
        "Capabilities": sorted(needed),
        "DeclaredTransforms": declared,
    }
    if needed:
        shown["CapabilitiesReason"] = f"The following resource(s) require capabilities: [{', '.join(reasons)}]"
    return shown


def _shown_parameter(name: str, declaration: Mapping[str, Any]) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "ParameterKey": name,
        "ParameterType": str(declaration.get("Type", "String")),
        "NoEcho": str(declaration.get("NoEcho", "false")).lower() == "true",
        "Description": str(declaration.get("Description", "")),
        "ParameterConstraints": {"AllowedValues": [str(v) for v in declaration.get("AllowedValues", [])]},
    }
    if "Default" in declaration:
        shown["DefaultValue"] = str(declaration["Default"])
    return shown


OPERATIONS = tuple(name for name in vars(Api) if not name.startswith("_"))
_UNKNOWN_TO_MOTO = ("update_termination_protection", "list_imports", "rollback_stack", "continue_update_rollback")


def _method(operation: Callable[[Request], dict[str, Any]]) -> Callable[[Any], Any]:
    def method(response: Any) -> Any:
        # moto would put its own objects through these, and the engine's answers have their final form already.
        response.RESPONSE_KEY_PATH_TO_TRANSFORMER = {}
        try:
            return _Result(operation(Request(response)))
        except tuple(_CODES) as error:
            raise _Error(_CODES[type(error)], str(error)) from error

    return method


def install(service: CloudFormation) -> None:
    """Put the operations in the place of moto's."""
    api = Api(service)
    for name in OPERATIONS:
        method, attribute = _method(getattr(api, name)), f"CloudFormationResponse.{name}"
        if name in _UNKNOWN_TO_MOTO:
            add("moto.cloudformation.responses", attribute, method)
        else:
            replace("moto.cloudformation.responses", attribute, method, ("self",))
