"""An object uploaded to the run bucket starts exactly one execution, or is refused out loud.

What an upload is, is its bucket, key and version (its sequencer in a bucket without versions), never its ETag: the
same bytes uploaded again are another upload. The execution's name is derived from that, so that however often S3's
event is delivered, Step Functions knows the execution already.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from baton.catalogue import Catalogue, Pipeline, did_you_mean
from baton.errors import UploadRefused
from baton.settings import Settings

RUN_FILE = "run.json"
"""The name of an upload whose content is an execution's input."""

MAX_RUN_FILE_BYTES = 64 * 1024
"""The largest ``run.json``: well below the 256 KiB of an execution's input."""

SUBJECT = "Baton refused an upload"
_NO_VERSION = "null"


class NotAnUpload(Exception):
    """The object starts nothing and is no mistake either, so nobody needs to be told."""


@dataclass(frozen=True)
class Upload:
    """An uploaded object, as S3's "Object Created" event tells of it; ``size`` in bytes."""

    bucket: str
    key: str
    version_id: str | None
    sequencer: str
    size: int
    etag: str

    @classmethod
    def read(cls, event: Any) -> Upload:
        """Read an EventBridge event; raise UploadRefused for one that is not S3's "Object Created".

        Keys are not URL-encoded in these events, unlike in S3's own notifications:
        https://docs.aws.amazon.com/AmazonS3/latest/userguide/ev-events.html
        """
        try:
            if (event["source"], event["detail-type"]) != ("aws.s3", "Object Created"):
                raise UploadRefused(f"The event is not S3's Object Created, but {event['detail-type']!r}.")
            stored, bucket = event["detail"]["object"], event["detail"]["bucket"]["name"]
            version = stored.get("version-id")
            return cls(
                bucket=str(bucket),
                key=str(stored["key"]),
                version_id=None if version in (None, "", _NO_VERSION) else str(version),
                sequencer=str(stored.get("sequencer", "")),
                size=int(stored.get("size", 0)),
                etag=str(stored.get("etag", "")),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UploadRefused(f"The event is not S3's Object Created: {type(error).__name__} {error}.") from error

    @property
    def uri(self) -> str:
        """The object's S3 URI."""
        return f"s3://{self.bucket}/{self.key}"

    def execution_name(self, pipeline: str) -> str:
        """Return the name of the one execution that the upload starts: at most 80 characters of [A-Za-z0-9_-]."""
        identity = [self.bucket, self.key, self.version_id or f"sequencer {self.sequencer}"]
        digest = hashlib.sha256(json.dumps(identity).encode()).hexdigest()
        return f"{re.sub(r'[^A-Za-z0-9_-]', '-', pipeline)[:40]}-{digest[:32]}"


@dataclass(frozen=True)
class Start:
    """The execution that an upload starts."""

    name: str
    input: str


class Uploads:
    """Starts the executions of uploads; ``s3``, ``stepfunctions`` and ``sns`` are boto3 clients."""

    def __init__(self, catalogue: Catalogue, s3: Any, stepfunctions: Any, sns: Any, settings: Settings) -> None:
        self._catalogue = catalogue
        self._s3 = s3
        self._stepfunctions = stepfunctions
        self._sns = sns
        self._settings = settings

    def start(self, upload: Upload) -> str:
        """Start the upload's execution, or find that it was started before; return its ARN.

        Raises UploadRefused for an upload that must not start one, and NotAnUpload for one that is not meant to.
        """
        start = self._start_of(upload)
        machine = self._settings.state_machine_arn
        try:
            answer = self._stepfunctions.start_execution(stateMachineArn=machine, name=start.name, input=start.input)
        except ClientError as error:
            # The answer to the same name and input while the execution runs is its ARN; this is for one that has ended.
            if error.response["Error"]["Code"] != "ExecutionAlreadyExists":
                raise
            return f"{machine.replace(':stateMachine:', ':execution:')}:{start.name}"
        arn: str = answer["executionArn"]
        return arn

    def tell_of_refusal(self, upload: Upload | None, reason: str) -> None:
        """Tell the topic that an upload was refused, and why."""
        where = f"{upload.uri}\n\n" if upload else ""
        advice = f"\n\nNo run was started. Uploads go to s3://{self._settings.bucket}/{self._folder('PIPELINE')}FILE."
        self._sns.publish(TopicArn=self._settings.topic_arn, Subject=SUBJECT, Message=f"{where}{reason}{advice}")

    def _start_of(self, upload: Upload) -> Start:
        self._require_our_bucket(upload)
        pipeline, file = self._pipeline_of(upload)
        if file == RUN_FILE:
            content = self._run_file(upload, pipeline)
        elif file.endswith(".json"):
            raise NotAnUpload(f"{upload.uri} starts nothing: among JSON files only {RUN_FILE} does.")
        else:
            content = _dataset_input(upload, pipeline)
        return Start(upload.execution_name(pipeline.name), _input_text(content))

    def _require_our_bucket(self, upload: Upload) -> None:
        if upload.bucket != self._settings.bucket:
            raise UploadRefused(f"The bucket is not the run bucket, {self._settings.bucket}.")
        if upload.key.startswith("runs/"):
            raise NotAnUpload(f"{upload.uri} was written by a run.")

    def _pipeline_of(self, upload: Upload) -> tuple[Pipeline, str]:
        prefix = self._settings.upload_prefix
        parts = upload.key.removeprefix(prefix).split("/")
        if not upload.key.startswith(prefix) or len(parts) < 2:
            raise UploadRefused(f"The key is not of the form {self._folder('PIPELINE')}FILE.")
        pipeline = self._catalogue.find(parts[0])
        if pipeline is None:
            raise UploadRefused(f"There is no pipeline {parts[0]!r}{did_you_mean(parts[0], self._catalogue.names)}.")
        if parts[1:] == [""]:
            raise UploadRefused("It is a folder, not a data set.")
        if len(parts) > 2:
            raise UploadRefused(f"It is in a folder of its own; put it right into {self._folder(pipeline.name)}.")
        return pipeline, parts[1]

    def _run_file(self, upload: Upload, pipeline: Pipeline) -> dict[str, Any]:
        if not 0 < upload.size <= MAX_RUN_FILE_BYTES:
            raise UploadRefused(f"It has {upload.size} bytes; a {RUN_FILE} has from 1 to {MAX_RUN_FILE_BYTES}.")
        content = _json_object(self._read(upload))
        named = content.get("pipeline")
        if named not in (None, pipeline.name):
            raise UploadRefused(f"It names the pipeline {named!r} and is in the folder of {pipeline.name!r}.")
        return {**content, "pipeline": pipeline.name}

    def _read(self, upload: Upload) -> bytes:
        """Return a run file's content; without s3:ListBucket a version that is gone would be a 403, not a 404.

        https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObject.html
        """
        # Without versions, IfMatch keeps a late event from starting what a newer upload's own event starts.
        which = {"VersionId": upload.version_id} if upload.version_id else {"IfMatch": f'"{upload.etag}"'}
        try:
            answer = self._s3.get_object(Bucket=upload.bucket, Key=upload.key, **which)
        except ClientError as error:
            if error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") not in (404, 405, 412):
                raise
            raise UploadRefused("It was deleted or replaced before it could be read.") from error
        content: bytes = answer["Body"].read(MAX_RUN_FILE_BYTES + 1)
        return content

    def _folder(self, pipeline: str) -> str:
        return f"{self._settings.upload_prefix}{pipeline}/"


def _dataset_input(upload: Upload, pipeline: Pipeline) -> dict[str, Any]:
    rules = pipeline.dataset_rules
    if not upload.key.endswith(rules.suffixes):
        raise UploadRefused(f"A data set of {pipeline.name} ends in {' or '.join(rules.suffixes)}.")
    if not 0 < upload.size <= rules.max_bytes:
        raise UploadRefused(f"It has {upload.size} bytes; a data set has from 1 to {rules.max_bytes}.")
    version = {"dataset_version": upload.version_id} if upload.version_id else {}
    return {"pipeline": pipeline.name, "dataset": upload.uri, **version}


def _input_text(content: Mapping[str, Any]) -> str:
    """Return an execution's input, sorted and without spaces, so that a redelivery gives the very same bytes."""
    try:
        return json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except ValueError:
        # 1e999 is good JSON, and Python reads it as infinity, which JSON cannot say.
        raise UploadRefused("It has a number that is too large; the largest is about 1.8e308.") from None


def _json_object(content: bytes) -> Mapping[str, Any]:
    if len(content) > MAX_RUN_FILE_BYTES:
        raise UploadRefused(f"It has more than {MAX_RUN_FILE_BYTES} bytes.")
    try:
        value = json.loads(content, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise UploadRefused(f"It is not JSON: {error}.") from error
    if not isinstance(value, dict):
        raise UploadRefused("It is JSON, but not an object.")
    return value


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON value")
