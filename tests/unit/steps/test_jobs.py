import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from baton.names import Names, tags_of
from baton_steps import jobs
from baton_steps.errors import ForeignResource, JobFailed, NotAdoptable, RunEnded
from baton_steps.jobs import ENDPOINT, MODEL, TRAINING, TRANSFORM, TUNING, Jobs
from tests.support.aws_models import values_of
from tests.unit.steps import world

NAME = f"{world.RUN_ID}-train"


def ours():
    return world.make_run().tags()


def foreign():
    return [{"Key": "baton:run-id", "Value": "bt-another"}]


def test_names_and_tags_are_those_of_the_control_plane(run):
    kinds = ("tuning", "training", "model", "transform", "endpoint", "endpoint_config")
    assert {kind: run.name(kind) for kind in kinds} == Names.of(world.RUN_ID).as_dict()
    wanted = tags_of(world.RUN_ID, world.EXECUTION, "mnist_kmeans", run.expires_at)
    assert {tag["Key"]: tag["Value"] for tag in run.tags()} == wanted


def test_a_job_is_created_with_the_tags_and_awaited(run, sagemaker, capsys):
    sagemaker.states["training_job"] = ["InProgress", "InProgress", "Completed"]
    description = Jobs(run).finish(TRAINING, NAME, {"RoleArn": "r"})
    assert description["TrainingJobStatus"] == "Completed"
    assert sagemaker.things["training_job", NAME]["Tags"] == run.tags()
    printed = capsys.readouterr().out
    assert f"https://cn-northwest-1.console.amazonaws.cn/sagemaker/home?region=cn-northwest-1#/jobs/{NAME}" in printed
    assert "line 2" in printed


def test_where_there_is_no_console_link_nothing_is_printed_of_it(run, sagemaker, capsys, monkeypatch):
    monkeypatch.setattr(jobs, "console_link", lambda *_: None)
    sagemaker.states["training_job"] = ["Completed"]
    Jobs(run).finish(TRAINING, NAME, {})
    assert "None" not in capsys.readouterr().out


def test_the_log_that_cannot_be_read_does_not_fail_the_step(run, sagemaker, logs, capsys):
    logs.lines = []
    sagemaker.states["training_job"] = ["Completed"]
    Jobs(run).finish(TRAINING, NAME, {})
    assert "cannot be read" in capsys.readouterr().out


def test_a_tuning_job_shows_the_end_of_its_training_jobs_logs(run, sagemaker, logs, capsys):
    name = f"{world.RUN_ID}-tune"
    logs.streams = [f"{number:03d}-abc/algo-1-1" for number in range(1, 12)]
    logs.lines = [f"line {number}" for number in range(50)]
    sagemaker.states["hyper_parameter_tuning_job"] = ["Completed"]
    Jobs(run).finish(TUNING, name, {})
    assert logs.asked == [("/aws/sagemaker/TrainingJobs", f"{name}-")]
    printed = capsys.readouterr().out
    assert f"The end of the log of {name}-001-abc/algo-1-1:\n    line 46\n" in printed
    assert f"{name}-009-abc/algo-1-1:" in printed
    assert f"{name}-010" not in printed


@pytest.mark.parametrize(
    ("kind", "api", "asked"),
    [
        (TRAINING, "training_job", ("/aws/sagemaker/TrainingJobs", "n/")),
        (ENDPOINT, "endpoint", ("/aws/sagemaker/Endpoints/n", None)),
    ],
)
def test_each_kind_has_its_logs_where_sagemaker_writes_them(run, sagemaker, logs, kind, api, asked):
    sagemaker.states[api] = [next(iter(kind.good))]
    Jobs(run).finish(kind, "n", {})
    assert logs.asked == [asked]


def test_it_waits_as_long_as_the_run_says(run, sagemaker):
    slept = []
    sagemaker.states["training_job"] = ["InProgress", "Stopping", "Completed"]
    Jobs(run, slept.append).finish(TRAINING, NAME, {})
    assert slept == [0.01, 0.01]


@pytest.mark.parametrize("status", ["Failed", "Stopped", "Deleted", "SomethingNew"])
def test_every_other_end_fails_with_sagemakers_reason(run, sagemaker, status):
    sagemaker.states["training_job"] = ["InProgress", status]
    sagemaker.extra["training_job"] = {"FailureReason": "AlgorithmError: no data"}
    with pytest.raises(JobFailed, match=f"is {status}: AlgorithmError: no data"):
        Jobs(run).finish(TRAINING, NAME, {})


