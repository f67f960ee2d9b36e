"""``baton drain`` and ``baton redrive`` on fake accounts."""

from __future__ import annotations

import io
import json
import time
from pathlib import Path
from typing import Any

import boto3
import pytest

from baton_cli import drain
from baton_cli.account import Account
from baton_cli.drain import Drain, Leftover, TookTooLong
from baton_cli.main import main
from baton_cli.redrive import redrive
from baton_local.cloudformation.templates import load
from tests.support.aws_command import AwsCommand
from tests.support.aws_fake import FakeAws, refusal

TEMPLATE = load((Path(__file__).parents[2] / "template.yaml").read_text("utf-8"))
REGION = "eu-west-1"
MACHINE = f"arn:aws:states:{REGION}:1:stateMachine:baton-training-run"
SWEEPER = f"arn:aws:states:{REGION}:1:stateMachine:baton-clean-up-run"
RUN = f"arn:aws:states:{REGION}:1:execution:baton-training-run:r1"
SWEEP = f"arn:aws:states:{REGION}:1:execution:baton-clean-up-run:s1"
RUN_ID = "bt-0000000abcdef"


class Script:
    """Answers, one a call; the last one stays."""

    def __init__(self, *answers: Any) -> None:
        self._answers = list(answers)

    def __call__(self, **_: Any) -> Any:
        return self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]


class Executions:
    """What ListExecutions answers, look by look, for each machine."""

    def __init__(self) -> None:
        self.looks: dict[str, list[list[str]]] = {MACHINE: [], SWEEPER: []}

    def __call__(self, stateMachineArn: str, statusFilter: str) -> dict[str, Any]:
        assert statusFilter == "RUNNING"
        looks = self.looks[stateMachineArn]
        return {"executions": [{"executionArn": arn} for arn in (looks.pop(0) if looks else [])]}


def waiting(*counts: int) -> Script:
    zero = {"ApproximateNumberOfMessagesNotVisible": "0", "ApproximateNumberOfMessagesDelayed": "0"}
    return Script(*({"Attributes": {"ApproximateNumberOfMessages": str(count), **zero}} for count in counts))


def janitor(**result: Any) -> Any:
    return lambda **_: {"Payload": io.BytesIO(json.dumps(result).encode())}


@pytest.fixture
def executions() -> Executions:
    return Executions()


@pytest.fixture
def aws(executions: Executions) -> FakeAws:
    outputs = {
        "StateMachineArn": MACHINE,
        "CleanUpMachineArn": SWEEPER,
        "OutcomeQueueUrl": "https://sqs/outcomes",
        "DeadLetterQueueUrl": "https://sqs/dead",
        "TableName": "table",
    }
    resources = {"UploadRule": "baton-UploadRule-1", "JanitorFunction": "baton-janitor", "StartRunFunction": "start"}
    stack = {
        "StackStatus": "CREATE_COMPLETE",
        "Outputs": [{"OutputKey": k, "OutputValue": v} for k, v in outputs.items()],
        "Parameters": [
            {"ParameterKey": "KfpMode", "ParameterValue": "direct"},
            {"ParameterKey": "RunPrefix", "ParameterValue": "bt-"},
        ],
    }
    summaries = [{"LogicalResourceId": k, "PhysicalResourceId": v} for k, v in resources.items()]
    return FakeAws(
        {
            "cloudformation.describe_stacks": {"Stacks": [stack]},
            "cloudformation.list_stack_resources": {"StackResourceSummaries": summaries},
            "events.disable_rule": {},
            "stepfunctions.list_executions": executions,
            "stepfunctions.stop_execution": {},
            "stepfunctions.start_execution": {},
            "sqs.get_queue_attributes": waiting(0),
            "lambda.invoke": janitor(looked_at=0, started=[], not_reached=0),
            "dynamodb.query": {"Items": []},
            "sagemaker.list_endpoints": {"Endpoints": []},
            "sagemaker.list_endpoint_configs": {"EndpointConfigs": []},
            "sagemaker.list_models": {"Models": []},
            "sagemaker.list_training_jobs": {"TrainingJobSummaries": []},
            "sagemaker.list_hyper_parameter_tuning_jobs": {"HyperParameterTuningJobSummaries": []},
            "sagemaker.list_transform_jobs": {"TransformJobSummaries": []},
        }
    )


