"""The function prepare_data as Lambda invokes it, on moto's S3 and DynamoDB, with the packaged pipelines."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from baton import clients
from baton.errors import AccessDenied, InvalidDataset, RunEnded, TransientAwsError
from baton_local.datasets import pickled
from tests.support.functions import ROOT, Function, deployed, get, keys, put, runs
from tests.support.pickles import good, split, zipped
from tests.support.report_samples import RUN_ID, plan

UPLOAD = "uploads/mnist_kmeans/mnist.pkl.gz"
FOLDER = f"runs/{RUN_ID}/"


@pytest.fixture
def prepare_data(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Function]:
    # The package of the pipelines layer, as `sam build` lays it out.
    package = tmp_path / "baton_pipelines"
    shutil.copytree(ROOT / "pipelines/mnist_kmeans", package / "mnist_kmeans")
    (package / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "baton_pipelines", raising=False)
    with deployed("prepare_data", monkeypatch) as function:
        runs().open(plan())
        yield function
    sys.modules.pop("baton_pipelines", None)


def planned(version_id: str | None = None, **changes: Any) -> dict[str, Any]:
    dataset = {**plan()["dataset"], "version_id": version_id}
    return {"plan": plan(dataset=dataset, **changes)}


def test_it_writes_what_the_contract_names_and_returns_its_facts(prepare_data: Function) -> None:
    version = put(UPLOAD, zipped(good()))
    data = prepare_data(planned(version))
    uris = plan()["uris"]
    assert data == {
        "train": {"uri": uris["train"], "rows": 40, "columns": 784},
        "test": {"uri": uris["test"], "rows": 8, "columns": 784},
        "valid": {"uri": uris["valid"], "rows": 24, "columns": 784},
        "dataset": {
            "uri": plan()["dataset"]["uri"],
            "bytes": len(zipped(good())),
            "sha256": hashlib.sha256(zipped(good())).hexdigest(),
            "version_id": version,
        },
    }
    types = {key.removeprefix(FOLDER): get(key)["ContentType"] for key in keys() if key.startswith(FOLDER)}
    assert types == {
        "data/train_data": "application/x-recordio-protobuf",
        "data/test_data": "application/x-recordio-protobuf",
        "input/valid_data.csv": "text/csv",
        "data/valid_labels.json": "application/json",
        "data/manifest.json": "application/json",
    }
    manifest = json.loads(get(FOLDER + "data/manifest.json")["Body"])
    for facts in manifest["objects"].values():
        content = get(FOLDER + facts["path"])["Body"]
        assert (len(content), hashlib.sha256(content).hexdigest()) == (facts["bytes"], facts["sha256"])


@pytest.mark.parametrize(
    ("limit", "value", "said"),
    [
        ("max_bytes", 1000, "larger than 1,000 bytes"),
        ("max_unpacked_bytes", 50_000, "unpacks to more than 50,000 bytes"),
    ],
)
def test_the_limits_are_the_pipelines(
    prepare_data: Function, tmp_path: Path, limit: str, value: int, said: str
) -> None:
    rules = tmp_path / "baton_pipelines" / "mnist_kmeans" / "pipeline.toml"
    rules.write_text(re.sub(rf"(?m)^{limit} = .*$", f"{limit} = {value}", rules.read_text()))
    version = put(UPLOAD, zipped(good()))
    with pytest.raises(InvalidDataset, match=said):
        prepare_data(planned(version))
    assert not [key for key in keys() if key.startswith(FOLDER)]


def test_every_object_goes_to_s3_with_its_checksum_so_that_s3_refuses_other_bytes(prepare_data: Function) -> None:
    sent: dict[str, bool] = {}

    def note(params: dict[str, Any], **_: Any) -> None:
        checksum = base64.b64encode(hashlib.sha256(params["Body"]).digest()).decode()
        sent[params["Key"]] = params.get("ChecksumSHA256") == checksum

    clients.client("s3").meta.events.register("before-parameter-build.s3.PutObject", note)
    prepare_data(planned(put(UPLOAD, good())))
    assert len(sent) == 5
    assert [key for key, told in sent.items() if not told] == []


def test_it_reads_the_planned_version_even_when_another_was_uploaded_since(prepare_data: Function) -> None:
    version = put(UPLOAD, good())
    put(UPLOAD, b"something else altogether")
    assert prepare_data(planned(version))["train"]["rows"] == 40


def test_a_retry_writes_the_same_again(prepare_data: Function) -> None:
    event = planned(put(UPLOAD, good()))
    first = prepare_data(event)
    before = {key: get(key)["Body"] for key in keys()}
    assert prepare_data(event) == first
    assert {key: get(key)["Body"] for key in keys()} == before


def test_the_manifest_is_written_last(prepare_data: Function) -> None:
    prepare_data(planned(put(UPLOAD, good())))
    versions = boto3.client("s3").list_object_versions(Bucket="baton-runs", Prefix=FOLDER)["Versions"]
    last = max(versions, key=lambda version: version["LastModified"])
    assert last["Key"] == FOLDER + "data/manifest.json"


def test_a_bad_data_set_leaves_nothing(prepare_data: Function) -> None:
    with pytest.raises(InvalidDataset, match="is not a pickle"):
        prepare_data(planned(put(UPLOAD, b"a text file")))
    assert keys() == {UPLOAD}


@pytest.mark.parametrize(("rows", "has"), [(1, "1 row"), (19, "19 rows")])
def test_a_valid_split_that_is_too_small_for_the_smoke_test_is_refused(
    prepare_data: Function, rows: int, has: str
) -> None:
    event = planned(put(UPLOAD, pickled([split(40), split(rows), split(8)])))
    with pytest.raises(InvalidDataset, match=f"The valid split has {has}; the smoke test needs at least 20"):
        prepare_data(event)
    assert keys() == {UPLOAD}


def test_a_valid_split_of_any_size_is_taken_where_nothing_is_smoke_tested(prepare_data: Function) -> None:
    version = put(UPLOAD, pickled([split(40), split(1), split(8)]))
    stages = {**plan()["stages"], "endpoint": False}
    assert prepare_data(planned(version, stages=stages))["valid"]["rows"] == 1


def test_twenty_rows_are_enough(prepare_data: Function) -> None:
    version = put(UPLOAD, pickled([split(40), split(20), split(8)]))
    assert prepare_data(planned(version))["valid"]["rows"] == 20


def test_a_data_set_that_is_gone_is_named(prepare_data: Function) -> None:
    with pytest.raises(InvalidDataset, match=f"s3://baton-runs/{UPLOAD} cannot be read: .*NoSuchKey"):
        prepare_data(planned())


def test_the_row_width_is_the_plan_s(prepare_data: Function) -> None:
    version = put(UPLOAD, good())
    with pytest.raises(InvalidDataset, match=r"expected is \(rows, 64\)"):
        prepare_data(planned(version, parameters={"feature_dim": 64}))


def test_an_ended_run_gets_no_data(prepare_data: Function) -> None:
    event = planned(put(UPLOAD, good()))
    runs().end_badly(RUN_ID)
    with pytest.raises(RunEnded):
        prepare_data(event)
    assert keys() == {UPLOAD}


def test_a_run_that_ends_in_the_middle_gets_no_manifest(
    prepare_data: Function, monkeypatch: pytest.MonkeyPatch
) -> None:
    import baton.dataset.prepare as module

    whole = module._put

    def ends_after_the_second(artefact: Any, *rest: Any) -> Any:
        if artefact.name == "valid":
            runs().end_badly(RUN_ID)
        return whole(artefact, *rest)

    monkeypatch.setattr(module, "_put", ends_after_the_second)
    with pytest.raises(RunEnded):
        prepare_data(planned(put(UPLOAD, good())))
    assert keys() == {UPLOAD, FOLDER + "data/train_data", FOLDER + "data/test_data"}


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        ({"Code": "SlowDown", "Message": "m"}, TransientAwsError),
        ({"Code": "InternalError", "Message": "m"}, TransientAwsError),
        ({"Code": "AccessDenied", "Message": "m"}, AccessDenied),
        ({"Code": "InvalidRequest", "Message": "m"}, ClientError),
    ],
)
@pytest.mark.parametrize("operation", ["get_object", "put_object"])
def test_aws_s_own_failures_leave_by_name(
    prepare_data: Function,
    monkeypatch: pytest.MonkeyPatch,
    operation: str,
    error: dict[str, str],
    raised: type[Exception],
) -> None:
    event = planned(put(UPLOAD, good()))
    fail(monkeypatch, operation, error)
    with pytest.raises(raised):
        prepare_data(event)


def fail(monkeypatch: pytest.MonkeyPatch, operation: str, error: dict[str, str]) -> None:
    """Let a call of S3 fail from now on."""

    response: Any = {"Error": error}

    def fails(**_: Any) -> Any:
        raise ClientError(response, operation)

    monkeypatch.setattr(clients.client("s3"), operation, fails)


ROLE = "User: arn:aws:sts::1:assumed-role/r/f is not authorized to perform:"


def test_a_denial_that_s3_does_not_explain_says_what_it_may_mean(
    prepare_data: Function, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail(monkeypatch, "get_object", {"Code": "AccessDenied", "Message": "Access Denied"})
    with pytest.raises(AccessDenied, match=rf"prepare_data.* s3:GetObject on s3://baton-runs/{UPLOAD} .*nothing is"):
        prepare_data(planned())


@pytest.mark.parametrize(
    ("bucket", "message", "raised"),
    [
        ("baton-runs", f"{ROLE} s3:GetObjectVersion on resource: x", AccessDenied),
        ("another", f"{ROLE} s3:GetObject because no identity-based policy allows it", AccessDenied),
        ("another", f"{ROLE} s3:GetObject with an explicit deny in a resource-based policy", InvalidDataset),
        ("another", "Access Denied", InvalidDataset),
    ],
)
def test_a_denial_is_the_role_s_or_the_data_set_s(
    prepare_data: Function, monkeypatch: pytest.MonkeyPatch, bucket: str, message: str, raised: type[Exception]
) -> None:
    event = planned()
    event["plan"]["dataset"]["bucket"] = bucket
    fail(monkeypatch, "get_object", {"Code": "AccessDenied", "Message": message})
    with pytest.raises(raised, match=re.escape(message)):
        prepare_data(event)


def test_a_data_set_that_is_gone_is_no_missing_permission(
    prepare_data: Function, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where there is no object, S3 says that its caller may not list the bucket."""
    message = f"{ROLE} s3:ListBucket because no identity-based policy allows it"
    fail(monkeypatch, "get_object", {"Code": "AccessDenied", "Message": message})
    with pytest.raises(InvalidDataset, match=rf"s3://baton-runs/{UPLOAD} does not exist any more\."):
        prepare_data(planned())


def test_a_connection_that_breaks_in_the_middle_is_retryable(
    prepare_data: Function, monkeypatch: pytest.MonkeyPatch
) -> None:
    from io import BytesIO

    from botocore.response import StreamingBody

    from baton.clients import client

    half = good()[:50_000]
    answer = {"Body": StreamingBody(BytesIO(half), len(good()))}
    monkeypatch.setattr(client("s3"), "get_object", lambda **_: answer)
    with pytest.raises(TransientAwsError, match="before the whole data set was read"):
        prepare_data(planned())
