"""From the repository to a stack on the embedded cloud: the real ``sam build``, then a change set.

``sam deploy`` does the same against the same endpoint, but needs about ten seconds more for its start and for zipping;
so what is packaged here is kept beside the build, by its content.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from baton.names import split_s3_uri
from baton_local.cloudformation.templates import load
from baton_local.locks import alone

_SOURCES = ("template.yaml", "functions", "layers", "pipelines")
_IGNORED = {"__pycache__", ".pytest_cache", ".mypy_cache", ".ruff_cache"}
_KEPT_BUILDS = 3
_BUILD_SECONDS = 900
_POLL_SECONDS = 0.1
_STACK_SECONDS = 300
_ARTEFACT_PROPERTIES = {
    "AWS::Serverless::Function": "CodeUri",
    "AWS::Serverless::LayerVersion": "ContentUri",
    "AWS::Serverless::StateMachine": "DefinitionUri",
}
CAPABILITIES = ("CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND")


class DeployError(RuntimeError):
    """Building or deploying failed; the message says what failed and why."""


class Cloud(Protocol):
    """What a deployment needs of an embedded cloud."""

    account_id: str

    def client(self, service: str, region: str) -> Any:
        """Return a boto3 client of the administrator."""


@dataclass(frozen=True)
class Build:
    """A finished build: the template as ``sam build`` leaves it, with the artefacts beside it."""

    template: Path
    runtime: str

    @property
    def folder(self) -> Path:
        """Where the artefacts are, one folder a resource."""
        return self.template.parent


def runtime_at_hand() -> str:
    """Return the Lambda runtime of the interpreter that runs this, such as ``python3.13``."""
    return f"python{sys.version_info.major}.{sys.version_info.minor}"


# --- build
def _files(folder: Path) -> Iterator[Path]:
    if folder.is_file():
        yield folder
        return
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not _IGNORED & set(path.parts) and path.suffix != ".pyc":
            yield path


def fingerprint(source_dir: Path, runtime: str) -> str:
    """Return a hash of everything that a build depends on: 16 hexadecimal digits."""
    digest = hashlib.sha256(f"{runtime}\0{sys.platform}".encode())
    for name in _SOURCES:
        for path in _files(source_dir / name):
            digest.update(f"{path.relative_to(source_dir).as_posix()}\0".encode())
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]


def sam_environment() -> dict[str, str]:
    """Return the environment for the SAM CLI: this interpreter's tools first, no telemetry, no colours."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    # Lambda's own wheels where they run here too; layers/baton/Makefile says what the variable does.
    wheels = "lambda" if (platform.system(), platform.machine()) == ("Linux", "x86_64") else "host"
    own = {"SAM_CLI_TELEMETRY": "0", "NO_COLOR": "1", "SAM_CLI_POLL_DELAY": "0.2", "BATON_WHEELS": wheels}
    return {**os.environ, "PATH": path, **own}


def _sam(*arguments: str, cwd: Path, environment: Mapping[str, str]) -> str:
    command = shutil.which("sam", path=environment["PATH"])
    if command is None:
        raise DeployError("The SAM CLI (sam) is not installed beside this Python: run `make setup`.")
    done = subprocess.run(
        [command, *arguments],
        cwd=cwd,
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=_BUILD_SECONDS,
        check=False,
    )
    if done.returncode != 0:
        tail = "\n".join(done.stdout.strip().splitlines()[-25:])
        raise DeployError(f"sam {arguments[0]} failed (exit code {done.returncode}):\n{tail}")
    return done.stdout


def build(source_dir: Path, build_dir: Path, runtime: str | None = None) -> Build:
    """Run ``sam build`` on a source tree, unless the same tree was built into ``build_dir`` before.

    ``runtime`` defaults to the interpreter at hand. Builds are kept by the fingerprint of their tree.
    """
    runtime = runtime or runtime_at_hand()
    source_dir, build_dir = source_dir.resolve(), build_dir.resolve()
    final = build_dir / fingerprint(source_dir, runtime)
    template = final / "template.yaml"
    # Two builds at once would write into one cache of sam's; who waited finds the other's.
    with alone(build_dir / ".building"):
        if not template.exists():
            _build_anew(source_dir, build_dir, final, runtime)
    return Build(template, runtime)


