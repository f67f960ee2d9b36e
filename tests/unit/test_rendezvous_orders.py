"""The orders of events that people fear, each told as one schedule of a story.

Each step is one that the exhaustive exploration takes as well, and every promise is checked after each of them.
"""

from __future__ import annotations

import json

import pytest

from baton.things import PIPELINE_RUN
from tests.support.wait_stage import Stage
from tests.support.wait_stories import (
    BOTH,
    COMPLETED,
    COMPLETES,
    ENDED,
    ENDED_EARLY,
    ENDS,
    STORIES,
    TWO_RUNS,
    UNTIL_THE_END,
)
from tests.support.wait_world import RUN_ID, Message, Story

pytestmark = pytest.mark.usefixtures("quiet_settling")


def test_an_event_that_comes_before_the_token_is_parked_for_it() -> None:
    stage = Stage(Story(COMPLETES, (COMPLETED,)))
    stage.happens("training becomes Completed")
    stage.happens("message 0 comes")
    stage.runs("message 0 receive 1")
    assert "outcome" in stage.item("training")
    assert stage.ended("training") is None
    stage.runs("registration training 0")
    assert stage.ended("training")["status"] == "Completed"


def test_an_event_that_comes_after_the_token_settles_it() -> None:
    stage = Stage(Story(COMPLETES, (COMPLETED,)))
    stage.runs("registration training 0")
    stage.happens("training becomes Completed")
    stage.happens("message 0 comes")
    stage.runs("message 0 receive 1")
    assert stage.ended("training")["succeeded"] is True


def test_a_registration_that_stalls_and_is_overtaken_by_its_own_retry_does_not_overwrite_the_retrys_token() -> None:
    stage = Stage(Story(COMPLETES, (COMPLETED,)))
    stage.runs("registration training 0", until="UpdateItem training")
    stage.happens("training misses its heartbeat")
    stage.runs("registration training 1")
    stage.runs("registration training 0")
    assert stage.item("training")["token"] == "training token 1"
    stage.happens("training becomes Completed")
    stage.happens("message 0 comes")
    stage.runs("message 0 receive 1")
    assert stage.ended("training")["succeeded"] is True


def test_an_outcome_for_a_token_that_timed_out_is_kept_for_its_successor_that_is_not_registered_yet() -> None:
    stage = Stage(Story(COMPLETES, (COMPLETED,)))
    stage.runs("registration training 0")
    stage.happens("training becomes Completed")
    stage.happens("training misses its heartbeat")
    stage.happens("message 0 comes")
    stage.runs("message 0 receive 1")
    assert stage.ended("training") is None
    stage.runs("registration training 1")
    assert stage.ended("training")["succeeded"] is True


def test_an_outcome_follows_the_token_to_a_newer_attempt_that_died_before_it_could_send_it() -> None:
    stage = Stage(Story(COMPLETES, (COMPLETED,), crashes=1))
    stage.runs("registration training 0")
    stage.happens("training becomes Completed")
    stage.happens("message 0 comes")
    stage.runs("message 0 receive 1", until="SendTask")
    stage.happens("training misses its heartbeat")
    stage.runs("registration training 1", until="UpdateItem training")
    stage.dies("registration training 1")
    stage.runs("message 0 receive 1")
    assert stage.ended("training")["succeeded"] is True


def test_a_crash_between_parking_and_sending_is_made_good_by_the_redelivery() -> None:
    stage = Stage(Story(COMPLETES, (COMPLETED,), crashes=1))
    stage.runs("registration training 0")
    stage.happens("training becomes Completed")
    stage.happens("message 0 comes")
    stage.runs("message 0 receive 1", until="UpdateItem training")
    stage.dies("message 0 receive 1")
    assert "outcome" in stage.item("training")
    assert stage.ended("training") is None
    stage.runs("message 0 receive 2")
    assert stage.ended("training")["succeeded"] is True


def test_a_crash_between_parking_and_sending_that_nobody_redelivers_is_made_good_by_the_heartbeat() -> None:
    stage = Stage(Story(COMPLETES, (COMPLETED,), crashes=1, receives=1))
    stage.runs("registration training 0")
    stage.happens("training becomes Completed")
    stage.happens("message 0 comes")
    stage.runs("message 0 receive 1", until="UpdateItem training")
    stage.dies("message 0 receive 1")
    stage.happens("training misses its heartbeat")
    stage.runs("registration training 1")
    assert stage.ended("training")["succeeded"] is True


