"""What botocore's models of AWS say."""

from __future__ import annotations

from functools import cache

import botocore.session
from botocore.session import Session


@cache
@cache
def session() -> Session:
    """Return the session through which tests read botocore's data; making one takes longer than reading."""
    return botocore.session.get_session()


def values_of(service: str, shape: str) -> tuple[str, ...]:
    """Return the values of an enumeration of a service."""
    return tuple(session().get_service_model(service).shape_for(shape).enum)
