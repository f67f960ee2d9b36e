"""A Lambda runtime in pure Python, for where AWS's own client has no wheel: ``python runtime_client.py app.handler``.

It speaks the Runtime API, 2018-06-01, and words its errors as awslambdaric does:
https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html. It runs inside the sandbox and imports nothing but the
standard library.
"""

from __future__ import annotations

import decimal
import http.client
import importlib
import json
import logging
import os
import sys
import time
import traceback
from types import SimpleNamespace
from typing import Any

API = "/2018-06-01/runtime"


class Fault(Exception):
    """An error of the runtime itself, with the type that Lambda gives it."""

    def __init__(self, error_type: str, message: str, trace: list[str] | None = None) -> None:
        super().__init__(message)
        self.error_type = error_type
        self.trace = trace or []


class Context(SimpleNamespace):
    """The handler's second argument."""

    def get_remaining_time_in_millis(self) -> int:
        """Return how many milliseconds the invocation has left."""
        return max(0, int(self._deadline_ms) - int(time.time() * 1000))


def main(handler_name: str) -> None:
    """Serve invocations for ever; exit with 1 if the handler cannot be loaded."""
    _set_up_logging()
    connection = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
    try:
        handler = _load(handler_name)
    except BaseException as error:
        _post(connection, "/init/error", _error_body(error, ""))
        sys.exit(1)
    while True:
        _serve_one(connection, handler)


def _serve_one(connection: http.client.HTTPConnection, handler: Any) -> None:
    connection.request("GET", f"{API}/invocation/next")
    answer = connection.getresponse()
    event, headers = answer.read(), answer.headers
    request_id = headers["Lambda-Runtime-Aws-Request-Id"]
    os.environ["_X_AMZN_TRACE_ID"] = headers.get("Lambda-Runtime-Trace-Id", "")
    _Filter.request_id = request_id
    try:
        result, path = _encode(handler(json.loads(event), _context(headers))), "response"
    except Exception as error:
        result, path = _error_body(error, request_id), "error"
        print(f"[ERROR] {json.loads(result)['errorType']}: {error}\r{''.join(traceback.format_exc())}")
    sys.stdout.flush()
    sys.stderr.flush()
    _post(connection, f"/invocation/{request_id}/{path}", result)


def _post(connection: http.client.HTTPConnection, path: str, body: bytes) -> None:
    connection.request("POST", API + path, body, {"Content-Type": "application/json"})
    connection.getresponse().read()


def _load(name: str) -> Any:
    module_name, dot, function_name = name.rpartition(".")
    if not dot:
        raise Fault("Runtime.MalformedHandlerName", f"Bad handler '{name}': not enough values to unpack")
    try:
        module = importlib.import_module(module_name.replace("/", "."))
    except ImportError as error:
        raise Fault("Runtime.ImportModuleError", f"Unable to import module '{module_name}': {error}") from error
    except SyntaxError as error:
        trace = [f'  File "{error.filename}" Line {error.lineno}\n    {error.text}']
        raise Fault("Runtime.UserCodeSyntaxError", f"Syntax error in module '{module_name}': {error}", trace) from error
    if not hasattr(module, function_name):
        raise Fault("Runtime.HandlerNotFound", f"Handler '{function_name}' missing on module '{module_name}'")
    return getattr(module, function_name)


def _encode(result: Any) -> bytes:
    try:
        return json.dumps(result, ensure_ascii=False, default=_decimal_as_number).encode()
    except (TypeError, ValueError) as error:
        raise Fault("Runtime.MarshalError", f"Unable to marshal response: {error}") from error


def _decimal_as_number(value: Any) -> float:
    if isinstance(value, decimal.Decimal):
        return float(value)
    raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")


def _error_body(error: BaseException, request_id: str) -> bytes:
    if isinstance(error, Fault):
        error_type, trace = error.error_type, error.trace
    else:
        frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename != __file__]
        frames = [f for f in frames if not f.filename.startswith("<frozen importlib")]
        error_type, trace = type(error).__name__, traceback.format_list(frames)
    body = {"errorMessage": str(error), "errorType": error_type, "requestId": request_id, "stackTrace": trace}
    return json.dumps(body).encode()


def _context(headers: Any) -> Context:
    variables = os.environ
    return Context(
        aws_request_id=headers["Lambda-Runtime-Aws-Request-Id"],
        invoked_function_arn=headers["Lambda-Runtime-Invoked-Function-Arn"],
        function_name=variables["AWS_LAMBDA_FUNCTION_NAME"],
        function_version=variables["AWS_LAMBDA_FUNCTION_VERSION"],
        memory_limit_in_mb=variables["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"],
        log_group_name=variables["AWS_LAMBDA_LOG_GROUP_NAME"],
        log_stream_name=variables["AWS_LAMBDA_LOG_STREAM_NAME"],
        client_context=_client_context(headers.get("Lambda-Runtime-Client-Context")),
        identity=SimpleNamespace(cognito_identity_id=None, cognito_identity_pool_id=None),
        tenant_id=None,
        _deadline_ms=int(headers["Lambda-Runtime-Deadline-Ms"]),
    )


def _client_context(text: str | None) -> Any:
    if not text:
        return None
    values = json.loads(text)
    client = SimpleNamespace(**values.get("client", {})) if values.get("client") else None
    return SimpleNamespace(custom=values.get("custom"), env=values.get("env"), client=client)


class _Filter(logging.Filter):
    request_id = ""

    def filter(self, record: logging.LogRecord) -> bool:
        record.aws_request_id = self.request_id
        return True


def _set_up_logging() -> None:
    logging.Formatter.converter = time.gmtime
    handler = logging.StreamHandler(sys.stdout)
    line = "[%(levelname)s]\t%(asctime)s.%(msecs)03dZ\t%(aws_request_id)s\t%(message)s"
    handler.setFormatter(logging.Formatter(line, "%Y-%m-%dT%H:%M:%S"))
    handler.addFilter(_Filter())
    logging.getLogger().addHandler(handler)


if __name__ == "__main__":
    main(sys.argv[1])
