"""Turns an execution's input and a pipeline's defaults into the run's plan, which fixes every name and the deadline.

Nothing is taken from the input that is not checked here, and every problem is told at once: whoever started the run
should not have to start it again to learn of the next one.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from botocore.exceptions import ClientError

from baton.catalogue import (
    ENDPOINT_FATES,
    GATES,
    MAX_DEADLINE_SECONDS,
    MAX_HOLD_SECONDS,
    MIN_DEADLINE_SECONDS,
    STAGES,
    Catalogue,
    Parameter,
    Pipeline,
    broken_rules,
    did_you_mean,
)
from baton.denied import read_denied
from baton.errors import AccessDenied, InvalidInput, RunEnded
from baton.names import Layout, Names, run_id_for, split_s3_uri, tags_of
from baton.payloads import execution_of, in_one_line, shown
from baton.runs import Runs
from baton.settings import Settings

FIELDS = ("pipeline", "dataset", "dataset_version", "parameters", "smoke_test", "after", "deadline_seconds")
IGNORED_FIELDS = ("Comment",)
"""The console pre-fills a ``Comment``; it says nothing."""

TRAINING_IMAGE = "training_image"
"""The parameter that every pipeline takes beside its own: the URI of the algorithm's image."""

EXPIRY_MARGIN_SECONDS = 3600
"""How long after its deadline, or after the end of its hold, a run's clean-up may still be at work."""

# https://docs.aws.amazon.com/step-functions/latest/dg/service-quotas.html: an execution dies of its 25,001st event.
_EVENTS_FOR_HEARTBEATS = 20_000
_EVENTS_A_HEARTBEAT = 8
"""TaskScheduled, TaskStarted, TaskSubmitted and TaskTimedOut, of the two states that wait at once most of the time."""

_MOST_TOLD = 50
_VERSION_ID = re.compile(r"[\x21-\x7e]{1,1024}")


@dataclass(frozen=True)
class Execution:
    """The execution that a run belongs to."""

    arn: str
    started_at: int

    @classmethod
    def read(cls, event: Any) -> Execution:
        """Read ``{"execution": {"id": ARN, "name", "start_time": ISO 8601}}``; raise InvalidInput for any other."""
        told = execution_of(event)
        return cls(arn=told["id"], started_at=int(datetime.fromisoformat(told["start_time"]).timestamp()))


@dataclass(frozen=True)
class Dataset:
    """A data set as it is on S3, pinned to a version where its bucket has versions."""

    bucket: str
    key: str
    version_id: str | None
    size: int

    def as_dict(self) -> dict[str, Any]:
        """Return the data set as it stands in a plan."""
        return {
            "uri": f"s3://{self.bucket}/{self.key}",
            "bucket": self.bucket,
            "key": self.key,
            "version_id": self.version_id,
            "bytes": self.size,
        }


class _Request:
    """An execution's input while it is read; ``problems`` collects what is wrong with it.

    Every field is optional where the pipeline has a default, and null is no value: it counts as absent.
    """

    def __init__(self, content: Mapping[str, Any]) -> None:
        self.content = _without_nulls(content)
        self.problems: list[str] = []

    def problem(self, where: str, what: str) -> None:
        """Note a problem of a field, with what would be right."""
        self.problems.append(f"{in_one_line(where)[:120]}: {in_one_line(what)}")

    def section(self, name: str, known: list[str]) -> dict[str, Any]:
        """Return an object of the input without its unknown fields, which are noted."""
        value = self.content.get(name, {})
        if not isinstance(value, Mapping):
            self.problem(name, f"must be an object, not {shown(value)}")
            return {}
        return _without_nulls(self.only_known(value, known, f"{name}."))

    def only_known(self, fields: Mapping[str, Any], known: list[str], prefix: str = "") -> dict[str, Any]:
        """Return the known fields; note the others, and with the first that is like none of them all that are known."""
        listing, listed = did_you_mean("", known), False
        for field in fields:
            if field not in known:
                hint = did_you_mean(field, known)
                self.problem(f"{prefix}{field}", f"there is no such field{'' if listed and hint == listing else hint}")
                listed = listed or hint == listing
        return {field: value for field, value in fields.items() if field in known}

    def value(self, where: str, given: Any, parameter: Parameter) -> Any:
        """Return a value in its parameter's type; note one that does not fit and return the default."""
        if parameter.accepts(given):
            return parameter.convert(given)
        self.problem(where, f"must be {parameter.expected}, not {shown(given)}")
        return parameter.default


