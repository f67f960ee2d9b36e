"""Sandboxes that are forked from a zygote are like those that start as a new interpreter."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from baton_local.cloud import EmbeddedCloud
from baton_local.forking import CAN_FORK
from baton_local.lambda_.nursery import Birth, Nursery
from tests.integration.local.lambda_helpers import Answer, Lambda

forks = pytest.mark.skipif(not CAN_FORK, reason="processes are forked on Linux only")

SEES = """\
import os, random, sys, tempfile, time
import boto3
temporary = tempfile.gettempdir()
started_with = dict(os.environ)
calls = []
def handler(event, context):
    calls.append(event)
    time.sleep(0.8)
    return {
        'pid': os.getpid(), 'environment': started_with, 'calls': len(calls), 'argv': sys.argv[1:], 'cwd': os.getcwd(),
        'arn': boto3.client('sts').get_caller_identity()['Arn'], 'chance': random.random(), 'zone': time.tzname,
        'temporary': temporary,
    }
"""
OWN = {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_LAMBDA_RUNTIME_API"} | {
    "AWS_LAMBDA_LOG_STREAM_NAME",
    "HOME",
    "TMPDIR",
}
COUNT = 4


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
    assert [one["temporary"] for one in seen] == [one["environment"]["TMPDIR"] for one in seen]
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


@forks
def test_the_sandboxes_of_a_function_are_forked_from_one_zygote(functions: Lambda) -> None:
    source = "import os, time\ndef handler(event, context):\n    time.sleep(0.5)\n    return os.getppid()\n"
    parents = [answer.payload for answer in at_once(functions, functions.create(source))]
    assert len(set(parents)) == 1


def test_a_module_that_ends_the_process_that_imports_it_is_told_as_an_exit(functions: Lambda) -> None:
    name = functions.create("import os\nos._exit(7)\n")
    assert functions.invoke(name).payload["errorType"] == "Runtime.ExitError"


LOOKS = """\
import json, locale, os, sys, tempfile, time
import app
json.dump({
    'argv': sys.argv, 'path': sys.path, 'environment': dict(os.environ), 'cwd': os.getcwd(), 'zone': time.tzname,
    'encoding': locale.getpreferredencoding(), 'flags': str(sys.flags), 'main': sys.modules['__main__'].__file__,
    'stdin': sys.stdin.read(), 'umask': os.umask(0o22), 'group': os.getpgid(0) == os.getpid(), 'app': app.SEEN,
    'temporary': tempfile.gettempdir(),
}, sys.stdout)
sys.exit(3)
"""
APP = """\
import os, sys, tempfile
import colour, queue
tempfile.gettempdir()
SEEN = [os.environ['MINE'], colour.NAME, queue.__file__, 'boto3' in sys.modules and sys.modules['boto3'].__file__]
"""


def looks(place: Path, fork: bool, own_modules: Mapping[str, str]) -> dict[str, Any]:
    """Return what a process sees that stands where a runtime client would; the function and a layer have modules."""
    task, layer, runtime = place / "task", place / "layer", place / "runtime"
    for folder, files in (
        (task, {"app.py": APP, **own_modules}),
        (layer, {"colour.py": "NAME = 'of the layer'\n"}),
        (runtime, {"boto3.py": "", "colour.py": "NAME = 'of the runtime'\n"}),
    ):
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (folder / name).write_text(text)
    client, log = place / "client.py", place / f"log-{fork}"
    client.write_text(LOOKS)
    path = os.pathsep.join(map(str, (task, layer, runtime)))
    environment = {"PYTHONPATH": path, "MINE": "mine", "TZ": "Asia/Kolkata", "PYTHONUTF8": "1", "LANG": "en_US.UTF-8"}
    environment["TMPDIR"] = str(place)
    nursery = Nursery(fork=fork)
    try:
        process = nursery.start("function", Birth(str(client), "app.handler", environment, task, log), ("TMPDIR",))
        assert process.wait() == 3, log.read_text()
    finally:
        nursery.close()
    seen: dict[str, Any] = json.loads(log.read_text())
    return seen


@forks
@pytest.mark.parametrize(
    ("own_modules", "colour"),
    [({}, "of the layer"), ({"colour.py": "NAME = 'its own'\n"}, "its own")],
)
def test_a_forked_process_sees_what_a_new_interpreter_sees(
    tmp_path: Path, own_modules: dict[str, str], colour: str
) -> None:
    forked, interpreted = (looks(tmp_path, fork, own_modules) for fork in (True, False))
    assert forked["app"][1] == colour
    # What the runtime brings along is there already, and no function can tell but by looking for it.
    assert (forked["app"].pop(), interpreted["app"].pop()) == (str(tmp_path / "runtime" / "boto3.py"), False)
    assert forked == interpreted


@forks
def test_a_function_with_a_module_of_its_own_by_the_name_of_an_imported_one_gets_its_own(tmp_path: Path) -> None:
    own = {"queue.py": "", "boto3.py": ""}
    forked, interpreted = (looks(tmp_path, fork, own) for fork in (True, False))
    assert forked["app"].pop() == str(tmp_path / "task" / "boto3.py")
    assert interpreted["app"].pop() is False
    assert forked == interpreted
    assert forked["app"][2] == str(tmp_path / "task" / "queue.py")


def birth_of(place: Path, client: str, app: str) -> Birth:
    (place / "client.py").write_text(client)
    (place / "app.py").write_text(app)
    return Birth(str(place / "client.py"), "app.handler", {"PYTHONPATH": str(place)}, place, place / "log")


@forks
def test_what_never_begins_has_an_empty_log(tmp_path: Path) -> None:
    nursery = Nursery()
    try:
        process = nursery.start("function", birth_of(tmp_path, "", "import os\nos._exit(7)\n"), ())
        assert process.wait() == 1
        assert (tmp_path / "log").read_text() == ""
    finally:
        nursery.close()


@forks
def test_a_zygote_that_is_killed_leaves_no_sandboxes(tmp_path: Path) -> None:
    nursery = Nursery()
    try:
        tells = "import os, time\nprint(os.getppid(), flush=True)\ntime.sleep(30)\n"
        process = nursery.start("function", birth_of(tmp_path, tells, ""), ())
        assert until(lambda: (tmp_path / "log").read_text().endswith("\n"))
        os.kill(int((tmp_path / "log").read_text()), signal.SIGKILL)
        assert process.wait() == 1
        assert until(lambda: not is_running(process.pid))
    finally:
        nursery.close()


def is_running(pid: int) -> bool:
    """Whether a process goes on; one that nobody has asked for its exit code yet does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def until(holds: Callable[[], bool], seconds: float = 10.0) -> bool:
    end = time.monotonic() + seconds
    while not holds() and time.monotonic() < end:
        time.sleep(0.02)
    return holds()