def _build_anew(source_dir: Path, build_dir: Path, final: Path, runtime: str) -> None:
    # A sibling of the final folder, so that the relative paths which sam writes stay right after the renaming.
    work = Path(tempfile.mkdtemp(prefix=".building-", dir=build_dir))
    try:
        _run_build(source_dir, work, runtime)
        work.rename(final)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    _forget_old(build_dir, final)


def _run_build(source_dir: Path, work: Path, runtime: str) -> None:
    _sam(
        "build",
        "--template-file",
        str(source_dir / "template.yaml"),
        "--build-dir",
        str(work),
        "--parameter-overrides",
        f"ParameterKey=Runtime,ParameterValue={runtime}",
        # Not that of `make build`, which takes Lambda's wheels on every host.
        "--cache-dir",
        str(work.parent / ".cached"),
        cwd=source_dir,
        environment=sam_environment(),
    )


def _forget_old(build_dir: Path, newest: Path) -> None:
    builds = sorted((p for p in build_dir.iterdir() if len(p.name) == 16), key=lambda p: p.stat().st_mtime)
    for old in builds[:-_KEPT_BUILDS]:
        if old != newest:
            shutil.rmtree(old, ignore_errors=True)


# --- package
def _zip(folder: Path, target: Path) -> None:
    """Zip a folder so that the same content gives the same bytes."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for path in _files(folder):
            info = zipfile.ZipInfo(path.relative_to(folder).as_posix(), date_time=(1980, 1, 1, 0, 0, 0))
            info.external_attr = (0o755 if os.access(path, os.X_OK) else 0o644) << 16
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, path.read_bytes())


def _artefact(built: Build, uri: str) -> Path:
    """Return the file that an artefact's URI stands for: a zip of a folder, or the file itself."""
    path = (built.folder / uri).resolve()
    if path.is_file():
        return path
    packages = built.folder / ".packages"
    packages.mkdir(exist_ok=True)
    target = packages / f"{path.name}.zip"
    if not target.exists():
        partial = target.with_suffix(f".{uuid.uuid4().hex}")
        _zip(path, partial)
        partial.replace(target)
    return target


def _key(path: Path) -> str:
    # Like sam: the object's key is the MD5 of its content, so that an unchanged artefact is not uploaded again.
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()


def package(built: Build, upload: Callable[[Path], str]) -> str:
    """Return the template with every local artefact uploaded; ``upload`` gets a file and returns its S3 URI."""
    template = load(built.template.read_text())
    for resource in template["Resources"].values():
        name = _ARTEFACT_PROPERTIES.get(resource["Type"], "")
        uri = resource.get("Properties", {}).get(name)
        if isinstance(uri, str) and not uri.startswith("s3://"):
            resource["Properties"][name] = _reference(name, upload(_artefact(built, uri)))
    return json.dumps(template)


def _reference(name: str, uri: str) -> str | dict[str, str]:
    """Return how ``sam package`` refers to an artefact; ``sam delete`` reads a definition's in no other form."""
    if name != "DefinitionUri":
        return uri
    bucket, key = split_s3_uri(uri)
    return {"Bucket": bucket, "Key": key}


