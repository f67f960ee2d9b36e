"""The README's own commands with the real SAM CLI: build, deploy, update under a run, drain, delete."""

from __future__ import annotations

import functools
import json
import re
import shlex
import sys
import time
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from baton_local import datasets
from tests.support.aws_command import AwsCommand
from tools.transcript import (
    BUILD,
    DELETE,
    DEPLOY,
    DOCTOR,
    DRAIN,
    ROOT,
    SMALL,
    SURE,
    Terminal,
    checkout,
    embedded_cloud,
    guided_answers,
    output,
    page,
    shell_environment,
)

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("sam"), pytest.mark.timeout(900)]

REGION = "eu-west-1"
HOLD_SECONDS = 120
"""Longer than an update takes, so that the deployment happens in the middle of the run."""

OLD, NEW = "The report of the first version", "The report of the second version"


class Desk:
    """A person's terminal with a checkout, and boto3 with nothing but the two export lines."""

    def __init__(self, terminal: Terminal, exports: dict[str, str], kfp_url: str, dataset: Path) -> None:
        self.terminal = terminal
        self.kfp_url = kfp_url
        self.exports = exports
        self.dataset = dataset
        self.first_deployment = ""
        self.client = functools.cache(self._client)

    def _client(self, service: str, region: str = REGION) -> Any:
        session = boto3.Session(self.exports["AWS_ACCESS_KEY_ID"], self.exports["AWS_SECRET_ACCESS_KEY"])
        return session.client(service, region_name=region, endpoint_url=self.exports["AWS_ENDPOINT_URL"])

    def deploy(self) -> None:
        said = self.terminal.run("make deploy", {"Deploy this changeset": "y"})
        assert "Successfully created/updated stack - baton in eu-west-1" in said

    def output(self, name: str) -> str:
        return output(self.first_deployment, name)

    def start(self, **given: Any) -> str:
        """Upload a data set and a run.json beside it; return the execution that starts."""
        s3, bucket = self.client("s3"), self.output("RunBucketName")
        s3.upload_file(str(self.dataset), bucket, f"datasets/{self.dataset.name}")
        before = self.executions()
        content = {"dataset": f"s3://{bucket}/datasets/{self.dataset.name}", "parameters": SMALL, **given}
        s3.put_object(Bucket=bucket, Key="uploads/mnist_kmeans/run.json", Body=json.dumps(content).encode())
        eventually(lambda: self.executions() - before)
        [started] = self.executions() - before
        return started

    def executions(self) -> set[str]:
        found = self.client("stepfunctions").list_executions(stateMachineArn=self.output("StateMachineArn"))
        return {run["executionArn"] for run in found["executions"]}

    def status(self, execution: str) -> str:
        return str(self.client("stepfunctions").describe_execution(executionArn=execution)["status"])

    def states(self, execution: str) -> list[str]:
        pages = self.client("stepfunctions").get_paginator("get_execution_history").paginate(executionArn=execution)
        events = [event for each in pages for event in each["events"]]
        return [event["stateEnteredEventDetails"]["name"] for event in events if "stateEnteredEventDetails" in event]

    def ended(self, execution: str) -> dict[str, Any]:
        eventually(lambda: self.status(execution) != "RUNNING")
        found: dict[str, Any] = self.client("stepfunctions").describe_execution(executionArn=execution)
        assert found["status"] == "SUCCEEDED", found.get("cause")
        result: dict[str, Any] = json.loads(found["output"])
        return result

    def said(self, run_id: str) -> set[str]:
        """Return which of the two texts the functions of a run logged."""
        pages = self.client("logs").get_paginator("filter_log_events").paginate(logGroupName="/aws/lambda/baton")
        lines = [event["message"] for each in pages for event in each["events"] if run_id in event["message"]]
        return {text for text in (OLD, NEW) if any(text in line for line in lines)}


def eventually(true: Callable[[], Any], seconds: float = 240.0) -> None:
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until
        time.sleep(0.3)


def say(folder: Path, text: str, instead_of: str = "") -> None:
    """Let write_report log a text with its run's id as the first thing that it does."""
    app = folder / "functions" / "write_report" / "app.py"
    code = app.read_text("utf-8")
    if instead_of:
        assert code.count(instead_of) == 1
        app.write_text(code.replace(instead_of, text), "utf-8")
        return
    head = re.search(r"^def handler\(event.*?\n    \"\"\".*?\"\"\"\n", code, re.MULTILINE | re.DOTALL)
    assert head
    line = f'    print("{text}", event["state"]["plan"]["run_id"])\n'
    app.write_text(code[: head.end()] + line + code[head.end() :], "utf-8")


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """A cloud by ``baton local up``, and the README's commands up to ``sam deploy --guided``."""
    place = tmp_path_factory.mktemp("sam")
    with embedded_cloud(place / "cloud.log") as (exports, kfp_url):
        folder = checkout(place / "baton")
        say(folder, OLD)
        dataset = datasets.small(place / "digits.pkl.gz", 1200)
        found = Desk(Terminal(folder, shell_environment(exports)), exports, kfp_url, dataset)
        found.terminal.run(BUILD)
        found.first_deployment = found.terminal.run(DEPLOY, guided_answers(kfp_url))
        yield found


