"""The stages of a pipeline on SageMaker's built-in algorithms, each one function for one task of a pipeline."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from baton_steps import jobs
from baton_steps.errors import JobFailed
from baton_steps.failures import recorded
from baton_steps.jobs import Jobs
from baton_steps.run import Run

RECORDIO = "application/x-recordio-protobuf"
_OBJECTIVE_HYPERPARAMETER = "_tuning_objective_metric"
"""SageMaker adds this one to a tuning job's training jobs, and the algorithm refuses it anywhere else."""


@dataclass(frozen=True)
class Machines:
    """On what, and for how long, a training job runs."""

    instance_type: str
    instance_count: int
    volume_gb: int
    max_seconds: int
    spot_instances: bool
    spot_wait_seconds: int
    network_isolation: bool

    def request(self) -> dict[str, Any]:
        """Return the fields that a training job and a tuning job's definition share."""
        stopping = {"MaxRuntimeInSeconds": self.max_seconds}
        if self.spot_instances:
            stopping["MaxWaitTimeInSeconds"] = self.max_seconds + self.spot_wait_seconds
        return {
            "ResourceConfig": {
                "InstanceType": self.instance_type,
                "InstanceCount": self.instance_count,
                "VolumeSizeInGB": self.volume_gb,
            },
            "StoppingCondition": stopping,
            "EnableManagedSpotTraining": self.spot_instances,
            "EnableNetworkIsolation": self.network_isolation,
        }


@dataclass(frozen=True)
class Search:
    """What a tuning job tries: the fixed hyperparameters, the ranges, and how many jobs it may spend.

    SageMaker refuses a range of one number, and more jobs than there are combinations to try
    (https://github.com/aws/amazon-sagemaker-feedback/issues/195,
    https://github.com/aws/amazon-sagemaker-operator-for-k8s/issues/123), so who fixes what is tuned gets fewer jobs.
    """

    strategy: str
    metric: str
    early_stopping: str
    max_jobs: int
    parallel_jobs: int
    fixed: Mapping[str, str]
    integers: Mapping[str, tuple[int, int]]
    categories: Mapping[str, list[str]]

    @property
    def static(self) -> dict[str, str]:
        """The hyperparameters of every job: the fixed ones, and those whose range is one number."""
        return {**self.fixed, **{name: str(low) for name, (low, high) in self.integers.items() if low == high}}

    @property
    def jobs(self) -> int:
        """How many jobs there will be: no more than combinations."""
        counts = [high - low + 1 for low, high in self.integers.values()]
        return min(self.max_jobs, math.prod([*counts, *map(len, self.categories.values())]))

    def request(self) -> dict[str, Any]:
        """Return the HyperParameterTuningJobConfig."""
        return {
            "Strategy": self.strategy,
            "HyperParameterTuningJobObjective": {"Type": "Minimize", "MetricName": self.metric},
            "ResourceLimits": {
                "MaxNumberOfTrainingJobs": self.jobs,
                "MaxParallelTrainingJobs": min(self.parallel_jobs, self.jobs),
            },
            "ParameterRanges": {
                "IntegerParameterRanges": [
                    {"Name": name, "MinValue": str(low), "MaxValue": str(high), "ScalingType": "Auto"}
                    for name, (low, high) in self.integers.items()
                    if low < high
                ],
                "CategoricalParameterRanges": [
                    {"Name": name, "Values": values} for name, values in self.categories.items()
                ],
            },
            "TrainingJobEarlyStoppingType": self.early_stopping,
        }


