"""Every name that a run gives to something, derived from its execution so that a retry gives the same ones."""

from __future__ import annotations

import hashlib
import re
from dataclasses import asdict, dataclass

RUN_ID_MAX = 20
_ALPHABET = "0123456789abcdefghijklmnopqrstuvwxyz"
_SUFFIXES = {
    "tuning": "tune",
    "training": "train",
    "model": "model",
    "transform": "transform",
    "endpoint": "endpoint",
    "endpoint_config": "config",
}

TAG_RUN_ID = "baton:run-id"
TAG_EXECUTION_ARN = "baton:execution-arn"
TAG_PIPELINE = "baton:pipeline"
TAG_EXPIRES_AT = "baton:expires-at"


def _base36(number: int, width: int) -> str:
    digits = ""
    for _ in range(width):
        number, rest = divmod(number, 36)
        digits = _ALPHABET[rest] + digits
    return digits


def run_id_for(execution_arn: str, started_epoch: int, prefix: str = "bt-") -> str:
    """Return the run id of an execution: prefix, start second (7 digits, base 36), 6 digits of the ARN's hash.

    The start time makes ids sort by age; the hash tells apart what starts in the same second.
    """
    digest = int.from_bytes(hashlib.sha256(execution_arn.encode()).digest()[:8], "big")
    run_id = f"{prefix}{_base36(started_epoch, 7)}{_base36(digest, 6)}"
    if len(run_id) > RUN_ID_MAX or not re.fullmatch(r"[a-z][a-z0-9-]*", run_id):
        raise ValueError(f"run id {run_id!r} must match [a-z][a-z0-9-]* with at most {RUN_ID_MAX} characters")
    return run_id


@dataclass(frozen=True)
class Names:
    """The SageMaker names of one run."""

    tuning: str
    training: str
    model: str
    transform: str
    endpoint: str
    endpoint_config: str

    @classmethod
    def of(cls, run_id: str) -> Names:
        """Derive the names of a run from its id."""
        return cls(**{kind: f"{run_id}-{suffix}" for kind, suffix in _SUFFIXES.items()})

    def as_dict(self) -> dict[str, str]:
        """Return the names by kind, as they stand in a plan."""
        return asdict(self)


def parse_name(name: str, prefix: str = "bt-") -> tuple[str, str] | None:
    """Return (kind, run id) for a name that a run derives, or None for any other.

    A tuning job's own training jobs are called ``<run id>-tune-001-…``: they share the prefix and match no suffix.
    """
    run_id, _, suffix = name.rpartition("-")
    kinds = [kind for kind, known in _SUFFIXES.items() if known == suffix]
    return (kinds[0], run_id) if kinds and is_run_id(run_id, prefix) else None


def is_run_id(text: str, prefix: str = "bt-") -> bool:
    """Whether a text has the form of a run id."""
    return re.fullmatch(re.escape(prefix) + r"[a-z0-9]{13}", text) is not None


def tags_of(run_id: str, execution_arn: str, pipeline: str, expires_at: str) -> dict[str, str]:
    """Return the tags that everything created for a run carries."""
    return {
        TAG_RUN_ID: run_id,
        TAG_EXECUTION_ARN: execution_arn,
        TAG_PIPELINE: pipeline,
        TAG_EXPIRES_AT: expires_at,
    }


@dataclass(frozen=True)
class Layout:
    """Where a run keeps its objects, all under ``s3://<bucket>/runs/<run id>/``."""

    bucket: str
    run_id: str

    @property
    def prefix(self) -> str:
        """The key prefix of everything that the run writes, with its closing slash."""
        return f"runs/{self.run_id}/"

    def key(self, path: str) -> str:
        """Return the object key of a path inside the run."""
        return self.prefix + path

    def uri(self, path: str = "") -> str:
        """Return the S3 URI of a path inside the run."""
        return f"s3://{self.bucket}/{self.prefix}{path}"

    def uris(self) -> dict[str, str]:
        """Return the URIs that the plan names."""
        return {
            "train": self.uri("data/train_data"),
            "test": self.uri("data/test_data"),
            "valid": self.uri("input/valid_data.csv"),
            "labels": self.uri("data/valid_labels.json"),
            "manifest": self.uri("data/manifest.json"),
            "transform_input": self.uri("input/"),
            "tuning_output": self.uri("tuning/"),
            "model_output": self.uri("model/"),
            "predictions": self.uri("predictions/"),
            "smoke_test": self.uri("predictions/smoke_test.json"),
            "report": self.uri("report/report.html"),
            "report_json": self.uri("report/report.json"),
        }


KEPT_FOLDERS = ("report/", "model/", "predictions/")
"""The folders of a run that clean-up leaves: what the run was for."""


def split_s3_uri(uri: str) -> tuple[str, str]:
    """Split ``s3://bucket/key`` into bucket and key; raise ValueError for anything else."""
    match = re.fullmatch(r"s3://([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])/(.+)", uri, re.DOTALL)
    if not match:
        raise ValueError(f"{uri!r} is not of the form s3://bucket/key")
    return match[1], match[2]
