"""What is left in an account beyond the stack, once a run has ended.

Left out, because they cost nothing or are what the run was for: records of ended jobs (SageMaker cannot delete them),
logs, uploads, data sets under ``datasets/``, and the runs' ``report/``, ``model/`` and ``predictions/``. Counted:
everything else in the run bucket, also non-current object versions and unfinished multipart uploads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from baton.names import KEPT_FOLDERS
from baton_local.kfp_reader import KfpReader

_JOBS = (
    ("list_training_jobs", "TrainingJobSummaries", "TrainingJobName", "TrainingJobStatus", "training job"),
    (
        "list_hyper_parameter_tuning_jobs",
        "HyperParameterTuningJobSummaries",
        "HyperParameterTuningJobName",
        "HyperParameterTuningJobStatus",
        "tuning job",
    ),
    ("list_transform_jobs", "TransformJobSummaries", "TransformJobName", "TransformJobStatus", "transform job"),
)
_SERVING = (
    ("list_endpoints", "Endpoints", "EndpointName", "endpoint"),
    ("list_endpoint_configs", "EndpointConfigs", "EndpointConfigName", "endpoint configuration"),
    ("list_models", "Models", "ModelName", "model"),
)
DATASETS = "datasets/"
"""Where people put data sets that no upload starts a run of."""
_ENDED = ("Completed", "Failed", "Stopped")


class Leftovers:
    """Looks through one region of an account as its administrator; ``client`` gives a boto3 client of a service.

    ``bucket`` is the run bucket, in which ``uploads`` is the prefix of the keys of uploads.
    """

    def __init__(self, client: Callable[[str], Any], bucket: str, uploads: str, kfp: KfpReader) -> None:
        self._client = client
        self._bucket = bucket
        self._of_people = (uploads, DATASETS)
        self._kfp = kfp

    def find(self, kept: frozenset[str] = frozenset(), run_id: str = "") -> list[str]:
        """Name everything that is left, one line each; ``kept`` are SageMaker names that their plan keeps.

        With a run id, only what bears it.
        """
        found = [*self._jobs(), *self._serving(), *self._objects(), *self._uploads(), *self._pipeline_runs(run_id)]
        return [line for line in found if run_id in line and line.rpartition(" ")[2] not in kept]

    def _jobs(self) -> Iterator[str]:
        sagemaker = self._client("sagemaker")
        for operation, field, name, status, word in _JOBS:
            for job in _pages(getattr(sagemaker, operation), field):
                if job[status] not in _ENDED:
                    yield f"{word} ({job[status]}) {job[name]}"

    def _serving(self) -> Iterator[str]:
        sagemaker = self._client("sagemaker")
        for operation, field, name, word in _SERVING:
            for thing in _pages(getattr(sagemaker, operation), field):
                yield f"{word} {thing[name]}"

    def _objects(self) -> Iterator[str]:
        paginator = self._client("s3").get_paginator("list_object_versions")
        for page in paginator.paginate(Bucket=self._bucket):
            for version in self._ours(page.get("Versions", [])):
                if not version["IsLatest"]:
                    yield f"non-current version of s3://{self._bucket}/{version['Key']}"
                elif not _is_kept(version["Key"]):
                    yield f"object s3://{self._bucket}/{version['Key']}"
            for marker in self._ours(page.get("DeleteMarkers", [])):
                yield f"delete marker of s3://{self._bucket}/{marker['Key']}"

    def _ours(self, versions: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """Yield the versions of objects that people have not put there themselves."""
        return (version for version in versions if not version["Key"].startswith(self._of_people))

    def _uploads(self) -> Iterator[str]:
        answer = self._client("s3").list_multipart_uploads(Bucket=self._bucket)
        for upload in answer.get("Uploads", []):
            yield f"unfinished upload of s3://{self._bucket}/{upload['Key']}"

    def _pipeline_runs(self, run_id: str) -> Iterator[str]:
        try:
            runs = list(self._kfp.runs())
        except OSError as error:
            yield f"pipeline runs that nobody can see ({error}) {run_id}"
            return
        for run in runs:
            if run.get("state") not in ("SUCCEEDED", "FAILED", "CANCELED", "SKIPPED"):
                yield f"pipeline run ({run.get('state')}) {run['run_id']} of {run.get('display_name')}"


def _is_kept(key: str) -> bool:
    folder, _, path = key.partition("/")
    return folder == "runs" and path.partition("/")[2].startswith(KEPT_FOLDERS)


def _pages(operation: Callable[..., dict[str, Any]], field: str) -> Iterator[dict[str, Any]]:
    request: dict[str, Any] = {}
    while True:
        page = operation(**request)
        yield from page.get(field, [])
        if not page.get("NextToken"):
            return
        request["NextToken"] = page["NextToken"]
