"""Clean-up: what it deletes, what it leaves, what it remembers, and in which order."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from baton.ending import Request, clean_up
from baton.errors import (
    BatonError,
    CleanUpIncomplete,
    InvalidInput,
    KfpRefused,
    KfpUnavailable,
    NotGoneYet,
    RunEnded,
    TransientAwsError,
    Undecided,
)
from baton.names import run_id_for
from baton.runs import RUN, SEVERAL, Runs
from tests.support.aws_models import values_of
from tests.support.ending_world import (
    EXECUTION,
    HOME,
    LAYOUT,
    NAMES,
    RUN_ID,
    START,
    TAGS,
    EndingWorld,
    FakeRun,
    Killed,
    Thing,
    refuse,
)
from tests.support.logs import warned_of

OTHERS = [
    f"version {LAYOUT.prefix[:-1]}x/data/train_data",
    "version uploads/mnist_kmeans/mnist.pkl.gz",
    "upload uploads/mnist_kmeans/big.pkl",
]
KEPT = [f"version {LAYOUT.key('model/model.tar.gz')}", f"version {LAYOUT.key('predictions/valid_data.csv.out')}"]


def actions(receipt: dict[str, Any]) -> dict[str, str]:
    return {item["kind"]: item["action"] for item in receipt["items"]}


# --- a whole clean-up ---------------------------------------------------------------------------------------------


def test_everything_a_failed_run_made_goes_and_the_receipt_says_so() -> None:
    world = EndingWorld()
    receipt = world.finish()
    assert set(world.sagemaker.things) == {"tuning", "training", "transform"}
    assert world.kfp.runs["kfp-1"].state == "CANCELED"
    assert world.s3.listing() == sorted(KEPT + OTHERS)
    assert actions(receipt) == {
        "tuning": "kept",
        "training": "kept",
        "transform": "stopped",
        "endpoint": "deleted",
        "endpoint_config": "deleted",
        "model": "deleted",
        "pipeline-run": "terminated",
    }
    assert receipt["complete"] is True
    assert receipt["pipeline_run"] == {"id": "kfp-1", "state": "CANCELED"}
    assert receipt["objects"] == {"deleted": 3, "versions": 6, "uploads_aborted": 3}
    assert receipt["kept"] == [LAYOUT.uri("model/"), LAYOUT.uri("predictions/")]
    assert receipt["cause"] is None
    assert receipt["finished_at"].endswith("+00:00")
    assert Runs(world.items).get(RUN_ID)["receipt_at"] == int(world.now)


def test_statuses_of_the_receipt_are_the_last_seen() -> None:
    by_kind = {item["kind"]: item["status"] for item in EndingWorld().finish()["items"]}
    assert by_kind["transform"] == "Stopped"
    assert by_kind["endpoint"] == "InService"
    assert by_kind["training"] == "Completed"


def test_the_tombstone_is_written_before_anything_else_is_done() -> None:
    world = EndingWorld()
    with pytest.raises(NotGoneYet):
        world.call()
    assert world.calls[:2] == ["GetItem run", "UpdateItem run"]
    assert world.row["ended_at"] == START + 600


def test_a_call_after_the_receipt_looks_again_and_changes_nothing() -> None:
    world = EndingWorld()
    first = world.finish()
    before = (list(world.sagemaker.changes), list(world.kfp.changes))
    world.calls.clear()
    world.now += 3600
    again = world.call()
    assert (world.sagemaker.changes, world.kfp.changes) == before
    assert {**again, "finished_at": None} == {**first, "finished_at": None}
    assert again["finished_at"] > first["finished_at"]
    assert len(world.calls) < 40


def test_what_is_still_going_is_named() -> None:
    with pytest.raises(NotGoneYet) as raised:
        EndingWorld().call()
    for words in ("endpoint bt-", "(Deleting)", "transform bt-", "(Stopping)", "pipeline run kfp-1 (CANCELING)"):
        assert words in str(raised.value)


def test_the_receipt_counts_what_all_calls_deleted_from_the_bucket() -> None:
    world = EndingWorld()
    with pytest.raises(NotGoneYet):
        world.call()
    for path in ("data/late", "data/later"):
        world.s3.put(LAYOUT.key(path))
    world.s3.begin_upload(LAYOUT.key("data/half"))
    assert world.finish()["objects"] == {"deleted": 3 + 2, "versions": 6 + 2, "uploads_aborted": 3 + 1}


def test_what_was_made_after_the_first_look_was_deleted_and_what_was_never_made_was_absent() -> None:
    world = EndingWorld()
    for kind in ("endpoint", "model"):
        del world.sagemaker.things[kind]
    with pytest.raises(NotGoneYet):
        world.call()
    world.sagemaker.things["endpoint"] = Thing("Creating")
    for receipt in (world.finish(), world.call()):
        assert {kind: actions(receipt)[kind] for kind in ("endpoint", "endpoint_config", "model")} == {
            "endpoint": "deleted",
            "endpoint_config": "deleted",
            "model": "absent",
        }


# --- the cause ----------------------------------------------------------------------------------------------------


def test_the_cause_is_the_failure_reason_of_the_runs_own_job() -> None:
    world = EndingWorld()
    world.sagemaker.things["training"] = Thing("Failed", reason="AlgorithmError: no data")
    world.sagemaker.things["endpoint"] = Thing("Failed", reason="a later consequence")
    cause = world.finish()["cause"]
    assert cause == {"error": "JobFailed", "cause": f"Training {NAMES['training']}: AlgorithmError: no data"}


def test_the_cause_of_an_endpoint_outlives_the_endpoint() -> None:
    world = EndingWorld()
    world.sagemaker.things["endpoint"] = Thing("Failed", reason="The image cannot be pulled.")
    assert "The image cannot be pulled." in world.finish()["cause"]["cause"]
    assert "endpoint" not in world.sagemaker.things
    assert "The image cannot be pulled." in world.call()["cause"]["cause"]


def test_what_fails_only_because_of_clean_up_is_no_cause() -> None:
    world = EndingWorld()
    world.sagemaker.things["endpoint"].status = "Creating"
    with pytest.raises(NotGoneYet):
        world.call()
    world.sagemaker.things["endpoint"] = Thing("Failed", reason="The model went away.")
    assert world.finish()["cause"] is None


def test_a_job_that_ran_into_its_time_limit_is_a_cause() -> None:
    world = EndingWorld()
    world.sagemaker.things["training"] = Thing("Stopped", secondary="MaxRuntimeExceeded")
    assert "MaxRuntimeExceeded" in world.finish()["cause"]["cause"]


def test_a_strangers_failure_is_no_cause() -> None:
    world = EndingWorld()
    world.sagemaker.things["training"] = Thing("Failed", tags={}, reason="not ours")
    assert world.finish()["cause"] is None


CHILD = {"TrainingJobName": f"{NAMES['tuning']}-001", "FailureReason": "AlgorithmError: k is larger than the data set"}
NO_METRIC = "No training job succeeded in emitting the objective metric."


def test_a_failed_tuning_job_is_told_with_why_one_of_its_training_jobs_failed() -> None:
    world = EndingWorld()
    world.sagemaker.things["tuning"] = Thing("Failed", reason=NO_METRIC)
    world.sagemaker.failed_children = [CHILD]
    cause = world.finish()["cause"]["cause"]
    assert cause == (
        f"Tuning {NAMES['tuning']}: {NO_METRIC} "
        f"Training job {NAMES['tuning']}-001: AlgorithmError: k is larger than the data set"
    )


@pytest.mark.parametrize("children", [[], [{"TrainingJobName": "x"}], [{**CHILD, "FailureReason": NO_METRIC}]])
def test_a_failed_tuning_job_whose_training_jobs_say_no_more_is_told_as_it_is(children: list[dict[str, str]]) -> None:
    world = EndingWorld()
    world.sagemaker.things["tuning"] = Thing("Failed", reason=NO_METRIC)
    world.sagemaker.failed_children = children
    assert world.finish()["cause"]["cause"] == f"Tuning {NAMES['tuning']}: {NO_METRIC}"


def test_clean_up_ends_without_the_training_jobs_that_it_may_not_list_and_logs_why(
    caplog: pytest.LogCaptureFixture,
) -> None:
    world = EndingWorld()
    world.sagemaker.things["tuning"] = Thing("Failed", reason=NO_METRIC)
    operation = "ListTrainingJobsForHyperParameterTuningJob"
    world.sagemaker.denied[operation] = refuse(operation, "AccessDeniedException", "not authorized")
    assert world.finish()["cause"]["cause"] == f"Tuning {NAMES['tuning']}: {NO_METRIC}"
    assert warned_of(caplog, "not authorized")


def test_the_receipt_has_what_the_first_of_the_steps_noted_of_its_failure() -> None:
    world = EndingWorld()
    first = {"error": "ValidationException", "cause": "no such instance type"}
    later = {"error": "JobFailed", "cause": "The transform job ended Failed."}
    noted = {"step_failure_transform": {**later, "noted_at": 9.5}, "step_failure_endpoint": {**first, "noted_at": 9.25}}
    world.items.update("run", RUN_ID, noted)
    assert world.finish()["step_failure"] == {"step": "endpoint", **first}
    assert EndingWorld().finish()["step_failure"] is None


# --- what belongs to others ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("tags", [{}, {"baton:run-id": "bt-another000001"}])
@pytest.mark.parametrize("kind", list(NAMES))
def test_a_resource_without_this_runs_tag_is_never_changed(kind: str, tags: dict[str, str]) -> None:
    world = EndingWorld()
    status = world.sagemaker.things[kind].status
    theirs = "InProgress" if status in ("Completed", "InProgress") else status
    world.sagemaker.things[kind] = Thing(theirs, tags=dict(tags))
    receipt = world.finish()
    assert world.sagemaker.things[kind] == Thing(theirs, tags=dict(tags))
    assert actions(receipt)[kind] == "foreign"
    assert not [change for change in world.sagemaker.changes if change.endswith(NAMES[kind])]


@pytest.mark.parametrize(
    ("display_name", "parameters"),
    [
        ("another", {"run_id": RUN_ID, "execution_arn": EXECUTION}),
        (RUN_ID, {}),
        (RUN_ID, {"run_id": "bt-another000001"}),
        (RUN_ID, {"run_id": RUN_ID, "execution_arn": "arn:of:another:stack"}),
    ],
)
def test_a_foreign_kfp_run_is_never_terminated_even_with_a_colliding_name(
    display_name: str, parameters: dict[str, str]
) -> None:
    world = EndingWorld()
    world.kfp.runs["theirs"] = FakeRun("theirs", "RUNNING", display_name, parameters)
    receipt = world.finish()
    assert world.kfp.runs["theirs"].state == "RUNNING"
    assert "theirs" not in {item["name"] for item in receipt["items"]}


# --- things that take their time ----------------------------------------------------------------------------------


def test_an_endpoint_in_creating_is_waited_for_and_keeps_its_configuration_and_model_until_then() -> None:
    world = EndingWorld()
    world.sagemaker.things["endpoint"].status = "Creating"
    with pytest.raises(NotGoneYet, match=r"endpoint bt-.* \(Creating\) is still there"):
        world.call()
    assert {"endpoint", "endpoint_config", "model"} <= set(world.sagemaker.things)
    assert world.s3.listing() == sorted(KEPT + OTHERS), "the rest goes at once"
    assert actions(world.finish())["endpoint"] == "deleted"


ENUMERATIONS = {
    "tuning": "HyperParameterTuningJobStatus",
    "training": "TrainingJobStatus",
    "transform": "TransformJobStatus",
    "endpoint": "EndpointStatus",
}


@pytest.mark.parametrize(
    ("kind", "status"),
    [(kind, status) for kind, shape in ENUMERATIONS.items() for status in values_of("sagemaker", shape)],
)
def test_every_status_that_sagemaker_has_comes_to_an_end(kind: str, status: str) -> None:
    world = EndingWorld()
    world.sagemaker.things[kind].status = status
    world.finish()
    left = world.sagemaker.things.get(kind)
    assert left is None if kind == "endpoint" else left is None or left.status not in ("InProgress", "Stopping")


@pytest.mark.parametrize("state", ["PENDING", "RUNNING", "PAUSED", "CANCELING"])
def test_every_kfp_state_that_is_no_end_comes_to_one(state: str) -> None:
    world = EndingWorld()
    world.kfp.runs["kfp-1"].state = state
    world.finish()
    assert world.kfp.runs["kfp-1"].state == "CANCELED"


@pytest.mark.parametrize("state", ["SUCCEEDED", "FAILED", "CANCELED", "SKIPPED"])
def test_a_kfp_run_that_has_ended_is_left_as_it_is(state: str) -> None:
    world = EndingWorld()
    world.kfp.runs["kfp-1"].state = state
    receipt = world.finish()
    assert world.kfp.changes == []
    assert actions(receipt)["pipeline-run"] == "kept"
    assert receipt["pipeline_run"]["state"] == state


# --- Kubeflow Pipelines -------------------------------------------------------------------------------------------


def test_kfp_being_down_keeps_nothing_else_from_going() -> None:
    world = EndingWorld()
    world.kfp.down = True
    world.sagemaker.things["transform"].status = "Stopped"
    with pytest.raises(NotGoneYet):
        world.call()
    world.tick()
    with pytest.raises(KfpUnavailable):
        world.call()
    assert set(world.sagemaker.things) == {"tuning", "training", "transform"}
    assert world.s3.listing() == sorted(KEPT + OTHERS)
    assert "receipt" not in world.row
    world.kfp.down = False
    assert world.finish()["complete"] is True


@pytest.mark.parametrize("operation", ["FindExperiment", "ListRuns"])
def test_a_recorded_kfp_run_is_terminated_also_where_the_runs_cannot_be_listed(operation: str) -> None:
    world = EndingWorld()
    world.kfp.errors[operation] = KfpRefused("403 may not list")
    for _ in range(3):
        with suppress(NotGoneYet):
            with pytest.raises(CleanUpIncomplete, match="may not list") as told:
                world.call()
            assert str(told.value).count("may not list") == 1
        world.tick()
    assert world.kfp.runs["kfp-1"].state == "CANCELED"
    assert "receipt" not in world.row


def found_by_name_only() -> EndingWorld:
    """A run whose POST was never answered; clean-up saw once that its KFP run goes on."""
    world = EndingWorld()
    del world.row["pipeline_run_id"]
    world.row["may_be_posted"] = "attempt"
    with pytest.raises(NotGoneYet, match="kfp-1"):
        world.call()
    world.sagemaker.things.clear()
    return world


def test_a_kfp_run_that_was_seen_once_is_named_where_clean_up_can_no_longer_look() -> None:
    world = found_by_name_only()
    world.kfp.errors["ListRuns"] = world.kfp.errors["GetRun"] = KfpRefused("403 may not look")
    with pytest.raises(CleanUpIncomplete, match=re.escape('"pipeline_runs_ended": ["kfp-1"]')):
        world.told([])
    world.told(["kfp-1"])


def test_a_kfp_run_that_was_seen_once_goes_on_also_when_its_experiment_is_gone() -> None:
    world = found_by_name_only()
    world.kfp.experiment = None
    with pytest.raises(NotGoneYet, match="kfp-1"):
        world.call()


def test_both_recorded_runs_and_one_that_a_late_post_made_are_terminated() -> None:
    world = EndingWorld()
    world.row["worker_run_id"] = "kfp-2"
    for run_id in ("kfp-2", "late"):
        world.kfp.runs[run_id] = FakeRun(run_id, "RUNNING")
    receipt = world.finish()
    assert {run.state for run in world.kfp.runs.values()} == {"CANCELED"}
    assert receipt["pipeline_run"]["id"] == "kfp-2", "the run that claimed the work"


def test_kfp_is_not_asked_about_a_run_that_was_certainly_never_launched() -> None:
    world = EndingWorld()
    world.kfp.down = True
    del world.row["pipeline_run_id"]
    assert "launch_lease_until" not in world.row, "the attempt freed its lease"
    receipt = world.finish()
    assert receipt["complete"] is True
    assert receipt["pipeline_run"] is None


def test_kfp_is_not_asked_about_an_attempt_that_the_tombstone_kept_from_posting() -> None:
    """Where KFP has moved meanwhile, a person would have to say what became of a run that there never was."""
    world = EndingWorld()
    del world.row["pipeline_run_id"]
    Runs(world.items).claim_launch(RUN_ID, "attempt", 60, HOME)
    looks_elsewhere(world)
    world.kfp.down = True
    receipt = world.finish()
    assert (receipt["complete"], receipt["pipeline_run"]) == (True, None)


def test_kfp_is_asked_about_a_run_whose_launch_is_uncertain() -> None:
    world = EndingWorld()
    del world.row["pipeline_run_id"]
    Runs(world.items).claim_launch(RUN_ID, "attempt", 60, HOME)
    Runs(world.items).renew_launch(RUN_ID, "attempt", 60, 20)
    receipt = world.finish()
    assert world.kfp.runs["kfp-1"].state == "CANCELED"
    assert receipt["pipeline_run"] == {"id": "kfp-1", "state": "CANCELED"}


def test_kfp_is_asked_about_a_run_that_an_unanswered_post_may_have_made() -> None:
    world = EndingWorld()
    del world.row["pipeline_run_id"]
    world.row["may_be_posted"] = "attempt"
    assert "launch_lease_until" not in world.row, "a later attempt freed its lease"
    world.finish()
    assert world.kfp.runs["kfp-1"].state == "CANCELED"


@pytest.mark.parametrize("said_in_the_row", [True, False])
def test_what_an_unanswered_post_made_is_looked_for_in_the_experiment_of_its_launch(said_in_the_row: bool) -> None:
    """As when KfpExperiment changes in the middle of a run; a row of an older Baton says nothing."""
    world = EndingWorld()
    del world.row["pipeline_run_id"]
    world.row["may_be_posted"] = "attempt"
    if said_in_the_row:
        world.experiment = "another"
    else:
        del world.row["kfp_experiment"]
    world.finish()
    assert world.kfp.runs["kfp-1"].state == "CANCELED"


def test_a_kfp_run_that_is_deleted_while_it_ends_is_gone() -> None:
    world = EndingWorld()
    with pytest.raises(NotGoneYet, match="pipeline run kfp-1"):
        world.call()
    world.kfp.runs.clear()
    assert world.finish()["pipeline_run"] == {"id": "kfp-1", "state": None}


def test_a_kfp_run_that_somebody_deleted_is_no_obstacle() -> None:
    world = EndingWorld()
    world.kfp.runs.clear()
    assert world.finish()["pipeline_run"] == {"id": "kfp-1", "state": None}


ELSEWHERE = "http://another.example.org, namespace kubeflow"


def looks_elsewhere(world: EndingWorld) -> dict[str, FakeRun]:
    """Give clean-up another Kubeflow Pipelines, which knows nothing of the run; return what is left at the first."""
    there, world.kfp.runs = world.kfp.runs, {}
    world.installation = ELSEWHERE
    return there


def test_a_kfp_run_that_is_not_found_at_another_installation_is_not_taken_for_gone() -> None:
    world = EndingWorld()
    there = looks_elsewhere(world)
    with pytest.raises(CleanUpIncomplete) as raised:
        world.finish()
    for words in (f"launched at {HOME}", f"looks at {ELSEWHERE}", "pipeline run kfp-1", '"pipeline_runs_ended": true'):
        assert words in str(raised.value)
    assert "receipt" not in world.row
    assert set(world.sagemaker.things) == {"tuning", "training", "transform"}, "all else is done"
    assert world.s3.listing() == sorted(KEPT + OTHERS)
    world.kfp.runs, world.installation = there, HOME
    assert actions(world.finish())["pipeline-run"] == "terminated"


def test_a_kfp_run_that_nobody_recorded_may_be_at_another_installation_too() -> None:
    world = EndingWorld()
    del world.row["pipeline_run_id"]
    world.row["may_be_posted"] = "attempt"
    looks_elsewhere(world)
    with pytest.raises(CleanUpIncomplete, match="pipeline run of this name is not found"):
        world.finish()


def test_a_kfp_run_that_is_found_is_ended_whatever_its_installation_was_called() -> None:
    world = EndingWorld()
    world.installation = ELSEWHERE
    assert actions(world.finish())["pipeline-run"] == "terminated"


def test_a_kfp_run_of_which_only_the_row_of_an_older_baton_tells_is_looked_for_as_before() -> None:
    world = EndingWorld()
    del world.row["kfp_installation"]
    looks_elsewhere(world)
    assert world.finish()["pipeline_run"] == {"id": "kfp-1", "state": None}


@pytest.mark.parametrize("succeeded", [True, False])
def test_what_was_seen_to_have_ended_where_it_was_launched_needs_no_look_elsewhere(succeeded: bool) -> None:
    """As when the janitor, or the event of a failure, has a run looked at again after a deployment."""
    world = EndingWorld()
    first = world.finish(succeeded)
    looks_elsewhere(world)
    world.stepfunctions.status = "SUCCEEDED" if succeeded else "FAILED"
    again = world.finish(succeeded=None)
    assert {**again, "finished_at": None} == {**first, "finished_at": None}
    assert actions(again)["pipeline-run"] == "terminated"


def test_a_kfp_run_that_was_seen_to_be_deleted_where_it_was_launched_needs_no_look_elsewhere() -> None:
    world = EndingWorld()
    world.kfp.runs.clear()
    first = world.finish()
    looks_elsewhere(world)
    assert {**world.finish(succeeded=None), "finished_at": None} == {**first, "finished_at": None}


def test_a_kfp_run_that_a_post_may_still_make_is_not_noted_as_ended() -> None:
    world = EndingWorld()
    del world.row["pipeline_run_id"]
    world.row["may_be_posted"] = "attempt"
    world.kfp.runs.clear()
    world.finish()
    looks_elsewhere(world)
    with pytest.raises(CleanUpIncomplete, match=f"launched at {HOME}"):
        world.finish()


def test_a_kfp_run_that_is_recorded_during_the_look_is_looked_at_before_they_are_noted_as_ended() -> None:
    """Two POSTs without an answer: one run is found, and has ended; the other one's attempt records it, and dies."""
    world = EndingWorld()
    del world.row["pipeline_run_id"]
    world.row["may_be_posted"] = SEVERAL
    world.kfp.runs = {"kfp-1": FakeRun("kfp-1", "FAILED")}

    def record(_number: int) -> None:
        if world.calls[-1] == "KFP.ListRuns":
            world.interrupt = lambda number: None
            world.kfp.runs["kfp-2"] = FakeRun("kfp-2", "RUNNING")
            Runs(world.items).record_launch(RUN_ID, "kfp-2")

    world.interrupt = record
    with pytest.raises(NotGoneYet, match=r"pipeline run kfp-2 \(recorded a moment ago\)"):
        world.call()
    assert "pipeline_runs_ended" not in world.row
    world.finish()
    assert world.kfp.runs["kfp-2"].state == "CANCELED"
    assert json.loads(world.row["pipeline_runs_ended"]) == {"kfp-1": "FAILED", "kfp-2": "CANCELED"}


