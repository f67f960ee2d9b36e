"""A run that made everything a run can make, in fakes that keep the rules of SageMaker, KFP and S3."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import count
from typing import Any

from botocore.exceptions import ClientError

from baton.ending import Receipt, Request, Tools, clean_up
from baton.errors import BatonError, KfpUnavailable
from baton.names import TAG_EXPIRES_AT, Layout, Names, run_id_for, tags_of
from baton.runs import RUN, Runs
from tests.support.memory import MemoryItems

START = 1_800_000_000
EXECUTION = "arn:aws-cn:states:cn-northwest-1:123456789012:execution:baton-training-run:one"
RUN_ID = run_id_for(EXECUTION, START)
NAMES = Names.of(RUN_ID).as_dict()
BUCKET = "run-bucket"
LAYOUT = Layout(BUCKET, RUN_ID)
HOME = "http://kfp.example.org, namespace kubeflow"
EXPIRES = "2027-01-16T08:00:00+00:00"
TAGS = tags_of(RUN_ID, EXECUTION, "mnist_kmeans", EXPIRES)

Around = Callable[[str, Callable[[], Any]], Any]


class Killed(BaseException):
    """The process was killed; nothing in the code under test may catch it."""


def refuse(operation: str, code: str, message: str) -> ClientError:
    """Return the error that boto3 raises when AWS refuses a call."""
    return ClientError({"Error": {"Code": code, "Message": message}, "ResponseMetadata": {}}, operation)


@dataclass
class Thing:
    """A SageMaker resource: its status (None where its kind has none), tags and reason."""

    status: str | None = None
    tags: dict[str, str] = field(default_factory=lambda: dict(TAGS))
    reason: str | None = None
    secondary: str | None = None


_CAMEL = {
    "tuning": "HyperParameterTuningJob",
    "training": "TrainingJob",
    "transform": "TransformJob",
    "endpoint": "Endpoint",
    "endpoint_config": "EndpointConfig",
    "model": "Model",
}
_BUSY = ("Creating", "Updating", "SystemUpdating", "RollingBack", "Deleting")
_AFTER_A_WHILE = {
    "Creating": "InService",
    "Updating": "InService",
    "SystemUpdating": "InService",
    "RollingBack": "InService",
    "Stopping": "Stopped",
    "Deleting": None,
}


class FakeSageMaker:
    """SageMaker's rules for ending things: deletions and stops are asynchronous, and refused at the wrong time."""

    def __init__(self, around: Around) -> None:
        self.things: dict[str, Thing] = {}
        self.changes: list[str] = []
        self.denied: dict[str, ClientError] = {}
        self.failed_children: list[dict[str, str]] = []
        self._around = around
        for kind, camel in _CAMEL.items():
            snake = "".join(f"_{c.lower()}" if c.isupper() else c for c in camel).lstrip("_")
            setattr(self, f"describe_{snake}", self._call(f"Describe{camel}", kind, self._describe))
            setattr(self, f"stop_{snake}", self._call(f"Stop{camel}", kind, self._stop))
            setattr(self, f"delete_{snake}", self._call(f"Delete{camel}", kind, self._delete))

    def list_training_jobs_for_hyper_parameter_tuning_job(
        self, HyperParameterTuningJobName: str, StatusEquals: str, MaxResults: int
    ) -> dict[str, Any]:
        assert (HyperParameterTuningJobName, StatusEquals, MaxResults) == (NAMES["tuning"], "Failed", 1)

        def effect() -> dict[str, Any]:
            self._allow("ListTrainingJobsForHyperParameterTuningJob")
            return {"TrainingJobSummaries": self.failed_children}

        return self._around("SageMaker.ListTrainingJobsForHyperParameterTuningJob", effect)

    def tick(self) -> None:
        """Let what is under way come to its end."""
        for kind, thing in list(self.things.items()):
            if thing.status in _AFTER_A_WHILE:
                thing.status = _AFTER_A_WHILE[thing.status]
                if thing.status is None:
                    del self.things[kind]

    def get_paginator(self, operation: str) -> Any:
        assert operation == "list_tags"
        return self

    def paginate(self, ResourceArn: str) -> Iterator[dict[str, Any]]:
        thing = self._around("SageMaker.ListTags", lambda: self._by_arn(ResourceArn))
        tags = [{"Key": key, "Value": value} for key, value in thing.tags.items()]
        yield {"Tags": tags[:1]}
        yield {"Tags": tags[1:]}

    def delete_tags(self, ResourceArn: str, TagKeys: list[str]) -> dict[str, Any]:
        def effect() -> dict[str, Any]:
            self._allow("DeleteTags")
            thing = self._by_arn(ResourceArn)
            self.changes.append(f"DeleteTags {ResourceArn.rsplit('/', 1)[1]}")
            thing.tags = {key: value for key, value in thing.tags.items() if key not in TagKeys}
            return {}

        return self._around("SageMaker.DeleteTags", effect)

    def _call(self, operation: str, kind: str, effect: Callable[[str, str, str], Any]) -> Callable[..., Any]:
        def call(**arguments: str) -> Any:
            assert arguments == {f"{_CAMEL[kind]}Name": NAMES[kind]}, arguments

            def real() -> Any:
                self._allow(operation)
                if kind not in self.things:
                    raise refuse(operation, "ValidationException", f'Could not find "{NAMES[kind]}".')
                return effect(operation, kind, NAMES[kind])

            return self._around(f"SageMaker.{operation}", real)

        return call

    def _allow(self, operation: str) -> None:
        if operation in self.denied:
            raise self.denied[operation]

    def _by_arn(self, arn: str) -> Thing:
        self._allow("ListTags")
        kind = next(kind for kind, name in NAMES.items() if arn.endswith(f"/{name}"))
        if kind not in self.things:
            raise refuse("ListTags", "ValidationException", "Could not find the resource.")
        return self.things[kind]

    def _describe(self, operation: str, kind: str, name: str) -> dict[str, Any]:
        thing, camel = self.things[kind], _CAMEL[kind]
        answer = {f"{camel}Arn": f"arn:aws-cn:sagemaker:cn-northwest-1:123456789012:{kind}/{name}"}
        optional = {
            f"{camel}Status": thing.status,
            "FailureReason": thing.reason,
            "SecondaryStatus": thing.secondary,
        }
        created = {"CreationTime": datetime.fromtimestamp(START, UTC)}
        return {**answer, **created, **{key: value for key, value in optional.items() if value is not None}}

    def _stop(self, operation: str, kind: str, name: str) -> None:
        if self.things[kind].status != "InProgress":
            raise refuse(operation, "ValidationException", f"The job is in status {self.things[kind].status}.")
        self.changes.append(f"{operation} {name}")
        self.things[kind].status = "Stopping"

    def _delete(self, operation: str, kind: str, name: str) -> None:
        endpoint = self.things.get("endpoint")
        if kind == "endpoint" and self.things[kind].status in _BUSY:
            raise refuse(operation, "ValidationException", f'Cannot update in-progress endpoint "{name}".')
        if kind == "endpoint_config" and endpoint and endpoint.status in ("Creating", "Updating"):
            raise refuse(operation, "ValidationException", f"{name} is in use by an endpoint.")
        self.changes.append(f"{operation} {name}")
        if kind == "endpoint":
            self.things[kind].status = "Deleting"
        else:
            del self.things[kind]


