"""What counts as left over: each kind of thing is made once and must be named, and nothing that a run is for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import boto3
import pytest
from moto import mock_aws

from baton_local.leftovers import Leftovers

BUCKET = "run-bucket"
RUN = "bt-0abcdef000001"
FOLDER = f"runs/{RUN}"


class SageMaker:
    """Answers every list; ``things`` are by operation, two pages of each."""

    def __init__(self) -> None:
        self.things: dict[str, list[dict[str, str]]] = {}
        self.fields = {
            "list_training_jobs": "TrainingJobSummaries",
            "list_hyper_parameter_tuning_jobs": "HyperParameterTuningJobSummaries",
            "list_transform_jobs": "TransformJobSummaries",
            "list_endpoints": "Endpoints",
            "list_endpoint_configs": "EndpointConfigs",
            "list_models": "Models",
        }

    def __getattr__(self, operation: str) -> Callable[..., dict[str, Any]]:
        def call(NextToken: str = "") -> dict[str, Any]:
            if not NextToken:
                return {self.fields[operation]: [], "NextToken": "2"}
            return {self.fields[operation]: self.things.get(operation, [])}

        return call


class Kfp:
    def __init__(self) -> None:
        self.found: list[dict[str, str]] = []
        self.down = False

    def runs(self) -> Iterator[dict[str, str]]:
        if self.down:
            raise OSError("no answer")
        yield from self.found


class Account:
    """One region of an account with a versioned run bucket."""

    def __init__(self) -> None:
        self.s3 = boto3.client("s3")
        self.s3.create_bucket(Bucket=BUCKET)
        self.s3.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
        self.sagemaker = SageMaker()
        self.kfp = Kfp()

    def put(self, key: str) -> None:
        self.s3.put_object(Bucket=BUCKET, Key=key, Body=b"x")

    def left(self, kept: frozenset[str] = frozenset(), run_id: str = "") -> list[str]:
        clients = {"s3": self.s3, "sagemaker": self.sagemaker}
        kfp: Any = self.kfp
        return Leftovers(clients.__getitem__, BUCKET, "uploads/", kfp).find(kept, run_id)


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> Iterator[Account]:
    for name, value in {"ACCESS_KEY_ID": "x", "SECRET_ACCESS_KEY": "x", "DEFAULT_REGION": "us-east-1"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    with mock_aws():
        yield Account()


def test_what_a_run_is_for_and_what_was_uploaded_is_not_left_over(account: Account) -> None:
    for path in ("report/report.html", "report/report.json", "model/job/model.tar.gz", "predictions/valid.csv.out"):
        account.put(f"{FOLDER}/{path}")
    for folder in ("uploads", "datasets"):
        account.put(f"{folder}/mnist_kmeans/mnist.pkl.gz")
        account.put(f"{folder}/mnist_kmeans/mnist.pkl.gz")
        account.put(f"{folder}/gone.pkl")
        account.s3.delete_object(Bucket=BUCKET, Key=f"{folder}/gone.pkl")
    assert account.left() == []


@pytest.mark.parametrize("path", ["data/train_data", "input/valid_data.csv", "tuning/job/model.tar.gz", "x"])
def test_an_object_of_a_run_is_named(account: Account, path: str) -> None:
    account.put(f"{FOLDER}/{path}")
    assert account.left() == [f"object s3://{BUCKET}/{FOLDER}/{path}"]


@pytest.mark.parametrize("key", ["x", "tmp/model/x", "runsmith/x/model/y", "model/x", "datasets.txt"])
def test_an_object_that_is_of_no_run_is_named_wherever_it_is(account: Account, key: str) -> None:
    account.put(key)
    assert account.left() == [f"object s3://{BUCKET}/{key}"]


def test_a_version_that_is_not_current_is_named_even_of_what_is_kept(account: Account) -> None:
    account.put(f"{FOLDER}/model/model.tar.gz")
    account.put(f"{FOLDER}/model/model.tar.gz")
    assert account.left() == [f"non-current version of s3://{BUCKET}/{FOLDER}/model/model.tar.gz"]


def test_what_was_only_marked_as_deleted_is_named_twice(account: Account) -> None:
    account.put(f"{FOLDER}/data/train_data")
    account.s3.delete_object(Bucket=BUCKET, Key=f"{FOLDER}/data/train_data")
    assert sorted(account.left()) == [
        f"delete marker of s3://{BUCKET}/{FOLDER}/data/train_data",
        f"non-current version of s3://{BUCKET}/{FOLDER}/data/train_data",
    ]


def test_an_unfinished_upload_is_named(account: Account) -> None:
    account.s3.create_multipart_upload(Bucket=BUCKET, Key=f"{FOLDER}/data/train_data")
    assert account.left() == [f"unfinished upload of s3://{BUCKET}/{FOLDER}/data/train_data"]


@pytest.mark.parametrize(
    ("operation", "api", "word"),
    [
        ("list_training_jobs", "TrainingJob", "training job"),
        ("list_hyper_parameter_tuning_jobs", "HyperParameterTuningJob", "tuning job"),
        ("list_transform_jobs", "TransformJob", "transform job"),
    ],
)
def test_a_job_is_named_until_it_has_ended(account: Account, operation: str, api: str, word: str) -> None:
    account.sagemaker.things[operation] = [
        {f"{api}Name": f"{RUN}-{status}", f"{api}Status": status}
        for status in ("InProgress", "Stopping", "Completed", "Failed", "Stopped")
    ]
    assert account.left() == [f"{word} ({status}) {RUN}-{status}" for status in ("InProgress", "Stopping")]


@pytest.mark.parametrize(
    ("operation", "api", "word"),
    [
        ("list_endpoints", "Endpoint", "endpoint"),
        ("list_endpoint_configs", "EndpointConfig", "endpoint configuration"),
        ("list_models", "Model", "model"),
    ],
)
def test_what_serves_is_named_unless_the_plan_keeps_it(account: Account, operation: str, api: str, word: str) -> None:
    account.sagemaker.things[operation] = [{f"{api}Name": f"{RUN}-it"}]
    assert account.left() == [f"{word} {RUN}-it"]
    assert account.left(kept=frozenset({f"{RUN}-it"})) == []
    assert account.left(kept=frozenset({f"{RUN}-i"})) == [f"{word} {RUN}-it"]


def test_a_pipeline_run_is_named_until_it_has_ended(account: Account) -> None:
    account.kfp.found = [
        {"run_id": f"id-{state}", "state": state, "display_name": RUN}
        for state in ("RUNNING", "CANCELING", "SUCCEEDED", "FAILED", "CANCELED", "SKIPPED")
    ]
    assert account.left() == [f"pipeline run ({state}) id-{state} of {RUN}" for state in ("RUNNING", "CANCELING")]


def test_pipeline_runs_that_cannot_be_seen_count_as_left(account: Account) -> None:
    account.kfp.down = True
    assert account.left(run_id=RUN) == [f"pipeline runs that nobody can see (no answer) {RUN}"]


def test_of_a_run_only_what_bears_its_id_counts(account: Account) -> None:
    account.put(f"{FOLDER}/data/train_data")
    account.put("runs/bt-0abcdef000002/data/train_data")
    assert len(account.left()) == 2
    assert account.left(run_id=RUN) == [f"object s3://{BUCKET}/{FOLDER}/data/train_data"]
