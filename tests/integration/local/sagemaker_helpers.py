"""What the tests of the embedded SageMaker share: a cloud, a bucket of small data, and a queue of all events."""

from __future__ import annotations

import json
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.request import Request, urlopen

import numpy as np
from botocore.model import Shape
from botocore.validate import ParamValidator

from baton_local.cloud import EmbeddedCloud
from baton_local.regions import url_suffix
from baton_local.sagemaker.images import registry
from tests.support.aws_models import session

SERVICES = ("iam", "bus", "sagemaker")
END = ("Completed", "Failed", "Stopped")
COLUMNS = 4


def rows(count: int, seed: int = 0) -> np.ndarray:
    """Return rows around three far corners of the unit cube, float32."""
    source = np.random.default_rng(seed)
    centres = np.array([[0, 0, 0, 0], [1, 1, 0, 0], [0, 0, 1, 1]], np.float32)
    spread = source.normal(0, 0.05, (count, COLUMNS))
    return (centres[source.integers(0, 3, count)] + spread).astype(np.float32)


def csv(matrix: np.ndarray) -> bytes:
    """Return a matrix as comma-separated lines."""
    return "\n".join(",".join(f"{value:g}" for value in row) for row in matrix).encode()


def recordio(matrix: np.ndarray, label: int | None = 3) -> bytes:
    """Write RecordIO-protobuf plainly, record by record; rows of up to 31 float32 values."""
    return b"".join(_record(row.astype("<f4").tobytes(), label) for row in matrix)


def _record(values: bytes, label: int | None) -> bytes:
    payload = _field(1, _field(1, b"values") + _field(2, _field(2, _field(1, values))))
    if label is not None:
        payload += _field(2, _field(1, b"values") + _field(2, _field(7, _field(1, bytes([label])))))
    return struct.pack("<II", 0xCED7230A, len(payload)) + payload + b"\0" * (-len(payload) % 4)


def _field(number: int, content: bytes) -> bytes:
    length = len(content)
    size = bytes([length]) if length < 128 else bytes([length & 127 | 128, length >> 7])
    return bytes([number << 3 | 2]) + size + content


