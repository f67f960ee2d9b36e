"""The same conversion on local files: what ``prepare_data`` writes to S3, written to a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from baton.catalogue import Pipeline
from baton.dataset.convert import Artefact, artefacts, manifest
from baton.dataset.mnist import COLUMNS, read_mnist
from baton.dataset.prepare import require_rows_to_test
from baton.dataset.source import Limits


def convert_file(path: Path, folder: Path, pipeline: Pipeline) -> dict[str, dict[str, Any]]:
    """Convert a pickle file into ``folder`` as for a run of a pipeline; return the manifest's facts of each object.

    Each file appears whole or not at all, the manifest last. Raises InvalidDataset and OSError.
    """
    width = pipeline.parameters.get("feature_dim")
    with path.open("rb") as stream:
        mnist = read_mnist(stream, Limits.of(pipeline.dataset_rules), int(width.default) if width else COLUMNS)
    if "endpoint" in pipeline.stages:
        require_rows_to_test(mnist)
    facts = {}
    for artefact in artefacts(mnist):
        _write(artefact, folder)
        facts[artefact.name] = artefact.facts()
    _write(manifest(mnist, facts, {"uri": path.name}), folder)
    return facts


def _write(artefact: Artefact, folder: Path) -> None:
    target = folder / artefact.path
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_name(target.name + ".part")
    unfinished.write_bytes(artefact.content)
    unfinished.replace(target)
