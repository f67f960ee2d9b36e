"""What all of SageMaker's parts share in one embedded cloud: its clock, workers, faults, events and role sessions."""

from __future__ import annotations

import functools
import json
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from baton_local import accounts, iam
from baton_local.context import CloudContext
from baton_local.sagemaker.errors import validation
from baton_local.sagemaker.events import Emit, Emitter
from baton_local.sagemaker.faults import Faults
from baton_local.sagemaker.pool import WorkerPool
from baton_local.sagemaker.storage import Session
from baton_local.seams import register

WORKERS = 2
_SERVICE = "sagemaker.amazonaws.com"


@dataclass(frozen=True)
class Pauses:
    """How many simulated seconds SageMaker takes for what is not computing."""

    start: float = 60.0
    pull_image: float = 20.0
    upload: float = 5.0
    stop: float = 15.0
    create_endpoint: float = 120.0
    delete_endpoint: float = 15.0


@dataclass
class Engine:
    """The shared parts; one embedded cloud has one."""

    context: CloudContext
    emitter: Emitter
    pool: WorkerPool = field(default_factory=lambda: WorkerPool(WORKERS))
    faults: Faults = field(default_factory=Faults)
    pauses: Pauses = Pauses()

    @property
    def channel_cache(self) -> Path:
        """Where parsed channels are kept while this cloud runs."""
        return self.context.work_dir / "sagemaker-channels"

    def pause(self, simulated_seconds: float, interrupt: threading.Event) -> bool:
        """Wait, and return at once and true when interrupted."""
        return interrupt.wait(simulated_seconds / self.context.clock_scale)

    def session(self, role_arn: str, region: str) -> Session:
        """Return a session of an execution role, as SageMaker assumes it."""
        credentials = _role_credentials(role_arn, region)
        return Session(
            self.context.url,
            region,
            role_arn,
            {
                "access_key_id": credentials.access_key_id,
                "secret_access_key": credentials.secret_access_key,
                "session_token": credentials.session_token,
            },
        )


@functools.lru_cache(maxsize=64)
def _role_credentials(role_arn: str, region: str) -> accounts.Credentials:
    return accounts.role_credentials(role_arn, region, "SageMaker")


_current: list[Engine] = []


def start(context: CloudContext, emit: Emit) -> Engine:
    """Make the engine of this process, in place of one that was there."""
    stop()
    _role_credentials.cache_clear()
    engine = Engine(context, Emitter(emit))
    _current.append(engine)
    return engine


def current() -> Engine:
    """Return the engine of this process."""
    return _current[0]


def stop() -> None:
    """Kill the workers of this process's engine, if it has one."""
    while _current:
        _current.pop().pool.close()


def check_role(role_arn: str) -> None:
    """Raise ValidationException unless the role exists and SageMaker may assume it."""
    if not _trusts_sagemaker(role_arn):
        raise validation(
            f"Could not assume role {role_arn}. Please ensure that the role exists and allows principal "
            f"'{_SERVICE}' to assume the role."
        )


def check_output_key(role_arn: str, output: dict[str, Any]) -> None:
    """Raise ValidationException unless the role may encrypt with the KMS key of a job's output, where it names one.

    https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_OutputDataConfig.html
    """
    key = output.get("KmsKeyId")
    if key and not iam.role_may(role_arn, "kms:Encrypt", key):
        raise validation(f"The role {role_arn} must be allowed kms:Encrypt on {key}, the KMS key of the output.")


def _trusts_sagemaker(role_arn: str) -> bool:
    partition, account = role_arn.split(":")[1], role_arn.split(":")[4]
    roles = register("moto.iam.models", "iam_backends")[account][partition].roles.values()
    documents = [role.assume_role_policy_document for role in roles if role.arn == role_arn]
    return any(_allows(statement) for document in documents for statement in _statements(document))


def _statements(document: Any) -> list[dict[str, Any]]:
    policy = json.loads(document) if isinstance(document, str) else document or {}
    return _as_list(policy.get("Statement", []))


def _allows(statement: dict[str, Any]) -> bool:
    principal = statement.get("Principal", {})
    services = _as_list(principal.get("Service", [])) if isinstance(principal, dict) else [_SERVICE]
    actions = {action.lower() for action in _as_list(statement.get("Action", []))}
    return statement.get("Effect") == "Allow" and _SERVICE in services and bool(actions & {"sts:assumerole", "sts:*"})


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
