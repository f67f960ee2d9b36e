"""One run on an embedded cloud, watched from the upload to the last thing deleted."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from baton.names import Layout, Names, run_id_for
from baton.uploads import RUN_FILE, Upload
from baton_local.deployment import RUN_PREFIX, Deployment
from baton_local.history import History, Step
from baton_local.leftovers import DATASETS
from baton_local.topic import Topic

_START_SECONDS = 30.0
_SWEEP_SECONDS = 120.0
_POLL_SECONDS = 0.25

Tell = Callable[[Step], None]


class NotStarted(RuntimeError):
    """The upload started no execution; the message is what the topic was told, where it was told anything."""


@dataclass
class Result:
    """What became of one run; ``as_dict`` is what ``--json`` writes.

    ``data``: the rows that were prepared and those of them that were trained on. ``kept``: the names of what the plan
    keeps on purpose, which is no leftover.
    """

    status: str
    error: str | None
    cause: str | None
    run_id: str | None
    execution_arn: str | None
    region: str
    seconds: float
    transitions: int = 0
    states: list[dict[str, Any]] = field(default_factory=list)
    pipeline_run: dict[str, Any] | None = None
    sagemaker: dict[str, Any] = field(
        default_factory=lambda: {kind: {"name": None, "status": "Absent"} for kind in _DESCRIBE}
    )
    data: dict[str, int] | None = None
    smoke_test: dict[str, Any] | None = None
    kept: list[str] = field(default_factory=list)
    leftovers: list[str] = field(default_factory=list)
    report: str | None = None
    report_file: str | None = None

    @property
    def good(self) -> bool:
        """Whether the execution succeeded and nothing is left."""
        return self.status == "SUCCEEDED" and not self.leftovers

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as plain data."""
        return asdict(self)


