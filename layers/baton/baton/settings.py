"""What a function is told by its environment, typed and read once."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache


@dataclass(frozen=True)
class Settings:
    """The deployment's settings, as template.yaml puts them into every function's environment.

    ``BATON_HEARTBEAT_SECONDS`` gives ``heartbeat_seconds``, and so on; a setting that a function does not need may be
    absent from its environment, and then has the default below.
    """

    partition: str
    region: str
    url_suffix: str
    table: str = ""
    bucket: str = ""
    run_prefix: str = "bt-"
    upload_prefix: str = "uploads/"
    dataset_buckets: tuple[str, ...] = ()
    heartbeat_seconds: int = 900
    sagemaker_role_arn: str = ""
    kms_key_arn: str = ""
    state_machine_arn: str = ""
    clean_up_machine_arn: str = ""
    topic_arn: str = ""
    outcome_queue_url: str = ""
    dead_letter_queue_url: str = ""
    pipeline_image: str = ""
    pipeline_poll_seconds: str = "20"
    kfp_mode: str = "direct"
    kfp_url: str = ""
    kfp_namespace: str = "kubeflow"
    kfp_user: str = ""
    kfp_secret_arn: str = ""
    kfp_cluster: str = ""
    kfp_experiment: str = "baton"
    kfp_service_account: str = ""

    @property
    def kfp_installation(self) -> str:
        """Which Kubeflow Pipelines this is, as a run's row says it: address or cluster, and namespace; no secrets."""
        if self.kfp_mode == "eks-proxy":
            place = f"cluster {self.kfp_cluster}"
        else:
            place = re.sub("(?<=://)[^/]*@", "", self.kfp_url).rstrip("/")
        return f"{place}, namespace {self.kfp_namespace}"

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> Settings:
        """Read the settings from an environment; raise KeyError for one without region, partition or suffix."""
        values: dict[str, object] = {
            "region": environ["AWS_REGION"],
            "partition": environ["BATON_PARTITION"],
            "url_suffix": environ["BATON_URL_SUFFIX"],
        }
        for name, default in cls._defaults().items():
            text = environ.get(f"BATON_{name.upper()}", "")
            if text:
                values[name] = _convert(text, default)
        return cls(**values)  # type: ignore[arg-type]

    @classmethod
    def _defaults(cls) -> dict[str, object]:
        fields = cls.__dataclass_fields__
        return {n: f.default for n, f in fields.items() if n not in ("region", "partition", "url_suffix")}


def _convert(text: str, default: object) -> object:
    if isinstance(default, int):
        return int(text)
    if isinstance(default, tuple):
        # The template is given ARNs (a policy needs them); the code works with the names at their ends.
        return tuple(part.strip().rpartition(":")[2] for part in text.split(",") if part.strip())
    return text


@cache
def settings() -> Settings:
    """Return this process's settings."""
    return Settings.read(os.environ)
