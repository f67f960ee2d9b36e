"""The states of a Kubeflow Pipelines run; a test compares them with ``kfp-server-api``'s."""

from __future__ import annotations

from enum import StrEnum


class RunState(StrEnum):
    """Every state that the v2beta1 API can answer with."""

    UNSPECIFIED = "RUNTIME_STATE_UNSPECIFIED"
    PENDING = "PENDING"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    SKIPPED = "SKIPPED"
    FAILED = "FAILED"
    CANCELING = "CANCELING"
    CANCELED = "CANCELED"
    PAUSED = "PAUSED"

    @property
    def is_terminal(self) -> bool:
        """Whether a run in this state stays in it."""
        return self in _TERMINAL


_TERMINAL = frozenset({RunState.SUCCEEDED, RunState.SKIPPED, RunState.FAILED, RunState.CANCELED})


def is_terminal(state: str) -> bool:
    """Whether a run in this state stays in it; a state that nobody knows counts as one that goes on."""
    return state in frozenset(RunState) and RunState(state).is_terminal
