"""The embedded Lambda beyond one call: what a sandbox sees, when it is used again, layers, versions, limits, events."""

from __future__ import annotations

import base64
import json
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from botocore.exceptions import ClientError

from baton_local.cloud import EmbeddedCloud
from baton_local.dials import Dials
from tests.integration.local.lambda_helpers import REGION, Lambda, archive, eventually, receive_all

PID = "import os\ndef handler(event, context):\n    return os.getpid()\n"
SLOW_PID = "import os, time\ndef handler(event, context):\n    time.sleep(0.6)\n    return os.getpid()\n"
FAILS = "def handler(event, context):\n    print('attempt', context.aws_request_id)\n    raise ValueError('no')\n"


@pytest.fixture(scope="module")
def functions() -> Iterator[Lambda]:
    with EmbeddedCloud(services=["lambda_"], speed=600.0) as cloud:
        yield Lambda(cloud)


def published(functions: Lambda, name: str, files: dict[str, str]) -> str:
    arn: str = functions.client.publish_layer_version(LayerName=name, Content={"ZipFile": archive(files)})[
        "LayerVersionArn"
    ]
    return arn


# --- what a sandbox sees ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("module", ["numpy", "kfp", "sklearn", "pydantic", "moto", "pytest", "baton_local", "baton"])
def test_a_requirement_that_was_not_packaged_is_missing(functions: Lambda, module: str) -> None:
    name = functions.create(f"import {module}\ndef handler(event, context): pass\n")
    payload = functions.invoke(name).payload
    assert payload["errorType"] == "Runtime.ImportModuleError"
    assert payload["errorMessage"] == f"Unable to import module 'app': No module named '{module}'"


def test_boto3_is_there_and_talks_to_this_cloud_with_the_functions_role(functions: Lambda) -> None:
    name = functions.create(
        "import boto3\ndef handler(event, context):\n"
        "    return boto3.client('sts').get_caller_identity()['Arn'], boto3.session.Session().region_name\n"
    )
    arn, region = functions.invoke(name).payload
    assert arn == f"arn:aws:sts::123456789012:assumed-role/role-{name}/{name}"
    assert region == REGION


