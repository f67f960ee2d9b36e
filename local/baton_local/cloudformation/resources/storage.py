"""S3 buckets and DynamoDB tables."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from baton_local.cloudformation.resources.base import Ignoring, Job, Made, ResourceType, changed
from baton_local.cloudformation.shapes import UnsupportedProperty, boolean, fit_member, tag_dict, tag_list, text
from baton_local.regions import url_suffix


def _keep_case(value: Any) -> Any:
    return json.loads(json.dumps(value))


def _lifecycle_rule(rule: Mapping[str, Any]) -> dict[str, Any]:
    """Return a rule in the API's form: CloudFormation has its days beside the rule, the API in blocks."""
    known: dict[str, Callable[[Any], dict[str, Any]]] = {
        "Id": lambda v: {"ID": v},
        "Status": lambda v: {"Status": v},
        "AbortIncompleteMultipartUpload": lambda v: {
            "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": int(v["DaysAfterInitiation"])}
        },
        "NoncurrentVersionExpiration": lambda v: {
            "NoncurrentVersionExpiration": {k: int(n) for k, n in v.items()},
        },
        "NoncurrentVersionExpirationInDays": lambda v: {"NoncurrentVersionExpiration": {"NoncurrentDays": int(v)}},
        "ExpirationInDays": lambda v: {"Expiration": {"Days": int(v)}},
        "ExpirationDate": lambda v: {"Expiration": {"Date": v}},
        "ExpiredObjectDeleteMarker": lambda v: {"Expiration": {"ExpiredObjectDeleteMarker": boolean(v)}},
        "Transitions": lambda v: {"Transitions": [_transition(t) for t in v]},
        "Transition": lambda v: {"Transitions": [_transition(v)]},
        "NoncurrentVersionTransitions": lambda v: {
            "NoncurrentVersionTransitions": [
                {"NoncurrentDays": int(t["TransitionInDays"]), "StorageClass": t["StorageClass"]} for t in v
            ]
        },
    }
    result: dict[str, Any] = {"Filter": _lifecycle_filter(rule)}
    for name, value in rule.items():
        if name in ("Prefix", "TagFilters", "ObjectSizeGreaterThan", "ObjectSizeLessThan"):
            continue
        if name not in known:
            raise UnsupportedProperty(f"LifecycleConfiguration/Rules/{name}")
        result |= known[name](value)
    return result


def _transition(transition: Mapping[str, Any]) -> dict[str, Any]:
    when = (
        {"Days": int(transition["TransitionInDays"])}
        if "TransitionInDays" in transition
        else {"Date": transition["TransitionDate"]}
    )
    return {**when, "StorageClass": transition["StorageClass"]}


def _lifecycle_filter(rule: Mapping[str, Any]) -> dict[str, Any]:
    parts: dict[str, Any] = {"Prefix": str(rule["Prefix"])} if "Prefix" in rule else {}
    for size in ("ObjectSizeGreaterThan", "ObjectSizeLessThan"):
        if size in rule:
            parts[size] = int(rule[size])
    tags = [{"Key": t["Key"], "Value": t["Value"]} for t in rule.get("TagFilters") or []]
    if len(parts) + len(tags) > 1:
        return {"And": {**parts, **({"Tags": tags} if tags else {})}}
    if tags:
        return {"Tag": tags[0]}
    return parts or {"Prefix": ""}


def _encryption(value: Mapping[str, Any]) -> dict[str, Any]:
    rules = []
    for rule in value["ServerSideEncryptionConfiguration"]:
        default = dict(rule["ServerSideEncryptionByDefault"])
        if "KMSMasterKeyID" in default:
            default["KMSMasterKeyID"] = text(default["KMSMasterKeyID"])
        entry: dict[str, Any] = {"ApplyServerSideEncryptionByDefault": default}
        if "BucketKeyEnabled" in rule:
            entry["BucketKeyEnabled"] = boolean(rule["BucketKeyEnabled"])
        rules.append(entry)
    return {"Rules": rules}


