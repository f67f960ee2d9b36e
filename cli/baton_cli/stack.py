"""Whether the stack is well, and for each of CloudFormation's statuses the command that leads on from it.

https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/view-stack-events.html has what each status means.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from baton_cli.account import MACHINE
from baton_cli.patient import DESCRIBED, OK, WRONG, Finding, Missing, Patient, sentence

CLEANING_UP = "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS"
"""The status of a stack that is well, but takes no update for a while."""

WELL = frozenset({"CREATE_COMPLETE", "UPDATE_COMPLETE", CLEANING_UP, "IMPORT_COMPLETE"})

WAITERS = {
    "CREATE_IN_PROGRESS": "stack-create-complete",
    "ROLLBACK_IN_PROGRESS": "stack-create-complete",
    "DELETE_IN_PROGRESS": "stack-delete-complete",
    "UPDATE_IN_PROGRESS": "stack-update-complete",
    "UPDATE_ROLLBACK_IN_PROGRESS": "stack-rollback-complete",
    "UPDATE_ROLLBACK_COMPLETE_CLEANUP_IN_PROGRESS": "stack-rollback-complete",
    "IMPORT_IN_PROGRESS": "stack-import-complete",
}
"""What waits for the end of each operation; no waiter ends at once with the rollback of an import."""

DEPLOYABLE = frozenset({"UPDATE_ROLLBACK_COMPLETE", "IMPORT_ROLLBACK_COMPLETE"})
"""The statuses after a failure in which CloudFormation takes an update."""

NOT_BEGUN = frozenset({"REVIEW_IN_PROGRESS", "DELETE_COMPLETE"})
"""The statuses of a change set that nobody executed, and of a stack that has gone: no parameter has a value yet."""

TAKES_UPDATE = (WELL - {CLEANING_UP}) | DEPLOYABLE
"""The statuses in which CloudFormation takes an update."""

_ROLLED_BACK = DEPLOYABLE | {"UPDATE_ROLLBACK_FAILED"}
"""The statuses to which something that somebody deleted may have led, and in which it is in the way of what is next."""

_MEND_FIRST = "Mend what keeps it first, or the rollback fails again."

_DENIALS = ("not authorized", "accessdenied", "access denied", "authorizationerror")
"""What stands, in whatever case, in the reason of a resource that failed for want of a permission."""

_EXPLANATIONS = {
    "ROLLBACK_IN_PROGRESS": "The wait will end with an error, since the creation has failed.",
    # Rolled back, and not only deleted, for then the bucket and the table would stay and be in the way of the next.
    "CREATE_FAILED": "It never was complete: what it made is taken back, and the stack is deleted.",
    "UPDATE_FAILED": "CloudFormation takes no update before it is rolled back.",
    "UPDATE_ROLLBACK_FAILED": _MEND_FIRST,
    "DELETE_FAILED": "Mend that and leave --retain-resources away; with it, they stay, and may cost something.",
    "IMPORT_ROLLBACK_FAILED": "CloudFormation takes no update of it; its events say what failed.",
}


def check_stack(patient: Patient) -> Iterator[Finding]:
    """There is a stack, and its last deployment went well."""
    name = patient.stack_name
    if patient.misnamed:
        yield Finding("stack", WRONG, f"{patient.misnamed} {_THOSE}", _list_batons(patient))
        return
    if patient.stack is None:
        yield Finding("stack", WRONG, f"There is no stack {name} in {patient.region}.", patient.deploy_first())
        return
    status = patient.status
    if _is_foreign(patient):
        yield _foreign(patient)
        return
    if status in WELL:
        yield Finding("stack", OK, f"{name} is {status}")
        return
    failed = _failed(patient, status)
    reasons = [f"{resource}: {sentence(reason)}" for resource, reason in failed.items()]
    deleted = _deleted(patient, failed) if status in _ROLLED_BACK else []
    if deleted:
        denied = _denied(failed, deleted)
        skipped = _skippable(failed, denied) if status not in DEPLOYABLE else []
        explained, mend = _explain_deleted(deleted, skipped, denied), _make_again(patient, status, deleted, skipped)
    else:
        explained = _EXPLANATIONS.get(status, "") if status != "DELETE_FAILED" or failed else ""
        mend = _mend_stack(patient, status, list(failed))
    parts = [f"{name} is {status}.", *reasons, explained]
    yield Finding("stack", WRONG, " ".join(part for part in parts if part), mend)


def _is_foreign(patient: Patient) -> bool:
    """Return whether a stack lacks the parameters of Baton's or, complete once, what all those have that were."""
    if patient.status in NOT_BEGUN:
        return False
    complete_once = patient.status.startswith(("UPDATE_", "IMPORT_")) or patient.status in WELL
    incomplete = MACHINE not in patient.outputs and (complete_once or bool(patient.outputs))
    return incomplete or not patient.of_batons_template


def _foreign(patient: Patient) -> Finding:
    lacks = f"no output {MACHINE}" if patient.of_batons_template else "not the parameters of Baton's template"
    text = f"{patient.stack_name} is no stack of Baton's: it has {lacks}. {_THOSE}"
    return Finding("stack", WRONG, text, _list_batons(patient))


_THOSE = f"This lists those with an output {MACHINE}."


def _list_batons(patient: Patient) -> str:
    query = shlex.quote(f"Stacks[?Outputs[?OutputKey=='{MACHINE}']].StackName")
    return f"aws cloudformation describe-stacks --query {query} {patient.here}"


