"""The Kubernetes API server of the cluster ``embedded``: as much of it as reaches Kubeflow Pipelines' service.

It has a certificate of an authority of its own, which DescribeCluster tells, takes EKS tokens, and forwards what
``deploy/kubernetes/kfp-proxy-access.yaml`` allows; there are no access entries, so every role of the account is in its
group. The administrator may ask what a group may (SubjectAccessReview), and is answered from the same rule. Signatures
are not verified, as elsewhere in the embedded cloud: who has the key and its session's token is believed.
https://docs.aws.amazon.com/eks/latest/userguide/cluster-auth.html
"""

from __future__ import annotations

import base64
import binascii
import datetime
import http.client
import json
import re
import ssl
import threading
from dataclasses import dataclass, fields
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from baton_local.iam.directory import ADMIN, BadCredentials, Directory, partition_of
from baton_local.iam.evaluator import Caller

GROUP = "baton-kfp"
"""The group to which the one role that there is is bound."""

REVIEWS = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
"""Where an administrator asks whether somebody may do something."""


@dataclass(frozen=True)
class Attributes:
    """What RBAC judges a request by; in a review the names are those of ``resourceAttributes``.

    https://kubernetes.io/docs/reference/access-authn-authz/authorization/#request-verb-resource
    """

    verb: str
    namespace: str
    group: str
    resource: str
    subresource: str
    name: str


_NAMESPACE, _SERVICE = "kubeflow", "ml-pipeline:http"
_ALLOWED = frozenset(Attributes(verb, _NAMESPACE, "", "services", "proxy", _SERVICE) for verb in ("get", "create"))

PROXIED = f"/api/v1/namespaces/{_NAMESPACE}/services/{_SERVICE}/proxy"
"""The path of the one service that may be reached through the proxy."""

_PROXY_PATH = re.compile(r"/api/v1/namespaces/([^/]+)/services/([^/]+)/proxy/")
_VERBS = {"GET": "get", "POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}

_TOKEN = "Bearer k8s-aws-v1."  # noqa: S105 (how one begins)
_CLUSTER_HEADER = "x-k8s-aws-id"
_HOP_BY_HOP = frozenset({"authorization", "connection", "content-length", "host", "transfer-encoding"})
_VALID = datetime.timedelta(days=30)
_SECONDS = 60.0


class ApiServer:
    """One API server; it answers at ``url`` once it is started."""

    def __init__(self, account_id: str, kfp_port: int, folder: Path) -> None:
        self._directory = Directory(account_id)
        self._kfp_port = kfp_port
        key = folder / "api-server.pem"
        self.certificate_authority = _make_certificates(key)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(key)
        self._server = _Server(("127.0.0.1", 0), _handler_of(self), context)

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"https://localhost:{self._server.server_port}"

    def start(self) -> None:
        """Answer, in a thread of its own."""
        threading.Thread(target=self._server.serve_forever, name="api-server", daemon=True).start()

    def stop(self) -> None:
        """Answer no more."""
        self._server.shutdown()
        self._server.server_close()

    def answer(self, method: str, target: str, headers: dict[str, str], body: bytes) -> tuple[int, str, bytes]:
        """Return status, content type and body for a request: 401 without a token, 403 for what RBAC denies."""
        caller = self._caller(headers.get("authorization", ""))
        if caller is None:
            return _failure(401, "Unauthorized")
        if (method, target) == ("POST", REVIEWS) and caller is ADMIN:
            return _review(body)
        if not _allows(GROUP, _proxied(method, target)):
            return _failure(403, f"forbidden: cannot {method} {target}")
        return self._forward(method, target.removeprefix(PROXIED), headers, body)

    def _caller(self, authorization: str) -> Caller | None:
        """Return who of the account has signed a token, a GetCallerIdentity for this cluster; None for any other."""
        token = authorization.removeprefix(_TOKEN)
        try:
            url = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)).decode()
        except (binascii.Error, UnicodeDecodeError):
            return None
        query = {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
        signed = query.get("X-Amz-SignedHeaders", "").split(";")
        if query.get("Action") != "GetCallerIdentity" or _CLUSTER_HEADER not in signed:
            return None
        key, _, region, *_ = [*query.get("X-Amz-Credential", "").split("/"), "", ""]
        try:
            return self._directory.caller(key, query.get("X-Amz-Security-Token", ""), partition_of(region))
        except BadCredentials:
            return None

    def _forward(self, method: str, target: str, headers: dict[str, str], body: bytes) -> tuple[int, str, bytes]:
        """Hand a request to Kubeflow Pipelines, without the token, which is for the API server."""
        connection = http.client.HTTPConnection("localhost", self._kfp_port, timeout=_SECONDS)
        passed_on = {name: value for name, value in headers.items() if name not in _HOP_BY_HOP}
        try:
            connection.request(method, target, body or None, passed_on)
            answer = connection.getresponse()
            return answer.status, answer.headers.get("Content-Type", "application/json"), answer.read()
        except OSError as error:
            return _failure(503, f"no endpoints available for service ml-pipeline: {error}")
        finally:
            connection.close()


class _Server(ThreadingHTTPServer):
    """TLS is spoken in each connection's own thread: a slow handshake holds nobody else up."""

    daemon_threads = True

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler], tls: ssl.SSLContext) -> None:
        super().__init__(address, handler)
        self._tls = tls

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Speak TLS, then answer."""
        try:
            request = self._tls.wrap_socket(request, server_side=True)
        except OSError:
            return
        super().finish_request(request, client_address)


def _handler_of(server: ApiServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            status, kind, content = server.answer(self.command, self.path, headers, body)
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_DELETE = do_PUT = do_PATCH = _answer  # noqa: N815 (http.server calls them so)

        def log_message(self, *_arguments: Any) -> None:
            """Keep the log for what went wrong."""

    return Handler


def _proxied(method: str, target: str) -> Attributes | None:
    """Return what RBAC judges a request through a service's proxy by; None for any other request."""
    path = _PROXY_PATH.match(target)
    return Attributes(_VERBS[method], path[1], "", "services", "proxy", path[2]) if path else None


