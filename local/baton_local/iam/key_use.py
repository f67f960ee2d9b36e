"""What a call needs of a KMS key: a service uses the key of encrypted data with the permissions of whoever calls it.

https://docs.aws.amazon.com/AmazonS3/latest/userguide/UsingKMSEncryption.html,
https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-key-management.html,
https://docs.aws.amazon.com/sns/latest/dg/sns-key-management.html,
https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/encryption.usagenotes.html
"""

from __future__ import annotations

from baton_local.iam.calls import Call
from baton_local.iam.names import action_prefix

SENDING = ("kms:GenerateDataKey", "kms:Decrypt")
"""What whoever sends to an encrypted queue or topic needs."""
LOGGING = (*SENDING, "kms:Encrypt", "kms:ReEncryptFrom", "kms:ReEncryptTo", "kms:DescribeKey")
"""What CloudWatch Logs asks for: https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/encrypt-log-data-kms.html"""

_READ, _WRITE = ("kms:Decrypt",), ("kms:GenerateDataKey",)
_USES = {
    ("s3", "GetObject"): _READ,
    ("s3", "HeadObject"): _READ,
    ("s3", "PutObject"): _WRITE,
    ("sns", "Publish"): SENDING,
    ("sqs", "ReceiveMessage"): _READ,
    ("sqs", "SendMessage"): SENDING,
    ("sqs", "SendMessageBatch"): SENDING,
    **{("dynamodb", name): _READ for name in ("GetItem", "PutItem", "UpdateItem", "DeleteItem", "Query", "Scan")},
}


def key_actions(call: Call) -> tuple[str, ...]:
    """Return which actions on the key of what it reads or writes a call needs; none for most calls."""
    return _USES.get((call.service, call.operation), ())


def given_key(call: Call) -> str:
    """Return the key that an object is to be written under, where the call itself names one, else ""."""
    return str(call.headers.get("x-amz-server-side-encryption-aws-kms-key-id", ""))


def via_service(call: Call) -> str:
    """Return the condition key ``kms:ViaService`` of what a call's service asks of KMS.

    It ends the same in every partition, China as well, and is no host's name there.
    https://docs.aws.amazon.com/kms/latest/developerguide/conditions-kms.html#conditions-kms-via-service
    """
    return f"{action_prefix(call.service)}.{call.region}.amazonaws.com"
