"""The resource types that the embedded CloudFormation makes, by name."""

from __future__ import annotations

from baton_local.cloudformation.resources import (
    compute,
    configuration,
    identity,
    messaging,
    monitoring,
    storage,
)
from baton_local.cloudformation.resources.base import ResourceType

REGISTRY: dict[str, ResourceType] = {
    kind.type: kind()
    for module in (compute, configuration, identity, messaging, monitoring, storage)
    for kind in module.TYPES
}
"""Every supported type."""
