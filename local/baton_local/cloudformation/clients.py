"""Clients for making resources: many services at once, so that they share a session with its loaded models."""

from __future__ import annotations

import threading
from typing import Any

import boto3
from botocore.config import Config

from baton_local.accounts import Credentials

_CONFIG = Config(retries={"total_max_attempts": 1}, connect_timeout=5, read_timeout=120)
_session: list[boto3.session.Session] = []
_clients: dict[tuple[str, str, str, Credentials], Any] = {}
_lock = threading.Lock()


def aws_client(url: str, service: str, region: str, credentials: Credentials) -> Any:
    """Return a boto3 client of the embedded cloud at a URL; boto3 sessions may not make two at once."""
    key = (url, service, region, credentials)
    with _lock:
        if key not in _clients:
            if not _session:
                _session.append(boto3.session.Session())
            _clients[key] = _session[0].client(
                service,  # type: ignore[call-overload]
                region_name=region,
                endpoint_url=url,
                config=_CONFIG,
                **credentials.client_arguments(),
            )
        return _clients[key]
