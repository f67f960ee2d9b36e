"""Many runs under faults on one deployment, each with an end that is known before it starts.

Half of them are started by an upload, half as executions. When all have ended, an operator's day is played: the
dead-letter queue is redriven, hours pass, and the janitor makes its rounds. Only then are leftovers counted.
"""

from __future__ import annotations

import json
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from baton.executions import execution_arn_of
from baton.names import TAG_EXPIRES_AT, Names, split_s3_uri
from baton.uploads import RUN_FILE, Upload
from baton_local import datasets
from baton_local.deployment import Deployment
from baton_local.history import History
from baton_local.soak_operator import Operator, Tell
from baton_local.soak_stories import (
    DATASET,
    GATE,
    HOLD,
    INPUT,
    JOB,
    STOP_HELD,
    Outcome,
    Part,
    Retriers,
    exhausted_state,
    may_be_excused,
    retriers_of,
)

PIPELINE = "mnist_kmeans"
ROWS = 600
_MINI_BATCHES = {"mini_batch_size_min": 100, "mini_batch_size_max": 120}
DEADLINE_SECONDS = 900
"""What each run has until its deadline: a whole run takes a few seconds alone, and others run beside it."""
MOST_EXCUSED_PERCENT = 2
"""How many runs of a hundred may be excused, beside one: a state is killed six times in a row in less than one of a
thousand runs where the crash dial is at 0.3, and a run has about ten states."""

_MARGIN_SECONDS = 60.0
_POLL_SECONDS = 0.5
_START_SECONDS = 60.0
"""How long an upload may take to become an execution before its event is looked for in the dead-letter queue."""


@dataclass
class Soak:
    """What a soak came to; ``good`` only where nothing is lost, stuck, wrong or left, and enough was played.

    ``excused``: how many of ``failed_as_intended`` failed because the crash dial used the retries of a state up.
    ``must_succeed``: how many were to succeed. ``redriven``: uploads that came out of the dead-letter queue.
    ``janitor``: clean-ups that the janitor started, by reason.
    """

    runs: int
    parallel: int
    seed: int
    seconds: float = 0.0
    succeeded: int = 0
    failed_as_intended: int = 0
    lost: int = 0
    stuck: int = 0
    wrong: int = 0
    leftovers: list[str] = field(default_factory=list)
    excused: int = 0
    must_succeed: int = 0
    redriven: int = 0
    janitor: dict[str, int] = field(default_factory=dict)
    stories: dict[str, int] = field(default_factory=dict)
    dials: dict[str, float] = field(default_factory=dict)
    unexpected: list[dict[str, Any]] = field(default_factory=list)

    @property
    def good(self) -> bool:
        """Whether every promise held, in runs enough to say so."""
        return not (self.lost or self.stuck or self.wrong or self.leftovers or self.too_little)

    @property
    def too_little(self) -> str:
        """Why the soak shows too little, or an empty text: nothing fails where nothing gets anywhere."""
        most = 1 + self.runs * MOST_EXCUSED_PERCENT // 100
        if self.excused > most:
            return f"{self.excused} runs are excused, at most {most} may be: the crash dial is too high."
        wanted = self.must_succeed - self.excused
        if self.succeeded < wanted:
            return f"{self.succeeded} runs succeeded, at least {wanted} had to."
        return ""

    def as_dict(self) -> dict[str, Any]:
        """Return what ``--json`` writes; ``leftovers`` is their number, ``left`` names them."""
        return {**vars(self), "leftovers": len(self.leftovers), "left": self.leftovers}


@dataclass
class _Going:
    """A run under way; ``since`` is on the clock of ``time.monotonic``, ``stop_at`` too, once its state was entered."""

    outcome: Outcome
    since: float
    history: History | None = None
    stop_at: float | None = None
    stopped: bool = False
    redriven: bool = False


