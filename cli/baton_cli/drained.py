"""The parameters that runs under way depend on: they change on a drained stack only (docs/operations.md, Upgrade).

Roles, policies, rules and encryption have no versions, so a deployment changes them under every run.
"""

from __future__ import annotations

from baton_cli.account import COMMANDS, Account

ON_A_DRAINED_STACK = frozenset(
    {
        *("KfpMode", "KfpNamespace", "KfpSecretArn", "KfpUser"),
        *("EksClusterName", "OidcProvider", "PipelineServiceAccount", "PodCredentials"),
        *("DatasetBucketArns", "ExistingBucketName", "RunBucketName", "RunPrefix", "UploadPrefix"),
        *("KmsKeyArn", "VpcSubnetIds"),
    }
)

SURE_SECONDS = 200
"""Longer than start_run's events wait, which Lambda tries again after one and after two more minutes, and than SQS's
counts may be behind.

https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-error-handling.html and
https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_GetQueueAttributes.html
"""


def must_wait(overrides: tuple[str, ...]) -> list[str]:
    """Return those of some ``Name=value`` whose parameters change on a drained stack only, by name."""
    names = [override.partition("=")[0] for override in overrides]
    return [name for name in names if name in ON_A_DRAINED_STACK]


def between_runs(account: Account, command: str) -> str:
    """Return the command that drains the stack, then does another, and then lets uploads start runs again."""
    return f"{drain_command(account)} && {command} && {enable_uploads(account)}"


def drain_command(account: Account) -> str:
    """Return the command that drains a stack that stays."""
    return f"{COMMANDS}baton drain --stack-stays --calm {SURE_SECONDS} {account.this_stack}"


def enable_uploads(account: Account) -> str:
    """Return the command that enables the rule by which uploads start runs."""
    return f"aws events enable-rule --name {upload_rule(account)} {account.here}"


def upload_rule(account: Account) -> str:
    """Return the name of the rule by which uploads start runs."""
    return account.resources["UploadRule"].rpartition("/")[2]
