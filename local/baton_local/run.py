"""One run on an embedded cloud, watched from the upload to the last thing deleted."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from baton.names import Names
from baton_local.deployment import Deployment
from baton_local.history import History, Visit

_START_SECONDS = 30.0
_SWEEP_SECONDS = 120.0
_POLL_SECONDS = 0.15

Tell = Callable[[Visit], None]


class NotStarted(RuntimeError):
    """The upload started no execution; the message is what the topic was told, where it was told anything."""


@dataclass
class Result:
    """What became of one run; ``as_dict`` is what ``--json`` writes."""

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
    sagemaker: dict[str, Any] = field(default_factory=dict)
    smoke_test: dict[str, Any] | None = None
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
    """Starts one run by an upload and follows it."""

    def __init__(self, deployment: Deployment, pipeline: str = "mnist_kmeans") -> None:
        self._deployment = deployment
        self._pipeline = pipeline
        self._topic = _Listener(deployment)
        self._earlier: set[str] = set()

    def start(self, dataset: Path, given: Mapping[str, Any] | None = None) -> str:
        """Upload the data set, or a ``run.json`` that names it; return the ARN of the execution that starts.

        Raises NotStarted where none does.
        """
        self._note_earlier()
        s3, bucket = self._deployment.client("s3"), self._deployment.bucket
        if given is None:
            s3.upload_file(str(dataset), bucket, f"uploads/{self._pipeline}/{dataset.name}")
        else:
            key = f"datasets/{self._pipeline}/{dataset.name}"
            s3.upload_file(str(dataset), bucket, key)
            content = {"dataset": f"s3://{bucket}/{key}", **given}
            s3.put_object(Bucket=bucket, Key=f"uploads/{self._pipeline}/run.json", Body=json.dumps(content).encode())
        return self._started()

    def start_execution(self, given: Mapping[str, Any]) -> str:
        """Start an execution as the console does; return its ARN."""
        self._note_earlier()
        stepfunctions = self._deployment.client("stepfunctions")
        answer = stepfunctions.start_execution(stateMachineArn=self._deployment.state_machine, input=json.dumps(given))
        arn: str = answer["executionArn"]
        return arn

    def follow(self, execution_arn: str, tell: Tell = lambda _visit: None) -> Result:
        """Wait until the execution and the clean-up after it are over; return what became of the run."""
        stepfunctions = self._deployment.client("stepfunctions")
        history = History(stepfunctions, execution_arn)
        while True:
            execution = stepfunctions.describe_execution(executionArn=execution_arn)
            for visit in history.read():
                tell(visit)
            if execution["status"] != "RUNNING":
                break
            time.sleep(_POLL_SECONDS)
        if execution["status"] != "SUCCEEDED":
            self._wait_for_sweeps()
        return self._result(execution, history)

    def _note_earlier(self) -> None:
        """Remember what ran before, so that this run's own executions are told apart, and forget old messages."""
        self._earlier = set(self._executions(self._deployment.state_machine)) | set(
            self._executions(self._deployment.clean_up_machine)
        )
        while self._topic.next_message():
            pass

    def _executions(self, machine: str) -> dict[str, str]:
        """Return the status of every execution of a state machine, by ARN."""
        pages = (
            self._deployment.client("stepfunctions").get_paginator("list_executions").paginate(stateMachineArn=machine)
        )
        return {execution["executionArn"]: execution["status"] for page in pages for execution in page["executions"]}

    def _new(self, machine: str) -> dict[str, str]:
        return {arn: status for arn, status in self._executions(machine).items() if arn not in self._earlier}

    def _started(self) -> str:
        until = time.monotonic() + _START_SECONDS
        while time.monotonic() < until:
            started = self._new(self._deployment.state_machine)
            if started:
                return next(iter(started))
            refusal = self._topic.next_message()
            if refusal:
                raise NotStarted(refusal)
            time.sleep(_POLL_SECONDS)
        raise NotStarted(f"No execution started within {_START_SECONDS:g} s of the upload.")

    def _wait_for_sweeps(self) -> None:
        """Wait until the clean-up that follows a failed execution is over, so that leftovers are really left over."""
        until = time.monotonic() + _SWEEP_SECONDS
        while time.monotonic() < until:
            sweeps = self._new(self._deployment.clean_up_machine)
            if sweeps and "RUNNING" not in sweeps.values():
                return
            time.sleep(_POLL_SECONDS)

    def _result(self, execution: Mapping[str, Any], history: History) -> Result:
        output = json.loads(execution.get("output") or "{}")
        verdict = self._topic.verdict() or {}
        row = self._row(execution["executionArn"])
        run_id = row["name"]["S"] if row else None
        report = output.get("report") or verdict.get("report")
        kept = _kept(run_id, output)
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
            smoke_test=_summary(self._smoke_test(run_id)),
            leftovers=self._deployment.leftovers(kept),
            report=report,
            report_file=self._fetch(report),
        )

    def _row(self, execution_arn: str) -> dict[str, Any]:
        """Return the run's row as DynamoDB types it; {} where the run was never planned."""
        table = self._deployment.client("dynamodb")
        answer = table.query(
            TableName=self._deployment.outputs["TableName"],
            KeyConditionExpression="kind = :kind",
            ExpressionAttributeValues={":kind": {"S": "run"}},
        )
        rows = [r for r in answer["Items"] if r.get("execution_arn", {}).get("S") == execution_arn]
        return rows[0] if rows else {}

    def _pipeline_run(self, run_id: str | None) -> dict[str, Any] | None:
        run = self._deployment.kfp.run_called(run_id) if run_id else None
        return {"id": run["run_id"], "state": run["state"]} if run else None

    def _things(self, run_id: str | None, row: Mapping[str, Any]) -> dict[str, Any]:
        """Return the status of each SageMaker thing of the run now; Deleted is what its receipt says it deleted."""
        if run_id is None:
            return {}
        receipt = json.loads(row.get("receipt", {}).get("S", "{}"))
        deleted = {item["name"] for item in receipt.get("items", []) if item["action"] == "deleted"}
        names = Names.of(run_id).as_dict()
        sagemaker = self._deployment.client("sagemaker")
        return {
            kind: {"name": names[kind], "status": _status(sagemaker, kind, names[kind], deleted)}
            for kind in ("tuning", "training", "model", "transform", "endpoint")
        }

    def _smoke_test(self, run_id: str | None) -> dict[str, Any] | None:
        if run_id is None:
            return None
        key = f"runs/{run_id}/predictions/smoke_test.json"
        s3 = self._deployment.client("s3")
        if key not in [
            o["Key"] for o in s3.list_objects_v2(Bucket=self._deployment.bucket, Prefix=key).get("Contents", [])
        ]:
            return None
        found: dict[str, Any] = json.load(s3.get_object(Bucket=self._deployment.bucket, Key=key)["Body"])
        return found

    def _fetch(self, report: str | None) -> str | None:
        """Copy the report's page to this machine, because the embedded cloud goes when the run is over."""
        if not report:
            return None
        bucket, _, key = report.removeprefix("s3://").partition("/")
        target = Path(".baton") / "reports" / f"{key.split('/')[1]}.html"
        target.parent.mkdir(parents=True, exist_ok=True)
        self._deployment.client("s3").download_file(bucket, key, str(target))
        return str(target)


