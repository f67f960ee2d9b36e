"""Task states: whose credentials they act with, how long they may take, and how their errors are called."""

from __future__ import annotations

import copy
import functools
import json
import threading
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from moto.stepfunctions.parser.api import (
    HistoryEventExecutionDataDetails,
    HistoryEventType,
    LambdaFunctionFailedEventDetails,
    TaskFailedEventDetails,
    TaskSubmittedEventDetails,
    TaskTimedOutEventDetails,
)
from moto.stepfunctions.parser.asl.component.common.error_name.error_name import ErrorName
from moto.stepfunctions.parser.asl.component.common.error_name.failure_event import FailureEvent
from moto.stepfunctions.parser.asl.component.state.exec.state_task import lambda_eval_utils
from moto.stepfunctions.parser.asl.component.state.exec.state_task.service.resource import ResourceCondition
from moto.stepfunctions.parser.asl.component.state.exec.state_task.service.state_task_service import StateTaskService
from moto.stepfunctions.parser.asl.eval.callback.callback import CallbackOutcomeFailure, CallbackOutcomeFailureError
from moto.stepfunctions.parser.asl.eval.event.event_detail import EventDetails
from moto.stepfunctions.parser.asl.utils.encoding import to_json_str

from baton_local.accounts import role_credentials
from baton_local.context import CloudContext
from baton_local.seams import replace
from baton_local.stepfunctions.errors import HEARTBEAT_TIMEOUT
from baton_local.stepfunctions.evaluation import _timeout, positive_seconds
from baton_local.stepfunctions.interruption import Attempt, HeartbeatTimedOut, call
from baton_local.stepfunctions.tokens import Failure, Success, desk

_TASK = "moto.stepfunctions.parser.asl.component.state.exec.state_task"
_SYNC_POLL_SECONDS = 0.25
_LONGEST_CALL_SECONDS = 3600
_moto: dict[str, Any] = {}
_making = threading.RLock()


def install(context: CloudContext) -> None:
    """Open the seams."""
    replace(
        "moto.stepfunctions.parser.asl.utils.boto_client",
        "boto_client_for",
        functools.partial(_client_for, context.url),
        ("region", "service", "state_credentials"),
        imported_in="moto.stepfunctions",
    )
    service = f"{_TASK}.service.state_task_service"
    callback = f"{service}_callback"
    replace(service, "StateTaskService._eval_execution", _eval_execution, ("self", "env"))
    casing = ("self", "parameters", "boto_service_name", "service_action_name")
    replace(service, "StateTaskService._normalise_parameters", _normalise_parameters, casing)
    replace(service, "StateTaskService._normalise_response", _normalise_response, ("self", "response", *casing[2:]))
    # The token is made per attempt, in _eval_execution, and not once for all attempts.
    replace(callback, "StateTaskServiceCallback._eval_body", StateTaskService._eval_body, ("self", "env"))
    errors = ("self", "env", "ex")
    _moto["callback"] = replace(callback, "StateTaskServiceCallback._from_error", _callback_error, errors)
    _moto["service"] = replace(f"{service}_lambda", "StateTaskServiceLambda._from_error", _service_error, errors)
    _moto["lambda"] = replace(f"{_TASK}.state_task_lambda", "StateTaskLambda._from_error", _lambda_error, errors)


# --- clients ----------------------------------------------------------------------------------------------------------


def _client_for(url: str, region: str, service: str, state_credentials: Any = None) -> Any:
    role_arn = getattr(state_credentials, "role_arn", None)
    if not role_arn:
        raise RuntimeError(f"a task has no role to call {service} with")
    return _role_client(url, region, service, role_arn)


def _role_client(url: str, region: str, service: str, role_arn: str) -> Any:
    # Many branches ask at once, and making a client costs tenths of a second.
    with _making:
        return _make_role_client(url, region, service, role_arn)


@functools.lru_cache(maxsize=256)
def _make_role_client(url: str, region: str, service: str, role_arn: str) -> Any:
    """Return a client that acts with a session of a state machine's role, as long as a Lambda function may take."""
    config = Config(
        parameter_validation=False,
        retries={"total_max_attempts": 1},
        connect_timeout=10,
        read_timeout=_LONGEST_CALL_SECONDS,
        max_pool_connections=256,
    )
    credentials = role_credentials(role_arn, region, "states").client_arguments()
    return _session().client(service, region_name=region, endpoint_url=url, config=config, **credentials)


