"""The function write_report as Lambda invokes it, on moto's S3 and Step Functions."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from baton.clients import client
from baton.names import run_id_for
from tests.support.functions import REGION, Function, aws, deployed, get, keys, put
from tests.support.report_samples import EXECUTION, RUN_ID, STARTED, receipt, state

FAILURE = {"Error": "InvalidInput", "Cause": json.dumps({"errorMessage": "k must be at least 2."})}


@pytest.fixture
def write_report(monkeypatch: pytest.MonkeyPatch) -> Iterator[Function]:
    with deployed("write_report", monkeypatch) as function:
        yield function


def read(path: str, run_id: str = RUN_ID) -> Any:
    return get(f"runs/{run_id}/report/{path}")["Body"].decode()


def executed() -> dict[str, Any]:
    """Run a state machine of one state on moto and return its execution as the payload has it."""
    machine = {"StartAt": "Plan run", "States": {"Plan run": {"Type": "Pass", "End": True}}}
    stepfunctions = aws("stepfunctions")
    arn = stepfunctions.create_state_machine(
        name="training-run", definition=json.dumps(machine), roleArn="arn:aws-cn:iam::123456789012:role/r"
    )["stateMachineArn"]
    execution = stepfunctions.start_execution(stateMachineArn=arn, name="one", input="{}")["executionArn"]
    return {**EXECUTION, "id": execution, "name": "one"}


def payload(execution: dict[str, Any], the_state: dict[str, Any], redrive_count: int = 0, minute: int = 30) -> Any:
    """Return what Write report is invoked with in a redrive of the execution that comes to it at a minute."""
    entered = f"2026-11-23T22:{minute}:00.000Z"
    return {"execution": {**execution, "redrive_count": redrive_count}, "entered": entered, "state": the_state}


def test_it_writes_both_forms_and_returns_the_verdict(write_report: Function) -> None:
    execution = executed()
    verdict = write_report(payload(execution, state()))
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
    verdict = write_report(payload(executed(), state(smoke_test=summary)))
    assert verdict["output"]["predictions"] == [told]
    assert json.loads(read("report.json"))["smoke_test"] == kept
    assert 'alt="A handwritten 7, taken for 7"' in read("report.html")


def test_an_execution_without_history_has_a_report_all_the_same(write_report: Function) -> None:
    verdict = write_report(payload(EXECUTION, state()))
    assert verdict["status"] == "SUCCEEDED"
    assert json.loads(read("report.json"))["timeline"] is None


def versions() -> list[tuple[str, bool]]:
    found = aws("s3").list_object_versions(Bucket="baton-runs")
    assert "DeleteMarkers" not in found
    return sorted((version["Key"].rsplit("/", 1)[1], version["IsLatest"]) for version in found["Versions"])


GOOD = state()
REFUSED = state(
    clean_up_failure={"Error": "RunEnded", "Cause": json.dumps({"errorMessage": "Run was ended and cleaned up."})}
)
LATER = {"of a later redrive": {"redrive_count": 1, "minute": 29}, "of the same redrive": {"minute": 31}}
"""How a report is later than the one of the first state; a clock that was set back plays no part between redrives."""


@pytest.mark.parametrize("later", LATER)
@pytest.mark.parametrize("versioning", ["Enabled", "Suspended"])
def test_a_later_report_takes_the_place_of_the_earlier_one_and_leaves_no_old_version(
    write_report: Function, versioning: str, later: str
) -> None:
    set_versioning(versioning)
    execution = executed()
    write_report(payload(execution, GOOD))
    verdict = write_report(payload(execution, REFUSED, **LATER[later]))
    assert (verdict["status"], verdict["error"]) == ("FAILED", "RunEnded")
    assert json.loads(read("report.json"))["error"] == "RunEnded"
    assert "Run was ended and cleaned up." in read("report.html")
    assert versions() == [("report.html", True), ("report.json", True)]


def test_the_same_verdict_of_a_redrive_is_reported_anew_with_its_own_receipt(write_report: Function) -> None:
    execution = executed()
    for count in (0, 1):
        write_report(payload(execution, state(receipt=receipt(redrive_count=count)), count))
        assert json.loads(read("report.json"))["receipt"]["redrive_count"] == count
    assert versions() == [("report.html", True), ("report.json", True)]


@pytest.mark.parametrize("overtaken", ["the earlier one", "the later one"])
@pytest.mark.parametrize("later", LATER)
@pytest.mark.parametrize("versioning", ["Enabled", "Suspended"])
def test_of_two_reports_that_are_written_at_once_the_later_one_stays(
    write_report: Function, versioning: str, later: str, overtaken: str
) -> None:
    """An invocation that outlives its execution's stop and redrive is overtaken before any of its calls of S3."""
    set_versioning(versioning)
    execution = executed()
    both = [payload(execution, GOOD), payload(execution, REFUSED, **LATER[later])]
    stalled, other = both if overtaken == "the earlier one" else reversed(both)
    for there_before in (None, payload(execution, GOOD, minute=20)):
        calls = 0
        while overtake(write_report, stalled, other, there_before, calls):
            assert json.loads(read("report.json"))["error"] == "RunEnded", calls
            assert "Run was ended and cleaned up." in read("report.html"), calls
            assert versions() == [("report.html", True), ("report.json", True)], calls
            calls += 1
        assert calls > 1


