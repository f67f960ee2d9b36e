"""Executions as a whole: starting, names, stopping, timing out, versions, history, events, logs."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.integration.local.lambda_helpers import eventually
from tests.integration.local.stepfunctions_helpers import Machines, document, machines

WAIT = {"W": {"Type": "Wait", "Seconds": 60, "End": True}}
PASS = {"P": {"Type": "Pass", "End": True}}


@pytest.fixture(scope="module")
def sfn() -> Iterator[Machines]:
    with machines() as made:
        yield made


def code(error: pytest.ExceptionInfo[ClientError]) -> str:
    return str(error.value.response["Error"]["Code"])


# --- starting -----------------------------------------------------------------------------------------------------


def test_an_execution_without_a_name_gets_one_of_its_own(sfn: Machines) -> None:
    machine = sfn.create(PASS)
    first, second = sfn.start(machine), sfn.start(machine)
    assert first != second
    assert sfn.end(first)["name"] == first.rsplit(":", 1)[1]


def test_the_same_name_and_input_is_the_same_execution_while_it_runs(sfn: Machines) -> None:
    machine = sfn.create(WAIT)
    first = sfn.start(machine, {"a": 1}, name="twice")
    assert sfn.start(machine, {"a": 1}, name="twice") == first
    with pytest.raises(ClientError) as other_input:
        sfn.start(machine, {"a": 2}, name="twice")
    assert code(other_input) == "ExecutionAlreadyExists"
    sfn.client.stop_execution(executionArn=first)
    with pytest.raises(ClientError) as closed:
        sfn.start(machine, {"a": 1}, name="twice")
    assert code(closed) == "ExecutionAlreadyExists"
    assert len(sfn.client.list_executions(stateMachineArn=machine)["executions"]) == 1


def test_an_input_has_to_be_json_of_at_most_256_kib(sfn: Machines) -> None:
    machine = sfn.create(PASS)
    with pytest.raises(ClientError) as no_json:
        sfn.client.start_execution(stateMachineArn=machine, input="{")
    assert code(no_json) == "InvalidExecutionInput"
    with pytest.raises(ClientError) as too_long:
        sfn.start(machine, "x" * (256 * 1024))
    assert code(too_long) == "ValidationException"
    assert sfn.end(sfn.start(machine, "x" * (256 * 1024 - 10)))["status"] == "SUCCEEDED"


@pytest.mark.parametrize("name", ["a b", "a:b", "x" * 81])
def test_a_name_with_other_characters_or_too_long_is_refused(sfn: Machines, name: str) -> None:
    with pytest.raises(ClientError):
        sfn.start(sfn.create(PASS), name=name)


def test_a_machine_that_does_not_exist(sfn: Machines) -> None:
    with pytest.raises(ClientError) as error:
        sfn.start(sfn.create(PASS) + "x")
    assert code(error) == "StateMachineDoesNotExist"


# --- definitions --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("states", "start"),
    [
        ({"P": {"Type": "Pass", "Next": "Q"}}, "P"),
        (PASS, "Q"),
        ({**PASS, "Q": {"Type": "Pass", "End": True}}, "P"),
        ({"P": {"Type": "Pass"}}, "P"),
        ({"C": {"Type": "Choice", "Choices": [{"Variable": "$.a", "IsNull": True, "Next": "X"}]}}, "C"),
        ({"C": {"Type": "Parallel", "Branches": [{"StartAt": "X", "States": PASS}], "End": True}}, "C"),
        ({"T": {"Type": "Task", "Resource": "arn:aws-cn:states:::lambda:invoke", "End": True}}, "T"),
        ({"T": {"Type": "Task", "Resource": "lambda:invoke", "End": True}}, "T"),
        ({"T": {"Type": "Nothing", "End": True}}, "T"),
    ],
)
def test_a_definition_that_aws_would_refuse_is_refused(sfn: Machines, states: dict[str, Any], start: str) -> None:
    with pytest.raises(ClientError) as error:
        sfn.create(states, start)
    assert code(error) == "InvalidDefinition"
    text = json.dumps({"StartAt": start, "States": states})
    answer = sfn.client.validate_state_machine_definition(definition=text)
    assert answer["result"] == "FAIL"
    assert answer["diagnostics"]


def test_a_good_definition_passes_the_check(sfn: Machines) -> None:
    text = json.dumps({"StartAt": "P", "States": PASS})
    assert sfn.client.validate_state_machine_definition(definition=text)["result"] == "OK"


def test_another_machine_of_the_same_name_is_refused(sfn: Machines) -> None:
    arn = sfn.create(PASS, name="only-one")
    assert sfn.create(PASS, name="only-one") == arn
    with pytest.raises(ClientError) as error:
        sfn.create(WAIT, name="only-one")
    assert code(error) == "StateMachineAlreadyExists"


def test_in_china_only_its_own_partition_is_known() -> None:
    with machines("cn-northwest-1") as sfn:
        assert sfn.run({"T": sfn.task({"do": "echo", "x": 1})})["status"] == "SUCCEEDED"
        arn = sfn.start(sfn.create(PASS))
        assert arn.startswith("arn:aws-cn:states:cn-northwest-1:123456789012:execution:")
        with pytest.raises(ClientError) as error:
            sfn.create({"T": {**sfn.task(), "Resource": "arn:aws:states:::lambda:invoke"}})
        assert code(error) == "InvalidDefinition"
        assert "arn:aws:states:::lambda:invoke is not recognized" in str(error.value)


# --- ending -------------------------------------------------------------------------------------------------------


def stoppable(sfn: Machines) -> dict[str, tuple[dict[str, Any], str]]:
    """Return machines that wait in each way there is, with the event that shows that they do."""
    inner = {"StartAt": "T", "States": {"T": sfn.wait_for_token()}}
    fails = sfn.task({"do": "fail"}, Retry=[{"ErrorEquals": ["States.ALL"], "IntervalSeconds": 60}])
    mapped = {"Type": "Map", "ItemsPath": "$.items", "ItemProcessor": inner, "End": True}
    return {
        "token": ({"T": sfn.wait_for_token()}, "TaskSubmitted"),
        "token with a heartbeat": ({"T": sfn.wait_for_token(HeartbeatSeconds=60)}, "TaskSubmitted"),
        "wait": (WAIT, "WaitStateEntered"),
        "function": ({"T": sfn.task({"do": "sleep", "seconds": 15})}, "TaskStarted"),
        "function's ARN": (
            {
                "T": {
                    "Type": "Task",
                    "Resource": sfn.function,
                    "Parameters": {"do": "sleep", "seconds": 15},
                    "End": True,
                }
            },
            "LambdaFunctionStarted",
        ),
        "parallel": ({"P": {"Type": "Parallel", "Branches": [inner, inner], "End": True}}, "TaskSubmitted"),
        "map": ({"M": mapped}, "TaskSubmitted"),
        "retry": ({"T": fails}, "TaskFailed"),
    }


@pytest.mark.parametrize(
    "what",
    ["token", "token with a heartbeat", "wait", "function", "function's ARN", "parallel", "map", "retry"],
)
def test_stopping_ends_an_execution_at_once_whatever_it_does(sfn: Machines, what: str) -> None:
    states, sign = stoppable(sfn)[what]
    execution = sfn.start(sfn.create(states), {"items": [1, 2]})
    eventually(lambda: sign in sfn.types(execution))
    started = time.monotonic()
    answer = sfn.client.stop_execution(executionArn=execution, error="Enough", cause="because")
    described = sfn.client.describe_execution(executionArn=execution)
    assert time.monotonic() - started < 2
    assert (described["status"], described["error"], described["cause"]) == ("ABORTED", "Enough", "because")
    assert described["stopDate"] == answer["stopDate"]
    last = sfn.history(execution)[-1]
    assert last["type"] == "ExecutionAborted"
    assert last["executionAbortedEventDetails"] == {"error": "Enough", "cause": "because"}
    time.sleep(0.3)
    assert sfn.history(execution)[-1] == last


def test_stopping_what_is_over_changes_nothing(sfn: Machines) -> None:
    done = sfn.run(PASS)
    sfn.client.stop_execution(executionArn=done["executionArn"], error="late")
    assert sfn.client.describe_execution(executionArn=done["executionArn"])["status"] == "SUCCEEDED"


def test_an_execution_times_out(sfn: Machines) -> None:
    execution = sfn.start(sfn.create({"T": sfn.wait_for_token()}, top={"TimeoutSeconds": 1}))
    (token,) = sfn.tokens(execution)
    ended = sfn.end(execution)
    assert ended["status"] == "TIMED_OUT"
    assert sfn.types(execution)[-1] == "ExecutionTimedOut"
    with pytest.raises(ClientError) as error:
        sfn.client.send_task_success(taskToken=token, output="{}")
    assert code(error) == "TaskTimedOut"


def test_the_first_branch_that_fails_ends_the_others_and_names_the_cause(sfn: Machines) -> None:
    slow = {"StartAt": "S", "States": {"S": sfn.wait_for_token()}}
    quick = {"StartAt": "Q", "States": {"Q": sfn.task({"do": "fail", "message": "bad"})}}
    catch = [{"ErrorEquals": ["Refused"], "ResultPath": "$.failure", "Next": "Told"}]
    parallel = {"Type": "Parallel", "Branches": [slow, quick], "Catch": catch, "End": True}
    done = sfn.run({"P": parallel, "Told": {"Type": "Pass", "End": True}}, {"kept": 1})
    assert done["status"] == "SUCCEEDED"
    output = json.loads(done["output"])
    assert output["kept"] == 1
    assert json.loads(output["failure"]["Cause"])["errorMessage"] == "bad"
    types = sfn.types(done["executionArn"])
    assert {"ParallelStateFailed", "TaskStateAborted"} <= set(types)


def test_finished_executions_leave_no_thread(sfn: Machines) -> None:
    inner = {"StartAt": "T", "States": {"T": sfn.wait_for_token(HeartbeatSeconds=300)}}
    machine = sfn.create({"P": {"Type": "Parallel", "Branches": [inner] * 4, "End": True}})

    def threads() -> int:
        status = Path(f"/proc/{sfn.cloud._process.pid}/status").read_text()  # type: ignore[union-attr]
        return int(next(line for line in status.splitlines() if line.startswith("Threads:")).split()[1])

    def batch() -> int:
        executions = [sfn.start(machine) for _ in range(6)]
        for number, execution in enumerate(executions):
            tokens = sfn.tokens(execution, 4)
            if number % 2:
                for token in tokens:
                    sfn.client.send_task_success(taskToken=token, output="1")
        most = threads()
        for execution in executions[::2]:
            sfn.client.stop_execution(executionArn=execution)
        statuses = [sfn.end(execution)["status"] for execution in executions]
        assert statuses == ["ABORTED", "SUCCEEDED"] * 3
        return most

    # Sandboxes and open connections stay, so what counts is that a second and a third batch add nothing.
    batch()
    time.sleep(0.5)
    before = threads()
    most = max(batch(), batch())
    assert most >= before + 12
    eventually(lambda: threads() <= before + 4, 10)


# --- what can be asked --------------------------------------------------------------------------------------------


def test_history_comes_in_pages_and_in_both_orders(sfn: Machines) -> None:
    states = {f"P{n}": {"Type": "Pass", "Next": f"P{n + 1}"} for n in range(9)} | {"P9": {"Type": "Pass", "End": True}}
    execution = sfn.run(states)["executionArn"]
    events = sfn.history(execution)
    assert [event["id"] for event in events] == list(range(1, 23))
    first = sfn.client.get_execution_history(executionArn=execution, maxResults=5)
    assert [event["id"] for event in first["events"]] == [1, 2, 3, 4, 5]
    second = sfn.client.get_execution_history(executionArn=execution, maxResults=5, nextToken=first["nextToken"])
    assert [event["id"] for event in second["events"]] == [6, 7, 8, 9, 10]
    backwards = sfn.client.get_execution_history(executionArn=execution, maxResults=2, reverseOrder=True)
    assert [event["type"] for event in backwards["events"]] == ["ExecutionSucceeded", "PassStateExited"]
    bare = sfn.client.get_execution_history(executionArn=execution, includeExecutionData=False)["events"]
    assert "input" not in bare[0]["executionStartedEventDetails"]


def test_a_historys_times_are_seconds_since_1970_as_the_protocol_has_them(sfn: Machines) -> None:
    before = time.time()
    execution = sfn.run(PASS)["executionArn"]
    told: list[dict[str, Any]] = []
    sfn.client.meta.events.register(
        "after-call.sfn.GetExecutionHistory", lambda http_response, **_: told.append(json.loads(http_response.content))
    )
    [*_, last] = sfn.client.get_execution_history(executionArn=execution)["events"]
    written = told[0]["events"][-1]["timestamp"]
    assert before - 1 < written < time.time() + 1
    assert last["timestamp"].timestamp() == pytest.approx(written)


def test_executions_are_listed_newest_first_and_by_status(sfn: Machines) -> None:
    machine = sfn.create({"T": sfn.wait_for_token()})
    old, new = sfn.start(machine), sfn.start(machine)
    sfn.client.stop_execution(executionArn=old)

    def listed(**options: Any) -> list[str]:
        found = sfn.client.list_executions(stateMachineArn=machine, **options)["executions"]
        return [execution["executionArn"] for execution in found]

    assert listed() == [new, old]
    assert listed(statusFilter="RUNNING") == [new]
    assert listed(statusFilter="ABORTED") == [old]
    pages = sfn.client.get_paginator("list_executions").paginate(
        stateMachineArn=machine, PaginationConfig={"PageSize": 1}
    )
    assert [len(page["executions"]) for page in pages] == [1, 1]


def test_an_execution_keeps_the_definition_that_it_was_started_with(sfn: Machines) -> None:
    machine = sfn.create({"T": sfn.wait_for_token(), **{}})
    execution = sfn.start(machine)
    (token,) = sfn.tokens(execution)
    sfn.client.update_state_machine(stateMachineArn=machine, definition=json.dumps({"StartAt": "P", "States": PASS}))
    kept = sfn.client.describe_state_machine_for_execution(executionArn=execution)
    assert list(json.loads(kept["definition"])["States"]) == ["T"]
    assert list(json.loads(sfn.client.describe_state_machine(stateMachineArn=machine)["definition"])["States"]) == ["P"]
    sfn.client.send_task_success(taskToken=token, output='"done"')
    assert sfn.end(execution)["output"] == '"done"'


def test_the_context_object(sfn: Machines) -> None:
    role = sfn.role
    states = {"P": {"Type": "Pass", "Parameters": {"all.$": "$$"}, "End": True}}
    machine = sfn.create(states)
    done = sfn.end(sfn.start(machine, {"x": 1}, name="n"))
    found = json.loads(done["output"])["all"]
    stamp = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"
    assert re.fullmatch(stamp, found["Execution"].pop("StartTime"))
    assert re.fullmatch(stamp, found["State"].pop("EnteredTime"))
    assert found["Execution"] == {
        "Id": done["executionArn"],
        "Input": {"x": 1},
        "Name": "n",
        "RoleArn": role,
        "RedriveCount": 0,
    }
    assert found["State"]["Name"] == "P"
    assert found["StateMachine"] == {"Id": machine, "Name": machine.rsplit(":", 1)[1]}


# --- versions and aliases -----------------------------------------------------------------------------------------


def answering(value: int) -> str:
    return json.dumps({"StartAt": "P", "States": {"P": {"Type": "Pass", "Result": value, "End": True}}})


def test_an_alias_runs_its_version_after_the_machine_was_updated(sfn: Machines) -> None:
    machine = sfn.create({"P": {"Type": "Pass", "Result": 1, "End": True}})
    first = sfn.client.publish_state_machine_version(stateMachineArn=machine)["stateMachineVersionArn"]
    assert first == f"{machine}:1"
    again = sfn.client.publish_state_machine_version(stateMachineArn=machine)["stateMachineVersionArn"]
    assert again == first
    alias = sfn.client.create_state_machine_alias(
        name="live", routingConfiguration=[{"stateMachineVersionArn": first, "weight": 100}]
    )["stateMachineAliasArn"]
    updated = sfn.client.update_state_machine(stateMachineArn=machine, definition=answering(2), publish=True)
    second = updated["stateMachineVersionArn"]
    assert second == f"{machine}:2"

    outputs = {arn: sfn.end(sfn.start(arn)) for arn in (machine, first, second, alias)}
    assert {arn: done["output"] for arn, done in outputs.items()} == {machine: "2", first: "1", second: "2", alias: "1"}
    assert outputs[alias]["stateMachineArn"] == machine
    assert outputs[alias]["stateMachineVersionArn"] == first
    assert outputs[alias]["stateMachineAliasArn"] == alias
    assert "stateMachineVersionArn" not in outputs[machine]
    listed = sfn.client.list_executions(stateMachineArn=alias)["executions"]
    assert [execution["executionArn"] for execution in listed] == [outputs[alias]["executionArn"]]

    sfn.client.update_state_machine_alias(
        stateMachineAliasArn=alias, routingConfiguration=[{"stateMachineVersionArn": second, "weight": 100}]
    )
    assert sfn.end(sfn.start(alias))["output"] == "2"
    versions = sfn.client.list_state_machine_versions(stateMachineArn=machine)["stateMachineVersions"]
    assert [version["stateMachineVersionArn"] for version in versions] == [second, first]
    with pytest.raises(ClientError) as error:
        sfn.client.delete_state_machine_version(stateMachineVersionArn=second)
    assert code(error) == "ConflictException"
    sfn.client.delete_state_machine_version(stateMachineVersionArn=first)
    with pytest.raises(ClientError):
        sfn.start(first)


def test_names_are_shared_by_a_machine_and_its_versions(sfn: Machines) -> None:
    machine = sfn.create(PASS)
    version = sfn.client.publish_state_machine_version(stateMachineArn=machine)["stateMachineVersionArn"]
    sfn.end(sfn.start(machine, name="shared"))
    with pytest.raises(ClientError) as error:
        sfn.start(version, name="shared")
    assert code(error) == "ExecutionAlreadyExists"


# --- events and logs ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def told(sfn: Machines) -> Any:
    """Send all status changes to a queue; return what looks for those of an execution."""
    sqs, events = sfn.cloud.client("sqs", sfn.region), sfn.cloud.client("events", sfn.region)
    url = sqs.create_queue(QueueName="told")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    allow = {"Effect": "Allow", "Principal": {"Service": "events.amazonaws.com"}, "Action": "sqs:SendMessage"}
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": document({**allow, "Resource": arn})})
    pattern = {"source": ["aws.states"], "detail-type": ["Step Functions Execution Status Change"]}
    events.put_rule(Name="told", EventPattern=json.dumps(pattern))
    events.put_targets(Rule="told", Targets=[{"Id": "q", "Arn": arn}])
    seen: list[dict[str, Any]] = []

    def look(execution: str, count: int = 2) -> list[dict[str, Any]]:
        def enough() -> list[dict[str, Any]] | None:
            for message in sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", []):
                seen.append(json.loads(message["Body"]))
                sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
            found = [event for event in seen if event["detail"]["executionArn"] == execution]
            return found if len(found) >= count else None

        found: list[dict[str, Any]] = eventually(enough)
        return sorted(found, key=lambda event: (event["detail"]["stopDate"] is not None, event["time"]))

    return look


def test_status_changes_are_told_as_documented(sfn: Machines, told: Any) -> None:
    machine = sfn.create(PASS)
    done = sfn.end(sfn.start(machine, {"a": 1}))
    running, succeeded = told(done["executionArn"])
    assert succeeded["source"] == "aws.states"
    assert succeeded["detail-type"] == "Step Functions Execution Status Change"
    assert succeeded["resources"] == [done["executionArn"]]
    assert succeeded["region"] == sfn.region
    assert succeeded["detail"] == {
        "executionArn": done["executionArn"],
        "stateMachineArn": machine,
        "stateMachineVersionArn": None,
        "stateMachineAliasArn": None,
        "name": done["name"],
        "status": "SUCCEEDED",
        "startDate": round(done["startDate"].timestamp() * 1000),
        "stopDate": round(done["stopDate"].timestamp() * 1000),
        "input": '{"a": 1}',
        "inputDetails": {"included": True},
        "output": '{"a":1}',
        "outputDetails": {"included": True},
        "error": None,
        "cause": None,
        "redriveCount": 0,
        "redriveDate": None,
        "redriveStatus": "NOT_REDRIVABLE",
        "redriveStatusReason": "Execution is SUCCEEDED and cannot be redriven",
    }
    assert (running["detail"]["status"], running["detail"]["stopDate"]) == ("RUNNING", None)
    assert (running["detail"]["output"], running["detail"]["outputDetails"]) == (None, None)


def test_every_end_is_told(sfn: Machines, told: Any) -> None:
    failed = sfn.run({"F": {"Type": "Fail", "Error": "Bad", "Cause": "why"}})
    assert told(failed["executionArn"])[1]["detail"]["status"] == "FAILED"
    assert told(failed["executionArn"])[1]["detail"]["error"] == "Bad"
    late = sfn.run({"W": {"Type": "Wait", "Seconds": 30, "End": True}}, top={"TimeoutSeconds": 1})
    assert told(late["executionArn"])[1]["detail"]["status"] == "TIMED_OUT"
    stopped = sfn.start(sfn.create(WAIT))
    sfn.client.stop_execution(executionArn=stopped, cause="c")
    assert told(stopped)[1]["detail"]["status"] == "ABORTED"
    assert told(stopped)[1]["detail"]["cause"] == "c"


def test_large_data_are_left_out_of_events(sfn: Machines, told: Any) -> None:
    both = sfn.end(sfn.start(sfn.create(PASS), {"x": "y" * 140_000}))
    detail = told(both["executionArn"])[1]["detail"]
    assert (detail["input"], detail["inputDetails"]) == (None, {"included": False})
    assert detail["outputDetails"] == {"included": True}
    huge = sfn.end(sfn.start(sfn.create(PASS), {"x": "y" * 255_000}))
    detail = told(huge["executionArn"])[1]["detail"]
    assert (detail["output"], detail["outputDetails"]) == (None, {"included": False})


def test_history_is_logged_at_the_level_asked_for(sfn: Machines) -> None:
    logs = sfn.cloud.client("logs", sfn.region)
    for group in ("/all", "/errors"):
        logs.create_log_group(logGroupName=group)

    def logging(group: str, level: str, data: bool) -> dict[str, Any]:
        arn = f"arn:aws:logs:{sfn.region}:123456789012:log-group:{group}:*"
        destination = {"cloudWatchLogsLogGroup": {"logGroupArn": arn}}
        return {"level": level, "includeExecutionData": data, "destinations": [destination]}

    def messages(group: str) -> list[dict[str, Any]]:
        found = logs.filter_log_events(logGroupName=group)["events"]
        return [json.loads(event["message"]) for event in found]

    all_of_it = sfn.run(
        {"P": {"Type": "Pass", "End": True}}, {"a": 1}, loggingConfiguration=logging("/all", "ALL", True)
    )
    entries = messages("/all")
    assert [entry["type"] for entry in entries] == sfn.types(all_of_it["executionArn"])
    assert entries[0]["execution_arn"] == all_of_it["executionArn"]
    assert "input" in entries[0]["details"]
    fail = {"F": {"Type": "Fail", "Error": "E"}}
    sfn.run(fail, loggingConfiguration=logging("/errors", "ERROR", False))
    assert [entry["type"] for entry in messages("/errors")] == ["FailStateEntered", "ExecutionFailed"]
    assert "input" not in messages("/errors")[0]["details"]


# --- redriving ----------------------------------------------------------------------------------------------------


def test_a_redriven_execution_continues_where_it_failed(sfn: Machines, told: Any) -> None:
    inner = [
        {"StartAt": "A", "States": {"A": {"Type": "Pass", "Result": "first branch", "End": True}}},
        {"StartAt": "B", "States": {"B": {"Type": "Pass", "Next": "T"}, "T": sfn.wait_for_token()}},
    ]
    states = {
        "Before": {"Type": "Pass", "Result": {"kept": True}, "Next": "Both"},
        "Both": {"Type": "Parallel", "Branches": inner, "End": True},
    }
    execution = sfn.start(sfn.create(states))
    (token,) = sfn.tokens(execution)
    sfn.client.send_task_failure(taskToken=token, error="Bad", cause="once")
    failed = sfn.end(execution)
    assert (failed["status"], failed["error"], failed["redriveStatus"]) == ("FAILED", "Bad", "REDRIVABLE")

    before = len(sfn.history(execution))
    assert sfn.client.redrive_execution(executionArn=execution)["redriveDate"]
    token = sfn.tokens(execution, 2)[1]
    sfn.client.send_task_success(taskToken=token, output='"second branch"')
    done = sfn.end(execution)
    assert (done["status"], done["redriveCount"]) == ("SUCCEEDED", 1)
    assert json.loads(done["output"]) == ["first branch", "second branch"]
    again = sfn.history(execution)[before:]
    assert again[0]["type"] == "ExecutionRedriven"
    entered = [event["stateEnteredEventDetails"]["name"] for event in again if "stateEnteredEventDetails" in event]
    assert entered == ["Both", "T"]
    statuses = sorted(event["detail"]["status"] for event in told(execution, 4))
    assert statuses == ["FAILED", "RUNNING", "RUNNING", "SUCCEEDED"]


def test_what_succeeded_or_runs_cannot_be_redriven(sfn: Machines) -> None:
    running = sfn.start(sfn.create(WAIT))
    for execution in (running, sfn.run(PASS)["executionArn"]):
        with pytest.raises(ClientError) as error:
            sfn.client.redrive_execution(executionArn=execution)
        assert code(error) == "ExecutionNotRedrivable"
    sfn.client.stop_execution(executionArn=running)
    sfn.client.redrive_execution(executionArn=running)
    assert sfn.client.describe_execution(executionArn=running)["status"] == "RUNNING"
    assert "error" not in sfn.client.describe_execution(executionArn=running)
    sfn.client.stop_execution(executionArn=running)


def test_deleting_a_machine_ends_its_executions(sfn: Machines, told: Any) -> None:
    machine = sfn.create(WAIT)
    execution = sfn.start(machine)
    sfn.client.delete_state_machine(stateMachineArn=machine)
    assert told(execution)[1]["detail"]["status"] == "ABORTED"
