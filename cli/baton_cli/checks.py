"""What ``baton doctor`` looks at, one function a check, all with the credentials of whoever calls it.

A check answers with Findings: ok, or what is wrong and the exact command that mends it. ``unknown`` is for what these
credentials, or this network, cannot see, and is no failure.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from baton.catalogue import Catalogue, Pipeline
from baton.errors import BatonError
from baton.kfp import connect
from baton.settings import Settings

OK, WRONG, UNKNOWN = "ok", "wrong", "unknown"

STAGES = {"training": "training", "tuning": "training", "endpoint": "endpoint", "transform": "transform"}
"""Which parameters of a pipeline say what instances a stage takes."""


@dataclass(frozen=True)
class Finding:
    """What a check found; ``mend`` is a command, or an empty text where there is nothing to mend."""

    check: str
    state: str
    detail: str
    mend: str = ""


class Patient:
    """The account, the region and the stack that are looked at; ``client`` gives a boto3 client by service."""

    def __init__(self, client: Callable[[str], Any], region: str, stack_name: str, catalogue: Catalogue) -> None:
        self.client = client
        self.region = region
        self.stack_name = stack_name
        self.catalogue = catalogue

    @cached_property
    def identity(self) -> Mapping[str, str]:
        """Who the credentials are."""
        answer: Mapping[str, str] = self.client("sts").get_caller_identity()
        return answer

    @property
    def pipelines(self) -> list[Pipeline]:
        """The pipelines of this checkout."""
        return [self.catalogue.get(name) for name in self.catalogue.names]

    @property
    def partition(self) -> str:
        """The partition of the credentials: aws, aws-cn, …"""
        return self.identity["Arn"].split(":")[1]

    @cached_property
    def stack(self) -> Mapping[str, Any] | None:
        """The stack, or None before it is deployed."""
        try:
            answer = self.client("cloudformation").describe_stacks(StackName=self.stack_name)
        except ClientError:
            return None
        found: Mapping[str, Any] = answer["Stacks"][0]
        return found

    @cached_property
    def outputs(self) -> Mapping[str, str]:
        """The stack's outputs by name."""
        return {o["OutputKey"]: o["OutputValue"] for o in (self.stack or {}).get("Outputs", [])}

    @cached_property
    def resources(self) -> Mapping[str, str]:
        """The stack's physical resource ids by logical id."""
        pages = self.client("cloudformation").get_paginator("list_stack_resources").paginate(StackName=self.stack_name)
        return {r["LogicalResourceId"]: r["PhysicalResourceId"] for p in pages for r in p["StackResourceSummaries"]}

    @cached_property
    def settings(self) -> Settings:
        """The settings of the deployed function that launches pipelines."""
        function = self.resources["LaunchPipelineFunction"]
        answer = self.client("lambda").get_function_configuration(FunctionName=function)
        return Settings.read({"AWS_REGION": self.region, **answer["Environment"]["Variables"]})


Check = Callable[[Patient], Iterator[Finding]]


def examine(patient: Patient) -> Iterator[Finding]:
    """Yield every finding; a check that cannot look says so and the others go on."""
    yield from _guarded(check_identity, patient)
    for before in (check_images, check_quotas, check_plan):
        yield from _guarded(before, patient)
    if patient.stack is None:
        mend = f"make build && sam deploy --guided --stack-name {patient.stack_name} --region {patient.region}"
        yield Finding("stack", WRONG, f"There is no stack {patient.stack_name} in {patient.region}.", mend)
        return
    for after in (check_stack, check_bucket, check_rules, check_queue, check_role, check_cluster, check_kfp):
        yield from _guarded(after, patient)


def _judge(check: str, good: bool, right: str, wrong: str, mend: str) -> Finding:
    return Finding(check, OK, right) if good else Finding(check, WRONG, wrong, mend)


def _guarded(check: Check, patient: Patient) -> Iterator[Finding]:
    name = check.__name__.removeprefix("check_")
    try:
        yield from check(patient)
    except (ClientError, BotoCoreError) as error:
        yield Finding(name, UNKNOWN, f"These credentials cannot look: {error}")


