"""One HTTP exchange with the Kubeflow Pipelines API: bounded in time and size, never redirected, never repeated.

What can go wrong on the way is told apart by the one question that matters to a caller: may the request have arrived?
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Protocol

import urllib3
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    LocationValueError,
    MaxRetryError,
    NameResolutionError,
    NewConnectionError,
)

from baton.errors import KfpMisconfigured
from baton.kfp.connections import HandshakeFailed, at_most, keep_time

MAX_ANSWER_BYTES = 16 * 1024 * 1024
"""The largest answer that is read: a page of runs carries their pipelines' whole definitions."""

TLS_FAILED = "There is no TLS connection to"
_CONNECT_SECONDS = 5.0
_CHUNK_BYTES = 64 * 1024
_NEVER_ARRIVED = (NewConnectionError, ConnectTimeoutError, NameResolutionError)


class Unreached(Exception):
    """No connection came about, so the request certainly did not arrive."""


class Unanswered(Exception):
    """The request went out and no whole answer came back, so it may or may not have been carried out."""


@dataclass(frozen=True)
class Request:
    """What is sent: ``path`` (with its query) stands behind the base URL; ``seconds`` bounds the exchange.

    Only connecting may take longer, and then nothing is sent: resolving the name takes what the system gives it, and
    each silent address up to 5 s, as does a TLS handshake that stalls.
    """

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes | None = None
    seconds: float = 15.0


@dataclass(frozen=True)
class Answer:
    """What came back, read as a whole."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def is_success(self) -> bool:
        """Whether the status says that the request was carried out."""
        return 200 <= self.status < 300

    @property
    def content_type(self) -> str:
        """The media type, without its parameters, in lower case."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()


class Sends(Protocol):
    """Whoever carries out one exchange."""

    def send(self, request: Request) -> Answer:
        """Return the server's answer; raise Unreached, Unanswered or KfpMisconfigured."""

    def forget_connections(self) -> None:
        """Close idle connections, so that the next request travels on a fresh one."""


class Transport:
    """Sends requests to one server with urllib3."""

    def __init__(self, base_url: str, pool: urllib3.PoolManager | None = None) -> None:
        self._base_url = base_url.rstrip("/")
        self._pool = pool or urllib3.PoolManager()
        keep_time(self._pool)

    def forget_connections(self) -> None:
        """Close idle connections: one that went stale while the sandbox slept would make an answer uncertain."""
        self._pool.clear()

    def send(self, request: Request) -> Answer:
        """Return the server's answer; raise Unreached, Unanswered or KfpMisconfigured."""
        try:
            with at_most(request.seconds), closing(self._open(request)) as response:
                headers = {name.lower(): value for name, value in response.headers.items()}
                return Answer(response.status, headers, _body_of(response))
        except HTTPError as error:
            raise self._meaning(error) from error

    def _open(self, request: Request) -> urllib3.BaseHTTPResponse:
        return self._pool.request(
            request.method,
            self._base_url + request.path,
            body=request.body,
            headers=dict(request.headers),
            timeout=urllib3.Timeout(connect=min(_CONNECT_SECONDS, request.seconds), read=request.seconds),
            retries=False,
            redirect=False,
            preload_content=False,
        )

    def _meaning(self, error: HTTPError) -> Exception:
        cause = error.reason if isinstance(error, MaxRetryError) and error.reason else error
        if isinstance(cause, HandshakeFailed):
            return KfpMisconfigured(f"{TLS_FAILED} {self._base_url}: {cause}.")
        if isinstance(cause, LocationValueError):
            return KfpMisconfigured(f"{self._base_url!r} is not a URL: {cause}.")
        if isinstance(cause, _NEVER_ARRIVED):
            return Unreached(_words(cause))
        return Unanswered(f"{type(cause).__name__}: {_words(cause)}")


def _words(error: Exception) -> str:
    """Return what urllib3 says, without the name of its own connection or pool of connections."""
    owner = getattr(error, "conn", None) or getattr(error, "pool", None)
    told = error.args[-1] if isinstance(error, ConnectTimeoutError) else error
    return str(told).removeprefix(f"{owner}: ")


def _body_of(response: Any) -> bytes:
    chunks: list[bytes] = []
    size = 0
    while chunk := response.read1(_CHUNK_BYTES):
        chunks.append(chunk)
        size += len(chunk)
        if size > MAX_ANSWER_BYTES:
            raise Unanswered(f"the answer has more than {MAX_ANSWER_BYTES} bytes")
    return b"".join(chunks)