@pytest.mark.parametrize("status", ["InProgress", "Completed"])
def test_the_runs_own_job_is_adopted(run, sagemaker, status, capsys):
    sagemaker.put("training_job", NAME, ours(), TrainingJobStatus=status)
    sagemaker.states["training_job"] = [status, "Completed"]
    assert Jobs(run).finish(TRAINING, NAME, {})["TrainingJobStatus"] == "Completed"
    assert f"Adopted the training job {NAME}, which is {status}." in capsys.readouterr().out


@pytest.mark.parametrize("status", ["Failed", "Stopped", "Stopping"])
def test_the_runs_own_job_is_not_adopted_when_it_ended_badly(run, sagemaker, status):
    sagemaker.put("training_job", NAME, ours(), TrainingJobStatus=status, FailureReason="it broke")
    with pytest.raises(NotAdoptable, match=f"is {status}: it broke"):
        Jobs(run).finish(TRAINING, NAME, {})


def test_a_foreign_job_of_the_name_is_not_adopted(run, sagemaker):
    sagemaker.put("training_job", NAME, foreign(), TrainingJobStatus="Completed")
    with pytest.raises(ForeignResource):
        Jobs(run).finish(TRAINING, NAME, {})


def test_a_model_is_adopted_by_its_tag_alone(run, sagemaker):
    sagemaker.put("model", "m", ours())
    Jobs(run).create_or_adopt(MODEL, "m", {})
    sagemaker.put("model", "n", foreign())
    with pytest.raises(ForeignResource):
        Jobs(run).create_or_adopt(MODEL, "n", {})


def test_a_wrong_request_is_not_taken_for_a_taken_name(run, sagemaker, monkeypatch):
    def refuse(*_):
        raise world.client_error("ValidationException", "1 validation error detected")

    monkeypatch.setattr(sagemaker, "_create", refuse, raising=False)
    with pytest.raises(world.ClientError, match="1 validation error"):
        Jobs(run).create_or_adopt(MODEL, "m", {})


def test_nothing_is_created_after_the_tombstone(run, sagemaker):
    world.put_row(ended_at=5)
    with pytest.raises(RunEnded):
        Jobs(run).finish(TRAINING, NAME, {})
    assert sagemaker.calls == []


def test_an_endpoint_that_fails_to_start_fails_the_step(run, sagemaker):
    sagemaker.states["endpoint"] = ["Creating", "Failed"]
    sagemaker.extra["endpoint"] = {"FailureReason": "no capacity"}
    with pytest.raises(JobFailed, match="no capacity"):
        Jobs(run).finish(ENDPOINT, "e", {})


def test_every_state_of_the_api_is_good_going_or_an_end():
    shapes = {"TrainingJobStatus": jobs.TRAINING, "EndpointStatus": jobs.ENDPOINT,
              "HyperParameterTuningJobStatus": jobs.TUNING, "TransformJobStatus": jobs.TRANSFORM}  # fmt: skip
    ends = {"Failed", "Stopped", "Deleted", "DeleteFailed", "OutOfService", "UpdateRollbackFailed"}
    for shape, kind in shapes.items():
        for state in values_of("sagemaker", shape):
            groups = (kind.good, kind.going, jobs._ENDING, ends)
            assert sum(state in group for group in groups) == 1, (shape, state)


PROGRAM = """
import sys
from moto import mock_aws
from tests.unit.steps import world
from baton_steps.jobs import Jobs, {kind}

class Reporting(world.FakeSageMaker):
    def _stop(self, api, parameter, request):
        print("STOPPED", request[parameter + "Name"], flush=True)
        return {{}}

sagemaker = Reporting()
sagemaker.states["{api}"] = ["{state}"]
with mock_aws():
    world.make_table()
    world.put_row()
    run = world.make_run({{"sagemaker": sagemaker, "logs": world.FakeLogs()}})
    Jobs(run).finish({kind}, "{name}", {{}})
"""


