import time

import pytest

from baton.runs import first_step_failure
from baton.verdict import failure_of
from baton_steps import failures, stages
from baton_steps.claim import claim
from baton_steps.errors import TERMINATED_EXIT, ClaimLost, JobFailed, NotAdoptable, RunEnded
from baton_steps.failures import MAX_CAUSE, MAX_ERROR, recorded
from baton_steps.run import Run
from tests.unit.steps import world

ME = "kfp-1"
REFUSED = world.client_error("ValidationException", "1 validation error detected: ml.banana.large", "CreateEndpoint")
RECORD = {"error": "ValidationException", "cause": "1 validation error detected: ml.banana.large"}

pytestmark = pytest.mark.usefixtures("aws")


@pytest.fixture
def run():
    world.put_row(worker_run_id=ME)
    return world.make_run(pipeline_run_id=ME)


def failing(error, step="endpoint"):
    @recorded(step)
    def work(_run):
        raise error

    return work


def well(step="endpoint"):
    @recorded(step)
    def work(_run):
        return "done"

    return work


def fail(run, error, step="endpoint"):
    with pytest.raises(type(error)):
        failing(error, step)(run)


def noted(step="endpoint"):
    failure = world.row().get(f"step_failure_{step}")
    return failure and {key: value for key, value in failure.items() if key != "noted_at"}


def all_noted():
    found = {name: failure for name, failure in world.row().items() if name.startswith("step_failure_")}
    return sorted(found, key=lambda name: found[name]["noted_at"])


def test_a_step_that_fails_writes_why_into_the_runs_row_and_fails(run):
    fail(run, REFUSED)
    assert noted() == RECORD


def test_an_error_of_ones_own_has_its_class_as_its_name(run):
    fail(run, JobFailed("The tuning job x completed, and none of its training jobs reported test:msd."))
    assert (noted()["error"], noted()["cause"][:16]) == ("JobFailed", "The tuning job x")


def test_each_step_notes_its_own_failure_with_the_time():
    world.put_row(worker_run_id=ME)
    run = world.make_run(pipeline_run_id=ME)
    before = time.time()
    fail(run, ValueError("one"), "transform")
    time.sleep(0.01)
    fail(run, ValueError("two"), "endpoint")
    assert all_noted() == ["step_failure_transform", "step_failure_endpoint"]
    assert before - 0.001 <= float(world.row()["step_failure_transform"]["noted_at"]) <= time.time()


def test_a_step_that_goes_well_in_the_end_takes_its_own_failure_back_and_no_other(run):
    fail(run, ValueError("the node went away"), "training")
    fail(run, REFUSED, "endpoint")
    assert well("training")(run) == "done"
    assert all_noted() == ["step_failure_endpoint"]
    assert well("endpoint")(run) == "done"
    assert all_noted() == []


def test_the_last_attempt_of_a_step_says_why_it_failed(run):
    for error in (SystemExit(TERMINATED_EXIT), ValueError("throttled"), REFUSED):
        fail(run, error)
    assert noted() == RECORD


def test_that_a_job_cannot_be_adopted_does_not_hide_why_it_was_left_so(run):
    left = NotAdoptable("The training job of this run exists and is Stopped.")
    fail(run, SystemExit(TERMINATED_EXIT))
    fail(run, left)
    assert noted()["error"] == "Terminated"
    fail(run, left, "training")
    assert noted("training")["error"] == "NotAdoptable"


def test_a_step_that_is_told_to_end_says_so_unless_it_is_clean_up_that_ended_the_run(run):
    fail(run, SystemExit(TERMINATED_EXIT), "training")
    assert noted("training")["error"] == "Terminated"
    assert noted("training")["cause"].startswith("Its pod was told to end, ")
    world.put_row(worker_run_id=ME, ended_at=1_700_000_000)
    fail(run, SystemExit(TERMINATED_EXIT), "training")
    assert all_noted() == []


def test_what_terminated_steps_note_is_told_beside_the_job_that_one_of_them_has_stopped(run):
    fail(run, SystemExit(TERMINATED_EXIT), "training")
    fail(run, NotAdoptable("The training job of this run exists and is Stopped."), "training")
    stopped = {"Error": "JobFailed", "Cause": "The training job ended Stopped."}
    error, cause = failure_of(
        {"failure": stopped, "receipt": {"complete": True, "step_failure": first_step_failure(world.row())}}
    )
    assert (error, cause[:72]) == (
        "JobFailed",
        "The training job ended Stopped. Step training: Terminated: Its pod was t",
    )


