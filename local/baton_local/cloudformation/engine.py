"""Stack operations: create, update, delete, and the way back when something fails."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from baton_local.cloudformation import parameters as template_parameters
from baton_local.cloudformation.clients import aws_client
from baton_local.cloudformation.intrinsics import Resolver, references
from baton_local.cloudformation.resources import REGISTRY
from baton_local.cloudformation.resources.base import Job, Made, NeedsReplacement, ResourceType, random_suffix
from baton_local.cloudformation.stacks import Change, Deployment, Record, Stack, now
from baton_local.cloudformation.templates import Template, TemplateError
from baton_local.regions import url_suffix

Imports = Callable[[str, str], str]
"""(region, export name) -> value; raises TemplateError if nothing exports it."""
_POLICIES = {
    "DeletionPolicy": ("Delete", "Retain", "RetainExceptOnCreate"),
    "UpdateReplacePolicy": ("Delete", "Retain"),
}
"""What these attributes take here, where no type has snapshots; only literally, without LanguageExtensions.

https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/aws-attribute-deletionpolicy.html,
https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/aws-attribute-updatereplacepolicy.html
"""


class _Lookup:
    """What intrinsic functions see of a stack while it is worked on."""

    def __init__(self, operation: Operation) -> None:
        self._operation = operation

    def _record(self, logical_id: str) -> Record:
        record = self._operation.stack.resources.get(logical_id)
        if record is None:
            raise TemplateError(
                f"Template format error: Unresolved resource dependencies [{logical_id}] in the Resources block "
                f"of the template"
            )
        return record

    def physical_id(self, logical_id: str) -> str:
        """Return what ``Ref`` gives."""
        return self._record(logical_id).made.physical_id

    def attribute(self, logical_id: str, name: str) -> Any:
        """Return what ``Fn::GetAtt`` gives."""
        record = self._record(logical_id)
        if name not in record.made.attributes:
            raise TemplateError(
                f"Template error: resource {logical_id} does not support attribute type {name} in Fn::GetAtt"
            )
        return record.made.attributes[name]

    def imported(self, name: str) -> str:
        """Return the value of an export of another stack."""
        self._operation.stack.imports.add(name)
        return self._operation.imports(self._operation.stack.region, name)

    def dynamic(self, service: str, reference: str) -> str:
        """Return what a dynamic reference stands for."""
        return self._operation.dynamic(service, reference)


class Operation:
    """One change of one stack, towards a deployment."""

    def __init__(self, stack: Stack, deployment: Deployment, url: str, imports: Imports) -> None:
        self.stack = stack
        self.deployment = deployment
        self.imports = imports
        self._url = url
        self._done: list[tuple[str, Callable[[], None]]] = []
        self._obsolete: list[tuple[Record, Deployment]] = []
        self._resolver: Resolver | None = None

    # --- reading the template
    def client(self, service: str) -> Any:
        """Return a client that acts with the deployer's credentials."""
        return aws_client(self._url, service, self.stack.region, self.stack.credentials)

    def dynamic(self, service: str, reference: str) -> str:
        """Return the value of a dynamic reference."""
        if service == "secretsmanager":
            return self._secret(reference)
        name = reference.rpartition(":")[0] if reference.rpartition(":")[2].isdigit() else reference
        return str(self.client("ssm").get_parameter(Name=name, WithDecryption=True)["Parameter"]["Value"])

    def _secret(self, reference: str) -> str:
        import json

        is_arn = reference.startswith("arn:")
        parts = reference.split(":")
        name, rest = (":".join(parts[:7]), parts[7:]) if is_arn else (parts[0], parts[1:])
        value = str(self.client("secretsmanager").get_secret_value(SecretId=name)["SecretString"])
        key = rest[1] if len(rest) > 1 else ""
        return str(json.loads(value)[key]) if key else value

    @property
    def resolver(self) -> Resolver:
        """The resolver of this deployment's template."""
        if self._resolver is None:
            self._resolver = Resolver(self.deployment.template, self._constants(), _Lookup(self))
        return self._resolver

    def _constants(self) -> dict[str, Any]:
        stack, deployment = self.stack, self.deployment
        values = template_parameters.referable(
            deployment.template, deployment.parameters, lambda name: self.dynamic("ssm", name)
        )
        return {
            **values,
            "AWS::AccountId": stack.account_id,
            "AWS::NotificationARNs": stack.notification_arns,
            "AWS::Partition": stack.partition,
            "AWS::Region": stack.region,
            "AWS::StackId": stack.stack_id,
            "AWS::StackName": stack.name,
            "AWS::URLSuffix": url_suffix(stack.region),
        }

    def wanted(self) -> dict[str, dict[str, Any]]:
        """Return the resource declarations whose condition holds, by logical id."""
        found = {}
        for logical_id, declaration in self.deployment.template["Resources"].items():
            if "Condition" not in declaration or self.resolver.condition(str(declaration["Condition"])):
                found[logical_id] = declaration
        return found

    def validate(self) -> None:
        """Raise TemplateError for what can be seen to be wrong before anything is made."""
        wanted = self.wanted()
        complaints = list(self.resolver.violated_rules())
        if complaints:
            raise TemplateError("; ".join(complaints))
        types = {str(d.get("Type")) for d in self.deployment.template["Resources"].values()}
        unknown = sorted(types - set(REGISTRY))
        if unknown:
            raise TemplateError(f"Template format error: Unrecognized resource types: [{', '.join(unknown)}]")
        self._validate_policies()
        self._validate_references(wanted)
        self.order(wanted)

    def _validate_policies(self) -> None:
        for logical_id, declaration in self.deployment.template["Resources"].items():
            for attribute, known in _POLICIES.items():
                value = declaration.get(attribute, "Delete")
                if value not in known:
                    raise TemplateError(f"Template format error: Unrecognized {attribute} {value} for {logical_id}")

    def _validate_references(self, wanted: Mapping[str, Any]) -> None:
        known = set(wanted) | set(self._constants()) | {"AWS::NoValue"}
        blocks = [(d.get("Properties") or {}, "Resources") for d in wanted.values()]
        blocks += [(o.get("Value"), "Outputs") for o in self._outputs()]
        for value, block in blocks:
            missing = sorted({n for n in references(value, self.resolver) if n not in known})
            if missing:
                raise TemplateError(
                    f"Template format error: Unresolved resource dependencies [{', '.join(missing)}] in the {block} "
                    f"block of the template"
                )

    def _outputs(self) -> Iterator[dict[str, Any]]:
        for key, output in (self.deployment.template.get("Outputs") or {}).items():
            if "Condition" not in output or self.resolver.condition(str(output["Condition"])):
                yield {"Key": key, **output}

    def dependencies(
        self, logical_id: str, declaration: Mapping[str, Any], wanted: Mapping[str, Any]
    ) -> frozenset[str]:
        """Return the logical ids that must exist before a resource can be made."""
        explicit = declaration.get("DependsOn") or []
        names = {explicit} if isinstance(explicit, str) else set(explicit)
        names |= set(references(declaration.get("Properties") or {}, self.resolver))
        return frozenset(n for n in names if n in wanted and n != logical_id)

    def order(self, wanted: Mapping[str, Any]) -> list[str]:
        """Return the logical ids so that each comes after what it depends on; raise TemplateError for a circle."""
        waiting = {k: self.dependencies(k, d, wanted) for k, d in wanted.items()}
        done: list[str] = []
        while waiting:
            ready = [k for k, needs in waiting.items() if needs <= set(done)]
            if not ready:
                raise TemplateError(f"Circular dependency between resources: [{', '.join(sorted(waiting))}]")
            done += ready
            waiting = {k: needs for k, needs in waiting.items() if k not in ready}
        return done

    # --- what would change
    def changes(self) -> list[Change]:
        """Return what executing this operation would do, as far as it can be known before."""
        wanted, found = self.wanted(), []
        for logical_id in self.order(wanted):
            declaration, record = wanted[logical_id], self.stack.resources.get(logical_id)
            if record is None:
                found.append(Change("Add", logical_id, "", str(declaration["Type"])))
            elif self._may_change(logical_id, declaration, record):
                names = _changed_names(declaration, record)
                replace = bool(names & REGISTRY[record.type].replace_on)
                physical_id = record.made.physical_id
                found.append(Change("Modify", logical_id, physical_id, record.type, "True" if replace else "False"))
        gone = [r for k, r in self.stack.resources.items() if k not in wanted]
        return found + [Change("Remove", r.logical_id, r.made.physical_id, r.type) for r in gone]

    def _may_change(self, logical_id: str, declaration: Mapping[str, Any], record: Record) -> bool:
        if declaration != record.declaration or declaration["Type"] != record.type:
            return True
        before = self.stack.deployment
        if before is None:
            return True
        if dict(before.tags) != dict(self.deployment.tags):
            return True
        changed = any(before.parameters.get(k) != v for k, v in self.deployment.parameters.items())
        # What failed with its rollback disabled has left resources that are not what the last deployment made of them.
        return (changed or bool(self.stack.unfinished)) and self._resolved_differs(logical_id, declaration, record)

    def _resolved_differs(self, _logical_id: str, declaration: Mapping[str, Any], record: Record) -> bool:
        try:
            return bool(self.resolver.resolve(declaration.get("Properties") or {}) != record.properties)
        except TemplateError:
            # It refers to what is still to be made.
            return True

    # --- doing it
    def _job(self, logical_id: str, properties: Mapping[str, Any], suffix: str, deployment: Deployment) -> Job:
        stack = self.stack
        return Job(
            logical_id=logical_id,
            properties=properties,
            stack_name=stack.name,
            stack_id=stack.stack_id,
            stack_tags=deployment.tags,
            region=stack.region,
            partition=stack.partition,
            account_id=stack.account_id,
            client=self.client,
            suffix=suffix,
        )

    def _event(self, record_or_id: Record | str, kind: str, status: str, reason: str = "") -> None:
        if isinstance(record_or_id, Record):
            record_or_id.status, record_or_id.changed_at = status, now()
            logical_id, physical_id = record_or_id.logical_id, record_or_id.made.physical_id
        else:
            logical_id, physical_id = record_or_id, ""
        self.stack.add_event(logical_id, physical_id, kind, status, reason)

    def apply(self) -> None:
        """Make the stack what the deployment says; raise ResourceFailed, with everything done so far remembered."""
        wanted = self.wanted()
        for logical_id in self.order(wanted):
            try:
                self._apply_one(logical_id, wanted)
            except Exception as error:
                status = "UPDATE_FAILED" if logical_id in self.stack.resources else "CREATE_FAILED"
                record = self.stack.resources.get(logical_id)
                self._event(record or logical_id, str(wanted[logical_id]["Type"]), status, reason_of(error))
                raise ResourceFailed(logical_id, reason_of(error)) from error
        self.stack.outputs = self._resolved_outputs()

    def _apply_one(self, logical_id: str, wanted: Mapping[str, Any]) -> None:
        declaration, record = wanted[logical_id], self.stack.resources.get(logical_id)
        kind = REGISTRY[str(declaration["Type"])]
        properties = self.resolver.resolve(declaration.get("Properties") or {})
        needs = self.dependencies(logical_id, declaration, wanted)
        if record is None:
            self._create(logical_id, declaration, properties, needs, kind)
        elif record.type != kind.type:
            raise TemplateError(f"Update of resource type is not permitted. The new template modifies {logical_id}.")
        elif properties != record.properties or self._tags_changed():
            self._update(record, declaration, properties, needs, kind)
        else:
            record.declaration, record.depends_on = declaration, needs

    def _tags_changed(self) -> bool:
        before = self.stack.deployment
        return before is not None and dict(before.tags) != dict(self.deployment.tags)

    def _create(
        self,
        logical_id: str,
        declaration: Mapping[str, Any],
        properties: Mapping[str, Any],
        needs: frozenset[str],
        kind: ResourceType,
    ) -> Record:
        suffix = random_suffix()
        job = self._job(logical_id, properties, suffix, self.deployment)
        self._event(logical_id, kind.type, "CREATE_IN_PROGRESS")
        kind.check(job)
        made = kind.create(job)
        record = Record(logical_id, kind.type, declaration, properties, made, needs, suffix)
        self.stack.resources[logical_id] = record
        self._done.append((logical_id, lambda: self._undo_creation(record)))
        self._event(record, kind.type, "CREATE_COMPLETE")
        return record

    def _undo_creation(self, record: Record) -> None:
        if record.retained(creating=True):
            self._event(record, record.type, "DELETE_SKIPPED")
        elif self.stack.ever_complete:
            self._try_to_delete(record, self.deployment)
        else:
            self.delete_record(record, self.deployment)
        self.stack.resources.pop(record.logical_id, None)

    def _update(
        self,
        record: Record,
        declaration: Mapping[str, Any],
        properties: Mapping[str, Any],
        needs: frozenset[str],
        kind: ResourceType,
    ) -> None:
        before = self.stack.deployment or self.deployment
        old = Record(**vars(record))
        job = self._job(record.logical_id, properties, record.suffix, self.deployment)
        kind.check(job)
        self._event(record, kind.type, "UPDATE_IN_PROGRESS")
        try:
            if any(properties.get(n) != record.properties.get(n) for n in kind.replace_on):
                raise NeedsReplacement
            made = self._updated(record, kind, job, old, before)
        except NeedsReplacement:
            self._replace(old, declaration, properties, needs, kind, before)
            return
        record.declaration, record.properties, record.made, record.depends_on = declaration, properties, made, needs
        self._event(record, kind.type, "UPDATE_COMPLETE")

    def _updated(self, record: Record, kind: ResourceType, job: Job, old: Record, before: Deployment) -> Made:
        # Also an update that fails half-way has changed something, so the way back is remembered first.
        back = self._job(record.logical_id, old.properties, old.suffix, before)
        self._done.append((old.logical_id, lambda: self._undo_update(old, kind, back, job.properties)))
        return kind.update(job, record.made, record.properties)

    def _undo_update(self, old: Record, kind: ResourceType, back: Job, failed: Mapping[str, Any]) -> None:
        self._event(old, kind.type, "UPDATE_IN_PROGRESS")
        made = kind.update(back, old.made, failed)
        restored = Record(**{**vars(old), "made": made})
        self.stack.resources[old.logical_id] = restored
        self._event(restored, kind.type, "UPDATE_COMPLETE")

    def _replace(
        self,
        old: Record,
        declaration: Mapping[str, Any],
        properties: Mapping[str, Any],
        needs: frozenset[str],
        kind: ResourceType,
        before: Deployment,
    ) -> None:
        if self.stack.disable_rollback:
            raise TemplateError("Replacement type updates not supported on stack with disable-rollback.")
        if kind.named_by and properties.get(kind.named_by, "") == old.properties.get(kind.named_by, None):
            raise TemplateError(
                f"CloudFormation cannot update a stack when a custom-named resource requires replacing. "
                f"Rename {properties[kind.named_by]} and update the stack again."
            )
        reason = "Requested update requires the creation of a new physical resource; hence creating one."
        self._event(old, kind.type, "UPDATE_IN_PROGRESS", reason)
        self._done.append((old.logical_id, lambda: self.stack.resources.__setitem__(old.logical_id, old)))
        self._create(old.logical_id, declaration, properties, needs, kind)
        self._obsolete.append((old, before))

    def _resolved_outputs(self) -> list[dict[str, str]]:
        found = []
        for output in self._outputs():
            entry = {"OutputKey": output["Key"], "OutputValue": str(self.resolver.resolve(output["Value"]))}
            if output.get("Description"):
                entry["Description"] = str(output["Description"])
            if output.get("Export"):
                entry["ExportName"] = str(self.resolver.resolve(output["Export"]["Name"]))
            found.append(entry)
        return found

    # --- ends
    def clean_up(self) -> None:
        """After an update: delete what was replaced, and what the template no longer has, in reverse order."""
        wanted = self.wanted()
        before = self.stack.deployment or self.deployment
        for record, deployment in reversed(self._obsolete):
            self._remove(record, deployment, "UpdateReplacePolicy")
        for record in deletion_order({k: r for k, r in self.stack.resources.items() if k not in wanted}):
            self._remove(record, before, "DeletionPolicy")
            del self.stack.resources[record.logical_id]

    def _remove(self, record: Record, deployment: Deployment, policy: str) -> None:
        if record.retained(policy):
            self._event(record, record.type, "DELETE_SKIPPED")
        else:
            self._try_to_delete(record, deployment)

    def _try_to_delete(self, record: Record, deployment: Deployment) -> None:
        try:
            self.delete_record(record, deployment)
        except Exception as error:
            # AWS gives up on it too, and goes on: the update or its rollback is complete, the resource stays behind.
            self._event(record, record.type, "DELETE_FAILED", reason_of(error))

    def delete_record(self, record: Record, deployment: Deployment) -> None:
        """Delete one resource."""
        kind = REGISTRY[record.type]
        self._event(record, record.type, "DELETE_IN_PROGRESS")
        kind.delete(self._job(record.logical_id, record.properties, record.suffix, deployment), record.made)
        self._event(record, record.type, "DELETE_COMPLETE")

    def roll_back(self, skip: frozenset[str] = frozenset()) -> dict[str, str]:
        """Undo what was done, last first; return why what could not be undone, by logical id: that is done again.

        ``skip``: logical ids of resources in UPDATE_FAILED that stay as they are, and count as complete.
        """
        failures: dict[str, str] = {}
        left = []
        for logical_id, undo in reversed(self._done):
            if logical_id in skip:
                self._skip(self.stack.resources[logical_id])
                continue
            try:
                undo()
            except Exception as error:
                failures[logical_id] = reason_of(error)
                left.append((logical_id, undo))
                self._rollback_failed(logical_id, failures[logical_id])
        self._done = left[::-1]
        return failures

    def _skip(self, record: Record) -> None:
        # Several failed updates may have changed it: the first that is taken back says that it is skipped.
        if record.status == "UPDATE_FAILED":
            self._event(record, record.type, "UPDATE_COMPLETE")

    def _rollback_failed(self, logical_id: str, reason: str) -> None:
        record = self.stack.resources.get(logical_id)
        if record is not None:
            self._event(record, record.type, "UPDATE_FAILED", reason)

    def delete_all(self, retain: frozenset[str] = frozenset(), *, creating: bool = False) -> None:
        """Delete the stack's resources, each before what it depends on; raise ResourceFailed for those that stay.

        ``creating``: it takes back their creation, so that RetainExceptOnCreate retains nothing.
        """
        failed: dict[str, str] = {}
        for record in deletion_order(self.stack.resources):
            if record.retained(creating=creating) or record.logical_id in retain:
                self._event(record, record.type, "DELETE_SKIPPED")
            else:
                try:
                    self.delete_record(record, self.deployment)
                except Exception as error:
                    self._event(record, record.type, "DELETE_FAILED", reason_of(error))
                    failed[record.logical_id] = reason_of(error)
                    continue
            del self.stack.resources[record.logical_id]
        if failed:
            raise ResourceFailed(", ".join(failed), "; ".join(failed.values()))