def overtake(write_report: Function, stalled: Any, other: Any, there_before: Any, calls: int) -> bool:
    """Let one invocation come between two calls of S3 of another; return False where there are not so many."""
    empty_bucket()
    if there_before:
        write_report(there_before)
    left = [calls]

    def come_between(**_: Any) -> None:
        left[0] -= 1
        if left[0] == -1:
            write_report(other)

    events = client("s3").meta.events
    events.register("before-call.s3", come_between)
    try:
        write_report(stalled)
    finally:
        events.unregister("before-call.s3", come_between)
    return left[0] < 0


def test_a_report_that_another_invocation_is_replacing_is_written_all_the_same(write_report: Function) -> None:
    execution = executed()
    write_report(payload(execution, GOOD))
    later, events = payload(execution, REFUSED, minute=31), client("s3").meta.events

    def delete(**_: Any) -> None:
        events.unregister("before-call.s3.HeadObject", delete)
        empty_bucket()

    events.register("before-call.s3.HeadObject", delete)
    write_report(later)
    assert json.loads(read("report.json"))["error"] == "RunEnded"


def test_a_report_that_goes_right_before_it_is_replaced_is_written_all_the_same(write_report: Function) -> None:
    """Without versions the old one is replaced on condition that it is there, and S3 answers that it is not."""
    set_versioning("Suspended")
    execution = executed()
    write_report(payload(execution, GOOD))
    later, events = payload(execution, REFUSED, minute=31), client("s3").meta.events

    def delete(params: dict[str, Any], **_: Any) -> None:
        if "If-Match" in params["headers"]:
            events.unregister("before-call.s3.PutObject", delete)
            empty_bucket()

    events.register("before-call.s3.PutObject", delete)
    write_report(later)
    assert json.loads(read("report.json"))["error"] == "RunEnded"
    assert "Run was ended and cleaned up." in read("report.html")
    assert versions() == [("report.html", True), ("report.json", True)]


def set_versioning(status: str) -> None:
    aws("s3").put_bucket_versioning(Bucket="baton-runs", VersioningConfiguration={"Status": status})


def empty_bucket() -> None:
    s3 = aws("s3")
    for version in s3.list_object_versions(Bucket="baton-runs").get("Versions", []):
        s3.delete_object(Bucket="baton-runs", Key=version["Key"], VersionId=version["VersionId"])


def test_an_attempt_that_is_repeated_leaves_the_report_as_it_is(write_report: Function) -> None:
    execution = executed()
    write_report(payload(execution, state()))
    first = get(f"runs/{RUN_ID}/report/report.json")["VersionId"]
    write_report(payload(execution, state()))
    assert get(f"runs/{RUN_ID}/report/report.json")["VersionId"] == first
    assert versions() == [("report.html", True), ("report.json", True)]


def test_a_refused_input_is_reported_without_a_plan(write_report: Function) -> None:
    refused = {"plan": None, "smoke_test": None, "failure": FAILURE, "receipt": receipt(items=[], kept=[])}
    verdict = write_report(payload(EXECUTION, {**refused, "clean_up_failure": None}))
    run_id = run_id_for(EXECUTION["id"], int(STARTED.timestamp()))
    assert (verdict["error"], verdict["cause"]) == ("InvalidInput", "k must be at least 2.")
    assert "k must be at least 2." in read("report.html", run_id)
    assert keys() == {f"runs/{run_id}/report/report.{form}" for form in ("html", "json")}
