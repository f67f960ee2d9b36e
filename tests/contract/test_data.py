"""The bucket and the table: what outlives the stack, what is forgotten when, and who may not get at it."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from baton.items import DynamoItems
from baton_local.iam.documents import parse
from baton_local.iam.evaluator import Caller, PolicySet, Question, decide
from tests.support.resolved_template import resolved, template

DOCS = Path(__file__).parents[2] / "docs"
OPERATIONS, SECURITY = ((DOCS / f"{page}.md").read_text("utf-8") for page in ("operations", "security"))
ARCHITECTURE = (DOCS / "architecture.md").read_text("utf-8")


def of_bucket() -> dict[str, Any]:
    return resolved({})["RunBucket"]


@pytest.mark.parametrize("name", ["RunBucket", "Table"])
def test_bucket_and_table_outlive_the_stack_and_what_replaces_them(name: str) -> None:
    """A creation that is rolled back leaves nothing; later on only their owner deletes them."""
    assert "Bucket and table are kept by `DeletionPolicy` and `UpdateReplacePolicy`." in OPERATIONS
    resource = template()["Resources"][name]
    assert (resource["DeletionPolicy"], resource["UpdateReplacePolicy"]) == ("RetainExceptOnCreate", "Retain")


def test_nothing_outlives_the_stack_but_what_is_documented() -> None:
    """Log groups that stayed would be in the way of the next stack of the same name."""
    assert "leaves the bucket and the table" in OPERATIONS
    assert "the versions of the\ntwo layers" in OPERATIONS
    resources = template()["Resources"].values()
    kept = {resource["Type"] for resource in resources if resource.get("DeletionPolicy", "Delete") != "Delete"}
    # The functions' own versions go with the functions, whatever their policy.
    versions = {"AWS::Lambda::LayerVersion", "AWS::Lambda::Version"}
    assert kept == {"AWS::S3::Bucket", "AWS::DynamoDB::Table", *versions}


@pytest.mark.parametrize("days", ["90", "7"])
def test_logs_stay_for_as_long_as_the_parameter_says(days: str) -> None:
    assert "Logs stay for `LogRetentionDays`." in OPERATIONS
    resources = resolved({"LogRetentionDays": days})
    groups = [name for name, found in template()["Resources"].items() if found["Type"] == "AWS::Logs::LogGroup"]
    assert len(groups) == 2
    assert {str(resources[name]["RetentionInDays"]) for name in groups} == {days}


def test_the_table_forgets_an_item_when_the_code_takes_it_as_forgotten() -> None:
    forgets = resolved({})["Table"]["TimeToLiveSpecification"]
    assert forgets["Enabled"] is True
    attribute = forgets["AttributeName"]
    assert f"TTL attribute `{attribute}`" in ARCHITECTURE
    table = SimpleNamespace(get_item=lambda **_: {"Item": {"kind": "run", "name": "bt-1", attribute: 1}})
    assert DynamoItems(table, lambda: 0).get("run", "bt-1") is not None
    assert DynamoItems(table, lambda: 2).get("run", "bt-1") is None


def test_the_table_can_be_had_as_it_was_before() -> None:
    assert "table with point-in-time recovery" in " ".join(OPERATIONS.split())
    assert resolved({})["Table"]["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": True}


def test_an_upload_has_a_version_to_pin_and_tells_of_itself() -> None:
    assert "An upload's version is pinned when the run is planned" in SECURITY
    assert of_bucket()["VersioningConfiguration"] == {"Status": "Enabled"}
    notified = of_bucket()["NotificationConfiguration"]
    assert notified == {"EventBridgeConfiguration": {"EventBridgeEnabled": True}}


def test_old_versions_and_uploads_that_nobody_finished_are_deleted() -> None:
    """Everywhere in the bucket: none of the rules has a filter."""
    rules = of_bucket()["LifecycleConfiguration"]["Rules"]
    assert {rule["Status"] for rule in rules} == {"Enabled"}
    [days] = re.findall(r"old versions \(for (\d+) days\)", OPERATIONS)
    assert [{key: rule[key] for key in rule if key not in ("Id", "Status")} for rule in rules] == [
        {"AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 1}},
        {"NoncurrentVersionExpiration": {"NoncurrentDays": int(days)}},
    ]


def test_the_bucket_is_its_owners_alone_and_not_public() -> None:
    """With any other ownership, access control lists count beside the policies, which alone are tested."""
    assert "blocks public access" in SECURITY
    assert of_bucket()["OwnershipControls"] == {"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]}
    blocks = ("BlockPublicAcls", "BlockPublicPolicy", "IgnorePublicAcls", "RestrictPublicBuckets")
    assert of_bucket()["PublicAccessBlockConfiguration"] == dict.fromkeys(blocks, True)


@pytest.mark.parametrize(
    ("action", "resource"),
    [("s3:ListBucket", ""), ("s3:DeleteBucket", ""), ("s3:GetObject", "/runs/1"), ("s3:PutObject", "/uploads/1")],
)
@pytest.mark.parametrize("encrypted", [True, False])
def test_the_bucket_refuses_everybody_without_tls(action: str, resource: str, encrypted: bool) -> None:
    assert "refuses requests\nwithout TLS" in SECURITY
    bucket = "Arn-of-RunBucket"
    policy = resolved({})["RunBucketPolicy"]
    assert policy["Bucket"] == "id-of-RunBucket"
    allowing = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}
    policies = PolicySet(identity=(parse("all", allowing),), resource=(parse("bucket", policy["PolicyDocument"]),))
    caller = Caller(arn="arn:aws:iam::123456789012:user/admin", account_id="123456789012")
    question = Question(action, bucket + resource, {"aws:SecureTransport": str(encrypted).lower()})
    assert bool(decide(caller, question, policies)) is encrypted
