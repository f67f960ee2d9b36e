"""The algorithm behind the image ``kmeans:1``: web-scale k-means, as AWS describes its built-in one.

"How K-Means Clustering Works" (algo-kmeans-tech-notes): it reads the data in mini-batches, keeps ``k`` times
``extra_center_factor`` centres while it reads, and reduces them to ``k`` by Lloyd's algorithm in the end.
"""

from __future__ import annotations

import io
import json
import tarfile
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from baton_local.sagemaker.recordio import Matrix

METRICS = ("train:msd", "train:ssd", "test:msd", "test:ssd")
TUNABLE = ("epochs", "extra_center_factor", "init_method", "mini_batch_size")
_MODEL_FILE = "model_algo-1"
_MAX_MODEL_BYTES = 1 << 30
_AUTO_EXTRA_CENTRES = 10
_AUTO_TRIALS = 3
_WEIGHING_ROWS = 10_000
_CHUNK_ROWS = 8192


class ClientError(Exception):
    """What the customer did wrong: hyperparameters, data, permissions. A FailureReason states it."""

    def __str__(self) -> str:
        return f"ClientError: {self.args[0]}"


@dataclass(frozen=True)
class Hyperparameters:
    """The hyperparameters of the built-in k-means, read and checked; "auto" is None."""

    k: int
    feature_dim: int
    epochs: int = 1
    mini_batch_size: int = 5000
    extra_center_factor: int | None = None
    init_method: str = "random"
    half_life_time_size: int = 0
    eval_metrics: tuple[str, ...] = ("msd",)
    local_lloyd_init_method: str = "kmeans++"
    local_lloyd_max_iter: int = 300
    local_lloyd_num_trials: int | None = None
    local_lloyd_tol: float = 1e-4

    @classmethod
    def parse(cls, given: dict[str, str]) -> Hyperparameters:
        """Read the strings of a CreateTrainingJob; raise ClientError for one that is missing, unknown or out of range.

        Names that start with an underscore are SageMaker's own, such as ``_tuning_objective_metric``.
        """
        own = {name: text for name, text in given.items() if not name.startswith("_")}
        for name in sorted(set(own) - set(_RULES)):
            raise ClientError(
                "Additional hyperparameters are not allowed "
                f"('{name}' was unexpected) (caused by ValidationError)\n\n"
                f"Caused by: Additional properties are not allowed ('{name}' was unexpected)"
            )
        for name in ("feature_dim", "k"):
            if name not in own:
                raise ClientError(
                    f"'{name}' is a required property (caused by ValidationError)\n\n"
                    f"Caused by: '{name}' is a required property"
                )
        return cls(**{name: _read(name, text) for name, text in own.items()})


def _integer(minimum: int, maximum: int = 2**31 - 1) -> dict[str, Any]:
    return {"read": int, "minimum": minimum, "maximum": maximum}


_RULES: dict[str, dict[str, Any]] = {
    "k": _integer(1),
    "feature_dim": _integer(1),
    "epochs": _integer(1),
    "mini_batch_size": _integer(1),
    "extra_center_factor": {**_integer(1), "auto": True},
    "init_method": {"choices": ("random", "kmeans++")},
    "half_life_time_size": _integer(0),
    "eval_metrics": {"metrics": True},
    "local_lloyd_init_method": {"choices": ("random", "kmeans++")},
    "local_lloyd_max_iter": _integer(1),
    "local_lloyd_num_trials": {**_integer(1), "auto": True},
    "local_lloyd_tol": {"read": float, "minimum": 0.0, "maximum": 1.0},
}


def _read(name: str, text: str) -> Any:
    rule = _RULES[name]
    if rule.get("auto") and text == "auto":
        return None
    if "choices" in rule:
        return _check(name, text, text in rule["choices"], f"'{text}' is not one of {list(rule['choices'])}")
    if "metrics" in rule:
        return _read_metrics(text)
    try:
        value = rule["read"](text)
    except ValueError:
        raise ClientError(f"Hyperparameter {name}: '{text}' is not of type '{rule['read'].__name__}'") from None
    fits = rule["minimum"] <= value <= rule["maximum"]
    return _check(name, value, fits, f"{text} is not between {rule['minimum']} and {rule['maximum']}")


def _check(name: str, value: Any, fits: bool, problem: str) -> Any:
    if not fits:
        raise ClientError(f"Hyperparameter {name}: {problem} (caused by ValidationError)")
    return value


def _read_metrics(text: str) -> tuple[str, ...]:
    try:
        metrics = json.loads(text)
    except ValueError:
        raise ClientError(f"Hyperparameter must be valid json, but found eval_metrics: {text}") from None
    fits = isinstance(metrics, list) and bool(metrics) and set(metrics) <= {"msd", "ssd"}
    return tuple(_check("eval_metrics", metrics, fits, f"{text} is not a list of 'msd' and 'ssd'"))


def check_data(rows: Matrix, channel: str, parameters: Hyperparameters) -> None:
    """Raise ClientError unless the rows of a channel can be clustered with these hyperparameters."""
    if rows.shape[1] != parameters.feature_dim:
        raise ClientError(
            f"Unable to read data channel '{channel}'. The data has feature dimension {rows.shape[1]}, "
            f"but hyperparameter feature_dim is {parameters.feature_dim}."
        )
    if not _all_finite(rows):
        raise ClientError(f"Unable to read data channel '{channel}'. Input contains NaN or infinite values.")
    if channel == "train" and len(rows) < parameters.k:
        raise ClientError(f"The train channel has {len(rows)} records, fewer than k={parameters.k}.")


