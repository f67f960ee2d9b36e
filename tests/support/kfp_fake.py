"""A Kubeflow Pipelines API in memory, served in process or over HTTP, that can be made to fail in its own ways."""

from __future__ import annotations

import email.parser
import email.policy
import itertools
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from baton.kfp.transport import Answer, Request, Unanswered

API = "/apis/v2beta1"
TERMINAL = {"SUCCEEDED", "FAILED", "CANCELED", "SKIPPED"}
Reply = tuple[int, Mapping[str, str], bytes]


def as_json(content: Any, status: int = 200) -> Reply:
    return status, {"Content-Type": "application/json"}, json.dumps(content).encode()


def grpc_error(status: int, code: int, message: str) -> Reply:
    return as_json({"code": code, "message": message, "details": []}, status)


class FakeKfp:
    """The API's state and its rules, as docs and sources of KFP 2.14 to 2.17 have them."""

    def __init__(self, multi_user: bool = False, tag: str = "2.17.0") -> None:
        self.multi_user = multi_user
        self.tag = tag
        self.experiments: dict[str, dict[str, Any]] = {}
        self.pipelines: dict[str, dict[str, Any]] = {}
        self.versions: dict[str, dict[str, Any]] = {}
        self.runs: dict[str, dict[str, Any]] = {}
        self.requests: list[tuple[str, str, Mapping[str, str], bytes]] = []
        self.uploads: list[bytes] = []
        self.late: list[Callable[[], None]] = []
        self._ids = itertools.count(1)

    def commit_late(self) -> None:
        """Carry out what was kept back."""
        while self.late:
            self.late.pop(0)()

    def answer(self, method: str, target: str, headers: Mapping[str, str], body: bytes) -> Reply:
        self.requests.append((method, target, headers, body))
        parts = urlsplit(target)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        path = parts.path.removeprefix(API)
        if path == "/healthz":
            health = {"tag_name": self.tag, "commit_sha": "c0ffee", "multi_user": self.multi_user}
            return as_json({name: value for name, value in health.items() if value})
        if "namespace" in query and not self.multi_user:
            return grpc_error(400, 3, "In single-user mode, there must be no namespace.")
        routes = {
            "/experiments": self._experiments,
            "/pipelines/upload": self._upload_pipeline,
            "/pipelines/upload_version": self._upload_version,
            "/runs": self._runs,
        }
        if path in routes:
            return routes[path](method, query, body)
        if path.startswith("/pipelines/"):
            return self._pipelines(path.split("/")[2:], query)
        return self._run(method, path.removeprefix("/runs/"))

    def _id(self, kind: str) -> str:
        return f"{kind}-{next(self._ids)}"

    def _experiments(self, method: str, query: Mapping[str, str], body: bytes) -> Reply:
        if method == "GET":
            return as_json(_page("experiments", _matching(self.experiments.values(), query), query))
        asked = json.loads(body)
        if any(e["display_name"] == asked["display_name"] for e in self.experiments.values()):
            return grpc_error(409, 6, f"experiment {asked['display_name']} already exists")
        made = {"experiment_id": self._id("experiment"), "created_at": "2026-03-01T09:30:00Z", **asked}
        self.experiments[made["experiment_id"]] = made
        return as_json(made)

    def _pipelines(self, rest: list[str], query: Mapping[str, str]) -> Reply:
        if rest[0] == "names":
            found = [p for p in self.pipelines.values() if p["name"] == unquote(rest[1])]
            return as_json(found[0]) if found else grpc_error(404, 5, f"pipeline {rest[1]} not found")
        versions = [v for v in self.versions.values() if v["pipeline_id"] == rest[0]]
        return as_json(_page("pipeline_versions", versions, query))

    def _upload_pipeline(self, method: str, query: Mapping[str, str], body: bytes) -> Reply:
        if any(p["name"] == query["name"] for p in self.pipelines.values()):
            return as_json({"error_message": "Failed to create a pipeline", "error_details": "exists"}, 409)
        made = {"pipeline_id": self._id("pipeline"), "name": query["name"], "display_name": query["display_name"]}
        self.pipelines[made["pipeline_id"]] = made
        self._add_version(made["pipeline_id"], query["name"], body)
        return as_json(made)

    def _upload_version(self, method: str, query: Mapping[str, str], body: bytes) -> Reply:
        taken = [v for v in self.versions.values() if v["pipeline_id"] == query["pipelineid"]]
        if any(v["name"] == query["name"] for v in taken):
            return 409, {"Content-Type": "text/plain"}, b"Failed to create a pipeline version"
        return as_json(self._add_version(query["pipelineid"], query["name"], body))

    def _add_version(self, pipeline_id: str, name: str, body: bytes) -> dict[str, Any]:
        self.uploads.append(body)
        made = {
            "pipeline_id": pipeline_id,
            "pipeline_version_id": self._id("version"),
            "name": name,
            "display_name": name,
            "created_at": "2026-03-01T09:30:00Z",
        }
        self.versions[made["pipeline_version_id"]] = made
        return made

    def _runs(self, method: str, query: Mapping[str, str], body: bytes) -> Reply:
        if method == "GET":
            of = [r for r in self.runs.values() if r["experiment_id"] == query.get("experiment_id")]
            return as_json(_page("runs", _matching(of, query), query))
        asked = json.loads(body)
        if not asked.get("display_name") or asked["experiment_id"] not in self.experiments:
            return grpc_error(500, 13, "internal error")
        if asked["pipeline_version_reference"]["pipeline_version_id"] not in self.versions:
            return grpc_error(500, 13, "the pipeline version does not exist")
        return as_json(self.add_run(asked))

    def add_run(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        number = len(self.runs)
        made = {
            "run_id": self._id("run"),
            "state": "PENDING",
            "created_at": f"2026-03-01T09:{30 + number // 60:02}:{number % 60:02}Z",
            "finished_at": "1970-01-01T00:00:00Z",
            **asked,
        }
        self.runs[made["run_id"]] = made
        return made

    def _run(self, method: str, path: str) -> Reply:
        run_id, _, verb = path.partition(":")
        run = self.runs.get(run_id)
        if run is None:
            return grpc_error(404, 5, f"Run {run_id} not found")
        if verb == "terminate":
            if run["state"] in TERMINAL:
                return grpc_error(400, 3, "Failed to terminate a run: it has ended")
            run["state"] = "CANCELING"
            return as_json({})
        return as_json(run)


def _matching(items: Any, query: Mapping[str, str]) -> list[dict[str, Any]]:
    if "filter" not in query:
        return list(items)
    (predicate,) = json.loads(unquote(query["filter"]))["predicates"]
    assert predicate["operation"] in (1, "EQUALS")
    return [item for item in items if item[predicate["key"]] == predicate["stringValue"]]


def _page(field: str, items: list[dict[str, Any]], query: Mapping[str, str]) -> dict[str, Any]:
    start, size = int(query.get("page_token", "0")), int(query.get("page_size", "20"))
    assert size <= 200
    more = {"next_page_token": str(start + size)} if start + size < len(items) else {}
    page = items[start : start + size]
    return {**({field: page} if page else {}), "total_size": len(items), **more}


Around = Callable[[str, Callable[[], Reply]], Reply]


class InProcess:
    """The fake as a client's transport; ``around`` is handed each exchange and decides what becomes of it."""

    def __init__(self, fake: FakeKfp, around: Around = lambda name, effect: effect()) -> None:
        self.fake = fake
        self.around = around

    def forget_connections(self) -> None:
        pass

    def send(self, request: Request) -> Answer:
        name = f"{request.method} {urlsplit(request.path).path.removeprefix(API)}"
        status, headers, body = self.around(
            name, lambda: self.fake.answer(request.method, request.path, request.headers, request.body or b"")
        )
        return Answer(status, {key.lower(): value for key, value in headers.items()}, body)


def losing_answer(effect: Callable[[], Reply]) -> Reply:
    effect()
    raise Unanswered("the connection was cut")


Handler = Callable[[str, str, Mapping[str, str], bytes], Reply]


@contextmanager
def serving(handler: Handler, wrap: Callable[[Any], Any] = lambda socket: socket) -> Iterator[int]:
    """Serve a handler over HTTP on a free port of the loopback interface; ``wrap`` may add TLS to the socket."""

    class _Exchange(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _go(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, headers, answer = handler(self.command, self.path, dict(self.headers.items()), body)
            if status == 0:
                # Cut: what is in ``answer`` goes out as it is, and then nothing.
                self.wfile.write(answer)
                self.close_connection = True
                return
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(answer))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(answer)

        do_GET = do_POST = _go

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), _Exchange)
    server.daemon_threads = True
    server.socket = wrap(server.socket)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()


def uploaded_file(headers: Mapping[str, str], body: bytes) -> bytes:
    """Return the content of the form's one file, ``uploadfile``."""
    head = f"Content-Type: {headers['Content-Type']}\r\n\r\n".encode()
    message = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(head + body)
    (part,) = message.iter_parts()
    assert part.get_param("name", header="content-disposition") == "uploadfile"
    content: bytes = part.get_payload(decode=True)
    return content
