"""Step Functions: moto's interpreter, made to behave as AWS does where Baton relies on it.

``machines``: definitions, versions, aliases and starting. ``executions``: a run from its start to its one end.
``evaluation`` and ``environment``: the interpreter's loop. ``tasks`` and ``tokens``: what a Task state does, and what
it waits for.
``api``: the operations. ``status_events``: EventBridge and CloudWatch Logs.
"""

from __future__ import annotations

import logging

from baton_local.context import CloudContext
from baton_local.seams import register


def install(context: CloudContext) -> None:
    """Open the seams of the interpreter and start its clock."""
    register("moto.core.config", "default_user_config", dict)["stepfunctions"] = {"execute_state_machine": True}
    # The interpreter logs every error that a state machine handles.
    logging.getLogger("moto.stepfunctions").setLevel(logging.CRITICAL)
    from baton_local.stepfunctions import (
        api,
        environment,
        evaluation,
        executions,
        machines,
        paths,
        status_events,
        tasks,
    )

    for module in (environment, evaluation, paths, status_events, machines, api):
        module.install()
    tasks.install(context)
    executions.start_clock()


def shutdown() -> None:
    """Stop the clock."""
    from baton_local.stepfunctions import executions

    executions.stop_clock()