def drained(aws: FakeAws, stop: bool = False, timeout: float = 5.0, calm_seconds: float = 0.0) -> list[Leftover]:
    return Drain(Account(aws, REGION, "baton"), timeout, calm_seconds, look_seconds=0.001).run(stop)


def operations(aws: FakeAws) -> list[str]:
    return [operation for operation, _ in aws.calls]


def test_it_takes_no_uploads_before_it_looks_at_runs(aws: FakeAws) -> None:
    assert drained(aws) == []
    assert aws.called("events.disable_rule") == [{"Name": "baton-UploadRule-1"}]
    order = operations(aws)
    assert order.index("events.disable_rule") < order.index("stepfunctions.list_executions")
    assert order.index("stepfunctions.list_executions") < order.index("lambda.invoke")


def test_it_waits_for_runs_and_stops_none(aws: FakeAws, executions: Executions) -> None:
    executions.looks[MACHINE] = [[RUN], [RUN], [], [RUN], []]
    assert drained(aws) == []
    assert executions.looks[MACHINE] == []
    assert aws.called("stepfunctions.stop_execution") == []


def test_it_stops_runs_when_told_to_also_a_late_one(aws: FakeAws, executions: Executions) -> None:
    executions.looks[MACHINE] = [[RUN], [], [f"{RUN}-late"], []]
    drained(aws, stop=True)
    stopped = [call["executionArn"] for call in aws.called("stepfunctions.stop_execution")]
    assert stopped == [RUN, f"{RUN}-late"]


def test_it_waits_for_clean_ups_and_for_the_events_that_may_start_one(aws: FakeAws, executions: Executions) -> None:
    executions.looks[SWEEPER] = [[SWEEP], [], [], []]
    aws.answers["sqs.get_queue_attributes"] = waiting(2, 2, 1, 0)
    drained(aws)
    before = operations(aws)[: operations(aws).index("lambda.invoke")]
    assert before.count("sqs.get_queue_attributes") == 3 + 3


def test_it_waits_for_what_the_janitor_starts(aws: FakeAws, executions: Executions) -> None:
    def invoke(**_: Any) -> Any:
        executions.looks[SWEEPER] = [[SWEEP], [SWEEP], []]
        return janitor(looked_at=1, started=[{"run_id": RUN_ID}], not_reached=0)()

    aws.answers["lambda.invoke"] = invoke
    drained(aws)
    assert executions.looks[SWEEPER] == []


def test_it_looks_again_at_the_end_and_begins_anew_where_a_run_has_started_meanwhile(
    aws: FakeAws, executions: Executions, capsys: pytest.CaptureFixture[str]
) -> None:
    late = f"{RUN}-late"
    starts = iter([[[late], [late]]])

    def query(**_: Any) -> Any:
        # The runs' rows are looked at last of all; meanwhile somebody starts an execution, once.
        executions.looks[MACHINE] = next(starts, [])
        return {"Items": []}

    aws.answers["dynamodb.query"] = query
    drained(aws, stop=True)
    assert [call["executionArn"] for call in aws.called("stepfunctions.stop_execution")] == [late]
    assert len(aws.called("lambda.invoke")) == 2
    assert "Another run has started meanwhile." in capsys.readouterr().out


def test_it_is_calm_for_as_long_as_it_is_told_to_be(aws: FakeAws, executions: Executions) -> None:
    executions.looks[MACHINE] = [[]] * 20 + [[RUN]]
    began = time.monotonic()
    drained(aws, calm_seconds=0.1)
    assert executions.looks[MACHINE] == []
    assert time.monotonic() - began > 0.1


def test_it_gives_up_in_time(aws: FakeAws, executions: Executions) -> None:
    executions.looks[MACHINE] = [[RUN]] * 10_000
    with pytest.raises(TookTooLong, match="Runs under way when the time was over: r1"):
        drained(aws, timeout=0.05)
    assert "lambda.invoke" not in operations(aws)


def test_a_janitor_that_fails_is_told(aws: FakeAws) -> None:
    answer = {"FunctionError": "Unhandled", "Payload": io.BytesIO(b'{"errorMessage": "no table"}')}
    aws.answers["lambda.invoke"] = answer
    with pytest.raises(TookTooLong, match="The janitor failed: no table"):
        drained(aws)


