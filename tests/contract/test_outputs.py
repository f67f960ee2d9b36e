"""What the stack's outputs say in each partition."""

from __future__ import annotations

import pytest

from baton.report.links import Console
from baton_steps.console import console_link
from tests.support.resolved_template import PLACES, outputs


@pytest.mark.parametrize("region", PLACES)
def test_the_consoles_address_is_that_of_the_report_and_of_the_steps(region: str) -> None:
    reports = Console(PLACES[region]["AWS::Partition"], region).sagemaker("training", "n")
    assert console_link(region, "jobs", "n") == reports
    address = outputs({}, region).get("StateMachineConsole")
    if reports is None:
        assert address is None
    else:
        host = reports.partition("/sagemaker/")[0]
        assert address == f"{host}/states/home?region={region}#/statemachines/view/id-of-TrainingRunMachine"


def test_there_are_partitions_with_a_console_and_without() -> None:
    with_one = {PLACES[region]["AWS::Partition"] for region in PLACES if "StateMachineConsole" in outputs({}, region)}
    assert with_one == {"aws", "aws-cn", "aws-us-gov"}
    assert len(PLACES) > len(with_one)