def test_the_environment_is_lambdas_and_the_functions_own_and_not_the_hosts(
    functions: Lambda, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = functions.create(
        "import os\ndef handler(event, context):\n    return dict(os.environ)\n",
        Environment={"Variables": {"COLOUR": "blue"}},
        MemorySize=512,
    )
    variables = functions.invoke(name).payload
    expected = {
        "COLOUR": "blue",
        "_HANDLER": "app.handler",
        "AWS_LAMBDA_FUNCTION_NAME": name,
        "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "512",
        "AWS_REGION": REGION,
        "AWS_EXECUTION_ENV": "AWS_Lambda_python3.13",
        "AWS_ENDPOINT_URL": functions.cloud.url,
        "TZ": ":UTC",
    }
    assert expected.items() <= variables.items()
    assert variables["LAMBDA_TASK_ROOT"] == variables["PYTHONPATH"].split(os.pathsep)[0]
    assert variables["_X_AMZN_TRACE_ID"].endswith("Sampled=0")
    assert not {"MOTO_PORT", "VIRTUAL_ENV", "AWS_PROFILE", "PYTEST_CURRENT_TEST"} & set(variables)


def test_reserved_variables_are_refused(functions: Lambda) -> None:
    with pytest.raises(ClientError, match=r"Reserved keys used in this request: AWS_REGION, _HANDLER") as refusal:
        functions.create(PID, Environment={"Variables": {"AWS_REGION": "x", "_HANDLER": "y", "FINE": "z"}})
    assert refusal.value.response["Error"]["Code"] == "InvalidParameterValueException"


def test_an_environment_over_4_kb_is_refused(functions: Lambda) -> None:
    with pytest.raises(ClientError, match="exceed the 4KB limit"):
        functions.create(PID, Environment={"Variables": {"LARGE": "x" * 4100}})


# --- layers -------------------------------------------------------------------------------------------------------


def test_layers_are_merged_in_order_and_outlive_their_version(functions: Lambda) -> None:
    first = published(functions, "one", {"python/shared.py": "WHO = 'first'", "python/package/a.py": "A = 1"})
    second = published(functions, "two", {"python/shared.py": "WHO = 'second'", "python/package/b.py": "B = 2"})
    source = (
        "import shared\nfrom package.a import A\nfrom package.b import B\n"
        "def handler(event, context):\n    return [shared.WHO, A, B]\n"
    )
    name = functions.create(source, Layers=[first, second])
    assert functions.client.get_function_configuration(FunctionName=name)["Layers"][1]["Arn"] == second
    for layer in ("one", "two"):
        functions.client.delete_layer_version(LayerName=layer, VersionNumber=1)
    assert functions.invoke(name).payload == ["second", 1, 2]


def test_the_functions_own_code_comes_before_its_layers(functions: Lambda) -> None:
    layer = published(functions, "shadow", {"python/app.py": "def handler(event, context): return 'layer'"})
    name = functions.create("def handler(event, context): return 'task'", Layers=[layer])
    assert functions.invoke(name).payload == "task"


def test_another_version_of_a_layer_counts_from_the_update_on(functions: Lambda) -> None:
    source = "import value\ndef handler(event, context): return value.V\n"
    name = functions.create(source, Layers=[published(functions, "v", {"python/value.py": "V = 1"})])
    assert functions.invoke(name).payload == 1
    newer = published(functions, "v", {"python/value.py": "V = 2"})
    functions.client.update_function_configuration(FunctionName=name, Layers=[newer])
    assert functions.invoke(name).payload == 2


# --- sandboxes are used again -------------------------------------------------------------------------------------


def test_calls_one_after_the_other_share_a_sandbox(functions: Lambda) -> None:
    name = functions.create(PID)
    assert len({functions.invoke(name).payload for _ in range(5)}) == 1


def test_calls_at_the_same_time_have_a_sandbox_each(functions: Lambda) -> None:
    name = functions.create(SLOW_PID)
    with ThreadPoolExecutor(3) as pool:
        answers = list(pool.map(lambda _: functions.invoke(name).payload, range(3)))
    assert len(set(answers)) == 3


def test_new_code_and_new_variables_mean_new_sandboxes(functions: Lambda) -> None:
    source = "import os\ndef handler(event, context): return [os.environ.get('X'), '{}']\n"
    name = functions.create(source.format("old"))
    assert functions.invoke(name).payload == [None, "old"]
    functions.client.update_function_configuration(FunctionName=name, Environment={"Variables": {"X": "1"}})
    assert functions.invoke(name).payload == ["1", "old"]
    functions.client.update_function_code(FunctionName=name, ZipFile=archive({"app.py": source.format("new")}))
    assert functions.invoke(name).payload == ["1", "new"]


def test_a_deleted_function_leaves_no_process(functions: Lambda) -> None:
    name = functions.create(PID)
    pid = functions.invoke(name).payload
    functions.client.delete_function(FunctionName=name)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    with pytest.raises(functions.client.exceptions.ResourceNotFoundException):
        functions.invoke(name)


def test_more_functions_than_sandboxes_take_turns(functions: Lambda) -> None:
    from baton_local.lambda_.fleet import default_limit

    names = [functions.create(PID) for _ in range(default_limit() + 2)]
    pids = [functions.invoke(name).payload for name in names]
    assert functions.invoke(names[-1]).payload == pids[-1]
    with pytest.raises(ProcessLookupError):
        os.kill(pids[0], 0)
    assert functions.invoke(names[0]).payload not in pids


# --- versions, aliases, limits ------------------------------------------------------------------------------------


def test_a_version_stays_as_it_was_and_an_alias_points_to_it(functions: Lambda) -> None:
    source = "def handler(event, context): return ['{}', context.function_version, context.invoked_function_arn]\n"
    name = functions.create(source.format("one"))
    functions.client.publish_version(FunctionName=name)
    functions.client.create_alias(FunctionName=name, Name="live", FunctionVersion="1")
    functions.client.update_function_code(FunctionName=name, ZipFile=archive({"app.py": source.format("two")}))
    arn = f"arn:aws:lambda:{REGION}:123456789012:function:{name}"
    assert functions.invoke(name).payload == ["two", "$LATEST", arn]
    assert functions.invoke(name, Qualifier="1").payload == ["one", "1", f"{arn}:1"]
    answer = functions.invoke(f"{arn}:live")
    assert answer.payload == ["one", "1", f"{arn}:live"]
    assert answer.version == "1"


def test_a_reservation_leaves_a_hundred_of_the_accounts_thousand(functions: Lambda) -> None:
    one, other = (functions.create("def handler(event, context): pass\n") for _ in range(2))
    functions.client.put_function_concurrency(FunctionName=one, ReservedConcurrentExecutions=800)
    with pytest.raises(functions.client.exceptions.InvalidParameterValueException, match=r"minimum value of \[100\]"):
        functions.client.put_function_concurrency(FunctionName=other, ReservedConcurrentExecutions=101)
    functions.client.put_function_concurrency(FunctionName=other, ReservedConcurrentExecutions=100)
    for name in (one, other):
        functions.client.delete_function_concurrency(FunctionName=name)


def test_no_concurrency_left_is_a_throttle(functions: Lambda) -> None:
    name = functions.create(PID)
    functions.client.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=0)
    with pytest.raises(functions.client.exceptions.TooManyRequestsException, match="Rate Exceeded") as refusal:
        functions.invoke(name)
    assert refusal.value.response["ResponseMetadata"]["HTTPStatusCode"] == 429


