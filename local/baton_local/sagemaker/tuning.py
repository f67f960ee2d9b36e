"""Hyperparameter tuning jobs: they search by means of training jobs of their own."""

from __future__ import annotations

import hashlib
import math
import queue
from collections.abc import Callable
from typing import Any

from baton_local.sagemaker import events, kmeans
from baton_local.sagemaker.errors import validation
from baton_local.sagemaker.events import Description, Tags
from baton_local.sagemaker.pool import JobFailure
from baton_local.sagemaker.resources import Job, StoppedError, now
from baton_local.sagemaker.search import Search, Values, read_ranges
from baton_local.sagemaker.training import METRIC_DEFINITIONS, TrainingJob

OBJECTIVE_PARAMETER = "_tuning_objective_metric"
_COUNTED_AS = {"InProgress": "InProgress", "Stopping": "InProgress", "Completed": "Completed", "Stopped": "Stopped"}
_COPIED = (
    "RoleArn",
    "InputDataConfig",
    "OutputDataConfig",
    "ResourceConfig",
    "VpcConfig",
    "StoppingCondition",
    "EnableNetworkIsolation",
    "EnableInterContainerTrafficEncryption",
    "EnableManagedSpotTraining",
    "CheckpointConfig",
    "RetryStrategy",
    "Environment",
)
_SUMMARISED = (
    "TrainingJobName",
    "TrainingJobArn",
    "CreationTime",
    "TrainingStartTime",
    "TrainingEndTime",
    "TrainingJobStatus",
    "FailureReason",
)

CreateTraining = Callable[[dict[str, Any], str], TrainingJob]
"""Creates a training job from a CreateTrainingJob request, for the tuning job with an ARN."""


class TuningJob(Job):
    """One tuning job."""

    kind = "tuning"
    status_field = "HyperParameterTuningJobStatus"
    end_field = "HyperParameterTuningEndTime"
    event = (events.TUNING, events.tuning_detail)

    def __init__(self, arn: str, tags: Tags, request: dict[str, Any], create: CreateTraining) -> None:
        created = now()
        description = {name: value for name, value in request.items() if name != "Tags"}
        description |= {
            "TrainingJobDefinition": _definition(request),
            "HyperParameterTuningJobArn": arn,
            "HyperParameterTuningJobStatus": "InProgress",
            "CreationTime": created,
            "LastModifiedTime": created,
        }
        self._create = create
        self._search = _search(request)
        self._ended: queue.SimpleQueue[str] = queue.SimpleQueue()
        self.children: list[TrainingJob] = []
        self.tuned: dict[str, Values] = {}
        super().__init__(arn, tags, description | _counters([]))

    @property
    def objective(self) -> tuple[str, bool]:
        """The metric that counts, and whether it is to be small."""
        chosen = self.description["HyperParameterTuningJobConfig"]["HyperParameterTuningJobObjective"]
        return chosen["MetricName"], chosen["Type"] == "Minimize"

    def work(self) -> Description:
        """Run training jobs until there were enough of them."""
        self.suffer()
        limits = self.description["HyperParameterTuningJobConfig"]["ResourceLimits"]
        most, at_once = limits.get("MaxNumberOfTrainingJobs", 1), limits["MaxParallelTrainingJobs"]
        while len(self.children) < most or self._running():
            while len(self.children) < most and len(self._running()) < at_once:
                self._launch()
            self._ended.get()
            self._count()
            if self.interrupt.is_set():
                raise StoppedError
        if all(self._objective_of(child) is None for child in self.children):
            raise JobFailure(
                "No training job succeeded in emitting the objective metric. "
                "Please take a look at the training jobs failures to get more details."
            )
        return {}

    def stop(self) -> bool:
        """Tell the job and its training jobs to stop."""
        accepted = super().stop()
        if accepted:
            for child in self._running():
                child.stop()
            self._ended.put("")
        return accepted

    def settle(self) -> None:
        """Wait for the training jobs that still stop."""
        while self._running():
            self._ended.get()

    def end_changes(self, status: str) -> Description:
        """Return the end's status, times and counts."""
        seconds = sum(child.description.get("TrainingTimeInSeconds", 0) for child in self.children)
        ended = super().end_changes(status)
        return {**ended, **self._state(), "ConsumedResources": {"RuntimeInSeconds": seconds}}

    def summaries(self) -> list[Description]:
        """Return what ListTrainingJobsForHyperParameterTuningJob answers, oldest first."""
        return [self._summary(child) for child in list(self.children)]

    def _launch(self) -> None:
        number = len(self.children) + 1
        running = self._running()
        ended = [(self.tuned[child.name], self._objective_of(child)) for child in self.children if child not in running]
        values = self._search.propose(ended, [self.tuned[child.name] for child in running])
        name = f"{self.name}-{number:03d}-{self._digest(number)}"
        self.tuned[name] = values
        with self.lock:
            if self.interrupt.is_set():
                raise StoppedError
            child = self._create(self._training_request(name, values), self.arn)
            child.when_ended(lambda: self._ended.put(child.name))
            self.children.append(child)
        child.start()
        self._count()

    def _digest(self, number: int) -> str:
        return hashlib.sha256(f"{self.arn}:{self.description['CreationTime']}:{number}".encode()).hexdigest()[:8]

    def _training_request(self, name: str, values: Values) -> dict[str, Any]:
        definition = self.description["TrainingJobDefinition"]
        image = definition["AlgorithmSpecification"]
        return {
            **{field: definition[field] for field in _COPIED if field in definition},
            "TrainingJobName": name,
            "AlgorithmSpecification": image,
            "HyperParameters": {**definition.get("StaticHyperParameters", {}), **values},
            "Tags": [dict(tag) for tag in self.tags],
        }

    def _running(self) -> list[TrainingJob]:
        return [child for child in self.children if child.running]

    def _objective_of(self, child: TrainingJob) -> float | None:
        metrics = child.description.get("FinalMetricDataList", ())
        found = [metric["Value"] for metric in metrics if metric["MetricName"] == self.objective[0]]
        return found[0] if found and child.status == "Completed" else None

    def _count(self) -> None:
        with self.lock:
            self.description.update(self._state(), LastModifiedTime=now())

    def _state(self) -> Description:
        summaries = self.summaries()
        return {**_counters(summaries), "BestTrainingJob": self._best(summaries)}

    def _best(self, summaries: list[Description]) -> Description | None:
        field = "FinalHyperParameterTuningJobObjectiveMetric"
        scored = [summary for summary in summaries if field in summary]
        if not scored:
            return None
        return (min if self.objective[1] else max)(scored, key=lambda summary: summary[field]["Value"])

    def _summary(self, child: TrainingJob) -> Description:
        described = child.describe()
        summary = {name: described[name] for name in _SUMMARISED if name in described}
        value = self._objective_of(child)
        if value is not None:
            metric = {"MetricName": self.objective[0], "Value": value}
            summary["FinalHyperParameterTuningJobObjectiveMetric"] = metric
        if child.running:
            summary["ObjectiveStatus"] = "Pending"
        else:
            summary["ObjectiveStatus"] = "Failed" if value is None else "Succeeded"
        return {**summary, "TunedHyperParameters": dict(self.tuned[child.name])}


