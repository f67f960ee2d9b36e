"""An embedded cloud in the test's own process: only the modules that a test names, on moto's real server."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

from baton_local import accounts, http_server, seams
from baton_local.context import ACCOUNT_ID, CloudContext
from baton_local.dials import Dials
from baton_local.server import free_port

TRUST = {
    service: {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Principal": {"Service": f"{service}.amazonaws.com"}, "Action": "sts:AssumeRole"}
        ],
    }
    for service in ("lambda", "states", "sagemaker", "events")
}


@dataclass(frozen=True)
class Cloud:
    """The cloud under test, and whoever talks to it."""

    url: str
    account_id: str = ACCOUNT_ID

    def client(self, service: str, region: str = "eu-west-1", credentials: Any = accounts.ADMINISTRATOR) -> Any:
        return accounts.client(self.url, service, region, credentials)

    def role(self, name: str, *statements: dict[str, Any], service: str = "lambda", region: str = "eu-west-1") -> str:
        """Make a role with one inline policy and return its ARN."""
        iam = self.client("iam", region)
        role = iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(TRUST[service]))["Role"]
        if statements:
            document = json.dumps({"Version": "2012-10-17", "Statement": list(statements)})
            iam.put_role_policy(RoleName=name, PolicyName="own", PolicyDocument=document)
        return str(role["Arn"])

    def as_role(self, role_arn: str, service: str, region: str = "eu-west-1", session: str = "test") -> Any:
        return self.client(service, region, accounts.role_credentials(role_arn, region, session))

    def get(self, path: str, method: str = "GET") -> Any:
        with urlopen(Request(self.url + path, method=method)) as answer:
            return json.load(answer)

    def environment(self, region: str) -> dict[str, str]:
        return {
            **accounts.ADMINISTRATOR.environment(),
            "AWS_ENDPOINT_URL": self.url,
            "AWS_REGION": region,
            "AWS_DEFAULT_REGION": region,
            "AWS_EC2_METADATA_DISABLED": "true",
        }


@contextlib.contextmanager
def running(work_dir: Path, *modules: str) -> Iterator[Cloud]:
    """Serve moto with the named modules of the embedded cloud installed, and put everything back afterwards."""
    port = free_port()
    context = CloudContext(
        f"http://localhost:{port}", port, ACCOUNT_ID, Dials(), 100.0, free_port(), work_dir, work_dir / "cache"
    )
    before = dict(os.environ)
    os.environ.update(accounts.ADMINISTRATOR.environment(), MOTO_PORT=str(port))
    application = http_server.moto_application()
    for name in modules:
        module = importlib.import_module(f"baton_local.{name}")
        module.install(context)
        application = getattr(module, "middleware", lambda inner: inner)(application)
    server = http_server.bind(port, application)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield Cloud(context.url)
    finally:
        server.shutdown()
        server.server_close()
        seams.restore()
        os.environ.clear()
        os.environ.update(before)
        _reset_moto()


def _reset_moto() -> None:
    from moto.core.base_backend import BackendDict

    for backends in list(BackendDict._instances):
        backends.reset()
    accounts.client.cache_clear()