def test_what_was_seen_to_go_on_where_it_was_launched_is_not_believed_to_have_ended_elsewhere() -> None:
    world = EndingWorld()
    with pytest.raises(NotGoneYet, match="pipeline run kfp-1"):
        world.call()
    world.tick()
    looks_elsewhere(world)
    with pytest.raises(CleanUpIncomplete, match="kfp-1"):
        world.finish()


def test_a_person_may_say_that_the_kfp_run_elsewhere_has_ended_and_the_receipt_tells_it() -> None:
    world = EndingWorld()
    looks_elsewhere(world)
    with pytest.raises(CleanUpIncomplete):
        world.finish()
    request = Request.parse({"execution_arn": EXECUTION, "run_id": RUN_ID, "pipeline_runs_ended": True}, "bt-")
    receipt = clean_up(request, world.tools())
    [item] = [item for item in receipt["items"] if item["kind"] == "pipeline-run"]
    assert (item["name"], item["action"], item["status"]) == ("kfp-1", "unseen", None)
    assert HOME in item["reason"]
    assert actions(world.finish(succeeded=None))["pipeline-run"] == "unseen", "the janitor's later look goes by it"


def test_a_persons_word_counts_nothing_where_clean_up_can_look() -> None:
    world = EndingWorld()
    with pytest.raises(NotGoneYet, match="pipeline run kfp-1"):
        clean_up(Request(EXECUTION, RUN_ID, False, pipeline_runs_ended=True), world.tools())
    assert actions(world.finish())["pipeline-run"] == "terminated"


