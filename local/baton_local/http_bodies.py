"""How an HTTP/1.1 server of the standard library reads a request's body."""

from __future__ import annotations

from email.message import Message
from typing import Protocol


class Readable(Protocol):
    """What a body is read from."""

    def read(self, size: int, /) -> bytes:
        """Return up to so many bytes."""

    def readline(self) -> bytes:
        """Return the next line with its end."""


def read_body(headers: Message, stream: Readable) -> bytes:
    """Return a request's whole body, whether it comes with its length or in chunks."""
    if "chunked" in (headers.get("Transfer-Encoding") or "").lower():
        return b"".join(iter(lambda: _read_chunk(stream), b""))
    return stream.read(int(headers.get("Content-Length") or 0))


def _read_chunk(stream: Readable) -> bytes:
    size = int(stream.readline().split(b";")[0], 16)
    chunk = stream.read(size)
    stream.readline()
    return chunk
