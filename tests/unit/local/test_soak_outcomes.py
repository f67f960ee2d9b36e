"""How a soak judges what a run came to."""

from __future__ import annotations

from typing import Any

import pytest

from baton_local.soak import DATASET, GATE, GOOD, JOB, STOP, Outcome, Soak

COMPLETE = {"predictions": list(range(10)), "model_artefact": "s3://b/m.tar.gz"}


@pytest.mark.parametrize(
    ("story", "status", "error", "output", "verdict"),
    [
        (GOOD, "SUCCEEDED", None, COMPLETE, "succeeded"),
        (GOOD, "SUCCEEDED", None, {**COMPLETE, "predictions": []}, "wrong"),
        (GOOD, "FAILED", "GateNotMet", {}, "wrong"),
        (GOOD, "FAILED", "Runtime.ExitError", {}, "failed_as_intended"),
        (GOOD, "ABORTED", None, {}, "wrong"),
        (GOOD, "RUNNING", None, {}, "stuck"),
        (GATE, "SUCCEEDED", None, COMPLETE, "wrong"),
        (GATE, "FAILED", "GateNotMet", {}, "failed_as_intended"),
        (GATE, "FAILED", "JobFailed", {}, "wrong"),
        (DATASET, "FAILED", "InvalidDataset", {}, "failed_as_intended"),
        (JOB, "FAILED", "JobFailed", {}, "failed_as_intended"),
        (JOB, "FAILED", "States.Runtime", {}, "wrong"),
        (STOP, "ABORTED", None, {}, "failed_as_intended"),
        (STOP, "SUCCEEDED", None, COMPLETE, "succeeded"),
        (STOP, "FAILED", "States.Runtime", {}, "wrong"),
    ],
)
def test_the_verdict_on_one_run(
    story: str, status: str, error: str | None, output: dict[str, Any], verdict: str
) -> None:
    assert Outcome(0, story, "arn", status, error, None, output).verdict == verdict


@pytest.mark.parametrize("bad", [{"lost": 1}, {"stuck": 1}, {"wrong": 1}, {"leftovers": ["endpoint bt-x"]}])
def test_one_broken_promise_spoils_a_soak(bad: dict[str, Any]) -> None:
    assert Soak(runs=5, succeeded=5).good
    assert not Soak(runs=5, succeeded=4, **bad).good
