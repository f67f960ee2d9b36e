"""What ``baton doctor`` looks at, one function a check, all with the credentials of whoever calls it.

A check answers with Findings: ok, or what is wrong and the exact command that mends it. ``unknown`` is for what these
credentials, or this network, cannot see, and is no failure.
"""

from __future__ import annotations

import dataclasses
import json
import re
import shlex
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from urllib.parse import urlsplit

import botocore.session
from botocore.exceptions import BotoCoreError, ClientError, UnknownRegionError

from baton.catalogue import Catalogue, Pipeline
from baton.errors import BatonError, KfpMisconfigured, KfpRefused, KfpTooOld
from baton.kfp import connect
from baton.kfp.access import SecretAccess
from baton.kfp.answers import LOGIN_PAGE
from baton.kfp.client import KfpClient
from baton.kfp.transport import Unanswered, Unreached
from baton.settings import Settings
from baton_cli.account import COMMANDS, Account, counted, is_gone, there_are
from baton_cli.configurations import Configurations
from baton_cli.drained import between_runs, drain_command, enable_uploads, must_wait
from baton_local.iam.documents import parse
from baton_local.iam.evaluator import Caller, PolicySet, Question, decide

OK, WRONG, UNKNOWN = "ok", "wrong", "unknown"

STAGES = {"training": "training", "tuning": "training", "endpoint": "endpoint", "transform": "transform"}
"""Which parameters of a pipeline say what instances a stage takes."""

POD_IDENTITY_AGENT = "eks-pod-identity-agent"
"""The add-on without which Pod Identity gives no credentials; clusters in Auto Mode have it built in.

https://docs.aws.amazon.com/eks/latest/userguide/pod-id-agent-setup.html
"""

KFP_GROUP = "baton-kfp"
"""The Kubernetes group that deploy/kubernetes/kfp-proxy-access.yaml lets in."""

ENTRY_MODES = ("API", "API_AND_CONFIG_MAP")
"""The authentication modes in which a cluster heeds access entries.

https://docs.aws.amazon.com/eks/latest/userguide/setting-up-access-entries.html
"""

_SAGEMAKER = "sagemaker.amazonaws.com"
_VERSION = re.compile(r'"(arn:[\w-]+:lambda:[^"]*:function:([^":]+):\d+)"')


@dataclass(frozen=True)
class Finding:
    """What a check found; ``mend`` is a command, or an empty text where there is nothing to mend."""

    check: str
    state: str
    detail: str
    mend: str = ""


