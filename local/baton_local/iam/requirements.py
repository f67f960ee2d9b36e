"""What a call must be allowed: one question for each action, resource and set of condition keys that AWS checks."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from baton_local.iam.calls import Call
from baton_local.iam.evaluator import Question
from baton_local.iam.names import TAG_ACTIONS, action_name, action_prefix
from baton_local.iam.passing import passed_roles
from baton_local.iam.resources import ANY, Place, resource_types, resources_of

Keys = dict[str, str | list[str]]
HashKey = Callable[[str], str | None]
"""The name of a table's partition key, by the table's name; None for a table that does not exist."""

UNCHECKED = frozenset({"sts:GetCallerIdentity", "sts:GetSessionToken"})
"""Actions that need no permission, even against an explicit Deny.

https://docs.aws.amazon.com/STS/latest/APIReference/API_GetCallerIdentity.html
"""


def request_tags(call: Call) -> dict[str, str]:
    """Return the tags that a call gives to what it creates or tags, in whichever form its API has them."""
    if call.service == "s3":
        return {}
    for name in ("Tags", "tags"):
        tags = call.params.get(name)
        if isinstance(tags, dict):
            return {str(k): str(v) for k, v in tags.items()}
        if isinstance(tags, list):
            return {str(_of(t, "key")): str(_of(t, "value")) for t in tags if isinstance(t, dict)}
    return {}


def _of(tag: Mapping[str, Any], what: str) -> Any:
    lowered = {k.lower(): v for k, v in tag.items()}
    return lowered.get(what, lowered.get(f"tag{what}", ""))


def _tag_keys(call: Call) -> Keys:
    tags = request_tags(call)
    names = list(tags) or [str(k) for k in call.params.get("TagKeys") or call.params.get("tagKeys") or []]
    keys: Keys = {f"aws:RequestTag/{k}": v for k, v in tags.items()}
    if names:
        keys["aws:TagKeys"] = names
    return keys


_S3_HEADERS = ("x-amz-acl", "x-amz-server-side-encryption", "x-amz-server-side-encryption-aws-kms-key-id")


def _s3_keys(call: Call) -> Keys:
    keys: Keys = {"s3:TlsVersion": "1.3", "s3:authType": "REST-HEADER", "s3:signatureversion": "AWS4-HMAC-SHA256"}
    for parameter, key in (("Prefix", "s3:prefix"), ("Delimiter", "s3:delimiter"), ("MaxKeys", "s3:max-keys")):
        if parameter in call.params:
            keys[key] = str(call.params[parameter])
    if "VersionId" in call.params:
        keys["s3:versionid"] = str(call.params["VersionId"])
    return keys | {f"s3:{h}": call.headers[h] for h in _S3_HEADERS if h in call.headers}


def _sagemaker_keys(call: Call) -> Keys:
    def instance_types(value: Any) -> Iterator[str]:
        if isinstance(value, dict):
            for name, inner in value.items():
                if name == "InstanceType" and isinstance(inner, str):
                    yield inner
                else:
                    yield from instance_types(inner)
        elif isinstance(value, list):
            for inner in value:
                yield from instance_types(inner)

    types = sorted(set(instance_types(dict(call.params))))
    return {"sagemaker:InstanceTypes": types} if types else {}


def _first(call: Call, *names: str) -> str | None:
    return next((str(call.params[n]) for n in names if call.params.get(n)), None)


_SIMPLE_KEYS: dict[str, dict[str, str]] = {
    "cloudwatch": {"Namespace": "cloudwatch:namespace"},
    "sns": {"Protocol": "sns:Protocol", "Endpoint": "sns:Endpoint"},
    "lambda": {"FunctionName": "lambda:FunctionArn", "Principal": "lambda:Principal"},
    "iam": {"PolicyArn": "iam:PolicyARN", "PermissionsBoundary": "iam:PermissionsBoundary"},
    "sts": {"ExternalId": "sts:ExternalId", "RoleSessionName": "sts:RoleSessionName"},
    "cloudformation": {"RoleARN": "cloudformation:RoleArn", "ChangeSetName": "cloudformation:ChangeSetName"},
    "secretsmanager": {"SecretId": "secretsmanager:SecretId"},
}
"""Parameters that are condition keys as they are, by the actions' prefix."""


def _service_keys(call: Call) -> Keys:
    prefix = action_prefix(call.service)
    keys: Keys = {
        key: str(call.params[name]) for name, key in _SIMPLE_KEYS.get(prefix, {}).items() if name in call.params
    }
    if prefix == "s3":
        keys |= _s3_keys(call)
    elif prefix == "sagemaker":
        keys |= _sagemaker_keys(call)
    return keys


def _leading_keys(call: Call, hash_key: HashKey) -> Keys:
    """Return the partition key values that a DynamoDB call names, as ``dynamodb:LeadingKeys``."""
    name = hash_key(str(call.params.get("TableName", "")))
    if not name:
        return {}
    values = [_plain(call.params[part][name]) for part in ("Key", "Item") if name in (call.params.get(part) or {})]
    values += _queried(call, name)
    return {"dynamodb:LeadingKeys": values} if values else {}


def _plain(attribute: Any) -> str:
    return str(next(iter(attribute.values()))) if isinstance(attribute, dict) and attribute else str(attribute)


