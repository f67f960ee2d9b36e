"""Puts the engine behind moto's endpoint, and gives it what it needs of moto."""

from __future__ import annotations

import json
from functools import cache

from baton_local.cloudformation import api, gaps
from baton_local.cloudformation.service import CloudFormation
from baton_local.context import CloudContext
from baton_local.seams import register

_managed_text = register("moto.iam.aws_managed_policies", "aws_managed_policies_data", str)


@cache
def _managed_policies(partition: str) -> dict[str, str]:
    """Return the ARNs of AWS's managed policies by name, for SAM templates that name them."""
    policies = json.loads(_managed_text)
    return {name: f"arn:{partition}:iam::aws:policy{data['Path']}{name}" for name, data in policies.items()}


def install(context: CloudContext) -> None:
    """Answer CloudFormation's API by the engine."""
    gaps.install()
    api.install(CloudFormation(context.url, context.account_id, _managed_policies))
