"""The forms in which the built-in k-means takes rows and gives predictions, by MIME type.

AWS: "Common data formats for inference" (cdf-inference) and "K-Means response formats" (km-in-formats).
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from baton_local.sagemaker.recordio import Matrix, RecordError, read_matrix

CSV = "text/csv"
JSON = "application/json"
JSON_LINES = "application/jsonlines"
RECORDIO = "application/x-recordio-protobuf"


class FormatError(ValueError):
    """The payload is not what its content type says."""


class UnsupportedTypeError(FormatError):
    """The algorithm does not speak this MIME type."""


def mime_type(header: str) -> tuple[str, dict[str, str]]:
    """Split ``text/csv;label_size=0`` into the type in small letters and its parameters."""
    kind, *rest = header.split(";")
    parameters = (part.partition("=") for part in rest)
    return kind.strip().lower(), {name.strip(): value.strip() for name, _, value in parameters}


def parse_rows(payload: bytes, content_type: str, label_size: int = 0) -> Matrix:
    """Return the rows of a payload as float32; ``label_size`` columns at the start of a CSV row are labels.

    Raises UnsupportedTypeError for a type that the algorithm does not know, FormatError for an unfit payload.
    """
    kind, parameters = mime_type(content_type)
    if kind == CSV:
        return parse_csv(payload)[:, int(parameters.get("label_size", label_size)) :]
    parser = {JSON: _parse_json, JSON_LINES: _parse_json_lines, RECORDIO: _parse_recordio}.get(kind)
    if parser is None:
        raise UnsupportedTypeError(f"Content-type {content_type or 'None'} is not supported")
    return parser(payload)


def parse_csv(payload: bytes) -> Matrix:
    """Return the numbers of comma-separated lines, all of one length; empty lines at the end are left out."""
    text = payload.replace(b"\r\n", b"\n").rstrip(b"\n")
    columns = _column_count(text)
    words = text.replace(b"\n", b",").split(b",")
    try:
        # Pixels repeat a lot, so each distinct word is read once: three times as fast as numpy's own reader.
        numbers = {word: _number(word) for word in set(words)}
    except ValueError:
        raise FormatError("the CSV has a value that is no number") from None
    return np.fromiter(map(numbers.__getitem__, words), np.float32, len(words)).reshape(-1, columns)


def _number(word: bytes) -> float:
    if b"_" in word:
        raise ValueError("Python allows underscores in numbers, CSV does not")
    return float(word)


def _column_count(text: bytes) -> int:
    if not text:
        raise FormatError("the CSV is empty")
    characters = np.frombuffer(text, np.uint8)
    commas = np.flatnonzero(characters == ord(","))
    ends = np.append(np.flatnonzero(characters == ord("\n")), len(characters))
    counts = np.diff(np.searchsorted(commas, ends), prepend=0)
    if (counts != counts[0]).any():
        raise FormatError(f"the CSV's rows have from {counts.min() + 1} to {counts.max() + 1} columns")
    return int(counts[0]) + 1


def _parse_json(payload: bytes) -> Matrix:
    try:
        instances = json.loads(payload)["instances"]
        return _stack([_json_features(instance) for instance in instances])
    except (ValueError, KeyError, TypeError) as error:
        raise FormatError(f"the JSON has no rows of numbers under instances: {error!r}") from error


def _parse_json_lines(payload: bytes) -> Matrix:
    try:
        return _stack([_json_features(json.loads(line)) for line in payload.splitlines() if line.strip()])
    except (ValueError, KeyError, TypeError) as error:
        raise FormatError(f"a line has no features: {error!r}") from error


def _json_features(instance: Any) -> list[float]:
    """Return the numbers of one instance, in the short form or in the one that mirrors the protobuf."""
    features = (instance.get("data") or instance)["features"]
    return list(features["values"] if isinstance(features, dict) else features)


def _stack(rows: list[list[float]]) -> Matrix:
    if not rows or len({len(row) for row in rows}) != 1:
        raise ValueError("no rows, or rows of different lengths")
    return np.array(rows, np.float32)


def _parse_recordio(payload: bytes) -> Matrix:
    try:
        return read_matrix(payload)
    except RecordError as error:
        raise FormatError(str(error)) from error


Clusters = npt.NDArray[np.int64]


def render_predictions(clusters: Clusters, distances: Matrix, accept: str) -> tuple[str, bytes]:
    """Return the MIME type and the bytes of the predictions in the first form of ``accept`` that is known."""
    renderers: dict[str, Callable[[Clusters, Matrix], bytes]] = {
        JSON: _render_json,
        JSON_LINES: _render_json_lines,
        CSV: _render_csv,
        RECORDIO: _render_recordio,
    }
    for wanted in accept.split(","):
        kind = mime_type(wanted)[0].replace("*/*", JSON) or JSON
        if kind in renderers:
            return kind, renderers[kind](clusters, distances)
    raise UnsupportedTypeError(f"Accept type {accept} is not supported")


def _objects(clusters: Clusters, distances: Matrix) -> list[dict[str, float]]:
    pairs = zip(distances.tolist(), clusters.tolist(), strict=True)
    return [{"distance_to_cluster": distance, "closest_cluster": float(cluster)} for distance, cluster in pairs]


def _render_json(clusters: Clusters, distances: Matrix) -> bytes:
    return json.dumps({"predictions": _objects(clusters, distances)}).encode()


def _render_json_lines(clusters: Clusters, distances: Matrix) -> bytes:
    return "".join(f"{json.dumps(row)}\n" for row in _objects(clusters, distances)).encode()


def _render_csv(clusters: Clusters, distances: Matrix) -> bytes:
    pairs = zip(clusters.tolist(), distances.tolist(), strict=True)
    return "".join(f"{float(cluster)},{distance}\n" for cluster, distance in pairs).encode()


def _render_recordio(clusters: Clusters, distances: Matrix) -> bytes:
    return b"".join(_record(float(c), float(d)) for c, d in zip(clusters, distances, strict=True))


def _record(cluster: float, distance: float) -> bytes:
    payload = _label(b"closest_cluster", cluster) + _label(b"distance_to_cluster", distance)
    padding = b"\0" * (-len(payload) % 4)
    return struct.pack("<II", 0xCED7230A, len(payload)) + payload + padding


def _label(key: bytes, value: float) -> bytes:
    """Return the map entry ``label[key]`` with a float32 tensor of one value; every length fits in one byte."""
    tensor = b"\x0a\x04" + struct.pack("<f", value)
    holder = b"\x12" + bytes([len(tensor)]) + tensor
    entry = b"\x0a" + bytes([len(key)]) + key + b"\x12" + bytes([len(holder)]) + holder
    return b"\x12" + bytes([len(entry)]) + entry
