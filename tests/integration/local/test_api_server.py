"""The Kubernetes API server of the embedded cluster, as the functions' own client meets it."""

from __future__ import annotations

import json
import ssl
import urllib.error
import urllib.request
from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml

from baton.catalogue import Catalogue
from baton.errors import KfpRefused
from baton.kfp.access import EksAccess
from baton.kfp.answers import read_answer
from baton.kfp.connect import PROXIED_SERVICE, cluster_transport, connect
from baton.kfp.transport import Request
from baton.settings import Settings
from baton_cli.patient import Patient
from baton_cli.proxy_access import KFP_GROUP, check_proxy_access
from baton_local.api_server import PROXIED, REVIEWS
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


def allowed(cloud: EmbeddedCloud, groups: list[str], client: Any = None, **attributes: str) -> bool:
    """Ask the API server what a group may; raises KfpRefused where one may not ask."""
    cluster = cloud.client("eks", REGION).describe_cluster(name=NAME)["cluster"]
    headers = EksAccess(client or cloud.client("sts", REGION), NAME).headers()
    review = {"spec": {"groups": groups, "resourceAttributes": {**GRANTED, **attributes}}}
    request = Request("POST", REVIEWS, headers, json.dumps(review).encode())
    answer = read_answer(cluster_transport(NAME, cluster).send(request)) or {}
    return bool(answer["status"]["allowed"])


GRANTED = {
    "namespace": "kubeflow",
    "verb": "get",
    "group": "",
    "resource": "services",
    "subresource": "proxy",
    "name": PROXIED_SERVICE,
}


def test_a_review_says_what_rbac_would(cloud: EmbeddedCloud) -> None:
    manifest = Path(__file__).parents[3] / "deploy" / "kubernetes" / "kfp-proxy-access.yaml"
    role, binding = yaml.safe_load_all(manifest.read_text())
    [rule], [subject] = role["rules"], binding["subjects"]
    for verb in rule["verbs"]:
        assert allowed(cloud, ["system:authenticated", subject["name"]], verb=verb)


@pytest.mark.parametrize(
    "attributes",
    [
        {"verb": "delete"},
        {"verb": ""},
        {"namespace": "other"},
        {"name": "ml-pipeline"},
        {"subresource": ""},
        {"resource": "pods"},
        {"group": "apps"},
    ],
)
def test_a_review_of_anything_else_is_denied(cloud: EmbeddedCloud, attributes: dict[str, str]) -> None:
    assert not allowed(cloud, [KFP_GROUP], **attributes)


def test_a_review_of_another_group_is_denied(cloud: EmbeddedCloud) -> None:
    assert not allowed(cloud, ["system:authenticated"])


def test_only_an_administrator_may_ask_for_a_review(cloud: EmbeddedCloud) -> None:
    iam = cloud.client("iam", REGION)
    iam.create_user(UserName="onlooker")
    key = iam.create_access_key(UserName="onlooker")["AccessKey"]
    session = boto3.Session(key["AccessKeyId"], key["SecretAccessKey"], region_name=REGION)
    with pytest.raises(KfpRefused, match="403"):
        allowed(cloud, [KFP_GROUP], session.client("sts"))


def test_what_is_no_review_is_refused(cloud: EmbeddedCloud) -> None:
    headers = dict(EksAccess(cloud.client("sts", REGION), NAME).headers())
    assert status(cloud, REVIEWS, "POST", **headers) == 400


@pytest.mark.parametrize(("namespace", "state"), [("kubeflow", "ok"), ("other", "wrong")])
def test_doctor_asks_whether_the_group_is_let_in(cloud: EmbeddedCloud, namespace: str, state: str) -> None:
    patient = Patient(lambda service: cloud.client(service, REGION), REGION, "baton", Catalogue({}))
    patient.settings = Settings(**{**SETTINGS, "kfp_cluster": NAME, "kfp_namespace": namespace})  # type: ignore[arg-type]
    cluster = cloud.client("eks", REGION).describe_cluster(name=NAME)["cluster"]
    [finding] = check_proxy_access(patient, NAME, cluster)
    assert finding.state == state


@pytest.mark.parametrize("token", ["", "Bearer k8s-aws-v1.", "Bearer k8s-aws-v1.aHR0cDovL2VsLnNl", "Bearer x"])
def test_nobody_is_let_in_without_a_token(cloud: EmbeddedCloud, token: str) -> None:
    headers = {"Authorization": token} if token else {}
    assert status(cloud, f"{PROXIED}/apis/v2beta1/healthz", **headers) == 401


def test_its_certificate_is_its_own_authoritys(cloud: EmbeddedCloud) -> None:
    cluster = cloud.client("eks", REGION).describe_cluster(name=NAME)["cluster"]
    with pytest.raises(urllib.error.URLError, match="CERTIFICATE_VERIFY_FAILED"):
        urllib.request.urlopen(f"{cluster['endpoint']}/healthz", timeout=10)
