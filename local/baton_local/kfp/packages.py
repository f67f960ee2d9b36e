"""Uploaded pipeline packages: reading the IR, and checking a run's parameters against it as KFP's backend does."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Mapping
from typing import Any

import yaml  # type: ignore[import-untyped]

from baton_local.kfp.errors import InvalidArgument
from baton_local.quick_yaml import SafeLoader

MAX_BYTES = 32 * 1024 * 1024
_SCHEMA = "2.1.0"

Spec = dict[str, Any]
"""A pipeline as the API shows it: the IR itself, or ``{"pipeline_spec", "platform_spec"}`` where it has both."""

_KINDS: dict[str, tuple[str, tuple[type, ...]]] = {
    "NUMBER_DOUBLE": ("double or integer", (int, float)),
    "NUMBER_INTEGER": ("double or integer", (int, float)),
    "STRING": ("string", (str,)),
    "BOOLEAN": ("bool", (bool,)),
    "LIST": ("list", (list,)),
    "STRUCT": ("struct", (dict,)),
}


def read_package(content: bytes) -> Spec:
    """Return the pipeline of an uploaded YAML, zip or tar.gz file; raise InvalidArgument for anything else."""
    if len(content) > MAX_BYTES:
        raise InvalidArgument(f"File size too large. Maximum supported file size: {MAX_BYTES}")
    try:
        documents = [d for d in yaml.load_all(_unpacked(content), SafeLoader) if d]
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InvalidArgument(f"unable to decode yaml document: {error}") from error
    return read_documents(documents)


def read_documents(documents: list[Any]) -> Spec:
    """Return the pipeline of a package's YAML documents."""
    pipelines = [d for d in documents if isinstance(d, dict) and "pipelineInfo" in d]
    platforms = [d for d in documents if isinstance(d, dict) and "platforms" in d]
    if len(pipelines) != 1:
        raise InvalidArgument("no pipeline spec is provided" if not pipelines else "multiple pipeline specs provided")
    spec = pipelines[0]
    if spec.get("schemaVersion") != _SCHEMA:
        raise InvalidArgument(f"KFP only supports schema version {_SCHEMA}, not {spec.get('schemaVersion')}")
    if not spec["pipelineInfo"].get("name") or "root" not in spec:
        raise InvalidArgument("invalid v2 pipeline spec: name or root component is empty")
    return {"pipeline_spec": spec, "platform_spec": platforms[0]} if platforms else spec


def read_inline(value: Any) -> Spec:
    """Return the pipeline that a create-run request carries."""
    if isinstance(value, dict) and "pipeline_spec" in value:
        return read_documents([value["pipeline_spec"], value.get("platform_spec")])
    return read_documents([value])


def ir_of(spec: Spec) -> dict[str, Any]:
    """Return the IR alone."""
    ir: dict[str, Any] = spec.get("pipeline_spec", spec)
    return ir


def check_parameters(ir: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    """Raise InvalidArgument for a missing, unknown or ill-typed runtime parameter."""
    wanted = ir["root"].get("inputDefinitions", {}).get("parameters", {})
    for name, definition in wanted.items():
        if name in given:
            _check_type(name, definition["parameterType"], given[name])
        elif not definition.get("isOptional") and "defaultValue" not in definition:
            raise InvalidArgument(
                f"invalid pipeline job inputs: parameter {name} is not optional, yet has neither default value nor "
                "user provided value"
            )
    unknown = sorted(set(given) - set(wanted))
    if unknown:
        raise InvalidArgument(
            f"invalid pipeline job inputs: parameter(s) provided are not required by pipeline: {', '.join(unknown)}"
        )


def _check_type(name: str, wanted: str, value: Any) -> None:
    words, types = _KINDS[wanted]
    if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
        raise InvalidArgument(
            f"invalid pipeline job inputs: input parameter {name} requires type {words}, but the parameter value is "
            f"not of {words} value type"
        )


def _unpacked(content: bytes) -> bytes:
    if content[:2] == b"PK":
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return archive.read(archive.namelist()[0])
    if content[:2] == b"\x1f\x8b":
        with tarfile.open(fileobj=io.BytesIO(content)) as archive:
            member = archive.extractfile(archive.getmembers()[0])
            return member.read() if member else b""
    return content
