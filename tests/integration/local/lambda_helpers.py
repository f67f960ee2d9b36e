"""What the tests of the embedded Lambda share: functions made from a few lines of source, and how to call them."""

from __future__ import annotations

import base64
import io
import json
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from baton_local.cloud import EmbeddedCloud

REGION = "eu-west-1"
_TRUST = {
    "Version": "2012-10-17",
    "Statement": [
        {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"},
    ],
}


def archive(files: Mapping[str, str]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as bundle:
        for name, text in files.items():
            bundle.writestr(name, text)
    return buffer.getvalue()


@dataclass(frozen=True)
class Answer:
    error: str | None
    payload: Any
    log: str
    request_id: str
    version: str | None


class Lambda:
    """Makes and calls functions in one region of a cloud."""

    def __init__(self, cloud: EmbeddedCloud, region: str = REGION) -> None:
        self.cloud = cloud
        self.region = region
        self.client = cloud.client("lambda", region)
        self._count = 0

    def role(self, name: str, statements: list[dict[str, Any]] | None = None) -> str:
        iam = self.cloud.client("iam", self.region)
        arn: str = iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(_TRUST))["Role"]["Arn"]
        if statements:
            document = {"Version": "2012-10-17", "Statement": statements}
            iam.put_role_policy(RoleName=name, PolicyName="p", PolicyDocument=json.dumps(document))
        return arn

    def create(self, source: str, handler: str = "app.handler", **options: Any) -> str:
        self._count += 1
        name = options.pop("FunctionName", f"function-{self.region}-{self._count}")
        role = options.pop("Role", None) or self.role(f"role-{name}")
        arguments = {"Runtime": "python3.13", "Timeout": 20, **options}
        self.client.create_function(
            FunctionName=name, Role=role, Handler=handler, Code={"ZipFile": archive({"app.py": source})}, **arguments
        )
        return str(name)

    def invoke(self, name: str, event: Any = None, **options: Any) -> Answer:
        answer = self.client.invoke(FunctionName=name, Payload=json.dumps(event), LogType="Tail", **options)
        return Answer(
            error=answer.get("FunctionError"),
            payload=json.loads(answer["Payload"].read() or b"null"),
            log=base64.b64decode(answer.get("LogResult", "")).decode(),
            request_id=answer["ResponseMetadata"]["RequestId"],
            version=answer.get("ExecutedVersion"),
        )


def eventually(look: Callable[[], Any], seconds: float = 30.0) -> Any:
    """Return the first truthy value that a look gives; fail when there is none in time."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        value = look()
        if value:
            return value
        time.sleep(0.05)
    raise AssertionError(f"nothing came within {seconds} s")


def receive_all(sqs: Any, queue_url: str) -> Iterator[dict[str, Any]]:
    while messages := sqs.receive_message(
        QueueUrl=queue_url,
        MaxNumberOfMessages=10,
        WaitTimeSeconds=1,
        MessageAttributeNames=["All"],
        MessageSystemAttributeNames=["All"],
    ).get("Messages", []):
        yield from messages