class Planner:
    """Makes plans; ``s3`` is a boto3 client."""

    def __init__(self, catalogue: Catalogue, s3: Any, runs: Runs, settings: Settings) -> None:
        self._catalogue = catalogue
        self._s3 = s3
        self._runs = runs
        self._settings = settings

    def plan(self, content: Any, execution: Execution) -> dict[str, Any]:
        """Return the plan of an execution and open its run's row; the same execution always gets the same names.

        Raises InvalidInput with every problem of the input, AccessDenied for a data set of the run bucket that may not
        be read, and RunEnded for a redriven execution whose run was ended.
        """
        request = _Request(_input_object(content))
        request.only_known(request.content, [*FIELDS, *IGNORED_FIELDS])
        pipeline = self._pipeline(request)
        plan = self._plan(request, pipeline, execution) if pipeline else self._check_the_rest(request)
        if request.problems:
            raise InvalidInput(_listed(request.problems))
        if "ended_at" in self._runs.open(plan):
            raise RunEnded(f"Run {plan['run_id']} was ended; start a new execution instead of redriving this one.")
        return plan

    def _pipeline(self, request: _Request) -> Pipeline | None:
        name = request.content.get("pipeline")
        names = self._catalogue.names
        if name is None:
            if self._catalogue.default is None:
                request.problem("pipeline", f"is needed, because there are several: {', '.join(names)}")
            return self._catalogue.default
        found = self._catalogue.find(name) if isinstance(name, str) else None
        if found is None:
            request.problem("pipeline", f"there is no pipeline {shown(name)}{did_you_mean(str(name), names)}")
            # Where there is just one, it is what is meant, and the whole input can be held against it.
            return self._catalogue.only
        return found

    def _check_the_rest(self, request: _Request) -> dict[str, Any]:
        """Check what can be checked without knowing which of several pipelines is meant."""
        pipelines = self._catalogue.pipelines
        request.section("parameters", [TRAINING_IMAGE, *sorted({name for p in pipelines for name in p.parameters})])
        self._check_image(request, pipelines)
        _section_of(request, "smoke_test", GATES)
        _deadline(request, MIN_DEADLINE_SECONDS)
        _after(request, "delete", MAX_HOLD_SECONDS)
        _version(request)
        if "dataset" in request.content:
            self._place(request, request.content["dataset"])
        return {}

    def _plan(self, request: _Request, pipeline: Pipeline, execution: Execution) -> dict[str, Any]:
        images, parameters = self._images(request, pipeline), _parameters(request, pipeline)
        gates = _section_of(request, "smoke_test", pipeline.gates)
        after = _after(request, pipeline.endpoint_fate, pipeline.hold_seconds)
        if after["endpoint"] != "delete" and "endpoint" not in pipeline.stages:
            request.problem("after.endpoint", f"must be 'delete': the pipeline {pipeline.name} makes no endpoint")
        dataset = self._dataset(request, pipeline)
        deadline = _deadline(request, pipeline.deadline_seconds)
        return {
            **self._identity(pipeline, execution, deadline, after["hold_seconds"]),
            "dataset": dataset.as_dict() if dataset else {},
            "parameters": parameters,
            "smoke_test": gates,
            "after": after,
            "stages": {stage: stage in pipeline.stages for stage in STAGES},
            "images": images,
            "role_arn": self._settings.sagemaker_role_arn,
            "kms_key_arn": self._settings.kms_key_arn or None,
        }

    def _identity(self, pipeline: Pipeline, execution: Execution, deadline: int, hold: int) -> dict[str, Any]:
        run_id = run_id_for(execution.arn, execution.started_at, self._settings.run_prefix)
        deadline_at = execution.started_at + deadline
        expires_at = _iso(deadline_at + hold + EXPIRY_MARGIN_SECONDS)
        return {
            "run_id": run_id,
            "execution_arn": execution.arn,
            "pipeline": pipeline.name,
            "created_at": execution.started_at,
            "deadline_at": deadline_at,
            "deadline": _iso(deadline_at),
            "heartbeat_seconds": _heartbeat(self._settings.heartbeat_seconds, deadline),
            "names": Names.of(run_id).as_dict(),
            "uris": Layout(self._settings.bucket, run_id).uris(),
            "tags": tags_of(run_id, execution.arn, pipeline.name, expires_at),
        }

    def _images(self, request: _Request, pipeline: Pipeline) -> dict[str, str]:
        given = self._check_image(request, [pipeline])
        known = pipeline.images.uri(self._settings.region, self._settings.url_suffix)
        if given is None and known is None:
            request.problem(
                f"parameters.{TRAINING_IMAGE}",
                f"is needed: the account with the image {pipeline.images.repository} in the region "
                f"{self._settings.region} is not known; give the image's URI, {self._image_form(pipeline)}",
            )
        return {"training": given or known or "", "steps": self._settings.pipeline_image}

    def _check_image(self, request: _Request, pipelines: Sequence[Pipeline]) -> Any:
        """Return the image that the input names, or None; note one that none of the pipelines may use."""
        given = _mapping(request.content.get("parameters")).get(TRAINING_IMAGE)
        here = self._settings.region, self._settings.url_suffix
        if given is not None and not any(pipeline.images.allows(given, *here) for pipeline in pipelines):
            forms = " or ".join(sorted({self._image_form(pipeline) for pipeline in pipelines}))
            request.problem(f"parameters.{TRAINING_IMAGE}", f"must be an image's URI, {forms}, not {shown(given)}")
        return given

    def _image_form(self, pipeline: Pipeline) -> str:
        return pipeline.images.form(self._settings.region, self._settings.url_suffix)

    # --- the data set -------------------------------------------------------------------------------------------------

    def _dataset(self, request: _Request, pipeline: Pipeline) -> Dataset | None:
        version = _version(request)
        place = self._dataset_place(request, pipeline)
        return self._look_at(request, pipeline, *place, version) if place else None

    def _default_dataset(self, pipeline: Pipeline) -> str | None:
        return pipeline.default_dataset(self._settings.bucket, self._settings.upload_prefix)

    def _dataset_place(self, request: _Request, pipeline: Pipeline) -> tuple[str, str] | None:
        uri = request.content.get("dataset", self._default_dataset(pipeline))
        if uri is None:
            request.problem("dataset", f"is needed: the pipeline {pipeline.name} has no default; give s3://bucket/key")
            return None
        place = self._place(request, uri)
        if place and not place[1].endswith(pipeline.dataset_rules.suffixes):
            suffixes = " or ".join(pipeline.dataset_rules.suffixes)
            request.problem("dataset", f"the key must end in {suffixes} for the pipeline {pipeline.name}")
            return None
        return place

    def _place(self, request: _Request, uri: Any) -> tuple[str, str] | None:
        try:
            bucket, key = split_s3_uri(uri if isinstance(uri, str) else "")
            key.encode()  # Half a surrogate pair is no text that could be a key.
        except ValueError:
            request.problem("dataset", f"must be of the form s3://bucket/key, not {shown(uri)}")
            return None
        allowed = allowed_buckets(self._settings)
        if bucket not in allowed:
            request.problem("dataset", f"the bucket {bucket} is not allowed; data sets come from {', '.join(allowed)}")
            return None
        return bucket, key

    def _look_at(
        self, request: _Request, pipeline: Pipeline, bucket: str, key: str, version: str | None
    ) -> Dataset | None:
        pinned = {"VersionId": version} if version else {}
        try:
            head = self._s3.head_object(Bucket=bucket, Key=key, **pinned)
        except ClientError as error:
            uri = f"s3://{bucket}/{key}"
            if bucket == self._settings.bucket and _status_of(error) == 403:
                raise AccessDenied(read_denied(uri, version)) from error
            request.problem("dataset", _missing(error, uri, version))
            return None
        size, found = head["ContentLength"], head.get("VersionId", "null")
        limit = pipeline.dataset_rules.max_bytes
        if not 0 < size <= limit:
            request.problem("dataset", f"s3://{bucket}/{key} has {size} bytes; it must have from 1 to {limit}")
        return Dataset(bucket, key, None if found == "null" else found, size)


