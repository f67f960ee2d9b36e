"""The run that a step works for: its names, its tags, its row in the table, and the AWS clients."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import boto3
from botocore.config import Config

from baton_steps.errors import RunEnded

RUN_KIND = "run"
_CONFIG = Config(retries={"mode": "standard", "total_max_attempts": 10}, connect_timeout=10, read_timeout=60)
"""Throttled calls are retried for about a minute: a step that gave up early would fail a run that costs hours."""

_SUFFIXES = {
    "tuning": "tune",
    "training": "train",
    "model": "model",
    "transform": "transform",
    "endpoint": "endpoint",
    "endpoint_config": "config",
}


@dataclass(frozen=True)
class Run:
    """What every step is told about its run; it travels between the steps as a JSON object.

    ``expires_at``: ISO 8601, UTC, the value of the tag. ``kms_key_arn``: what encrypts the jobs' output; empty for the
    account's own key of S3. ``poll_seconds``: between two looks at a job.
    ``pipeline_run_id``: the pipeline run that has claimed the work; empty before that.
    """

    run_id: str
    execution_arn: str
    pipeline: str
    expires_at: str
    region: str
    table: str
    role_arn: str
    training_image: str
    kms_key_arn: str = ""
    poll_seconds: float = 20.0
    pipeline_run_id: str = ""

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Run:
        """Read a run from the JSON object that ``as_dict`` makes."""
        return cls(**values)

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON object that the steps hand to each other."""
        return asdict(self)

    def name(self, kind: str) -> str:
        """Return the SageMaker name of the run's tuning, training, model, transform, endpoint or endpoint_config."""
        return f"{self.run_id}-{_SUFFIXES[kind]}"

    def tags(self) -> list[dict[str, str]]:
        """Return the tags that everything created for the run carries, in SageMaker's form."""
        tags = {
            "baton:run-id": self.run_id,
            "baton:execution-arn": self.execution_arn,
            "baton:pipeline": self.pipeline,
            "baton:expires-at": self.expires_at,
        }
        return [{"Key": key, "Value": value} for key, value in tags.items()]

    def output(self, uri: str) -> dict[str, str]:
        """Return where a job writes, and under which key; without one SageMaker takes S3's default, not the bucket's.

        https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_OutputDataConfig.html
        """
        key = {"KmsKeyId": self.kms_key_arn} if self.kms_key_arn else {}
        return {"S3OutputPath": uri, **key}

    def client(self, service: str) -> Any:
        """Return a client of an AWS service in the run's region."""
        client: Any = boto3.client(service, region_name=self.region, config=_CONFIG)  # type: ignore[call-overload]
        return client

    def key(self) -> dict[str, Any]:
        """Return the key of the run's row, in DynamoDB's form."""
        return {"kind": {"S": RUN_KIND}, "name": {"S": self.run_id}}

    def refuse_if_ended(self) -> None:
        """Raise RunEnded where the run has a tombstone or no row: clean-up would not see what is created now."""
        answer = self.client("dynamodb").get_item(TableName=self.table, Key=self.key(), ConsistentRead=True)
        row = answer.get("Item")
        if row is None:
            raise RunEnded(f"Run {self.run_id} has no row in table {self.table}: nothing is created for it.")
        if "ended_at" in row:
            raise RunEnded(f"Run {self.run_id} was ended: nothing is created for it any more.")
