"""Whom the role of the pipeline's pods trusts, by parameter and partition, and what it must not be able to do."""

from __future__ import annotations

import json
from typing import Any

import pytest

from baton_local.iam.documents import parse
from baton_local.iam.evaluator import Caller, PolicySet, Question, decide
from baton_local.iam.pods import AUDIENCE
from tests.support.resolved_template import resolved

EUROPE, CHINA = "eu-west-1", "cn-northwest-1"
PODS = {"Service": "pods.eks.amazonaws.com"}
ISSUER = "oidc.example.org/id/1"


def trust(region: str, **given: str) -> dict[str, Any]:
    document = resolved(given, region)["PipelineRole"]["AssumeRolePolicyDocument"]
    found: dict[str, Any] = json.loads(document) if isinstance(document, str) else document
    return found


@pytest.mark.parametrize(
    ("region", "given", "principal"),
    [
        (EUROPE, {"PodCredentials": "auto", "EksClusterName": "c"}, PODS),
        (EUROPE, {"PodCredentials": "auto"}, PODS),
        (EUROPE, {"PodCredentials": "none"}, PODS),
        (CHINA, {"PodCredentials": "none"}, {"AWS": "arn:aws-cn:iam::123456789012:root"}),
        (CHINA, {"PodCredentials": "none", "OidcProvider": ISSUER}, {"AWS": "arn:aws-cn:iam::123456789012:root"}),
        (CHINA, {"PodCredentials": "auto"}, {"AWS": "arn:aws-cn:iam::123456789012:root"}),
        (CHINA, {"PodCredentials": "auto", "EksClusterName": "c"}, {"AWS": "arn:aws-cn:iam::123456789012:root"}),
        (
            CHINA,
            {"PodCredentials": "auto", "OidcProvider": ISSUER},
            {"Federated": f"arn:aws-cn:iam::123456789012:oidc-provider/{ISSUER}"},
        ),
    ],
)
def test_pod_identity_is_trusted_only_where_it_is_offered(
    region: str, given: dict[str, str], principal: dict[str, str]
) -> None:
    [statement] = trust(region, **given)["Statement"]
    assert statement["Principal"] == principal


def association(region: str, **given: str) -> dict[str, Any] | None:
    return resolved(given, region).get("PodIdentity")


def federated(region: str) -> dict[str, str]:
    partition = {EUROPE: "aws", CHINA: "aws-cn"}[region]
    return {"Federated": f"arn:{partition}:iam::123456789012:oidc-provider/{ISSUER}"}


BOTH = {"EksClusterName": "c", "OidcProvider": ISSUER}


@pytest.mark.parametrize(
    ("region", "given", "by_association"),
    [
        (EUROPE, {}, True),
        (CHINA, {}, False),
        (EUROPE, {"PodCredentials": "irsa"}, False),
        (CHINA, {"PodCredentials": "irsa"}, False),
        (EUROPE, {"PodCredentials": "pod-identity"}, True),
        (EUROPE, {"EksClusterName": ""}, False),
        (EUROPE, {"OidcProvider": ""}, True),
    ],
)
def test_pods_get_the_role_in_one_way_where_both_can_be_had(
    region: str, given: dict[str, str], by_association: bool
) -> None:
    """With an association EKS asks for the role as Pod Identity, which a role that trusts IRSA alone refuses."""
    given = BOTH | given
    [statement] = trust(region, **given)["Statement"]
    assert (association(region, **given) is not None) is by_association
    assert statement["Principal"] == (PODS if by_association else federated(region))


@pytest.mark.parametrize(
    ("region", "given"),
    [(EUROPE, {"PodCredentials": "none"}), (CHINA, {"PodCredentials": "none"}), (EUROPE, {"EksClusterName": ""})],
)
def test_the_stack_associates_nothing_where_it_is_not_to_or_knows_no_cluster(
    region: str, given: dict[str, str]
) -> None:
    assert association(region, **BOTH | given) is None


@pytest.mark.parametrize("region", [EUROPE, CHINA])
@pytest.mark.parametrize(
    ("given", "namespace", "account"),
    [({}, "kubeflow", "baton-pipeline"), ({"KfpNamespace": "team", "PipelineServiceAccount": "own"}, "team", "own")],
)
def test_the_role_is_for_the_service_account_under_which_the_pods_run(
    region: str, given: dict[str, str], namespace: str, account: str
) -> None:
    """In the way that is the partition's default where both can be had."""
    resources = resolved(BOTH | given, region)
    launches = resources["LaunchPipelineFunction"]["Environment"]["Variables"]
    assert (launches["BATON_KFP_NAMESPACE"], launches["BATON_KFP_SERVICE_ACCOUNT"]) == (namespace, account)
    if region == EUROPE:
        assert resources["PodIdentity"] == {
            "ClusterName": "c",
            "Namespace": namespace,
            "ServiceAccount": account,
            "RoleArn": "Arn-of-PipelineRole",
        }
    else:
        [statement] = trust(region, **BOTH | given)["Statement"]
        subject = statement["Condition"]["StringEquals"][f"{ISSUER}:sub"]
        assert subject == f"system:serviceaccount:{namespace}:{account}"


CLUSTER = "arn:aws:eks:eu-west-1:123456789012:cluster/c"


