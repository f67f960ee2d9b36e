"""A walk through a DAG in which independent tasks overlap, as they do on a cluster.

``kfp.local`` runs the tasks of a DAG one after another. This walk replaces its loop and nothing else: inputs, tasks,
outputs and final status are ``kfp.local``'s own. DAGs with loops or conditions are left to ``kfp.local``.
"""

from __future__ import annotations

import concurrent.futures
from collections.abc import Callable, Mapping
from typing import Any

from kfp.local import io, status  # type: ignore[import-untyped]
from kfp.local.orchestrator import dag_orchestrator  # type: ignore[import-untyped]
from kfp.local.orchestrator import enhanced_dag_orchestrator as orchestrator
from kfp.local.orchestrator.orchestrator_utils import OrchestratorUtils  # type: ignore[import-untyped]
from kfp.pipeline_spec import pipeline_spec_pb2  # type: ignore[import-untyped]

_ON_COMPLETION = pipeline_spec_pb2.PipelineTaskSpec.TriggerPolicy.TriggerStrategy.ALL_UPSTREAM_TASKS_COMPLETED
_sequential = orchestrator.run_enhanced_dag

Answer = tuple[dict[str, Any], Any]


def install() -> None:
    """Make ``kfp.local`` walk DAGs this way, the nested ones too."""
    orchestrator.run_enhanced_dag = run_dag
    dag_orchestrator.run_dag = run_dag


def run_dag(**arguments: Any) -> Answer:
    """Run a DAG; takes and returns what ``run_enhanced_dag`` does."""
    spec = arguments["dag_component_spec"]
    tasks = dict(spec.dag.tasks)
    if any(task.trigger_policy.condition or task.WhichOneof("iterator") for task in tasks.values()):
        return _sequential(**arguments)  # type: ignore[no-any-return]
    walk = _Walk(tasks, _io_store(spec, arguments), arguments)
    walk.run({n: t for n, t in tasks.items() if not _is_exit(t)})
    for name, task in tasks.items():
        if _is_exit(task):
            walk.run({name: task})
    if walk.failed:
        return {}, status.Status.FAILURE
    return OrchestratorUtils.get_dag_outputs(spec.dag.outputs, walk.store), status.Status.SUCCESS


def _io_store(spec: Any, arguments: Mapping[str, Any]) -> Any:
    inputs = OrchestratorUtils.join_user_inputs_and_defaults(arguments["dag_arguments"], spec.input_definitions)
    store = io.IOStore(parent=arguments.get("parent_io_store"))
    for name, value in inputs.items():
        store.put_parent_input(name, value)
    return store


def _is_exit(task: Any) -> bool:
    return task.trigger_policy.strategy == _ON_COMPLETION and any(
        p.HasField("task_final_status") for p in task.inputs.parameters.values()
    )


class _Walk:
    """The state of one walk: what failed, and the outputs so far."""

    def __init__(self, tasks: Mapping[str, Any], store: Any, arguments: Mapping[str, Any]) -> None:
        self.store = store
        self.failed: set[str] = set()
        self._tasks = tasks
        self._shared = {
            name: arguments[name]
            for name in ("pipeline_resource_name", "components", "executors", "pipeline_root", "runner",
                         "unique_pipeline_id", "fail_stack")
        }  # fmt: skip

    def run(self, tasks: Mapping[str, Any]) -> None:
        """Run these tasks, each as soon as those that it depends on have ended."""
        waiting = dict(tasks)
        with concurrent.futures.ThreadPoolExecutor(max_workers=max(1, len(tasks))) as pool:
            running: dict[concurrent.futures.Future[Answer], str] = {}
            while waiting or running:
                self._start(waiting, running, pool.submit)
                done, _ = concurrent.futures.wait(running, return_when=concurrent.futures.FIRST_COMPLETED)
                for future in done:
                    self._settle(running.pop(future), *future.result())

    def _start(
        self,
        waiting: dict[str, Any],
        running: dict[concurrent.futures.Future[Answer], str],
        submit: Callable[..., concurrent.futures.Future[Answer]],
    ) -> None:
        for name in list(waiting):
            open_ = set(waiting) | set(running.values())
            task = waiting[name]
            if open_ & set(task.dependent_tasks):
                continue
            del waiting[name]
            if self.failed & set(task.dependent_tasks) and task.trigger_policy.strategy != _ON_COMPLETION:
                self._settle(name, {}, status.Status.FAILURE)
                continue
            future = submit(
                orchestrator.execute_task, task_name=name, task_spec=task, io_store=self.store, **self._shared
            )
            running[future] = name

    def _settle(self, name: str, outputs: Mapping[str, Any], result: Any) -> None:
        succeeded = result == status.Status.SUCCESS
        self.store.put_task_status(name, "SUCCEEDED" if succeeded else "FAILED")
        for key, value in outputs.items():
            self.store.put_task_output(name, key, value)
        if not succeeded:
            self.failed.add(name)
            self._shared["fail_stack"].append(name)
