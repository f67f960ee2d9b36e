"""Everything that can be wrong ends in a clear FAILED, or a refusal, with nothing left."""

from __future__ import annotations

import contextlib
import gzip
import json
import pickle
import re
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from baton.names import Names
from baton_local import datasets
from baton_local.datasets import pickled
from baton_local.run import NotStarted, Result, Run
from baton_local.topic import Topic
from tests.e2e.conftest import Stage, digits, quick
from tests.support.pickles import array, with_train

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("second-stage")]

ABSENT = dict.fromkeys(("tuning", "training", "model", "transform", "endpoint"), "Absent")
DISK = "AlgorithmError: the disk is on fire"
PING = "The primary container for production variant AllTraffic did not pass the ping health check."


@pytest.fixture(autouse=True)
def healthy_again(stage: Stage) -> Iterator[None]:
    yield
    stage.heal()


def failed(stage: Stage, result: Result, error: str) -> str:
    """Check that a run failed as it should, and says so everywhere; return the cause that a person reads."""
    assert (result.status, result.error, result.leftovers) == ("FAILED", error, [])
    assert result.cause is not None
    # Sentences, not a traceback and not the JSON text that Lambda wraps an error in.
    assert re.fullmatch(r"[A-Z][^{}]*", result.cause), result.cause
    assert "Traceback" not in result.cause
    report = stage.report(str(result.run_id))
    assert (report["status"], report["error"], report["cause"]) == ("FAILED", error, result.cause)
    assert stage.receipt(str(result.run_id))["complete"]
    return result.cause


def statuses(result: Result) -> dict[str, str]:
    return {kind: thing["status"] for kind, thing in result.sagemaker.items()}


# --- data sets --------------------------------------------------------------------------------------------------------


def refused(stage: Stage, dataset: Path) -> str:
    """Play a data set that Prepare data must refuse; return the cause that a person reads."""
    result = stage.play(dataset)
    cause = failed(stage, result, "InvalidDataset")
    assert result.pipeline_run is None
    assert statuses(result) == ABSENT
    assert result.seconds < 60
    return cause


def test_a_text_file_with_the_name_of_a_gzip(stage: Stage) -> None:
    cause = refused(stage, stage.file("mnist.pkl.gz", b"This is no pickle, and no gzip either.\n" * 40))
    assert "is not a pickle" in cause


def test_a_pickle_of_something_else(stage: Stage) -> None:
    cause = refused(stage, stage.file("list.pkl", pickle.dumps([1, 2, 3], protocol=2)))
    assert "train" in cause


def test_a_pickle_that_calls_os_system_runs_nothing(stage: Stage) -> None:
    trace = stage.folder / "it-ran"

    class Attack:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            import os

            return os.system, (f"touch {trace}",)

    cause = refused(stage, stage.pickle_of("attack.pkl", Attack()))
    assert "system" in cause
    assert not trace.exists()


def test_a_gzip_bomb_that_says_how_large_it_is(stage: Stage) -> None:
    # One text of 400 MB in a pickle, which packs to 400 kB: it is refused before it is unzipped.
    bomb = gzip.compress(b"\x80\x02T" + struct.pack("<i", 400_000_000) + bytes(400_000_000), compresslevel=9)
    cause = refused(stage, stage.file("bomb.pkl.gz", bomb))
    assert "unpacks to more than" in cause


def test_a_gzip_bomb_that_looks_like_a_data_set(stage: Stage) -> None:
    # Zeros of an allowed size, packed a thousand times: only while it is unzipped can that be seen.
    images, labels = np.zeros((5_000, 784), np.float32), np.zeros(5_000, np.int64)
    bomb = gzip.compress(pickled([(images, labels), digits(20), digits(20)]), compresslevel=9)
    cause = refused(stage, stage.file("zeros.pkl.gz", bomb))
    assert "like a gzip bomb" in cause


def test_wrong_shapes(stage: Stage) -> None:
    train, labels = digits(50)
    cause = refused(stage, stage.file("shapes.pkl", pickled([(train[:, :700], labels), digits(20), digits(20)])))
    assert "700" in cause
    assert "784" in cause


def test_labels_that_are_too_few(stage: Stage) -> None:
    images, labels = digits(50)
    cause = refused(stage, stage.file("labels.pkl", pickled([(images, labels[:30]), digits(20), digits(20)])))
    assert "label" in cause
    assert {"30", "50"} <= set(re.findall(r"\d+", cause))