def test_the_janitor_is_waited_for_and_asked_once(command: FakeAws) -> None:
    """It may run for as long as the template says, which is longer than boto3's own patience of a minute."""
    assert main(["drain", "--region", REGION, "--calm", "0"]) == 0
    [config] = [options["config"] for service, options in command.options if service == "lambda"]
    assert config.read_timeout > TEMPLATE["Resources"]["JanitorFunction"]["Properties"]["Timeout"]
    assert config.retries == {"total_max_attempts": 1}
    assert not any(options for service, options in command.options if service != "lambda")


def things(noun: str, *names: str) -> list[dict[str, str]]:
    return [{f"{noun}Name": name, f"{noun}Arn": f"arn:{name}"} for name in names]


def tags_of(execution: str) -> dict[str, Any]:
    return {"Tags": [{"Key": "baton:execution-arn", "Value": execution}]}


def test_what_is_left_is_told_with_the_command_that_ends_it(aws: FakeAws) -> None:
    aws.answers["sagemaker.list_endpoints"] = {"Endpoints": things("Endpoint", f"{RUN_ID}-endpoint")}
    aws.answers["sagemaker.list_endpoint_configs"] = {"EndpointConfigs": things("EndpointConfig", f"{RUN_ID}-config")}
    aws.answers["sagemaker.list_models"] = {"Models": things("Model", f"{RUN_ID}-model")}
    aws.answers["sagemaker.list_training_jobs"] = {"TrainingJobSummaries": things("TrainingJob", f"{RUN_ID}-train")}
    jobs = things("HyperParameterTuningJob", f"{RUN_ID}-tune")
    aws.answers["sagemaker.list_hyper_parameter_tuning_jobs"] = {"HyperParameterTuningJobSummaries": jobs}
    aws.answers["sagemaker.list_transform_jobs"] = {
        "TransformJobSummaries": things("TransformJob", f"{RUN_ID}-transform")
    }
    aws.answers["sagemaker.list_tags"] = tags_of(RUN)
    commands = [AwsCommand(leftover.command) for leftover in drained(aws)]
    assert [(command.operation, *command.parameters.values()) for command in commands] == [
        ("delete_endpoint", f"{RUN_ID}-endpoint"),
        ("delete_endpoint_config", f"{RUN_ID}-config"),
        ("delete_model", f"{RUN_ID}-model"),
        ("stop_training_job", f"{RUN_ID}-train"),
        ("stop_hyper_parameter_tuning_job", f"{RUN_ID}-tune"),
        ("stop_transform_job", f"{RUN_ID}-transform"),
    ]
    assert aws.called("sagemaker.list_training_jobs") == [{"NameContains": "bt-", "StatusEquals": "InProgress"}]


def test_what_others_made_is_left_out(aws: FakeAws) -> None:
    names = ("bt-mine", f"x-{RUN_ID}-endpoint", f"{RUN_ID}-endpoint")
    aws.answers["sagemaker.list_endpoints"] = {"Endpoints": things("Endpoint", *names)}
    aws.answers["sagemaker.list_tags"] = tags_of(RUN.replace("baton-training-run", "baton-prod-training-run"))
    assert drained(aws) == []
    assert aws.called("sagemaker.list_tags") == [{"ResourceArn": f"arn:{RUN_ID}-endpoint"}]


def test_what_goes_while_it_looks_is_gone(aws: FakeAws) -> None:
    aws.answers["sagemaker.list_endpoints"] = {"Endpoints": things("Endpoint", f"{RUN_ID}-endpoint")}
    aws.answers["sagemaker.list_tags"] = refusal("ValidationException", "Could not find endpoint")
    assert drained(aws) == []


def test_a_run_without_a_receipt_is_left(aws: FakeAws) -> None:
    row = {"name": {"S": RUN_ID}, "execution_arn": {"S": RUN}}
    finished = {"name": {"S": "bt-other"}, "execution_arn": {"S": RUN}, "receipt": {"S": "{}"}}
    unplanned = {"name": {"S": "bt-third"}, "ended_at": {"N": "1"}}
    aws.answers["dynamodb.query"] = [{"Items": [row]}, {"Items": [finished, unplanned]}]
    [leftover] = drained(aws)
    command = AwsCommand(leftover.command)
    assert command.parameters["stateMachineArn"] == SWEEPER
    assert json.loads(command.parameters["input"]) == {"execution_arn": RUN, "run_id": RUN_ID, "succeeded": False}


# --- the commands -----------------------------------------------------------------------------------------------------


