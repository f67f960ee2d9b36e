"""A few runs at once under every fault; `baton local soak` plays more."""

from __future__ import annotations

from pathlib import Path

import pytest

from baton_local.cloud import EmbeddedCloud
from baton_local.deployment import Deployment, repository
from baton_local.dials import Dials
from baton_local.soak import Soaker

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("soak")]


def test_nothing_is_lost_stuck_wrong_or_left_under_faults(tmp_path: Path) -> None:
    dials = Dials(loss=0.3, duplicate=0.3, reorder=0.3, delay_seconds=1.0, crash=0.3, seed=11)
    with EmbeddedCloud(dials, speed=400, cache_dir=repository() / ".cache") as cloud:
        deployment = Deployment.make(cloud, "eu-west-1", {"HeartbeatSeconds": "8"})
        soak = Soaker(deployment, 11, tmp_path, 8).soak(runs=6, parallel=6, tell=lambda _line: None)
    assert soak.succeeded + soak.failed_as_intended == 6, soak.as_dict()
    assert (soak.lost, soak.stuck, soak.wrong, soak.leftovers) == (0, 0, 0, []), soak.as_dict()