@dataclass
class FakeRun:
    """A KFP run."""

    id: str
    state: str
    display_name: str = RUN_ID
    parameters: dict[str, str] = field(default_factory=lambda: {"run_id": RUN_ID, "execution_arn": EXECUTION})

    def belongs_to(self, run_id: str, execution_arn: str) -> bool:
        return self.parameters == {"run_id": run_id, "execution_arn": execution_arn}


@dataclass
class FakeExperiment:
    """A KFP experiment."""

    id: str


class FakeKfp:
    """KFP's rules: terminating is asynchronous, and its pods end some moments later."""

    def __init__(self, around: Around) -> None:
        self.runs: dict[str, FakeRun] = {}
        self.experiment: FakeExperiment | None = FakeExperiment("experiment-1")
        self.experiment_name = "baton"
        self.changes: list[str] = []
        self.down = False
        self.errors: dict[str, Exception] = {}
        self._around = around

    def tick(self) -> None:
        for run in self.runs.values():
            if run.state == "CANCELING":
                run.state = "CANCELED"

    def get_run(self, run_id: str) -> FakeRun | None:
        return self._call("GetRun", lambda: self._copy(self.runs.get(run_id)))

    def find_experiment(self, name: str) -> FakeExperiment | None:
        return self._call("FindExperiment", lambda: self.experiment if name == self.experiment_name else None)

    def find_runs(self, display_name: str, experiment_id: str) -> list[FakeRun]:
        assert self.experiment is not None
        assert experiment_id == self.experiment.id
        return self._call("ListRuns", lambda: [r for r in self.runs.values() if r.display_name == display_name])

    def terminate_run(self, run_id: str) -> None:
        def effect() -> None:
            run = self.runs[run_id]
            if run.state in ("PENDING", "RUNNING", "PAUSED"):
                self.changes.append(f"TerminateRun {run_id}")
                run.state = "CANCELING"

        self._call("TerminateRun", effect)

    def _copy(self, run: FakeRun | None) -> FakeRun | None:
        return run and replace(run)

    def _call(self, name: str, effect: Callable[[], Any]) -> Any:
        def real() -> Any:
            if self.down:
                raise KfpUnavailable("Kubeflow Pipelines does not answer.")
            if name in self.errors:
                raise self.errors[name]
            return effect()

        return self._around(f"KFP.{name}", real)


