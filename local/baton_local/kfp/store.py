"""Everything that the embedded Kubeflow Pipelines remembers; it forgets all when its process ends."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from baton_local.kfp.errors import AlreadyExists, Internal, InvalidArgument, NotFound
from baton_local.kfp.faults import Faults
from baton_local.kfp.launcher import Launcher
from baton_local.kfp.packages import Spec, check_parameters, ir_of, read_inline
from baton_local.kfp.runner import RunFolder
from baton_local.kfp.runs import PodEnvironmentOf, Run, timestamp

DEFAULT_NAMESPACE = "kubeflow"
DEFAULT_SERVICE_ACCOUNT = "pipeline-runner"

Wire = dict[str, Any]

_RUN_FIELDS = frozenset({
    "experiment_id", "run_id", "display_name", "storage_state", "description", "pipeline_version_id", "pipeline_spec",
    "pipeline_version_reference", "runtime_config", "service_account", "created_at", "scheduled_at", "finished_at",
    "state", "error", "run_details", "recurring_run_id", "state_history", "plugins_input", "plugins_output",
})  # fmt: skip
_EXPERIMENT_FIELDS = frozenset({
    "experiment_id", "display_name", "description", "created_at", "namespace", "storage_state", "last_run_created_at",
})  # fmt: skip

_Thing = TypeVar("_Thing")


@dataclass
class Pipeline:
    """An uploaded pipeline with its versions, oldest first."""

    wire: Wire
    versions: dict[str, Wire] = field(default_factory=dict)


class Store:
    """Experiments, pipelines and runs, with the rules of the API between them."""

    def __init__(self, folder: Path, launcher: Launcher, pod: PodEnvironmentOf, faults: Faults) -> None:
        self._folder = folder
        self._launcher = launcher
        self._pod = pod
        self._faults = faults
        self._lock = threading.RLock()
        self.experiments: dict[str, Wire] = {}
        self.pipelines: dict[str, Pipeline] = {}
        self._runs: dict[str, Run] = {}
        self._default = self.create_experiment({"display_name": "Default", "description": "The default experiment"})

    # --- experiments ---------------------------------------------------------------------------------------------

    def create_experiment(self, body: Mapping[str, Any]) -> Wire:
        """Create an experiment; its name must be new."""
        _refuse_unknown(body, _EXPERIMENT_FIELDS)
        name = body.get("display_name", "")
        if not name:
            raise InvalidArgument("Experiment must have a non-empty name")
        with self._lock:
            if any(e["display_name"] == name for e in self.experiments.values()):
                raise AlreadyExists(f"Failed to create a new experiment: the name {name} already exists")
            made = _made(body, "experiment_id", ("display_name", "description", "namespace"))
            self.experiments[made["experiment_id"]] = {**made, "storage_state": "AVAILABLE"}
            return self.experiments[made["experiment_id"]]

    def experiment(self, identity: str) -> Wire:
        """Return an experiment."""
        return _found(self.experiments, identity, "Experiment")

    def delete_experiment(self, identity: str) -> None:
        """Forget an experiment."""
        with self._lock:
            self.experiment(identity)
            del self.experiments[identity]

    # --- pipelines -----------------------------------------------------------------------------------------------

    def create_pipeline(self, fields: Mapping[str, str], spec: Spec) -> Wire:
        """Create a pipeline with its first version; its name must be new."""
        with self._lock:
            if any(p.wire["name"] == fields["name"] for p in self.pipelines.values()):
                raise AlreadyExists(f"Failed to create a new pipeline: the name {fields['name']} already exists")
            made = _made(fields, "pipeline_id", ("name", "display_name", "description", "namespace"))
            self.pipelines[made["pipeline_id"]] = Pipeline(made)
            self.create_version(made["pipeline_id"], fields, spec)
            return made

    def create_version(self, pipeline_id: str, fields: Mapping[str, str], spec: Spec) -> Wire:
        """Add a version to a pipeline; its name must be new there."""
        with self._lock:
            pipeline = self.pipeline(pipeline_id)
            if any(v["name"] == fields["name"] for v in pipeline.versions.values()):
                raise AlreadyExists(f"Failed to create a new pipeline version: {fields['name']} already exists")
            made = _made(fields, "pipeline_version_id", ("name", "display_name", "description"))
            version = {"pipeline_id": pipeline_id, **made, "pipeline_spec": spec}
            pipeline.versions[made["pipeline_version_id"]] = version
            return version

    def pipeline(self, identity: str) -> Pipeline:
        """Return a pipeline."""
        return _found(self.pipelines, identity, "Pipeline")

    def pipeline_named(self, name: str) -> Wire:
        """Return the pipeline of a name."""
        for pipeline in list(self.pipelines.values()):
            if pipeline.wire["name"] == name:
                return pipeline.wire
        raise NotFound(f"Pipeline {name} not found")

    def version(self, pipeline_id: str, version_id: str) -> Wire:
        """Return a version of a pipeline."""
        return _found(self.pipeline(pipeline_id).versions, version_id, "PipelineVersion")

    def delete_pipeline(self, identity: str, cascade: bool) -> None:
        """Forget a pipeline, which must have no versions unless they go with it."""
        with self._lock:
            if self.pipeline(identity).versions and not cascade:
                raise InvalidArgument(f"Failed to delete pipeline {identity}: it has versions")
            del self.pipelines[identity]

    def delete_version(self, pipeline_id: str, version_id: str) -> None:
        """Forget a version."""
        with self._lock:
            self.version(pipeline_id, version_id)
            del self.pipeline(pipeline_id).versions[version_id]

    # --- runs ----------------------------------------------------------------------------------------------------

    def check_run(self, body: Mapping[str, Any]) -> Run:
        """Return the run that a request asks for, not started yet; raise the error that the API answers."""
        _refuse_unknown(body, _RUN_FIELDS)
        if not body.get("display_name"):
            raise Internal("Failed to create a run: the display name is empty")
        experiment = self.experiment(body.get("experiment_id") or self._default["experiment_id"])
        spec, version = self._source(body)
        config = body.get("runtime_config") or {}
        parameters = config.get("parameters") or {}
        check_parameters(ir_of(spec), parameters)
        # The backend takes an id that the client chose; no client should rely on it.
        identity = body.get("run_id") or str(uuid.uuid4())
        return Run(
            run_id=identity,
            display_name=body["display_name"],
            description=body.get("description", ""),
            experiment_id=experiment["experiment_id"],
            namespace=experiment.get("namespace") or DEFAULT_NAMESPACE,
            service_account=body.get("service_account") or DEFAULT_SERVICE_ACCOUNT,
            spec=spec,
            version=version,
            parameters=parameters,
            pipeline_root=config.get("pipeline_root", ""),
            folder=RunFolder(self._folder / identity),
            linger_seconds=self._faults.linger_seconds,
        )

    def add_run(self, run: Run) -> None:
        """Commit a run and start it."""
        with self._lock:
            if run.run_id in self._runs:
                raise AlreadyExists(f"Failed to create a run: {run.run_id} already exists")
            self._runs[run.run_id] = run
            fails = self._faults.take("fail_next_runs")
        if fails:
            run.fail_before_start()
        else:
            run.start(self._launcher, self._pod(run))

    def run(self, identity: str) -> Run:
        """Return a run as it is now."""
        run = _found(self._runs, identity, "Run")
        run.refresh()
        return run

    def runs(self) -> list[Run]:
        """Return every run as it is now, oldest first."""
        found = list(self._runs.values())
        for run in found:
            run.refresh()
        return found

    def delete_run(self, identity: str) -> None:
        """Forget a run; one that still goes is killed."""
        with self._lock:
            self.run(identity).kill()
            del self._runs[identity]

    def _source(self, body: Mapping[str, Any]) -> tuple[Spec, dict[str, str] | None]:
        reference = body.get("pipeline_version_reference")
        if not reference:
            if "pipeline_spec" not in body:
                raise InvalidArgument("Failed to create a run: it has neither a pipeline spec nor a pipeline version")
            return read_inline(body["pipeline_spec"]), None
        try:
            versions = self.pipeline(reference.get("pipeline_id", "")).versions
            chosen = reference.get("pipeline_version_id") or list(versions)[-1]
            version = versions[chosen]
        except (NotFound, KeyError, IndexError) as error:
            raise Internal(f"Failed to create a run: failed to fetch the pipeline version: {error}") from error
        return version["pipeline_spec"], {"pipeline_id": version["pipeline_id"], "pipeline_version_id": chosen}


def _refuse_unknown(body: Mapping[str, Any], known: frozenset[str]) -> None:
    unknown = sorted(set(body) - known)
    if unknown:
        raise InvalidArgument(f'proto: (line 1:2): unknown field "{unknown[0]}"')


def _found(things: Mapping[str, _Thing], identity: str, kind: str) -> _Thing:
    if identity not in things:
        raise NotFound(f"{kind} {identity} not found")
    return things[identity]


def _made(values: Mapping[str, Any], identity: str, names: tuple[str, ...]) -> Wire:
    made = {identity: str(uuid.uuid4()), "created_at": timestamp(time.time())}
    return {**made, **{name: values[name] for name in names if values.get(name)}}
