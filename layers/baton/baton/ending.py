"""Ending a run: what it made is deleted, the deletion is verified, and a receipt says so.

Who does not know that the run has ended asks Step Functions first, and does nothing while the execution goes on. Then
the order is what makes it safe to call at any point, again, and by several callers at once:

1. the tombstone, so that nothing new is started for the run, and in the same update how it ended;
2. a survey, which notes the cause of the failure in the run's row while the evidence still exists, and fixes it once
   AWS has shown all that can tell it;
3. requests to end everything that is this run's, each tried whatever becomes of the others;
4. a second look, made after the pipeline run has ended: only what is not there any more counts as gone.

Whether an endpoint is kept hangs on how the run ended. The state machine says so, a person may; whoever else calls does
not know, and Step Functions is asked. Two attributes of the row are final: ``ended_badly_at`` and ``confirmed_at``; see
docs/adr/0007-ending.md for why no order of callers loses an endpoint that was promised, or leaves one that was not.

Clean-up adds these attributes to the run's row (see ``baton.runs`` for the others):

=====================  ==============================================================================================
cause                  JSON of ``{"error", "cause"}``, or of null: what the first sightings tell, once nothing is unseen
made_<kind>            JSON of ``{"status", "reason", "secondary_status"}``: the run's own resource, when first seen
seen_<KFP run id>      the state of one of the run's KFP runs, when first seen
pipeline_runs_ended    JSON of the KFP runs' states by id, when all were seen to have ended; null where a person said so
told_ended             JSON of the ids of KFP runs of which a person said that they ended, where clean-up could not look
swept                  JSON of the counts of what was deleted from the bucket so far
endpoint_kept_at       epoch seconds; the endpoint stays, and its expiry was lifted
=====================  ==============================================================================================
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from functools import reduce
from operator import and_
from typing import Any, Protocol, TypeVar

from botocore.exceptions import BotoCoreError, ClientError

from baton.errors import (
    BatonError,
    CleanUpIncomplete,
    InvalidInput,
    KfpUnavailable,
    NotGoneYet,
    RunEnded,
    TransientAwsError,
    Undecided,
)
from baton.executions import SUCCEEDED, is_over, status_of
from baton.items import ConditionFailed, Item, Items, absent
from baton.names import TAG_RUN_ID, Layout, Names, run_id_for
from baton.objects import RunObjects, Swept
from baton.runs import RUN, Runs, awaited_pipeline_run, first_step_failure, launched_elsewhere, same
from baton.survey import JOBS, SERVING, TELLING, Resource, Survey, failure_of
from baton.things import PIPELINE_RUN, Phase, phase_of
from baton.transient import is_transient, retryable_aws_errors

Receipt = dict[str, Any]
_SEEN = "seen_"
Seen = TypeVar("Seen")


class Experiment(Protocol):
    """A KFP experiment as its client shows it."""

    @property
    def id(self) -> str:
        """The experiment's id."""


class PipelineRun(Protocol):
    """A KFP run as its client shows it."""

    @property
    def id(self) -> str:
        """The run's id."""

    @property
    def state(self) -> str:
        """The run's state, such as RUNNING."""

    def belongs_to(self, run_id: str, execution_arn: str) -> bool:
        """Whether it was posted for a run of Baton's."""


class PipelineRuns(Protocol):
    """What clean-up needs of a KFP client; every call may raise KfpUnavailable."""

    def get_run(self, run_id: str) -> PipelineRun | None:
        """Return the run, or None where there is none."""

    def find_experiment(self, name: str) -> Experiment | None:
        """Return the experiment of this name, or None."""

    def find_runs(self, display_name: str, experiment_id: str) -> Sequence[PipelineRun]:
        """Return every run of the experiment with this display name."""

    def terminate_run(self, run_id: str) -> None:
        """Ask for a run's end; a run that has ended is left as it is."""


