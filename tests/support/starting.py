"""What the tests of starting a run share: settings, a catalogue, an execution, a plan, and a fake S3."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from baton.catalogue import Catalogue
from baton.plan import Execution
from baton.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
BUCKET = "baton-runs-123456789012"
STARTED = 1_772_357_400
MACHINE = "arn:aws:states:eu-west-1:123456789012:stateMachine:baton-training-run"
EXECUTION = Execution("arn:aws:states:eu-west-1:123456789012:execution:baton-training-run:one", STARTED)


def settings_of(**changes: Any) -> Settings:
    values: dict[str, Any] = {
        "partition": "aws",
        "region": "eu-west-1",
        "url_suffix": "amazonaws.com",
        "table": "baton",
        "bucket": BUCKET,
        "dataset_buckets": ("arn:aws:s3:::shared-datasets",),
        "sagemaker_role_arn": "arn:aws:iam::123456789012:role/sagemaker",
        "state_machine_arn": MACHINE,
        "topic_arn": "arn:aws:sns:eu-west-1:123456789012:baton",
        "pipeline_image": "123456789012.dkr.ecr.eu-west-1.amazonaws.com/baton-steps:0.1.0",
        "kfp_service_account": "baton-pipeline",
    }
    return Settings(**{**values, **changes})


def catalogue() -> Catalogue:
    return Catalogue.read(ROOT / "pipelines")


def event(name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((ROOT / "events" / f"s3_{name}.json").read_text())
    return content


def client_error(code: str, status: int, operation: str = "Operation") -> ClientError:
    response: Any = {"Error": {"Code": code, "Message": code}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(response, operation)


class HeadsOf:
    """An S3 client that knows some objects: (bucket, key) to (size, version id)."""

    def __init__(self, objects: dict[tuple[str, str], tuple[int, str | None]]) -> None:
        self.objects = objects
        self.asked: list[dict[str, str]] = []
        self.fails_with: ClientError | None = None

    def head_object(self, **request: str) -> dict[str, Any]:
        self.asked.append(request)
        if self.fails_with:
            raise self.fails_with
        found = self.objects.get((request["Bucket"], request["Key"]))
        if found is None:
            raise client_error("404", 404, "HeadObject")
        size, version = found
        if "VersionId" in request and request["VersionId"] != version:
            raise client_error("404", 404, "HeadObject")
        return {"ContentLength": size, **({"VersionId": version} if version else {})}
