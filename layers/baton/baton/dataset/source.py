"""The bytes of an uploaded data set, unzipped as they come and bounded before they take memory."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from baton.catalogue import DatasetRules
from baton.errors import InvalidDataset

MIB = 1024 * 1024
_GZIP_MAGIC = b"\x1f\x8b"
_IN_CHUNK = 256 * 1024
_OUT_CHUNK = MIB
_RATIO_MATTERS_FROM = 8 * MIB


class Readable(Protocol):
    """A stream of bytes: a file, or the body of an S3 object."""

    def read(self, amount: int, /) -> bytes:
        """Return up to this many bytes, and b"" at the end."""


@dataclass(frozen=True)
class Limits:
    """How large a data set may be.

    ``max_ratio`` is unzipped by zipped bytes; MNIST has 13, upscaled digits 40, DEFLATE can reach 1,032.
    """

    max_bytes: int
    max_unpacked_bytes: int
    max_ratio: int = 250

    @classmethod
    def of(cls, rules: DatasetRules) -> Limits:
        """Return the limits that a pipeline sets."""
        return cls(rules.max_bytes, rules.max_unpacked_bytes)


class Source:
    """Reads an uploaded data set once, from front to back; gzip is recognised by content, never by name.

    Every limit is checked on the stream, so a bomb is refused after at most one chunk beyond its limit.
    """

    def __init__(self, stream: Readable, limits: Limits) -> None:
        self._stream = stream
        self._limits = limits
        self._digest = hashlib.sha256()
        self._packed = 0
        self._unpacked = 0
        self._buffer = memoryview(b"")
        self._pending = self._pull()
        if not self._pending:
            raise InvalidDataset("The data set is empty.")
        self.zipped = self._pending.startswith(_GZIP_MAGIC)
        self._inflate = zlib.decompressobj(wbits=31) if self.zipped else None
        self._next_chunk: Callable[[], bytes] = self._unzipped_chunk if self.zipped else self._plain_chunk

    @property
    def bytes_read(self) -> int:
        """The size of what was read of the stored object, in bytes."""
        return self._packed

    @property
    def sha256(self) -> str:
        """The SHA-256 of what was read of the stored object, in hexadecimal."""
        return self._digest.hexdigest()

    def read(self, size: int) -> bytearray:
        """Return exactly ``size`` unzipped bytes; raise InvalidDataset where there are fewer or a limit is passed."""
        if self._unpacked - len(self._buffer) + size > self._limits.max_unpacked_bytes:
            raise self._too_large()
        # Zeroed memory is taken from the system only when it is written, so a file that lies about a size costs none.
        target = bytearray(size)
        filled = 0
        while filled < size:
            part = self._some(size - filled)
            target[filled : filled + len(part)] = part
            filled += len(part)
        return target

    def line(self, limit: int = 256) -> bytes:
        """Return the bytes up to the next newline, without it; raise InvalidDataset where it is further than limit."""
        line = bytearray()
        while (byte := self.read(1)) != b"\n":
            line += byte
            if len(line) > limit:
                raise InvalidDataset("The pickle is damaged: a name in it does not end.")
        return bytes(line)

    def finish(self) -> None:
        """Require that nothing follows and, for gzip, that its checksum holds."""
        if len(self._buffer) or self._next_chunk():
            raise InvalidDataset("The data set goes on after the end of its pickle.")

    def _some(self, size: int) -> memoryview:
        if not len(self._buffer):
            self._buffer = memoryview(self._next_chunk())
            if not len(self._buffer):
                raise InvalidDataset("The pickle is cut off: the data set ends before its arrays do.")
        part, self._buffer = self._buffer[:size], self._buffer[size:]
        return part

    def _pull(self) -> bytes:
        chunk = self._stream.read(_IN_CHUNK)
        self._packed += len(chunk)
        if self._packed > self._limits.max_bytes:
            raise InvalidDataset(f"The data set is larger than {_mib(self._limits.max_bytes)}, the pipeline's limit.")
        self._digest.update(chunk)
        return chunk

    def _plain_chunk(self) -> bytes:
        chunk, self._pending = self._pending, b""
        return self._counted(chunk or self._pull())

    def _unzipped_chunk(self) -> bytes:
        assert self._inflate is not None
        while True:
            if self._inflate.eof and not self._next_member():
                return b""
            chunk = self._inflated()
            if chunk:
                return self._counted(chunk)

    def _inflated(self) -> bytes:
        assert self._inflate is not None
        if not self._pending:
            self._pending = self._pull()
            if not self._pending:
                raise InvalidDataset("The gzip file is cut off: it ends before its checksum.")
        try:
            chunk = self._inflate.decompress(self._pending, _OUT_CHUNK)
        except zlib.error as error:
            raise InvalidDataset(f"The gzip file is damaged: {error}.") from None
        self._pending = self._inflate.unconsumed_tail or self._inflate.unused_data
        return chunk

    def _next_member(self) -> bool:
        """Go on to the next gzip member of the file, where there is one; zero bytes after a member are padding."""
        self._pending = (self._pending or self._pull()).lstrip(b"\0")
        while not self._pending and (more := self._pull()):
            self._pending = more.lstrip(b"\0")
        if self._pending:
            self._inflate = zlib.decompressobj(wbits=31)
        return bool(self._pending)

    def _counted(self, chunk: bytes) -> bytes:
        self._unpacked += len(chunk)
        if self._unpacked > self._limits.max_unpacked_bytes:
            raise self._too_large()
        consumed = self._packed - len(self._pending)
        if self._unpacked > max(_RATIO_MATTERS_FROM, self._limits.max_ratio * consumed):
            raise InvalidDataset(
                f"The data set unzips to more than {self._limits.max_ratio} times its size, like a gzip bomb."
            )
        return chunk

    def _too_large(self) -> InvalidDataset:
        return InvalidDataset(
            f"The data set unpacks to more than {_mib(self._limits.max_unpacked_bytes)}, the pipeline's limit."
        )


def _mib(size: int) -> str:
    return f"{size / MIB:,.0f} MiB" if size >= MIB else f"{size:,} bytes"