@dataclass(frozen=True)
class Request:
    """Which run is to end, and whether it succeeded; None where the caller does not know: Step Functions is asked.

    ``pipeline_runs_ended`` is a person's word for KFP runs at which clean-up cannot look: the ids of those that have
    ended (none: there is none), or True for whatever was launched at another installation.
    ``expired``: the run's time is up, so an execution that goes on counts as one that failed, unless its own clean-up
    of a success has begun.
    ``redrive_count`` says in which redrive of its execution the run's own clean-up is, so that the execution can tell
    later whether it was redriven since.
    """

    execution_arn: str
    run_id: str
    succeeded: bool | None
    pipeline_runs_ended: bool | tuple[str, ...] = False
    redrive_count: int = 0
    expired: bool = False

    @classmethod
    def parse(cls, event: Mapping[str, Any], run_prefix: str) -> Request:
        """Read clean_up's payload; raise InvalidInput where it does not tell the run.

        ``start_time`` is ISO 8601 or epoch milliseconds, as Step Functions' context and its events have it.
        """
        arn, run_id, start_time = event.get("execution_arn"), event.get("run_id"), event.get("start_time")
        if not arn or not (run_id or start_time):
            raise InvalidInput("A clean-up needs execution_arn, and run_id or start_time.")
        if not run_id:
            run_id = run_id_for(arn, _epoch(start_time or 0), run_prefix)
        told = _told(event.get("pipeline_runs_ended"))
        redrive_count, expired = int(event.get("redrive_count", 0)), event.get("expired") is True
        return cls(arn, run_id, _succeeded(event), told, redrive_count, expired)


@dataclass
class _Progress:
    """What one call of clean-up has met: what is still going, and what went wrong."""

    going: list[str] = field(default_factory=list)
    met: list[tuple[str, Exception]] = field(default_factory=list)
    refused: set[str] = field(default_factory=set)

    @property
    def errors(self) -> list[Exception]:
        """The errors that still count."""
        return [error for _kind, error in self.met]

    def forget(self, kind: str) -> None:
        """Let the errors of a kind of resource count no more: it is gone, whoever deleted it.

        A deletion that is allowed by the resource's tag is denied, not "not found", once another call has made it.
        """
        self.met = [(of, error) for of, error in self.met if of != kind]

    @contextmanager
    def attempt(self, kind: str = "") -> Iterator[None]:
        """Note an error and go on, so that one thing that cannot go does not keep the others."""
        try:
            yield
        except (BatonError, ClientError, BotoCoreError) as error:
            self.note(error, kind)

    def note(self, error: Exception, kind: str = "") -> None:
        """Let an error count at the end, whatever else is done until then."""
        self.met.append((kind, error))
        if not is_transient(error):
            self.refused.add(kind)

    def conclude(self, undecided: str = "") -> None:
        """Raise unless all is well: what a retry may mend first, because only its end shows whether the rest stays.

        ``undecided`` says what nobody can decide yet, though everything else is done.
        """
        words = [f"{thing} is still there" for thing in self.going] + [str(error) for error in self.errors]
        message = "; ".join(dict.fromkeys(words))
        if self.going:
            raise NotGoneYet(message)
        for kind in (NotGoneYet, KfpUnavailable, TransientAwsError):
            if any(isinstance(error, kind) for error in self.errors):
                raise kind(message)
        if any(is_transient(error) for error in self.errors):
            raise TransientAwsError(message)
        if self.errors:
            raise CleanUpIncomplete(message)
        if undecided:
            raise Undecided(undecided)


@dataclass(frozen=True)
class Tools:
    """What clean-up works with.

    ``pipelines`` makes the KFP client, only for a run that may have a KFP run; ``experiment`` is where runs are listed
    whose row does not say in which they were launched, and ``installation`` says which Kubeflow Pipelines it asks
    (``Settings.kfp_installation``).
    """

    items: Items
    sagemaker: Any
    stepfunctions: Any
    s3: Any
    bucket: str
    pipelines: Callable[[], PipelineRuns]
    experiment: str
    installation: str