class Soaker:
    """Plays many runs on one deployment, some at a time."""

    def __init__(self, deployment: Deployment, seed: int, folder: Path, heartbeat_seconds: float) -> None:
        self._deployment = deployment
        self._seed = seed
        self._patience = DEADLINE_SECONDS + heartbeat_seconds + _MARGIN_SECONDS
        self._stepfunctions = deployment.client("stepfunctions")
        self._inputs = _Inputs(deployment, folder)
        self._going: dict[str, _Going] = {}
        self._outcomes: list[Outcome] = []
        self._operator = Operator(deployment)

    def soak(self, parts: Sequence[Part], parallel: int, tell: Tell) -> Soak:
        """Play the runs, then the operator's part, and count."""
        began = time.monotonic()
        self._play(deque(parts), parallel, tell)
        self._operator.settle(tell)
        self._check_successes()
        result = self._counted(parts, parallel)
        result.seconds = round(time.monotonic() - began, 1)
        return result

    # --- the runs -----------------------------------------------------------------------------------------------------

    def _play(self, waiting: deque[Part], parallel: int, tell: Tell) -> None:
        total = len(waiting)
        while waiting or self._going:
            while waiting and len(self._going) < parallel:
                self._start(waiting.popleft())
            self._stop_those_due()
            self._collect()
            tell(self._progress(total))
            time.sleep(_POLL_SECONDS)

    def _start(self, part: Part) -> None:
        given = self._inputs.of(part)
        arn = self._upload(given) if part.by_upload else self._execute(part, given)
        outcome = Outcome(part, arn, started=not part.by_upload)
        self._outcomes.append(outcome)
        self._going[arn] = _Going(outcome, time.monotonic())

    def _execute(self, part: Part, given: dict[str, Any]) -> str:
        answer = self._stepfunctions.start_execution(
            stateMachineArn=self._deployment.state_machine,
            name=f"soak-{part.number:04d}-{part.story}",
            input=json.dumps(given),
        )
        arn: str = answer["executionArn"]
        return arn

    def _upload(self, given: dict[str, Any]) -> str:
        """Upload a run.json and return the ARN of the one execution that it must start."""
        bucket, key = self._deployment.bucket, f"{self._deployment.upload_prefix}{PIPELINE}/{RUN_FILE}"
        answer = self._deployment.client("s3").put_object(Bucket=bucket, Key=key, Body=json.dumps(given).encode())
        name = Upload(bucket, key, answer["VersionId"], "", 0, "").execution_name(PIPELINE)
        return execution_arn_of(self._deployment.state_machine, name)

    def _stop_those_due(self) -> None:
        for going in self._going.values():
            part, now = going.outcome.part, time.monotonic()
            if not part.stops or not going.outcome.started or going.stopped:
                continue
            if going.stop_at is None and self._has_entered(going, part.stop_in):
                going.stop_at = now + part.stop_after
            if going.stop_at is not None and now >= going.stop_at:
                going.stopped = True
                self._stepfunctions.stop_execution(
                    executionArn=going.outcome.execution_arn, error="Soak", cause="Stopped on purpose."
                )

    def _has_entered(self, going: _Going, state: str) -> bool:
        going.history = going.history or History(self._stepfunctions, going.outcome.execution_arn)
        going.history.read()
        return any(visit.name == state for visit in going.history.visits)

    def _collect(self) -> None:
        """Take leave of the runs that have ended, of uploads that came to nothing, and of those past their time."""
        running = set(self._operator.executions(self._deployment.state_machine, "RUNNING"))
        for arn, going in list(self._going.items()):
            waited = time.monotonic() - going.since
            if arn in running:
                going.outcome.started = True
                ended = waited > self._patience
            else:
                ended = self._take_end(going.outcome) or self._never_starts(going, waited)
            if ended:
                del self._going[arn]

    def _never_starts(self, going: _Going, waited: float) -> bool:
        """Look for an upload's event in the dead-letter queue when it is overdue; return whether it is lost."""
        if waited > _START_SECONDS and not going.redriven:
            going.redriven = True
            self._operator.redrive()
        return waited > 2 * _START_SECONDS

    def _take_end(self, outcome: Outcome) -> bool:
        try:
            execution = self._stepfunctions.describe_execution(executionArn=outcome.execution_arn)
        except ClientError as error:
            if error.response["Error"]["Code"] != "ExecutionDoesNotExist":
                raise
            return False
        outcome.started = True
        if execution["status"] == "RUNNING":
            return False
        outcome.status, outcome.error, outcome.cause = (
            execution["status"],
            execution.get("error"),
            execution.get("cause"),
        )
        outcome.output = json.loads(execution.get("output") or "{}")
        if outcome.verdict == "wrong":
            retriers = self._retriers()
            if may_be_excused(outcome.error, retriers):
                outcome.gave_up = exhausted_state(self._events(outcome.execution_arn), retriers)
        return True

    def _events(self, arn: str) -> Iterator[dict[str, Any]]:
        pages = self._stepfunctions.get_paginator("get_execution_history").paginate(executionArn=arn)
        return (event for page in pages for event in page["events"])

    def _retriers(self) -> Retriers:
        machine = self._stepfunctions.describe_state_machine(stateMachineArn=self._deployment.state_machine)
        return retriers_of(json.loads(machine["definition"]))

    # --- the count ----------------------------------------------------------------------------------------------------

    def _check_successes(self) -> None:
        for outcome in self._outcomes:
            if outcome.status == "SUCCEEDED":
                outcome.missing = [uri for uri in self._promised(outcome) if not self._exists(uri)]

    def _promised(self, outcome: Outcome) -> Iterator[str]:
        yield from (str(outcome.output.get(name)) for name in ("report", "model_artefact"))
        if outcome.part.keeps:
            yield Names.of(outcome.output["run_id"]).endpoint

    def _exists(self, promised: str) -> bool:
        try:
            if promised.startswith("s3://"):
                bucket, key = split_s3_uri(promised)
                self._deployment.client("s3").head_object(Bucket=bucket, Key=key)
                return True
            sagemaker = self._deployment.client("sagemaker")
            answer = sagemaker.describe_endpoint(EndpointName=promised)
            tags = sagemaker.list_tags(ResourceArn=answer["EndpointArn"])["Tags"]
        except ClientError:
            return False
        # What is kept must not look as if it were still to go.
        expires = any(tag["Key"] == TAG_EXPIRES_AT for tag in tags)
        return bool(answer["EndpointStatus"] == "InService" and not expires)

    def _counted(self, parts: Sequence[Part], parallel: int) -> Soak:
        counted = Counter(outcome.verdict for outcome in self._outcomes)
        twice = list(self._done_twice())
        return Soak(
            runs=len(parts),
            parallel=parallel,
            seed=self._seed,
            succeeded=counted["succeeded"],
            failed_as_intended=counted["failed_as_intended"],
            lost=counted["lost"],
            stuck=counted["stuck"],
            wrong=counted["wrong"] + len(twice),
            leftovers=self._left(),
            excused=sum(1 for outcome in self._outcomes if outcome.gave_up),
            must_succeed=sum(part.must_succeed for part in parts),
            redriven=self._operator.redriven,
            janitor=dict(self._operator.handed_over),
            stories=dict(Counter(part.story for part in parts)),
            dials=vars(self._deployment.cloud.dials),
            unexpected=[o.as_dict() for o in self._outcomes if o.verdict in ("lost", "stuck", "wrong")] + twice,
        )

    def _done_twice(self) -> Iterator[dict[str, Any]]:
        """Yield executions that nobody asked for, and runs whose work more than one pipeline run has done."""
        asked = {outcome.execution_arn for outcome in self._outcomes}
        for arn in self._operator.executions(self._deployment.state_machine):
            if arn not in asked:
                yield {"verdict": "wrong", "execution_arn": arn, "cause": "Nobody asked for this execution."}
        done = Counter(r.get("display_name") for r in self._deployment.kfp.runs() if _did_work(r))
        for run_id, times in done.items():
            if times > 1:
                yield {"verdict": "wrong", "run_id": run_id, "cause": f"{times} pipeline runs did its work."}

    def _left(self) -> list[str]:
        kept = {o.output["run_id"] for o in self._outcomes if o.part.keeps and o.status == "SUCCEEDED"}
        names = [Names.of(run_id) for run_id in kept]
        left = self._deployment.leftovers(
            frozenset(name for n in names for name in (n.endpoint, n.endpoint_config, n.model))
        )
        unfinished = [r["name"]["S"] for r in self._operator.rows() if "execution_arn" in r and "receipt" not in r]
        return left + [f"run without a receipt {run_id}" for run_id in unfinished]

    def _progress(self, total: int) -> str:
        over = [outcome for outcome in self._outcomes if outcome.execution_arn not in self._going]
        counted = Counter(outcome.verdict for outcome in over)
        good, failed = counted["succeeded"], counted["failed_as_intended"]
        bad = len(over) - good - failed
        return f"{len(over)}/{total} ended: {good} succeeded, {failed} failed as intended, {bad} otherwise"


