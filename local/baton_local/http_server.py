"""moto's application behind an HTTP server that keeps connections open, which its own development server does not."""

from __future__ import annotations

import functools
import io
import sys
import traceback
from collections.abc import Callable, Iterable
from typing import Any

from werkzeug.serving import BaseWSGIServer, make_server

from baton_local import quick_answers
from baton_local.seams import register, replace

WsgiApplication = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]
_NO_BODY = (204, 304)


class _CutOff(Exception):
    """The sender was gone before its request was whole."""


class _Handler(register("moto.moto_server.werkzeug_app", "MotoRequestHandler")):  # type: ignore[misc]
    """Reads each request and each answer as a whole, so that the connection can carry the next one."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1

    def run_wsgi(self) -> None:
        """Answer one request; one that is not whole is nobody's wish, and so is none."""
        try:
            environ = self._environ()
        except (_CutOff, ConnectionError):
            self.close_connection = True
            return
        try:
            status, headers, body = _collect(self.server.app, environ)
        except Exception:
            print(traceback.format_exc(), file=sys.stderr, flush=True)
            status, headers, body = "500 Internal Server Error", [], b'{"message": "the embedded cloud failed"}'
        try:
            self._answer(status, headers, body)
        except ConnectionError:
            self.close_connection = True

    def handle_expect_100(self) -> bool:
        """Tell the client at once to send the body: it would wait a second for this."""
        answer: bool = super().handle_expect_100()
        self.wfile.flush()
        return answer

    def log_request(self, code: Any = "-", size: Any = "-") -> None:
        """Keep the log for what went wrong."""

    def _environ(self) -> dict[str, Any]:
        environ: dict[str, Any] = self.make_environ()
        stream = environ["wsgi.input"]
        whole = environ.pop("wsgi.input_terminated", False)
        length = int(environ.get("CONTENT_LENGTH") or 0)
        body = stream.read() if whole else stream.read(length)
        if not whole and len(body) < length:
            raise _CutOff
        environ.pop("HTTP_TRANSFER_ENCODING", None)
        return {**environ, "wsgi.input": io.BytesIO(body), "CONTENT_LENGTH": str(len(body))}

    def _answer(self, status: str, headers: list[tuple[str, str]], body: bytes) -> None:
        code, _, reason = status.partition(" ")
        self.send_response(int(code), reason)
        names = {name.lower() for name, _ in headers}
        for name, value in headers:
            self.send_header(name, value)
        if "content-length" not in names and int(code) not in _NO_BODY:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD" and int(code) not in _NO_BODY:
            self.wfile.write(body)
        self.wfile.flush()


def _collect(app: WsgiApplication, environ: dict[str, Any]) -> tuple[str, list[tuple[str, str]], bytes]:
    """Call the application and return its whole answer: status line, headers, body."""
    started: list[Any] = []

    def start_response(status: str, headers: list[tuple[str, str]], _error: Any = None) -> None:
        started[:] = [status, _one_request_id(headers)]

    answer = app(environ, start_response)
    try:
        body = b"".join(answer)
    finally:
        close = getattr(answer, "close", None)
        if close:
            close()
    return started[0], started[1], body


def _one_request_id(headers: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return the headers with the first request id: moto adds a random one to that of a service which knows its own."""
    ids = [header for header in headers if header[0].lower() == "x-amzn-requestid"]
    return [header for header in headers if header not in ids[1:]]


def moto_application() -> WsgiApplication:
    """Return moto's WSGI application, which finds the service of each request by its signature."""
    quick_answers.install()
    module, name = "moto.moto_server.werkzeug_app", "DomainDispatcherApplication"
    find = register(module, f"{name}.get_backend_for_host", ("self", "host"))
    # moto looks through its source folders for each request, which took half of the time of a small one.
    replace(module, f"{name}.get_backend_for_host", functools.lru_cache(maxsize=None)(find), ("self", "host"))
    dispatcher = register(module, name, ("create_app",))
    create = register(module, "create_backend_app", ("service",))
    application: WsgiApplication = dispatcher(create)
    return application


def bind(port: int, application: WsgiApplication) -> BaseWSGIServer:
    """Listen on 127.0.0.1 at a port (0: any that is free); serve with ``serve_forever``."""
    server = make_server("127.0.0.1", port, application, threaded=True, request_handler=_Handler)
    server.daemon_threads = True  # type: ignore[attr-defined]
    return server
