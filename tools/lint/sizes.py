"""Print the unzipped size of every package of the deployment; fail where one is too large.

A function's own code is what ``sam build`` put into its folder; the layers come on top of it. Functions must start
fast, so their own code and the layers have limits; only the one that converts data is heavy. The build is the embedded
cloud's cached one, so this takes long only after a change.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from baton_local.cloudformation.templates import load
from baton_local.deploy import build

ROOT = Path(__file__).parents[2]
BUILDS = ROOT / ".aws-sam" / "baton-local"
MEGABYTE = 1_000_000
HOT_FUNCTION_BYTES = MEGABYTE
LAYER_BYTES = 30 * MEGABYTE
# Lambda's own limit for a function with its layers.
# https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
LAMBDA_BYTES = 250 * 1024 * 1024
HEAVY = frozenset({"PrepareDataFunction"})
"""Runs once a run, for minutes, and needs numpy; every other function counts as hot."""


def main() -> int:
    """Measure a build of the checkout; return the exit code."""
    folder = build(ROOT, BUILDS).folder
    resources = load((folder / "template.yaml").read_text("utf-8"))["Resources"]
    functions = _sizes(folder, resources, "AWS::Serverless::Function")
    layers = _sizes(folder, resources, "AWS::Serverless::LayerVersion")
    for name, size in {**functions, **layers}.items():
        print(f"{name:24}{size:>14,} bytes")
    found = list(problems(functions, layers))
    print("\n".join(found), end="\n" if found else "")
    return bool(found)


def problems(functions: Mapping[str, int], layers: Mapping[str, int]) -> Iterator[str]:
    """Yield a line for each package that is too large, or is not there."""
    for name, size in functions.items():
        if name not in HEAVY and not 0 < size <= HOT_FUNCTION_BYTES:
            yield f"{name} has {size:,} bytes of own code; it must have from 1 to {HOT_FUNCTION_BYTES:,}"
    for name, size in layers.items():
        if not 0 < size <= LAYER_BYTES:
            yield f"{name} has {size:,} bytes; it must have from 1 to {LAYER_BYTES:,}"
    for name, size in functions.items():
        if size + sum(layers.values()) > LAMBDA_BYTES:
            yield f"{name} and the layers have {size + sum(layers.values()):,} bytes; Lambda takes {LAMBDA_BYTES:,}"


def _sizes(folder: Path, resources: Mapping[str, Mapping[str, object]], kind: str) -> dict[str, int]:
    names = [name for name, resource in resources.items() if resource["Type"] == kind]
    return {name: size_of(folder / name) for name in names}


def size_of(folder: Path) -> int:
    """Return the bytes of all files below a folder, as Lambda unpacks them (without compiled Python)."""
    files = (path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return sum(path.stat().st_size for path in files)


if __name__ == "__main__":
    sys.exit(main())
