"""The manifests for the cluster fit the Kubernetes schemas, the template's defaults and what the client calls."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from baton.kfp.connect import service_proxy_path
from baton_local.cloudformation.templates import load
from baton_local.iam.pods import AUDIENCE

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "kubernetes"
VERSIONS = ["1.30", "1.33", "1.37"]
"""Among them the oldest release that EKS may still run, and the newest whose schemas there are."""

MANIFESTS = {
    f"{path.name}-{number}": manifest
    for path in sorted(FOLDER.glob("*.yaml"))
    for number, manifest in enumerate(yaml.safe_load_all(path.read_text("utf-8")))
}


def template() -> dict[str, Any]:
    return load((ROOT / "template.yaml").read_text("utf-8"))


def of_kind(file: str, kind: str) -> dict[str, Any]:
    return next(m for name, m in MANIFESTS.items() if name.startswith(f"{file}-") and m["kind"] == kind)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", MANIFESTS)
def test_a_manifest_fits_the_schema(name: str, version: str) -> None:
    kubernetes_validate.validate(MANIFESTS[name], version, strict=True)


@pytest.mark.parametrize("change", [{"rulez": []}, {"rules": [{"resources": ["services/proxy"]}]}, {"rules": "all"}])
def test_the_schemas_find_what_is_wrong(change: dict[str, Any]) -> None:
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate({**of_kind("kfp-proxy-access.yaml", "Role"), **change}, "1.33", strict=True)


def test_every_manifest_is_in_the_namespace_of_the_template() -> None:
    namespace = template()["Parameters"]["KfpNamespace"]["Default"]
    assert {manifest["metadata"]["namespace"] for manifest in MANIFESTS.values()} == {namespace}


def test_the_service_account_is_the_one_that_the_stack_trusts() -> None:
    name = template()["Parameters"]["PipelineServiceAccount"]["Default"]
    plain, irsa = (of_kind(f"service-account{v}.yaml", "ServiceAccount") for v in ("", "-irsa"))
    assert plain["metadata"]["name"] == irsa["metadata"]["name"] == name
    assert irsa["metadata"]["annotations"]["eks.amazonaws.com/role-arn"].startswith("arn:aws-cn:iam::")
    assert "annotations" not in plain["metadata"]
    audience = irsa["metadata"]["annotations"]["eks.amazonaws.com/audience"]
    assert audience == AUDIENCE
    trusted = str(template()["Resources"]["PipelineRole"]["Properties"]["AssumeRolePolicyDocument"])
    assert f'"${{OidcProvider}}:aud": ["{audience}", "sts.${{AWS::URLSuffix}}"]' in trusted
    binding = of_kind("service-account.yaml", "RoleBinding")
    namespace = plain["metadata"]["namespace"]
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": name, "namespace": namespace}]


@pytest.mark.parametrize(
    ("file", "role"), [("service-account.yaml", "pipeline-runner"), ("kfp-proxy-access.yaml", "baton-kfp-proxy")]
)
def test_a_binding_gives_one_role_of_the_namespace(file: str, role: str) -> None:
    api_group = "rbac.authorization.k8s.io"
    assert of_kind(file, "RoleBinding")["roleRef"] == {"apiGroup": api_group, "kind": "Role", "name": role}


def test_nothing_else_in_the_cluster_is_given_rights() -> None:
    kinds = [f"{name.rpartition('-')[0]} {manifest['kind']}" for name, manifest in MANIFESTS.items()]
    giving = [kind for kind in kinds if not kind.endswith(" ServiceAccount")]
    assert giving == [
        "kfp-proxy-access.yaml Role",
        "kfp-proxy-access.yaml RoleBinding",
        "service-account.yaml RoleBinding",
    ]


def test_the_proxy_role_allows_the_clients_path_and_nothing_else() -> None:
    role = of_kind("kfp-proxy-access.yaml", "Role")
    namespace = role["metadata"]["namespace"]
    segment = service_proxy_path(namespace).removeprefix(f"/api/v1/namespaces/{namespace}/services/")
    assert role["rules"] == [
        {
            "apiGroups": [""],
            "resources": ["services/proxy"],
            "resourceNames": [segment.removesuffix("/proxy")],
            "verbs": ["get", "create"],
        }
    ]


def test_the_proxy_role_is_bound_to_a_group_that_access_entries_may_name() -> None:
    binding = of_kind("kfp-proxy-access.yaml", "RoleBinding")
    group = binding["subjects"][0]["name"]
    assert binding["subjects"] == [{"apiGroup": binding["roleRef"]["apiGroup"], "kind": "Group", "name": group}]
    assert binding["roleRef"]["name"] == of_kind("kfp-proxy-access.yaml", "Role")["metadata"]["name"]
    # https://docs.aws.amazon.com/eks/latest/userguide/creating-access-entries.html reserves these beginnings.
    assert not group.startswith(("system:", "eks:", "aws:", "amazon:", "iam:"))
    assert f"--kubernetes-groups {group}" in (FOLDER / "README.md").read_text("utf-8")


def test_the_stack_tells_the_roles_for_the_access_entries() -> None:
    resources, outputs = template()["Resources"], template()["Outputs"]
    listed = {entry["Fn::GetAtt"][0] for entry in outputs["KfpClientRoleArns"]["Value"]["Fn::Join"][1]}
    using_the_proxy = {name for name, r in resources.items() if "EksProxyPolicy" in str(r) and "Role" in r["Type"]}
    assert listed == using_the_proxy


def test_the_stack_never_makes_a_user_an_access_key_or_a_secret() -> None:
    kinds = {resource["Type"] for resource in template()["Resources"].values()}
    assert not kinds & {"AWS::IAM::User", "AWS::IAM::AccessKey", "AWS::IAM::Group", "AWS::SecretsManager::Secret"}
    assert "Secret" not in {manifest["kind"] for manifest in MANIFESTS.values()}