class Run:
    """Starts one run and follows it; several can be under way on a deployment at once.

    ``alone``: whether everything that is left on the deployment is counted as the run's, or what bears its id only.
    """

    def __init__(self, deployment: Deployment, pipeline: str = "mnist_kmeans", alone: bool = True) -> None:
        self._deployment = deployment
        self._pipeline = pipeline
        self._alone = alone
        self._earlier: set[str] = set()
        self._cleaned_for: dict[str, str] = {}

    def start(self, dataset: Path, given: Mapping[str, Any] | None = None) -> str:
        """Upload the data set, or a ``run.json`` that names it; return the ARN of the execution that starts.

        Raises NotStarted where none does.
        """
        if given is None:
            return self.upload(self._key_of(dataset, starts=True), dataset.read_bytes())
        content = {"dataset": self.put_dataset(dataset), **given}
        return self.upload(f"{self._deployment.upload_prefix}{self._pipeline}/{RUN_FILE}", json.dumps(content).encode())

    def address_of(self, dataset: Path, given: Mapping[str, Any] | None) -> str:
        """Return where ``start`` puts a data set, as a URI."""
        return f"s3://{self._deployment.bucket}/{self._key_of(dataset, starts=given is None)}"

    def _key_of(self, dataset: Path, starts: bool) -> str:
        """Return the key by which a data set starts a run, or by which it starts nothing."""
        folder = self._deployment.upload_prefix if starts else DATASETS
        return f"{folder}{self._pipeline}/{dataset.name}"

    def put_dataset(self, dataset: Path) -> str:
        """Put a data set where it starts nothing; return its URI."""
        bucket, key = self._deployment.bucket, self._key_of(dataset, starts=False)
        self._deployment.client("s3").upload_file(str(dataset), bucket, key)
        return f"s3://{bucket}/{key}"

    def upload(self, key: str, content: bytes) -> str:
        """Put an object into the run bucket; return the ARN of the execution that it starts.

        Raises NotStarted where it starts none.
        """
        self._note_earlier()
        bucket = self._deployment.bucket
        with Topic(self._deployment) as topic:
            answer = self._deployment.client("s3").put_object(Bucket=bucket, Key=key, Body=content)
            return self._started(Upload(bucket, key, answer.get("VersionId"), "", len(content), ""), topic)

    def start_execution(self, given: Mapping[str, Any]) -> str:
        """Start an execution as the console does; return its ARN."""
        self._note_earlier()
        stepfunctions = self._deployment.client("stepfunctions")
        answer = stepfunctions.start_execution(stateMachineArn=self._deployment.state_machine, input=json.dumps(given))
        arn: str = answer["executionArn"]
        return arn

    def follow(self, execution_arn: str, tell: Tell = lambda _step: None) -> Result:
        """Wait until the execution and the clean-up after it are over; return what became of the run."""
        stepfunctions = self._deployment.client("stepfunctions")
        history = History(stepfunctions, execution_arn)
        execution: dict[str, Any] = {"status": "RUNNING"}
        while execution["status"] == "RUNNING":
            for step in history.read():
                tell(step)
            if history.is_over:
                execution = stepfunctions.describe_execution(executionArn=execution_arn)
            else:
                time.sleep(_POLL_SECONDS)
        if execution["status"] != "SUCCEEDED":
            self.wait_for_sweep(execution_arn)
        return self._result(execution, history)

    def wait_for_sweep(self, execution_arn: str) -> bool:
        """Wait until the clean-up that follows a failed execution is over, so that leftovers are really left over.

        Return whether one ever started: the event that starts it can be lost.
        """
        until = time.monotonic() + _SWEEP_SECONDS
        sweeps: dict[str, str] = {}
        while time.monotonic() < until:
            sweeps = self.sweeps(execution_arn)
            if sweeps and "RUNNING" not in sweeps.values():
                return True
            time.sleep(_POLL_SECONDS)
        return bool(sweeps)

    def sweeps(self, execution_arn: str) -> dict[str, str]:
        """Return the status of every clean-up of an execution, by ARN."""
        new = self._new(self._deployment.clean_up_machine)
        return {arn: status for arn, status in new.items() if self._cleans_up(arn) == execution_arn}

    def run_id(self, execution_arn: str) -> str:
        """Return the id of an execution's run, which it has from its start."""
        return _run_id(self._deployment.client("stepfunctions").describe_execution(executionArn=execution_arn))

    def _note_earlier(self) -> None:
        """Remember what ran before, so that this run's own executions are told apart."""
        self._earlier = set(self._executions(self._deployment.state_machine)) | set(
            self._executions(self._deployment.clean_up_machine)
        )

    def _executions(self, machine: str) -> dict[str, str]:
        """Return the status of every execution of a state machine, by ARN."""
        pages = (
            self._deployment.client("stepfunctions").get_paginator("list_executions").paginate(stateMachineArn=machine)
        )
        return {execution["executionArn"]: execution["status"] for page in pages for execution in page["executions"]}

    def _new(self, machine: str) -> dict[str, str]:
        return {arn: status for arn, status in self._executions(machine).items() if arn not in self._earlier}

    def _started(self, upload: Upload, topic: Topic) -> str:
        until = time.monotonic() + _START_SECONDS
        while time.monotonic() < until:
            for arn in self._new(self._deployment.state_machine):
                if self._starts(upload, arn):
                    return arn
            refusals = [text for text in topic.hear() if upload.uri in text]
            if refusals:
                raise NotStarted(refusals[0])
            time.sleep(_POLL_SECONDS)
        raise NotStarted(f"No execution started within {_START_SECONDS:g} s of the upload.")

    def _starts(self, upload: Upload, execution_arn: str) -> bool:
        """Whether an execution is the upload's; where uploads have no versions, any new one is."""
        if upload.version_id in (None, "null"):
            return True
        return execution_arn.endswith(f":{upload.execution_name(self._pipeline)}")

    def _cleans_up(self, sweep_arn: str) -> str:
        if sweep_arn not in self._cleaned_for:
            sweep = self._deployment.client("stepfunctions").describe_execution(executionArn=sweep_arn)
            self._cleaned_for[sweep_arn] = json.loads(sweep["input"])["execution_arn"]
        return self._cleaned_for[sweep_arn]

    def _result(self, execution: Mapping[str, Any], history: History) -> Result:
        output = json.loads(execution.get("output") or "{}")
        run_id = _run_id(execution)
        row = self._row(run_id)
        report = self._report(run_id)
        kept = _kept(run_id, output)
        told = self._told(run_id)
        return Result(
            status=execution["status"],
            error=execution.get("error"),
            cause=execution.get("cause"),
            run_id=run_id,
            execution_arn=execution["executionArn"],
            region=self._deployment.region,
            seconds=round((execution["stopDate"] - execution["startDate"]).total_seconds(), 3),
            transitions=history.transitions,
            states=[{"name": v.name, "seconds": round(v.seconds, 3), "outcome": v.outcome} for v in history.visits],
            pipeline_run=self._pipeline_run(run_id),
            sagemaker=self._things(run_id, row),
            data=_rows(told),
            smoke_test=_summary(self._smoke_test(run_id)),
            kept=sorted(kept),
            leftovers=self._deployment.leftovers(kept, "" if self._alone else run_id),
            report=report,
            report_file=self._fetch(report),
        )

    def _row(self, run_id: str) -> dict[str, Any]:
        """Return the run's row as DynamoDB types it; {} where there is none."""
        answer = self._deployment.client("dynamodb").get_item(
            TableName=self._deployment.outputs["TableName"],
            Key={"kind": {"S": "run"}, "name": {"S": run_id}},
            ConsistentRead=True,
        )
        row: dict[str, Any] = answer.get("Item", {})
        return row

    def _pipeline_run(self, run_id: str) -> dict[str, Any] | None:
        try:
            run = self._deployment.kfp.run_called(run_id)
        except OSError:  # it does not answer; the leftovers say so
            return None
        return {"id": run["run_id"], "state": run["state"]} if run else None

    def _things(self, run_id: str, row: Mapping[str, Any]) -> dict[str, Any]:
        """Return the status of each SageMaker thing of the run now; Deleted is what its receipt says it deleted."""
        receipt = json.loads(row.get("receipt", {}).get("S", "{}"))
        deleted = {item["name"] for item in receipt.get("items", []) if item["action"] == "deleted"}
        names = Names.of(run_id).as_dict()
        sagemaker = self._deployment.client("sagemaker")
        return {
            kind: {"name": names[kind], "status": _status(sagemaker, kind, names[kind], deleted)} for kind in _DESCRIBE
        }

    def _smoke_test(self, run_id: str) -> dict[str, Any] | None:
        return self._read(run_id, "predictions/smoke_test.json")

    def _told(self, run_id: str) -> dict[str, Any]:
        """Return the run's report as data; {} where there is none."""
        return self._read(run_id, "report/report.json") or {}

    def _read(self, run_id: str, path: str) -> dict[str, Any] | None:
        key = Layout(self._deployment.bucket, run_id).key(path)
        if not self._exists(key):
            return None
        answer = self._deployment.client("s3").get_object(Bucket=self._deployment.bucket, Key=key)
        found: dict[str, Any] = json.load(answer["Body"])
        return found

    def _report(self, run_id: str) -> str | None:
        """Return the URI of the run's report, where it was written."""
        layout = Layout(self._deployment.bucket, run_id)
        return layout.uris()["report"] if self._exists(layout.key("report/report.html")) else None

    def _exists(self, key: str) -> bool:
        page = self._deployment.client("s3").list_objects_v2(Bucket=self._deployment.bucket, Prefix=key)
        return key in [found["Key"] for found in page.get("Contents", [])]

    def _fetch(self, report: str | None) -> str | None:
        """Copy the report's page to this machine, because the embedded cloud goes when the run is over.

        None where it cannot be written here: a page less is better than a result less.
        """
        if not report:
            return None
        bucket, _, key = report.removeprefix("s3://").partition("/")
        target = Path(".baton") / "reports" / f"{key.split('/')[1]}.html"
        page = self._deployment.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read()
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(page)
        except OSError:
            return None
        return str(target)


