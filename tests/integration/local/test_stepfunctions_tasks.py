"""Tasks: tokens, heartbeats, time-outs, retries, errors, the state machine's own role, and the service integrations."""

from __future__ import annotations

import base64
import itertools
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.integration.local.lambda_helpers import eventually
from tests.integration.local.stepfunctions_helpers import Machines, machines


@pytest.fixture(scope="module")
def sfn() -> Iterator[Machines]:
    with machines() as made:
        yield made


def code(error: pytest.ExceptionInfo[ClientError]) -> str:
    return str(error.value.response["Error"]["Code"])


def caught(done: dict[str, Any]) -> dict[str, Any]:
    """Return the Error and Cause that a Catch put into the output."""
    assert done["status"] == "SUCCEEDED", done
    return json.loads(done["output"])["caught"]  # type: ignore[no-any-return]


def catching(state: dict[str, Any], *errors: str) -> dict[str, Any]:
    """Return states in which a first one's errors are caught and shown."""
    catch = [{"ErrorEquals": list(errors) or ["States.ALL"], "ResultPath": "$.caught", "Next": "Caught"}]
    return {"T": {**state, "Catch": catch}, "Caught": {"Type": "Pass", "End": True}}


# --- tokens -------------------------------------------------------------------------------------------------------


def test_a_token_is_settled_once(sfn: Machines) -> None:
    execution = sfn.start(sfn.create({"T": sfn.wait_for_token()}))
    (token,) = sfn.tokens(execution)
    answers: list[str] = []

    def settle(number: int) -> None:
        try:
            sfn.client.send_task_success(taskToken=token, output=str(number))
            answers.append(str(number))
        except ClientError as error:
            answers.append(error.response["Error"]["Code"])

    threads = [threading.Thread(target=settle, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    done = sfn.end(execution)
    assert sorted(answers) == sorted([done["output"]] + ["TaskTimedOut"] * 7)
    for send in (sfn.client.send_task_failure, sfn.client.send_task_heartbeat):
        with pytest.raises(ClientError) as error:
            send(taskToken=token)
        assert code(error) == "TaskTimedOut"


def test_a_token_may_be_settled_before_the_function_that_got_it_returns(sfn: Machines) -> None:
    assert json.loads(sfn.run({"T": sfn.wait_for_token({"do": "settle"})})["output"]) == {"settled": True}


@pytest.mark.parametrize("token", ["nonsense", base64.b64encode(b"short").decode(), "é" * 10])
def test_a_malformed_token_is_invalid(sfn: Machines, token: str) -> None:
    with pytest.raises(ClientError) as error:
        sfn.client.send_task_success(taskToken=token, output="{}")
    assert code(error) == "InvalidToken"


def test_a_token_of_elsewhere_does_not_exist(sfn: Machines) -> None:
    execution = sfn.start(sfn.create({"T": sfn.wait_for_token()}))
    (token,) = sfn.tokens(execution)
    elsewhere = sfn.cloud.client("stepfunctions", "us-west-2")
    with pytest.raises(ClientError) as error:
        elsewhere.send_task_success(taskToken=token, output="{}")
    assert code(error) == "TaskDoesNotExist"
    sfn.client.send_task_success(taskToken=token, output="{}")
    assert sfn.end(execution)["status"] == "SUCCEEDED"


def test_an_output_has_to_be_json_and_small_enough_and_the_token_stays_open(sfn: Machines) -> None:
    execution = sfn.start(sfn.create({"T": sfn.wait_for_token()}))
    (token,) = sfn.tokens(execution)
    with pytest.raises(ClientError) as no_json:
        sfn.client.send_task_success(taskToken=token, output="{")
    assert code(no_json) == "InvalidOutput"
    with pytest.raises(ClientError) as too_large:
        sfn.client.send_task_success(taskToken=token, output=json.dumps("x" * 262144))
    assert code(too_large) == "ValidationException"
    sfn.client.send_task_success(taskToken=token, output="[1]")
    assert sfn.end(execution)["output"] == "[1]"


def test_a_failure_keeps_its_error_and_cause(sfn: Machines) -> None:
    execution = sfn.start(sfn.create({"T": sfn.wait_for_token()}))
    (token,) = sfn.tokens(execution)
    sfn.client.send_task_failure(taskToken=token, error="JobFailed", cause="the disk was full")
    done = sfn.end(execution)
    assert (done["status"], done["error"], done["cause"]) == ("FAILED", "JobFailed", "the disk was full")
    details = next(e["taskFailedEventDetails"] for e in sfn.history(execution) if e["type"] == "TaskFailed")
    assert (details["error"], details["cause"]) == ("JobFailed", "the disk was full")


def test_a_failure_by_token_can_be_caught(sfn: Machines) -> None:
    execution = sfn.start(sfn.create(catching(sfn.wait_for_token(), "JobFailed")))
    (token,) = sfn.tokens(execution)
    sfn.client.send_task_failure(taskToken=token, error="JobFailed", cause="why")
    assert caught(sfn.end(execution)) == {"Error": "JobFailed", "Cause": "why"}


# --- clocks -------------------------------------------------------------------------------------------------------


def test_a_heartbeat_that_runs_out_has_its_own_name(sfn: Machines) -> None:
    done = sfn.run(catching(sfn.wait_for_token(HeartbeatSeconds=1), "States.HeartbeatTimeout"))
    assert caught(done)["Error"] == "States.HeartbeatTimeout"
    event = next(e for e in sfn.history(done["executionArn"]) if e["type"] == "TaskTimedOut")
    assert event["taskTimedOutEventDetails"]["error"] == "States.HeartbeatTimeout"


def test_a_retry_on_heartbeats_goes_on_for_long_and_each_attempt_has_its_token(sfn: Machines) -> None:
    retry = [
        {"ErrorEquals": ["States.HeartbeatTimeout"], "IntervalSeconds": 1, "BackoffRate": 1, "MaxAttempts": 99999999}
    ]
    payload = {"retry_count.$": "$$.State.RetryCount", "entered.$": "$$.State.EnteredTime"}
    state = sfn.wait_for_token(payload, HeartbeatSecondsPath="$.heartbeat", Retry=retry)
    execution = sfn.start(sfn.create({"T": state}), {"heartbeat": 1})
    tokens = sfn.tokens(execution, 3)
    assert len(set(tokens)) == 3
    for old in tokens[:2]:
        with pytest.raises(ClientError) as error:
            sfn.client.send_task_success(taskToken=old, output="{}")
        assert code(error) == "TaskTimedOut"
    scheduled = [e for e in sfn.history(execution) if e["type"] == "TaskScheduled"]
    assert scheduled[0]["taskScheduledEventDetails"]["heartbeatInSeconds"] == 1
    payloads = [json.loads(e["taskScheduledEventDetails"]["parameters"])["Payload"] for e in scheduled]
    assert [payload["retry_count"] for payload in payloads[:3]] == [0, 1, 2]
    assert len({payload["entered"] for payload in payloads}) == 1
    sfn.client.send_task_success(taskToken=tokens[2], output='"third"')
    assert sfn.end(execution)["output"] == '"third"'


def test_a_heartbeat_starts_the_clock_again(sfn: Machines) -> None:
    execution = sfn.start(sfn.create({"T": sfn.wait_for_token(HeartbeatSeconds=2)}))
    (token,) = sfn.tokens(execution)
    for _ in range(5):
        time.sleep(0.7)
        sfn.client.send_task_heartbeat(taskToken=token)
    sfn.client.send_task_success(taskToken=token, output="1")
    assert sfn.end(execution)["status"] == "SUCCEEDED"


def test_a_heartbeat_without_a_time_out_does_not_bring_one(sfn: Machines) -> None:
    execution = sfn.start(sfn.create({"T": sfn.wait_for_token(HeartbeatSeconds=3600)}))
    sfn.tokens(execution)
    (scheduled,) = (e for e in sfn.history(execution) if e["type"] == "TaskScheduled")
    assert "timeoutInSeconds" not in scheduled["taskScheduledEventDetails"]
    sfn.client.stop_execution(executionArn=execution)


@pytest.mark.parametrize(
    "fields", [{"TimeoutSeconds": 1}, {"TimeoutSecondsPath": "$.limit"}, {"TimeoutSeconds": 2, "HeartbeatSeconds": 1}]
)
def test_a_time_out_counts_however_many_heartbeats_come(sfn: Machines, fields: dict[str, Any]) -> None:
    execution = sfn.start(sfn.create(catching(sfn.wait_for_token(**fields))), {"limit": 1})
    (token,) = sfn.tokens(execution)

    def beat() -> None:
        try:
            while True:
                sfn.client.send_task_heartbeat(taskToken=token)
                time.sleep(0.2)
        except ClientError:
            return

    threading.Thread(target=beat, daemon=True).start()
    assert caught(sfn.end(execution))["Error"] == "States.Timeout"


@pytest.mark.parametrize("direct", [True, False])
def test_a_function_that_runs_too_long_times_out(sfn: Machines, direct: bool) -> None:
    payload = {"do": "sleep", "seconds": 10}
    state = sfn.task(payload, TimeoutSeconds=1)
    if direct:
        state |= {"Resource": sfn.function, "Parameters": payload}
    started = time.monotonic()
    assert caught(sfn.run(catching(state)))["Error"] == "States.Timeout"
    assert time.monotonic() - started < 8


@pytest.mark.parametrize("value", [0, -1, "5", 1.5, None])
def test_a_heartbeat_that_is_no_positive_number_fails_the_execution(sfn: Machines, value: Any) -> None:
    states = catching(sfn.wait_for_token(HeartbeatSecondsPath="$.heartbeat"))
    done = sfn.end(sfn.start(sfn.create(states), {"heartbeat": value}))
    assert (done["status"], done["error"]) == ("FAILED", "States.Runtime")


# --- errors and who catches them ----------------------------------------------------------------------------------


@pytest.mark.parametrize("direct", [True, False])
def test_an_exception_is_named_by_its_class_and_its_cause_is_what_lambda_gives(sfn: Machines, direct: bool) -> None:
    payload = {"do": "fail", "message": "not this"}
    state = sfn.task(payload)
    if direct:
        state |= {"Resource": sfn.function, "Parameters": payload}
    found = caught(sfn.run(catching(state, "Refused")))
    assert found["Error"] == "Refused"
    cause = json.loads(found["Cause"])
    assert (cause["errorMessage"], cause["errorType"]) == ("not this", "Refused")
    assert {"requestId", "stackTrace"} <= set(cause)


@pytest.mark.parametrize("direct", [True, False])
def test_a_function_that_does_not_exist(sfn: Machines, direct: bool) -> None:
    state = sfn.task()
    if direct:
        state |= {"Resource": sfn.function + "-absent", "Parameters": {}}
    else:
        state["Parameters"]["FunctionName"] += "-absent"
    assert caught(sfn.run(catching(state)))["Error"] == "Lambda.ResourceNotFoundException"


@pytest.mark.parametrize("direct", [True, False])
def test_a_machine_acts_with_its_own_role(sfn: Machines, direct: bool) -> None:
    role = sfn.make_role("weak", "states:StartExecution")
    state = sfn.task()
    if direct:
        state |= {"Resource": sfn.function, "Parameters": {}}
    found = caught(sfn.run(catching(state), roleArn=role))
    assert found["Error"] == "Lambda.AWSLambdaException"
    assert "is not authorized to perform: lambda:InvokeFunction" in found["Cause"]
    assert f"assumed-role/{role.rsplit('/', 1)[1]}/" in found["Cause"]


@pytest.mark.parametrize("errors", [["States.ALL"], ["States.TaskFailed"], ["States.Runtime"]])
def test_nobody_catches_a_runtime_error(sfn: Machines, errors: list[str]) -> None:
    state = sfn.task({"x.$": "$.absent"}, Retry=[{"ErrorEquals": errors}])
    done = sfn.run(catching(state, *errors))
    assert (done["status"], done["error"]) == ("FAILED", "States.Runtime")
    assert "The JSONPath '$.absent'" in done["cause"]
    assert "could not be found in the input '{}'" in done["cause"]


def test_a_runtime_error_in_a_branch_passes_the_catch_of_the_parallel_state(sfn: Machines) -> None:
    branch = {"StartAt": "B", "States": {"B": {"Type": "Pass", "InputPath": "$.absent", "End": True}}}
    done = sfn.run(catching({"Type": "Parallel", "Branches": [branch], "End": True}))
    assert (done["status"], done["error"]) == ("FAILED", "States.Runtime")


def test_a_result_over_256_kib_is_only_caught_by_its_name(sfn: Machines) -> None:
    large = sfn.task({"do": "large", "bytes": 270_000})
    done = sfn.run(catching(large, "States.ALL"))
    assert (done["status"], done["error"]) == ("FAILED", "States.DataLimitExceeded")
    assert caught(sfn.run(catching(large, "States.DataLimitExceeded")))["Error"] == "States.DataLimitExceeded"


def test_state_that_grows_over_256_kib_fails_the_execution(sfn: Machines) -> None:
    states = {"P": {"Type": "Pass", "Parameters": {"a.$": "$.x", "b.$": "$.x"}, "End": True}}
    done = sfn.end(sfn.start(sfn.create(states), {"x": "y" * 140_000}))
    assert (done["status"], done["error"]) == ("FAILED", "States.DataLimitExceeded")


@pytest.mark.parametrize(("expected", "is_caught"), [("States.TaskFailed", False), ("States.ALL", True)])
def test_task_failed_matches_all_but_time_outs(sfn: Machines, expected: str, is_caught: bool) -> None:
    done = sfn.run(catching(sfn.wait_for_token(TimeoutSeconds=1), expected))
    assert done["status"] == ("SUCCEEDED" if is_caught else "FAILED")
    assert caught(sfn.run(catching(sfn.task({"do": "fail"}), expected)))["Error"] == "Refused"


def test_retriers_are_counted_one_by_one_and_wait_between(sfn: Machines) -> None:
    retry = [
        {"ErrorEquals": ["Other"], "MaxAttempts": 9},
        {"ErrorEquals": ["Refused"], "IntervalSeconds": 1, "BackoffRate": 10, "MaxDelaySeconds": 2, "MaxAttempts": 2},
    ]
    done = sfn.run(catching(sfn.task({"do": "fail", "n.$": "$$.State.RetryCount"}, Retry=retry)))
    events = sfn.history(done["executionArn"])
    times = [event["timestamp"] for event in events if event["type"] == "TaskScheduled"]
    waits = [(b - a).total_seconds() for a, b in itertools.pairwise(times)]
    assert [round(wait) for wait in waits] == [1, 2]


def test_full_jitter_waits_less_than_the_interval(sfn: Machines) -> None:
    retry = [
        {"ErrorEquals": ["Refused"], "IntervalSeconds": 2, "MaxAttempts": 3, "BackoffRate": 1, "JitterStrategy": "FULL"}
    ]
    done = sfn.run({"T": sfn.task({"do": "fail"}, Retry=retry)})
    assert done["error"] == "Refused"
    assert sfn.types(done["executionArn"]).count("TaskScheduled") == 4
    assert (done["stopDate"] - done["startDate"]).total_seconds() < 6.5


# --- integrations -------------------------------------------------------------------------------------------------


def test_what_invoking_a_function_returns(sfn: Machines) -> None:
    done = json.loads(sfn.run({"T": sfn.task({"do": "echo", "deep": {"a": [1, None, 2.5]}})})["output"])
    assert done == {
        "ExecutedVersion": "$LATEST",
        "Payload": {"do": "echo", "deep": {"a": [1, None, 2.5]}},
        "StatusCode": 200,
    }
    direct = {"Type": "Task", "Resource": sfn.function, "End": True}
    assert json.loads(sfn.end(sfn.start(sfn.create({"T": direct}), {"a": 1}))["output"]) == {"a": 1}


@pytest.mark.parametrize("form", ["name", "alias", "alias ARN"])
def test_how_a_function_may_be_named(sfn: Machines, form: str) -> None:
    functions = sfn.cloud.client("lambda", sfn.region)
    version = functions.publish_version(FunctionName="does")["Version"]
    if form != "name":
        functions.create_alias(FunctionName="does", Name=form.replace(" ", ""), FunctionVersion=version)
    names = {"name": "does", "alias": "does:alias", "alias ARN": f"{sfn.function}:aliasARN"}
    state = sfn.task({"do": "echo"})
    state["Parameters"]["FunctionName"] = names[form]
    done = sfn.run({"T": state})
    assert done["status"] == "SUCCEEDED", done
    assert json.loads(done["output"])["ExecutedVersion"] == ("$LATEST" if form == "name" else version)


def integration(sfn: Machines, action: str, **parameters: Any) -> dict[str, Any]:
    return {"Type": "Task", "Resource": f"arn:aws:states:::{action}", "Parameters": parameters, "End": True}


def queue(sfn: Machines, name: str) -> tuple[Any, str, str]:
    sqs = sfn.cloud.client("sqs", sfn.region)
    url = sqs.create_queue(QueueName=name)["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    return sqs, url, arn


def test_queues_and_topics_get_objects_as_json(sfn: Machines) -> None:
    sqs, url, arn = queue(sfn, "messages")
    sns = sfn.cloud.client("sns", sfn.region)
    topic = sns.create_topic(Name="news")["TopicArn"]
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn, Attributes={"RawMessageDelivery": "true"})
    states = {
        "Send": {**integration(sfn, "sqs:sendMessage", QueueUrl=url, MessageBody={"n": 1}), "Next": "Publish"},
        "Publish": integration(sfn, "sns:publish", TopicArn=topic, Subject="S", Message={"n": 2}),
    }
    del states["Send"]["End"]
    done = sfn.run(states)
    assert "MessageId" in json.loads(done["output"])

    bodies: list[Any] = []

    def both() -> bool:
        for message in sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", []):
            bodies.append(json.loads(message["Body"]))
        return len(bodies) == 2

    eventually(both)
    assert sorted(body["n"] for body in bodies) == [1, 2]


def test_errors_of_a_topic_have_the_names_of_their_classes(sfn: Machines) -> None:
    topic = sfn.cloud.client("sns", sfn.region).create_topic(Name="errors")["TopicArn"]
    publish = integration(sfn, "sns:publish", TopicArn=topic, Message="m")
    denied = sfn.run(catching(publish), roleArn=sfn.make_role("publishes-nothing"))
    assert caught(denied)["Error"] == "SNS.AuthorizationErrorException"
    lost = integration(sfn, "sns:publish", TopicArn=f"{topic}-gone", Message="m")
    assert caught(sfn.run(catching(lost)))["Error"] == "SNS.NotFoundException"


def test_a_refused_publication_is_not_retried_as_one_that_failed(sfn: Machines) -> None:
    topic = sfn.cloud.client("sns", sfn.region).create_topic(Name="refused")["TopicArn"]
    path = Path(__file__).parents[3] / "statemachine" / "training_run.asl.json"
    retry = json.loads(path.read_text())["States"]["Notify"]["Retry"]
    publish = {**integration(sfn, "sns:publish", TopicArn=topic, Message="m"), "Retry": retry}
    execution = sfn.start(sfn.create(catching(publish), roleArn=sfn.make_role("publishes-nothing")))
    assert caught(sfn.end(execution))["Error"] == "SNS.AuthorizationErrorException"
    assert sfn.types(execution).count("TaskScheduled") == 1


def test_events_can_be_put_and_their_failures_fail_the_task(sfn: Machines) -> None:
    entry = {"Source": "baton.test", "DetailType": "Tested", "Detail": {"a": 1}}
    done = sfn.run({"T": integration(sfn, "events:putEvents", Entries=[entry])})
    assert json.loads(done["output"])["FailedEntryCount"] == 0
    bad = integration(sfn, "events:putEvents", Entries=[{**entry, "Source": "aws.states"}])
    assert caught(sfn.run(catching(bad)))["Error"] == "EventBridge.FailedEntry"


def test_another_machine_can_be_started_and_waited_for(sfn: Machines) -> None:
    child = sfn.create({"P": {"Type": "Pass", "Result": {"child": True}, "End": True}})
    started = sfn.run({"T": integration(sfn, "states:startExecution", StateMachineArn=child, Input={"x": 1})})
    assert json.loads(started["output"])["ExecutionArn"].startswith(child.replace(":stateMachine:", ":execution:"))
    waited = sfn.run({"T": integration(sfn, "states:startExecution.sync:2", StateMachineArn=child, Input={"x": 1})})
    assert json.loads(waited["output"])["Output"] == {"child": True}
    failing = sfn.create({"F": {"Type": "Fail", "Error": "E"}})
    sync = integration(sfn, "states:startExecution.sync", StateMachineArn=failing)
    assert caught(sfn.run(catching(sync)))["Error"] == "States.TaskFailed"


def test_a_running_sync_task_can_be_stopped(sfn: Machines) -> None:
    child = sfn.create({"W": {"Type": "Wait", "Seconds": 60, "End": True}})
    sync = integration(sfn, "states:startExecution.sync", StateMachineArn=child)
    execution = sfn.start(sfn.create({"T": sync}))
    eventually(lambda: "TaskSubmitted" in sfn.types(execution))
    sfn.client.stop_execution(executionArn=execution)
    assert sfn.end(execution, 3)["status"] == "ABORTED"


def test_sdk_integrations_spell_parameters_and_results_as_step_functions_does(sfn: Machines) -> None:
    machine = sfn.create({"P": {"Type": "Pass", "End": True}})
    describe = integration(sfn, "aws-sdk:sfn:describeStateMachine", StateMachineArn=machine)
    assert json.loads(sfn.run({"T": describe})["output"])["StateMachineArn"] == machine
    dynamodb = sfn.cloud.client("dynamodb", sfn.region)
    dynamodb.create_table(
        TableName="t",
        KeySchema=[{"AttributeName": "k", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "k", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    put = integration(sfn, "dynamodb:putItem", TableName="t", Item={"k": {"S": "a"}})
    get = integration(sfn, "aws-sdk:dynamodb:getItem", TableName="t", Key={"k": {"S": "a"}})
    del put["End"]
    done = sfn.run({"Put": {**put, "Next": "Get"}, "Get": get})
    assert json.loads(done["output"])["Item"] == {"k": {"S": "a"}}


def test_choices_maps_and_intrinsics_work_as_ever(sfn: Machines) -> None:
    inner = {
        "StartAt": "I",
        "States": {"I": sfn.task({"do": "echo", "n.$": "$"}, ResultSelector={"n.$": "$.Payload.n"})},
    }
    states = {
        "Choose": {
            "Type": "Choice",
            "Choices": [{"Variable": "$.items[0]", "NumericGreaterThan": 0, "Next": "Each"}],
            "Default": "No",
        },
        "Each": {"Type": "Map", "ItemsPath": "$.items", "ItemProcessor": inner, "ResultPath": "$.done", "Next": "Join"},
        "Join": {
            "Type": "Pass",
            "Parameters": {"text.$": "States.Format('{} of {}', $.done[1].n, States.ArrayLength($.items))"},
            "End": True,
        },
        "No": {"Type": "Fail"},
    }
    machine = sfn.create(states)
    assert json.loads(sfn.end(sfn.start(machine, {"items": [1, 2, 3]}))["output"]) == {"text": "2 of 3"}
    assert sfn.end(sfn.start(machine, {"items": [0]}))["status"] == "FAILED"