def _all_finite(rows: Matrix) -> bool:
    # A sum is not finite exactly if one of its terms is not (these terms cannot overflow a float64).
    return all(bool(np.isfinite(rows[i : i + _CHUNK_ROWS].sum(dtype=np.float64))) for i in _chunks(rows))


def seed_of(name: str) -> int:
    """Return the seed of a job: the same name trains the same model."""
    return zlib.crc32(name.encode())


def preload() -> None:
    """Import what ``fit`` needs, which takes a second."""
    import sklearn.cluster  # type: ignore[import-untyped] # noqa: F401


def fit(rows: Matrix, parameters: Hyperparameters, seed: int) -> Matrix:
    """Return the ``k`` centres (k, feature_dim) of the rows; deterministic for a seed."""
    from sklearn.cluster import KMeans

    centres, weights = _many_centres(rows, parameters, seed)
    if len(centres) <= parameters.k:
        return centres
    reduced = KMeans(
        n_clusters=parameters.k,
        init=_INIT[parameters.local_lloyd_init_method],
        n_init=parameters.local_lloyd_num_trials or _AUTO_TRIALS,
        max_iter=parameters.local_lloyd_max_iter,
        tol=parameters.local_lloyd_tol,
        random_state=seed,
    ).fit(centres, sample_weight=weights)
    return np.asarray(reduced.cluster_centers_, np.float32)


_INIT = {"random": "random", "kmeans++": "k-means++"}


def _many_centres(rows: Matrix, parameters: Hyperparameters, seed: int) -> tuple[Matrix, npt.NDArray[np.float64]]:
    """Return the centres that the mini-batches lead to, and how many of a sample of rows are next to each."""
    from sklearn.cluster import MiniBatchKMeans

    wanted = min(parameters.k * (parameters.extra_center_factor or _AUTO_EXTRA_CENTRES), len(rows))
    batch = min(parameters.mini_batch_size, len(rows))
    model = MiniBatchKMeans(
        n_clusters=wanted,
        init=_INIT[parameters.init_method],
        n_init=1,
        init_size=min(max(3 * wanted, batch), len(rows)),
        batch_size=batch,
        max_iter=parameters.epochs,
        max_no_improvement=None,
        # scikit-learn fails without labels when there is one batch only: it has no inertia then.
        compute_labels=parameters.epochs * len(rows) < 2 * batch,
        random_state=seed,
    ).fit(rows)
    centres = np.asarray(model.cluster_centers_, np.float32)
    sample = rows[:: max(1, len(rows) // _WEIGHING_ROWS)]
    weights = np.bincount(nearest(sample, centres)[0], minlength=wanted).astype(np.float64)
    used = weights > 0
    return (centres[used], weights[used]) if used.sum() >= parameters.k else (centres, np.maximum(weights, 1.0))


def nearest(rows: Matrix, centres: Matrix) -> tuple[npt.NDArray[np.int64], Matrix]:
    """Return for each row the index of the nearest centre, and the Euclidean distance to it."""
    half_norms = (centres**2).sum(axis=1) / 2
    clusters = np.empty(len(rows), np.int64)
    distances = np.empty(len(rows), np.float32)
    for start in _chunks(rows):
        chunk = rows[start : start + _CHUNK_ROWS]
        found = np.argmax(chunk @ centres.T - half_norms, axis=1)
        clusters[start : start + len(chunk)] = found
        distances[start : start + len(chunk)] = np.linalg.norm(chunk - centres[found], axis=1)
    return clusters, distances


def _chunks(rows: Matrix) -> range:
    return range(0, len(rows), _CHUNK_ROWS)


def quality(rows: Matrix, centres: Matrix) -> dict[str, float]:
    """Return the mean (``msd``) and the sum (``ssd``) of the squared distances to the nearest centres."""
    squares = nearest(rows, centres)[1].astype(np.float64) ** 2
    return {"msd": float(squares.mean()), "ssd": float(squares.sum())}


def save_model(centres: Matrix) -> bytes:
    """Return model.tar.gz: one file, a numpy archive of the centres; never a pickle."""
    buffer, archive = io.BytesIO(), io.BytesIO()
    np.savez(buffer, centres=centres)
    with tarfile.open(fileobj=archive, mode="w:gz") as tar:
        member = tarfile.TarInfo(_MODEL_FILE)
        member.size = buffer.tell()
        tar.addfile(member, io.BytesIO(buffer.getvalue()))
    return archive.getvalue()


def load_model(data: bytes) -> Matrix:
    """Return the centres in a model.tar.gz; raise ValueError if it is not one of this algorithm."""
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:gz") as tar:
            member = tar.getmember(_MODEL_FILE)
            content = tar.extractfile(member) if member.isfile() and member.size <= _MAX_MODEL_BYTES else None
            if content is None:
                raise ValueError("the model file is no plain file of a sane size")
            centres = np.load(io.BytesIO(content.read()), allow_pickle=False)["centres"]
    except (tarfile.TarError, KeyError, OSError, EOFError, zlib.error) as error:
        raise ValueError(f"not a k-means model: {error!r}") from error
    if centres.ndim != 2 or centres.dtype != np.float32:
        raise ValueError(f"not a k-means model: centres of shape {centres.shape} and type {centres.dtype}")
    return np.asarray(centres)