def clean_up(request: Request, tools: Tools) -> Receipt:
    """Delete what the run made and return the receipt.

    Raises NotGoneYet, KfpUnavailable or TransientAwsError where the same call helps later, and CleanUpIncomplete
    where it does not; each time everything that could be done has been done. Raises Undecided where all is done but
    for an endpoint of which only the execution's end says whether it stays, or where nothing is done, because nobody
    has ended the run and its execution goes on; and RunEnded for a success that comes after the run was ended.
    """
    runs, progress = Runs(tools.items), _Progress()
    with retryable_aws_errors():
        row = _tombstone(request, runs, tools.stepfunctions, progress)
        ending = _Ending(tools, request, row, progress)
        receipt = ending.carry_out() if "execution_arn" in row else ending.nothing_made()
        runs.keep_receipt(request.run_id, receipt, decided=row)
    return receipt


def _tombstone(request: Request, runs: Runs, stepfunctions: Any, progress: _Progress) -> Item:
    """Write the tombstone with how the run ended and return the row; it says nothing of that where nobody can say."""
    row = runs.get(request.run_id) or {}
    _require_match(request, row)
    if request.succeeded:
        return runs.end_well(request.run_id)
    if request.succeeded is False:
        return runs.end_badly(request.run_id)
    if "ended_at" not in row:
        return _ask(request, runs, row, stepfunctions)
    with progress.attempt():
        return _ask(request, runs, row, stepfunctions)
    return row


def _ask(request: Request, runs: Runs, row: Item, stepfunctions: Any) -> Item:
    """Ask Step Functions how the run ended, unless its row says so for good; return the row with the answer.

    A run whose time is up has failed also while its execution goes on. Raises Undecided while another execution goes on
    whose run nobody has ended: what told of its end is old, and it was redriven since.
    """
    while _ended_well(row) is None:
        status = status_of(stepfunctions, request.execution_arn)
        if is_over(status) or (request.expired and "ended_well" not in row):
            row = _note_end(request.run_id, runs, row, status)
        elif "ended_at" in row:
            return row
        else:
            raise Undecided(f"The execution of run {request.run_id} is {status}, so nothing of the run is ended.")
    return row


def _note_end(run_id: str, runs: Runs, row: Item, status: str | None) -> Item:
    if status == SUCCEEDED:
        return runs.confirm(run_id)
    try:
        return runs.end_badly(run_id, as_seen=row)
    except ConditionFailed as failed:
        # The execution was redriven, and its own clean-up went on since this call read the row.
        return failed.item


def _ended_well(row: Item) -> bool | None:
    """Return how a run ended, as its row says it for good; None while it does not."""
    if "ended_badly_at" in row:
        return False
    return True if "confirmed_at" in row else None


