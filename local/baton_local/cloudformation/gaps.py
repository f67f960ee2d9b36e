"""What moto's services accept but do not show again, so that a template's effect can be looked up."""

from __future__ import annotations

import re
from typing import Any

from baton_local.seams import replace

_EVENT_BRIDGE = "<EventBridgeConfiguration></EventBridgeConfiguration>"


def _with_event_bridge(body: str) -> str:
    """Return S3's XML answer with the element by which it says that events go to EventBridge."""
    opened = re.sub(r"<([A-Za-z]\w*)([^<>]*?)\s*/>\s*$", r"<\1\2></\1>", body)
    return re.sub(r"(</\w+>\s*)$", _EVENT_BRIDGE + r"\1", opened)


def install() -> None:
    """Let GetBucketNotificationConfiguration show the EventBridge configuration."""

    def get_bucket_notification(response: Any) -> Any:
        answer = original(response)
        found = response.backend.get_bucket_notification_configuration(response.bucket_name)
        if found is None or found.event_bridge is None:
            return answer
        status, headers, body = answer
        return status, headers, _with_event_bridge(body.decode() if isinstance(body, bytes) else body)

    original = replace("moto.s3.responses", "S3Response.get_bucket_notification", get_bucket_notification, ("self",))
