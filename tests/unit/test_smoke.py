"""The smoke test: what is sent, what answers are accepted, and what they are worth."""

from __future__ import annotations

import json
from collections import Counter
from itertools import count

import numpy as np
import pytest
from botocore.exceptions import ClientError
from hypothesis import given
from hypothesis import strategies as st

from baton.dataset.convert import artefacts, manifest
from baton.dataset.mnist import Mnist, Split
from baton.errors import BadPrediction, GateNotMet, TransientAwsError
from baton.smoke import (
    MAX_REQUEST_BYTES,
    Prediction,
    batches,
    judge,
    majority,
    missed_gates,
    purity,
    read_predictions,
    run_smoke_test,
    summarise_latency,
)
from tests.support.report_samples import BUCKET, GATES, RUN_ID, DigitsEndpoint, MemoryS3, answer, digit_splits, plan


@pytest.fixture(scope="module")
def mnist() -> Mnist:
    train, valid, test = (Split(*pair) for pair in digit_splits())
    return Mnist(train, valid, test, 1, "0")


@pytest.fixture(scope="module")
def endpoint(mnist) -> DigitsEndpoint:
    return DigitsEndpoint(mnist.train.images)


@pytest.fixture
def s3(mnist) -> MemoryS3:
    stored = MemoryS3()
    for artefact in [*artefacts(mnist), manifest(mnist, {}, {})]:
        key = f"runs/{RUN_ID}/{artefact.path}"
        stored.put_object(Bucket=BUCKET, Key=key, Body=artefact.content, ContentType=artefact.content_type)
    return stored


def kept(s3: MemoryS3) -> dict:
    return json.loads(s3.objects[BUCKET, f"runs/{RUN_ID}/predictions/smoke_test.json"])


def ticking(step: float):
    ticks = count(0, step)
    return lambda: next(ticks)


def test_a_real_model_passes_and_everything_is_kept(s3, endpoint, mnist):
    endpoint.requests.clear()
    summary = run_smoke_test(plan(), s3, endpoint, ticking(0.01))
    assert summary["passed"]
    assert summary["rows"] == 100
    assert 0.45 < summary["accuracy"] <= 1
    assert summary["latency_ms"] == {"p50": 10.0, "p95": 10.0, "max": 10.0}
    assert summary["uri"] == f"s3://{BUCKET}/runs/{RUN_ID}/predictions/smoke_test.json"
    assert len(json.dumps(summary)) < 10_000
    first, *rest = endpoint.requests
    assert {r["ContentType"] for r in endpoint.requests} == {"text/csv"}
    assert {r["EndpointName"] for r in endpoint.requests} == {f"{RUN_ID}-endpoint"}
    single = np.array(first["Body"].decode().split(","), float)
    np.testing.assert_allclose(single, mnist.train.images[30], atol=1e-6)
    sent = b"\n".join(r["Body"] for r in rest).decode().split("\n")
    assert len(sent) == 100
    np.testing.assert_allclose(np.array(sent[99].split(","), float), mnist.valid.images[99], atol=1e-6)
    stored = kept(s3)
    assert len(stored["all_predictions"]) == 100
    assert stored["labels"] == mnist.valid.labels[:100].tolist()
    assert len(stored["latencies_ms"]) == len(endpoint.requests) == 21


def test_ten_samples_with_their_pixels_come_from_the_measured_half(s3, endpoint, mnist):
    summary = run_smoke_test(plan(), s3, endpoint)
    assert [told["row"] for told in summary["predictions"]] == list(range(1, 20, 2))
    pixels = kept(s3)["pixels"]
    for told, row in zip(summary["predictions"], pixels["predictions"], strict=True):
        assert told["label"] == mnist.valid.labels[told["row"]]
        assert told["correct"] == (told["digit"] == told["label"])
        np.testing.assert_allclose(row, mnist.valid.images[told["row"]], atol=1e-6)
    assert summary["single_row"]["label"] == mnist.train.labels[30]