def check_identity(patient: Patient) -> Iterator[Finding]:
    """Region and partition belong together."""
    expected = "aws-cn" if patient.region.startswith("cn-") else "aws"
    who = f"{patient.identity['Arn']} in {patient.region}"
    if patient.partition.startswith("aws-us-gov") or patient.partition == expected:
        yield Finding("identity", OK, who)
    else:
        yield Finding(
            "identity",
            WRONG,
            f"{who}: these credentials are of another partition than the region.",
            "aws configure --profile PROFILE && export AWS_PROFILE=PROFILE",
        )


def check_images(patient: Patient) -> Iterator[Finding]:
    """The built-in algorithm's image is known for the region."""
    suffix = "amazonaws.com.cn" if patient.partition == "aws-cn" else "amazonaws.com"
    for pipeline in patient.pipelines:
        image = pipeline.images.uri(patient.region, suffix)
        if image:
            yield Finding("image", OK, f"{pipeline.name} trains with {image}")
        else:
            yield Finding(
                "image",
                WRONG,
                f"{pipeline.name} knows no image account for {patient.region}.",
                f"edit [images.accounts] in pipelines/{pipeline.name}/pipeline.toml",
            )


def check_quotas(patient: Patient) -> Iterator[Finding]:
    """The account may start the instances that each pipeline takes at once."""
    pages = patient.client("service-quotas").get_paginator("list_service_quotas").paginate(ServiceCode="sagemaker")
    quotas = {quota["QuotaName"]: quota for page in pages for quota in page["Quotas"]}
    for pipeline in patient.pipelines:
        for (kind, instance), count in instances_at_once(pipeline).items():
            name = f"{instance} for {kind} job usage" if kind != "endpoint" else f"{instance} for endpoint usage"
            yield _quota(name, quotas.get(name), count, patient.region)


def _quota(name: str, quota: Mapping[str, Any] | None, count: int, region: str) -> Finding:
    if quota is None:
        return Finding("quota", UNKNOWN, f"Service Quotas does not list {name}.")
    if quota["Value"] >= count:
        return Finding("quota", OK, f"{name}: {quota['Value']:g}, {count} needed")
    return Finding(
        "quota",
        WRONG,
        f"{name} is {quota['Value']:g}, and a run takes {count} at once.",
        f"aws service-quotas request-service-quota-increase --service-code sagemaker --quota-code {quota['QuotaCode']} "
        f"--desired-value {count} --region {region}",
    )


def instances_at_once(pipeline: Pipeline) -> dict[tuple[str, str], int]:
    """Return how many instances a run takes at most at once, by kind of use and instance type."""
    value = {name: parameter.default for name, parameter in pipeline.parameters.items()}
    needed: dict[tuple[str, str], int] = {}
    for stage in pipeline.stages:
        use = STAGES[stage]
        count = int(value.get(f"{use}_instance_count", 1))
        count *= int(value.get("parallel_tuning_jobs", 1)) if stage == "tuning" else 1
        key = (use, str(value.get(f"{use}_instance_type", "")))
        needed[key] = max(needed.get(key, 0), count)
    return needed


def check_plan(patient: Patient) -> Iterator[Finding]:
    """A dry run: what a run with the defaults would start, and for how long at most."""
    for pipeline in patient.pipelines:
        value = {name: parameter.default for name, parameter in pipeline.parameters.items()}
        jobs = int(value.get("max_tuning_jobs", 0)) if "tuning" in pipeline.stages else 0
        kinds = [f"{n} x {instance} ({kind})" for (kind, instance), n in instances_at_once(pipeline).items()]
        limit = f"each training job at most {value.get('training_max_seconds', '?')} s"
        yield Finding(
            "plan",
            OK,
            f"{pipeline.name}: {jobs} tuning jobs and one training job, {limit}; at once "
            f"{', '.join(kinds)}; endpoint afterwards: {pipeline.endpoint_fate}",
        )


def check_stack(patient: Patient) -> Iterator[Finding]:
    """The last deployment went well."""
    status = (patient.stack or {})["StackStatus"]
    good = status.endswith("_COMPLETE") and "ROLLBACK" not in status
    mend = "" if good else f"sam deploy --stack-name {patient.stack_name} --region {patient.region}"
    yield Finding("stack", OK if good else WRONG, f"{patient.stack_name} is {status}", mend)


