"""The committed MNIST pipeline, executed from its IR in the embedded Kubeflow Pipelines, against moto's own server.

moto's SageMaker finishes every job at once: what is tested here is how the tasks hang together.
"""

import json
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import boto3
import pytest
import urllib3
import yaml

from baton_local.kfp.runs import TERMINAL
from baton_local.kfp.server import KfpServer, PodEnvironment
from baton_local.server import free_port

REGION = "cn-northwest-1"
PIPELINE = Path(__file__).parents[3] / "pipelines" / "mnist_kmeans"
EXECUTION = "arn:aws-cn:states:cn-northwest-1:123456789012:execution:training-run:one"
KEYS = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "s"}
BEST = {"k": "10", "feature_dim": "784", "init_method": "random", "_tuning_objective_metric": "test:msd"}


@pytest.fixture(scope="module")
def aws_url():
    port = free_port()
    url = f"http://localhost:{port}"
    command = [sys.executable, "-m", "moto.server", "-p", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    http, until = urllib3.PoolManager(retries=False), time.monotonic() + 60
    while time.monotonic() < until:
        try:
            http.request("GET", f"{url}/moto-api/data.json")
            break
        except urllib3.exceptions.HTTPError:
            time.sleep(0.1)
    yield url
    process.kill()
    process.wait()


@pytest.fixture
def client(aws_url):
    return lambda service: boto3.client(
        service, REGION, endpoint_url=aws_url, aws_access_key_id="a", aws_secret_access_key="s"
    )


@pytest.fixture(scope="module")
def server(aws_url, tmp_path_factory):
    pods = PodEnvironment(aws_url, lambda *_: KEYS)
    with KfpServer(tmp_path_factory.mktemp("kfp"), pods) as server:
        yield server


@pytest.fixture
def world(client, aws_url):
    urllib3.PoolManager().request("POST", f"{aws_url}/moto-api/reset")
    client("dynamodb").create_table(
        TableName="table",
        KeySchema=[{"AttributeName": "kind", "KeyType": "HASH"}, {"AttributeName": "name", "KeyType": "RANGE"}],
        AttributeDefinitions=[{"AttributeName": n, "AttributeType": "S"} for n in ("kind", "name")],
        BillingMode="PAY_PER_REQUEST",
    )
    # The best training job that every tuning job of moto names.
    client("sagemaker").create_training_job(
        TrainingJobName="FakeTrainingJobName",
        HyperParameters=BEST,
        RoleArn="arn:aws-cn:iam::123456789012:role/sagemaker",
        AlgorithmSpecification={"TrainingImage": "image", "TrainingInputMode": "File"},
        OutputDataConfig={"S3OutputPath": "s3://bucket/tuning/"},
        ResourceConfig={"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 1},
        StoppingCondition={"MaxRuntimeInSeconds": 60},
    )
    return World(client)


class World:
    """The table, and the queue that gets the pipeline's events."""

    def __init__(self, client):
        self.client = client
        self._url = client("sqs").create_queue(QueueName="ends")["QueueUrl"]
        attributes = client("sqs").get_queue_attributes(QueueUrl=self._url, AttributeNames=["QueueArn"])
        pattern = json.dumps({"source": ["baton.pipeline"]})
        client("events").put_rule(Name="ends", EventPattern=pattern)
        target = {"Id": "1", "Arn": attributes["Attributes"]["QueueArn"]}
        client("events").put_targets(Rule="ends", Targets=[target])

    def plan(self, run_id, **values):
        row = {"kind": run_id and "run", "name": run_id, "execution_arn": EXECUTION, **values}
        self.client("dynamodb").put_item(TableName="table", Item={k: {"S": v} for k, v in row.items()})

    def row(self, run_id):
        key = {"kind": {"S": "run"}, "name": {"S": run_id}}
        return self.client("dynamodb").get_item(TableName="table", Key=key)["Item"]

    def ends(self):
        messages = self.client("sqs").receive_message(QueueUrl=self._url, MaxNumberOfMessages=10).get("Messages", [])
        return [json.loads(message["Body"])["detail"] for message in messages]

    def jobs(self):
        sagemaker = self.client("sagemaker")
        names = [j["TrainingJobName"] for j in sagemaker.list_training_jobs()["TrainingJobSummaries"]]
        return [name for name in names if name != "FakeTrainingJobName"]


def parameters(run_id, **changes):
    defaults = tomllib.loads((PIPELINE / "pipeline.toml").read_text())["parameters"]
    base = f"s3://bucket/runs/{run_id}"
    runtime = {
        "run_id": run_id,
        "execution_arn": EXECUTION,
        "pipeline": "mnist_kmeans",
        "expires_at": "2030-01-01T00:00:00Z",
        "region": REGION,
        "table": "table",
        "bucket": "bucket",
        "role_arn": "arn:aws-cn:iam::123456789012:role/sagemaker",
        "training_image": "387376663083.dkr.ecr.cn-northwest-1.amazonaws.com.cn/kmeans:1",
        "kms_key_arn": "",
        "container_image": "registry.example/steps:1",
        "train_data": f"{base}/data/train_data",
        "test_data": f"{base}/data/test_data",
        "transform_input": f"{base}/input/",
        "tuning_output": f"{base}/tuning/",
        "model_output": f"{base}/model/",
        "predictions_output": f"{base}/predictions/",
        "poll_seconds": 0.05,
    }
    return {**runtime, **{name: parameter["default"] for name, parameter in defaults.items()}, **changes}


def launch(server, run_id, **changes):
    body = {
        "display_name": run_id,
        "pipeline_spec": yaml.safe_load((PIPELINE / "pipeline.yaml").read_text()),
        "runtime_config": {"parameters": parameters(run_id, **changes)},
    }
    answer = urllib3.PoolManager().request("POST", f"{server.url}/apis/v2beta1/runs", json=body)
    assert answer.status == 200, answer.data
    return answer.json()["run_id"]


def finish(server, run_id):
    until = time.monotonic() + 60
    while time.monotonic() < until:
        run = server.run(run_id)
        if run.state in TERMINAL:
            return run
        time.sleep(0.05)
    raise AssertionError(server.run(run_id).folder.logs())


def test_the_whole_pipeline(server, world, client):
    name = "bt-0sq1x2k4f0a9c"
    world.plan(name)
    run = finish(server, launch(server, name))
    assert run.state == "SUCCEEDED", run.folder.logs()
    assert world.row(name)["worker_run_id"]["S"] == run.run_id
    assert world.ends() == [{"run_id": name, "pipeline_run_id": run.run_id, "state": "SUCCEEDED"}]
    sagemaker = client("sagemaker")
    training = sagemaker.describe_training_job(TrainingJobName=f"{name}-train")
    assert training["HyperParameters"] == {k: v for k, v in BEST.items() if k != "_tuning_objective_metric"}
    model = sagemaker.describe_model(ModelName=f"{name}-model")
    assert model["PrimaryContainer"]["ModelDataUrl"] == training["ModelArtifacts"]["S3ModelArtifacts"]
    endpoint = sagemaker.describe_endpoint(EndpointName=f"{name}-endpoint")
    assert endpoint["EndpointConfigName"] == f"{name}-config"
    assert sagemaker.describe_transform_job(TransformJobName=f"{name}-transform")["ModelName"] == f"{name}-model"
    tags = sagemaker.list_tags(ResourceArn=endpoint["EndpointArn"])["Tags"]
    assert {"Key": "baton:run-id", "Value": name} in tags


def test_of_two_pipeline_runs_one_does_the_work(server, world):
    name = "bt-0sq1x2k4f0a9f"
    world.plan(name)
    runs = [finish(server, identity) for identity in [launch(server, name), launch(server, name)]]
    assert sorted(run.state for run in runs) == ["FAILED", "SUCCEEDED"]
    winner, loser = sorted(runs, key=lambda run: run.state, reverse=True)
    assert world.row(name)["worker_run_id"]["S"] == winner.run_id
    assert f"Pipeline run {winner.run_id} does the work" in loser.folder.logs()["claim"]
    assert set(loser.tasks) == {"claim", "announce-end"}
    assert {end["pipeline_run_id"]: end["state"] for end in world.ends()} == {
        winner.run_id: "SUCCEEDED",
        loser.run_id: "FAILED",
    }


def test_an_ended_run_creates_nothing_and_says_that_it_failed(server, world):
    name = "bt-0sq1x2k4f0a9g"
    world.plan(name, ended_at="1")
    run = finish(server, launch(server, name))
    assert run.state == "FAILED"
    assert world.jobs() == []
    assert world.ends() == [{"run_id": name, "pipeline_run_id": run.run_id, "state": "FAILED"}]


def tuning_job_of(run_id, client, name):
    client("sagemaker").create_hyper_parameter_tuning_job(
        HyperParameterTuningJobName=f"{name}-tune",
        HyperParameterTuningJobConfig={
            "Strategy": "Random",
            "ResourceLimits": {"MaxNumberOfTrainingJobs": 1, "MaxParallelTrainingJobs": 1},
        },
        Tags=[{"Key": "baton:run-id", "Value": run_id}],
    )


def test_a_step_adopts_what_an_earlier_pod_created(server, world, client):
    name = "bt-0sq1x2k4f0a9h"
    world.plan(name)
    tuning_job_of(name, client, name)
    run = finish(server, launch(server, name))
    assert run.state == "SUCCEEDED"
    assert f"Adopted the tuning job {name}-tune, which is Completed." in run.folder.logs()["tuning"]


def test_a_step_does_not_adopt_what_is_not_the_runs(server, world, client):
    name = "bt-0sq1x2k4f0a9j"
    world.plan(name)
    tuning_job_of("bt-another", client, name)
    run = finish(server, launch(server, name))
    assert run.state == "FAILED"
    assert "does not carry the tag of this run" in run.folder.logs()["tuning"]
    assert world.jobs() == []


def test_a_failed_stage_ends_the_run_with_its_reason_in_the_log(server, world):
    name = "bt-0sq1x2k4f0a9i"
    world.plan(name)
    run = finish(server, launch(server, name, endpoint_instance_type="ml.of.nobody"))
    assert run.state == "FAILED"
    assert "ml.of.nobody" in run.folder.logs()["endpoint"]
    assert run.tasks["transform"].state == "SUCCEEDED"
    assert [end["state"] for end in world.ends()] == ["FAILED"]
