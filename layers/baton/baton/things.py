"""What a run waits for, and what AWS or Kubeflow Pipelines says of it right now.

Five kinds of things are awaited. Each has a describer that answers with an Observation; nothing else in Baton decides
whether a thing has ended, and no event is believed before an Observation agrees. The status tables name every value
of SageMaker's and KFP's enumerations, and a test compares them with botocore's model and with ``kfp-server-api``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Protocol

from botocore.exceptions import ClientError

from baton.items import Item
from baton.names import TAG_RUN_ID, Names
from baton.runs import awaited_pipeline_run, launched_elsewhere

PIPELINE_RUN = "pipeline-run"
JOB_KINDS = ("tuning", "training", "transform", "endpoint")
KINDS = (PIPELINE_RUN, *JOB_KINDS)

DELETED = "Deleted"
"""The status, in no enumeration, of a KFP run whose id Kubeflow Pipelines does not know (any more)."""

CLOCK_SKEW_SECONDS = 60
"""SageMaker's clock and Step Functions' may differ by this much when ownership is judged by creation time."""


class Phase(Enum):
    """What a status means for whoever waits."""

    ABSENT = "absent"
    FOREIGN = "foreign"
    ACTIVE = "active"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    ELSEWHERE = "elsewhere"


_ACTIVE, _GOOD, _BAD = Phase.ACTIVE, Phase.SUCCEEDED, Phase.FAILED

PHASES: Mapping[str, Mapping[str, Phase]] = {
    "tuning": {
        "InProgress": _ACTIVE,
        "Stopping": _ACTIVE,
        "Completed": _GOOD,
        "Failed": _BAD,
        "Stopped": _BAD,
        "Deleting": _BAD,
        "DeleteFailed": _BAD,
    },
    "training": {
        "InProgress": _ACTIVE,
        "Stopping": _ACTIVE,
        "Completed": _GOOD,
        "Failed": _BAD,
        "Stopped": _BAD,
        "Deleting": _BAD,
    },
    "transform": {
        "InProgress": _ACTIVE,
        "Stopping": _ACTIVE,
        "Completed": _GOOD,
        "Failed": _BAD,
        "Stopped": _BAD,
    },
    # A run's endpoint is new: rolling back, out of service or being deleted all mean that it will not serve this run.
    "endpoint": {
        "Creating": _ACTIVE,
        "Updating": _ACTIVE,
        "SystemUpdating": _ACTIVE,
        "InService": _GOOD,
        "Failed": _BAD,
        "OutOfService": _BAD,
        "RollingBack": _BAD,
        "UpdateRollbackFailed": _BAD,
        "Deleting": _BAD,
    },
    # SKIPPED is an end without the work done; PAUSED and CANCELING go on to another state, or the deadline ends them.
    PIPELINE_RUN: {
        "RUNTIME_STATE_UNSPECIFIED": _ACTIVE,
        "PENDING": _ACTIVE,
        "RUNNING": _ACTIVE,
        "PAUSED": _ACTIVE,
        "CANCELING": _ACTIVE,
        "SUCCEEDED": _GOOD,
        "SKIPPED": _BAD,
        "FAILED": _BAD,
        "CANCELED": _BAD,
    },
}


@dataclass(frozen=True)
class Observation:
    """What a describer saw: the phase, the raw status, the failure reason, and what the run's output shows of it."""

    phase: Phase
    status: str | None = None
    reason: str | None = None
    result: dict[str, Any] = field(default_factory=dict)

    @property
    def ended(self) -> bool:
        """Whether the thing has reached an end, good or bad."""
        return self.phase in (Phase.SUCCEEDED, Phase.FAILED)


ABSENT = Observation(Phase.ABSENT)
FOREIGN = Observation(Phase.FOREIGN)
ELSEWHERE = Observation(Phase.ELSEWHERE)
"""Not found at this Kubeflow Pipelines, and launched at another: whether it has ended cannot be seen from here."""


class PipelineRuns(Protocol):
    """What is needed of a KFP client here."""

    def get_run(self, run_id: str) -> Any:
        """Return the run (with ``state``, ``id`` and ``error``), or None where there is none."""


