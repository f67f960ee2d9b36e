"""Which tests share a worker and come first when they run on several workers, and what all of them share."""

from __future__ import annotations

import gc
import os
import sys
from pathlib import Path

import pytest

# Importing it also keeps what botocore has parsed: moto forgets boto3's session after each test, and a new one would
# read all models again, which is half of the time of a test.
from baton_local.cloud import EmbeddedCloud

# Before numpy and scikit-learn are loaded: workers that share the cores, each with as many threads as there are cores,
# wait for one another more than they compute.
for _library in ("OMP", "OPENBLAS", "MKL"):
    os.environ.setdefault(f"{_library}_NUM_THREADS", "1")

if sys.platform == "linux":
    from tests.support import forked_clouds

    EmbeddedCloud.launch = staticmethod(forked_clouds.launch)

TESTS = Path(__file__).parent

SHARING = ("e2e", "integration/local")
"""Folders whose modules start servers of their own: each module stays on one worker."""

FIRST = ("sam", "second-stage", "stage", "permissions", "soak", "command", "rendezvous")
"""The groups that take longest, so that no worker begins one when the others are done."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give every module that shares something a group, and let long groups come first (``--dist loadgroup``)."""
    for item in items:
        module = item.path.relative_to(TESTS).with_suffix("").as_posix()
        if module.startswith(SHARING) and group_of(item) is None:
            item.add_marker(pytest.mark.xdist_group(module))
    items.sort(key=_turn)


def pytest_collection_finish() -> None:
    """Let no later collection of garbage look through what was imported and collected: all of it stays."""
    gc.freeze()


def group_of(item: pytest.Item) -> str | None:
    """Return the name of a test's group, or None where it has none."""
    mark = item.get_closest_marker("xdist_group")
    return None if mark is None else str(mark.args[0])


def _turn(item: pytest.Item) -> int:
    group = group_of(item)
    if group in FIRST:
        return FIRST.index(group)
    return len(FIRST) + (group is None)


@pytest.fixture(scope="session", autouse=True)
def _groups_stay_together(request: pytest.FixtureRequest) -> None:
    """Fail at once where xdist ignores groups: each worker would start every server itself."""
    if getattr(request.config.option, "loadgroup", False):
        grouped = [item for item in request.session.items if group_of(item) is not None]
        loose = [item.nodeid for item in grouped if not item.nodeid.endswith(f"@{group_of(item)}")]
        assert not loose, f"pytest-xdist and this pytest do not go together: no group for {loose[0]}"


_LONGEST_IN_AN_ID = 200


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Name a long text or a whole file by its length: as it is it would fill each id that workers tell one another."""
    if isinstance(val, str | bytes) and len(val) > _LONGEST_IN_AN_ID:
        return f"{argname} of {len(val)}"
    return None
