"""The function smoke_test as Lambda invokes it: S3 and DynamoDB by moto, an endpoint that answers over HTTP."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import unquote

import pytest

from baton.dataset.convert import artefacts, manifest
from baton.dataset.mnist import Mnist, Split
from baton.errors import BadPrediction, GateNotMet, RunEnded, TransientAwsError
from tests.support.functions import Function, deployed, get, put, runs
from tests.support.report_samples import GATES, RUN_ID, DigitsEndpoint, digit_splits, plan


class Runtime:
    """SageMaker's runtime API on HTTP; ``failures`` are (status, headers, body) to give before any good answer."""

    def __init__(self, endpoint: DigitsEndpoint) -> None:
        self.endpoint = endpoint
        self.failures: list[tuple[int, dict[str, str], dict[str, Any]]] = []
        self.paths: list[str] = []
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def answer(self, path: str, body: bytes) -> tuple[int, dict[str, str], bytes]:
        self.paths.append(unquote(path))
        if self.failures:
            status, headers, content = self.failures.pop(0)
            return status, headers, json.dumps(content).encode()
        return 200, {}, self.endpoint.invoke_endpoint(Body=body)["Body"].read()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        runtime = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                status, headers, content = runtime.answer(self.path, body)
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(content))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, format: str, *args: Any) -> None:
                """Keep quiet."""

        return Handler


@pytest.fixture(scope="module")
def mnist() -> Mnist:
    train, valid, test = (Split(*pair) for pair in digit_splits())
    return Mnist(train, valid, test, 1, "0")


@pytest.fixture(scope="module")
def model(mnist: Mnist) -> DigitsEndpoint:
    return DigitsEndpoint(mnist.train.images)


@pytest.fixture
def runtime(model: DigitsEndpoint) -> Iterator[Runtime]:
    served = Runtime(model)
    yield served
    served.server.shutdown()
    served.server.server_close()


@pytest.fixture
def smoke_test(monkeypatch: pytest.MonkeyPatch, runtime: Runtime, mnist: Mnist) -> Iterator[Function]:
    with deployed("smoke_test", monkeypatch, AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME=runtime.url) as function:
        runs().open(plan())
        for artefact in [*artefacts(mnist), manifest(mnist, {}, {})]:
            put(f"runs/{RUN_ID}/{artefact.path}", artefact.content)
        yield function


def test_a_good_endpoint_passes_over_the_wire(smoke_test: Function, runtime: Runtime) -> None:
    summary = smoke_test({"plan": plan()})
    assert summary["passed"]
    assert summary["rows"] == 100
    assert runtime.paths == [f"/endpoints/{RUN_ID}-endpoint/invocations"] * 21
    stored = get(f"runs/{RUN_ID}/predictions/smoke_test.json")
    assert stored["ContentType"] == "application/json"
    assert json.loads(stored["Body"])["accuracy"] == summary["accuracy"]


def test_a_missed_gate_fails_and_the_predictions_stay(smoke_test: Function) -> None:
    with pytest.raises(GateNotMet, match=r"the gate asks for 1\.01"):
        smoke_test({"plan": plan(smoke_test={**GATES, "min_accuracy": 1.01})})
    assert json.loads(get(f"runs/{RUN_ID}/predictions/smoke_test.json")["Body"])["passed"] is False


def test_one_throttled_request_is_tried_again_by_the_client(smoke_test: Function, runtime: Runtime) -> None:
    runtime.failures = [(429, {"x-amzn-ErrorType": "ThrottlingException"}, {"message": "Rate exceeded"})]
    assert smoke_test({"plan": plan()})["passed"]
    assert len(runtime.paths) == 22


@pytest.mark.parametrize(
    ("failure", "raised"),
    [
        ((503, {"x-amzn-ErrorType": "ServiceUnavailable"}, {"Message": "no"}), TransientAwsError),
        ((429, {"x-amzn-ErrorType": "ModelNotReadyException"}, {"Message": "no"}), TransientAwsError),
        ((424, {"x-amzn-ErrorType": "ModelError"}, {"Message": "no", "OriginalStatusCode": 500}), TransientAwsError),
        ((424, {"x-amzn-ErrorType": "ModelError"}, {"Message": "no", "OriginalStatusCode": 400}), BadPrediction),
        ((200, {}, {"answers": []}), BadPrediction),
    ],
)
def test_an_endpoint_that_goes_on_failing_is_told_by_its_kind(
    smoke_test: Function, runtime: Runtime, failure: Any, raised: type[Exception]
) -> None:
    runtime.failures = [failure] * 10
    with pytest.raises(raised):
        smoke_test({"plan": plan()})


def test_an_ended_run_asks_nothing(smoke_test: Function, runtime: Runtime) -> None:
    runs().end_badly(RUN_ID)
    with pytest.raises(RunEnded):
        smoke_test({"plan": plan()})
    assert runtime.paths == []
