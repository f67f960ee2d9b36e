"""The refusals of SageMaker's API, with its codes and words."""

from __future__ import annotations

from moto.core.exceptions import ServiceException


class Refusal(ServiceException):
    """An error answer: ``Refusal(code, message)``."""


def validation(message: str) -> Refusal:
    """Return a ValidationException, which is what most of SageMaker's refusals are."""
    return Refusal("ValidationException", message)


def in_use(message: str) -> Refusal:
    """Return the refusal of a name that is taken."""
    return Refusal("ResourceInUse", message)


def not_found(message: str = "Requested resource not found.") -> Refusal:
    """Return the refusal of those calls that have a code of their own for what does not exist."""
    return Refusal("ResourceNotFound", message)


def limit_exceeded(message: str) -> Refusal:
    """Return the refusal of what would exceed a quota."""
    return Refusal("ResourceLimitExceeded", message)