LOOKS = ("FindExperiment", "ListRuns", "GetRun")


def forbids(world: EndingWorld) -> None:
    """KfpUser was changed: the new user may not read what the old one made."""
    refused = KfpRefused("Kubeflow Pipelines answered 403: not authorized")
    world.kfp.errors = dict.fromkeys(LOOKS, refused)


def is_down(world: EndingWorld) -> None:
    world.kfp.down = True


def has_no_cluster(world: EndingWorld) -> None:
    def connect() -> Any:
        raise refuse("DescribeCluster", "ResourceNotFoundException", "No cluster found for name: flow.")

    world.connect = connect


BLIND = pytest.mark.parametrize("blind", [forbids, is_down, has_no_cluster])


def items_of_pipeline_runs(receipt: dict[str, Any]) -> list[tuple[str, str]]:
    return [(item["name"], item["action"]) for item in receipt["items"] if item["kind"] == "pipeline-run"]


def blinded(blind: Callable[[EndingWorld], None]) -> EndingWorld:
    """A run of which only its KFP run may still be there, and a clean-up that cannot look at that."""
    world = EndingWorld()
    world.sagemaker.things.clear()
    blind(world)
    return world


@BLIND
def test_a_person_may_say_which_kfp_runs_have_ended_where_clean_up_cannot_look(blind: Any) -> None:
    world = blinded(blind)
    with pytest.raises((CleanUpIncomplete, KfpUnavailable)):
        world.call()
    assert "receipt" not in world.row
    receipt = world.told(["kfp-1"])
    assert items_of_pipeline_runs(receipt) == [("kfp-1", "unseen")]
    assert HOME in receipt["items"][-1]["reason"]
    assert items_of_pipeline_runs(world.call(succeeded=None)) == [("kfp-1", "unseen")], "the janitor's later look"


