"""State machines: their definitions are checked, and versions and aliases of them can be started."""

from __future__ import annotations

import hashlib
import json
import random
import threading
import uuid
from datetime import UTC, datetime
from typing import Any

from moto.utilities.utils import get_partition

from baton_local.seams import register, replace
from baton_local.stepfunctions.definitions import check_definition
from baton_local.stepfunctions.errors import api_error
from baton_local.stepfunctions.executions import Run

MAXIMUM_DATA_BYTES = 256 * 1024
_MODELS = "moto.stepfunctions.models"
_PARSER = "moto.stepfunctions.parser.models"
_moto: dict[str, Any] = {}
_starting = threading.Lock()
_weights = random.Random()  # noqa: S311 (an alias's routing)


_CREATE = (
    *("self", "name", "definition", "roleArn", "tags", "publish", "loggingConfiguration", "tracingConfiguration"),
    *("encryptionConfiguration", "version_description", "sm_type"),
)
_UPDATE = (
    *("self", "arn", "definition", "role_arn", "logging_configuration", "tracing_configuration"),
    *("encryption_configuration", "publish", "version_description"),
)
_START = ("self", "state_machine_arn", "name", "execution_input", "trace_header")


def install() -> None:
    """Open the seams."""
    backend = "StepFunctionsParserBackend"
    _moto["create"] = replace(_PARSER, f"{backend}.create_state_machine", _create_state_machine, _CREATE)
    _moto["update"] = replace(_PARSER, f"{backend}.update_state_machine", _update_state_machine, _UPDATE)
    # The definition is checked above, where the partition is known.
    replace(_PARSER, f"{backend}._validate_definition", staticmethod(lambda **_: None), ("definition",))
    replace(_PARSER, f"{backend}.start_execution", start_execution, _START)
    _moto["delete"] = replace(_MODELS, "StepFunctionBackend.delete_state_machine", _delete_machine, ("self", "arn"))
    replace(_MODELS, "StateMachine.publish", _publish, ("self", "description"))
    # CloudFormation and the tagging API see the backend that executes; moto finds a service's URLs by the module.
    executing = register(_PARSER, "stepfunctions_parser_backends")
    replace(_PARSER, f"{backend}.__module__", _MODELS)
    replace(_MODELS, "stepfunctions_backends", executing, None, imported_in="moto")


def _create_state_machine(self: Any, name: str, definition: str, roleArn: str, **options: Any) -> Any:  # noqa: N803
    """Create a state machine; the same again is the same, another of that name is refused."""
    check_definition(definition, get_partition(self.region_name))
    existing = self._revision_by_name(name)
    if existing is not None and (existing.definition, existing.roleArn) != (definition, roleArn):
        raise api_error("StateMachineAlreadyExists", f"State Machine Already Exists: '{existing.arn}'")
    return _moto["create"](self, name=name, definition=definition, roleArn=roleArn, **options)


def _update_state_machine(self: Any, arn: str, definition: str | None = None, **options: Any) -> Any:
    if definition is not None:
        check_definition(definition, get_partition(self.region_name))
    publish, description = options.pop("publish", None), options.pop("version_description", None)
    machine = _moto["update"](self, arn, definition, **options)
    if publish:
        machine.publish(description)
    return machine


def revision_id(machine: Any) -> str:
    """Return what names the present definition and configuration of a state machine."""
    parts = (machine.definition, machine.roleArn, machine.loggingConfiguration, machine.tracingConfiguration)
    return str(uuid.UUID(hashlib.md5(json.dumps(parts).encode(), usedforsecurity=False).hexdigest()))


def _publish(self: Any, description: str | None) -> None:
    """Publish a version, unless the latest is of the same revision.

    https://docs.aws.amazon.com/step-functions/latest/apireference/API_PublishStateMachineVersion.html
    """
    latest = self.latest_version
    if latest is not None and latest.number_of_revision == revision_id(self):
        return
    version_class = register(_MODELS, "StateMachineVersion", ("source", "version", "description"))
    self.latest_version_number += 1
    version = version_class(source=self, version=self.latest_version_number, description=description)
    version.number_of_revision = revision_id(self)
    self.versions[self.latest_version_number] = self.latest_version = version


def _delete_machine(self: Any, arn: str) -> None:
    """Delete a state machine; what still runs of it is ended, as on AWS at its next transition."""
    machine = next((m for m in self.state_machines if m.arn == arn), None)
    _moto["delete"](self, arn)
    for run in list(machine.executions) if machine else []:
        run.stop(datetime.now(UTC), None, None)