def _counters(summaries: list[Description]) -> Description:
    training = dict.fromkeys(("Completed", "InProgress", "RetryableError", "NonRetryableError", "Stopped"), 0)
    objective = dict.fromkeys(("Succeeded", "Pending", "Failed"), 0)
    for summary in summaries:
        training[_COUNTED_AS.get(summary["TrainingJobStatus"], "NonRetryableError")] += 1
        objective[summary["ObjectiveStatus"]] += 1
    return {"TrainingJobStatusCounters": training, "ObjectiveStatusCounters": objective}


def _definition(request: dict[str, Any]) -> Description:
    """Return the training job definition with what SageMaker adds to it."""
    given = request["TrainingJobDefinition"]
    metric = request["HyperParameterTuningJobConfig"]["HyperParameterTuningJobObjective"]["MetricName"]
    return {
        **given,
        "AlgorithmSpecification": {"MetricDefinitions": METRIC_DEFINITIONS, **given["AlgorithmSpecification"]},
        "StaticHyperParameters": {**given.get("StaticHyperParameters", {}), OBJECTIVE_PARAMETER: metric},
    }


def _search(request: dict[str, Any]) -> Search:
    config = request["HyperParameterTuningJobConfig"]
    return Search(
        parameters=read_ranges(config.get("ParameterRanges", {})),
        bayesian=config["Strategy"] == "Bayesian",
        minimise=config["HyperParameterTuningJobObjective"]["Type"] == "Minimize",
        seed=config.get("RandomSeed", kmeans.seed_of(request["HyperParameterTuningJobName"])),
    )


def check_request(request: dict[str, Any]) -> None:
    """Raise ValidationException for what a tuning job of the built-in k-means cannot be."""
    config = request["HyperParameterTuningJobConfig"]
    problem = _problem(request, config)
    if problem:
        raise validation(problem)


def _problem(request: dict[str, Any], config: dict[str, Any]) -> str | None:
    definition, limits = request.get("TrainingJobDefinition"), config["ResourceLimits"]
    objective = config.get("HyperParameterTuningJobObjective")
    if not definition or not objective:
        return "The embedded cloud tunes one TrainingJobDefinition with one HyperParameterTuningJobObjective."
    if config["Strategy"] not in ("Bayesian", "Random"):
        return f"The embedded cloud searches by the Bayesian or the Random strategy, not by {config['Strategy']}."
    if limits["MaxParallelTrainingJobs"] > limits.get("MaxNumberOfTrainingJobs", 1):
        return "MaxParallelTrainingJobs must not be greater than MaxNumberOfTrainingJobs."
    if objective["MetricName"] not in kmeans.METRICS:
        names = ", ".join(kmeans.METRICS)
        return f"The objective metric {objective['MetricName']} is not one of those the algorithm emits: {names}."
    return _range_problem(definition, config)


def _range_problem(definition: dict[str, Any], config: dict[str, Any]) -> str | None:
    try:
        ranges = read_ranges(config.get("ParameterRanges", {}))
    except ValueError as error:
        return str(error)
    tuned, jobs = {parameter.name for parameter in ranges}, config["ResourceLimits"].get("MaxNumberOfTrainingJobs", 1)
    combinations = math.prod(parameter.count for parameter in ranges)
    static = set(definition.get("StaticHyperParameters", {}))
    if not tuned:
        return "A tuning job needs at least one hyperparameter to tune."
    if tuned - set(kmeans.TUNABLE):
        return f"The hyperparameters {sorted(tuned - set(kmeans.TUNABLE))} are not tunable by this algorithm."
    if tuned & static:
        return f"The hyperparameters {sorted(tuned & static)} are both static and tunable."
    if combinations < jobs:
        # In these words: https://github.com/aws/amazon-sagemaker-operator-for-k8s/issues/123
        return (
            "You don't have enough combinations of hyperparameter ranges. The total number of hyperparameter"
            f" combinations for the provided ranges [{float(combinations)}] must be equal or greater than the value of"
            f" MaxNumberOfJobs, [{jobs}]. Provide additional ranges."
        )
    return None