def test_an_event_that_is_redelivered_after_a_crash_that_had_sent_already_changes_nothing() -> None:
    stage = Stage(Story(COMPLETES, (COMPLETED,), crashes=1))
    stage.runs("registration training 0")
    stage.happens("training becomes Completed")
    stage.happens("message 0 comes")
    stage.runs("message 0 receive 1", until="SendTask")
    stage.dies("message 0 receive 1")
    before = stage.wait("training").ended
    stage.runs("message 0 receive 2")
    assert before == stage.wait("training").ended
    assert stage.ended("training")["succeeded"] is True


def test_no_event_at_all_costs_one_heartbeat() -> None:
    stage = Stage(Story(COMPLETES))
    stage.runs("registration training 0")
    stage.happens("training becomes Completed")
    stage.happens("training misses its heartbeat")
    stage.runs("registration training 1")
    assert stage.ended("training")["succeeded"] is True


def test_an_old_event_that_comes_after_the_end_changes_nothing() -> None:
    stage = Stage(STORIES["a job completes; an old event comes late"])
    stage.runs("registration training 0")
    stage.happens("training becomes Completed")
    for number in (0, 1):
        stage.happens(f"message {number} comes")
        stage.runs(f"message {number} receive 1")
    assert stage.ended("training")["status"] == "Completed"


def test_a_forged_event_is_looked_at_again_and_never_believed() -> None:
    stage = Stage(STORIES["a job fails; an event said long before that it had completed"])
    stage.runs("registration training 0")
    stage.happens("message 0 comes")
    stage.runs("message 0 receive 1")
    stage.runs("message 0 receive 2", until="Describe training")
    assert "outcome" not in stage.item("training")
    stage.happens("training becomes Failed")
    stage.runs("message 0 receive 2")
    assert stage.ended("training") == "JobFailed"


def test_a_pipeline_runs_end_event_that_comes_before_the_run_is_terminal_is_looked_at_again() -> None:
    stage = Stage(Story(ENDS, (ENDED_EARLY,), awaits=(PIPELINE_RUN,)))
    stage.runs("registration pipeline-run 0")
    stage.happens("message 0 comes")
    stage.runs("message 0 receive 1")
    assert stage.ended(PIPELINE_RUN) is None
    stage.happens("pipeline-run becomes SUCCEEDED")
    stage.runs("message 0 receive 2")
    assert stage.ended(PIPELINE_RUN)["status"] == "SUCCEEDED"


def test_a_pipeline_run_that_ends_without_ever_creating_the_job_ends_the_jobs_wait_at_once() -> None:
    stage = Stage(Story({**ENDS, "training": ("ABSENT",)}, (ENDED,), awaits=BOTH))
    stage.runs("registration pipeline-run 0")
    stage.runs("registration training 0")
    stage.happens("pipeline-run becomes SUCCEEDED")
    stage.happens("message 0 comes")
    stage.runs("message 0 receive 1")
    assert stage.ended("training") == "NeverCreated"
    assert stage.ended(PIPELINE_RUN)["succeeded"] is True


def test_a_job_that_waits_only_after_the_pipeline_run_ended_is_told_that_it_was_never_created() -> None:
    stage = Stage(Story({**ENDS, "training": ("ABSENT",)}, (ENDED,), awaits=BOTH))
    stage.runs("registration pipeline-run 0")
    stage.happens("pipeline-run becomes SUCCEEDED")
    stage.happens("message 0 comes")
    stage.runs("message 0 receive 1")
    stage.runs("registration training 0")
    assert stage.ended("training") == "NeverCreated"


def test_a_pipeline_run_whose_end_event_is_lost_ends_the_jobs_wait_with_its_own_heartbeat() -> None:
    stage = Stage(Story({**ENDS, "training": ("ABSENT",)}, awaits=BOTH))
    stage.runs("registration pipeline-run 0")
    stage.runs("registration training 0")
    stage.happens("pipeline-run becomes SUCCEEDED")
    stage.happens("pipeline-run misses its heartbeat")
    stage.runs("registration pipeline-run 1")
    assert stage.ended("training") == "NeverCreated"


def test_a_job_created_at_the_last_moment_is_not_reported_as_never_created() -> None:
    things = {**ENDS, "training": ("ABSENT", "InProgress", "Completed")}
    stage = Stage(Story(things, (ENDED, COMPLETED), awaits=BOTH, guards=UNTIL_THE_END))
    stage.runs("registration pipeline-run 0")
    stage.runs("registration training 0", until="GetItem pipeline-run")
    stage.happens("training becomes InProgress")
    stage.happens("pipeline-run becomes SUCCEEDED")
    stage.happens("message 0 comes")
    stage.runs("message 0 receive 1")
    stage.runs("registration training 0")
    assert stage.ended("training") is None
    stage.happens("training becomes Completed")
    stage.happens("message 1 comes")
    stage.runs("message 1 receive 1")
    assert stage.ended("training")["succeeded"] is True


