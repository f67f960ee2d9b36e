"""EKS: the one cluster that is always there, called ``embedded``; others must be made with CreateCluster, as moto does.

It has no Kubernetes API server: Kubeflow Pipelines answers on a port of its own.
"""

from __future__ import annotations

from typing import Any

from baton_local.context import CloudContext
from baton_local.seams import register, replace

NAME = "embedded"
_moto: dict[str, Any] = {}


def install(_context: CloudContext) -> None:
    """Let DescribeCluster know the cluster."""
    module = "moto.eks.models"
    register(module, "EKSBackend.create_cluster")
    _moto["describe"] = replace(module, "EKSBackend.describe_cluster", _describe_cluster, ("self", "name"))


def _describe_cluster(self: Any, name: str) -> Any:
    if name == NAME and name not in self.clusters:
        role = f"arn:{self.partition}:iam::{self.account_id}:role/{NAME}-cluster"
        self.create_cluster(name=name, role_arn=role, resources_vpc_config={})
    return _moto["describe"](self, name)
