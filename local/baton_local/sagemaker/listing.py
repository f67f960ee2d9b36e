"""What the List* calls have in common: filters, order and pages."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from baton_local.sagemaker.errors import validation
from baton_local.sagemaker.events import Description

_PAGE = 10


def filtered(
    items: Iterable[Description], request: dict[str, Any], name_field: str, status_field: str | None
) -> list[Description]:
    """Return the described things that pass the request's filters, in its order (default: newest first)."""
    found = [item for item in items if _passes(item, request, name_field, status_field)]
    fields = {"Name": name_field, "Status": status_field}
    key = fields.get(request.get("SortBy", ""), "CreationTime") or "CreationTime"
    found.sort(key=lambda item: item.get(key, ""), reverse=request.get("SortOrder", "Descending") == "Descending")
    return found


def _passes(item: Description, request: dict[str, Any], name_field: str, status_field: str | None) -> bool:
    wanted = request.get("StatusEquals")
    if wanted and (status_field is None or item[status_field] != wanted):
        return False
    if request.get("NameContains", "").lower() not in item[name_field].lower():
        return False
    return all(_in_time(item.get(f"{field}Time"), request, field) for field in ("Creation", "LastModified"))


def _in_time(moment: datetime | None, request: dict[str, Any], field: str) -> bool:
    after, before = request.get(f"{field}TimeAfter"), request.get(f"{field}TimeBefore")
    if moment is None:
        return after is None and before is None
    when = moment.timestamp()
    return (after is None or when > after) and (before is None or when < before)


def page(items: list[Any], request: dict[str, Any], field: str, size: int = _PAGE) -> Description:
    """Return one page of an answer: the items in ``field``, and NextToken if there are more."""
    start = _start(request.get("NextToken"))
    end = start + request.get("MaxResults", size)
    token = base64.b64encode(str(end).encode()).decode() if end < len(items) else None
    return {field: items[start:end], **({"NextToken": token} if token else {})}


def _start(token: str | None) -> int:
    try:
        return int(base64.b64decode(token, validate=True)) if token else 0
    except ValueError as error:
        raise validation("The pagination token is not valid.") from error