class Patient(Account):
    """The account, the region and the stack that are looked at.

    ``kfp_url`` and ``cluster`` are where to look before there is a stack, or instead of its own URL;
    ``configurations`` are those of samconfig.toml.
    """

    def __init__(
        self,
        client: Callable[..., Any],
        region: str,
        stack_name: str,
        catalogue: Catalogue,
        kfp_url: str = "",
        cluster: str = "",
        configurations: Configurations | None = None,
        profile: str = "",
    ) -> None:
        super().__init__(client, region, stack_name, profile)
        self.catalogue = catalogue
        self.configurations = configurations or Configurations()
        self.kfp_url = kfp_url
        self.cluster = cluster

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

    @property
    def url_suffix(self) -> str:
        """The suffix of the partition's addresses."""
        partitions = botocore.session.get_session().get_data("partitions")["partitions"]
        return str({each["id"]: each["outputs"]["dnsSuffix"] for each in partitions}[self.partition])

    @property
    def deployed(self) -> bool:
        """Whether there is a stack that was deployed to its end once, and that can be seen."""
        try:
            return bool(self.outputs)
        except (ClientError, BotoCoreError):
            return False

    @cached_property
    def launcher(self) -> Mapping[str, Any]:
        """The configuration of the function that launches pipelines, in the version that the state machine calls."""
        function = self.resources["LaunchPipelineFunction"]
        machine = self.client("stepfunctions").describe_state_machine(stateMachineArn=self.outputs["StateMachineArn"])
        called = {name: version for version, name in _VERSION.findall(machine["definition"])}
        wanted = called.get(function, function)
        answer: Mapping[str, Any] = self.client("lambda").get_function_configuration(FunctionName=wanted)
        return answer

    @cached_property
    def settings(self) -> Settings:
        """The settings of the deployed function that launches pipelines."""
        return Settings.read({"AWS_REGION": self.region, **self.launcher["Environment"]["Variables"]})

    @cached_property
    def runs_under_way(self) -> int:
        """How many runs have not ended, or were not cleaned up to the end; raises botocore's errors."""
        return len({*self.running("StateMachineArn"), *(row["execution_arn"] for row in self.unfinished())})

    def deploy(self, *parameters: str) -> str:
        """Return the command that deploys again, with some parameters changed and the others as they are."""
        return f"{_BUILD} && {self._sam_deploy(*parameters)}"

    def deploy_between_runs(self, *parameters: str) -> str:
        """Return the command that does the same on a drained stack; a build that fails leaves the uploads alone."""
        return f"{_BUILD} && {between_runs(self, self._sam_deploy(*parameters))}"

    def deploy_first(self) -> str:
        """Return the command that deploys for the first time, and asks for the parameters."""
        return f"{_BUILD} && {COMMANDS}sam deploy --guided {self.configurations.options(self)}"

    def _sam_deploy(self, *parameters: str) -> str:
        overrides = f" --parameter-overrides {' '.join(parameters)}" if parameters else ""
        return f"{COMMANDS}sam deploy {self.configurations.options(self)}{overrides}"


_BUILD = "make build"
"""Unbuilt, the template names folders in which no function can run."""

Check = Callable[[Patient], Iterator[Finding]]


def examine(patient: Patient) -> Iterator[Finding]:
    """Yield every finding; a check that cannot look says so and the others go on.

    Raises botocore's errors where the credentials do not even say who they are.
    """
    yield from check_identity(patient)
    first: tuple[Check, ...] = (check_images, check_quotas, check_plan, check_stack)
    for check in first:
        yield from _guarded(check, patient)
    before: tuple[Check, ...] = (check_cluster, check_given_kfp)
    after: tuple[Check, ...] = (check_runs, check_bucket, check_rules, check_queue, check_role, check_pods)
    for check in (*after, check_cluster, check_kfp) if patient.deployed else before:
        yield from _guarded(check, patient)


def _judge(check: str, good: bool, right: str, wrong: str, mend: str) -> Finding:
    return Finding(check, OK, right) if good else Finding(check, WRONG, wrong, mend)


def _deployed_again(patient: Patient, check: str, state: str, text: str, *overrides: str) -> Finding:
    """Return a finding that a deployment with other parameters mends, at a time at which runs under way allow it."""
    runs, waiting = _runs_in_words(patient), must_wait(overrides)
    mend, parts = patient.deploy(*overrides), [_sentence(text), _keep_it(patient)]
    if runs and waiting:
        *others, last = waiting
        names = f"{', '.join(others)} and {last}" if others else last
        parts.append(f"{runs} under way, and {names} may only change on a drained stack.")
        mend = patient.deploy_between_runs(*overrides)
    elif runs:
        parts.append(f"{runs} under way; each looks at its own KfpUrl to the end.")
    return Finding(check, state, " ".join(parts), mend)


def _replaced(patient: Patient, check: str, text: str, *overrides: str) -> Finding:
    """Return a finding that other parameters mend at once: with the present ones no clean-up ends, so no drain."""
    runs, parts = _runs_in_words(patient), [_sentence(text), _keep_it(patient)]
    if runs:
        parts.append(f"{runs} under way; clean-ups that start after the deployment can look again.")
    return Finding(check, WRONG, " ".join(parts), patient.deploy(*overrides))


def _keep_it(patient: Patient) -> str:
    """Say what keeps an override: samconfig.toml has every parameter that --guided has asked for."""
    where = f"[{patient.configurations.name_of(patient)}.deploy.parameters]"
    return f"Write it into {where} of samconfig.toml too, or the next deployment takes it back."


