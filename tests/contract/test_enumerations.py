"""Every status that SageMaker's model and KFP's API know has a meaning here, so a new one fails a test, not a run."""

from __future__ import annotations

import kfp_server_api
import pytest

from baton.survey import JOBS, Resource
from baton.things import KINDS, PHASES, PIPELINE_RUN, Phase, phase_of
from tests.support.aws_models import values_of

SHAPES = {
    "training": "TrainingJobStatus",
    "tuning": "HyperParameterTuningJobStatus",
    "transform": "TransformJobStatus",
    "endpoint": "EndpointStatus",
}


@pytest.mark.parametrize(("kind", "shape"), SHAPES.items())
def test_every_sagemaker_status_has_a_meaning(kind: str, shape: str) -> None:
    assert set(PHASES[kind]) == set(values_of("sagemaker", shape))


def test_every_pipeline_run_state_has_a_meaning() -> None:
    states = {
        getattr(kfp_server_api.V2beta1RuntimeState, name)
        for name in dir(kfp_server_api.V2beta1RuntimeState)
        if name.isupper()
    }
    assert set(PHASES[PIPELINE_RUN]) == states


def test_every_awaited_kind_has_a_table_with_one_good_end() -> None:
    assert set(PHASES) == set(KINDS)
    for kind, table in PHASES.items():
        assert list(table.values()).count(Phase.SUCCEEDED) == 1, kind


def test_a_status_that_nobody_knows_waits_for_the_deadline() -> None:
    assert phase_of("training", "Hibernating") is Phase.ACTIVE


@pytest.mark.parametrize("kind", JOBS)
def test_a_job_that_may_still_cost_something_is_never_settled_for_clean_up(kind: str) -> None:
    # A wait ends as soon as a job is being deleted, but clean-up goes on until it is gone.
    over = {s for s, phase in PHASES[kind].items() if phase in (Phase.SUCCEEDED, Phase.FAILED) and s != "Deleting"}
    assert over == {status for status in PHASES[kind] if not Resource(kind, "x", status=status).moving}
