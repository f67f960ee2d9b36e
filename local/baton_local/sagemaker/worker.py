"""The process in which jobs compute: ``python -m baton_local.sagemaker.worker serve``, with a socket as standard input.

It reads one JSON request a line from the socket and answers with JSON lines: any number of ``{"phase": name}``, then
``{"done": result}`` or ``{"failed": FailureReason}``. It ends at once when the other end is shut, also while it
computes: so a stopped job is killed, and nothing is left when the server dies.

With ``fork`` in place of ``serve`` it loads what jobs need, and becomes one worker for each socket that arrives at its
standard input, by forking: loading takes seconds of processor time.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import queue
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

from baton_local.sagemaker import kmeans, storage
from baton_local.sagemaker.channels import read_channel
from baton_local.sagemaker.formats import JSON_LINES, FormatError, UnsupportedTypeError, parse_rows, render_predictions
from baton_local.sagemaker.kmeans import ClientError
from baton_local.sagemaker.recordio import Matrix

TRAINING_LOGS = "/aws/sagemaker/TrainingJobs"
TRANSFORM_LOGS = "/aws/sagemaker/TransformJobs"
_SEE_LOGS = "See job logs for more information"

Tell = Callable[[str], None]


class _Log:
    """The lines that a container prints, kept until the job is over."""

    def __init__(self, session: storage.Session, group: str, stream: str) -> None:
        self._where = (session, group, stream)
        self._lines: list[tuple[int, str]] = []

    def line(self, text: str) -> None:
        """Print one line."""
        self._lines.append((int(time.time() * 1000), text))

    def flush(self) -> None:
        """Send what was printed to CloudWatch Logs."""
        if self._lines:
            storage.log(*self._where, self._lines)


def train(request: dict[str, Any], tell: Tell) -> dict[str, Any]:
    """Run the training container: read the channels, cluster, write model.tar.gz; return the metrics.

    ``request``: ``session``, ``job`` (a DescribeTrainingJob answer), ``artefact`` (URI), ``kms_key`` (may be empty),
    ``cache`` (folder).
    """
    session = storage.Session(**request["session"])
    job = request["job"]
    log = _Log(session, TRAINING_LOGS, f"{job['TrainingJobName']}/algo-1-{int(time.time())}")
    try:
        metrics, centres = _train(session, request, tell, log)
        tell("Uploading")
        storage.write(session, request["artefact"], kmeans.save_model(centres), request.get("kms_key", ""))
    except ClientError as error:
        log.line(f"[ERROR] Customer Error: {error.args[0]}")
        raise
    finally:
        log.flush()
    return {"metrics": metrics}


def _train(session: storage.Session, request: dict[str, Any], tell: Tell, log: _Log) -> tuple[dict[str, float], Matrix]:
    job = request["job"]
    tell("Downloading")
    log.line("Docker entrypoint called with argument(s): train")
    log.line(f"[INFO] Reading provided configuration: {json.dumps(job.get('HyperParameters', {}), sort_keys=True)}")
    parameters = kmeans.Hyperparameters.parse(job.get("HyperParameters", {}))
    channels = _read_channels(session, job, Path(request["cache"]), parameters)
    tell("Training")
    began = time.monotonic()
    centres = kmeans.fit(channels["train"], parameters, kmeans.seed_of(job["TrainingJobName"]))
    log.line(f"[INFO] compute k centers in {time.monotonic() - began:.3f} seconds from {len(channels['train'])} rows")
    metrics = {}
    for name, rows in channels.items():
        for metric, value in kmeans.quality(rows, centres).items():
            if name == "train" or metric in parameters.eval_metrics:
                metrics[f"{name}:{metric}"] = value
                log.line(f"#quality_metric: host=algo-1, {name} {metric} <loss>={value}")
    return metrics, centres


def _read_channels(
    session: storage.Session, job: dict[str, Any], cache: Path, parameters: kmeans.Hyperparameters
) -> dict[str, Matrix]:
    given = {channel["ChannelName"]: channel for channel in job.get("InputDataConfig", ())}
    if "train" not in given:
        raise ClientError("Missing required channel 'train'.")
    for name in sorted(set(given) - {"train", "test"}):
        raise ClientError(f"Unexpected channel '{name}': the algorithm knows the channels train and test.")
    rows = {name: read_channel(session, given[name], cache) for name in ("train", "test") if name in given}
    for name, matrix in rows.items():
        kmeans.check_data(matrix, name, parameters)
    return rows


def transform(request: dict[str, Any], _tell: Tell) -> dict[str, Any]:
    """Run a batch transform: predict every object under the input prefix, write each one's ``.out``.

    ``request``: ``session``, ``job`` (a DescribeTransformJob answer), ``model_url``. Returns the number of objects.
    """
    session = storage.Session(**request["session"])
    job = request["job"]
    log = _Log(session, TRANSFORM_LOGS, f"{job['TransformJobName']}/algo-1-{int(time.time())}")
    try:
        centres = _load_model(session, request["model_url"])
        source = job["TransformInput"]["DataSource"]["S3DataSource"]["S3Uri"]
        items = storage.list_objects(session, source)
        output = job["TransformOutput"]
        for item in items:
            answer = _transform_object(storage.read(session, item), job, centres)
            uri = output_uri(output["S3OutputPath"], source, item.key)
            storage.write(session, uri, answer, output.get("KmsKeyId", ""))
    except (FormatError, ClientError) as error:
        log.line(f"[ERROR] {error}")
        raise ClientError(_SEE_LOGS) if isinstance(error, FormatError) else error from error
    finally:
        log.flush()
    return {"objects": len(items)}


def _load_model(session: storage.Session, url: str) -> Matrix:
    bucket, key = storage.split_uri(url)
    try:
        return kmeans.load_model(storage.read(session, storage.S3Object(bucket, key, "", 0)))
    except ValueError as error:
        raise ClientError(_SEE_LOGS) from error


def output_uri(output: str, source: str, key: str) -> str:
    """Return where the predictions of an input object go: its path after the input prefix's last slash, and .out."""
    prefix = storage.split_uri(source)[1]
    folder = prefix if not prefix or prefix.endswith("/") else prefix.rpartition("/")[0] + "/"
    # A prefix that names a folder without its slash counts as the folder: the path in it is what is kept.
    if key.startswith(prefix + "/"):
        folder = prefix + "/"
    return f"{output.rstrip('/')}/{key.removeprefix(folder.lstrip('/'))}.out"


