"""IAM roles and policies, KMS keys, and Pod Identity associations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from baton_local.cloudformation.resources.base import Ignoring, Job, Made, ResourceType, changed
from baton_local.cloudformation.shapes import tag_list, text

_GONE = ("NoSuchEntity", "NotFoundException")


def _sync_tags(tag: Any, untag: Any, new: Mapping[str, str], old: Mapping[str, str]) -> None:
    if new != old and new:
        tag(tag_list(new))
    gone = sorted(set(old) - set(new))
    if gone:
        untag(gone)


class Role(ResourceType):
    """AWS::IAM::Role."""

    type = "AWS::IAM::Role"
    properties = frozenset(
        {
            "AssumeRolePolicyDocument",
            "Description",
            "ManagedPolicyArns",
            "MaxSessionDuration",
            "Path",
            "PermissionsBoundary",
            "Policies",
            "RoleName",
            "Tags",
        }
    )
    required = frozenset({"AssumeRolePolicyDocument"})
    replace_on = frozenset({"RoleName", "Path"})
    named_by = "RoleName"

    def create(self, job: Job) -> Made:
        """Make the role, attach its managed policies, put its own ones."""
        iam = job.client("iam")
        name = job.name("RoleName")
        arguments = job.fit(
            iam,
            "CreateRole",
            "AssumeRolePolicyDocument",
            "Description",
            "MaxSessionDuration",
            "Path",
            "PermissionsBoundary",
        )
        role = iam.create_role(RoleName=name, Tags=tag_list(job.tags()), **arguments)["Role"]
        made = Made(name, {"Arn": role["Arn"], "RoleId": role["RoleId"]})
        try:
            self._policies(job, name, {})
        except Exception:
            self.delete(job, made)
            raise
        return made

    def _policies(self, job: Job, name: str, old: Mapping[str, Any]) -> None:
        iam = job.client("iam")
        attached, before = list(job.get("ManagedPolicyArns") or []), list(old.get("ManagedPolicyArns") or [])
        for arn in [a for a in attached if a not in before]:
            iam.attach_role_policy(RoleName=name, PolicyArn=arn)
        for arn in [a for a in before if a not in attached]:
            iam.detach_role_policy(RoleName=name, PolicyArn=arn)
        own = {p["PolicyName"]: p["PolicyDocument"] for p in job.get("Policies") or []}
        for policy, document in own.items():
            iam.put_role_policy(RoleName=name, PolicyName=policy, PolicyDocument=text(document))
        for policy in {p["PolicyName"] for p in old.get("Policies") or []} - set(own):
            iam.delete_role_policy(RoleName=name, PolicyName=policy)

    def update(self, job: Job, made: Made, old: Mapping[str, Any]) -> Made:
        """Change trust, policies, description, session length, boundary and tags."""
        iam, name = job.client("iam"), made.physical_id
        if changed(job, old, "AssumeRolePolicyDocument"):
            iam.update_assume_role_policy(RoleName=name, PolicyDocument=text(job.get("AssumeRolePolicyDocument")))
        if changed(job, old, "Description", "MaxSessionDuration"):
            limits = job.fit(iam, "UpdateRole", "MaxSessionDuration")
            iam.update_role(RoleName=name, Description=text(job.get("Description", "")), **limits)
        if changed(job, old, "PermissionsBoundary"):
            self._boundary(job, name)
        self._policies(job, name, old)
        _sync_tags(
            lambda tags: iam.tag_role(RoleName=name, Tags=tags),
            lambda keys: iam.untag_role(RoleName=name, TagKeys=keys),
            job.tags(),
            _old_tags(job, old),
        )
        return made

    def _boundary(self, job: Job, name: str) -> None:
        iam = job.client("iam")
        if job.get("PermissionsBoundary"):
            iam.put_role_permissions_boundary(RoleName=name, PermissionsBoundary=job.get("PermissionsBoundary"))
        else:
            iam.delete_role_permissions_boundary(RoleName=name)

    def delete(self, job: Job, made: Made) -> None:
        """Delete the role with its own policies; policies attached by others make it fail, as on AWS."""
        iam, name = job.client("iam"), made.physical_id
        with Ignoring(*_GONE):
            for arn in job.get("ManagedPolicyArns") or []:
                with Ignoring(*_GONE):
                    iam.detach_role_policy(RoleName=name, PolicyArn=arn)
            for policy in iam.list_role_policies(RoleName=name)["PolicyNames"]:
                iam.delete_role_policy(RoleName=name, PolicyName=policy)
            iam.delete_role(RoleName=name)


def _old_tags(job: Job, old: Mapping[str, Any]) -> dict[str, str]:
    return {**job.stack_tags, **{t["Key"]: text(t["Value"]) for t in old.get("Tags") or []}}


class ManagedPolicy(ResourceType):
    """AWS::IAM::ManagedPolicy."""

    type = "AWS::IAM::ManagedPolicy"
    properties = frozenset({"Description", "ManagedPolicyName", "Path", "PolicyDocument", "Roles"})
    required = frozenset({"PolicyDocument"})
    replace_on = frozenset({"Description", "ManagedPolicyName", "Path"})
    named_by = "ManagedPolicyName"

    def create(self, job: Job) -> Made:
        """Make the policy and attach it to its roles."""
        iam = job.client("iam")
        arguments = job.fit(iam, "CreatePolicy", "Description", "Path", "PolicyDocument")
        arn = iam.create_policy(PolicyName=job.name("ManagedPolicyName", 128), **arguments)["Policy"]["Arn"]
        for role in job.get("Roles") or []:
            iam.attach_role_policy(RoleName=role, PolicyArn=arn)
        return Made(arn, {"PolicyArn": arn})

    def update(self, job: Job, made: Made, old: Mapping[str, Any]) -> Made:
        """Make a new default version and delete the old one; attach and detach roles."""
        iam, arn = job.client("iam"), made.physical_id
        if changed(job, old, "PolicyDocument"):
            versions = iam.list_policy_versions(PolicyArn=arn)["Versions"]
            document = text(job.get("PolicyDocument"))
            iam.create_policy_version(PolicyArn=arn, PolicyDocument=document, SetAsDefault=True)
            for version in versions:
                iam.delete_policy_version(PolicyArn=arn, VersionId=version["VersionId"])
        roles, before = set(job.get("Roles") or []), set(old.get("Roles") or [])
        for role in sorted(roles - before):
            iam.attach_role_policy(RoleName=role, PolicyArn=arn)
        for role in sorted(before - roles):
            iam.detach_role_policy(RoleName=role, PolicyArn=arn)
        return made

    def delete(self, job: Job, made: Made) -> None:
        """Detach the policy from its roles and delete it."""
        iam = job.client("iam")
        with Ignoring(*_GONE):
            for role in job.get("Roles") or []:
                with Ignoring(*_GONE):
                    iam.detach_role_policy(RoleName=role, PolicyArn=made.physical_id)
            for version in iam.list_policy_versions(PolicyArn=made.physical_id)["Versions"]:
                if not version["IsDefaultVersion"]:
                    iam.delete_policy_version(PolicyArn=made.physical_id, VersionId=version["VersionId"])
            iam.delete_policy(PolicyArn=made.physical_id)


class Policy(ResourceType):
    """AWS::IAM::Policy: an inline policy of roles."""

    type = "AWS::IAM::Policy"
    properties = frozenset({"PolicyDocument", "PolicyName", "Roles"})
    required = frozenset({"PolicyDocument", "PolicyName", "Roles"})
    replace_on = frozenset({"PolicyName"})

    def create(self, job: Job) -> Made:
        """Put the policy into each of its roles."""
        for role in job.get("Roles"):
            job.client("iam").put_role_policy(
                RoleName=role, PolicyName=job.get("PolicyName"), PolicyDocument=text(job.get("PolicyDocument"))
            )
        return Made(job.name("", 128))

    def update(self, job: Job, made: Made, old: Mapping[str, Any]) -> Made:
        """Put it again, and take it from the roles that are not named any more."""
        self.create(job)
        self._remove(job, set(old.get("Roles") or []) - set(job.get("Roles")))
        return made

    def _remove(self, job: Job, roles: set[str]) -> None:
        for role in sorted(roles):
            with Ignoring(*_GONE):
                job.client("iam").delete_role_policy(RoleName=role, PolicyName=job.get("PolicyName"))

    def delete(self, job: Job, made: Made) -> None:  # noqa: ARG002
        """Take the policy from its roles."""
        self._remove(job, set(job.get("Roles") or []))


class Key(ResourceType):
    """AWS::KMS::Key."""

    type = "AWS::KMS::Key"
    properties = frozenset(
        {
            "BypassPolicyLockoutSafetyCheck",
            "Description",
            "Enabled",
            "EnableKeyRotation",
            "KeyPolicy",
            "KeySpec",
            "KeyUsage",
            "MultiRegion",
            "PendingWindowInDays",
            "RotationPeriodInDays",
            "Tags",
        }
    )
    replace_on = frozenset({"KeySpec", "KeyUsage", "MultiRegion"})

    def create(self, job: Job) -> Made:
        """Make the key with its policy and rotation."""
        kms = job.client("kms")
        policy = {"Policy": text(job.get("KeyPolicy"))} if job.get("KeyPolicy") else {}
        arguments = job.fit(kms, "CreateKey", "Description", "KeySpec", "KeyUsage", "MultiRegion", **policy)
        key = kms.create_key(Tags=tag_list(job.tags(), "TagKey", "TagValue"), **arguments)["KeyMetadata"]
        self._rotation(job, key["KeyId"])
        return Made(key["KeyId"], {"Arn": key["Arn"], "KeyId": key["KeyId"]})

    def _rotation(self, job: Job, key_id: str) -> None:
        kms = job.client("kms")
        if str(job.get("EnableKeyRotation", "false")).lower() == "true":
            kms.enable_key_rotation(KeyId=key_id)
        if str(job.get("Enabled", "true")).lower() == "false":
            kms.disable_key(KeyId=key_id)

    def update(self, job: Job, made: Made, old: Mapping[str, Any]) -> Made:
        """Change policy, description, rotation and tags."""
        kms, key_id = job.client("kms"), made.physical_id
        if changed(job, old, "KeyPolicy") and job.get("KeyPolicy"):
            kms.put_key_policy(KeyId=key_id, PolicyName="default", Policy=text(job.get("KeyPolicy")))
        if changed(job, old, "Description"):
            kms.update_key_description(KeyId=key_id, Description=text(job.get("Description", "")))
        if changed(job, old, "EnableKeyRotation") and str(job.get("EnableKeyRotation", "false")).lower() == "false":
            kms.disable_key_rotation(KeyId=key_id)
        if changed(job, old, "Enabled") and str(job.get("Enabled", "true")).lower() == "true":
            kms.enable_key(KeyId=key_id)
        self._rotation(job, key_id)
        if job.tags():
            kms.tag_resource(KeyId=key_id, Tags=tag_list(job.tags(), "TagKey", "TagValue"))
        return made

    def delete(self, job: Job, made: Made) -> None:
        """Schedule the key's deletion, which is all that KMS ever does."""
        days = int(job.get("PendingWindowInDays") or 30)
        with Ignoring("NotFoundException", "KMSInvalidStateException"):
            job.client("kms").schedule_key_deletion(KeyId=made.physical_id, PendingWindowInDays=days)


