"""Intrinsic functions and conditions: from a template's value to the value that a resource gets."""

from __future__ import annotations

import base64
import ipaddress
import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

from baton_local.cloudformation.templates import Template, TemplateError


class _NoValue:
    """What ``AWS::NoValue`` is: the property or list item is left out."""


NO_VALUE = _NoValue()
ZONES = ("a", "b", "c")


class Lookup(Protocol):
    """Where a resolver finds what is not in the template."""

    def physical_id(self, logical_id: str) -> str:
        """Return what ``Ref`` gives for a resource."""

    def attribute(self, logical_id: str, name: str) -> Any:
        """Return what ``Fn::GetAtt`` gives for a resource."""

    def imported(self, name: str) -> str:
        """Return the value of another stack's export."""

    def dynamic(self, service: str, reference: str) -> str:
        """Return the value of a dynamic reference ``{{resolve:service:reference}}``."""


class Resolver:
    """Resolves values of one template with given parameters.

    ``constants``: parameters and pseudo parameters by name.
    """

    def __init__(self, template: Template, constants: Mapping[str, Any], lookup: Lookup) -> None:
        self._template = template
        self._constants = constants
        self._lookup = lookup
        self._conditions: dict[str, bool] = {}
        self._functions: dict[str, Callable[[Any], Any]] = {
            "Ref": self._ref,
            "Fn::GetAtt": self._get_att,
            "Fn::Sub": self._sub,
            "Fn::Join": self._join,
            "Fn::Select": self._select,
            "Fn::Split": self._split,
            "Fn::If": self._if,
            "Fn::FindInMap": self._find_in_map,
            "Fn::ImportValue": lambda v: self._lookup.imported(str(self.resolve(v))),
            "Fn::Base64": lambda v: base64.b64encode(str(self.resolve(v)).encode()).decode(),
            "Fn::GetAZs": self._zones,
            "Fn::Cidr": self._cidr,
            "Fn::Length": lambda v: len(self.resolve(v)),
            "Fn::ToJsonString": lambda v: json.dumps(self.resolve(v)),
        }

    # --- values
    def resolve(self, value: Any) -> Any:
        """Return the value with every function in it replaced; NO_VALUE if it is to be left out."""
        if isinstance(value, dict):
            function = _function_of(value)
            if function:
                return self._call(function, value[function])
            resolved = {k: self.resolve(v) for k, v in value.items()}
            return {k: v for k, v in resolved.items() if v is not NO_VALUE}
        if isinstance(value, list):
            return [v for v in (self.resolve(item) for item in value) if v is not NO_VALUE]
        return self._dynamic(value) if isinstance(value, str) and "{{resolve:" in value else value

    def _call(self, function: str, argument: Any) -> Any:
        if function == "Condition":
            return self.condition(str(argument))
        known = self._functions.get(function)
        if known is None:
            raise TemplateError(f"Template error: {function} is not supported by the embedded cloud")
        return known(argument)

    def _ref(self, name: Any) -> Any:
        if name == "AWS::NoValue":
            return NO_VALUE
        if name in self._constants:
            return self._constants[name]
        return self._lookup.physical_id(str(name))

    def _get_att(self, argument: Any) -> Any:
        logical_id, name = argument.split(".", 1) if isinstance(argument, str) else (argument[0], argument[1])
        return self._lookup.attribute(str(logical_id), str(self.resolve(name)))

    def _sub(self, argument: Any) -> str:
        text, variables = (argument, {}) if isinstance(argument, str) else (argument[0], argument[1])

        def value_of(match: re.Match[str]) -> str:
            name = match[1].strip()
            if name.startswith("!"):
                return "${" + name[1:] + "}"
            if name in variables:
                return _text(self.resolve(variables[name]))
            return _text(self._get_att(name) if "." in name else self._ref(name))

        return str(self._dynamic(re.sub(r"\$\{([^}]*)\}", value_of, str(text))))

    def _join(self, argument: Any) -> str:
        separator, parts = argument
        return str(self._dynamic(str(separator).join(_text(p) for p in self.resolve(parts))))

    def _select(self, argument: Any) -> Any:
        index, values = int(self.resolve(argument[0])), self.resolve(argument[1])
        if not 0 <= index < len(values):
            raise TemplateError(f"Template error: Fn::Select cannot select nonexistent value at index {index}")
        return values[index]

    def _split(self, argument: Any) -> list[str]:
        return str(self.resolve(argument[1])).split(str(argument[0]))

    def _if(self, argument: Any) -> Any:
        name, yes, no = argument
        return self.resolve(yes if self.condition(str(name)) else no)

    def _find_in_map(self, argument: Any) -> Any:
        names = [str(self.resolve(part)) for part in argument[:3]]
        value: Any = self._template.get("Mappings") or {}
        for name in names:
            if not isinstance(value, dict) or name not in value:
                return self._map_default(argument, names)
            value = value[name]
        return value

    def _map_default(self, argument: Any, names: list[str]) -> Any:
        if len(argument) > 3 and "DefaultValue" in argument[3]:
            return self.resolve(argument[3]["DefaultValue"])
        raise TemplateError(f"Template error: Unable to get mapping for {'::'.join(names)}")

    def _zones(self, argument: Any) -> list[str]:
        region = self.resolve(argument) or self._constants["AWS::Region"]
        return [f"{region}{zone}" for zone in ZONES]

    def _cidr(self, argument: Any) -> list[str]:
        block, count, *bits = (self.resolve(a) for a in argument)
        network = ipaddress.ip_network(block)
        prefix = network.max_prefixlen - int(bits[0] if bits else 8)
        return [str(net) for net, _ in zip(network.subnets(new_prefix=prefix), range(int(count)), strict=False)]

    def _dynamic(self, text: Any) -> Any:
        def value_of(match: re.Match[str]) -> str:
            return self._lookup.dynamic(match[1], match[2])

        return re.sub(r"\{\{resolve:(ssm|ssm-secure|secretsmanager):([^}]+)\}\}", value_of, text)

    # --- conditions
    def condition(self, name: str) -> bool:
        """Return whether a condition of the template holds."""
        if name not in self._conditions:
            conditions = self._template.get("Conditions") or {}
            if name not in conditions:
                raise TemplateError(f"Template format error: Unresolved condition dependency {name}")
            self._conditions[name] = self.holds(conditions[name])
        return self._conditions[name]

    def holds(self, expression: Any) -> bool:
        """Evaluate a condition expression, also those that only Rules may use."""
        function = _function_of(expression) if isinstance(expression, dict) else None
        tests: dict[str, Callable[[Any], bool]] = {
            "Condition": lambda a: self.condition(str(a)),
            "Fn::Equals": lambda a: _text(self.resolve(a[0])) == _text(self.resolve(a[1])),
            "Fn::Not": lambda a: not self.holds(a[0]),
            "Fn::And": lambda a: all(self.holds(e) for e in a),
            "Fn::Or": lambda a: any(self.holds(e) for e in a),
            "Fn::Contains": lambda a: _text(self.resolve(a[1])) in [_text(v) for v in self.resolve(a[0])],
            "Fn::EachMemberEquals": lambda a: all(_text(v) == _text(self.resolve(a[1])) for v in self.resolve(a[0])),
            "Fn::EachMemberIn": lambda a: set(self.resolve(a[0])) <= set(self.resolve(a[1])),
        }
        if function not in tests:
            raise TemplateError(f"Template error: {expression!r} is no condition")
        return tests[function](expression[function])

    def violated_rules(self) -> Iterator[str]:
        """Yield what the template's Rules complain about."""
        for name, rule in (self._template.get("Rules") or {}).items():
            if "RuleCondition" in rule and not self.holds(rule["RuleCondition"]):
                continue
            for assertion in rule.get("Assertions") or []:
                if not self.holds(assertion["Assert"]):
                    yield f"Template rule {name} is not met: {assertion.get('AssertDescription', 'assertion failed')}"


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is NO_VALUE else str(value)


