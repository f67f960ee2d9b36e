"""How a function proves who it is to Kubeflow Pipelines: a secret's token or header, or an EKS token.

Each kind gives the headers of a request; ``renewed`` asks for fresh ones after an answer that old ones may get.
"""

from __future__ import annotations

import base64
import json
import re
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from botocore.exceptions import ClientError

from baton.errors import KfpMisconfigured

SECRET_SECONDS = 300.0
"""How long a secret is used before it is read again, so that a rotated one is seen."""

EKS_TOKEN_SECONDS = 13 * 60.0
"""How long an EKS token is used; the cluster takes it for 15 minutes after it was signed, and clocks differ."""

_EKS_HEADER = "x-k8s-aws-id"
_EKS_PREFIX = "k8s-aws-v1."
_PRESIGNED_SECONDS = 60
_HEADER_NAME = re.compile(r"[A-Za-z0-9-]{1,64}")


class Access(Protocol):
    """Whoever has the headers that a request needs."""

    def headers(self, renewed: bool = False) -> Mapping[str, str]:
        """Return the headers; fresh ones where ``renewed``."""


class NoAccess:
    """A server that asks for nothing."""

    def headers(self, renewed: bool = False) -> Mapping[str, str]:  # noqa: ARG002 (there is nothing to renew)
        """Return no headers."""
        return {}


class _Cached:
    def __init__(self, seconds: float, clock: Callable[[], float]) -> None:
        self._seconds = seconds
        self._clock = clock
        self._headers: Mapping[str, str] = {}
        self._until = float("-inf")

    def headers(self, renewed: bool = False) -> Mapping[str, str]:
        """Return the headers, made anew when they are old or where ``renewed``."""
        if renewed or self._clock() >= self._until:
            self._headers, self._until = self._make(), self._clock() + self._seconds
        return self._headers

    def _make(self) -> Mapping[str, str]:
        raise NotImplementedError


class SecretAccess(_Cached):
    """A bearer token or a header from Secrets Manager: ``{"token"}``, ``{"header", "value"}``, or the bare token."""

    def __init__(self, secretsmanager: Any, secret_arn: str, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(SECRET_SECONDS, clock)
        self._secretsmanager = secretsmanager
        self._secret_arn = secret_arn

    def _make(self) -> Mapping[str, str]:
        try:
            secret = self._secretsmanager.get_secret_value(SecretId=self._secret_arn)
        except ClientError as error:
            code = error.response["Error"]["Code"]
            if code == "ResourceNotFoundException":
                raise KfpMisconfigured(f"There is no secret {self._secret_arn}.") from error
            if code == "InvalidRequestException":
                raise KfpMisconfigured(f"The secret {self._secret_arn} is marked for deletion.") from error
            raise
        header = _header_of(secret.get("SecretString", "").strip())
        if header is None:
            raise KfpMisconfigured(
                f'The secret {self._secret_arn} must be {{"token": …}}, {{"header": …, "value": …}} or a bare token.'
            )
        return header


def _header_of(text: str) -> dict[str, str] | None:
    try:
        content = json.loads(text)
    except ValueError:
        content = {"token": text}
    if not isinstance(content, dict):
        return None
    token, name, value = content.get("token"), content.get("header"), content.get("value")
    if _is_header_value(token):
        return {"Authorization": f"Bearer {token}"}
    if isinstance(name, str) and _HEADER_NAME.fullmatch(name) and _is_header_value(value):
        return {name: str(value)}
    return None


def _is_header_value(value: Any) -> bool:
    return isinstance(value, str) and value != "" and value.isascii() and value.isprintable()


class EksAccess(_Cached):
    """An EKS token: a presigned GetCallerIdentity that signs the cluster's name, as ``aws eks get-token`` makes it.

    https://docs.aws.amazon.com/eks/latest/userguide/cluster-auth.html
    """

    def __init__(self, sts: Any, cluster: str, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(EKS_TOKEN_SECONDS, clock)
        self._sts = sts
        self._cluster = cluster
        sts.meta.events.register("provide-client-params.sts.GetCallerIdentity", _keep_cluster)
        sts.meta.events.register("before-sign.sts.GetCallerIdentity", _sign_cluster)

    def _make(self) -> Mapping[str, str]:
        url = self._sts.generate_presigned_url(
            "get_caller_identity",
            Params={"ClusterName": self._cluster},
            ExpiresIn=_PRESIGNED_SECONDS,
            HttpMethod="GET",
        )
        token = base64.urlsafe_b64encode(url.encode()).decode().rstrip("=")
        return {"Authorization": f"Bearer {_EKS_PREFIX}{token}"}


def _keep_cluster(params: dict[str, Any], context: dict[str, Any], **_: Any) -> None:
    # The API has no such parameter, so it must not reach botocore's validation.
    if "ClusterName" in params:
        context["eks_cluster"] = params.pop("ClusterName")


def _sign_cluster(request: Any, **_: Any) -> None:
    if "eks_cluster" in request.context:
        request.headers[_EKS_HEADER] = request.context["eks_cluster"]
