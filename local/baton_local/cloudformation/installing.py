"""Puts the engine behind moto's endpoint, and gives it what it needs of moto."""

from __future__ import annotations

from baton_local.cloudformation import api, gaps
from baton_local.cloudformation.managed_policies import managed_policies
from baton_local.cloudformation.service import CloudFormation
from baton_local.context import CloudContext


def install(context: CloudContext) -> None:
    """Answer CloudFormation's API by the engine."""
    gaps.install()
    api.install(CloudFormation(context.url, context.account_id, managed_policies))
