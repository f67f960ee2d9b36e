"""AWS Lambda: functions run in real processes against the real Runtime API, instead of moto's Docker containers.

What moto keeps is its model of functions, versions, aliases, layers and mappings.
"""

from __future__ import annotations

import os
from typing import Any

from baton_local.context import CloudContext
from baton_local.lambda_ import log_groups
from baton_local.lambda_.service import LambdaService

_service: LambdaService | None = None


def install(context: CloudContext) -> None:
    """Make moto's Lambda run functions."""
    global _service
    # moto asks for it when concurrency is reserved, of which 100 must be left: the quota that an account has at first.
    # https://docs.aws.amazon.com/lambda/latest/dg/configuration-concurrency.html
    os.environ["MOTO_LAMBDA_CONCURRENCY_QUOTA"] = "1000"
    _service = LambdaService(context, client=os.environ.get("BATON_LAMBDA_RUNTIME_CLIENT", ""))
    _service.install()
    log_groups.install()


def middleware(application: Any) -> Any:
    """Return the application with every AWS call of a sandbox counted, for the crash dial."""
    return _service.middleware(application) if _service else application


def shutdown() -> None:
    """End all sandboxes and pollers."""
    if _service:
        _service.shut_down()