def _runs_in_words(patient: Patient) -> str:
    """Return the beginning of a sentence about the runs under way; empty where there are none."""
    count = _runs_under_way(patient)
    if count is None:
        return "Runs may be"
    return there_are(count, "run") if count else ""


def _runs_under_way(patient: Patient) -> int | None:
    """Return how many runs are under way; None where these credentials cannot see."""
    try:
        return patient.runs_under_way if patient.deployed else 0
    except (ClientError, BotoCoreError):
        return None


def _sentence(text: str) -> str:
    return text if text.endswith((".", "?")) else f"{text}."


_MAKE_AGAIN = (
    "Make it again by hand under the same name, or drain and delete the stack and deploy it anew (docs/operations.md)."
)


def _guarded(check: Check, patient: Patient) -> Iterator[Finding]:
    name = check.__name__.removeprefix("check_")
    try:
        yield from check(patient)
    except ClientError as error:
        if is_gone(error):
            # A deployment leaves alone what the template has not changed, so it would not make it again.
            yield Finding(
                name, WRONG, f"What the stack made does not exist any more: {_sentence(str(error))} {_MAKE_AGAIN}"
            )
        else:
            yield Finding(name, UNKNOWN, f"These credentials cannot look: {error}")
    except BotoCoreError as error:
        yield Finding(name, UNKNOWN, f"This cannot be seen from here: {error}")


# --- before deploying -------------------------------------------------------------------------------------------------


def check_identity(patient: Patient) -> Iterator[Finding]:
    """Region and partition belong together."""
    arn = patient.identity["Arn"]
    who = f"{arn.split(':')[5].rpartition('/')[2]} of {arn.split(':')[4]} in {patient.region}"
    try:
        expected = botocore.session.get_session().get_partition_for_region(patient.region)
    except UnknownRegionError:
        mend = f"aws configure set region REGION{patient.as_chosen}"
        yield Finding("identity", WRONG, f"{who}: there is no such region.", mend)
        return
    yield _judge(
        "identity",
        patient.partition == expected,
        who,
        f"{who}: these credentials are of another partition than the region.",
        "aws configure --profile PROFILE && export AWS_PROFILE=PROFILE",
    )


def check_images(patient: Patient) -> Iterator[Finding]:
    """The built-in algorithm's image is known for the region."""
    for pipeline in patient.pipelines:
        image = pipeline.images.uri(patient.region, patient.url_suffix)
        yield _judge(
            "image",
            bool(image),
            str(image),
            f"{pipeline.name} knows no image account for {patient.region}: add the one that AWS documents, or let each "
            "run name an image by parameters.training_image, from a repository called kmeans.",
            f"${{EDITOR:-vi}} pipelines/{pipeline.name}/pipeline.toml",
        )


def check_quotas(patient: Patient) -> Iterator[Finding]:
    """The account may start the instances that each pipeline takes at once."""
    pages = patient.client("service-quotas").get_paginator("list_service_quotas").paginate(ServiceCode="sagemaker")
    quotas = {quota["QuotaName"]: quota for page in pages for quota in page["Quotas"]}
    for pipeline in patient.pipelines:
        for (kind, instance), count in instances_at_once(pipeline).items():
            name = f"{instance} for {kind} job usage" if kind != "endpoint" else f"{instance} for endpoint usage"
            yield _quota(name, quotas.get(name), count, patient.here)


