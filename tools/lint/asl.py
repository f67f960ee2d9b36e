"""Validate the state machines with two independent validators, as CloudFormation will substitute them.

A state machine's file holds ``${Name}`` where its ``DefinitionSubstitutions`` in template.yaml say what stands there.
This renders each with plausible ARNs, for the commercial partition and for China, and asks ``statelint`` (PyPI) and,
where Node.js is at hand, ``asl-validator`` (npm); it looks itself for what neither sees: names of
errors, and ARNs of one partition. Exits 1 if anything is wrong, or if the latter is not installed although Node.js is
there.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from statelint.config import Config  # type: ignore[import-untyped]
from statelint.linter import Linter  # type: ignore[import-untyped]
from statelint.problem import ProblemType  # type: ignore[import-untyped]

ROOT = Path(__file__).parents[2]
OUT = ROOT / "build" / "asl"
NODE_VALIDATOR = Path(__file__).parent / "node_modules" / "asl-validator" / "dist" / "bin" / "asl-validator.js"
PARTITIONS = {"aws": "us-east-1", "aws-cn": "cn-northwest-1"}

# https://docs.aws.amazon.com/step-functions/latest/dg/concepts-error-handling.html
ERROR_NAMES = frozenset(
    f"States.{name}"
    for name in (
        *("ALL", "BranchFailed", "DataLimitExceeded", "ExceedToleratedFailureThreshold", "HeartbeatTimeout"),
        *("Http.Socket", "IntrinsicFailure", "ItemReaderFailed", "NoChoiceMatched", "ParameterPathFailure"),
        *("Permissions", "QueryEvaluationError", "ResultPathMatchFailure", "ResultWriterFailed", "Runtime"),
        *("TaskFailed", "Timeout"),
    )
)
"""The names that Step Functions gives to errors of its own; no others begin with ``States.``."""

# AWS allows up to 99999999; statelint takes that for the first number that is too large:
# https://docs.aws.amazon.com/step-functions/latest/dg/concepts-error-handling.html
STATELINT_MAX_ATTEMPTS = 99999998


def main() -> int:
    """Render and validate every state machine; return the exit code."""
    node = shutil.which("node")
    if node and not NODE_VALIDATOR.is_file():
        print("asl-validator is not installed beside Node.js: npm ci --prefix tools/lint")
        return 1
    problems = []
    for path, substitutions in machines():
        problems += mismatches(path, substitutions) + own_problems(path)
        for partition, region in PARTITIONS.items():
            problems += validate(render(path, substitutions, partition, region), node)
    if not node:
        print(
            "Without Node.js only one of the two validators looked at the state machines: asl-validator was left out."
        )
    print("\n".join(problems) if problems else "The state machines are valid.")
    return bool(problems)


def machines() -> list[tuple[Path, set[str]]]:
    """Return the definition file and the names of the substitutions of each state machine of the template."""
    # Imported here: it takes a second, and most of what uses this module needs none of it.
    from cfnlint.decode import cfn_yaml  # type: ignore[import-untyped]

    template = cfn_yaml.load(str(ROOT / "template.yaml"))
    properties = [
        resource["Properties"]
        for resource in template["Resources"].values()
        if resource["Type"] == "AWS::Serverless::StateMachine"
    ]
    return [(ROOT / found["DefinitionUri"], set(found["DefinitionSubstitutions"])) for found in properties]


def mismatches(path: Path, substitutions: set[str]) -> list[str]:
    """Return a problem for each name that only the file, or only the template, knows."""
    used = set(re.findall(r"\$\{(\w+)\}", path.read_text("utf-8")))
    return [f"{path.name}: ${{{name}}} is not substituted by template.yaml" for name in used - substitutions] + [
        f"{path.name}: template.yaml substitutes {name}, which is not used" for name in substitutions - used
    ]


def own_problems(path: Path) -> list[str]:
    """Return what neither validator sees: error names that there are not, and ARNs of one partition only."""
    text = path.read_text("utf-8")
    named = [name for name in _errors_named(json.loads(text)) if name.startswith("States.")]
    found = [f"{path.name}: Step Functions has no error {name}" for name in named if name not in ERROR_NAMES]
    fixed = re.findall(r"arn:aws[a-z-]*:[^\"]*", text)
    return found + [f"{path.name}: {arn} is of one partition; write arn:${{Partition}}:…" for arn in fixed]


def _errors_named(value: Any) -> list[str]:
    if isinstance(value, list):
        return [name for entry in value for name in _errors_named(entry)]
    if not isinstance(value, dict):
        return []
    return [*value.get("ErrorEquals", []), *(name for entry in value.values() for name in _errors_named(entry))]


def render(path: Path, substitutions: set[str], partition: str, region: str) -> Path:
    """Write the definition with ARNs in place of its substitutions; return where."""
    text = path.read_text("utf-8")
    for name in substitutions:
        text = text.replace(f"${{{name}}}", _stand_in(name, partition, region))
    OUT.mkdir(parents=True, exist_ok=True)
    rendered = OUT / f"{partition}.{path.name}"
    rendered.write_text(text, "utf-8")
    return rendered


def _stand_in(name: str, partition: str, region: str) -> str:
    if name == "Partition":
        return partition
    if name.endswith("FunctionArn"):
        return f"arn:{partition}:lambda:{region}:123456789012:function:{name.removesuffix('Arn')}"
    return f"arn:{partition}:sns:{region}:123456789012:{name.removesuffix('Arn')}"


def validate(path: Path, node: str | None) -> list[str]:
    """Return what the validators have to say about a rendered definition; the second one needs Node.js."""
    return [f"{path.name}: {problem}" for problem in _statelint(path) + (_asl_validator(path, node) if node else [])]


def _statelint(path: Path) -> list[str]:
    definition = _clamp(json.loads(path.read_text("utf-8")))
    # JSON does not tell 2 from 2.0, so an integer is as good a BackoffRate as a float.
    return [str(problem) for problem in Linter.validate(definition, Config({ProblemType.FLOAT}))]


def _clamp(value: Any) -> Any:
    if isinstance(value, dict):
        clamped = {key: _clamp(found) for key, found in value.items()}
        if isinstance(clamped.get("MaxAttempts"), int):
            clamped["MaxAttempts"] = min(clamped["MaxAttempts"], STATELINT_MAX_ATTEMPTS)
        return clamped
    return [_clamp(found) for found in value] if isinstance(value, list) else value


def _asl_validator(path: Path, node: str) -> list[str]:
    done = subprocess.run([node, NODE_VALIDATOR, "--json-path", path], capture_output=True, text=True, check=False)
    return [] if done.returncode == 0 else (done.stdout + done.stderr).strip().splitlines()


if __name__ == "__main__":
    sys.exit(main())
