"""``baton local``: the embedded cloud, with no account, no Docker and no cluster."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from baton_cli import beforehand
from baton_cli.show import Screen
from baton_local import datasets, surroundings
from baton_local.cloud import CloudError, EmbeddedCloud
from baton_local.deploy import DeployError
from baton_local.deployment import Deployment, repository
from baton_local.dials import Dials
from baton_local.run import NotStarted, Result, Run
from baton_local.soak import Soaker
from baton_local.soak_stories import cast

DEFAULT_REGION = "eu-west-1"
SPEED = 200.0
"""Seconds of a simulated service in one real second, so that a run takes less than a minute."""

SOAK_HEARTBEAT_SECONDS = 15
"""Short, because in a soak every lost event costs one."""

_REFUSALS = (ValueError, CloudError, DeployError, BotoCoreError, ClientError, OSError, RecursionError)
"""What ends the command with one sentence instead of a traceback."""
_DYING_SECONDS = 2.0
_ENDING = [signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])]


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``baton local`` and its sub-commands."""
    local = commands.add_parser("local", help="run Baton on an embedded cloud on this machine")
    verbs = local.add_subparsers(dest="verb", required=True, metavar="VERB")
    run = verbs.add_parser("run", help="one run, from an upload to nothing left")
    run.add_argument("--dataset", type=Path, metavar="FILE", help="the data set to upload (default: the real MNIST)")
    run.add_argument("--pipeline", default="mnist_kmeans", metavar="NAME", help="the pipeline (default: %(default)s)")
    run.add_argument("--input", metavar="JSON", help="an execution input, uploaded as run.json with the data set")
    run.add_argument("--json", type=Path, metavar="FILE", help="write what became of the run to this file")
    _add_cloud_options(run)
    _add_dials(run)
    run.set_defaults(run=_alone(_run))
    soak = verbs.add_parser("soak", help="many runs under faults")
    soak.add_argument("--runs", type=int, default=20, metavar="N", help="how many (default: %(default)s)")
    soak.add_argument("--parallel", type=int, default=12, metavar="M", help="how many at once (default: %(default)s)")
    soak.add_argument("--json", type=Path, metavar="FILE", help="write the figures to this file")
    _add_cloud_options(soak)
    _add_dials(soak)
    soak.set_defaults(run=_alone(_soak))
    up = verbs.add_parser("up", help="keep an embedded cloud running until interrupted")
    up.add_argument("--port", type=int, help="the port of its endpoint (default: a free one)")
    up.add_argument("--deploy", action="store_true", help="deploy Baton's own stack onto it, too")
    _add_cloud_options(up)
    _add_dials(up)
    up.set_defaults(run=_alone(_up))


def _alone(verb: Callable[[argparse.Namespace], int]) -> Callable[[argparse.Namespace], int]:
    """Let a verb and its children see nothing of the user's AWS settings, and no proxy before the embedded cloud.

    Who terminates it, or closes its terminal, ends it as an interrupt does: with its cloud and that one's files.
    """

    def shielded(chosen: argparse.Namespace) -> int:
        surroundings.keep_out()
        # What is ignored stays so: nohup starts a command that way.
        heeded = [number for number in _ENDING if signal.getsignal(number) is not signal.SIG_IGN]
        before = {number: signal.signal(number, signal.default_int_handler) for number in heeded}
        try:
            return verb(chosen)
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    return shielded