def _run_id(execution: Mapping[str, Any]) -> str:
    return run_id_for(execution["executionArn"], int(execution["startDate"].timestamp()), RUN_PREFIX)


def _kept(run_id: str, output: Mapping[str, Any]) -> frozenset[str]:
    """Return the names that a plan keeps on purpose: those of an endpoint that the run's output names."""
    if not output.get("endpoint"):
        return frozenset()
    names = Names.of(run_id)
    return frozenset({names.endpoint, names.endpoint_config, names.model})


_DESCRIBE: Mapping[str, tuple[str, str, str | None]] = {
    "tuning": ("describe_hyper_parameter_tuning_job", "HyperParameterTuningJobName", "HyperParameterTuningJobStatus"),
    "training": ("describe_training_job", "TrainingJobName", "TrainingJobStatus"),
    "model": ("describe_model", "ModelName", None),
    "transform": ("describe_transform_job", "TransformJobName", "TransformJobStatus"),
    "endpoint": ("describe_endpoint", "EndpointName", "EndpointStatus"),
}


def _rows(told: Mapping[str, Any]) -> dict[str, int] | None:
    prepared = told.get("dataset", {}).get("prepared")
    if not prepared:
        return None
    rows = {split: int(prepared[split]["rows"]) for split in ("train", "test", "valid")}
    return {"rows": sum(rows.values()), "train_rows": rows["train"]}


def _status(sagemaker: Any, kind: str, name: str, deleted: set[str]) -> str:
    operation, field_name, status = _DESCRIBE[kind]
    try:
        answer = getattr(sagemaker, operation)(**{field_name: name})
    except sagemaker.exceptions.ClientError:
        return "Deleted" if name in deleted else "Absent"
    return str(answer[status]) if status else "Created"


def _summary(smoke_test: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if smoke_test is None:
        return None
    return {
        name: smoke_test.get(name) for name in ("predictions", "accuracy", "purity", "latency_ms", "rows", "passed")
    }
