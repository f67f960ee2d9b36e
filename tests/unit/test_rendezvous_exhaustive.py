"""Every order of registrations, heartbeats, events and crashes around one wait, at each call that the real code makes."""

from __future__ import annotations

import pytest

from tests.support.interleavings import explore
from tests.support.wait_world import Story, WaitWorld

STORIES = {
    "a job completes": Story(),
    "a job fails": Story(course=("InProgress", "Failed"), forged_events=1, stale_events=0),
    "a job is stopped": Story(course=("InProgress", "Stopping", "Stopped"), stale_events=0),
    "a job is created late": Story(course=("ABSENT", "InProgress", "Completed"), stale_events=0),
    "an endpoint comes into service": Story(kind="endpoint", course=("Creating", "InService"), heartbeats=2, crashes=0),
    "an endpoint fails": Story(kind="endpoint", course=("Creating", "Failed"), stale_events=0),
    "a pipeline run is not terminal yet when its end event comes": Story(
        kind="pipeline-run", course=("RUNNING", "SUCCEEDED"), forged_events=1, stale_events=0, deliveries=1
    ),
    "a pipeline run is cancelled": Story(kind="pipeline-run", course=("RUNNING", "CANCELING", "CANCELED"), stale_events=0),
    "every event is duplicated and one invocation dies": Story(deliveries=3, heartbeats=1, stale_events=0),
}


@pytest.mark.parametrize("story", STORIES.values(), ids=STORIES.keys())
def test_every_order_ends_the_wait_once_and_truly(story: Story, capsys: pytest.CaptureFixture[str]) -> None:
    explored = explore(lambda: WaitWorld(story))
    with capsys.disabled():
        print(f"\n  {explored.schedules:,} schedules, {explored.points:,} distinct points, longest {explored.longest}")
    assert explored.schedules >= 10_000
