"""CloudFormation refuses at once what would fail late, or silently; and what is given is used everywhere."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from botocore.session import Session
from urllib3.util import parse_url

from baton.kfp.connect import connect
from baton.names import Names, run_id_for
from baton_local.cloudformation import parameters
from baton_local.cloudformation.templates import TemplateError
from tests.support.aws_models import NAMES_OF_SAGEMAKER
from tests.support.resolved_template import resolved, template, violated
from tests.support.starting import settings_of

KEY = "arn:aws:kms:eu-west-1:123456789012"
SECRET = "arn:aws-cn:secretsmanager:cn-north-1:123456789012:secret"
OPERATIONS = (Path(__file__).parents[2] / "docs" / "operations.md").read_text("utf-8")


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        (
            "OidcProvider",
            "oidc.eks.cn-north-1.amazonaws.com.cn/id/0A1B2C",
            "https://oidc.eks.eu-west-1.amazonaws.com/id/0A",
        ),
        ("OidcProvider", "oidc.example.org", "oidc.example.org/id/1/"),
        ("KmsKeyArn", f"{KEY}:key/1234abcd-12ab-34cd-56ef-1234567890ab", f"{KEY}:alias/baton"),
        ("KmsKeyArn", f"{KEY}:key/mrk-1234abcd", "1234abcd-12ab-34cd-56ef-1234567890ab"),
        ("KfpSecretArn", f"{SECRET}:kfp/token-AbCdEf", "kfp/token"),
        ("SettleOutcomeConcurrency", "10", "9"),
        ("SettleOutcomeConcurrency", "0", "-1"),
        ("UploadPrefix", "in/of-mine/", "in"),
        ("UploadPrefix", "in.2/", "/in/"),
        ("UploadPrefix", "runs-of-mine/", "runs/"),
    ],
)
def test_what_would_fail_late_is_refused_at_once(name: str, good: str, bad: str) -> None:
    assert parameters.effective(template(), {name: good})[name] == good
    with pytest.raises(TemplateError, match=f"^Parameter {name} failed to satisfy constraint: It must "):
        parameters.effective(template(), {name: bad})


@pytest.mark.parametrize(
    "url",
    [
        "",
        "http://localhost:8888",
        "https://kfp.example.org",
        "http://internal-kfp_1.eu-west-1.elb.amazonaws.com:80/",
        "https://kfp.example.org:443/some/where~1/",
        "http://10.0.0.1:8888",
        "http://[fd00::1]:8888/pipeline",
        "http://[::ffff:10.0.0.1]",
        *(f"http://kfp.internal:{port}" for port in (1, 9999, 10000, 59999, 60000, 64999, 65499, 65529, 65535)),
    ],
)
def test_an_address_of_kubeflow_pipelines_that_can_be_asked_is_accepted(url: str) -> None:
    assert parameters.effective(template(), {"KfpUrl": url})["KfpUrl"] == url
    if url:
        assert connect(settings_of(kfp_url=url), lambda name: None)
        assert parse_url(url).host


@pytest.mark.parametrize(
    "url",
    [
        "kfp.internal:8888",
        "kfp.internal",
        "//kfp.internal",
        "ftp://kfp.internal",
        "https://",
        "https:///pipeline",
        "http://:8888",
        "http://[::1",
        "http://::1:8888",
        "http://[kfp.internal]",
        "http://kfp internal",
        "http://kfp.internal/ ",
        " http://kfp.internal",
        "http://kfp.internal:port",
        "http://kfp.internal:888888",
        "http://user:word@kfp.internal",
        "http://me@kfp",
        *(f"http://kfp.internal:{port}" for port in (0, 65536, 65540, 65600, 66000, 70000, 99999)),
        "https://kfp.internal/#/runs",
        "https://kfp.internal?namespace=kubeflow",
    ],
)
def test_an_address_that_would_fail_in_the_run_is_refused_at_once(url: str) -> None:
    with pytest.raises(TemplateError, match=r"^Parameter KfpUrl failed to satisfy constraint: It must have "):
        parameters.effective(template(), {"KfpUrl": url})


CLUSTER, ISSUER = {"EksClusterName": "c"}, {"OidcProvider": "oidc.example.org"}
IN_A_VPC = {"VpcSubnetIds": "subnet-1,subnet-2", "VpcSecurityGroupIds": "sg-1"}
FIT_TOGETHER: list[dict[str, str]] = [
    {},
    CLUSTER,
    ISSUER,
    {**CLUSTER, **ISSUER},
    {"KfpMode": "direct", **CLUSTER},
    {"KfpMode": "eks-proxy", **CLUSTER},
    {"KfpMode": "eks-proxy", "KfpUrl": "", **CLUSTER},
    {"PodCredentials": "irsa", **ISSUER},
    {"PodCredentials": "irsa", **CLUSTER, **ISSUER},
    {"PodCredentials": "pod-identity", **CLUSTER},
    {"PodCredentials": "pod-identity", **CLUSTER, **ISSUER},
    {"PodCredentials": "none"},
    {"PodCredentials": "none", **CLUSTER, **ISSUER},
    IN_A_VPC,
    {"RunBucketName": "new"},
    {"ExistingBucketName": "old"},
]
REFUSED_BY: dict[str, list[dict[str, str]]] = {
    "DirectNeedsUrl": [{"KfpUrl": ""}, {"KfpUrl": "", **CLUSTER}],
    "ProxyNeedsCluster": [{"KfpMode": "eks-proxy"}, {"KfpMode": "eks-proxy", **ISSUER}],
    "IrsaNeedsProvider": [{"PodCredentials": "irsa"}, {"PodCredentials": "irsa", **CLUSTER}],
    "PodIdentityNeedsCluster": [{"PodCredentials": "pod-identity"}, {"PodCredentials": "pod-identity", **ISSUER}],
    "SubnetsNeedGroups": [{"VpcSubnetIds": "subnet-1,subnet-2"}],
    "GroupsNeedSubnets": [{"VpcSecurityGroupIds": "sg-1"}],
    "OneBucket": [{"RunBucketName": "new", "ExistingBucketName": "old"}],
}


@pytest.mark.parametrize("region", ["eu-west-1", "cn-northwest-1"])
@pytest.mark.parametrize("given", FIT_TOGETHER, ids=str)
def test_parameters_that_fit_together_are_accepted(given: dict[str, str], region: str) -> None:
    assert violated(given, region) == []


@pytest.mark.parametrize(
    ("rule", "given"), [(rule, given) for rule, refused in REFUSED_BY.items() for given in refused], ids=str
)
def test_parameters_that_do_not_fit_together_are_refused(rule: str, given: dict[str, str]) -> None:
    [complaint] = violated(given)
    assert complaint.startswith(f"Template rule {rule} is not met: ")


def test_each_rule_has_its_row() -> None:
    assert set(template()["Rules"]) == set(REFUSED_BY)


def is_accepted(name: str, value: str) -> bool:
    try:
        parameters.effective(template(), {name: value})
    except TemplateError:
        return False
    return True


def test_the_names_of_a_run_fit_sagemaker_with_every_prefix_that_is_accepted() -> None:
    assert "A prefix has at most seven\ncharacters" in OPERATIONS
    accepted = [prefix for length in range(64) if is_accepted("RunPrefix", prefix := "a" * length + "-")]
    assert [len(prefix) for prefix in accepted] == [2, 3, 4, 5, 6, 7]
    sagemaker = Session().get_service_model("sagemaker")
    for prefix in accepted:
        run_id = run_id_for("arn:aws:states:eu-west-1:123456789012:execution:m:e", 1_700_000_000, prefix)
        for kind, name in Names.of(run_id).as_dict().items():
            assert len(name) <= sagemaker.shape_for(NAMES_OF_SAGEMAKER[kind]).metadata["max"], name


@pytest.mark.parametrize("prefix", ["bt", "Bt-", "1b-", "b_t-", "b-t-", "-", ""])
def test_a_prefix_of_which_no_run_id_can_be_made_is_refused(prefix: str) -> None:
    """A hyphen ends it, so that no stack's prefix begins another's."""
    assert not is_accepted("RunPrefix", prefix)


def test_all_that_names_the_folder_of_uploads_names_the_one_that_was_given() -> None:
    given = {"UploadPrefix": "in/of-mine/"}
    resources = resolved(given)
    assert "uploads/" not in json.dumps(resources)
    [pattern] = resources["UploadRule"]["EventPattern"]["detail"]["object"]["key"]
    assert pattern == {"prefix": "in/of-mine/"}
    statements = resources["StartRunRole"]["Policies"][0]["PolicyDocument"]["Statement"]
    [reading] = [one for one in statements if one["Sid"] == "ReadUploadedInputs"]
    assert reading["Resource"].endswith("/in/of-mine/*/run.json")
    for function in ("StartRunFunction", "PlanRunFunction"):
        assert resources[function]["Environment"]["Variables"]["BATON_UPLOAD_PREFIX"] == "in/of-mine/"


def test_an_address_is_told_of_the_runs_where_one_is_given_whatever_else_is() -> None:
    address = {"NotificationEmail": "someone@example.org"}
    others = {"ExistingBucketName": "old", "KmsKeyArn": f"{KEY}:key/1", **CLUSTER, **ISSUER, **IN_A_VPC}
    for given in ({}, others):
        assert "EmailSubscription" not in resolved(given)
        assert resolved({**given, **address})["EmailSubscription"] == {
            "TopicArn": "id-of-Topic",
            "Protocol": "email",
            "Endpoint": "someone@example.org",
        }


def test_stacks_that_share_a_bucket_reach_only_the_objects_of_their_own_runs() -> None:
    text = json.dumps(resolved({"ExistingBucketName": "shared", "RunPrefix": "xy-"}))
    assert text.count("runs/xy-*") > 10
    assert text.count("runs/") == text.count("runs/xy-*")