def _queried(call: Call, hash_key: str) -> list[str]:
    expression = str(call.params.get("KeyConditionExpression", ""))
    names = call.params.get("ExpressionAttributeNames") or {}
    values = call.params.get("ExpressionAttributeValues") or {}
    found = re.findall(r"(#?\w+)\s*=\s*(:\w+)", expression)
    return [_plain(values[v]) for n, v in found if names.get(n, n) == hash_key and v in values]


def _s3_questions(call: Call, place: Place, keys: Keys) -> Iterator[Question]:
    if call.operation == "DeleteObjects":
        for entry in call.params.get("Objects", []):
            yield from _one(replace(call, operation="DeleteObject", params={**call.params, **entry}), place, keys)
        return
    yield from _one(call, place, keys)
    if "CopySource" in call.params:
        yield from _copy_source(call, place, keys)
    if call.headers.get("x-amz-tagging"):
        yield from (replace(q, action="s3:PutObjectTagging") for q in _one(call, place, keys))


def _copy_source(call: Call, place: Place, keys: Keys) -> Iterator[Question]:
    source, _, version = str(call.params["CopySource"]).partition("?versionId=")
    bucket, _, key = source.partition("/")
    params = {"Bucket": bucket, "Key": key} | ({"VersionId": version} if version else {})
    yield from _one(replace(call, operation="GetObject", params=params), place, keys)


_TRANSACTED = {
    "Put": "PutItem",
    "Update": "UpdateItem",
    "Delete": "DeleteItem",
    "ConditionCheck": "ConditionCheckItem",
    "Get": "GetItem",
}


def _dynamodb_questions(call: Call, place: Place, keys: Keys, hash_key: HashKey) -> Iterator[Question]:
    if "TransactItems" not in call.params:
        yield from _one(call, place, keys | _leading_keys(call, hash_key))
        return
    for item in call.params["TransactItems"]:
        for kind, params in item.items():
            one = replace(call, operation=_TRANSACTED[kind], params=params)
            enclosing: Keys = {"dynamodb:EnclosingOperation": call.operation}
            yield from _one(one, place, keys | enclosing | _leading_keys(one, hash_key))


def _event_questions(call: Call, place: Place, keys: Keys) -> Iterator[Question]:
    for entry in call.params.get("Entries") or [{}]:
        one = replace(call, params={**call.params, "EventBusName": entry.get("EventBusName") or "default"})
        extra: Keys = {
            "events:source": str(entry.get("Source", "")),
            "events:detail-type": str(entry.get("DetailType", "")),
        }
        yield from _one(one, place, keys | extra)


def _one(call: Call, place: Place, keys: Mapping[str, str | list[str]]) -> Iterator[Question]:
    action = action_name(call.service, call.operation, versioned="VersionId" in call.params)
    for resource in resources_of(call, action, place):
        yield Question(action, resource, dict(keys))


def _tagging_action(call: Call) -> str | None:
    prefix = action_prefix(call.service)
    if not call.operation.startswith(("Create", "Put", "Start", "Publish")) or not request_tags(call):
        return None
    if prefix == "iam":
        return f"iam:Tag{call.operation.removeprefix('Create')}"
    name = TAG_ACTIONS.get(prefix)
    return f"{prefix}:{name}" if name else None


def _dependent(call: Call, place: Place, keys: Keys) -> Iterator[Question]:
    """What else AWS checks: tags given at creation, roles handed to a service."""
    tagging = _tagging_action(call)
    action = action_name(call.service, call.operation)
    if tagging:
        own = [r for r in resources_of(call, action, place) if _is_of_call(r, call)] or [ANY]
        extra: Keys = {"sagemaker:TaggingAction": call.operation} if call.service == "sagemaker" else {}
        yield from (Question(tagging, resource, keys | extra) for resource in own[:1])
    for passed in passed_roles(call):
        yield Question("iam:PassRole", passed.role_arn, {"iam:PassedToService": passed.service})


def _is_of_call(resource: str, call: Call) -> bool:
    """An endpoint's creation also names its configuration: the tags are only for what the operation creates."""
    kind = re.sub(r"(?<!^)(?=[A-Z])", "-", call.operation.removeprefix("Create")).lower()
    return call.service != "sagemaker" or f":{kind}/" in resource


def questions(call: Call, place: Place, hash_key: HashKey = lambda _: None) -> list[Question]:
    """Return everything that the caller must be allowed for this call, in the order in which AWS would complain.

    Keys of the caller and of the resource (``aws:Principal…``, ``aws:ResourceTag/…``) are for the gate to add.
    """
    keys = _tag_keys(call) | _service_keys(call)
    if call.service == "s3":
        found = list(_s3_questions(call, place, keys))
    elif call.service == "dynamodb":
        found = list(_dynamodb_questions(call, place, keys, hash_key))
    elif call.service == "events" and call.operation == "PutEvents":
        found = list(_event_questions(call, place, keys))
    else:
        found = list(_one(call, place, keys))
    found += _dependent(call, place, keys)
    return [q for q in found if q.action not in UNCHECKED]


def supports_resources(action: str) -> bool:
    """Return whether the action can be limited to ARNs at all, by AWS's service authorization data."""
    return bool(resource_types(action))
