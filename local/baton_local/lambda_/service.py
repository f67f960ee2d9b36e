"""How moto's Lambda is opened: the seams, and what stands behind each of them here."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from urllib.parse import unquote

from baton_local.accounts import Credentials, role_credentials
from baton_local.context import CloudContext
from baton_local.iam.directory import partition_of
from baton_local.lambda_.asynchronous import AsynchronousInvoker, Policy
from baton_local.lambda_.fleet import Fleet
from baton_local.lambda_.functions import RESERVED_VARIABLES, Function
from baton_local.lambda_.invoking import InvokeError, Invoker, Request, check_payload, log_tail, request_for
from baton_local.lambda_.mappings import Poller
from baton_local.lambda_.nursery import Nursery
from baton_local.lambda_.packages import Packages, has_awslambdaric
from baton_local.lambda_.role_checks import Need, first_refusal, needs_of_function, needs_of_mapping
from baton_local.lambda_.sandbox import Launcher, Outcome
from baton_local.seams import register, replace

_MODELS = "moto.awslambda.models"
_ACCESS_KEY = re.compile(r"Credential=([^/%]+)[/%]")
_VARIABLES_BYTES = 4096
_NOT_CONTENT = frozenset({"FunctionArn", "LastModified", "LastUpdateStatus", "State", "Version"})
"""What differs between a function and its version although neither its code nor its configuration does."""

_UNSET: dict[str, Any] = {"DeadLetterConfig": {"TargetArn": ""}, "FileSystemConfigs": [], "KMSKeyArn": ""}
"""How an update takes back what Lambda then does not show."""
_KEPT = (*_UNSET, "EphemeralStorage", "SnapStart", "TracingConfig")
"""Settings that moto's functions drop when they are made or changed."""

_NO_VPC = {"VpcConfig": None}