def eventually(look: Callable[[], Any], seconds: float = 60.0) -> Any:
    """Return the first true value that a look gives; fail after some seconds."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        found = look()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError(f"nothing came within {seconds} s")


class Account:
    """One region of a cloud: a bucket with data, an execution role, a queue with every event of SageMaker."""

    def __init__(self, cloud: EmbeddedCloud, region: str) -> None:
        self.cloud, self.region = cloud, region
        self.partition = "aws-cn" if region.startswith("cn-") else "aws"
        self.s3 = cloud.client("s3", region)
        self.sagemaker = cloud.client("sagemaker", region)
        self.runtime = cloud.client("sagemaker-runtime", region)
        self.iam = cloud.client("iam", region)
        self.bucket = f"data-{region}"
        self.s3.create_bucket(Bucket=self.bucket, CreateBucketConfiguration={"LocationConstraint": region})
        self.role = self.make_role("execution", self.reading() + self.writing())
        self.image = f"{registry()['registries'][region]}.dkr.ecr.{region}.{url_suffix(region)}/kmeans:1"
        self._count = 0
        self._queue = self._subscribe()
        self._seen: list[dict[str, Any]] = []

    def reading(self) -> list[dict[str, Any]]:
        """Return the statements that a role needs to read the bucket."""
        arn = f"arn:{self.partition}:s3:::{self.bucket}"
        return [
            {"Effect": "Allow", "Action": "s3:ListBucket", "Resource": arn},
            {"Effect": "Allow", "Action": "s3:GetObject", "Resource": f"{arn}/*"},
        ]

    def writing(self) -> list[dict[str, Any]]:
        """Return the statements that a role needs to write to the bucket and to the logs."""
        return [
            {"Effect": "Allow", "Action": "s3:PutObject", "Resource": f"arn:{self.partition}:s3:::{self.bucket}/*"},
            {
                "Effect": "Allow",
                "Action": ["logs:CreateLogGroup", "logs:CreateLogStream", "logs:PutLogEvents"],
                "Resource": "*",
            },
        ]

    def make_role(self, name: str, statements: list[dict[str, Any]], principal: dict[str, str] | None = None) -> str:
        """Make a role for a principal (default: SageMaker) with some statements; return its ARN."""
        who = principal or {"Service": "sagemaker.amazonaws.com"}
        trust = {"Effect": "Allow", "Principal": who, "Action": "sts:AssumeRole"}
        full = f"{name}-{self.region}-{time.monotonic_ns()}"
        role = self.iam.create_role(RoleName=full, AssumeRolePolicyDocument=_policy([trust]))["Role"]
        self.iam.put_role_policy(RoleName=full, PolicyName="p", PolicyDocument=_policy(statements))
        return str(role["Arn"])

    def _subscribe(self) -> str:
        sqs, events = self.cloud.client("sqs", self.region), self.cloud.client("events", self.region)
        url = str(sqs.create_queue(QueueName="events")["QueueUrl"])
        arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        allowed = {"Effect": "Allow", "Principal": {"Service": "events.amazonaws.com"}, "Action": "sqs:SendMessage"}
        sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": _policy([{**allowed, "Resource": arn}])})
        events.put_rule(Name="all", EventPattern=json.dumps({"source": ["aws.sagemaker"]}))
        events.put_targets(Rule="all", Targets=[{"Id": "queue", "Arn": arn}])
        return url

    def unique(self, prefix: str = "bt-job") -> str:
        """Return a name that is new."""
        self._count += 1
        return f"{prefix}-{self._count}"

    def put(self, key: str, body: bytes) -> str:
        """Put an object into the bucket and return its URI."""
        self.s3.put_object(Bucket=self.bucket, Key=key, Body=body)
        return self.uri(key)

    def uri(self, key: str) -> str:
        """Return the URI of a key."""
        return f"s3://{self.bucket}/{key}"

    def get(self, uri: str) -> bytes:
        """Return the object at a URI."""
        bucket, _, key = uri.removeprefix("s3://").partition("/")
        return bytes(self.s3.get_object(Bucket=bucket, Key=key)["Body"].read())

    def channel(self, name: str, uri: str, kind: str | None = "application/x-recordio-protobuf") -> dict[str, Any]:
        """Return an entry of InputDataConfig."""
        source = {"S3DataType": "S3Prefix", "S3Uri": uri, "S3DataDistributionType": "FullyReplicated"}
        return {"ChannelName": name, "DataSource": {"S3DataSource": source}, **({"ContentType": kind} if kind else {})}

    def definition(self, **changes: Any) -> dict[str, Any]:
        """Return what training jobs and tuning jobs have in common."""
        channels = [self.channel("train", self.uri("train/")), self.channel("test", self.uri("test/"))]
        return {
            "AlgorithmSpecification": {"TrainingImage": self.image, "TrainingInputMode": "File"},
            "RoleArn": self.role,
            "InputDataConfig": channels,
            "OutputDataConfig": {"S3OutputPath": self.uri("models")},
            "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 50},
            "StoppingCondition": {"MaxRuntimeInSeconds": 3600},
            **changes,
        }

    def train(self, name: str | None = None, **changes: Any) -> str:
        """Start a training job and return its name."""
        name = name or self.unique()
        parameters = changes.pop("HyperParameters", {"k": "3", "feature_dim": str(COLUMNS)})
        request = self.definition(TrainingJobName=name, HyperParameters=parameters, **changes)
        self.sagemaker.create_training_job(**request)
        return name

    def training_end(self, name: str) -> dict[str, Any]:
        """Wait for a training job's end and return its description."""

        def look() -> dict[str, Any] | None:
            found: dict[str, Any] = self.sagemaker.describe_training_job(TrainingJobName=name)
            return found if found["TrainingJobStatus"] in END else None

        return dict(eventually(look))

    def tune(self, name: str | None = None, jobs: int = 3, strategy: str = "Bayesian", **changes: Any) -> str:
        """Start a tuning job and return its name."""
        name = name or self.unique("bt-tune")
        ranges = {
            "IntegerParameterRanges": [
                {"Name": "mini_batch_size", "MinValue": "50", "MaxValue": "60"},
                {"Name": "extra_center_factor", "MinValue": "2", "MaxValue": "6"},
            ],
            "CategoricalParameterRanges": [{"Name": "init_method", "Values": ["random", "kmeans++"]}],
        }
        config = {
            "Strategy": strategy,
            "HyperParameterTuningJobObjective": {"Type": "Minimize", "MetricName": "test:msd"},
            "ResourceLimits": {"MaxNumberOfTrainingJobs": jobs, "MaxParallelTrainingJobs": min(2, jobs)},
            "ParameterRanges": ranges,
            **changes.pop("config", {}),
        }
        static = {"k": "3", "feature_dim": str(COLUMNS)}
        self.sagemaker.create_hyper_parameter_tuning_job(
            HyperParameterTuningJobName=name,
            HyperParameterTuningJobConfig=config,
            TrainingJobDefinition=self.definition(StaticHyperParameters=static, **changes.pop("definition", {})),
            **changes,
        )
        return name

    def tuning_end(self, name: str) -> dict[str, Any]:
        """Wait for a tuning job's end and return its description."""

        def look() -> dict[str, Any] | None:
            found: dict[str, Any] = self.sagemaker.describe_hyper_parameter_tuning_job(HyperParameterTuningJobName=name)
            return found if found["HyperParameterTuningJobStatus"] in END else None

        return dict(eventually(look))

    def model(self, artefact: str, name: str | None = None, **changes: Any) -> str:
        """Make a model and return its name."""
        name = name or self.unique("bt-model")
        container = {"Image": self.image, "ModelDataUrl": artefact, **changes.pop("container", {})}
        role = changes.pop("ExecutionRoleArn", self.role)
        self.sagemaker.create_model(ModelName=name, ExecutionRoleArn=role, PrimaryContainer=container, **changes)
        return name

    def config(self, model: str, name: str | None = None) -> str:
        """Make an endpoint configuration and return its name."""
        name = name or self.unique("bt-config")
        variant = {"VariantName": "AllTraffic", "ModelName": model, "InstanceType": "ml.m5.large"}
        self.sagemaker.create_endpoint_config(
            EndpointConfigName=name, ProductionVariants=[{**variant, "InitialInstanceCount": 1}]
        )
        return name

    def endpoint(self, config: str, name: str | None = None, **changes: Any) -> str:
        """Make an endpoint and return its name."""
        name = name or self.unique("bt-endpoint")
        self.sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=config, **changes)
        return name

    def endpoint_in(self, name: str, *statuses: str) -> dict[str, Any]:
        """Wait until an endpoint has one of some statuses and return its description."""

        def look() -> dict[str, Any] | None:
            found: dict[str, Any] = self.sagemaker.describe_endpoint(EndpointName=name)
            return found if found["EndpointStatus"] in statuses else None

        return dict(eventually(look))

    def transform(self, model: str, source: str, name: str | None = None, **changes: Any) -> str:
        """Start a transform job and return its name."""
        name = name or self.unique("bt-transform")
        data = {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": source}}
        given = {"DataSource": data, "ContentType": "text/csv", "SplitType": "Line", **changes.pop("input", {})}
        self.sagemaker.create_transform_job(
            TransformJobName=name,
            ModelName=model,
            TransformInput=given,
            TransformOutput={"S3OutputPath": self.uri("predictions"), **changes.pop("output", {})},
            TransformResources={"InstanceType": "ml.m5.large", "InstanceCount": 1},
            **changes,
        )
        return name

    def transform_end(self, name: str) -> dict[str, Any]:
        """Wait for a transform job's end and return its description."""

        def look() -> dict[str, Any] | None:
            found: dict[str, Any] = self.sagemaker.describe_transform_job(TransformJobName=name)
            return found if found["TransformJobStatus"] in END else None

        return dict(eventually(look))

    def events_of(self, name: str, last: str) -> list[dict[str, Any]]:
        """Wait until a thing's events have one with a status, and return all of its events, in order of arrival."""

        def look() -> list[dict[str, Any]] | None:
            self._receive()
            own = [event for event in self._seen if event["resources"][0].endswith(f"/{name}")]
            return own if any(last in event["detail"].values() for event in own) else None

        return list(eventually(look))

    def _receive(self) -> None:
        sqs = self.cloud.client("sqs", self.region)
        found = sqs.receive_message(QueueUrl=self._queue, MaxNumberOfMessages=10).get("Messages", ())
        for message in found:
            self._seen.append(json.loads(message["Body"]))
            sqs.delete_message(QueueUrl=self._queue, ReceiptHandle=message["ReceiptHandle"])

    def faults(self, settings: dict[str, Any] | None = None, method: str = "POST") -> dict[str, Any]:
        """Set, read or clear the faults; return what the route answers."""
        body = json.dumps(settings or {}).encode() if method == "POST" else None
        request = Request(f"{self.cloud.url}/_baton/sagemaker/faults", data=body, method=method)
        with urlopen(request) as answer:
            return dict(json.load(answer))


def _policy(statements: list[dict[str, Any]]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": statements})


def check_shape(operation: str, answer: dict[str, Any], optional: tuple[str, ...] = ()) -> None:
    """Check a parsed answer against botocore's output shape: required members, enumerations, types."""
    model = session().get_service_model("sagemaker")
    shape = model.operation_model(operation).output_shape
    body = {name: value for name, value in answer.items() if name != "ResponseMetadata"}
    missing = set(shape.required_members) - set(body) - set(optional)
    assert not missing, f"{operation}: {missing}"
    filled = {**body, **{name: _any(shape.members[name]) for name in optional if name not in body}}
    report = ParamValidator().validate(filled, shape)
    assert not report.has_errors(), report.generate_report()
    assert set(body) <= set(shape.members)
    _check_enums(shape, body)


def _any(shape: Shape) -> Any:
    return dict.fromkeys(shape.required_members, "x")


def _check_enums(shape: Shape, value: Any) -> None:
    if shape.type_name == "structure":
        for name, item in value.items():
            _check_enums(shape.members[name], item)
    elif shape.type_name == "list":
        for item in value:
            _check_enums(shape.member, item)
    elif shape.type_name == "string" and shape.enum:
        assert value in shape.enum, f"{value} is none of {shape.enum}"


@contextmanager
def running_account(region: str = "eu-west-1", speed: float = 500.0) -> Iterator[Account]:
    """Run a cloud with SageMaker, IAM and the bus, and small data in a bucket."""
    with EmbeddedCloud(speed=speed, services=SERVICES) as cloud:
        yield filled(Account(cloud, region))


def filled(account: Account) -> Account:
    """Put small train and test data into an account's bucket."""
    account.put("train/data", recordio(rows(600)))
    account.put("test/data", recordio(rows(200, seed=1)))
    return account
