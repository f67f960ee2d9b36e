"""Pickles that want more than to be read: none runs, none takes memory, none ends in anything but InvalidDataset."""

from __future__ import annotations

import io
import os
import pickle
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from baton.dataset.mnist import read_mnist
from baton.dataset.source import MIB, Limits, Source
from baton.dataset.unpickle import MAX_INSTRUCTIONS
from baton.errors import InvalidDataset
from tests.support.pickles import array, good, long_number, raw_array, split, stream, text, with_train, zipped

LIMITS = Limits(max_bytes=4 * MIB, max_unpacked_bytes=8 * MIB)
IMAGES, LABELS = split(40)


def refusal(content: bytes) -> str:
    with pytest.raises(InvalidDataset) as caught:
        read_mnist(stream(content), LIMITS)
    return str(caught.value)


class Runs:
    """Reduces to a call that leaves a trace."""

    def __init__(self, callee, *arguments):
        self.reduced = (callee, arguments)

    def __reduce__(self):
        return self.reduced


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("callee", [os.system, os.mkdir, eval, exec, print, getattr, np.load, np.memmap, bytearray])
def test_no_call_of_a_pickle_is_made(tmp_path, protocol, callee):
    trace = tmp_path / "trace"
    arguments = {os.system: f"touch {trace}", eval: f"open({str(trace)!r}, 'w')", exec: f"open({str(trace)!r}, 'w')"}
    content = pickle.dumps(Runs(callee, arguments.get(callee, str(trace))), protocol)
    assert "only plain numpy arrays are allowed" in refusal(content)
    assert "only plain numpy arrays are allowed" in refusal(zipped(content))
    assert not trace.exists()


def test_the_same_pickle_would_have_run(tmp_path):
    trace = tmp_path / "trace"
    pickle.loads(pickle.dumps(Runs(os.mkdir, str(trace))))
    assert trace.exists()


