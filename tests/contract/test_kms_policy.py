"""With a KMS key, the stack's roles use it by way of the services that hold the stack's data, and of no others."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from baton_local.iam.documents import parse
from baton_local.iam.evaluator import Caller, PolicySet, Question, decide
from tests.support.resolved_template import resolved

KEY = "arn:aws:kms:eu-west-1:123456789012:key/1"
PARTITIONS = {"eu-west-1": "aws", "cn-northwest-1": "aws-cn"}


@pytest.mark.parametrize("region", PARTITIONS)
@pytest.mark.parametrize("action", ["kms:Decrypt", "kms:GenerateDataKey"])
@pytest.mark.parametrize(
    ("service", "allowed"),
    [
        ("s3", True),
        ("sqs", True),
        ("sns", True),
        ("dynamodb", True),
        ("secretsmanager", True),
        ("ssm", False),
        ("", False),
    ],
)
def test_a_key_that_others_use_too_decrypts_nothing_of_theirs(
    region: str, action: str, service: str, allowed: bool
) -> None:
    """KMS calls the services the same in China: "Use the .amazonaws.com suffix […] in all AWS partitions".

    https://docs.aws.amazon.com/kms/latest/developerguide/conditions-kms.html#conditions-kms-via-service
    """
    partition = PARTITIONS[region]
    key = f"arn:{partition}:kms:{region}:123456789012:key/1"
    document = resolved({"KmsKeyArn": key}, region)["KmsPolicy"]["PolicyDocument"]
    caller = Caller(arn=f"arn:{partition}:sts::123456789012:assumed-role/r/s", account_id="123456789012")
    keys = {"kms:ViaService": f"{service}.{region}.amazonaws.com"} if service else {}
    policies = PolicySet(identity=(parse("key", json.dumps(document)),))
    assert bool(decide(caller, Question(action, key, keys), policies)) is allowed


def test_only_sagemakers_role_encrypts_by_itself() -> None:
    """SageMaker asks its role for kms:Encrypt before it takes a job; nobody else is given it."""
    resources = resolved({"KmsKeyArn": KEY})
    holders = [name for name, found in resources.items() if "kms:Encrypt" in json.dumps(found)]
    attached = [name for name, found in resources.items() if "OutputKeyPolicy" in json.dumps(found)]
    assert (holders, attached) == (["OutputKeyPolicy"], ["SageMakerRole"])


@pytest.mark.parametrize(("given", "kept"), [(KEY, [True]), ("", [None])])
def test_the_bucket_asks_for_its_key_now_and_then_instead_of_for_each_object(given: str, kept: list[Any]) -> None:
    """https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucket-key.html"""
    rules = resolved({"KmsKeyArn": given})["RunBucket"]["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    assert [rule.get("BucketKeyEnabled") for rule in rules] == kept


def keys_of(value: Any, inside: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the names and values of all properties that name a KMS key."""
    for name, below in value.items() if isinstance(value, dict) else ():
        if re.fullmatch(r"(?i)\w*kms\w*key\w*|SSEKMSKey\w*", name):
            yield f"{inside}{name}", below
        yield from keys_of(below, f"{inside}{name}.")
    for below in value if isinstance(value, list) else ():
        yield from keys_of(below, inside)


@pytest.mark.parametrize("given", [KEY, ""])
def test_everything_is_under_the_key_that_is_given_or_under_none(given: str) -> None:
    """EventBridge and alarms may not use the keys that AWS manages (alias/aws/sqs, alias/aws/sns), and nothing tells.

    https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-key-management.html
    """
    resources = resolved({"KmsKeyArn": given})
    found = {f"{logical_id}.{name}": key for logical_id, own in resources.items() for name, key in keys_of(own)}
    named = {where: key for where, key in found.items() if "Environment" not in where}
    holders = ("OutcomeQueue", "DeadLetterQueue", "Topic", "Table", "RunBucket", "FunctionLogs", "MachineLogs")
    assert {where.partition(".")[0] for where in named} == (set(holders) if given else set())
    assert set(named.values()) == ({given} if given else set())
    assert "alias/aws/" not in json.dumps(resources)
