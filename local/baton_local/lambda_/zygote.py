"""A process that has imported what a function imports, and becomes each of its sandboxes by forking.

``python zygote.py MODULE HANDLER``: MODULE is the runtime's client, a module's name or a file. A line of standard input
asks for a sandbox, as a JSON object (``number``, ``environment``, ``folder``, ``log``); lines of standard output tell
its ``pid``, and its exit ``code`` when it ends. The function's own module is imported afresh in each sandbox; only
what that module imports is there already. It runs with a sandbox's import path: it needs only the standard library.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import runpy
import select
import signal
import sys
import time
import traceback
from typing import Any

_SERVICES = ("dynamodb", "s3", "sagemaker", "sagemaker-runtime", "sns", "sqs", "stepfunctions")
"""What functions call: the API models of these are parsed once, here."""

_MODELS = ("service-2", "endpoint-rule-set-1", "paginators-1")


def main(client: str, handler: str) -> None:
    """Serve until standard input ends; then end every sandbox."""
    answers = os.dup(1)
    os.dup2(2, 1)
    _load(handler)
    wake = _wake_on_child_exit()
    sandboxes: dict[int, int] = {}
    for request in _requests(wake, sandboxes, answers):
        pid = os.fork()
        if not pid:
            _become(request, client, handler, answers)
        with contextlib.suppress(PermissionError, ProcessLookupError):
            os.setpgid(pid, pid)
        sandboxes[pid] = request["number"]
        _answer(answers, number=request["number"], pid=pid)
    for pid in sandboxes:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)


def _requests(wake: int, sandboxes: dict[int, int], answers: int) -> Any:
    """Yield the sandboxes asked for, and tell of those that end in between."""
    pending = b""
    while True:
        ready, _, _ = select.select([0, wake], [], [])
        if wake in ready:
            os.read(wake, 4096)
            _reap(sandboxes, answers)
        if 0 in ready:
            news = os.read(0, 65536)
            if not news:
                return
            *lines, pending = (pending + news).split(b"\n")
            yield from (json.loads(line) for line in lines)


def _load(handler: str) -> None:
    """Import what a sandbox will; what fails here fails there too, and is told there.

    The runtime client itself is left out: AWS's reads the address of its Runtime API when it is loaded.
    """
    module = handler.rpartition(".")[0].replace("/", ".")
    for name in ("boto3", module):
        with contextlib.suppress(Exception, SystemExit):
            importlib.import_module(name)
    sys.modules.pop(module, None)
    with contextlib.suppress(Exception):
        _parse_models()
    # So that no collection touches, and thereby copies, the memory that the sandboxes share.
    gc.freeze()


def _parse_models() -> None:
    boto3: Any = importlib.import_module("boto3")
    session = importlib.import_module("botocore.session").Session()
    loader = session.get_component("data_loader")
    for service in _SERVICES:
        for model in _MODELS:
            with contextlib.suppress(Exception):
                loader.load_service_model(service, model)
    for data in ("endpoints", "partitions", "sdk-default-configuration", "_retry"):
        with contextlib.suppress(Exception):
            loader.load_data(data)
    boto3.setup_default_session(botocore_session=session)


def _wake_on_child_exit() -> int:
    read, write = os.pipe()
    os.set_blocking(write, False)
    signal.set_wakeup_fd(write)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    return read


def _become(request: dict[str, Any], client: str, handler: str, answers: int) -> None:
    """Turn this forked process into what a new interpreter in the sandbox would be; never return."""
    code = 1
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.setpgid(0, 0)
        os.close(answers)
        _redirect(request["log"])
        # PEP 538: an interpreter sets this one itself where the locale is not installed.
        coerced = {name: os.environ[name] for name in ("LC_CTYPE",) if name in os.environ}
        os.environ.clear()
        os.environ.update({**coerced, **request["environment"]})
        time.tzset()
        os.chdir(request["folder"])
        sys.argv = [client, handler]
        if client.endswith(".py"):
            runpy.run_path(client, run_name="__main__")
        else:
            runpy.run_module(client, run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _redirect(log_file: str) -> None:
    nothing = os.open(os.devnull, os.O_RDONLY)
    log = os.open(log_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(nothing, 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(nothing)
    os.close(log)


def _reap(sandboxes: dict[int, int], answers: int) -> None:
    while sandboxes:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not pid:
            return
        if pid in sandboxes:
            _answer(answers, number=sandboxes.pop(pid), code=os.waitstatus_to_exitcode(status))


def _answer(answers: int, **facts: int) -> None:
    os.write(answers, f"{json.dumps(facts)}\n".encode())


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
