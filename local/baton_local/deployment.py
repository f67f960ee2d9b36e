"""Baton's stack on an embedded cloud: what `baton local run`, the soak test and the e2e tests start from."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from baton_local import clusters
from baton_local.cloud import EmbeddedCloud
from baton_local.deploy import build, deploy
from baton_local.kfp_reader import KfpReader
from baton_local.leftovers import Leftovers

STACK = "baton"
RUN_PREFIX = "bt-"
"""The template's default of RunPrefix, which deployments here leave as it is."""

QUICK: Mapping[str, str] = {
    "HeartbeatSeconds": "60",
    "PodPollSeconds": "0.25",
}
"""Parameters that suit jobs of seconds instead of hours."""


def repository() -> Path:
    """Return the checkout that this package belongs to."""
    return Path(__file__).resolve().parents[2]


class Deployment:
    """One stack in one region of an embedded cloud, with its outputs and clients of its administrator."""

    def __init__(self, cloud: EmbeddedCloud, region: str, outputs: Mapping[str, str]) -> None:
        self.cloud = cloud
        self.region = region
        self.outputs = outputs
        self._clients: dict[str, Any] = {}
        self._making_client = threading.Lock()

    @classmethod
    def make(
        cls,
        cloud: EmbeddedCloud,
        region: str,
        parameters: Mapping[str, str] | None = None,
        tell: Callable[[str], None] = lambda _line: None,
    ) -> Deployment:
        """Build and deploy the checkout's own template."""
        runtime = f"python3.{sys.version_info.minor}"
        tell(f"Building the functions and layers for {runtime} (sam build)")
        built = build(repository(), repository() / ".aws-sam" / "baton-local", runtime)
        tell(f"Deploying template.yaml as stack {STACK} in {region}")
        values = {
            "KfpUrl": cloud.kfp_url,
            "EksClusterName": clusters.NAME,
            "PodCredentials": "pod-identity",
            "Runtime": runtime,
            **QUICK,
            **(parameters or {}),
        }
        return cls(cloud, region, deploy(cloud, STACK, region, values, built))

    def client(self, service: str) -> Any:
        """Return the administrator's client of a service in this region."""
        # boto3's clients may be shared by threads; its session, which makes them, may not.
        with self._making_client:
            if service not in self._clients:
                self._clients[service] = self.cloud.client(service, self.region)
            return self._clients[service]

    @property
    def bucket(self) -> str:
        """The run bucket's name."""
        return self.outputs["RunBucketName"]

    @property
    def upload_prefix(self) -> str:
        """The prefix of the keys of uploads that start runs, such as ``uploads/``."""
        return self.outputs["UploadFolder"].removeprefix(f"s3://{self.bucket}/")

    @property
    def state_machine(self) -> str:
        """The ARN of the state machine training-run."""
        return self.outputs["StateMachineArn"]

    @property
    def clean_up_machine(self) -> str:
        """The ARN of the state machine clean-up-run."""
        return self.outputs["CleanUpMachineArn"]

    @cached_property
    def kfp(self) -> KfpReader:
        """A reader of the Kubeflow Pipelines server."""
        return KfpReader(self.cloud.kfp_url)

    def physical_id(self, logical_id: str) -> str:
        """Return the physical id of a resource of the stack."""
        cloudformation = self.client("cloudformation")
        answer = cloudformation.describe_stack_resource(StackName=STACK, LogicalResourceId=logical_id)
        name: str = answer["StackResourceDetail"]["PhysicalResourceId"]
        return name

    def leftovers(self, kept: frozenset[str] = frozenset(), run_id: str = "") -> list[str]:
        """Name what is left beyond the stack, or of one run; see ``baton_local.leftovers``."""
        return Leftovers(self.client, self.bucket, self.upload_prefix, self.kfp).find(kept, run_id)