_NOTIFICATION_LISTS = {
    "LambdaConfigurations": ("LambdaFunctionConfigurations", "Function", "LambdaFunctionArn"),
    "QueueConfigurations": ("QueueConfigurations", "Queue", "QueueArn"),
    "TopicConfigurations": ("TopicConfigurations", "Topic", "TopicArn"),
}


def _notifications(value: Mapping[str, Any]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for name, entries in value.items():
        if name == "EventBridgeConfiguration":
            if boolean(entries.get("EventBridgeEnabled", True)):
                result["EventBridgeConfiguration"] = {}
        elif name in _NOTIFICATION_LISTS:
            api, source, target = _NOTIFICATION_LISTS[name]
            result[api] = [_notification(e, source, target) for e in entries]
        else:
            raise UnsupportedProperty(f"NotificationConfiguration/{name}")
    return result


def _notification(entry: Mapping[str, Any], source: str, target: str) -> dict[str, Any]:
    result = {target: entry[source], "Events": [entry["Event"]]}
    if "Filter" in entry:
        rules = entry["Filter"]["S3Key"]["Rules"]
        result["Filter"] = {"Key": {"FilterRules": [{"Name": r["Name"], "Value": r["Value"]} for r in rules]}}
    return result


class Bucket(ResourceType):
    """AWS::S3::Bucket."""

    type = "AWS::S3::Bucket"
    properties = frozenset(
        {"BucketEncryption", "BucketName", "CorsConfiguration", "LifecycleConfiguration", "NotificationConfiguration"}
        | {"OwnershipControls", "PublicAccessBlockConfiguration", "Tags", "VersioningConfiguration"}
    )
    replace_on = frozenset({"BucketName"})
    named_by = "BucketName"

    def create(self, job: Job) -> Made:
        """Make the bucket, whose name nobody may have, and configure it."""
        s3, name = job.client("s3"), job.name("BucketName", 63).lower()
        with Ignoring("404"):
            s3.head_bucket(Bucket=name)
            raise ValueError(f"{name} already exists")
        place = {} if job.region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": job.region}}
        s3.create_bucket(Bucket=name, **place)
        made = Made(name, _bucket_attributes(job, name))
        try:
            self._configure(job, name, {})
        except Exception:
            s3.delete_bucket(Bucket=name)
            raise
        return made

    def update(self, job: Job, made: Made, old: Mapping[str, Any]) -> Made:
        """Configure the bucket anew."""
        self._configure(job, made.physical_id, old)
        return made

    def _configure(self, job: Job, name: str, old: Mapping[str, Any]) -> None:
        s3 = job.client("s3")
        self._versioning(job, name, old)
        if "BucketEncryption" in job.properties:
            s3.put_bucket_encryption(
                Bucket=name, ServerSideEncryptionConfiguration=_encryption(job.get("BucketEncryption"))
            )
        self._access(job, name, old)
        self._lifecycle(job, name, old)
        if changed(job, old, "NotificationConfiguration"):
            notifications = _notifications(job.get("NotificationConfiguration") or {})
            s3.put_bucket_notification_configuration(Bucket=name, NotificationConfiguration=notifications)
        if "CorsConfiguration" in job.properties:
            rules = [_cors(rule) for rule in job.get("CorsConfiguration")["CorsRules"]]
            s3.put_bucket_cors(Bucket=name, CORSConfiguration={"CORSRules": rules})
        if job.tags():
            s3.put_bucket_tagging(Bucket=name, Tagging={"TagSet": tag_list(job.tags())})
        elif tag_dict(old.get("Tags")):
            s3.delete_bucket_tagging(Bucket=name)

    def _versioning(self, job: Job, name: str, old: Mapping[str, Any]) -> None:
        wanted = (job.get("VersioningConfiguration") or {}).get("Status")
        had = (old.get("VersioningConfiguration") or {}).get("Status")
        if wanted or had:
            status = wanted or "Suspended"
            job.client("s3").put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": status})

    def _access(self, job: Job, name: str, old: Mapping[str, Any]) -> None:
        s3 = job.client("s3")
        if "PublicAccessBlockConfiguration" in job.properties:
            block = fit_member(
                s3, "PutPublicAccessBlock", "PublicAccessBlockConfiguration", job.get("PublicAccessBlockConfiguration")
            )
            s3.put_public_access_block(Bucket=name, PublicAccessBlockConfiguration=block)
        elif "PublicAccessBlockConfiguration" in old:
            s3.delete_public_access_block(Bucket=name)
        if "OwnershipControls" in job.properties:
            controls = _keep_case(job.get("OwnershipControls"))
            s3.put_bucket_ownership_controls(Bucket=name, OwnershipControls=controls)

    def _lifecycle(self, job: Job, name: str, old: Mapping[str, Any]) -> None:
        s3 = job.client("s3")
        if "LifecycleConfiguration" in job.properties:
            rules = [_lifecycle_rule(rule) for rule in job.get("LifecycleConfiguration")["Rules"]]
            s3.put_bucket_lifecycle_configuration(Bucket=name, LifecycleConfiguration={"Rules": rules})
        elif "LifecycleConfiguration" in old:
            s3.delete_bucket_lifecycle(Bucket=name)

    def delete(self, job: Job, made: Made) -> None:
        """Delete the bucket, which must be empty: of versions and delete markers too."""
        s3, name = job.client("s3"), made.physical_id
        with Ignoring("NoSuchBucket"):
            versions = s3.list_object_versions(Bucket=name, MaxKeys=1)
            if versions.get("Versions") or versions.get("DeleteMarkers"):
                raise ValueError(
                    "The bucket you tried to delete is not empty. You must delete all versions in the bucket. "
                    "(Service: S3, Status Code: 409)"
                )
            s3.delete_bucket(Bucket=name)


def _cors(rule: Mapping[str, Any]) -> dict[str, Any]:
    names = {"ExposedHeaders": "ExposeHeaders", "Id": "ID", "MaxAge": "MaxAgeSeconds"}
    return {names.get(k, k): int(v) if k == "MaxAge" else v for k, v in rule.items()}


def _bucket_attributes(job: Job, name: str) -> dict[str, str]:
    suffix = url_suffix(job.region)
    return {
        "Arn": f"arn:{job.partition}:s3:::{name}",
        "DomainName": f"{name}.s3.{suffix}",
        "DualStackDomainName": f"{name}.s3.dualstack.{job.region}.{suffix}",
        "RegionalDomainName": f"{name}.s3.{job.region}.{suffix}",
        "WebsiteURL": f"http://{name}.s3-website-{job.region}.{suffix}",
    }


class BucketPolicy(ResourceType):
    """AWS::S3::BucketPolicy."""

    type = "AWS::S3::BucketPolicy"
    properties = frozenset({"Bucket", "PolicyDocument"})
    required = properties
    replace_on = frozenset({"Bucket"})

    def create(self, job: Job) -> Made:
        """Put the policy."""
        job.client("s3").put_bucket_policy(Bucket=job.get("Bucket"), Policy=text(job.get("PolicyDocument")))
        return Made(str(job.get("Bucket")))

    def update(self, job: Job, made: Made, old: Mapping[str, Any]) -> Made:  # noqa: ARG002
        """Put it again."""
        self.create(job)
        return made

    def delete(self, job: Job, made: Made) -> None:
        """Delete the policy; the bucket may be gone."""
        with Ignoring("NoSuchBucket"):
            job.client("s3").delete_bucket_policy(Bucket=made.physical_id)


_TABLE_CREATION: tuple[str, ...] = (
    "AttributeDefinitions",
    "BillingMode",
    "DeletionProtectionEnabled",
    "GlobalSecondaryIndexes",
)
_TABLE_CREATION += ("KeySchema", "LocalSecondaryIndexes", "ProvisionedThroughput", "TableClass")


class Table(ResourceType):
    """AWS::DynamoDB::Table."""

    type = "AWS::DynamoDB::Table"
    properties = frozenset(
        {*_TABLE_CREATION, "PointInTimeRecoverySpecification", "SSESpecification", "StreamSpecification", "TableName"}
        | {"Tags", "TimeToLiveSpecification"}
    )
    required = frozenset({"KeySchema"})
    replace_on = frozenset({"KeySchema", "LocalSecondaryIndexes", "TableName"})
    named_by = "TableName"

    def create(self, job: Job) -> Made:
        """Make the table with its expiry and its backups."""
        client, name = job.client("dynamodb"), job.name("TableName", 255)
        arguments = job.fit(client, "CreateTable", *_TABLE_CREATION)
        arguments |= self._encryption(job) | self._stream(job)
        tags = {"Tags": tag_list(job.tags())} if job.tags() else {}
        table = client.create_table(TableName=name, **arguments, **tags)["TableDescription"]
        self._extras(job, name, {})
        return Made(name, {"Arn": table["TableArn"], "StreamArn": table.get("LatestStreamArn", "")})

    @staticmethod
    def _encryption(job: Job) -> dict[str, Any]:
        given = job.get("SSESpecification")
        if not given:
            return {}
        renamed = {("Enabled" if k == "SSEEnabled" else k): v for k, v in given.items()}
        return {"SSESpecification": fit_member(job.client("dynamodb"), "CreateTable", "SSESpecification", renamed)}

    @staticmethod
    def _stream(job: Job) -> dict[str, Any]:
        given = job.get("StreamSpecification")
        if not given:
            return {}
        return {"StreamSpecification": {"StreamEnabled": True, "StreamViewType": given["StreamViewType"]}}

    def _extras(self, job: Job, name: str, old: Mapping[str, Any]) -> None:
        client = job.client("dynamodb")
        if changed(job, old, "TimeToLiveSpecification"):
            given = job.get("TimeToLiveSpecification") or old["TimeToLiveSpecification"]
            enabled = "TimeToLiveSpecification" in job.properties and boolean(given.get("Enabled", True))
            client.update_time_to_live(
                TableName=name,
                TimeToLiveSpecification={"AttributeName": given["AttributeName"], "Enabled": enabled},
            )
        if changed(job, old, "PointInTimeRecoverySpecification"):
            given = job.get("PointInTimeRecoverySpecification") or {"PointInTimeRecoveryEnabled": False}
            wanted = fit_member(client, "UpdateContinuousBackups", "PointInTimeRecoverySpecification", given)
            client.update_continuous_backups(TableName=name, PointInTimeRecoverySpecification=wanted)

    def update(self, job: Job, made: Made, old: Mapping[str, Any]) -> Made:
        """Change billing, protection, stream, encryption, expiry, backups and tags; indexes cannot be changed here."""
        if changed(job, old, "GlobalSecondaryIndexes"):
            raise UnsupportedProperty("GlobalSecondaryIndexes (of a table that exists)")
        client, name = job.client("dynamodb"), made.physical_id
        settings = ("BillingMode", "DeletionProtectionEnabled", "ProvisionedThroughput", "TableClass")
        names = [n for n in settings if changed(job, old, n)]
        arguments = job.fit(client, "UpdateTable", *names)
        if changed(job, old, "SSESpecification"):
            arguments |= self._encryption(job)
        if changed(job, old, "StreamSpecification"):
            arguments |= self._stream(job) or {"StreamSpecification": {"StreamEnabled": False}}
        if arguments:
            client.update_table(TableName=name, **arguments)
        self._extras(job, name, old)
        if job.tags():
            client.tag_resource(ResourceArn=made.attributes["Arn"], Tags=tag_list(job.tags()))
        return made

    def delete(self, job: Job, made: Made) -> None:
        """Delete the table."""
        with Ignoring("ResourceNotFoundException"):
            job.client("dynamodb").delete_table(TableName=made.physical_id)


TYPES = (Bucket, BucketPolicy, Table)
