"""Log groups under a KMS key: CloudWatch Logs takes no key that its service principal may not use.

https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/encrypt-log-data-kms.html; the words of the refusal are those
that others met: https://github.com/hashicorp/terraform-provider-aws/issues/29282
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from baton_local.iam.evaluator import Decision
from baton_local.regions import url_suffix
from baton_local.seams import register, replace

MayUse = Callable[[str, str, str], Decision]
"""(service principal, KMS key, log group's ARN) -> whether CloudWatch Logs may use the key for the group."""


def install(may_use: MayUse) -> None:
    """Refuse CreateLogGroup with such a key."""
    refused = register("moto.logs.exceptions", "LogsClientError")

    def create_log_group(backend: Any, log_group_name: str, tags: dict[str, str], **kwargs: Any) -> Any:
        key, region = kwargs.get("kmsKeyId"), backend.region_name
        arn = f"arn:{backend.partition}:logs:{region}:{backend.account_id}:log-group:{log_group_name}"
        if key and not may_use(f"logs.{region}.{url_suffix(region)}", key, arn):
            message = f"The specified KMS key does not exist or is not allowed to be used with Arn '{arn}'"
            raise refused("AccessDeniedException", message)
        return original(backend, log_group_name, tags, **kwargs)

    expects = ("self", "log_group_name", "tags", "kwargs")
    original = replace("moto.logs.models", "LogsBackend.create_log_group", create_log_group, expects)
