"""Names and places of a run."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from baton.names import (
    KEPT_FOLDERS,
    RUN_ID_MAX,
    Layout,
    Names,
    is_run_id,
    parse_name,
    run_id_for,
    split_s3_uri,
    tags_of,
)
from tests.support.aws_models import NAMES_OF_SAGEMAKER, session

ARN = "arn:aws:states:eu-west-1:123456789012:execution:baton-training-run:one"
RUN_ID = "bt-0sq1x2k4f0a9c"


def test_a_retry_of_the_plan_gives_the_same_run_id() -> None:
    assert run_id_for(ARN, 1_777_886_952) == run_id_for(ARN, 1_777_886_952)


def test_two_executions_of_the_same_second_have_different_run_ids() -> None:
    assert run_id_for(ARN, 1_777_886_952) != run_id_for(ARN + "2", 1_777_886_952)


@given(st.integers(0, 36**7 - 2), st.integers(1, 10**6), st.text(min_size=1), st.text(min_size=1))
def test_run_ids_sort_by_start_and_keep_their_form(start: int, later: int, one: str, other: str) -> None:
    first = run_id_for(one, start)
    second = run_id_for(other, min(start + later, 36**7 - 1))
    assert first[:10] < second[:10]
    assert is_run_id(first)
    assert len(first) <= RUN_ID_MAX
    assert re.fullmatch(r"[a-z0-9-]+", first)


@pytest.mark.parametrize("prefix", ["Bt-", "1t-", "-", "much-too-long-", "b_"])
def test_a_prefix_that_makes_no_valid_name_is_refused(prefix: str) -> None:
    with pytest.raises(ValueError, match="run id"):
        run_id_for(ARN, 1_777_886_952, prefix)


def test_the_longest_prefix_that_the_template_allows_fits_every_name_of_sagemaker() -> None:
    run_id = run_id_for(ARN, 1_777_886_952, "bt0123-")
    names = Names.of(run_id)
    model = session().get_service_model("sagemaker")
    for kind, shape in NAMES_OF_SAGEMAKER.items():
        limits = model.shape_for(shape).metadata
        name = names.as_dict()[kind]
        assert len(name) <= limits["max"], kind
        assert re.fullmatch(limits["pattern"], name), kind


@pytest.mark.parametrize("kind", Names.of(RUN_ID).as_dict())
def test_every_name_is_read_back(kind: str) -> None:
    assert parse_name(Names.of(RUN_ID).as_dict()[kind]) == (kind, RUN_ID)


@pytest.mark.parametrize(
    "name",
    [
        "",
        RUN_ID,
        f"{RUN_ID}-",
        f"{RUN_ID}-tune-003-4f09c1d2",
        f"{RUN_ID}-train-2",
        f"x{RUN_ID}-train",
        "bt-0sq1x2k4f0a9-train",
        "bt-0sq1x2k4f0a9cc-train",
        "bt-0SQ1X2K4F0A9C-train",
        f"{RUN_ID}\n-train",
        f"{RUN_ID}-train\n",
        "recommender-prod",
    ],
)
def test_other_names_are_nobodys(name: str) -> None:
    assert parse_name(name) is None


def test_a_prefix_is_no_regular_expression() -> None:
    assert parse_name("btx0sq1x2k4f0a9c-train", "bt.") is None
    assert not is_run_id("btx0sq1x2k4f0a9c", "bt.")
    assert parse_name("a.-0sq1x2k4f0a9c-train", "a.-") == ("training", "a.-0sq1x2k4f0a9c")


def test_tags_name_the_run() -> None:
    assert tags_of(RUN_ID, ARN, "mnist_kmeans", "2026-05-05T09:30:12Z") == {
        "baton:run-id": RUN_ID,
        "baton:execution-arn": ARN,
        "baton:pipeline": "mnist_kmeans",
        "baton:expires-at": "2026-05-05T09:30:12Z",
    }


def test_all_that_a_run_writes_is_under_its_own_prefix() -> None:
    layout = Layout("bucket", RUN_ID)
    assert layout.key("report/report.html") == f"runs/{RUN_ID}/report/report.html"
    assert all(uri.startswith(f"s3://bucket/runs/{RUN_ID}/") for uri in layout.uris().values())


def test_model_predictions_and_report_are_in_the_folders_that_stay() -> None:
    uris = Layout("bucket", RUN_ID).uris()
    root = f"s3://bucket/runs/{RUN_ID}/"
    kept = {name for name, uri in uris.items() if uri.removeprefix(root).startswith(KEPT_FOLDERS)}
    assert kept == {"model_output", "predictions", "smoke_test", "report", "report_json"}


@pytest.mark.parametrize(
    ("uri", "parts"),
    [
        ("s3://bucket/key", ("bucket", "key")),
        ("s3://my.bucket-1/a/b c/ü.pkl", ("my.bucket-1", "a/b c/ü.pkl")),
        ("s3://bucket//key", ("bucket", "/key")),
    ],
)
def test_an_s3_uri_has_a_bucket_and_a_key(uri: str, parts: tuple[str, str]) -> None:
    assert split_s3_uri(uri) == parts


@pytest.mark.parametrize(
    "uri", ["", "s3://bucket", "s3://bucket/", "s3:///key", "S3://bucket/key", "https://b/k", "s3://B/k"]
)
def test_what_is_no_s3_uri_is_refused(uri: str) -> None:
    with pytest.raises(ValueError, match="s3://bucket/key"):
        split_s3_uri(uri)
