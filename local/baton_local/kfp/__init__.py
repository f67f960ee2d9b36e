"""An embedded Kubeflow Pipelines: its v2beta1 API over HTTP, in front of ``kfp.local``, which runs the compiled IR."""

from __future__ import annotations

from typing import TYPE_CHECKING

from baton_local.context import CloudContext

if TYPE_CHECKING:
    from baton_local.kfp.server import KfpServer

_servers: list[KfpServer] = []


def install(context: CloudContext) -> None:
    """Start Kubeflow Pipelines at ``context.kfp_port``; its pods talk to ``context.url``."""
    # Imported here, because the processes of the pipeline runs are of this package too and need no server.
    from baton_local.kfp.server import KfpServer, PodEnvironment

    pods = PodEnvironment(context.url, _pod_credentials)
    server = KfpServer(context.work_dir / "kfp", pods, port=context.kfp_port)
    server.start()
    _servers.append(server)


def shutdown() -> None:
    """End every pipeline run and stop answering."""
    while _servers:
        _servers.pop().stop()


def _pod_credentials(namespace: str, service_account: str, region: str) -> dict[str, str] | None:
    # Imported when the first pod starts, so that the API can be used without the rest of the cloud.
    from baton_local.iam.pods import pod_credentials

    return pod_credentials(namespace, service_account, region)