class FakeStepFunctions:
    """Knows how the run's execution stands; None: it has forgotten it."""

    def __init__(self, around: Around) -> None:
        self.status: str | None = "RUNNING"
        self.error: ClientError | None = None
        self._around = around

    def describe_execution(self, executionArn: str) -> dict[str, str]:
        assert executionArn == EXECUTION
        return self._around("States.DescribeExecution", self._answer)

    def _answer(self) -> dict[str, str]:
        if self.error:
            raise self.error
        if self.status is None:
            raise refuse("DescribeExecution", "ExecutionDoesNotExist", "Execution Does Not Exist")
        return {"status": self.status}


class FakeS3:
    """A versioned bucket: what was put, marked as deleted or begun, and never less than asked for by version."""

    class exceptions:
        NoSuchUpload = type("NoSuchUpload", (Exception,), {})

    def __init__(self, around: Around) -> None:
        self.versions: list[dict[str, Any]] = []
        self.uploads: list[dict[str, str]] = []
        self._around = around
        self._ids = (f"v{number}" for number in count(1))

    def put(self, key: str) -> None:
        self._add(key, is_marker=False)

    def mark_deleted(self, key: str) -> None:
        self._add(key, is_marker=True)

    def begin_upload(self, key: str) -> None:
        self.uploads.append({"Key": key, "UploadId": next(self._ids)})

    def _add(self, key: str, is_marker: bool) -> None:
        for version in self.versions:
            version["IsLatest"] = version["IsLatest"] and version["Key"] != key
        self.versions.append({"Key": key, "VersionId": next(self._ids), "IsLatest": True, "is_marker": is_marker})

    def get_paginator(self, operation: str) -> Any:
        pages = {"list_object_versions": self._version_pages, "list_multipart_uploads": self._upload_pages}[operation]
        around = self._around

        class Paginator:
            def paginate(self, Bucket: str, Prefix: str) -> Iterator[dict[str, Any]]:
                yield from around(f"S3.{operation}", lambda: pages(Prefix))

        return Paginator()

    def _version_pages(self, prefix: str) -> list[dict[str, Any]]:
        found = [dict(version) for version in self.versions if version["Key"].startswith(prefix)]
        return [
            {
                "Versions": [v for v in found[at : at + 3] if not v["is_marker"]],
                "DeleteMarkers": [v for v in found[at : at + 3] if v["is_marker"]],
            }
            for at in range(0, len(found), 3)
        ]

    def _upload_pages(self, prefix: str) -> list[dict[str, Any]]:
        found = [upload for upload in self.uploads if upload["Key"].startswith(prefix)]
        return [{"Uploads": found[:1]}, {"Uploads": found[1:]}] if found else [{}]

    def list_objects_v2(self, Bucket: str, Prefix: str, MaxKeys: int) -> dict[str, Any]:
        def effect() -> dict[str, Any]:
            current = [v for v in self.versions if v["IsLatest"] and not v["is_marker"]]
            return {"Contents": [v for v in current if v["Key"].startswith(Prefix)][:MaxKeys]}

        return self._around("S3.list_objects_v2", effect)

    def delete_objects(self, Bucket: str, Delete: dict[str, Any]) -> dict[str, Any]:
        def effect() -> dict[str, Any]:
            gone = {(one["Key"], one["VersionId"]) for one in Delete["Objects"]}
            self.versions = [v for v in self.versions if (v["Key"], v["VersionId"]) not in gone]
            return {}

        return self._around("S3.delete_objects", effect)

    def abort_multipart_upload(self, Bucket: str, Key: str, UploadId: str) -> None:
        def effect() -> None:
            upload = {"Key": Key, "UploadId": UploadId}
            if upload not in self.uploads:
                raise self.exceptions.NoSuchUpload
            self.uploads.remove(upload)

        self._around("S3.abort_multipart_upload", effect)

    def listing(self) -> list[str]:
        """Return every version, delete marker and unfinished upload, by key."""
        words = {True: "marker", False: "version"}
        versions = [f"{words[version['is_marker']]} {version['Key']}" for version in self.versions]
        return sorted(versions + [f"upload {upload['Key']}" for upload in self.uploads])


