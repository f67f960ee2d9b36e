"""Whether the group of the functions may reach Kubeflow Pipelines through the Kubernetes API server, which is asked.

Who asks is you, about others: that takes the right to create SubjectAccessReviews, which cluster administrators have.
https://kubernetes.io/docs/reference/access-authn-authz/authorization/#checking-api-access
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from baton.errors import BatonError
from baton.kfp.access import EksAccess
from baton.kfp.answers import read_answer
from baton.kfp.connect import PROXIED_SERVICE, cluster_transport
from baton.kfp.transport import Request, Unanswered, Unreached
from baton_cli.patient import OK, UNKNOWN, WRONG, Finding, Patient

KFP_GROUP = "baton-kfp"
"""The Kubernetes group that deploy/kubernetes/kfp-proxy-access.yaml lets in."""

VERBS = ("get", "create")
"""What the functions do: a GET is get, and a POST is create."""

_REVIEWS = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
_MANIFEST = "deploy/kubernetes/kfp-proxy-access.yaml"


def check_proxy_access(patient: Patient, name: str, cluster: Mapping[str, Any]) -> Iterator[Finding]:
    """The group into which access entries put the functions may use the proxy of the service, and only asking tells."""
    namespace = patient.settings.kfp_namespace
    what = f"the proxy of {PROXIED_SERVICE} in {namespace}"
    apply = apply_command(namespace)
    try:
        denied = [verb for verb in VERBS if not may_use(patient, name, cluster, verb)]
    except (BatonError, Unreached, Unanswered) as error:
        text = f"Nobody could be asked from here whether {KFP_GROUP} may use {what}: {error}"
        yield Finding("cluster access", UNKNOWN, text, apply)
        return
    if denied:
        text = f"{KFP_GROUP} may not {' nor '.join(denied)} {what}, so every function that looks there is refused."
        yield Finding("cluster access", WRONG, text, apply)
    else:
        yield Finding("cluster access", OK, f"{KFP_GROUP} may use {what}")


def apply_command(namespace: str) -> str:
    """Return the command that lets the group in; the manifest as it is has the namespace kubeflow."""
    if namespace == "kubeflow":
        return f"kubectl apply -f {_MANIFEST}"
    return f"sed 's/namespace: kubeflow/namespace: {namespace}/' {_MANIFEST} | kubectl apply -f -"


def may_use(patient: Patient, name: str, cluster: Mapping[str, Any], verb: str) -> bool:
    """Ask the API server of a cluster, as DescribeCluster shows it, whether the group may use the proxy.

    Raises Unreached, Unanswered, and those of ``read_answer``: KfpRefused where you may not ask.
    """
    resource = {
        "namespace": patient.settings.kfp_namespace,
        "verb": verb,
        "group": "",
        "resource": "services",
        "subresource": "proxy",
        "name": PROXIED_SERVICE,
    }
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {"groups": [KFP_GROUP], "resourceAttributes": resource},
    }
    headers = {**EksAccess(patient.client("sts"), name).headers(), "Content-Type": "application/json"}
    answer = cluster_transport(name, cluster).send(Request("POST", _REVIEWS, headers, json.dumps(review).encode()))
    status = (read_answer(answer) or {}).get("status") or {}
    return status.get("allowed") is True
