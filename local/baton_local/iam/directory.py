"""What the account's services know and decisions need: who has a key, which policies he has, which a resource has."""

from __future__ import annotations

import contextlib
import json
import weakref
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from werkzeug.exceptions import HTTPException

from baton_local.accounts import ADMINISTRATOR
from baton_local.iam.documents import Policy, parse
from baton_local.iam.evaluator import Caller
from baton_local.seams import register

_iam = register("moto.iam.models", "iam_backends")
_sts = register("moto.sts.models", "sts_backends")
_s3 = register("moto.s3.models", "s3_backends")
_sqs = register("moto.sqs.models", "sqs_backends")
_sns = register("moto.sns.models", "sns_backends")
_lambda = register("moto.awslambda.models", "lambda_backends")
_kms = register("moto.kms.models", "kms_backends")
_secrets = register("moto.secretsmanager.models", "secretsmanager_backends")
_dynamodb = register("moto.dynamodb.models", "dynamodb_backends")
_sagemaker = register("moto.sagemaker.models", "sagemaker_backends")
_stepfunctions = register("moto.stepfunctions.models", "stepfunctions_backends")
_managed = register("moto.iam.models", "AWSManagedPolicy.from_data", ("name", "account_id", "region_name", "data"))
_managed_text = register("moto.iam.aws_managed_policies", "aws_managed_policies_data", str)
_get_partition = register("moto.utilities.utils", "get_partition", ("region",))
_utcnow = register("moto.core.utils", "utcnow", ())


class BadCredentials(Exception):
    """A key that nobody has, or a token that is not its own or has expired (``expired``)."""

    def __init__(self, expired: bool = False) -> None:
        super().__init__("expired" if expired else "unknown")
        self.expired = expired


ADMIN = Caller(arn="administrator", account_id="")
"""The administrator: nothing is evaluated for him."""


def partition_of(region: str) -> str:
    """Return the partition that a region is in, such as ``aws-cn``."""
    return str(_get_partition(region or "us-east-1"))


