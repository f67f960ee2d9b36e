"""IAM, enforced: every call with a role's credentials is evaluated against its policies.

``install`` and ``middleware`` are for the server; ``service_may`` is for what delivers in process (EventBridge, S3
notifications), ``role_may`` for what looks at a role before it takes it; ``pod_credentials`` for what runs pods.
"""

from __future__ import annotations

import json
from typing import Any

from baton_local.context import CloudContext
from baton_local.iam import log_keys
from baton_local.iam.directory import Directory
from baton_local.iam.documents import CURRENT_VERSION
from baton_local.iam.evaluator import Decision
from baton_local.iam.gate import Gate, Middleware, WsgiApplication
from baton_local.iam.log import DecisionLog
from baton_local.iam.pods import pod_credentials
from baton_local.seams import register, replace

_gates: list[Gate] = []


def install(context: CloudContext) -> None:
    """Make the gate, and take moto's own weaker check out of the way."""
    neutral = register("moto.iam.access_control", "PermissionResult").NEUTRAL

    def get_permission(_bucket: object, _action: str, _resource: str) -> object:
        return neutral

    replace("moto.s3.models", "FakeBucket.get_permission", get_permission, ("self", "action", "resource"))
    _accept_old_inline_policies()
    _gates[:] = [Gate(Directory(context.account_id), DecisionLog(), context.enforce_iam)]
    log_keys.install(gate().logs_may_use_key)


def _accept_old_inline_policies() -> None:
    """Take an inline policy of a role without Version, as SAM makes them: only managed policies must have it."""

    def put_role_policy(backend: Any, role_name: str, policy_name: str, policy_json: str) -> None:
        document = json.loads(policy_json)
        if "Version" in document:
            original(backend, role_name, policy_name, policy_json)
            return
        original(backend, role_name, policy_name, json.dumps({"Version": CURRENT_VERSION, **document}))
        backend.get_role(role_name).policies[policy_name] = policy_json

    expects = ("self", "role_name", "policy_name", "policy_json")
    original = replace("moto.iam.models", "IAMBackend.put_role_policy", put_role_policy, expects)


def middleware(application: WsgiApplication) -> WsgiApplication:
    """Put the gate in front of an application."""
    return Middleware(gate(), application)


def gate() -> Gate:
    """Return the gate of this process's embedded cloud; raise RuntimeError before ``install``."""
    if not _gates:
        raise RuntimeError("baton_local.iam is not installed")
    return _gates[0]


def service_may(service: str, action: str, resource: str, source_arn: str) -> Decision:
    """Decide whether an AWS service may act on a resource for a source, by the resource's own policy.

    ``service``: its principal, such as ``events.amazonaws.com``; ``source_arn``: the rule, bucket or topic.
    """
    return gate().service_may(service, action, resource, source_arn)


def role_may(role_arn: str, action: str, resource: str) -> Decision:
    """Decide whether a role may act on a resource; everything is allowed where IAM is not among the services."""
    return gate().role_may(role_arn, action, resource) if _gates else Decision(True, by="nothing is enforced")


__all__ = ["Decision", "gate", "install", "middleware", "pod_credentials", "role_may", "service_may"]