@BLIND
def test_the_error_says_what_a_person_may_say(blind: Any) -> None:
    with pytest.raises((CleanUpIncomplete, KfpUnavailable), match=re.escape('"pipeline_runs_ended": ["kfp-1"]')):
        blinded(blind).call()


@BLIND
@pytest.mark.parametrize("ended", [True, [], ["kfp-2"], False, None])
def test_the_word_counts_only_for_the_kfp_runs_that_it_names(blind: Any, ended: Any) -> None:
    """Where it was launched at this installation; of another, true is enough."""
    world = blinded(blind)
    world.row["worker_run_id"] = "kfp-2"
    with pytest.raises((CleanUpIncomplete, KfpUnavailable)):
        world.told(ended)
    assert "receipt" not in world.row
    receipt = world.told(["kfp-1", "kfp-2"])
    assert sorted(items_of_pipeline_runs(receipt)) == [("kfp-1", "unseen"), ("kfp-2", "unseen")]


@BLIND
def test_what_an_unanswered_post_may_have_made_needs_a_word_too(blind: Any) -> None:
    world = blinded(blind)
    del world.row["pipeline_run_id"]
    world.row["may_be_posted"] = "attempt"
    with pytest.raises((CleanUpIncomplete, KfpUnavailable)):
        world.call()
    assert items_of_pipeline_runs(world.told([])) == [], "there is none"
    assert items_of_pipeline_runs(world.told(["kfp-9"])) == [("kfp-9", "unseen")], "it was found by its name"


def test_what_is_seen_of_a_kfp_run_counts_more_than_a_persons_word_for_it() -> None:
    """The word is needed where the runs may not be listed; the recorded one may be read all the same."""
    world = blinded(lambda world: world.kfp.errors.update(ListRuns=KfpRefused("403: may not list")))
    world.kfp.runs["kfp-1"].state = "FAILED"
    receipt = world.told(["kfp-1", "kfp-9"])
    assert items_of_pipeline_runs(receipt) == [("kfp-1", "kept"), ("kfp-9", "unseen")]
    assert receipt["pipeline_run"] == {"id": "kfp-1", "state": "FAILED"}


def test_what_is_seen_to_go_on_has_not_ended_whatever_a_person_says() -> None:
    world = EndingWorld()
    with pytest.raises(NotGoneYet, match="pipeline run kfp-1"):
        world.told(["kfp-1"])
    assert world.kfp.runs["kfp-1"].state == "CANCELING"
    assert items_of_pipeline_runs(world.finish()) == [("kfp-1", "terminated")]


