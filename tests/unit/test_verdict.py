"""The verdict: the true error first, clean-up never hides it, and every partial state has one."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from baton.names import Names
from baton.things import PHASES, PIPELINE_RUN, Phase
from baton.verdict import endpoint_kept, outcomes_of, unwrap, verdict_of
from tests.support.report_samples import RUN_ID, outcomes, plan, receipt, state

URI = "s3://baton-runs/report.html"


def lambda_failure(error: str, message: str) -> dict[str, str]:
    cause = {"errorMessage": message, "errorType": error, "requestId": "4f", "stackTrace": ["  File app.py"]}
    return {"Error": error, "Cause": json.dumps(cause)}


PIPELINE_FAILED = lambda_failure("PipelineRunFailed", "The pipeline run ended FAILED.")
JOB_CAUSE = {"error": "JobFailed", "cause": "AlgorithmError: k is larger than the data set"}
SMOKE_TEST = {"passed": True, "accuracy": 0.55, "purity": 0.57, "latency_ms": {"p50": 1}, "predictions": [{"row": 1}]}


def test_a_success_that_clean_up_refused_because_the_run_was_ended_says_so():
    broke = lambda_failure("RunEnded", "Run bt-x was ended and cleaned up.")
    verdict = verdict_of(state(receipt=None, clean_up_failure=broke), URI)
    assert (verdict["error"], verdict["cause"]) == ("RunEnded", "Run bt-x was ended and cleaned up.")


def test_a_good_run_succeeds_with_its_output():
    verdict = verdict_of(state(smoke_test=SMOKE_TEST), URI)
    assert verdict["status"] == "SUCCEEDED"
    assert verdict["error"] is verdict["cause"] is None
    assert verdict["report"] == URI
    output = verdict["output"]
    assert output["run_id"] == RUN_ID
    assert output["model_artefact"].endswith("/output/model.tar.gz")
    assert output["metrics"]["train:msd"] == 0.0518
    assert output["metrics"]["accuracy"] == 0.55
    assert output["predictions"] == [{"row": 1}]
    assert output["receipt"] == receipt()
    assert output["report"] == URI
    assert output["endpoint"] is None


def test_a_kept_endpoint_is_in_the_output():
    items = [{**item, "action": "kept"} if item["kind"] == "endpoint" else item for item in receipt()["items"]]
    verdict = verdict_of(state(receipt=receipt(items=items)), URI)
    assert (
        verdict["output"]["endpoint"] == Names.of(RUN_ID).endpoint == endpoint_kept({"receipt": receipt(items=items)})
    )


def test_the_job_s_own_reason_wins_over_the_pipeline_run_s_failure():
    verdict = verdict_of(state(failure=PIPELINE_FAILED, receipt=receipt(cause=JOB_CAUSE)), URI)
    assert (verdict["status"], verdict["error"], verdict["cause"]) == ("FAILED", "JobFailed", JOB_CAUSE["cause"])
    assert verdict["output"] is None


def test_a_cause_without_words_takes_those_of_the_failure():
    verdict = verdict_of(
        state(failure=PIPELINE_FAILED, receipt=receipt(cause={"error": "JobFailed", "cause": None})), URI
    )
    assert (verdict["error"], verdict["cause"]) == ("JobFailed", "The pipeline run ended FAILED.")


NEVER_CREATED = {"Error": "NeverCreated", "Cause": "The tuning job bt-1-tune does not exist."}
NOTED = {"step": "endpoint", "error": "ValidationException", "cause": "1 validation error detected"}
URL = "https://kfp.example/#/runs/details/0a1b"


def test_what_a_step_noted_wins_over_the_pipeline_run_s_failure():
    verdict = verdict_of(state(failure=PIPELINE_FAILED, receipt=receipt(step_failure=NOTED)), URI)
    assert verdict["error"] == "PipelineRunFailed"
    assert verdict["cause"] == "Step endpoint: ValidationException: 1 validation error detected"


def test_the_job_s_own_reason_wins_over_what_a_step_noted():
    verdict = verdict_of(state(failure=PIPELINE_FAILED, receipt=receipt(cause=JOB_CAUSE, step_failure=NOTED)), URI)
    assert (verdict["error"], verdict["cause"]) == ("JobFailed", JOB_CAUSE["cause"])


TERMINATED = {"step": "training", "error": "Terminated", "cause": "Its pod was told to end."}


def test_a_job_that_its_terminated_step_has_stopped_is_told_with_the_termination():
    caught = lambda_failure("JobFailed", "The training job bt-1-train ended Stopped.")
    verdict = verdict_of(state(failure=caught, receipt=receipt(step_failure=TERMINATED)), URI)
    told = "The training job bt-1-train ended Stopped. Step training: Terminated: Its pod was told to end."
    assert (verdict["error"], verdict["cause"]) == ("JobFailed", told)


def test_the_job_s_own_reason_is_told_without_a_termination_that_it_outlived():
    caught = lambda_failure("JobFailed", "The endpoint ended Failed.")
    verdict = verdict_of(state(failure=caught, receipt=receipt(cause=JOB_CAUSE, step_failure=TERMINATED)), URI)
    assert (verdict["error"], verdict["cause"]) == ("JobFailed", JOB_CAUSE["cause"])


@pytest.mark.parametrize("noted", [NOTED, TERMINATED])
@pytest.mark.parametrize("error", ["GateNotMet", "ForeignResource", "DeadlineExceeded", "InvalidDataset"])
def test_what_a_step_noted_does_not_hide_an_error_that_says_more(error, noted):
    caught = lambda_failure(error, "its own words")
    verdict = verdict_of(state(failure=caught, receipt=receipt(step_failure=noted)), URI)
    assert (verdict["error"], verdict["cause"]) == (error, "its own words")


def test_where_no_step_noted_why_the_cause_says_where_to_look():
    verdict = verdict_of(state(failure=PIPELINE_FAILED), URI)
    assert verdict["cause"] == (f"The pipeline run ended FAILED. No step noted why; the logs of its pods tell: {URL}")
    without = verdict_of(state(failure=PIPELINE_FAILED, pipeline_run={"id": "0a1b", "url": None}), URI)
    assert without["cause"].endswith("No step noted why; the logs of its pods tell.")


CANCELED = {"id": "0a1b", "state": "CANCELED"}


@pytest.mark.parametrize("noted", [NOTED, TERMINATED])
@pytest.mark.parametrize(
    ("caught", "start"),
    [
        (lambda_failure("PipelineRunFailed", "The pipeline run ended CANCELED."), "The pipeline run ended CANCELED. "),
        (NEVER_CREATED, "The pipeline run 0a1b ended CANCELED. The tuning job bt-1-tune does not exist. "),
    ],
)
def test_that_a_pipeline_run_was_cancelled_is_told_with_what_a_step_noted(caught, start, noted):
    verdict = verdict_of(state(failure=caught, receipt=receipt(pipeline_run=CANCELED, step_failure=noted)), URI)
    told = f"{start}Step {noted['step']}: {noted['error']}: {noted['cause']}"
    assert (verdict["error"], verdict["cause"]) == ("PipelineRunFailed", told)


@pytest.mark.parametrize("how", [name for name, phase in PHASES[PIPELINE_RUN].items() if phase is Phase.FAILED])
def test_a_job_that_a_failed_pipeline_run_never_created_is_that_run_s_failure(how):
    ended = receipt(pipeline_run={"id": "0a1b", "state": how})
    verdict = verdict_of(state(failure=NEVER_CREATED, receipt=ended), URI)
    assert verdict["error"] == "PipelineRunFailed"
    assert verdict["cause"] == (
        f"The pipeline run 0a1b ended {how}. The tuning job bt-1-tune does not exist. "
        f"No step noted why; the logs of its pods tell: {URL}"
    )


def test_a_job_that_was_never_created_because_a_step_failed_is_told_as_that_step_noted():
    ended = receipt(pipeline_run={"id": "0a1b", "state": "FAILED"}, step_failure=NOTED)
    verdict = verdict_of(state(failure=NEVER_CREATED, receipt=ended), URI)
    assert verdict["error"] == "PipelineRunFailed"
    assert verdict["cause"] == "Step endpoint: ValidationException: 1 validation error detected"


@pytest.mark.parametrize("pipeline_run", [None, {"id": "0a1b", "state": "SUCCEEDED"}, {"id": "0a1b", "state": None}])
def test_a_job_that_was_never_created_by_a_run_that_did_not_fail_is_told_as_it_is(pipeline_run):
    verdict = verdict_of(state(failure=NEVER_CREATED, receipt=receipt(pipeline_run=pipeline_run)), URI)
    assert (verdict["error"], verdict["cause"]) == ("NeverCreated", NEVER_CREATED["Cause"])


def test_without_one_the_caught_failure_is_told_in_plain_words():
    verdict = verdict_of(state(failure=lambda_failure("InvalidDataset", "The data set is empty.")), URI)
    assert (verdict["error"], verdict["cause"]) == ("InvalidDataset", "The data set is empty.")


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        ({"receipt": receipt(complete=False)}, "its receipt is not complete."),
        ({"receipt": None}, "there is no receipt"),
        (
            {"receipt": None, "clean_up_failure": lambda_failure("CleanUpIncomplete", "The model is still there.")},
            "The model is still there.",
        ),
        ({"receipt": None, "clean_up_failure": {"Error": "States.Timeout", "Cause": ""}}, "States.Timeout: "),
    ],
)
def test_an_unfinished_clean_up_fails_a_good_run_and_never_hides_an_earlier_error(broken, words):
    good = verdict_of(state(**broken), URI)
    assert (good["status"], good["error"]) == ("FAILED", "CleanUpIncomplete")
    assert words in good["cause"]
    failed = verdict_of(state(failure=PIPELINE_FAILED, **broken), URI)
    assert failed["error"] == "PipelineRunFailed"
    assert failed["cause"].startswith("The pipeline run ended FAILED. ")
    assert " Besides, clean-up did not finish: " in failed["cause"]
    assert words in failed["cause"]


def test_a_refused_input_has_a_verdict_without_a_plan():
    refused = {"plan": None, "failure": lambda_failure("InvalidInput", "k must be more."), "receipt": receipt(items=[])}
    verdict = verdict_of({**refused, "smoke_test": None, "clean_up_failure": None}, URI)
    assert (verdict["status"], verdict["error"], verdict["cause"]) == ("FAILED", "InvalidInput", "k must be more.")


@pytest.mark.parametrize(
    ("failure", "expected"),
    [
        ({"Error": "JobFailed", "Cause": "plain words"}, ("JobFailed", "plain words")),
        ({"Error": "JobFailed", "Cause": '{"a": 1}'}, ("JobFailed", '{"a": 1}')),
        ({"Error": "JobFailed", "Cause": "[1]"}, ("JobFailed", "[1]")),
        ({"Error": "States.Timeout"}, ("States.Timeout", "")),
        ({}, ("Unknown", "")),
        (lambda_failure("KeyError", "'plan'"), ("KeyError", "'plan'")),
    ],
)
def test_causes_are_unwrapped(failure, expected):
    assert unwrap(failure) == expected


def test_long_causes_fit_into_an_execution():
    verdict = verdict_of(state(failure={"Error": "E" * 300, "Cause": "c" * 100_000}), URI)
    assert len(verdict["error"]) == 256
    assert len(verdict["cause"]) < 32_768
    assert verdict["cause"].endswith("c … (the rest is left out)")


@given(
    st.sampled_from([None, PIPELINE_FAILED, {}]),
    st.sampled_from([None, receipt(), receipt(complete=False), receipt(cause=JOB_CAUSE)]),
    st.sampled_from([None, {"Error": "NotGoneYet", "Cause": "x"}]),
    st.sampled_from([None, SMOKE_TEST]),
    st.sampled_from([None, [], outcomes(), {"tuning": None, "training": None}]),
)
def test_every_state_has_a_verdict_and_success_needs_no_failure_and_a_whole_receipt(
    failure, the_receipt, clean_up_failure, smoke_test, watched
):
    whole = {
        "plan": plan(),
        "failure": failure,
        "receipt": the_receipt,
        "clean_up_failure": clean_up_failure,
        "smoke_test": smoke_test,
        "outcomes": watched,
    }
    verdict = verdict_of(whole, URI)
    all_well = not failure and not clean_up_failure and bool(the_receipt and the_receipt["complete"])
    assert (verdict["status"] == "SUCCEEDED") == all_well
    assert (verdict["output"] is not None) == all_well
    assert (verdict["error"] is None) == all_well


def test_outcomes_are_found_in_every_form_that_the_state_data_takes():
    assert set(outcomes_of(state())) == {"pipeline-run", "tuning", "training", "transform", "endpoint"}
    assert outcomes_of({}) == outcomes_of({"outcomes": {"tuning": None, "training": None}}) == {}
    skipped = [outcomes()[0], {**outcomes()[1], "tuning": None, "serving": [None, outcomes()[1]["serving"][1]]}]
    assert set(outcomes_of({"outcomes": skipped})) == {"pipeline-run", "training", "endpoint"}
