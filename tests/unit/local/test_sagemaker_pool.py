"""The processes in which SageMaker's jobs compute: forks of one, or interpreters of their own."""

from __future__ import annotations

import pytest

from baton_local.forking import CAN_FORK
from baton_local.sagemaker import pool


def test_where_nothing_can_be_forked_a_worker_is_an_interpreter_of_its_own() -> None:
    workers = pool.WorkerPool(1, fork=False)
    with workers.lease(lambda: False) as first:
        assert answers(first)
        assert first.alive()
        first.kill()
        with pytest.raises(pool.WorkerKilledError):
            first.call({"task": "none"}, lambda phase: None)
    with workers.lease(lambda: False) as second:
        assert second is not first
    workers.close()
    assert not second.alive()


@pytest.mark.skipif(not CAN_FORK, reason="only Linux forks what has loaded these libraries")
def test_workers_outlive_what_forked_them_and_the_next_one_gets_another() -> None:
    workers = pool.WorkerPool(2)
    with workers.lease(lambda: False) as first:
        assert answers(first)
        [template] = workers._nursery._started
        template.kill()
        template.wait()
        assert answers(first)
        with workers.lease(lambda: False) as second:
            assert answers(second)
        assert [process.poll() for process in workers._nursery._started] == [None]
    workers.close()
    with pytest.raises(pool.WorkerKilledError), workers.lease(lambda: False):
        pass
    workers.warm()
    assert workers._nursery._started == []


def answers(worker: pool.Worker) -> bool:
    with pytest.raises(pool.JobFailure, match="KeyError"):
        worker.call({"task": "none"}, lambda phase: None)
    return True
