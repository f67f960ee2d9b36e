"""``baton drain``: brings a stack to rest before it is deleted or its parameters change, and says what is still there.

Deleting a stack deletes the state machines, and with them every execution under way: what those made would stay, with
nobody left to delete it.
"""

from __future__ import annotations

import argparse
import json
import textwrap
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from baton.names import TAG_EXECUTION_ARN, parse_name
from baton_cli.account import COMMANDS, Account, NoRegion, add_options, counted, is_gone, refuse, there_are
from baton_cli.drained import SURE_SECONDS, enable_uploads, upload_rule

_WIDTH = 79
_LOOK_SECONDS = 2.0
_JANITOR_SECONDS = 330.0
"""How long to wait for the janitor's answer: longer than the function may run."""

_CALM_LOOKS = 3
"""How many looks in a row must find nothing: a late upload, or the event of a stopped run, may still be on its way."""

_CALM_SECONDS = 4.0
"""How long nothing must be found, at least; ``--calm`` makes it longer."""


class TookTooLong(Exception):
    """Something was still going on when the time was over; the message says what."""


@dataclass(frozen=True)
class Leftover:
    """Something that outlives the stack, and the command that ends it."""

    what: str
    command: str


@dataclass(frozen=True)
class _Kind:
    """How one kind of SageMaker thing is listed, and how the command is called that ends it."""

    noun: str
    operation: str
    field: str
    name: str
    arn: str
    command: str
    status: str = ""


