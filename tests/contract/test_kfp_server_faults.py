"""The faults that the embedded Kubeflow Pipelines can be told to make."""

import os
import time
from pathlib import Path

import pytest
import urllib3
import yaml
from kfp import compiler

import baton_local.kfp
from baton_local.context import ACCOUNT_ID, CloudContext
from baton_local.dials import Dials
from baton_local.kfp.runs import TERMINAL
from baton_local.kfp.server import KfpServer
from baton_local.server import free_port
from tests.contract import kfp_pipelines

RUNS = "/apis/v2beta1/runs"
HEALTH = "/apis/v2beta1/healthz"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with KfpServer(tmp_path_factory.mktemp("kfp")) as server:
        yield server


@pytest.fixture
def body(tmp_path):
    package = tmp_path / "pipeline.yaml"
    compiler.Compiler().compile(kfp_pipelines.passes_on, str(package))
    parameters = {"folder": str(tmp_path)}
    spec = yaml.safe_load(package.read_text())
    return {"display_name": tmp_path.name, "pipeline_spec": spec, "runtime_config": {"parameters": parameters}}


@pytest.fixture(autouse=True)
def healthy(server):
    yield
    server.set_faults(**type(server.faults)().as_dict())


def call(server, method, path, **more):
    http = urllib3.PoolManager(retries=False)
    return http.request(method, f"{server.url}{path}", timeout=10, **more)


def runs_named(server, name):
    found = call(server, "GET", f"{RUNS}?page_size=200").json().get("runs", [])
    return [run for run in found if run["display_name"] == name]


def test_faults_are_told_over_http_and_refused_when_unknown(server):
    answer = call(server, "POST", "/_baton/faults", json={"slow_seconds": 0.3})
    assert answer.json()["slow_seconds"] == 0.3
    begun = time.monotonic()
    assert call(server, "GET", HEALTH).status == 200
    assert time.monotonic() - begun >= 0.3
    assert call(server, "POST", "/_baton/faults", json={"no_such": 1}).status == 400
    assert call(server, "POST", "/_baton/faults", json={"down": "sideways"}).status == 400
    assert call(server, "GET", "/_baton/faults").json()["slow_seconds"] == 0.3


def test_unavailable_answers_503_in_the_form_of_the_gateway(server):
    server.set_faults(down="unavailable")
    answer = call(server, "GET", HEALTH)
    assert (answer.status, answer.json()["code"]) == (503, 14)


def test_reset_cuts_the_connection_and_heals(server):
    server.set_faults(down="reset")
    with pytest.raises(urllib3.exceptions.ProtocolError):
        call(server, "GET", HEALTH)
    assert call(server, "POST", "/_baton/faults", json={"down": ""}).status == 200
    assert call(server, "GET", HEALTH).status == 200


def test_refused_leaves_nothing_listening_until_its_time_is_over(server):
    call(server, "POST", "/_baton/faults", json={"down": "refused", "refused_seconds": 2.0})
    assert eventually(lambda: _is_refused(server))
    assert eventually(lambda: not _is_refused(server))
    assert call(server, "GET", HEALTH).status == 200


def _is_refused(server):
    try:
        call(server, "GET", HEALTH)
    except urllib3.exceptions.NewConnectionError:
        return True
    except urllib3.exceptions.HTTPError:
        return False
    return False


def eventually(happens, seconds=20):
    until = time.monotonic() + seconds
    while not happens():
        if time.monotonic() > until:
            return False
        time.sleep(0.05)
    return True


def test_the_login_page_stands_where_the_api_was(server):
    server.set_faults(login_page=True)
    redirect = call(server, "GET", HEALTH, redirect=False)
    assert (redirect.status, redirect.headers["Location"]) == (302, "/dex/auth/local/login")
    page = call(server, "GET", HEALTH, redirect=True, retries=5)
    assert page.headers["Content-Type"].startswith("text/html")


