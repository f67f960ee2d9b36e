"""The managed policies of AWS, which SAM templates name."""

from __future__ import annotations

import json
from functools import cache

from baton_local.seams import register

_text = register("moto.iam.aws_managed_policies", "aws_managed_policies_data", str)


@cache
def managed_policies(partition: str) -> dict[str, str]:
    """Return their ARNs in a partition by name."""
    return {name: f"arn:{partition}:iam::aws:policy{data['Path']}{name}" for name, data in json.loads(_text).items()}