class _Ending:
    """One call's work on one run."""

    def __init__(self, tools: Tools, request: Request, row: Item, progress: _Progress) -> None:
        self._items = tools.items
        self._survey = Survey(tools.sagemaker)
        self._objects = RunObjects(tools.s3, Layout(tools.bucket, request.run_id))
        self._pipelines = tools.pipelines
        self._experiment = tools.experiment
        self._installation = tools.installation
        self._told = request.pipeline_runs_ended
        self._unseen: dict[str, None] = {}
        self._run_id = request.run_id
        self._succeeded = request.succeeded
        self._redrive_count = request.redrive_count
        self._ended_well = request.succeeded or _ended_well(row)
        self._row = row
        self._progress = progress

    def nothing_made(self) -> Receipt:
        """Return the receipt of an execution that never had a plan, and so never made anything."""
        nothing = {kind: Resource(kind, name) for kind, name in Names.of(self._run_id).as_dict().items()}
        return self._receipt(nothing, {}, [])

    def carry_out(self) -> Receipt:
        """End everything, look again, and return the receipt; raise where something is still there."""
        found = self._survey.look(self._run_id, self._progress.attempt)
        self._remember(found)
        keeps = self._settle_endpoint(found)
        pipeline_runs = self._end_pipeline_runs()
        self._end_resources(found, keeps)
        left = self._look_again(keeps)
        self._sweep_objects()
        goes_on = f"The execution of run {self._run_id} goes on, so only its end tells whether its endpoint stays."
        self._progress.conclude("" if keeps is not None else goes_on)
        return self._receipt(left, pipeline_runs, self._objects.kept())

    # --- what the row keeps, so that a later call still knows it ---------------------------------------------------

    def _remember(self, found: Mapping[str, Resource]) -> None:
        """Note what the row does not know yet: of each thing the first sighting stays, and so does the cause."""
        made = {_made(kind): _sighting(r) for kind, r in found.items() if r.belongs_to(self._run_id)}
        while new := {name: value for name, value in (made | self._cause(found)).items() if name not in self._row}:
            unchanged = [same(self._row, name) for name in ("cause", *map(_made, found))]
            try:
                self._update(new, only_if=reduce(and_, unchanged))
            except ConditionFailed as failed:
                self._row = failed.item

    def _cause(self, found: Mapping[str, Resource]) -> dict[str, str]:
        """Return the cause, or nothing while something is unseen that can tell it.

        What fails only after it was seen is no cause: the run had ended by then.
        """
        if not set(TELLING) <= set(found):
            return {}
        first = {kind: self._first_seen(resource) for kind, resource in found.items()}
        failure = None if self._ended_well else failure_of(first, self._run_id)
        return {"cause": json.dumps(failure)}

    def _first_seen(self, resource: Resource) -> Resource:
        """Return a resource as it was when it was first seen to be the run's; by now it may have gone."""
        sighting = _load(self._row, _made(resource.kind), None)
        if sighting is None:
            return resource
        return replace(resource, arn=resource.arn or resource.name, tags={TAG_RUN_ID: self._run_id}, **sighting)

    def _settle_endpoint(self, found: Mapping[str, Resource]) -> bool | None:
        """Return whether the endpoint stays, noted in the row before anything is done about it; None: not decided."""
        if not self._row["keeps_endpoint"] or self._ended_well is False:
            return False
        if self._ended_well is None or "endpoint" not in found:
            return None
        endpoint = found["endpoint"]
        if self._succeeded and not (endpoint.belongs_to(self._run_id) and _may_serve(endpoint)):
            state = endpoint.status if endpoint.belongs_to(self._run_id) else "not there"
            self._progress.note(CleanUpIncomplete(f"The endpoint {endpoint.name}, which the plan keeps, is {state}."))
            return None
        if not endpoint.belongs_to(self._run_id):
            return False
        if self._succeeded and "endpoint_kept_at" not in self._row:
            self._note_that_it_is_kept()
        return "endpoint_kept_at" in self._row

    def _note_that_it_is_kept(self) -> None:
        try:
            self._update({"endpoint_kept_at": int(self._items.now())}, only_if=absent("ended_badly_at"))
        except ConditionFailed:
            raise RunEnded(f"Run {self._run_id} was given up while it was cleaned up.") from None

    def _update(self, values: Mapping[str, Any], only_if: Any = None) -> None:
        self._row = self._items.update(RUN, self._run_id, values, only_if=only_if)

    # --- Kubeflow Pipelines -----------------------------------------------------------------------------------------

    def _end_pipeline_runs(self) -> dict[str, str | None]:
        """Terminate the run's KFP runs; return those there are with their state (None: not seen), by id."""
        if _never_launched(self._row):
            return {}
        if launched_elsewhere(self._row, self._installation):
            told = self._told is True or self._are_told_to_have_ended(self._recorded())
            if told and "pipeline_runs_ended" not in self._row:
                self._note_that_they_ended(dict.fromkeys([*self._recorded(), *(self._named or ())]))
            if "pipeline_runs_ended" in self._row:
                return dict(_load(self._row, "pipeline_runs_ended", {}))
        states: dict[str, str | None] = {}
        ids, listed = self._recorded(), False
        with self._progress.attempt():
            ids, listed = self._pipeline_run_ids(), True
        for pipeline_run_id in ids:
            with self._progress.attempt():
                states[pipeline_run_id] = self._end_pipeline_run(pipeline_run_id)
        if listed:
            with self._progress.attempt():
                self._settle_pipeline_runs(ids, states)
        return self._seen_or_told(states)

    def _settle_pipeline_runs(self, ids: Sequence[str], states: Mapping[str, str | None]) -> None:
        """Note that all the run's KFP runs have ended, where they have; ``states`` has those that were looked at."""
        self._require_seen(ids, states)
        unlooked = [run_id for run_id in self._recorded() if run_id not in ids]
        self._progress.going += [f"pipeline run {run_id} (recorded a moment ago)" for run_id in unlooked]
        over = len(states) == len(ids) and all(state is None or _is_end(state) for state in states.values())
        if over and not unlooked and "may_be_posted" not in self._row:
            self._note_that_they_ended(self._seen_or_told(states))

    def _seen_or_told(self, states: Mapping[str, str | None]) -> dict[str, str | None]:
        return {**self._unseen, **{run_id: state for run_id, state in states.items() if state}}

    @property
    def _named(self) -> Sequence[str] | None:
        """The KFP runs of which a person says, or has said to an earlier call, that they ended; None without a word."""
        return self._told if isinstance(self._told, tuple) else _load(self._row, "told_ended", None)

    def _are_told_to_have_ended(self, ids: Sequence[str]) -> bool:
        named = self._named
        return named is not None and set(ids) <= set(named)

    def _look(self, call: Callable[[PipelineRuns], Seen], ids: Sequence[str]) -> Seen | None:
        """Ask Kubeflow Pipelines about KFP runs; where it cannot be asked, a person's word about all of them counts.

        Returns None where the word counts.
        """
        try:
            return call(self._pipelines())
        except (BatonError, ClientError, BotoCoreError) as error:
            if self._are_told_to_have_ended(ids):
                self._go_by_the_word(ids)
                return None
            if is_transient(error):
                raise
            kind = type(error) if isinstance(error, BatonError) else CleanUpIncomplete
            raise kind(f"{error} {_what_to_say(ids)}") from error

    def _go_by_the_word(self, ids: Sequence[str]) -> None:
        named = list(self._named or ())
        self._unseen.update(dict.fromkeys([*ids, *named]))
        # The janitor's later look brings no word, and cannot look either.
        if _load(self._row, "told_ended", None) != named:
            self._update({"told_ended": json.dumps(named)})

    def _require_seen(self, ids: Sequence[str], states: Mapping[str, str | None]) -> None:
        """Raise CleanUpIncomplete where what is not found here was launched at another installation."""
        unseen = [run_id for run_id in ids if not states.get(run_id)]
        if launched_elsewhere(self._row, self._installation) and (unseen or not ids):
            raise CleanUpIncomplete(
                f"Run {self._run_id} was launched at {self._row['kfp_installation']}, and this function looks at"
                f" {self._installation}, where its pipeline run {' and '.join(unseen) or 'of this name'} is not found:"
                " terminate it there if it still runs, and start clean-up-run again with the same input and"
                ' "pipeline_runs_ended": true'
            )

    def _note_that_they_ended(self, states: Mapping[str, str | None]) -> None:
        # A later clean-up may have other settings, and look where these KFP runs never were.
        if _load(self._row, "pipeline_runs_ended", None) != states:
            self._update({"pipeline_runs_ended": json.dumps(states)})

    def _recorded(self) -> list[str]:
        """Return the ids of the KFP runs that the row knows: of the launch, of the claim, and of earlier looks."""
        ids = [self._row.get("worker_run_id"), self._row.get("pipeline_run_id")]
        seen = [name.removeprefix(_SEEN) for name in self._row if name.startswith(_SEEN)]
        return list(dict.fromkeys(run_id for run_id in [*ids, *seen] if run_id))

    def _pipeline_run_ids(self) -> list[str]:
        # A POST that timed out may have been committed all the same; only its display name leads to such a run.
        recorded = self._recorded()
        return list(dict.fromkeys([*recorded, *(self._look(self._find_by_name, recorded) or ())]))

    def _find_by_name(self, client: PipelineRuns) -> list[str]:
        experiment = client.find_experiment(self._row.get("kfp_experiment", self._experiment))
        named = client.find_runs(self._run_id, experiment.id) if experiment else []
        return [run.id for run in named if run.belongs_to(self._run_id, self._row["execution_arn"])]

    def _end_pipeline_run(self, pipeline_run_id: str) -> str | None:
        run = self._look(lambda client: client.get_run(pipeline_run_id), [pipeline_run_id])
        if run is None:
            return None
        self._remember_pipeline_run(pipeline_run_id, run.state)
        if not _is_end(run.state) and run.state != "CANCELING":
            client = self._pipelines()
            client.terminate_run(pipeline_run_id)
            run = client.get_run(pipeline_run_id) or run
        if not _is_end(run.state):
            self._progress.going.append(f"pipeline run {pipeline_run_id} ({run.state})")
        return run.state

    def _remember_pipeline_run(self, pipeline_run_id: str, state: str) -> None:
        name = f"{_SEEN}{pipeline_run_id}"
        if name not in self._row:
            try:
                self._update({name: state}, only_if=absent(name))
            except ConditionFailed as failed:
                self._row = failed.item

    # --- SageMaker --------------------------------------------------------------------------------------------------

    def _end_resources(self, found: Mapping[str, Resource], keeps: bool | None) -> None:
        ours = {kind: resource for kind, resource in found.items() if resource.belongs_to(self._run_id)}
        for kind in JOBS:
            if kind in ours and ours[kind].status == "InProgress":
                with self._progress.attempt(kind):
                    self._survey.stop(ours[kind])
        if keeps:
            self._keep_endpoint(ours)
        elif keeps is False and "endpoint" in found:
            self._delete_serving(ours)

    def _keep_endpoint(self, ours: Mapping[str, Resource]) -> None:
        for kind in SERVING:
            if kind in ours and ours[kind].expires:
                with self._progress.attempt(kind):
                    self._survey.lift_expiry(ours[kind])

    def _delete_serving(self, ours: Mapping[str, Resource]) -> None:
        # https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_DeleteEndpointConfig.html: a configuration
        # must not go while its endpoint is being created or updated.
        if "endpoint" in ours and ours["endpoint"].moving:
            return
        for kind in SERVING:
            if kind in ours:
                with self._progress.attempt(kind):
                    self._survey.delete(ours[kind])

    def _look_again(self, keeps: bool | None) -> dict[str, Resource]:
        left = self._survey.look(self._run_id, self._progress.attempt)
        self._remember(left)
        for kind, resource in left.items():
            if not resource.present:
                self._progress.forget(kind)
            # What AWS refuses to end for good, or to show, is no reason to come back; its error tells of it.
            is_tried = kind not in self._progress.refused and (kind in JOBS or "endpoint" in left)
            if is_tried and resource.belongs_to(self._run_id) and not _is_settled(resource, keeps):
                self._progress.going.append(str(resource))
        return left

    # --- S3 ---------------------------------------------------------------------------------------------------------

    def _sweep_objects(self) -> None:
        with self._progress.attempt():
            swept = self._objects.sweep()
            if swept != Swept():
                total = Swept(**_load(self._row, "swept", {})) + swept
                self._update({"swept": json.dumps(asdict(total))})
            if left := self._objects.left():
                self._progress.going.append(f"{left[0]} and what else S3 lists ({len(left)})")

    # --- the receipt ------------------------------------------------------------------------------------------------

    def _receipt(
        self, left: Mapping[str, Resource], pipeline_runs: Mapping[str, str | None], kept: list[str]
    ) -> Receipt:
        items = [self._item(resource) for resource in left.values()]
        items += [self._pipeline_item(run_id, state) for run_id, state in pipeline_runs.items()]
        kept_endpoint = [i["name"] for i in items if (i["kind"], i["action"]) == ("endpoint", "kept")]
        worker = awaited_pipeline_run(self._row) or next(iter(pipeline_runs), None)
        objects = asdict(Swept(**_load(self._row, "swept", {})))
        return {
            "complete": True,
            "finished_at": datetime.fromtimestamp(int(self._items.now()), UTC).isoformat(),
            "redrive_count": self._redrive_count,
            "items": items,
            "objects": objects,
            "kept": [*kept, *kept_endpoint],
            "pipeline_run": {"id": worker, "state": pipeline_runs.get(worker)} if worker else None,
            # A sweep that took the run for failed may have found one.
            "cause": None if self._ended_well else _load(self._row, "cause", None),
            "step_failure": first_step_failure(self._row),
        }

    def _item(self, resource: Resource) -> dict[str, Any]:
        sighting = _load(self._row, _made(resource.kind), None)
        status, reason = resource.status, resource.reason
        if not resource.present and sighting:
            status, reason = sighting["status"], sighting["reason"]
        action = self._action(resource, sighting)
        return {"kind": resource.kind, "name": resource.name, "action": action, "status": status, "reason": reason}

    def _action(self, resource: Resource, sighting: Mapping[str, Any] | None) -> str:
        if not resource.present:
            return "deleted" if sighting else "absent"
        if not resource.belongs_to(self._run_id):
            return "foreign"
        # SageMaker cannot delete the records of jobs: those that had ended when clean-up came simply stay.
        was_going = sighting is not None and sighting["status"] in ("InProgress", "Stopping")
        return "stopped" if was_going and resource.status == "Stopped" else "kept"

    def _pipeline_item(self, run_id: str, state: str | None) -> dict[str, Any]:
        if state is None:
            where = self._row.get("kfp_installation", self._installation)
            reason = f"It was launched at {where}, and a person says that it has ended."
            return {"kind": PIPELINE_RUN, "name": run_id, "action": "unseen", "status": None, "reason": reason}
        first_state = self._row.get(f"{_SEEN}{run_id}", state)
        was_going = not _is_end(first_state)
        action = "terminated" if was_going and state == "CANCELED" else "kept"
        return {"kind": PIPELINE_RUN, "name": run_id, "action": action, "status": state, "reason": None}


