"""What a job reads and writes on S3, as its execution role: what the role may not do, the job cannot do either."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from botocore.exceptions import ClientError as AwsError

from baton_local import accounts
from baton_local.sagemaker.kmeans import ClientError


@dataclass(frozen=True)
class Session:
    """A role's session against the embedded cloud; it travels to a worker process as a plain dict."""

    url: str
    region: str
    role_arn: str
    credentials: dict[str, str]

    def client(self, service: str) -> Any:
        """Return a client that acts as the role."""
        return accounts.client(self.url, service, self.region, accounts.Credentials(**self.credentials))

    def as_dict(self) -> dict[str, Any]:
        """Return the session in the form that ``Session(**…)`` takes."""
        return asdict(self)


@dataclass(frozen=True)
class S3Object:
    """One object as a listing shows it."""

    bucket: str
    key: str
    etag: str
    size: int


def split_uri(uri: str) -> tuple[str, str]:
    """Split ``s3://bucket/prefix`` into the bucket and the prefix, which may be empty."""
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    return bucket, key


def list_objects(session: Session, uri: str) -> list[S3Object]:
    """Return the objects under an S3 prefix, less folder markers; raise ClientError if there is none to be seen."""
    bucket, prefix = split_uri(uri)
    try:
        pages = session.client("s3").get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        entries = [entry for page in pages for entry in page.get("Contents", ())]
    except AwsError as error:
        raise ClientError(_no_objects(session, uri, f" Error message from S3: {_message(error)}")) from error
    found = [S3Object(bucket, e["Key"], e["ETag"].strip('"'), e["Size"]) for e in entries if not e["Key"].endswith("/")]
    if not found:
        raise ClientError(_no_objects(session, uri, ""))
    return found


def _no_objects(session: Session, uri: str, detail: str) -> str:
    return (
        f'No S3 objects found under S3 URL "{uri}" given in input data source. Please ensure that the bucket exists '
        f"in the selected region ({session.region}), that objects exist under that S3 prefix, and that the role "
        f'"{session.role_arn}" has "s3:ListBucket" permissions on bucket "{split_uri(uri)[0]}".{detail}'
    )


def confirm(session: Session, item: S3Object) -> S3Object:
    """Return the object as it is now; raise ClientError unless the role may read it: for what a cache may have."""
    try:
        found = session.client("s3").head_object(Bucket=item.bucket, Key=item.key)
    except AwsError as error:
        raise _unreadable(item, error) from error
    return S3Object(item.bucket, item.key, found["ETag"].strip('"'), found["ContentLength"])


def read(session: Session, item: S3Object) -> bytes:
    """Return an object's content; raise ClientError if the role may not read it or it is gone."""
    try:
        body: bytes = session.client("s3").get_object(Bucket=item.bucket, Key=item.key)["Body"].read()
    except AwsError as error:
        raise _unreadable(item, error) from error
    return body


def _unreadable(item: S3Object, error: AwsError) -> ClientError:
    return ClientError(f"Data download failed: s3://{item.bucket}/{item.key}: {_code(error)}: {_message(error)}")


def write(session: Session, uri: str, body: bytes, kms_key: str = "") -> None:
    """Write an object, under a KMS key if one is given; raise ClientError if the role may not."""
    bucket, key = split_uri(uri)
    encryption = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": kms_key} if kms_key else {}
    try:
        session.client("s3").put_object(Bucket=bucket, Key=key, Body=body, **encryption)
    except AwsError as error:
        raise ClientError(f"Artifact upload failed: {uri}: {_code(error)}: {_message(error)}") from error


def log(session: Session, group: str, stream: str, lines: Iterable[tuple[int, str]]) -> None:
    """Put (epoch milliseconds, text) lines into CloudWatch Logs; without the permission there is no log, as on AWS."""
    logs = session.client("logs")
    events = [{"timestamp": when, "message": text} for when, text in lines]
    with contextlib.suppress(AwsError):
        _unless_there(logs.create_log_group, logGroupName=group)
        _unless_there(logs.create_log_stream, logGroupName=group, logStreamName=stream)
        logs.put_log_events(logGroupName=group, logStreamName=stream, logEvents=events)


def _unless_there(create: Any, **arguments: str) -> None:
    try:
        create(**arguments)
    except AwsError as error:
        if _code(error) != "ResourceAlreadyExistsException":
            raise


def _code(error: AwsError) -> str:
    return str(error.response["Error"].get("Code", ""))


def _message(error: AwsError) -> str:
    return str(error.response["Error"].get("Message", ""))
