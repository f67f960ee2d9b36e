"""Listings, of S3 above all, while others write and delete."""

from __future__ import annotations

import copy
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import boto3
import moto.s3.models
import moto.sns.models
import pytest
from moto import mock_aws

from baton_local import listings, seams


@pytest.fixture
def busy_bucket() -> Iterator[Any]:
    """A client of a bucket with one object, whose listings are guarded."""
    listings.install()
    with mock_aws():
        s3 = boto3.client("s3", "us-east-1", aws_access_key_id="x", aws_secret_access_key="x")
        s3.create_bucket(Bucket="busy")
        s3.put_object(Bucket="busy", Key="stays", Body=b"x")
        yield s3
    seams.restore()


def overtaken_once(function: Callable[..., Any], error: Exception) -> Callable[..., Any]:
    """Return the function, which fails at its first call."""
    calls = []

    def overtaken(*arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == 1:
            raise error
        return function(*arguments)

    return overtaken


def test_versions_are_listed_though_one_is_deleted_meanwhile(busy_bucket: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = overtaken_once(copy.deepcopy, ValueError("I/O operation on closed file."))
    monkeypatch.setattr(moto.s3.models.copy, "deepcopy", closed)
    assert [v["Key"] for v in busy_bucket.list_object_versions(Bucket="busy")["Versions"]] == ["stays"]


def test_objects_are_listed_though_one_is_deleted_meanwhile(busy_bucket: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    store = moto.s3.utils._VersionedKeyStore
    monkeypatch.setattr(store, "items", overtaken_once(store.items, KeyError("gone")))
    assert [o["Key"] for o in busy_bucket.list_objects_v2(Bucket="busy", Prefix="st")["Contents"]] == ["stays"]


def test_a_listing_of_versions_copies_no_content(busy_bucket: Any) -> None:
    busy_bucket.put_bucket_versioning(Bucket="busy", VersioningConfiguration={"Status": "Enabled"})
    put = busy_bucket.put_object(Bucket="busy", Key="large", Body=b"x" * 4_000_000)
    busy_bucket.delete_object(Bucket="busy", Key="large")
    tracemalloc.start()
    try:
        listed = busy_bucket.list_object_versions(Bucket="busy", Prefix="large")
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    [version] = listed["Versions"]
    assert (version["Size"], version["ETag"], version["IsLatest"]) == (4_000_000, put["ETag"], False)
    assert [marker["Key"] for marker in listed["DeleteMarkers"]] == ["large"]
    assert most < 4_000_000
    kept = busy_bucket.get_object(Bucket="busy", Key="large", VersionId=version["VersionId"])["Body"].read()
    assert len(kept) == 4_000_000


def test_a_subscription_is_made_though_others_subscribe_meanwhile(
    busy_bucket: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    sns = boto3.client("sns", "us-east-1", aws_access_key_id="x", aws_secret_access_key="x")
    topic = sns.create_topic(Name="busy")["TopicArn"]

    class Busy(dict[str, Any]):
        values = overtaken_once(dict.values, RuntimeError("dictionary changed size during iteration"))

    backend = moto.sns.models.sns_backends["123456789012"]["us-east-1"]
    monkeypatch.setattr(backend, "subscriptions", Busy())
    assert sns.subscribe(TopicArn=topic, Protocol="https", Endpoint="https://example.org")["SubscriptionArn"]


def test_what_keeps_changing_is_an_error_in_the_end() -> None:
    looks = []

    def look() -> None:
        looks.append(1)
        raise KeyError("gone")

    with pytest.raises(KeyError):
        listings.again(look)
    assert len(looks) == 20
