"""How a tuning job chooses the next hyperparameters: at random, or by Bayesian optimisation.

Each tunable hyperparameter becomes coordinates in the unit cube (a number one, a category one for each choice). The
Bayesian strategy fits a Gaussian process to what the finished jobs measured and takes, among random candidates, the
one with the greatest expected improvement; jobs that still run count as if they had measured the mean.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Values: TypeAlias = dict[str, str]
_Points: TypeAlias = npt.NDArray[np.float64]

RANDOM_STARTS = 3
_CANDIDATES = 400
_LENGTH_SCALE = 0.4
_NOISE = 1e-4
_EXPLORATION = 0.01


@dataclass(frozen=True)
class Parameter:
    """One tunable hyperparameter: numbers between two bounds, on a scale, or a choice."""

    name: str
    choices: tuple[str, ...] = ()
    low: float = 0.0
    high: float = 0.0
    integer: bool = False
    scale: str = "Linear"

    @property
    def count(self) -> float:
        """How many values there are to try."""
        if self.choices:
            return len(self.choices)
        return self.high - self.low + 1 if self.integer else math.inf

    def draw(self, source: random.Random) -> str:
        """Return a random value, as the text that a hyperparameter is."""
        return source.choice(self.choices) if self.choices else self.text(source.random())

    def text(self, position: float) -> str:
        """Return the value at a position between 0 and 1."""
        if self.scale == "Logarithmic":
            value = self.low * (self.high / self.low) ** position
        elif self.scale == "ReverseLogarithmic":
            value = 1 - (1 - self.low) * ((1 - self.high) / (1 - self.low)) ** position
        else:
            value = self.low + position * (self.high - self.low)
        return str(round(value)) if self.integer else repr(value)

    def coordinates(self, text: str) -> list[float]:
        """Return where a value is in the unit cube."""
        if self.choices:
            return [float(text == choice) for choice in self.choices]
        value = float(text)
        if self.scale == "Logarithmic":
            return [math.log(value / self.low) / math.log(self.high / self.low)]
        if self.scale == "ReverseLogarithmic":
            return [math.log((1 - value) / (1 - self.low)) / math.log((1 - self.high) / (1 - self.low))]
        return [(value - self.low) / (self.high - self.low)]


def read_ranges(ranges: dict[str, Any]) -> list[Parameter]:
    """Read ParameterRanges; raise ValueError for one that is empty or does not fit its scale."""
    found = [Parameter(r["Name"], tuple(r["Values"])) for r in ranges.get("CategoricalParameterRanges", ())]
    for kind, integer in (("IntegerParameterRanges", True), ("ContinuousParameterRanges", False)):
        found += [_read_range(entry, integer) for entry in ranges.get(kind, ())]
    names = [parameter.name for parameter in found]
    if len(set(names)) != len(names):
        raise ValueError("a hyperparameter has two ranges")
    return found


def _read_range(entry: dict[str, Any], integer: bool) -> Parameter:
    name, low, high = entry["Name"], float(entry["MinValue"]), float(entry["MaxValue"])
    scale = entry.get("ScalingType", "Auto")
    if not low < high or not math.isfinite(high - low) or (integer and (low % 1 or high % 1)):
        raise ValueError(f"The range of {name} from {entry['MinValue']} to {entry['MaxValue']} is not valid")
    if (scale == "Logarithmic" and low <= 0) or (scale == "ReverseLogarithmic" and not 0 <= low <= high < 1):
        raise ValueError(f"The range of {name} does not fit the scaling type {scale}")
    return Parameter(name, (), low, high, integer, scale)


@dataclass
class Search:
    """The search of one tuning job; the same seed and the same measurements give the same choices."""

    parameters: Sequence[Parameter]
    bayesian: bool
    minimise: bool
    seed: int

    def propose(self, tried: Sequence[tuple[Values, float | None]], pending: Sequence[Values]) -> Values:
        """Return the hyperparameters of the next job.

        ``tried``: those of the jobs that ended, each with its objective or None if it failed. ``pending``: those of
        the jobs that still run.
        """
        taken = [values for values, _ in tried] + list(pending)
        source = random.Random(f"{self.seed}:{len(taken)}")  # noqa: S311 (a search, not a secret)
        candidates = self._fresh([self._draw(source) for _ in range(_CANDIDATES)], taken)
        measured = [(values, objective) for values, objective in tried if objective is not None]
        if not self.bayesian or len(measured) < RANDOM_STARTS:
            return candidates[0]
        scores = self._expected_improvement(measured, pending, candidates)
        return candidates[int(np.argmax(scores))]

    def _draw(self, source: random.Random) -> Values:
        return {parameter.name: parameter.draw(source) for parameter in self.parameters}

    @staticmethod
    def _fresh(candidates: list[Values], taken: list[Values]) -> list[Values]:
        """Return the candidates that were not tried yet; where chance drew none of those, all."""
        return [candidate for candidate in candidates if candidate not in taken] or candidates

    def _points(self, values: Sequence[Values]) -> _Points:
        return np.array([[c for p in self.parameters for c in p.coordinates(v[p.name])] for v in values], np.float64)

    def _expected_improvement(
        self, measured: Sequence[tuple[Values, float]], pending: Sequence[Values], candidates: list[Values]
    ) -> _Points:
        objectives = np.array([objective for _, objective in measured]) * (1 if self.minimise else -1)
        scaled = (objectives - objectives.mean()) / (objectives.std() or 1.0)
        seen = self._points([values for values, _ in measured] + list(pending))
        mean, deviation = _gaussian_process(seen, np.append(scaled, np.zeros(len(pending))), self._points(candidates))
        gain = scaled.min() - mean - _EXPLORATION
        z = gain / deviation
        normal = np.array([(1 + math.erf(value / math.sqrt(2))) / 2 for value in z])
        return np.asarray(gain * normal + deviation * np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi))


def _gaussian_process(seen: _Points, objectives: _Points, asked: _Points) -> tuple[_Points, _Points]:
    """Return mean and standard deviation at the asked points, with a squared-exponential kernel."""
    solved = np.linalg.solve(_kernel(seen, seen) + _NOISE * np.eye(len(seen)), _kernel(seen, asked))
    variance = 1.0 - np.einsum("ij,ij->j", solved, _kernel(seen, asked))
    return solved.T @ objectives, np.sqrt(np.maximum(variance, 1e-9))


def _kernel(left: _Points, right: _Points) -> _Points:
    squares = ((left[:, None, :] - right[None, :, :]) ** 2).sum(axis=2)
    return np.asarray(np.exp(-squares / (2 * _LENGTH_SCALE**2)))