def test_a_job_found_never_created_is_told_so_by_the_redelivery_when_the_first_look_dies() -> None:
    stage = Stage(Story({**ENDS, "training": ("ABSENT",)}, (ENDED,), awaits=BOTH, crashes=1))
    stage.runs("registration pipeline-run 0")
    stage.runs("registration training 0")
    stage.happens("pipeline-run becomes SUCCEEDED")
    stage.happens("message 0 comes")
    stage.runs("message 0 receive 1", until="UpdateItem training")
    stage.dies("message 0 receive 1")
    stage.runs("message 0 receive 2")
    assert stage.ended("training") == "NeverCreated"


def test_the_end_of_a_pipeline_run_that_lost_the_claim_is_not_the_end_of_the_run() -> None:
    things = {PIPELINE_RUN: ("RUNNING", "FAILED"), "worker": ("", "kfp-b"), "kfp-b": ("RUNNING", "SUCCEEDED")}
    loser_fails = Message(PIPELINE_RUN, "FAILED", after="FAILED", genuine=False)
    stage = Stage(Story(things, (loser_fails,), awaits=(PIPELINE_RUN,), guards=TWO_RUNS))
    stage.runs("registration pipeline-run 0", until="GetRun kfp-a")
    stage.happens("worker becomes kfp-b")
    stage.happens("pipeline-run becomes FAILED")
    stage.runs("registration pipeline-run 0")
    stage.happens("message 0 comes")
    stage.runs("message 0 receive 1")
    assert stage.ended(PIPELINE_RUN) is None
    stage.happens("kfp-b becomes SUCCEEDED")
    stage.runs("message 0 receive 2")
    assert stage.ended(PIPELINE_RUN)["result"] == {"id": "kfp-b", "state": "SUCCEEDED"}


def test_a_foreign_endpoint_of_the_same_name_in_service_is_an_error_and_no_success() -> None:
    stage = Stage(STORIES["a foreign endpoint of the same name is in service"])
    stage.happens("endpoint becomes foreign InService")
    stage.happens("message 0 comes")
    stage.runs("message 0 receive 1")
    assert "outcome" not in stage.item("endpoint")
    stage.runs("registration endpoint 0")
    assert stage.ended("endpoint") == "ForeignResource"


def test_a_foreign_endpoint_that_appears_while_ours_is_awaited_is_found_by_the_heartbeat() -> None:
    stage = Stage(STORIES["a foreign endpoint appears while ours is awaited"])
    stage.runs("registration endpoint 0")
    stage.happens("endpoint becomes foreign InService")
    stage.happens("endpoint misses its heartbeat")
    stage.runs("registration endpoint 1")
    assert stage.ended("endpoint") == "ForeignResource"


@pytest.mark.parametrize("told_by", ["its event", "its heartbeat"])
def test_a_pipeline_run_that_ends_beside_a_foreign_job_ends_the_wait_for_that_one_and_for_those_after_it(
    told_by: str,
) -> None:
    things = {**ENDS, "training": ("ABSENT", "foreign InProgress"), "transform": ("ABSENT",)}
    stage = Stage(Story(things, (ENDED,), awaits=(PIPELINE_RUN, "training", "transform")))
    for kind in (PIPELINE_RUN, "training", "transform"):
        stage.runs(f"registration {kind} 0")
    stage.happens("training becomes foreign InProgress")
    stage.happens("pipeline-run becomes SUCCEEDED")
    if told_by == "its event":
        stage.happens("message 0 comes")
        stage.runs("message 0 receive 1")
    else:
        stage.happens("pipeline-run misses its heartbeat")
        stage.runs("registration pipeline-run 1")
    assert stage.ended(PIPELINE_RUN)["succeeded"] is True
    assert stage.ended("training") == "ForeignResource"
    assert stage.ended("transform") == "NeverCreated"


def test_the_deletion_of_a_foreign_endpoint_does_not_end_the_wait_for_ours() -> None:
    stage = Stage(STORIES["a foreign endpoint's deletion is told when ours is not created yet"])
    stage.runs("registration endpoint 0")
    stage.happens("message 0 comes")
    stage.runs("message 0 receive 1")
    assert stage.ended("endpoint") is None
    stage.happens("endpoint becomes Creating")
    stage.happens("endpoint becomes InService")
    stage.happens("message 1 comes")
    stage.runs("message 1 receive 1")
    assert stage.ended("endpoint")["succeeded"] is True


