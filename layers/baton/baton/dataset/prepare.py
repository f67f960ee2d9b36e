"""Preparing a run's data: the data set on S3 becomes the objects that the pipeline's jobs read."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from botocore.exceptions import ClientError, IncompleteReadError

from baton.catalogue import MIN_ROWS
from baton.dataset.convert import Artefact, artefacts, manifest
from baton.dataset.mnist import COLUMNS, Mnist, read_mnist
from baton.dataset.source import Limits
from baton.denied import is_denial, read_denied
from baton.errors import AccessDenied, InvalidDataset, TransientAwsError
from baton.names import split_s3_uri
from baton.runs import Runs

_UNREADABLE = ("NoSuchKey", "NoSuchVersion", "NoSuchBucket", "AccessDenied", "404", "403", "InvalidArgument")
# AWS's words: https://docs.aws.amazon.com/IAM/latest/UserGuide/troubleshoot_access-denied.html
_NAMED = "is not authorized to perform:"
_THE_ROLES_OWN = "identity-based policy"
# S3 asks for it only where there is no such object: https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObject.html
_NOTHING_IS_THERE = f"{_NAMED} s3:ListBucket"


def prepare(plan: dict[str, Any], limits: Limits, s3: Any, runs: Runs) -> dict[str, Any]:
    """Convert the plan's data set, write its objects and the manifest last, and return the state's ``data``.

    A second call writes the same bytes again. Each object appears whole or not at all, because a PUT is atomic:
    https://docs.aws.amazon.com/AmazonS3/latest/userguide/Welcome.html#ConsistencyModel

    Raises InvalidDataset, AccessDenied, RunEnded, TransientAwsError where the connection breaks, and ClientError.
    """
    runs.require_open(plan["run_id"])
    mnist = _read(plan, limits, s3)
    if plan["stages"]["endpoint"]:
        require_rows_to_test(mnist)
    facts = {}
    for artefact in artefacts(mnist):
        facts[artefact.name] = _put(artefact, plan, s3, runs)
    _put(manifest(mnist, facts, plan["dataset"]), plan, s3, runs)
    return _data(plan, facts, mnist)


def _read(plan: dict[str, Any], limits: Limits, s3: Any) -> Mnist:
    dataset = plan["dataset"]
    request = {"Bucket": dataset["bucket"], "Key": dataset["key"]}
    if dataset.get("version_id"):
        request["VersionId"] = dataset["version_id"]
    columns = int(plan["parameters"].get("feature_dim", COLUMNS))
    with _cut_streams_are_transient():
        try:
            answer = s3.get_object(**request)
        except ClientError as error:
            if error.response["Error"]["Code"] not in _UNREADABLE:
                raise
            raise _unreadable(error, plan) from error
        return read_mnist(answer["Body"], limits, columns)


def _unreadable(error: ClientError, plan: dict[str, Any]) -> AccessDenied | InvalidDataset:
    """Tell a permission that the function's role lacks from a data set that is gone, or its owner's to refuse.

    The stack's role may read all of the run bucket; of another bucket only AWS's own words tell whose the refusal is.
    """
    dataset, message = plan["dataset"], error.response["Error"].get("Message", "")
    if _NOTHING_IS_THERE in message:
        return InvalidDataset(f"The data set {dataset['uri']} does not exist any more.")
    run_bucket, _ = split_s3_uri(plan["uris"]["manifest"])
    if is_denial(error) and (dataset["bucket"] == run_bucket or _THE_ROLES_OWN in message):
        return AccessDenied(message if _NAMED in message else read_denied(dataset["uri"], dataset.get("version_id")))
    return InvalidDataset(f"The data set {dataset['uri']} cannot be read: {error}.")


def require_rows_to_test(mnist: Mnist) -> None:
    """Refuse a valid split with fewer rows than a smoke test may be set to send."""
    rows = len(mnist.valid.labels)
    if rows < MIN_ROWS:
        has = f"{rows} row" + ("" if rows == 1 else "s")
        raise InvalidDataset(f"The valid split has {has}; the smoke test needs at least {MIN_ROWS}.")


@contextmanager
def _cut_streams_are_transient() -> Iterator[None]:
    try:
        yield
    except IncompleteReadError as error:
        raise TransientAwsError(f"S3 closed the connection before the whole data set was read: {error}") from error


def _put(artefact: Artefact, plan: dict[str, Any], s3: Any, runs: Runs) -> dict[str, Any]:
    """Write one object; S3 refuses bytes that do not have the checksum, so what the manifest says is what is there."""
    runs.require_open(plan["run_id"])
    bucket, key = split_s3_uri(plan["uris"][artefact.name])
    facts = artefact.facts()
    s3.put_object(
        Bucket=bucket,
        Key=key,
        Body=artefact.content,
        ContentType=artefact.content_type,
        ChecksumSHA256=base64.b64encode(bytes.fromhex(facts["sha256"])).decode(),
    )
    return facts


def _data(plan: dict[str, Any], facts: dict[str, dict[str, Any]], mnist: Mnist) -> dict[str, Any]:
    dataset = plan["dataset"]
    splits = {
        name: {"uri": plan["uris"][name], "rows": facts[name]["rows"], "columns": facts[name]["columns"]}
        for name in ("train", "test", "valid")
    }
    whole = {
        "uri": dataset["uri"],
        "bytes": mnist.bytes_read,
        "sha256": mnist.sha256,
        "version_id": dataset.get("version_id"),
    }
    return {**splits, "dataset": whole}