def _allows(group: str, attributes: Attributes | None) -> bool:
    """Return what RBAC says of a member of a group."""
    return group == GROUP and attributes in _ALLOWED


def _review(body: bytes) -> tuple[int, str, bytes]:
    """Answer a SubjectAccessReview about a resource."""
    try:
        review = json.loads(body)
        asked = review["spec"]["resourceAttributes"]
        groups = [str(group) for group in review["spec"]["groups"]]
        attributes = Attributes(*(str(asked.get(field.name, "")) for field in fields(Attributes)))
    except (ValueError, KeyError, TypeError, AttributeError):
        return _failure(400, "a SubjectAccessReview with groups and resourceAttributes was expected")
    allowed = any(_allows(group, attributes) for group in groups)
    return 201, "application/json", json.dumps({**review, "status": {"allowed": allowed}}).encode()


def _failure(code: int, message: str) -> tuple[int, str, bytes]:
    status = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message, "code": code}
    return code, "application/json", json.dumps(status).encode()


def _make_certificates(target: Path) -> str:
    """Write a server's key and certificate, and return the authority's own certificate as EKS tells it."""
    authority_key, server_key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    authority = _certificate("kubernetes", authority_key.public_key(), authority_key, is_authority=True)
    server = _certificate("localhost", server_key.public_key(), authority_key, is_authority=False)
    private = server_key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    target.write_bytes(private + server.public_bytes(serialization.Encoding.PEM))
    return base64.b64encode(authority.public_bytes(serialization.Encoding.PEM)).decode()


def _certificate(
    name: str, public_key: ec.EllipticCurvePublicKey, issuer_key: ec.EllipticCurvePrivateKey, is_authority: bool
) -> x509.Certificate:
    now = datetime.datetime.now(datetime.UTC)
    usage = x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=is_authority,
        crl_sign=is_authority,
        encipher_only=False,
        decipher_only=False,
    )
    issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key())
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "kubernetes")]))
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + _VALID)
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        .add_extension(issuer, critical=False)
        .sign(issuer_key, hashes.SHA256())
    )
