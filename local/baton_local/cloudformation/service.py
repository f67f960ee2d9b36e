"""The CloudFormation service: stacks and change sets by region, and the operations on them.

Operations run in a thread of their own, as on AWS. A call that starts one waits a moment for its end, so that a
deployment that takes seconds is over when the call returns, and no waiter sleeps its 30 s for nothing.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from baton_local.accounts import Credentials
from baton_local.cloudformation import parameters as template_parameters
from baton_local.cloudformation import templates
from baton_local.cloudformation.engine import Operation, ResourceFailed, reason_of
from baton_local.cloudformation.stacks import GONE, ChangeSet, Deployment, Stack, now
from baton_local.cloudformation.templates import TemplateError

_WAIT_SECONDS = 20.0
_PAUSED = ("CREATE_FAILED", "UPDATE_FAILED")
"""Where an operation stays that failed with its rollback disabled."""
_OVER = ("ROLLBACK_COMPLETE", "ROLLBACK_FAILED", "UPDATE_ROLLBACK_FAILED", "DELETE_FAILED")
"""Where a stack takes no update."""
NO_CHANGES = "The submitted information didn't contain changes. Submit different information to create a change set."

ManagedPolicies = Callable[[str], dict[str, str]]
"""partition -> ARNs of AWS's managed policies by name."""


class MissingCapabilities(Exception):
    """The template needs capabilities that the caller did not give."""


class StackExists(Exception):
    """There is a stack of that name."""


class ChangeSetMissing(Exception):
    """There is no change set of that name."""


class InvalidChangeSetStatus(Exception):
    """The change set cannot be executed."""


