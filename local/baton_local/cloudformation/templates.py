"""Templates as text: YAML with CloudFormation's short forms, or JSON; SAM's transform."""

from __future__ import annotations

import json
import threading
from typing import Any

import yaml  # type: ignore[import-untyped]

from baton_local.quick_yaml import SafeLoader

SAM_TRANSFORM = "AWS::Serverless-2016-10-31"
LANGUAGE_EXTENSIONS = "AWS::LanguageExtensions"
_SECTIONS = {
    "AWSTemplateFormatVersion",
    "Description",
    "Metadata",
    "Parameters",
    "Rules",
    "Mappings",
    "Conditions",
    "Transform",
    "Globals",
    "Resources",
    "Outputs",
}

Template = dict[str, Any]


class TemplateError(ValueError):
    """A template, or what was given with it, is wrong: CloudFormation's ValidationError."""


class _Loader(SafeLoader):  # type: ignore[misc]
    """YAML as CloudFormation reads it: a date stays the text that it is, and ``!X`` is ``Fn::X``."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in SafeLoader.yaml_implicit_resolvers.items()
}


def _short_form(loader: _Loader, suffix: str, node: yaml.Node) -> Any:
    name = suffix if suffix in ("Ref", "Condition") else f"Fn::{suffix}"
    if isinstance(node, yaml.ScalarNode):
        value: Any = loader.construct_scalar(node)
        if suffix == "GetAtt":
            value = value.split(".", 1)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        value = loader.construct_mapping(node, deep=True)
    return {name: value}


_Loader.add_multi_constructor("!", _short_form)


def load(text: str) -> Template:
    """Parse a template; raise TemplateError for what is no template."""
    try:
        value = json.loads(text) if text.lstrip().startswith("{") else yaml.load(text, Loader=_Loader)  # noqa: S506
    except (ValueError, yaml.YAMLError) as error:
        raise TemplateError(f"Template format error: {error}") from error
    if not isinstance(value, dict):
        raise TemplateError("Template format error: unsupported structure.")
    unknown = sorted(set(value) - _SECTIONS)
    if unknown:
        raise TemplateError(f"Invalid template property or properties [{', '.join(unknown)}]")
    if not isinstance(value.get("Resources"), dict) or not value["Resources"]:
        raise TemplateError("Template format error: At least one Resources member must be defined.")
    return value


def transforms(template: Template) -> list[str]:
    """Return the names of the transforms that a template declares."""
    declared = template.get("Transform") or []
    return [declared] if isinstance(declared, str) else [str(t) for t in declared]


_translation = threading.Lock()


def expand(template: Template, parameters: dict[str, Any], region: str, managed_policies: dict[str, str]) -> Template:
    """Apply the template's transforms.

    ``parameters`` are the values by name, ``managed_policies`` the ARNs of AWS's managed policies by name.
    """
    names = transforms(template)
    unknown = [n for n in names if n not in (SAM_TRANSFORM, LANGUAGE_EXTENSIONS)]
    if unknown:
        raise TemplateError(f"No transform named {unknown[0]} found.")
    if SAM_TRANSFORM not in names:
        return template
    return _expand_sam(template, parameters, region, managed_policies)


def _expand_sam(
    template: Template, parameters: dict[str, Any], region: str, managed_policies: dict[str, str]
) -> Template:
    import boto3
    from samtranslator.model.exceptions import InvalidDocumentException  # type: ignore[import-untyped]
    from samtranslator.parser.parser import Parser  # type: ignore[import-untyped]
    from samtranslator.translator.translator import Translator  # type: ignore[import-untyped]

    copy = json.loads(json.dumps(template))
    # The translator keeps the partition in class attributes, so two regions must not be expanded at once.
    with _translation:
        translator = Translator(managed_policies, Parser(), boto_session=boto3.Session(region_name=region))
        try:
            expanded = translator.translate(copy, parameter_values={**parameters, **_pseudo(region)})
        except InvalidDocumentException as error:
            details = "; ".join(cause.message for cause in error.causes)
            raise TemplateError(
                f"Transform {SAM_TRANSFORM} failed with: Invalid Serverless Application Specification document. "
                f"Number of errors found: {len(error.causes)}. {details}"
            ) from error
    expanded.pop("Transform", None)
    result: Template = json.loads(json.dumps(expanded))
    return result


def _pseudo(region: str) -> dict[str, str]:
    return {"AWS::Region": region}


_IAM_TYPES = (
    "AWS::IAM::AccessKey",
    "AWS::IAM::Group",
    "AWS::IAM::InstanceProfile",
    "AWS::IAM::ManagedPolicy",
    "AWS::IAM::Policy",
    "AWS::IAM::Role",
    "AWS::IAM::User",
    "AWS::IAM::UserToGroupAddition",
)
_IAM_NAMES = ("RoleName", "UserName", "GroupName", "ManagedPolicyName", "InstanceProfileName")


def needed_capabilities(template: Template) -> tuple[set[str], list[str]]:
    """Return the capabilities that an expanded template needs, and the IAM resource types that are the reason."""
    iam = {k: r for k, r in template["Resources"].items() if isinstance(r, dict) and r.get("Type") in _IAM_TYPES}
    named = any(name in (r.get("Properties") or {}) for r in iam.values() for name in _IAM_NAMES)
    needed = {"CAPABILITY_NAMED_IAM" if named else "CAPABILITY_IAM"} if iam else set()
    return needed, sorted({str(r["Type"]) for r in iam.values()})