def _transform_object(data: bytes, job: dict[str, Any], centres: Matrix) -> bytes:
    accept = job["TransformOutput"].get("Accept") or JSON_LINES
    between = b"\n" if job["TransformOutput"].get("AssembleWith") == "Line" else b""
    kind = job["TransformInput"].get("ContentType", "")
    answers = [predict(batch, kind, accept, centres)[1] for batch in _batches(data, job)]
    return b"".join(a if not between or a.endswith(between) else a + between for a in answers)


def predict(payload: bytes, content_type: str, accept: str, centres: Matrix) -> tuple[str, bytes]:
    """Answer one request to the container: return the MIME type and the predictions; raise FormatError."""
    rows = parse_rows(payload, content_type)
    if rows.shape[1] != centres.shape[1]:
        raise FormatError(f"the rows have {rows.shape[1]} features, the model has {centres.shape[1]}")
    return render_predictions(*kmeans.nearest(rows, centres), accept)


def _batches(data: bytes, job: dict[str, Any]) -> Iterator[bytes]:
    """Cut an object into the requests that batch transform sends to the container."""
    limit = job.get("MaxPayloadInMB", 6) * 1024 * 1024 or len(data)
    split = job["TransformInput"].get("SplitType", "None")
    if split not in ("None", "Line"):
        raise UnsupportedTypeError(f"the embedded cloud splits by Line or not at all, not by {split}")
    pieces = data.splitlines(keepends=True) if split == "Line" else [data]
    batch: list[bytes] = []
    size = 0
    for piece in pieces:
        if len(piece) > limit:
            raise FormatError("a record is longer than MaxPayloadInMB")
        if batch and (size + len(piece) > limit or job.get("BatchStrategy") == "SingleRecord"):
            yield b"".join(batch)
            batch, size = [], 0
        batch.append(piece)
        size += len(piece)
    if batch:
        yield b"".join(batch)


_TASKS: dict[str, Callable[[dict[str, Any], Tell], dict[str, Any]]] = {"train": train, "transform": transform}


def answer(request: dict[str, Any], tell: Tell) -> dict[str, Any]:
    """Do what a request asks and return the last message about it."""
    try:
        return {"done": _TASKS[request["task"]](request, tell)}
    except ClientError as error:
        return {"failed": str(error)}
    except Exception as error:
        return {"failed": f"InternalServerError: We encountered an internal error. Please try again. ({error!r})"}


def serve(connection: socket.socket) -> NoReturn:
    """Answer the requests of a socket; never return."""
    requests: queue.SimpleQueue[str] = queue.SimpleQueue()

    def listen() -> None:
        try:
            for line in connection.makefile("r"):
                requests.put(line)
        finally:
            os._exit(0)

    def send(message: dict[str, Any]) -> None:
        with contextlib.suppress(OSError):
            connection.sendall(json.dumps(message).encode() + b"\n")

    threading.Thread(target=listen, daemon=True).start()
    while True:
        send(answer(json.loads(requests.get()), lambda phase: send({"phase": phase})))


def fork(asked: socket.socket) -> None:
    """Become a worker for each socket that arrives, in a process of its own, until no more can."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    gc.freeze()
    while True:
        message, sockets, _, _ = socket.recv_fds(asked, 1, 1)
        if not message:
            return
        if not os.fork():
            asked.close()
            serve(socket.socket(fileno=sockets[0]))
        os.close(sockets[0])


def main(task: str) -> None:
    """Do the task with the socket that is the standard input."""
    given = socket.socket(fileno=os.dup(0))
    # The only descriptors of the sockets are those that are closed in the end.
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    kmeans.preload()
    {"serve": serve, "fork": fork}[task](given)


if __name__ == "__main__":
    main(sys.argv[1])