def _bucket(s3: Any, account_id: str, region: str) -> str:
    name = f"baton-artefacts-{account_id}-{region}"
    if name not in [b["Name"] for b in s3.list_buckets()["Buckets"]]:
        place = {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
        s3.create_bucket(Bucket=name, **place)
    return name


def _uploader(cloud: Cloud, region: str) -> Callable[[Path], str]:
    s3 = cloud.client("s3", region)
    bucket = _bucket(s3, cloud.account_id, region)
    present = {entry["Key"] for entry in s3.list_objects_v2(Bucket=bucket).get("Contents", [])}

    def upload(path: Path) -> str:
        key = _key(path)
        if key not in present:
            s3.put_object(Bucket=bucket, Key=key, Body=path.read_bytes())
            present.add(key)
        return f"s3://{bucket}/{key}"

    return upload


# --- deploy
def deploy(cloud: Cloud, stack_name: str, region: str, parameters: Mapping[str, str], built: Build) -> dict[str, str]:
    """Deploy a build by a change set and return the stack's outputs; one that changes nothing is no error.

    Raises DeployError with the reasons that the stack's events give.
    """
    cloudformation = cloud.client("cloudformation", region)
    upload = _uploader(cloud, region)
    body = package(built, upload)
    url = _template_url(cloud, region, body)
    given = {"Runtime": built.runtime, **parameters}
    kind = "UPDATE" if _status(cloudformation, stack_name) else "CREATE"
    change_set = cloudformation.create_change_set(
        StackName=stack_name,
        ChangeSetName=f"baton-{uuid.uuid4().hex[:12]}",
        ChangeSetType=kind,
        TemplateURL=url,
        Capabilities=list(CAPABILITIES),
        Parameters=[{"ParameterKey": k, "ParameterValue": v} for k, v in given.items()],
    )
    if _has_changes(cloudformation, change_set["Id"]):
        cloudformation.execute_change_set(ChangeSetName=change_set["Id"])
        _wait(cloudformation, change_set["StackId"])
    return outputs(cloud, stack_name, region)


def _template_url(cloud: Cloud, region: str, body: str) -> str:
    s3 = cloud.client("s3", region)
    bucket, key = _bucket(s3, cloud.account_id, region), f"{hashlib.sha256(body.encode()).hexdigest()}.template"
    s3.put_object(Bucket=bucket, Key=key, Body=body.encode())
    return f"https://s3.amazonaws.com/{bucket}/{key}"


def _status(cloudformation: Any, stack_name: str) -> str:
    """Return a stack's status, or "" where there is none that could be updated."""
    try:
        status = str(cloudformation.describe_stacks(StackName=stack_name)["Stacks"][0]["StackStatus"])
    except cloudformation.exceptions.ClientError:
        return ""
    return "" if status == "REVIEW_IN_PROGRESS" else status


def _has_changes(cloudformation: Any, change_set_id: str) -> bool:
    described = cloudformation.describe_change_set(ChangeSetName=change_set_id)
    if described["Status"] != "FAILED":
        return True
    reason = str(described.get("StatusReason", ""))
    if "didn't contain changes" in reason:
        return False
    raise DeployError(f"The change set failed: {reason}")


def _wait(cloudformation: Any, stack_id: str) -> None:
    until = time.monotonic() + _STACK_SECONDS
    while time.monotonic() < until:
        status = str(cloudformation.describe_stacks(StackName=stack_id)["Stacks"][0]["StackStatus"])
        if not status.endswith("_IN_PROGRESS"):
            break
        time.sleep(_POLL_SECONDS)
    if status not in ("CREATE_COMPLETE", "UPDATE_COMPLETE", "DELETE_COMPLETE"):
        raise DeployError(f"The stack is {status}. {_reasons(cloudformation, stack_id)}")


def _reasons(cloudformation: Any, stack_id: str) -> str:
    """Return why resources failed, as the events of the last operation say."""
    found = []
    for event in cloudformation.describe_stack_events(StackName=stack_id)["StackEvents"]:
        if event.get("ResourceStatusReason") == "User Initiated":
            break
        if event["ResourceStatus"].endswith("_FAILED"):
            found.append(f"{event['LogicalResourceId']}: {event.get('ResourceStatusReason', '')}")
    return "; ".join(reversed(found))


def outputs(cloud: Cloud, stack_name: str, region: str) -> dict[str, str]:
    """Return a stack's outputs by key."""
    described = cloud.client("cloudformation", region).describe_stacks(StackName=stack_name)["Stacks"][0]
    return {o["OutputKey"]: o["OutputValue"] for o in described.get("Outputs", [])}


def teardown(cloud: Cloud, stack_name: str, region: str) -> list[str]:
    """Delete a stack; return the physical ids of what its template says to keep. Raises DeployError with reasons."""
    cloudformation = cloud.client("cloudformation", region)
    if not _status(cloudformation, stack_name):
        return []
    stack_id = cloudformation.describe_stacks(StackName=stack_name)["Stacks"][0]["StackId"]
    cloudformation.delete_stack(StackName=stack_id)
    _wait(cloudformation, stack_id)
    events = cloudformation.describe_stack_events(StackName=stack_id)["StackEvents"]
    return [e["PhysicalResourceId"] for e in events if e["ResourceStatus"] == "DELETE_SKIPPED"]
