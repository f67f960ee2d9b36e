"""Runs that succeed, from the upload to nothing left."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from baton.names import Names
from baton_local.deployment import repository
from baton_local.run import Result, Run
from baton_local.topic import Topic
from tests.e2e.conftest import ENDED_WELL, FIELDS, GRAPH, QUICK, Stage, quick, succeeded

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("stage")]

HOLD_SECONDS = 3


@dataclass
class Stories:
    """Runs that share the stage and are under way at once, and what the topic is told meanwhile."""

    upload: Future[Result]
    keep: Future[Result]
    hold: Future[Result]
    topic: Topic


@pytest.fixture(scope="module")
def stories(stage: Stage) -> Iterator[Stories]:
    """One run from an upload, one from a run.json, one from the console."""
    # The name is that of the pipeline's default data set, which an execution gets that names none.
    named = stage.file("mnist.pkl.gz", stage.good.read_bytes())
    with Topic(stage.deployment) as topic, ThreadPoolExecutor(3) as pool:
        yield Stories(
            upload=pool.submit(upload, stage, named),
            keep=pool.submit(stage.play, given={"after": {"endpoint": "keep"}}, alone=False),
            hold=pool.submit(from_the_console, stage, named),
            topic=topic,
        )


def upload(stage: Stage, dataset: Path) -> Result:
    run = Run(stage.deployment, alone=False)
    return run.follow(run.start(dataset))


def from_the_console(stage: Stage, dataset: Path) -> Result:
    """Start an execution that names no data set, as soon as the pipeline's default one is there."""
    run = Run(stage.deployment, alone=False)
    stage.deployment.client("s3").get_waiter("object_exists").wait(
        Bucket=stage.deployment.bucket, Key=f"uploads/mnist_kmeans/{dataset.name}", WaiterConfig={"Delay": 1}
    )
    given = {"Comment": "from the console", "after": {"endpoint": "hold", "hold_seconds": HOLD_SECONDS}}
    return run.follow(run.start_execution(quick(given)))


# --- an upload --------------------------------------------------------------------------------------------------------


def test_an_upload_becomes_a_tested_endpoint_a_report_and_nothing_left(stage: Stage, stories: Stories) -> None:
    result = succeeded(stories.upload.result())
    assert set(GRAPH) <= {state["name"] for state in result.states}
    assert {state["outcome"] for state in result.states} == {"succeeded"}
    assert result.pipeline_run is not None
    assert result.pipeline_run["state"] == "SUCCEEDED"
    assert {kind: thing["status"] for kind, thing in result.sagemaker.items()} == ENDED_WELL
    assert {thing["name"][: len(str(result.run_id))] for thing in result.sagemaker.values()} == {result.run_id}
    assert [result.as_dict()[field] for field in ("region", "run_id")] == ["eu-west-1", result.run_id]
    assert set(FIELDS) <= set(result.as_dict())


def test_the_smoke_test_asks_the_endpoint_for_real_predictions(stories: Stories) -> None:
    smoke_test = succeeded(stories.upload.result()).smoke_test
    assert smoke_test is not None
    assert smoke_test["passed"] is True
    # The digits' own k-means with k = 10 reads 0.7 to 0.8 of them; guessing would read 0.1.
    assert 0.5 < smoke_test["accuracy"] < 0.95
    assert len(smoke_test["predictions"]) == 10
    assert all(0 <= p["cluster"] < 10 and p["distance"] > 0 for p in smoke_test["predictions"])
    assert 0 < smoke_test["latency_ms"]["p50"] <= smoke_test["latency_ms"]["p95"]


def test_the_output_of_the_execution_says_what_the_run_made(stage: Stage, stories: Stories) -> None:
    result = succeeded(stories.upload.result())
    output = json.loads(stage.execution(str(result.execution_arn))["output"])
    assert output["run_id"] == result.run_id
    assert output["report"] == result.report
    assert output["endpoint"] is None
    assert output["metrics"]["accuracy"] == pytest.approx(result.smoke_test and result.smoke_test["accuracy"])
    assert [p["cluster"] for p in output["predictions"]] == [
        p["cluster"] for p in (result.smoke_test or {})["predictions"]
    ]
    bucket, _, key = output["model_artefact"].removeprefix("s3://").partition("/")
    assert stage.deployment.client("s3").head_object(Bucket=bucket, Key=key)["ContentLength"] > 0
    assert output["receipt"]["complete"]
    assert output["receipt"]["cause"] is None
    actions = {item["kind"]: item["action"] for item in output["receipt"]["items"]}
    assert {kind: actions[kind] for kind in ("endpoint", "endpoint_config", "model")} == dict.fromkeys(
        ("endpoint", "endpoint_config", "model"), "deleted"
    )


def test_every_row_of_the_upload_is_trained_on(stage: Stage, stories: Stories) -> None:
    report = stage.report(str(succeeded(stories.upload.result()).run_id))
    prepared = report["dataset"]["prepared"]
    assert (prepared["train"]["rows"], prepared["test"]["rows"], prepared["valid"]["rows"]) == (1200, 600, 600)
    assert prepared["dataset"]["sha256"] == hashlib.sha256(stage.good.read_bytes()).hexdigest()
    assert report["status"] == "SUCCEEDED"
    assert report["receipt"]["complete"]


