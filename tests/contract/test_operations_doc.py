"""What docs/operations.md says is what the template, the code and the commands are."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from baton.errors import all_errors
from baton.kfp.client import MINIMUM_VERSION
from baton.settling import LAST_RECEIVE
from baton_cli.drained import ON_A_DRAINED_STACK
from baton_cli.main import parser
from baton_local.cloudformation.templates import load
from tests.support import resolved_template
from tests.support.aws_command import AwsCommand

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "operations.md").read_text("utf-8")
TEMPLATE: dict[str, Any] = load((ROOT / "template.yaml").read_text("utf-8"))
RESOURCES: dict[str, Any] = TEMPLATE["Resources"]


def of_type(kind: str) -> dict[str, Any]:
    return {name: resource for name, resource in RESOURCES.items() if resource["Type"] == kind}


def section(title: str) -> str:
    return PAGE.split(f"\n## {title}", 1)[1].split("\n## ", 1)[0]


def commands() -> list[str]:
    return re.findall(r"^    ((?:aws|(?:\S*/)?(?:baton|sam)) .*)$", PAGE, re.MULTILINE)


def meanings() -> dict[str, str]:
    """Return what the page says that each alarm means."""
    rows = re.findall(r"^\| `(\w+)` \| (.+) \| (.+) \|$", section("Alarms"), re.MULTILINE)
    found = {name: what for name, what, _ in rows}
    assert len(found) == len(rows)
    return found


def test_every_alarm_has_its_row() -> None:
    assert set(meanings()) == set(of_type("AWS::CloudWatch::Alarm"))


def test_the_numbers_of_the_alarms_are_the_templates() -> None:
    """tests/contract/test_metrics.py knows the rest of when each rings."""
    alarms = {name: alarm["Properties"] for name, alarm in of_type("AWS::CloudWatch::Alarm").items()}
    age = alarms["QueueAgeAlarm"]
    minutes = (age["Period"] * age["EvaluationPeriods"] // 60, age["Threshold"] // 60)
    assert "For {} minutes events have been older than {} minutes".format(*minutes) in meanings()["QueueAgeAlarm"]
    assert alarms["OverdueRunAlarm"]["Threshold"] == 3600
    assert "past its deadline" in meanings()["OverdueRunAlarm"]
    assert "by more than an hour" in meanings()["OverdueRunAlarm"]
    silent = alarms["JanitorSilentAlarm"]
    assert silent["Period"] * silent["EvaluationPeriods"] == 3 * 3600
    assert "no whole round in three hours" in meanings()["JanitorSilentAlarm"]
    assert "ten alarms, one dashboard" in PAGE
    assert len(alarms) == 10
    assert alarms["OldestWaiterAlarm"]["Threshold"] == {"Ref": "OldestWaiterSeconds"}
    assert TEMPLATE["Parameters"]["OldestWaiterSeconds"]["Default"] == 24 * 3600
    assert "`OldestWaiterSeconds`, a day by default" in meanings()["OldestWaiterAlarm"]
    assert len(of_type("AWS::CloudWatch::Dashboard")) == 1


def test_one_message_in_the_dead_letter_queue_is_enough_for_its_alarm_to_tell_the_topic() -> None:
    alarm = RESOURCES["DeadLetterAlarm"]["Properties"]
    assert (alarm["Namespace"], alarm["MetricName"]) == ("AWS/SQS", "ApproximateNumberOfMessagesVisible")
    assert alarm["Dimensions"] == [{"Name": "QueueName", "Value": {"Fn::GetAtt": ["DeadLetterQueue", "QueueName"]}}]
    assert (alarm["ComparisonOperator"], alarm["Threshold"]) == ("GreaterThanThreshold", 0)
    assert (alarm["Statistic"], alarm["EvaluationPeriods"]) == ("Maximum", 1)
    assert alarm["AlarmActions"] == [{"Ref": "Topic"}]
    assert "ActionsEnabled" not in alarm
    assert RESOURCES["Topic"]["Type"] == "AWS::SNS::Topic"
    redrive = RESOURCES["OutcomeQueue"]["Properties"]["RedrivePolicy"]
    assert redrive["deadLetterTargetArn"] == {"Fn::GetAtt": ["DeadLetterQueue", "Arn"]}


def test_a_message_is_set_aside_with_its_reason_at_the_last_receive_before_sqs_would_move_it_without_one() -> None:
    assert RESOURCES["OutcomeQueue"]["Properties"]["RedrivePolicy"]["maxReceiveCount"] - 1 == LAST_RECEIVE


@pytest.mark.parametrize("command", commands())
def test_its_commands_are_understood(command: str) -> None:
    program, *words = shlex.split(command.replace("'Stacks[0].Outputs'", ""))
    if program == "aws":
        AwsCommand(re.sub(r" --query.*$", "", command))
    elif program == ".venv/bin/baton":
        assert parser().parse_args(words).run
    else:
        assert (program, words[0]) == (".venv/bin/sam", "delete")


def test_its_log_groups_are_the_templates() -> None:
    groups = {
        str(group["Properties"]["LogGroupName"]["Fn::Sub"]).replace("${AWS::StackName}", "STACK")
        for group in of_type("AWS::Logs::LogGroup").values()
    }
    assert groups == set(re.findall(r"`(/aws/[\w/]+STACK)`", PAGE))


def test_each_function_and_each_state_machine_is_traced_as_it_says() -> None:
    assert "Traces are in X-Ray" in PAGE
    functions = resolved_template.of_type("AWS::Lambda::Function", {})
    machines = resolved_template.of_type("AWS::StepFunctions::StateMachine", {})
    assert (len(functions), len(machines)) == (10, 2)
    assert {name for name, each in functions.items() if each.get("TracingConfig") != {"Mode": "Active"}} == set()
    assert {name for name, each in machines.items() if each.get("TracingConfiguration") != {"Enabled": True}} == set()


def test_its_outputs_parameters_rules_and_errors_exist() -> None:
    named = set(re.findall(r"`((?:[A-Z][a-z0-9]+)+)`", PAGE))
    errors = {error.__name__ for error in all_errors()}
    known = {*TEMPLATE["Outputs"], *TEMPLATE["Parameters"], *RESOURCES, *errors}
    other = {"Reason", "ErrorMessage", "MaximumConcurrency", "DeletionPolicy", "UpdateReplacePolicy", "Baton"}
    assert named - known - other == set()


def test_the_parameters_that_wait_for_a_drained_stack_are_those_that_doctor_knows() -> None:
    table = section("Upgrade").partition("| parameter |")[2].partition("\n\n")[0]
    first_column = " ".join(line.split("|")[1] for line in table.splitlines()[2:])
    named = set(re.findall(r"`(\w+)`", first_column)) & set(TEMPLATE["Parameters"])
    assert named == ON_A_DRAINED_STACK


def test_the_functions_without_versions_are_those_that_it_names() -> None:
    versioned = {
        name
        for name, found in of_type("AWS::Serverless::Function").items()
        if "AutoPublishAlias" in found["Properties"]
    }
    others = set(of_type("AWS::Serverless::Function")) - versioned
    assert others == {"StartRunFunction", "SettleOutcomeFunction", "JanitorFunction"}
    assert (
        "Three functions have no versions, because no execution names them: start_run,\nsettle_outcome and the janitor"
        in PAGE
    )


def test_the_functions_in_the_vpc_are_those_that_it_names() -> None:
    inside = {
        re.sub(r"(?<!^)(?=[A-Z])", "_", name.removesuffix("Function")).lower()
        for name, found in of_type("AWS::Serverless::Function").items()
        if "VpcConfig" in found["Properties"]
    }
    [named] = re.findall(r"Four functions are then in that VPC: ([\w, ]+?) and (\w+)\.", " ".join(PAGE.split()))
    assert inside == {*named[0].split(", "), named[1]}


def test_the_retention_of_dead_letters_and_the_concurrency_are_the_templates() -> None:
    assert RESOURCES["DeadLetterQueue"]["Properties"]["MessageRetentionPeriod"] == 14 * 24 * 3600
    assert RESOURCES["OutcomeQueueMapping"]["Properties"]["ScalingConfig"]["MaximumConcurrency"] == 10
    assert "settle_outcome takes at most 10" in PAGE


def test_the_oldest_kubeflow_is_the_one_that_is_refused() -> None:
    assert MINIMUM_VERSION == (2, 14, 0)
    assert section("Kubeflow Pipelines versions").strip().startswith("2.14 or newer.")
