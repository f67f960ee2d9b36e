"""A sandbox: one real process that runs one function, one invocation at a time."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import threading
import time
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from baton_local.accounts import Credentials
from baton_local.lambda_ import runtime_client
from baton_local.lambda_.functions import Function
from baton_local.lambda_.nursery import Birth, Nursery, Process
from baton_local.lambda_.packages import Packages, import_path
from baton_local.lambda_.runtime_api import Invocation, RuntimeApi

INIT_SECONDS = 10.0
"""How long the initialisation may take before it eats into the first invocation's time, as on Lambda."""

_SIGKILL = getattr(signal, "SIGKILL", signal.SIGTERM)
_OWN_VARIABLES = (
    *("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"),
    *("AWS_LAMBDA_RUNTIME_API", "AWS_LAMBDA_LOG_STREAM_NAME", "HOME", "TMPDIR"),
)
"""What no two sandboxes of a function have in common."""
_PLATFORM_ERRORS = ("Sandbox.Timedout", "Runtime.ExitError")


@dataclass(frozen=True)
class Outcome:
    """What came of an invocation: the answer's body, whether it is an error, and everything that was logged."""

    body: bytes
    is_error: bool
    log: str
    request_id: str


@dataclass(frozen=True)
class Launcher:
    """How sandboxes are started.

    ``url``: the embedded cloud's endpoint. ``client``: "awslambdaric", or "python" for the pure-Python runtime client.
    ``folder``: where each sandbox gets a folder of its own for its log and its temporary files. ``nursery`` starts the
    processes.
    """

    url: str
    packages: Packages
    folder: Path
    client: str
    nursery: Nursery

    @property
    def program(self) -> str:
        """The runtime client's module, or its file."""
        return self.client if self.client == "awslambdaric" else str(Path(runtime_client.__file__).resolve())