def test_each_function_logs_each_of_its_lines_once_and_as_json(stage: Stage, stories: Stories) -> None:
    run_id = succeeded(stories.upload.result()).run_id
    pages = (
        stage.deployment.client("logs").get_paginator("filter_log_events").paginate(logGroupName="/aws/lambda/baton")
    )
    messages = [event["message"] for page in pages for event in page["events"]]
    lines = [json.loads(message) for message in messages if message.startswith("{")]
    planned = [
        line for line in lines if line.get("correlation_id") == run_id and line["message"] == "The run is planned."
    ]
    assert len(planned) == 1
    assert not [message for message in messages if message.startswith(("[INFO]", "[WARNING]"))]


def test_the_topic_is_told_how_the_run_ended(stage: Stage, stories: Stories) -> None:
    result = succeeded(stories.upload.result())
    told = [json.loads(text) for text in stories.topic.hear() if text.startswith("{")]
    (verdict,) = [v for v in told if (v.get("output") or {}).get("run_id") == result.run_id]
    assert (verdict["status"], verdict["report"]) == ("SUCCEEDED", result.report)


def test_an_event_that_comes_again_starts_nothing_more(stage: Stage, stories: Stories) -> None:
    result = succeeded(stories.upload.result())
    stepfunctions = stage.deployment.client("stepfunctions")
    dataset = json.loads(stage.execution(str(result.execution_arn))["input"])
    event = json.loads((repository() / "events" / "s3_object_created.json").read_text())
    event["detail"]["bucket"]["name"] = stage.deployment.bucket
    event["detail"]["object"] |= {
        "key": dataset["dataset"].split("/", 3)[3],
        "version-id": dataset["dataset_version"],
        "size": stage.good.stat().st_size,
    }
    before = stepfunctions.list_executions(stateMachineArn=stage.deployment.state_machine)["executions"]
    for _ in range(2):
        answer = stage.deployment.client("lambda").invoke(
            FunctionName=stage.deployment.physical_id("StartRunFunction"), Payload=json.dumps(event)
        )
        assert json.load(answer["Payload"]) == {"started": result.execution_arn}
    after = stepfunctions.list_executions(stateMachineArn=stage.deployment.state_machine)["executions"]
    assert {e["executionArn"] for e in after} == {e["executionArn"] for e in before}


# --- what stays -------------------------------------------------------------------------------------------------------


def test_a_kept_endpoint_stays_and_nothing_else_does(stage: Stage, stories: Stories) -> None:
    result = succeeded(stories.keep.result())
    run_id = str(result.run_id)
    names = Names.of(run_id)
    output = json.loads(stage.execution(str(result.execution_arn))["output"])
    assert output["endpoint"] == names.endpoint
    stays = {
        f"endpoint {names.endpoint}",
        f"endpoint configuration {names.endpoint_config}",
        f"model {names.model}",
    }
    assert set(stage.deployment.leftovers(run_id=run_id)) == stays
    assert result.leftovers == []
    assert result.kept == sorted((names.endpoint, names.endpoint_config, names.model))
    tags = tags_of_what_serves(stage, names)
    assert [t["baton:run-id"] for t in tags] == [run_id] * 3
    assert not any("baton:expires-at" in t for t in tags)
    # Neither the janitor nor anybody else takes it away.
    assert run_id not in [started["run_id"] for started in stage.make_janitors_round()["started"]]
    assert predicted_cluster(stage, names.endpoint) in range(10)
    delete_what_serves(stage, names)
    assert stage.deployment.leftovers(run_id=run_id) == []


def tags_of_what_serves(stage: Stage, names: Names) -> list[dict[str, str]]:
    sagemaker = stage.deployment.client("sagemaker")
    arns = [
        sagemaker.describe_endpoint(EndpointName=names.endpoint)["EndpointArn"],
        sagemaker.describe_endpoint_config(EndpointConfigName=names.endpoint_config)["EndpointConfigArn"],
        sagemaker.describe_model(ModelName=names.model)["ModelArn"],
    ]
    return [{t["Key"]: t["Value"] for t in sagemaker.list_tags(ResourceArn=arn)["Tags"]} for arn in arns]


def predicted_cluster(stage: Stage, endpoint: str) -> int:
    row = ",".join(f"{pixel:.3f}" for pixel in np.linspace(0, 1, 784))
    answer = stage.deployment.client("sagemaker-runtime").invoke_endpoint(
        EndpointName=endpoint, ContentType="text/csv", Body=row.encode()
    )
    return int(json.load(answer["Body"])["predictions"][0]["closest_cluster"])


def delete_what_serves(stage: Stage, names: Names) -> None:
    sagemaker = stage.deployment.client("sagemaker")
    sagemaker.delete_endpoint(EndpointName=names.endpoint)
    sagemaker.delete_endpoint_config(EndpointConfigName=names.endpoint_config)
    sagemaker.delete_model(ModelName=names.model)
    sagemaker.get_waiter("endpoint_deleted").wait(EndpointName=names.endpoint, WaiterConfig={"Delay": 1})


def test_a_held_endpoint_goes_when_its_time_is_over(stories: Stories) -> None:
    result = succeeded(stories.hold.result())
    held = next(state for state in result.states if state["name"] == "Hold endpoint")
    assert HOLD_SECONDS <= held["seconds"] < HOLD_SECONDS + 5
    assert result.sagemaker["endpoint"]["status"] == "Deleted"


def test_an_execution_that_names_no_data_set_takes_the_pipelines_own(stage: Stage, stories: Stories) -> None:
    report = stage.report(str(succeeded(stories.hold.result()).run_id))
    assert report["dataset"]["uri"] == f"s3://{stage.deployment.bucket}/uploads/mnist_kmeans/mnist.pkl.gz"
    assert report["parameters"]["max_tuning_jobs"] == QUICK["max_tuning_jobs"]
