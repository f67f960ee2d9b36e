"""How the states, the outcome queue and the clock invoke the functions, and what the functions have for it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from baton.clients import CONFIG
from baton.kfp.client import GET_SECONDS, POST_SECONDS
from baton_local.cloudformation.templates import load
from tests.support.launch_world import LaunchWorld
from tests.support.resolved_template import of_type, resolved
from tests.support.starting import catalogue

ROOT = Path(__file__).parents[2]
ARCHITECTURE, OPERATIONS = (
    (ROOT / "docs" / f"{page}.md").read_text("utf-8") for page in ("architecture", "operations")
)
LONGEST_SECONDS = 900
"""https://docs.aws.amazon.com/lambda/latest/dg/configuration-timeout.html"""
DECLARED = load((ROOT / "template.yaml").read_text("utf-8"))["Resources"]
CLIENTS: Any = CONFIG
TRY_SECONDS = CLIENTS.connect_timeout + CLIENTS.read_timeout
"""How long a call of AWS may hang, each time that it is tried."""
MACHINES = {"TrainingRunMachine": "training_run", "CleanUpRunMachine": "clean_up_run"}


def functions() -> dict[str, dict[str, Any]]:
    return of_type("AWS::Lambda::Function", {})


def waiting_states() -> Iterator[tuple[str, str, int]]:
    """Yield each state that waits for its function to return: its name, the function, and for how many seconds."""
    for machine, file in MACHINES.items():
        states = json.loads((ROOT / "statemachine" / f"{file}.asl.json").read_text("utf-8"))["States"]
        called = DECLARED[machine]["Properties"]["DefinitionSubstitutions"]
        for name, state in states.items():
            substitution = re.fullmatch(r"\$\{(\w+)\}", state.get("Resource", ""))
            if substitution:
                function = called[substitution[1]]["Ref"].removesuffix(".Version")
                yield name, function, state["TimeoutSeconds"]


def test_no_state_gives_up_a_function_that_still_works() -> None:
    """It would be tried again, or clean-up would begin, beside the one that goes on."""
    found = list(waiting_states())
    assert len(found) == 7
    assert [(name, seconds) for name, function, seconds in found if functions()[function]["Timeout"] > seconds] == []


def test_prepare_data_has_all_the_time_there_is_and_room_for_the_largest_data_set() -> None:
    function = functions()["PrepareDataFunction"]
    assert function["Timeout"] == LONGEST_SECONDS
    assert {seconds for _, name, seconds in waiting_states() if name == "PrepareDataFunction"} == {LONGEST_SECONDS}
    largest = max(catalogue().get(name).dataset_rules.max_unpacked_bytes for name in catalogue().names)
    # The arrays, what is made of them, and as much again for Python and for the copies on the way.
    assert function["MemorySize"] * 1024 * 1024 >= 3 * largest
    # So the report says where it tells what a run costs.
    assert [n for n, other in functions().items() if other["MemorySize"] >= function["MemorySize"]] == [
        "PrepareDataFunction"
    ]
    # The data set is read, unpacked and written in memory, so the disk that every function has is enough.
    assert not any("EphemeralStorage" in other for other in functions().values())


@pytest.mark.parametrize("name", functions())
def test_a_connection_that_hangs_does_not_cost_a_whole_invocation(name: str) -> None:
    assert functions()[name]["Timeout"] > TRY_SECONDS


def test_clean_up_ends_the_others_where_of_one_thing_aws_says_nothing() -> None:
    tries = CLIENTS.retries["total_max_attempts"]
    assert functions()["CleanUpFunction"]["Timeout"] > tries * TRY_SECONDS


def test_a_launch_has_time_for_a_kubeflow_pipelines_whose_every_answer_takes_as_long_as_it_may() -> None:
    """But for the first launch of all, whose uploads the next attempt finds."""
    world = LaunchWorld()
    world.launch()
    del world.row["pipeline_run_id"]
    world.fake.runs.clear()
    world.calls.clear()
    world.launch()
    seconds = {"GET": GET_SECONDS, "POST": POST_SECONDS}
    exchanges = [call.split()[0] for call in world.calls if call.split()[0] in seconds]
    assert exchanges.count("POST") == 1
    assert functions()["LaunchPipelineFunction"]["Timeout"] > sum(seconds[method] for method in exchanges)


def test_of_a_batch_only_the_messages_come_again_that_settle_outcome_names() -> None:
    """Without ReportBatchItemFailures Lambda deletes the whole batch, and with it the messages that were to come again.

    https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-errorhandling.html
    """
    [row] = [line for line in ARCHITECTURE.splitlines() if line.startswith("| settle_outcome |")]
    assert "batchItemFailures" in row
    [mapping] = of_type("AWS::Lambda::EventSourceMapping", {}).values()
    assert (mapping["EventSourceArn"], mapping["FunctionName"]) == (
        "Arn-of-OutcomeQueue",
        "id-of-SettleOutcomeFunction",
    )
    assert mapping["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
    assert mapping.get("Enabled", True) is True
    assert "FilterCriteria" not in mapping


def test_the_janitor_makes_a_round_every_hour() -> None:
    resources = resolved({})
    rule = resources["JanitorRule"]
    assert rule["ScheduleExpression"] == "rate(1 hour)"
    assert [target["Arn"] for target in rule["Targets"]] == ["Arn-of-JanitorFunction"]
    assert "EventPattern" not in rule
    [rounds] = re.findall(r"(\d+) rounds of the janitor a month", OPERATIONS)
    assert int(rounds) == 365 * 24 // 12
    # Its alarm looks for one round in each of its periods.
    assert resources["JanitorSilentAlarm"]["Period"] == 3600


@pytest.mark.parametrize("name", of_type("AWS::Events::Rule", {}))
def test_each_rule_is_enabled(name: str) -> None:
    assert resolved({})[name].get("State", "ENABLED") == "ENABLED"