class Things:
    """Describes the awaited things of runs.

    ``pipelines`` is called when a KFP run must be looked at, so that a look at SageMaker needs no KFP settings;
    ``installation`` says which Kubeflow Pipelines that asks (``Settings.kfp_installation``).
    """

    def __init__(self, sagemaker: Any, pipelines: Callable[[], PipelineRuns], installation: str) -> None:
        self._sagemaker = sagemaker
        self._pipelines = pipelines
        self._installation = installation

    def observe(self, kind: str, row: Item) -> Observation:
        """Return what a run's thing of this kind is now; ``row`` is the run's row.

        Raises ClientError or KfpUnavailable where nobody answers.
        """
        if kind == PIPELINE_RUN:
            return self._pipeline_run(row)
        describe = getattr(self, f"_describe_{kind}")
        try:
            answer = describe(thing_name(kind, row["name"]))
        except ClientError as error:
            if is_not_found(error):
                return ABSENT
            raise
        arn, created, status, result = answer
        if not self._is_ours(arn, created, row):
            return FOREIGN
        return Observation(phase_of(kind, status), status, result.pop("reason", None), result)

    def _is_ours(self, arn: str, created: float, row: Item) -> bool:
        if created < row["created_at"] - CLOCK_SKEW_SECONDS:
            return False
        tags = self._sagemaker.list_tags(ResourceArn=arn, MaxResults=100)["Tags"]
        return {"Key": TAG_RUN_ID, "Value": row["name"]} in tags

    def _pipeline_run(self, row: Item) -> Observation:
        run_id = awaited_pipeline_run(row)
        if run_id is None:
            return ABSENT
        run = self._pipelines().get_run(run_id)
        if run is None and launched_elsewhere(row, self._installation):
            return ELSEWHERE
        if run is None:
            # Its id was recorded, so it was there once, and nobody will ever tell how it ended.
            reason = "it was deleted from Kubeflow Pipelines"
            return Observation(Phase.FAILED, DELETED, reason, {"id": run_id, "state": DELETED})
        phase = phase_of(PIPELINE_RUN, run.state)
        return Observation(phase, run.state, run.error, {"id": run_id, "state": run.state})

    def _describe_training(self, name: str) -> tuple[str, float, str, dict[str, Any]]:
        job = self._sagemaker.describe_training_job(TrainingJobName=name)
        metrics = {m["MetricName"]: m["Value"] for m in job.get("FinalMetricDataList", [])}
        result = {
            "reason": job.get("FailureReason"),
            "model_artefact": job.get("ModelArtifacts", {}).get("S3ModelArtifacts"),
            "metrics": metrics,
            "hyperparameters": job.get("HyperParameters", {}),
            "billable_seconds": job.get("BillableTimeInSeconds"),
            "instance": _instance(job.get("ResourceConfig", {})),
        }
        return job["TrainingJobArn"], job["CreationTime"].timestamp(), job["TrainingJobStatus"], result

    def _describe_tuning(self, name: str) -> tuple[str, float, str, dict[str, Any]]:
        job = self._sagemaker.describe_hyper_parameter_tuning_job(HyperParameterTuningJobName=name)
        best = job.get("BestTrainingJob", {})
        objective = best.get("FinalHyperParameterTuningJobObjectiveMetric", {})
        definition = job.get("TrainingJobDefinition", {})
        result = {
            "reason": job.get("FailureReason"),
            "best_training_job": best.get("TrainingJobName"),
            "objective": {"name": objective.get("MetricName"), "value": objective.get("Value")},
            "hyperparameters": {**definition.get("StaticHyperParameters", {}), **best.get("TunedHyperParameters", {})},
            "counters": job.get("TrainingJobStatusCounters", {}),
            "instance": _instance(definition.get("ResourceConfig", {})),
        }
        arn = job["HyperParameterTuningJobArn"]
        return arn, job["CreationTime"].timestamp(), job["HyperParameterTuningJobStatus"], result

    def _describe_transform(self, name: str) -> tuple[str, float, str, dict[str, Any]]:
        job = self._sagemaker.describe_transform_job(TransformJobName=name)
        result = {
            "reason": job.get("FailureReason"),
            "output_uri": job.get("TransformOutput", {}).get("S3OutputPath"),
            "instance": _instance(job.get("TransformResources", {})),
        }
        return job["TransformJobArn"], job["CreationTime"].timestamp(), job["TransformJobStatus"], result

    def _describe_endpoint(self, name: str) -> tuple[str, float, str, dict[str, Any]]:
        endpoint = self._sagemaker.describe_endpoint(EndpointName=name)
        result = {"reason": endpoint.get("FailureReason"), "config": endpoint.get("EndpointConfigName")}
        return endpoint["EndpointArn"], endpoint["CreationTime"].timestamp(), endpoint["EndpointStatus"], result


def thing_name(kind: str, run_id: str) -> str:
    """Return the name under which a run's thing is awaited: the KFP run's is the run id itself."""
    return run_id if kind == PIPELINE_RUN else Names.of(run_id).as_dict()[kind]


def phase_of(kind: str, status: str) -> Phase:
    """Return what a status means; a status that nobody knows counts as active, so that only its deadline ends it."""
    return PHASES[kind].get(status, Phase.ACTIVE)


def is_not_found(error: ClientError) -> bool:
    """Whether a SageMaker error says that there is no such thing.

    SageMaker has no code of its own for this on most Describe calls: it answers ValidationException, and the message
    tells ("Requested resource not found.", 'Could not find endpoint "…".').
    """
    code, message = error.response["Error"]["Code"], error.response["Error"].get("Message", "")
    if code in ("ResourceNotFound", "ResourceNotFoundException"):
        return True
    return code == "ValidationException" and ("not found" in message.lower() or "could not find" in message.lower())


def _instance(resources: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": resources.get("InstanceType"), "count": resources.get("InstanceCount")}
