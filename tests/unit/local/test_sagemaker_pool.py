"""The processes in which SageMaker's jobs compute, where the system cannot fork what has loaded its libraries."""

from __future__ import annotations

import pytest

from baton_local.sagemaker import pool


def test_where_nothing_can_be_forked_a_worker_is_an_interpreter_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "_CAN_FORK", False)
    workers = pool.WorkerPool(1)
    with workers.lease(lambda: False) as first:
        with pytest.raises(pool.JobFailure, match="KeyError"):
            first.call({"task": "none"}, lambda phase: None)
        assert first.alive()
        first.kill()
        with pytest.raises(pool.WorkerKilledError):
            first.call({"task": "none"}, lambda phase: None)
    with workers.lease(lambda: False) as second:
        assert second is not first
    workers.close()
    assert not second.alive()
