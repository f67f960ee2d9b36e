"""The conversion of the MNIST pickle into what the pipeline's jobs read, as bytes with their description."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from baton.dataset import recordio
from baton.dataset.mnist import Mnist, Split

SINGLE_ROW = 30
"""The row of the train split that the smoke test sends by itself (the last row, where there are fewer)."""

_FEW_VALUES = 4096


@dataclass(frozen=True)
class Artefact:
    """One object of a converted data set: ``name`` is its key in the plan's ``uris``."""

    name: str
    path: str
    content: bytes
    content_type: str
    rows: int
    columns: int

    def facts(self) -> dict[str, Any]:
        """Return what the manifest says of it; ``bytes`` is its size, ``path`` is relative to the run's folder."""
        return {
            "path": self.path,
            "bytes": len(self.content),
            "sha256": hashlib.sha256(self.content).hexdigest(),
            "rows": self.rows,
            "columns": self.columns,
            "content_type": self.content_type,
        }


def artefacts(mnist: Mnist) -> Iterator[Artefact]:
    """Yield train and test data, then the rows and the labels of the valid split; the manifest is not among them."""
    yield _recordio("train", "data/train_data", mnist.train)
    yield _recordio("test", "data/test_data", mnist.test)
    rows, columns = mnist.valid.images.shape
    yield Artefact("valid", "input/valid_data.csv", csv_rows(mnist.valid.images), "text/csv", rows, columns)
    labels = json.dumps({"labels": mnist.valid.labels.tolist()}).encode()
    yield Artefact("labels", "data/valid_labels.json", labels, "application/json", rows, 1)


def manifest(mnist: Mnist, objects: dict[str, dict[str, Any]], dataset: dict[str, Any]) -> Artefact:
    """Return the manifest: the facts of each object, of the data set, and the single row for the smoke test."""
    document = {
        "dataset": {**dataset, "bytes": mnist.bytes_read, "sha256": mnist.sha256},
        "objects": objects,
        "single_row": _single_row(mnist.train),
    }
    content = json.dumps(document, indent=1).encode()
    return Artefact("manifest", "data/manifest.json", content, "application/json", 0, 0)


def csv_rows(images: npt.NDArray[np.float32]) -> bytes:
    """Return the images as CSV, one a line, each number as ``%g`` writes it (what ``numpy.savetxt`` gives).

    MNIST's pixels have 256 values, so each is written once and looked up; without such a table this takes 20 times
    as long.
    """
    # By their bits, because 0 and -0 are equal as numbers and are written differently.
    bits = np.ascontiguousarray(images, np.float32).view(np.uint32)
    values = _distinct(bits)
    if len(values) > _FEW_VALUES:
        return b"".join((",".join([f"{pixel:g}" for pixel in row.tolist()]) + "\n").encode() for row in images)
    texts = np.array([f"{value:g}" for value in values.view(np.float32).tolist()], dtype=object)
    return b"".join((",".join(texts[np.searchsorted(values, row)]) + "\n").encode() for row in bits)


def _distinct(bits: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint32]:
    """Return the sorted distinct values, or enough of them to see that they are many."""
    values = np.empty(0, np.uint32)
    for start in range(0, len(bits), 500):
        values = np.union1d(values, bits[start : start + 500])
        if len(values) > _FEW_VALUES:
            break
    return values


def _recordio(name: str, path: str, split: Split) -> Artefact:
    # One buffer for each object: the notebook that this grew from reused one, and its test object held train too.
    buffer = io.BytesIO()
    recordio.write_dense(buffer, split.images, split.labels)
    rows, columns = split.images.shape
    return Artefact(name, path, buffer.getvalue(), recordio.CONTENT_TYPE, rows, columns)


def _single_row(train: Split) -> dict[str, Any]:
    row = min(SINGLE_ROW, len(train.images) - 1)
    return {
        "split": "train",
        "row": row,
        "label": int(train.labels[row]),
        "csv": csv_rows(train.images[row : row + 1]).decode().rstrip("\n"),
    }