def _quota(name: str, quota: Mapping[str, Any] | None, count: int, here: str) -> Finding:
    if quota is None:
        return Finding("quota", UNKNOWN, f"Service Quotas does not list {name}.")
    return _judge(
        "quota",
        quota["Value"] >= count,
        f"{name}: {quota['Value']:g}, {count} needed",
        f"{name} is {quota['Value']:g}, and a run takes {count} at once.",
        f"aws service-quotas request-service-quota-increase --service-code sagemaker "
        f"--quota-code {quota['QuotaCode']} --desired-value {count} {here}",
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
        limit = f"each at most {value.get('training_max_seconds', '?')} s"
        yield Finding("plan", OK, f"{pipeline.name}: {jobs} tuning jobs and 1 training job, {limit}")
        for (kind, instance), count in instances_at_once(pipeline).items():
            fate = f", then {pipeline.endpoint_fate}" if kind == "endpoint" else ""
            yield Finding("plan", OK, f"{pipeline.name}: {count} x {instance} at once for {kind}{fate}")


# --- after deploying --------------------------------------------------------------------------------------------------


def check_stack(patient: Patient) -> Iterator[Finding]:
    """There is a stack, and its last deployment went well."""
    name, region = patient.stack_name, patient.region
    if patient.stack is None:
        yield Finding("stack", WRONG, f"There is no stack {name} in {region}.", patient.deploy_first())
        return
    status = patient.stack["StackStatus"]
    good = status in ("CREATE_COMPLETE", "UPDATE_COMPLETE", "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS")
    failing = (
        " The wait will end with an error, since the creation has failed." if status == "ROLLBACK_IN_PROGRESS" else ""
    )
    yield _judge("stack", good, f"{name} is {status}", f"{name} is {status}.{failing}", _mend_stack(patient, status))


_WAITERS = {
    "CREATE_IN_PROGRESS": "stack-create-complete",
    "ROLLBACK_IN_PROGRESS": "stack-create-complete",
    "DELETE_IN_PROGRESS": "stack-delete-complete",
    "UPDATE_IN_PROGRESS": "stack-update-complete",
    "UPDATE_ROLLBACK_IN_PROGRESS": "stack-rollback-complete",
    "UPDATE_ROLLBACK_COMPLETE_CLEANUP_IN_PROGRESS": "stack-rollback-complete",
    "IMPORT_IN_PROGRESS": "stack-import-complete",
}
"""What waits for the end of each operation; no waiter ends at once with the rollback of an import."""


def _mend_stack(patient: Patient, status: str) -> str:
    target = patient.this_stack
    if status in ("ROLLBACK_COMPLETE", "ROLLBACK_FAILED", "CREATE_FAILED", "DELETE_FAILED"):
        return f"aws cloudformation delete-stack {target}"
    if status == "UPDATE_ROLLBACK_FAILED":
        return f"aws cloudformation continue-update-rollback {target}"
    if status in _WAITERS:
        return f"aws cloudformation wait {_WAITERS[status]} {target}"
    if status == "REVIEW_IN_PROGRESS":
        # A change set that nobody executed: nothing was deployed, and no parameter has a value yet.
        return patient.deploy_first()
    if status.endswith("_IN_PROGRESS"):
        return f"{COMMANDS}baton doctor {target}"
    return patient.deploy()


def check_runs(patient: Patient) -> Iterator[Finding]:
    """Whether runs are under way, which is nothing wrong."""
    count = patient.runs_under_way
    words = f"{count} under way; docs/operations.md lists what must not change meanwhile" if count else "none under way"
    yield Finding("runs", OK, words)


def check_bucket(patient: Patient) -> Iterator[Finding]:
    """The run bucket tells EventBridge of uploads and keeps versions."""
    bucket, s3 = patient.outputs["RunBucketName"], patient.client("s3")
    present = s3.get_bucket_notification_configuration(Bucket=bucket)
    # The call replaces the whole configuration, so that of others in the bucket is given again.
    whole = {k: v for k, v in present.items() if k != "ResponseMetadata"} | {"EventBridgeConfiguration": {}}
    yield _judge(
        "notifications",
        "EventBridgeConfiguration" in present,
        "the run bucket tells EventBridge of uploads",
        f"{bucket} does not tell EventBridge of uploads, so none starts a run.",
        f"aws s3api put-bucket-notification-configuration --bucket {bucket} {patient.here} "
        f"--notification-configuration {shlex.quote(json.dumps(whole))}",
    )
    yield _judge(
        "versions",
        s3.get_bucket_versioning(Bucket=bucket).get("Status") == "Enabled",
        "the run bucket keeps versions",
        f"{bucket} keeps no versions: an overwritten upload could be read for another.",
        f"aws s3api put-bucket-versioning --bucket {bucket} {patient.here} --versioning-configuration Status=Enabled",
    )


def check_rules(patient: Patient) -> Iterator[Finding]:
    """Every EventBridge rule of the stack is enabled."""
    events = patient.client("events")
    for logical_id, name in sorted(patient.resources.items()):
        if logical_id.endswith("Rule"):
            rule = name.rpartition("/")[2]
            yield _judge(
                "rule",
                events.describe_rule(Name=rule)["State"].startswith("ENABLED"),
                f"{logical_id} is enabled",
                f"{logical_id} is disabled.",
                f"aws events enable-rule --name {rule} {patient.here}",
            )


def check_queue(patient: Patient) -> Iterator[Finding]:
    """Nothing waits in the dead-letter queue, and the outcome queue is read."""
    count = patient.messages_in("DeadLetterQueueUrl")
    yield _judge(
        "dead letters",
        count == 0,
        "none",
        f"{counted(count, 'event')} could not be handled (docs/operations.md).",
        f"{COMMANDS}baton redrive {patient.this_stack}",
    )
    mapping = patient.resources["OutcomeQueueMapping"]
    state = patient.client("lambda").get_event_source_mapping(UUID=mapping)["State"]
    yield _judge(
        "queue mapping",
        state == "Enabled",
        state,
        f"The outcome queue is not read: the mapping is {state}.",
        f"aws lambda update-event-source-mapping --uuid {mapping} --enabled {patient.here}",
    )


def check_role(patient: Patient) -> Iterator[Finding]:
    """SageMaker may assume the role of the jobs."""
    arn = patient.outputs["SageMakerRoleArn"]
    name, account = arn.rpartition("/")[2], arn.split(":")[4]
    trust = patient.client("iam").get_role(RoleName=name)["Role"]["AssumeRolePolicyDocument"]
    document = json.loads(trust) if isinstance(trust, str) else trust
    yield _judge(
        "role",
        _trusts_sagemaker(patient, arn, document),
        "SageMaker may assume SageMakerRole",
        f"SageMaker may not assume {name}.",
        f"aws iam update-assume-role-policy --role-name {name} {patient.here} "
        f"--policy-document {shlex.quote(json.dumps(_trust(account)))}",
    )


def _trusts_sagemaker(patient: Patient, role_arn: str, document: Mapping[str, Any]) -> bool:
    """Ask the role's trust policy, conditions included, as SageMaker asks it for a job of this account."""
    account = role_arn.split(":")[4]
    job = f"arn:{patient.partition}:sagemaker:{patient.region}:{account}:training-job/name"
    keys = {"aws:SourceAccount": account, "aws:SourceArn": job}
    sagemaker = Caller(arn=_SAGEMAKER, account_id=account, service=_SAGEMAKER)
    policies = PolicySet(resource=(parse("trust", document),))
    return bool(decide(sagemaker, Question("sts:AssumeRole", role_arn, keys), policies))


def _trust(account: str) -> dict[str, Any]:
    condition = {"StringEquals": {"aws:SourceAccount": account}}
    return {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": {"Service": _SAGEMAKER},
                "Action": "sts:AssumeRole",
                "Condition": condition,
            }
        ],
    }