def terminated(kind, api, state, name, shown):
    """Run a step in a process of its own, send it SIGTERM once it has shown a line; return (exit code, output)."""
    program = PROGRAM.format(kind=kind, api=api, state=state, name=name)
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.pathsep.join(p for p in sys.path if p),
        "AWS_ACCESS_KEY_ID": "a",
        "AWS_SECRET_ACCESS_KEY": "s",
        "AWS_DEFAULT_REGION": world.REGION,
    }
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=Path(__file__).parents[3],
    )
    seen = ""
    for line in process.stdout:
        seen += line
        if shown in line:
            process.send_signal(signal.SIGTERM)
            break
    begun = time.monotonic()
    rest, _ = process.communicate(timeout=30)
    assert time.monotonic() - begun < 10
    return process.returncode, seen + rest


def test_sigterm_stops_the_job_and_ends_the_process():
    code, printed = terminated("TRAINING", "training_job", "InProgress", NAME, f"{NAME} is InProgress")
    assert f"STOPPED {NAME}" in printed
    assert code == 128 + signal.SIGTERM


def test_sigterm_leaves_an_endpoint_that_is_being_created():
    code, printed = terminated("ENDPOINT", "endpoint", "Creating", "e", "e is Creating")
    assert "STOPPED" not in printed
    assert code == 128 + signal.SIGTERM


class Interrupted(world.FakeSageMaker):
    """Where SIGTERM arrives as the answer of a call comes, which is passed on by code that expects failed calls."""

    def __init__(self, verb, api):
        super().__init__()
        self.at = (verb, api)

    def __getattr__(self, name):
        call = super().__getattr__(name)

        def interrupted(**request):
            answer = call(**request)
            try:
                if tuple(name.split("_", 1)) == self.at:
                    self.at = None
                    signal.raise_signal(signal.SIGTERM)
            except Exception:  # As botocore's handlers of failed calls do.
                return answer
            return answer

        return interrupted


def interrupted(kind, verb, status):
    """Finish a job in which SIGTERM arrives; return its exit code and the calls that were made after the creation."""
    sagemaker = Interrupted(verb, kind.api)
    sagemaker.states[kind.api] = [status]
    run = world.make_run({"sagemaker": sagemaker, "logs": world.FakeLogs()})
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as ended:
        Jobs(run).finish(kind, NAME, {})
    assert signal.getsignal(signal.SIGTERM) == before
    return ended.value.code, [verb for verb, _api, _name in sagemaker.calls if verb != "create"]


@pytest.mark.parametrize("verb", ["create", "describe"])
@pytest.mark.parametrize("kind", [TUNING, TRAINING, TRANSFORM], ids=lambda kind: kind.api)
def test_sigterm_stops_every_kind_of_job_also_one_that_is_just_being_created(run, kind, verb):
    assert interrupted(kind, verb, "InProgress") == (128 + signal.SIGTERM, ["stop"])


@pytest.mark.parametrize("status", ["Stopping", "Completed", "Failed"])
def test_sigterm_does_not_stop_what_is_on_its_way_to_an_end(run, status):
    assert interrupted(TRAINING, "create", status) == (128 + signal.SIGTERM, [])


@pytest.mark.parametrize("kind", [MODEL, ENDPOINT], ids=lambda kind: kind.api)
def test_sigterm_stops_nothing_that_knows_no_stop(run, kind):
    assert interrupted(kind, "create", "Creating") == (128 + signal.SIGTERM, [])


def test_another_sigterm_does_not_keep_a_job_from_being_stopped(run):
    class Impatient(Interrupted):
        def _stop(self, api, parameter, request):
            signal.raise_signal(signal.SIGTERM)
            return super()._stop(api, parameter, request)

    sagemaker = Impatient("describe", "training_job")
    sagemaker.states["training_job"] = ["InProgress"]
    with pytest.raises(SystemExit):
        Jobs(world.make_run({"sagemaker": sagemaker, "logs": world.FakeLogs()})).finish(TRAINING, NAME, {})
    assert ("stop", "training_job", NAME) in sagemaker.calls


def test_the_handler_of_sigterm_is_put_back_after_a_good_end(run, sagemaker):
    before = signal.getsignal(signal.SIGTERM)
    sagemaker.states["training_job"] = ["Completed"]
    Jobs(run).finish(TRAINING, NAME, {})
    assert signal.getsignal(signal.SIGTERM) == before


def test_sigterm_does_not_stop_a_job_of_others(run, sagemaker):
    sagemaker.put("training_job", NAME, foreign(), TrainingJobStatus="InProgress")
    jobs_ = Jobs(run)
    jobs_._stop(TRAINING, NAME)
    assert ("stop", "training_job", NAME) not in sagemaker.calls
