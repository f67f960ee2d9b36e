"""The function plan_run as Lambda invokes it, on moto's S3 and DynamoDB."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from baton import clients
from baton.errors import AccessDenied, InvalidInput, RunEnded, TransientAwsError
from tests.support.functions import REGION, Function, deployed, put, runs
from tests.support.packaged import packaged_pipelines

KEY = "uploads/mnist_kmeans/mnist.pkl.gz"
EXECUTION = f"arn:aws-cn:states:{REGION}:123456789012:execution:baton-training-run:one"
# A row of a run that was started long ago would count as expired.
CONTEXT = {"id": EXECUTION, "name": "one", "start_time": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.123Z")}
ROLE = "arn:aws-cn:iam::123456789012:role/sagemaker"


@pytest.fixture
def plan_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Function]:
    environment = {
        "BATON_DATASET_BUCKETS": "arn:aws-cn:s3:::shared,another",
        "BATON_HEARTBEAT_SECONDS": "60",
        "BATON_SAGEMAKER_ROLE_ARN": ROLE,
        "BATON_PIPELINE_IMAGE": "steps:1",
    }
    with packaged_pipelines(tmp_path, monkeypatch), deployed("plan_run", monkeypatch, **environment) as function:
        yield function


def planned(**content: Any) -> dict[str, Any]:
    return {"input": content, "execution": CONTEXT}


def test_a_plan_is_made_and_its_run_opened(plan_run: Function) -> None:
    version = put(KEY, b"data")
    plan = plan_run(planned(dataset=f"s3://baton-runs/{KEY}"))
    assert plan["dataset"] == {
        "uri": f"s3://baton-runs/{KEY}",
        "bucket": "baton-runs",
        "key": KEY,
        "version_id": version,
        "bytes": 4,
    }
    assert plan["images"] == {
        "training": "387376663083.dkr.ecr.cn-northwest-1.amazonaws.com.cn/kmeans:1",
        "steps": "steps:1",
    }
    assert (plan["role_arn"], plan["heartbeat_seconds"]) == (ROLE, 60)
    row = runs().get(plan["run_id"])
    assert row
    assert (row["execution_arn"], row["deadline_at"]) == (EXECUTION, plan["deadline_at"])
    assert "ended_at" not in row
    assert len(json.dumps(plan)) < 16 * 1024


def test_a_retry_gives_the_same_plan(plan_run: Function) -> None:
    put(KEY, b"data")
    request = planned(dataset=f"s3://baton-runs/{KEY}")
    assert plan_run(request) == plan_run(request)
    assert len(runs().all()) == 1


def test_an_older_version_can_be_asked_for(plan_run: Function) -> None:
    old = put(KEY, b"old data")
    put(KEY, b"new")
    plan = plan_run(planned(dataset=f"s3://baton-runs/{KEY}", dataset_version=old))
    assert (plan["dataset"]["version_id"], plan["dataset"]["bytes"]) == (old, 8)


def test_a_data_set_may_come_from_another_bucket_of_the_list(plan_run: Function) -> None:
    s3 = boto3.client("s3")
    s3.create_bucket(Bucket="shared", CreateBucketConfiguration={"LocationConstraint": REGION})
    s3.put_object(Bucket="shared", Key="a.pkl", Body=b"12345")
    plan = plan_run(planned(dataset="s3://shared/a.pkl"))
    assert (plan["dataset"]["bytes"], plan["dataset"]["version_id"]) == (5, None)


@pytest.mark.parametrize(
    "content",
    [
        {"dataset": "s3://baton-runs/missing.pkl"},
        {"dataset": f"s3://baton-runs/{KEY}", "dataset_version": "1234abcd"},
        {"dataset": "s3://another/missing.pkl"},
    ],
)
def test_a_data_set_that_is_not_there_is_told(plan_run: Function, content: dict[str, Any]) -> None:
    put(KEY, b"data")
    with pytest.raises(InvalidInput, match="does not exist"):
        plan_run(planned(**content))


def test_three_wrong_fields_are_all_told_in_one_log_line(plan_run: Function, caplog: pytest.LogCaptureFixture) -> None:
    put(KEY, b"data")
    with pytest.raises(InvalidInput) as error:
        plan_run(planned(dataset=f"s3://baton-runs/{KEY}", deadline=1, parameters={"k": 0}, after={"endpoint": 3}))
    assert all(field in str(error.value) for field in ("deadline", "parameters.k", "after.endpoint"))
    assert runs().all() == []
    (failed,) = [record.__dict__ for record in caplog.records if record.name == "baton"]
    assert (failed["error"], failed["retryable"]) == ("InvalidInput", False)


@pytest.mark.parametrize("content", [[], "text", None, 7])
def test_an_input_that_is_no_object_is_refused(plan_run: Function, content: Any) -> None:
    with pytest.raises(InvalidInput):
        plan_run({"input": content, "execution": CONTEXT})


def test_a_run_that_was_ended_is_not_planned_again(plan_run: Function) -> None:
    put(KEY, b"data")
    request = planned(dataset=f"s3://baton-runs/{KEY}")
    runs().end_badly(plan_run(request)["run_id"])
    with pytest.raises(RunEnded):
        plan_run(request)


def test_an_s3_that_is_busy_is_a_reason_to_try_again(plan_run: Function, monkeypatch: pytest.MonkeyPatch) -> None:
    def busy(**_: Any) -> None:
        response: Any = {"Error": {"Code": "503"}, "ResponseMetadata": {"HTTPStatusCode": 503}}
        raise ClientError(response, "HeadObject")

    monkeypatch.setattr(clients.client("s3"), "head_object", busy)
    with pytest.raises(TransientAwsError):
        plan_run(planned(dataset=f"s3://baton-runs/{KEY}"))


def test_a_data_set_of_the_run_bucket_that_may_not_be_read_names_the_function_and_the_action(
    plan_run: Function, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(**_: Any) -> None:
        response: Any = {"Error": {"Code": "403", "Message": "Forbidden"}, "ResponseMetadata": {"HTTPStatusCode": 403}}
        raise ClientError(response, "HeadObject")

    monkeypatch.setattr(clients.client("s3"), "head_object", forbidden)
    with pytest.raises(AccessDenied, match=rf"plan_run.* s3:GetObject on s3://baton-runs/{KEY}"):
        plan_run(planned(dataset=f"s3://baton-runs/{KEY}"))