class _Listener:
    """Hears what the topic is told, through a queue of the administrator's own."""

    def __init__(self, deployment: Deployment) -> None:
        self._sqs = deployment.client("sqs")
        self._queue = self._sqs.create_queue(QueueName="baton-local-listener")["QueueUrl"]
        arn = self._sqs.get_queue_attributes(QueueUrl=self._queue, AttributeNames=["QueueArn"])["Attributes"][
            "QueueArn"
        ]
        deployment.client("sns").subscribe(TopicArn=deployment.outputs["TopicArn"], Protocol="sqs", Endpoint=arn)

    def next_message(self) -> str | None:
        """Return the next message's text, or None."""
        messages = self._sqs.receive_message(QueueUrl=self._queue).get("Messages", [])
        if not messages:
            return None
        self._sqs.delete_message(QueueUrl=self._queue, ReceiptHandle=messages[0]["ReceiptHandle"])
        text: str = json.loads(messages[0]["Body"])["Message"]
        return text

    def verdict(self) -> dict[str, Any] | None:
        """Return the verdict among the messages heard, or None."""
        while text := self.next_message():
            if text.startswith("{"):
                found: dict[str, Any] = json.loads(text)
                if "status" in found:
                    return found
        return None


def _kept(run_id: str | None, output: Mapping[str, Any]) -> frozenset[str]:
    """Return the names that a plan keeps on purpose: those of an endpoint that the run's output names."""
    if not run_id or not output.get("endpoint"):
        return frozenset()
    names = Names.of(run_id)
    return frozenset({names.endpoint, names.endpoint_config, names.model})


_DESCRIBE = {
    "tuning": ("describe_hyper_parameter_tuning_job", "HyperParameterTuningJobName", "HyperParameterTuningJobStatus"),
    "training": ("describe_training_job", "TrainingJobName", "TrainingJobStatus"),
    "model": ("describe_model", "ModelName", None),
    "transform": ("describe_transform_job", "TransformJobName", "TransformJobStatus"),
    "endpoint": ("describe_endpoint", "EndpointName", "EndpointStatus"),
}


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
