"""Connections on which one deadline holds for a whole exchange, however slowly the server takes or gives.

A socket's time-out starts again with every byte, so a server that drips, or says ``100 Continue`` for ever, never runs
into one. Here it is set to what is left before each read and each write.
"""

from __future__ import annotations

import http.client
import io
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import ConnectTimeoutError, HTTPError, NewConnectionError, SSLError
from urllib3.util.ssl_match_hostname import CertificateError

_deadline: ContextVar[float] = ContextVar("deadline")
"""When the exchange of this context must be over, on the monotonic clock."""

_CUT = (ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLSyscallError, TimeoutError, ConnectionError)
"""What a handshake ends with that is cut or stalls: which it is for one that is closed depends on Python's version."""


class HandshakeFailed(HTTPError):
    """The server's TLS is not one to trust or to talk to, so nothing was sent."""


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """Bound the exchange of this context: a read or a write after that many seconds is a TimeoutError."""
    token = _deadline.set(time.monotonic() + seconds)
    try:
        yield
    finally:
        _deadline.reset(token)


def keep_time(pool: urllib3.PoolManager) -> None:
    """Let the pool make its connections of those of this module; they can be used inside ``at_most`` only."""
    pool.pool_classes_by_scheme = {"http": _Pool, "https": _SecurePool}


def _seconds_left() -> float:
    left = _deadline.get() - time.monotonic()
    if left <= 0:
        raise TimeoutError("the exchange took too long")
    return left


class _Reader(io.RawIOBase):
    """Reads from a socket until the deadline."""

    def __init__(self, sock: socket.socket, raw: io.RawIOBase) -> None:
        self._sock = sock
        self._raw = raw

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._sock.settimeout(_seconds_left())
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Response(http.client.HTTPResponse):
    def __init__(self, sock: socket.socket, *args: Any, **options: Any) -> None:
        super().__init__(sock, *args, **options)
        self.fp = io.BufferedReader(_Reader(sock, self.fp.detach()))


class _Connection(HTTPConnection):
    response_class = _Response

    def connect(self) -> None:
        """Connect; the time-out of a connection is each address's, so together they may have used up the time."""
        super().connect()
        try:
            _seconds_left()
        except TimeoutError as error:
            raise ConnectTimeoutError(self, f"Connection to {self.host} came too late.") from error

    def send(self, data: Any) -> None:
        """Send; Python bounds the whole of a write by the time-out, and the first one opens the connection."""
        if self.sock is not None:
            self.sock.settimeout(_seconds_left())
        super().send(data)


class _SecureConnection(_Connection, HTTPSConnection):
    """Tells a handshake that fails from an error later on, which urllib3 raises as one and the same class."""

    def connect(self) -> None:
        """Connect; a handshake that is cut or stalls says nothing of the server's TLS, and may go well next time."""
        try:
            super().connect()
        except _CUT as error:
            raise NewConnectionError(self, f"The TLS handshake with {self.host} was not finished: {error}") from error
        except (ssl.SSLError, SSLError, CertificateError) as error:
            raise HandshakeFailed(str(error)) from error


class _Pool(urllib3.HTTPConnectionPool):
    ConnectionCls = _Connection


class _SecurePool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _SecureConnection