def check_pods(patient: Patient) -> Iterator[Finding]:
    """The stack gives the pods their role: by IRSA here; what Pod Identity needs is looked at with the cluster."""
    chosen = patient.parameters.get("PodCredentials", "auto")
    provider = patient.parameters.get("OidcProvider", "")
    if "PodIdentity" in patient.resources or chosen == "none":
        return
    if provider:
        yield Finding("pod credentials", OK, f"IRSA with {provider}")
        return
    text = "The stack gives the pipeline's pods no role"
    if patient.partition == "aws-cn":
        # There Pod Identity is not offered, so nobody else can give them this role either.
        yield _deployed_again(patient, "pod credentials", WRONG, f"{text}.", "OidcProvider=ISSUER")
    else:
        yield _deployed_again(patient, "pod credentials", UNKNOWN, f"{text}; do you?", "EksClusterName=NAME")


# --- the cluster and Kubeflow Pipelines -------------------------------------------------------------------------------


def check_cluster(patient: Patient) -> Iterator[Finding]:
    """The cluster can be seen, is active, and can give pods a role."""
    name = patient.cluster or (patient.settings.kfp_cluster if patient.deployed else "")
    if not name:
        return
    try:
        cluster = patient.client("eks").describe_cluster(name=name)["cluster"]
    except ClientError as error:
        if not is_gone(error):
            raise
        text = f"There is no cluster {name} in {patient.region}."
        if patient.deployed:
            yield _replaced(patient, "cluster", text, "EksClusterName=NAME")
        else:
            yield Finding("cluster", WRONG, text, f"aws eks list-clusters {patient.here}")
        return
    good, status = cluster["status"] == "ACTIVE", f"{name} is {cluster['status']}"
    wait = f"aws eks wait cluster-active --name {name} {patient.here}"
    yield _judge("cluster", good, status, f"{status}.", wait)
    if good and ("PodIdentity" in patient.resources if patient.deployed else patient.partition != "aws-cn"):
        yield _pod_identity(patient, name, cluster)
    if good and patient.deployed and patient.settings.kfp_mode == "eks-proxy":
        yield from _cluster_access(patient, name, cluster)


