"""Why a step fails; the message is what a person reads in the step's log and in the Kubeflow Pipelines UI."""

from __future__ import annotations

import signal

TERMINATED_EXIT = 128 + signal.SIGTERM
"""The exit code of a step that SIGTERM ends."""


class StepFailed(Exception):
    """Base of everything that a step fails with on purpose."""


class RunEnded(StepFailed):
    """The run has a tombstone, or no row at all: nothing may be created for it."""


class ClaimLost(StepFailed):
    """Another pipeline run does the work of this run."""


class ForeignResource(StepFailed):
    """Something of the wanted name exists and does not carry this run's tag."""


class NotAdoptable(StepFailed):
    """Something of the wanted name is this run's, and has ended badly or is going away."""


class JobFailed(StepFailed):
    """The awaited job or endpoint ended in any state but its good one; the message has SageMaker's reason."""


class EventNotSent(StepFailed):
    """EventBridge took the call and did not take the event."""


class Terminated(BaseException):
    """SIGTERM arrived: no ``Exception``, so that nothing on the way mistakes it for a failed call."""
