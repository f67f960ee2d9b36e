"""A reader of RecordIO-protobuf, the training format of SageMaker's built-in algorithms.

It shares nothing with the writer in ``layers/``, so that each checks the other. A record is a little-endian magic
number, a length whose upper three bits tell a part of a split record, the payload, and zeros up to a multiple of four
(MXNet's ``recordio.h``). The payload is ``aialgs.data.Record``: features are map field 1, labels map field 2.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Matrix: TypeAlias = npt.NDArray[np.float32]

_MAGIC = 0xCED7230A
_HEADER = struct.Struct("<II")
_LENGTH_BITS = 29
_WHOLE, _FIRST, _MIDDLE, _LAST = 0, 1, 2, 3

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_FEATURES, _LABEL = 1, 2
_KEY, _VALUE = 1, 2
_TENSOR_TYPES = {2: "<f4", 3: "<f8", 7: "int32"}
_VALUES, _KEYS, _SHAPE = 1, 2, 3


class RecordError(ValueError):
    """The bytes are not RecordIO-protobuf with one feature vector a record; the message says where and why."""


@dataclass(frozen=True)
class _Field:
    """One field of a protobuf message: its number and wire type, an integer value, and where its bytes are."""

    number: int
    wire: int
    integer: int
    start: int
    end: int


@dataclass(frozen=True)
class _Span:
    """Where a tensor's values stand in a payload, and of which type they are."""

    kind: str
    start: int
    end: int


def read_matrix(data: bytes) -> Matrix:
    """Return the feature vectors of every record, one a row, as float32; raise RecordError for anything else.

    Records of one layout come as a view of the bytes themselves, so nothing is copied until somebody needs it.
    """
    if not data:
        raise RecordError("the object is empty")
    uniform = _read_uniform(data)
    if uniform is not None:
        return uniform
    rows = [features_of(payload) for payload in payloads(data)]
    widths = {len(row) for row in rows}
    if len(widths) > 1:
        raise RecordError(f"records have different numbers of features: {sorted(widths)}")
    return np.vstack(rows)


def payloads(data: bytes) -> Iterator[bytes]:
    """Yield the payload of each record; parts of a split record are joined by the magic number that split them."""
    position = 0
    parts: list[bytes] = []
    while position < len(data):
        part, payload, position = _read_part(data, position)
        if (part in (_MIDDLE, _LAST)) != bool(parts):
            raise RecordError(f"a split record is out of order before byte {position}")
        parts.append(payload)
        if part in (_WHOLE, _LAST):
            yield struct.pack("<I", _MAGIC).join(parts)
            parts = []
    if parts:
        raise RecordError("the last record is not complete")


def features_of(payload: bytes) -> Matrix:
    """Return the feature vector of one record's payload; a sparse one is made dense by its shape."""
    for entry in _fields(payload, 0, len(payload)):
        if entry.number == _FEATURES:
            found = _map_value(payload, entry, b"values")
            if found is not None:
                return _tensor(payload, found)
    raise RecordError('a record has no features under the key "values"')


def _read_part(data: bytes, position: int) -> tuple[int, bytes, int]:
    if position + _HEADER.size > len(data):
        raise RecordError(f"the header at byte {position} is cut off")
    magic, coded = _HEADER.unpack_from(data, position)
    if magic != _MAGIC:
        raise RecordError(f"no record starts at byte {position}")
    length = coded & ((1 << _LENGTH_BITS) - 1)
    start = position + _HEADER.size
    end = start + _padded(length)
    if end > len(data):
        raise RecordError(f"the record at byte {position} is cut off")
    return coded >> _LENGTH_BITS, data[start : start + length], end


def _padded(length: int) -> int:
    return (length + 3) // 4 * 4


def _read_uniform(data: bytes) -> Matrix | None:
    """Read records that differ only in their values in one go; return None if they differ in anything else."""
    part, payload, stride = _read_part(data, 0)
    if part != _WHOLE or len(data) % stride:
        return None
    values, free = _spans(payload)
    if values is None or values.kind != "<f4" or not _same_elsewhere(data, stride, values, free):
        return None
    rows = np.frombuffer(data, np.uint8).reshape(-1, stride)
    offset = _HEADER.size
    return rows[:, offset + values.start : offset + values.end].view("<f4")


def _same_elsewhere(data: bytes, stride: int, values: _Span, free: list[_Span]) -> bool:
    """Tell whether every record equals the first one outside of its values and labels."""
    rows = np.frombuffer(data, np.uint8).reshape(-1, stride)
    mask = np.full(stride, 0xFF, np.uint8)
    for span in free:
        # The upper bit of a varint's byte says whether another follows: the same bits mean the same layout.
        mask[_HEADER.size + span.start : _HEADER.size + span.end] = 0x80 if span.kind == "int32" else 0
    before, after = slice(0, _HEADER.size + values.start), slice(_HEADER.size + values.end, stride)
    return all(bool((((rows[:, part] ^ rows[0, part]) & mask[part]) == 0).all()) for part in (before, after))


