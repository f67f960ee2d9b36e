"""A plain reader of the records that ``baton.dataset.recordio`` writes, so that tests can look at them."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

_MAGIC = 0xCED7230A
_FEATURES, _LABEL = 1, 2
_FLOAT32, _INT32 = 2, 7


def read_dense(content: bytes) -> tuple[Array, Array | None]:
    """Return the vectors (rows, columns) and labels (rows,), or None, of records that ``write_dense`` wrote.

    Raises ValueError for anything else.
    """
    vectors, labels = [], []
    for payload in _payloads(memoryview(content)):
        fields = dict(_fields(payload))
        vectors.append(_tensor(fields[_FEATURES]))
        if _LABEL in fields:
            labels.append(_tensor(fields[_LABEL])[0])
    if labels and len(labels) != len(vectors):
        raise ValueError("some records have a label and some have none")
    return np.array(vectors), np.array(labels) if labels else None


def _payloads(content: memoryview) -> Iterator[memoryview]:
    at = 0
    while at < len(content):
        magic, length = struct.unpack_from("<II", content, at) if len(content) - at >= 8 else (0, 0)
        end = at + 8 + length + -length % 4
        if magic != _MAGIC or end > len(content):
            raise ValueError(f"there is no whole RecordIO record at byte {at}")
        yield content[at + 8 : at + 8 + length]
        at = end


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview]]:
    at = 0
    while at < len(message):
        key, at = _read_varint(message, at)
        length, at = _read_varint(message, at)
        if key & 7 != 2:
            raise ValueError(f"protobuf wire type {key & 7} is not expected here")
        yield key >> 3, message[at : at + length]
        at += length


def _read_varint(message: memoryview, at: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        byte = message[at]
        number |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return number, at


def _tensor(entry: memoryview) -> Array:
    ((kind, tensor),) = _fields(dict(_fields(entry))[2])
    values = dict(_fields(tensor))[1]
    if kind != _INT32:
        return np.frombuffer(values, "<f4" if kind == _FLOAT32 else "<f8")
    numbers, at = [], 0
    while at < len(values):
        number, at = _read_varint(values, at)
        numbers.append(number - (1 << 64) if number >> 63 else number)
    return np.array(numbers, np.int64)
