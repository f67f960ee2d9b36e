"""Keeps a user's own AWS settings and proxies away from what only speaks with an embedded cloud."""

from __future__ import annotations

import os
from collections.abc import Mapping

_FOREIGN_SETTINGS = ("AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_ENDPOINT_URL", "AWS_SESSION_TOKEN", "AWS_ROLE_ARN")
_HERE = ("localhost", "127.0.0.1")


def keep_out() -> None:
    """Change this process's environment, which its children inherit, so that a cloud on this machine is reached."""
    for name in _FOREIGN_SETTINGS:
        os.environ.pop(name, None)
    os.environ.update(AWS_CONFIG_FILE=os.devnull, AWS_SHARED_CREDENTIALS_FILE=os.devnull)
    os.environ.update(proxy_exceptions(os.environ))


def proxy_exceptions(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that say where no proxy is asked: on this machine, beside where the environment says."""
    # Both spellings: urllib and botocore go by the small one where there are both, other programs by the large one.
    small, large = environment.get("no_proxy"), environment.get("NO_PROXY")
    return {"no_proxy": _with_here(small or large), "NO_PROXY": _with_here(large or small)}


def _with_here(hosts: str | None) -> str:
    told = [host.strip() for host in (hosts or "").split(",") if host.strip()]
    # A star means everything only where it stands alone.
    return "*" if told == ["*"] else ",".join([*told, *(host for host in _HERE if host not in told)])
