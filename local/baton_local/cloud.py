"""An embedded cloud as a child process, for whoever runs something against it."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Protocol

from baton_local import accounts, surroundings
from baton_local.context import ACCOUNT_ID
from baton_local.dials import Dials
from baton_local.server import SERVICES, free_port

_START_SECONDS = 120.0
_STOP_SECONDS = 10.0
_LOG_TAIL_LINES = 30


class CloudError(RuntimeError):
    """The embedded cloud did not come up or is gone; the message ends with the tail of its log."""


class Process(Protocol):
    """As much of ``subprocess.Popen`` as a cloud needs of its process, which ends when its standard input is closed."""

    pid: int
    stdin: IO[bytes] | None

    def poll(self) -> int | None:
        """Return its exit code, or None while it runs."""

    def wait(self, timeout: float | None = None) -> int:
        """Return its exit code once it has ended; raise subprocess.TimeoutExpired if it does not in time (seconds)."""

    def terminate(self) -> None:
        """Ask it to end."""

    def kill(self) -> None:
        """End it at once."""


def new_interpreter(arguments: Sequence[str], log: IO[bytes]) -> Process:
    """Start a cloud's process with these arguments of baton_local.server, which prints into ``log``."""
    # Its import path is this process's, so that it finds the same modules.
    path = os.pathsep.join(p for p in sys.path if p)
    return subprocess.Popen(
        [sys.executable, "-m", "baton_local.server", *arguments],
        stdin=subprocess.PIPE,
        stdout=log,
        stderr=log,
        env={**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"},
        # An interrupt at the terminal is for the command alone, which then stops the cloud with all that it started.
        process_group=0,
    )


class EmbeddedCloud:
    """A context manager: an embedded cloud that runs while the block does.

    ``dials``: the faults it makes. ``speed``: simulated seconds in one real second. ``log``: the file that gets what
    the cloud prints (default: a temporary one).
    ``port`` and ``kfp_port``: default to free ones. ``services``: its modules, beside plain moto.
    """

    def __init__(
        self,
        dials: Dials | None = None,
        speed: float = 1.0,
        log: Path | None = None,
        port: int | None = None,
        kfp_port: int | None = None,
        enforce_iam: bool = True,
        cache_dir: Path | None = None,
        services: Sequence[str] = SERVICES,
    ) -> None:
        self.dials = dials or Dials()
        self.speed = speed
        self.log = log or _temporary_file("baton-cloud-")
        self._own_log = log is None
        self.port = port or free_port()
        self.kfp_port = kfp_port or free_port()
        self._enforce_iam = enforce_iam
        self._cache_dir = cache_dir
        self._services = services
        self._process: Process | None = None
        self._config_file = _temporary_file("baton-aws-config-")

    account_id = ACCOUNT_ID
    launch: Callable[[Sequence[str], IO[bytes]], Process] = staticmethod(new_interpreter)
    """How its process is started, for all clouds: who starts many may have a quicker way."""

    @property
    def url(self) -> str:
        """Where every AWS service answers."""
        return f"http://localhost:{self.port}"

    @property
    def kfp_url(self) -> str:
        """Where Kubeflow Pipelines answers."""
        return f"http://localhost:{self.kfp_port}"

    def __enter__(self) -> EmbeddedCloud:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> EmbeddedCloud:
        """Start the cloud and wait until it answers; raise CloudError if it does not."""
        # botocore refuses an empty AWS_PROFILE, so there is a profile that says nothing.
        self._config_file.write_text("[default]\n")
        with self.log.open("wb") as log:
            self._process = self.launch(self._arguments(), log)
        try:
            self._wait_until_ready()
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """Stop the cloud and everything that it started; does nothing when it is stopped already."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        finally:
            # Also where a second interrupt cuts the wait short: it ends with its standard input, if not before.
            self._let_go(process)

    def _let_go(self, process: Process) -> None:
        if process.stdin:
            process.stdin.close()
        for path in (self._config_file, *((self.log,) if self._own_log else ())):
            with contextlib.suppress(OSError):
                path.unlink()

    def is_alive(self) -> bool:
        """Tell whether the cloud's process runs."""
        return self._process is not None and self._process.poll() is None

    def log_tail(self, lines: int = _LOG_TAIL_LINES) -> str:
        """Return the last lines that the cloud printed."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:]) if self.log.exists() else ""

    def environment(self, region: str) -> dict[str, str]:
        """Return the variables by which the ``aws`` CLI or boto3 talk to this cloud as its administrator.

        Put over another environment they also keep a profile, a session or a configuration file there from leaking in,
        and let no proxy of this process's environment stand in between.
        """
        return {
            **accounts.ADMINISTRATOR.environment(),
            "AWS_SESSION_TOKEN": "",
            "AWS_ENDPOINT_URL": self.url,
            "AWS_REGION": region,
            "AWS_DEFAULT_REGION": region,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": str(self._config_file),
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_PROFILE": "default",
            "AWS_DEFAULT_PROFILE": "default",
            "AWS_PAGER": "",
            **surroundings.proxy_exceptions(os.environ),
        }

    def client(self, service: str, region: str) -> Any:
        """Return a boto3 client that acts as this cloud's administrator."""
        return accounts.client(self.url, service, region)

    def _arguments(self) -> list[str]:
        arguments = ["--exit-with-parent", "--port", str(self.port), "--kfp-port", str(self.kfp_port)]
        arguments += ["--speed", str(self.speed), "--dials", self.dials.as_json()]
        arguments += ["--services", ",".join(self._services)]
        arguments += [] if self._enforce_iam else ["--no-iam"]
        return arguments + (["--cache-dir", str(self._cache_dir)] if self._cache_dir else [])

    def _wait_until_ready(self) -> None:
        until = time.monotonic() + _START_SECONDS
        while time.monotonic() < until:
            if f"ready {self.url}" in self.log.read_text(errors="replace"):
                return
            if not self.is_alive():
                raise CloudError(f"The embedded cloud ended before it was ready. Its log ends:\n{self.log_tail()}")
            time.sleep(0.02)
        raise CloudError(f"The embedded cloud was not ready in {_START_SECONDS:g} s. Its log ends:\n{self.log_tail()}")


def _temporary_file(prefix: str) -> Path:
    descriptor, name = tempfile.mkstemp(prefix=prefix)
    os.close(descriptor)
    return Path(name)