def _cluster_access(patient: Patient, name: str, cluster: Mapping[str, Any]) -> Iterator[Finding]:
    """The roles of the functions that call Kubeflow Pipelines are let into the cluster."""
    mode = (cluster.get("accessConfig") or {}).get("authenticationMode", "CONFIG_MAP")
    if mode not in ENTRY_MODES:
        text = f"{name} takes no access entries: its authentication mode is {mode}."
        mend = f"aws eks update-cluster-config --name {name} {patient.here}"
        yield Finding("cluster access", WRONG, text, f"{mend} --access-config authenticationMode={ENTRY_MODES[1]}")
        return
    for role in patient.outputs["KfpClientRoleArns"].split(","):
        yield _access_of(patient, name, role)


def _access_of(patient: Patient, cluster: str, role: str) -> Finding:
    title = role.rpartition("/")[2]
    target = f"--cluster-name {cluster} --principal-arn {role} {patient.here}"
    try:
        entry = patient.client("eks").describe_access_entry(clusterName=cluster, principalArn=role)["accessEntry"]
    except ClientError as error:
        if not is_gone(error):
            raise
        text = f"{title} has no access entry in {cluster}, so it does not reach Kubeflow Pipelines."
        mend = f"aws eks create-access-entry {target} --kubernetes-groups {KFP_GROUP}"
        return Finding("cluster access", WRONG, text, mend)
    groups = entry.get("kubernetesGroups") or []
    # The call replaces the groups, so those that are there are given again.
    return _judge(
        "cluster access",
        KFP_GROUP in groups,
        f"{title} is in {KFP_GROUP}",
        f"The access entry of {title} in {cluster} lacks the group {KFP_GROUP}.",
        f"aws eks update-access-entry {target} --kubernetes-groups {' '.join([*groups, KFP_GROUP])}",
    )


def _pod_identity(patient: Patient, name: str, cluster: Mapping[str, Any]) -> Finding:
    built_in = bool((cluster.get("computeConfig") or {}).get("enabled"))
    return _judge(
        "pod identity",
        built_in or _has_agent(patient.client("eks"), name),
        "the cluster can give pods their role",
        f"{name} has no add-on {POD_IDENTITY_AGENT}, so the pods of a pipeline get no credentials.",
        f"aws eks create-addon --cluster-name {name} --addon-name {POD_IDENTITY_AGENT} {patient.here}",
    )


