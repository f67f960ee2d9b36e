"""Both runtime clients, AWS's own and the pure-Python one, answer as Lambda does, whatever the function does."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from baton_local.cloud import EmbeddedCloud
from tests.integration.local.lambda_helpers import REGION, Lambda, eventually


@pytest.fixture(scope="module", params=["awslambdaric", "python"])
def functions(request: pytest.FixtureRequest) -> Iterator[Lambda]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(os.environ, "BATON_LAMBDA_RUNTIME_CLIENT", request.param)
        with EmbeddedCloud(services=["lambda_"]) as cloud:
            yield Lambda(cloud)


def test_the_runtime_client_is_the_chosen_one(functions: Lambda) -> None:
    name = functions.create("import sys\ndef handler(event, context):\n    return 'awslambdaric' in sys.modules\n")
    chosen = os.environ.get("BATON_LAMBDA_RUNTIME_CLIENT")
    assert functions.invoke(name).payload is (chosen == "awslambdaric")


def test_an_answer_is_what_the_handler_returns(functions: Lambda) -> None:
    name = functions.create("def handler(event, context):\n    return {'event': event, 'more': ['ü', 1.5, None]}\n")
    answer = functions.invoke(name, {"a": "ä"})
    assert answer.payload == {"event": {"a": "ä"}, "more": ["ü", 1.5, None]}
    assert answer.error is None
    assert answer.version == "$LATEST"


def test_the_context_describes_the_invocation(functions: Lambda) -> None:
    name = functions.create(
        "def handler(event, context):\n"
        "    return [context.aws_request_id, context.function_name, context.function_version, context.log_group_name,\n"
        "            context.invoked_function_arn, context.memory_limit_in_mb,\n"
        "            context.get_remaining_time_in_millis(), context.log_stream_name]\n",
        Timeout=7,
        MemorySize=256,
    )
    answer = functions.invoke(name)
    arn = f"arn:aws:lambda:{REGION}:123456789012:function:{name}"
    assert answer.payload[:6] == [answer.request_id, name, "$LATEST", f"/aws/lambda/{name}", arn, "256"]
    assert 5000 < answer.payload[6] <= 7000
    assert "[$LATEST]" in answer.payload[7]


def test_an_exception_becomes_lambdas_error_object(functions: Lambda) -> None:
    name = functions.create(
        "class NotGoneYet(Exception): pass\n\ndef handler(event, context):\n    raise NotGoneYet('one is left')\n"
    )
    answer = functions.invoke(name)
    assert answer.error == "Unhandled"
    trace = answer.payload.pop("stackTrace")
    assert answer.payload == {
        "errorType": "NotGoneYet",
        "errorMessage": "one is left",
        "requestId": answer.request_id,
    }
    assert len(trace) == 1
    assert 'app.py", line 4, in handler' in trace[0]
    assert "[ERROR] NotGoneYet: one is left" in answer.log


@pytest.mark.parametrize(
    ("source", "handler", "error_type", "message"),
    [
        ("import no_such_thing", "app.handler", "Runtime.ImportModuleError", "No module named 'no_such_thing'"),
        ("x = 1", "app.handler", "Runtime.HandlerNotFound", "Handler 'handler' missing on module 'app'"),
        ("def handler(:", "app.handler", "Runtime.UserCodeSyntaxError", "Syntax error in module 'app'"),
        ("x = 1", "app", "Runtime.MalformedHandlerName", "Bad handler 'app'"),
        ("raise KeyError('TABLE')", "app.handler", "KeyError", "TABLE"),
        ("def handler(e, c): return {1, 2}", "app.handler", "Runtime.MarshalError", "not JSON serializable"),
    ],
)
def test_what_never_works_is_reported_each_time(
    functions: Lambda, source: str, handler: str, error_type: str, message: str
) -> None:
    name = functions.create(source, handler)
    for _ in range(2):
        answer = functions.invoke(name)
        assert answer.error == "Unhandled"
        assert answer.payload["errorType"] == error_type
        assert message in answer.payload["errorMessage"]
        assert answer.payload["requestId"] == answer.request_id
        assert isinstance(answer.payload["stackTrace"], list)


def test_a_process_that_ends_is_an_exit_error_and_the_next_call_gets_another(functions: Lambda) -> None:
    name = functions.create(
        "import os, sys\n"
        "def handler(event, context):\n"
        "    if event == 'exit': sys.exit(3)\n"
        "    if event == 'abort': os._exit(0)\n"
        "    return os.getpid()\n"
    )
    first = functions.invoke(name, "live").payload
    answer = functions.invoke(name, "exit")
    assert answer.error == "Unhandled"
    assert answer.payload == {
        "errorType": "Runtime.ExitError",
        "errorMessage": f"RequestId: {answer.request_id} Error: Runtime exited with error: exit status 3",
    }
    assert "exit status 3" in answer.log
    silent = functions.invoke(name, "abort").payload["errorMessage"]
    assert silent.endswith("Error: Runtime exited without providing a reason")
    assert functions.invoke(name, "live").payload != first


def test_a_time_out_kills_the_sandbox(functions: Lambda) -> None:
    name = functions.create(
        "import os, time\n"
        "def handler(event, context):\n"
        "    print('begin')\n"
        "    time.sleep(event)\n"
        "    return os.getpid()\n",
        Timeout=1,
    )
    first = functions.invoke(name, 0).payload
    answer = functions.invoke(name, 60)
    assert answer.error == "Unhandled"
    assert answer.payload == {
        "errorType": "Sandbox.Timedout",
        "errorMessage": f"RequestId: {answer.request_id} Error: Task timed out after 1.00 seconds",
    }
    assert "begin" in answer.log
    assert "Task timed out after 1.00 seconds" in answer.log
    assert functions.invoke(name, 0).payload != first
    with pytest.raises(ProcessLookupError):
        os.kill(first, 0)


def test_what_is_printed_and_logged_reaches_cloudwatch_between_lambdas_lines(functions: Lambda) -> None:
    name = functions.create(
        "import logging, sys\n"
        "def handler(event, context):\n"
        "    print('printed')\n"
        "    print('to stderr', file=sys.stderr)\n"
        "    logging.getLogger().warning('warned')\n"
    )
    answer = functions.invoke(name)
    logs = functions.cloud.client("logs", REGION)
    events = eventually(lambda: logs.filter_log_events(logGroupName=f"/aws/lambda/{name}")["events"])
    lines = [event["message"] for event in events]
    assert lines[0] == f"START RequestId: {answer.request_id} Version: $LATEST"
    assert "printed" in lines
    assert "to stderr" in lines
    assert any(line.startswith("[WARNING]") and line.endswith(f"{answer.request_id}\twarned") for line in lines)
    assert any(line.startswith(f"REPORT RequestId: {answer.request_id}\tDuration: ") for line in lines)
    assert answer.log.splitlines() == lines


def test_a_decimal_and_large_payloads_go_through(functions: Lambda) -> None:
    name = functions.create(
        "import decimal\n"
        "def handler(event, context):\n"
        "    return [decimal.Decimal('1.5'), len(event), 'x' * 3_000_000]\n"
    )
    answer = functions.invoke(name, "y" * 3_000_000)
    assert answer.payload == [1.5, 3_000_000, "x" * 3_000_000]
