"""A run as its last functions see it: plan, state data, history, and an endpoint that really clusters digits."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from botocore.response import StreamingBody

from baton.names import Layout, Names, tags_of

Json = dict[str, Any]

BUCKET = "baton-runs"
RUN_ID = "bt-t1abcde0f1g2h"
EXECUTION: Json = {
    "id": "arn:aws-cn:states:cn-northwest-1:123456789012:execution:baton-training-run:upload-7f",
    "name": "upload-7f",
    "start_time": "2026-11-23T22:00:00.000Z",
    "redrive_count": 0,
}
STARTED = datetime(2026, 11, 23, 22, 0, 0, tzinfo=UTC)
SHA256 = "f11bb9e41d6c1b6c124aa38fd605497bdcfe2ee08cf7c2bb5a41ab5d759e1416"
GATES: Json = {"min_accuracy": 0.45, "max_p95_ms": 2000, "rows": 100}


def plan(**changes: Any) -> Json:
    """Return a plan of the contract's form."""
    layout = Layout(BUCKET, RUN_ID)
    whole = {
        "run_id": RUN_ID,
        "execution_arn": EXECUTION["id"],
        "pipeline": "mnist_kmeans",
        "created_at": int(STARTED.timestamp()),
        "deadline_at": int(STARTED.timestamp()) + 21600,
        "deadline": "2026-11-24T04:00:00+00:00",
        "heartbeat_seconds": 900,
        "dataset": {
            "uri": f"s3://{BUCKET}/uploads/mnist_kmeans/mnist.pkl.gz",
            "bucket": BUCKET,
            "key": "uploads/mnist_kmeans/mnist.pkl.gz",
            "version_id": None,
            "bytes": 17051982,
        },
        "parameters": {
            "k": 10,
            "feature_dim": 784,
            "endpoint_instance_type": "ml.m5.large",
            "endpoint_instance_count": 1,
        },
        "smoke_test": GATES,
        "after": {"endpoint": "delete", "hold_seconds": 3600},
        "stages": {"tuning": True, "training": True, "transform": True, "endpoint": True},
        "names": Names.of(RUN_ID).as_dict(),
        "uris": layout.uris(),
        "images": {"training": "kmeans:1", "steps": "steps:1"},
        "role_arn": "arn:aws-cn:iam::123456789012:role/baton-sagemaker",
        "kms_key_arn": None,
        "tags": tags_of(RUN_ID, EXECUTION["id"], "mnist_kmeans", "2026-11-24T04:00:00+00:00"),
    }
    return {**whole, **changes}


def outcome(kind: str, name: str, status: str, **result: Any) -> Json:
    return {"kind": kind, "name": name, "status": status, "succeeded": True, "reason": None, "result": result}


def outcomes() -> list[Any]:
    names = Names.of(RUN_ID)
    instance = {"type": "ml.m5.large", "count": 1}
    hyperparameters = {"k": "10", "feature_dim": "784", "mini_batch_size": "517", "init_method": "kmeans++"}
    return [
        outcome("pipeline-run", RUN_ID, "SUCCEEDED", id="0a1b", state="SUCCEEDED"),
        {
            "tuning": outcome(
                "tuning",
                names.tuning,
                "Completed",
                best_training_job=f"{names.tuning}-004-8d1f",
                objective={"name": "test:msd", "value": 0.0521},
                hyperparameters=hyperparameters,
                counters={"Completed": 9, "Stopped": 0},
                instance=instance,
            ),
            "training": outcome(
                "training",
                names.training,
                "Completed",
                model_artefact=f"s3://{BUCKET}/runs/{RUN_ID}/model/{names.training}/output/model.tar.gz",
                metrics={"train:msd": 0.0518, "train:progress": 100.0},
                hyperparameters=hyperparameters,
                billable_seconds=94,
                instance=instance,
            ),
            "serving": [
                outcome("transform", names.transform, "Completed", output_uri="s3://b/p", instance=instance),
                outcome("endpoint", names.endpoint, "InService", config=names.endpoint_config),
            ],
        },
    ]


def receipt(**changes: Any) -> Json:
    names = Names.of(RUN_ID)
    actions = {
        "tuning": ("kept", "Completed"),
        "training": ("kept", "Completed"),
        "transform": ("kept", "Completed"),
        "endpoint": ("deleted", "InService"),
        "endpoint_config": ("deleted", None),
        "model": ("deleted", None),
    }
    items = [
        {"kind": kind, "name": names.as_dict()[kind], "action": action, "status": status, "reason": None}
        for kind, (action, status) in actions.items()
    ]
    whole = {
        "complete": True,
        "finished_at": "2026-11-23T22:14:40+00:00",
        "items": items,
        "objects": {"deleted": 6, "versions": 7, "uploads_aborted": 0},
        "kept": [f"s3://{BUCKET}/runs/{RUN_ID}/{folder}/" for folder in ("model", "predictions")],
        "pipeline_run": {"id": "0a1b", "state": "SUCCEEDED"},
        "cause": None,
    }
    return {**whole, **changes}


def data() -> Json:
    uris = Layout(BUCKET, RUN_ID).uris()
    splits = {
        name: {"uri": uris[name], "rows": rows, "columns": 784}
        for name, rows in (("train", 50000), ("test", 10000), ("valid", 10000))
    }
    return {
        **splits,
        "dataset": {"uri": plan()["dataset"]["uri"], "bytes": 17051982, "sha256": SHA256, "version_id": None},
    }


def state(**changes: Any) -> Json:
    """Return the state data of a run that has come to its report, all well unless changed."""
    whole = {
        "plan": plan(),
        "data": data(),
        "pipeline_run": {"id": "0a1b", "url": "https://kfp.example/#/runs/details/0a1b"},
        "outcomes": outcomes(),
        "smoke_test": None,
        "failure": None,
        "receipt": receipt(),
        "clean_up_failure": None,
    }
    return {**whole, **changes}


