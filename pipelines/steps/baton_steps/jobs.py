"""Create or adopt a SageMaker thing by its name, and wait for its end."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from baton_steps.console import console_link, log_tails
from baton_steps.errors import TERMINATED_EXIT, ForeignResource, JobFailed, NotAdoptable, Terminated
from baton_steps.run import Run

Description = dict[str, Any]

_TAKEN = ("ResourceInUse", "ValidationException")
"""What SageMaker answers where the name is in use: jobs the former, models and endpoints the latter, which also stands
for any other wrong request, so only Describe tells."""
_ABSENT = ("ResourceNotFound", "ValidationException")


@dataclass(frozen=True)
class Kind:
    """A kind of SageMaker thing: what its API calls it, and which of its states are good or still going on.

    ``states`` is False for what exists as soon as it is created. ``stops``: there is a Stop call, to be made when the
    step is terminated. ``page``: in the console. ``log_group``: may have ``{name}`` in it; ``log_prefix``: of its
    streams, of which up to ``log_streams`` are shown.
    """

    noun: str
    api: str
    parameter: str
    page: str
    good: frozenset[str] = frozenset()
    going: frozenset[str] = frozenset()
    stops: bool = False
    log_group: str = ""
    log_prefix: str = "{name}/"
    log_streams: int = 1

    @property
    def states(self) -> bool:
        """Whether things of this kind have a state to wait for."""
        return bool(self.good)

    def status(self, description: Description) -> str:
        """Return the state in a description, or an empty string for a kind that has none."""
        return str(description.get(f"{self.parameter}Status", ""))


_JOB_GOOD = frozenset({"Completed"})
_JOB_GOING = frozenset({"InProgress"})
TUNING = Kind(
    "tuning job", "hyper_parameter_tuning_job", "HyperParameterTuningJob", "hyper-tuning-jobs", _JOB_GOOD, _JOB_GOING,
    # The logs are those of its training jobs, <name>-001-<hash>/… and so on.
    stops=True, log_group="/aws/sagemaker/TrainingJobs", log_prefix="{name}-", log_streams=9,
)  # fmt: skip
TRAINING = Kind(
    "training job", "training_job", "TrainingJob", "jobs", _JOB_GOOD, _JOB_GOING,
    stops=True, log_group="/aws/sagemaker/TrainingJobs",
)  # fmt: skip
TRANSFORM = Kind(
    "transform job", "transform_job", "TransformJob", "transform-jobs", _JOB_GOOD, _JOB_GOING,
    stops=True, log_group="/aws/sagemaker/TransformJobs",
)  # fmt: skip
MODEL = Kind("model", "model", "Model", "models")
ENDPOINT_CONFIG = Kind("endpoint configuration", "endpoint_config", "EndpointConfig", "endpointConfig")
ENDPOINT = Kind(
    "endpoint", "endpoint", "Endpoint", "endpoints", frozenset({"InService"}), frozenset({"Creating"}),
    log_group="/aws/sagemaker/Endpoints/{name}", log_prefix="",
)  # fmt: skip

_ENDING = frozenset({"Stopping", "Updating", "SystemUpdating", "RollingBack", "Deleting"})
"""States that are no end yet, and from which a step adopts nothing."""


class Jobs:
    """The SageMaker things of one run."""

    def __init__(self, run: Run, sleep: Callable[[float], None] = time.sleep) -> None:
        self._run = run
        self._sleep = sleep
        self._sagemaker = run.client("sagemaker")

    def finish(self, kind: Kind, name: str, request: Mapping[str, Any]) -> Description:
        """Create or adopt a thing, wait for its good end, and return its description.

        Raises JobFailed with SageMaker's reason for any other end, RunEnded, ForeignResource or NotAdoptable. On
        SIGTERM it stops a job that can be stopped and exits; that is a courtesy on which nobody relies, because a
        cluster may end the pod at once: the control plane's clean-up stops the job in any case.
        """
        with self._stopping_on_sigterm(kind, name):
            self.create_or_adopt(kind, name, request)
            return self._wait(kind, name)

    def create_or_adopt(self, kind: Kind, name: str, request: Mapping[str, Any]) -> None:
        """Create a thing, or adopt the one of that name if it is this run's and is well."""
        self._run.refuse_if_ended()
        try:
            self._call("create", kind, name, **request, Tags=self._run.tags())
        except ClientError as error:
            if error.response["Error"]["Code"] not in _TAKEN:
                raise
            if not self._adopt(kind, name):
                raise
        else:
            print(f"Created the {kind.noun} {name}.")
        link = console_link(self._run.region, kind.page, name)
        if link:
            print(link)

    def describe(self, kind: Kind, name: str) -> Description | None:
        """Return a thing's description, or None where there is none of that name."""
        try:
            return self._call("describe", kind, name)
        except ClientError as error:
            if error.response["Error"]["Code"] in _ABSENT:
                return None
            raise

    def is_ours(self, kind: Kind, description: Description) -> bool:
        """Return whether a thing carries this run's tag."""
        pages = self._sagemaker.get_paginator("list_tags").paginate(ResourceArn=description[f"{kind.parameter}Arn"])
        found = {tag["Key"]: tag["Value"] for page in pages for tag in page["Tags"]}
        return found.get("baton:run-id") == self._run.run_id

    def _adopt(self, kind: Kind, name: str) -> bool:
        description = self.describe(kind, name)
        if description is None:
            return False
        if not self.is_ours(kind, description):
            raise ForeignResource(f"There is a {kind.noun} {name} that does not carry the tag of this run.")
        status = kind.status(description)
        if kind.states and status not in kind.good | kind.going:
            raise NotAdoptable(f"The {kind.noun} {name} of this run exists and is {status}: {_reason(description)}")
        print(f"Adopted the {kind.noun} {name}" + (f", which is {status}." if status else "."))
        return True

    def _wait(self, kind: Kind, name: str) -> Description:
        shown = ""
        while True:
            description = self._call("describe", kind, name)
            status = kind.status(description)
            progress = description.get("SecondaryStatus") or status
            if progress != shown:
                print(f"The {kind.noun} {name} is {progress}.", flush=True)
                shown = progress
            if status in kind.good:
                self._print_log(kind, name)
                return description
            if status not in kind.going | _ENDING:
                self._print_log(kind, name)
                raise JobFailed(f"The {kind.noun} {name} is {status}: {_reason(description)}")
            self._sleep(self._run.poll_seconds)

    def _print_log(self, kind: Kind, name: str) -> None:
        if not kind.log_group:
            return
        group, prefix = kind.log_group.format(name=name), kind.log_prefix.format(name=name)
        tails = log_tails(self._run.client("logs"), group, prefix, kind.log_streams)
        for title, lines in tails:
            print(f"The end of the log of {title or f'{kind.noun} {name}'}:", *lines, sep="\n    ", flush=True)

    @contextmanager
    def _stopping_on_sigterm(self, kind: Kind, name: str) -> Iterator[None]:
        previous = signal.signal(signal.SIGTERM, _raise_terminated)
        try:
            yield
        except Terminated:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            print(f"Terminated while waiting for the {kind.noun} {name}.", flush=True)
            if kind.stops:
                self._stop(kind, name)
            raise SystemExit(TERMINATED_EXIT) from None
        finally:
            signal.signal(signal.SIGTERM, previous)

    def _stop(self, kind: Kind, name: str) -> None:
        # The signal may have arrived inside the create call, so whether there is a job is looked up.
        try:
            description = self.describe(kind, name)
            if description and kind.status(description) in kind.going and self.is_ours(kind, description):
                self._call("stop", kind, name)
                print(f"Stopped the {kind.noun} {name}.", flush=True)
        except (ClientError, BotoCoreError) as error:
            print(f"The {kind.noun} {name} could not be stopped: {error}", flush=True)

    def _call(self, verb: str, kind: Kind, name: str, **request: Any) -> Description:
        call: Callable[..., Description] = getattr(self._sagemaker, f"{verb}_{kind.api}")
        return call(**{f"{kind.parameter}Name": name}, **request)


def _raise_terminated(_signal: int, _frame: FrameType | None) -> None:
    raise Terminated


def _reason(description: Description) -> str:
    return str(description.get("FailureReason") or "SageMaker gives no reason.")
