"""S3's events on EventBridge, as https://docs.aws.amazon.com/AmazonS3/latest/userguide/ev-events.html has them.

Unlike in S3's own notifications the key is not URL-encoded there.
"""

from __future__ import annotations

import itertools
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from baton_local import bus, listings
from baton_local.context import CloudContext
from baton_local.seams import register, replace

_REASONS = {
    "ObjectCreated:Put": "PutObject",
    "ObjectCreated:Post": "POST Object",
    "ObjectCreated:Copy": "CopyObject",
    "ObjectCreated:CompleteMultipartUpload": "CompleteMultipartUpload",
    "ObjectRemoved:Delete": "DeleteObject",
    "ObjectRemoved:DeleteMarkerCreated": "DeleteObject",
    "LifecycleExpiration:Delete": "Lifecycle Expiration",
    "LifecycleExpiration:DeleteMarkerCreated": "Lifecycle Expiration",
}
_DETAIL_TYPES = {
    "ObjectCreated": "Object Created",
    "ObjectRemoved": "Object Deleted",
    "LifecycleExpiration": "Object Deleted",
    "ObjectTagging:Put": "Object Tags Added",
    "ObjectTagging:Delete": "Object Tags Deleted",
    "ObjectAcl": "Object ACL Updated",
    "ObjectRestore:Post": "Object Restore Initiated",
    "ObjectRestore:Completed": "Object Restore Completed",
    "ObjectRestore:Delete": "Object Restore Expired",
}
_ETAG_OF_NOTHING = "d41d8cd98f00b204e9800998ecf8427e"
_sequence = itertools.count(time.time_ns())
_moto: dict[str, Any] = {}
_now = threading.local()


def install(context: CloudContext) -> None:
    """Replace what moto's S3 sends to EventBridge, send what it leaves out, and let it list while others write."""
    del context
    listings.install()
    notifications, models = "moto.s3.notifications", "moto.s3.models"
    replace(notifications, "_send_event_bridge_message", _send, ("account_id", "bucket", "event_name", "key"))
    _moto["send_event"] = register(notifications, "send_event", ("account_id", "event_name", "bucket", "key"))
    _moto["events"] = register(notifications, "S3NotificationEvent")
    _moto["complete"] = replace(
        models,
        "S3Backend.complete_multipart_upload",
        _complete_multipart_upload,
        ("self", "bucket_name", "multipart_id", "body"),
    )
    _moto["tag"] = replace("moto.s3.responses", "S3Response.put_object_tagging", _put_object_tagging, ("self",))
    _moto["marker"] = replace(
        models, "S3Backend._set_delete_marker", _set_delete_marker, ("self", "bucket_name", "key_name")
    )
    _moto["delete"] = replace(
        models, "S3Backend.delete_object", _delete_object, ("self", "bucket_name", "key_name", "version_id", "bypass")
    )


def _send(account_id: str, bucket: Any, event_name: Any, key: Any) -> None:
    """Put one event on the default bus of the bucket's owner."""
    name = str(getattr(event_name, "value", event_name)).removeprefix("s3:")
    kind = name.partition(":")[0]
    if _is_noise(name):
        return
    deletion = kind in ("ObjectRemoved", "LifecycleExpiration")
    detail = {
        "version": "0",
        "bucket": {"name": bucket.name},
        "object": _object(key, deletion),
        "request-id": uuid.uuid4().hex[:16].upper(),
        "requester": account_id,
        "source-ip-address": "127.0.0.1",
    }
    if name in _REASONS:
        detail["reason"] = _REASONS[name]
    if deletion:
        detail["deletion-type"] = "Delete Marker Created" if "DeleteMarker" in name else "Permanently Deleted"
    detail_type = _DETAIL_TYPES.get(name) or _DETAIL_TYPES[kind]
    bus.emit(account_id, bucket.region_name, "aws.s3", detail_type, [bucket.arn], detail)


def _is_noise(name: str) -> bool:
    """Tell whether moto sends an event where S3 sends none, or where this module sends it itself."""
    # A PUT with or without tags is one event; only the PutObjectTagging call makes "Object Tags Added".
    if name == "ObjectTagging:Put":
        return not getattr(_now, "tagging", False)
    if name in ("ObjectCreated:Put", "ObjectCreated:Post") and getattr(_now, "completing", False):
        return True
    return bool(getattr(_now, "quiet", False))


def _object(key: Any, deletion: bool) -> dict[str, Any]:
    described: dict[str, Any] = {"key": key.name}
    if not deletion:
        described["size"] = key.size
    described["etag"] = str(getattr(key, "etag", None) or _ETAG_OF_NOTHING).strip('"')
    if key.version_id not in (None, "null"):
        described["version-id"] = str(key.version_id)
    return {**described, "sequencer": f"{next(_sequence):016x}"}


@contextmanager
def _flag(name: str) -> Iterator[None]:
    setattr(_now, name, True)
    try:
        yield
    finally:
        setattr(_now, name, False)


def _complete_multipart_upload(self: Any, bucket_name: str, multipart_id: str, body: Any) -> Any:
    with _flag("completing"):
        return _moto["complete"](self, bucket_name, multipart_id, body)


def _put_object_tagging(self: Any) -> Any:
    with _flag("tagging"):
        return _moto["tag"](self)


def _set_delete_marker(self: Any, bucket_name: str, key_name: str) -> Any:
    marker = _moto["marker"](self, bucket_name, key_name)
    event = _moto["events"].OBJECT_REMOVED_DELETE_MARKER_CREATED_EVENT
    _moto["send_event"](self.account_id, event, self.get_bucket(bucket_name), marker)
    return marker


def _delete_object(
    self: Any, bucket_name: str, key_name: str, version_id: str | None = None, bypass: bool = False
) -> Any:
    if version_id is None:
        return _moto["delete"](self, bucket_name, key_name, version_id, bypass)
    bucket = self.get_bucket(bucket_name)
    doomed = [k for k in bucket.keys.getlist(key_name, []) if str(k.version_id) == str(version_id)]
    with _flag("quiet"):
        answer = _moto["delete"](self, bucket_name, key_name, version_id, bypass)
    for key in doomed:
        _moto["send_event"](self.account_id, _moto["events"].OBJECT_REMOVED_DELETE_EVENT, bucket, key)
    return answer
