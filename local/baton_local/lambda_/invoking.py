"""The Invoke operation: its three types, its limits and its errors, on top of the fleet of sandboxes.

https://docs.aws.amazon.com/lambda/latest/api/API_Invoke.html
"""

from __future__ import annotations

import base64
import json
import threading
import time
from dataclasses import dataclass, field
from typing import Any

from baton_local.lambda_.fleet import Fleet, ThrottledError
from baton_local.lambda_.functions import Function, function_of
from baton_local.lambda_.runtime_api import Invocation
from baton_local.lambda_.sandbox import Outcome, Sandbox

SYNCHRONOUS_BYTES = 6 * 1024 * 1024
ASYNCHRONOUS_BYTES = 1024 * 1024
RESPONSE_BYTES = SYNCHRONOUS_BYTES + 100
"""https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html; Lambda's own message has 100 bytes more."""

_LOG_TAIL_BYTES = 4096


class InvokeError(Exception):
    """An Invoke that never reached the function; ``status`` and ``code`` are those of Lambda's answer."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


@dataclass(frozen=True)
class Request:
    """One call of Invoke: the function's version that it found, the payload, and the ARN as the caller gave it."""

    function: Function
    payload: bytes
    invoked_arn: str
    client_context: str = ""
    request_id: str = field(default_factory=lambda: Invocation(b"", "").request_id)


class Invoker:
    """Runs requests in the fleet and writes their logs."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._log_lock = threading.Lock()

    def run(self, request: Request, logs: Any) -> Outcome:
        """Run a request to its end and return what came of it; raise InvokeError if it did not start.

        ``logs`` is moto's CloudWatch Logs backend of the function's region.
        """
        _check_runtime(request.function)
        context = base64.b64decode(request.client_context).decode() if request.client_context else ""
        invocation = Invocation(request.payload, request.invoked_arn, context, request.request_id)
        try:
            outcome, sandbox = self._fleet.invoke(request.function, invocation)
        except ThrottledError as error:
            raise InvokeError(429, "TooManyRequestsException", str(error)) from error
        self._write_log(sandbox, outcome.log, logs)
        return _limit_response(outcome)

    def _write_log(self, sandbox: Sandbox, text: str, logs: Any) -> None:
        group = sandbox.function.log_group
        now = int(time.time() * 1000)
        events = [{"timestamp": now, "message": line} for line in text.splitlines()]
        with self._log_lock:
            logs.ensure_log_group(group)
            logs.ensure_log_stream(group, sandbox.log_stream)
            logs.put_log_events(group, sandbox.log_stream, events)


def request_for(model: Any, layers: list[bytes], body: Any, qualifier: str | None, client_context: str = "") -> Request:
    """Return the request that a payload makes of one of moto's functions."""
    arn = f"arn:{model.partition}:lambda:{model.region}:{model.account_id}:function:{model.function_name}"
    payload = body.encode() if isinstance(body, str) else bytes(body or b"")
    return Request(
        function_of(model, layers), payload or b"{}", f"{arn}:{qualifier}" if qualifier else arn, client_context
    )


def check_payload(payload: bytes, asynchronous: bool) -> None:
    """Raise InvokeError for a payload that Lambda refuses."""
    limit = ASYNCHRONOUS_BYTES if asynchronous else SYNCHRONOUS_BYTES
    if len(payload) > limit:
        message = f"{len(payload)} byte payload is too large: the limit is {limit} bytes"
        raise InvokeError(413, "RequestTooLargeException", message)
    try:
        json.loads(payload)
    except ValueError as error:
        message = f"Could not parse request body into json: {error}"
        raise InvokeError(400, "InvalidRequestContentException", message) from error


def log_tail(outcome: Outcome) -> str:
    """Return the last 4 KB of an invocation's log, as the header X-Amz-Log-Result has them."""
    return base64.b64encode(outcome.log.encode()[-_LOG_TAIL_BYTES:]).decode()


def _check_runtime(function: Function) -> None:
    if not function.runtime.startswith("python"):
        message = f"the embedded cloud runs Python functions only, and this one's runtime is {function.runtime!r}"
        raise InvokeError(502, "InvalidRuntimeException", message)


def _limit_response(outcome: Outcome) -> Outcome:
    if len(outcome.body) <= RESPONSE_BYTES:
        return outcome
    message = f"Response payload size exceeded maximum allowed payload size ({RESPONSE_BYTES} bytes)."
    body = {"errorMessage": message, "errorType": "Function.ResponseSizeTooLarge"}
    return Outcome(json.dumps(body).encode(), True, outcome.log, outcome.request_id)