@pytest.mark.parametrize("action", ["sts:AssumeRole", "sts:TagSession"])
@pytest.mark.parametrize(
    ("given", "tags", "accepted"),
    [
        ({}, {}, True),
        ({}, {"kubernetes-namespace": "default"}, False),
        ({}, {"kubernetes-namespace": ""}, False),
        ({}, {"kubernetes-service-account": "other"}, False),
        ({}, {"eks-cluster-arn": CLUSTER.replace("/c", "/other")}, False),
        ({"KfpNamespace": "team"}, {}, False),
        ({"KfpNamespace": "team"}, {"kubernetes-namespace": "team"}, True),
        ({"PipelineServiceAccount": "other"}, {"kubernetes-service-account": "other"}, True),
        ({"EksClusterName": ""}, {"eks-cluster-arn": CLUSTER.replace("/c", "/other")}, True),
        ({"EksClusterName": ""}, {"kubernetes-namespace": "default"}, False),
    ],
)
def test_pod_identity_gives_the_role_to_one_service_account(
    action: str, given: dict[str, str], tags: dict[str, str], accepted: bool
) -> None:
    """Without a cluster's name the association is the user's own, for the same service account."""
    document = trust(EUROPE, **{"EksClusterName": "c", **given})
    own = {"eks-cluster-arn": CLUSTER, "kubernetes-namespace": "kubeflow"}
    own |= {"kubernetes-service-account": "baton-pipeline", **tags}
    keys = {f"aws:RequestTag/{name}": value for name, value in own.items() if value}
    question = Question(action, "arn:aws:iam::123456789012:role/r", {"aws:SourceAccount": "123456789012", **keys})
    caller = Caller(arn=PODS["Service"], account_id="123456789012", service=PODS["Service"])
    assert bool(decide(caller, question, PolicySet(resource=(parse("trust", json.dumps(document)),)))) is accepted


@pytest.mark.parametrize("region", [EUROPE, CHINA])
@pytest.mark.parametrize(
    ("audience", "account", "accepted"),
    [
        (AUDIENCE, "baton-pipeline", True),
        ("own", "baton-pipeline", True),
        (AUDIENCE, "other", False),
        ("sts.example.org", "baton-pipeline", False),
    ],
)
def test_irsa_accepts_ekss_audience_and_the_partitions_own(
    region: str, audience: str, account: str, accepted: bool
) -> None:
    suffix = {EUROPE: "amazonaws.com", CHINA: "amazonaws.com.cn"}[region]
    document = trust(region, PodCredentials="irsa", OidcProvider=ISSUER)
    provider = document["Statement"][0]["Principal"]["Federated"]
    keys = {
        f"{ISSUER}:sub": f"system:serviceaccount:kubeflow:{account}",
        f"{ISSUER}:aud": f"sts.{suffix}" if audience == "own" else audience,
    }
    role = "arn:aws:iam::123456789012:role/r"
    question = Question("sts:AssumeRoleWithWebIdentity", role, keys)
    caller = Caller(arn=provider, account_id="123456789012", federated=provider)
    decision = decide(caller, question, PolicySet(resource=(parse("trust", json.dumps(document)),)))
    assert bool(decision) is accepted


def may(action: str, resource: str, **keys: str | list[str]) -> bool:
    """Return whether the pods' own policy allows an action in a request with these condition keys."""
    [policy] = resolved({})["PipelineRole"]["Policies"]
    caller = Caller(arn="arn:aws:sts::123456789012:assumed-role/r/s", account_id="123456789012")
    question = Question(action, resource, keys)
    return bool(decide(caller, question, PolicySet(identity=(parse("own", json.dumps(policy["PolicyDocument"])),))))


@pytest.mark.parametrize(
    ("keys", "allowed"),
    [
        ({"sagemaker:TaggingAction": "CreateModel"}, True),
        ({"sagemaker:TaggingAction": "CreateNotebookInstance"}, False),
        ({}, False),
    ],
)
def test_pods_give_tags_only_to_what_they_make(keys: dict[str, str], allowed: bool) -> None:
    """With a tag of a run on somebody else's model, clean-up might delete it."""
    model = "arn:aws:sagemaker:eu-west-1:123456789012:model/bt-of-somebody"
    assert may("sagemaker:AddTags", model, **{"aws:RequestTag/baton:run-id": "bt-1", **keys}) is allowed


@pytest.mark.parametrize(
    ("sources", "allowed"),
    [(["baton.pipeline"], True), (["baton.pipeline", "own.source"], False), (["own.source"], False), (None, False)],
)
def test_pods_put_events_of_the_pipeline_and_no_others(sources: list[str] | None, allowed: bool) -> None:
    bus = "arn:aws:events:eu-west-1:123456789012:event-bus/default"
    assert may("events:PutEvents", bus, **({"events:source": sources} if sources else {})) is allowed


@pytest.mark.parametrize(("keys", "allowed"), [({}, True), ({"lambda:SourceFunctionArn": "arn:aws:lambda:f"}, False)])
def test_network_interfaces_are_for_lambda_and_not_for_the_functions_code(keys: dict[str, str], allowed: bool) -> None:
    given = {"VpcSubnetIds": "subnet-1", "VpcSecurityGroupIds": "sg-1"}
    document = json.dumps(resolved(given)["NetworkPolicy"]["PolicyDocument"])
    caller = Caller(arn="arn:aws:sts::123456789012:assumed-role/r/s", account_id="123456789012")
    question = Question("ec2:CreateNetworkInterface", "arn:aws:ec2:eu-west-1:123456789012:network-interface/*", keys)
    assert bool(decide(caller, question, PolicySet(identity=(parse("network", document),)))) is allowed
