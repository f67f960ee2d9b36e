"""A function writes to the log group that its LoggingConfig names."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from baton_local.cloud import EmbeddedCloud
from tests.integration.local.lambda_helpers import REGION, Lambda, eventually

SAYS = "import os\ndef handler(event, context):\n    print('said', event)\n    return context.log_group_name\n"


@pytest.fixture(scope="module")
def functions() -> Iterator[Lambda]:
    with EmbeddedCloud(services=["lambda_"]) as cloud:
        yield Lambda(cloud)


def written(functions: Lambda, group: str) -> list[str]:
    logs = functions.cloud.client("logs", REGION)
    return [event["message"] for event in logs.filter_log_events(logGroupName=group)["events"]]


def test_it_is_the_functions_own_by_default(functions: Lambda) -> None:
    name = functions.create(SAYS)
    assert functions.invoke(name, 1).payload == f"/aws/lambda/{name}"
    told = functions.client.get_function_configuration(FunctionName=name)["LoggingConfig"]
    assert told == {"LogFormat": "Text", "LogGroup": f"/aws/lambda/{name}"}


def test_functions_can_share_one(functions: Lambda) -> None:
    names = [functions.create(SAYS, LoggingConfig={"LogGroup": "/shared"}) for _ in range(2)]
    assert [functions.invoke(name, index).payload for index, name in enumerate(names)] == ["/shared"] * 2
    assert eventually(lambda: {"said 0", "said 1"} <= set(written(functions, "/shared")))


def test_a_published_version_keeps_the_group_that_it_was_published_with(functions: Lambda) -> None:
    name = functions.create(SAYS, LoggingConfig={"LogGroup": "/old"})
    version = functions.client.publish_version(FunctionName=name)["Version"]
    functions.client.update_function_configuration(FunctionName=name, LoggingConfig={"LogGroup": "/new"})
    assert functions.invoke(name, 1).payload == "/new"
    assert functions.invoke(name, 2, Qualifier=version).payload == "/old"
