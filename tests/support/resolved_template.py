"""The template as CloudFormation sees it: expanded by SAM, with parameters' values put in."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from baton_local.cloudformation import parameters as template_parameters
from baton_local.cloudformation.intrinsics import Resolver
from baton_local.cloudformation.templates import Template
from tools.lint.iam import expanded

TEXT = (Path(__file__).parents[2] / "template.yaml").read_text("utf-8")
PLACES = {
    "eu-west-1": {"AWS::Partition": "aws", "AWS::URLSuffix": "amazonaws.com"},
    "cn-northwest-1": {"AWS::Partition": "aws-cn", "AWS::URLSuffix": "amazonaws.com.cn"},
    "us-gov-west-1": {"AWS::Partition": "aws-us-gov", "AWS::URLSuffix": "amazonaws.com"},
    "us-iso-east-1": {"AWS::Partition": "aws-iso", "AWS::URLSuffix": "c2s.ic.gov"},
    "eusc-de-east-1": {"AWS::Partition": "aws-eusc", "AWS::URLSuffix": "amazonaws.eu"},
}


class _Lookup:
    """Resources by logical id, one of them perhaps made again; a hosted configuration's number stands for what is
    in it.
    """

    def __init__(self, template: Template, made_again: str) -> None:
        self.template = template
        self.made_again = made_again
        self.resolver: Any = None

    def physical_id(self, logical_id: str) -> str:
        return f"id-of-{self._called(logical_id)}"

    def attribute(self, logical_id: str, name: str) -> Any:
        if name == "VersionNumber":
            properties = self.resolver.resolve(self.template["Resources"][logical_id]["Properties"])
            return f"number-of({json.dumps(properties, sort_keys=True)})"
        return f"{name}-of-{self._called(logical_id)}"

    def _called(self, logical_id: str) -> str:
        return f"another-{logical_id}" if logical_id == self.made_again else logical_id


@cache
def template() -> Template:
    """Return the repository's template, expanded."""
    return expanded(TEXT)


def resolved(
    given: Mapping[str, str],
    region: str = "eu-west-1",
    other: Template | None = None,
    stack: str = "baton",
    made_again: str = "",
) -> dict[str, dict[str, Any]]:
    """Return the properties of all resources whose condition holds, by logical id; of the repository's own template
    or of another, in a stack of that name, perhaps with a resource that was deleted by hand and made again.
    """
    resolver, found = _resolver(given, region, other or template(), stack, made_again)
    return {
        name: resolver.resolve(resource.get("Properties") or {})
        for name, resource in found["Resources"].items()
        if "Condition" not in resource or resolver.condition(resource["Condition"])
    }


def of_type(
    kind: str, given: Mapping[str, str], region: str = "eu-west-1", stack: str = "baton"
) -> dict[str, dict[str, Any]]:
    """Return the properties of the repository's resources of a type whose condition holds, by logical id."""
    declared = template()["Resources"]
    return {
        name: properties
        for name, properties in resolved(given, region, stack=stack).items()
        if declared[name]["Type"] == kind
    }


def outputs(given: Mapping[str, str], region: str) -> dict[str, str]:
    """Return the outputs of the repository's template whose condition holds."""
    resolver, found = _resolver(given, region, template())
    return {
        name: resolver.resolve(output["Value"])
        for name, output in found["Outputs"].items()
        if "Condition" not in output or resolver.condition(output["Condition"])
    }


def violated(given: Mapping[str, str], region: str = "eu-west-1") -> list[str]:
    """Return what the rules of the repository's template complain about."""
    resolver, _ = _resolver(given, region, template())
    return list(resolver.violated_rules())


def _resolver(
    given: Mapping[str, str], region: str, found: Template, stack: str = "baton", made_again: str = ""
) -> tuple[Resolver, Template]:
    values = template_parameters.effective(found, {"KfpUrl": "https://kfp.example.org", **given})
    constants = {
        **template_parameters.referable(found, values, str),
        **PLACES[region],
        "AWS::Region": region,
        "AWS::AccountId": "123456789012",
        "AWS::StackName": stack,
    }
    lookup = _Lookup(found, made_again)
    lookup.resolver = Resolver(found, constants, lookup)
    return lookup.resolver, found
