"""SageMaker in the embedded cloud: moto's, with jobs that run, models that predict, and the events of both.

What it does not do stands in ``docs/embedded-cloud.md``; what it can be told to suffer, in ``faults``.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable
from importlib import import_module
from typing import Any

from baton_local.context import CloudContext

_WsgiApplication = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


def install(context: CloudContext) -> None:
    """Open moto's seams for SageMaker and start what its jobs need."""
    # Imported here, because the process in which jobs compute is of this package too and needs no moto.
    from baton_local.sagemaker import engine
    from baton_local.sagemaker.backend import Backend
    from baton_local.sagemaker.responses import Responses
    from baton_local.sagemaker.runtime import RuntimeResponses
    from baton_local.seams import register, replace

    register("moto.core.base_backend", "BaseBackend._url_module", property)
    register("moto.sagemaker.models", "SageMakerModelBackend._get_resource_from_arn", ("self", "arn"))
    replace("moto.sagemaker.models", "sagemaker_backends.backend", Backend)
    replace("moto.sagemaker.urls", "url_paths", {"{0}/$": Responses.dispatch}, dict)
    runtime = dict.fromkeys(register("moto.sagemakerruntime.urls", "url_paths", dict), RuntimeResponses.dispatch)
    replace("moto.sagemakerruntime.urls", "url_paths", runtime, dict)
    # Only now: the bus is another module's, and installed before this one.
    engine.start(context, import_module("baton_local.bus").emit)


def shutdown() -> None:
    """Kill the workers."""
    from baton_local.sagemaker import engine

    engine.stop()


def middleware(application: _WsgiApplication) -> _WsgiApplication:
    """Answer the route of the faults, and let the application answer everything else."""
    from baton_local.sagemaker import engine, faults

    def answer(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if environ.get("PATH_INFO") != faults.ROUTE:
            return application(environ, start_response)
        body = environ.get("wsgi.input", io.BytesIO()).read(int(environ.get("CONTENT_LENGTH") or 0))
        status, document = faults.respond(engine.current().faults, environ["REQUEST_METHOD"], body)
        start_response(status, [("Content-Type", "application/json")])
        return [json.dumps(document).encode()]

    return answer
