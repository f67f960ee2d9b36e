"""Makes the client that a deployment's settings ask for."""

from __future__ import annotations

import base64
import ssl
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any
from urllib.parse import urlsplit

import urllib3

from baton.clients import client
from baton.errors import KfpMisconfigured, KfpUnavailable
from baton.kfp.access import Access, EksAccess, NoAccess, SecretAccess
from baton.kfp.client import API, KfpClient
from baton.kfp.transport import Transport
from baton.settings import Settings

PROXIED_SERVICE = "ml-pipeline:http"
"""The KFP API's service and its port's name, as the path of the proxy and RBAC call it."""


NO_URL = "The URL must begin with http:// or https:// and name a host"
UNREADABLE_AUTHORITY = "Nobody can read the certificate authority of the cluster"


class NoApiServer(Exception):
    """A cluster that is being made, or that could not be, shows no endpoint.

    https://docs.aws.amazon.com/eks/latest/APIReference/API_Cluster.html
    """


@cache
def kfp_client(config: Settings) -> KfpClient:
    """Return the sandbox's client of the Kubeflow Pipelines API that the settings name."""
    return connect(config, client)


def connect(config: Settings, clients: Callable[[str], Any]) -> KfpClient:
    """Return a client for the settings' mode, ``direct`` or ``eks-proxy``; ``clients`` gives boto3 clients by name."""
    if config.kfp_mode == "eks-proxy":
        return _through_eks(config, clients)
    if config.kfp_mode == "direct":
        return _direct(config, clients)
    raise KfpMisconfigured(f"The mode must be direct or eks-proxy, not {config.kfp_mode!r}.")


def _direct(config: Settings, clients: Callable[[str], Any]) -> KfpClient:
    url = config.kfp_url.rstrip("/")
    if not _names_a_host(url):
        raise KfpMisconfigured(f"{NO_URL}, not be {config.kfp_url!r}.")
    access: Access = NoAccess()
    if config.kfp_secret_arn:
        access = SecretAccess(clients("secretsmanager"), config.kfp_secret_arn)
    return KfpClient(
        Transport(url),
        access,
        namespace=config.kfp_namespace,
        user=config.kfp_user,
        run_page=lambda run_id: f"{url}/#/runs/details/{run_id}",
    )


def _names_a_host(url: str) -> bool:
    try:
        parts = urlsplit(url)
        # Only whoever asks for the port learns that it is none.
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _through_eks(config: Settings, clients: Callable[[str], Any]) -> KfpClient:
    cluster = clients("eks").describe_cluster(name=config.kfp_cluster)["cluster"]
    path = service_proxy_path(config.kfp_namespace)
    transport = cluster_transport(config.kfp_cluster, cluster, path)
    base = cluster["endpoint"].rstrip("/") + path
    return KfpClient(
        transport,
        EksAccess(clients("sts"), config.kfp_cluster),
        namespace=config.kfp_namespace,
        user=config.kfp_user,
        # No browser gets through the proxy; with a URL of the user interface there is a page all the same.
        run_page=lambda run_id: (
            f"{config.kfp_url.rstrip('/')}/#/runs/details/{run_id}" if config.kfp_url else f"{base}{API}/runs/{run_id}"
        ),
    )


def service_proxy_path(namespace: str) -> str:
    """Return the path under which the Kubernetes API server forwards to the KFP API's service."""
    return f"/api/v1/namespaces/{namespace}/services/{PROXIED_SERVICE}/proxy"


def cluster_transport(name: str, cluster: Mapping[str, Any], path: str = "") -> Transport:
    """Return a transport to a cluster's API server, below a path, that trusts the cluster's own authority only.

    ``cluster``: as DescribeCluster shows it. Raises KfpUnavailable, caused by NoApiServer, where it has none yet or
    none any more, and KfpMisconfigured where its authority cannot be read.
    """
    authority = (cluster.get("certificateAuthority") or {}).get("data")
    if not cluster.get("endpoint") or not authority:
        raise KfpUnavailable(f"The cluster {name} is {cluster.get('status')}: it has no API server.") from NoApiServer()
    context = _context(name, authority)
    return Transport(cluster["endpoint"].rstrip("/") + path, urllib3.PoolManager(ssl_context=context))


def _context(cluster: str, authority: str) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cadata=base64.b64decode(authority, validate=True).decode("ascii"))
    except (ValueError, ssl.SSLError) as error:
        why = "certificateAuthority.data of DescribeCluster is not PEM in base64"
        raise KfpMisconfigured(f"{UNREADABLE_AUTHORITY} {cluster}: {why}.") from error
