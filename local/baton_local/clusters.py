"""EKS: the one cluster that is always there, called ``embedded``; others must be made with CreateCluster, as moto does.

It has the add-on of Pod Identity, and a Kubernetes API server (``api_server.py``) that reaches Kubeflow Pipelines.
"""

from __future__ import annotations

import json
from typing import Any

from baton_local.api_server import ApiServer
from baton_local.context import CloudContext
from baton_local.seams import add, register, replace

NAME = "embedded"
AGENT = "eks-pod-identity-agent"
_MODELS, _RESPONSES = "moto.eks.models", "moto.eks.responses"
_moto: dict[str, Any] = {}
_servers: list[ApiServer] = []


def install(context: CloudContext) -> None:
    """Let DescribeCluster know the cluster, and add the operations on add-ons that moto does not have."""
    server = ApiServer(context.account_id, context.kfp_port, context.work_dir)
    server.start()
    _servers.append(server)
    register(_MODELS, "EKSBackend.create_cluster")
    _moto["describe"] = replace(_MODELS, "EKSBackend.describe_cluster", _describe_cluster, ("self", "name"))
    register(_RESPONSES, "EKSResponse.eks_backend", property)
    for operation in (create_addon, describe_addon, delete_addon):
        add(_RESPONSES, f"EKSResponse.{operation.__name__}", operation)
    dispatch = register("moto.eks.urls", "response").dispatch
    paths = {
        "{0}/clusters/(?P<name>[^/]+)/addons$": dispatch,
        "{0}/clusters/(?P<name>[^/]+)/addons/(?P<addonName>[^/]+)$": dispatch,
    }
    replace("moto.eks.urls", "url_paths", {**register("moto.eks.urls", "url_paths", dict), **paths}, dict)


def shutdown() -> None:
    """Stop the API server."""
    while _servers:
        _servers.pop().stop()


def _describe_cluster(self: Any, name: str) -> Any:
    if name == NAME and name not in self.clusters:
        role = f"arn:{self.partition}:iam::{self.account_id}:role/{NAME}-cluster"
        cluster = self.create_cluster(name=name, role_arn=role, resources_vpc_config={})
        cluster.endpoint = _servers[-1].url
        cluster.certificate_authority = {"data": _servers[-1].certificate_authority}
        _addons(cluster).add(AGENT)
    return _moto["describe"](self, name)


def create_addon(self: Any) -> str:
    """Answer CreateAddon; the add-on is there at once."""
    name = json.loads(self.body)["addonName"]
    _addons(_cluster(self)).add(name)
    return _shown(self, name)


def describe_addon(self: Any) -> str:
    """Answer DescribeAddon; raises moto's ResourceNotFoundException."""
    return _shown(self, _named(self))


def delete_addon(self: Any) -> str:
    """Answer DeleteAddon; raises moto's ResourceNotFoundException."""
    shown = _shown(self, _named(self))
    _addons(_cluster(self)).discard(_named(self))
    return shown


def _shown(response: Any, name: str) -> str:
    cluster = _cluster(response)
    if name not in _addons(cluster):
        not_found = register("moto.eks.exceptions", "ResourceNotFoundException")
        raise not_found(message=f"No addon: {name} found in cluster: {cluster.name}")
    return json.dumps({"addon": {"addonName": name, "clusterName": cluster.name, "status": "ACTIVE"}})


def _cluster(response: Any) -> Any:
    return response.eks_backend.describe_cluster(response.path.split("/")[2])


def _named(response: Any) -> str:
    return str(response.path.rpartition("/")[2])


def _addons(cluster: Any) -> set[str]:
    """Return the names of a cluster's add-ons, which can be changed."""
    found: set[str] = vars(cluster).setdefault("baton_addons", set())
    return found
