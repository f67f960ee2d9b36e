"""MNIST pickles, good and bad, put together instruction by instruction."""

from __future__ import annotations

import gzip
import io
import struct
from typing import Any

import numpy as np

from baton_local.datasets import _pickled_array, pickled

Split = tuple[Any, Any]


def split(rows: int, columns: int = 784) -> Split:
    """Return images of values in [0, 1) and labels 0 to 9, the same at every call."""
    images = (np.arange(rows * columns, dtype=np.float32).reshape(rows, columns) * 7 % 256) / 256
    return images.astype(np.float32), np.arange(rows, dtype=np.int64) % 10


def splits(columns: int = 784) -> list[Split]:
    return [split(40, columns), split(24, columns), split(8, columns)]


def good() -> bytes:
    return pickled(splits())


def zipped(content: bytes) -> bytes:
    return gzip.compress(content, 1, mtime=0)


def stream(content: bytes) -> io.BytesIO:
    return io.BytesIO(content)


def array(value: Any) -> bytes:
    """The instructions of one array, as in the file that people have."""
    return _pickled_array(value)


def with_train(images: bytes, labels: bytes) -> bytes:
    """A pickle whose train split is made by these instructions."""
    rest = [array(part) for pair in splits()[1:] for part in pair]
    pairs = (images, labels), (rest[0], rest[1]), (rest[2], rest[3])
    return b"\x80\x02" + b"".join(x + y + b"\x86" for x, y in pairs) + b"\x87."


def raw_array(shape: bytes, dtype: bytes, data: bytes, order: bytes = b"<") -> bytes:
    """An array whose shape, type and data are whatever the caller says."""
    start = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
    kind = b"cnumpy\ndtype\nU" + bytes([len(dtype)]) + dtype + b"K\x00K\x01\x87R"
    state = b"(K\x03U\x01" + order + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    return start + b"(K\x01" + shape + kind + state + b"\x89" + data + b"tb"


def text(content: bytes) -> bytes:
    return b"T" + struct.pack("<i", len(content)) + content


def long_number(value: int) -> bytes:
    content = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(content)]) + content
