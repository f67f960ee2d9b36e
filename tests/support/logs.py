"""What was logged."""

from __future__ import annotations

import pytest


def warned_of(caplog: pytest.LogCaptureFixture, reason: str) -> bool:
    """Return whether Baton has warned, each time for a reason with these words in it."""
    warnings = [record for record in caplog.records if (record.name, record.levelname) == ("baton", "WARNING")]
    return bool(warnings) and all(reason in warning.__dict__["reason"] for warning in warnings)