def test_reserved_concurrency_counts_what_runs(functions: Lambda) -> None:
    name = functions.create(SLOW_PID)
    functions.client.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=1)
    functions.invoke(name)
    together = threading.Barrier(3)

    def is_refused(_number: int) -> bool:
        together.wait()
        try:
            functions.invoke(name)
        except functions.client.exceptions.TooManyRequestsException:
            return True
        return False

    with ThreadPoolExecutor(3) as pool:
        assert set(pool.map(is_refused, range(3))) == {True, False}
    assert functions.invoke(name).error is None


@pytest.mark.parametrize(("kind", "size"), [("RequestResponse", 6 * 1024 * 1024 + 1), ("Event", 1024 * 1024 + 1)])
def test_a_payload_over_the_limit_is_refused(functions: Lambda, kind: str, size: int) -> None:
    name = functions.create(PID)
    with pytest.raises(ClientError) as refusal:
        functions.client.invoke(FunctionName=name, InvocationType=kind, Payload=json.dumps("x" * (size - 2)))
    assert refusal.value.response["Error"]["Code"] == "RequestTooLargeException"
    assert refusal.value.response["ResponseMetadata"]["HTTPStatusCode"] == 413


def test_an_answer_over_the_limit_is_an_error_of_the_function(functions: Lambda) -> None:
    name = functions.create("def handler(event, context): return 'x' * event\n")
    assert functions.invoke(name, 6_200_000).error is None
    answer = functions.invoke(name, 6_300_000)
    assert answer.error == "Unhandled"
    assert answer.payload["errorType"] == "Function.ResponseSizeTooLarge"


def test_a_payload_that_is_no_json_is_refused(functions: Lambda) -> None:
    name = functions.create(PID)
    with pytest.raises(ClientError, match="Could not parse request body into json") as refusal:
        functions.client.invoke(FunctionName=name, Payload=b"{")
    assert refusal.value.response["Error"]["Code"] == "InvalidRequestContentException"


def test_a_dry_run_runs_nothing(functions: Lambda) -> None:
    name = functions.create(FAILS)
    answer = functions.client.invoke(FunctionName=name, InvocationType="DryRun")
    assert answer["StatusCode"] == 204
    assert "FunctionError" not in answer


def test_a_client_context_reaches_the_handler(functions: Lambda) -> None:
    name = functions.create("def handler(event, context): return context.client_context.custom\n")
    text = base64.b64encode(json.dumps({"custom": {"who": "me"}}).encode()).decode()
    assert functions.invoke(name, ClientContext=text).payload == {"who": "me"}


# --- events -------------------------------------------------------------------------------------------------------


def queue(functions: Lambda, name: str) -> tuple[Any, str, str]:
    sqs = functions.cloud.client("sqs", REGION)
    url = sqs.create_queue(QueueName=name)["QueueUrl"]
    return sqs, url, f"arn:aws:sqs:{REGION}:123456789012:{name}"