class KeyAlias(ResourceType):
    """AWS::KMS::Alias."""

    type = "AWS::KMS::Alias"
    properties = frozenset({"AliasName", "TargetKeyId"})
    required = properties
    replace_on = frozenset({"AliasName"})

    def create(self, job: Job) -> Made:
        """Make the alias."""
        job.client("kms").create_alias(AliasName=job.get("AliasName"), TargetKeyId=job.get("TargetKeyId"))
        return Made(job.get("AliasName"))

    def update(self, job: Job, made: Made, old: Mapping[str, Any]) -> Made:  # noqa: ARG002
        """Point the alias to another key."""
        job.client("kms").update_alias(AliasName=made.physical_id, TargetKeyId=job.get("TargetKeyId"))
        return made

    def delete(self, job: Job, made: Made) -> None:
        """Delete the alias."""
        with Ignoring("NotFoundException"):
            job.client("kms").delete_alias(AliasName=made.physical_id)


class PodIdentityAssociation(ResourceType):
    """AWS::EKS::PodIdentityAssociation."""

    type = "AWS::EKS::PodIdentityAssociation"
    properties = frozenset({"ClusterName", "Namespace", "RoleArn", "ServiceAccount", "Tags"})
    required = frozenset({"ClusterName", "Namespace", "RoleArn", "ServiceAccount"})
    replace_on = frozenset({"ClusterName", "Namespace", "ServiceAccount"})

    def create(self, job: Job) -> Made:
        """Associate the service account with the role."""
        eks = job.client("eks")
        arguments = job.fit(
            eks,
            "CreatePodIdentityAssociation",
            "ClusterName",
            "Namespace",
            "RoleArn",
            "ServiceAccount",
            tags=job.tags(),
        )
        made = eks.create_pod_identity_association(**arguments)["association"]
        attributes = {"AssociationArn": made["associationArn"], "AssociationId": made["associationId"]}
        return Made(made["associationArn"], attributes)

    def update(self, job: Job, made: Made, old: Mapping[str, Any]) -> Made:  # noqa: ARG002
        """Change the role."""
        job.client("eks").update_pod_identity_association(
            clusterName=job.get("ClusterName"),
            associationId=made.attributes["AssociationId"],
            roleArn=job.get("RoleArn"),
        )
        return made

    def delete(self, job: Job, made: Made) -> None:
        """Delete the association."""
        with Ignoring("ResourceNotFoundException"):
            job.client("eks").delete_pod_identity_association(
                clusterName=job.get("ClusterName"), associationId=made.attributes["AssociationId"]
            )


TYPES = (Role, ManagedPolicy, Policy, Key, KeyAlias, PodIdentityAssociation)