def check_bucket(patient: Patient) -> Iterator[Finding]:
    """The run bucket tells EventBridge of uploads and keeps versions."""
    bucket, s3 = patient.outputs["RunBucketName"], patient.client("s3")
    yield _judge(
        "notifications",
        "EventBridgeConfiguration" in s3.get_bucket_notification_configuration(Bucket=bucket),
        f"{bucket} tells EventBridge of uploads",
        f"{bucket} does not tell EventBridge of uploads, so none starts a run.",
        f"aws s3api put-bucket-notification-configuration --bucket {bucket} "
        "--notification-configuration '{\"EventBridgeConfiguration\": {}}'",
    )
    yield _judge(
        "versions",
        s3.get_bucket_versioning(Bucket=bucket).get("Status") == "Enabled",
        f"{bucket} keeps versions",
        f"{bucket} keeps no versions: an overwritten upload could be read for another.",
        f"aws s3api put-bucket-versioning --bucket {bucket} --versioning-configuration Status=Enabled",
    )


def check_rules(patient: Patient) -> Iterator[Finding]:
    """Every EventBridge rule of the stack is enabled."""
    events = patient.client("events")
    for logical_id, name in sorted(patient.resources.items()):
        if logical_id.endswith("Rule"):
            rule = name.rpartition("/")[2]
            if events.describe_rule(Name=rule)["State"] == "ENABLED":
                yield Finding("rule", OK, f"{logical_id} is enabled")
            else:
                mend = f"aws events enable-rule --name {rule} --region {patient.region}"
                yield Finding("rule", WRONG, f"{logical_id} is disabled.", mend)


def check_queue(patient: Patient) -> Iterator[Finding]:
    """Nothing waits in the dead-letter queue, and the outcome queue is read."""
    url = patient.outputs["DeadLetterQueueUrl"]
    name = "ApproximateNumberOfMessages"
    answer = patient.client("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=[name])
    count = int(answer["Attributes"][name])
    yield _judge(
        "dead letters",
        count == 0,
        "none",
        f"{count} events could not be handled (docs/operations.md).",
        f"aws sqs receive-message --queue-url {url} --message-attribute-names All --region {patient.region}",
    )
    mapping = patient.resources["OutcomeQueueMapping"]
    state = patient.client("lambda").get_event_source_mapping(UUID=mapping)["State"]
    yield _judge(
        "queue mapping",
        state == "Enabled",
        state,
        f"The outcome queue is not read: the mapping is {state}.",
        f"aws lambda update-event-source-mapping --uuid {mapping} --enabled --region {patient.region}",
    )


def check_role(patient: Patient) -> Iterator[Finding]:
    """SageMaker may assume the role of the jobs."""
    name = patient.outputs["SageMakerRoleArn"].rpartition("/")[2]
    trust = patient.client("iam").get_role(RoleName=name)["Role"]["AssumeRolePolicyDocument"]
    document = json.loads(trust) if isinstance(trust, str) else trust
    services = [s["Principal"].get("Service") for s in document["Statement"] if s["Effect"] == "Allow"]
    if any(str(service).startswith("sagemaker.") for service in services):
        yield Finding("role", OK, f"SageMaker may assume {name}")
    else:
        mend = f"sam deploy --stack-name {patient.stack_name} --region {patient.region}"
        yield Finding("role", WRONG, f"SageMaker may not assume {name}.", mend)


def check_cluster(patient: Patient) -> Iterator[Finding]:
    """The cluster that the stack names can be seen and is active."""
    cluster = patient.settings.kfp_cluster
    if not cluster:
        return
    status = patient.client("eks").describe_cluster(name=cluster)["cluster"]["status"]
    mend = "" if status == "ACTIVE" else f"aws eks wait cluster-active --name {cluster} --region {patient.region}"
    yield Finding("cluster", OK if status == "ACTIVE" else WRONG, f"{cluster} is {status}", mend)


def check_kfp(patient: Patient) -> Iterator[Finding]:
    """Kubeflow Pipelines answers from here, and is new enough."""
    settings = patient.settings
    try:
        health = connect(settings, patient.client).require_version()
    except BatonError as error:
        where = settings.kfp_url or settings.kfp_cluster
        hint = "kubectl port-forward --namespace kubeflow service/ml-pipeline 8888 (to look from here)"
        state = WRONG if not settings.kfp_url or "internal" not in where else UNKNOWN
        yield Finding("kubeflow pipelines", state, f"{type(error).__name__}: {error}", hint)
        return
    users = "multi-user" if health.multi_user else "single-user"
    build = health.tag or "an unnamed build"
    yield Finding("kubeflow pipelines", OK, f"{build}, {users}, mode {settings.kfp_mode}")
