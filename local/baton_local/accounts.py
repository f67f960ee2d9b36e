"""Whose credentials a call to the embedded cloud is made with: its administrator's, or a session of a role."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import boto3
import botocore.session
from botocore.config import Config

from baton_local.seams import register

# Parsing a service's model takes long, and each session would do so anew: moto's own read that of EC2 three times.
botocore.session.create_loader = functools.cache(botocore.session.create_loader)

SESSION_SECONDS = 12 * 3600
"""How long a session lasts: longer than an embedded cloud does."""


@dataclass(frozen=True)
class Credentials:
    """An access key, and the token that makes it a role's session."""

    access_key_id: str
    secret_access_key: str
    session_token: str = ""

    def environment(self) -> dict[str, str]:
        """Return the variables by which a process gets these credentials."""
        values = {"AWS_ACCESS_KEY_ID": self.access_key_id, "AWS_SECRET_ACCESS_KEY": self.secret_access_key}
        return {**values, "AWS_SESSION_TOKEN": self.session_token} if self.session_token else values

    def client_arguments(self) -> dict[str, str]:
        """Return the keyword arguments by which boto3.client gets these credentials."""
        return {name.lower(): value for name, value in self.environment().items()}


ADMINISTRATOR = Credentials("AKIABATONLOCALADMIN1", "the-embedded-cloud-has-no-secrets")
"""The account's administrator: a person at the console or the CLI, to whom everything is allowed."""


def role_credentials(role_arn: str, region: str, session_name: str = "baton") -> Credentials:
    """Return a new session of a role, as a service gets it that assumes the role.

    The session's ARN ends in ``session_name``. The role may be missing, and is then allowed nothing.
    """
    partition, account = role_arn.split(":")[1], role_arn.split(":")[4]
    backends = register("moto.sts.models", "sts_backends")
    register(
        "moto.sts.models",
        "STSBackend.assume_role",
        ("self", "region_name", "role_session_name", "role_arn", "policy", "duration", "external_id"),
    )
    session = backends[account][partition].assume_role(
        region_name=region,
        role_session_name=session_name[:64],
        role_arn=role_arn,
        policy=None,
        duration=SESSION_SECONDS,
        external_id=None,
    )
    return Credentials(session.access_key_id, session.secret_access_key, session.session_token)


def forget_session(access_key_id: str, role_arn: str) -> None:
    """End a session whose holder is gone, so that a long-lived cloud does not collect them."""
    partition, account = role_arn.split(":")[1], role_arn.split(":")[4]
    backend = register("moto.sts.models", "sts_backends")[account][partition]
    session = backend.get_assumed_role_from_access_key(access_key_id)
    if session is not None:
        backend.assumed_roles.remove(session)


_CONFIG = Config(retries={"total_max_attempts": 1}, connect_timeout=5, read_timeout=120, max_pool_connections=50)


@functools.lru_cache(maxsize=256)
def client(url: str, service: str, region: str, credentials: Credentials = ADMINISTRATOR) -> Any:
    """Return a boto3 client of the embedded cloud at ``url`` that acts with these credentials and never retries."""
    return boto3.session.Session().client(
        service,  # type: ignore[call-overload]
        region_name=region,
        endpoint_url=url,
        config=_CONFIG,
        **credentials.client_arguments(),
    )


@functools.lru_cache(maxsize=256)
def role_client(url: str, service: str, region: str, role_arn: str, session_name: str) -> Any:
    """Return a client that acts as a role, with one session that is kept."""
    return client(url, service, region, role_credentials(role_arn, region, session_name))
