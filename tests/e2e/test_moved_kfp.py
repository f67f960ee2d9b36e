"""A deployment that names another Kubeflow Pipelines harms no run under way, and takes nothing there for its end."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from botocore.exceptions import ClientError

from baton.janitor import LATE_SECONDS
from baton.names import Names
from baton_local.deployment import Deployment
from baton_local.run import Result, Run
from tests.e2e.conftest import Stage, quick, succeeded, wait_until
from tests.support.kfp_fake import FakeKfp, serving

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("second-stage"), pytest.mark.timeout(600)]

TRAINING_SECONDS = 40
"""Longer than a deployment takes, so that it comes in the middle of the runs."""


class UnderWay:
    """A run that trains."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.run = Run(stage.deployment, alone=False)
        self.execution = self.run.start_execution({"dataset": self.run.put_dataset(stage.good), **quick()})
        self.run_id = self.run.run_id(self.execution)

    def is_training(self) -> bool:
        sagemaker = self.stage.deployment.client("sagemaker")
        try:
            job = sagemaker.describe_training_job(TrainingJobName=Names.of(self.run_id).training)
        except ClientError:
            return False
        return bool(job["TrainingJobStatus"] == "InProgress")

    def sweeps(self) -> set[str]:
        """Wait for the clean-ups of the run that were started; return how they ended."""
        assert self.run.wait_for_sweep(self.execution)
        return {self.stage.how_it_ended(sweep) for sweep in self.run.sweeps(self.execution)}

    def clean_up(self) -> str:
        """Start clean-up-run as a person does; return how it ended."""
        started = self.stage.deployment.client("stepfunctions").start_execution(
            stateMachineArn=self.stage.deployment.clean_up_machine,
            input=json.dumps({"execution_arn": self.execution, "run_id": self.run_id}),
        )
        self.sweeps()
        return self.stage.how_it_ended(started["executionArn"])


def states_of_pipeline_runs(receipt: dict[str, Any]) -> list[str]:
    return [item["status"] for item in receipt["items"] if item["kind"] == "pipeline-run"]


@dataclass
class Story:
    """Two runs, of which one goes on and the other is stopped while the stack has another KfpUrl; what is seen then."""

    new_url: str
    result: Result
    late_looks: set[str]
    receipt: dict[str, Any]
    stopped_row: dict[str, Any]
    sweeps: set[str]
    stopped: UnderWay


@pytest.fixture(scope="module")
def story(stage: Stage) -> Iterator[Story]:
    stage.heal()
    stage.sagemaker_faults(training={"match": "bt-*-train", "in_progress_seconds": TRAINING_SECONDS})
    with stage.without_hourly_rounds(), serving(FakeKfp().answer) as port:
        going, stopped = UnderWay(stage), UnderWay(stage)
        wait_until(lambda: going.is_training() and stopped.is_training(), "the runs never trained together")
        try:
            Deployment.make(stage.deployment.cloud, stage.deployment.region, {"KfpUrl": f"http://localhost:{port}"})
            assert going.is_training(), "the deployment took longer than the training"
            assert stopped.is_training(), "the deployment took longer than the training"
            stage.deployment.client("stepfunctions").stop_execution(executionArn=stopped.execution)
            sweeps = stopped.sweeps()
            result = going.run.follow(going.execution)
            stage.age(going.run_id, LATE_SECONDS + 60)
            stage.make_janitors_round()
            seen = Story(
                f"http://localhost:{port}",
                result,
                going.sweeps(),
                stage.receipt(going.run_id),
                stage.row(stopped.run_id),
                sweeps,
                stopped,
            )
        finally:
            Deployment.make(stage.deployment.cloud, stage.deployment.region)
        yield seen
    stage.heal()


def test_a_run_under_way_ends_by_the_kubeflow_pipelines_at_which_it_was_launched(story: Story) -> None:
    succeeded(story.result)
    assert story.result.pipeline_run is not None
    assert story.result.pipeline_run["state"] == "SUCCEEDED"


def test_the_janitors_later_look_at_it_goes_by_what_its_own_clean_up_saw(story: Story) -> None:
    assert story.late_looks == {"SUCCEEDED"}
    assert states_of_pipeline_runs(story.receipt) == ["SUCCEEDED"]


def test_a_run_that_is_stopped_then_is_not_called_gone_before_somebody_looked_where_it_was_launched(
    stage: Stage, story: Story
) -> None:
    launched = f"launched at {stage.deployment.cloud.kfp_url}, namespace kubeflow"
    [ended] = story.sweeps
    assert "CleanUpIncomplete" in ended
    assert launched in ended
    assert f"looks at {story.new_url}, namespace kubeflow" in ended
    assert "receipt" not in story.stopped_row
    assert story.stopped.clean_up() == "SUCCEEDED", "the first KfpUrl has come back"
    assert states_of_pipeline_runs(stage.receipt(story.stopped.run_id)) in (["CANCELED"], ["FAILED"])
    assert stage.deployment.leftovers(run_id=story.stopped.run_id) == []
