"""From an HTTP request to the API call that it is: service, operation, parameters, region and key.

The wire protocols are read with botocore's models (through moto's own routers), so that every service that moto
answers is understood, not only those that Baton calls.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any
from urllib.parse import parse_qs, unquote
from xml.etree import ElementTree

from baton_local import seams

_get_service_router = seams.register("moto.core.routing", "get_service_router", expects=("service_name",))
_get_service_model = seams.register("moto.core.utils", "get_service_model", expects=("service_name",))
_Request = seams.register("moto.core.request", "Request", expects=object)
_PARSERS: Mapping[str, Any] = seams.register("moto.core.parse", "PROTOCOL_PARSERS", expects=dict)

_SERVICES = {
    "states": "stepfunctions",
    "monitoring": "cloudwatch",
    "tagging": "resourcegroupstaggingapi",
    "servicequotas": "service-quotas",
    "email": "ses",
}
"""botocore's service name by the name in a signature's scope, where they differ."""

_CREDENTIAL = re.compile(r"Credential=([^/,\s]+)/\d{8}/([^/,\s]+)/([^/,\s]+)/")
_MAX_PARSED_BODY = 16 * 1024 * 1024


class UnknownCall(ValueError):
    """The request is signed for a service, but none of that service's operations."""


@dataclass(frozen=True)
class Call:
    """One API call.

    ``service`` is botocore's name, ``params`` the operation's input by member name (as far as IAM may need it: what a
    body streams is left out), ``key_id`` and ``token`` the credentials that signed it ("" for an anonymous call).
    """

    service: str
    operation: str
    region: str
    params: Mapping[str, Any]
    key_id: str = ""
    token: str = ""
    method: str = "POST"
    protocol: str = "json"
    headers: Mapping[str, str] = field(default_factory=dict)
    source_ip: str = "127.0.0.1"


@dataclass(frozen=True)
class Signature:
    """What a request's signature says about itself; all "" for an unsigned one."""

    key_id: str = ""
    region: str = ""
    service: str = ""
    token: str = ""


def signature_of(environ: Mapping[str, Any]) -> Signature:
    """Read the signature from the Authorization header or from a presigned URL."""
    token = str(environ.get("HTTP_X_AMZ_SECURITY_TOKEN", ""))
    match = _CREDENTIAL.search(str(environ.get("HTTP_AUTHORIZATION", "")))
    if match:
        return Signature(match[1], match[2], match[3], token)
    query = parse_qs(str(environ.get("QUERY_STRING", "")))
    scope = query.get("X-Amz-Credential", [""])[0].split("/")
    if len(scope) == 5:
        return Signature(scope[0], scope[2], scope[3], query.get("X-Amz-Security-Token", [token])[0])
    if "AWSAccessKeyId" in query:
        # What boto3 presigns by default for S3: signature version 2, which names no region.
        return Signature(query["AWSAccessKeyId"][0], "", "s3", query.get("x-amz-security-token", [token])[0])
    return Signature()


def _read_body(environ: dict[str, Any]) -> bytes:
    """Read the body and put it back, so that the service behind finds it again."""
    length = int(environ.get("CONTENT_LENGTH") or 0)
    body: bytes = environ["wsgi.input"].read(length) if length else b""
    environ["wsgi.input"] = io.BytesIO(body)
    return body


def _service_name(signing_name: str, environ: Mapping[str, Any]) -> str:
    path = str(environ.get("PATH_INFO", ""))
    if signing_name == "sagemaker" and path.startswith("/endpoints/"):
        return "sagemaker-runtime"
    if str(environ.get("HTTP_X_AMZ_TARGET", "")).startswith("DynamoDBStreams"):
        return "dynamodbstreams"
    return _SERVICES.get(signing_name, signing_name)


def parse_call(environ: dict[str, Any]) -> Call:
    """Return the call that a WSGI request makes; raise UnknownCall if it is none that botocore knows."""
    signature = signature_of(environ)
    service = _service_name(signature.service or _unsigned_service(environ), environ)
    operation, params, protocol = _parse(service, environ)
    return Call(
        service,
        operation,
        signature.region,
        params,
        signature.key_id,
        signature.token,
        str(environ.get("REQUEST_METHOD", "GET")),
        protocol,
        dict(_headers(environ)),
        str(environ.get("REMOTE_ADDR", "127.0.0.1")),
    )


def _unsigned_service(environ: dict[str, Any]) -> str:
    """Web identity tokens are exchanged without a signature, everything else unsigned is anonymous S3."""
    form = str(environ.get("CONTENT_TYPE", "")).startswith("application/x-www-form-urlencoded")
    return "sts" if form and b"Action=AssumeRoleWithWebIdentity" in _read_body(environ) else "s3"