def _require_match(request: Request, row: Item) -> None:
    if row.get("execution_arn", request.execution_arn) != request.execution_arn:
        raise InvalidInput(f"Run {request.run_id} belongs to another execution than {request.execution_arn}.")


def _is_end(pipeline_run_state: str) -> bool:
    return phase_of(PIPELINE_RUN, pipeline_run_state) in (Phase.SUCCEEDED, Phase.FAILED)


def _may_serve(endpoint: Resource) -> bool:
    return phase_of("endpoint", endpoint.status or "") is not Phase.FAILED


def _is_settled(resource: Resource, keeps_endpoint: bool | None) -> bool:
    """Whether one of the run's own resources may stand as it is when clean-up is done."""
    if resource.kind in JOBS:
        return not resource.moving
    return keeps_endpoint is None or (keeps_endpoint and not resource.expires)


def _never_launched(row: Item) -> bool:
    """Whether a run with a tombstone has no KFP run to end: none is recorded, and no POST may have made one.

    A lease without the mark that a POST follows is that of an attempt which the tombstone keeps from posting.
    """
    return not any(name in row for name in ("may_be_posted", "pipeline_run_id", "worker_run_id"))


def _what_to_say(pipeline_run_ids: Sequence[str]) -> str:
    return (
        "Where that cannot be mended, look yourself that no pipeline run of this run goes on, and start clean-up-run"
        f' again with the same input and "pipeline_runs_ended": {json.dumps(pipeline_run_ids)}.'
    )


