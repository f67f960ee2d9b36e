"""Keeps a deployment on the Python that it was built for: wheels of one version do not work in another.

``python -m tools.built_runtime write python3.12`` makes that runtime the only value of the parameter Runtime in what
``sam build`` wrote, so that ``sam deploy`` offers it, and CloudFormation takes no other.
``python -m tools.built_runtime check CONFIG`` refuses a configuration of samconfig.toml that says another one, with
exit code 1 and one sentence.
"""

from __future__ import annotations

import shlex
import sys
import tomllib
from pathlib import Path
from typing import Any

from samcli.yamlhelper import yaml_dump, yaml_parse  # type: ignore[import-untyped]

BUILT = Path(".aws-sam/build/template.yaml")
SAMCONFIG = Path("samconfig.toml")


def write(template: Path, runtime: str) -> None:
    """Make a runtime the default and the only allowed value of Runtime in a built template."""
    content = yaml_parse(template.read_text("utf-8"))
    parameter = content["Parameters"]["Runtime"]
    parameter["Default"] = runtime
    parameter["AllowedValues"] = [runtime]
    parameter["ConstraintDescription"] = f"this build is for {runtime}, so deploy it with Runtime={runtime}"
    template.write_text(yaml_dump(content), "utf-8")


def built(template: Path) -> str:
    """Return the runtime that a built template is for."""
    return str(yaml_parse(template.read_text("utf-8"))["Parameters"]["Runtime"]["Default"])


def configured(samconfig: Path, config: str) -> str | None:
    """Return the runtime that a configuration gives to ``sam deploy``, or None where it gives none."""
    environment = tomllib.loads(samconfig.read_text("utf-8")).get(config, {})
    given: Any = environment.get("deploy", {}).get("parameters", {}).get("parameter_overrides", "")
    if isinstance(given, dict):
        return given.get("Runtime")
    for word in shlex.split(given if isinstance(given, str) else " ".join(given)):
        name, _, value = word.removeprefix("ParameterKey=").replace(",ParameterValue=", "=").partition("=")
        if name == "Runtime":
            return value.strip('"')
    return None


def check(template: Path, samconfig: Path, config: str) -> str:
    """Return why a configuration cannot deploy a build, in one sentence, or an empty text where it can."""
    here, there = built(template), configured(samconfig, config)
    if there in (None, here):
        return ""
    return (
        f"This build is for {here}, but [{config}.deploy.parameters] in {samconfig.name} says Runtime={there}: "
        f"change it there to {here}, or build with {there}."
    )


def main(arguments: list[str]) -> int:
    """Write or check; return the exit code."""
    if arguments[0] == "write":
        write(BUILT, arguments[1])
        return 0
    complaint = check(BUILT, SAMCONFIG, arguments[1])
    if complaint:
        print(complaint, file=sys.stderr)
    return bool(complaint)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
