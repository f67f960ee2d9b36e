"""The smoke test: real predictions from the run's endpoint, checked one by one and held against the gates.

K-means answers with clusters, not digits. Which digit a cluster stands for is learnt from the labels of every other
row (the cluster's most frequent digit); the accuracy is measured on the rows in between, which took no part in that.
"""

from __future__ import annotations

import json
import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from botocore.exceptions import ClientError

from baton.errors import BadPrediction, GateNotMet, TransientAwsError
from baton.names import split_s3_uri

MAX_REQUEST_BYTES = 5_000_000
"""InvokeEndpoint takes 6 MB: https://docs.aws.amazon.com/sagemaker/latest/dg/realtime-endpoints-test-endpoints.html"""

REQUESTS = 20
"""The rows are spread over this many requests, so that a 95th percentile of their latency means something."""

SAMPLES = 10

Json = dict[str, Any]


@dataclass(frozen=True)
class Prediction:
    """What the endpoint said of one row: the cluster, and the distance to its centre."""

    cluster: int
    distance: float


@dataclass(frozen=True)
class HeldOut:
    """What is sent: the seed's single row with its label, and rows of the valid split with theirs, as CSV lines."""

    single: Json
    rows: list[str]
    labels: list[int]


@dataclass(frozen=True)
class Quality:
    """How well clusters and digits agree.

    ``digits`` maps each cluster to its digit; ``confusion[i][j]`` counts the measured rows of digit ``axis[i]`` that
    were taken for ``axis[j]``, and its last column those whose cluster stands for no digit.
    """

    accuracy: float
    purity: float
    digits: dict[int, int]
    axis: list[int]
    confusion: list[list[int]]


class Endpoint:
    """An endpoint that answers CSV rows with k-means predictions, and how long each request took."""

    def __init__(self, runtime: Any, name: str, clusters: int | None, clock: Callable[[], float] = time.perf_counter):
        self._runtime = runtime
        self._name = name
        self._clusters = clusters
        self._clock = clock
        self.latencies_ms: list[float] = []

    def predict(self, rows: Sequence[str]) -> list[Prediction]:
        """Return one prediction a row; raise BadPrediction for an answer of any other form."""
        body = "\n".join(rows).encode()
        start = self._clock()
        answer = self._invoke(body)
        self.latencies_ms.append((self._clock() - start) * 1000)
        return read_predictions(answer, len(rows), self._clusters)

    def _invoke(self, body: bytes) -> bytes:
        try:
            answer = self._runtime.invoke_endpoint(
                EndpointName=self._name, ContentType="text/csv", Accept="application/json", Body=body
            )
            content: bytes = answer["Body"].read()
            return content
        except ClientError as error:
            raise _meaning(error) from error


def run_smoke_test(plan: Json, s3: Any, runtime: Any, clock: Callable[[], float] = time.perf_counter) -> Json:
    """Ask the run's endpoint, keep everything on S3, and return the summary that the state data carries.

    Raises BadPrediction, GateNotMet (the file is on S3 by then), TransientAwsError and ClientError.
    """
    gates = plan["smoke_test"]
    held_out = read_held_out(plan, s3, int(gates["rows"]))
    endpoint = Endpoint(runtime, plan["names"]["endpoint"], plan["parameters"].get("k"), clock)
    (single,) = endpoint.predict([held_out.single["csv"]])
    predictions = [p for batch in batches(held_out.rows) for p in endpoint.predict(batch)]
    quality = judge(predictions, held_out.labels)
    latency = summarise_latency(endpoint.latencies_ms)
    missed = missed_gates(gates, quality.accuracy, latency["p95"])
    summary = {
        "passed": not missed,
        "accuracy": round(quality.accuracy, 4),
        "purity": round(quality.purity, 4),
        "latency_ms": latency,
        "rows": len(predictions),
        "predictions": _samples(held_out, predictions, quality),
        "single_row": _single(held_out.single, single, quality),
        "uri": plan["uris"]["smoke_test"],
    }
    verdict = {"missed": missed, "measured": {"min_accuracy": quality.accuracy, "max_p95_ms": latency["p95"]}}
    _keep(plan, s3, {**summary, **verdict, **_details(held_out, predictions, quality, endpoint, gates)})
    if missed:
        raise GateNotMet("; ".join(missed.values()) + ".")
    return summary


# --- what is sent -------------------------------------------------------------------------------------------------


