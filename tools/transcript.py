"""Plays the README's deployment against an embedded cloud, as a person at a terminal would, and keeps what is seen.

``python -m tools.transcript docs/deploy-transcript.md`` writes it anew; the end-to-end tests use the same terminal.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TREE = (
    *("template.yaml", "samconfig.toml", "Makefile", "pyproject.toml"),
    *("functions", "layers", "pipelines", "statemachine", "requirements", "tools"),
)
BUILD = "make setup build"
DEPLOY = ".venv/bin/sam deploy --guided"
DOCTOR = ".venv/bin/baton doctor --stack-name baton"
DRAIN = ".venv/bin/baton drain"
DELETE = ".venv/bin/sam delete"
"""The README's commands, in its order."""
SURE = {"Are you sure": "y"}
"""What a person answers to `sam delete`."""
SMALL = {"max_tuning_jobs": 2, "mini_batch_size_min": 100, "mini_batch_size_max": 120}
"""Parameters of a run on a small data set."""

_UPLOAD = """python -c "
import boto3
boto3.client('s3').upload_file('{file}', '{bucket}', 'uploads/mnist_kmeans/{file}')
\""""
_WATCH = """python -c "
import boto3, json, time
states = boto3.client('stepfunctions')
while not (runs := states.list_executions(stateMachineArn='{machine}')['executions']):
    time.sleep(1)
while (run := states.describe_execution(executionArn=runs[0]['executionArn']))['status'] == 'RUNNING':
    time.sleep(1)
print(run['name'], run['status'])
print(json.dumps(json.loads(run['output']), indent=2))
\""""
_HEAD = """# A deployment, as it is seen

This is what a person sees who follows the README's *Deploy it* against the embedded cloud: the real `sam`, the
repository's own template, the real data set. `baton local up` runs in another terminal, and its two export lines are
pasted into this one. `python -m tools.transcript docs/deploy-transcript.md` plays it again and writes this page.

"""
_PROMPT = re.compile(r"\[[^\]\n]*\]: ?$")
_QUIET_SECONDS = 0.25
_UP_SECONDS = 120.0
_COMMAND_SECONDS = 600.0


class Terminal:
    """A shell in one folder with one environment; ``text`` is everything that was typed and seen in it."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self.folder = folder
        self.environment = dict(environment)
        self.text = ""

    def run(self, command: str, answers: Mapping[str, str] | None = None, expect: int = 0) -> str:
        """Run a command and return what it printed; every prompt is answered by the answer whose key is in it.

        A prompt without an answer gets Enter. Raises RuntimeError for another exit code than expected.
        """
        self.text += f"$ {command}\n"
        process = subprocess.Popen(
            ["bash", "-c", command],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        try:
            seen = _converse(process, answers or {})
        finally:
            process.kill()
            code = process.wait()
        self.text += f"{seen.rstrip()}\n\n"
        if code != expect:
            raise RuntimeError(f"{command} ended with {code} instead of {expect}:\n{seen}")
        return seen


def _converse(process: subprocess.Popen[bytes], answers: Mapping[str, str]) -> str:
    """Read until the process closes its output, and answer its prompts; return what a terminal would show."""
    assert process.stdin
    assert process.stdout
    seen, until = "", time.monotonic() + _COMMAND_SECONDS
    while time.monotonic() < until:
        ready, _, _ = select.select([process.stdout], [], [], _QUIET_SECONDS)
        if ready:
            data = os.read(process.stdout.fileno(), 65536)
            if not data:
                process.wait(_COMMAND_SECONDS)
                return seen
            seen += data.decode(errors="replace")
        elif _PROMPT.search(seen):
            question = seen.rpartition("\n")[2]
            answer = next((text for key, text in answers.items() if key in question), "")
            # What was typed is seen too, on a line of its own end.
            seen += f"{answer}\n"
            process.stdin.write(f"{answer}\n".encode())
            process.stdin.flush()
    raise RuntimeError(f"The command did not end in {_COMMAND_SECONDS:g} s:\n{seen}")


@contextlib.contextmanager
def embedded_cloud(log: Path) -> Iterator[tuple[dict[str, str], str]]:
    """Run ``baton local up``; yield the variables of its two export lines, and where Kubeflow Pipelines answers."""
    command = [sys.executable, "-m", "baton_cli.main", "local", "up", "--log", str(log)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p), "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)
    try:
        seen = _until_up(process)
        exports = [shlex.split(line)[1:] for line in seen.splitlines() if line.startswith("export ")]
        kfp = re.search(r"Kubeflow Pipelines answers at (\S+)\.\n", seen)
        assert len(exports) == 2
        assert kfp
        yield dict(pair.split("=", 1) for line in exports for pair in line), kfp[1]
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def _until_up(process: subprocess.Popen[str]) -> str:
    assert process.stdout
    seen, until = "", time.monotonic() + _UP_SECONDS
    while "Ctrl-C ends it." not in seen and time.monotonic() < until:
        line = process.stdout.readline()
        if not line:
            break
        seen += line
    if "Ctrl-C ends it." not in seen:
        raise RuntimeError(f"The embedded cloud did not come up:\n{seen}")
    return seen


def checkout(folder: Path) -> Path:
    """Copy what a deployment needs of this checkout into a folder, with its virtual environment; return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in TREE:
        source, target = ROOT / name, folder / name
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "node_modules"))
        else:
            shutil.copy2(source, target)
    environment = folder / ".venv"
    environment.mkdir()
    for path in (ROOT / ".venv").iterdir():
        if path.name != "ready":
            (environment / path.name).symlink_to(path)
    # `make setup` has nothing to do where this is newer than the requirements.
    (environment / "ready").touch()
    return folder


