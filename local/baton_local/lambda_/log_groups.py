"""The log group of a function: its own, or the one that its LoggingConfig names, which moto drops.

https://docs.aws.amazon.com/lambda/latest/dg/monitoring-cloudwatchlogs-loggroups.html
"""

from __future__ import annotations

from typing import Any

from baton_local.seams import replace

_MODELS = "moto.awslambda.models"


def install() -> None:
    """Let moto's functions keep their LoggingConfig."""

    def initialise(model: Any, account_id: str, spec: dict[str, Any], region: str, version: Any = 1) -> None:
        create(model, account_id, spec, region, version)
        model.baton_logging = spec.get("LoggingConfig") or {}

    def update_configuration(model: Any, config_updates: dict[str, Any]) -> Any:
        model.baton_logging = config_updates.get("LoggingConfig", model.baton_logging)
        return update(model, config_updates)

    def get_configuration(model: Any, on_create: bool = False) -> dict[str, Any]:
        configuration: dict[str, Any] = get(model, on_create)
        return {
            **configuration,
            "LoggingConfig": {"LogFormat": "Text", **model.baton_logging, "LogGroup": group_of(model)},
        }

    create = replace(
        _MODELS, "LambdaFunction.__init__", initialise, ("self", "account_id", "spec", "region", "version")
    )
    update = replace(_MODELS, "LambdaFunction.update_configuration", update_configuration, ("self", "config_updates"))
    get = replace(_MODELS, "LambdaFunction.get_configuration", get_configuration, ("self", "on_create"))


def group_of(model: Any) -> str:
    """Return the name of the log group that one of moto's functions writes to."""
    return str(model.baton_logging.get("LogGroup") or f"/aws/lambda/{model.function_name}")