def _function_of(value: Mapping[str, Any]) -> str | None:
    if len(value) != 1:
        return None
    name = next(iter(value))
    if name == "Condition":
        return name if isinstance(value[name], str) else None
    return name if name == "Ref" or str(name).startswith("Fn::") else None


def references(value: Any, resolver: Resolver) -> Iterator[str]:
    """Yield the names that a value refers to, leaving out the branches that conditions do not take."""
    if isinstance(value, list):
        for item in value:
            yield from references(item, resolver)
    elif isinstance(value, dict):
        function = _function_of(value)
        if function == "Fn::If":
            name, yes, no = value[function]
            yield from references(yes if resolver.condition(str(name)) else no, resolver)
        elif function is None:
            for item in value.values():
                yield from references(item, resolver)
        else:
            yield from _named(function, value[function], resolver)


def _named(function: str, argument: Any, resolver: Resolver) -> Iterator[str]:
    if function == "Ref":
        yield str(argument)
    elif function == "Fn::GetAtt":
        yield argument.split(".", 1)[0] if isinstance(argument, str) else str(argument[0])
    elif function == "Fn::Sub":
        text, variables = (argument, {}) if isinstance(argument, str) else (argument[0], argument[1])
        yield from references(variables, resolver)
        names = (n.strip() for n in re.findall(r"\$\{([^}!]+)\}", str(text)))
        yield from (n.split(".", 1)[0] for n in names if n not in variables)
    elif function != "Condition":
        yield from references(argument, resolver)
