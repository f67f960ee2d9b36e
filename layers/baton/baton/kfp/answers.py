"""What an answer of the Kubeflow Pipelines API means, in each of the forms that it comes in.

KFP's own errors are gRPC's as JSON (``code``, ``message``), its upload handlers' are ``error_message`` or plain text,
the Kubernetes API server's are ``Status`` objects, and whatever stands in front of it answers with pages and redirects.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from baton.errors import Answered, KfpMisconfigured, KfpRefused, KfpUnavailable
from baton.kfp.transport import Answer

LOGIN_PAGE = "You reached the login page, not the API"
NO_API = "There is no Kubeflow Pipelines API at this address"
NOT_THE_API = "The answer is not the API's"
_ANSWERED = "Kubeflow Pipelines answered"
_BUSY = frozenset({408, 425, 429})
_UNAUTHORIZED = frozenset({401, 403})
_TEXT_LIMIT = 500


def read_answer(answer: Answer) -> dict[str, Any] | None:
    """Return the answer's JSON object, or None where KFP says that there is no such thing.

    Raises KfpRefused, KfpUnavailable (busy, or an error on the server's side) or KfpMisconfigured.
    """
    _require_api(answer)
    content = _json_of(answer)
    if answer.status >= 500 or answer.status in _BUSY:
        raise KfpUnavailable(f"{_ANSWERED} {answer.status}: {_message(answer, content)}", answer.status)
    if answer.status == 404:
        _require_own_404(answer, content)
        return None
    if answer.status >= 400:
        raise KfpRefused(f"{_ANSWERED} {answer.status}: {_message(answer, content)}", answer.status)
    if content is None:
        raise KfpMisconfigured(f"{NOT_THE_API}: {_message(answer, content)}")
    return content


def may_be_for_old_credentials(answer: Answer) -> bool:
    """Return whether fresh credentials may get another answer: gateways refuse old ones, or show their login page."""
    return answer.status in _UNAUTHORIZED or 300 <= answer.status < 400 or (answer.status < 500 and _is_page(answer))


def is_busy(error: Exception) -> bool:
    """Return whether an error of ``read_answer`` says that the server asks to be asked later."""
    return isinstance(error, Answered) and error.status in _BUSY


def wants_credentials(error: Exception) -> bool:
    """Return whether an error of ``read_answer`` says that the server wants to know who asks, or lets others in."""
    return isinstance(error, Answered) and error.status in _UNAUTHORIZED


def _require_api(answer: Answer) -> None:
    if 300 <= answer.status < 400:
        # Without its query, which carries the login's state.
        target = answer.headers.get("location", "somewhere").partition("?")[0]
        raise KfpMisconfigured(f"{LOGIN_PAGE}: the answer is a redirect to {target}. {_ADVICE}")
    if answer.status < 500 and _is_page(answer):
        raise KfpMisconfigured(f"{LOGIN_PAGE}: the answer ({answer.status}) is an HTML page. {_ADVICE}")


_ADVICE = "Check the URL, and the token or header that the secret holds."


def _is_page(answer: Answer) -> bool:
    start = answer.body[:200].lstrip().lower()
    return answer.content_type == "text/html" or start.startswith((b"<!doctype html", b"<html"))


def _json_of(answer: Answer) -> dict[str, Any] | None:
    try:
        content = json.loads(answer.body)
    except (ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


def _require_own_404(answer: Answer, content: Mapping[str, Any] | None) -> None:
    # Only KFP itself knows what does not exist; a gateway's or the API server's 404 means that nobody asked KFP.
    if content is None or content.get("kind") == "Status":
        raise KfpMisconfigured(f"{NO_API}: {_message(answer, content)}")


def _message(answer: Answer, content: Mapping[str, Any] | None) -> str:
    for field in ("error_message", "message", "error", "error_details"):
        text = (content or {}).get(field)
        if isinstance(text, str) and text:
            return text[:_TEXT_LIMIT]
    return answer.body[:_TEXT_LIMIT].decode(errors="replace").strip() or "an empty answer"