def test_a_step_that_exits_by_itself_was_not_told_to_end(run):
    fail(run, SystemExit("the data set has no rows"))
    assert noted() == {"error": "SystemExit", "cause": "the data set has no rows"}
    fail(run, SystemExit(0), "training")
    assert noted("training") is None


@pytest.mark.parametrize("error", [ClaimLost("another does it"), RunEnded("it was ended")])
def test_who_must_not_work_for_the_run_notes_nothing(run, error):
    fail(run, error)
    assert noted() is None


@pytest.mark.parametrize("row", [{"worker_run_id": "kfp-2"}, {"worker_run_id": ME, "ended_at": 5}, {}])
def test_only_the_pipeline_run_that_does_the_work_notes_and_only_before_the_tombstone(row):
    world.put_row(**row)
    fail(world.make_run(pipeline_run_id=ME), REFUSED)
    assert noted() is None


def test_a_run_that_has_no_row_gets_none():
    fail(world.make_run(pipeline_run_id=ME), REFUSED)
    well()(world.make_run(pipeline_run_id=ME))
    assert world.row() is None


def test_before_the_claim_nothing_is_noted():
    world.put_row()
    fail(world.make_run(), REFUSED)
    assert noted() is None


def test_the_claim_tells_the_steps_whose_work_it_is():
    world.put_row()
    claimed = Run.of(claim(world.make_run(), ME))
    assert claimed.pipeline_run_id == ME


def test_a_table_that_cannot_be_written_changes_nothing_about_how_the_step_ends(run, capsys):
    class Down:
        def update_item(self, **_):
            raise world.client_error("InternalServerError", "busy")

    broken = world.make_run({"dynamodb": Down()}, pipeline_run_id=ME)
    fail(broken, REFUSED)
    assert well()(broken) == "done"
    assert "cannot be noted" in capsys.readouterr().out


def test_the_length_is_bounded(run):
    fail(run, world.client_error("E" * 500, "c" * 100_000))
    assert (len(noted()["error"]), len(noted()["cause"])) == (MAX_ERROR, MAX_CAUSE)


def test_an_error_without_words_still_says_so(run):
    fail(run, KeyError())
    assert noted()["cause"] == "It gives no reason."


@pytest.mark.parametrize(
    "text",
    [
        "the key ASIAQWERTYUIOP123456 is not valid",
        "GET https://user:hunter2@registry.example/v2 failed",
        "https://b.example/k?X-Amz-Credential=hunter2%2F20260101&X-Amz-Signature=hunter2",
        "https://b.example/k?a=1&X-Amz-Security-Token=hunter2",
        '{"Authorization": "Bearer hunter2"}',
        "aws_secret_access_key = hunter2",
        "password: hunter2, and more",
    ],
)
def test_what_looks_like_a_secret_is_left_out(text):
    _, cause = failures.describe(ValueError(text))
    assert "hunter2" not in cause
    assert "ASIAQ" not in cause
    assert "[removed]" in cause


@pytest.mark.parametrize(
    "text",
    [
        "1 validation error detected: Value 'ml.banana.large' at 'instanceType' failed to satisfy constraint: enum",
        "User: arn:aws:sts::123456789012:assumed-role/r/s is not authorized to perform: sagemaker:CreateEndpoint",
        "The tuning job bt-1-tune is Failed: AlgorithmError: k is larger than the data set",
    ],
)
def test_what_is_no_secret_is_told_as_it_is(text):
    assert failures.describe(ValueError(text))[1] == text


def test_every_stage_is_recorded_under_the_name_of_its_task(aws, sagemaker, monkeypatch):
    def refuse(*_):
        raise REFUSED

    monkeypatch.setattr(sagemaker, "_create", refuse, raising=False)
    machines = stages.Machines("ml.m5.large", 1, 5, 60, False, 0, True)
    search = stages.Search("Random", "test:msd", "Off", 1, 1, {}, {}, {})
    calls = {
        "tuning": lambda run: stages.tune(run, search, machines, "s3://b/a", "s3://b/b", "s3://b/c"),
        "training": lambda run: stages.train(run, {}, machines, "s3://b/a", "s3://b/b"),
        "model": lambda run: stages.make_model(run, "s3://b/a", True),
        "endpoint": lambda run: stages.serve(run, "m", "ml.m5.large", 1),
        "transform": lambda run: stages.transform(run, "m", "s3://b/a", "s3://b/b", "ml.m5.large", 1, 1, 6),
    }
    for step, call in calls.items():
        world.put_row(worker_run_id=ME)
        with pytest.raises(world.ClientError):
            call(world.make_run({"sagemaker": sagemaker}, pipeline_run_id=ME))
        assert noted(step) == RECORD
        assert all_noted() == [f"step_failure_{step}"]
