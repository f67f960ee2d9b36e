"""CloudFormation refuses at once what would fail late, or silently; and what is given is used everywhere."""

from __future__ import annotations

import json

import pytest

from baton_local.cloudformation import parameters
from baton_local.cloudformation.templates import TemplateError
from tests.support.resolved_template import resolved, template

KEY = "arn:aws:kms:eu-west-1:123456789012"
SECRET = "arn:aws-cn:secretsmanager:cn-north-1:123456789012:secret"


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


def test_stacks_that_share_a_bucket_reach_only_the_objects_of_their_own_runs() -> None:
    text = json.dumps(resolved({"ExistingBucketName": "shared", "RunPrefix": "xy-"}))
    assert text.count("runs/xy-*") > 10
    assert text.count("runs/") == text.count("runs/xy-*")