def test_labels_that_are_missing(stage: Stage) -> None:
    images, _ = digits(50)
    cause = refused(stage, stage.file("unlabelled.pkl", with_train(array(images), b"N")))
    assert "in place of its train labels it holds nothing" in cause


def test_pixels_that_are_no_numbers(stage: Stage) -> None:
    images, labels = digits(50)
    images[3, 5] = np.nan
    cause = refused(stage, stage.file("nan.pkl", pickled([(images, labels), digits(20), digits(20)])))
    assert "NaN" in cause


# --- inputs and uploads -----------------------------------------------------------------------------------------------

THREE_WRONG = {"parameters": {"k": "ten"}, "colour": "red", "deadline_seconds": -1}


def names_all_three(stage: Stage, result: Result) -> None:
    cause = failed(stage, result, "InvalidInput")
    assert {"parameters.k", "colour", "deadline_seconds"} <= set(re.findall(r"[\w.]+(?=: )", cause)), cause
    assert result.pipeline_run is None
    assert statuses(result) == ABSENT


def test_three_wrong_fields_of_a_run_file_are_told_at_once(stage: Stage) -> None:
    run = Run(stage.deployment)
    names_all_three(stage, run.follow(run.start(stage.good, THREE_WRONG)))


def test_three_wrong_fields_of_an_execution_are_told_at_once(stage: Stage) -> None:
    run = Run(stage.deployment)
    names_all_three(stage, run.follow(run.start_execution({"dataset": run.put_dataset(stage.good), **THREE_WRONG})))


@pytest.mark.parametrize(
    ("key", "content", "why"),
    [
        ("uploads/mnist_kmeans/empty.pkl.gz", b"", "It has 0 bytes"),
        ("uploads/no_such_pipeline/a.pkl", b"x", "There is no pipeline 'no_such_pipeline'"),
        ("uploads/mnist_kmean/a.pkl", b"x", "perhaps 'mnist_kmeans' is meant"),
        ("uploads/stray.pkl", b"x", "The key is not of the form uploads/PIPELINE/FILE"),
        ("uploads/mnist_kmeans/notes.txt", b"x", "ends in .pkl or .pkl.gz"),
        ("uploads/mnist_kmeans/run.json", b'{"dataset": ', "It is not JSON"),
    ],
)
def test_an_upload_that_starts_nothing_is_told_to_the_topic(stage: Stage, key: str, content: bytes, why: str) -> None:
    before = executions(stage)
    with pytest.raises(NotStarted) as told:
        Run(stage.deployment).upload(key, content)
    assert key in str(told.value)
    assert why in str(told.value)
    assert "No run was started." in str(told.value)
    assert executions(stage) == before


def test_other_json_files_and_other_folders_start_nothing_and_are_no_mistake(stage: Stage) -> None:
    before = executions(stage)
    with Topic(stage.deployment) as topic:
        for key in ("uploads/mnist_kmeans/notes.json", "datasets/mnist.pkl.gz"):
            stage.deployment.client("s3").put_object(Bucket=stage.deployment.bucket, Key=key, Body=b"{}")
        # Events come in order here, so the refusal of a third object shows that the two before it have been seen.
        with pytest.raises(NotStarted):
            Run(stage.deployment).upload("uploads/stray.pkl", b"x")
        time.sleep(0.5)
        assert executions(stage) == before
        assert [text for text in topic.hear() if "stray" not in text] == []


def executions(stage: Stage) -> set[str]:
    stepfunctions = stage.deployment.client("stepfunctions")
    pages = stepfunctions.get_paginator("list_executions").paginate(stateMachineArn=stage.deployment.state_machine)
    return {execution["executionArn"] for page in pages for execution in page["executions"]}


# --- SageMaker --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def missed(stage: Stage) -> Result:
    """A run whose endpoint is not good enough."""
    return stage.play(given={"smoke_test": {"min_accuracy": 0.999}})


def test_an_accuracy_gate_that_is_not_met(stage: Stage, missed: Result) -> None:
    cause = failed(stage, missed, "GateNotMet")
    measured = stage.report(str(missed.run_id))["smoke_test"]["accuracy"]
    assert "0.999" in cause
    assert f"{measured:.3f}"[:4] in cause
    assert missed.smoke_test is not None
    assert missed.smoke_test["passed"] is False
    assert len(missed.smoke_test["predictions"]) == 10
    assert statuses(missed)["endpoint"] == "Deleted"