@functools.cache
def _session() -> Any:
    """Return the one session whose clients share the descriptions of the services."""
    return boto3.session.Session()


# --- one attempt ------------------------------------------------------------------------------------------------------


def _eval_execution(self: Any, env: Any) -> None:
    """Attempt a task once: call the service, and wait for what ends the task if it is not the call itself."""
    self.resource.eval(env=env)
    place = env.stack.pop()
    attempt = Attempt(_timeout(self, env), _heartbeat(self, env))
    details = env.aws_execution_details
    tokens = desk(details.account, details.region)
    token = tokens.open(attempt) if self.resource.condition == ResourceCondition.WaitForTaskToken else None
    data = env.states.context_object.context_object_data
    if token:
        data["Task"] = {"Token": token.text}
    try:
        _call_and_wait(self, env, place, attempt, token)
    finally:
        data.pop("Task", None)
        if token:
            tokens.close(token)


def _call_and_wait(self: Any, env: Any, place: Any, attempt: Attempt, token: Any) -> None:
    if self.resource.condition is not None:
        self._assert_integration_pattern_is_supported()
    raw = self._eval_parameters(env=env)
    self._verify_size_quota(env=env, value=raw)
    parts: dict[str, Any] = {
        "resource_runtime_part": place,
        "state_credentials": self._eval_state_credentials(env=env),
    }
    self._before_eval_execution(env=env, raw_parameters=raw, **parts)
    parts["normalised_parameters"] = copy.deepcopy(raw)
    self._normalise_parameters(parts["normalised_parameters"])
    call(env.over, attempt, lambda: self._eval_service_task(env=env, **parts))
    self._normalise_response(env.stack[-1])
    if self.resource.condition is not None:
        _note_submitted(self, env)
        _await_end(self, env, attempt, token, parts)
    StateTaskService._after_eval_execution(self, env=env, **parts)


def _heartbeat(state: Any, env: Any) -> float | None:
    """Return a state's heartbeat in seconds, or None if it has none."""
    if state.heartbeat is None:
        return None
    state.heartbeat.eval(env=env)
    return positive_seconds(env, "HeartbeatSeconds")


def _note_submitted(self: Any, env: Any) -> None:
    env.event_manager.add_event(
        context=env.event_history_context,
        event_type=HistoryEventType.TaskSubmitted,
        event_details=EventDetails(  # type: ignore[typeddict-item]
            taskSubmittedEventDetails=TaskSubmittedEventDetails(
                resource=self._get_sfn_resource(),
                resourceType=self._get_sfn_resource_type(),
                output=to_json_str(env.stack[-1]),
                outputDetails=HistoryEventExecutionDataDetails(truncated=False),
            )
        ),
    )


def _await_end(self: Any, env: Any, attempt: Attempt, token: Any, parts: dict[str, Any]) -> None:
    """Wait for the task token, or poll what a ``.sync`` integration started; leave the result on the stack."""
    if token is None:
        env.stack.append(_poll(self, env, attempt, parts))
        return
    env.stack.pop()
    outcome = token.wait(env.over)
    if isinstance(outcome, Failure):
        raise CallbackOutcomeFailureError(CallbackOutcomeFailure(token.text, outcome.error, outcome.cause))
    if isinstance(outcome, Success):
        env.stack.append(json.loads(outcome.output))


def _poll(self: Any, env: Any, attempt: Attempt, parts: dict[str, Any]) -> Any:
    is_sync = self.resource.condition == ResourceCondition.Sync
    resolver = (self._build_sync_resolver if is_sync else self._build_sync2_resolver)(env=env, **parts)
    while True:
        result = call(env.over, attempt, resolver)
        if result:
            return result
        attempt.check()
        env.over.sleep(_SYNC_POLL_SECONDS)


# --- how the SDK's operations are spelt -------------------------------------------------------------------------------


def _service_model(service: str) -> tuple[Any, dict[str, str]]:
    with _making:
        return _load_service_model(service)


@functools.cache
def _load_service_model(service: str) -> tuple[Any, dict[str, str]]:
    client = _session().client(
        service,
        region_name="us-east-1",
        aws_access_key_id="none",
        aws_secret_access_key="none",  # noqa: S106 (only the service's description is used)
    )
    return client.meta.service_model, dict(client.meta.method_to_api_mapping)


def _operation(self: Any, service: str | None, action: str | None) -> Any:
    model, operations = _service_model(self._get_boto_service_name(service))
    name = operations.get(self._get_boto_service_action(action))
    return model.operation_model(name) if name else None


