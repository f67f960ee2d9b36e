"""The embedded cloud's process: ``python -m baton_local.server --port P``.

It prints one line, ``ready http://localhost:PORT``, when it answers, and ends on SIGTERM or when the standard input
that ``--exit-with-parent`` makes it watch is closed.
"""

from __future__ import annotations

import argparse
import importlib
import os
import shutil
import signal
import socket
import sys
import tempfile
import threading
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from baton_local import surroundings
from baton_local.accounts import ADMINISTRATOR
from baton_local.context import ACCOUNT_ID, CloudContext
from baton_local.dials import Dials
from baton_local.seams import SeamError, check_moto_version, register
from baton_local.stopping import Stop

SERVICES = (
    *("iam", "lambda_", "bus", "s3_events", "schedules", "stepfunctions", "cloudformation", "sagemaker", "kfp"),
    *("quotas", "clusters"),
)
"""The service modules, in the order in which they are installed; each has ``install(context)`` and may have
``shutdown()``, and ``middleware(application)`` when it wants to see every request."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run an embedded cloud until it is told to stop; return the exit code."""
    options = _parse(arguments)
    stop = Stop()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    if options.exit_with_parent:
        threading.Thread(target=_watch_parent, args=(stop,), daemon=True).start()
    context = _context(options)
    modules: list[ModuleType] = []
    try:
        _serve(context, options.services, modules, stop)
    except SeamError as error:
        print(f"baton: {error}", file=sys.stderr, flush=True)
        return 2
    except Exception:
        traceback.print_exc()
        return 1
    finally:
        _shut_down(modules, context.work_dir)
    return 0


def default_cache_dir() -> Path:
    """Return where what a later cloud can use again is kept: ``BATON_CACHE_DIR``, or the user's cache folder."""
    chosen = os.environ.get("BATON_CACHE_DIR")
    if chosen:
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "baton"


def free_port() -> int:
    """Return a port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="baton_local.server", description="Run an embedded cloud.")
    parser.add_argument("--port", type=int, default=0, help="where it answers (default: a free port)")
    parser.add_argument(
        "--kfp-port", type=int, default=0, help="where Kubeflow Pipelines answers (default: a free one)"
    )
    parser.add_argument("--dials", type=_dials, default=Dials(), help="faults, as a JSON object")
    parser.add_argument("--speed", type=float, default=1.0, help="simulated seconds in one real second")
    parser.add_argument("--cache-dir", type=Path, default=default_cache_dir())
    parser.add_argument("--services", type=lambda text: text.split(","), default=SERVICES, help=argparse.SUPPRESS)
    parser.add_argument("--no-iam", action="store_true", help="allow everything to everybody")
    parser.add_argument("--exit-with-parent", action="store_true", help="stop when standard input is closed")
    return parser.parse_args(arguments)


def _dials(text: str) -> Dials:
    try:
        return Dials.from_json(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _context(options: argparse.Namespace) -> CloudContext:
    port = options.port or free_port()
    options.cache_dir.mkdir(parents=True, exist_ok=True)
    return CloudContext(
        url=f"http://localhost:{port}",
        port=port,
        account_id=ACCOUNT_ID,
        dials=options.dials,
        clock_scale=options.speed,
        kfp_port=options.kfp_port or free_port(),
        work_dir=Path(tempfile.mkdtemp(prefix="baton-cloud-")),
        cache_dir=options.cache_dir,
        enforce_iam=not options.no_iam,
    )


def _prepare_environment(context: CloudContext) -> None:
    """Let moto's own calls come back to this server, and let nothing of the user's AWS settings in."""
    surroundings.keep_out()
    os.environ.update(ADMINISTRATOR.environment(), MOTO_PORT=str(context.port), AWS_EC2_METADATA_DISABLED="true")


def _serve(context: CloudContext, services: Sequence[str], modules: list[ModuleType], stop: Stop) -> None:
    _prepare_environment(context)
    check_moto_version()
    register("moto.core.config", "default_user_config", dict)["stepfunctions"] = {"execute_state_machine": True}
    from baton_local import http_server

    application = http_server.moto_application()
    for name in services:
        module = importlib.import_module(f"baton_local.{name}")
        modules.append(module)
        module.install(context)
        application = getattr(module, "middleware", lambda inner: inner)(application)
    server = http_server.bind(context.port, application)
    threading.Thread(target=server.serve_forever, name="http", daemon=True).start()
    print(f"ready {context.url}", flush=True)
    stop.wait()
    server.shutdown()


def _watch_parent(stop: Stop) -> None:
    # The buffered standard input would hold a lock that the interpreter wants when it ends.
    while os.read(0, 1024):
        pass
    stop.set()


def _shut_down(modules: list[ModuleType], work_dir: Path) -> None:
    for module in reversed(modules):
        shutdown: Any = getattr(module, "shutdown", None)
        if shutdown is not None:
            _shut_down_one(module.__name__, shutdown)
    shutil.rmtree(work_dir, ignore_errors=True)


def _shut_down_one(name: str, shutdown: Any) -> None:
    try:
        shutdown()
    except Exception as error:
        print(f"baton: {name} did not shut down: {error!r}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    exit_code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    # Interpreter threads of executions that still wait are not daemons, and there is nothing left to wait for.
    os._exit(exit_code)