class History:
    """Writes an execution history as Step Functions does: ids, previous ids, types."""

    def __init__(self) -> None:
        self.events: list[Json] = []

    def add(self, seconds: float, kind: str, previous: int | None = None, **details: Any) -> int:
        number = len(self.events) + 1
        before = number - 1 if previous is None else previous
        moment = STARTED + timedelta(seconds=seconds)
        self.events.append({"timestamp": moment, "type": kind, "id": number, "previousEventId": before, **details})
        return number

    def enter(self, seconds: float, name: str, kind: str = "Task", previous: int | None = None) -> int:
        return self.add(seconds, f"{kind}StateEntered", previous, stateEnteredEventDetails={"name": name})

    def leave(self, seconds: float, name: str, kind: str = "Task", previous: int | None = None) -> int:
        return self.add(seconds, f"{kind}StateExited", previous, stateExitedEventDetails={"name": name})

    def task(self, start: float, end: float, name: str, previous: int | None = None, attempts: int = 1) -> int:
        last = self.enter(start, name, previous=previous)
        for attempt in range(attempts):
            last = self.add(start, "TaskScheduled", last)
            if attempt < attempts - 1:
                last = self.add(start + 0.1, "TaskFailed", last)
        last = self.add(end, "TaskSucceeded", last)
        return self.leave(end, name, previous=last)


def succeeded_history() -> list[Json]:
    history = History()
    history.add(0, "ExecutionStarted")
    history.task(0, 0.4, "Plan run")
    history.task(0.4, 9, "Prepare data")
    history.task(9, 10.2, "Launch pipeline", attempts=2)
    history.enter(10.2, "Watch", "Parallel")
    forked = history.add(10.2, "ParallelStateStarted")
    history.task(10.2, 860, "Await pipeline run", previous=forked)
    last = history.task(10.2, 520, "Await tuning", previous=forked)
    last = history.task(520, 610, "Await training", previous=last)
    history.enter(610, "Watch deployment", "Parallel", previous=last)
    inner = history.add(610, "ParallelStateStarted")
    history.task(610, 790, "Await transform", previous=inner)
    last = history.task(610, 812, "Await endpoint", previous=inner)
    last = history.add(812, "ParallelStateSucceeded", last)
    last = history.leave(812, "Watch deployment", "Parallel", previous=last)
    last = history.add(860, "ParallelStateSucceeded", last)
    last = history.leave(860, "Watch", "Parallel", previous=last)
    last = history.enter(860, "Is there an endpoint?", "Choice", previous=last)
    last = history.leave(860, "Is there an endpoint?", "Choice", previous=last)
    history.task(860, 866, "Smoke-test endpoint", previous=last)
    history.task(866, 880, "Clean up")
    history.enter(880, "Write report")
    history.add(880, "TaskScheduled")
    return history.events


def failed_history() -> list[Json]:
    """A training job fails: its branch fails, the other branch is left as it is, and Watch is caught."""
    history = History()
    history.add(0, "ExecutionStarted")
    history.task(0, 0.4, "Plan run")
    history.task(0.4, 9, "Prepare data")
    history.task(9, 10.2, "Launch pipeline")
    history.enter(10.2, "Watch", "Parallel")
    forked = history.add(10.2, "ParallelStateStarted")
    history.enter(10.2, "Await pipeline run", previous=forked)
    history.add(10.2, "TaskScheduled")
    last = history.task(10.2, 520, "Await tuning", previous=forked)
    history.enter(520, "Await training", previous=last)
    history.add(520, "TaskScheduled")
    history.add(575, "TaskFailed")
    history.add(575, "ParallelStateFailed")
    history.leave(575, "Watch", "Parallel")
    history.task(575, 590, "Clean up")
    history.enter(590, "Write report")
    return history.events


class MemoryS3:
    """The two calls of S3 that matter here, on a dictionary."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str], bytes] = {}
        self.types: dict[str, str] = {}

    def put_object(self, Bucket: str, Key: str, Body: bytes, ContentType: str, **_: Any) -> Json:
        self.objects[Bucket, Key] = bytes(Body)
        self.types[Key] = ContentType
        return {}

    def get_object(self, Bucket: str, Key: str, **_: Any) -> Json:
        content = self.objects[Bucket, Key]
        return {"Body": StreamingBody(io.BytesIO(content), len(content))}


class DigitsEndpoint:
    """A runtime client whose every endpoint answers with real k-means clusters of the rows that it was made with."""

    def __init__(self, images: Any, k: int = 10) -> None:
        # Every worker of a whole run collects this module, and importing scikit-learn takes a second and a half.
        from sklearn.cluster import KMeans

        self.model = KMeans(k, n_init=4, random_state=1).fit(images)
        self.requests: list[Json] = []

    def invoke_endpoint(self, **request: Any) -> Json:
        self.requests.append(request)
        rows = np.loadtxt(io.BytesIO(request["Body"]), delimiter=",", ndmin=2)
        distances = self.model.transform(rows)
        clusters = distances.argmin(axis=1)
        predictions = [
            {"distance_to_cluster": float(row[cluster]), "closest_cluster": float(cluster)}
            for row, cluster in zip(distances, clusters, strict=True)
        ]
        return answer({"predictions": predictions})


def answer(content: Any) -> Json:
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    return {"Body": StreamingBody(io.BytesIO(body), len(body)), "ContentType": "application/json"}


def digit_splits() -> Sequence[tuple[Any, Any]]:
    from baton_local.datasets import _digit_splits

    return _digit_splits()
