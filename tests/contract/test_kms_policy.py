"""With a KMS key, the stack's roles use it by way of the services that hold the stack's data, and of no others."""

from __future__ import annotations

import json

import pytest

from baton_local.iam.documents import parse
from baton_local.iam.evaluator import Caller, PolicySet, Question, decide
from tests.support.resolved_template import resolved

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
    resources = resolved({"KmsKeyArn": "arn:aws:kms:eu-west-1:123456789012:key/1"})
    holders = [name for name, found in resources.items() if "kms:Encrypt" in json.dumps(found)]
    attached = [name for name, found in resources.items() if "OutputKeyPolicy" in json.dumps(found)]
    assert (holders, attached) == (["OutputKeyPolicy"], ["SageMakerRole"])
