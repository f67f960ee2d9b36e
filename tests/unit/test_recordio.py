"""The RecordIO-protobuf writer against files that the SageMaker SDK wrote, and the reader against the writer."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from google.protobuf.internal.encoder import _VarintBytes
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from baton.dataset.recordio import write_dense
from tests.data.recordio.make_golden import cases
from tests.support.recordio import read_dense

GOLDEN = Path(__file__).parents[1] / "data" / "recordio"


def written(vectors, labels=None) -> bytes:
    buffer = io.BytesIO()
    write_dense(buffer, vectors, labels)
    return buffer.getvalue()


@pytest.mark.parametrize("name", sorted(cases()))
def test_writes_the_bytes_of_the_sagemaker_sdk(name):
    assert written(*cases()[name]) == (GOLDEN / f"{name}.recordio").read_bytes()


def test_every_golden_file_has_its_case():
    assert {path.stem for path in GOLDEN.glob("*.recordio")} == set(cases())


@pytest.mark.parametrize("name", sorted(cases()))
def test_reads_what_the_sdk_wrote(name):
    vectors, labels = read_dense((GOLDEN / f"{name}.recordio").read_bytes())
    expected_vectors, expected_labels = cases()[name]
    np.testing.assert_array_equal(vectors, expected_vectors)
    assert vectors.dtype == expected_vectors.dtype
    if expected_labels is None:
        assert labels is None
    else:
        np.testing.assert_array_equal(labels, expected_labels)


def reference_record(vector, label: int) -> bytes:
    """One record, composed field by field."""

    def message(field: int, content: bytes) -> bytes:
        return bytes([field << 3 | 2]) + _VarintBytes(len(content)) + content

    def entry(field: int, kind: int, values: bytes) -> bytes:
        return message(field, message(1, b"values") + message(2, message(kind, message(1, values))))

    payload = entry(1, 2, vector.astype("<f4").tobytes()) + entry(2, 7, _VarintBytes(label % 2**64))
    return b"\x0a\x23\xd7\xce" + len(payload).to_bytes(4, "little") + payload + bytes(-len(payload) % 4)


@given(
    vectors=arrays.arrays(np.float32, arrays.array_shapes(min_dims=2, max_dims=2, max_side=40)),
    data=st.data(),
)
def test_every_array_is_written_record_by_record_and_read_back(vectors, data):
    labels = data.draw(arrays.arrays(np.int64, len(vectors), elements=st.integers(-(2**31), 2**31 - 1)))
    content = written(vectors, labels)
    rows = zip(vectors, labels.tolist(), strict=True)
    assert content == b"".join(reference_record(vector, label) for vector, label in rows)
    read_vectors, read_labels = read_dense(content)
    np.testing.assert_array_equal(read_vectors, vectors)
    np.testing.assert_array_equal(read_labels, labels)


def test_column_major_and_big_endian_arrays_are_written_alike():
    vectors, labels = cases()["float32_int64"]
    assert written(np.asfortranarray(vectors), labels) == written(vectors, labels)
    assert written(vectors[::-1][::-1], labels) == written(vectors, labels)


def test_blocks_join_without_a_seam(monkeypatch):
    vectors, labels = cases()["labels_of_all_widths"]
    whole = written(vectors, labels)
    monkeypatch.setattr("baton.dataset.recordio._BLOCK_BYTES", 1)
    assert written(vectors, labels) == whole


def test_no_rows_are_no_bytes():
    assert written(np.empty((0, 3), np.float32), np.empty(0, np.int64)) == b""


@pytest.mark.parametrize(
    ("vectors", "labels", "message"),
    [
        (np.zeros(3, np.float32), None, "shape"),
        (np.zeros((3, 0), np.float32), None, "shape"),
        (np.zeros((3, 2), np.uint8), None, "float32 or float64"),
        (np.zeros((3, 2), np.float32), np.zeros(2, np.int64), r"shape \(3,\)"),
        (np.zeros((3, 2), np.float32), np.zeros((3, 1), np.int64), r"shape \(3,\)"),
        (np.zeros((1, 2), np.float32), np.array([1], np.int32), "int64"),
        (np.zeros((1, 2), np.float32), np.array([2**31], np.int64), "int32"),
    ],
)
def test_refuses_what_it_cannot_write(vectors, labels, message):
    with pytest.raises(ValueError, match=message):
        written(vectors, labels)


@pytest.mark.parametrize("cut", [1, 7, 9, 60])
def test_refuses_to_read_half_a_record(cut):
    content = written(*cases()["float32_int64"])
    with pytest.raises(ValueError, match="whole RecordIO record"):
        read_dense(content[:-cut] if cut < 9 else content[cut:])
