"""The Lambda Runtime API, 2018-06-01: the small HTTP server from which a sandbox takes its invocations.

https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html. Each sandbox has a server of its own, because a runtime
is told only a host and a port.
"""

from __future__ import annotations

import queue
import threading
import time
import uuid
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from baton_local.http_bodies import read_body

API = "/2018-06-01/runtime"


@dataclass
class Invocation:
    """One request to a function on its way through a sandbox.

    ``doomed_after``: the sandbox is killed after so many of its AWS calls, by the crash dial. ``calls`` counts them.
    """

    payload: bytes
    function_arn: str
    client_context: str = ""
    request_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    doomed_after: int | None = None
    calls: int = 0
    deadline_epoch: float = 0.0
    _done: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _result: tuple[bytes, bool] | None = None

    def complete(self, body: bytes, is_error: bool) -> None:
        """Fix the result; whatever comes after the first one is ignored."""
        with self._lock:
            if self._result is None:
                self._result = (body, is_error)
        self._done.set()

    def wait(self, seconds: float) -> tuple[bytes, bool] | None:
        """Return the result (body, whether it is an error), or None when there is none within these seconds."""
        self._done.wait(seconds)
        with self._lock:
            return self._result

    def headers(self) -> dict[str, str]:
        """Return the headers by which the runtime learns about this invocation."""
        trace = (
            f"Root=1-{int(time.time()):08x}-{self.request_id.replace('-', '')[:24]};Parent=53995c3f42cd8ad8;Sampled=0"
        )
        values = {
            "Lambda-Runtime-Aws-Request-Id": self.request_id,
            "Lambda-Runtime-Deadline-Ms": str(int(self.deadline_epoch * 1000)),
            "Lambda-Runtime-Invoked-Function-Arn": self.function_arn,
            "Lambda-Runtime-Trace-Id": trace,
        }
        return {**values, "Lambda-Runtime-Client-Context": self.client_context} if self.client_context else values


class RuntimeApi:
    """The Runtime API of one sandbox.

    ``settled`` is set when the runtime has asked for its first invocation, has reported an error of its
    initialisation (then in ``init_error``), or has exited.
    """

    def __init__(self) -> None:
        self.settled = threading.Event()
        self.init_error: bytes | None = None
        self._current: Invocation | None = None
        self._waiting: queue.SimpleQueue[Invocation | None] = queue.SimpleQueue()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.api = self
        threading.Thread(target=self._server.serve_forever, name="runtime-api", daemon=True).start()

    @property
    def address(self) -> str:
        """The host and port that the sandbox is told."""
        return f"127.0.0.1:{self._server.server_port}"

    def offer(self, invocation: Invocation) -> None:
        """Hand an invocation to the runtime as soon as it asks."""
        self._current = invocation
        self._waiting.put(invocation)

    def close(self) -> None:
        """Stop serving; a runtime that still asks gets no answer."""
        self.settled.set()
        self._waiting.put(None)
        threading.Thread(target=self._shut_down, daemon=True).start()

    def next_invocation(self) -> Invocation | None:
        """Wait for the next invocation; None when the sandbox is to end."""
        self.settled.set()
        return self._waiting.get()

    def report(self, path: str, body: bytes) -> None:
        """Take in what the runtime posts: the result or the error of an invocation, or of the initialisation."""
        if path == f"{API}/init/error":
            self.init_error = body
            self.settled.set()
        elif self._current and path.startswith(f"{API}/invocation/{self._current.request_id}/"):
            self._current.complete(body, is_error=path.endswith("/error"))

    def _shut_down(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    api: RuntimeApi


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    server: _Server

    def do_GET(self) -> None:
        """Answer ``/invocation/next``, when there is one."""
        invocation = self.server.api.next_invocation()
        if invocation is None:
            self._answer(410, b"", {})
            return
        self._answer(200, invocation.payload, {"Content-Type": "application/json", **invocation.headers()})

    def do_POST(self) -> None:
        """Take a result."""
        self.server.api.report(self.path, read_body(self.headers, self.rfile))
        self._answer(202, b'{"status":"OK"}', {})

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        try:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
            self.wfile.flush()
        except ConnectionError:
            self.close_connection = True
