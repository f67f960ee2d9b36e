"""The pipelines layer as ``sam build`` lays it out, importable while a test runs."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@contextmanager
def packaged_pipelines(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Make ``baton_pipelines`` importable with the repository's pipelines in it."""
    package = folder / "baton_pipelines"
    for file in (ROOT / "pipelines").glob("*/pipeline.*"):
        if file.suffix in (".toml", ".yaml"):
            target = package / file.parent.name / file.name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)
    (package / "__init__.py").touch()
    monkeypatch.syspath_prepend(folder)
    sys.modules.pop("baton_pipelines", None)
    yield
    sys.modules.pop("baton_pipelines", None)