def _has_agent(eks: Any, cluster: str) -> bool:
    try:
        eks.describe_addon(clusterName=cluster, addonName=POD_IDENTITY_AGENT)
    except ClientError as error:
        if is_gone(error):
            return False
        raise
    return True


def check_given_kfp(patient: Patient) -> Iterator[Finding]:
    """Kubeflow Pipelines answers at the URL that was given, before there is a stack."""
    if patient.kfp_url:
        place = Settings(patient.partition, patient.region, patient.url_suffix, kfp_url=patient.kfp_url)
        yield _kubeflow(patient, place)


def check_kfp(patient: Patient) -> Iterator[Finding]:
    """Kubeflow Pipelines answers from here, is new enough, and lets the stack's user into its namespace."""
    settings = patient.settings
    if patient.kfp_url:
        settings = dataclasses.replace(settings, kfp_mode="direct", kfp_url=patient.kfp_url)
    yield _kubeflow(patient, settings)


def _kubeflow(patient: Patient, settings: Settings) -> Finding:
    multi_user = False
    try:
        client = _client(patient, settings)
        if client is None:
            return Finding("kubeflow pipelines", UNKNOWN, f"reached through {settings.kfp_cluster}, which is not there")
        health = client.require_version()
        multi_user = health.multi_user
        # Anybody may ask for the version; runs are listed and started as a user, in a namespace.
        if patient.deployed:
            client.find_experiment(settings.kfp_experiment)
    except BatonError as error:
        if multi_user and isinstance(error, KfpRefused):
            return _not_let_in(patient, settings, error)
        return _no_kubeflow(patient, settings, error)
    if multi_user and patient.deployed and patient.settings.kfp_mode == "eks-proxy":
        text = "multi-user, for which the mode eks-proxy is not"
        return _deployed_again(patient, "kubeflow pipelines", WRONG, text, "KfpMode=direct", "KfpUrl=URL", *_PROFILE)
    users = "multi-user" if multi_user else "single-user"
    build = health.tag or "an unnamed build"
    mode = settings.kfp_mode if not patient.kfp_url else f"at {patient.kfp_url}"
    return Finding("kubeflow pipelines", OK, f"{build}, {users}, {mode}")


def _client(patient: Patient, settings: Settings) -> KfpClient | None:
    """Return a client of Kubeflow Pipelines; None where the cluster that it goes through has gone."""
    try:
        return connect(settings, patient.client)
    except ClientError as error:
        if is_gone(error):
            return None
        raise


_PROFILE = ("KfpUser=USER", "KfpNamespace=NAMESPACE")


def _not_let_in(patient: Patient, settings: Settings, error: KfpRefused) -> Finding:
    """Say that a multi-user installation does not let the stack's user, or one without a name, into the namespace."""
    text = f"multi-user, and {settings.kfp_user or 'nobody'} may list nothing in {settings.kfp_namespace}: {error}"
    return _replaced(patient, "kubeflow pipelines", text, *_PROFILE[bool(settings.kfp_user) :])


