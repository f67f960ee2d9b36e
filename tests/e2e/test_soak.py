"""A few runs at once under every fault; `baton local soak` plays more."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from baton_local.cloud import EmbeddedCloud
from baton_local.deployment import Deployment, repository
from baton_local.dials import Dials
from baton_local.soak import Soaker
from baton_local.soak_stories import DATASET, GOOD, JOB, KEEP, KILLED, STOP, STOP_KEPT, Part

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("soak")]


PARTS = (
    Part(0, GOOD, by_upload=True),
    Part(1, KEEP, by_upload=False),
    Part(2, STOP_KEPT, by_upload=True, stop_in="Write report"),
    Part(3, STOP, by_upload=False, stop_in="Await training", stop_after=0.5),
    Part(4, JOB, by_upload=True),
    Part(5, DATASET, by_upload=False),
)
"""One of each kind: what must succeed, what stays, what is stopped, what fails in the end, and what fails at once."""


def test_nothing_is_lost_stuck_wrong_or_left_under_faults(tmp_path: Path) -> None:
    dials = Dials(loss=0.3, duplicate=0.3, reorder=0.3, delay_seconds=1.0, crash=0.3, seed=11)
    with EmbeddedCloud(dials, speed=400, cache_dir=repository() / ".cache") as cloud:
        deployment = Deployment.make(cloud, "eu-west-1", {"HeartbeatSeconds": "5"})
        soak = Soaker(deployment, 11, tmp_path, 5).soak(PARTS, parallel=6, tell=lambda _line: None)
        killed = list(_killed(deployment))
    assert soak.good, soak.as_dict()
    assert soak.succeeded + soak.failed_as_intended == 6, soak.as_dict()
    assert (soak.must_succeed, soak.excused) in ((2, 0), (2, 1)), soak.as_dict()
    assert soak.succeeded >= 1, soak.as_dict()
    assert killed, "the crash dial killed nothing, or what it kills does not look as it is excused by"
    assert (soak.lost, soak.stuck, soak.wrong, soak.leftovers) == (0, 0, 0, []), soak.as_dict()


def _killed(deployment: Deployment) -> Iterator[str]:
    """Yield the causes of the invocations that failed as the crash dial makes them fail."""
    stepfunctions = deployment.client("stepfunctions")
    error, said = KILLED
    for execution in stepfunctions.list_executions(stateMachineArn=deployment.state_machine)["executions"]:
        pages = stepfunctions.get_paginator("get_execution_history").paginate(executionArn=execution["executionArn"])
        for event in (event for page in pages for event in page["events"]):
            failure = event.get("lambdaFunctionFailedEventDetails", {})
            if failure.get("error") == error and said in failure["cause"]:
                yield failure["cause"]