def read_held_out(plan: Json, s3: Any, rows: int) -> HeldOut:
    """Read the single row from the manifest and the first ``rows`` rows of the valid split with their labels."""
    single = _read_json(s3, plan["uris"]["manifest"])["single_row"]
    labels = _read_json(s3, plan["uris"]["labels"])["labels"][:rows]
    bucket, key = split_s3_uri(plan["uris"]["valid"])
    body = s3.get_object(Bucket=bucket, Key=key)["Body"]
    lines: list[str] = []
    # Only the beginning of the object is read: it has 26 MB for MNIST, and the gates ask for some hundred rows.
    for line in body.iter_lines():
        if len(lines) == len(labels):
            break
        lines.append(line.decode())
    body.close()
    return HeldOut(single, lines, labels)


def batches(rows: Sequence[str], requests: int = REQUESTS, limit: int = MAX_REQUEST_BYTES) -> Iterable[list[str]]:
    """Yield the rows in about ``requests`` groups of one size, none over ``limit`` bytes."""
    most = max(1, math.ceil(len(rows) / requests))
    batch: list[str] = []
    size = 0
    for row in rows:
        if batch and (len(batch) == most or size + len(row) + 1 > limit):
            yield batch
            batch, size = [], 0
        batch.append(row)
        size += len(row) + 1
    if batch:
        yield batch


# --- what comes back ----------------------------------------------------------------------------------------------


def read_predictions(answer: bytes, rows: int, clusters: int | None = None) -> list[Prediction]:
    """Read ``{"predictions": [{"distance_to_cluster", "closest_cluster"}, …]}`` with one entry a row.

    Raises BadPrediction for any other form, a distance that is no finite number from 0 on, or a cluster that is no
    whole number from 0 to ``clusters`` - 1.
    """
    try:
        entries = json.loads(answer)["predictions"]
    except (ValueError, TypeError, KeyError, RecursionError):
        raise BadPrediction(f"The endpoint's answer is not the JSON of k-means: {answer[:200]!r}") from None
    if not isinstance(entries, list) or len(entries) != rows:
        found = len(entries) if isinstance(entries, list) else "no list of"
        raise BadPrediction(f"The endpoint was sent {rows} rows and answered with {found} predictions.")
    return [_prediction(entry, clusters) for entry in entries]


def _prediction(entry: Any, clusters: int | None) -> Prediction:
    cluster = _number(entry, "closest_cluster")
    distance = _number(entry, "distance_to_cluster")
    if not math.isfinite(distance) or distance < 0:
        raise BadPrediction(f"A predicted distance is {distance}, which is no distance.")
    if not math.isfinite(cluster) or cluster != int(cluster) or not 0 <= cluster < _limit(clusters):
        known = f" of {clusters}" if clusters else ""
        raise BadPrediction(f"A predicted cluster is {cluster}, which is no cluster{known}.")
    return Prediction(int(cluster), float(distance))


def _limit(clusters: int | None) -> float:
    return math.inf if clusters is None else clusters


def _number(entry: Any, name: str) -> float:
    value = entry.get(name) if isinstance(entry, dict) else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadPrediction(f"A prediction has no number {name}: {json.dumps(entry)[:200]}")
    try:
        float(value)
    except OverflowError:
        raise BadPrediction(f"A prediction's {name} is larger than any number.") from None
    return value


def _meaning(error: ClientError) -> Exception:
    """Return the error to raise: the model's own answer is judged by its status, all else stays as it is.

    https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_runtime_InvokeEndpoint.html#API_runtime_InvokeEndpoint_Errors
    """
    response: Json = {**error.response}
    code = response["Error"]["Code"]
    if code == "ModelNotReadyException":
        return TransientAwsError(f"The endpoint's model is not ready yet: {error}")
    if code != "ModelError":
        return error
    message = f"The endpoint's model answered with an error: {error}"
    status = response.get("OriginalStatusCode", 500)
    return TransientAwsError(message) if status >= 500 else BadPrediction(message)


# --- what it is worth ---------------------------------------------------------------------------------------------


def judge(predictions: Sequence[Prediction], labels: Sequence[int]) -> Quality:
    """Learn each cluster's digit on the even rows, and measure on the odd ones; the purity is over all rows."""
    clusters = [prediction.cluster for prediction in predictions]
    digits = majority(zip(clusters[::2], labels[::2], strict=True))
    measured = list(zip(labels[1::2], clusters[1::2], strict=True))
    right = sum(digits.get(cluster) == label for label, cluster in measured)
    axis = sorted(set(labels))
    counts = Counter((label, digits.get(cluster)) for label, cluster in measured)
    return Quality(
        accuracy=right / len(measured) if measured else 0.0,
        purity=purity(clusters, labels),
        digits=digits,
        axis=axis,
        confusion=[[counts[label, taken] for taken in (*axis, None)] for label in axis],
    )


