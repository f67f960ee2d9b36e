"""Reading MNIST pickles: the good ones exactly, the bad ones with one clear sentence."""

from __future__ import annotations

import gzip
import pickle
from dataclasses import replace

import numpy as np
import pytest

from baton.dataset.mnist import read_mnist
from baton.dataset.source import MIB, Limits
from baton.errors import InvalidDataset
from baton_local.datasets import pickled
from tests.support.pickles import array, good, raw_array, split, splits, stream, text, with_train, zipped

LIMITS = Limits(max_bytes=64 * MIB, max_unpacked_bytes=256 * MIB)


def read(content: bytes, columns: int = 784, limits: Limits | None = None):
    return read_mnist(stream(content), limits or LIMITS, columns)


def refusal(content: bytes, **options) -> str:
    with pytest.raises(InvalidDataset) as caught:
        read(content, **options)
    return str(caught.value)


def assert_read(mnist):
    for found, (images, labels) in zip((mnist.train, mnist.valid, mnist.test), splits(), strict=True):
        np.testing.assert_array_equal(found.images, images)
        np.testing.assert_array_equal(found.labels, labels)
        assert found.images.dtype == np.float32
        assert found.labels.dtype == np.int64


@pytest.mark.parametrize("content", [good(), zipped(good())], ids=["pkl", "pkl.gz"])
def test_reads_the_form_of_the_real_file_zipped_or_not(content):
    assert_read(read(content))


def test_the_form_of_the_real_file_is_what_pickle_reads_too():
    for (images, labels), (x, y) in zip(pickle.loads(good(), encoding="latin1"), splits(), strict=True):
        np.testing.assert_array_equal(images, x)
        np.testing.assert_array_equal(labels, y)


@pytest.mark.parametrize("protocol", [3, 4])
def test_reads_what_numpy_writes_today(protocol):
    assert_read(read(pickle.dumps(tuple(splits()), protocol)))


@pytest.mark.parametrize("protocol", [2, 5])
def test_says_how_to_write_a_pickle_that_needs_other_names(protocol):
    assert "Write the pickle with protocol 3 or 4." in refusal(pickle.dumps(tuple(splits()), protocol))


def test_reads_arrays_that_are_shared_column_major_big_endian_or_double():
    images, labels = split(12)
    odd = [
        (np.asfortranarray(images), labels.astype(np.uint8)),
        (images.astype(">f4"), labels.astype(">i2")),
        (images.astype(np.float64), labels),
    ]
    mnist = read(pickle.dumps(tuple(odd), 4))
    for part in (mnist.train, mnist.valid, mnist.test):
        np.testing.assert_array_equal(part.images, images)
        np.testing.assert_array_equal(part.labels, labels)
    shared = read(pickle.dumps(((images, labels),) * 3, 4))
    np.testing.assert_array_equal(shared.test.images, images)


def test_gzip_files_of_several_members_and_with_padding_are_read():
    content = good()
    assert_read(read(zipped(content[:1000]) + zipped(content[1000:]) + bytes(300_000)))


def test_tells_what_was_read():
    content = zipped(good())
    mnist = read(content)
    assert mnist.bytes_read == len(content)
    assert len(mnist.sha256) == 64


def changed(images=None, labels=None) -> bytes:
    x, y = split(40)
    return pickled([(x if images is None else images, y if labels is None else labels), *splits()[1:]])


def poked(array_, at, value):
    copy = array_.copy()
    copy[at] = value
    return copy


IMAGES, LABELS = split(40)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "The data set is empty."),
        (b"hello, I am no pickle\n", "is not a pickle of protocol 2 to 5: it begins with b'he'"),
        (zipped(b"hello, I am no pickle\n"), "begins with b'he', inside gzip"),
        (pickle.dumps([1], 0), "is not a pickle of protocol 2 to 5"),
        (zipped(good())[:-4], "The gzip file is cut off"),
        (zipped(good())[:2000], "The gzip file is cut off"),
        (zipped(good())[:-8] + b"\0" * 8, "The gzip file is damaged"),
        (zipped(good()) + b"more", "The gzip file is damaged"),
        (good()[:-1], "The pickle is cut off"),
        (good()[:5000], "The pickle is cut off"),
        (good() + b"x", "goes on after the end of its pickle"),
        (pickle.dumps((1, 2, 3), 2), "its train part holds a value of type int"),
        (pickle.dumps(None, 2), "but it holds nothing"),
        (pickle.dumps({"a": 1}, 2), "which need no EMPTY_DICT"),
        (pickle.dumps([1, 2], 2), "which need no EMPTY_LIST"),
        (pickled(splits()[:2])[:-2] + b"\x86.", "but it holds a tuple of 2"),
        (b"\x80\x02" + array(IMAGES) + b"\x85.", "but it holds a tuple of 1"),
        (b"\x80\x02" + array(IMAGES) * 3 + b"\x87.", "its train part holds an array"),
        (with_train(array(IMAGES), b"N"), "in place of its train labels it holds nothing"),
        (changed(images=IMAGES[:, :700]), "The train images have the shape (40, 700); expected is (rows, 784)."),
        (changed(images=IMAGES.reshape(40, 28, 28)), "The train images have the shape (40, 28, 28)"),
        (changed(labels=LABELS.reshape(40, 1)), "The train labels have the shape (40, 1)"),
        (changed(labels=LABELS[:39]), "The train split has 40 images and 39 labels."),
        (changed(images=IMAGES[:0], labels=LABELS[:0]), "The array of train images is empty: its shape is (0, 784)."),
        (changed(images=poked(IMAGES, (3, 5), np.nan)), "pixels that are NaN or infinite, first in row 3"),
        (changed(images=poked(IMAGES, (39, 0), -np.inf)), "pixels that are NaN or infinite, first in row 39"),
        (changed(images=np.full((40, 784), 1e300)), "pixels that are NaN or infinite, first in row 0"),
        (changed(images=(IMAGES * 256).astype(np.uint8)), "The train images are of type uint8"),
        (changed(labels=poked(LABELS, 7, -1)), "labels go from 0 to 255, but row 7 has -1"),
        (changed(labels=poked(LABELS, 8, 256)), "labels go from 0 to 255, but row 8 has 256"),
        (changed(labels=LABELS.astype(np.float32)), "The train labels are of type float32; expected are integers."),
        (with_train(raw_array(b"K\x02\x85", b"O8", b"]"), array(LABELS)), "an array of type 'O8'"),
        (with_train(raw_array(b"K\x02\x85", b"V8", text(b"x" * 16)), array(LABELS)), "an array of type 'V8'"),
    ],
)
def test_refuses_with_one_clear_sentence(content, words):
    assert words in refusal(content)


def test_the_width_of_a_row_is_the_pipelines():
    assert read(pickled(splits(64)), columns=64).train.images.shape == (40, 64)
    assert "expected is (rows, 64)" in refusal(good(), columns=64)


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        (replace(LIMITS, max_bytes=1000), "larger than 1,000 bytes"),
        (replace(LIMITS, max_unpacked_bytes=100_000), "unpacks to more than 100,000 bytes"),
    ],
)
def test_refuses_what_is_too_large(limits, words):
    assert words in refusal(good(), limits=limits)
    if limits.max_bytes > 1000:
        assert words in refusal(zipped(good()), limits=limits)


def test_a_gzip_in_a_gzip_is_no_pickle():
    assert "inside gzip" in refusal(gzip.compress(zipped(good())))
