"""What botocore's models of AWS say."""

from __future__ import annotations

from functools import cache

import botocore.session


@cache
def values_of(service: str, shape: str) -> tuple[str, ...]:
    """Return the values of an enumeration of a service."""
    return tuple(botocore.session.get_session().get_service_model(service).shape_for(shape).enum)
