"""The function launch_pipeline as Lambda invokes it, on moto's DynamoDB and Secrets Manager, with a KFP over HTTP."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from baton.errors import KfpMisconfigured, KfpUnavailable, LaunchInProgress, LaunchUncertain, RunEnded
from baton.plan import Execution, Planner
from tests.support.functions import Function, deployed, runs
from tests.support.kfp_fake import FakeKfp, Reply, as_json, serving
from tests.support.packaged import packaged_pipelines
from tests.support.starting import BUCKET, HeadsOf, catalogue, settings_of

KEY = "uploads/mnist_kmeans/mnist.pkl.gz"


class Server:
    """A KFP that wants a token, and that ``trouble`` may stand in front of."""

    def __init__(self) -> None:
        self.fake = FakeKfp()
        self.trouble: Any = None
        self.token = ""

    def answer(self, method: str, target: str, headers: Any, body: bytes) -> Reply:
        if self.token and headers.get("Authorization") != f"Bearer {self.token}":
            return as_json({"code": 16, "message": "no token"}, 401)
        if self.trouble:
            reply: Reply | None = self.trouble(method, target, headers, body)
            if reply:
                return reply
        return self.fake.answer(method, target, headers, body)


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def launch(server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Function]:
    with serving(server.answer) as port, packaged_pipelines(tmp_path, monkeypatch):
        environment = {
            "BATON_KFP_URL": f"http://localhost:{port}",
            "BATON_KFP_SERVICE_ACCOUNT": "pods",
            "BATON_KFP_SECRET_ARN": "kfp-token",
            "BATON_PIPELINE_POLL_SECONDS": "0.5",
        }
        with deployed("launch_pipeline", monkeypatch, **environment) as function:
            server.token = "t0k"
            boto3.client("secretsmanager").create_secret(Name="kfp-token", SecretString='{"token": "t0k"}')
            yield function


@pytest.fixture
def request_of(launch: Function) -> Any:
    # Made where the function's table is, so after ``launch``; a run of long ago would count as expired.
    execution = Execution("arn:aws:states:eu-west-1:123456789012:execution:baton-training-run:one", int(time.time()))
    s3 = HeadsOf({(BUCKET, KEY): (17, "v1")})
    plan = Planner(catalogue(), s3, runs(), settings_of()).plan({"dataset": f"s3://{BUCKET}/{KEY}"}, execution)
    return lambda attempt: {"plan": json.loads(json.dumps(plan)), "attempt": attempt}


def test_a_run_is_launched_and_recorded(launch: Function, server: Server, request_of: Any) -> None:
    facts = launch(request_of("2026-03-01T09:31:00Z/0"))
    (run,) = server.fake.runs.values()
    assert facts["id"] == run["run_id"]
    assert facts["url"].endswith(f"/#/runs/details/{run['run_id']}")
    assert run["service_account"] == "pods"
    sent = run["runtime_config"]["parameters"]
    assert (sent["poll_seconds"], sent["region"], sent["table"]) == (0.5, "cn-northwest-1", "table")
    row = runs().get(run["display_name"])
    assert row
    assert row["pipeline_run_id"] == run["run_id"]
    assert "launch_lease_until" not in row


def test_another_invocation_finds_the_recorded_run(launch: Function, server: Server, request_of: Any) -> None:
    assert launch(request_of("t/0")) == launch(request_of("t/1"))
    assert len(server.fake.runs) == 1


def test_an_answer_that_is_lost_is_looked_up_by_the_retry(launch: Function, server: Server, request_of: Any) -> None:
    def cut(method: str, target: str, headers: Any, body: bytes) -> Reply | None:
        if method == "POST" and target.endswith("/runs"):
            server.fake.answer(method, target, headers, body)
            return 0, {}, b""
        return None

    server.trouble = cut
    with pytest.raises(LaunchUncertain):
        launch(request_of("t/0"))
    server.trouble = None
    assert launch(request_of("t/1"))["id"] in server.fake.runs
    assert len(server.fake.runs) == 1


def test_an_unseen_launch_keeps_its_lease_in_the_table(launch: Function, server: Server, request_of: Any) -> None:
    server.trouble = lambda method, target, headers, body: (
        (0, {}, b"") if method == "POST" and target.endswith("/runs") else None
    )
    for attempt, error in (("t/0", LaunchUncertain), ("t/1", LaunchInProgress)):
        with pytest.raises(error):
            launch(request_of(attempt))
    assert server.fake.runs == {}


def test_a_server_that_is_down_is_a_reason_to_try_again(launch: Function, server: Server, request_of: Any) -> None:
    server.trouble = lambda *_: (503, {"Content-Type": "text/plain"}, b"upstream connect error")
    with pytest.raises(KfpUnavailable, match="upstream connect error"):
        launch(request_of("t/0"))


def test_a_login_page_is_no_reason_to_try_again(launch: Function, server: Server, request_of: Any) -> None:
    server.trouble = lambda *_: (302, {"Location": "https://login.example/dex"}, b"")
    with pytest.raises(KfpMisconfigured, match="You reached the login page, not the API"):
        launch(request_of("t/0"))


def test_a_run_that_was_ended_is_not_launched(launch: Function, server: Server, request_of: Any) -> None:
    request = request_of("t/0")
    runs().end_badly(request["plan"]["run_id"])
    with pytest.raises(RunEnded):
        launch(request)
    assert server.fake.runs == {}


def test_neither_token_nor_event_is_logged(
    launch: Function, request_of: Any, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    request = request_of("t/0")
    launch(request)
    output = "".join(str(record.__dict__) for record in caplog.records) + capsys.readouterr().out
    assert "The pipeline run is launched." in output
    assert "t0k" not in output
    assert request["plan"]["role_arn"] not in output