def test_a_kfp_run_that_may_be_read_but_not_terminated_has_not_ended_whatever_a_person_says() -> None:
    world = blinded(lambda world: world.kfp.errors.update(TerminateRun=KfpRefused("403: read only")))
    with pytest.raises(CleanUpIncomplete, match="read only"):
        world.told(["kfp-1"])
    assert "receipt" not in world.row


def test_a_word_that_nobody_needed_is_not_remembered() -> None:
    world = EndingWorld()
    with pytest.raises(NotGoneYet):
        world.told(["kfp-1"])
    world.sagemaker.things.clear()
    forbids(world)
    with pytest.raises(CleanUpIncomplete, match="403"):
        world.call()


def test_what_clean_up_saw_to_have_ended_is_looked_at_again_all_the_same() -> None:
    """A POST may be committed after that; without a person's word only a look tells."""
    world = EndingWorld()
    world.finish()
    forbids(world)
    with pytest.raises(CleanUpIncomplete, match="403"):
        world.call()


def test_a_person_may_name_the_kfp_runs_of_another_installation_too() -> None:
    world = EndingWorld()
    world.sagemaker.things.clear()
    looks_elsewhere(world)
    with pytest.raises(CleanUpIncomplete):
        world.told(["kfp-2"])
    assert items_of_pipeline_runs(world.told(["kfp-1"])) == [("kfp-1", "unseen")]


@pytest.mark.parametrize("ended", ["true", "kfp-1", 1, {"kfp-1": True}, [1]])
def test_a_word_of_another_form_is_refused(ended: Any) -> None:
    with pytest.raises(InvalidInput, match="pipeline_runs_ended"):
        EndingWorld().told(ended)


def test_an_experiment_that_somebody_deleted_is_no_obstacle() -> None:
    world = EndingWorld()
    world.kfp.experiment = None
    world.finish()
    assert world.kfp.runs["kfp-1"].state == "CANCELED"


def test_a_job_that_a_dying_pod_creates_after_the_first_look_is_found() -> None:
    world = EndingWorld()
    del world.sagemaker.things["transform"]

    def create(number: int) -> None:
        if world.calls[-1] == "KFP.TerminateRun":
            world.sagemaker.things["transform"] = Thing("InProgress")

    world.interrupt = create
    with pytest.raises(NotGoneYet, match=r"transform .* \(InProgress\)"):
        world.call()
    assert actions(world.finish())["transform"] == "stopped"


def test_an_object_that_a_dying_pod_writes_after_the_deletions_is_found() -> None:
    world = EndingWorld()

    def write(number: int) -> None:
        if world.calls[-1] == "S3.delete_objects" and world.calls.count("S3.delete_objects") == 1:
            world.s3.put(LAYOUT.key("data/late"))

    world.interrupt = write
    with pytest.raises(NotGoneYet, match="data/late"):
        world.call()
    world.finish()
    assert world.s3.listing() == sorted(KEPT + OTHERS)


# --- errors -------------------------------------------------------------------------------------------------------


def test_a_denied_deletion_keeps_nothing_else_from_going_and_is_named_in_the_end() -> None:
    world = EndingWorld()
    world.sagemaker.denied["DeleteModel"] = refuse("DeleteModel", "AccessDeniedException", "not authorized")
    with pytest.raises(NotGoneYet, match=r"AccessDeniedException.*DeleteModel"):
        world.call()
    with pytest.raises(CleanUpIncomplete, match=r"AccessDeniedException.*DeleteModel"):
        world.finish()
    assert set(world.sagemaker.things) == {"tuning", "training", "transform", "model"}
    assert "receipt" not in world.row


def test_a_deletion_that_is_denied_because_another_call_made_it_is_no_error() -> None:
    world = EndingWorld()
    del world.sagemaker.things["endpoint"]
    world.sagemaker.things["transform"].status = "Completed"
    world.kfp.runs["kfp-1"].state = "FAILED"
    world.sagemaker.denied["DeleteModel"] = refuse("DeleteModel", "AccessDeniedException", "no policy allows it")

    def delete(_number: int) -> None:
        if world.calls[-1] == "SageMaker.DeleteEndpointConfig":
            world.sagemaker.things.pop("model", None)

    world.interrupt = delete
    assert actions(world.call())["model"] == "deleted", "nothing else goes on, so no later call hides the denial"


@pytest.mark.parametrize(
    ("operation", "stays"),
    [
        ("DescribeModel", {"model"}),
        ("DescribeEndpointConfig", {"endpoint_config"}),
        # A configuration and a model must outlive the endpoint that nobody sees.
        ("DescribeEndpoint", {"endpoint", "endpoint_config", "model"}),
        ("DescribeTransformJob", {"transform"}),
        ("ListTags", set(NAMES)),
    ],
)
def test_what_aws_does_not_show_keeps_nothing_else_from_going(operation: str, stays: set[str]) -> None:
    world = EndingWorld()
    world.sagemaker.denied[operation] = refuse(operation, "AccessDeniedException", "not authorized")
    with pytest.raises(CleanUpIncomplete, match=rf"AccessDeniedException.*{operation}"):
        world.finish()
    ended = {"endpoint", "endpoint_config", "model"} - stays
    assert not ended & set(world.sagemaker.things)
    assert stays <= set(world.sagemaker.things)
    assert world.sagemaker.things["transform"].status == ("InProgress" if "transform" in stays else "Stopped")
    assert world.kfp.runs["kfp-1"].state == "CANCELED"
    assert world.s3.listing() == sorted(KEPT + OTHERS)
    assert "receipt" not in world.row
    world.sagemaker.denied.clear()
    assert world.finish()["complete"]
    assert set(world.sagemaker.things) == {"tuning", "training", "transform"}


def test_a_kept_endpoint_that_aws_does_not_show_is_neither_kept_nor_deleted() -> None:
    world = EndingWorld(after="keep")
    world.sagemaker.denied["DescribeEndpoint"] = refuse("DescribeEndpoint", "AccessDeniedException", "not authorized")
    with pytest.raises(CleanUpIncomplete, match=r"AccessDeniedException.*DescribeEndpoint"):
        world.finish(True)
    assert "endpoint_kept_at" not in world.row
    assert world.kfp.runs["kfp-1"].state == "CANCELED"
    world.sagemaker.denied.clear()
    assert actions(world.finish(True))["endpoint"] == "kept"


def test_a_success_has_no_cause_whatever_failed_after_it() -> None:
    world = EndingWorld()
    world.sagemaker.things["endpoint"] = Thing("Failed", reason="after the smoke test")
    assert world.finish(True)["cause"] is None


DESCRIBES = ("HyperParameterTuningJob", "TrainingJob", "TransformJob", "Endpoint", "EndpointConfig", "Model")


@pytest.mark.parametrize("failed", ["training", "endpoint", "both"])
@pytest.mark.parametrize("operation", [*(f"Describe{kind}" for kind in DESCRIBES), "ListTags"])
@pytest.mark.parametrize("code", ["ThrottlingException", "AccessDeniedException"])
def test_the_cause_is_the_same_where_aws_did_not_show_one_thing_at_first(
    failed: str, operation: str, code: str
) -> None:
    def world() -> EndingWorld:
        new = EndingWorld()
        for kind in ("training", "endpoint") if failed == "both" else (failed,):
            new.sagemaker.things[kind] = Thing("Failed", reason=f"The {kind} has no capacity.")
        return new

    undisturbed, disturbed = world(), world()
    disturbed.sagemaker.denied[operation] = refuse(operation, code, "not now")
    for _ in range(2):
        with pytest.raises((NotGoneYet, TransientAwsError, CleanUpIncomplete)):
            disturbed.call()
        disturbed.tick()
    disturbed.sagemaker.denied.clear()
    receipt, late = undisturbed.finish(), disturbed.finish()
    assert receipt["cause"]
    assert (late["cause"], late["items"]) == (receipt["cause"], receipt["items"]), "as when first seen"


