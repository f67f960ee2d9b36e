"""RecordIO-protobuf: what SageMaker's built-in algorithms train on.

The writer gives the very bytes of the SageMaker SDK's ``write_numpy_to_dense_tensor`` (SDK version 2; version 3 has
none). Records whose features and label take the same room differ in these only, so one template record is repeated
and its columns are filled for thousands of rows at a time.

A record is a little-endian u32 magic, a u32 payload length, the payload, and zero bytes up to a multiple of four. The
payload is the protobuf message ``aialgs.data.Record``:
https://docs.aws.amazon.com/sagemaker/latest/dg/cdf-training.html
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

MAGIC = 0xCED7230A
CONTENT_TYPE = "application/x-recordio-protobuf"

_BLOCK_BYTES = 8 * 1024 * 1024
_FEATURES, _LABEL = 1, 2
_FLOAT32, _FLOAT64, _INT32 = 2, 3, 7
_FLOAT_FIELDS = {np.dtype("float32"): _FLOAT32, np.dtype("float64"): _FLOAT64}
_INT_LABELS = np.dtype("int64")
_NEGATIVE_VARINT = 10


def write_dense(file: BinaryIO, vectors: Array, labels: Array | None = None) -> None:
    """Write one record a row of ``vectors``, with its label where there are labels.

    ``vectors`` is (rows, columns) of float32 or float64; ``labels`` is (rows,) of int64 (written as int32), float32 or
    float64. Raises ValueError for other shapes and types, and for integer labels beyond int32.
    """
    _check(vectors, labels)
    for start, stop, label_width in _runs(len(vectors), labels):
        template, feature_at, label_at = _template(vectors, labels, label_width)
        rows_at_once = max(1, _BLOCK_BYTES // len(template))
        for first in range(start, stop, rows_at_once):
            rows = slice(first, min(first + rows_at_once, stop))
            block = np.tile(template, (rows.stop - rows.start, 1))
            _fill(block, feature_at, vectors[rows].astype(vectors.dtype.newbyteorder("<"), copy=False))
            if labels is not None:
                _fill(block, label_at, _label_bytes(labels[rows], label_width))
            file.write(block.data)


def _check(vectors: Array, labels: Array | None) -> None:
    if vectors.ndim != 2 or vectors.shape[1] == 0:
        raise ValueError(f"vectors must be of shape (rows, columns), not {vectors.shape}")
    if vectors.dtype not in _FLOAT_FIELDS:
        raise ValueError(f"vectors must be float32 or float64, not {vectors.dtype}")
    if labels is None:
        return
    if labels.shape != vectors.shape[:1]:
        raise ValueError(f"labels must be of shape {vectors.shape[:1]}, not {labels.shape}")
    if labels.dtype not in (*_FLOAT_FIELDS, _INT_LABELS):
        raise ValueError(f"labels must be int64, float32 or float64, not {labels.dtype}")
    if labels.dtype == _INT_LABELS and len(labels) and not -(2**31) <= labels.min() <= labels.max() < 2**31:
        raise ValueError("integer labels must fit into int32")


def _runs(rows: int, labels: Array | None) -> Iterator[tuple[int, int, int]]:
    """Yield (start, stop, bytes of the label) for each run of rows whose labels take the same room."""
    if labels is None or labels.dtype != _INT_LABELS:
        widths = np.full(rows, 0 if labels is None else labels.dtype.itemsize)
    else:
        widths = _varint_widths(labels)
    edges = [0, *(np.flatnonzero(np.diff(widths)) + 1).tolist(), rows]
    for start, stop in pairwise(edges):
        if stop > start:
            yield start, stop, int(widths[start])


def _varint_widths(labels: Array) -> Array:
    widths = np.ones(len(labels), np.int64)
    for bits in (7, 14, 21, 28):
        widths += labels >= 1 << bits
    # Protobuf sign-extends a negative int32 to 64 bits.
    widths[labels < 0] = _NEGATIVE_VARINT
    return widths


def _template(vectors: Array, labels: Array | None, label_width: int) -> tuple[Array, slice, slice]:
    """Return one record with zeros in place of its values, and where features and label stand in it."""
    feature_bytes = bytes(vectors.shape[1] * vectors.dtype.itemsize)
    payload = _entry(_FEATURES, _FLOAT_FIELDS[vectors.dtype], feature_bytes)
    feature_end = 8 + len(payload)
    if labels is not None:
        payload += _entry(_LABEL, _FLOAT_FIELDS.get(labels.dtype, _INT32), bytes(label_width))
    label_end = 8 + len(payload)
    record = struct.pack("<II", MAGIC, len(payload)) + payload + bytes(-len(payload) % 4)
    return (
        np.frombuffer(record, np.uint8),
        slice(feature_end - len(feature_bytes), feature_end),
        slice(label_end - label_width, label_end),
    )


def _entry(field: int, tensor: int, values: bytes) -> bytes:
    """Return the map entry ``"values" -> Value`` whose tensor holds packed ``values``; the values come last in it."""
    return _message(field, _message(1, b"values") + _message(2, _message(tensor, _message(1, values))))


def _message(field: int, content: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(content)) + content


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes((*out, number))


def _label_bytes(labels: Array, width: int) -> Array:
    """Return the labels as little-endian floats, or as varints of ``width`` bytes each, one row a label."""
    if labels.dtype != _INT_LABELS:
        return labels.astype(labels.dtype.newbyteorder("<"), copy=False)[:, None]
    shifts = np.arange(width, dtype=np.uint64) * np.uint64(7)
    groups = (labels.astype(np.uint64)[:, None] >> shifts & np.uint64(0x7F)).astype(np.uint8)
    groups[:, :-1] |= 0x80
    return groups


def _fill(block: Array, at: slice, values: Array) -> None:
    block[:, at] = np.ascontiguousarray(values).view(np.uint8)