class ResourceFailed(Exception):
    """A resource (or several, by logical id) could not be made, changed or deleted."""

    def __init__(self, logical_id: str, reason: str) -> None:
        super().__init__(f"{logical_id}: {reason}")
        self.logical_id = logical_id
        self.reason = reason


def deletion_order(records: Mapping[str, Record]) -> list[Record]:
    """Return the records so that each comes before what it depends on."""
    done: list[Record] = []
    waiting = dict(records)
    while waiting:
        needed = {n for r in waiting.values() for n in r.depends_on}
        free = [k for k in waiting if k not in needed] or list(waiting)
        done += [waiting.pop(k) for k in reversed(free)]
    return done


def _changed_names(declaration: Mapping[str, Any], record: Record) -> set[str]:
    new, old = declaration.get("Properties") or {}, record.declaration.get("Properties") or {}
    return {n for n in {*new, *old} if new.get(n) != old.get(n)}


def reason_of(error: BaseException) -> str:
    """Return what an error says, as a status reason: an API's message with its code."""
    response = getattr(error, "response", None)
    if isinstance(response, dict) and "Error" in response:
        details = response["Error"]
        return f"{details.get('Message') or details.get('Code')} (Error Code: {details.get('Code')})"
    return str(error) or type(error).__name__


__all__ = ["Operation", "ResourceFailed", "Template", "deletion_order", "reason_of"]