def _add_cloud_options(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--region", default=DEFAULT_REGION, help="the region (default: %(default)s)")
    verb.add_argument("--log", type=Path, metavar="FILE", help="keep what the embedded cloud prints in this file")


def _add_dials(verb: argparse.ArgumentParser) -> None:
    faults = verb.add_argument_group("faults", "how often the embedded cloud misbehaves")
    for name, what in (
        ("loss", "an event is lost"),
        ("duplicate", "an event comes twice"),
        ("reorder", "an event is overtaken"),
        ("crash", "a function's process dies right after one of its AWS calls"),
    ):
        faults.add_argument(f"--{name}", type=float, default=0.0, metavar="P", help=f"probability that {what}")
    faults.add_argument("--delay", type=float, default=0.0, metavar="SECONDS", help="longest extra delay of an event")
    faults.add_argument("--seed", type=int, default=0, metavar="N", help="the same seed gives the same faults")


def dials_of(chosen: argparse.Namespace) -> Dials:
    """Return the dials that the options name; raises ValueError for one out of range."""
    return Dials(
        loss=chosen.loss,
        duplicate=chosen.duplicate,
        reorder=chosen.reorder,
        delay_seconds=chosen.delay,
        crash=chosen.crash,
        seed=chosen.seed,
    )


def _run(chosen: argparse.Namespace) -> int:
    screen = Screen()
    try:
        _check_files(chosen)
        beforehand.region(chosen.region)
        given = _given(chosen.input)
        dials = dials_of(chosen)
        beforehand.upload(chosen.pipeline, chosen.dataset)
        dataset = chosen.dataset or datasets.mnist(repository() / ".cache")
        with (
            EmbeddedCloud(dials=dials, speed=SPEED, log=chosen.log, cache_dir=repository() / ".cache") as cloud,
            _its_end_told(cloud),
        ):
            result = _one_run(cloud, chosen, dataset, given, screen)
    except BrokenPipeError:
        # Nobody reads the output any more: that is as an interruption, and main's to tell.
        raise
    except _REFUSALS as error:
        _write(chosen.json, _not_started(error, chosen.region).as_dict())
        return screen.refuse(str(error))
    # First, so that the file has it also where nobody reads the output to its end.
    problem = _write(chosen.json, result.as_dict())
    screen.result(result)
    if problem:
        return screen.refuse(problem)
    return 0 if result.good else 1


def _check_files(chosen: argparse.Namespace) -> None:
    """Refuse files that cannot be written, and empty the one that gets the result."""
    for option in ("json", "log"):
        beforehand.writable(f"--{option}", getattr(chosen, option, None))
    written = getattr(chosen, "json", None)
    if written is not None and written.is_file():
        # However the command ends, nobody shall take an earlier result for this one's.
        written.write_text("")


@contextmanager
def _its_end_told(cloud: EmbeddedCloud) -> Iterator[None]:
    """Raise CloudError with the end of the cloud's log for whatever goes wrong because the cloud has died."""
    try:
        yield
    except Exception as error:
        # Its connections break a moment before its process is known to have ended.
        until = time.monotonic() + _DYING_SECONDS
        while cloud.is_alive():
            if not isinstance(error, BotoCoreError | OSError) or time.monotonic() > until:
                raise
            time.sleep(0.05)
        raise CloudError(_end_of(cloud)) from error


def _end_of(cloud: EmbeddedCloud) -> str:
    return f"The embedded cloud ended by itself. Its log ends:\n{cloud.log_tail()}"


def _write(path: Path | None, content: dict[str, Any]) -> str | None:
    """Write what --json asks for; return what went wrong, because the disk may have filled up since it was checked."""
    if path is None:
        return None
    try:
        path.write_text(json.dumps(content, indent=2, default=str) + "\n")
    except OSError as error:
        return f"--json {path} could not be written: {error.strerror or error}."
    return None


def _refused(reason: str, region: str, leftovers: Sequence[str] = (), error: str = "UploadRefused") -> Result:
    return Result("REFUSED", error, reason, None, None, region, 0.0, leftovers=list(leftovers))


def _not_started(problem: Exception, region: str) -> Result:
    """Return the result of a run that never began, or whose cloud was lost, so that no earlier one is taken for it."""
    if isinstance(problem, beforehand.WouldBeRefused):
        return _refused(str(problem), region)
    wrong = isinstance(problem, ValueError | RecursionError)
    return _refused(str(problem), region, error="InvalidOption" if wrong else type(problem).__name__)


def _one_run(
    cloud: EmbeddedCloud, chosen: argparse.Namespace, dataset: Path, given: dict[str, Any] | None, screen: Screen
) -> Result:
    deployment = Deployment.make(cloud, chosen.region, tell=screen.step)
    run = Run(deployment, chosen.pipeline)
    screen.step(f"Uploading {dataset.stat().st_size:,} bytes to {run.address_of(dataset, given)}")
    if given is not None:
        screen.step("Uploading a run.json that names it, with the input")
    try:
        execution = run.start(dataset, given)
    except NotStarted as refusal:
        return _refused(str(refusal), chosen.region, deployment.leftovers())
    screen.step("The S3 event started the execution:")
    return run.follow(execution, screen.state)


def _soak(chosen: argparse.Namespace) -> int:
    screen = Screen()
    try:
        _check_files(chosen)
        beforehand.region(chosen.region)
        beforehand.at_least_one("--runs", chosen.runs)
        beforehand.at_least_one("--parallel", chosen.parallel)
        with (
            tempfile.TemporaryDirectory() as folder,
            EmbeddedCloud(dials_of(chosen), SPEED, log=chosen.log, cache_dir=repository() / ".cache") as cloud,
            _its_end_told(cloud),
        ):
            quick = {"HeartbeatSeconds": str(SOAK_HEARTBEAT_SECONDS)}
            deployment = Deployment.make(cloud, chosen.region, quick, screen.step)
            soaker = Soaker(deployment, chosen.seed, Path(folder), SOAK_HEARTBEAT_SECONDS)
            soak = soaker.soak(cast(chosen.runs, chosen.seed), chosen.parallel, screen.progress)
    except BrokenPipeError:
        raise
    except _REFUSALS as error:
        told = _not_started(error, chosen.region)
        _write(chosen.json, {"status": told.status, "error": told.error, "cause": told.cause})
        return screen.refuse(str(error))
    problem = _write(chosen.json, soak.as_dict())
    screen.soak(soak)
    if problem:
        return screen.refuse(problem)
    return 0 if soak.good else 1


def _given(text: str | None) -> dict[str, Any] | None:
    if text is None:
        return None
    try:
        return _json_object(text)
    except RecursionError:
        raise ValueError("--input is nested too deeply.") from None


def _json_object(text: str) -> dict[str, Any]:
    try:
        given = json.loads(text)
    except ValueError as error:
        raise ValueError(f"--input is not JSON: {error}") from None
    if not isinstance(given, dict):
        raise ValueError('--input must be a JSON object, such as \'{"parameters": {"k": 10}}\'.')
    try:
        json.dumps(given, allow_nan=False)
    except ValueError:
        raise ValueError("--input has a number that JSON cannot say, such as NaN or 1e999.") from None
    return given


def _up(chosen: argparse.Namespace) -> int:
    screen = Screen()
    try:
        _check_files(chosen)
        beforehand.region(chosen.region)
        beforehand.port(chosen.port)
        cloud = EmbeddedCloud(
            dials=dials_of(chosen), speed=SPEED, log=chosen.log, port=chosen.port, cache_dir=repository() / ".cache"
        )
        with cloud, _its_end_told(cloud):
            if chosen.deploy:
                deployment = Deployment.make(cloud, chosen.region, tell=screen.step)
                screen.outputs(deployment.outputs)
            screen.exports(cloud.environment(chosen.region), cloud.kfp_url)
            while cloud.is_alive():
                time.sleep(0.5)
            return screen.refuse(_end_of(cloud))
    except BrokenPipeError:
        raise
    except _REFUSALS as error:
        return screen.refuse(str(error))
    except KeyboardInterrupt:
        print(file=sys.stderr)
    return 0
