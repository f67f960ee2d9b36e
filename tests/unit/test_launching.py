"""Launching a pipeline run: what is sent, what is found again, and what happens when the run is ended meanwhile."""

from dataclasses import replace

import pytest

from baton.catalogue import Catalogue
from baton.errors import (
    InvalidInput,
    KfpMisconfigured,
    KfpRefused,
    KfpTooOld,
    KfpUnavailable,
    LaunchInProgress,
    LaunchUncertain,
    RunEnded,
)
from baton.ir import InputDefinition
from baton.kfp.client import POST_SECONDS
from baton.kfp.transport import Unreached
from baton.launching import LEASE_SECONDS, kfp_names, runtime_parameters
from tests.support.kfp_fake import grpc_error
from tests.support.launch_world import MAX_ATTEMPTS, PACKAGED, LaunchWorld, commit_later, lose_answer, lose_request, on
from tests.support.starting import settings_of

PIPELINE = PACKAGED.get("mnist_kmeans")


@pytest.fixture
def world():
    return LaunchWorld()


def answering(reply):
    return lambda name, effect: reply


def test_a_launch_starts_one_run_of_the_packaged_content(world):
    facts = world.launch()
    (run,) = world.posted
    assert facts == {
        "id": run["run_id"],
        "url": f"/apis/v2beta1/runs/{run['run_id']}",
        "pipeline_id": run["pipeline_version_reference"]["pipeline_id"],
        "version_id": run["pipeline_version_reference"]["pipeline_version_id"],
        "experiment_id": run["experiment_id"],
    }
    assert world.fake.versions[facts["version_id"]]["name"] == kfp_names(PIPELINE)[1]
    assert PIPELINE.package in world.fake.uploads[-1]
    assert run["service_account"] == "baton-pipeline"
    assert "pipeline_root" not in run["runtime_config"]
    assert world.row["pipeline_run_id"] == run["run_id"]
    assert "launch_lease_until" not in world.row


def test_the_run_gets_exactly_the_parameters_of_the_contract(world):
    world.launch()
    (run,) = world.posted
    sent = run["runtime_config"]["parameters"]
    own = {name: parameter.default for name, parameter in PIPELINE.parameters.items()}
    standard = {
        "run_id": world.run_id,
        "execution_arn": world.plan["execution_arn"],
        "pipeline": "mnist_kmeans",
        "expires_at": world.plan["tags"]["baton:expires-at"],
        "region": "eu-west-1",
        "table": "baton",
        "bucket": world.settings.bucket,
        "role_arn": world.plan["role_arn"],
        "kms_key_arn": "",
        "training_image": world.plan["images"]["training"],
        "container_image": world.plan["images"]["steps"],
        "train_data": world.plan["uris"]["train"],
        "test_data": world.plan["uris"]["test"],
        "transform_input": world.plan["uris"]["transform_input"],
        "tuning_output": world.plan["uris"]["tuning_output"],
        "model_output": world.plan["uris"]["model_output"],
        "predictions_output": world.plan["uris"]["predictions"],
        "poll_seconds": 20.0,
    }
    assert sent == {**own, **standard}
    assert all(isinstance(value, str) for name, value in standard.items() if name != "poll_seconds")
    assert set(sent) == set(PIPELINE.inputs)


def test_the_pods_are_told_the_key_of_the_plan(world):
    world.plan["kms_key_arn"] = "arn:aws:kms:eu-west-1:123456789012:key/1"
    world.launch()
    assert world.posted[0]["runtime_config"]["parameters"]["kms_key_arn"] == world.plan["kms_key_arn"]


def test_a_second_launch_returns_the_first_ones_run(world):
    first = world.launch()
    assert world.launch() == first
    assert len(world.posted) == 1


def test_the_run_that_claimed_the_work_wins_over_the_one_that_was_recorded(world):
    world.launch()
    other = world.fake.add_run({"display_name": world.run_id, "experiment_id": "experiment-1"})
    world.row["worker_run_id"] = other["run_id"]
    assert world.launch()["id"] == other["run_id"]


def test_a_recorded_run_that_kfp_has_lost_is_still_the_runs(world):
    first = world.launch()
    world.fake.runs.clear()
    assert world.launch() == {**first, "pipeline_id": None, "version_id": None, "experiment_id": None}
    assert world.posted == []


