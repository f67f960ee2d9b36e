"""A small client of the Kubeflow Pipelines v2beta1 API, with the care that launching exactly once needs.

Only GETs are ever repeated. A POST is sent once, and one that creates a run and gets no answer is LaunchUncertain,
because it may have been committed: KFP has no idempotency key, and a second POST would start a second workflow.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import quote, urlencode

from urllib3.filepost import encode_multipart_formdata

from baton.errors import KfpMisconfigured, KfpRefused, KfpTooOld, KfpUnavailable, LaunchUncertain
from baton.kfp.access import Access, NoAccess
from baton.kfp.answers import NO_API, NOT_THE_API, may_be_for_old_credentials, read_answer
from baton.kfp.models import Experiment, Health, PipelineRef, Run, Version
from baton.kfp.transport import Answer, Request, Sends, Unanswered, Unreached

API = "/apis/v2beta1"

MINIMUM_VERSION = (2, 14, 0)
"""The first release with kubeflow/pipelines #11470 (a failed run with an exit handler fails) and #11953 (an exit
task may take the final status): https://github.com/kubeflow/pipelines/blob/master/CHANGELOG.md"""

POST_SECONDS = 20.0
"""How long a POST may take before it counts as unanswered."""

GET_SECONDS = 15.0
_GET_PAUSES = (0.3, 1.0)
_PAGE_SIZE = 100
_MAX_PAGES = 50