def _normalise_parameters(
    self: Any, parameters: dict[str, Any], boto_service_name: str | None = None, service_action_name: str | None = None
) -> None:
    operation = _operation(self, boto_service_name, service_action_name)
    if operation is not None and operation.input_shape is not None:
        self._to_boto_request(parameters, operation.input_shape)


def _normalise_response(
    self: Any, response: Any, boto_service_name: str | None = None, service_action_name: str | None = None
) -> None:
    operation = _operation(self, boto_service_name, service_action_name)
    if operation is not None and operation.output_shape is not None:
        self._from_boto_response(response, operation.output_shape)


# --- errors -----------------------------------------------------------------------------------------------------------


def _callback_error(self: Any, env: Any, ex: Exception) -> Any:
    if isinstance(ex, CallbackOutcomeFailureError):
        outcome = ex.callback_outcome_failure
        return _task_failed(self, env, outcome.error, outcome.cause)
    if not isinstance(ex, HeartbeatTimedOut):
        return _moto["callback"](self, env=env, ex=ex)
    details = TaskTimedOutEventDetails(
        resourceType=self._get_sfn_resource_type(), resource=self._get_sfn_resource(), error=HEARTBEAT_TIMEOUT
    )
    return FailureEvent(
        env=env,
        error_name=ErrorName(HEARTBEAT_TIMEOUT),
        event_type=HistoryEventType.TaskTimedOut,
        event_details=EventDetails(taskTimedOutEventDetails=details),  # type: ignore[typeddict-item]
    )


def _task_failed(self: Any, env: Any, error: str | None, cause: str | None) -> FailureEvent:
    details = TaskFailedEventDetails(resourceType=self._get_sfn_resource_type(), resource=self._get_sfn_resource())
    if error is not None:
        details["error"] = error
    if cause is not None:
        details["cause"] = cause
    return FailureEvent(
        env=env,
        error_name=ErrorName(error),
        event_type=HistoryEventType.TaskFailed,
        event_details=EventDetails(taskFailedEventDetails=details),  # type: ignore[typeddict-item]
    )


def _service_error(self: Any, env: Any, ex: Exception) -> Any:
    named = _lambda_names(ex)
    return _task_failed(self, env, *named) if named else _moto["service"](self, env=env, ex=ex)


def _lambda_error(self: Any, env: Any, ex: Exception) -> Any:
    named = _lambda_names(ex)
    if not named:
        return _moto["lambda"](self, env=env, ex=ex)
    details = LambdaFunctionFailedEventDetails(error=named[0], cause=named[1])
    return FailureEvent(
        env=env,
        error_name=ErrorName(named[0]),
        event_type=HistoryEventType.LambdaFunctionFailed,
        event_details=EventDetails(lambdaFunctionFailedEventDetails=details),  # type: ignore[typeddict-item]
    )


def _lambda_names(error: Exception) -> tuple[str, str] | None:
    """Return the Error and the Cause that Step Functions gives what a Lambda function or its service raised.

    https://docs.aws.amazon.com/step-functions/latest/dg/concepts-error-handling.html and
    https://docs.aws.amazon.com/step-functions/latest/dg/sfn-best-practices.html#bp-lambda-serviceexception
    """
    if isinstance(error, lambda_eval_utils.LambdaFunctionErrorException):
        return _function_error(error.payload)
    if isinstance(error, ClientError):
        return _service_exception(error)
    if isinstance(error, BotoCoreError):
        return "Lambda.SdkClientException", str(error)
    return None


def _function_error(payload: str) -> tuple[str, str]:
    try:
        return str(json.loads(payload)["errorType"]), payload
    except (ValueError, KeyError, TypeError):
        cause = "The cause could not be determined because Lambda did not return an error type."
        return "Lambda.Unknown", f"{cause} Returned payload: {payload}"


def _service_exception(error: ClientError) -> tuple[str, str]:
    code, message = error.response["Error"]["Code"], error.response["Error"]["Message"]
    metadata = error.response.get("ResponseMetadata", {})
    cause = (
        f"{message} (Service: AWSLambda; Status Code: {metadata.get('HTTPStatusCode')}; Error Code: {code}; "
        f"Request ID: {metadata.get('RequestId')}; Proxy: null)"
    )
    known = {shape.name for shape in _service_model("lambda")[0].operation_model("Invoke").error_shapes}
    return (f"Lambda.{code}" if code in known else "Lambda.AWSLambdaException"), cause
