"""The errors that a run can end with, and whether trying again helps.

Step Functions matches an error by the exact name of its exception class, never by a base class. So every error that
a retry helps and that leaves a function called by a state machine is named in the state machines' ``Retry`` lists, and
a test compares those lists with this module.
"""

from __future__ import annotations


class BatonError(Exception):
    """Base of every error that Baton raises on purpose; its message is one sentence for a person."""

    retryable = False


# --- the request is wrong: the person who started the run can mend it ---------------------------------------------


class InvalidInput(BatonError):
    """The execution input, an uploaded ``run.json``, a parameter or a function's payload is wrong.

    Of an input the message lists every problem.
    """


class InvalidDataset(BatonError):
    """The data set cannot be read, is unsafe, too large, or has the wrong shape."""


class UploadRefused(BatonError):
    """An uploaded object starts no run; the message says why."""


# --- the run did what it should, and the result is not good enough ------------------------------------------------


class JobFailed(BatonError):
    """An awaited SageMaker thing ended in any state but its good one; the message is SageMaker's FailureReason."""


class PipelineRunFailed(BatonError):
    """The Kubeflow Pipelines run ended in any state but SUCCEEDED."""


class NeverCreated(BatonError):
    """The pipeline run ended and the awaited thing was never created."""


class GateNotMet(BatonError):
    """The endpoint answers, but its quality or latency misses the pipeline's gate."""


class BadPrediction(BatonError):
    """The endpoint answered in a form that the pipeline does not promise."""


class DeadlineExceeded(BatonError):
    """The run passed the deadline that its plan fixed."""


class RunEnded(BatonError):
    """The run has a tombstone: it was ended, and nothing may be started for it again."""


class ForeignResource(BatonError):
    """Something of the awaited name exists, but does not carry this run's tag."""


class CleanUpIncomplete(BatonError):
    """Clean-up could not delete something that this run made; the message names it."""


class AccessDenied(BatonError):
    """AWS refused a call for want of a permission; the message names the function, its role and the action."""


# --- Kubeflow Pipelines -------------------------------------------------------------------------------------------


class Answered(Exception):
    """What an HTTP answer may stand behind: ``status`` is the answer's, None where there was none."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class KfpRefused(Answered, BatonError):
    """Kubeflow Pipelines answered that the request is wrong or not allowed; the message is its own."""


class KfpTooOld(BatonError):
    """The Kubeflow Pipelines backend is older than Baton can rely on."""


class KfpMisconfigured(BatonError):
    """The configured endpoint is not the Kubeflow Pipelines API (a login page, a wrong path, a bad certificate)."""


class KfpUnavailable(Answered, BatonError):
    """Kubeflow Pipelines did not answer, or answered 5xx; nothing was changed there."""

    retryable = True


class LaunchUncertain(BatonError):
    """A POST of the run got no answer: it may or may not have been committed, so look the run up before another."""

    retryable = True


class LaunchInProgress(BatonError):
    """Another attempt holds the launch lease; wait until it is done or its lease runs out."""

    retryable = True


# --- waiting ------------------------------------------------------------------------------------------------------


class NotGoneYet(BatonError):
    """Clean-up has asked for everything to go, and something is still going; call again."""

    retryable = True


class Undecided(BatonError):
    """The run's execution goes on, so nobody can say yet what of it is to go; call again."""

    retryable = True


class Unsettled(BatonError):
    """An event says that a thing ended and its Describe does not agree yet; look again.

    It never leaves settle_outcome: there the queue is what tries again, and no state machine names it.
    """

    retryable = True


class TransientAwsError(BatonError):
    """AWS throttled the call or failed on its own side; the same call may go through later."""

    retryable = True


def all_errors() -> list[type[BatonError]]:
    """Return every error class of this module, base class left out, in order of definition."""
    found = [c for c in globals().values() if isinstance(c, type) and issubclass(c, BatonError)]
    return [c for c in found if c is not BatonError]


def retryable_errors() -> list[str]:
    """Return the class names that a state machine may retry."""
    return [c.__name__ for c in all_errors() if c.retryable]
