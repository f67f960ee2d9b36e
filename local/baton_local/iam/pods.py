"""Which role a pod gets: by an EKS Pod Identity association, or by a trust policy for its service account (IRSA)."""

from __future__ import annotations

import base64
import json
import threading
import uuid
from dataclasses import dataclass, replace
from typing import Any

from baton_local.accounts import role_credentials
from baton_local.context import ACCOUNT_ID
from baton_local.iam.directory import Directory
from baton_local.iam.evaluator import Caller, PolicySet, Question, decide
from baton_local.seams import register

_iam = register("moto.iam.models", "iam_backends")


@dataclass(frozen=True)
class Association:
    """One Pod Identity association; its ARN ends in ``cluster/id``."""

    id: str
    arn: str
    cluster: str
    namespace: str
    service_account: str
    role_arn: str
    region: str
    tags: tuple[tuple[str, str], ...] = ()


class AssociationExists(ValueError):
    """The service account already has an association in its cluster."""


class Associations:
    """The account's Pod Identity associations: at most one for a cluster, namespace and service account."""

    def __init__(self) -> None:
        self._by_id: dict[str, Association] = {}
        self._lock = threading.Lock()

    def create(self, place: str, region: str, cluster: str, namespace: str, account: str, role_arn: str) -> Association:
        """Make an association (``place``: partition and account as ``arn:aws:eks:region:account``)."""
        identity = f"a-{uuid.uuid4().hex[:17]}"
        arn = f"{place}:podidentityassociation/{cluster}/{identity}"
        made = Association(identity, arn, cluster, namespace, account, role_arn, region)
        with self._lock:
            if any(self._key(a) == self._key(made) for a in self._by_id.values()):
                raise AssociationExists(f"Association already exists: {namespace}/{account} in {cluster}")
            self._by_id[identity] = made
        return made

    @staticmethod
    def _key(association: Association) -> tuple[str, str, str, str]:
        return association.region, association.cluster, association.namespace, association.service_account

    def get(self, identity: str) -> Association | None:
        """Return an association by its id."""
        return self._by_id.get(identity)

    def update(self, identity: str, **changes: Any) -> Association:
        """Change the role or the tags of an association; raise KeyError if there is none."""
        with self._lock:
            self._by_id[identity] = replace(self._by_id[identity], **changes)
            return self._by_id[identity]

    def delete(self, identity: str) -> Association:
        """Remove an association; raise KeyError if there is none."""
        with self._lock:
            return self._by_id.pop(identity)

    def all(self) -> list[Association]:
        """Return every association."""
        with self._lock:
            return list(self._by_id.values())


def token_claims(token: str) -> dict[str, str]:
    """Return ``sub`` and ``aud`` of a JSON web token (its signature is not checked); {} for anything else."""
    parts = token.split(".")
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (IndexError, ValueError):
        return {}
    audience = claims.get("aud", "")
    first = audience[0] if isinstance(audience, list) and audience else audience
    return {"sub": str(claims.get("sub", "")), "aud": str(first)}


ASSOCIATIONS = Associations()
"""The associations of this process's embedded cloud."""


def _irsa_role(namespace: str, service_account: str, directory: Directory) -> Any:
    """Return the role whose trust policy lets the service account assume it with a web identity, or None."""
    for partitions in list(_iam.values()):
        for backend in list(partitions.values()):
            for role in list(backend.roles.values()):
                if web_identity_trusted(directory, role.arn, f"system:serviceaccount:{namespace}:{service_account}"):
                    return role
    return None


AUDIENCE = "sts.amazonaws.com"
"""The audience with which EKS's webhook lets tokens be made, in the China regions too.

https://github.com/aws/amazon-eks-pod-identity-webhook#amazon-eks-pod-identity-webhook
"""


def web_identity_trusted(directory: Directory, role_arn: str, subject: str, audience: str = AUDIENCE) -> bool:
    """Return whether a role's trust policy accepts a Kubernetes token with this subject from the issuer it names."""
    trust = directory.trust_policy(role_arn)
    for statement in trust.statements if trust else ():
        for provider in statement.principals.values("Federated") if statement.principals else ():
            issuer = provider.partition(":oidc-provider/")[2]
            if not issuer or not statement.conditions:
                continue
            if _accepts(trust, role_arn, provider, issuer, subject, audience):
                return True
    return False


def _accepts(trust: Any, role_arn: str, provider: str, issuer: str, subject: str, audience: str) -> bool:
    caller = Caller(arn=provider, account_id=ACCOUNT_ID, federated=provider)
    keys = {f"{issuer}:sub": subject, f"{issuer}:aud": audience}
    question = Question("sts:AssumeRoleWithWebIdentity", role_arn, keys)
    return bool(decide(caller, question, PolicySet(resource=(trust,))))


SERVICE = "pods.eks.amazonaws.com"
"""Who assumes a role for pods with an association; in every partition."""


def _session_keys(association: Association) -> dict[str, str | list[str]]:
    """Return the condition keys of the request with which EKS assumes an association's role, its tags among them.

    https://docs.aws.amazon.com/eks/latest/userguide/pod-id-abac.html#pod-id-abac-tags
    """
    cluster = f"{association.arn.partition(':podidentityassociation/')[0]}:cluster/{association.cluster}"
    tags = {
        "eks-cluster-arn": cluster,
        "eks-cluster-name": association.cluster,
        "kubernetes-namespace": association.namespace,
        "kubernetes-service-account": association.service_account,
    }
    keys: dict[str, str | list[str]] = {f"aws:RequestTag/{name}": value for name, value in tags.items()}
    return keys | {"aws:TagKeys": list(tags), "aws:SourceArn": cluster, "aws:SourceAccount": ACCOUNT_ID}


def association_trusted(directory: Directory, association: Association) -> bool:
    """Return whether the trust policy of an association's role lets EKS assume it for that association, with tags."""
    trust = directory.trust_policy(association.role_arn)
    if trust is None:
        return False
    caller, keys = Caller(arn=SERVICE, account_id=ACCOUNT_ID, service=SERVICE), _session_keys(association)
    asked = [Question(action, association.role_arn, keys) for action in ("sts:AssumeRole", "sts:TagSession")]
    return all(decide(caller, question, PolicySet(resource=(trust,))) for question in asked)


def pod_role(namespace: str, service_account: str) -> tuple[str, str] | None:
    """Return (role ARN, region or "") that a service account's pods get, or None.

    An association comes first, as the SDKs' credential chain has it when a pod has both; with one whose role does not
    trust it, the pods get nothing.
    """
    directory = Directory(ACCOUNT_ID)
    for association in ASSOCIATIONS.all():
        if (association.namespace, association.service_account) == (namespace, service_account):
            trusted = association_trusted(directory, association)
            return (association.role_arn, association.region) if trusted else None
    role = _irsa_role(namespace, service_account, directory)
    return (role.arn, "") if role is not None else None


def pod_credentials(namespace: str, service_account: str, region: str = "") -> dict[str, str] | None:
    """Return the environment that gives a pod its role's credentials, or None if its service account has no role."""
    found = pod_role(namespace, service_account)
    if found is None:
        return None
    role_arn, own_region = found
    partition_region = {"aws-cn": "cn-northwest-1"}.get(role_arn.split(":")[1], "us-east-1")
    region = region or own_region or partition_region
    credentials = role_credentials(role_arn, region, f"eks-{namespace}-{service_account}")
    return {**credentials.environment(), "AWS_REGION": region, "AWS_DEFAULT_REGION": region}