def _spans(payload: bytes) -> tuple[_Span | None, list[_Span]]:
    """Return where the features and where the labels of a payload have their values."""
    features, labels = None, []
    for entry in _fields(payload, 0, len(payload)):
        value = _map_value(payload, entry, b"values" if entry.number == _FEATURES else None)
        span = _dense_span(payload, value) if value else None
        if entry.number == _FEATURES and features is None:
            features = span
        elif entry.number == _LABEL and span:
            labels.append(span)
    return features, labels


def _dense_span(payload: bytes, value: _Field) -> _Span | None:
    for tensor in _fields(payload, value.start, value.end):
        parts = list(_fields(payload, tensor.start, tensor.end)) if tensor.number in _TENSOR_TYPES else []
        if [(p.number, p.wire) for p in parts] == [(_VALUES, _BYTES)]:
            return _Span(_TENSOR_TYPES[tensor.number], parts[0].start, parts[0].end)
    return None


def _map_value(payload: bytes, entry: _Field, key: bytes | None) -> _Field | None:
    """Return the value of a map entry, or None when its key is another one (None: any key will do)."""
    found = {f.number: f for f in _fields(payload, entry.start, entry.end)} if entry.wire == _BYTES else {}
    name = found.get(_KEY)
    if key is not None and (name is None or payload[name.start : name.end] != key):
        return None
    return found.get(_VALUE)


def _tensor(payload: bytes, value: _Field) -> Matrix:
    for tensor in _fields(payload, value.start, value.end):
        if tensor.number in _TENSOR_TYPES:
            return _dense(payload, tensor, _TENSOR_TYPES[tensor.number])
    raise RecordError("a record's features are no tensor of numbers")


def _dense(payload: bytes, tensor: _Field, kind: str) -> Matrix:
    parts: dict[int, list[npt.NDArray[np.float64]]] = {_VALUES: [], _KEYS: [], _SHAPE: []}
    for part in _fields(payload, tensor.start, tensor.end):
        if part.number in parts:
            parts[part.number].append(_numbers(payload, part, kind if part.number == _VALUES else "uint64"))
    values, keys, shape = (np.concatenate(found) if found else np.empty(0) for found in parts.values())
    if not len(keys):
        return values.astype(np.float32)
    return _scatter(values, keys.astype(np.int64), int(shape[0]) if len(shape) else 0)


def _scatter(values: npt.NDArray[np.float64], keys: npt.NDArray[np.int64], width: int) -> Matrix:
    if len(values) != len(keys) or (len(keys) and keys.max() >= width):
        raise RecordError("a sparse record's keys do not fit its values or its shape")
    dense = np.zeros(width, np.float32)
    dense[keys] = values
    return dense


def _numbers(payload: bytes, part: _Field, kind: str) -> npt.NDArray[np.float64]:
    """Return repeated numbers, packed or not, of a float type or as varints."""
    if kind in ("<f4", "<f8"):
        if (part.end - part.start) % int(kind[2]):
            raise RecordError("a record's values are cut off")
        return np.frombuffer(payload[part.start : part.end], kind).astype(np.float64)
    coded = _varints(payload, part.start, part.end) if part.wire == _BYTES else [part.integer]
    signed = [v - (1 << 64) if kind == "int32" and v >= 1 << 63 else v for v in coded]
    return np.array(signed, np.float64)


def _varints(data: bytes, start: int, end: int) -> list[int]:
    found = []
    while start < end:
        value, start = _varint(data, start, end)
        found.append(value)
    return found


def _varint(data: bytes, position: int, end: int) -> tuple[int, int]:
    value = shift = 0
    while position < end and shift < 70:
        byte = data[position]
        value |= (byte & 0x7F) << shift
        position, shift = position + 1, shift + 7
        if byte < 0x80:
            return value, position
    raise RecordError("a number in a record is cut off")


def _fields(data: bytes, start: int, end: int) -> Iterator[_Field]:
    while start < end:
        tag, start = _varint(data, start, end)
        number, wire, integer = tag >> 3, tag & 7, 0
        begin = start
        if wire == _VARINT:
            integer, start = _varint(data, start, end)
        elif wire == _BYTES:
            length, begin = _varint(data, start, end)
            start = begin + length
        elif wire in (_FIXED32, _FIXED64):
            start += 4 if wire == _FIXED32 else 8
        else:
            raise RecordError(f"a record has the unknown wire type {wire}")
        if start > end:
            raise RecordError("a field of a record is cut off")
        yield _Field(number, wire, integer, begin, start)
