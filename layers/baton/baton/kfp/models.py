"""What the client returns: the few fields of KFP's answers that Baton goes by.

KFP leaves empty fields out of its answers, so every reading has a default.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from baton.kfp.states import RunState, is_terminal

_TOLD = {"tag_name": str, "commit_sha": str, "multi_user": bool}
"""What ``/healthz`` has, in KFP's own words: its handler writes all three, its published API has ``multi_user``."""


@dataclass(frozen=True)
class Health:
    """What ``/healthz`` tells: the server's version, and whether it keeps users apart."""

    tag: str
    commit: str
    multi_user: bool

    @classmethod
    def read(cls, answer: Mapping[str, Any]) -> Health | None:
        """Read an answer of ``/healthz``; None where it tells nothing that KFP tells, as of another server."""
        told = {name: answer[name] for name, kind in _TOLD.items() if isinstance(answer.get(name), kind)}
        if not told:
            return None
        return cls(told.get("tag_name", ""), told.get("commit_sha", ""), told.get("multi_user", False))


@dataclass(frozen=True)
class Experiment:
    """A KFP experiment: a folder of runs."""

    id: str
    name: str

    @classmethod
    def read(cls, answer: Mapping[str, Any]) -> Experiment:
        """Read an experiment."""
        return cls(str(answer["experiment_id"]), str(answer.get("display_name", "")))


@dataclass(frozen=True)
class PipelineRef:
    """A pipeline as KFP keeps it."""

    id: str
    name: str

    @classmethod
    def read(cls, answer: Mapping[str, Any]) -> PipelineRef:
        """Read a pipeline."""
        return cls(str(answer["pipeline_id"]), str(answer.get("name") or answer.get("display_name", "")))


@dataclass(frozen=True)
class Version:
    """A version of a pipeline as KFP keeps it."""

    id: str
    pipeline_id: str
    name: str

    @classmethod
    def read(cls, answer: Mapping[str, Any]) -> Version:
        """Read a pipeline version."""
        name = str(answer.get("name") or answer.get("display_name", ""))
        return cls(str(answer["pipeline_version_id"]), str(answer.get("pipeline_id", "")), name)


@dataclass(frozen=True)
class Run:
    """A KFP run; ``state`` is the raw state, ``error`` what KFP itself could not do (never why a step failed)."""

    id: str
    display_name: str
    state: str
    error: str | None
    created_at: str
    experiment_id: str
    pipeline_id: str | None
    version_id: str | None
    parameters: Mapping[str, Any] = field(default_factory=dict)

    def belongs_to(self, run_id: str, execution_arn: str) -> bool:
        """Whether it was posted for a run of Baton's: a display name is anybody's, so its runtime parameters tell.

        A pipeline that does not take the execution's ARN is known by the run id alone.
        """
        given = self.parameters
        return given.get("run_id") == run_id and given.get("execution_arn", execution_arn) == execution_arn

    @property
    def is_terminal(self) -> bool:
        """Whether the run has ended."""
        return is_terminal(self.state)

    @classmethod
    def read(cls, answer: Mapping[str, Any]) -> Run:
        """Read a run."""
        reference = answer.get("pipeline_version_reference") or {}
        return cls(
            id=str(answer["run_id"]),
            display_name=str(answer.get("display_name", "")),
            state=str(answer.get("state", RunState.UNSPECIFIED)),
            error=(answer.get("error") or {}).get("message"),
            created_at=str(answer.get("created_at", "")),
            experiment_id=str(answer.get("experiment_id", "")),
            pipeline_id=reference.get("pipeline_id"),
            version_id=reference.get("pipeline_version_id"),
            parameters=(answer.get("runtime_config") or {}).get("parameters") or {},
        )
