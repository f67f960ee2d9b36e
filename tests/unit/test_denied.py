"""A missing permission has one name, whatever the service calls it, and names the function."""

from __future__ import annotations

import pytest
from botocore.exceptions import ClientError

from baton.denied import DENIAL_CODES, denials_by_name
from baton.errors import AccessDenied

MESSAGE = "User: arn:aws:sts::1:assumed-role/r/f is not authorized to perform: s3:GetObject on resource: x"


def refusal(code: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": MESSAGE}}, "GetObject")


@pytest.mark.parametrize("code", sorted(DENIAL_CODES))
def test_a_denial_names_function_and_action(code: str) -> None:
    with pytest.raises(AccessDenied) as caught, denials_by_name("baton-SmokeTest"):
        raise refusal(code)
    assert str(caught.value) == f"baton-SmokeTest lacks a permission: {MESSAGE}"
    assert caught.value.retryable is False


@pytest.mark.parametrize("error", [refusal("NoSuchKey"), ValueError("AccessDenied")])
def test_anything_else_leaves_as_it_is(error: Exception) -> None:
    with pytest.raises(type(error)) as caught, denials_by_name("f"):
        raise error
    assert caught.value is error


def test_a_denial_that_aws_does_not_explain_gets_the_functions_name_too() -> None:
    with pytest.raises(AccessDenied) as caught, denials_by_name("baton-PlanRun"):
        raise AccessDenied("its role is not authorized to perform: s3:GetObject on s3://b/k")
    message = "its role is not authorized to perform: s3:GetObject on s3://b/k"
    assert str(caught.value) == f"baton-PlanRun lacks a permission: {message}"
