"""The v2beta1 API over HTTP: which call is which, and what it answers."""

from __future__ import annotations

import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import unquote

from werkzeug.wrappers import Request, Response

from baton_local.kfp.errors import ApiError, InvalidArgument, NotFound, Unavailable, UploadError
from baton_local.kfp.faults import Faults
from baton_local.kfp.listing import page_of
from baton_local.kfp.packages import Spec, read_package
from baton_local.kfp.store import Store

_BASE = "/apis/v2beta1"
_NAMES = {"name": "display_name", "display_name": "display_name", "created_at": "created_at"}
_RUN_KEYS = {
    **_NAMES, "id": "run_id", "run_id": "run_id", "state": "state", "status": "state", "finished_at": "finished_at",
    "experiment_id": "experiment_id", "storage_state": "storage_state", "service_account": "service_account",
}  # fmt: skip
_EXPERIMENT_KEYS = {**_NAMES, "id": "experiment_id", "experiment_id": "experiment_id", "storage_state": "storage_state"}
_PIPELINE_KEYS = {**_NAMES, "name": "name", "id": "pipeline_id", "pipeline_id": "pipeline_id"}
_VERSION_KEYS = {**_NAMES, "name": "name", "id": "pipeline_version_id", "pipeline_version_id": "pipeline_version_id"}
_LOGIN = "/dex/auth/local/login"

Answer = Any
Handler = Callable[..., Answer]