class EndingWorld:
    """A planned run with everything that a run can have made, and clean-up with its tools."""

    def __init__(self, after: str = "delete") -> None:
        self.now = float(START + 600)
        self.installation = HOME
        self.experiment = "baton"
        self.connect: Callable[[], FakeKfp] = lambda: self.kfp
        self.calls: list[str] = []
        self.interrupt: Callable[[int], None] = lambda number: None
        self.items = MemoryItems(lambda: self.now, self._around)
        self.sagemaker = FakeSageMaker(self._around)
        self.kfp = FakeKfp(self._around)
        self.stepfunctions = FakeStepFunctions(self._around)
        self.s3 = FakeS3(self._around)
        self._open_run(after)
        self._make_everything()
        fill_bucket(self.s3)
        self.calls.clear()

    def _around(self, name: str, effect: Callable[[], Any]) -> Any:
        answer = effect()
        self.calls.append(name)
        self.interrupt(len(self.calls))
        return answer

    def _open_run(self, after: str) -> None:
        runs = Runs(self.items)
        plan = {"run_id": RUN_ID, "execution_arn": EXECUTION, "pipeline": "mnist_kmeans", "created_at": START}
        runs.open({**plan, "deadline_at": START + 7200, "tags": TAGS, "after": {"endpoint": after}})
        runs.claim_launch(RUN_ID, "attempt", 60, HOME, "baton")
        runs.record_launch(RUN_ID, "kfp-1")

    def _make_everything(self) -> None:
        self.kfp.runs["kfp-1"] = FakeRun("kfp-1", "RUNNING")
        self.sagemaker.things = {
            "tuning": Thing("Completed"),
            "training": Thing("Completed"),
            "transform": Thing("InProgress"),
            "endpoint": Thing("InService"),
            "endpoint_config": Thing(),
            "model": Thing(),
        }

    def tools(self) -> Tools:
        return Tools(
            self.items,
            self.sagemaker,
            self.stepfunctions,
            self.s3,
            BUCKET,
            self.connect,
            self.experiment,
            self.installation,
        )

    def told(self, ended: Any, succeeded: bool | None = False) -> Receipt:
        """Invoke clean-up as a person does who says which KFP runs have ended."""
        event = {"execution_arn": EXECUTION, "run_id": RUN_ID, "succeeded": succeeded, "pipeline_runs_ended": ended}
        return clean_up(Request.parse(event, "bt-"), self.tools())

    def call(self, succeeded: bool | None = False) -> Receipt:
        """Invoke clean-up once."""
        return clean_up(Request(EXECUTION, RUN_ID, succeeded), self.tools())

    def expire(self) -> Receipt:
        """Invoke clean-up as the janitor does for a run whose time is up."""
        return clean_up(Request(EXECUTION, RUN_ID, None, expired=True), self.tools())

    def finish(self, succeeded: bool | None = False, calls: int = 10) -> Receipt:
        """Invoke clean-up as the state machine does: again, after a while, as long as the error is retryable."""
        for _ in range(calls):
            try:
                return self.call(succeeded)
            except BatonError as error:
                if not error.retryable:
                    raise
            self.tick()
        raise AssertionError(f"not finished after {calls} calls")

    def tick(self) -> None:
        """Let a minute pass."""
        self.now += 60
        self.sagemaker.tick()
        self.kfp.tick()

    @property
    def row(self) -> dict[str, Any]:
        return self.items.stored[RUN, RUN_ID]

    def end_state(self) -> dict[str, Any]:
        """Return all that is left, but for times and for how many calls it took."""
        return {
            "sagemaker": {k: (t.status, TAG_EXPIRES_AT in t.tags) for k, t in self.sagemaker.things.items()},
            "kfp": {run.id: run.state for run in self.kfp.runs.values()},
            "objects": self.s3.listing(),
            "tombstone": "ended_at" in self.row,
            "kept": "endpoint_kept_at" in self.row,
        }


def fill_bucket(s3: FakeS3) -> None:
    """Put what a run leaves into a bucket, with old versions, a delete marker and unfinished uploads."""
    for path in ("data/train_data", "data/train_data", "data/manifest.json", "input/valid_data.csv", "tuning/a/model"):
        s3.put(LAYOUT.key(path))
    for path in ("model/model.tar.gz", "predictions/valid_data.csv.out"):
        s3.put(LAYOUT.key(path))
    s3.put("uploads/mnist_kmeans/mnist.pkl.gz")
    s3.put(LAYOUT.prefix[:-1] + "x/data/train_data")
    s3.mark_deleted(LAYOUT.key("data/manifest.json"))
    for path in ("data/test_data", "model/half", "model/half"):
        s3.begin_upload(LAYOUT.key(path))
    s3.begin_upload("uploads/mnist_kmeans/big.pkl")