def test_a_guided_deployment_makes_a_change_set_and_carries_it_out(desk: Desk) -> None:
    said = desk.first_deployment
    assert "Changeset created successfully" in said
    assert "Successfully created/updated stack - baton in eu-west-1" in said
    [stack] = desk.client("cloudformation").describe_stacks(StackName="baton")["Stacks"]
    assert stack["StackStatus"] == "CREATE_COMPLETE"
    given = {p["ParameterKey"]: p["ParameterValue"] for p in stack["Parameters"]}
    assert (given["KfpUrl"], given["EksClusterName"], given["PodPollSeconds"]) == (desk.kfp_url, "embedded", "0.25")
    assert {"Key": "application", "Value": "baton"} in stack["Tags"]


def test_guided_keeps_what_it_was_told_for_the_next_deployment(desk: Desk) -> None:
    kept = (desk.terminal.folder / "samconfig.toml").read_text("utf-8")
    assert f'KfpUrl=\\"{desk.kfp_url}\\"' in kept
    assert "[cn.deploy.parameters]" in kept


def test_a_deployed_stack_is_well(desk: Desk) -> None:
    assert ", 0 wrong, 0 that could not be seen" in desk.terminal.run(DOCTOR)


def guided(desk: Desk, config: str, region: str, stack: str, offered: list[str]) -> dict[str, str]:
    """Make a first deployment by the command that doctor offers; return the parameters of the stack."""
    own = {"Parameter OidcProvider": "oidc.example.org/id/1"}
    missing = desk.terminal.run(f".venv/bin/baton doctor --stack-name {stack} --region {region}", expect=1)
    [command] = re.findall(rf"There is no stack {stack} in {region}\.  mend: (.*)$", missing, re.MULTILINE)
    assert f" --guided --config-env {config} " in command
    said = desk.terminal.run(command, {**guided_answers(desk.kfp_url), **own})
    assert all(prompt in said for prompt in offered)
    assert f"SAM configuration environment [{config}]" in said
    assert f"Successfully created/updated stack - {stack} in {region}" in said
    [made] = desk.client("cloudformation", region).describe_stacks(StackName=stack)["Stacks"]
    assert made["StackStatus"] == "CREATE_COMPLETE"
    assert {"Key": "application", "Value": "baton"} in made["Tags"]
    return {p["ParameterKey"]: p["ParameterValue"] for p in made["Parameters"]}


def test_another_configuration_is_deployed_by_guided_which_keeps_what_it_was_told(desk: Desk) -> None:
    """What the configuration says is offered, and what is answered is what the file gives from then on."""
    region = "eu-central-1"
    offered = ["Stack Name [baton-prod]", f"AWS Region [{region}]", "Parameter LogRetentionDays [365]"]
    given = guided(desk, "prod", region, "baton-prod", offered)
    own = {"LogRetentionDays": "365", "RunPrefix": "bp-", "PipelineServiceAccount": "baton-prod-pipeline"}
    told = {"KfpUrl": desk.kfp_url, **own}
    assert told.items() <= given.items()
    kept = tomllib.loads((desk.terminal.folder / "samconfig.toml").read_text("utf-8"))["prod"]
    parameters = {step: kept[step]["parameters"] for step in ("global", "deploy")}
    assert (parameters["global"]["stack_name"], parameters["deploy"]["region"]) == ("baton-prod", region)
    pairs = (pair.split("=", 1) for pair in shlex.split(parameters["deploy"]["parameter_overrides"]))
    assert told.items() <= dict(pairs).items()


def test_the_configuration_of_the_china_regions_is_deployed_by_guided(desk: Desk) -> None:
    region = "cn-northwest-1"
    offered = ["Stack Name [baton]", f"AWS Region [{region}]", "Parameter PodCredentials [irsa]"]
    given = guided(desk, "cn", region, "baton", offered)
    own = {"PodCredentials": "irsa", "OidcProvider": "oidc.example.org/id/1"}
    assert {"KfpUrl": desk.kfp_url, **own}.items() <= given.items()


