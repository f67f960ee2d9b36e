"""What ``baton doctor`` asks beyond the services of a run: quotas, and the cluster."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from botocore.exceptions import ClientError

from tests.integration.local.embedded import Cloud, running

TRAINING = "ml.m5.xlarge for training job usage"


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    with running(tmp_path_factory.mktemp("cloud"), "bus", "sagemaker", "quotas", "clusters") as started:
        yield started


APPLIED, DEFAULT = "list_service_quotas", "list_aws_default_service_quotas"


def quotas(cloud: Cloud, operation: str = DEFAULT) -> dict[str, dict[str, object]]:
    pages = cloud.client("service-quotas").get_paginator(operation)
    found = [quota for page in pages.paginate(ServiceCode="sagemaker") for quota in page["Quotas"]]
    assert len({quota["QuotaCode"] for quota in found}) == len(found)
    return {quota["QuotaName"]: quota for quota in found}


def test_every_page_of_the_quotas_comes(cloud: Cloud) -> None:
    found = quotas(cloud)
    assert len(found) > 200
    for use in ("training job usage", "transform job usage", "endpoint usage"):
        assert found[f"ml.m5.large for {use}"]["Value"] == 20


def test_a_granted_increase_is_what_sagemaker_then_enforces(cloud: Cloud) -> None:
    client = cloud.client("service-quotas")
    code = quotas(cloud)[TRAINING]["QuotaCode"]
    asked = {"ServiceCode": "sagemaker", "QuotaCode": code}
    request = client.request_service_quota_increase(**asked, DesiredValue=33.0)["RequestedQuota"]
    assert (request["QuotaName"], request["DesiredValue"]) == (TRAINING, 33.0)
    assert client.get_service_quota(**asked)["Quota"]["Value"] == 33.0
    assert cloud.get("/_baton/sagemaker/faults")["limits"] == {"training": 33}
    applied = quotas(cloud, APPLIED)
    assert applied[TRAINING]["Value"] == 33.0
    assert "ml.m5.xlarge for endpoint usage" not in applied
    assert quotas(cloud)[TRAINING]["Value"] == 20


def test_a_quota_that_does_not_exist_is_refused(cloud: Cloud) -> None:
    with pytest.raises(ClientError) as refusal:
        cloud.client("service-quotas").get_service_quota(ServiceCode="sagemaker", QuotaCode="L-NONE")
    assert refusal.value.response["Error"]["Code"] == "NoSuchResourceException"
    for operation in (APPLIED, DEFAULT):
        assert getattr(cloud.client("service-quotas"), operation)(ServiceCode="glue")["Quotas"] == []


@pytest.mark.parametrize(("region", "partition"), [("eu-west-1", "aws"), ("cn-northwest-1", "aws-cn")])
def test_the_embedded_cluster_is_active(cloud: Cloud, region: str, partition: str) -> None:
    cluster = cloud.client("eks", region).describe_cluster(name="embedded")["cluster"]
    assert cluster["status"] == "ACTIVE"
    assert cluster["arn"] == f"arn:{partition}:eks:{region}:{cloud.account_id}:cluster/embedded"


def test_another_cluster_is_not_found(cloud: Cloud) -> None:
    with pytest.raises(ClientError) as refusal:
        cloud.client("eks").describe_cluster(name="other")
    assert refusal.value.response["Error"]["Code"] == "ResourceNotFoundException"


def test_add_ons_come_and_go(cloud: Cloud) -> None:
    eks, agent = cloud.client("eks"), {"clusterName": "embedded", "addonName": "eks-pod-identity-agent"}
    assert eks.describe_addon(**agent)["addon"]["status"] == "ACTIVE"
    eks.delete_addon(**agent)
    for call in (eks.describe_addon, eks.delete_addon):
        with pytest.raises(ClientError) as refusal:
            call(**agent)
        assert refusal.value.response["Error"]["Code"] == "ResourceNotFoundException"
    eks.create_addon(**agent)
    assert eks.describe_addon(**agent)["addon"]["addonName"] == agent["addonName"]