_KINDS = (
    _Kind("endpoint", "list_endpoints", "Endpoints", "EndpointName", "EndpointArn", "delete-endpoint"),
    _Kind(
        "endpoint configuration",
        "list_endpoint_configs",
        "EndpointConfigs",
        "EndpointConfigName",
        "EndpointConfigArn",
        "delete-endpoint-config",
    ),
    _Kind("model", "list_models", "Models", "ModelName", "ModelArn", "delete-model"),
    _Kind(
        "training job",
        "list_training_jobs",
        "TrainingJobSummaries",
        "TrainingJobName",
        "TrainingJobArn",
        "stop-training-job",
        "InProgress",
    ),
    _Kind(
        "tuning job",
        "list_hyper_parameter_tuning_jobs",
        "HyperParameterTuningJobSummaries",
        "HyperParameterTuningJobName",
        "HyperParameterTuningJobArn",
        "stop-hyper-parameter-tuning-job",
        "InProgress",
    ),
    _Kind(
        "transform job",
        "list_transform_jobs",
        "TransformJobSummaries",
        "TransformJobName",
        "TransformJobArn",
        "stop-transform-job",
        "InProgress",
    ),
)


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``baton drain``."""
    drain = commands.add_parser(
        "drain",
        help="bring a stack to rest before it is deleted or its parameters change",
        description="Take no more uploads, wait for the runs under way and for every clean-up, and say what is left. "
        "Exit code 0: nothing is left; 1: something is, with the command that ends it; 2: it could not be done.",
    )
    add_options(drain)
    drain.add_argument("--stop", action="store_true", help="stop the runs under way instead of waiting for them")
    drain.add_argument(
        "--stack-stays",
        action="store_true",
        help="the stack is to change and not to be deleted: only runs that are not cleaned up count as left",
    )
    drain.add_argument(
        "--timeout", type=float, default=24 * 3600.0, metavar="SECONDS", help="how long to wait (default: a day)"
    )
    drain.add_argument(
        "--calm",
        type=float,
        default=_CALM_SECONDS,
        metavar="SECONDS",
        help=f"how long nothing must be going on (default: %(default)g; {SURE_SECONDS} to wait for late uploads too)",
    )
    drain.set_defaults(run=_run)


def _run(chosen: argparse.Namespace) -> int:
    try:
        account = Account.chosen(chosen)
        if not account.whole:
            return refuse(account.not_whole)
        left = Drain(account, chosen.timeout, chosen.calm, stack_stays=chosen.stack_stays).run(chosen.stop)
    except NoRegion as error:
        return refuse(str(error))
    except (BotoCoreError, ClientError, TookTooLong) as error:
        return refuse(str(error))
    return _conclude(account, left, chosen.calm, chosen.stack_stays)


class Drain:
    """One drain of a stack.

    ``timeout``: the seconds that all of it may take. ``calm_seconds``: how long nothing must be going on.
    ``stack_stays``: what runs that are over left on purpose stays with it.
    """

    def __init__(
        self,
        account: Account,
        timeout: float,
        calm_seconds: float = _CALM_SECONDS,
        look_seconds: float = _LOOK_SECONDS,
        stack_stays: bool = False,
    ) -> None:
        self._account = account
        self._until = time.monotonic() + timeout
        self._calm_seconds = calm_seconds
        self._look_seconds = look_seconds
        self._stack_stays = stack_stays

    def run(self, stop: bool) -> list[Leftover]:
        """Bring the stack to rest and return what is left; raises TookTooLong."""
        self._take_no_more()
        while True:
            self._wait_for("Runs under way", lambda: self._runs_under_way(stop), self._calm_seconds)
            self._wait_for("Clean-ups under way", self._clean_ups_under_way)
            self._send_janitor()
            self._wait_for("Clean-ups under way", self._clean_ups_under_way)
            left = list(self._leftovers())
            # All of this took a while, in which somebody may have started a run.
            if not self._account.running("StateMachineArn"):
                return left
            _say("Another run has started meanwhile.")

    def _take_no_more(self) -> None:
        rule = upload_rule(self._account)
        self._account.client("events").disable_rule(Name=rule)
        _say(f"Uploads start no runs any more: the rule {rule} is disabled. This enables it again:")
        print(f"    {enable_uploads(self._account)}")

    def _wait_for(self, what: str, look: Callable[[], list[str]], calm_seconds: float = 0.0) -> None:
        """Look until nothing is found several times in a row, and for so long; say whenever that has changed."""
        calm, calm_since, said = 0, time.monotonic(), None
        while calm < _CALM_LOOKS or time.monotonic() < calm_since + calm_seconds:
            if said is not None:
                time.sleep(self._look_seconds)
            found = look()
            calm = 0 if found else calm + 1
            if found:
                calm_since = time.monotonic()
            if found != said:
                _say(f"{what}: {', '.join(found) or 'none'}")
                said = found
            if found and time.monotonic() > self._until:
                raise TookTooLong(f"{what} when the time was over: {', '.join(found)}")

    def _runs_under_way(self, stop: bool) -> list[str]:
        arns = self._account.running("StateMachineArn")
        for arn in arns if stop else []:
            self._account.client("stepfunctions").stop_execution(
                executionArn=arn, error="Drained", cause="The stack is drained."
            )
        return [_short(arn) for arn in arns]

    def _clean_ups_under_way(self) -> list[str]:
        """Return the running clean-ups, and the events that may yet start one."""
        waiting = self._account.messages_in("OutcomeQueueUrl")
        events = [f"{counted(waiting, 'event')} in the outcome queue"] if waiting else []
        return [_short(arn) for arn in self._account.running("CleanUpMachineArn")] + events

    def _send_janitor(self) -> None:
        """Let the janitor find what no event told of; raises TookTooLong where it fails."""
        function = self._account.resources["JanitorFunction"]
        # Asked again before it has answered, it would make two rounds at once.
        slow = self._account.client("lambda", patience=_JANITOR_SECONDS)
        answer = slow.invoke(FunctionName=function, Payload=b"{}")
        result = json.loads(answer["Payload"].read())
        if "FunctionError" in answer:
            raise TookTooLong(f"The janitor failed: {result.get('errorMessage')}")
        looked_at, started = counted(result["looked_at"], "run"), counted(len(result["started"]), "clean-up")
        _say(f"The janitor looked at {looked_at} and started {started}.")

    def _leftovers(self) -> Iterator[Leftover]:
        yield from self._unfinished_runs()
        for kind in () if self._stack_stays else _KINDS:
            for name in self._of_kind(kind):
                option = "".join(f"-{c.lower()}" if c.isupper() else c for c in kind.name).lstrip("-")
                command = f"aws sagemaker {kind.command} --{option} {name} {self._account.here}"
                yield Leftover(f"{kind.noun} {name}", command)

    def _unfinished_runs(self) -> Iterator[Leftover]:
        machine = self._account.outputs["CleanUpMachineArn"]
        for row in self._account.unfinished():
            request = {"execution_arn": row["execution_arn"], "run_id": row["name"], "succeeded": False}
            command = f"aws stepfunctions start-execution --state-machine-arn {machine} --input '{json.dumps(request)}'"
            yield Leftover(f"run {row['name']} without a receipt", f"{command} {self._account.here}")

    def _of_kind(self, kind: _Kind) -> Iterator[str]:
        """Yield the names of a kind's things that runs of this stack made, by their names and tags."""
        sagemaker, prefix = self._account.client("sagemaker"), self._account.parameters["RunPrefix"]
        asked = {"StatusEquals": kind.status} if kind.status else {}
        pages = sagemaker.get_paginator(kind.operation).paginate(NameContains=prefix, **asked)
        for thing in (thing for page in pages for thing in page[kind.field]):
            if parse_name(thing[kind.name], prefix) and self._is_ours(thing[kind.arn]):
                yield thing[kind.name]

    def _is_ours(self, arn: str) -> bool:
        try:
            tags = self._account.client("sagemaker").list_tags(ResourceArn=arn)["Tags"]
        except ClientError as error:
            if is_gone(error) or "Could not find" in str(error):
                return False
            raise
        machine = self._account.outputs["StateMachineArn"].rpartition(":")[2]
        made_by = {tag["Key"]: tag["Value"] for tag in tags}.get(TAG_EXECUTION_ARN, "")
        return f":execution:{machine}:" in made_by


def _conclude(account: Account, left: list[Leftover], calm_seconds: float, stack_stays: bool) -> int:
    if left:
        what = there_are(len(left), "run" if stack_stays else "thing")
        why = "not cleaned up" if stack_stays else "left that the stack's deletion leaves alone"
        _say(f"{what} {why}; {'this command ends it' if len(left) == 1 else 'these commands end them'}:")
    for leftover in left:
        print(f"  {leftover.what}\n    {leftover.command}")
    if calm_seconds < SURE_SECONDS:
        _say(
            "Not seen: an upload that start_run failed on and is given again after one and two more minutes, messages "
            f"that SQS does not count yet (--calm {SURE_SECONDS} waits for both), and whoever starts an execution now."
        )
    if stack_stays:
        _say(
            "An upload that is made while the rule is disabled starts no run, also not later: upload it again once the "
            "rule is enabled. Enable it also where the change of the stack fails:"
        )
        print(f"    {enable_uploads(account)}")
    else:
        _say(
            "The bucket and the table stay when the stack is deleted: they hold your models and the record of the "
            "runs. Now the stack can go:"
        )
        print(f"    {COMMANDS}sam delete {account.this_stack}")
    return 1 if left else 0


def _short(arn: str) -> str:
    return arn.rpartition(":")[2]


def _say(text: Any) -> None:
    print(textwrap.fill(text, _WIDTH, break_long_words=False, break_on_hyphens=False), flush=True)
