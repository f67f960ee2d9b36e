"""The function write_report as Lambda invokes it, on moto's S3 and Step Functions."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import boto3
import pytest

from baton.names import run_id_for
from tests.support.functions import REGION, Function, deployed, get, keys, put
from tests.support.report_samples import EXECUTION, RUN_ID, STARTED, receipt, state

FAILURE = {"Error": "InvalidInput", "Cause": json.dumps({"errorMessage": "k must be at least 2."})}


@pytest.fixture
def write_report(monkeypatch: pytest.MonkeyPatch) -> Iterator[Function]:
    with deployed("write_report", monkeypatch) as function:
        yield function


def read(path: str, run_id: str = RUN_ID) -> Any:
    return get(f"runs/{run_id}/report/{path}")["Body"].decode()


def executed() -> dict[str, str]:
    """Run a state machine of one state on moto and return its execution as the payload has it."""
    machine = {"StartAt": "Plan run", "States": {"Plan run": {"Type": "Pass", "End": True}}}
    stepfunctions = boto3.client("stepfunctions")
    arn = stepfunctions.create_state_machine(
        name="training-run", definition=json.dumps(machine), roleArn="arn:aws-cn:iam::123456789012:role/r"
    )["stateMachineArn"]
    execution = stepfunctions.start_execution(stateMachineArn=arn, name="one", input="{}")["executionArn"]
    return {**EXECUTION, "id": execution, "name": "one"}


def test_it_writes_both_forms_and_returns_the_verdict(write_report: Function) -> None:
    execution = executed()
    verdict = write_report({"execution": execution, "state": state()})
    assert verdict["status"] == "SUCCEEDED"
    assert verdict["report"] == f"s3://baton-runs/runs/{RUN_ID}/report/report.html"
    assert verdict["output"]["run_id"] == RUN_ID
    assert get(f"runs/{RUN_ID}/report/report.html")["ContentType"] == "text/html; charset=utf-8"
    document = json.loads(read("report.json"))
    assert document["status"] == "SUCCEEDED"
    assert f"https://{REGION}.console.amazonaws.cn/states/" in read("report.html")


def test_the_predictions_come_from_s3(write_report: Function) -> None:
    told = {"row": 1, "label": 7, "cluster": 0, "digit": 7, "correct": True, "distance": 1.0}
    kept = {
        "passed": True,
        "accuracy": 1.0,
        "purity": 1.0,
        "rows": 2,
        "latency_ms": {"p50": 1, "p95": 1, "max": 1},
        "latencies_ms": [1, 1],
        "predictions": [told],
        "single_row": {**told, "split": "train"},
        "pixels": {"predictions": [[0.0, 1.0, 1.0, 0.0]], "single_row": [0.0] * 4},
        "confusion": {"axis": [7], "rows": [[1, 0]]},
        "cluster_digits": {"0": 7},
        "missed": {},
        "measured": {"min_accuracy": 1.0, "max_p95_ms": 1},
    }
    put(f"runs/{RUN_ID}/predictions/smoke_test.json", json.dumps(kept).encode())
    summary = {name: kept[name] for name in ("passed", "accuracy", "purity", "latency_ms", "rows", "predictions")}
    verdict = write_report({"execution": executed(), "state": state(smoke_test=summary)})
    assert verdict["output"]["predictions"] == [told]
    assert json.loads(read("report.json"))["smoke_test"] == kept
    assert 'alt="A handwritten 7, taken for 7"' in read("report.html")


def test_an_execution_without_history_has_a_report_all_the_same(write_report: Function) -> None:
    verdict = write_report({"execution": EXECUTION, "state": state()})
    assert verdict["status"] == "SUCCEEDED"
    assert json.loads(read("report.json"))["timeline"] is None


def versions() -> list[tuple[str, bool]]:
    found = boto3.client("s3").list_object_versions(Bucket="baton-runs")
    assert "DeleteMarkers" not in found
    return sorted((version["Key"].rsplit("/", 1)[1], version["IsLatest"]) for version in found["Versions"])


@pytest.mark.parametrize("versioning", ["Enabled", "Suspended"])
def test_a_second_verdict_takes_the_place_of_the_first_and_leaves_no_old_version(
    write_report: Function, versioning: str
) -> None:
    boto3.client("s3").put_bucket_versioning(Bucket="baton-runs", VersioningConfiguration={"Status": versioning})
    execution = executed()
    write_report({"execution": execution, "state": state()})
    refused = {"Error": "RunEnded", "Cause": json.dumps({"errorMessage": "Run was ended and cleaned up."})}
    verdict = write_report({"execution": execution, "state": state(clean_up_failure=refused)})
    assert (verdict["status"], verdict["error"]) == ("FAILED", "RunEnded")
    assert json.loads(read("report.json"))["error"] == "RunEnded"
    assert "Run was ended and cleaned up." in read("report.html")
    assert versions() == [("report.html", True), ("report.json", True)]


def test_an_attempt_that_is_repeated_leaves_the_report_as_it_is(write_report: Function) -> None:
    execution = executed()
    write_report({"execution": execution, "state": state()})
    first = get(f"runs/{RUN_ID}/report/report.json")["VersionId"]
    write_report({"execution": execution, "state": state()})
    assert get(f"runs/{RUN_ID}/report/report.json")["VersionId"] == first
    assert versions() == [("report.html", True), ("report.json", True)]


def test_a_refused_input_is_reported_without_a_plan(write_report: Function) -> None:
    refused = {"plan": None, "smoke_test": None, "failure": FAILURE, "receipt": receipt(items=[], kept=[])}
    verdict = write_report({"execution": EXECUTION, "state": {**refused, "clean_up_failure": None}})
    run_id = run_id_for(EXECUTION["id"], int(STARTED.timestamp()))
    assert (verdict["error"], verdict["cause"]) == ("InvalidInput", "k must be at least 2.")
    assert "k must be at least 2." in read("report.html", run_id)
    assert keys() == {f"runs/{run_id}/report/report.{form}" for form in ("html", "json")}