def test_another_runtime_than_the_built_one_is_not_deployed(desk: Desk) -> None:
    built = f"python3.{sys.version_info.minor}"
    other = "python3.12" if built != "python3.12" else "python3.13"
    samconfig = desk.terminal.folder / "samconfig.toml"
    kept = samconfig.read_text("utf-8")
    assert f'Runtime=\\"{built}\\"' in kept
    samconfig.write_text(kept.replace(f'Runtime=\\"{built}\\"', f'Runtime=\\"{other}\\"'), "utf-8")
    try:
        said = desk.terminal.run("make deploy", expect=2)
        assert f"This build is for {built}, but [default.deploy.parameters] in samconfig.toml says" in said
    finally:
        samconfig.write_text(kept, "utf-8")
    cloudformation = desk.client("cloudformation")
    [stack] = cloudformation.describe_stacks(StackName="baton")["Stacks"]
    parameters = [{"ParameterKey": p["ParameterKey"], "UsePreviousValue": True} for p in stack["Parameters"]]
    runtime = {"ParameterKey": "Runtime", "ParameterValue": other}
    with pytest.raises(cloudformation.exceptions.ClientError, match=f"this build is for {built}"):
        cloudformation.create_change_set(
            StackName="baton",
            ChangeSetName="another-runtime",
            UsePreviousTemplate=True,
            Parameters=[runtime if p["ParameterKey"] == "Runtime" else p for p in parameters],
            Capabilities=["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"],
        )


def test_a_deployment_in_the_middle_of_a_run_changes_nothing_under_it_and_reaches_the_next_one(desk: Desk) -> None:
    held = desk.start(after={"endpoint": "hold", "hold_seconds": HOLD_SECONDS})
    say(desk.terminal.folder, NEW, instead_of=OLD)
    desk.terminal.run("make build")
    eventually(lambda: "Hold endpoint" in desk.states(held))
    desk.deploy()
    assert desk.status(held) == "RUNNING"
    assert desk.states(held)[-1] == "Hold endpoint"
    next_one = desk.start()
    result, next_result = desk.ended(held), desk.ended(next_one)
    assert result["receipt"]["complete"]
    assert (desk.said(result["run_id"]), desk.said(next_result["run_id"])) == ({OLD}, {NEW})


def test_drain_stops_the_run_under_way_and_tells_of_the_endpoint_that_is_kept(desk: Desk) -> None:
    kept = desk.ended(desk.start(after={"endpoint": "keep"}))
    assert kept["endpoint"]
    held = desk.start(after={"endpoint": "hold", "hold_seconds": 3600})
    eventually(lambda: "Hold endpoint" in desk.states(held))
    said = desk.terminal.run(f"{DRAIN} --stop", expect=1)
    assert desk.status(held) == "ABORTED"
    commands = [AwsCommand(line.strip()) for line in said.splitlines() if line.startswith("    aws sagemaker ")]
    assert [command.operation for command in commands] == ["delete_endpoint", "delete_endpoint_config", "delete_model"]
    assert all(kept["run_id"] in name for command in commands for name in command.parameters.values())
    for command in commands:
        command.run(desk.client)
    assert "are left" not in desk.terminal.run(DRAIN)


def test_a_drained_stack_takes_no_upload(desk: Desk) -> None:
    before = desk.executions()
    bucket = desk.output("RunBucketName")
    desk.client("s3").upload_file(str(desk.dataset), bucket, "uploads/mnist_kmeans/late.pkl.gz")
    time.sleep(5)
    assert desk.executions() == before


def test_sam_delete_keeps_the_bucket_and_the_table_and_nothing_else(desk: Desk) -> None:
    bucket, table = desk.output("RunBucketName"), desk.output("TableName")
    assert "Deleted successfully" in desk.terminal.run(DELETE, SURE)
    cloudformation = desk.client("cloudformation")
    with pytest.raises(cloudformation.exceptions.ClientError, match="does not exist"):
        cloudformation.describe_stacks(StackName="baton")
    assert bucket in [each["Name"] for each in desk.client("s3").list_buckets()["Buckets"]]
    assert desk.client("dynamodb").list_tables()["TableNames"] == [table]
    assert desk.client("lambda").list_functions()["Functions"] == []
    assert desk.client("stepfunctions").list_state_machines()["stateMachines"] == []
    assert desk.client("logs").describe_log_groups(logGroupNamePrefix="/aws/lambda/baton")["logGroups"] == []
    for operation, field in (("list_endpoints", "Endpoints"), ("list_models", "Models")):
        assert getattr(desk.client("sagemaker"), operation)()[field] == []


def test_the_transcript_in_the_documentation_is_such_a_session(desk: Desk) -> None:
    """It was made by the same commands, and shows no path of the machine that made it."""
    written = (ROOT / "docs" / "deploy-transcript.md").read_text("utf-8")
    typed = re.findall(r"^\$ (.*)$", written, re.MULTILINE)
    assert [line for line in typed if not line.startswith("python")] == [BUILD, DEPLOY, DOCTOR, DRAIN, DELETE]
    for sign in (" SUCCEEDED\n", '"complete": true', "Successfully created/updated stack", "Deleted successfully"):
        assert sign in written
    assert str(ROOT) not in written
    assert str(Path.home()) not in written
    assert page(f"$ ls {desk.terminal.folder}/x", desk.terminal.folder).endswith("$ ls ~/baton/x\n```\n")