def _made(kind: str) -> str:
    return f"made_{kind}"


def _sighting(resource: Resource) -> str:
    return json.dumps({name: getattr(resource, name) for name in ("status", "reason", "secondary_status")})


def _load(row: Item, attribute: str, default: Any) -> Any:
    return json.loads(row[attribute]) if attribute in row else default


def _epoch(start_time: str | int) -> int:
    try:
        if isinstance(start_time, str):
            return int(datetime.fromisoformat(start_time).timestamp())
        return int(start_time) // 1000
    except ValueError:
        raise InvalidInput(f"start_time {start_time!r} is neither ISO 8601 nor epoch milliseconds.") from None


def _told(word: Any) -> bool | tuple[str, ...]:
    """Read what a person says of KFP runs; nothing is False."""
    if word is None or isinstance(word, bool):
        return bool(word)
    if not isinstance(word, list) or not all(isinstance(run_id, str) for run_id in word):
        raise InvalidInput('"pipeline_runs_ended" must be true or a list of pipeline runs\' ids.')
    return tuple(word)


def _succeeded(event: Mapping[str, Any]) -> bool | None:
    """Whether the run succeeded: the state machine tells it as ``succeeded``, or by its ``failure``."""
    if "failure" in event:
        return event["failure"] is None
    succeeded = event.get("succeeded")
    return None if succeeded is None else bool(succeeded)
