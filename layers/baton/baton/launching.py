"""Launches the one KFP run of a run, exactly once, whatever crashes or times out on the way.

KFP has no idempotency key and its names are not unique, so three things together make "once":

1. a lease in the run's row lets one attempt at a time look the run up by its name (the run id) and then post;
2. a POST without an answer keeps its lease, so that the next POST comes only after a look-up that is late enough to
   see what the server committed, and it leaves a mark in the row, so that clean-up asks Kubeflow Pipelines even if
   nobody ever learns what became of it;
3. a POST that is committed later still is caught by the pipeline's first task, which claims the run's row.

An attempt that finds no free lease may still adopt what it finds by name, because adopting posts nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from baton.catalogue import Catalogue, Pipeline
from baton.errors import (
    BatonError,
    InvalidInput,
    KfpMisconfigured,
    KfpRefused,
    KfpUnavailable,
    LaunchInProgress,
    RunEnded,
)
from baton.ir import InputDefinition
from baton.items import Item
from baton.kfp import KfpClient, Run, Version
from baton.kfp.client import POST_SECONDS
from baton.names import TAG_EXPIRES_AT
from baton.runs import Runs, awaited_pipeline_run
from baton.settings import Settings

LEASE_SECONDS = 30.0
"""How long an attempt may take from its last look-up to the end of its POST, which gives up before that."""

_TYPES: Mapping[str, type | tuple[type, ...]] = {
    "STRING": str,
    "NUMBER_INTEGER": int,
    "NUMBER_DOUBLE": (int, float),
    "BOOLEAN": bool,
    "LIST": list,
    "STRUCT": dict,
}


class Launcher:
    """Launches pipeline runs."""

    def __init__(self, runs: Runs, kfp: KfpClient, catalogue: Catalogue, settings: Settings) -> None:
        self._runs = runs
        self._kfp = kfp
        self._catalogue = catalogue
        self._settings = settings

    def launch(self, plan: Mapping[str, Any], attempt: str) -> dict[str, Any]:
        """Return the run's KFP run, which is started unless there is one: ``{"id", "url", "pipeline_id", …}``.

        ``attempt`` must differ between invocations. Raises RunEnded for a run with a tombstone, LaunchInProgress or
        LaunchUncertain or KfpUnavailable where the same call may go through later, and InvalidInput, KfpRefused,
        KfpTooOld or KfpMisconfigured where it will not.
        """
        recorded = awaited_pipeline_run(self._open_row(plan))
        if recorded:
            return self._facts(recorded, self._kfp.get_run(recorded))
        pipeline = self._catalogue.get(plan["pipeline"])
        parameters = runtime_parameters(plan, pipeline, self._settings)
        self._kfp.require_version()
        experiment = self._kfp.find_or_create_experiment(self._settings.kfp_experiment)
        version = self._version(pipeline)
        run = self._find_or_post(plan, attempt, experiment.id, version, parameters)
        return self._facts(run.id, run)

    def _open_row(self, plan: Mapping[str, Any]) -> Item:
        try:
            return self._runs.require_open(plan["run_id"])
        except RunEnded:
            # An earlier attempt may have crashed between its POST and its look at the tombstone.
            self._terminate_all(plan)
            raise

    def _find_or_post(
        self,
        plan: Mapping[str, Any],
        attempt: str,
        experiment_id: str,
        version: Version,
        parameters: Mapping[str, Any],
    ) -> Run:
        run_id = plan["run_id"]
        try:
            where = self._settings.kfp_installation, self._settings.kfp_experiment
            self._runs.claim_launch(run_id, attempt, LEASE_SECONDS, *where)
        except LaunchInProgress:
            found = self._find(plan, experiment_id)
            if found is None:
                raise
            return self._record(run_id, found)
        found = self._find_or_release(plan, attempt, experiment_id)
        return self._record(run_id, found or self._post(run_id, attempt, experiment_id, version, parameters))

    def _ours(self, plan: Mapping[str, Any], experiment_id: str) -> list[Run]:
        """Return the KFP runs that were posted for this run, oldest first: those of its name *and* its parameters."""
        named = self._kfp.find_runs(plan["run_id"], experiment_id)
        return [run for run in named if run.belongs_to(plan["run_id"], plan["execution_arn"])]

    def _find(self, plan: Mapping[str, Any], experiment_id: str) -> Run | None:
        return next(iter(self._ours(plan, experiment_id)), None)

    def _find_or_release(self, plan: Mapping[str, Any], attempt: str, experiment_id: str) -> Run | None:
        try:
            return self._find(plan, experiment_id)
        except BatonError:
            self._runs.release_launch(plan["run_id"], attempt)
            raise

    def _post(
        self, run_id: str, attempt: str, experiment_id: str, version: Version, parameters: Mapping[str, Any]
    ) -> Run:
        # So that the lease covers the POST, and that whoever ends the run knows of it, however the attempts go on; the
        # lease is lost if the look-up took so long that another attempt has it.
        self._runs.renew_launch(run_id, attempt, LEASE_SECONDS, POST_SECONDS)
        try:
            return self._kfp.create_run(run_id, experiment_id, version, parameters, self._settings.kfp_service_account)
        except (KfpRefused, KfpUnavailable, KfpMisconfigured):
            # Certainly nothing was started; LaunchUncertain keeps the lease, and the mark that there may be a run.
            self._runs.release_launch(run_id, attempt)
            raise

    def _record(self, run_id: str, run: Run) -> Run:
        row = self._runs.record_launch(run_id, run.id)
        if "ended_at" in row:
            self._kfp.terminate_run(run.id)
            raise RunEnded(f"Run {run_id} was ended while its pipeline run was launched; that run is terminated.")
        return run

    def _terminate_all(self, plan: Mapping[str, Any]) -> None:
        experiment = self._kfp.find_experiment(self._settings.kfp_experiment)
        for run in self._ours(plan, experiment.id) if experiment else ():
            if not run.is_terminal:
                self._kfp.terminate_run(run.id)

    # --- the pipeline's version ---------------------------------------------------------------------------------------

    def _version(self, pipeline: Pipeline) -> Version:
        """Return the version with the packaged content, which is uploaded unless it is there.

        Two launches may upload at once; KFP refuses the second, and it finds the first one's.
        """
        name, version_name = kfp_names(pipeline)
        pipeline_id = self._pipeline_id(name, pipeline)
        found = self._kfp.find_version(pipeline_id, version_name)
        if found:
            return found
        try:
            return self._kfp.upload_version(pipeline_id, version_name, pipeline.package)
        except KfpRefused:
            found = self._kfp.find_version(pipeline_id, version_name)
            if found is None:
                raise
            return found

    def _pipeline_id(self, name: str, pipeline: Pipeline) -> str:
        found = self._kfp.find_pipeline(name)
        if found:
            return found.id
        try:
            return self._kfp.upload_pipeline(name, pipeline.description, pipeline.package).id
        except KfpRefused:
            found = self._kfp.find_pipeline(name)
            if found is None:
                raise
            return found.id

    def _facts(self, pipeline_run_id: str, run: Run | None) -> dict[str, Any]:
        return {
            "id": pipeline_run_id,
            "url": self._kfp.run_url(pipeline_run_id),
            "pipeline_id": run and run.pipeline_id,
            "version_id": run and run.version_id,
            "experiment_id": run and run.experiment_id,
        }


def kfp_names(pipeline: Pipeline) -> tuple[str, str]:
    """Return the names of a pipeline and of its version in KFP, which may take nothing but [a-z0-9-].

    The version is named by its content, so that the same content is one version whoever uploads it.
    """
    name = f"baton-{pipeline.name.replace('_', '-')}"
    return name, f"{name}-{pipeline.digest[:16]}"


def runtime_parameters(plan: Mapping[str, Any], pipeline: Pipeline, settings: Settings) -> dict[str, Any]:
    """Return the run's runtime parameters: the standard ones that the pipeline declares, and all of its own.

    Raises InvalidInput where what the compiled pipeline declares and what it would be given do not match.
    """
    standard = _standard_parameters(plan, settings)
    declared = pipeline.inputs
    given = {**{name: value for name, value in standard.items() if name in declared}, **plan["parameters"]}
    problems = [f"{name} is not declared" for name in plan["parameters"] if name not in declared]
    problems += [f"{name} is both a standard parameter and its own" for name in plan["parameters"] if name in standard]
    problems += [f"{name} is needed" for name, d in declared.items() if d.required and name not in given]
    problems += [_mismatch(declared[n], v) for n, v in given.items() if n in declared and not _fits(declared[n], v)]
    if problems:
        raise InvalidInput(
            f"pipeline.toml and pipeline.yaml of {pipeline.name} do not match: {'; '.join(problems)}."
            " Compile the pipeline again."
        )
    return given


def _fits(definition: InputDefinition, value: Any) -> bool:
    if isinstance(value, bool):
        return definition.type == "BOOLEAN"
    return isinstance(value, _TYPES.get(definition.type, object))


def _mismatch(definition: InputDefinition, value: Any) -> str:
    return f"{definition.name} is declared {definition.type}, and {value!r} is not"


def _standard_parameters(plan: Mapping[str, Any], settings: Settings) -> dict[str, Any]:
    uris = plan["uris"]
    return {
        "run_id": plan["run_id"],
        "execution_arn": plan["execution_arn"],
        "pipeline": plan["pipeline"],
        "expires_at": plan["tags"][TAG_EXPIRES_AT],
        "region": settings.region,
        "table": settings.table,
        "bucket": settings.bucket,
        "role_arn": plan["role_arn"],
        "kms_key_arn": plan["kms_key_arn"] or "",
        "training_image": plan["images"]["training"],
        "container_image": plan["images"]["steps"],
        "train_data": uris["train"],
        "test_data": uris["test"],
        "transform_input": uris["transform_input"],
        "tuning_output": uris["tuning_output"],
        "model_output": uris["model_output"],
        "predictions_output": uris["predictions"],
        "poll_seconds": float(settings.pipeline_poll_seconds),
    }
