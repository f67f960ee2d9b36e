"""The run's objects on moto's S3: every version goes, what is kept or another's stays, refusals come to light."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from moto import mock_aws

from baton.errors import CleanUpIncomplete, TransientAwsError
from baton.names import Layout
from baton.objects import RunObjects, Swept

LAYOUT = Layout("run-bucket", "bt-0abcdef000001")


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    for name, value in {"ACCESS_KEY_ID": "x", "SECRET_ACCESS_KEY": "x", "DEFAULT_REGION": "us-east-1"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    with mock_aws():
        client = boto3.client("s3")
        client.create_bucket(Bucket=LAYOUT.bucket)
        yield client


def version_bucket(s3: Any) -> None:
    s3.put_bucket_versioning(Bucket=LAYOUT.bucket, VersioningConfiguration={"Status": "Enabled"})


def put(s3: Any, *keys: str) -> None:
    for key in keys:
        s3.put_object(Bucket=LAYOUT.bucket, Key=key, Body=b"x")


def remaining(s3: Any) -> list[str]:
    answer = s3.list_object_versions(Bucket=LAYOUT.bucket)
    return sorted(v["Key"] for v in answer.get("Versions", []) + answer.get("DeleteMarkers", []))


def test_all_versions_and_delete_markers_go(s3: Any) -> None:
    version_bucket(s3)
    put(s3, LAYOUT.key("data/train_data"), LAYOUT.key("data/train_data"), LAYOUT.key("input/valid_data.csv"))
    s3.delete_object(Bucket=LAYOUT.bucket, Key=LAYOUT.key("input/valid_data.csv"))
    objects = RunObjects(s3, LAYOUT)
    assert objects.left()
    assert objects.sweep() == Swept(deleted=1, versions=4)
    assert remaining(s3) == []
    assert objects.left() == []
    assert objects.sweep() == Swept()


def test_a_bucket_without_versions_is_emptied_too(s3: Any) -> None:
    put(s3, LAYOUT.key("data/train_data"), LAYOUT.key("tuning/job/model.tar.gz"))
    assert RunObjects(s3, LAYOUT).sweep() == Swept(deleted=2, versions=2)
    assert remaining(s3) == []


def test_more_than_a_page_goes(s3: Any) -> None:
    version_bucket(s3)
    put(s3, *(LAYOUT.key(f"tuning/{number:04}") for number in range(1050)))
    assert RunObjects(s3, LAYOUT).sweep() == Swept(deleted=1050, versions=1050)
    assert remaining(s3) == []


def test_kept_folders_and_everything_of_others_stay(s3: Any) -> None:
    version_bucket(s3)
    kept = [LAYOUT.key(path) for path in ("model/a/model.tar.gz", "predictions/out.csv", "report/report.html")]
    others = ["uploads/mnist_kmeans/mnist.pkl.gz", "runs/bt-0abcdef0000012/data/x", "runs/bt-0abcdef000002/data/x"]
    put(s3, *kept, *others, LAYOUT.key("data/x"), LAYOUT.key("modelling/x"))
    objects = RunObjects(s3, LAYOUT)
    assert objects.sweep().deleted == 2
    assert remaining(s3) == sorted(kept + others)
    assert objects.kept() == [LAYOUT.uri(folder) for folder in ("report/", "model/", "predictions/")]


def test_an_old_version_in_a_kept_folder_goes_and_the_current_one_stays(s3: Any) -> None:
    version_bucket(s3)
    key = LAYOUT.key("predictions/smoke_test.json")
    put(s3, key)
    put(s3, key)
    RunObjects(s3, LAYOUT).sweep()
    versions = s3.list_object_versions(Bucket=LAYOUT.bucket, Prefix=key)["Versions"]
    assert [version["IsLatest"] for version in versions] == [True]
    assert RunObjects(s3, LAYOUT).left() == []


def test_kept_names_only_the_folders_that_hold_something(s3: Any) -> None:
    put(s3, LAYOUT.key("model/model.tar.gz"))
    assert RunObjects(s3, LAYOUT).kept() == [LAYOUT.uri("model/")]


def test_unfinished_uploads_are_aborted_in_kept_folders_too_but_not_those_of_others(s3: Any) -> None:
    for key in (LAYOUT.key("data/test_data"), LAYOUT.key("model/model.tar.gz"), "uploads/mnist_kmeans/big.pkl"):
        s3.create_multipart_upload(Bucket=LAYOUT.bucket, Key=key)
    objects = RunObjects(s3, LAYOUT)
    assert objects.left() == [f"upload of {LAYOUT.key(path)}" for path in ("data/test_data", "model/model.tar.gz")]
    assert objects.sweep() == Swept(uploads_aborted=2)
    uploads = s3.list_multipart_uploads(Bucket=LAYOUT.bucket)["Uploads"]
    assert [upload["Key"] for upload in uploads] == ["uploads/mnist_kmeans/big.pkl"]


def test_an_upload_that_ends_while_it_is_being_aborted_is_no_error(s3: Any) -> None:
    s3.create_multipart_upload(Bucket=LAYOUT.bucket, Key=LAYOUT.key("data/test_data"))
    racing = Refusing(s3)
    racing.before_abort = lambda upload: s3.abort_multipart_upload(**upload)
    assert RunObjects(racing, LAYOUT).sweep() == Swept()


class Refusing:
    """An S3 client whose DeleteObjects answers with errors for single keys, as S3's does, with status 200."""

    def __init__(self, s3: Any, **codes: str) -> None:
        self._s3, self._codes = s3, codes
        self.before_abort: Any = lambda upload: None

    def delete_objects(self, Bucket: str, Delete: dict[str, Any]) -> dict[str, Any]:
        refused = [one for one in Delete["Objects"] if one["Key"].rsplit("/", 1)[1] in self._codes]
        allowed = [one for one in Delete["Objects"] if one not in refused]
        if allowed:
            self._s3.delete_objects(Bucket=Bucket, Delete={"Objects": allowed})
        return {"Errors": [{**one, "Code": self._codes[one["Key"].rsplit("/", 1)[1]]} for one in refused]}

    def abort_multipart_upload(self, **upload: str) -> None:
        self.before_abort(upload)
        self._s3.abort_multipart_upload(**upload)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._s3, name)


def test_an_object_that_s3_refuses_to_delete_is_named_after_the_rest_has_gone(s3: Any) -> None:
    put(s3, *(LAYOUT.key(f"data/{name}") for name in ("a", "locked", "z")))
    with pytest.raises(CleanUpIncomplete, match="data/locked: AccessDenied"):
        RunObjects(Refusing(s3, locked="AccessDenied"), LAYOUT).sweep()
    assert remaining(s3) == [LAYOUT.key("data/locked")]


def test_an_object_that_s3_cannot_delete_now_is_retried(s3: Any) -> None:
    put(s3, *(LAYOUT.key(f"data/{name}") for name in ("busy", "locked")))
    with pytest.raises(TransientAwsError):
        RunObjects(Refusing(s3, busy="SlowDown", locked="AccessDenied"), LAYOUT).sweep()


def test_a_version_that_another_caller_deleted_first_is_no_error(s3: Any) -> None:
    put(s3, LAYOUT.key("data/gone"))
    RunObjects(Refusing(s3, gone="NoSuchVersion"), LAYOUT).sweep()


def test_a_missing_bucket_is_told(s3: Any) -> None:
    with pytest.raises(ClientError, match="NoSuchBucket"):
        RunObjects(s3, Layout("no-such-bucket", "bt-0abcdef000001")).sweep()