def test_the_next_run_uploads_nothing(world):
    world.launch()
    uploads = [target for _, target, _, _ in world.fake.requests if "/upload" in target]
    other = LaunchWorld()
    other.fake = world.fake
    other.launch()
    assert uploads
    assert [target for _, target, _, _ in world.fake.requests if "/upload" in target] == uploads, "nothing is sent"


def test_changed_content_is_a_new_version_of_the_same_pipeline(world):
    name, version = kfp_names(PIPELINE)
    other = kfp_names(replace(PIPELINE, package=PIPELINE.package + b"\n"))
    assert other[0] == name
    assert other[1] != version


def test_a_version_that_is_uploaded_at_the_same_time_is_taken(world):
    def raced(name, effect):
        effect()
        return effect()

    on(world, "POST /pipelines/upload", raced)
    on(world, "POST /pipelines/upload_version", raced)
    world.launch()
    assert len(world.fake.pipelines) == 1
    assert len(world.posted) == 1


def test_an_upload_that_is_refused_is_told(world):
    on(world, "POST /pipelines/upload", answering(grpc_error(400, 3, "the IR is wrong")))
    with pytest.raises(KfpRefused, match="the IR is wrong"):
        world.launch()


def test_an_old_server_is_refused_before_anything_is_made(world):
    world.fake.tag = "2.5.0"
    with pytest.raises(KfpTooOld):
        world.launch()
    assert not world.fake.pipelines
    assert not world.fake.experiments


@pytest.mark.parametrize("fault", [lose_request, lose_answer])
def test_the_row_says_where_it_was_launched_even_if_nobody_learns_whether(world, fault):
    on(world, "POST /runs", fault)
    with pytest.raises(LaunchUncertain):
        world.launch()
    where = (world.settings.kfp_installation, world.settings.kfp_experiment)
    assert (world.row["kfp_installation"], world.row["kfp_experiment"]) == where
    world.now += LEASE_SECONDS + 1
    world.launch()
    assert (world.row["kfp_installation"], world.row["kfp_experiment"]) == where


# --- the lease --------------------------------------------------------------------------------------------------------


def test_the_lease_outlives_a_post():
    assert POST_SECONDS < LEASE_SECONDS


def test_while_another_attempt_holds_the_lease_nothing_is_posted(world):
    world.runs.claim_launch(world.run_id, "other", LEASE_SECONDS)
    with pytest.raises(LaunchInProgress):
        world.launch()
    assert world.posted == []


def test_a_lease_that_ran_out_is_taken_over(world):
    world.runs.claim_launch(world.run_id, "other", LEASE_SECONDS)
    world.now += LEASE_SECONDS + 1
    world.launch()
    assert len(world.posted) == 1


def test_what_another_attempt_posted_is_adopted_without_its_lease(world):
    on(world, "POST /runs", lose_answer)
    with pytest.raises(LaunchUncertain):
        world.launch()
    facts = world.launch()
    assert world.row["pipeline_run_id"] == facts["id"]
    assert len(world.posted) == 1