def _headers(environ: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in environ.items():
        if name.startswith("HTTP_"):
            yield name[5:].replace("_", "-").lower(), str(value)


def _parse(service: str, environ: dict[str, Any]) -> tuple[str, dict[str, Any], str]:
    target = str(environ.get("HTTP_X_AMZ_TARGET", ""))
    if target:
        return target.rpartition(".")[2], _json(_read_body(environ)), "json"
    rpc = re.fullmatch(r"/service/[^/]+/operation/([A-Za-z]+)", str(environ.get("PATH_INFO", "")))
    if rpc:
        return rpc[1], _cbor(environ), "cbor"
    if service == "s3":
        return _parse_s3(environ)
    if str(environ.get("CONTENT_TYPE", "")).startswith("application/x-www-form-urlencoded"):
        return _parse_query(service, environ)
    return _parse_rest_json(service, environ)


def _json(body: bytes) -> dict[str, Any]:
    try:
        value = json.loads(body) if body else {}
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _cbor(environ: dict[str, Any]) -> dict[str, Any]:
    from botocore.parsers import RpcV2CBORParser

    body = _read_body(environ)
    if not body:
        return {}
    # botocore only parses responses, yet a request body is the same encoding without a shape.
    value = RpcV2CBORParser().parse_data_item(io.BufferedReader(io.BytesIO(body)))
    return value if isinstance(value, dict) else {}


def _route(service: str, environ: dict[str, Any]) -> tuple[Any, dict[str, Any], Any]:
    request = _Request(environ)
    try:
        operation, uri_params = _get_service_router(service).match(request)
    except Exception as error:
        raise UnknownCall(f"{environ.get('REQUEST_METHOD')} {environ.get('PATH_INFO')}: {error}") from error
    return operation, dict(uri_params), request


def _parse_query(service: str, environ: dict[str, Any]) -> tuple[str, dict[str, Any], str]:
    body = _read_body(environ)
    operation, uri_params, request = _route(service, environ)
    parsed = _PARSERS["query"](operation).parse(
        {
            "method": "POST",
            "values": request.values,
            "headers": request.headers,
            "body": body,
            "url_path": request.path,
            "url_params": uri_params,
        }
    )
    environ["wsgi.input"] = io.BytesIO(body)
    return str(operation.name), dict(parsed), "query"


@cache
def _members(service: str, operation: str) -> dict[str, str]:
    """Return the names of an operation's members by their names in the request."""
    shape = _get_service_model(service).operation_model(operation).input_shape
    return {str(m.serialization.get("name", n)): n for n, m in shape.members.items()} if shape is not None else {}


@cache
def _streams(service: str, operation: str) -> bool:
    shape = _get_service_model(service).operation_model(operation).input_shape
    return bool(shape is not None and shape.serialization.get("payload"))


def _parse_rest_json(service: str, environ: dict[str, Any]) -> tuple[str, dict[str, Any], str]:
    operation, params, request = _route(service, environ)
    params |= {name: request.args[name] for name in request.args}
    if not _streams(service, str(operation.name)):
        params |= _json(_read_body(environ))
    names = _members(service, str(operation.name))
    return str(operation.name), {names.get(k, k): v for k, v in params.items()}, "rest-json"


def _parse_s3(environ: dict[str, Any]) -> tuple[str, dict[str, Any], str]:
    if environ.get("REQUEST_METHOD") == "GET" and environ.get("PATH_INFO") in ("", "/"):
        return "ListBuckets", {}, "rest-xml"
    operation, params, request = _route("s3", environ)
    params |= {_S3_ARGUMENTS.get(name, name): request.args[name] for name in request.args}
    name = str(operation.name)
    if name == "DeleteObjects":
        params["Objects"] = _objects(_read_body(environ))
    elif name == "PutObject" and "HTTP_X_AMZ_COPY_SOURCE" in environ:
        name = "CopyObject"
    if "HTTP_X_AMZ_COPY_SOURCE" in environ:
        params["CopySource"] = unquote(str(environ["HTTP_X_AMZ_COPY_SOURCE"])).lstrip("/")
    return name, params, "rest-xml"


_S3_ARGUMENTS = {"versionId": "VersionId", "prefix": "Prefix", "delimiter": "Delimiter", "max-keys": "MaxKeys"}


def _objects(body: bytes) -> list[dict[str, str]]:
    """Return the keys and versions of a DeleteObjects body."""
    if not body or len(body) > _MAX_PARSED_BODY:
        return []
    found = []
    # The caller is a process of this machine, and expat itself bounds entity expansion.
    for element in ElementTree.fromstring(body.decode()).iter():  # noqa: S314
        if element.tag.rpartition("}")[2] == "Object":
            found.append({child.tag.rpartition("}")[2]: child.text or "" for child in element})
    return found
