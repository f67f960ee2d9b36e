import pytest

from baton_steps.claim import claim
from baton_steps.errors import ClaimLost, RunEnded
from baton_steps.run import Run
from tests.unit.steps import world

pytestmark = pytest.mark.usefixtures("aws")


def test_the_first_pipeline_run_gets_the_work_and_hands_the_run_on():
    world.put_row()
    run = world.make_run()
    assert Run.of(claim(run, "kfp-1")) == Run.of({**run.as_dict(), "pipeline_run_id": "kfp-1"})
    assert world.row()["worker_run_id"] == "kfp-1"


def test_the_same_pipeline_run_may_claim_again():
    world.put_row()
    claim(world.make_run(), "kfp-1")
    claim(world.make_run(), "kfp-1")
    assert world.row()["worker_run_id"] == "kfp-1"


def test_the_second_pipeline_run_loses_and_is_told_to_whom():
    world.put_row(worker_run_id="kfp-1")
    with pytest.raises(ClaimLost, match="Pipeline run kfp-1 does the work"):
        claim(world.make_run(), "kfp-2")
    assert world.row()["worker_run_id"] == "kfp-1"


@pytest.mark.parametrize(
    ("values", "words"),
    [({"ended_at": 1}, "was ended"), ({"execution_arn": "another"}, "another execution")],
)
def test_a_run_that_ended_or_is_not_ours_is_not_claimed(values, words):
    world.put_row(**values)
    with pytest.raises(RunEnded, match=words):
        claim(world.make_run(), "kfp-1")
    assert "worker_run_id" not in world.row()


def test_an_unknown_run_is_not_claimed_and_gets_no_row():
    with pytest.raises(RunEnded, match="no row"):
        claim(world.make_run(), "kfp-1")
    assert world.row() is None
