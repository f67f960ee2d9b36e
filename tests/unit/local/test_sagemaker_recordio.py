"""The reader of RecordIO-protobuf, on bytes that were put together by hand."""

from __future__ import annotations

import contextlib
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from baton_local.sagemaker.recordio import RecordError, features_of, payloads, read_matrix

MAGIC = 0xCED7230A


def varint(number: int) -> bytes:
    out = b""
    while number > 127:
        out += bytes([number & 127 | 128])
        number >>= 7
    return out + bytes([number])


def field(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content


def entry(number: int, tensor: bytes, kind: int, key: bytes = b"values") -> bytes:
    return field(number, field(1, key) + field(2, field(kind, tensor)))


def features(values: list[float]) -> bytes:
    return entry(1, field(1, struct.pack(f"<{len(values)}f", *values)), 2)


def label(*numbers: int) -> bytes:
    return entry(2, field(1, b"".join(varint(number) for number in numbers)), 7)


def record(payload: bytes, part: int = 0) -> bytes:
    head = struct.pack("<II", MAGIC, part << 29 | len(payload))
    return head + payload + b"\0" * (-len(payload) % 4)


numbers = st.floats(width=32, allow_nan=False, allow_infinity=False)


@given(st.integers(1, 40).flatmap(lambda n: st.lists(st.lists(numbers, min_size=n, max_size=n), min_size=1)))
def test_reads_back_what_was_written(matrix):
    data = b"".join(record(features(row) + label(i % 300)) for i, row in enumerate(matrix))
    assert np.array_equal(read_matrix(data), np.array(matrix, np.float32))


@given(st.lists(st.tuples(st.lists(numbers, min_size=3, max_size=3), st.integers(0, 2**31)), min_size=1))
def test_the_fast_path_gives_what_the_plain_one_gives(pairs):
    data = b"".join(record(features(row) + label(number)) for row, number in pairs)
    assert np.array_equal(read_matrix(data), np.vstack([features_of(p) for p in payloads(data)]))


def test_labels_may_be_missing_in_all_or_some():
    with_label, without = record(features([1, 2]) + label(5)), record(features([3, 4]))
    assert read_matrix(without * 3).tolist() == [[3, 4]] * 3
    assert read_matrix(with_label + without).tolist() == [[1, 2], [3, 4]]


def test_labels_may_be_several_and_come_first():
    assert read_matrix(record(label(1, 300, 7) + features([1, 2]))).tolist() == [[1, 2]]


def test_the_same_length_with_another_layout_takes_the_plain_path():
    other_key = record(features([1, 2]).replace(b"values", b"eulavs"))
    with pytest.raises(RecordError, match="values"):
        read_matrix(record(features([1, 2])) + other_key)


@pytest.mark.parametrize(("kind", "code"), [(2, "f"), (3, "d")])
def test_floats_of_both_widths(kind, code):
    payload = entry(1, field(1, struct.pack(f"<3{code}", 0.5, -1, 2)), kind)
    assert read_matrix(record(payload)).tolist() == [[0.5, -1, 2]]


def test_integers_are_varints_with_a_sign():
    minus_one = varint((1 << 64) - 1)
    assert read_matrix(record(entry(1, field(1, varint(300) + minus_one), 7))).tolist() == [[300, -1]]


def test_values_that_are_not_packed():
    values = b"".join(varint(1 << 3 | 5) + struct.pack("<f", value) for value in (1.5, 2.5))
    assert read_matrix(record(entry(1, values, 2))).tolist() == [[1.5, 2.5]]


def test_sparse_records_are_made_dense():
    tensor = field(1, struct.pack("<2f", 7, 8)) + field(2, varint(1) + varint(3)) + field(3, varint(5))
    assert read_matrix(record(entry(1, tensor, 2))).tolist() == [[0, 7, 0, 8, 0]]


def test_a_sparse_record_with_a_key_outside_of_its_shape_is_refused():
    tensor = field(1, struct.pack("<f", 7)) + field(2, varint(5)) + field(3, varint(5))
    with pytest.raises(RecordError, match="sparse"):
        read_matrix(record(entry(1, tensor, 2)))


def test_a_split_record_is_joined_by_the_magic_number():
    # MXNet splits a payload where the magic number stands in it: these four bytes are the third feature.
    payload = features([1, 2, struct.unpack("<f", struct.pack("<I", MAGIC))[0], 4])
    before, after = payload.split(struct.pack("<I", MAGIC))
    joined = read_matrix(record(before, 1) + record(after, 3))
    assert joined.shape == (1, 4)
    assert joined[0, [0, 1, 3]].tolist() == [1, 2, 4]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "empty"),
        (b"not a record", "no record starts at byte 0"),
        (struct.pack("<I", MAGIC), "cut off"),
        (record(features([1, 2]))[:-4], "cut off"),
        (record(features([1]) + label(1)) + record(features([1, 2])), "different numbers of features"),
        (record(label(3)), "no features"),
        (record(b"\xff" * 12), "cut off"),
        (record(features([1]), 3), "out of order"),
        (record(features([1]), 1), "not complete"),
    ],
)
def test_refuses_with_a_reason(data, message):
    with pytest.raises(RecordError, match=message):
        read_matrix(data)


@given(st.binary(max_size=200))
def test_no_bytes_make_it_fail_otherwise(data):
    for candidate in (data, record(data)):
        with contextlib.suppress(RecordError):
            read_matrix(candidate)