def shell_environment(exports: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a person who pasted the export lines, with nothing else of AWS in it."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    nowhere = {"AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull}
    plain = {"NO_COLOR": "1", "SAM_CLI_TELEMETRY": "0", "PYTHONUNBUFFERED": "1", "COLUMNS": "80"}
    path = os.pathsep.join([str(ROOT / ".venv" / "bin"), os.environ.get("PATH", "")])
    imports = os.pathsep.join(p for p in sys.path if p)
    return {**own, **nowhere, **plain, **exports, "PATH": path, "PYTHONPATH": imports}


def guided_answers(kfp_url: str) -> dict[str, str]:
    """Return what a person answers to ``sam deploy --guided`` for the embedded cloud; Enter to everything else."""
    return {
        "Parameter KfpUrl": kfp_url,
        "Parameter EksClusterName": "embedded",
        "Parameter PodPollSeconds": "0.25",
        "Parameter HeartbeatSeconds": "60",
        "Deploy this changeset": "y",
    }


def session(terminal: Terminal, kfp_url: str, dataset: Path) -> str:
    """Build, deploy, look, upload, watch, drain and delete; return everything that is seen."""
    shutil.copy2(dataset, terminal.folder / dataset.name)
    terminal.run(BUILD)
    said = terminal.run(DEPLOY, guided_answers(kfp_url))
    terminal.run(DOCTOR)
    terminal.run(_UPLOAD.format(file=dataset.name, bucket=output(said, "RunBucketName")))
    terminal.run(_WATCH.format(machine=output(said, "StateMachineArn")))
    terminal.run(DRAIN)
    terminal.run(DELETE, SURE)
    return terminal.text


def output(said: str, name: str) -> str:
    """Return a stack output's value from what ``sam deploy`` printed, which folds long values."""
    table = said.rpartition("CloudFormation outputs from deployed stack")[2]
    block = re.search(rf"^Key +{name} *$(.*?)(?=^Key |^---)", table, re.MULTILINE | re.DOTALL)
    value = re.search(r"^Value +(.*)", block[1], re.MULTILINE | re.DOTALL) if block else None
    if value is None:
        raise RuntimeError(f"sam deploy told no output {name}")
    return "".join(value[1].split())


def page(text: str, folder: Path) -> str:
    """Return the transcript as a page, without this machine's own paths."""
    text = re.sub(r"/tmp/tmp\w+", "/tmp/sam-build", text.replace(str(folder), "~/baton"))  # noqa: S108 (only words)
    lines = [line.rstrip() for line in text.splitlines()]
    return f"{_HEAD}```console\n" + "\n".join(lines).rstrip() + "\n```\n"


def main() -> int:
    """Play the session and write the page that the first argument names."""
    target = Path(sys.argv[1])
    from baton_local import datasets

    with tempfile.TemporaryDirectory() as place, embedded_cloud(Path(place) / "cloud.log") as (exports, kfp_url):
        folder = checkout(Path(place) / "baton")
        text = session(Terminal(folder, shell_environment(exports)), kfp_url, datasets.mnist(ROOT / ".cache"))
    target.write_text(page(text, folder))
    return 0


if __name__ == "__main__":
    sys.exit(main())