# --- starting ---------------------------------------------------------------------------------------------------------


def start_execution(
    self: Any,
    state_machine_arn: str,
    name: str | None = None,
    execution_input: str | None = None,
    trace_header: str | None = None,
) -> Run:
    """Start an execution, or return the running one of the same name and input; raise the API's errors.

    ``state_machine_arn`` may name a version or an alias, whose definition then runs.
    """
    name = name or str(uuid.uuid4())
    self._validate_name(name)
    text = "{}" if execution_input is None else execution_input
    check_data(text, "input", "InvalidExecutionInput", "Invalid State Machine Execution Input")
    machine, target, alias_arn = _resolve(self, state_machine_arn)
    with _starting:
        existing = _existing(machine, name, text)
        if existing is not None:
            return existing
        run = _new_run(self, machine, target, alias_arn, name, text)
        run.trace_header = trace_header
        machine.executions.append(run)
    run.start()
    return run


def _new_run(backend: Any, machine: Any, target: Any, alias_arn: str | None, name: str, text: str) -> Run:
    return Run(
        version_arn=target.arn if target is not machine else None,
        alias_arn=alias_arn,
        machine_arn=machine.arn,
        name=name,
        sm_type="STANDARD",
        role_arn=target.roleArn,
        exec_arn=f"{machine.arn.replace(':stateMachine:', ':execution:')}:{name}",
        account_id=backend.account_id,
        region_name=backend.region_name,
        state_machine=Snapshot(target, machine),
        start_date=datetime.now(UTC),
        input_data=text,
    )


class Snapshot:
    """What an execution keeps of its state machine, which may be updated while it runs."""

    def __init__(self, target: Any, machine: Any) -> None:
        self.arn = machine.arn
        self.name = machine.name
        self.definition = target.definition
        self.roleArn = target.roleArn
        self.sm_type = "STANDARD"
        self.loggingConfiguration = target.loggingConfiguration
        self.tracingConfiguration = target.tracingConfiguration
        self.encryptionConfiguration = target.encryptionConfiguration
        self.update_date = target.update_date
        self.revision_id = revision_id(target)


def check_data(text: str, parameter: str, error: str, message: str) -> None:
    """Raise the API's error for a text that is no JSON or longer than what a state may pass on."""
    if len(text.encode()) > MAXIMUM_DATA_BYTES:
        raise api_error(
            "ValidationException",
            f"1 validation error detected: Value at '{parameter}' failed to satisfy constraint: "
            f"Member must have length less than or equal to {MAXIMUM_DATA_BYTES}",
        )
    try:
        json.loads(text)
    except ValueError as problem:
        raise api_error(error, f"{message}: '{problem}'") from problem


def _existing(machine: Any, name: str, text: str) -> Run | None:
    """Return the running execution of this name and input; refuse a name that is taken otherwise."""
    for run in machine.executions:
        if run.name == name:
            if run.status == "RUNNING" and run.execution_input == text:
                return run  # type: ignore[no-any-return]
            raise api_error("ExecutionAlreadyExists", f"Execution Already Exists: '{run.exec_arn}'")
    return None


def _resolve(backend: Any, arn: str) -> tuple[Any, Any, str | None]:
    """Return the machine that an ARN belongs to, what of it runs, and the alias that said so."""
    backend._validate_machine_arn(arn)
    parts = arn.split(":")
    machine = next((m for m in backend.state_machines if m.arn == ":".join(parts[:7])), None)
    if machine is None:
        raise _missing(arn)
    if len(parts) == 7:
        return machine, machine, None
    alias_arn = None
    qualifier = parts[7]
    if not qualifier.isdigit():
        alias = machine.aliases.get(qualifier)
        if alias is None:
            raise _missing(arn)
        alias_arn, qualifier = alias.arn, _route(alias.routing_configuration).rsplit(":", 1)[1]
    version = machine.versions.get(int(qualifier))
    if version is None:
        raise _missing(arn)
    return machine, version, alias_arn


def _route(configuration: list[dict[str, Any]]) -> str:
    """Draw the version that an alias sends an execution to."""
    arns = [str(route["stateMachineVersionArn"]) for route in configuration]
    return _weights.choices(arns, [route["weight"] for route in configuration])[0]


def _missing(arn: str) -> Any:
    return api_error("StateMachineDoesNotExist", f"State Machine Does Not Exist: '{arn}'")