def test_a_thing_that_is_being_deleted_while_it_is_awaited_ends_its_wait() -> None:
    stage = Stage(STORIES["a tuning job is deleted"])
    stage.runs("registration tuning 0")
    stage.happens("tuning becomes Deleting")
    stage.happens("message 0 comes")
    stage.runs("message 0 receive 1")
    assert stage.ended("tuning") == "JobFailed"


def test_a_thing_that_was_deleted_unseen_ends_its_wait_with_the_pipeline_run() -> None:
    things = {**ENDS, "training": ("InProgress", "ABSENT")}
    stage = Stage(Story(things, (Message("training", "Deleting", after="ABSENT"), ENDED), awaits=BOTH, receives=1))
    stage.runs("registration pipeline-run 0")
    stage.runs("registration training 0")
    stage.happens("training becomes ABSENT")
    stage.happens("message 0 comes")
    stage.runs("message 0 receive 1")
    assert stage.ended("training") is None
    stage.happens("pipeline-run becomes SUCCEEDED")
    stage.happens("message 1 comes")
    stage.runs("message 1 receive 1")
    assert stage.ended("training") == "NeverCreated"


def test_a_pipeline_run_that_was_deleted_ends_its_wait_and_that_for_the_job_it_never_created() -> None:
    stage = Stage(STORIES["a pipeline run is deleted and never created its job"])
    stage.runs("registration pipeline-run 0")
    stage.runs("registration training 0")
    stage.happens("pipeline-run becomes Deleted")
    stage.happens("pipeline-run misses its heartbeat")
    stage.runs("registration pipeline-run 1")
    assert stage.ended(PIPELINE_RUN) == "PipelineRunFailed"
    cause = json.loads(stage.wait(PIPELINE_RUN).ended or "{}")["cause"]
    assert cause == f"The pipeline run {RUN_ID} ended Deleted: it was deleted from Kubeflow Pipelines."
    assert stage.ended("training") == "NeverCreated"


def test_a_run_that_was_ended_registers_nothing() -> None:
    stage = Stage(Story({**COMPLETES, "tombstone": ("no", "yes")}))
    stage.happens("tombstone becomes yes")
    stage.runs("registration training 0")
    assert stage.ended("training") == "RunEnded"
    assert stage.item("training") == {}


def test_a_heartbeat_after_the_run_was_ended_is_refused() -> None:
    stage = Stage(Story({**COMPLETES, "tombstone": ("no", "yes")}))
    stage.runs("registration training 0")
    stage.happens("tombstone becomes yes")
    stage.happens("training misses its heartbeat")
    stage.runs("registration training 1")
    assert stage.ended("training") == "RunEnded"


def test_an_endpoint_that_a_pod_creates_after_the_sweep_is_swept_again() -> None:
    stage = Stage(STORIES["a pod creates an endpoint after the sweep"])
    stage.runs("registration endpoint 0")
    stage.happens("tombstone becomes yes")
    stage.happens("endpoint becomes Creating")
    stage.happens("message 0 comes")
    stage.runs("message 0 receive 1")
    assert stage.point.swept


def test_a_job_that_a_pod_creates_after_the_sweep_is_swept_again() -> None:
    created = Message("training", "InProgress", after="InProgress")
    things = {"training": ("ABSENT", "InProgress"), "tombstone": ("no", "yes")}
    guards = {("training", "InProgress"): ("tombstone", ("yes",))}
    stage = Stage(Story(things, (created,), guards=guards, must_sweep=True))
    stage.runs("registration training 0")
    stage.happens("tombstone becomes yes")
    stage.happens("training becomes InProgress")
    stage.happens("message 0 comes")
    stage.runs("message 0 receive 1")
    assert stage.point.swept


def test_a_run_past_its_deadline_waits_no_more() -> None:
    stage = Stage(Story({**COMPLETES, "clock": ("early", "late")}))
    stage.runs("registration training 0")
    stage.happens("clock becomes late")
    stage.happens("training misses its heartbeat")
    stage.runs("registration training 1")
    assert stage.ended("training") == "DeadlineExceeded"


def test_a_look_that_is_refused_leaves_the_token_for_the_event() -> None:
    stage = Stage(Story(COMPLETES, (COMPLETED,), faults=1))
    stage.runs("registration training 0", until="Describe training")
    stage.is_refused("registration training 0")
    assert stage.wait("training").registration == "blind"
    stage.happens("training becomes Completed")
    stage.happens("message 0 comes")
    stage.runs("message 0 receive 1")
    assert stage.ended("training")["succeeded"] is True
