"""Events reduced to signals: every file of events/, and what else may come over the bus."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from baton.events import Signal, read_signal
from baton.things import PHASES, PIPELINE_RUN, Phase

EVENTS = Path(__file__).resolve().parents[2] / "events"
RUN_ID = "bt-0sq1x2k4f0a9c"


def ends(kind: str, status: str) -> Signal:
    return Signal(kind, RUN_ID, status, says_ended=True, says_deleted=False)


def goes_on(kind: str, status: str) -> Signal:
    return Signal(kind, RUN_ID, status, says_ended=False, says_deleted=False)


def deleted(kind: str, status: str) -> Signal:
    return Signal(kind, RUN_ID, status, says_ended=True, says_deleted=True)


SIGNALS: dict[str, Signal | None] = {
    "pipeline_run_canceled": ends(PIPELINE_RUN, "CANCELED"),
    "pipeline_run_failed": ends(PIPELINE_RUN, "FAILED"),
    "pipeline_run_foreign": None,
    "pipeline_run_malformed": None,
    "pipeline_run_of_a_loser": ends(PIPELINE_RUN, "FAILED"),
    "pipeline_run_of_another_source": None,
    "pipeline_run_of_no_run_id": None,
    "pipeline_run_succeeded": ends(PIPELINE_RUN, "SUCCEEDED"),
    "sagemaker_endpoint_config_created": None,
    "sagemaker_endpoint_creating": goes_on("endpoint", "Creating"),
    "sagemaker_endpoint_deleted": deleted("endpoint", "Deleted"),
    "sagemaker_endpoint_deleting": deleted("endpoint", "Deleting"),
    "sagemaker_endpoint_deployment_updating": goes_on("endpoint", "Updating"),
    "sagemaker_endpoint_failed": ends("endpoint", "Failed"),
    "sagemaker_endpoint_foreign": None,
    "sagemaker_endpoint_in_service": ends("endpoint", "InService"),
    "sagemaker_endpoint_in_service_epoch_time": ends("endpoint", "InService"),
    "sagemaker_endpoint_out_of_service": ends("endpoint", "OutOfService"),
    "sagemaker_endpoint_rolling_back": ends("endpoint", "RollingBack"),
    "sagemaker_endpoint_update_rollback_failed": ends("endpoint", "UpdateRollbackFailed"),
    "sagemaker_model_created": None,
    "sagemaker_training_job_completed": ends("training", "Completed"),
    "sagemaker_training_job_completed_duplicate": ends("training", "Completed"),
    "sagemaker_training_job_completed_in_china": ends("training", "Completed"),
    "sagemaker_training_job_completed_without_artefacts": ends("training", "Completed"),
    "sagemaker_training_job_failed": ends("training", "Failed"),
    "sagemaker_training_job_failed_capacity": ends("training", "Failed"),
    "sagemaker_training_job_foreign": None,
    "sagemaker_training_job_in_progress": goes_on("training", "InProgress"),
    "sagemaker_training_job_max_runtime_exceeded": ends("training", "Stopped"),
    "sagemaker_training_job_of_a_colliding_prefix": None,
    "sagemaker_training_job_of_a_tuning_job": None,
    "sagemaker_training_job_starting": goes_on("training", "InProgress"),
    "sagemaker_training_job_stopped": ends("training", "Stopped"),
    "sagemaker_training_job_stopping": goes_on("training", "Stopping"),
    "sagemaker_training_job_without_status": goes_on("training", ""),
    "sagemaker_transform_job_completed": ends("transform", "Completed"),
    "sagemaker_transform_job_failed": ends("transform", "Failed"),
    "sagemaker_transform_job_failed_without_reason": ends("transform", "Failed"),
    "sagemaker_transform_job_in_progress": goes_on("transform", "InProgress"),
    "sagemaker_transform_job_stopped": ends("transform", "Stopped"),
    "sagemaker_transform_job_stopping": goes_on("transform", "Stopping"),
    "sagemaker_tuning_job_completed": ends("tuning", "Completed"),
    "sagemaker_tuning_job_deleting": deleted("tuning", "Deleting"),
    "sagemaker_tuning_job_failed": ends("tuning", "Failed"),
    "sagemaker_tuning_job_in_progress": goes_on("tuning", "InProgress"),
    "sagemaker_tuning_job_stopped": ends("tuning", "Stopped"),
    "sagemaker_tuning_job_stopping": goes_on("tuning", "Stopping"),
}


def event(name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((EVENTS / f"{name}.json").read_text())
    return content


def test_every_event_of_the_collection_is_either_here_or_ends_no_wait() -> None:
    files = {path.stem for path in EVENTS.glob("*.json")}
    assert set(SIGNALS) <= files
    others = files - set(SIGNALS)
    assert others
    assert all(name.startswith(("s3_", "states_")) for name in others)
    assert [name for name in others if read_signal(event(name)) is not None] == []


@pytest.mark.parametrize("name", SIGNALS)
def test_each_event_hints_at_its_thing(name: str) -> None:
    assert read_signal(event(name)) == SIGNALS[name]


def test_the_collection_has_an_event_with_its_time_in_epoch_milliseconds() -> None:
    assert event("sagemaker_endpoint_in_service_epoch_time")["time"].isdigit()


@pytest.mark.parametrize("status", PHASES["endpoint"])
def test_every_endpoint_status_is_understood_in_the_spelling_of_events(status: str) -> None:
    spelt = "".join(f"_{letter}" if letter.isupper() else letter for letter in status).lstrip("_").upper()
    detail = {"EndpointName": f"{RUN_ID}-endpoint", "EndpointStatus": spelt}
    signal = read_signal(
        {"source": "aws.sagemaker", "detail-type": "SageMaker Endpoint State Change", "detail": detail}
    )
    assert signal is not None
    assert signal.status == status
    assert signal.says_ended is (PHASES["endpoint"][status] in (Phase.SUCCEEDED, Phase.FAILED))


def test_another_prefix_makes_other_names_ours() -> None:
    theirs = event("sagemaker_training_job_completed")
    assert read_signal(theirs, "ml-") is None
    theirs["detail"]["TrainingJobName"] = "ml-0sq1x2k4f0a9c-train"
    signal = read_signal(theirs, "ml-")
    assert signal is not None
    assert signal.run_id == "ml-0sq1x2k4f0a9c"


def test_a_name_of_another_kind_is_not_taken_for_ours() -> None:
    odd = event("sagemaker_training_job_completed")
    odd["detail"]["TrainingJobName"] = f"{RUN_ID}-endpoint"
    assert read_signal(odd) is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=12), inner, max_size=3),
    max_leaves=10,
)
DETAIL_TYPES = [
    "Pipeline Run State Change",
    "SageMaker Training Job State Change",
    "SageMaker Endpoint State Change",
    "",
]
FIELDS = ["run_id", "state", "TrainingJobName", "TrainingJobStatus", "EndpointName", "EndpointStatus"]


@given(
    st.fixed_dictionaries(
        {
            "source": st.sampled_from(["aws.sagemaker", "baton.pipeline"]) | JSON,
            "detail-type": st.sampled_from(DETAIL_TYPES) | JSON,
            "detail": st.dictionaries(st.sampled_from(FIELDS), JSON | st.just(f"{RUN_ID}-train")) | JSON,
        }
    )
    | st.dictionaries(st.text(max_size=10), JSON)
)
def test_whatever_the_bus_brings_is_a_signal_or_nothing(strange: dict[str, Any]) -> None:
    signal = read_signal(strange)
    assert signal is None or signal.run_id.startswith("bt-")
