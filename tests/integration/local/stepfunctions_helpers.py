"""What the tests of the embedded Step Functions share: one cloud, one function with a few behaviours, and machines."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from baton_local.cloud import EmbeddedCloud
from baton_local.dials import Dials
from tests.integration.local.lambda_helpers import Lambda, eventually

SERVICES = ["iam", "lambda_", "bus", "s3_events", "schedules", "stepfunctions"]

FUNCTION = """
import time, boto3
class Refused(Exception):
    pass
def handler(event, context):
    do = event.get("do", "echo")
    if do == "fail":
        raise Refused(event.get("message", "no"))
    if do == "sleep":
        time.sleep(event["seconds"])
    if do == "large":
        return "x" * event["bytes"]
    if do == "settle":
        client = boto3.client("stepfunctions")
        client.send_task_success(taskToken=event["token"], output='{"settled": true}')
    return event
"""


class Machines:
    """Makes state machines in one region of a cloud and runs them."""

    def __init__(self, cloud: EmbeddedCloud, region: str) -> None:
        self.cloud = cloud
        self.region = region
        self.partition = "aws-cn" if region.startswith("cn-") else "aws"
        self.client = cloud.client("stepfunctions", region)
        self.function = self._function()
        self.role = self.make_role("machine", "*")
        self._count = 0

    def _function(self) -> str:
        functions = Lambda(self.cloud, self.region)
        statements = [{"Effect": "Allow", "Action": "states:*", "Resource": "*"}]
        role = functions.role(f"function-{self.region}", statements)
        name = functions.create(FUNCTION, FunctionName="does", Role=role)
        return str(functions.client.get_function(FunctionName=name)["Configuration"]["FunctionArn"])

    def make_role(self, name: str, *actions: str, service: str = "states") -> str:
        """Make a role that may do some actions on everything."""
        iam = self.cloud.client("iam", self.region)
        trust = {"Effect": "Allow", "Principal": {"Service": f"{service}.amazonaws.com"}, "Action": "sts:AssumeRole"}
        name = f"{name}-{self.region}-{time.monotonic_ns()}"
        role = iam.create_role(RoleName=name, AssumeRolePolicyDocument=document(trust))["Role"]
        if actions:
            allowed = {"Effect": "Allow", "Action": list(actions), "Resource": "*"}
            iam.put_role_policy(RoleName=name, PolicyName="p", PolicyDocument=document(allowed))
        return str(role["Arn"])

    def create(self, states: dict[str, Any], start: str | None = None, **options: Any) -> str:
        """Create a machine of some states, the first of which starts; return its ARN."""
        definition = {"StartAt": start or next(iter(states)), "States": states, **options.pop("top", {})}
        options.setdefault("name", self.unique())
        options.setdefault("roleArn", self.role)
        text = json.dumps(definition)
        return str(self.client.create_state_machine(definition=text, **options)["stateMachineArn"])

    def unique(self) -> str:
        """Return a name that is new."""
        self._count += 1
        return f"m{self._count}"

    def start(self, machine: str, value: Any = None, **options: Any) -> str:
        """Start an execution and return its ARN."""
        text = json.dumps({} if value is None else value)
        answer = self.client.start_execution(stateMachineArn=machine, input=text, **options)
        return str(answer["executionArn"])

    def end(self, execution: str, seconds: float = 20.0) -> dict[str, Any]:
        """Wait for an execution's end and return its description."""

        def look() -> dict[str, Any] | None:
            found: dict[str, Any] = self.client.describe_execution(executionArn=execution)
            return found if found["status"] != "RUNNING" else None

        return eventually(look, seconds)  # type: ignore[no-any-return]

    def run(self, states: dict[str, Any], value: Any = None, **options: Any) -> dict[str, Any]:
        """Run new states to their end and return the execution's description."""
        return self.end(self.start(self.create(states, **options), value))

    def history(self, execution: str) -> list[dict[str, Any]]:
        """Return all events of an execution."""
        pages = self.client.get_paginator("get_execution_history").paginate(executionArn=execution)
        return [event for page in pages for event in page["events"]]

    def types(self, execution: str) -> list[str]:
        """Return the types of all events of an execution."""
        return [event["type"] for event in self.history(execution)]

    def task(self, do: Any = None, **fields: Any) -> dict[str, Any]:
        """Return a Task state that invokes the function with a payload."""
        fields.setdefault("End", True)
        parameters = {"FunctionName": self.function, "Payload": do if do is not None else {"do": "echo"}}
        resource = f"arn:{self.partition}:states:::lambda:invoke"
        return {"Type": "Task", "Resource": resource, "Parameters": parameters, **fields}

    def wait_for_token(self, do: Any = None, **fields: Any) -> dict[str, Any]:
        """Return a Task state that waits for its token, which the function gets."""
        state = self.task({**(do or {}), "token.$": "$$.Task.Token"}, **fields)
        return {**state, "Resource": state["Resource"] + ".waitForTaskToken"}

    def tokens(self, execution: str, count: int = 1, seconds: float = 20.0) -> list[str]:
        """Wait until an execution submitted some tokens, and return them in order."""

        def look() -> list[str] | None:
            events = self.history(execution)
            if sum(e["type"] == "TaskSubmitted" for e in events) < count:
                return None
            parameters = [e["taskScheduledEventDetails"]["parameters"] for e in events if e["type"] == "TaskScheduled"]
            return [json.loads(text)["Payload"]["token"] for text in parameters][:count]

        return eventually(look, seconds)  # type: ignore[no-any-return]


def document(*statements: Any) -> str:
    """Return a policy document of some statements."""
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


@contextmanager
def machines(region: str = "eu-west-1", dials: Dials | None = None, speed: float = 1.0) -> Iterator[Machines]:
    """Run a cloud with what executions need."""
    with EmbeddedCloud(services=SERVICES, dials=dials, speed=speed) as cloud:
        yield Machines(cloud, region)
