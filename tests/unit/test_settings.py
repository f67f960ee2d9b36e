"""The settings that functions read from their environment."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest

from baton.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
LEAST = {"AWS_REGION": "cn-northwest-1", "BATON_PARTITION": "aws-cn", "BATON_URL_SUFFIX": "amazonaws.com.cn"}


def test_a_function_needs_region_partition_and_suffix_only() -> None:
    read = Settings.read(LEAST)
    assert (read.region, read.partition, read.url_suffix) == ("cn-northwest-1", "aws-cn", "amazonaws.com.cn")
    assert (read.run_prefix, read.heartbeat_seconds, read.dataset_buckets) == ("bt-", 900, ())


@pytest.mark.parametrize("missing", LEAST)
def test_an_environment_without_one_of_them_is_refused(missing: str) -> None:
    with pytest.raises(KeyError, match=missing):
        Settings.read({name: value for name, value in LEAST.items() if name != missing})


def test_numbers_are_numbers_and_texts_are_texts() -> None:
    read = Settings.read({**LEAST, "BATON_HEARTBEAT_SECONDS": "5", "BATON_PIPELINE_POLL_SECONDS": "0.2"})
    assert read.heartbeat_seconds == 5
    assert read.pipeline_poll_seconds == "0.2"


def test_a_number_that_is_none_is_an_error_at_once() -> None:
    with pytest.raises(ValueError, match="soon"):
        Settings.read({**LEAST, "BATON_HEARTBEAT_SECONDS": "soon"})


def test_an_empty_setting_has_its_default() -> None:
    assert Settings.read({**LEAST, "BATON_KFP_MODE": ""}).kfp_mode == "direct"


def test_data_set_buckets_are_given_as_arns_of_any_partition_and_kept_as_names() -> None:
    arns = "arn:aws-cn:s3:::one, arn:aws-cn:s3:::two,,plain-name"
    assert Settings.read({**LEAST, "BATON_DATASET_BUCKETS": arns}).dataset_buckets == ("one", "two", "plain-name")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"KFP_URL": "https://kfp.internal/pipeline/"}, "https://kfp.internal/pipeline, namespace kubeflow"),
        ({"KFP_URL": "http://user:word@kfp.internal:8888"}, "http://kfp.internal:8888, namespace kubeflow"),
        ({"KFP_URL": "https://page", "KFP_MODE": "eks-proxy", "KFP_CLUSTER": "one"}, "cluster one, namespace kubeflow"),
        ({"KFP_URL": "http://kfp", "KFP_NAMESPACE": "team"}, "http://kfp, namespace team"),
        ({}, ", namespace kubeflow"),
    ],
)
def test_an_installation_is_named_by_what_finds_it_and_by_no_secret(given: dict[str, str], said: str) -> None:
    environ = {**LEAST, **{f"BATON_{name}": value for name, value in given.items()}}
    assert Settings.read({**environ, "BATON_KFP_SECRET_ARN": "arn:secret"}).kfp_installation == said


def test_every_setting_that_the_template_gives_is_one_that_the_code_reads() -> None:
    given = set(re.findall(r"\bBATON_([A-Z_]+):", (ROOT / "template.yaml").read_text()))
    known = {field.name.upper() for field in fields(Settings)}
    assert given
    assert given <= known