class Sandbox:
    """A running sandbox of a function, with a session of the function's role."""

    def __init__(self, function: Function, launcher: Launcher, credentials: Credentials) -> None:
        self.function = function
        self.credentials = credentials
        self.started = time.monotonic()
        self.last_used = self.started
        self.log_stream = f"{datetime.now(UTC):%Y/%m/%d}/[{function.version}]{uuid.uuid4().hex}"
        self._current: Invocation | None = None
        self._api = RuntimeApi()
        self._folder = launcher.folder / uuid.uuid4().hex
        self._log_file = self._folder / "log"
        self._log_offset = 0
        self._init_reported = False
        self._process = self._start(launcher)
        threading.Thread(target=self._watch, name="sandbox", daemon=True).start()

    @property
    def is_alive(self) -> bool:
        """Whether it can take another invocation."""
        return self._process.poll() is None and self._api.init_error is None

    def invoke(self, invocation: Invocation) -> Outcome:
        """Run one invocation to its end, whatever that is; a sandbox that failed is dead afterwards."""
        self._current = invocation
        begin = time.monotonic()
        self._api.settled.wait(INIT_SECONDS)
        init_seconds = time.monotonic() - self.started if not self._init_reported else None
        self._init_reported = True
        start = time.monotonic() if self._api.settled.is_set() else begin + INIT_SECONDS
        body, is_error = self._run(invocation)
        self._current = None
        self.last_used = time.monotonic()
        text = self._new_log() + (_platform_line(body) if is_error else "")
        log = self._report(invocation, text, time.monotonic() - start, init_seconds)
        return Outcome(body, is_error, log, invocation.request_id)

    def note_call(self) -> None:
        """Count an AWS call that was made from here and is done; the crash dial may kill the sandbox now."""
        invocation = self._current
        if invocation is None:
            return
        invocation.calls += 1
        if invocation.doomed_after is not None and invocation.calls >= invocation.doomed_after:
            self.kill()

    def kill(self) -> None:
        """End the process and its children at once."""
        if self._process.poll() is not None:
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if hasattr(os, "killpg"):
                os.killpg(self._process.pid, _SIGKILL)
            else:
                self._process.kill()

    def discard(self) -> None:
        """End the process and remove what it left."""
        self.kill()
        self._process.wait()
        self._api.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _start(self, launcher: Launcher) -> Process:
        task, path = self._unpack(launcher.packages)
        temporary = self._folder / "tmp"
        temporary.mkdir(parents=True)
        environment = {
            **_system_variables(),
            **self._lambda_variables(launcher.url, task, temporary),
            "PYTHONPATH": os.pathsep.join(path),
            **dict(self.function.variables),
            **self.credentials.environment(),
        }
        birth = Birth(launcher.program, self.function.handler, environment, task, self._log_file)
        return launcher.nursery.start(self.function, birth, _OWN_VARIABLES)

    def _unpack(self, packages: Packages) -> tuple[Path, list[str]]:
        function = self.function
        task = packages.task(function.code_hash, function.code)
        opt = packages.layers(zip(function.layer_hashes, function.layers, strict=True))
        return task, import_path(task, opt, packages.runtime())

    def _lambda_variables(self, url: str, task: Path, temporary: Path) -> dict[str, str]:
        """Return the variables that Lambda defines, and the few that keep the sandbox inside the embedded cloud."""
        function = self.function
        return {
            "_HANDLER": function.handler,
            "LAMBDA_TASK_ROOT": str(task),
            "LAMBDA_RUNTIME_DIR": str(task),
            "AWS_LAMBDA_RUNTIME_API": self._api.address,
            "AWS_LAMBDA_FUNCTION_NAME": function.name,
            "AWS_LAMBDA_FUNCTION_VERSION": function.version,
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(function.memory_mb),
            "AWS_LAMBDA_LOG_GROUP_NAME": function.log_group,
            "AWS_LAMBDA_LOG_STREAM_NAME": self.log_stream,
            "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
            "AWS_EXECUTION_ENV": f"AWS_Lambda_{function.runtime}",
            "AWS_REGION": function.region,
            "AWS_DEFAULT_REGION": function.region,
            "AWS_XRAY_CONTEXT_MISSING": "LOG_ERROR",
            "AWS_XRAY_DAEMON_ADDRESS": "127.0.0.1:2000",
            "AWS_ENDPOINT_URL": url,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "HOME": str(temporary),
            "TMPDIR": str(temporary),
            "TZ": ":UTC",
            "LANG": "en_US.UTF-8",
            "PYTHONUTF8": "1",
        }

    def _run(self, invocation: Invocation) -> tuple[bytes, bool]:
        timeout = self.function.timeout_seconds
        invocation.deadline_epoch = time.time() + timeout
        if self._api.init_error is not None:
            return _with_request_id(self._api.init_error, invocation.request_id), True
        self._api.offer(invocation)
        if self._process.poll() is not None:
            self._exited(invocation)
        result = invocation.wait(timeout)
        if self._api.init_error is not None:
            return _with_request_id(self._api.init_error, invocation.request_id), True
        if result is None:
            self.kill()
            return _timed_out(invocation, timeout), True
        if invocation.doomed_after is not None and invocation.calls:
            # It made fewer calls than were drawn, so it dies after its last one: its result is lost.
            self.kill()
            self._process.wait()
            return _exit_error(invocation.request_id, -_SIGKILL), True
        return result

    def _watch(self) -> None:
        self._process.wait()
        self._api.settled.set()
        if self._current is not None:
            self._exited(self._current)

    def _exited(self, invocation: Invocation) -> None:
        invocation.complete(_exit_error(invocation.request_id, self._process.wait()), is_error=True)

    def _new_log(self) -> str:
        with self._log_file.open("rb") as log:
            log.seek(self._log_offset)
            text = log.read()
        self._log_offset += len(text)
        return text.decode(errors="replace")

    def _report(self, invocation: Invocation, text: str, seconds: float, init_seconds: float | None) -> str:
        """Return the log of an invocation between the lines that Lambda puts around it."""
        request, millis = f"RequestId: {invocation.request_id}", seconds * 1000
        if text and not text.endswith("\n"):
            text += "\n"
        init = f"\tInit Duration: {init_seconds * 1000:.2f} ms" if init_seconds is not None else ""
        memory = self.function.memory_mb
        return (
            f"START {request} Version: {self.function.version}\n{text}END {request}\n"
            f"REPORT {request}\tDuration: {millis:.2f} ms\tBilled Duration: {int(millis) + 1} ms\t"
            f"Memory Size: {memory} MB\tMax Memory Used: {_peak_memory_mb(self._process.pid) or memory} MB{init}\n"
        )


def _system_variables() -> dict[str, str]:
    """Return what a process of this operating system cannot do without."""
    names = ("PATH", "SYSTEMROOT", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")
    return {name: os.environ[name] for name in names if name in os.environ}


def _peak_memory_mb(pid: int) -> int:
    """Return the most memory that a process has had, in MB; 0 where the system does not tell."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    peaks = [line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(peaks[0]) // 1024 if peaks else 0


def _platform_line(body: bytes) -> str:
    """Return what Lambda itself logs about an error that the runtime could not report."""
    error = json.loads(body)
    return f"\n{error['errorMessage']}\n{error['errorType']}\n" if error["errorType"] in _PLATFORM_ERRORS else ""


def _with_request_id(body: bytes, request_id: str) -> bytes:
    return json.dumps({**json.loads(body), "requestId": request_id}).encode()


def _timed_out(invocation: Invocation, seconds: int) -> bytes:
    message = f"RequestId: {invocation.request_id} Error: Task timed out after {seconds:.2f} seconds"
    return json.dumps({"errorType": "Sandbox.Timedout", "errorMessage": message}).encode()


def _exit_error(request_id: str, code: int) -> bytes:
    """Return the error of a runtime that is gone; negative codes are signals."""
    names = {-_SIGKILL: "signal: killed", -signal.SIGSEGV: "signal: segmentation fault"}
    reason = f"Runtime exited with error: {names.get(code, f'exit status {code}')}"
    if code == 0:
        reason = "Runtime exited without providing a reason"
    message = f"RequestId: {request_id} Error: {reason}"
    return json.dumps({"errorType": "Runtime.ExitError", "errorMessage": message}).encode()
