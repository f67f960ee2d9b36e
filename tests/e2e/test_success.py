"""Runs that succeed, from the upload to nothing left."""

from __future__ import annotations

import json

import pytest

from baton.names import Names
from baton_local.cloud import EmbeddedCloud
from baton_local.deployment import Deployment, repository
from baton_local.run import Run
from tests.e2e.conftest import QUICK, Stage

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("stage")]


def test_an_upload_becomes_a_tested_endpoint_a_report_and_nothing_left(stage: Stage) -> None:
    run = Run(stage.deployment)
    result = run.follow(run.start(stage.good))
    assert (result.status, result.error, result.leftovers) == ("SUCCEEDED", None, [])
    assert result.transitions <= 40
    assert {s["name"] for s in result.states} >= {"Plan run", "Await tuning", "Await endpoint", "Clean up", "Notify"}
    assert result.pipeline_run is not None
    assert result.pipeline_run["state"] == "SUCCEEDED"
    assert {kind: thing["status"] for kind, thing in result.sagemaker.items()} == {
        "tuning": "Completed",
        "training": "Completed",
        "model": "Deleted",
        "transform": "Completed",
        "endpoint": "Deleted",
    }
    assert result.smoke_test is not None
    assert result.smoke_test["passed"]
    assert len(result.smoke_test["predictions"]) == 10
    execution = stage.deployment.client("stepfunctions").describe_execution(executionArn=result.execution_arn)
    output = json.loads(execution["output"])
    assert output["run_id"] == result.run_id
    assert output["model_artefact"].endswith("/model.tar.gz")
    assert output["report"] == result.report
    assert output["receipt"]["complete"]
    assert {"metrics", "predictions"} <= output.keys()


def test_an_execution_started_from_the_console(stage: Stage) -> None:
    bucket = stage.deployment.bucket
    table = stage.deployment.client("dynamodb")
    # Under datasets/, so that the upload itself starts nothing.
    stage.deployment.client("s3").upload_file(str(stage.good), bucket, "datasets/mnist.pkl.gz")
    run = Run(stage.deployment)
    given = {"Comment": "from the console", "dataset": f"s3://{bucket}/datasets/mnist.pkl.gz", "parameters": QUICK}
    result = run.follow(run.start_execution(given))
    assert (result.status, result.leftovers) == ("SUCCEEDED", [])
    row = table.get_item(
        TableName=stage.deployment.outputs["TableName"], Key={"kind": {"S": "run"}, "name": {"S": result.run_id}}
    )["Item"]
    assert "receipt" in row


def test_a_kept_endpoint_stays_and_nothing_else_does(stage: Stage) -> None:
    result = stage.play(given={"after": {"endpoint": "keep"}})
    assert (result.status, result.leftovers) == ("SUCCEEDED", [])
    assert result.run_id is not None
    names = Names.of(result.run_id)
    sagemaker = stage.deployment.client("sagemaker")
    endpoint = sagemaker.describe_endpoint(EndpointName=names.endpoint)
    assert endpoint["EndpointStatus"] == "InService"
    tags = {t["Key"] for t in sagemaker.list_tags(ResourceArn=endpoint["EndpointArn"])["Tags"]}
    assert "baton:run-id" in tags
    assert "baton:expires-at" not in tags
    sagemaker.delete_endpoint(EndpointName=names.endpoint)
    sagemaker.delete_endpoint_config(EndpointConfigName=names.endpoint_config)
    sagemaker.delete_model(ModelName=names.model)


def test_a_held_endpoint_goes_when_its_time_is_over(stage: Stage) -> None:
    result = stage.play(given={"after": {"endpoint": "hold", "hold_seconds": 2}})
    assert (result.status, result.leftovers) == ("SUCCEEDED", [])
    held = next(s for s in result.states if s["name"] == "Hold endpoint")
    assert held["seconds"] >= 2


@pytest.mark.xdist_group("china")
def test_china_is_a_region_like_any_other(tmp_path_factory: pytest.TempPathFactory) -> None:
    with EmbeddedCloud(speed=400, cache_dir=repository() / ".cache") as cloud:
        played = Stage(Deployment.make(cloud, "cn-northwest-1"), tmp_path_factory.mktemp("china"))
        result = played.play()
        assert (result.status, result.leftovers) == ("SUCCEEDED", [])
        history = json.dumps(
            played.deployment.client("stepfunctions").get_execution_history(executionArn=result.execution_arn),
            default=str,
        )
        job = played.deployment.client("sagemaker").describe_training_job(
            TrainingJobName=result.sagemaker["training"]["name"]
        )
    assert "arn:aws:" not in history + json.dumps(job, default=str)
    image = job["AlgorithmSpecification"]["TrainingImage"]
    assert image == "387376663083.dkr.ecr.cn-northwest-1.amazonaws.com.cn/kmeans:1"
    assert played.deployment.outputs["StateMachineConsole"].startswith("https://console.amazonaws.cn/")
