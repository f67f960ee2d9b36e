"""Sandboxes that are forked from a zygote are like those that start as a new interpreter."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from baton_local.cloud import EmbeddedCloud
from baton_local.lambda_.nursery import CAN_FORK, INTERPRETERS
from tests.integration.local.lambda_helpers import Answer, Lambda

SEES = """\
import os, random, sys, time
import boto3
started_with = dict(os.environ)
calls = []
def handler(event, context):
    calls.append(event)
    time.sleep(0.8)
    return {
        'pid': os.getpid(), 'environment': started_with, 'calls': len(calls), 'argv': sys.argv[1:], 'cwd': os.getcwd(),
        'arn': boto3.client('sts').get_caller_identity()['Arn'], 'chance': random.random(), 'zone': time.tzname,
    }
"""
OWN = {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_LAMBDA_RUNTIME_API"} | {
    "AWS_LAMBDA_LOG_STREAM_NAME",
    "HOME",
    "TMPDIR",
}
COUNT = INTERPRETERS + 3


@pytest.fixture(scope="module")
def functions() -> Iterator[Lambda]:
    with EmbeddedCloud(services=["lambda_"]) as cloud:
        yield Lambda(cloud)


def at_once(functions: Lambda, name: str, count: int = COUNT) -> list[Answer]:
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(lambda number: functions.invoke(name, number), range(count)))


def test_every_sandbox_sees_the_same_but_for_what_is_its_own(functions: Lambda) -> None:
    name = functions.create(SEES, Environment={"Variables": {"MINE": "yes"}})
    seen: list[dict[str, Any]] = [answer.payload for answer in at_once(functions, name)]
    assert len({one["pid"] for one in seen}) == COUNT
    assert len({one["chance"] for one in seen}) == COUNT
    assert {one["calls"] for one in seen} == {1}
    shared = [{k: v for k, v in one["environment"].items() if k not in OWN} for one in seen]
    for environment in shared:
        assert environment == shared[0]
    assert shared[0]["MINE"] == "yes"
    for variable in OWN:
        assert len({one["environment"][variable] for one in seen}) == COUNT, variable
    for same in ("arn", "cwd", "argv", "zone"):
        assert all(one[same] == seen[0][same] for one in seen), same


def test_what_a_forked_sandbox_prints_is_its_own_log(functions: Lambda) -> None:
    source = "import time\ndef handler(event, context):\n    time.sleep(0.5)\n    print(f'number {event} was here')\n"
    answers = at_once(functions, functions.create(source))
    for number, answer in enumerate(answers):
        assert answer.error is None
        assert [n for n in range(COUNT) if f"number {n} was here" in answer.log] == [number]


def test_a_module_that_fails_fails_in_every_sandbox(functions: Lambda) -> None:
    name = functions.create("import nowhere\ndef handler(event, context): pass\n")
    for _ in range(COUNT):
        assert functions.invoke(name).payload["errorType"] == "Runtime.ImportModuleError"


def test_an_exit_and_a_signal_end_a_forked_sandbox_as_they_end_any(functions: Lambda) -> None:
    source = (
        "import os, signal, time\ndef handler(event, context):\n    time.sleep(0.3)\n"
        "    os._exit(7) if event % 2 else os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    for number, answer in enumerate(at_once(functions, functions.create(source))):
        assert answer.payload["errorType"] == "Runtime.ExitError"
        assert ("exit status 7" if number % 2 else "signal: killed") in answer.payload["errorMessage"]


def test_a_zygote_is_used_where_there_can_be_one(functions: Lambda) -> None:
    source = "import os, time\ndef handler(event, context):\n    time.sleep(0.5)\n    return os.getppid()\n"
    parents = [answer.payload for answer in at_once(functions, functions.create(source))]
    assert len(set(parents)) == (2 if CAN_FORK else 1)
