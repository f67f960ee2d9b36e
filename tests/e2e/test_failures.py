"""Everything that can be wrong ends in a clear FAILED, or a refusal, with nothing left."""

from __future__ import annotations

import gzip
import pickle
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from baton_local.datasets import pickled
from baton_local.run import NotStarted, Result, Run
from tests.e2e.conftest import Stage, digits

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("stage")]


@pytest.fixture(autouse=True)
def healthy_again(stage: Stage) -> Iterator[None]:
    yield
    stage.sagemaker_faults()
    stage.kfp_faults(down="", login_page=False, fail_next_runs=0)


def refused(stage: Stage, dataset: Path) -> str:
    """Play a data set that Prepare data must refuse; return the cause that a person reads."""
    result = stage.play(dataset)
    assert (result.status, result.error, result.leftovers) == ("FAILED", "InvalidDataset", [])
    assert result.report_file is not None
    assert result.cause is not None
    assert "\n" not in result.cause
    return result.cause


def failed(result: Result, error: str) -> str:
    assert (result.status, result.error, result.leftovers) == ("FAILED", error, [])
    assert result.cause is not None
    return result.cause


def test_a_text_file_with_the_name_of_a_gzip(stage: Stage) -> None:
    cause = refused(stage, stage.file("mnist.pkl.gz", b"This is no pickle, and no gzip either.\n" * 40))
    assert "pickle" in cause or "gzip" in cause


def test_a_pickle_that_calls_os_system_runs_nothing(stage: Stage) -> None:
    trace = stage.folder / "it-ran"

    class Attack:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            import os

            return os.system, (f"touch {trace}",)

    cause = refused(stage, stage.pickle_of("attack.pkl", Attack()))
    assert "system" in cause
    assert not trace.exists()


def test_a_gzip_bomb(stage: Stage) -> None:
    # One text of 400 MB in a pickle, which packs to 400 kB.
    bomb = gzip.compress(b"\x80\x02T" + struct.pack("<i", 400_000_000) + bytes(400_000_000), compresslevel=9)
    cause = refused(stage, stage.file("bomb.pkl.gz", bomb))
    assert "unpacks" in cause or "ratio" in cause or "times" in cause


def test_wrong_shapes(stage: Stage) -> None:
    train, labels = digits(50)
    splits = [(train[:, :700], labels), digits(20), digits(20)]
    cause = refused(stage, stage.file("shapes.pkl", pickled(splits)))  # type: ignore[arg-type]
    assert "700" in cause
    assert "784" in cause


def test_labels_that_are_missing(stage: Stage) -> None:
    images, labels = digits(50)
    cause = refused(stage, stage.file("labels.pkl", pickled([(images, labels[:30]), digits(20), digits(20)])))
    assert "label" in cause


def test_pixels_that_are_no_numbers(stage: Stage) -> None:
    images, labels = digits(50)
    images[3, 5] = np.nan
    cause = refused(stage, stage.file("nan.pkl", pickled([(images, labels), digits(20), digits(20)])))
    assert "NaN" in cause or "finite" in cause


def test_an_accuracy_gate_that_is_not_met(stage: Stage) -> None:
    cause = failed(stage.play(given={"smoke_test": {"min_accuracy": 0.999}}), "GateNotMet")
    assert "0.999" in cause


def test_a_training_job_that_the_algorithm_refuses_names_sagemakers_own_reason(stage: Stage) -> None:
    stage.sagemaker_faults(training={"match": "bt-*-train", "fail": "AlgorithmError: the disk is on fire"})
    assert "the disk is on fire" in failed(stage.play(), "JobFailed")


def test_an_endpoint_that_fails(stage: Stage) -> None:
    stage.sagemaker_faults(endpoint={"fail": "The primary container did not pass the ping health check."})
    assert "ping health check" in failed(stage.play(), "JobFailed")


def test_a_pipeline_run_that_fails_before_any_job_exists(stage: Stage) -> None:
    stage.kfp_faults(fail_next_runs=1)
    result = stage.play(given={"deadline_seconds": 120})
    assert result.status == "FAILED"
    assert result.error in ("PipelineRunFailed", "DeadlineExceeded", "NeverCreated")
    assert result.leftovers == []


def test_a_login_page_in_front_of_kubeflow_pipelines(stage: Stage) -> None:
    stage.kfp_faults(login_page=True)
    run = Run(stage.deployment)
    execution = run.start(stage.good, {})
    time.sleep(5)
    stage.kfp_faults(login_page=False)
    assert "login page" in failed(run.follow(execution), "KfpMisconfigured")


def test_three_wrong_fields_are_told_at_once(stage: Stage) -> None:
    run = Run(stage.deployment)
    execution = run.start(stage.good, {"parameters": {"k": "ten"}, "colour": "red", "deadline_seconds": -1})
    cause = failed(run.follow(execution), "InvalidInput")
    for field in ("k", "colour", "deadline_seconds"):
        assert field in cause


@pytest.mark.parametrize(
    ("key", "content"),
    [("uploads/mnist_kmeans/empty.pkl.gz", b""), ("uploads/no_such_pipeline/a.pkl", b"x"), ("uploads/stray.pkl", b"x")],
)
def test_an_upload_that_starts_nothing_is_told_to_the_topic(stage: Stage, key: str, content: bytes) -> None:
    run = Run(stage.deployment)
    run._note_earlier()
    stage.deployment.client("s3").put_object(Bucket=stage.deployment.bucket, Key=key, Body=content)
    with pytest.raises(NotStarted, match=key.rpartition("/")[2]):
        run._started()


def test_a_pickle_of_something_else(stage: Stage) -> None:
    refused(stage, stage.file("list.pkl", pickle.dumps([1, 2, 3], protocol=2)))
