"""What ``baton local`` refuses before the embedded cloud starts: what it could only find out seconds or a run later.

Each check raises ValueError with one sentence for a person. The checks of a data set repeat what start_run refuses,
which stays the judge of every upload; here they only save the wait.
"""

from __future__ import annotations

import os
from pathlib import Path

from baton.catalogue import Catalogue, Pipeline, did_you_mean
from baton_local import regions
from baton_local.deployment import repository

MAX_PORT = 65_535


class WouldBeRefused(ValueError):
    """start_run would refuse this upload."""


def region(name: str) -> None:
    """Refuse a region that there is not."""
    problem = regions.problem_with(name)
    if problem:
        raise ValueError(problem)


def at_least_one(option: str, number: int) -> None:
    """Refuse a count that is no count."""
    if number < 1:
        raise ValueError(f"{option} must be 1 or more, not {number}.")


def port(number: int | None) -> None:
    """Refuse what is no port; None is a free one."""
    if number is not None and not 1 <= number <= MAX_PORT:
        raise ValueError(f"--port must be from 1 to {MAX_PORT}, not {number}.")


def writable(option: str, path: Path | None) -> None:
    """Refuse a file that could not be written; nothing is made or changed by looking."""
    if path is None:
        return
    folder = path.parent
    if path.is_dir():
        raise ValueError(f"{option} takes a file, and {path} is a folder.")
    if not folder.is_dir():
        raise ValueError(f"{option} {path} cannot be written: there is no folder {folder}.")
    if not os.access(path if path.exists() else folder, os.W_OK):
        raise ValueError(f"{option} {path} cannot be written: it may not be changed by this user.")


def pipeline(catalogue: Catalogue, name: str) -> Pipeline:
    """Return the pipeline of a name; raises WouldBeRefused where there is none."""
    found = catalogue.find(name)
    if found is None:
        raise WouldBeRefused(f"There is no pipeline {name!r}{did_you_mean(name, catalogue.names)}.")
    return found


def upload(pipeline_name: str, dataset: Path | None) -> None:
    """Refuse a pipeline that there is not, and a file that is no data set of it; raises WouldBeRefused."""
    found = pipeline(Catalogue.read(repository() / "pipelines"), pipeline_name)
    if dataset is None:
        return
    rules = found.dataset_rules
    suffixes = " or ".join(rules.suffixes)
    if not dataset.is_file():
        raise WouldBeRefused(f"There is no file {dataset}: --dataset takes a {suffixes} file.")
    if not os.access(dataset, os.R_OK):
        raise WouldBeRefused(f"{dataset} may not be read by this user.")
    if not dataset.name.endswith(rules.suffixes):
        raise WouldBeRefused(f"{dataset} is no data set of {found.name}: its name must end in {suffixes}.")
    size = dataset.stat().st_size
    if not 0 < size <= rules.max_bytes:
        raise WouldBeRefused(f"{dataset} has {size} bytes; a data set has from 1 to {rules.max_bytes}.")
