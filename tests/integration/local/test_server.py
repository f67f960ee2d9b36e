"""The embedded cloud's process: how it starts, answers, fails and ends."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest

from baton_local.accounts import ADMINISTRATOR
from baton_local.cloud import CloudError, EmbeddedCloud
from baton_local.dials import Dials
from baton_local.server import free_port
from tests.integration.local.lambda_helpers import REGION, Lambda, eventually

PID = "import os\ndef handler(event, context): return os.getpid()\n"


@pytest.fixture(scope="module")
def cloud() -> Iterator[EmbeddedCloud]:
    with EmbeddedCloud(services=["lambda_"]) as running:
        yield running


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return Path(f"/proc/{pid}/stat").exists() and ") Z " in Path(f"/proc/{pid}/stat").read_text()


@pytest.mark.parametrize(
    ("region", "partition"), [("us-east-1", "aws"), ("eu-west-1", "aws"), ("cn-northwest-1", "aws-cn")]
)
def test_it_answers_in_every_partition(cloud: EmbeddedCloud, region: str, partition: str) -> None:
    topic = cloud.client("sns", region).create_topic(Name="t")["TopicArn"]
    assert topic == f"arn:{partition}:sns:{region}:{cloud.account_id}:t"
    functions = Lambda(cloud, region)
    name = functions.create(
        "import boto3\ndef handler(event, context):\n"
        "    return [context.invoked_function_arn, boto3.client('sts').get_caller_identity()['Arn']]\n"
    )
    assert functions.invoke(name).payload == [
        f"arn:{partition}:lambda:{region}:{cloud.account_id}:function:{name}",
        f"arn:{partition}:sts::{cloud.account_id}:assumed-role/role-{name}/{name}",
    ]


def test_a_request_whose_sender_is_gone_before_it_is_whole_is_none(cloud: EmbeddedCloud) -> None:
    """A pod that is killed while it asks was not denied anything, and half an object is no object."""
    cloud.client("s3", REGION).create_bucket(Bucket="half", CreateBucketConfiguration={"LocationConstraint": REGION})
    host, _, port = cloud.url.removeprefix("http://").partition(":")
    for body in (b"whole", b"half"):
        with socket.create_connection((host, int(port))) as connection:
            head = f"PUT /half/{body.decode()} HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Length: 5\r\n"
            signed = "Authorization: AWS4-HMAC-SHA256 Credential={}/20260101/{}/s3/aws4_request, Signature=0\r\n\r\n"
            key = ADMINISTRATOR.access_key_id
            connection.sendall((head + signed.format(key, REGION)).encode() + body)
            connection.shutdown(socket.SHUT_WR)
            answer = connection.recv(100)
        assert answer[:12] == (b"HTTP/1.1 200" if body == b"whole" else b"")
    listed = cloud.client("s3", REGION).list_objects_v2(Bucket="half")["Contents"]
    assert [entry["Key"] for entry in listed] == ["whole"]


def test_its_environment_is_all_that_another_process_needs(
    cloud: EmbeddedCloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leaking = tmp_path / "config"
    leaking.write_text("[profile mine]\nregion = ap-south-1\nendpoint_url = http://localhost:1\n")
    for name, value in {"AWS_PROFILE": "mine", "AWS_CONFIG_FILE": str(leaking), "AWS_SESSION_TOKEN": "x"}.items():
        monkeypatch.setenv(name, value)
    for name, value in cloud.environment("eu-west-1").items():
        monkeypatch.setenv(name, value)
    session = boto3.session.Session()
    assert session.region_name == "eu-west-1"
    assert session.client("sts").get_caller_identity()["Account"] == cloud.account_id
    assert session.client("s3").meta.endpoint_url == cloud.url


def test_a_connection_carries_many_requests_of_any_form(cloud: EmbeddedCloud) -> None:
    cloud.client("s3", "us-east-1").create_bucket(Bucket="kept-open")
    connection = http.client.HTTPConnection("127.0.0.1", cloud.port)
    connection.connect()
    opened = connection.sock
    auth = {"Authorization": "AWS4-HMAC-SHA256 Credential=AKIA/20260101/us-east-1/s3/aws4_request, x"}
    for number in range(3):
        connection.request("PUT", "/kept-open/a", b"x" * 10_000, auth)
        assert connection.getresponse().read() is not None
        connection.request("PUT", "/kept-open/b", iter([b"12", b"345"]), auth, encode_chunked=True)
        connection.getresponse().read()
        connection.request("HEAD", "/kept-open/b", headers=auth)
        head = connection.getresponse()
        assert (head.read(), head.headers["Content-Length"]) == (b"", "5")
        connection.request("GET", "/kept-open/a", headers=auth)
        assert len(connection.getresponse().read()) == 10_000
        connection.request("DELETE", "/kept-open/a", headers=auth)
        answer = connection.getresponse()
        assert (answer.status, answer.read()) == (204, b""), number
        assert connection.sock is opened


def test_sigterm_ends_it_and_its_sandboxes() -> None:
    with EmbeddedCloud(services=["lambda_"]) as cloud:
        functions = Lambda(cloud)
        pids = [functions.invoke(functions.create(PID)).payload for _ in range(2)]
        assert not any(gone(pid) for pid in pids)
        cloud.stop()
        assert not cloud.is_alive()
        eventually(lambda: all(gone(pid) for pid in pids), 5)


def test_it_ends_when_its_parent_is_gone() -> None:
    port = free_port()
    source = (
        "import os, sys\nfrom baton_local.cloud import EmbeddedCloud\n"
        f"cloud = EmbeddedCloud(services=['lambda_'], port={port}).start()\n"
        "print(cloud._process.pid, flush=True)\nos.kill(os.getpid(), 9)\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    parent = subprocess.run([sys.executable, "-c", source], capture_output=True, env=environment, check=False)
    assert parent.returncode == -signal.SIGKILL
    eventually(lambda: gone(int(parent.stdout)), 10)


def test_a_taken_port_is_a_clear_error_with_the_log() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        cloud = EmbeddedCloud(services=["lambda_"], port=taken.getsockname()[1])
        with pytest.raises(CloudError, match=r"(?s)ended before it was ready.*in use"):
            cloud.start()
    assert not cloud.is_alive()


def test_a_moto_that_looks_different_stops_it_with_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import importlib.metadata as m\nreal = m.version\n"
        "m.version = lambda name: '9.9.9' if name == 'moto' else real(name)\n"
    )
    path = os.pathsep.join([str(tmp_path), *(p for p in sys.path if p)])
    command = [sys.executable, "-m", "baton_local.server", "--services", "lambda_"]
    run = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path}, check=False)
    assert run.returncode == 2
    assert run.stderr.strip() == "baton: The embedded cloud needs moto 5.2.5 exactly, and 9.9.9 is installed."


def test_wrong_dials_stop_it_with_a_usage_error() -> None:
    command = [sys.executable, "-m", "baton_local.server", "--dials", json.dumps({"loss": 2})]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    run = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert run.returncode == 2
    assert "the dial loss must be a number between 0 and 1, not 2" in run.stderr


@pytest.mark.parametrize(
    ("dials", "message"),
    [
        ({"crash": -0.1}, "crash"),
        ({"loss": True}, "loss"),
        ({"delay_seconds": 4000}, "delay_seconds"),
        ({"seed": 1.5}, "seed"),
        ({"lost": 1}, "unknown dials: lost"),
        ([], "must be a JSON object"),
    ],
)
def test_dials_are_checked(dials: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Dials.from_json(json.dumps(dials))


def test_the_same_seed_draws_the_same_faults() -> None:
    dials = Dials(loss=0.3, seed=7)
    assert Dials.from_json(dials.as_json()) == dials
    draws = [[d.randomness("bus").random() for _ in range(5)] for d in (dials, dials)]
    assert draws[0] == draws[1]
    assert dials.randomness("crash").random() != draws[0][0]


def test_nothing_of_a_stopped_cloud_stays_on_the_disk() -> None:
    with EmbeddedCloud(services=["lambda_"]) as cloud:
        functions = Lambda(cloud, REGION)
        name = functions.create("import tempfile\ndef handler(event, context): return tempfile.gettempdir()\n")
        folder = Path(functions.invoke(name).payload)
        assert folder.is_dir()
        log = cloud.log
    assert not folder.exists()
    assert not folder.parents[2].exists()
    assert not log.exists()