class KfpClient:
    """Talks to one Kubeflow Pipelines API; every method raises KfpUnavailable, KfpRefused or KfpMisconfigured.

    ``run_page`` makes the link to a run for a person from its id; ``user`` goes into the header kubeflow-userid.
    """

    def __init__(
        self,
        transport: Sends,
        access: Access | None = None,
        *,
        namespace: str = "",
        user: str = "",
        run_page: Callable[[str], str] = lambda run_id: f"{API}/runs/{run_id}",
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._transport = transport
        self._access = access or NoAccess()
        self._namespace = namespace
        self._user = user
        self._run_page = run_page
        self._sleep = sleep
        self._health: Health | None = None

    def run_url(self, run_id: str) -> str:
        """Return the link to a run for a person."""
        return self._run_page(run_id)

    # --- the server ---------------------------------------------------------------------------------------------------

    def health(self) -> Health:
        """Return the server's version and mode, as it tells them now; raise KfpMisconfigured if it is another's."""
        answer = self._get("/healthz")
        if answer is None:
            raise KfpMisconfigured(f"{NO_API}: /healthz is not found.")
        health = Health.read(answer)
        if health is None:
            raise KfpMisconfigured(f"{NOT_THE_API}: /healthz tells no tag_name, commit_sha or multi_user.")
        self._health = health
        return health

    def require_version(self) -> Health:
        """Return the server's health; raise KfpTooOld for a release before MINIMUM_VERSION.

        A tag that is no release (a build of one's own) passes: whoever builds KFP knows what is in it.
        """
        health = self.health()
        release = re.match(r"v?(\d+)\.(\d+)\.(\d+)", health.tag)
        if release and tuple(map(int, release.groups())) < MINIMUM_VERSION:
            minimum = ".".join(map(str, MINIMUM_VERSION))
            raise KfpTooOld(f"Kubeflow Pipelines is {health.tag}; Baton needs {minimum} or newer.")
        return health

    # --- experiments and pipelines ------------------------------------------------------------------------------------

    def find_experiment(self, name: str) -> Experiment | None:
        """Return the experiment of this name, or None."""
        page = self._get("/experiments", {**self._in_namespace(), "filter": _named(name), "page_size": "1"}) or {}
        return next((Experiment.read(found) for found in page.get("experiments", [])), None)

    def find_or_create_experiment(self, name: str) -> Experiment:
        """Return the experiment of this name, which is made where there is none."""
        found = self.find_experiment(name)
        if found:
            return found
        try:
            return Experiment.read(self._post("/experiments", {"display_name": name, **self._in_namespace()}))
        except KfpRefused:
            # Somebody else made it meanwhile.
            found = self.find_experiment(name)
            if found is None:
                raise
            return found

    def find_pipeline(self, name: str) -> PipelineRef | None:
        """Return the pipeline of this name, or None."""
        answer = self._get(f"/pipelines/names/{quote(name, safe='')}", self._in_namespace())
        return PipelineRef.read(answer) if answer else None

    def upload_pipeline(self, name: str, description: str, package: bytes) -> PipelineRef:
        """Make a pipeline; KFP gives it a first version of the same name."""
        query = {"name": name, "display_name": name, "description": description, **self._in_namespace()}
        return PipelineRef.read(self._upload("/pipelines/upload", query, package))

    def find_version(self, pipeline_id: str, name: str) -> Version | None:
        """Return a pipeline's version of this name, or None."""
        path = f"/pipelines/{quote(pipeline_id, safe='')}/versions"
        pages = self._pages(path, {"sort_by": "created_at desc"}, "pipeline_versions")
        return next((version for version in map(Version.read, pages) if version.name == name), None)

    def upload_version(self, pipeline_id: str, name: str, package: bytes) -> Version:
        """Add a version to a pipeline."""
        query = {"name": name, "display_name": name, "pipelineid": pipeline_id}
        return Version.read(self._upload("/pipelines/upload_version", query, package))

    # --- runs ---------------------------------------------------------------------------------------------------------

    def find_runs(self, display_name: str, experiment_id: str) -> list[Run]:
        """Return the experiment's runs of this name, oldest first; names are not unique."""
        query = {**self._in_namespace(), "experiment_id": experiment_id, "filter": _named(display_name)}
        runs = [Run.read(found) for found in self._pages("/runs", query, "runs")]
        return sorted((run for run in runs if run.display_name == display_name), key=lambda run: run.created_at)

    def create_run(
        self,
        display_name: str,
        experiment_id: str,
        version: Version,
        parameters: Mapping[str, Any],
        service_account: str = "",
    ) -> Run:
        """Start a run with one POST; raise LaunchUncertain where nobody can tell whether it was committed."""
        body = {
            "display_name": display_name,
            "experiment_id": experiment_id,
            "pipeline_version_reference": {"pipeline_id": version.pipeline_id, "pipeline_version_id": version.id},
            "runtime_config": {"parameters": dict(parameters)},
            **({"service_account": service_account} if service_account else {}),
        }
        self._transport.forget_connections()
        try:
            return Run.read(_present(_read_launch(self._send_json("/runs", body)), "/runs"))
        except Unreached as error:
            raise KfpUnavailable(f"Kubeflow Pipelines could not be reached: {error}.") from error
        except (Unanswered, KfpUnavailable, KeyError) as error:
            # Also a 5xx: KFP starts the workflow before it stores the run.
            raise LaunchUncertain(f"The launch of {display_name} got no answer that settles it: {error}.") from error

    def get_run(self, run_id: str) -> Run | None:
        """Return a run, or None where KFP has none of this id."""
        answer = self._get(f"/runs/{quote(run_id, safe='')}")
        return Run.read(answer) if answer else None

    def terminate_run(self, run_id: str) -> None:
        """Ask for a run's end, which comes later; a run that has ended, or that KFP does not have, is a success."""
        try:
            self._post(f"/runs/{quote(run_id, safe='')}:terminate", None)
        except KfpRefused:
            # KFP answers 400 for a run that has ended, and for other reasons.
            run = self.get_run(run_id)
            if run is not None and not run.is_terminal:
                raise

    # --- exchanges ----------------------------------------------------------------------------------------------------

    def _in_namespace(self) -> dict[str, str]:
        # A single-user installation refuses, or ignores, a namespace.
        health = self._health or self.health()
        return {"namespace": self._namespace} if health.multi_user else {}

    def _pages(self, path: str, query: Mapping[str, str], field: str) -> Iterator[Mapping[str, Any]]:
        token = ""
        for _ in range(_MAX_PAGES):
            more = {"page_token": token} if token else {}
            page = self._get(path, {**query, "page_size": str(_PAGE_SIZE), **more}) or {}
            yield from page.get(field, [])
            token = page.get("next_page_token", "")
            if not token:
                return

    def _get(self, path: str, query: Mapping[str, str] | None = None) -> dict[str, Any] | None:
        for pause in _GET_PAUSES:
            try:
                return self._get_once(path, query or {})
            except KfpUnavailable:
                self._sleep(pause)
        return self._get_once(path, query or {})

    def _get_once(self, path: str, query: Mapping[str, str]) -> dict[str, Any] | None:
        headers = self._headers()
        answer = self._exchange(path, query, headers)
        if may_be_for_old_credentials(answer):
            renewed = self._headers(renewed=True)
            # The same credentials would get the same answer.
            answer = self._exchange(path, query, renewed) if renewed != headers else answer
        return read_answer(answer)

    def _exchange(self, path: str, query: Mapping[str, str], headers: Mapping[str, str]) -> Answer:
        return self._answered(Request("GET", _target(path, query), headers, seconds=GET_SECONDS))

    def _post(self, path: str, body: Mapping[str, Any] | None) -> dict[str, Any]:
        with_body = _json_request(path, body, self._headers())
        return _present(read_answer(self._answered(with_body)), path)

    def _send_json(self, path: str, body: Mapping[str, Any]) -> Answer:
        return self._transport.send(_json_request(path, body, self._headers()))

    def _upload(self, path: str, query: Mapping[str, str], package: bytes) -> dict[str, Any]:
        body, content_type = encode_multipart_formdata(
            {"uploadfile": ("pipeline.yaml", package, "application/octet-stream")}
        )
        headers = {**self._headers(), "Content-Type": content_type}
        request = Request("POST", _target(path, query), headers, body, POST_SECONDS)
        return _present(read_answer(self._answered(request)), path)

    def _answered(self, request: Request) -> Answer:
        try:
            return self._transport.send(request)
        except (Unreached, Unanswered) as error:
            raise KfpUnavailable(
                f"Kubeflow Pipelines did not answer {request.path.partition('?')[0]}: {error}."
            ) from error

    def _headers(self, renewed: bool = False) -> dict[str, str]:
        user = {"kubeflow-userid": self._user} if self._user else {}
        return {"Accept": "application/json", **user, **self._access.headers(renewed)}


def _target(path: str, query: Mapping[str, str]) -> str:
    # Spaces as %20, because KFP decodes a filter twice and a "+" would not survive the first time everywhere.
    return f"{API}{path}?{urlencode(query, quote_via=quote)}" if query else API + path


def _json_request(path: str, body: Mapping[str, Any] | None, headers: Mapping[str, str]) -> Request:
    content = json.dumps(body, allow_nan=False).encode() if body is not None else b""
    return Request("POST", API + path, {**headers, "Content-Type": "application/json"}, content, POST_SECONDS)


def _read_launch(answer: Answer) -> dict[str, Any] | None:
    try:
        return read_answer(answer)
    except KfpMisconfigured as error:
        # A server that says "done" has done something, whatever became of the rest of what it says.
        if answer.is_success:
            raise Unanswered(str(error)) from error
        raise


def _present(content: dict[str, Any] | None, path: str) -> dict[str, Any]:
    if content is None:
        raise KfpRefused(f"Kubeflow Pipelines does not find what {path} is about.", 404)
    return content


def _named(name: str) -> str:
    # KFP decodes a filter twice, so these two would come out as something else.
    if "+" in name or "%" in name:
        raise KfpMisconfigured(f"The name {name!r} must not have '+' or '%' in it.")
    predicates = {"predicates": [{"operation": 1, "key": "display_name", "stringValue": name}]}
    return json.dumps(predicates, separators=(",", ":"))
