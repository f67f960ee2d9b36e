"""Training jobs."""

from __future__ import annotations

import math
from typing import Any

from baton_local.sagemaker import engine, events, images, kmeans
from baton_local.sagemaker.events import Description, Tags
from baton_local.sagemaker.kmeans import ClientError
from baton_local.sagemaker.pool import JobFailure
from baton_local.sagemaker.resources import Job, StoppedError, now

_MESSAGES = {
    "Starting": "Preparing the instances for training",
    "Downloading": "Downloading input data",
    "Training": "Training image download completed. Training in progress.",
    "Uploading": "Uploading generated training model",
    "Stopping": "Stopping the training job",
    "Completed": "Training job completed",
    "Failed": "Training job failed",
    "Stopped": "Training job stopped",
    "MaxRuntimeExceeded": "Training job runtime exceeded MaxRuntimeInSeconds provided",
}
_DEFAULTS = {
    "EnableNetworkIsolation": False,
    "EnableInterContainerTrafficEncryption": False,
    "EnableManagedSpotTraining": False,
    "ProfilingStatus": "Disabled",
}
METRIC_DEFINITIONS = [
    {"Name": name, "Regex": f"#quality_metric: host=\\S+, {name.replace(':', ' ')} <loss>=(\\S+)"}
    for name in kmeans.METRICS
]


class TrainingJob(Job):
    """One training job: Starting, Downloading, Training, Uploading, and an end."""

    kind = "training"
    status_field = "TrainingJobStatus"
    end_field = "TrainingEndTime"
    event = (events.TRAINING, events.training_detail)

    def __init__(self, arn: str, tags: Tags, request: dict[str, Any]) -> None:
        created = now()
        description = {**_DEFAULTS, **{name: value for name, value in request.items() if name != "Tags"}}
        description["AlgorithmSpecification"] = {
            "MetricDefinitions": METRIC_DEFINITIONS,
            **request["AlgorithmSpecification"],
        }
        description |= {
            "TrainingJobArn": arn,
            "TrainingJobStatus": "InProgress",
            "CreationTime": created,
            "LastModifiedTime": created,
            "SecondaryStatus": "Starting",
            "SecondaryStatusTransitions": [_transition("Starting", created)],
        }
        super().__init__(arn, tags, description)

    @property
    def artefact(self) -> str:
        """The URI that the model is written to."""
        return f"{self.description['OutputDataConfig']['S3OutputPath'].rstrip('/')}/{self.name}/output/model.tar.gz"

    def work(self) -> Description:
        """Train; return the artefact and the metrics."""
        pauses = engine.current().pauses
        self.pause(pauses.start)
        timer = self.limit_runtime(self.description["StoppingCondition"].get("MaxRuntimeInSeconds", 86400))
        try:
            self._enter("Downloading", TrainingStartTime=now())
            self.pause(pauses.pull_image)
            self._pull_image()
            self.suffer()
            done = self.compute(self._request(), self._enter)
            self.pause(pauses.upload)
        finally:
            timer.cancel()
        return {"ModelArtifacts": {"S3ModelArtifacts": self.artefact}, "FinalMetricDataList": _metrics(done["metrics"])}

    def stopping_changes(self) -> Description:
        """Return what changes when the job is told to stop, with the phase that it enters."""
        return {**super().stopping_changes(), **self._phase("Stopping")}

    def end_changes(self, status: str) -> Description:
        """Return the end's status, times and last transition."""
        secondary = "MaxRuntimeExceeded" if status == "Stopped" and self.overran else status
        changes = {**super().end_changes(status), **self._phase(secondary, last=True)}
        started = self.description.get("TrainingStartTime")
        if started:
            seconds = max(1, math.ceil((changes["TrainingEndTime"] - started).total_seconds()))
            changes |= {"TrainingTimeInSeconds": seconds, "BillableTimeInSeconds": seconds}
        return changes

    def _pull_image(self) -> None:
        try:
            images.check_image(self.description["AlgorithmSpecification"].get("TrainingImage", ""), self.region)
        except ClientError as error:
            raise JobFailure.of(error) from error

    def _request(self) -> dict[str, Any]:
        started = engine.current()
        job = {name: self.description.get(name) for name in ("TrainingJobName", "HyperParameters", "InputDataConfig")}
        return {
            "task": "train",
            "session": started.session(self.description["RoleArn"], self.region).as_dict(),
            "job": {name: value for name, value in job.items() if value is not None},
            "artefact": self.artefact,
            "kms_key": self.description["OutputDataConfig"].get("KmsKeyId", ""),
            "cache": str(started.channel_cache),
        }

    def _enter(self, phase: str, **changes: Any) -> None:
        """Enter a phase and announce it, unless the job is to stop or is in that phase already."""
        with self.lock:
            if self.interrupt.is_set():
                raise StoppedError
            if self.description["SecondaryStatus"] != phase:
                self.change(**changes, **self._phase(phase))

    def _phase(self, phase: str, last: bool = False) -> Description:
        moment = now()
        transitions = [dict(step) for step in self.description["SecondaryStatusTransitions"]]
        transitions[-1].setdefault("EndTime", moment)
        transitions.append({**_transition(phase, moment), **({"EndTime": moment} if last else {})})
        return {"SecondaryStatus": phase, "SecondaryStatusTransitions": transitions, "LastModifiedTime": moment}


def _transition(phase: str, moment: Any) -> Description:
    return {"Status": phase, "StartTime": moment, "StatusMessage": _MESSAGES[phase]}


def _metrics(values: dict[str, float]) -> list[Description]:
    moment = now()
    return [{"MetricName": name, "Value": value, "Timestamp": moment} for name, value in values.items()]
