"""What docs/operations.md says of a deployed stack: redriving events, redriving executions, what a run costs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from baton_cli.main import main
from baton_local.deployment import repository
from baton_local.run import Run
from tests.e2e.conftest import QUICK, Stage, wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("second-stage")]

OPERATIONS = (repository() / "docs" / "operations.md").read_text("utf-8")


@pytest.fixture
def here(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    """The stage, with its credentials in this process's environment."""
    for name, value in stage.deployment.cloud.environment(stage.deployment.region).items():
        monkeypatch.setenv(name, value)
    yield stage
    stage.deployment.client("events").enable_rule(Name=stage.deployment.physical_id("UploadRule"))


def _executions(stage: Stage) -> set[str]:
    answer = stage.deployment.client("stepfunctions").list_executions(stateMachineArn=stage.deployment.state_machine)
    return {run["executionArn"] for run in answer["executions"]}


def _execution(stage: Stage, arn: str | None) -> dict[str, Any]:
    found: dict[str, Any] = stage.deployment.client("stepfunctions").describe_execution(executionArn=arn)
    return found


def _states(stage: Stage, execution: str) -> list[str]:
    pages = stage.deployment.client("stepfunctions").get_paginator("get_execution_history")
    events = [event for page in pages.paginate(executionArn=execution) for event in page["events"]]
    return [event["stateEnteredEventDetails"]["name"] for event in events if "stateEnteredEventDetails" in event]


def _upload_event(stage: Stage, key: str, version: str, size: int) -> str:
    stored = {"key": key, "size": size, "version-id": version, "sequencer": "00617F08299329D189", "etag": "e"}
    event = {
        "version": "0",
        "id": "1",
        "detail-type": "Object Created",
        "source": "aws.s3",
        "time": "2026-11-23T10:00:00Z",
        "detail": {"version": "0", "bucket": {"name": stage.deployment.bucket}, "object": stored},
    }
    return json.dumps(event)


def test_an_upload_whose_event_nobody_took_starts_its_run_when_redriven(
    here: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    s3, bucket, key = here.deployment.client("s3"), here.deployment.bucket, "uploads/mnist_kmeans/run.json"
    here.deployment.client("events").disable_rule(Name=here.deployment.physical_id("UploadRule"))
    s3.upload_file(str(here.good), bucket, "datasets/redriven.pkl.gz")
    content = json.dumps({"dataset": f"s3://{bucket}/datasets/redriven.pkl.gz", "parameters": QUICK}).encode()
    version = s3.put_object(Bucket=bucket, Key=key, Body=content)["VersionId"]
    url = here.deployment.outputs["DeadLetterQueueUrl"]
    body = _upload_event(here, key, version, len(content))
    # As Lambda sets an event aside that start_run failed on.
    why = {"ErrorMessage": {"DataType": "String", "StringValue": "Rate Exceeded."}}
    here.deployment.client("sqs").send_message(QueueUrl=url, MessageBody=body, MessageAttributes=why)
    here.deployment.client("sqs").send_message(QueueUrl=url, MessageBody="no event")
    before = _executions(here)
    assert main(["doctor"]) == 1
    assert "mend: .venv/bin/baton redrive --stack-name baton" in capsys.readouterr().out
    # Typed in a row, as docs/operations.md has them: looking hides nothing from the command after it.
    upload = "Object Created of 2026-11-23T10:00:00Z: to start_run\n      Rate Exceeded.\n"
    assert main(["redrive", "--dry-run"]) == 1
    assert upload in capsys.readouterr().out
    assert main(["doctor"]) == 1
    assert "2 events could not be handled" in capsys.readouterr().out
    assert main(["redrive"]) == 1
    assert upload in capsys.readouterr().out
    assert main(["redrive", "--discard"]) == 0
    assert "A message of an unknown time: deleted: it is no event" in capsys.readouterr().out
    wait_until(lambda: _executions(here) - before, "the redriven upload started nothing")
    [execution] = _executions(here) - before
    assert Run(here.deployment).follow(execution).status == "SUCCEEDED"
    assert main(["redrive"]) == 0
    assert capsys.readouterr().out == "0 events in the dead-letter queue\n"


def test_the_bad_end_of_an_execution_is_cleaned_up_when_redriven(here: Stage) -> None:
    """Cleaning up twice changes nothing, so the event of a run that was cleaned up long ago may come again."""
    stepfunctions, machine = here.deployment.client("stepfunctions"), here.deployment.clean_up_machine
    failed = here.play(given={"smoke_test": {"min_accuracy": 1.0}})
    execution = _execution(here, failed.execution_arn)
    detail = {
        "executionArn": execution["executionArn"],
        "startDate": int(execution["startDate"].timestamp() * 1000),
        "status": "FAILED",
    }
    event = {"source": "aws.states", "detail-type": "Step Functions Execution Status Change", "detail": detail}
    url = here.deployment.outputs["DeadLetterQueueUrl"]
    here.deployment.client("sqs").send_message(QueueUrl=url, MessageBody=json.dumps(event))
    before = {run["executionArn"] for run in stepfunctions.list_executions(stateMachineArn=machine)["executions"]}
    assert main(["redrive"]) == 0

    def ended() -> list[str]:
        runs = stepfunctions.list_executions(stateMachineArn=machine)["executions"]
        return [run["status"] for run in runs if run["executionArn"] not in before and run["status"] != "RUNNING"]

    wait_until(ended, "the redriven clean-up never ended")
    assert ended() == ["SUCCEEDED"]


def test_a_failed_execution_fails_again_when_redriven(here: Stage) -> None:
    failed = here.play(given={"smoke_test": {"min_accuracy": 1.0}})
    stepfunctions = here.deployment.client("stepfunctions")
    stepfunctions.redrive_execution(executionArn=failed.execution_arn)
    wait_until(lambda: _execution(here, failed.execution_arn)["status"] != "RUNNING", "the redrive never ended")
    again = _execution(here, failed.execution_arn)
    assert (again["status"], again["error"], again["redriveCount"]) == ("FAILED", "GateNotMet", 1)


def test_an_execution_stopped_while_it_held_its_endpoint_is_refused_when_redriven(here: Stage) -> None:
    run = Run(here.deployment)
    execution = run.start(here.good, {"after": {"endpoint": "hold", "hold_seconds": 20}, "parameters": QUICK})
    wait_until(lambda: "Hold endpoint" in _states(here, execution), "the run never held its endpoint")
    here.deployment.client("stepfunctions").stop_execution(executionArn=execution)
    stopped = run.follow(execution)
    assert (stopped.status, stopped.leftovers) == ("ABORTED", [])
    here.deployment.client("stepfunctions").redrive_execution(executionArn=execution)
    again = run.follow(execution)
    assert (again.status, again.error, again.leftovers) == ("FAILED", "RunEnded", [])


def test_a_run_makes_as_many_transitions_as_it_is_said_to_cost(here: Stage) -> None:
    said = re.search(r"\*\*A run\*\* makes about (\d+) state transitions", OPERATIONS)
    assert said
    assert here.play().transitions == pytest.approx(int(said[1]), abs=3)
