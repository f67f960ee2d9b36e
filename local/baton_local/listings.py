"""S3's listings: quick, though moto copies all that a bucket holds, and right while others write and delete.

So are SNS's subscriptions right while others subscribe, and their messages signed by one key.
"""

from __future__ import annotations

import functools
import io
from collections.abc import Callable
from typing import Any

from cryptography.hazmat.primitives.asymmetric import rsa

from baton_local.seams import add, replace

_ATTEMPTS = 20
_OVERTAKEN = (KeyError, TypeError, ValueError, RuntimeError)
"""What moto raises for a key, a version or its content that went while it was listed."""


def install() -> None:
    """Open the seams."""
    models = "moto.s3.models"
    add(models, "FakeKey.__deepcopy__", _without_content)
    for operation, parameters in (
        ("list_objects", ("self", "bucket", "prefix", "delimiter", "marker", "max_keys")),
        (
            "list_object_versions",
            ("self", "bucket_name", "delimiter", "key_marker", "max_keys", "prefix", "version_id_marker"),
        ),
    ):
        _open(models, f"S3Backend.{operation}", parameters)
    _open("moto.sns.models", "SNSBackend._find_subscription", ("self", "topic_arn", "endpoint", "protocol"))
    _open("moto.sns.models", "SNSBackend._get_topic_subscriptions", ("self", "topic"))
    # moto's own is made anew for each subscription, which takes longer than all else that a message needs.
    replace("moto.sns.models", "Subscription.private_key", lambda _subscription: _signing_key())


@functools.cache
def _signing_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def _open(module: str, attribute: str, parameters: tuple[str, ...]) -> None:
    before: list[Callable[..., Any]] = []

    def listing(self: Any, *arguments: Any, **named: Any) -> Any:
        return again(functools.partial(before[0], self, *arguments, **named))

    before.append(replace(module, attribute, listing, parameters))


def _without_content(key: Any, _memo: dict[int, Any]) -> Any:
    """Return a key as a listing shows it: moto asks for a deep copy of every version, and would copy the bytes too."""
    if not key.disposed:
        with key.lock:
            _ = key.etag  # moto computes it from the bytes when it is first asked, and keeps it.
    listed = object.__new__(type(key))
    listed.__dict__.update(key.__dict__, _value_buffer=io.BytesIO(), multipart=None, disposed=True)
    return listed


def again(look: Callable[[], Any]) -> Any:
    """Return what a look at changing things sees; look again where they changed under it."""
    for _ in range(_ATTEMPTS - 1):
        try:
            return look()
        except _OVERTAKEN:
            continue
    return look()
