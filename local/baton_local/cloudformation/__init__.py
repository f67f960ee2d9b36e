"""CloudFormation with SAM: an engine of its own behind moto's endpoint, making resources by API calls."""

from __future__ import annotations

from baton_local.context import CloudContext


def install(context: CloudContext) -> None:
    """Answer CloudFormation's API by the engine."""
    # Imported here, because it imports moto, which who only reads templates does without.
    from baton_local.cloudformation import installing

    installing.install(context)
