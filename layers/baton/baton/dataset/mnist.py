"""The MNIST data set in memory: three splits of images and labels, checked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from baton.dataset.source import Limits, Readable, Source
from baton.dataset.unpickle import load_pairs
from baton.errors import InvalidDataset

COLUMNS = 28 * 28
MAX_LABEL = 255
"""MNIST's labels are unsigned bytes where they come from, and a table of confusions must stay a table."""

_SPLITS = ("train", "valid", "test")
_BLOCK_ROWS = 4096


@dataclass(frozen=True)
class Split:
    """Images, float32 of shape (rows, columns) and all finite, and their labels, int64 of shape (rows,)."""

    images: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]


@dataclass(frozen=True)
class Mnist:
    """The three splits, and what the uploaded object was: its bytes read and their SHA-256."""

    train: Split
    valid: Split
    test: Split
    bytes_read: int
    sha256: str


def read_mnist(stream: Readable, limits: Limits, columns: int = COLUMNS) -> Mnist:
    """Read a ``.pkl`` or ``.pkl.gz`` of MNIST's form; raise InvalidDataset, whose one sentence says what is wrong."""
    source = Source(stream, limits)
    pairs = load_pairs(source, _SPLITS)
    train, valid, test = (_split(name, *pair, columns) for name, pair in zip(_SPLITS, pairs, strict=True))
    return Mnist(train, valid, test, source.bytes_read, source.sha256)


def _split(name: str, images: npt.NDArray[Any], labels: npt.NDArray[Any], columns: int) -> Split:
    if images.ndim != 2 or images.shape[1] != columns:
        raise InvalidDataset(f"The {name} images have the shape {images.shape}; expected is (rows, {columns}).")
    if labels.ndim != 1:
        raise InvalidDataset(f"The {name} labels have the shape {labels.shape}; expected is (rows,).")
    if len(images) != len(labels):
        raise InvalidDataset(f"The {name} split has {len(images):,} images and {len(labels):,} labels.")
    return Split(_checked_images(name, images), _checked_labels(name, labels))


def _checked_images(name: str, images: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    if images.dtype.kind != "f":
        raise InvalidDataset(f"The {name} images are of type {images.dtype}; expected are float32 pixels.")
    # SageMaker's built-in algorithms train on 4-byte floats; a value that overflows one shows as infinite below.
    with np.errstate(over="ignore"):
        images = np.ascontiguousarray(images, np.float32)
    for start in range(0, len(images), _BLOCK_ROWS):
        bad = ~np.isfinite(images[start : start + _BLOCK_ROWS]).all(axis=1)
        if bad.any():
            row = start + int(bad.argmax())
            raise InvalidDataset(f"The {name} images hold pixels that are NaN or infinite, first in row {row}.")
    return images


def _checked_labels(name: str, labels: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    if labels.dtype.kind not in "iu":
        raise InvalidDataset(f"The {name} labels are of type {labels.dtype}; expected are integers.")
    bad = (labels < 0) | (labels > MAX_LABEL)
    if bad.any():
        row = int(bad.argmax())
        raise InvalidDataset(f"The {name} labels go from 0 to {MAX_LABEL}, but row {row} has {labels[row]}.")
    return labels.astype(np.int64, copy=False)