@pytest.mark.parametrize(
    ("kind", "before", "after"),
    [
        ("endpoint", Thing("Creating"), Thing("Failed", reason="No capacity, much later.")),
        ("transform", Thing("InProgress"), Thing("Failed", reason="It was stopped half-way.")),
        ("training", Thing("InProgress"), Thing("Stopped", secondary="MaxRuntimeExceeded")),
    ],
)
def test_what_fails_while_clean_up_waits_to_see_something_else_is_no_cause(
    kind: str, before: Thing, after: Thing
) -> None:
    """The run had failed by then, for a reason that SageMaker does not know."""
    world = EndingWorld()
    world.sagemaker.things[kind] = before
    other = "DescribeHyperParameterTuningJob"
    world.sagemaker.denied[other] = refuse(other, "ThrottlingException", "Rate exceeded")
    with pytest.raises((NotGoneYet, TransientAwsError)):
        world.call()
    world.sagemaker.denied.clear()
    world.sagemaker.things[kind] = after
    assert world.finish()["cause"] is None


def test_a_job_that_its_time_limit_stopped_is_the_cause_also_where_something_else_is_seen_later() -> None:
    world = EndingWorld()
    world.sagemaker.things["training"] = Thing("Stopped", secondary="MaxRuntimeExceeded")
    world.sagemaker.denied["DescribeEndpoint"] = refuse("DescribeEndpoint", "ThrottlingException", "Rate exceeded")
    with pytest.raises((NotGoneYet, TransientAwsError)):
        world.call()
    world.sagemaker.denied.clear()
    assert "MaxRuntimeExceeded" in world.finish()["cause"]["cause"]


def test_a_success_has_no_cause_though_a_sweep_that_took_it_for_failed_found_one() -> None:
    world = EndingWorld()
    world.sagemaker.things["transform"] = Thing("Failed", reason="after the smoke test")
    world.items.update("run", RUN_ID, {"cause": json.dumps({"error": "JobFailed", "cause": "as of a sweep"})})
    assert world.finish(True)["cause"] is None


def test_a_success_that_is_overruled_later_has_no_cause_in_what_failed_after_it() -> None:
    world = EndingWorld()
    world.sagemaker.things["transform"] = Thing("Failed", reason="after the smoke test")
    world.finish(True)
    world.stepfunctions.status = "ABORTED"
    assert world.finish(None)["cause"] is None


def test_the_first_cause_stays_though_a_call_that_began_before_it_sees_something_new() -> None:
    world = EndingWorld()
    failed = world.sagemaker.things.pop("training")
    failed.status, failed.reason = "Failed", "A pod made it after the sweep."
    # What there is has been seen, so the next call has nothing to note but the cause.
    denied = "DescribeTransformJob"
    del world.sagemaker.things["transform"]
    world.sagemaker.denied[denied] = refuse(denied, "ThrottlingException", "Rate exceeded")
    with pytest.raises((NotGoneYet, TransientAwsError)):
        world.call()
    world.sagemaker.denied.clear()
    assert "cause" not in world.row

    def overtake(_number: int) -> None:
        if world.calls[-1] == "SageMaker.DescribeHyperParameterTuningJob":
            world.interrupt = lambda _number: None
            with suppress(BatonError):
                world.call()
            assert json.loads(world.row["cause"]) is None
            world.sagemaker.things["training"] = failed

    world.interrupt = overtake
    with suppress(BatonError):
        world.call()
    assert "made_training" in world.row
    assert world.finish()["cause"] is None


def test_a_cause_that_another_call_saw_before_its_evidence_went_is_kept() -> None:
    """After each call of one clean-up another one runs, which AWS does not show every job, and deletes the endpoint."""
    causes = set()
    for point in range(1, 40):
        world = EndingWorld()
        world.sagemaker.things["endpoint"] = Thing("Failed", reason="There is no capacity.")

        def overtake(number: int, point: int = point, world: EndingWorld = world) -> None:
            if number == point:
                world.interrupt = lambda _number: None
                denial = refuse("DescribeTrainingJob", "ThrottlingException", "Rate exceeded")
                world.sagemaker.denied["DescribeTrainingJob"] = denial
                with suppress(BatonError):
                    world.call()
                world.sagemaker.denied.clear()
                world.tick()

        world.interrupt = overtake
        with suppress(BatonError):
            world.call()
        world.interrupt = lambda _number: None
        causes.add(world.finish()["cause"]["cause"] if world.finish()["cause"] else None)
    assert causes == {f"Endpoint {NAMES['endpoint']}: There is no capacity."}


@pytest.mark.parametrize("operation", ["DescribeModel", "ListTags", "StopTransformJob", "DeleteEndpoint"])
def test_throttling_is_a_retryable_error_wherever_it_strikes(operation: str) -> None:
    world = EndingWorld()
    world.sagemaker.denied[operation] = refuse(operation, "ThrottlingException", "Rate exceeded")
    with pytest.raises((TransientAwsError, NotGoneYet), match="Rate exceeded"):
        world.call()
    world.sagemaker.denied.clear()
    assert world.finish()["complete"] is True


# --- a kept endpoint ----------------------------------------------------------------------------------------------


def expiring(world: EndingWorld) -> set[str]:
    return {kind for kind, thing in world.sagemaker.things.items() if "baton:expires-at" in thing.tags}


def test_a_succeeded_run_whose_plan_keeps_the_endpoint_keeps_it_without_expiry() -> None:
    world = EndingWorld(after="keep")
    receipt = world.finish(succeeded=True)
    assert world.sagemaker.things["endpoint"].status == "InService"
    assert expiring(world) == {"tuning", "training", "transform"}
    assert {k: a for k, a in actions(receipt).items() if k in ("endpoint", "endpoint_config", "model")} == {
        "endpoint": "kept",
        "endpoint_config": "kept",
        "model": "kept",
    }
    assert NAMES["endpoint"] in receipt["kept"]
    assert world.row["endpoint_kept_at"] == START + 600


def test_an_endpoint_is_kept_only_when_it_is_seen_that_it_expires_no_more() -> None:
    """As when the tag is put back, or a list of tags is older than their removal."""
    world = EndingWorld(after="keep")
    world.sagemaker.things["transform"].status = "Completed"
    world.kfp.runs["kfp-1"].state = "SUCCEEDED"

    def put_back(_number: int) -> None:
        if world.calls[-1] == "SageMaker.DeleteTags":
            world.interrupt = lambda number: None
            world.sagemaker.things["endpoint"].tags = dict(TAGS)

    world.interrupt = put_back
    with pytest.raises(NotGoneYet, match=f"endpoint {NAMES['endpoint']}"):
        world.call(succeeded=True)
    assert "receipt" not in world.row
    assert actions(world.call(succeeded=True))["endpoint"] == "kept"
    assert "endpoint" not in expiring(world)