def _did_work(pipeline_run: dict[str, Any]) -> bool:
    """Whether a KFP run got beyond its claim, however it ended."""
    tasks = pipeline_run.get("run_details", {}).get("task_details", [])
    return any(task.get("display_name") == "claim" and task.get("state") == "SUCCEEDED" for task in tasks)


class _Inputs:
    """The execution input of each story, over small data sets that are uploaded once."""

    def __init__(self, deployment: Deployment, folder: Path) -> None:
        good, bad = datasets.small(folder / "good.pkl.gz", ROWS), folder / "bad.pkl.gz"
        bad.write_bytes(b"This is no data set.")
        self._folder = f"s3://{deployment.bucket}/datasets"
        for path in (good, bad):
            deployment.client("s3").upload_file(str(path), deployment.bucket, f"datasets/{path.name}")

    def of(self, part: Part) -> dict[str, Any]:
        """Return the input of a run."""
        quick = {
            "max_tuning_jobs": 1,
            "parallel_tuning_jobs": 1,
            "mini_batch_size_min": 100,
            "mini_batch_size_max": 120,
        }
        changes: dict[str, dict[str, Any]] = {
            HOLD: {"after": {"endpoint": "hold", "hold_seconds": 3}},
            STOP_HELD: {"after": {"endpoint": "hold", "hold_seconds": DEADLINE_SECONDS}},
            GATE: {"smoke_test": {"min_accuracy": 0.9999, "max_p95_ms": 60_000}},
            DATASET: {"dataset": f"{self._folder}/bad.pkl.gz"},
            # More clusters than there are rows: the algorithm itself refuses.
            JOB: {"parameters": {**quick, "k": 900}},
            INPUT: {"parameters": {**quick, "clusters": 3}},
        }
        usual = {
            "dataset": f"{self._folder}/good.pkl.gz",
            "parameters": quick,
            # How quickly an endpoint answers says more about the machine here, which plays many runs at once.
            "smoke_test": {"min_accuracy": 0.1, "max_p95_ms": 60_000},
            "deadline_seconds": DEADLINE_SECONDS,
        }
        kept = {"after": {"endpoint": "keep"}} if part.keeps else {}
        return {**usual, **kept, **changes.get(part.story, {})}