class Directory:
    """The account's users, sessions, policies and tags, read from moto's backends when asked."""

    def __init__(self, account_id: str) -> None:
        self.account_id = account_id
        # Weak, so that a session which its holder has ended goes with moto's list.
        self._sessions: weakref.WeakValueDictionary[str, Any] = weakref.WeakValueDictionary()

    # --- who
    def caller(self, key_id: str, token: str, partition: str) -> Caller:
        """Return who has an access key: ADMIN, a role session or a user; raise BadCredentials if nobody does."""
        if key_id == ADMINISTRATOR.access_key_id:
            return ADMIN
        session = self._session(key_id)
        if session is not None:
            return self._session_caller(session, token)
        user = self._user_with(key_id, partition)
        if user is None or token:
            raise BadCredentials
        return Caller(arn=user.arn, account_id=self.account_id)

    def _session(self, key_id: str) -> Any:
        if key_id not in self._sessions:
            for partitions in list(_sts.values()):
                for backend in list(partitions.values()):
                    self._sessions.update({s.access_key_id: s for s in list(backend.assumed_roles)})
        return self._sessions.get(key_id)

    def partition_of_key(self, key_id: str) -> str:
        """Return the partition of a session by its key; ``aws`` for keys that are no session's."""
        session = self._session(key_id)
        return str(session.partition) if session is not None else "aws"

    def _session_caller(self, session: Any, token: str) -> Caller:
        if token != session.session_token:
            raise BadCredentials
        if session.expiration < _utcnow():
            raise BadCredentials(expired=True)
        return Caller(arn=session.arn, account_id=self.account_id, role_arn=session.role_arn)

    def _user_with(self, key_id: str, partition: str) -> Any:
        users = _iam[self.account_id][partition].users.values()
        return next((u for u in users if any(k.access_key_id == key_id for k in u.access_keys)), None)

    # --- what he may
    def role(self, role_arn: str) -> Any:
        """Return moto's role, or None if there is none with that ARN."""
        partition = role_arn.split(":")[1] if role_arn.count(":") >= 5 else "aws"
        roles = _iam[self.account_id][partition].roles.values()
        return next((r for r in roles if r.arn == role_arn), None)

    def identity_policies(self, caller: Caller) -> tuple[Policy, ...]:
        """Return the inline and the attached policies of a session's role or of a user (with his groups)."""
        holders = [self.role(caller.role_arn)] if caller.role_arn else self._user_and_groups(caller.arn)
        return tuple(p for holder in holders if holder is not None for p in _policies_of(holder))

    def _user_and_groups(self, user_arn: str) -> list[Any]:
        backend = _iam[self.account_id][user_arn.split(":")[1]]
        user = next((u for u in backend.users.values() if u.arn == user_arn), None)
        return [user, *backend.get_groups_for_user(user.name)] if user is not None else []

    def boundary(self, caller: Caller) -> Policy | None:
        """Return the permissions boundary of a session's role, if it has one."""
        role = self.role(caller.role_arn) if caller.role_arn else None
        arn = getattr(role, "permissions_boundary_arn", None)
        return self.managed_policy(arn) if arn else None

    def managed_policy(self, arn: str) -> Policy:
        """Return a managed policy's default version; one that does not exist allows nothing."""
        policy = _iam[self.account_id][arn.split(":")[1]].managed_policies.get(arn)
        return _managed_policy(policy) if policy is not None else Policy(arn, ())

    def session_policy(self, key_id: str) -> Policy | None:
        """Return the policy that AssumeRole was given for a session, if any."""
        session = self._sessions.get(key_id)
        text = getattr(session, "policy", None)
        return parse("session policy", text) if text else None

    # --- what a resource says
    def resource_policies(self, action: str, resource: str) -> tuple[Policy, ...]:
        """Return the policies that are attached to the resource itself."""
        parts = resource.split(":", 5)
        if len(parts) < 6:
            return ()
        with contextlib.suppress(LookupError, AttributeError, HTTPException):
            text = self._resource_policy(action, parts, resource)
            if text:
                return (parse(f"policy of {resource}", text),)
        return ()

    def _resource_policy(self, action: str, parts: list[str], arn: str) -> str | dict[str, Any] | None:
        partition, service, region, rest = parts[1], parts[2], parts[3], parts[5]
        if service == "s3":
            policy = _s3[self.account_id][partition].buckets[rest.partition("/")[0]].policy
            return policy.decode() if policy else None
        if service == "sqs":
            return _as_text(_sqs[self.account_id][region].queues[rest].policy)
        if service == "sns":
            return str(_sns[self.account_id][region].topics[arn].policy)
        if service == "lambda" and rest.startswith("function:"):
            return self._function_policy(region, rest)
        if service == "iam" and action.startswith("sts:") and rest.startswith("role/"):
            return _trust_policy(self.role(arn), arn)
        if service == "kms":
            return str(_kms[self.account_id][region].keys[rest.rpartition("/")[2]].policy)
        if service == "secretsmanager":
            return _secrets[self.account_id][region].secrets[arn].policy or None
        return None

    def _function_policy(self, region: str, rest: str) -> dict[str, Any] | None:
        name = rest.split(":")[1]
        function = _lambda[self.account_id][region].get_function(name)
        statements = list(function.policy.statements)
        return {"Version": "2012-10-17", "Statement": statements} if statements else None

    def trust_policy(self, role_arn: str) -> Policy | None:
        """Return a role's trust policy, or None if there is no such role."""
        role = self.role(role_arn)
        return parse(f"trust policy of {role_arn}", _trust_policy(role, role_arn)) if role is not None else None

    def key_for_roles(self, arn: str) -> str:
        """Return the KMS key that a caller needs permissions on for what is encrypted at an ARN, or "".

        Those that AWS manages let in the account's principals who may use the service, and so need none.
        """
        key = self.encryption_key(arn)
        region = key.split(":")[3] if key.startswith("arn:") else arn.split(":")[3]
        return "" if not key or self._is_managed_by_aws(key, region) else key

    def _is_managed_by_aws(self, key: str, region: str) -> bool:
        found = _kms[self.account_id][region].keys.get(key.rpartition("/")[2]) if region else None
        return "alias/aws/" in key or any(name.startswith("alias/aws/") for name in getattr(found, "aliases", ()))

    def encryption_key(self, arn: str) -> str:
        """Return the KMS key, by id, ARN or alias, of a queue, a topic, a table or (by default) a bucket, or ""."""
        _, partition, service, region, _, name = arn.split(":", 5)
        with contextlib.suppress(LookupError, AttributeError, HTTPException):
            if service == "s3":
                found = _s3[self.account_id][partition].buckets[name.partition("/")[0]].encryption or {}
                rule = found["Rule"]["ApplyServerSideEncryptionByDefault"]
                return str(rule.get("KMSMasterKeyID") or "")
            if service == "dynamodb":
                table = _dynamodb[self.account_id][region].tables[name.split("/")[1]]
                return str((table.sse_specification or {}).get("KMSMasterKeyId") or "")
            if service == "sqs":
                return str(_sqs[self.account_id][region].queues[name].kms_master_key_id or "")
            if service == "sns":
                return str(_sns[self.account_id][region].topics[arn].kms_master_key_id or "")
        return ""

    def key_arn(self, key: str, region: str) -> str:
        """Return the ARN of a KMS key that is given by id, ARN or alias; "" if there is none."""
        backend = _kms[self.account_id][region]
        name = key.rpartition("/")[2] if ":key/" in key else key
        if "alias/" in key:
            name = backend.get_key_id_from_alias("alias/" + key.partition("alias/")[2]) or ""
        return str(backend.keys[name].arn) if name in backend.keys else ""

    # --- condition keys
    def hash_key(self, table: str, region: str) -> str | None:
        """Return the partition key's name of a table, or None if there is no such table."""
        found = _dynamodb[self.account_id][region].tables.get(table.rpartition("/")[2])
        return str(found.hash_key_attr) if found is not None else None

    def principal_tags(self, caller: Caller) -> Mapping[str, str]:
        """Return the tags of a session's role."""
        role = self.role(caller.role_arn) if caller.role_arn else None
        return dict(_tags_of_role(role)) if role is not None else {}

    def resource_tags(self, resource: str) -> Mapping[str, str]:
        """Return the tags of an existing resource of a service whose tags decisions may look at; else {}."""
        parts = resource.split(":", 5)
        if len(parts) < 6:
            return {}
        if parts[2] == "iam":
            role = self.role(resource)
            return dict(_tags_of_role(role)) if role is not None else {}
        if parts[2] == "dynamodb":
            return self._table_tags(parts[3], resource)
        return self._tags_in_backends(parts[2], parts[3], resource)

    def _table_tags(self, region: str, resource: str) -> dict[str, str]:
        table = _dynamodb[self.account_id][region].tables.get(resource.split("/")[1])
        return {t["Key"]: t["Value"] for t in getattr(table, "tags", None) or []}

    def _tags_in_backends(self, service: str, region: str, resource: str) -> dict[str, str]:
        backends = {
            "sagemaker": _sagemaker,
            "lambda": _lambda,
            "sqs": _sqs,
            "sns": _sns,
            "states": _stepfunctions,
            "kms": _kms,
            "secretsmanager": _secrets,
        }
        if service not in backends:
            return {}
        for tagged in backends[service][self.account_id][region].iter_tagged_resources():
            if tagged.arn.lower() == resource.lower():
                return dict(tagged.tags)
        return {}

    # --- AWS's own policies
    def provide_managed_policy(self, arn: str) -> None:
        """Put an AWS-managed policy into the account, which moto would otherwise not know; unknown ones stay so."""
        _, partition, _, _, owner, rest = arn.split(":", 5)
        backend = _iam[self.account_id][partition]
        name = rest.rpartition("/")[2]
        data = _aws_managed().get(name)
        if owner != "aws" or arn in backend.managed_policies or data is None:
            return
        own = json.loads(json.dumps(data).replace("arn:aws:", f"arn:{partition}:"))
        # To moto a partition's name stands for a region of it.
        policy = _managed(name, self.account_id, partition, own)
        if policy.arn == arn:
            backend.managed_policies[arn] = policy

    def all_role_policies(self) -> dict[str, list[dict[str, Any]]]:
        """Return every role's policies as documents, by role ARN: what a replay of the log needs."""
        found: dict[str, list[dict[str, Any]]] = {}
        for backend in list(_iam[self.account_id].values()):
            for role in list(backend.roles.values()):
                found[role.arn] = [{"name": p.name, "document": json.loads(p.text)} for p in _policies_of(role)]
        return found


@cache
def _aws_managed() -> dict[str, Any]:
    data: dict[str, Any] = json.loads(_managed_text)
    return data


def _policies_of(holder: Any) -> Iterator[Policy]:
    for name, document in list(holder.policies.items()):
        yield parse(name, document)
    for policy in list(holder.managed_policies.values()):
        yield _managed_policy(policy)


def _managed_policy(policy: Any) -> Policy:
    default = next(v for v in policy.versions if v.is_default)
    return parse(policy.arn, default.document)


def _as_text(value: Any) -> str | None:
    if not value:
        return None
    return value if isinstance(value, str) else json.dumps(value)


def _trust_policy(role: Any, role_arn: str) -> str:
    """Return a role's trust policy as a resource policy: it names no resource, being the role's own."""
    if role is None:
        raise KeyError(role_arn)
    document = role.assume_role_policy_document
    return document if isinstance(document, str) else json.dumps(document)


def _tags_of_role(role: Any) -> Iterator[tuple[str, str]]:
    tags = role.tags or {}
    entries = tags.values() if isinstance(tags, dict) else tags
    for tag in entries:
        yield tag["Key"], tag["Value"]