def _no_kubeflow(patient: Patient, settings: Settings, error: BatonError) -> Finding:
    text = f"{type(error).__name__}: {error}"
    if isinstance(error, KfpTooOld):
        return _too_old(patient, text)
    proxied = patient.deployed and not patient.kfp_url and settings.kfp_mode == "eks-proxy"
    if proxied and isinstance(error, KfpRefused):
        # The API server judges whoever asks: here that is you, and not one of the functions.
        apply = "kubectl apply -f deploy/kubernetes/kfp-proxy-access.yaml"
        text = f"{text} Your own credentials were refused; the functions get in by their access entries and this:"
        return Finding("kubeflow pipelines", UNKNOWN, text, apply)
    secret = settings.kfp_secret_arn
    if secret and isinstance(error, KfpMisconfigured):
        unusable = _unusable_secret(patient, secret)
        if unusable:
            return unusable
    if secret and (isinstance(error, KfpRefused) or str(error).startswith(LOGIN_PAGE)):
        return Finding("kubeflow pipelines", WRONG, f"{_sentence(text)} {_WHAT_IS_TAKEN}", _put_secret(patient, secret))
    if patient.kfp_url and not isinstance(error, KfpRefused):
        return _nobody_there(patient, text, error)
    inside = bool(patient.deployed and (patient.launcher.get("VpcConfig") or {}).get("SubnetIds"))
    if inside and not patient.kfp_url and not isinstance(error, KfpMisconfigured | KfpRefused):
        # The functions look from a network that this machine may not be in.
        look = f"{_forward(patient, 8888)} & {_look_again(patient)}"
        return Finding("kubeflow pipelines", UNKNOWN, f"Not seen from here: {text}", look)
    if proxied:
        mend = f"kubectl rollout restart deployment/ml-pipeline --namespace {settings.kfp_namespace}"
        return Finding("kubeflow pipelines", WRONG, text, mend)
    if isinstance(error, KfpRefused):
        return _replaced(patient, "kubeflow pipelines", text, "KfpSecretArn=ARN")
    return _deployed_again(patient, "kubeflow pipelines", WRONG, text, "KfpUrl=URL")


_UPGRADE = "https://www.kubeflow.org/docs/components/pipelines/operator-guides/installation/"


def _too_old(patient: Patient, text: str) -> Finding:
    # The way to upgrade is the way it was installed, which nobody can see from here.
    how = f"{_sentence(text)} Upgrade it the way in which it was installed: {_UPGRADE}"
    if _runs_under_way(patient) == 0:
        return Finding("kubeflow pipelines", WRONG, how)
    how = f"{how} Drain the runs before, and enable uploads after it: {enable_uploads(patient)}"
    return Finding("kubeflow pipelines", WRONG, how, drain_command(patient))


_WHAT_IS_TAKEN = 'The secret wants a token that is taken: {"token"}, or {"header", "value"}. No deployment is needed.'


def _put_secret(patient: Patient, arn: str) -> str:
    text = """'{"token": "TOKEN"}'"""
    return f"aws secretsmanager put-secret-value --secret-id {arn} --secret-string {text} {patient.here}"


def _unusable_secret(patient: Patient, arn: str) -> Finding | None:
    """Say what is wrong with the secret itself, if anything is."""
    try:
        SecretAccess(patient.client("secretsmanager"), arn).headers()
    except KfpMisconfigured as error:
        cause = error.__cause__
        if not isinstance(cause, ClientError):
            return Finding("kubeflow pipelines", WRONG, str(error), _put_secret(patient, arn))
        if is_gone(cause):
            return _replaced(patient, "kubeflow pipelines", str(error), "KfpSecretArn=ARN")
        mend = f"aws secretsmanager restore-secret --secret-id {arn} {patient.here}"
        return Finding("kubeflow pipelines", WRONG, str(error), mend)
    return None


def _nobody_there(patient: Patient, text: str, error: BatonError) -> Finding:
    """Say that Kubeflow Pipelines does not answer at the URL that was given, which no deployment changes."""
    silent = isinstance(error.__cause__, Unreached | Unanswered)
    parts = urlsplit(patient.kfp_url)
    local = silent and parts.hostname in ("localhost", "127.0.0.1", "::1")
    said = f"{'Nobody answers' if silent else 'There is no Kubeflow Pipelines'} at {patient.kfp_url}: {text}"
    return Finding("kubeflow pipelines", WRONG, said, _forward(patient, parts.port or 80) if local else "")


def _forward(patient: Patient, port: int) -> str:
    namespace = patient.settings.kfp_namespace if patient.deployed else "kubeflow"
    ports = "8888" if port == 8888 else f"{port}:8888"
    return f"kubectl port-forward --namespace {namespace} service/ml-pipeline {ports}"


def _look_again(patient: Patient) -> str:
    return f"{COMMANDS}baton doctor {patient.this_stack} --kfp-url http://localhost:8888"