@pytest.mark.parametrize(
    ("after", "succeeded"),
    [("delete", True), ("hold", True), ("keep", False), ("delete", False), ("delete", None), ("hold", None)],
)
def test_any_other_endpoint_goes(after: str, succeeded: bool | None) -> None:
    world = EndingWorld(after=after)
    world.stepfunctions.status = "ABORTED"
    world.finish(succeeded=succeeded)
    assert "endpoint" not in world.sagemaker.things


def test_a_run_that_fails_after_it_kept_its_endpoint_loses_it() -> None:
    world = EndingWorld(after="keep")
    world.finish(succeeded=True)
    with pytest.raises(NotGoneYet):
        world.call(succeeded=False)
    assert "receipt" not in world.row, "the janitor finds it, should nobody come back"
    assert actions(world.finish(succeeded=False))["endpoint"] == "deleted"
    assert set(world.sagemaker.things) == {"tuning", "training", "transform"}


@pytest.mark.parametrize("state", [None, "foreign", "Deleting", "Failed", "OutOfService"])
def test_no_run_succeeds_without_the_endpoint_that_its_plan_keeps(state: str | None) -> None:
    world = EndingWorld(after="keep")
    if state is None:
        del world.sagemaker.things["endpoint"]
    elif state == "foreign":
        world.sagemaker.things["endpoint"].tags = {}
    else:
        world.sagemaker.things["endpoint"].status = state
    is_what = state if state in ("Failed", "OutOfService") else "not there"
    with pytest.raises(CleanUpIncomplete, match=f"{NAMES['endpoint']}, which the plan keeps, is {is_what}"):
        world.finish(True)
    assert world.kfp.runs["kfp-1"].state == "CANCELED", "all else is ended"
    assert world.sagemaker.things["transform"].status == "Stopped"
    assert world.s3.listing() == sorted(KEPT + OTHERS)
    world.stepfunctions.status = "FAILED"
    assert world.finish(None)["complete"]


def test_a_kept_endpoint_that_its_owner_deleted_takes_configuration_and_model_along() -> None:
    world = EndingWorld(after="keep")
    world.finish(succeeded=True)
    world.stepfunctions.status = "SUCCEEDED"
    del world.sagemaker.things["endpoint"]
    world.finish(succeeded=None)
    assert set(world.sagemaker.things) == {"tuning", "training", "transform"}


# --- who does not know how the run ended asks Step Functions ------------------------------------------------------


def _ends(status: str) -> bool:
    return status not in ("RUNNING", "PENDING_REDRIVE")


EXECUTION_STATUSES = values_of("stepfunctions", "ExecutionStatus")


@pytest.mark.parametrize("status", [s for s in EXECUTION_STATUSES if _ends(s) and s != "SUCCEEDED"])
def test_an_execution_that_ended_badly_loses_what_its_clean_up_had_kept(status: str) -> None:
    world = EndingWorld(after="keep")
    world.finish(succeeded=True)
    world.stepfunctions.status = status
    assert actions(world.finish(succeeded=None))["endpoint"] == "deleted"
    assert set(world.sagemaker.things) == {"tuning", "training", "transform"}
    assert not {"ended_well", "endpoint_kept_at", "confirmed_at"} & set(world.row)


def test_an_execution_that_succeeded_keeps_its_endpoint_and_is_not_asked_about_again() -> None:
    world = EndingWorld(after="keep")
    world.finish(succeeded=True)
    world.stepfunctions.status = "SUCCEEDED"
    world.now += 60
    assert actions(world.finish(succeeded=None))["endpoint"] == "kept"
    assert world.row["confirmed_at"] == int(world.now)
    world.stepfunctions.status = None
    assert actions(world.finish(succeeded=None))["endpoint"] == "kept"
    assert world.calls.count("States.DescribeExecution") == 1


@pytest.mark.parametrize(
    ("status", "says"),
    [(s, "confirmed_at" if s == "SUCCEEDED" else "ended_badly_at") for s in EXECUTION_STATUSES if _ends(s)],
)
def test_the_tombstone_says_in_one_update_how_the_run_ended(status: str, says: str) -> None:
    world = EndingWorld()
    world.stepfunctions.status = status

    def kill(_number: int) -> None:
        if "ended_at" in world.row:
            raise Killed

    world.interrupt = kill
    with pytest.raises(Killed):
        world.call(succeeded=None)
    assert world.calls == ["GetItem run", "States.DescribeExecution", "UpdateItem run"]
    assert says in world.row
    world.interrupt = lambda number: None
    world.finish(succeeded=None)
    assert world.calls.count("States.DescribeExecution") == 1
    assert set(world.sagemaker.things) == {"tuning", "training", "transform"}


@pytest.mark.parametrize("status", [s for s in EXECUTION_STATUSES if not _ends(s)])
@pytest.mark.parametrize("before", ["its own clean-up", "its own clean-up's tombstone"])
def test_while_the_execution_goes_on_nobody_who_does_not_know_touches_an_endpoint_to_keep(
    before: str, status: str
) -> None:
    world = EndingWorld(after="keep")
    if before == "its own clean-up":
        world.finish(succeeded=True)
    else:
        Runs(world.items).end_well(RUN_ID)
    world.stepfunctions.status = status
    receipt = world.row.get("receipt")
    for _ in range(3):
        with pytest.raises((NotGoneYet, Undecided)) as raised:
            world.call(succeeded=None)
        world.tick()
    assert raised.type is Undecided
    assert {"endpoint", "endpoint_config", "model"} <= set(world.sagemaker.things)
    assert not [change for change in world.sagemaker.changes if change.startswith("Delete") and "Tags" not in change]
    assert world.s3.listing() == sorted(KEPT + OTHERS), "everything else is done"
    assert world.kfp.runs["kfp-1"].state == "CANCELED"
    assert world.row.get("receipt") == receipt, "who cannot decide gives no receipt"


@pytest.mark.parametrize("status", [s for s in EXECUTION_STATUSES if not _ends(s)])
@pytest.mark.parametrize("after", ["delete", "hold", "keep"])
def test_the_late_event_of_an_abort_changes_nothing_of_the_redriven_run(after: str, status: str) -> None:
    """Stopped in Await training, the event not delivered yet, redriven, and only then it comes."""
    world = EndingWorld(after=after)
    world.stepfunctions.status = status
    before = (dict(world.row), world.end_state())
    for _ in range(3):
        with pytest.raises(Undecided, match=f"is {status}"):
            world.call(succeeded=None)
    assert (world.row, world.end_state()) == before
    assert world.sagemaker.changes == world.kfp.changes == []
    assert set(world.calls) == {"GetItem run", "States.DescribeExecution"}


def test_a_run_whose_time_is_up_fails_while_its_execution_goes_on() -> None:
    world = EndingWorld(after="keep")
    world.stepfunctions.status = "RUNNING"
    with pytest.raises(NotGoneYet):
        world.expire()
    assert "ended_badly_at" in world.row
    world.tick()
    assert world.expire()["complete"]
    assert set(world.sagemaker.things) == {"tuning", "training", "transform"}
    with pytest.raises(RunEnded):
        world.call(True)


