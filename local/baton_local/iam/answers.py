"""The gate's own answers, in each protocol's form and with AWS's words."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any
from xml.sax.saxutils import escape

from baton_local.iam.calls import Call
from baton_local.iam.passing import Passed


@dataclass(frozen=True)
class Answer:
    """A whole HTTP answer."""

    status: int
    reason: str
    body: bytes
    headers: tuple[tuple[str, str], ...] = (("Content-Type", "application/json"),)

    def send(self, start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer a WSGI request with it."""
        headers = [*self.headers, ("Content-Length", str(len(self.body))), ("x-amzn-RequestId", str(uuid.uuid4()))]
        start_response(f"{self.status} {self.reason}", headers)
        return [self.body]


_QUERY_CODES = {
    "AccessDeniedException": "AccessDenied",
    "UnrecognizedClientException": "InvalidClientTokenId",
    "ExpiredTokenException": "ExpiredToken",
    "MissingAuthenticationTokenException": "MissingAuthenticationToken",
}
_S3_CODES = {
    **_QUERY_CODES,
    "UnrecognizedClientException": "InvalidAccessKeyId",
    "MissingAuthenticationTokenException": "AccessDenied",
}
_SNS_CODES = {**_QUERY_CODES, "AccessDeniedException": "AuthorizationError"}


def _error(call: Call, code: str, message: str) -> Answer:
    forms: dict[str, Callable[[Call, str, str], Answer]] = {
        "json": _json_error,
        "cbor": _cbor_error,
        "rest-json": _rest_json_error,
        "query": _query_error,
        "rest-xml": _s3_error,
    }
    return forms[call.protocol](call, code, message)


def _json_error(call: Call, code: str, message: str) -> Answer:
    version = "1.0" if call.service in ("dynamodb", "stepfunctions", "sqs") else "1.1"
    headers = [("Content-Type", f"application/x-amz-json-{version}")]
    if call.service == "sqs":
        headers.append(("x-amzn-query-error", f"{_QUERY_CODES.get(code, code)};Sender"))
    body = json.dumps({"__type": f"com.amazon.coral.service#{code}", "message": message, "Message": message})
    return Answer(400, "Bad Request", body.encode(), tuple(headers))


def _text(value: str) -> bytes:
    """Return a CBOR text string (major type 3) of up to 65,535 bytes."""
    data = value.encode()
    size = len(data)
    head = (
        bytes([0x60 + size]) if size < 24 else bytes([0x78, size]) if size < 256 else b"\x79" + size.to_bytes(2, "big")
    )
    return head + data


def _cbor_error(_call: Call, code: str, message: str) -> Answer:
    body = b"\xa2" + _text("__type") + _text(code) + _text("message") + _text(message)
    headers = (
        ("Content-Type", "application/cbor"),
        ("smithy-protocol", "rpc-v2-cbor"),
        ("x-amzn-query-error", f"{_QUERY_CODES.get(code, code)};Sender"),
    )
    return Answer(400, "Bad Request", body, headers)


def _rest_json_error(_call: Call, code: str, message: str) -> Answer:
    headers = (("Content-Type", "application/json"), ("x-amzn-ErrorType", code))
    status = 400 if code == "InvalidParameterValueException" else 403
    return Answer(status, "Forbidden", json.dumps({"Message": message, "message": message}).encode(), headers)


def _query_error(call: Call, code: str, message: str) -> Answer:
    own = (_SNS_CODES if call.service == "sns" else _QUERY_CODES).get(code, code)
    body = (
        f"<ErrorResponse><Error><Type>Sender</Type><Code>{own}</Code><Message>{escape(message)}</Message></Error>"
        f"<RequestId>{uuid.uuid4()}</RequestId></ErrorResponse>"
    )
    return Answer(403, "Forbidden", body.encode(), (("Content-Type", "text/xml"),))


def _s3_error(call: Call, code: str, message: str) -> Answer:
    body = (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f"<Error><Code>{_S3_CODES.get(code, code)}</Code><Message>{escape(message)}</Message></Error>"
    )
    return Answer(
        403, "Forbidden", b"" if call.method == "HEAD" else body.encode(), (("Content-Type", "application/xml"),)
    )


def denied(call: Call, message: str) -> Answer:
    """Return a denial with AWS's sentence."""
    return _error(call, "AccessDeniedException", message)


def bad_credentials(call: Call, expired: bool) -> Answer:
    """Return what a call with an unknown key, a wrong token or an expired session gets."""
    if expired:
        return _error(call, "ExpiredTokenException", "The security token included in the request is expired")
    if call.protocol == "rest-xml":
        message = "The AWS Access Key Id you provided does not exist in our records."
        return _error(call, "UnrecognizedClientException", message)
    return _error(call, "UnrecognizedClientException", "The security token included in the request is invalid.")


def anonymous(call: Call) -> Answer:
    """Return what a call without a signature gets: nothing here is public."""
    return _error(call, "MissingAuthenticationTokenException", "Request is missing Authentication Token")


def untrusted(call: Call, passed: Passed) -> Answer:
    """Return what a service says to a role that it cannot assume."""
    if call.service == "lambda":
        message = "The role defined for the function cannot be assumed by Lambda."
        return _error(call, "InvalidParameterValueException", message)
    if call.service == "stepfunctions":
        message = (
            f"Neither the global service principal {passed.service}, nor the regional one is authorized to assume "
            f"the provided role."
        )
        return _error(call, "AccessDeniedException", message)
    message = (
        f"Could not assume role {passed.role_arn}. Please ensure that the role exists and allows principal "
        f"'{passed.service}' to assume the role."
    )
    return _error(call, "ValidationException", message)