def test_an_event_that_fails_is_tried_three_times_and_then_reported_everywhere(functions: Lambda) -> None:
    sqs, dead_url, dead_arn = queue(functions, "dead-letters")
    _, failed_url, failed_arn = queue(functions, "failures")
    name = functions.create(FAILS, DeadLetterConfig={"TargetArn": dead_arn})
    assert functions.client.get_function_configuration(FunctionName=name)["DeadLetterConfig"]["TargetArn"] == dead_arn
    functions.client.put_function_event_invoke_config(
        FunctionName=name, DestinationConfig={"OnFailure": {"Destination": failed_arn}}
    )
    answer = functions.client.invoke(FunctionName=name, InvocationType="Event", Payload=b'{"n": 7}')
    assert answer["StatusCode"] == 202
    dead = eventually(lambda: list(receive_all(sqs, dead_url)))[0]
    request_id = answer["ResponseMetadata"]["RequestId"]
    assert json.loads(dead["Body"]) == {"n": 7}
    assert dead["MessageAttributes"]["ErrorMessage"]["StringValue"] == "no"
    assert dead["MessageAttributes"]["RequestID"]["StringValue"] == request_id
    record = json.loads(eventually(lambda: list(receive_all(sqs, failed_url)))[0]["Body"])
    assert record["requestContext"]["condition"] == "RetriesExhausted"
    assert record["requestContext"]["approximateInvokeCount"] == 3
    assert record["requestPayload"] == {"n": 7}
    assert record["responsePayload"]["errorType"] == "ValueError"
    logs = functions.cloud.client("logs", REGION).filter_log_events(logGroupName=f"/aws/lambda/{name}")["events"]
    assert [e["message"] for e in logs if e["message"].startswith("attempt")] == [f"attempt {request_id}"] * 3


def test_the_number_of_retries_can_be_set_and_success_is_told(functions: Lambda) -> None:
    sqs, url, arn = queue(functions, "ends")
    destinations = {"OnFailure": {"Destination": arn}, "OnSuccess": {"Destination": arn}}
    source = "def handler(event, context): return 1 / event\n"
    name = functions.create(source)
    for retries in (2, 0):
        functions.client.put_function_event_invoke_config(
            FunctionName=name, MaximumRetryAttempts=retries, DestinationConfig=destinations
        )
    functions.client.invoke(FunctionName=name, InvocationType="Event", Payload=b"0")
    failure = json.loads(eventually(lambda: list(receive_all(sqs, url)))[0]["Body"])
    assert failure["requestContext"]["approximateInvokeCount"] == 1
    functions.client.invoke(FunctionName=name, InvocationType="Event", Payload=b"2")
    success = json.loads(eventually(lambda: [m for m in receive_all(sqs, url) if "Success" in m["Body"]])[0]["Body"])
    assert success["requestContext"]["condition"] == "Success"
    assert success["responsePayload"] == 0.5


# --- crashes ------------------------------------------------------------------------------------------------------

PUTS = (
    "import boto3\n"
    "def handler(event, context):\n"
    "    s3 = boto3.client('s3')\n"
    "    for n in range(3):\n"
    "        s3.put_object(Bucket=event['bucket'], Key=f\"{event['run']}/{n}\", Body=b'x')\n"
    "    return 'done'\n"
)


@pytest.fixture(scope="module")
def crashing() -> Iterator[Lambda]:
    with EmbeddedCloud(services=["lambda_"], dials=Dials(crash=1.0, seed=3)) as cloud:
        cloud.client("s3", REGION).create_bucket(
            Bucket="crashes", CreateBucketConfiguration={"LocationConstraint": REGION}
        )
        yield Lambda(cloud)


def test_a_crash_comes_right_after_an_aws_call_that_was_carried_out(crashing: Lambda) -> None:
    name = crashing.create(PUTS)
    done = set()
    for run in range(6):
        answer = crashing.invoke(name, {"bucket": "crashes", "run": str(run)})
        assert answer.payload == {
            "errorType": "Runtime.ExitError",
            "errorMessage": f"RequestId: {answer.request_id} Error: Runtime exited with error: signal: killed",
        }
        listing = crashing.cloud.client("s3", REGION).list_objects_v2(Bucket="crashes", Prefix=f"{run}/")
        done.add(listing["KeyCount"])
    assert done <= {1, 2, 3}
    assert len(done) > 1


def test_an_invocation_without_aws_calls_does_not_crash(crashing: Lambda) -> None:
    name = crashing.create(PID)
    assert crashing.invoke(name).error is None


def test_a_doomed_invocation_with_fewer_calls_than_drawn_loses_its_result(crashing: Lambda) -> None:
    name = crashing.create(
        "import boto3\n"
        "def handler(event, context):\n"
        "    for _ in range(event): boto3.client('s3').list_buckets()\n"
        "    return 'done'\n"
    )
    errors = [crashing.invoke(name, calls).payload["errorType"] for calls in (1, 1, 1)]
    assert errors == ["Runtime.ExitError"] * 3


def test_the_embedded_cloud_names_what_it_does_not_run(functions: Lambda) -> None:
    name = functions.create(PID, Runtime="nodejs22.x")
    with pytest.raises(ClientError, match="runs Python functions only") as refusal:
        functions.invoke(name)
    assert refusal.value.response["Error"]["Code"] == "InvalidRuntimeException"