@pytest.mark.parametrize("status", ["RUNNING", "SUCCEEDED"])
@pytest.mark.parametrize("own", ["begun", "done"])
def test_a_run_whose_time_is_up_keeps_what_its_success_keeps(own: str, status: str) -> None:
    """The janitor read the row before; its own clean-up may wait for long-lived pods past the expiry."""
    world = EndingWorld(after="keep")
    world.stepfunctions.status = "RUNNING"
    with pytest.raises(NotGoneYet):
        world.call(True)
    if own == "done":
        world.finish(True)
    world.stepfunctions.status = status
    for _ in range(5):
        with suppress(NotGoneYet, Undecided):
            world.expire()
        world.tick()
    assert "ended_badly_at" not in world.row
    assert world.finish(True)["complete"]
    assert world.sagemaker.things["endpoint"].status == "InService"


def test_a_success_that_begins_while_the_expiry_is_asked_for_goes_on() -> None:
    world = EndingWorld(after="keep")
    world.stepfunctions.status = "RUNNING"

    def begin(_call: int) -> None:
        if world.calls[-1] == "States.DescribeExecution":
            world.interrupt = lambda _call: None
            with suppress(NotGoneYet):
                world.call(True)

    world.interrupt = begin
    with suppress(NotGoneYet, Undecided):
        world.expire()
    assert "ended_badly_at" not in world.row
    assert world.finish(True)["complete"]


def test_the_late_event_of_an_abort_in_plan_run_leaves_no_tombstone_for_the_plan_of_the_redrive() -> None:
    world = EndingWorld()
    del world.items.stored[RUN, RUN_ID]
    world.stepfunctions.status = "RUNNING"
    with pytest.raises(Undecided):
        world.call(succeeded=None)
    assert world.items.stored == {}


def test_an_execution_that_nobody_remembers_and_nobody_confirmed_loses_its_endpoint() -> None:
    world = EndingWorld(after="keep")
    world.finish(succeeded=True)
    world.stepfunctions.status = None
    assert actions(world.finish(succeeded=None))["endpoint"] == "deleted"


def test_a_persons_word_deletes_even_what_was_confirmed_and_the_janitor_finishes_it() -> None:
    world = EndingWorld(after="keep")
    world.finish(succeeded=True)
    world.stepfunctions.status = "SUCCEEDED"
    world.finish(succeeded=None)
    with pytest.raises(NotGoneYet):
        world.call(succeeded=False)
    assert not {"receipt", "confirmed_at"} & set(world.row)
    world.tick()
    assert actions(world.finish(succeeded=None))["endpoint"] == "deleted"


def test_the_late_event_of_an_abort_does_not_undo_the_success_of_its_redrive() -> None:
    world = EndingWorld(after="keep")
    world.stepfunctions.status = "RUNNING"
    world.finish(succeeded=True)
    world.stepfunctions.status = "SUCCEEDED"
    assert actions(world.finish(succeeded=None))["endpoint"] == "kept"


@pytest.mark.parametrize("after", ["delete", "hold", "keep"])
def test_a_redriven_execution_of_a_run_that_was_cleaned_up_is_refused(after: str) -> None:
    world = EndingWorld(after=after)
    world.stepfunctions.status = "ABORTED"
    world.finish(succeeded=None)
    world.stepfunctions.status = "RUNNING"
    with pytest.raises(RunEnded, match="start a new execution"):
        world.call(succeeded=True)


def test_a_redriven_execution_is_refused_as_soon_as_its_end_is_known_not_only_with_the_receipt() -> None:
    world = EndingWorld(after="hold")
    world.stepfunctions.status = "ABORTED"
    with pytest.raises(NotGoneYet):
        world.call(succeeded=None)
    with pytest.raises(RunEnded):
        world.call(succeeded=True)


def test_a_success_that_is_told_again_after_its_receipt_is_no_redrive() -> None:
    world = EndingWorld(after="keep")
    world.finish(succeeded=True)
    assert actions(world.call(succeeded=True))["endpoint"] == "kept"


def test_the_receipt_says_in_which_redrive_of_the_execution_it_was_given() -> None:
    world = EndingWorld(after="keep")
    assert world.finish(succeeded=True)["redrive_count"] == 0
    event = {"execution_arn": EXECUTION, "run_id": RUN_ID, "failure": None, "redrive_count": 2}
    assert clean_up(Request.parse(event, "bt-"), world.tools())["redrive_count"] == 2


def test_an_end_that_cannot_be_asked_for_keeps_nothing_else_from_going() -> None:
    world = EndingWorld(after="keep")
    Runs(world.items).end_well(RUN_ID)
    world.stepfunctions.error = refuse("DescribeExecution", "ThrottlingException", "Rate exceeded")
    with pytest.raises(NotGoneYet):
        world.call(succeeded=None)
    world.tick()
    with pytest.raises(TransientAwsError, match="Rate exceeded"):
        world.call(succeeded=None)
    assert world.s3.listing() == sorted(KEPT + OTHERS)
    world.stepfunctions.error, world.stepfunctions.status = None, "FAILED"
    assert actions(world.finish(succeeded=None))["endpoint"] == "deleted"


def test_an_end_of_which_nobody_can_ask_ends_no_run_that_may_go_on() -> None:
    world = EndingWorld()
    world.stepfunctions.error = refuse("DescribeExecution", "ThrottlingException", "Rate exceeded")
    with pytest.raises(TransientAwsError, match="Rate exceeded"):
        world.call(succeeded=None)
    assert "ended_at" not in world.row
    assert world.sagemaker.changes == world.kfp.changes == []


# --- runs that are not there --------------------------------------------------------------------------------------


def test_an_execution_that_never_planned_has_nothing_to_clean_up_and_gets_a_tombstone() -> None:
    world = EndingWorld()
    del world.items.stored[RUN, RUN_ID]
    receipt = world.call()
    assert receipt["complete"] is True
    assert set(actions(receipt).values()) == {"absent"}
    assert world.sagemaker.changes == world.kfp.changes == []
    assert "ended_at" in world.row
    assert world.calls == ["GetItem run", "UpdateItem run", "UpdateItem run"]


def test_a_run_of_another_execution_is_refused_and_gets_no_tombstone() -> None:
    world = EndingWorld()
    world.row["execution_arn"] = "arn:aws:states:us-east-1:123456789012:execution:other:other"
    with pytest.raises(InvalidInput):
        world.call()
    assert "ended_at" not in world.row


# --- the request --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("start", [START * 1000 + 999, "2027-01-15T08:00:00.999Z", "2027-01-15T08:00:00+00:00"])
def test_the_run_id_is_derived_from_the_execution_and_its_start(start: str | int) -> None:
    request = Request.parse({"execution_arn": EXECUTION, "start_time": start}, "bt-")
    assert request == Request(EXECUTION, run_id_for(EXECUTION, START), None)


@pytest.mark.parametrize(
    ("said", "understood"),
    [
        ({"succeeded": True}, True),
        ({"succeeded": False}, False),
        ({}, None),
        ({"failure": None}, True),
        ({"failure": {"Error": "JobFailed", "Cause": "x"}}, False),
    ],
)
def test_how_the_run_ended_is_told_or_unknown(said: dict[str, Any], understood: bool | None) -> None:
    event = {"execution_arn": EXECUTION, "run_id": "bt-0000000000001", **said}
    assert Request.parse(event, "bt-") == Request(EXECUTION, "bt-0000000000001", understood)


@pytest.mark.parametrize(
    "event", [{}, {"execution_arn": EXECUTION}, {"run_id": RUN_ID}, {"execution_arn": EXECUTION, "start_time": "soon"}]
)
def test_a_request_that_tells_no_run_is_refused(event: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        Request.parse(event, "bt-")
