"""Template parameters: their values, checked as CloudFormation checks them, in its words."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from baton_local.cloudformation.templates import Template, TemplateError

NO_ECHO = "****"
SsmLookup = Callable[[str], str]
"""The value of a Systems Manager parameter by name; raises TemplateError if there is none."""


def effective(
    template: Template, given: Mapping[str, str], previous: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Return every parameter's value as text: given, or its default; raise TemplateError naming what is wrong.

    ``previous`` is what a stack has already: it must hold only names that ``UsePreviousValue`` asked for.
    """
    declared: Mapping[str, Any] = template.get("Parameters") or {}
    unknown = sorted(set(given) - set(declared))
    if unknown:
        raise TemplateError(f"Parameters: [{', '.join(unknown)}] do not exist in the template")
    values: dict[str, str] = {}
    for name, declaration in declared.items():
        value = given.get(name, (previous or {}).get(name, declaration.get("Default")))
        if value is not None:
            values[name] = _as_text(value)
    missing = sorted(set(declared) - set(values))
    if missing:
        raise TemplateError(f"Parameters: [{', '.join(missing)}] must have values")
    for name, text in values.items():
        _check(name, text, declared[name])
    return values


def _as_text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(_as_text(v) for v in value) if isinstance(value, list) else str(value)


def _check(name: str, text: str, declaration: Mapping[str, Any]) -> None:
    kind = str(declaration.get("Type", "String"))
    parts = [p.strip() for p in text.split(",")] if _is_list(kind) else [text]
    allowed = [_as_text(v) for v in declaration.get("AllowedValues") or []]
    for part in parts:
        if allowed and part not in allowed:
            raise TemplateError(_complaint(name, declaration, f"must be one of AllowedValues: [{', '.join(allowed)}]"))
        _check_text(name, part, declaration)
        if "Number" in kind:
            _check_number(name, part, declaration)


def _complaint(name: str, declaration: Mapping[str, Any], what: str) -> str:
    own = declaration.get("ConstraintDescription")
    if own:
        return f"Parameter {name} failed to satisfy constraint: {own}"
    return f"Parameter '{name}' {what}"


def _check_text(name: str, text: str, declaration: Mapping[str, Any]) -> None:
    pattern = declaration.get("AllowedPattern")
    if pattern and re.fullmatch(str(pattern), text) is None:
        raise TemplateError(_complaint(name, declaration, f"must match pattern {pattern}"))
    if len(text) < int(declaration.get("MinLength", 0)):
        raise TemplateError(
            _complaint(name, declaration, f"must contain at least {declaration['MinLength']} characters")
        )
    if "MaxLength" in declaration and len(text) > int(declaration["MaxLength"]):
        raise TemplateError(
            _complaint(name, declaration, f"must contain at most {declaration['MaxLength']} characters")
        )


def _check_number(name: str, text: str, declaration: Mapping[str, Any]) -> None:
    try:
        number = float(text)
    except ValueError:
        raise TemplateError(f"Parameter '{name}' must be a number.") from None
    if "MinValue" in declaration and number < float(declaration["MinValue"]):
        raise TemplateError(_complaint(name, declaration, f"must be a number not less than {declaration['MinValue']}"))
    if "MaxValue" in declaration and number > float(declaration["MaxValue"]):
        raise TemplateError(
            _complaint(name, declaration, f"must be a number not greater than {declaration['MaxValue']}")
        )


def _is_list(kind: str) -> bool:
    return kind == "CommaDelimitedList" or kind.startswith("List<") or "<List<" in kind


def referable(template: Template, values: Mapping[str, str], ssm: SsmLookup) -> dict[str, Any]:
    """Return what ``Ref`` gives for each parameter: lists for list types, looked-up values for SSM types."""
    found: dict[str, Any] = {}
    for name, declaration in (template.get("Parameters") or {}).items():
        kind, text = str(declaration.get("Type", "String")), values[name]
        if kind.startswith("AWS::SSM::Parameter::Value<"):
            text = ssm(text)
        found[name] = [p.strip() for p in text.split(",")] if _is_list(kind) else text
    return found


def shown(template: Template, values: Mapping[str, str]) -> dict[str, str]:
    """Return the values as Describe calls show them: what has NoEcho is hidden."""
    declared = template.get("Parameters") or {}
    return {n: NO_ECHO if str(declared[n].get("NoEcho", "")).lower() == "true" else v for n, v in values.items()}