def _failed(patient: Patient, status: str) -> dict[str, str]:
    """Return why each resource failed that keeps a deletion or a rollback from its end, as far as that can be seen."""
    wanted = {"DELETE_FAILED": "DELETE_FAILED", "UPDATE_ROLLBACK_FAILED": "UPDATE_FAILED"}.get(status)
    if wanted is None:
        return {}
    try:
        found = patient.listed
    except (ClientError, BotoCoreError):
        return {}
    return {
        each["LogicalResourceId"]: each.get("ResourceStatusReason") or "no reason is given"
        for each in found
        if each.get("ResourceStatus") == wanted
    }


def _deleted(patient: Patient, failed: Mapping[str, str]) -> list[Missing]:
    """Return what of the stack somebody has deleted, or is deleting, as far as that can be seen.

    It need not be what failed: a function fails whose role has gone.
    """
    try:
        made = patient.made
    except (ClientError, BotoCoreError):
        return []
    looked = (_look_for(patient, each, failed.get(each["LogicalResourceId"], "")) for each in made)
    return [missing for missing in looked if missing]


def _look_for(patient: Patient, summary: Mapping[str, Any], reason: str) -> Missing | None:
    """Return that a resource is missing; ``reason`` is why it failed, or empty."""
    logical_id, physical_id = summary["LogicalResourceId"], summary["PhysicalResourceId"]
    kind = summary.get("ResourceType", "")
    if kind in DESCRIBED:
        try:
            with patient.resource(logical_id):
                patient.describe(kind, physical_id)
            return None
        except Missing as missing:
            return missing
        except (ClientError, BotoCoreError):
            pass
    # What cannot be looked at was deleted if CloudFormation has said so.
    return Missing(logical_id, physical_id) if "HandlerErrorCode: NotFound" in reason else None


def _denied(failed: Mapping[str, str], deleted: list[Missing]) -> list[str]:
    """Return the resources that are there and failed for want of a permission, which the change set would lack too."""
    gone = {missing.logical_id for missing in deleted}
    # Of a role that has gone a service says that it is not authorized to assume it: that is no want of a permission.
    return [
        name
        for name, reason in failed.items()
        if name not in gone and "to assume " not in reason and any(said in reason.lower() for said in _DENIALS)
    ]


def _skippable(failed: Mapping[str, str], denied: list[str]) -> list[str]:
    """Return the failed resources that a rollback may go on without, but for those that were denied.

    CloudFormation refuses to skip what was only cancelled because another one failed.
    """
    return [name for name, reason in failed.items() if "cancelled" not in reason and name not in denied]


def _explain_deleted(deleted: list[Missing], skipped: list[str], denied: list[str]) -> str:
    names = " and ".join(missing.logical_id for missing in deleted)
    lasting = [f"{missing.logical_id} is only gone when its runs have ended." for missing in deleted if missing.going]
    without = f"the rollback goes on without {' and '.join(skipped)}, and then " if skipped else ""
    text = f"Somebody deleted {names}: {without}a change set makes all of it as the template has it"
    first = [f"Before, allow what {' and '.join(denied)} was denied, or the rollback fails again."] if denied else []
    return " ".join([f"{text}, and takes back whatever else was changed by hand.", *lasting, *first])


def _make_again(patient: Patient, status: str, deleted: list[Missing], skipped: list[str]) -> str:
    """Return the command that ends a rollback that failed, or deploys after one that did not, and makes all again.

    The change set comes before a deployment, which would fail for want of what was deleted; it goes by what there is,
    so it also puts right what the rollback has skipped.
    """
    wait = [patient.deletion_of(missing.physical_id) for missing in deleted if missing.going]
    if status in DEPLOYABLE:
        return " && ".join([*wait, patient.make_again(), patient.deploy()])
    skip = f" --resources-to-skip {' '.join(skipped)}" if skipped else ""
    return " && ".join([*wait, _roll_back("continue-update-rollback", patient.this_stack, skip), patient.make_again()])


def _mend_stack(patient: Patient, status: str, failed: list[str]) -> str:
    target = patient.this_stack
    if status in WAITERS:
        return f"aws cloudformation wait {WAITERS[status]} {target}"
    if status in ("ROLLBACK_COMPLETE", "ROLLBACK_FAILED"):
        return f"{_delete(target)} && {patient.deploy_first()}"
    if status == "DELETE_FAILED" and failed:
        return _delete(f"{target} --retain-resources {' '.join(failed)}", target)
    if status == "CREATE_FAILED":
        return f"aws cloudformation rollback-stack {target}"
    if status in ("UPDATE_FAILED", "UPDATE_ROLLBACK_FAILED"):
        back = "rollback-stack" if status == "UPDATE_FAILED" else "continue-update-rollback"
        return f"{_roll_back(back, target)} && {patient.deploy()}"
    if status in NOT_BEGUN:
        return patient.deploy_first()
    if status.endswith("_IN_PROGRESS"):
        return patient.look_again
    return patient.deploy() if status in DEPLOYABLE else f"aws cloudformation describe-stack-events {target}"


def _roll_back(command: str, target: str, options: str = "") -> str:
    wait = f"aws cloudformation wait stack-rollback-complete {target}"
    return f"aws cloudformation {command} {target}{options} && {wait}"


def _delete(options: str, target: str = "") -> str:
    wait = f"aws cloudformation wait stack-delete-complete {target or options}"
    return f"aws cloudformation delete-stack {options} && {wait}"
