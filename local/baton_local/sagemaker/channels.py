"""A job's input channels as matrices, parsed once for each object and then mapped into memory."""

from __future__ import annotations

import gzip
import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np

from baton_local.locks import alone
from baton_local.sagemaker import storage
from baton_local.sagemaker.formats import CSV, RECORDIO, FormatError, mime_type, parse_rows
from baton_local.sagemaker.kmeans import ClientError
from baton_local.sagemaker.recordio import Matrix

_CSV_LABELS = 1
"""A training CSV's first column is the label unless the content type says ``label_size=0`` (AWS: cdf-training)."""


def read_channel(session: storage.Session, channel: dict[str, Any], cache: Path) -> Matrix:
    """Return all rows of one entry of InputDataConfig; raise ClientError if it cannot be read or makes no sense."""
    name = channel["ChannelName"]
    kind = channel.get("ContentType") or RECORDIO
    if mime_type(kind)[0] not in (RECORDIO, CSV):
        raise ClientError(f"No support for content type '{kind}' of channel '{name}'.")
    items = storage.list_objects(session, channel["DataSource"]["S3DataSource"]["S3Uri"])
    zipped = channel.get("CompressionType") == "Gzip"
    parts = [_read_object(session, item, name, kind, zipped, cache) for item in items]
    if len({part.shape[1] for part in parts}) > 1:
        raise ClientError(f"Unable to read data channel '{name}'. Its objects have different numbers of features.")
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _read_object(
    session: storage.Session, item: storage.S3Object, name: str, kind: str, zipped: bool, cache: Path
) -> Matrix:
    path = _cache_path(cache, storage.confirm(session, item), kind, zipped)
    # One worker parses it, and the others wait.
    with alone(path.with_suffix(".lock")):
        if not path.exists():
            _store(path, _parse(storage.read(session, item), item, name, kind, zipped))
    rows: Matrix = np.load(path, mmap_mode="r", allow_pickle=False)
    return rows


def _parse(data: bytes, item: storage.S3Object, name: str, kind: str, zipped: bool) -> Matrix:
    try:
        return parse_rows(gzip.decompress(data) if zipped else data, kind, _CSV_LABELS)
    except (FormatError, OSError, EOFError) as error:
        where = f"s3://{item.bucket}/{item.key}"
        raise ClientError(
            f"Unable to read data channel '{name}'. Requested content-type is '{kind}'. Please verify that the data "
            f"matches the requested content-type. ({where}: {error})"
        ) from error


def _cache_path(cache: Path, item: storage.S3Object, kind: str, zipped: bool) -> Path:
    identity = "\0".join((item.bucket, item.key, item.etag, str(item.size), kind, str(zipped)))
    return cache / f"{hashlib.sha256(identity.encode()).hexdigest()}.npy"


def _store(path: Path, rows: Matrix) -> None:
    """Write the matrix under another name first, so that another worker never maps half of it."""
    unfinished = path.with_suffix(f".{os.getpid()}")
    stored = np.lib.format.open_memmap(unfinished, "w+", np.float32, rows.shape)
    stored[:] = rows
    del stored
    unfinished.replace(path)
