"""SQS queues, SNS topics, EventBridge rules."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from baton_local.cloudformation.resources.base import Ignoring, Job, Made, ResourceType, changed
from baton_local.cloudformation.shapes import fit, fit_member, tag_list, text

_NO_QUEUE = ("AWS.SimpleQueueService.NonExistentQueue", "QueueDoesNotExist")
_QUEUE_DEFAULTS = {
    "DelaySeconds": "0",
    "KmsDataKeyReusePeriodSeconds": "300",
    "KmsMasterKeyId": "",
    "MaximumMessageSize": "262144",
    "MessageRetentionPeriod": "345600",
    "ReceiveMessageWaitTimeSeconds": "0",
    "RedriveAllowPolicy": "",
    "RedrivePolicy": "",
    "SqsManagedSseEnabled": "true",
    "VisibilityTimeout": "30",
}
_FIFO = {"ContentBasedDeduplication", "DeduplicationScope", "FifoThroughputLimit"}


class Queue(ResourceType):
    """AWS::SQS::Queue."""

    type = "AWS::SQS::Queue"
    properties = frozenset(_QUEUE_DEFAULTS) | _FIFO | {"FifoQueue", "QueueName", "Tags"}
    replace_on = frozenset({"FifoQueue", "QueueName"})
    named_by = "QueueName"

    def check(self, job: Job) -> None:
        """Refuse two encryptions, too: "Only one server-side encryption option is supported per queue".

        https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_CreateQueue.html
        """
        super().check(job)
        if job.get("KmsMasterKeyId") and text(job.get("SqsManagedSseEnabled", "false")) == "true":
            raise ValueError(
                "You can use one type of server-side encryption (SSE) at one time. "
                "You can either enable KMS SSE or SQS SSE."
            )

    def create(self, job: Job) -> Made:
        """Make the queue."""
        sqs = job.client("sqs")
        fifo = text(job.get("FifoQueue", "false")) == "true"
        name = job.name("QueueName", 75) + (".fifo" if fifo and not job.get("QueueName") else "")
        attributes = {n: text(v) for n, v in job.without("QueueName", "Tags").items()}
        tags = {"tags": job.tags()} if job.tags() else {}
        url = sqs.create_queue(QueueName=name, Attributes=attributes, **tags)["QueueUrl"]
        return Made(url, {"Arn": job.arn("sqs", name), "QueueName": name, "QueueUrl": url})

    def update(self, job: Job, made: Made, old: Mapping[str, Any]) -> Made:
        """Change attributes and tags; the queue's policy is another resource's, and stays."""
        sqs, url = job.client("sqs"), made.physical_id
        names = [n for n in (*_QUEUE_DEFAULTS, *_FIFO) if changed(job, old, n)]
        attributes = {n: text(job.get(n, _QUEUE_DEFAULTS.get(n, ""))) for n in names}
        if attributes:
            policy = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["Policy"]).get("Attributes", {})
            sqs.set_queue_attributes(QueueUrl=url, Attributes={**attributes, **policy})
        if job.tags():
            sqs.tag_queue(QueueUrl=url, Tags=job.tags())
        return made

    def delete(self, job: Job, made: Made) -> None:
        """Delete the queue with its messages."""
        with Ignoring(*_NO_QUEUE):
            job.client("sqs").delete_queue(QueueUrl=made.physical_id)


class QueuePolicy(ResourceType):
    """AWS::SQS::QueuePolicy."""

    type = "AWS::SQS::QueuePolicy"
    properties = frozenset({"PolicyDocument", "Queues"})
    required = properties

    def create(self, job: Job) -> Made:
        """Set the policy of every queue."""
        for url in job.get("Queues"):
            self._set(job, url, text(job.get("PolicyDocument")))
        return Made(job.name("", 80))

    @staticmethod
    def _set(job: Job, url: str, policy: str) -> None:
        with Ignoring(*(_NO_QUEUE if not policy else ())):
            job.client("sqs").set_queue_attributes(QueueUrl=url, Attributes={"Policy": policy})

    def update(self, job: Job, made: Made, old: Mapping[str, Any]) -> Made:
        """Set it again, and take it from the queues that are not named any more."""
        self.create(job)
        for url in set(old.get("Queues") or []) - set(job.get("Queues")):
            self._set(job, url, "")
        return made

    def delete(self, job: Job, made: Made) -> None:  # noqa: ARG002
        """Take the policy from the queues."""
        for url in job.get("Queues"):
            self._set(job, url, "")


_TOPIC_ATTRIBUTES = ("DisplayName", "KmsMasterKeyId", "SignatureVersion", "TracingConfig", "ContentBasedDeduplication")


class Topic(ResourceType):
    """AWS::SNS::Topic."""

    type = "AWS::SNS::Topic"
    properties = frozenset({*_TOPIC_ATTRIBUTES, "FifoTopic", "Subscription", "Tags", "TopicName"})
    replace_on = frozenset({"FifoTopic", "TopicName"})
    named_by = "TopicName"

    def create(self, job: Job) -> Made:
        """Make the topic with the subscriptions that it lists."""
        sns, name = job.client("sns"), job.name("TopicName", 256)
        attributes = {n: text(v) for n, v in job.only(*_TOPIC_ATTRIBUTES, "FifoTopic").items()}
        arn = sns.create_topic(Name=name, Attributes=attributes, Tags=tag_list(job.tags()))["TopicArn"]
        for entry in job.get("Subscription") or []:
            sns.subscribe(TopicArn=arn, Protocol=entry["Protocol"], Endpoint=entry["Endpoint"])
        return Made(arn, {"TopicArn": arn, "TopicName": name})

    def update(self, job: Job, made: Made, old: Mapping[str, Any]) -> Made:
        """Change attributes, subscriptions and tags."""
        sns, arn = job.client("sns"), made.physical_id
        for name in _TOPIC_ATTRIBUTES:
            if changed(job, old, name):
                sns.set_topic_attributes(TopicArn=arn, AttributeName=name, AttributeValue=text(job.get(name, "")))
        before = [(s["Protocol"], s["Endpoint"]) for s in old.get("Subscription") or []]
        for entry in job.get("Subscription") or []:
            if (entry["Protocol"], entry["Endpoint"]) not in before:
                sns.subscribe(TopicArn=arn, Protocol=entry["Protocol"], Endpoint=entry["Endpoint"])
        if job.tags():
            sns.tag_resource(ResourceArn=arn, Tags=tag_list(job.tags()))
        return made

    def delete(self, job: Job, made: Made) -> None:
        """Delete the topic with its subscriptions."""
        with Ignoring("NotFound"):
            sns = job.client("sns")
            for entry in sns.list_subscriptions_by_topic(TopicArn=made.physical_id)["Subscriptions"]:
                sns.unsubscribe(SubscriptionArn=entry["SubscriptionArn"])
            sns.delete_topic(TopicArn=made.physical_id)


class TopicPolicy(ResourceType):
    """AWS::SNS::TopicPolicy."""

    type = "AWS::SNS::TopicPolicy"
    properties = frozenset({"PolicyDocument", "Topics"})
    required = properties

    def create(self, job: Job) -> Made:
        """Set the policy of every topic."""
        for arn in job.get("Topics"):
            self._set(job, arn, text(job.get("PolicyDocument")))
        return Made(job.name("", 80))

    @staticmethod
    def _set(job: Job, arn: str, policy: str) -> None:
        job.client("sns").set_topic_attributes(TopicArn=arn, AttributeName="Policy", AttributeValue=policy)

    def update(self, job: Job, made: Made, old: Mapping[str, Any]) -> Made:
        """Set it again, and give the topics that are not named any more the default policy."""
        self.create(job)
        for arn in set(old.get("Topics") or []) - set(job.get("Topics")):
            self._set(job, arn, self._default(job, arn))
        return made

    @staticmethod
    def _default(job: Job, arn: str) -> str:
        statement = {
            "Sid": "__default_statement_ID",
            "Effect": "Allow",
            "Principal": {"AWS": "*"},
            "Action": ["SNS:Subscribe", "SNS:Publish", "SNS:GetTopicAttributes", "SNS:ListSubscriptionsByTopic"],
            "Resource": arn,
            "Condition": {"StringEquals": {"AWS:SourceOwner": job.account_id}},
        }
        return json.dumps({"Version": "2008-10-17", "Id": "__default_policy_ID", "Statement": [statement]})

    def delete(self, job: Job, made: Made) -> None:  # noqa: ARG002
        """Give the topics the default policy."""
        for arn in job.get("Topics"):
            with Ignoring("NotFound"):
                self._set(job, arn, self._default(job, arn))


_SUBSCRIPTION_ATTRIBUTES = (
    "DeliveryPolicy",
    "FilterPolicy",
    "FilterPolicyScope",
    "RawMessageDelivery",
    "RedrivePolicy",
)


class Subscription(ResourceType):
    """AWS::SNS::Subscription."""

    type = "AWS::SNS::Subscription"
    properties = frozenset({*_SUBSCRIPTION_ATTRIBUTES, "Endpoint", "Protocol", "TopicArn"})
    required = frozenset({"Protocol", "TopicArn"})
    replace_on = frozenset({"Endpoint", "Protocol", "TopicArn"})

    def create(self, job: Job) -> Made:
        """Subscribe."""
        attributes = {n: text(v) for n, v in job.only(*_SUBSCRIPTION_ATTRIBUTES).items()}
        made = job.client("sns").subscribe(
            TopicArn=job.get("TopicArn"),
            Protocol=job.get("Protocol"),
            Endpoint=job.get("Endpoint"),
            Attributes=attributes,
            ReturnSubscriptionArn=True,
        )
        return Made(made["SubscriptionArn"], {"Arn": made["SubscriptionArn"]})

    def update(self, job: Job, made: Made, old: Mapping[str, Any]) -> Made:
        """Change the attributes."""
        for name in _SUBSCRIPTION_ATTRIBUTES:
            if changed(job, old, name):
                job.client("sns").set_subscription_attributes(
                    SubscriptionArn=made.physical_id, AttributeName=name, AttributeValue=text(job.get(name, ""))
                )
        return made

    def delete(self, job: Job, made: Made) -> None:
        """Unsubscribe."""
        with Ignoring("NotFound"):
            job.client("sns").unsubscribe(SubscriptionArn=made.physical_id)


class Rule(ResourceType):
    """AWS::Events::Rule with its targets."""

    type = "AWS::Events::Rule"
    properties = frozenset(
        {
            "Description",
            "EventBusName",
            "EventPattern",
            "Name",
            "RoleArn",
            "ScheduleExpression",
            "State",
            "Tags",
            "Targets",
        }
    )
    replace_on = frozenset({"EventBusName", "Name"})
    named_by = "Name"

    def create(self, job: Job) -> Made:
        """Make the rule and give it its targets."""
        name = job.name("Name")
        arn = self._put(job, name)
        made = Made(name if not self._bus(job) else f"{self._bus(job)}|{name}", {"Arn": arn})
        try:
            self._targets(job, name, {})
        except Exception:
            self.delete(job, made)
            raise
        return made

    @staticmethod
    def _bus(job: Job) -> str:
        bus = str(job.get("EventBusName") or "")
        return "" if bus.rpartition("/")[2] == "default" else bus

    def _put(self, job: Job, name: str) -> str:
        events = job.client("events")
        arguments = fit(events, "PutRule", job.without("Name", "Tags", "Targets"))
        tags = {"Tags": tag_list(job.tags())} if job.tags() else {}
        return str(events.put_rule(Name=name, **arguments, **tags)["RuleArn"])

    def _targets(self, job: Job, name: str, old: Mapping[str, Any]) -> None:
        events, bus = job.client("events"), {"EventBusName": self._bus(job)} if self._bus(job) else {}
        wanted = fit_member(events, "PutTargets", "Targets", job.get("Targets") or [])
        gone = {t["Id"] for t in old.get("Targets") or []} - {t["Id"] for t in wanted}
        if gone:
            events.remove_targets(Rule=name, Ids=sorted(gone), **bus)
        if wanted:
            answer = events.put_targets(Rule=name, Targets=wanted, **bus)
            if answer["FailedEntryCount"]:
                raise ValueError(answer["FailedEntries"][0]["ErrorMessage"])

    def update(self, job: Job, made: Made, old: Mapping[str, Any]) -> Made:
        """Change the rule and its targets."""
        name = made.physical_id.rpartition("|")[2]
        self._put(job, name)
        self._targets(job, name, old)
        return made

    def delete(self, job: Job, made: Made) -> None:
        """Remove the targets, then the rule."""
        events, name = job.client("events"), made.physical_id.rpartition("|")[2]
        bus = {"EventBusName": self._bus(job)} if self._bus(job) else {}
        with Ignoring("ResourceNotFoundException"):
            targets = events.list_targets_by_rule(Rule=name, **bus)["Targets"]
            if targets:
                events.remove_targets(Rule=name, Ids=[t["Id"] for t in targets], **bus)
            events.delete_rule(Name=name, **bus)


class EventBus(ResourceType):
    """AWS::Events::EventBus."""

    type = "AWS::Events::EventBus"
    properties = frozenset({"Description", "Name", "Tags"})
    required = frozenset({"Name"})
    replace_on = frozenset({"Name", "Description"})
    named_by = "Name"

    def create(self, job: Job) -> Made:
        """Make the bus."""
        events = job.client("events")
        arguments = job.fit(events, "CreateEventBus", "Name", "Description")
        arn = events.create_event_bus(**arguments, Tags=tag_list(job.tags()))["EventBusArn"]
        return Made(str(job.get("Name")), {"Arn": arn, "Name": job.get("Name")})

    def delete(self, job: Job, made: Made) -> None:
        """Delete the bus."""
        with Ignoring("ResourceNotFoundException"):
            job.client("events").delete_event_bus(Name=made.physical_id)


TYPES = (Queue, QueuePolicy, Topic, TopicPolicy, Subscription, Rule, EventBus)