def test_a_training_job_that_fails_gives_the_run_its_own_reason(stage: Stage) -> None:
    stage.sagemaker_faults(training={"match": "bt-*-train", "fail": DISK})
    result = stage.play()
    cause = failed(stage, result, "JobFailed")
    name = result.sagemaker["training"]["name"]
    job = stage.deployment.client("sagemaker").describe_training_job(TrainingJobName=name)
    assert (job["TrainingJobStatus"], job["FailureReason"]) == ("Failed", DISK)
    assert cause == f"Training {name}: {DISK}"
    assert statuses(result) == {**ABSENT, "tuning": "Completed", "training": "Failed"}


def test_a_hyperparameter_that_the_algorithm_refuses(stage: Stage) -> None:
    # 500 is a good number to Baton; that there are fewer rows only the algorithm finds out.
    dataset = datasets.small(stage.folder / "few.pkl.gz", 300)
    result = stage.play(dataset, {"parameters": {"k": 500}})
    cause = failed(stage, result, "JobFailed")
    sagemaker, name = stage.deployment.client("sagemaker"), result.sagemaker["tuning"]["name"]
    job = sagemaker.describe_hyper_parameter_tuning_job(HyperParameterTuningJobName=name)
    training_jobs = sagemaker.list_training_jobs_for_hyper_parameter_tuning_job(HyperParameterTuningJobName=name)
    reasons = {
        f"Training job {t['TrainingJobName']}: {t['FailureReason']}" for t in training_jobs["TrainingJobSummaries"]
    }
    assert cause.startswith(f"Tuning {name}: {job['FailureReason']} Training job ")
    assert cause.removeprefix(f"Tuning {name}: {job['FailureReason']} ") in reasons
    assert statuses(result) == {**ABSENT, "tuning": "Failed"}


@pytest.mark.parametrize(("step", "parameter"), [("tuning", "training"), ("endpoint", "endpoint")])
def test_what_sagemaker_refuses_to_a_step_is_the_runs_cause(stage: Stage, step: str, parameter: str) -> None:
    # It has the form of an instance type; that there is none of that name only SageMaker knows.
    result = stage.play(given={"parameters": {f"{parameter}_instance_type": "ml.banana.large"}})
    cause = failed(stage, result, "PipelineRunFailed")
    assert cause.startswith(f"Step {step}: ValidationException: 1 validation error detected: ")
    assert "ml.banana.large" in cause
    report = stage.report(str(result.run_id))
    assert report["cause"] == cause
    assert stage.receipt(str(result.run_id))["step_failure"]["step"] == step


def test_an_endpoint_that_fails(stage: Stage) -> None:
    stage.sagemaker_faults(endpoint={"fail": PING})
    result = stage.play()
    cause = failed(stage, result, "JobFailed")
    assert cause == f"Endpoint {result.sagemaker['endpoint']['name']}: {PING}"
    assert statuses(result) | {"transform": ""} == {
        "tuning": "Completed",
        "training": "Completed",
        "model": "Deleted",
        "transform": "",
        "endpoint": "Deleted",
    }


def test_a_foreign_endpoint_of_the_runs_name_fails_the_run_and_is_left_alone(stage: Stage, missed: Result) -> None:
    run = Run(stage.deployment)
    execution = run.start(stage.good, quick())
    with endpoint_of_somebody_else(stage, Names.of(run.run_id(execution)), missed) as foreign:
        result = run.follow(execution)
        cause = failed_beside(result, foreign)
        assert "endpoint" in cause
        actions = {item["kind"]: item["action"] for item in stage.receipt(str(result.run_id))["items"]}
        assert actions["endpoint"] == "foreign"
        # The wait for the endpoint may end before the pods come to make the model.
        assert actions["model"] in ("deleted", "absent")
        described = stage.deployment.client("sagemaker").describe_endpoint(EndpointName=foreign)
        assert described["EndpointStatus"] == "InService"


