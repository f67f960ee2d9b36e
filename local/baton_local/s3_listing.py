"""S3's listings while others write and delete: moto looks at each key again, and some are gone by then."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from baton_local.seams import replace

_ATTEMPTS = 20
_OVERTAKEN = (KeyError, TypeError, ValueError, RuntimeError)
"""What moto raises for a key, a version or its content that went while it was listed."""


def install() -> None:
    """Open the seams."""
    models = "moto.s3.models"
    for operation, parameters in (
        ("list_objects", ("self", "bucket", "prefix", "delimiter", "marker", "max_keys")),
        (
            "list_object_versions",
            ("self", "bucket_name", "delimiter", "key_marker", "max_keys", "prefix", "version_id_marker"),
        ),
    ):
        _open(models, f"S3Backend.{operation}", parameters)


def _open(module: str, attribute: str, parameters: tuple[str, ...]) -> None:
    before: list[Callable[..., Any]] = []

    def listing(self: Any, *arguments: Any, **named: Any) -> Any:
        return again(functools.partial(before[0], self, *arguments, **named))

    before.append(replace(module, attribute, listing, parameters))


def again(look: Callable[[], Any]) -> Any:
    """Return what a look at changing things sees; look again where they changed under it."""
    for _ in range(_ATTEMPTS - 1):
        try:
            return look()
        except _OVERTAKEN:
            continue
    return look()
