"""A run to test steps with: DynamoDB, EventBridge and SQS by moto, SageMaker and CloudWatch Logs by small fakes."""

import os
from collections import defaultdict

import boto3
from botocore.exceptions import ClientError

from baton_steps.run import Run

REGION = "cn-northwest-1"
TABLE = "baton-table"
RUN_ID = "bt-0sq1x2k4f0a9c"
EXECUTION = "arn:aws-cn:states:cn-northwest-1:123456789012:execution:training-run:one"


def set_environment(monkeypatch):
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in {"ACCESS_KEY_ID": "a", "SECRET_ACCESS_KEY": "s", "DEFAULT_REGION": REGION}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    boto3.setup_default_session()


def make_table():
    boto3.client("dynamodb", region_name=REGION).create_table(
        TableName=TABLE,
        KeySchema=[{"AttributeName": "kind", "KeyType": "HASH"}, {"AttributeName": "name", "KeyType": "RANGE"}],
        AttributeDefinitions=[{"AttributeName": n, "AttributeType": "S"} for n in ("kind", "name")],
        BillingMode="PAY_PER_REQUEST",
    )


def table():
    return boto3.resource("dynamodb", region_name=REGION).Table(TABLE)


def put_row(**values):
    row = {"kind": "run", "name": RUN_ID, "execution_arn": EXECUTION, "pipeline": "mnist_kmeans", **values}
    table().put_item(Item={k: v for k, v in row.items() if v is not None})


def row():
    return table().get_item(Key={"kind": "run", "name": RUN_ID}).get("Item")


def make_run(clients=None, **changes):
    values = {
        "run_id": RUN_ID,
        "execution_arn": EXECUTION,
        "pipeline": "mnist_kmeans",
        "expires_at": "2026-08-14T12:00:00Z",
        "region": REGION,
        "table": TABLE,
        "role_arn": "arn:aws-cn:iam::123456789012:role/sagemaker",
        "training_image": "387376663083.dkr.ecr.cn-northwest-1.amazonaws.com.cn/kmeans:1",
        "poll_seconds": 0.01,
        **changes,
    }
    return FakedRun.over(clients or {}, values)


class FakedRun(Run):
    """A run whose clients of some services are fakes."""

    @classmethod
    def over(cls, clients, values):
        run = cls(**values)
        object.__setattr__(run, "fakes", clients)
        return run

    def client(self, service):
        return self.fakes[service] if service in self.fakes else super().client(service)


def client_error(code, message="", operation="Any"):
    return ClientError({"Error": {"Code": code, "Message": message}}, operation)


KINDS = {
    "training_job": "TrainingJob",
    "hyper_parameter_tuning_job": "HyperParameterTuningJob",
    "transform_job": "TransformJob",
    "model": "Model",
    "endpoint_config": "EndpointConfig",
    "endpoint": "Endpoint",
}


class FakeSageMaker:
    """Things by kind and name; each Describe takes the next of the states that a thing still has before it."""

    def __init__(self):
        self.things = {}
        self.states = defaultdict(list)
        self.extra = defaultdict(dict)
        self.calls = []

    def __getattr__(self, name):
        verb, _, api = name.partition("_")
        if api not in KINDS or verb not in ("create", "describe", "stop"):
            raise AttributeError(name)
        return lambda **request: getattr(self, f"_{verb}")(api, KINDS[api], request)

    def put(self, api, name, tags=None, **fields):
        parameter = KINDS[api]
        arn = f"arn:aws-cn:sagemaker:{REGION}:123456789012:{api.replace('_', '-')}/{name}"
        named = {f"{parameter}Name": name, f"{parameter}Arn": arn}
        self.things[api, name] = {**named, "Tags": tags or [], **fields}

    def _create(self, api, parameter, request):
        name = request[f"{parameter}Name"]
        self.calls.append(("create", api, name))
        if (api, name) in self.things:
            raise client_error("ResourceInUse" if "job" in api else "ValidationException", f"{name} already exists")
        self.put(api, name, request["Tags"], **{k: v for k, v in request.items() if k not in ("Tags",)})
        return {}

    def _describe(self, api, parameter, request):
        name = request[f"{parameter}Name"]
        if (api, name) not in self.things:
            raise client_error("ValidationException", f"Could not find {name}")
        states = self.states[api]
        if states:
            self.things[api, name][f"{parameter}Status"] = states.pop(0) if len(states) > 1 else states[0]
        return {**self.things[api, name], **self.extra[api, name], **self.extra[api]}

    def _stop(self, api, parameter, request):
        self.calls.append(("stop", api, request[f"{parameter}Name"]))
        return {}

    def get_paginator(self, operation):
        assert operation == "list_tags"
        return self

    def paginate(self, ResourceArn):
        tags = next(t["Tags"] for t in self.things.values() if ResourceArn in t.values())
        # One tag a page, as the API is free to do.
        return [{"Tags": [tag]} for tag in tags] or [{"Tags": []}]

    def created(self, api):
        return [name for verb, kind, name in self.calls if (verb, kind) == ("create", api)]


class FakeLogs:
    """The same log streams for every name (one, unless changed), or none."""

    def __init__(self, lines=()):
        self.lines = list(lines)
        self.streams = ["algo-1-1"]
        self.asked = []

    def describe_log_streams(self, logGroupName, limit, logStreamNamePrefix=None):
        # As the API, which takes no empty prefix.
        assert logStreamNamePrefix is None or logStreamNamePrefix
        self.asked.append((logGroupName, logStreamNamePrefix))
        if not self.lines:
            raise client_error("ResourceNotFoundException", "no such group")
        names = [f"{logStreamNamePrefix or ''}{ending}" for ending in self.streams]
        return {"logStreams": [{"logStreamName": name} for name in names[:limit]]}

    def get_log_events(self, logGroupName, logStreamName, limit, startFromHead):
        assert startFromHead is False
        return {"events": [{"message": line} for line in self.lines[-limit:]]}