@pytest.fixture
def command(aws: FakeAws, monkeypatch: pytest.MonkeyPatch) -> FakeAws:
    monkeypatch.setattr(boto3.Session, "client", lambda _self, service, **options: aws(service, **options))
    monkeypatch.setattr(drain.time, "sleep", lambda _seconds: None)
    return aws


def test_exit_codes_and_what_comes_next(command: FakeAws, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["drain", "--region", REGION, "--calm", "0"]) == 0
    said = capsys.readouterr().out
    assert said.endswith(f"    .venv/bin/sam delete --stack-name baton --region {REGION}\n")
    assert f"    aws events enable-rule --name baton-UploadRule-1 --region {REGION}\n" in said
    assert all(len(line) < 80 for line in said.splitlines())
    assert "--calm 200" in said
    command.answers["sagemaker.list_endpoints"] = {"Endpoints": things("Endpoint", f"{RUN_ID}-endpoint")}
    command.answers["sagemaker.list_tags"] = tags_of(RUN)
    assert main(["drain", "--region", REGION, "--calm", "0"]) == 1
    assert f"aws sagemaker delete-endpoint --endpoint-name {RUN_ID}-endpoint" in capsys.readouterr().out
    command.answers["cloudformation.describe_stacks"] = refusal("ValidationError", "Stack with id baton does not exist")
    for verb in ("drain", "redrive"):
        assert main([verb, "--region", REGION]) == 2
        assert "There is no stack baton in eu-west-1" in capsys.readouterr().err