@contextlib.contextmanager
def endpoint_of_somebody_else(stage: Stage, names: Names, served: Result) -> Iterator[str]:
    """Make an endpoint of the run's name that is not the run's, and take it away afterwards."""
    sagemaker = stage.deployment.client("sagemaker")
    job = sagemaker.describe_training_job(TrainingJobName=served.sagemaker["training"]["name"])
    container = {
        "Image": job["AlgorithmSpecification"]["TrainingImage"],
        "ModelDataUrl": job["ModelArtifacts"]["S3ModelArtifacts"],
    }
    sagemaker.create_model(ModelName="theirs", PrimaryContainer=container, ExecutionRoleArn=job["RoleArn"])
    variant = {"VariantName": "all", "ModelName": "theirs", "InitialInstanceCount": 1, "InstanceType": "ml.m5.large"}
    sagemaker.create_endpoint_config(EndpointConfigName="theirs", ProductionVariants=[variant])
    sagemaker.create_endpoint(EndpointName=names.endpoint, EndpointConfigName="theirs")
    try:
        yield names.endpoint
    finally:
        sagemaker.get_waiter("endpoint_in_service").wait(EndpointName=names.endpoint, WaiterConfig={"Delay": 1})
        sagemaker.delete_endpoint(EndpointName=names.endpoint)
        sagemaker.delete_endpoint_config(EndpointConfigName="theirs")
        sagemaker.delete_model(ModelName="theirs")
        sagemaker.get_waiter("endpoint_deleted").wait(EndpointName=names.endpoint, WaiterConfig={"Delay": 1})


def failed_beside(result: Result, foreign: str) -> str:
    left = {f"endpoint {foreign}", "endpoint configuration theirs", "model theirs"}
    assert (result.status, result.error, set(result.leftovers)) == ("FAILED", "ForeignResource", left)
    return str(result.cause)


# --- Kubeflow Pipelines -----------------------------------------------------------------------------------------------


def look_often(definition: dict[str, Any]) -> None:
    """Shorten the heartbeat: a run that fails without its exit task tells nobody."""
    for branch in definition["States"]["Watch"]["Branches"]:
        for state in branch["States"].values():
            if state.pop("HeartbeatSecondsPath", None):
                state["HeartbeatSeconds"] = 4


def test_a_pipeline_run_that_fails_before_any_job_exists(stage: Stage) -> None:
    stage.kfp_faults(fail_next_runs=1)
    run = Run(stage.deployment)
    with stage.changed_definition(look_often):
        execution = run.start_execution({"dataset": run.put_dataset(stage.good)})
    result = run.follow(execution)
    cause = failed(stage, result, "PipelineRunFailed")
    assert result.pipeline_run is not None
    assert result.pipeline_run["state"] == "FAILED"
    assert "ended FAILED" in cause
    assert "No step noted why; the logs of its pods tell: http" in cause
    assert statuses(result) == ABSENT


def impatient(definition: dict[str, Any]) -> None:
    """Let the launch give up after two retries, where it really goes on for minutes."""
    for retry in definition["States"]["Launch pipeline"]["Retry"]:
        retry |= {"IntervalSeconds": 1, "MaxDelaySeconds": 2, "MaxAttempts": 2}


@pytest.mark.parametrize("down", ["unavailable", "reset"])
def test_kubeflow_pipelines_is_down(stage: Stage, down: str) -> None:
    stage.kfp_faults(down=down)
    run = Run(stage.deployment)
    with stage.changed_definition(impatient):
        execution = run.start_execution({"dataset": run.put_dataset(stage.good)})
    stage.wait_for_state(execution, "Run failed")
    stage.kfp_faults(down="")
    result = run.follow(execution)
    cause = failed(stage, result, "KfpUnavailable")
    assert "Kubeflow Pipelines" in cause
    assert statuses(result) == ABSENT
    launch = next(state for state in result.states if state["name"] == "Launch pipeline")
    assert launch["outcome"] == "failed"


def test_a_login_page_in_front_of_kubeflow_pipelines(stage: Stage) -> None:
    stage.kfp_faults(login_page=True)
    run = Run(stage.deployment)
    execution = run.start(stage.good, {})
    stage.wait_for_state(execution, "Run failed")
    stage.kfp_faults(login_page=False)
    assert "login page" in failed(stage, run.follow(execution), "KfpMisconfigured")


def test_the_topic_is_told_of_a_failure(stage: Stage) -> None:
    with Topic(stage.deployment) as topic:
        result = stage.play(stage.file("told.pkl", b"This is no pickle."))
        (verdict,) = [json.loads(text) for text in topic.hear() if text.startswith("{")]
    assert (verdict["status"], verdict["error"], verdict["report"]) == ("FAILED", "InvalidDataset", result.report)