def test_the_confusions_add_up_to_the_measured_half_and_to_the_accuracy(s3, endpoint):
    summary = run_smoke_test(plan(), s3, endpoint)
    axis, rows = kept(s3)["confusion"]["axis"], np.array(kept(s3)["confusion"]["rows"])
    assert rows.shape == (len(axis), len(axis) + 1)
    assert rows.sum() == 50
    assert np.trace(rows) / rows.sum() == pytest.approx(summary["accuracy"])


def test_a_missed_gate_is_told_with_its_figures_and_everything_is_kept_all_the_same(s3, endpoint):
    gates = {**GATES, "min_accuracy": 0.999, "max_p95_ms": 5}
    with pytest.raises(GateNotMet) as caught:
        run_smoke_test(plan(smoke_test=gates), s3, endpoint, ticking(0.01))
    accuracy = kept(s3)["accuracy"]
    assert f"The accuracy is {accuracy:.4f}, the gate asks for 0.999 or more" in str(caught.value)
    assert "The p95 latency is 10.0 ms, the gate allows 5 ms" in str(caught.value)
    assert kept(s3)["passed"] is False
    assert set(kept(s3)["missed"]) == {"min_accuracy", "max_p95_ms"}


def test_more_rows_than_there_are_means_all_of_them(s3, endpoint):
    assert run_smoke_test(plan(smoke_test={**GATES, "rows": 10_000}), s3, endpoint)["rows"] == 300


@given(st.lists(st.integers(1, 400), max_size=80), st.integers(1, 30), st.integers(400, 2000))
def test_batches_keep_every_row_in_order_and_below_the_limit(lengths, requests, limit):
    rows = [f"{index:03d}".ljust(max(3, length), "x")[:limit] for index, length in enumerate(lengths)]
    made = list(batches(rows, requests, limit))
    assert [row for batch in made for row in batch] == rows
    for batch in made:
        assert batch
        assert len("\n".join(batch).encode()) <= limit


def test_a_batch_of_wide_rows_stays_below_what_an_endpoint_takes():
    rows = ["x" * 1_000_000] * 12
    made = list(batches(rows, requests=1))
    assert [len(batch) for batch in made] == [4, 4, 4]
    assert max(len("\n".join(batch)) for batch in made) <= MAX_REQUEST_BYTES


def good_entry(**changes):
    return {"distance_to_cluster": 1.5, "closest_cluster": 3.0, **changes}


def test_reads_the_form_of_the_built_in_algorithm():
    content = json.dumps({"predictions": [good_entry(), good_entry(closest_cluster=0, distance_to_cluster=0)]})
    assert read_predictions(content.encode(), 2, 10) == [Prediction(3, 1.5), Prediction(0, 0.0)]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe",
        b"body",
        b"[]",
        b"null",
        b'{"predictions": null}',
        b'{"predictions": {}}',
        b'{"predictions": []}',
        json.dumps({"predictions": [good_entry()] * 2}).encode(),
        json.dumps({"predictions": [3.0]}).encode(),
        json.dumps({"predictions": [None]}).encode(),
        json.dumps({"predictions": [{"closest_cluster": 1}]}).encode(),
        json.dumps({"predictions": [good_entry(closest_cluster="3")]}).encode(),
        json.dumps({"predictions": [good_entry(closest_cluster=True)]}).encode(),
        json.dumps({"predictions": [good_entry(closest_cluster=3.5)]}).encode(),
        json.dumps({"predictions": [good_entry(closest_cluster=10)]}).encode(),
        json.dumps({"predictions": [good_entry(closest_cluster=-1)]}).encode(),
        json.dumps({"predictions": [good_entry(distance_to_cluster=-0.1)]}).encode(),
        json.dumps({"predictions": [good_entry(distance_to_cluster=float("nan"))]}).encode(),
        json.dumps({"predictions": [good_entry(distance_to_cluster=float("inf"))]}).encode(),
        json.dumps({"predictions": [good_entry(closest_cluster=float("nan"))]}).encode(),
        json.dumps({"predictions": [good_entry(closest_cluster=float("inf"))]}).encode(),
        json.dumps({"predictions": [good_entry(closest_cluster=10**400)]}).encode(),
        json.dumps({"predictions": [good_entry(distance_to_cluster=10**400)]}).encode(),
        b"[" * 100_000,
    ],
)
def test_refuses_every_other_form(content):
    with pytest.raises(BadPrediction):
        read_predictions(content, 1, 10)


