"""Settling a task token: what is sent, and what Step Functions' refusals mean."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError, ConnectTimeoutError
from botocore.stub import ANY, Stubber

from baton.errors import TransientAwsError
from baton.tokens import StepFunctionsTokens, TokenInvalid, TokenOver
from baton.transient import is_transient

GOOD = {
    "kind": "training",
    "name": "bt-1-train",
    "status": "Completed",
    "succeeded": True,
    "reason": None,
    "result": {},
}
BAD = {**GOOD, "status": "Failed", "succeeded": False, "error": "JobFailed", "reason": "The training job failed."}


@pytest.fixture
def stub() -> Iterator[Stubber]:
    client = boto3.client("stepfunctions", region_name="eu-west-1", aws_access_key_id="x", aws_secret_access_key="x")
    with Stubber(client) as stub:
        yield stub
        stub.assert_no_pending_responses()


def settle(stub: Stubber, outcome: dict[str, Any]) -> None:
    StepFunctionsTokens(stub.client).settle("token", outcome)


def test_a_good_outcome_is_the_tasks_output(stub: Stubber) -> None:
    stub.add_response("send_task_success", {}, {"taskToken": "token", "output": json.dumps(GOOD)})
    settle(stub, GOOD)


def test_a_bad_outcome_is_the_tasks_error_and_cause(stub: Stubber) -> None:
    expected = {"taskToken": "token", "error": "JobFailed", "cause": "The training job failed."}
    stub.add_response("send_task_failure", {}, expected)
    settle(stub, BAD)


def test_error_and_cause_are_cut_to_what_step_functions_takes(stub: Stubber) -> None:
    shapes = stub.client.meta.service_model.operation_model("SendTaskFailure").input_shape.members
    longest = {name: shapes[name].metadata["max"] for name in ("error", "cause")}
    expected = {"taskToken": "token", "error": "E" * longest["error"], "cause": "c" * longest["cause"]}
    stub.add_response("send_task_failure", {}, expected)
    settle(stub, {**BAD, "error": "E" * 1000, "reason": "c" * 100_000})


@pytest.mark.parametrize("code", ["TaskTimedOut", "TaskDoesNotExist"])
@pytest.mark.parametrize(("outcome", "operation"), [(GOOD, "send_task_success"), (BAD, "send_task_failure")])
def test_an_attempt_that_is_over_says_nothing_of_the_wait(
    stub: Stubber, code: str, outcome: dict[str, Any], operation: str
) -> None:
    stub.add_client_error(operation, code)
    with pytest.raises(TokenOver, match=code):
        settle(stub, outcome)


def test_a_token_that_nobody_gave_is_something_to_look_at(stub: Stubber) -> None:
    stub.add_client_error("send_task_success", "InvalidToken", "Invalid Token: 'Invalid token'")
    with pytest.raises(TokenInvalid, match="Invalid token"):
        settle(stub, GOOD)


@pytest.mark.parametrize("code", ["ThrottlingException", "RequestLimitExceeded", "ServiceUnavailable"])
def test_throttling_is_tried_again(stub: Stubber, code: str) -> None:
    stub.add_client_error("send_task_success", code)
    with pytest.raises(TransientAwsError):
        settle(stub, GOOD)


def test_an_internal_error_is_tried_again_whatever_its_code(stub: Stubber) -> None:
    stub.add_client_error("send_task_success", "SomethingNew", http_status_code=500)
    with pytest.raises(TransientAwsError):
        settle(stub, GOOD)


def test_a_refusal_that_no_retry_mends_leaves_as_it_is(stub: Stubber) -> None:
    stub.add_client_error("send_task_success", "AccessDeniedException", "not authorised")
    with pytest.raises(ClientError, match="AccessDeniedException"):
        settle(stub, GOOD)


def test_a_lost_connection_is_worth_a_retry() -> None:
    assert is_transient(ConnectTimeoutError(endpoint_url="https://states"))


def test_an_outcome_that_is_too_large_goes_without_its_longest_parts(stub: Stubber) -> None:
    sent: dict[str, Any] = {}
    stub.add_response("send_task_success", {}, {"taskToken": "token", "output": ANY})
    stub.client.meta.events.register(
        "before-parameter-build.sfn.SendTaskSuccess", lambda params, **_: sent.update(params)
    )
    large = {f"parameter-{number}": "ü" * 2500 for number in range(100)}
    result = {"model_artefact": "s3://bucket/model.tar.gz", "hyperparameters": large, "metrics": {"msd": 0.5}}
    settle(stub, {**GOOD, "result": result})
    assert len(sent["output"].encode()) < 262_144
    assert json.loads(sent["output"])["result"] == {**result, "hyperparameters": {}}