class LambdaService:
    """AWS Lambda of one embedded cloud.

    ``client``: the runtime client of its sandboxes, "awslambdaric" or "python"; by default AWS's, where installed.
    """

    def __init__(self, context: CloudContext, client: str = "") -> None:
        self._nursery = Nursery()
        launcher = Launcher(
            url=context.url,
            packages=Packages(context.cache_dir / "lambda"),
            folder=context.work_dir / "sandboxes",
            client=client or ("awslambdaric" if has_awslambdaric() else "python"),
            nursery=self._nursery,
        )
        self._context = context
        self._fleet = Fleet(launcher, _session, context.dials)
        self._invoker = Invoker(self._fleet)
        self._events = AsynchronousInvoker(context, self._run)
        self._pollers: dict[str, Poller] = {}

    def install(self) -> None:
        """Open the seams."""
        _keep_layers()
        _keep_configuration()
        _keep_one_event_config()
        _publish_by_content()
        self._replace_invocation()
        self._replace_mappings()

    def middleware(self, application: Callable[..., Iterable[bytes]]) -> Callable[..., Iterable[bytes]]:
        """Return the application with every call of a sandbox counted once its answer is there."""
        if not self._context.dials.crash:
            return application

        def counting(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
            answer = application(environ, start_response)
            signature = environ.get("HTTP_AUTHORIZATION") or environ.get("QUERY_STRING", "")
            key = _ACCESS_KEY.search(signature)
            if key:
                self._fleet.note_call(key[1])
            return answer

        return counting

    def shut_down(self) -> None:
        """End all sandboxes and pollers."""
        for poller in self._pollers.values():
            poller.stop()
        self._events.shut_down()
        self._fleet.shut_down()
        self._nursery.close()

    def invoke(
        self, backend: Any, function_name: str, qualifier: str | None, body: Any, headers: Any, response_headers: Any
    ) -> bytes:
        """Stand in for LambdaBackend.invoke: run the function, or put the event into its queue."""
        model = backend.get_function(function_name, qualifier)
        named = qualifier or _qualifier_in(function_name)
        request = request_for(model, _layers(model), body, named, headers.get("X-Amz-Client-Context") or "")
        kind = headers.get("X-Amz-Invocation-Type") or "RequestResponse"
        check_payload(request.payload, asynchronous=kind == "Event")
        response_headers["x-amzn-RequestId"] = request.request_id
        if kind == "DryRun":
            return b""
        if kind == "Event":
            self._events.submit(request, _policy(backend, model))
            return b""
        outcome = self._run(request)
        response_headers["X-Amz-Executed-Version"] = request.function.version
        response_headers["x-amz-log-result"] = log_tail(outcome)
        if outcome.is_error:
            response_headers["x-amz-function-error"] = "Unhandled"
        return outcome.body

    def _run(self, request: Request) -> Outcome:
        logs = register("moto.logs.models", "logs_backends")
        return self._invoker.run(request, logs[request.function.account_id][request.function.region])

    def _replace_invocation(self) -> None:
        service = self

        def invoke_model(model: Any, event: Any = None) -> tuple[str, bool, str]:
            outcome = service._run(request_for(model, _layers(model), json.dumps(event or {}), None))
            return outcome.body.decode(), outcome.is_error, outcome.log

        def invoke(
            backend: Any, function_name: str, qualifier: str | None, body: Any, headers: Any, response_headers: Any
        ) -> bytes:
            return service.invoke(backend, function_name, qualifier, body, headers, response_headers)

        def delete_function(backend: Any, function_name: str, qualifier: str | None = None) -> None:
            name = backend.get_function(function_name, qualifier).function_name
            delete(backend, function_name, qualifier)
            service._fleet.retire(name)

        replace(_MODELS, "LambdaFunction._invoke_lambda", invoke_model, ("self", "event"))
        parameters = ("self", "function_name", "qualifier", "body", "headers", "response_headers")
        replace(_MODELS, "LambdaBackend.invoke", invoke, parameters)
        delete = replace(
            _MODELS, "LambdaBackend.delete_function", delete_function, ("self", "function_name", "qualifier")
        )
        replace("moto.awslambda.responses", "LambdaResponse.invoke", _respond, ("self",))

    def _replace_mappings(self) -> None:
        service = self

        def create_mapping(backend: Any, spec: dict[str, Any]) -> Any:
            if spec.get("FilterCriteria"):
                raise _client_error("InvalidParameterValueException", "The embedded cloud does not filter messages.")
            function = backend.get_function(spec["FunctionName"])
            _check_role(function.role, needs_of_mapping(spec["EventSourceArn"]))
            _check_visibility(function, spec["EventSourceArn"])
            mapping = create(backend, spec)
            if ":sqs:" in mapping.event_source_arn:
                service._poll(backend, mapping)
            return mapping

        def update_mapping(backend: Any, uuid: str, spec: dict[str, Any]) -> Any:
            mapping = backend.get_event_source_mapping(uuid)
            if mapping:
                name = spec.get("FunctionName") or mapping.function_name
                _check_visibility(backend.get_function(name), mapping.event_source_arn)
                # moto changes the function's ARN only, and the poller goes by the name.
                mapping.function_name = name
            return update(backend, uuid, spec)

        def delete_mapping(backend: Any, uuid: str) -> Any:
            poller = service._pollers.pop(uuid, None)
            if poller:
                poller.stop()
            return delete(backend, uuid)

        create = replace(_MODELS, "LambdaBackend.create_event_source_mapping", create_mapping, ("self", "spec"))
        update = replace(_MODELS, "LambdaBackend.update_event_source_mapping", update_mapping, ("self", "uuid", "spec"))
        delete = replace(_MODELS, "LambdaBackend.delete_event_source_mapping", delete_mapping, ("self", "uuid"))

    def _poll(self, backend: Any, mapping: Any) -> None:
        """Start a poller in place of moto's own delivery, which calls the function inside SendMessage."""
        _queue(mapping.event_source_arn).lambda_event_source_mappings.clear()

        def role_of(function_name: str) -> str:
            role: str = backend.get_function(function_name).role
            return role

        def run(function_name: str, payload: bytes) -> Outcome:
            model = backend.get_function(function_name)
            return self._run(request_for(model, _layers(model), payload, _qualifier_in(function_name)))

        self._pollers[mapping.uuid] = Poller(self._context.url, mapping, role_of, run)


def _session(function: Function) -> Credentials:
    return role_credentials(function.role_arn, function.region, function.name)


def _respond(response: Any) -> tuple[int, dict[str, str], bytes]:
    """Stand in for LambdaResponse.invoke, which mixes up the limits, the statuses and the header names."""
    function_name = unquote(response.path.rsplit("/", 2)[-2])
    qualifier = (response.querystring.get("Qualifier") or [None])[0]
    headers: dict[str, str] = {}
    try:
        payload = response.backend.invoke(function_name, qualifier, response.body, response.headers, headers)
    except InvokeError as error:
        body = {"Type": "User", "message": str(error), "Message": str(error)}
        return error.status, {"x-amzn-errortype": error.code, "status": str(error.status)}, json.dumps(body).encode()
    if response.headers.get("X-Amz-Log-Type") != "Tail":
        headers.pop("x-amz-log-result", None)
    kind = response.headers.get("X-Amz-Invocation-Type")
    status = {"Event": 202, "DryRun": 204}.get(kind, 200)
    return status, {**headers, "content-type": "application/json", "status": str(status)}, payload


def _keep_layers() -> None:
    """Let a function keep the content of its layers, also after a layer's version is deleted, as on Lambda."""

    def get_layers_data(model: Any, layers_versions_arns: list[str]) -> Any:
        data = get_data(model, layers_versions_arns)
        backend = register(_MODELS, "lambda_backends")[model.account_id][model.region]
        model.baton_layers = [backend.layers_versions_by_arn(layer["Arn"]).code_bytes for layer in data]
        return data

    get_data = replace(_MODELS, "LambdaFunction._get_layers_data", get_layers_data, ("self", "layers_versions_arns"))


def _keep_configuration() -> None:
    """Keep and check what moto's functions drop: most settings that an update changes, reserved variables."""

    def initialise(model: Any, account_id: str, spec: dict[str, Any], region: str, version: Any = 1) -> None:
        _check_variables(spec)
        if version == "$LATEST":
            _check_role(spec["Role"], needs_of_function(_place(account_id, region), spec))
        create(model, account_id, spec, region, version)
        model.baton_kept = _kept(spec)
        model.baton_published = 0

    def update_configuration(model: Any, config_updates: dict[str, Any]) -> Any:
        _check_variables(config_updates)
        wanted = {**model.baton_kept, "VpcConfig": model._vpc_config, **config_updates}
        needs = needs_of_function(_place(model.account_id, model.region), wanted)
        _check_role(config_updates.get("Role") or model.role, needs)
        # A new dictionary: the versions published before share the old one.
        model.baton_kept = {**model.baton_kept, **_kept(config_updates)}
        network = config_updates.get("VpcConfig")
        # Empty lists take a function out of its network.
        return update(model, config_updates if network is None or any(network.values()) else config_updates | _NO_VPC)

    def update_function_code(model: Any, updated_spec: dict[str, Any]) -> Any:
        model.architectures = updated_spec.get("Architectures") or model.architectures
        return update_code(model, updated_spec)

    def get_configuration(model: Any, on_create: bool = False) -> dict[str, Any]:
        configuration: dict[str, Any] = get(model, on_create)
        kept = {name: value for name, value in model.baton_kept.items() if value != _UNSET.get(name)}
        snap_start = {"SnapStart": {**configuration["SnapStart"], **kept.get("SnapStart", {})}}
        return {**configuration, **kept, **snap_start}

    create = replace(
        _MODELS, "LambdaFunction.__init__", initialise, ("self", "account_id", "spec", "region", "version")
    )
    update = replace(_MODELS, "LambdaFunction.update_configuration", update_configuration, ("self", "config_updates"))
    update_code = replace(
        _MODELS, "LambdaFunction.update_function_code", update_function_code, ("self", "updated_spec")
    )
    get = replace(_MODELS, "LambdaFunction.get_configuration", get_configuration, ("self", "on_create"))


def _keep_one_event_config() -> None:
    """Put what happens to asynchronous invocations in the place of what was said before."""

    def put_event_config(backend: Any, function_name: str, config: dict[str, Any]) -> Any:
        # moto appends, and then answers with the first.
        backend.get_function(function_name).event_invoke_config = []
        return put_config(backend, function_name, config)

    put_config = replace(
        _MODELS, "LambdaBackend.put_function_event_invoke_config", put_event_config, ("self", "function_name", "config")
    )


def _kept(spec: dict[str, Any]) -> dict[str, Any]:
    return {name: spec[name] for name in _KEPT if spec.get(name) is not None}


def _publish_by_content() -> None:
    """Publish only what is not what the last version is, also where it was changed and changed back; count ever on.

    "Lambda doesn't publish a version if the function's configuration and code haven't changed since the last version."
    https://docs.aws.amazon.com/lambda/latest/api/API_PublishVersion.html
    """

    def publish_version(storage: Any, name_or_arn: str, description: str = "") -> Any:
        latest = storage.get_function_by_name_or_arn_forbid_qualifier(name_or_arn)
        versions, content = storage._functions[latest.function_name]["versions"], _content(latest)
        if versions and versions[-1].baton_content == content:
            return versions[-1]
        latest.baton_published += 1
        version = copy.copy(latest)
        version.set_version(latest.baton_published)
        version.description, version.baton_content = description or latest.description, content
        versions.append(version)
        storage._arns[version.function_arn] = version
        return version

    replace(_MODELS, "LambdaStorage.publish_version", publish_version, ("self", "name_or_arn", "description"))


def _content(model: Any) -> str:
    """Return a function's code (by its hash) and configuration, to compare with another's."""
    kept = {name: value for name, value in model.get_configuration().items() if name not in _NOT_CONTENT}
    return json.dumps(kept, sort_keys=True, default=str)


def _place(account_id: str, region: str) -> str:
    return f"{partition_of(region)}:{region}:{account_id}"


def _check_role(role_arn: str, needs: Iterator[Need]) -> None:
    refusal = first_refusal(role_arn, needs)
    if refusal:
        raise _client_error("InvalidParameterValueException", refusal)


def _check_visibility(function: Any, source_arn: str) -> None:
    """Refuse a queue that shows a message again before the function has had its time for it.

    "Lambda validates this requirement when you create or update an event source mapping", and of a function's own
    update AWS says nothing. https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-configure.html
    """
    queue = _queue(source_arn)
    if queue and queue.visibility_timeout < function.timeout:
        message = (
            f"Queue visibility timeout: {queue.visibility_timeout} seconds is less than "
            f"Function timeout: {function.timeout} seconds"
        )
        raise _client_error("InvalidParameterValueException", message)


def _queue(arn: str) -> Any:
    """Return moto's queue, or None for what is no queue or is not there."""
    _, _, service, region, account_id, name = arn.split(":", 5)
    backends = register("moto.sqs.models", "sqs_backends")
    return backends[account_id][region].queues.get(name) if service == "sqs" else None


def _check_variables(spec: dict[str, Any]) -> None:
    variables = (spec.get("Environment") or {}).get("Variables") or {}
    reserved = sorted(RESERVED_VARIABLES & set(variables))
    if reserved:
        message = (
            "Lambda was unable to configure your environment variables because the environment variables you have "
            "provided contains reserved keys that are currently not supported for modification. Reserved keys used in "
            f"this request: {', '.join(reserved)}"
        )
        raise _client_error("InvalidParameterValueException", message)
    if len(json.dumps(variables, separators=(",", ":"))) > _VARIABLES_BYTES:
        message = "Lambda was unable to configure your environment variables because they exceed the 4KB limit."
        raise _client_error("InvalidParameterValueException", message)


def _client_error(code: str, message: str) -> Exception:
    error: Exception = register("moto.awslambda.exceptions", "LambdaClientError", ("error", "message"))(code, message)
    return error


def _layers(model: Any) -> list[bytes]:
    layers: list[bytes] = model.baton_layers
    return layers


def _policy(backend: Any, model: Any) -> Policy:
    configs = backend.get_function(model.function_name).event_invoke_config
    return Policy.of(
        configs[-1].config if configs else {}, model.baton_kept.get("DeadLetterConfig", {}).get("TargetArn", "")
    )


def _qualifier_in(function_name: str) -> str | None:
    """Return the qualifier that a name or an ARN ends with, if any."""
    parts = function_name.split(":function:")[-1].split(":")
    return parts[1] if len(parts) == 2 else None