def test_a_run_whose_launch_was_answered_with_half_an_answer_is_remembered_and_adopted(world):
    def cut(name, effect):
        status, headers, body = effect()
        return status, headers, body[: len(body) // 2]

    on(world, "POST /runs", cut)
    with pytest.raises(LaunchUncertain):
        world.launch()
    assert "may_be_posted" in world.row, "clean-up asks Kubeflow Pipelines about it"
    world.launch()
    assert world.row["pipeline_run_id"] == world.posted[0]["run_id"]
    assert len(world.posted) == 1


def test_after_a_launch_without_an_answer_the_server_is_given_time(world):
    on(world, "POST /runs", lose_request)
    with pytest.raises(LaunchUncertain):
        world.launch()
    world.now += LEASE_SECONDS - 1
    with pytest.raises(LaunchInProgress):
        world.launch()
    assert world.posted == []
    world.now += 2
    world.launch()
    assert len(world.posted) == 1


def test_an_unanswered_post_is_remembered_whatever_the_attempts_after_it_meet(world):
    def unreached(name, effect):
        raise Unreached("connection refused")

    on(world, "POST /runs", lose_answer)
    with pytest.raises(LaunchUncertain):
        world.launch()
    world.now += LEASE_SECONDS + 1
    on(world, "GET /runs", unreached, times=99)
    for _ in range(MAX_ATTEMPTS - 1):
        with pytest.raises(KfpUnavailable):
            world.launch()
        world.now += LEASE_SECONDS + 1
    assert [run["state"] for run in world.posted] == ["PENDING"]
    assert not {"launch_lease_until", "pipeline_run_id"} & set(world.row)
    assert "may_be_posted" in world.row, "clean-up asks Kubeflow Pipelines"


# --- whose run it is --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("parameters", [None, {}, {"run_id": "bt-another000001"}, {"execution_arn": "another"}])
def test_somebodys_run_of_the_same_name_is_neither_adopted_nor_terminated(world, parameters):
    experiment = world.fake._id("experiment")
    world.fake.experiments[experiment] = {"experiment_id": experiment, "display_name": "baton"}
    given = {} if parameters is None else {"runtime_config": {"parameters": {"run_id": world.run_id, **parameters}}}
    if parameters == {}:
        given = {"runtime_config": {}}
    asked = {"display_name": world.run_id, "experiment_id": experiment, **given}
    theirs = world.fake.add_run(asked)
    facts = world.launch()
    assert facts["id"] != theirs["run_id"]
    assert len(world.posted) == 2
    world.runs.end_badly(world.run_id)
    with pytest.raises(RunEnded):
        world.launch()
    assert {run["run_id"]: run["state"] for run in world.posted} == {
        theirs["run_id"]: "PENDING",
        facts["id"]: "CANCELING",
    }


def test_a_run_without_the_executions_arn_among_its_parameters_is_known_by_the_run_id(world):
    experiment = world.fake._id("experiment")
    world.fake.experiments[experiment] = {"experiment_id": experiment, "display_name": "baton"}
    config = {"parameters": {"run_id": world.run_id}}
    ours = world.fake.add_run({"display_name": world.run_id, "experiment_id": experiment, "runtime_config": config})
    assert world.launch()["id"] == ours["run_id"]


@pytest.mark.parametrize(
    ("call", "fault", "error"),
    [
        ("POST /runs", answering(grpc_error(400, 3, "wrong")), KfpRefused),
        ("POST /runs", answering((404, {"Content-Type": "text/plain"}, b"a gateway's 404")), KfpMisconfigured),
        ("GET /runs", answering(grpc_error(403, 7, "not allowed")), KfpRefused),
    ],
)
def test_a_failure_that_certainly_posted_nothing_frees_the_lease(world, call, fault, error):
    on(world, call, fault)
    with pytest.raises(error):
        world.launch()
    assert not {"launch_lease_until", "may_be_posted"} & set(world.row)
    world.launch()
    assert len(world.posted) == 1


def test_a_server_that_could_not_be_reached_frees_the_lease(world):
    def unreached(name, effect):
        raise Unreached("connection refused")

    on(world, "POST /runs", unreached)
    with pytest.raises(KfpUnavailable):
        world.launch()
    world.launch()
    assert len(world.posted) == 1


def test_an_attempt_that_stalls_in_its_look_up_is_fenced(world):
    def stalled(name, effect):
        reply = effect()
        world.now += LEASE_SECONDS + 1
        world.runs.claim_launch(world.run_id, "successor", LEASE_SECONDS)
        return reply

    on(world, "GET /runs", stalled)
    with pytest.raises(LaunchInProgress):
        world.launch()
    assert world.posted == []
    assert world.row["launch_attempt"] == "successor"


def test_two_posts_of_which_the_first_is_committed_last_leave_one_recorded_run(world):
    on(world, "POST /runs", commit_later(world))
    with pytest.raises(LaunchUncertain):
        world.launch()
    world.now += LEASE_SECONDS + 1
    facts = world.launch()
    world.fake.commit_late()
    # Both exist now; the first task of one of them claims the row, and the other one ends itself.
    assert len(world.posted) == 2
    assert world.launch()["id"] == facts["id"]


# --- the end of the run -----------------------------------------------------------------------------------------------


def test_an_ended_run_launches_nothing(world):
    world.runs.end_badly(world.run_id)
    with pytest.raises(RunEnded):
        world.launch()
    assert world.posted == []


def test_a_forgotten_run_launches_nothing(world):
    world.items.stored.clear()
    with pytest.raises(RunEnded):
        world.launch()
    assert world.posted == []


def test_a_run_that_is_stopped_between_claim_and_post_is_not_posted(world):
    def stopped(name, effect):
        reply = effect()
        world.runs.end_badly(world.run_id)
        return reply

    on(world, "GET /runs", stopped)
    with pytest.raises(RunEnded):
        world.launch()
    assert world.posted == []


def test_a_run_that_is_stopped_during_the_post_is_recorded_and_terminated(world):
    def stopped(name, effect):
        world.runs.end_badly(world.run_id)
        return effect()

    on(world, "POST /runs", stopped)
    with pytest.raises(RunEnded, match="terminated"):
        world.launch()
    (run,) = world.posted
    assert run["state"] == "CANCELING"
    assert world.row["pipeline_run_id"] == run["run_id"]


def test_a_retry_terminates_what_a_crashed_attempt_of_an_ended_run_left(world):
    on(world, "POST /runs", lose_answer)
    with pytest.raises(LaunchUncertain):
        world.launch()
    world.runs.end_badly(world.run_id)
    with pytest.raises(RunEnded):
        world.launch()
    assert [run["state"] for run in world.posted] == ["CANCELING"]


def test_a_run_that_has_ended_already_is_not_terminated_again(world):
    world.launch()
    world.posted[0]["state"] = "SUCCEEDED"
    world.runs.end_badly(world.run_id)
    with pytest.raises(RunEnded):
        world.launch()
    assert not any("terminate" in call for call in world.calls)


# --- what pipeline.toml and the compiled pipeline must agree on -------------------------------------------------------


def with_inputs(**changes):
    inputs = {**PIPELINE.inputs, **changes}
    pipeline = replace(PIPELINE)
    pipeline.__dict__["inputs"] = {name: definition for name, definition in inputs.items() if definition}
    return pipeline


def problem_of(world, pipeline, **parameters):
    plan = {**world.plan, "parameters": {**world.plan["parameters"], **parameters}}
    with pytest.raises(InvalidInput) as error:
        runtime_parameters(plan, pipeline, settings_of())
    return str(error.value)


def test_a_parameter_that_is_not_declared_is_told(world):
    assert "k is not declared" in problem_of(world, with_inputs(k=None))


def test_a_parameter_that_is_needed_and_not_given_is_told(world):
    needed = InputDefinition("colour", "STRING", required=True)
    assert "colour is needed" in problem_of(world, with_inputs(colour=needed))


def test_a_parameter_with_a_default_need_not_be_given(world):
    optional = InputDefinition("colour", "STRING", required=False)
    assert "colour" not in runtime_parameters(world.plan, with_inputs(colour=optional), settings_of())


def test_a_standard_parameter_that_is_not_declared_is_left_out(world):
    given = runtime_parameters(world.plan, with_inputs(tuning_output=None), settings_of())
    assert "tuning_output" not in given


def test_a_parameter_of_another_type_is_told(world):
    text = InputDefinition("k", "STRING", required=True)
    assert "k is declared STRING, and 10 is not" in problem_of(world, with_inputs(k=text))


def test_a_truth_value_is_no_number(world):
    assert "k is declared NUMBER_INTEGER, and True is not" in problem_of(world, PIPELINE, k=True)


def test_a_parameter_that_hides_a_standard_one_is_told(world):
    assert "bucket is both" in problem_of(world, PIPELINE, bucket="mine")


def test_every_packaged_pipeline_matches_its_defaults(world):
    for name in PACKAGED.names:
        pipeline = PACKAGED.get(name)
        defaults = {n: p.default for n, p in pipeline.parameters.items()}
        runtime_parameters({**world.plan, "parameters": defaults}, pipeline, settings_of())


def test_an_unknown_pipeline_is_refused(world):
    world.plan["pipeline"] = "nope"
    with pytest.raises(InvalidInput):
        world.launch()


def test_the_names_in_kfp_are_plain(world):
    assert Catalogue({"x": PIPELINE}).get("x") is PIPELINE
    for name in kfp_names(PIPELINE):
        assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
        assert len(name) <= 63
