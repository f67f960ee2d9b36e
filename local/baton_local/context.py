"""What every service module of the embedded cloud is told when the server installs it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from baton_local.dials import Dials

ACCOUNT_ID = "123456789012"
"""The one account that the embedded cloud has; it is moto's default."""


@dataclass(frozen=True)
class CloudContext:
    """One embedded cloud.

    ``url``: where it answers for every AWS service, ``http://localhost:PORT``.
    ``clock_scale``: how many seconds of a simulated service pass in one real second (1.0: real time).
    ``kfp_port``: where the Kubeflow Pipelines API answers.
    ``work_dir``: a folder that goes when the cloud stops.
    ``cache_dir``: a folder that later clouds use again, for what is found by its content hash.
    ``enforce_iam``: deny what a role's policies do not allow.
    """

    url: str
    port: int
    account_id: str
    dials: Dials
    clock_scale: float
    kfp_port: int
    work_dir: Path
    cache_dir: Path
    enforce_iam: bool = True

    @property
    def kfp_url(self) -> str:
        """Where the Kubeflow Pipelines API answers, without a slash at the end."""
        return f"http://localhost:{self.kfp_port}"