class Broken:
    """An endpoint that raises or answers with something else from its n-th request on."""

    def __init__(self, endpoint, after, failure):
        self.endpoint, self.left, self.failure = endpoint, after, failure

    def invoke_endpoint(self, **request):
        self.left -= 1
        if self.left >= 0:
            return self.endpoint.invoke_endpoint(**request)
        if isinstance(self.failure, Exception):
            raise self.failure
        return answer(self.failure)


def client_error(code: str, status: int, **more) -> ClientError:
    response = {"Error": {"Code": code, "Message": "m"}, "ResponseMetadata": {"HTTPStatusCode": status}, **more}
    return ClientError(response, "InvokeEndpoint")


@pytest.mark.parametrize("after", [0, 1, 20])
def test_every_single_answer_is_checked(s3, endpoint, after):
    with pytest.raises(BadPrediction):
        run_smoke_test(plan(), s3, Broken(endpoint, after, {"predictions": "none"}))


@pytest.mark.parametrize(
    ("failure", "meaning"),
    [
        (client_error("ModelNotReadyException", 429), TransientAwsError),
        (client_error("ModelError", 424, OriginalStatusCode=503), TransientAwsError),
        (client_error("ModelError", 424), TransientAwsError),
        (client_error("ModelError", 424, OriginalStatusCode=415), BadPrediction),
        (client_error("ThrottlingException", 400), ClientError),
        (client_error("ValidationError", 400), ClientError),
        (client_error("AccessDeniedException", 403), ClientError),
    ],
)
def test_errors_of_the_endpoint_keep_their_meaning(s3, endpoint, failure, meaning):
    with pytest.raises(meaning):
        run_smoke_test(plan(), s3, Broken(endpoint, 3, failure))


def test_the_accuracy_is_measured_on_rows_that_the_digits_were_not_learnt_from():
    # Cluster 0 is always 7 where it is learnt and always 1 where it is measured: learning from all rows would hide it.
    predictions = [Prediction(0, 1.0)] * 10
    quality = judge(predictions, [7, 1] * 5)
    assert quality.digits == {0: 7}
    assert quality.accuracy == 0
    assert quality.purity == 0.5
    assert quality.confusion == [[0, 5, 0], [0, 0, 0]]


def test_a_cluster_that_no_learnt_row_has_stands_for_no_digit():
    quality = judge([Prediction(0, 1), Prediction(1, 1)], [4, 4])
    assert quality.confusion == [[0, 1]]
    assert quality.accuracy == 0


def test_of_equally_frequent_digits_the_smaller_one_is_taken():
    assert majority([(0, 9), (0, 2), (1, 5)]) == {0: 2, 1: 5}


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 9)), min_size=1))
def test_purity_is_the_share_of_the_most_frequent_digits(pairs):
    clusters, labels = zip(*pairs, strict=True)
    most = sum(max(Counter(label for c, label in pairs if c == cluster).values()) for cluster in set(clusters))
    assert purity(clusters, labels) == pytest.approx(most / len(pairs))


def test_latency_is_by_nearest_rank():
    assert summarise_latency(list(range(1, 22))) == {"p50": 11, "p95": 20, "max": 21}
    assert summarise_latency([7.123]) == {"p50": 7.12, "p95": 7.12, "max": 7.12}


def test_gates_are_met_at_their_very_value():
    assert missed_gates(GATES, GATES["min_accuracy"], GATES["max_p95_ms"]) == {}
