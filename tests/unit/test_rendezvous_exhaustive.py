"""Every order of registrations, heartbeats, events and crashes, at each call that the real code makes.

``pytest -s`` is not needed to see the figures: the last test prints how much was explored.
"""

from __future__ import annotations

import pytest

from tests.support.interleavings import Explored, explore
from tests.support.wait_stories import STORIES
from tests.support.wait_world import Story, WaitWorld

EXPLORED: dict[str, Explored] = {}

pytestmark = [pytest.mark.usefixtures("quiet_settling"), pytest.mark.xdist_group("rendezvous")]


@pytest.mark.parametrize("title", STORIES)
def test_every_order_ends_the_wait_once_and_truly(title: str) -> None:
    EXPLORED[title] = explore(WaitWorld(STORIES[title]))


def test_at_least_ten_thousand_schedules_were_explored(capsys: pytest.CaptureFixture[str]) -> None:
    for title, story in STORIES.items():
        if title not in EXPLORED:
            EXPLORED[title] = explore(WaitWorld(story))
    total = Explored(
        sum(e.points for e in EXPLORED.values()),
        sum(e.schedules for e in EXPLORED.values()),
        max(e.longest for e in EXPLORED.values()),
    )
    with capsys.disabled():
        print()
        for title, explored in EXPLORED.items():
            print(f"  {title}: {explored}")
        print(f"  {len(EXPLORED)} stories: {total}")
    assert total.schedules >= 10_000
    assert total.points >= 10_000


def test_a_story_without_interference_has_few_orders() -> None:
    quiet = Story({"training": ("Completed",)}, heartbeats=0)
    explored = explore(WaitWorld(quiet))
    # One registration: GetItem, UpdateItem, Describe, ListTags, UpdateItem, SendTask.
    assert (explored.schedules, explored.points, explored.longest) == (1, 7, 6)
