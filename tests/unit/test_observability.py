"""The one decorator of every handler: what it logs, counts and raises."""

import json
from types import SimpleNamespace

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from baton.errors import AccessDenied, InvalidInput, TransientAwsError
from baton.observability import correlate, count, lambda_entry, logger, run_id_of

CONTEXT = SimpleNamespace(function_name="f", memory_limit_in_mb=1, invoked_function_arn="a", aws_request_id="r")


@pytest.mark.parametrize(
    ("event", "run_id"),
    [
        ({"plan": {"run_id": "bt-1"}}, "bt-1"),
        ({"run_id": "bt-2", "token": "t"}, "bt-2"),
        ({"execution": {}, "state": {"plan": {"run_id": "bt-3"}}}, "bt-3"),
        ({"execution": {}, "state": {"plan": None}}, None),
        ({"plan": None}, None),
        ({"run_id": 7}, None),
        ({"Records": []}, None),
        ([], None),
        (None, None),
    ],
)
def test_the_run_id_is_found_wherever_a_payload_has_it(event, run_id):
    assert run_id_of(event) == run_id


def test_log_lines_carry_the_run_id_and_not_the_event():
    seen = []

    @lambda_entry
    def handler(event, context):
        seen.append(logger.get_correlation_id())
        return event["token"]

    assert handler({"run_id": "bt-1", "token": "secret"}, CONTEXT) == "secret"
    handler({"token": "x"}, CONTEXT)
    assert seen == ["bt-1", None]


def test_a_run_id_that_is_learnt_later_counts_from_then_on():
    @lambda_entry
    def handler(event, context):
        correlate("bt-9")
        return logger.get_correlation_id()

    assert handler({}, CONTEXT) == "bt-9"


@pytest.mark.parametrize("fails", [False, True])
def test_metrics_are_written_also_when_the_handler_fails(capsys, fails):
    @lambda_entry
    def handler(event, context):
        count("Thing", 2)
        if fails:
            raise InvalidInput("no")

    if fails:
        with pytest.raises(InvalidInput):
            handler({}, CONTEXT)
    else:
        handler({}, CONTEXT)
    (line,) = [line for line in capsys.readouterr().out.splitlines() if '"Thing"' in line and "_aws" in line]
    written = json.loads(line)
    assert written["Thing"] == [2.0]
    assert written["_aws"]["CloudWatchMetrics"][0]["Namespace"] == "Baton"


def aws(code, status=400):
    return ClientError({"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}, "Call")


@pytest.mark.parametrize(
    "error",
    [aws("ThrottlingException"), aws("SlowDown", 503), aws("Anything", 500), EndpointConnectionError(endpoint_url="u")],
)
def test_aws_failures_that_pass_leave_by_the_retryable_name(error):
    @lambda_entry
    def handler(event, context):
        raise error

    with pytest.raises(TransientAwsError):
        handler({}, CONTEXT)


def test_a_missing_permission_leaves_as_access_denied_with_the_functions_name():
    @lambda_entry
    def handler(event, context):
        raise aws("AccessDenied", 403)

    with pytest.raises(AccessDenied, match=f"^{CONTEXT.function_name} lacks a permission"):
        handler({}, CONTEXT)


@pytest.mark.parametrize("error", [aws("ValidationException", 400), InvalidInput("x"), KeyError("x")])
def test_other_failures_leave_as_they_are(error):
    @lambda_entry
    def handler(event, context):
        raise error

    with pytest.raises(type(error)) as caught:
        handler({}, CONTEXT)
    assert caught.value is error


def test_a_failure_is_one_log_line(caplog):
    @lambda_entry
    def handler(event, context):
        raise event["error"]

    with pytest.raises(InvalidInput):
        handler({"error": InvalidInput("one sentence")}, CONTEXT)
    with pytest.raises(KeyError):
        handler({"error": KeyError("x")}, CONTEXT)
    expected, unexpected = [record for record in caplog.records if record.name == "baton"]
    assert (expected.getMessage(), expected.exc_info, expected.error) == ("one sentence", None, "InvalidInput")
    assert unexpected.exc_info