def majority(pairs: Iterable[tuple[int, int]]) -> dict[int, int]:
    """Return each cluster's most frequent digit from (cluster, digit) pairs; of equal ones the smaller digit."""
    counts: dict[int, Counter[int]] = {}
    for cluster, digit in pairs:
        counts.setdefault(cluster, Counter())[digit] += 1
    return {
        cluster: min(digits, key=lambda digit, digits=digits: (-digits[digit], digit))  # type: ignore[misc]
        for cluster, digits in sorted(counts.items())
    }


def purity(clusters: Sequence[int], labels: Sequence[int]) -> float:
    """Return the share of rows that have the most frequent label of their cluster."""
    digits = majority(zip(clusters, labels, strict=True))
    right = sum(digits[cluster] == label for cluster, label in zip(clusters, labels, strict=True))
    return right / len(labels) if labels else 0.0


def summarise_latency(latencies_ms: Sequence[float]) -> dict[str, float]:
    """Return p50, p95 (nearest rank) and max of the requests' latencies in milliseconds."""
    ordered = sorted(latencies_ms)

    def rank(share: float) -> float:
        return round(ordered[max(0, math.ceil(share * len(ordered)) - 1)], 2)

    return {"p50": rank(0.5), "p95": rank(0.95), "max": rank(1)}


def missed_gates(gates: Json, accuracy: float, p95_ms: float) -> dict[str, str]:
    """Return one sentence part for each gate that is not met, by the gate's name."""
    missed = {}
    if accuracy < gates["min_accuracy"]:
        shown, asked = told_apart(accuracy, gates["min_accuracy"], 4), gates["min_accuracy"]
        missed["min_accuracy"] = f"The accuracy is {shown}, the gate asks for {asked} or more"
    if p95_ms > gates["max_p95_ms"]:
        shown, allowed = told_apart(p95_ms, gates["max_p95_ms"], 1), gates["max_p95_ms"]
        missed["max_p95_ms"] = f"The p95 latency is {shown} ms, the gate allows {allowed} ms"
    return missed


def told_apart(measured: float, gate: float, digits: int) -> str:
    """Return a figure with this many digits after its point, and more where it would look like the gate."""
    if measured == gate:
        return f"{measured:.{digits}f}"
    texts = (f"{measured:.{more}f}" for more in range(digits, 18))
    return next((text for text in texts if float(text) != gate), repr(measured))


# --- what is kept -------------------------------------------------------------------------------------------------


def _samples(held_out: HeldOut, predictions: Sequence[Prediction], quality: Quality) -> list[Json]:
    """Return the first ten rows that the accuracy was measured on."""
    return [_told(row, held_out.labels[row], predictions[row], quality) for row in _sample_rows(predictions)]


def _sample_rows(predictions: Sequence[Prediction]) -> range:
    return range(1, len(predictions), 2)[:SAMPLES]


def _single(single: Json, prediction: Prediction, quality: Quality) -> Json:
    return {"split": single["split"], **_told(single["row"], single["label"], prediction, quality)}


def _told(row: int, label: int, prediction: Prediction, quality: Quality) -> Json:
    digit = quality.digits.get(prediction.cluster)
    return {
        "row": row,
        "label": label,
        "cluster": prediction.cluster,
        "digit": digit,
        "correct": digit == label,
        "distance": round(prediction.distance, 4),
    }


def _details(
    held_out: HeldOut, predictions: Sequence[Prediction], quality: Quality, endpoint: Endpoint, gates: Json
) -> Json:
    """Return what only the file on S3 has: every prediction, the confusions, and the pixels of the samples."""
    return {
        "gates": gates,
        "cluster_digits": quality.digits,
        "confusion": {"axis": quality.axis, "rows": quality.confusion},
        "latencies_ms": [round(latency, 2) for latency in endpoint.latencies_ms],
        "pixels": {
            "single_row": _pixels(held_out.single["csv"]),
            "predictions": [_pixels(held_out.rows[row]) for row in _sample_rows(predictions)],
        },
        "all_predictions": [asdict(prediction) for prediction in predictions],
        "labels": held_out.labels,
    }


def _pixels(csv_row: str) -> list[float]:
    return [float(pixel) for pixel in csv_row.split(",")]


def _keep(plan: Json, s3: Any, document: Json) -> None:
    bucket, key = split_s3_uri(plan["uris"]["smoke_test"])
    s3.put_object(Bucket=bucket, Key=key, Body=json.dumps(document).encode(), ContentType="application/json")


def _read_json(s3: Any, uri: str) -> Any:
    bucket, key = split_s3_uri(uri)
    return json.loads(s3.get_object(Bucket=bucket, Key=key)["Body"].read())