@recorded("tuning")
def tune(run: Run, search: Search, machines: Machines, train_data: str, test_data: str, output: str) -> dict[str, str]:
    """Run the tuning job and return its best hyperparameters, ready for the training job."""
    name = run.name("tuning")
    waiting = Jobs(run)
    definition = {
        "StaticHyperParameters": search.static,
        "AlgorithmSpecification": {"TrainingImage": run.training_image, "TrainingInputMode": "File"},
        "RoleArn": run.role_arn,
        "InputDataConfig": [_channel("train", train_data), _channel("test", test_data)],
        "OutputDataConfig": run.output(output),
        **machines.request(),
    }
    request = {"HyperParameterTuningJobConfig": search.request(), "TrainingJobDefinition": definition}
    best = waiting.finish(jobs.TUNING, name, request).get("BestTrainingJob") or {}
    if not best.get("TrainingJobName"):
        raise JobFailed(f"The tuning job {name} completed, and none of its training jobs reported {search.metric}.")
    description = waiting.describe(jobs.TRAINING, best["TrainingJobName"])
    if description is None:
        raise JobFailed(f"The tuning job {name} names {best['TrainingJobName']} as its best, which does not exist.")
    found = {k: v for k, v in description["HyperParameters"].items() if k != _OBJECTIVE_HYPERPARAMETER}
    objective = best.get("FinalHyperParameterTuningJobObjectiveMetric", {}).get("Value")
    print(f"Best: {best['TrainingJobName']}, {search.metric} {objective}, {found}")
    return found


@recorded("training")
def train(run: Run, hyperparameters: Mapping[str, str], machines: Machines, train_data: str, output: str) -> str:
    """Run the training job and return the S3 URI of its model artefact."""
    name = run.name("training")
    request = {
        "HyperParameters": dict(hyperparameters),
        "AlgorithmSpecification": {"TrainingImage": run.training_image, "TrainingInputMode": "File"},
        "RoleArn": run.role_arn,
        "InputDataConfig": [_channel("train", train_data)],
        "OutputDataConfig": run.output(output),
        **machines.request(),
    }
    description = Jobs(run).finish(jobs.TRAINING, name, request)
    artefact = str(description["ModelArtifacts"]["S3ModelArtifacts"])
    print(f"The model artefact is {artefact}.")
    return artefact


@recorded("model")
def make_model(run: Run, artefact: str, network_isolation: bool) -> str:
    """Create the model from the training image and the artefact; return its name."""
    name = run.name("model")
    request = {
        "PrimaryContainer": {"Image": run.training_image, "ModelDataUrl": artefact},
        "ExecutionRoleArn": run.role_arn,
        "EnableNetworkIsolation": network_isolation,
    }
    Jobs(run).create_or_adopt(jobs.MODEL, name, request)
    return name


@recorded("endpoint")
def serve(run: Run, model: str, instance_type: str, instance_count: int) -> str:
    """Create the endpoint configuration and the endpoint, wait until it is in service; return its name."""
    name, config = run.name("endpoint"), run.name("endpoint_config")
    variant = {
        "VariantName": "AllTraffic",
        "ModelName": model,
        "InstanceType": instance_type,
        "InitialInstanceCount": instance_count,
        "InitialVariantWeight": 1.0,
    }
    waiting = Jobs(run)
    waiting.create_or_adopt(jobs.ENDPOINT_CONFIG, config, {"ProductionVariants": [variant]})
    waiting.finish(jobs.ENDPOINT, name, {"EndpointConfigName": config})
    return name


@recorded("transform")
def transform(
    run: Run,
    model: str,
    data: str,
    output: str,
    instance_type: str,
    instance_count: int,
    max_concurrent: int,
    max_payload_mb: int,
) -> str:
    """Run the batch transform job over the CSV objects under ``data``; return the S3 URI of its output."""
    request = {
        "ModelName": model,
        "MaxConcurrentTransforms": max_concurrent,
        "MaxPayloadInMB": max_payload_mb,
        "BatchStrategy": "MultiRecord",
        "TransformInput": {
            "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": data}},
            "ContentType": "text/csv",
            "SplitType": "Line",
            "CompressionType": "None",
        },
        "TransformOutput": {**run.output(output), "AssembleWith": "Line"},
        "TransformResources": {"InstanceType": instance_type, "InstanceCount": instance_count},
    }
    description = Jobs(run).finish(jobs.TRANSFORM, run.name("transform"), request)
    return str(description["TransformOutput"]["S3OutputPath"])


def _channel(name: str, uri: str) -> dict[str, Any]:
    # Without the content type the algorithm guesses; it is what prepare_data wrote.
    source = {"S3DataType": "S3Prefix", "S3Uri": uri, "S3DataDistributionType": "FullyReplicated"}
    return {
        "ChannelName": name,
        "DataSource": {"S3DataSource": source},
        "ContentType": RECORDIO,
        "CompressionType": "None",
        "RecordWrapperType": "None",
        "InputMode": "File",
    }