@pytest.mark.parametrize(
    ("program", "words"),
    [
        (b"cposix\nsystem\n.", "'posix.system'"),
        (b"cnumpy.core.multiarray\nfromfile\n.", "fromfile"),
        (b"cnumpy\nload\n.", "numpy.load"),
        (b"(i\nos\nsystem\n.", "INST"),
        (b"(o.", "OBJ"),
        (b")\x81.", "NEWOBJ"),
        (b"\x92.", "NEWOBJ_EX"),
        (b"\x82\x01.", "EXT1"),
        (b"\x83\x01\x00.", "EXT2"),
        (b"\x84\x01\x00\x00\x00.", "EXT4"),
        (b"Pid\n.", "PERSID"),
        (b"NQ.", "BINPERSID"),
        (b"\x97.", "NEXT_BUFFER"),
        (b"]N\x61.", "EMPTY_LIST"),
        (b"\x8f.", "EMPTY_SET"),
        (b"G" + bytes(8) + b".", "BINFLOAT"),
        (b"\xff.", "0xff is no instruction"),
        (b".", "takes a value that it never made"),
        (b"NR.", "takes a value that it never made"),
        (b"Nb.", "takes a value that it never made"),
        (b"\x87.", "takes a value that it never made"),
        (b"N(\x85.", "takes a value that it never made"),
        (b"t.", "closes a tuple that it never opened"),
        (b"h\x07.", "recalls a value that it never stored"),
        (b"j\xff\xff\xff\xff.", "recalls a value that it never stored"),
        (b"NNR.", "makes a call"),
        (b"cnumpy\nndarray\nJ\xff\xff\xff\x7f\x85R.", "makes a call"),
        (b"cnumpy\ndtype\n)R.", "makes a call"),
        (b"cnumpy\ndtype\nNR.", "makes a call"),
        (b"cnumpy\ndtype\nN\x85R.", "no text"),
        (b"cnumpy\ndtype\nU\x02f4\x85RNb.", "byte order is unknown"),
        (b"cnumpy\ndtype\nU\x02f4\x85R(K\x03U\x01<)))tb.", "a structured array"),
        (b"cnumpy\ndtype\nU\x02f4\x85R(K\x03U\x01=NNNtb.", "byte order is unknown"),
        (b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nJ\xff\xff\xff\x7f\x85U\x01b\x87R.", "makes a call"),
        (b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\ndtype\nK\x00\x85U\x01b\x87R.", "makes a call"),
        (b"cnumpy\nndarray\nNb.", "no fresh numpy array"),
        (b"NN\x93.", "no text"),
        (b"c" + b"a" * 400, "a name in it does not end"),
        (b"T\xff\xff\xff\xff.", "negative"),
        (b"X\x01\x00\x00\x00\xff.", "not UTF-8"),
    ],
)
def test_refuses_every_instruction_and_use_that_arrays_do_not_need(program, words):
    assert words in refusal(b"\x80\x02" + program)


@pytest.mark.parametrize(
    ("images", "words"),
    [
        (raw_array(b"K\x28M\x10\x03\x86", b"f4", text(b"short")), "has 5 bytes of data"),
        (raw_array(b"J\xff\xff\xff\x7fJ\xff\xff\xff\x7f\x86", b"f4", text(b"")), "has 0 bytes of data"),
        (raw_array(b"J\xff\xff\xff\xffK\x01\x86", b"f4", text(b"")), "shape is no tuple of sizes"),
        (raw_array(b"\x88K\x01\x86", b"f4", text(b"xxxx")), "shape is no tuple of sizes"),
        (raw_array(b"N", b"f4", text(b"")), "shape is no tuple of sizes"),
        (raw_array(b"(" + b"K\x01" * 60 + b"t", b"f4", text(b"xxxx")), "shape is no tuple of sizes"),
        (raw_array(long_number(2**2000) + b"K\x00\x86", b"f4", text(b"")), "is empty: its shape is (huge, 0)"),
        (raw_array(long_number(2**62) + long_number(2**62) + b"\x86", b"f4", text(b"")), "has 0 bytes of data"),
        (raw_array(b"K\x01\x85", b"f4", b"K\x07"), "no plain bytes"),
        (raw_array(b"K\x01\x85", b"f4", b"X\x04\x00\x00\x00abcd"), "no plain bytes"),
        (raw_array(b"K\x01\x85", b"f4", text(b"abcd"), order=b"?"), "byte order is unknown"),
        (raw_array(b"K\x01\x85", b"(1000000000,1000)f4", text(b"abcd")), "only plain numbers are allowed"),
        (array(IMAGES) + b"(K\x01K\x01\x85NNNtb", "no fresh numpy array"),
        (b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R", "it holds an array"),
    ],
)
def test_refuses_arrays_that_lie(images, words):
    assert words in refusal(with_train(images, array(LABELS)))


def peak_of(content: bytes) -> int:
    tracemalloc.start()
    try:
        with pytest.raises(InvalidDataset):
            read_mnist(stream(content), LIMITS)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def bomb(unpacked: int) -> bytes:
    squeeze = zlib.compressobj(9, wbits=31)
    parts = [squeeze.compress(b"\x80\x02" + b"N" * 1000)]
    parts += [squeeze.compress(bytes(MIB)) for _ in range(unpacked // MIB)]
    return b"".join([*parts, squeeze.flush()])


@pytest.mark.parametrize(
    "content",
    [
        zipped(b"\x80\x04\x8e" + struct.pack("<Q", 2**62) + b"x"),
        zipped(b"\x80\x04B" + struct.pack("<I", 2**32 - 1) + b"x"),
        zipped(b"\x80\x04\x95" + struct.pack("<Q", 2**62) + b"N."),
        zipped(b"\x80\x02" + b"(" * 3_000_000),
        zipped(b"\x80\x02N" + b"\x85" * 3_000_000 + b"."),
        zipped(b"\x80\x02)" + b"h\x00\x86q\x00" * 1_000_000 + b"."),
        zipped(b"\x80\x02N" + b"0" * 100),
    ],
    ids=["bytes8", "bytes", "frame", "marks", "nesting", "memo", "pop"],
)
def test_a_lie_about_size_or_an_endless_program_takes_no_memory(content):
    assert peak_of(content) < 6 * MIB


def test_a_gzip_bomb_is_refused_on_the_stream():
    content = bomb(400 * MIB)
    assert len(content) < MIB
    assert peak_of(content) < 6 * MIB
    assert "is not a pickle" in refusal(zipped(bytes(50 * MIB)))


def test_a_bomb_that_reads_like_an_array_is_refused_before_it_is_unpacked():
    claim = b"\x80\x02" + raw_array(b"K\x28M\x10\x03\x86", b"f4", b"T" + struct.pack("<i", 7 * MIB))
    squeeze = zlib.compressobj(9, wbits=31)
    content = squeeze.compress(claim[:-2]) + squeeze.compress(bytes(300 * MIB)) + squeeze.flush()
    generous = Limits(max_bytes=4 * MIB, max_unpacked_bytes=400 * MIB, max_ratio=50)
    read = io.BytesIO(content)
    with pytest.raises(InvalidDataset, match="more than 50 times its size, like a gzip bomb"):
        Source(read, generous).read(300 * MIB)
    assert "unpacks to more than 8 MiB" in refusal(claim[:-6] + struct.pack("<i", 9 * MIB) + b"x")


def test_a_program_of_many_instructions_is_refused():
    assert f"more than {MAX_INSTRUCTIONS:,} instructions" in refusal(b"\x80\x02" + b"N" * (MAX_INSTRUCTIONS + 1) + b".")


def valid_or_refused(content: bytes) -> None:
    try:
        mnist = read_mnist(stream(content), LIMITS)
    except InvalidDataset as error:
        sentence = str(error)
    else:
        sentence = "It was read."
        assert mnist.train.images.shape[1] == 784
        assert np.isfinite(mnist.train.images).all()
        assert mnist.train.labels.min() >= 0
    assert sentence.endswith(".")
    assert len(sentence) < 500


SMALL = with_train(array(IMAGES[:2]), array(LABELS[:2]))
# The instructions, without the long run of pixels in which a change is only another pixel.
PROGRAM_BYTES = [
    at for at in range(len(SMALL)) if at < 250 or at > len(SMALL) - 12 or b"cnumpy" in SMALL[at - 80 : at + 80]
]


@settings(max_examples=400, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(PROGRAM_BYTES), st.integers(0, 255)), min_size=1, max_size=6))
@example([(0, 0)])
def test_any_changed_pickle_is_valid_or_refused(changes):
    content = bytearray(SMALL)
    for at, value in changes:
        content[at] = value
    valid_or_refused(bytes(content))


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(PROGRAM_BYTES), st.integers(0, 40), st.binary(max_size=40))
def test_any_cut_or_spliced_pickle_is_valid_or_refused(at, removed, inserted):
    valid_or_refused(SMALL[:at] + inserted + SMALL[at + removed :])


INSTRUCTIONS = [bytes([code]) for code in range(256)] + [
    b"cnumpy\nndarray\n",
    b"cnumpy\ndtype\n",
    b"cnumpy.core.multiarray\n_reconstruct\n",
    b"U\x02f4",
    b"K\x00",
    b"K\x00\x85",
    b"(K\x03U\x01<NNNtb",
    b"q\x00",
    b"h\x00",
    array(LABELS[:2]),
]


@settings(max_examples=600, deadline=None)
@given(st.lists(st.sampled_from(INSTRUCTIONS), max_size=40), st.sampled_from([2, 4]))
def test_any_program_is_valid_or_refused(parts, protocol):
    valid_or_refused(b"\x80" + bytes([protocol]) + b"".join(parts) + b".")


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 255)), min_size=1, max_size=3))
def test_any_damaged_gzip_is_valid_or_refused(changes):
    content = bytearray(zipped(good()))
    for at, value in changes:
        content[at % len(content)] = value
    valid_or_refused(bytes(content))
