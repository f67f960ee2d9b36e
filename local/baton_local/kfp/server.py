"""The embedded Kubeflow Pipelines as a server: one port, one store, one launcher of run processes."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from baton_local.forking import CAN_FORK
from baton_local.http_server import bind
from baton_local.kfp.api import Api
from baton_local.kfp.faults import Faults
from baton_local.kfp.launcher import Launcher, import_path
from baton_local.kfp.runs import Run
from baton_local.kfp.store import Store

_DEFAULT_REGION = "us-east-1"

PodCredentials = Callable[[str, str, str], dict[str, str] | None]
"""What a pod gets: (namespace, service account, region) -> environment variables, or None for no role."""


@dataclass(frozen=True)
class PodEnvironment:
    """The environment of the pods: where AWS is, and the credentials of the service account; nothing else of the host.

    The region is the one that the run is told, as a cluster stands in the region of the stack that uses it.
    """

    aws_url: str = ""
    credentials: PodCredentials | None = None

    def of(self, run: Run) -> dict[str, str]:
        """Return the environment of a run's pods."""
        region = str(run.parameters.get("region") or _DEFAULT_REGION)
        environment = {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": str(run.folder.path / "work"),
            "LANG": "C.UTF-8",
            "PYTHONPATH": import_path(),
            "PYTHONUNBUFFERED": "1",
            "AWS_REGION": region,
            "AWS_DEFAULT_REGION": region,
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        if self.aws_url:
            environment["AWS_ENDPOINT_URL"] = self.aws_url
        own = self.credentials(run.namespace, run.service_account, region) if self.credentials else None
        return {**environment, **(own or {})}


class KfpServer:
    """A Kubeflow Pipelines API at ``url`` while it is started; also a context manager.

    ``port`` 0 takes a free one. ``folder`` gets the runs' files (default: a temporary one, removed at the end).
    """

    def __init__(
        self, folder: Path | None = None, pods: PodEnvironment | None = None, port: int = 0, fork: bool = CAN_FORK
    ) -> None:
        self._own_folder = folder is None
        self._folder = folder or Path(tempfile.mkdtemp(prefix="baton-kfp-"))
        self._folder.mkdir(parents=True, exist_ok=True)
        self.faults = Faults()
        self._launcher = Launcher(fork)
        self._store = Store(self._folder, self._launcher, (pods or PodEnvironment()).of, self.faults)
        self._api = Api(self._store, self.faults, self._obey_faults)
        self._port = port
        self._http: Any = None
        self._again: threading.Timer | None = None

    @property
    def url(self) -> str:
        """Where the API answers, without a slash at the end."""
        return f"http://localhost:{self._port}"

    def __enter__(self) -> KfpServer:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> KfpServer:
        """Start to answer, and to load what the runs need."""
        self._launcher.warm_up()
        self._listen()
        return self

    def stop(self) -> None:
        """Kill every run and stop to answer."""
        if self._again:
            self._again.cancel()
        self._close()
        self._launcher.close()
        if self._own_folder:
            shutil.rmtree(self._folder, ignore_errors=True)

    def run(self, run_id: str) -> Run:
        """Return a run, for tests."""
        return self._store.run(run_id)

    def set_faults(self, **values: Any) -> None:
        """Turn faults on or off, as ``POST /_baton/faults`` does; raise ValueError for an unknown one."""
        self.faults.change(values)
        self._obey_faults()

    def _obey_faults(self) -> None:
        if self.faults.down == "refused" and self._http is not None:
            # Not at once and not here: the request that asks for it is still to be answered.
            threading.Timer(0.05, self._close).start()
            self._again = threading.Timer(self.faults.refused_seconds, self._heal)
            self._again.daemon = True
            self._again.start()
        elif self.faults.down != "refused" and self._http is None:
            self._listen()

    def _heal(self) -> None:
        self.set_faults(down="")

    def _listen(self) -> None:
        self._http = bind(self._port, self._api)
        self._port = self._http.server_port
        self._http.handle_error = _report_unless_cut
        threading.Thread(target=self._http.serve_forever, args=(0.05,), name="kfp", daemon=True).start()

    def _close(self) -> None:
        http, self._http = self._http, None
        if http is not None:
            http.shutdown()
            http.server_close()


def _report_unless_cut(_request: Any, address: Any) -> None:
    # A connection that a fault has cut, or that the client gave up, is nothing to report.
    if not isinstance(sys.exception(), ConnectionError):
        print(f"A request from {address} failed.\n{traceback.format_exc()}", file=sys.stderr, flush=True)
