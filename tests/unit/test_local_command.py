"""``baton local``: what it refuses before the embedded cloud starts, and what it writes and shows of a result."""

import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import boto3
import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from baton_cli import beforehand, local
from baton_cli.main import main
from baton_cli.show import Screen
from baton_local import accounts, regions, run, surroundings
from baton_local.cloud import CloudError, EmbeddedCloud
from baton_local.run import Result


@pytest.fixture(autouse=True)
def own_environment():
    """The command changes its process's environment, which other tests have, too."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(autouse=True)
def no_cloud(monkeypatch):
    """No test here may start a cloud: what is refused is refused before."""

    def start(*_, **__):
        raise AssertionError("the embedded cloud was started")

    monkeypatch.setattr(local, "EmbeddedCloud", start)


@pytest.fixture
def dataset(tmp_path):
    path = tmp_path / "a.pkl"
    path.write_bytes(b"x")
    return str(path)


def refusal(capsys, *arguments):
    """Run ``baton local`` and return the one sentence with which it refuses."""
    assert main(["local", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("baton: ")
    assert captured.err.count("\n") == 1
    return captured.err.removeprefix("baton: ").rstrip("\n")


# --- regions


@pytest.mark.parametrize("verb", ["run", "soak", "up"])
def test_a_region_that_there_is_not_is_refused_with_some_that_there_are(capsys, verb):
    said = refusal(capsys, verb, "--region", "nowhere")
    assert said.startswith("There is no region 'nowhere'; there are, for example, eu-west-1, ")


def test_a_region_that_is_nearly_right_is_told(capsys):
    assert refusal(capsys, "run", "--region", "eu-west-11") == (
        "There is no region 'eu-west-11'; perhaps eu-west-1 is meant."
    )


@pytest.mark.parametrize("region", ["aws-global", "aws-cn-global", "", "EU-WEST-1", "eu-west-99"])
def test_what_only_looks_like_a_region_is_none(region):
    assert regions.problem_with(region)


@pytest.mark.parametrize("region", [*regions.EXAMPLES, "us-iso-east-1", "eusc-de-east-1"])
def test_the_regions_of_every_partition_are_taken(region):
    assert regions.problem_with(region) is None


# --- numbers


@pytest.mark.parametrize(("option", "number"), [("--parallel", "0"), ("--runs", "0"), ("--runs", "-3")])
def test_a_soak_without_runs_is_refused(capsys, option, number):
    assert refusal(capsys, "soak", option, number) == f"{option} must be 1 or more, not {number}."


@pytest.mark.parametrize("port", ["0", "-1", "65536", "99999999"])
def test_what_is_no_port_is_refused(capsys, port):
    assert refusal(capsys, "up", "--port", port) == f"--port must be from 1 to 65535, not {port}."


# --- files to write


@pytest.mark.parametrize(
    ("verb", "option"), [("run", "--json"), ("run", "--log"), ("soak", "--json"), ("soak", "--log"), ("up", "--log")]
)
def test_a_file_that_cannot_be_written_is_refused_before_anything_runs(capsys, tmp_path, verb, option):
    path = tmp_path / "none" / "dir" / "x"
    said = refusal(capsys, verb, option, str(path))
    assert said == f"{option} {path} cannot be written: there is no folder {path.parent}."
    assert refusal(capsys, verb, option, str(tmp_path)) == f"{option} takes a file, and {tmp_path} is a folder."
    assert not path.parent.exists()


def test_a_file_that_may_not_be_changed_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "result.json"
    monkeypatch.setattr(beforehand.os, "access", lambda *_: False)
    with pytest.raises(ValueError, match="may not be changed by this user"):
        beforehand.writable("--json", path)


@pytest.mark.parametrize("name", ["new.json", "there.json"])
def test_a_file_that_can_be_written_is_taken_and_left_alone(tmp_path, name):
    (tmp_path / "there.json").write_text("before")
    beforehand.writable("--json", tmp_path / name)
    assert [path.read_text() for path in tmp_path.iterdir()] == ["before"]


# --- uploads


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("x.json", b"{}", "is no data set of mnist_kmeans: its name must end in .pkl or .pkl.gz."),
        ("empty.pkl.gz", b"", "has 0 bytes; a data set has from 1 to 268435456."),
    ],
)
def test_a_file_that_start_run_would_refuse_is_refused_at_once(capsys, tmp_path, name, content, why):
    path, written = tmp_path / name, tmp_path / "result.json"
    path.write_bytes(content)
    assert refusal(capsys, "run", "--dataset", str(path), "--json", str(written)) == f"{path} {why}"
    told = json.loads(written.read_text())
    assert (told["status"], told["error"], told["cause"]) == ("REFUSED", "UploadRefused", f"{path} {why}")


def test_a_file_that_there_is_not_is_refused(capsys, tmp_path):
    path = tmp_path / "none.pkl"
    assert refusal(capsys, "run", "--dataset", str(path)) == (
        f"There is no file {path}: --dataset takes a .pkl or .pkl.gz file."
    )


def test_a_pipeline_that_there_is_not_is_refused(capsys, dataset):
    said = refusal(capsys, "run", "--pipeline", "nosuch", "--dataset", dataset)
    assert said == "There is no pipeline 'nosuch'; there are: mnist_kmeans."


@pytest.mark.parametrize("text", ['{"deadline_seconds": 1e999}', '{"k": NaN}'])
def test_an_input_that_json_cannot_say_is_refused(capsys, dataset, text):
    assert "a number that JSON cannot say" in refusal(capsys, "run", "--dataset", dataset, "--input", text)


@pytest.mark.parametrize("verb", ["run", "soak"])
@pytest.mark.parametrize(
    ("arguments", "error", "cause"),
    [
        (["--region", "nowhere"], "InvalidOption", "There is no region 'nowhere'"),
        (["--loss", "2"], "InvalidOption", "loss"),
        ([], "CloudError", "It did not come up."),
        ([], "DeployError", "The stack is ROLLBACK_COMPLETE."),
    ],
)
def test_what_never_began_leaves_no_earlier_result(monkeypatch, tmp_path, dataset, verb, arguments, error, cause):
    def start(*_, **__):
        raise getattr(local, error)(cause)

    monkeypatch.setattr(local, "EmbeddedCloud", start)
    written = tmp_path / "result.json"
    written.write_text('{"status": "SUCCEEDED"}')
    of_verb = ["--dataset", dataset] if verb == "run" else []
    assert main(["local", verb, *of_verb, "--json", str(written), *arguments]) == 2
    told = json.loads(written.read_text())
    assert (told["status"], told["error"]) == ("REFUSED", error)
    assert cause in told["cause"]


@pytest.mark.parametrize("text", ["{", "[]", '{"k": NaN}', '{"k": ' + "[" * 50_000 + "]" * 50_000 + "}"])
def test_an_input_that_is_none_leaves_no_earlier_result(tmp_path, dataset, text):
    written = tmp_path / "result.json"
    written.write_text('{"status": "SUCCEEDED"}')
    assert main(["local", "run", "--dataset", dataset, "--json", str(written), "--input", text]) == 2
    told = json.loads(written.read_text())
    assert (told["status"], told["error"]) == ("REFUSED", "InvalidOption")
    assert told["cause"].startswith("--input ")


def test_a_data_set_that_may_not_be_read_leaves_no_earlier_result(monkeypatch, capsys, tmp_path, dataset):
    written = tmp_path / "result.json"
    written.write_text('{"status": "SUCCEEDED"}')
    monkeypatch.setattr(beforehand.os, "access", lambda _path, mode: mode != os.R_OK)
    said = refusal(capsys, "run", "--dataset", dataset, "--json", str(written))
    assert said == f"{dataset} may not be read by this user."
    assert json.loads(written.read_text())["error"] == "UploadRefused"


@pytest.mark.parametrize(
    "error",
    [
        EndpointConnectionError(endpoint_url="http://localhost:1"),
        ClientError({"Error": {"Code": "InternalError", "Message": "m"}}, "ListModels"),
        PermissionError(13, "Permission denied", "a.pkl"),
    ],
)
@pytest.mark.parametrize("verb", ["run", "soak"])
@pytest.mark.parametrize("dead", [False, True])
def test_what_breaks_in_the_middle_leaves_no_earlier_result(monkeypatch, capsys, tmp_path, dataset, verb, error, dead):
    def breaks(*_, **__):
        raise error

    cloud = Cloud()
    cloud.alive = not dead
    monkeypatch.setattr(local, "EmbeddedCloud", lambda *_, **__: cloud)
    monkeypatch.setattr(local, "_DYING_SECONDS", 0)
    monkeypatch.setattr(local.Deployment, "make", breaks)
    written = tmp_path / "result.json"
    written.write_text('{"status": "SUCCEEDED"}')
    of_verb = ["--dataset", dataset] if verb == "run" else []
    assert main(["local", verb, *of_verb, "--json", str(written)]) == 2
    told, said = json.loads(written.read_text()), capsys.readouterr().err
    assert told["status"] == "REFUSED"
    assert said == f"baton: {told['cause']}\n"
    if dead:
        assert told["error"] == "CloudError"
        assert told["cause"] == "The embedded cloud ended by itself. Its log ends:\nlast words"
    else:
        assert told["error"] == type(error).__name__
        assert told["cause"] == str(error)


def test_a_process_that_is_not_known_to_have_ended_yet_is_waited_for(monkeypatch, capsys, dataset):
    def breaks(*_, **__):
        raise EndpointConnectionError(endpoint_url="http://localhost:1")

    states = iter([True, True, False])
    cloud = Cloud()
    cloud.is_alive = lambda: next(states)
    monkeypatch.setattr(local, "EmbeddedCloud", lambda *_, **__: cloud)
    monkeypatch.setattr(local.Deployment, "make", breaks)
    assert main(["local", "run", "--dataset", dataset]) == 2
    assert "last words" in capsys.readouterr().err


def test_an_interrupted_run_leaves_no_earlier_result(monkeypatch, tmp_path, dataset):
    def start(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(local, "EmbeddedCloud", start)
    written = tmp_path / "result.json"
    written.write_text('{"status": "SUCCEEDED"}')
    assert main(["local", "run", "--dataset", dataset, "--json", str(written)]) == 130
    assert written.read_text() == ""


@pytest.mark.parametrize("verb", ["run", "soak", "up"])
def test_a_reader_that_leaves_is_no_refusal(monkeypatch, tmp_path, dataset, verb):
    """The cloud lives, so it is the output that nobody reads: main tells that, as of every command."""

    def breaks(*_, **__):
        raise BrokenPipeError

    monkeypatch.setattr(local, "EmbeddedCloud", lambda *_, **__: Cloud())
    monkeypatch.setattr(local, "_DYING_SECONDS", 0)
    monkeypatch.setattr(local.Deployment, "make", breaks)
    written = tmp_path / "result.json"
    written.write_text('{"status": "SUCCEEDED"}')
    to_file = ["--json", str(written)]
    options = {"run": ["--dataset", dataset, *to_file], "soak": to_file, "up": ["--deploy"]}
    with pytest.raises(BrokenPipeError):
        main(["local", verb, *options[verb]])
    assert verb == "up" or written.read_text() == ""


def test_the_result_is_written_where_its_reader_leaves_at_the_end(monkeypatch, tmp_path, dataset):
    def leaves(*_):
        raise BrokenPipeError

    result = SimpleNamespace(as_dict=lambda: {"status": "FAILED"})
    monkeypatch.setattr(local, "EmbeddedCloud", lambda *_, **__: Cloud())
    monkeypatch.setattr(local, "_one_run", lambda *_: result)
    monkeypatch.setattr(local.Screen, "result", leaves)
    written = tmp_path / "result.json"
    with pytest.raises(BrokenPipeError):
        main(["local", "run", "--dataset", dataset, "--json", str(written)])
    assert json.loads(written.read_text()) == {"status": "FAILED"}


# --- a user's own settings

FOREIGN = {"AWS_PROFILE": "nosuch", "AWS_DEFAULT_PROFILE": "nosuch", "AWS_SESSION_TOKEN": "a-token"}
PROXIES = {"http_proxy": "http://127.0.0.1:9", "HTTP_PROXY": "http://127.0.0.1:9"}


class Answers(BaseHTTPRequestHandler):
    """As much of an embedded cloud as GetCallerIdentity needs."""

    def do_POST(self):
        body = b"<GetCallerIdentityResponse><GetCallerIdentityResult><Account>123</Account>"
        body += b"</GetCallerIdentityResult></GetCallerIdentityResponse>"
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def answering(monkeypatch):
    """Yield the address of what answers, in an environment with settings and a proxy that lead elsewhere."""
    for name in ("no_proxy", "NO_PROXY", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {**FOREIGN, **PROXIES}.items():
        monkeypatch.setenv(name, value)
    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://localhost:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize("verb", ["run", "soak", "up"])
def test_neither_a_proxy_nor_a_profile_stands_before_the_cloud(monkeypatch, capsys, answering, dataset, verb):
    def start(*_, **__):
        account = accounts.client(answering, "sts", "eu-west-1").get_caller_identity()["Account"]
        raise CloudError(f"account {account}, proxy {os.environ['http_proxy']}")

    monkeypatch.setattr(local, "EmbeddedCloud", start)
    arguments = ["--dataset", dataset] if verb == "run" else []
    assert refusal(capsys, verb, *arguments) == "account 123, proxy http://127.0.0.1:9"


@pytest.mark.parametrize("command", [["--help"], ["local", "run", "--region", "nowhere"]])
def test_the_command_itself_starts_whatever_profile_is_named(command):
    environment = {**os.environ, "AWS_PROFILE": "nosuch", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    line = [sys.executable, "-m", "baton_cli.main", *command]
    said = subprocess.run(line, env=environment, capture_output=True, text=True, check=False).stderr
    assert said.count("\n") == ("nowhere" in command), said


def test_two_export_lines_lead_to_the_cloud_whatever_a_shell_had_before(monkeypatch, capsys, answering, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    cloud = EmbeddedCloud(port=int(answering.rpartition(":")[2]))
    cloud.launch = lambda _, log: log.write(f"ready {answering}\n".encode()) and Gone()
    with cloud:
        Screen().exports(cloud.environment("eu-west-1"), "http://localhost:1")
        exports = [line for line in capsys.readouterr().out.splitlines() if line.startswith("export ")]
        assert len(exports) == 2
        for name, value in (pair.split("=", 1) for line in exports for pair in shlex.split(line)[1:]):
            monkeypatch.setenv(name, value)
        client = boto3.session.Session().client("sts")
        assert client.get_caller_identity()["Account"] == "123"
        assert client.meta.region_name == "eu-west-1"
        assert not client._request_signer._credentials.token


class Gone:
    """A process that has ended."""

    stdin = None

    def terminate(self):
        pass

    def wait(self, _timeout=None):
        return 0


@pytest.mark.parametrize(
    ("before", "small", "large"),
    [
        ({}, "localhost,127.0.0.1", "localhost,127.0.0.1"),
        ({"NO_PROXY": "corp, localhost"}, "corp,localhost,127.0.0.1", "corp,localhost,127.0.0.1"),
        ({"no_proxy": "a", "NO_PROXY": "b"}, "a,localhost,127.0.0.1", "b,localhost,127.0.0.1"),
        ({"no_proxy": "*"}, "*", "*"),
    ],
)
def test_hosts_that_a_user_asks_without_a_proxy_stay_so(before, small, large):
    assert surroundings.proxy_exceptions(before) == {"no_proxy": small, "NO_PROXY": large}


# --- results


class Cloud:
    alive = True

    def is_alive(self):
        return self.alive

    def log_tail(self):
        return "last words"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


@pytest.fixture
def played(monkeypatch, dataset):
    """Play a run of which everything but its result is left out."""

    def play(*arguments, status="SUCCEEDED", leftovers=()):
        result = Result(status, None, None, "bt-1", "arn", "eu-west-1", 1.0, leftovers=list(leftovers))
        monkeypatch.setattr(local, "_one_run", lambda *_: result)
        return main(["local", "run", "--dataset", dataset, *arguments])

    monkeypatch.setattr(local, "EmbeddedCloud", lambda *_, **__: Cloud())
    return play


@pytest.mark.parametrize(
    ("status", "leftovers", "code"),
    [
        ("SUCCEEDED", [], 0),
        ("SUCCEEDED", ["model bt-1-model"], 1),
        ("FAILED", [], 1),
        ("REFUSED", [], 1),
        ("TIMED_OUT", ["model bt-1-model"], 1),
    ],
)
def test_only_a_run_that_succeeded_and_left_nothing_exits_well(played, status, leftovers, code):
    assert played(status=status, leftovers=leftovers) == code


def test_the_result_is_shown_even_where_it_cannot_be_written(played, capsys, monkeypatch, tmp_path):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    path = tmp_path / "result.json"
    assert played("--json", str(path)) == 2
    captured = capsys.readouterr()
    assert "SUCCEEDED" in captured.out
    assert captured.err == f"baton: --json {path} could not be written: No space left on device.\n"


def test_the_result_is_written_where_it_can_be(played, tmp_path):
    assert played("--json", str(tmp_path / "result.json")) == 0
    assert json.loads((tmp_path / "result.json").read_text())["run_id"] == "bt-1"


def test_the_result_of_nothing_names_all_five_things():
    things = Result("REFUSED", "UploadRefused", "no", None, None, "eu-west-1", 0.0).as_dict()["sagemaker"]
    assert things == {
        kind: {"name": None, "status": "Absent"} for kind in ("tuning", "training", "model", "transform", "endpoint")
    }


def shown(capsys, **changes):
    Screen().result(Result("SUCCEEDED", None, None, "bt-1", "arn", "eu-west-1", 1.0, **changes))
    return capsys.readouterr().out


def test_what_the_plan_keeps_is_shown_and_is_no_leftover(capsys):
    out = shown(capsys, kept=["bt-1-config", "bt-1-endpoint", "bt-1-model"])
    assert "Kept               bt-1-config, bt-1-endpoint, bt-1-model, as the plan says" in out
    assert "Left over          nothing" in out
    assert "Kept" not in shown(capsys)


def test_a_cause_of_several_lines_keeps_them(capsys):
    cause = "The input has 2 problems:\n- k: must be from 2 to 100, not 1\n- " + "word " * 14 + "end"
    Screen().result(Result("FAILED", "InvalidInput", cause, "bt-1", "arn", "eu-west-1", 1.0))
    out = capsys.readouterr().out.splitlines()
    first = next(number for number, line in enumerate(out) if line.startswith("  Cause"))
    assert [line[21:] for line in out[first : first + 4]] == [
        "The input has 2 problems:",
        "- k: must be from 2 to 100, not 1",
        "- " + " ".join(["word"] * 11),
        "  word word word end",
    ]


def test_the_rows_are_shown(capsys):
    out = shown(capsys, data={"rows": 70_000, "train_rows": 50_000})
    assert "Data               70,000 rows prepared, 50,000 trained on" in out


@pytest.mark.parametrize(("count", "heading"), [(10, "Ten predictions"), (3, "3 predictions")])
def test_the_predictions_are_counted(capsys, count, heading):
    one = {"label": 1, "cluster": 2, "digit": 1, "distance": 0.5}
    latency = {"p50": 1.0, "p95": 2.0}
    test = {"predictions": [one] * count, "accuracy": 1, "purity": 1, "rows": 20, "latency_ms": latency}
    assert f"{heading} of the endpoint:" in shown(capsys, smoke_test=test)


def page(content):
    return {"Body": SimpleNamespace(read=lambda: content)}


@pytest.mark.parametrize("blocked", [False, True])
def test_a_report_that_cannot_be_copied_costs_no_result(monkeypatch, tmp_path, blocked):
    monkeypatch.chdir(tmp_path)
    if blocked:
        (tmp_path / ".baton").write_text("A file where the folder would be.")
    s3 = SimpleNamespace(get_object=lambda **_: page(b"<html>"))
    deployment = SimpleNamespace(client=lambda _service: s3)
    found = run.Run(deployment)._fetch("s3://bucket/runs/bt-1/report/report.html")
    assert found == (None if blocked else ".baton/reports/bt-1.html")
    assert blocked or Path(found).read_bytes() == b"<html>"


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="Windows has no SIGHUP")
def test_what_nohup_ignores_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert local._alone(lambda _: signal.getsignal(signal.SIGHUP) is signal.SIG_IGN)(SimpleNamespace())
    finally:
        signal.signal(signal.SIGHUP, before)
