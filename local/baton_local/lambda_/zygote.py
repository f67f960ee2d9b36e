"""Processes that have imported what sandboxes import, and become them by forking.

``python zygote.py`` is a runtime: it imports what AWS's runtime brings along, once for all functions with the same
layers. A message on standard input, a socket, makes it fork the zygote of one function: a JSON object (``client``: the
runtime client, a module's name or a file; ``handler``; ``environment``; ``folder``), with a socket to speak with that
zygote. It imports what the function imports. There a line asks for a sandbox (``number``, ``environment``, ``folder``,
``log``), and lines tell its ``pid``, and its exit ``code`` when it ends. The function's own module is imported afresh
in each sandbox; only what that module imports is there already.

A function whose own modules have the names of imported ones gets a zygote that is a new interpreter:
``python zygote.py CLIENT HANDLER``. All run with a sandbox's import path, so this needs only the standard library.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import logging
import os
import pkgutil
import runpy
import select
import signal
import socket
import sys
import time
import traceback
from typing import Any

_SERVICES = ("dynamodb", "s3", "sagemaker", "sagemaker-runtime", "sns", "sqs", "stepfunctions")
"""What functions call: the API models of these are parsed once, here."""

_MODELS = ("service-2", "endpoint-rule-set-1", "paginators-1")

_STAND_IN = logging.NullHandler()
"""Stands on the root logger for the runtime's handler, which is there on AWS before a function is imported."""

_MOST = 1 << 16
"""The longest request for a zygote, in bytes; a function has at most 4 kB of variables."""


def main() -> None:
    """Be a runtime until standard input ends."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    loader = _import_runtime()
    gc.freeze()
    with socket.socket(fileno=0) as asked:
        while True:
            request, sockets, _, _ = socket.recv_fds(asked, _MOST, 1)
            if not request:
                return
            if not os.fork():
                _be_zygote(json.loads(request), sockets[0], loader)
            os.close(sockets[0])


def _import_runtime() -> Any:
    """Import the SDK and parse what functions call; return botocore's loader, None where there is none."""
    try:
        importlib.import_module("boto3")
        loader = importlib.import_module("botocore.loaders").create_loader()
    except Exception:
        return None
    for service in _SERVICES:
        for model in _MODELS:
            with contextlib.suppress(Exception):
                loader.load_service_model(service, model)
    for data in ("endpoints", "partitions", "sdk-default-configuration", "_retry"):
        with contextlib.suppress(Exception):
            loader.load_data(data)
    return loader


def _be_zygote(request: dict[str, Any], speaking: int, loader: Any) -> None:
    """Turn this fork of a runtime into the zygote of one function; never return."""
    try:
        os.setsid()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.dup2(speaking, 0)
        os.dup2(speaking, 1)
        os.close(speaking)
        own = [entry for entry in _import_path(request["environment"]) if entry not in sys.path]
        _enter(request)
        if _shadows(own):
            os.execv(sys.executable, [*sys.orig_argv, request["client"], request["handler"]])  # noqa: S606 (no shell is wanted)
        _serve(request["client"], request["handler"], loader)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(0)


def _enter(place: dict[str, Any]) -> None:
    """Take an environment and a folder, and with them an import path."""
    # PEP 538: an interpreter sets this one itself where the locale is not installed.
    coerced = {name: os.environ[name] for name in ("LC_CTYPE",) if name in os.environ}
    before = _import_path(os.environ)
    os.environ.clear()
    os.environ.update({**coerced, **place["environment"]})
    sys.path[: len(before)] = _import_path(os.environ)
    time.tzset()
    os.chdir(place["folder"])


def _shadows(folders: list[str]) -> bool:
    """Tell whether folders have modules that a new interpreter would take there, and are imported from elsewhere."""
    loaded = {name.partition(".")[0] for name in sys.modules}
    return any(found.name in loaded for found in pkgutil.iter_modules(folders))


def _import_path(environment: Any) -> list[str]:
    return [entry for entry in environment.get("PYTHONPATH", "").split(os.pathsep) if entry]


def _serve(client: str, handler: str, loader: Any) -> None:
    """Fork sandboxes until standard input ends; then end every one."""
    answers = os.dup(1)
    os.dup2(2, 1)
    _import_function(handler, loader)
    wake = _wake_on_child_exit()
    sandboxes: dict[int, int] = {}
    for request in _requests(wake, sandboxes, answers):
        pid = os.fork()
        if not pid:
            _be_sandbox(request, client, handler, answers)
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


def _import_function(handler: str, loader: Any) -> None:
    """Import what a sandbox will; what fails here fails there too, and is told there.

    The runtime client itself is left out: AWS's reads the address of its Runtime API when it is loaded.
    """
    # Powertools puts a filter on the handlers that it finds, or each of its lines would be logged by the root, too.
    logging.getLogger().addHandler(_STAND_IN)
    module = handler.rpartition(".")[0].replace("/", ".")
    with contextlib.suppress(Exception, SystemExit):
        importlib.import_module(module)
    sys.modules.pop(module, None)
    with contextlib.suppress(Exception):
        session = sys.modules["botocore.session"].Session()
        session.register_component("data_loader", loader)
        sys.modules["boto3"].setup_default_session(botocore_session=session)
    # So that no collection touches, and thereby copies, the memory that the sandboxes share.
    gc.freeze()


def _await_runtimes_handler() -> None:
    """Let the handler that the runtime is about to add take the place, and the filters, of its stand-in."""
    root = logging.getLogger()
    root.removeHandler(_STAND_IN)

    def add_first(hdlr: logging.Handler) -> None:
        vars(root).pop("addHandler")
        for each in _STAND_IN.filters:
            hdlr.addFilter(each)
        root.addHandler(hdlr)

    vars(root)["addHandler"] = add_first


def _wake_on_child_exit() -> int:
    read, write = os.pipe()
    os.set_blocking(write, False)
    signal.set_wakeup_fd(write)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    return read


def _be_sandbox(request: dict[str, Any], client: str, handler: str, answers: int) -> None:
    """Turn this forked process into what a new interpreter in the sandbox would be; never return."""
    code = 1
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.setpgid(0, 0)
        os.close(answers)
        _redirect(request["log"])
        _enter(request)
        tempfile: Any = sys.modules.get("tempfile")
        if tempfile:
            # What was imported may have looked for the folder before this sandbox had its own.
            tempfile.tempdir = None
        sys.argv = [client, handler]
        _await_runtimes_handler()
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
    if len(sys.argv) == 1:
        main()
    else:
        _serve(sys.argv[1], sys.argv[2], _import_runtime())
