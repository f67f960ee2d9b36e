"""The API's errors, in the form of its gRPC gateway: a code, a message, details, and the HTTP status of the code."""

from __future__ import annotations

from typing import Any

_HTTP = {3: 400, 5: 404, 6: 409, 7: 403, 9: 400, 10: 409, 12: 501, 13: 500, 14: 503, 16: 401}


class ApiError(Exception):
    """An answer that is an error; ``code`` is gRPC's."""

    code = 13

    @property
    def status(self) -> int:
        """The HTTP status."""
        return _HTTP[self.code]

    def body(self) -> dict[str, Any]:
        """Return the answer's JSON object."""
        message = str(self)
        details = {"@type": "type.googleapis.com/google.rpc.Status", "code": self.code, "message": message}
        return {"code": self.code, "message": message, "details": [details]}


class InvalidArgument(ApiError):
    """The request is wrong."""

    code = 3


class NotFound(ApiError):
    """There is no such thing."""

    code = 5


class AlreadyExists(ApiError):
    """The name is taken."""

    code = 6


class Unimplemented(ApiError):
    """Real Kubeflow Pipelines has this call and the embedded one has not."""

    code = 12


class Internal(ApiError):
    """What Kubeflow Pipelines answers where it did not expect the request."""

    code = 13


class Unavailable(ApiError):
    """The API server is down."""

    code = 14


class UploadError(Exception):
    """An error of the two upload calls, which are no gRPC calls and have a form of their own."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status

    def body(self) -> dict[str, Any]:
        """Return the answer's JSON object."""
        return {"error_message": str(self), "error_details": str(self)}
