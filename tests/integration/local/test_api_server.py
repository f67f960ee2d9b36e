"""The Kubernetes API server of the embedded cluster, as the functions' own client meets it."""

from __future__ import annotations

import ssl
import urllib.error
import urllib.request
from base64 import b64decode
from collections.abc import Iterator
from typing import Any

import pytest

from baton.errors import KfpRefused
from baton.kfp.access import EksAccess
from baton.kfp.connect import connect
from baton.settings import Settings
from baton_local.api_server import PROXIED
from baton_local.cloud import EmbeddedCloud
from baton_local.clusters import NAME

REGION = "eu-west-1"
SETTINGS = {"region": REGION, "partition": "aws", "url_suffix": "amazonaws.com", "kfp_mode": "eks-proxy"}


@pytest.fixture(scope="module")
def cloud() -> Iterator[EmbeddedCloud]:
    with EmbeddedCloud(services=["iam", "clusters", "kfp"]) as cloud:
        yield cloud


def reaching(cloud: EmbeddedCloud, **other: str) -> Any:
    settings = Settings(**{**SETTINGS, "kfp_cluster": NAME, **other})  # type: ignore[arg-type]
    return connect(settings, lambda service: cloud.client(service, REGION))


def status(cloud: EmbeddedCloud, path: str, method: str = "GET", **headers: str) -> int:
    cluster = cloud.client("eks", REGION).describe_cluster(name=NAME)["cluster"]
    trusted = ssl.create_default_context(cadata=b64decode(cluster["certificateAuthority"]["data"]).decode())
    request = urllib.request.Request(f"{cluster['endpoint']}{path}", headers=headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=10, context=trusted) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_the_client_reaches_kubeflow_pipelines_through_it(cloud: EmbeddedCloud) -> None:
    assert reaching(cloud).get_run("no-such-run") is None


def test_another_namespace_is_forbidden(cloud: EmbeddedCloud) -> None:
    with pytest.raises(KfpRefused):
        reaching(cloud, kfp_namespace="other").get_run("no-such-run")


def test_only_what_rbac_allows_is_forwarded(cloud: EmbeddedCloud) -> None:
    headers = dict(EksAccess(cloud.client("sts", REGION), NAME).headers())
    assert status(cloud, f"{PROXIED}/apis/v2beta1/healthz", **headers) == 200
    assert status(cloud, f"{PROXIED}/apis/v2beta1/runs/r", "DELETE", **headers) == 403
    assert status(cloud, "/api/v1/namespaces/kubeflow/secrets", **headers) == 403


@pytest.mark.parametrize("token", ["", "Bearer k8s-aws-v1.", "Bearer k8s-aws-v1.aHR0cDovL2VsLnNl", "Bearer x"])
def test_nobody_is_let_in_without_a_token(cloud: EmbeddedCloud, token: str) -> None:
    headers = {"Authorization": token} if token else {}
    assert status(cloud, f"{PROXIED}/apis/v2beta1/healthz", **headers) == 401


def test_its_certificate_is_its_own_authoritys(cloud: EmbeddedCloud) -> None:
    cluster = cloud.client("eks", REGION).describe_cluster(name=NAME)["cluster"]
    with pytest.raises(urllib.error.URLError, match="CERTIFICATE_VERIFY_FAILED"):
        urllib.request.urlopen(f"{cluster['endpoint']}/healthz", timeout=10)
