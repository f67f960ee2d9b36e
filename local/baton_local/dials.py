"""The faults that the embedded cloud can be told to make, so that a run meets them on purpose."""

from __future__ import annotations

import json
import random
from dataclasses import asdict, dataclass, fields
from typing import Any

_MAX_DELAY_SECONDS = 3600.0


@dataclass(frozen=True)
class Dials:
    """How often each fault happens; every probability is between 0 and 1, and all at 0 means a quiet cloud.

    ``loss``, ``duplicate``, ``reorder``: of an event on its way from a service to a rule's target. S3's events are
    never lost, because AWS delivers them at least once, unlike SageMaker's and Step Functions'.
    ``delay_seconds``: the longest extra time that an event takes, drawn evenly from 0 up to it.
    ``crash``: of one Lambda invocation, whose sandbox is then killed right after one of its AWS calls.
    ``seed``: the same seed draws the same faults in the same order of calls.
    """

    loss: float = 0.0
    duplicate: float = 0.0
    reorder: float = 0.0
    delay_seconds: float = 0.0
    crash: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("loss", "duplicate", "reorder", "crash"):
            _check(name, getattr(self, name), 1.0)
        _check("delay_seconds", self.delay_seconds, _MAX_DELAY_SECONDS)
        if isinstance(self.seed, bool) or not isinstance(self.seed, int):
            raise ValueError(f"the dial seed must be a whole number, not {self.seed!r}")

    @classmethod
    def from_json(cls, text: str) -> Dials:
        """Read the dials from a JSON object; raise ValueError for an unknown dial or a value out of range."""
        values = json.loads(text or "{}")
        if not isinstance(values, dict):
            raise ValueError("the dials must be a JSON object")
        unknown = sorted(set(values) - {f.name for f in fields(cls)})
        if unknown:
            raise ValueError(f"unknown dials: {', '.join(unknown)}")
        return cls(**values)

    def as_json(self) -> str:
        """Return the dials as the JSON object that ``from_json`` reads."""
        return json.dumps(asdict(self))

    def randomness(self, purpose: str) -> random.Random:
        """Return a generator of its own for one purpose, so that one service's draws do not shift another's."""
        return random.Random(f"{self.seed}:{purpose}")  # noqa: S311 (faults, not secrets)


def _check(name: str, value: Any, maximum: float) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= maximum:
        raise ValueError(f"the dial {name} must be a number between 0 and {maximum:g}, not {value!r}")