def test_a_lost_answer_leaves_a_run_behind(server, body):
    server.set_faults(lose_next_runs=1)
    with pytest.raises(urllib3.exceptions.ProtocolError):
        call(server, "POST", RUNS, json=body)
    assert len(runs_named(server, body["display_name"])) == 1
    assert call(server, "POST", RUNS, json=body).status == 200


def test_a_late_commit_comes_after_a_look_that_found_nothing(server, body):
    server.set_faults(late_next_runs=1, late_seconds=3.0)
    with pytest.raises(urllib3.exceptions.ProtocolError):
        call(server, "POST", RUNS, json=body)
    assert runs_named(server, body["display_name"]) == []
    assert eventually(lambda: runs_named(server, body["display_name"]))
    assert len(runs_named(server, body["display_name"])) == 1


def test_a_run_can_fail_before_its_first_task_and_without_its_exit_task(server, body, tmp_path):
    server.set_faults(fail_next_runs=1)
    run_id = call(server, "POST", RUNS, json=body).json()["run_id"]
    assert eventually(lambda: call(server, "GET", f"{RUNS}/{run_id}").json()["state"] in TERMINAL)
    run = call(server, "GET", f"{RUNS}/{run_id}").json()
    assert run["state"] == "FAILED"
    assert "run_details" not in run
    assert not Path(tmp_path, "end.json").exists()


def test_an_older_release_can_be_told(server):
    server.set_faults(tag_name="2.2.0")
    assert call(server, "GET", HEALTH).json()["tag_name"] == "2.2.0"


def test_a_stopped_server_kills_its_runs(tmp_path):
    compiler.Compiler().compile(kfp_pipelines.waits, str(tmp_path / "waits.yaml"))
    spec = yaml.safe_load((tmp_path / "waits.yaml").read_text())
    body = {"display_name": "x", "pipeline_spec": spec, "runtime_config": {"parameters": {"folder": str(tmp_path)}}}
    with KfpServer(tmp_path / "kfp") as server:
        assert call(server, "POST", RUNS, json=body).status == 200
        waiting = tmp_path / "waiting"
        assert eventually(lambda: waiting.exists() and waiting.read_text())
    task = int((tmp_path / "waiting").read_text())
    assert eventually(lambda: not _is_alive(task))
    assert not (tmp_path / "terminated").exists()
    with pytest.raises(urllib3.exceptions.NewConnectionError):
        call(server, "GET", HEALTH)


def _is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # A zombie that init has not collected yet is dead.
    stat = Path(f"/proc/{pid}/stat")
    return not (stat.exists() and ") Z " in stat.read_text())


def test_the_cloud_installs_it_at_its_port_and_pods_talk_to_the_cloud(tmp_path):
    compiler.Compiler().compile(kfp_pipelines.shows_environment, str(tmp_path / "shows.yaml"))
    spec = yaml.safe_load((tmp_path / "shows.yaml").read_text())
    body = {"display_name": "x", "pipeline_spec": spec, "runtime_config": {"parameters": {"folder": str(tmp_path)}}}
    context = CloudContext(
        url="http://localhost:4", port=4, account_id=ACCOUNT_ID, dials=Dials(), clock_scale=1.0, kfp_port=free_port(),
        work_dir=tmp_path / "work", cache_dir=tmp_path / "cache",
    )  # fmt: skip
    baton_local.kfp.install(context)
    try:
        http = urllib3.PoolManager(retries=False)
        assert http.request("POST", f"{context.kfp_url}{RUNS}", json=body).status == 200
        seen = tmp_path / "environment.json"
        assert eventually(lambda: seen.exists() and seen.read_text().endswith("}"))
        assert '"AWS_ENDPOINT_URL": "http://localhost:4"' in seen.read_text()
    finally:
        baton_local.kfp.shutdown()
    # A new pool: a connection that is open already outlives the listener.
    with pytest.raises(urllib3.exceptions.NewConnectionError):
        urllib3.PoolManager(retries=False).request("GET", f"{context.kfp_url}{HEALTH}")
