"""What describers say of each kind of thing, against botocore's own model of the answers."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from botocore.stub import Stubber

from baton.errors import KfpUnavailable
from baton.things import (
    ABSENT,
    CLOCK_SKEW_SECONDS,
    DELETED,
    ELSEWHERE,
    FOREIGN,
    JOB_KINDS,
    PHASES,
    Phase,
    Things,
    is_not_found,
    phase_of,
)

HERE, THERE = "http://here, namespace kubeflow", "http://there, namespace kubeflow"
RUN_ID = "bt-0sq1x2k4f0a9c"
CREATED = 1_777_887_000
ROW = {"kind": "run", "name": RUN_ID, "created_at": CREATED, "pipeline_run_id": "kfp-a"}
OURS = [{"Key": "baton:pipeline", "Value": "mnist_kmeans"}, {"Key": "baton:run-id", "Value": RUN_ID}]
THEIRS = [{"Key": "baton:run-id", "Value": "bt-0zzzzzzzzzzzz"}]

DESCRIBE = {
    "tuning": ("describe_hyper_parameter_tuning_job", "HyperParameterTuningJobName", f"{RUN_ID}-tune"),
    "training": ("describe_training_job", "TrainingJobName", f"{RUN_ID}-train"),
    "transform": ("describe_transform_job", "TransformJobName", f"{RUN_ID}-transform"),
    "endpoint": ("describe_endpoint", "EndpointName", f"{RUN_ID}-endpoint"),
}
RESOURCES = {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 50}
INSTANCE = {"type": "ml.m5.large", "count": 1}


def arn(kind: str) -> str:
    return f"arn:aws-cn:sagemaker:cn-northwest-1:123456789012:{kind}/{DESCRIBE[kind][2]}"


def described(kind: str, status: str, created: float = CREATED + 60, **more: Any) -> dict[str, Any]:
    """What Describe answers, with every field that the API promises to be there."""
    name_field, name = DESCRIBE[kind][1:]
    prefix = name_field.removesuffix("Name")
    moment = datetime.fromtimestamp(created, UTC)
    required: dict[str, dict[str, Any]] = {
        "tuning": {
            "HyperParameterTuningJobConfig": {
                "Strategy": "Bayesian",
                "ResourceLimits": {"MaxParallelTrainingJobs": 2},
            },
            "TrainingJobStatusCounters": {"Completed": 9},
            "ObjectiveStatusCounters": {"Succeeded": 9},
        },
        "training": {
            "ModelArtifacts": {"S3ModelArtifacts": "s3://bucket/model.tar.gz"},
            "SecondaryStatus": "Completed",
            "AlgorithmSpecification": {"TrainingInputMode": "File"},
            "ResourceConfig": RESOURCES,
            "StoppingCondition": {"MaxRuntimeInSeconds": 3600},
        },
        "transform": {
            "ModelName": "model",
            "TransformInput": {
                "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": "s3://bucket/input/"}}
            },
            "TransformResources": {"InstanceType": "ml.m5.large", "InstanceCount": 1},
        },
        "endpoint": {"EndpointConfigName": f"{RUN_ID}-config", "LastModifiedTime": moment},
    }
    fixed = {f"{prefix}Name": name, f"{prefix}Arn": arn(kind), f"{prefix}Status": status, "CreationTime": moment}
    return {**fixed, **required[kind], **more}


@pytest.fixture
def stub() -> Iterator[Stubber]:
    client = boto3.client("sagemaker", region_name="cn-northwest-1", aws_access_key_id="x", aws_secret_access_key="x")
    with Stubber(client) as stub:
        yield stub
        stub.assert_no_pending_responses()


def no_pipelines() -> Any:
    raise AssertionError("a look at SageMaker asked for Kubeflow Pipelines")


def expect(stub: Stubber, kind: str, answer: dict[str, Any], tags: list[dict[str, str]] | None = OURS) -> None:
    operation, name_field, name = DESCRIBE[kind]
    stub.add_response(operation, answer, {name_field: name})
    if tags is not None:
        stub.add_response("list_tags", {"Tags": tags}, {"ResourceArn": arn(kind), "MaxResults": 100})


def observe(stub: Stubber, kind: str) -> Any:
    return Things(stub.client, no_pipelines, HERE).observe(kind, ROW)


@pytest.mark.parametrize(("kind", "status"), [(kind, status) for kind in JOB_KINDS for status in PHASES[kind]])
def test_every_status_means_what_its_table_says(stub: Stubber, kind: str, status: str) -> None:
    expect(stub, kind, described(kind, status))
    seen = observe(stub, kind)
    assert (seen.phase, seen.status) == (PHASES[kind][status], status)
    assert seen.ended is (seen.phase in (Phase.SUCCEEDED, Phase.FAILED))


@pytest.mark.parametrize("kind", JOB_KINDS)
def test_a_failure_has_sagemakers_own_reason(stub: Stubber, kind: str) -> None:
    expect(stub, kind, described(kind, "Failed", FailureReason="CapacityError: no ml.m5.large today"))
    seen = observe(stub, kind)
    assert (seen.phase, seen.reason) == (Phase.FAILED, "CapacityError: no ml.m5.large today")
    assert "reason" not in seen.result


def test_a_training_job_tells_its_model_metrics_and_price(stub: Stubber) -> None:
    metrics = [{"MetricName": "train:msd", "Value": 0.5, "Timestamp": datetime.fromtimestamp(CREATED, UTC)}]
    more = {"FinalMetricDataList": metrics, "HyperParameters": {"k": "10"}, "BillableTimeInSeconds": 61}
    expect(stub, "training", described("training", "Completed", **more))
    assert observe(stub, "training").result == {
        "model_artefact": "s3://bucket/model.tar.gz",
        "metrics": {"train:msd": 0.5},
        "hyperparameters": {"k": "10"},
        "billable_seconds": 61,
        "instance": INSTANCE,
    }


def test_a_training_job_without_metrics_and_artefact_is_told_all_the_same(stub: Stubber) -> None:
    answer = described("training", "Failed")
    answer["ModelArtifacts"] = {"S3ModelArtifacts": ""}
    expect(stub, "training", answer)
    result = observe(stub, "training").result
    assert (result["model_artefact"], result["metrics"], result["billable_seconds"]) == ("", {}, None)


def test_a_tuning_job_tells_its_best_training_job(stub: Stubber) -> None:
    moment = datetime.fromtimestamp(CREATED, UTC)
    best = {
        "TrainingJobName": f"{RUN_ID}-tune-003-4f09c1d2",
        "TrainingJobArn": "arn",
        "CreationTime": moment,
        "TrainingJobStatus": "Completed",
        "TunedHyperParameters": {"mini_batch_size": "547"},
        "FinalHyperParameterTuningJobObjectiveMetric": {"MetricName": "test:msd", "Value": 0.25},
    }
    definition = {
        "StaticHyperParameters": {"k": "10"},
        "AlgorithmSpecification": {"TrainingInputMode": "File"},
        "RoleArn": "arn:aws-cn:iam::123456789012:role/sagemaker",
        "OutputDataConfig": {"S3OutputPath": "s3://bucket/tuning/"},
        "ResourceConfig": RESOURCES,
        "StoppingCondition": {"MaxRuntimeInSeconds": 3600},
    }
    expect(stub, "tuning", described("tuning", "Completed", BestTrainingJob=best, TrainingJobDefinition=definition))
    assert observe(stub, "tuning").result == {
        "best_training_job": f"{RUN_ID}-tune-003-4f09c1d2",
        "objective": {"name": "test:msd", "value": 0.25},
        "hyperparameters": {"k": "10", "mini_batch_size": "547"},
        "counters": {"Completed": 9},
        "instance": INSTANCE,
    }


def test_a_tuning_job_none_of_whose_jobs_completed_has_no_best(stub: Stubber) -> None:
    expect(stub, "tuning", described("tuning", "Failed"))
    result = observe(stub, "tuning").result
    assert (result["best_training_job"], result["objective"]) == (None, {"name": None, "value": None})


def test_a_transform_job_tells_where_its_output_is(stub: Stubber) -> None:
    output = {"S3OutputPath": "s3://bucket/predictions/"}
    expect(stub, "transform", described("transform", "Completed", TransformOutput=output))
    assert observe(stub, "transform").result == {"output_uri": "s3://bucket/predictions/", "instance": INSTANCE}


def test_an_endpoint_tells_its_configuration(stub: Stubber) -> None:
    expect(stub, "endpoint", described("endpoint", "InService"))
    assert observe(stub, "endpoint").result == {"config": f"{RUN_ID}-config"}


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("ValidationException", "Requested resource not found."),
        ("ValidationException", f'Could not find endpoint "arn:aws:sagemaker:::endpoint/{RUN_ID}".'),
        ("ValidationException", f"Could not find requested job with name: {RUN_ID}-transform"),
        ("ResourceNotFound", "Requested resource not found."),
        ("ResourceNotFoundException", ""),
    ],
)
@pytest.mark.parametrize("kind", JOB_KINDS)
def test_not_found_in_any_wording_is_absence(stub: Stubber, kind: str, code: str, message: str) -> None:
    stub.add_client_error(DESCRIBE[kind][0], code, message)
    assert observe(stub, kind) == ABSENT


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("ThrottlingException", "Rate exceeded"),
        ("AccessDeniedException", "not authorized to perform: sagemaker:DescribeEndpoint"),
        ("ValidationException", "1 validation error detected: Value 'x' at 'endpointName' failed"),
        ("InternalFailure", ""),
    ],
)
def test_other_refusals_are_no_absence(stub: Stubber, code: str, message: str) -> None:
    stub.add_client_error("describe_endpoint", code, message)
    with pytest.raises(ClientError, match=code):
        observe(stub, "endpoint")


def test_an_error_without_a_message_is_no_absence() -> None:
    assert not is_not_found(ClientError({"Error": {"Code": "ValidationException"}}, "DescribeEndpoint"))


@pytest.mark.parametrize(
    "tags", [THEIRS, [], [{"Key": "run-id", "Value": RUN_ID}]], ids=["another run", "none", "other"]
)
@pytest.mark.parametrize("kind", JOB_KINDS)
def test_a_thing_without_this_runs_tag_is_foreign_whatever_its_status(
    stub: Stubber, kind: str, tags: list[dict[str, str]]
) -> None:
    good = next(status for status, phase in PHASES[kind].items() if phase is Phase.SUCCEEDED)
    expect(stub, kind, described(kind, good), tags)
    assert observe(stub, kind) == FOREIGN


def test_a_thing_that_is_older_than_the_run_is_foreign_even_with_its_tag(stub: Stubber) -> None:
    older = described("endpoint", "InService", created=CREATED - CLOCK_SKEW_SECONDS - 1)
    expect(stub, "endpoint", older, tags=None)
    assert observe(stub, "endpoint") == FOREIGN


def test_clocks_may_differ_a_little(stub: Stubber) -> None:
    expect(stub, "endpoint", described("endpoint", "InService", created=CREATED - CLOCK_SKEW_SECONDS))
    assert observe(stub, "endpoint").phase is Phase.SUCCEEDED


def test_a_status_that_nobody_knows_goes_on() -> None:
    assert phase_of("endpoint", "Hibernating") is Phase.ACTIVE


class Pipelines:
    def __init__(self, **states: str) -> None:
        self.states = states
        self.error: str | None = None

    def get_run(self, run_id: str) -> Any:
        if run_id not in self.states:
            return None
        return SimpleNamespace(id=run_id, state=self.states[run_id], error=self.error)


def look(pipelines: Pipelines, **row: str) -> Any:
    return Things(None, lambda: pipelines, HERE).observe("pipeline-run", {**ROW, **row})


@pytest.mark.parametrize("state", PHASES["pipeline-run"])
def test_every_state_of_a_pipeline_run_means_what_its_table_says(state: str) -> None:
    seen = look(Pipelines(**{"kfp-a": state}))
    assert (seen.phase, seen.status) == (PHASES["pipeline-run"][state], state)
    assert seen.result == {"id": "kfp-a", "state": state}


def test_the_pipeline_run_that_claimed_the_work_is_looked_at() -> None:
    seen = look(Pipelines(**{"kfp-a": "FAILED", "kfp-b": "RUNNING"}), worker_run_id="kfp-b")
    assert (seen.phase, seen.result["id"]) == (Phase.ACTIVE, "kfp-b")


def test_a_pipeline_run_tells_what_kfp_itself_could_not_do() -> None:
    pipelines = Pipelines(**{"kfp-a": "FAILED"})
    pipelines.error = "invalid spec"
    assert look(pipelines).reason == "invalid spec"


def test_a_recorded_pipeline_run_that_kfp_does_not_have_was_deleted_and_that_is_an_end() -> None:
    seen = look(Pipelines())
    assert (seen.phase, seen.status, seen.result["id"]) == (Phase.FAILED, DELETED, "kfp-a")
    assert "deleted from Kubeflow Pipelines" in str(seen.reason)


def test_a_pipeline_run_of_another_installation_that_is_not_found_here_is_no_end() -> None:
    assert look(Pipelines(), kfp_installation=THERE) == ELSEWHERE
    assert not ELSEWHERE.ended


def test_a_pipeline_run_of_this_installation_that_is_not_found_was_deleted() -> None:
    assert look(Pipelines(), kfp_installation=HERE).status == DELETED


def test_a_pipeline_run_that_is_found_is_believed_whatever_its_installation_was_called() -> None:
    seen = look(Pipelines(**{"kfp-a": "SUCCEEDED"}), kfp_installation=THERE)
    assert (seen.phase, seen.result["id"]) == (Phase.SUCCEEDED, "kfp-a")


def test_no_state_of_kfps_own_is_called_as_a_deleted_run_is() -> None:
    assert DELETED not in PHASES["pipeline-run"]


def test_a_run_without_a_pipeline_run_needs_no_kubeflow_pipelines() -> None:
    row = {name: value for name, value in ROW.items() if name != "pipeline_run_id"}

    class Unreachable(Pipelines):
        def get_run(self, run_id: str) -> Any:
            raise KfpUnavailable("down")

    assert Things(None, lambda: Unreachable(), HERE).observe("pipeline-run", row) == ABSENT
    with pytest.raises(KfpUnavailable):
        look(Unreachable())
