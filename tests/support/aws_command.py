"""Runs ``aws`` command lines through boto3, so that a test can do what Baton tells a person to do.

A command that the AWS CLI would not understand (an unknown operation or option, a missing one) is an AssertionError.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from typing import Any

from botocore import xform_name

from tests.support.aws_models import session

_SERVICES = {"s3api": "s3"}
_GLOBAL = {"region", "profile", "query"}
_NUMBERS: dict[str, Callable[[str], Any]] = {"integer": int, "long": int, "double": float, "float": float}


class AwsCommand:
    """One parsed ``aws SERVICE OPERATION --option value …``."""

    def __init__(self, line: str) -> None:
        words = shlex.split(line)
        assert words[0] == "aws", line
        self.service = _SERVICES.get(words[1], words[1])
        self.waits = words[2] == "wait"
        model = session().get_service_model(self.service)
        name = words[3 if self.waits else 2]
        if self.waits:
            waiter = session().get_waiter_model(self.service)
            names = {xform_name(each, "-"): each for each in waiter.waiter_names}
            assert name in names, line
            self.operation = xform_name(name.replace("-", "_"))
            shape = model.operation_model(waiter.get_waiter(names[name]).operation).input_shape
        else:
            names = {xform_name(each, "-"): each for each in model.operation_names}
            assert name in names, line
            self.operation = xform_name(names[name])
            shape = model.operation_model(names[name]).input_shape
        self.parameters, self.options = _read(words[4 if self.waits else 3 :], shape, line)
        missing = set(shape.required_members if shape else ()) - set(self.parameters)
        assert not missing, f"{line}: {missing}"

    def run(self, client: Callable[[str], Any]) -> Any:
        """Do what the command says; ``client`` gives a boto3 client by service."""
        made = client(self.service)
        if self.waits:
            return made.get_waiter(self.operation).wait(**self.parameters)
        return getattr(made, self.operation)(**self.parameters)


def _read(words: list[str], shape: Any, line: str) -> tuple[dict[str, Any], dict[str, str]]:
    members = {xform_name(name, "-"): (name, member) for name, member in (shape.members if shape else {}).items()}
    parameters: dict[str, Any] = {}
    options: dict[str, str] = {}
    at = 0
    while at < len(words):
        option = words[at].removeprefix("--")
        at += 1
        if option.removeprefix("no-") in members and members[option.removeprefix("no-")][1].type_name == "boolean":
            parameters[members[option.removeprefix("no-")][0]] = not option.startswith("no-")
            continue
        end = next((i for i in range(at + 1, len(words)) if words[i].startswith("--")), len(words))
        values, at = words[at:end], end
        if option in _GLOBAL and option not in members:
            [options[option]] = values
            continue
        assert option in members, f"{line}: --{option}"
        name, member = members[option]
        assert len(values) == 1 or member.type_name == "list", f"{line}: --{option}"
        parameters[name] = values if len(values) > 1 else _value(values[0], member)
    return parameters, options


def _value(text: str, shape: Any) -> Any:
    if shape.type_name in ("structure", "map"):
        return json.loads(text) if text.startswith("{") else dict(pair.split("=", 1) for pair in text.split(","))
    if shape.type_name == "list":
        return text.split()
    return _NUMBERS.get(shape.type_name, str)(text)