def allowed_buckets(settings: Settings) -> list[str]:
    """Return the names of the buckets from which data sets may come: the run bucket, and those of the parameter.

    The parameter may name buckets by ARN, as template.yaml has them.
    """
    return [settings.bucket, *(bucket.rpartition(":")[2] for bucket in settings.dataset_buckets)]


def _input_object(content: Any) -> Mapping[str, Any]:
    if not isinstance(content, Mapping):
        raise InvalidInput(f"The input must be an object such as {{}}, not {shown(content)}.")
    return content


def _parameters(request: _Request, pipeline: Pipeline) -> dict[str, Any]:
    extra = {TRAINING_IMAGE: Parameter(TRAINING_IMAGE, "")}
    given = request.section("parameters", [*pipeline.parameters, *extra])
    values = {
        name: request.value(f"parameters.{name}", given.get(name, parameter.default), parameter)
        for name, parameter in pipeline.parameters.items()
    }
    wrong = {name for name, value in given.items() if name in values and not pipeline.parameters[name].accepts(value)}
    for name, words in broken_rules(pipeline.parameters, values, wrong):
        request.problem(f"parameters.{name}", words)
    return values


def _section_of(request: _Request, section: str, parameters: Mapping[str, Parameter]) -> dict[str, Any]:
    given = request.section(section, list(parameters))
    return {
        name: request.value(f"{section}.{name}", given.get(name, parameter.default), parameter)
        for name, parameter in parameters.items()
    }


