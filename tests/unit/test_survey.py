"""The survey: what is there, whose it is, and which failure is the cause; against SageMaker's own shapes."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from botocore.stub import Stubber

from baton.names import TAG_RUN_ID, Names
from baton.survey import JOBS, SERVING, Resource, Survey, failure_of

RUN_ID = "bt-0abcdef000001"
NAMES = Names.of(RUN_ID).as_dict()
ARN = "arn:aws-cn:sagemaker:cn-northwest-1:123456789012:"


def passing_on(_kind: str) -> AbstractContextManager[None]:
    """Take no error."""
    return nullcontext()


@pytest.fixture
def stubbed() -> tuple[Any, Stubber]:
    client = boto3.client("sagemaker", "cn-northwest-1", aws_access_key_id="x", aws_secret_access_key="x")
    return client, Stubber(client)


def test_every_request_and_answer_agrees_with_sagemakers_model(stubbed: tuple[Any, Stubber]) -> None:
    client, stubber = stubbed
    for kind in (*JOBS, *SERVING):
        for verb in ("stop", "delete")[kind in SERVING :][:1]:
            operation = f"{verb}_{_snake(kind)}"
            parameters = {f"{_camel(kind)}Name": NAMES[kind]}
            assert set(client.meta.service_model.operation_model(
                client.meta.method_to_api_mapping[operation]).input_shape.members) == set(parameters)  # fmt: skip
            stubber.add_response(operation, {}, parameters)
    with stubber:
        survey = Survey(client)
        for kind in JOBS:
            survey.stop(Resource(kind, NAMES[kind]))
        for kind in SERVING:
            survey.delete(Resource(kind, NAMES[kind]))
    stubber.assert_no_pending_responses()


def _snake(kind: str) -> str:
    return {"tuning": "hyper_parameter_tuning_job"}.get(kind, f"{kind}_job" if kind in JOBS else kind)


def _camel(kind: str) -> str:
    return "".join(part.capitalize() for part in _snake(kind).split("_"))


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("ResourceNotFound", "x"),
        ("ValidationException", "Requested resource not found."),
        ("ValidationException", f'Could not find model "{ARN}model/x".'),
    ],
)
def test_each_way_in_which_sagemaker_says_that_there_is_nothing(
    stubbed: tuple[Any, Stubber], code: str, message: str
) -> None:
    client, stubber = stubbed
    for kind in NAMES:
        stubber.add_client_error(f"describe_{_snake(kind)}", code, message)
    with stubber:
        found = Survey(client).look(RUN_ID, passing_on)
    assert found == {kind: Resource(kind, name) for kind, name in NAMES.items()}
    assert not any(resource.present or resource.belongs_to(RUN_ID) for resource in found.values())


def test_an_error_that_does_not_say_so_is_passed_on(stubbed: tuple[Any, Stubber]) -> None:
    client, stubber = stubbed
    stubber.add_client_error("describe_hyper_parameter_tuning_job", "ValidationException", "1 validation error")
    with stubber, pytest.raises(ClientError):
        Survey(client).look(RUN_ID, passing_on)


@pytest.mark.parametrize("code", ["ValidationException", "ResourceNotFound", "ConflictException"])
def test_what_cannot_be_ended_now_is_left_for_the_next_look(stubbed: tuple[Any, Stubber], code: str) -> None:
    client, stubber = stubbed
    stubber.add_client_error("delete_endpoint", code, "Cannot update in-progress endpoint")
    with stubber:
        Survey(client).delete(Resource("endpoint", NAMES["endpoint"]))


def test_what_may_not_be_ended_is_told(stubbed: tuple[Any, Stubber]) -> None:
    client, stubber = stubbed
    stubber.add_client_error("delete_endpoint", "AccessDeniedException", "not authorized")
    with stubber, pytest.raises(ClientError, match="AccessDenied"):
        Survey(client).delete(Resource("endpoint", NAMES["endpoint"]))


def test_ownership_needs_this_runs_tag() -> None:
    own, other = {TAG_RUN_ID: RUN_ID}, {TAG_RUN_ID: "bt-0abcdef000002", "Name": RUN_ID}
    assert Resource("model", NAMES["model"], ARN, tags=own).belongs_to(RUN_ID)
    assert not Resource("model", NAMES["model"], ARN, tags=other).belongs_to(RUN_ID)
    assert not Resource("model", NAMES["model"], ARN).belongs_to(RUN_ID)


def survey_of(**changes: dict[str, Any]) -> dict[str, Resource]:
    own = {TAG_RUN_ID: RUN_ID}
    return {k: Resource(k, n, **{"arn": ARN, "tags": own, **changes.get(k, {})}) for k, n in NAMES.items()}


def test_the_earliest_failure_of_the_pipeline_is_the_cause() -> None:
    found = survey_of(
        endpoint={"status": "Failed", "reason": "late"},
        transform={"status": "Failed", "reason": "early"},
        training={"status": "Completed"},
    )
    assert failure_of(found, RUN_ID) == {"error": "JobFailed", "cause": f"Transform {NAMES['transform']}: early"}


def test_a_failure_without_a_reason_is_still_one() -> None:
    cause = failure_of(survey_of(tuning={"status": "Failed"}), RUN_ID)
    assert cause
    assert "gives no reason" in cause["cause"]


def test_what_was_stopped_or_completed_or_is_foreign_is_no_failure() -> None:
    found = survey_of(
        tuning={"status": "Stopped"},
        training={"status": "Completed", "reason": "nothing"},
        endpoint={"status": "Failed", "reason": "x", "tags": {}},
    )
    assert failure_of(found, RUN_ID) is None
