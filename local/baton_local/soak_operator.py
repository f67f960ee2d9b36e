"""What an operator does while and after runs are played under faults: redrive, wait for clean-ups, send the janitor."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from baton_local.deployment import Deployment

_SWEEP_SECONDS = 900.0
_POLL_SECONDS = 0.5
_PASSED_SECONDS = 2 * 3600
"""How much time passes before each of the janitor's rounds: more than it waits before it looks at a run once more."""

_ROUNDS = 100
"""How often a round is made again that a fault cut short."""

Tell = Callable[[str], None]


class Operator:
    """Looks after one deployment.

    ``redriven``: uploads that came out of the dead-letter queue; ``handed_over``: clean-ups that the janitor started,
    by reason.
    """

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment
        self._stepfunctions = deployment.client("stepfunctions")
        self.redriven = 0
        self.handed_over: Counter[str] = Counter()

    def executions(self, machine: str, status: str = "") -> Iterator[str]:
        """Yield the ARNs of a state machine's executions, of all or of those with a status."""
        wanted = {"statusFilter": status} if status else {}
        pages = self._stepfunctions.get_paginator("list_executions").paginate(stateMachineArn=machine, **wanted)
        return (execution["executionArn"] for page in pages for execution in page["executions"])

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield the rows of the runs, as DynamoDB types them."""
        paginator = self._deployment.client("dynamodb").get_paginator("query")
        pages = paginator.paginate(
            TableName=self._deployment.outputs["TableName"],
            KeyConditionExpression="kind = :kind",
            ExpressionAttributeValues={":kind": {"S": "run"}},
        )
        return (row for page in pages for row in page["Items"])

    def redrive(self) -> None:
        """Give the uploads of the dead-letter queue to start_run again, as ``baton redrive`` does."""
        sqs, queue = self._deployment.client("sqs"), self._deployment.outputs["DeadLetterQueueUrl"]
        function = self._deployment.physical_id("StartRunFunction")
        while messages := sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10).get("Messages", []):
            for message in messages:
                if json.loads(message["Body"]).get("source") == "aws.s3":
                    self._deployment.client("lambda").invoke(
                        FunctionName=function, InvocationType="Event", Payload=message["Body"].encode()
                    )
                    self.redriven += 1
                    sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])

    def settle(self, tell: Tell) -> None:
        """Wait for the clean-ups under way, then let time pass and the janitor do what they did not."""
        until = time.monotonic() + _SWEEP_SECONDS
        self._wait_for_sweeps(until, tell)
        while time.monotonic() < until:
            self._let_time_pass()
            started = self._janitor_round()
            tell(f"The janitor started {len(started)} clean-ups.")
            self.handed_over.update(handed["reason"] for handed in started)
            self._wait_for_sweeps(until, tell)
            if not started:
                return

    def _wait_for_sweeps(self, until: float, tell: Tell) -> None:
        while time.monotonic() < until:
            going = len(list(self.executions(self._deployment.clean_up_machine, "RUNNING")))
            if not going:
                return
            tell(f"{going} clean-ups are under way.")
            time.sleep(_POLL_SECONDS)

    def _let_time_pass(self) -> None:
        """Make every run older, as if its end were hours ago: the janitor compares these times with its clock."""
        table = self._deployment.client("dynamodb")
        for row in self.rows():
            times = {name: int(row[name]["N"]) - _PASSED_SECONDS for name in ("ended_at", "receipt_at") if name in row}
            if "receipt_at" not in times:
                continue
            table.update_item(
                TableName=self._deployment.outputs["TableName"],
                Key={"kind": row["kind"], "name": row["name"]},
                UpdateExpression="SET " + ", ".join(f"{name} = :{name}" for name in times),
                ExpressionAttributeValues={f":{name}": {"N": str(value)} for name, value in times.items()},
            )

    def _janitor_round(self) -> list[dict[str, str]]:
        """Let the janitor make one whole round; a round that a fault cut short is made again, as an hour later."""
        name = self._deployment.physical_id("JanitorFunction")
        for _ in range(_ROUNDS):
            answer = self._deployment.client("lambda").invoke(FunctionName=name, Payload=b"{}")
            result = json.load(answer["Payload"])
            if "FunctionError" not in answer:
                started: list[dict[str, str]] = result["started"]
                return started
        raise RuntimeError(f"The janitor failed {_ROUNDS} times in a row; the last time with {result}.")