def _version(request: _Request) -> str | None:
    version = request.content.get("dataset_version")
    if version is None or (isinstance(version, str) and _VERSION_ID.fullmatch(version)):
        return version
    request.problem("dataset_version", f"must be the version id of an S3 object, not {shown(version)}")
    return None


def _deadline(request: _Request, default: int) -> int:
    limits = Parameter("deadline_seconds", default, "", MIN_DEADLINE_SECONDS, MAX_DEADLINE_SECONDS)
    seconds: int = request.value("deadline_seconds", request.content.get("deadline_seconds", default), limits)
    return seconds


def _after(request: _Request, default_fate: str, default_hold: int) -> dict[str, Any]:
    given = request.section("after", ["endpoint", "hold_seconds"])
    fates = Parameter("endpoint", default_fate, "", choices=ENDPOINT_FATES)
    limits = Parameter("hold_seconds", default_hold, "", 1, MAX_HOLD_SECONDS)
    told = given.get("endpoint", default_fate)
    fate = request.value("after.endpoint", told, fates)
    hold = request.value("after.hold_seconds", given.get("hold_seconds", default_hold), limits)
    # Nobody knows what a fate that does not exist was meant to be, so nothing is held against that.
    if "hold_seconds" in given and fates.accepts(told) and fate != "hold":
        default = "" if "endpoint" in given else ", the default"
        request.problem("after.hold_seconds", f'goes with "endpoint": "hold" only, not with {shown(fate)}{default}')
    return {"endpoint": fate, "hold_seconds": hold if fate == "hold" else 0}


def _missing(error: ClientError, uri: str, version: str | None) -> str:
    """Say why HeadObject found nothing; raise the error again where it says nothing about the object.

    A HEAD answer has no body, so its error code is the HTTP status; without s3:ListBucket a missing key is a 403:
    https://docs.aws.amazon.com/AmazonS3/latest/API/API_HeadObject.html
    """
    status = _status_of(error)
    what = f"the version {version} of {uri}" if version else uri
    if status == 404:
        return f"{what} does not exist"
    if status == 403:
        return f"{what} does not exist, or Baton may not read it"
    if status in (400, 405) and version:
        return f"{what} does not exist: no object can have this version, or it is a delete marker"
    raise error


def _status_of(error: ClientError) -> int | None:
    status: int | None = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    return status


def _without_nulls(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {field: value for field, value in fields.items() if value is not None}


def _heartbeat(wanted: int, deadline: int) -> int:
    """Return after how many seconds a wait looks again: as often as is wanted, and as the history has room for."""
    shortest = math.ceil(deadline * _EVENTS_A_HEARTBEAT / _EVENTS_FOR_HEARTBEATS)
    return min(max(wanted, shortest), deadline)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _iso(epoch_seconds: int) -> str:
    return datetime.fromtimestamp(epoch_seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _listed(problems: list[str]) -> str:
    if len(problems) == 1:
        return f"The input has a problem: {problems[0]}."
    told = [*problems[:_MOST_TOLD], *(["and so on"] if len(problems) > _MOST_TOLD else [])]
    return f"The input has {len(problems)} problems:" + "".join(f"\n- {problem}" for problem in told)