class Api:
    """A WSGI application; ``change_faults`` is told when faults are turned on or off."""

    def __init__(self, store: Store, faults: Faults, change_faults: Callable[[], None]) -> None:
        self._store = store
        self._faults = faults
        self._change_faults = change_faults
        self._routes = [(method, re.compile(pattern), handler) for method, pattern, handler in self._table()]

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer one request, with the faults that are on."""
        request = Request(environ)
        path = request.path
        if path.startswith("/_baton/"):
            return self._admin(request, path)(environ, start_response)
        if self._faults.down in ("reset", "refused"):
            return _cut(environ, start_response)
        if self._faults.slow_seconds:
            time.sleep(self._faults.slow_seconds)
        if self._faults.login_page:
            return _login(path)(environ, start_response)
        response = self._answer(request, path)
        if response is None:
            return _cut(environ, start_response)
        return response(environ, start_response)

    def _table(self) -> list[tuple[str, str, Handler]]:
        segment = "([^/:]+)"
        return [
            ("GET", f"{_BASE}/healthz", self._healthz),
            ("POST", f"{_BASE}/experiments", self._create_experiment),
            ("GET", f"{_BASE}/experiments", self._list_experiments),
            ("GET", f"{_BASE}/experiments/{segment}", lambda _, i: self._store.experiment(i)),
            ("DELETE", f"{_BASE}/experiments/{segment}", lambda _, i: self._store.delete_experiment(i)),
            ("POST", f"{_BASE}/experiments/{segment}:(archive|unarchive)", self._archive_experiment),
            ("POST", f"{_BASE}/pipelines/upload", self._upload_pipeline),
            ("POST", f"{_BASE}/pipelines/upload_version", self._upload_version),
            ("GET", f"{_BASE}/pipelines", self._list_pipelines),
            ("GET", f"{_BASE}/pipelines/names/([^/]+)", lambda _, n: self._store.pipeline_named(unquote(n))),
            ("GET", f"{_BASE}/pipelines/{segment}", lambda _, i: self._store.pipeline(i).wire),
            ("DELETE", f"{_BASE}/pipelines/{segment}", self._delete_pipeline),
            ("GET", f"{_BASE}/pipelines/{segment}/versions", self._list_versions),
            ("GET", f"{_BASE}/pipelines/{segment}/versions/{segment}", lambda _, p, v: self._store.version(p, v)),
            ("DELETE", f"{_BASE}/pipelines/{segment}/versions/{segment}",
             lambda _, p, v: self._store.delete_version(p, v)),
            ("POST", f"{_BASE}/runs", self._create_run),
            ("GET", f"{_BASE}/runs", self._list_runs),
            ("GET", f"{_BASE}/runs/{segment}", lambda _, i: self._store.run(i).as_wire()),
            ("DELETE", f"{_BASE}/runs/{segment}", lambda _, i: self._store.delete_run(i)),
            ("POST", f"{_BASE}/runs/{segment}:terminate", lambda _, i: self._store.run(i).terminate()),
            ("POST", f"{_BASE}/runs/{segment}:(archive|unarchive)", self._archive_run),
        ]  # fmt: skip

    def _answer(self, request: Request, path: str) -> Response | None:
        """Return the answer, or None where the fault that is on takes it away."""
        try:
            if self._faults.down:
                raise Unavailable("the API server is not available")
            for method, pattern, handler in self._routes:
                match = pattern.fullmatch(path)
                if match and method == request.method:
                    answer = handler(request, *match.groups())
                    return None if answer is _LOST else _json({} if answer is None else answer)
            raise NotFound("Not Found")
        except (ApiError, UploadError) as error:
            return _json(error.body(), error.status)

    def _healthz(self, _request: Request) -> Answer:
        return {
            "commit_sha": "0000000000000000000000000000000000000000",
            "tag_name": self._faults.tag_name,
            "multi_user": False,
            "pipeline_store": "database",
        }

    # --- experiments ---------------------------------------------------------------------------------------------

    def _create_experiment(self, request: Request) -> Answer:
        return self._store.create_experiment(_body(request))

    def _list_experiments(self, request: Request) -> Answer:
        return _page(request, list(self._store.experiments.values()), _EXPERIMENT_KEYS, "experiments")

    def _archive_experiment(self, _request: Request, identity: str, verb: str) -> None:
        self._store.experiment(identity)["storage_state"] = "ARCHIVED" if verb == "archive" else "AVAILABLE"

    # --- pipelines -----------------------------------------------------------------------------------------------

    def _upload_pipeline(self, request: Request) -> Answer:
        fields, spec = _upload(request)
        return _uploaded(lambda: self._store.create_pipeline(fields, spec))

    def _upload_version(self, request: Request) -> Answer:
        fields, spec = _upload(request)
        pipeline_id = request.args.get("pipelineid", "")
        if not pipeline_id:
            raise UploadError(400, "Please specify a pipeline id when creating versions.")
        return _uploaded(lambda: self._store.create_version(pipeline_id, fields, spec))

    def _list_pipelines(self, request: Request) -> Answer:
        return _page(request, [p.wire for p in list(self._store.pipelines.values())], _PIPELINE_KEYS, "pipelines")

    def _list_versions(self, request: Request, identity: str) -> Answer:
        versions = list(self._store.pipeline(identity).versions.values())
        return _page(request, versions, _VERSION_KEYS, "pipeline_versions")

    def _delete_pipeline(self, request: Request, identity: str) -> None:
        self._store.delete_pipeline(identity, request.args.get("cascade", "").lower() == "true")

    # --- runs ----------------------------------------------------------------------------------------------------

    def _create_run(self, request: Request) -> Answer:
        run = self._store.check_run(_body(request))
        if self._faults.take("late_next_runs"):
            timer = threading.Timer(self._faults.late_seconds, self._store.add_run, (run,))
            timer.daemon = True
            timer.start()
            return _LOST
        self._store.add_run(run)
        if self._faults.take("lose_next_runs"):
            return _LOST
        run.refresh()
        return run.as_wire()

    def _list_runs(self, request: Request) -> Answer:
        experiment, namespace = request.args.get("experiment_id", ""), request.args.get("namespace", "")
        runs = [
            run.as_wire()
            for run in self._store.runs()
            if experiment in ("", run.experiment_id) and namespace in ("", run.namespace)
        ]
        return _page(request, runs, _RUN_KEYS, "runs")

    def _archive_run(self, _request: Request, identity: str, verb: str) -> None:
        self._store.run(identity).archived = verb == "archive"

    # --- for tests and for people who debug ----------------------------------------------------------------------

    def _admin(self, request: Request, path: str) -> Response:
        logs = re.fullmatch(r"/_baton/runs/([^/]+)/logs", path)
        try:
            if logs:
                return _json(self._store.run(logs[1]).folder.logs())
            if path != "/_baton/faults":
                raise NotFound("Not Found")
            if request.method == "POST":
                self._change(_body(request))
            return _json(self._faults.as_dict())
        except ApiError as error:
            return _json(error.body(), error.status)

    def _change(self, values: dict[str, Any]) -> None:
        try:
            self._faults.change(values)
        except ValueError as error:
            raise InvalidArgument(str(error)) from error
        self._change_faults()


_LOST = object()


def _body(request: Request) -> dict[str, Any]:
    try:
        body = json.loads(request.get_data() or b"{}")
    except ValueError as error:
        raise InvalidArgument(f"proto: syntax error: {error}") from error
    if not isinstance(body, dict):
        raise InvalidArgument("proto: syntax error (line 1:1): unexpected token")
    return body


def _upload(request: Request) -> tuple[dict[str, str], Spec]:
    file = request.files.get("uploadfile")
    if file is None:
        raise UploadError(400, "Failed to read pipeline from file: http: no such file")
    args = request.args
    name = args.get("name") or file.filename or "pipeline"
    fields = {"name": name, "display_name": args.get("display_name") or name}
    fields.update({k: args[k] for k in ("description", "namespace") if args.get(k)})
    try:
        return fields, read_package(file.read())
    except InvalidArgument as error:
        raise UploadError(400, f"Failed to read pipeline from file: {error}") from error


def _uploaded(create: Callable[[], Answer]) -> Answer:
    try:
        return create()
    except ApiError as error:
        raise UploadError(error.status, str(error)) from error


def _page(request: Request, rows: list[Any], keys: dict[str, str], name: str) -> Answer:
    found, total, token = page_of(rows, request.args, keys)
    answer: dict[str, Any] = {name: found} if found else {}
    if total:
        answer["total_size"] = total
    return {**answer, "next_page_token": token} if token else answer


def _json(value: Any, status: int = 200) -> Response:
    return Response(json.dumps(value), status, content_type="application/json")


def _login(path: str) -> Response:
    if path == _LOGIN:
        page = "<!DOCTYPE html><title>dex</title><h2>Log in to your account</h2><form method=post></form>"
        return Response(page, 200, content_type="text/html; charset=utf-8")
    return Response("", 302, {"Location": _LOGIN})


def _cut(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    connection: socket.socket | None = environ.get("werkzeug.socket")
    if connection is not None:
        connection.shutdown(socket.SHUT_RDWR)
    start_response("503 Service Unavailable", [("Content-Length", "0"), ("Connection", "close")])
    return [b""]