@pytest.mark.parametrize("chosen", ["", " --profile work"])
def test_commands_name_the_profile_that_was_chosen(
    command: FakeAws, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, chosen: str
) -> None:
    (tmp_path / "config").write_text("[profile work]\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    command.answers["sagemaker.list_endpoints"] = {"Endpoints": things("Endpoint", f"{RUN_ID}-endpoint")}
    command.answers["sagemaker.list_tags"] = tags_of(RUN)
    command.answers["dynamodb.query"] = {"Items": [{"name": {"S": RUN_ID}, "execution_arn": {"S": RUN}}]}
    command.answers["sqs.receive_message"] = {"Messages": [letter(1, "garbage")]}
    command.answers["sqs.change_message_visibility_batch"] = {}
    assert main(["drain", "--region", REGION, "--calm", "0", *chosen.split()]) == 1
    assert main(["redrive", "--region", REGION, *chosen.split()]) == 1
    printed = [line for line in capsys.readouterr().out.splitlines() if line.startswith(("    aws", "    .venv/bin/"))]
    assert len(printed) == 5
    assert all(line.endswith(f" --region {REGION}{chosen}") for line in printed)


def test_a_stack_that_stays_keeps_its_things_and_is_not_told_to_go(
    command: FakeAws, capsys: pytest.CaptureFixture[str]
) -> None:
    command.answers["sagemaker.list_endpoints"] = {"Endpoints": things("Endpoint", f"{RUN_ID}-endpoint")}
    command.answers["sagemaker.list_tags"] = tags_of(RUN)
    call = ["drain", "--region", REGION, "--calm", "0", "--stack-stays"]
    assert main(call) == 0
    said = capsys.readouterr().out
    assert f"    aws events enable-rule --name baton-UploadRule-1 --region {REGION}\n" in said
    assert "sam delete" not in said
    assert "upload it again once the rule is enabled." in " ".join(said.split())
    assert "The janitor looked at 0 runs and started 0 clean-ups." in said
    assert "endpoint" not in said
    assert all(len(line) < 80 for line in said.splitlines())
    row = {"name": {"S": RUN_ID}, "execution_arn": {"S": RUN}}
    command.answers["dynamodb.query"] = [{"Items": [row]}]
    assert main(call) == 1
    said = capsys.readouterr().out
    assert f"run {RUN_ID} without a receipt\n    aws stepfunctions start-execution" in said
    assert "1 run is not cleaned up; this command ends it:\n" in said


# --- redrive ----------------------------------------------------------------------------------------------------------

UPLOAD = {"source": "aws.s3", "detail-type": "Object Created", "time": "2026-11-23T10:00:00Z", "detail": {}}
END = {
    "source": "aws.states",
    "detail-type": "Step Functions Execution Status Change",
    "detail": {"executionArn": RUN, "startDate": 1790000000000, "status": "FAILED"},
}
OUTCOME = {"source": "aws.sagemaker", "detail-type": "SageMaker Training Job State Change", "detail": {}}


def letter(number: int, body: Any, **attributes: str) -> dict[str, Any]:
    said = {name: {"StringValue": value, "DataType": "String"} for name, value in attributes.items()}
    text = body if isinstance(body, str) else json.dumps(body)
    return {"MessageId": f"m{number}", "ReceiptHandle": f"h{number}", "Body": text, "MessageAttributes": said}


@pytest.fixture
def letters(aws: FakeAws) -> FakeAws:
    """A dead-letter queue with one message of each kind, on two pages."""
    lambdas = {"RequestID": "1", "ErrorCode": "200", "ErrorMessage": "no table"}
    first = [letter(1, UPLOAD, **lambdas), letter(2, END, ERROR_MESSAGE="no role", ERROR_CODE="NO_PERMISSIONS")]
    second = [letter(3, OUTCOME, Reason="ValueError: x"), letter(4, "garbage"), letter(5, ["a"])]
    aws.answers["sqs.receive_message"] = Script({"Messages": first}, {"Messages": second}, {})
    aws.answers["sqs.send_message"] = aws.answers["sqs.delete_message"] = {}
    aws.answers["sqs.change_message_visibility_batch"] = {}
    aws.answers["lambda.invoke"] = {}
    return aws


def test_each_event_goes_to_whom_it_was_meant_for(letters: FakeAws, capsys: pytest.CaptureFixture[str]) -> None:
    assert redrive(Account(letters, REGION, "baton"), dry_run=False) == 1
    [invoked] = letters.called("lambda.invoke")
    assert (invoked["FunctionName"], json.loads(invoked["Payload"])) == ("start", UPLOAD)
    assert invoked["InvocationType"] == "Event"
    [started] = letters.called("stepfunctions.start_execution")
    request = {"execution_arn": RUN, "start_time": 1790000000000}
    assert (started["stateMachineArn"], json.loads(started["input"])) == (SWEEPER, request)
    [sent] = letters.called("sqs.send_message")
    assert (sent["QueueUrl"], json.loads(sent["MessageBody"])) == ("https://sqs/outcomes", OUTCOME)
    assert [call["ReceiptHandle"] for call in letters.called("sqs.delete_message")] == ["h1", "h2", "h3"]
    said = capsys.readouterr().out
    for reason in ("no table", "no role", "ValueError: x", "no reason given", "left: it is no event"):
        assert reason in said
    assert f"    .venv/bin/baton redrive --discard --stack-name baton --region {REGION}\n" in said


def released(aws: FakeAws) -> list[str]:
    """Return the messages that can be seen again at once."""
    entries = [entry for call in aws.called("sqs.change_message_visibility_batch") for entry in call["Entries"]]
    assert all(entry["VisibilityTimeout"] == 0 for entry in entries)
    assert all(len(call["Entries"]) <= 10 for call in aws.called("sqs.change_message_visibility_batch"))
    return [entry["ReceiptHandle"] for entry in entries]


def test_what_is_left_can_be_seen_again_at_once(letters: FakeAws) -> None:
    redrive(Account(letters, REGION, "baton"), dry_run=False)
    assert released(letters) == ["h4", "h5"]


def test_what_is_no_event_is_deleted_when_told_to(letters: FakeAws, capsys: pytest.CaptureFixture[str]) -> None:
    assert redrive(Account(letters, REGION, "baton"), dry_run=False, discard=True) == 0
    assert [call["ReceiptHandle"] for call in letters.called("sqs.delete_message")] == ["h1", "h2", "h3", "h4", "h5"]
    assert len(letters.called("sqs.send_message")) == 1
    assert capsys.readouterr().out.count("deleted: it is no event") == 2
    assert released(letters) == []


def test_an_event_that_nobody_takes_stays_with_all_after_it(letters: FakeAws) -> None:
    letters.answers["lambda.invoke"] = refusal("TooManyRequestsException")
    with pytest.raises(type(refusal(""))):
        redrive(Account(letters, REGION, "baton"), dry_run=False)
    assert letters.called("sqs.delete_message") == []
    assert released(letters) == ["h1", "h2", "h3", "h4", "h5"]


def test_a_dry_run_moves_nothing_and_hides_nothing(letters: FakeAws, capsys: pytest.CaptureFixture[str]) -> None:
    redrive(Account(letters, REGION, "baton"), dry_run=True)
    looking = {"cloudformation.describe_stacks", "sqs.receive_message", "sqs.change_message_visibility_batch"}
    assert {operation for operation, _ in letters.calls} == looking
    assert released(letters) == ["h1", "h2", "h3", "h4", "h5"]
    assert "5 events in the dead-letter queue, of which nothing was moved" in capsys.readouterr().out


def test_many_messages_are_released_ten_at_a_time(letters: FakeAws) -> None:
    pages = [[letter(10 * page + number, OUTCOME) for number in range(10)] for page in range(3)]
    letters.answers["sqs.receive_message"] = Script(*({"Messages": page} for page in pages), {})
    redrive(Account(letters, REGION, "baton"), dry_run=True)
    assert len(released(letters)) == 30


def test_a_message_that_comes_again_is_told_once(aws: FakeAws, capsys: pytest.CaptureFixture[str]) -> None:
    aws.answers["sqs.receive_message"] = {"Messages": [letter(1, "garbage")]}
    aws.answers["sqs.change_message_visibility_batch"] = {}
    assert redrive(Account(aws, REGION, "baton"), dry_run=True) == 1
    assert "\n1 event in the dead-letter queue" in capsys.readouterr().out


@pytest.mark.parametrize("verb", ["drain", "redrive"])
@pytest.mark.parametrize("status", ["DELETE_FAILED", "DELETE_IN_PROGRESS", "ROLLBACK_FAILED"])
def test_a_stack_that_is_taken_apart_is_left_to_doctor(
    command: FakeAws, capsys: pytest.CaptureFixture[str], verb: str, status: str
) -> None:
    """The rule, the janitor or the state machine may have gone already."""
    command.answers["cloudformation.describe_stacks"]["Stacks"][0]["StackStatus"] = status
    command.answers["cloudformation.list_stack_resources"] = {"StackResourceSummaries": []}
    assert main([verb, "--region", REGION]) == 2
    said = capsys.readouterr().err
    assert f"The stack baton in {REGION} is {status}. " in said
    assert f".venv/bin/baton doctor --stack-name baton --region {REGION}" in said


@pytest.mark.parametrize("verb", ["drain", "redrive"])
def test_a_stack_of_others_is_left_alone_though_it_has_an_output_of_the_same_name(
    command: FakeAws, capsys: pytest.CaptureFixture[str], verb: str
) -> None:
    theirs = command.answers["cloudformation.describe_stacks"]["Stacks"][0]
    theirs["Parameters"] = [{"ParameterKey": "RunPrefix", "ParameterValue": "bt-"}]
    theirs["Outputs"] = [{"OutputKey": "StateMachineArn", "OutputValue": MACHINE}]
    command.answers["cloudformation.list_stack_resources"] = {"StackResourceSummaries": []}
    assert main([verb, "--region", REGION]) == 2
    said = f"baton: There is no stack baton in {REGION} that was ever complete and is Baton's.\n"
    assert capsys.readouterr().err == said
    assert {operation for operation, _ in command.calls} == {"cloudformation.describe_stacks"}


@pytest.mark.parametrize("verb", ["drain", "redrive"])
def test_a_name_that_no_stack_can_have_is_refused_with_what_names_are(
    command: FakeAws, capsys: pytest.CaptureFixture[str], verb: str
) -> None:
    command.answers["cloudformation.describe_stacks"] = refusal("ValidationError", "1 validation error detected")
    assert main([verb, "--region", REGION, "--stack-name", "baton_prod"]) == 2
    assert capsys.readouterr().err.startswith("baton: 'baton_prod' can be no stack's name: that has letters, ")


@pytest.mark.parametrize("verb", ["drain", "redrive"])
@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("AWS_MAX_ATTEMPTS", "x", "invalid literal for int() with base 10: 'x'"),
        ("AWS_ENDPOINT_URL", "nourl", "Invalid endpoint: nourl"),
    ],
)
def test_a_setting_that_botocore_does_not_take_is_told_in_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], verb: str, variable: str, value: str, said: str
) -> None:
    for name, given in {"AWS_ACCESS_KEY_ID": "AKID", "AWS_SECRET_ACCESS_KEY": "secret", variable: value}.items():
        monkeypatch.setenv(name, given)
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    assert main([verb, "--region", REGION]) == 2
    assert capsys.readouterr().err == f"baton: botocore does not take one of your settings: {said}\n"
