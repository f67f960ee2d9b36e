"""What AWS refuses to a function for want of a permission, under one name and with the function's own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from botocore.exceptions import ClientError

from baton.errors import AccessDenied

# Each service has its own word: SNS says AuthorizationError, EC2 UnauthorizedOperation, HeadObject has only a status.
DENIAL_CODES = frozenset(
    {
        "AccessDenied",
        "AccessDeniedException",
        "AuthorizationError",
        "AuthorizationErrorException",
        "UnauthorizedOperation",
    }
)


def is_denial(error: Exception) -> bool:
    """Whether AWS refused a call because a permission is missing."""
    return isinstance(error, ClientError) and error.response["Error"]["Code"] in DENIAL_CODES


def read_denied(uri: str, version: str | None) -> str:
    """Say what it means that an object of the run bucket may not be read, where AWS does not."""
    action = "s3:GetObjectVersion" if version else "s3:GetObject"
    return f"its role is not authorized to perform: {action} on {uri} (or s3:ListBucket, if nothing is there)"


@contextmanager
def denials_by_name(function: str) -> Iterator[None]:
    """Turn a refusal into AccessDenied, which names the function; AWS's message names the role and the action.

    An AccessDenied that is raised inside, where AWS says nothing, gets the function's name, too.
    """
    try:
        yield
    except AccessDenied as error:
        raise _by(function, str(error)) from error
    except ClientError as error:
        if is_denial(error):
            raise _by(function, error.response["Error"].get("Message", str(error))) from error
        raise


def _by(function: str, message: str) -> AccessDenied:
    return AccessDenied(f"{function} lacks a permission: {message}")
