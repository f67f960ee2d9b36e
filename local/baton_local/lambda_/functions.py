"""What a sandbox has to know of its function, taken from moto's model of it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

from baton_local.lambda_.log_groups import group_of

RESERVED_VARIABLES = frozenset(
    {
        "_HANDLER",
        "_X_AMZN_TRACE_ID",
        "AWS_DEFAULT_REGION",
        "AWS_REGION",
        "AWS_EXECUTION_ENV",
        "AWS_LAMBDA_FUNCTION_NAME",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
        "AWS_LAMBDA_FUNCTION_VERSION",
        "AWS_LAMBDA_INITIALIZATION_TYPE",
        "AWS_LAMBDA_LOG_GROUP_NAME",
        "AWS_LAMBDA_LOG_STREAM_NAME",
        "AWS_ACCESS_KEY",
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "AWS_LAMBDA_RUNTIME_API",
        "LAMBDA_TASK_ROOT",
        "LAMBDA_RUNTIME_DIR",
    }
)
"""What a function's own environment may not have:
https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html#configuration-envvars-runtime."""


@dataclass(frozen=True)
class Function:
    """One version of a function with one configuration; equal ones can share their sandboxes."""

    arn: str
    name: str
    version: str
    region: str
    account_id: str
    role_arn: str
    runtime: str
    handler: str
    timeout_seconds: int
    memory_mb: int
    variables: tuple[tuple[str, str], ...]
    code_hash: str
    layer_hashes: tuple[str, ...]
    code: bytes = field(repr=False, compare=False)
    layers: tuple[bytes, ...] = field(repr=False, compare=False)
    log_group: str
    reserved_concurrency: int | None = field(default=None, compare=False)


def function_of(model: Any, layers: list[bytes]) -> Function:
    """Return the function that a ``moto.awslambda.models.LambdaFunction`` describes, with its layers' archives."""
    reserved = model.reserved_concurrency
    return Function(
        arn=model.function_arn,
        name=model.function_name,
        version=str(model.version),
        region=model.region,
        account_id=model.account_id,
        role_arn=model.role,
        runtime=model.run_time or "",
        handler=model.handler or "",
        timeout_seconds=int(model.timeout),
        memory_mb=int(model.memory_size),
        variables=tuple(sorted((k, _text(v)) for k, v in model.environment_vars.items())),
        code_hash=model.code_sha_256,
        layer_hashes=tuple(_hash(layer) for layer in layers),
        code=model.code_bytes,
        layers=tuple(layers),
        log_group=group_of(model),
        reserved_concurrency=None if reserved is None else int(reserved),
    )


def _text(value: Any) -> str:
    """Return a variable as text; CloudFormation turns numbers and booleans of a template into strings."""
    return value if isinstance(value, str) else json.dumps(value)


_hashes: dict[int, tuple[bytes, str]] = {}


def _hash(archive: bytes) -> str:
    """Return the archive's hash, computed once as long as the same object comes back."""
    known = _hashes.get(id(archive))
    if known is None or known[0] is not archive:
        known = _hashes[id(archive)] = (archive, hashlib.sha256(archive).hexdigest())
    return known[1]
