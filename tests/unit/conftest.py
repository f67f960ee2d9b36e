"""Fixtures of more than one module of unit tests."""

from __future__ import annotations

import pytest

from baton import settling


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The metrics that settling counts, in order."""
    metrics: list[str] = []
    monkeypatch.setattr(settling, "count", metrics.append)
    return metrics


@pytest.fixture
def quiet_settling(counted: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Settling without its logs, for code that handles the same message many times."""
    for level in ("info", "warning", "error", "exception"):
        monkeypatch.setattr(settling.logger, level, lambda *_args, **_kwargs: None)