class CloudFormation:
    """The stacks of one account."""

    def __init__(self, url: str, account_id: str, managed_policies: ManagedPolicies) -> None:
        self._url = url
        self._account_id = account_id
        self._managed_policies = managed_policies
        self._stacks: list[Stack] = []
        self._change_sets: list[ChangeSet] = []
        self._lock = threading.RLock()

    # --- looking
    def stacks(self, region: str) -> list[Stack]:
        """Return the stacks of a region, the deleted ones among them, newest first."""
        return [s for s in reversed(self._stacks) if s.region == region]

    def find(self, region: str, name_or_id: str) -> Stack:
        """Return a stack, a deleted one only by its id; raise TemplateError if there is none."""
        for stack in self.stacks(region):
            if stack.stack_id == name_or_id or (stack.name == name_or_id and stack.status != GONE):
                return stack
        raise TemplateError(f"Stack with id {name_or_id} does not exist")

    def change_sets(self, stack: Stack) -> list[ChangeSet]:
        """Return the change sets of a stack."""
        return [c for c in self._change_sets if c.stack is stack]

    def find_change_set(self, region: str, name_or_id: str, stack: str | None) -> ChangeSet:
        """Return a change set by id, or by name and stack; raise ChangeSetMissing if there is none."""
        for change_set in reversed(self._change_sets):
            same = change_set.name == name_or_id and stack in (change_set.stack.name, change_set.stack.stack_id)
            if change_set.stack.region == region and (change_set.change_set_id == name_or_id or same):
                return change_set
        raise ChangeSetMissing(f"ChangeSet [{name_or_id}] does not exist")

    def exports(self, region: str) -> dict[str, tuple[Stack, str]]:
        """Return the exports of a region by name: the stack and the value."""
        return {
            o["ExportName"]: (s, o["OutputValue"])
            for s in self.stacks(region)
            for o in s.outputs
            if "ExportName" in o and s.status != GONE
        }

    def _imported(self, region: str, name: str) -> str:
        exports = self.exports(region)
        if name not in exports:
            raise TemplateError(f"No export named {name} found.")
        return exports[name][1]

    # --- preparing
    def deployment(
        self,
        region: str,
        partition: str,
        body: str,
        given: Mapping[str, str],
        tags: Mapping[str, str],
        capabilities: tuple[str, ...],
    ) -> Deployment:
        """Return a template with its parameters, expanded; raise TemplateError or MissingCapabilities."""
        original = templates.load(body)
        values = template_parameters.effective(original, given)
        expanded = templates.expand(original, dict(values), region, self._managed_policies(partition))
        return Deployment(body, original, expanded, values, dict(tags), capabilities)

    @staticmethod
    def require_capabilities(deployment: Deployment) -> None:
        """Raise MissingCapabilities for a template with IAM resources that nobody acknowledged."""
        needed, _ = templates.needed_capabilities(deployment.template)
        given = set(deployment.capabilities)
        if "CAPABILITY_IAM" in needed and "CAPABILITY_NAMED_IAM" in given:
            needed.discard("CAPABILITY_IAM")
        if needed - given:
            raise MissingCapabilities(f"Requires capabilities : [{', '.join(sorted(needed))}]")

    def _operation(self, stack: Stack, deployment: Deployment) -> Operation:
        return Operation(stack, deployment, self._url, self._imported)

    def _new(self, name: str, region: str, partition: str, credentials: Credentials) -> Stack:
        return Stack.new(name, region, self._account_id, partition, credentials)

    def _named(self, name: str, region: str) -> Stack | None:
        return next((s for s in self.stacks(region) if s.name == name and s.status != GONE), None)

    # --- stacks
    def create(
        self,
        name: str,
        region: str,
        partition: str,
        credentials: Credentials,
        deployment: Deployment,
        configure: Callable[[Stack], None],
    ) -> Stack:
        """Create a stack; ``configure`` sets what the request says about it."""
        if templates.transforms(deployment.original) and "CAPABILITY_AUTO_EXPAND" not in deployment.capabilities:
            raise MissingCapabilities("Requires capabilities : [CAPABILITY_AUTO_EXPAND]")
        self.require_capabilities(deployment)
        with self._lock:
            if self._named(name, region) is not None:
                raise StackExists(f"Stack [{name}] already exists")
            stack = self._new(name, region, partition, credentials)
            configure(stack)
            self._operation(stack, deployment).validate()
            self._stacks.append(stack)
        self._run(stack, lambda: self._create(stack, deployment), "CREATE_IN_PROGRESS")
        return stack

    def update(
        self, stack: Stack, deployment: Deployment, credentials: Credentials, disable_rollback: bool = False
    ) -> None:
        """Update a stack; raise TemplateError if nothing would change."""
        self._check_updatable(stack, disable_rollback)
        self.require_capabilities(deployment)
        operation = self._operation(stack, deployment)
        operation.validate()
        if self._unchanged(stack, deployment, operation):
            raise TemplateError("No updates are to be performed.")
        stack.credentials, stack.disable_rollback = credentials, disable_rollback
        self._run(stack, lambda: self._update(stack, deployment), "UPDATE_IN_PROGRESS")

    def roll_back(self, stack: Stack, credentials: Credentials) -> None:
        """Take back what failed with its rollback disabled; a stack that never was complete is deleted.

        https://docs.aws.amazon.com/AWSCloudFormation/latest/APIReference/API_RollbackStack.html
        """
        if stack.status not in _PAUSED:
            raise _cannot(stack, "rolled back")
        stack.credentials = credentials
        if stack.ever_complete:
            self._run(stack, lambda: self._roll_back(stack), "UPDATE_ROLLBACK_IN_PROGRESS")
        else:
            self._run(stack, lambda: self._delete(stack, frozenset(), creating=True), "DELETE_IN_PROGRESS")

    def go_on_rolling_back(self, stack: Stack, credentials: Credentials, skip: frozenset[str]) -> None:
        """Take back the rest of what a failed rollback could not, but for what is to be skipped.

        https://docs.aws.amazon.com/AWSCloudFormation/latest/APIReference/API_ContinueUpdateRollback.html
        """
        if stack.status != "UPDATE_ROLLBACK_FAILED":
            raise _cannot(stack, "rolled back")
        well = [name for name in skip if name not in stack.resources or stack.resources[name].status != "UPDATE_FAILED"]
        if well:
            raise TemplateError(f"Only resources in UPDATE_FAILED state can be skipped: [{', '.join(sorted(well))}]")
        stack.credentials = credentials
        self._run(stack, lambda: self._roll_back(stack, skip), "UPDATE_ROLLBACK_IN_PROGRESS")

    def delete(self, stack: Stack, credentials: Credentials, retain: frozenset[str]) -> None:
        """Delete a stack."""
        if stack.status == GONE:
            return
        if stack.termination_protection:
            raise TemplateError(f"Stack [{stack.name}] cannot be deleted while TerminationProtection is enabled")
        if stack.busy:
            raise TemplateError(f"Stack [{stack.stack_id}] cannot be deleted while in status {stack.status}")
        self._check_exports_unused(stack)
        stack.credentials = credentials
        self._run(stack, lambda: self._delete(stack, retain), "DELETE_IN_PROGRESS")

    def _check_exports_unused(self, stack: Stack) -> None:
        for output in stack.outputs:
            users = [
                s.name
                for s in self.stacks(stack.region)
                if s is not stack and s.status != GONE and output.get("ExportName") in s.imports
            ]
            if users:
                name = output["ExportName"]
                raise TemplateError(
                    f"Delete canceled. Cannot delete export {name} as it is in use by {', '.join(users)}."
                )

    @staticmethod
    def _check_idle(stack: Stack) -> None:
        if stack.busy or stack.status in _OVER:
            raise _cannot(stack, "updated")

    def _check_updatable(self, stack: Stack, disable_rollback: bool) -> None:
        self._check_idle(stack)
        if stack.status in _PAUSED and not disable_rollback:
            raise TemplateError(
                f"This stack is currently in a non-terminal [{stack.status}] state. To update the stack from this "
                f"state, please use the disable-rollback parameter with update-stack API. To rollback to the last "
                f"known good state, use the rollback-stack API"
            )

    @staticmethod
    def _unchanged(stack: Stack, deployment: Deployment, operation: Operation) -> bool:
        before = stack.deployment
        same = before is not None and (
            before.template == deployment.template
            and dict(before.parameters) == dict(deployment.parameters)
            and dict(before.tags) == dict(deployment.tags)
        )
        return same and not operation.changes()

    # --- change sets
    def create_change_set(
        self,
        name: str,
        stack_name: str,
        kind: str,
        region: str,
        partition: str,
        credentials: Credentials,
        deployment: Deployment,
        description: str,
        on_failure: str,
        configure: Callable[[Stack], None],
    ) -> ChangeSet:
        """Create a change set; one that cannot be made or changes nothing has the status FAILED."""
        with self._lock:
            stack = self._stack_for(kind, stack_name, region, partition, credentials, configure)
            identity = f"arn:{partition}:cloudformation:{region}:{self._account_id}:changeSet/{name}/{uuid.uuid4()}"
            change_set = ChangeSet(name, identity, stack, kind, deployment, description=description)
            change_set.on_failure = on_failure
            self._change_sets.append(change_set)
        try:
            self.require_capabilities(deployment)
            operation = self._operation(stack, deployment)
            operation.validate()
            change_set.changes = operation.changes()
            if kind == "UPDATE" and self._unchanged(stack, deployment, operation):
                raise TemplateError(NO_CHANGES)
        except (TemplateError, MissingCapabilities) as error:
            change_set.status, change_set.execution_status, change_set.reason = "FAILED", "UNAVAILABLE", str(error)
        return change_set

    def _stack_for(
        self,
        kind: str,
        name: str,
        region: str,
        partition: str,
        credentials: Credentials,
        configure: Callable[[Stack], None],
    ) -> Stack:
        stack = next((s for s in self.stacks(region) if name in (s.name, s.stack_id) and s.status != GONE), None)
        if kind == "UPDATE":
            if stack is None or stack.status == "REVIEW_IN_PROGRESS":
                raise TemplateError(f"Stack [{name}] does not exist")
            self._check_idle(stack)
            return stack
        if stack is not None and stack.status != "REVIEW_IN_PROGRESS":
            raise TemplateError(
                f"Stack [{name}] already exists and cannot be created again with the changeSet. "
                f"The stack is in {stack.status}"
            )
        if stack is None:
            stack = self._new(name, region, partition, credentials)
            configure(stack)
            stack.become("REVIEW_IN_PROGRESS", "User Initiated")
            self._stacks.append(stack)
        return stack

    def execute(self, change_set: ChangeSet, credentials: Credentials, disable_rollback: bool | None) -> None:
        """Carry out a change set."""
        if change_set.execution_status != "AVAILABLE" or change_set.deployment is None:
            raise InvalidChangeSetStatus(
                f"ChangeSet [{change_set.change_set_id}] cannot be executed in its current status of "
                f"[{change_set.status}]"
            )
        stack, deployment = change_set.stack, change_set.deployment
        if disable_rollback is None:
            disable_rollback = change_set.on_failure == "DO_NOTHING"
        if change_set.kind == "UPDATE":
            self._check_updatable(stack, disable_rollback)
        stack.credentials, stack.disable_rollback = credentials, disable_rollback
        change_set.execution_status = "EXECUTE_COMPLETE"
        stack.change_set_id = change_set.change_set_id
        self._change_sets = [c for c in self._change_sets if c.stack is not stack or c is change_set]
        creating = change_set.kind != "UPDATE"
        work = self._create if creating else self._update
        self._run(stack, lambda: work(stack, deployment), "CREATE_IN_PROGRESS" if creating else "UPDATE_IN_PROGRESS")

    def delete_change_set(self, change_set: ChangeSet) -> None:
        """Forget a change set."""
        with self._lock:
            self._change_sets = [c for c in self._change_sets if c is not change_set]

    # --- at work
    def _run(self, stack: Stack, work: Callable[[], None], status: str) -> None:
        stack.become(status, "User Initiated")
        thread = threading.Thread(target=self._guarded, args=(stack, work), name=f"stack {stack.name}", daemon=True)
        thread.start()
        thread.join(_WAIT_SECONDS)

    @staticmethod
    def _guarded(stack: Stack, work: Callable[[], None]) -> None:
        with stack.lock:
            try:
                work()
            except Exception as error:
                # Whatever else goes wrong must not leave a stack that is in progress for ever.
                operation = stack.status.removesuffix("_IN_PROGRESS").split("_COMPLETE")[0]
                stack.become(f"{operation}_FAILED", f"Internal Failure: {reason_of(error)}")

    def _create(self, stack: Stack, deployment: Deployment) -> None:
        operation = self._operation(stack, deployment)
        try:
            operation.apply()
            self._check_exports_unique(stack)
        except (ResourceFailed, TemplateError) as error:
            self._failed_creation(stack, operation, _failure("create", error))
        else:
            stack.become("CREATE_COMPLETE")
        stack.deployment = deployment

    def _check_exports_unique(self, stack: Stack) -> None:
        for output in stack.outputs:
            owner = self.exports(stack.region).get(output.get("ExportName", ""))
            if owner is not None and owner[0] is not stack:
                raise TemplateError(
                    f"Export with name {output['ExportName']} is already exported by stack {owner[0].name}"
                )

    @staticmethod
    def _failed_creation(stack: Stack, operation: Operation, reason: str) -> None:
        if stack.disable_rollback:
            stack.become("CREATE_FAILED", reason)
            return
        stack.become("ROLLBACK_IN_PROGRESS", f"{reason} Rollback requested by user.")
        stack.outputs = []
        failures = operation.roll_back()
        if failures:
            stack.become("ROLLBACK_FAILED", "; ".join(failures.values()))
        else:
            stack.become("ROLLBACK_COMPLETE")

    def _update(self, stack: Stack, deployment: Deployment) -> None:
        operation, outputs = self._operation(stack, deployment), list(stack.outputs)
        stack.updated_at = now()
        try:
            operation.apply()
            self._check_exports_unique(stack)
        except (ResourceFailed, TemplateError) as error:
            self._failed_update(stack, operation, _failure("update", error), outputs)
            return
        stack.become("UPDATE_COMPLETE_CLEANUP_IN_PROGRESS")
        operation.clean_up()
        stack.deployment = deployment
        stack.unfinished.clear()
        stack.become("UPDATE_COMPLETE")

    @staticmethod
    def _failed_update(stack: Stack, operation: Operation, reason: str, outputs: list[dict[str, str]]) -> None:
        def undo(skip: frozenset[str]) -> dict[str, str]:
            stack.outputs = outputs
            return operation.roll_back(skip)

        stack.unfinished.append(undo)
        if stack.disable_rollback:
            stack.become("UPDATE_FAILED", reason)
            return
        stack.become("UPDATE_ROLLBACK_IN_PROGRESS", reason)
        CloudFormation._roll_back(stack)

    @staticmethod
    def _roll_back(stack: Stack, skip: frozenset[str] = frozenset()) -> None:
        failures: dict[str, str] = {}
        for undo in reversed(stack.unfinished):
            failures |= undo(skip)
        if failures:
            stack.become("UPDATE_ROLLBACK_FAILED", "; ".join(failures.values()))
        else:
            stack.unfinished.clear()
            stack.become("UPDATE_ROLLBACK_COMPLETE")

    def _delete(self, stack: Stack, retain: frozenset[str], *, creating: bool = False) -> None:
        if stack.deployment is not None:
            try:
                self._operation(stack, stack.deployment).delete_all(retain, creating=creating)
            except ResourceFailed as error:
                stack.become("DELETE_FAILED", f"The following resource(s) failed to delete: [{error.logical_id}].")
                return
        stack.outputs = []
        stack.deleted_at = now()
        stack.become(GONE)


def _cannot(stack: Stack, become: str) -> TemplateError:
    return TemplateError(f"Stack:{stack.stack_id} is in {stack.status} state and can not be {become}.")


def _failure(verb: str, error: Exception) -> str:
    if isinstance(error, ResourceFailed):
        return f"The following resource(s) failed to {verb}: [{error.logical_id}]."
    return str(error)


def shown_parameters(deployment: Deployment | None) -> dict[str, Any]:
    """Return a deployment's parameters as they may be shown."""
    if deployment is None:
        return {}
    return dict(template_parameters.shown(deployment.original, deployment.parameters))
