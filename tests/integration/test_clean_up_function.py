"""The function clean_up as Lambda invokes it, on moto's DynamoDB, S3 and SageMaker, with a KFP API over HTTP."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

import boto3
import pytest
from moto import mock_aws

from baton.errors import KfpUnavailable, NotGoneYet
from baton.items import DynamoItems
from baton.kfp import kfp_client
from baton.names import Layout, Names, run_id_for, tags_of
from baton.runs import Runs
from tests.support.functions import app_of, context_of, forget_what_a_sandbox_keeps

REGION = "cn-northwest-1"
START = 1_800_000_000
EXECUTION = f"arn:aws-cn:states:{REGION}:123456789012:execution:baton-training-run:one"
RUN_ID = run_id_for(EXECUTION, START)
NAMES = Names.of(RUN_ID)
TAGS = tags_of(RUN_ID, EXECUTION, "mnist_kmeans", "2027-01-16T08:00:00Z")
LAYOUT = Layout("run-bucket", RUN_ID)
ROLE = "arn:aws-cn:iam::123456789012:role/sagemaker"


class Kfp:
    """As much of the v2beta1 API as clean-up talks to; a terminated run ends when it is next looked at."""

    def __init__(self) -> None:
        self.runs = {"kfp-1": "RUNNING"}
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def answer(self, method: str, path: str) -> dict[str, Any] | None:
        if path == "/healthz":
            return {"tag_name": "2.17.0", "multi_user": False}
        if path == "/experiments":
            return {"experiments": [{"experiment_id": "e-1", "display_name": "baton"}]}
        if path == "/runs":
            return {"runs": [self._run(run_id) for run_id in self.runs]}
        run_id, _, verb = path.removeprefix("/runs/").partition(":")
        if verb == "terminate" and method == "POST":
            self.runs[run_id] = "CANCELING"
            return {}
        return self._run(run_id) if run_id in self.runs else None

    def _run(self, run_id: str) -> dict[str, str]:
        state = self.runs[run_id]
        return {"run_id": run_id, "display_name": RUN_ID, "state": state, "experiment_id": "e-1"}

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        kfp_api = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                found = kfp_api.answer(self.command, urlsplit(self.path).path.removeprefix("/apis/v2beta1"))
                body = json.dumps(found if found is not None else {"code": 5, "message": "not found"}).encode()
                self.send_response(200 if found is not None else 404)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_POST = do_GET

            def log_message(self, format: str, *args: Any) -> None:
                """Keep quiet."""

        return Handler


@pytest.fixture
def kfp_api() -> Iterator[Kfp]:
    api = Kfp()
    yield api
    api.server.shutdown()
    api.server.server_close()


@pytest.fixture
def handler(monkeypatch: pytest.MonkeyPatch, kfp_api: Kfp) -> Iterator[Any]:
    environment = {
        "AWS_ACCESS_KEY_ID": "x",
        "AWS_SECRET_ACCESS_KEY": "x",
        "AWS_DEFAULT_REGION": REGION,
        "AWS_REGION": REGION,
        "BATON_PARTITION": "aws-cn",
        "BATON_URL_SUFFIX": "amazonaws.com.cn",
        "BATON_TABLE": "table",
        "BATON_BUCKET": LAYOUT.bucket,
        "BATON_KFP_URL": kfp_api.url,
        "POWERTOOLS_TRACE_DISABLED": "true",
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    forget()
    with mock_aws():
        make_account()
        yield load_handler()
    forget()


def forget() -> None:
    forget_what_a_sandbox_keeps()
    kfp_client.cache_clear()


def load_handler() -> Any:
    module, context = app_of("clean_up"), context_of("clean_up")
    return lambda event: module.handler(event, context)


def make_account() -> None:
    key = [{"AttributeName": "kind", "KeyType": "HASH"}, {"AttributeName": "name", "KeyType": "RANGE"}]
    types = [{"AttributeName": name, "AttributeType": "S"} for name in ("kind", "name")]
    boto3.client("dynamodb").create_table(
        TableName="table", KeySchema=key, AttributeDefinitions=types, BillingMode="PAY_PER_REQUEST"
    )
    s3 = boto3.client("s3")
    s3.create_bucket(Bucket=LAYOUT.bucket, CreateBucketConfiguration={"LocationConstraint": REGION})
    s3.put_bucket_versioning(Bucket=LAYOUT.bucket, VersioningConfiguration={"Status": "Enabled"})
    for path in ("data/train_data", "data/train_data", "model/model.tar.gz"):
        s3.put_object(Bucket=LAYOUT.bucket, Key=LAYOUT.key(path), Body=b"x")
    make_serving(boto3.client("sagemaker"))


def make_serving(sagemaker: Any) -> None:
    tags = [{"Key": key, "Value": value} for key, value in TAGS.items()]
    sagemaker.create_model(ModelName=NAMES.model, ExecutionRoleArn=ROLE, PrimaryContainer={"Image": "i"}, Tags=tags)
    variant = {
        "VariantName": "AllTraffic",
        "ModelName": NAMES.model,
        "InitialInstanceCount": 1,
        "InstanceType": "ml.m5.large",
    }
    sagemaker.create_endpoint_config(EndpointConfigName=NAMES.endpoint_config, ProductionVariants=[variant], Tags=tags)
    sagemaker.create_endpoint(EndpointName=NAMES.endpoint, EndpointConfigName=NAMES.endpoint_config, Tags=tags)


def open_run(after: str = "delete") -> Runs:
    runs = Runs(DynamoItems.named("table"))
    plan = {"run_id": RUN_ID, "execution_arn": EXECUTION, "pipeline": "mnist_kmeans", "created_at": START}
    runs.open({**plan, "deadline_at": START + 7200, "tags": TAGS, "after": {"endpoint": after}})
    runs.record_launch(RUN_ID, "kfp-1")
    return runs


def test_it_ends_a_run_and_stores_the_receipt_that_it_returns(handler: Any, kfp_api: Kfp) -> None:
    runs = open_run()
    event = {"execution_arn": EXECUTION, "start_time": "2027-01-15T08:00:00.123Z", "succeeded": False}
    with pytest.raises(NotGoneYet, match=r"kfp-1 \(CANCELING\)"):
        handler(event)
    kfp_api.runs["kfp-1"] = "CANCELED"
    receipt = handler(event)
    actions = {item["kind"]: item["action"] for item in receipt["items"]}
    assert {kind for kind, action in actions.items() if action == "deleted"} == {"endpoint", "endpoint_config", "model"}
    assert actions["training"] == "absent"
    assert receipt["objects"] == {"deleted": 1, "versions": 2, "uploads_aborted": 0}
    assert receipt["kept"] == [LAYOUT.uri("model/")]
    row = runs.get(RUN_ID)
    assert row
    assert json.loads(row["receipt"]) == receipt
    assert boto3.client("sagemaker").list_endpoints()["Endpoints"] == []


def test_it_lifts_the_expiry_of_a_kept_endpoint(handler: Any, kfp_api: Kfp) -> None:
    open_run(after="keep")
    kfp_api.runs["kfp-1"] = "SUCCEEDED"
    receipt = handler({"execution_arn": EXECUTION, "run_id": RUN_ID, "failure": None})
    assert NAMES.endpoint in receipt["kept"]
    sagemaker = boto3.client("sagemaker")
    endpoint = sagemaker.describe_endpoint(EndpointName=NAMES.endpoint)
    tags = {tag["Key"] for tag in sagemaker.list_tags(ResourceArn=endpoint["EndpointArn"])["Tags"]}
    assert tags == set(TAGS) - {"baton:expires-at"}


def test_an_execution_that_never_planned_needs_no_kfp(handler: Any, kfp_api: Kfp) -> None:
    kfp_api.server.shutdown()
    receipt = handler({"execution_arn": EXECUTION, "start_time": START * 1000 + 123})
    assert receipt["complete"] is True
    assert {item["action"] for item in receipt["items"]} == {"absent"}


def test_kfp_down_leaves_sagemaker_and_s3_clean(handler: Any, kfp_api: Kfp, monkeypatch: pytest.MonkeyPatch) -> None:
    open_run()
    monkeypatch.setenv("BATON_KFP_URL", "http://127.0.0.1:9")
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    forget()
    with pytest.raises(KfpUnavailable):
        handler({"execution_arn": EXECUTION, "run_id": RUN_ID, "succeeded": False})
    assert boto3.client("sagemaker").list_endpoints()["Endpoints"] == []
    versions = boto3.client("s3").list_object_versions(Bucket=LAYOUT.bucket)["Versions"]
    assert [version["Key"] for version in versions] == [LAYOUT.key("model/model.tar.gz")]
