"""What ``baton doctor`` looks at, one function a check, all with the credentials of whoever calls it.

A check answers with Findings: ok, or what is wrong and the exact command that mends it. ``unknown`` is for what these
credentials, or this network, cannot see, and is no failure.
"""

from __future__ import annotations

import dataclasses
import json
import shlex
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, TypeVar
from urllib.parse import urlsplit

from botocore.exceptions import BotoCoreError, ClientError

from baton.catalogue import Pipeline
from baton.errors import BatonError, KfpMisconfigured, KfpRefused, KfpTooOld, KfpUnavailable
from baton.kfp import connect
from baton.kfp.access import SecretAccess
from baton.kfp.answers import LOGIN_PAGE, NO_API, NOT_THE_API, is_busy, wants_credentials
from baton.kfp.client import KfpClient
from baton.kfp.connect import NO_URL, UNREADABLE_AUTHORITY, NoApiServer
from baton.kfp.transport import TLS_FAILED, Unanswered, Unreached
from baton.settings import Settings
from baton_cli.account import COMMANDS, counted, is_gone, there_are
from baton_cli.drained import drain_command, enable_uploads, must_wait
from baton_cli.identity import check_identity
from baton_cli.patient import OK, UNKNOWN, UNSEEN, WRONG, Finding, Missing, Patient, judge, sentence
from baton_cli.proxy_access import KFP_GROUP, check_proxy_access
from baton_cli.stack import CLEANING_UP, TAKES_UPDATE, check_stack
from baton_local.iam.documents import parse
from baton_local.iam.evaluator import Caller, PolicySet, Question, decide

STAGES = {"training": "training", "tuning": "training", "endpoint": "endpoint", "transform": "transform"}
"""Which parameters of a pipeline say what instances a stage takes."""

POD_IDENTITY_AGENT = "eks-pod-identity-agent"
"""The add-on without which Pod Identity gives no credentials; clusters in Auto Mode have it built in.

https://docs.aws.amazon.com/eks/latest/userguide/pod-id-agent-setup.html
"""

AGENT_AT_WORK = frozenset({"ACTIVE", "UPDATING", "UPDATE_FAILED"})
"""The statuses in which the agent gives credentials, be it in its last version."""

_AGENT_AGAIN = ("delete-addon", "wait addon-deleted", "create-addon")
AGENT_MENDS = {
    "": ("create-addon",),
    "CREATING": ("wait addon-active",),
    "CREATE_FAILED": _AGENT_AGAIN,
    # Not waited for: the waiter heeds no UPDATE_FAILED.
    "DEGRADED": ("update-addon --resolve-conflicts OVERWRITE",),
    "DELETING": ("wait addon-deleted", "create-addon"),
    "DELETE_FAILED": _AGENT_AGAIN,
}
"""What leads to an agent from each of the other statuses, where there is none from the empty one."""

_AGENT_ON_ITS_WAY = ("wait addon-active",)
"""What to do in a status that is newer than this list."""

CLUSTER_GOOD = frozenset({"ACTIVE", "UPDATING"})
CLUSTER_LOST = frozenset({"DELETING", "FAILED"})
"""The statuses of clusters that answer, also during an update, and of those that never will again; others are to come.

https://docs.aws.amazon.com/eks/latest/APIReference/API_Cluster.html
"""

ENTRY_MODES = ("API", "API_AND_CONFIG_MAP")
"""The authentication modes in which a cluster heeds access entries.

https://docs.aws.amazon.com/eks/latest/userguide/setting-up-access-entries.html
"""

_SAGEMAKER = "sagemaker.amazonaws.com"

Check = Callable[[Patient], Iterator[Finding]]
T = TypeVar("T")


OTHERS = (
    "AWS::IAM::Role",
    "AWS::Lambda::Function",
    "AWS::SNS::Topic",
    "AWS::SQS::Queue",
    "AWS::StepFunctions::StateMachine",
)
"""The types of what is only looked for, since no setting of it goes wrong by itself."""

_OF_OTHER_CHECKS = frozenset({"DeadLetterQueue", "LaunchPipelineFunction", "SageMakerRole", "TrainingRunMachine"})
"""What is of these types and looked at more closely."""

FIRST = ("region", "identity")
"""The findings without which nothing else can be looked at."""


def examine(patient: Patient) -> Iterator[Finding]:
    """Yield every finding; a check that cannot look says so and the others go on.

    Where the region or the credentials are no good, what is wrong with them is all that there is to find.
    """
    identity = list(_guarded(check_identity, patient))
    yield from identity
    if identity[-1].state != OK:
        return
    first: tuple[Check, ...] = (check_images, check_quotas, check_plan, check_stack)
    for check in first:
        yield from _guarded(check, patient)
    before: tuple[Check, ...] = (check_cluster, check_given_kfp)
    after: tuple[Check, ...] = (
        check_runs,
        check_bucket,
        check_rules,
        check_queue,
        check_role,
        check_others,
        check_pods,
    )
    told: set[str] = set()
    for check in (*after, check_cluster, check_kfp) if patient.deployed else before:
        for finding in _guarded(check, patient):
            # What more than one check needs is mended once.
            yield dataclasses.replace(finding, state=UNKNOWN, mend="") if finding.detail in told else finding
            told |= {finding.detail} if finding.state == WRONG else set()


def _deployed_again(patient: Patient, check: str, state: str, text: str, *overrides: str) -> Finding:
    """Return a finding that a deployment with other parameters mends, at a time at which runs under way allow it."""
    runs, waiting = _runs_in_words(patient), must_wait(overrides)
    mend, parts = patient.deploy(*overrides), [sentence(text), _keep_it(patient)]
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
    runs, parts = _runs_in_words(patient), [sentence(text), _keep_it(patient)]
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


_MAKES_AGAIN = "The command makes it again as the template has it, and takes back whatever else was changed by hand."
_BRINGS_BACK = (
    "Before, it restores the table from the backup that DynamoDB keeps for 35 days; without one, leave that part away."
)


def _missing(patient: Patient, check: str, missing: Missing) -> Finding:
    """Say that something of the stack was deleted, which a deployment leaves so, or that the stack never had it."""
    name = missing.logical_id
    if not missing.physical_id:
        text = f"The stack has no {name}, so another version of the template made it, or it is being made."
        return _updated(patient, Finding(check, UNKNOWN, text, patient.deploy()))
    named, status = f"{name} ({missing.physical_id})", patient.table_status
    if name in patient.under_way:
        return Finding(check, UNKNOWN, f"{named} is not there while CloudFormation makes or changes it.")
    if missing.going:
        text = f"{named} is being deleted, which lasts until its runs have ended: somebody deleted it."
        mend = patient.make_again_after(missing.physical_id)
        return _updated(patient, Finding(check, WRONG, text, mend), _MAKES_AGAIN)
    if name == "Table" and status == "CREATING":
        text = f"{named} is being made, or restored."
        return _updated(patient, Finding(check, UNKNOWN, text, patient.make_again()), _MAKES_AGAIN)
    if name == "Table" and status not in ("", "DELETING"):
        return _unread(patient, check, named, status)
    text = f"{named} does not exist any more: somebody deleted it."
    # Without the rows nobody knows what the runs under way have made.
    promise = f"{_MAKES_AGAIN} {_BRINGS_BACK}" if status in ("", "DELETING") else _MAKES_AGAIN
    return _updated(patient, Finding(check, WRONG, text, patient.make_again()), promise)


def _unread(patient: Patient, check: str, named: str, status: str) -> Finding:
    if status == UNSEEN:
        text = f"{named} is deleted, or being restored: these credentials cannot see which (dynamodb:DescribeTable)."
        return Finding(check, UNKNOWN, text)
    return Finding(check, UNKNOWN, f"{named} could not be read, and is {status}; look again.", patient.look_again)


def _updated(patient: Patient, finding: Finding, promise: str = "") -> Finding:
    """Return what an update mends, which has to wait where CloudFormation takes none.

    ``promise``: what is said of the command, where there is one.
    """
    if patient.status not in (*TAKES_UPDATE, CLEANING_UP):
        text = f"{finding.detail} The stack takes no update while it is {patient.status}: mend the stack first."
        return Finding(finding.check, UNKNOWN, text)
    promised = dataclasses.replace(finding, detail=f"{finding.detail} {promise}".rstrip())
    if patient.status != CLEANING_UP:
        return promised
    wait = f"aws cloudformation wait stack-update-complete {patient.this_stack}"
    return dataclasses.replace(promised, mend=f"{wait} && {finding.mend}")


def _look_at(patient: Patient, check: str, logical_id: str, look: Callable[[str], T]) -> T | Finding:
    """Return what a look at one resource finds, by its physical id; that it is missing says nothing of the others."""
    try:
        with patient.resource(logical_id) as physical_id:
            return look(physical_id)
    except Missing as missing:
        return _missing(patient, check, missing)


def _guarded(check: Check, patient: Patient, name: str = "") -> Iterator[Finding]:
    name = name or check.__name__.removeprefix("check_")
    try:
        yield from check(patient)
    except Missing as missing:
        yield _missing(patient, name, missing)
    except ClientError as error:
        yield Finding(name, UNKNOWN, f"These credentials cannot look: {error}")
    except BotoCoreError as error:
        yield Finding(name, UNKNOWN, f"This cannot be seen from here: {error}")
    except Exception as error:
        # Nobody has foreseen it, and the other checks are worth as much without this one.
        text = f"This check failed, for which Baton is to blame: {type(error).__name__}: {error}"
        yield Finding(name, UNKNOWN, text)


# --- before deploying -------------------------------------------------------------------------------------------------


def check_images(patient: Patient) -> Iterator[Finding]:
    """The built-in algorithm's image is known for the region; runs have the pipelines of the last deployment."""
    deploy = f" && {patient.deploy()}" if patient.deployed else ""
    for pipeline in patient.pipelines:
        image = pipeline.images.uri(patient.region, patient.url_suffix)
        yield judge(
            "image",
            bool(image),
            str(image),
            f"{pipeline.name} knows no image account for {patient.region}: add the one that AWS documents, or let each "
            "run name an image by parameters.training_image, from a repository called kmeans.",
            f"${{EDITOR:-vi}} pipelines/{pipeline.name}/pipeline.toml{deploy}",
        )


def check_quotas(patient: Patient) -> Iterator[Finding]:
    """The account may start the instances that each pipeline takes at once."""
    quotas = _quotas_by_name(patient, "list_service_quotas")
    needed = {
        f"{instance} for {kind}{'' if kind == 'endpoint' else ' job'} usage": (instance, count)
        for pipeline in patient.pipelines
        for (kind, instance), count in instances_at_once(pipeline).items()
    }
    if not needed.keys() <= quotas.keys():
        # Of some quotas AWS keeps only the default, until one is granted more; those it lists apart.
        quotas = {**_quotas_by_name(patient, "list_aws_default_service_quotas"), **quotas}
    for name, (instance, count) in needed.items():
        yield _quota(name, quotas.get(name), count, instance, patient.here)


def _quotas_by_name(patient: Patient, operation: str) -> dict[str, Mapping[str, Any]]:
    pages = patient.client("service-quotas").get_paginator(operation).paginate(ServiceCode="sagemaker")
    return {quota["QuotaName"]: quota for page in pages for quota in page["Quotas"]}


def _quota(name: str, quota: Mapping[str, Any] | None, count: int, instance: str, here: str) -> Finding:
    if quota is None:
        query = shlex.quote(f"Quotas[?contains(QuotaName, '{instance}')].[QuotaName, Value]")
        list_them = (
            f"aws service-quotas list-aws-default-service-quotas --service-code sagemaker --query {query} {here}"
        )
        return Finding("quota", UNKNOWN, f"Service Quotas lists no {name}: is it offered in this region?", list_them)
    return judge(
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


def check_runs(patient: Patient) -> Iterator[Finding]:
    """Whether runs are under way, which is nothing wrong."""
    running = _look_at(patient, "runs", "TrainingRunMachine", lambda _: patient.executions)
    left = _look_at(patient, "runs", "Table", lambda _: patient.not_cleaned_up)
    missing = [each for each in (running, left) if isinstance(each, Finding)]
    if missing:
        yield from missing
        return
    count = patient.runs_under_way
    words = f"{count} under way; docs/operations.md lists what must not change meanwhile" if count else "none under way"
    yield Finding("runs", OK, words)


def check_bucket(patient: Patient) -> Iterator[Finding]:
    """The run bucket tells the EventBridge of the stack's region of uploads, and keeps versions."""
    bucket, s3 = patient.outputs["RunBucketName"], patient.client("s3")
    try:
        present = s3.get_bucket_notification_configuration(Bucket=bucket)
    except ClientError as error:
        if not is_gone(error):
            raise
        yield _no_bucket(patient, bucket)
        return
    place = _place_of(patient, bucket)
    if place:
        yield place
        if place.state == WRONG:
            return
    # The call replaces the whole configuration, so that of others in the bucket is given again.
    whole = {k: v for k, v in present.items() if k != "ResponseMetadata"} | {"EventBridgeConfiguration": {}}
    yield judge(
        "notifications",
        "EventBridgeConfiguration" in present,
        "the run bucket tells EventBridge of uploads",
        f"{bucket} does not tell EventBridge of uploads, so none starts a run.",
        f"aws s3api put-bucket-notification-configuration --bucket {bucket} {patient.here} "
        f"--notification-configuration {shlex.quote(json.dumps(whole))}",
    )
    yield judge(
        "versions",
        s3.get_bucket_versioning(Bucket=bucket).get("Status") == "Enabled",
        "the run bucket keeps versions",
        f"{bucket} keeps no versions: an overwritten upload could be read for another.",
        f"aws s3api put-bucket-versioning --bucket {bucket} {patient.here} --versioning-configuration Status=Enabled",
    )


def _place_of(patient: Patient, bucket: str) -> Finding | None:
    """Say that a bucket that the stack has not made is in another region, or that this cannot be seen."""
    if not patient.parameters.get("ExistingBucketName"):
        return None
    try:
        region = patient.client("s3").head_bucket(Bucket=bucket).get("BucketRegion", "")
    except ClientError as error:
        text = f"These credentials cannot see in which region {bucket} is (s3:ListBucket): {error}"
        return Finding("bucket", UNKNOWN, text)
    if region in ("", patient.region):
        return None
    # botocore asks S3 in the bucket's own region, so that everything else looks well from here.
    text = (
        f"{bucket} is in {region}, and so are the events of its uploads: none starts a run in {patient.region}, "
        "nor does SageMaker take a bucket of another region."
    )
    return _deployed_again(patient, "bucket", WRONG, text, "ExistingBucketName=BUCKET")


def _no_bucket(patient: Patient, bucket: str) -> Finding:
    if "RunBucket" in patient.resources:
        return _missing(patient, "bucket", Missing("RunBucket", bucket))
    text = f"{bucket}, which the stack has not made, does not exist any more."
    return _deployed_again(patient, "bucket", WRONG, text, "ExistingBucketName=BUCKET")


def check_rules(patient: Patient) -> Iterator[Finding]:
    """Every EventBridge rule of the stack is enabled."""
    for logical_id in sorted(patient.resources):
        if logical_id.endswith("Rule"):
            yield _look_at(patient, "rule", logical_id, partial(_rule, patient, logical_id))


def _rule(patient: Patient, logical_id: str, physical_id: str) -> Finding:
    rule = physical_id.rpartition("/")[2]
    return judge(
        "rule",
        patient.client("events").describe_rule(Name=rule)["State"].startswith("ENABLED"),
        f"{logical_id} is enabled",
        f"{logical_id} is disabled.",
        f"aws events enable-rule --name {rule} {patient.here}",
    )


def check_queue(patient: Patient) -> Iterator[Finding]:
    """Nothing waits in the dead-letter queue, and the outcome queue is read."""
    yield _look_at(patient, "dead letters", "DeadLetterQueue", lambda _: _dead_letters(patient))
    yield _look_at(patient, "queue mapping", "OutcomeQueueMapping", partial(_mapping, patient))


def _dead_letters(patient: Patient) -> Finding:
    count = patient.messages_in("DeadLetterQueueUrl")
    return judge(
        "dead letters",
        count == 0,
        "none",
        f"{counted(count, 'event')} could not be handled (docs/operations.md).",
        f"{COMMANDS}baton redrive {patient.this_stack}",
    )


def _mapping(patient: Patient, mapping: str) -> Finding:
    state = patient.client("lambda").get_event_source_mapping(UUID=mapping)["State"]
    if state.endswith("ing"):
        # Creating, Enabling, Updating, Disabling, Deleting: Lambda takes no change of it before that is over.
        text = f"The mapping is {state}; look again in a while."
        return Finding("queue mapping", UNKNOWN, text, patient.look_again)
    return judge(
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
    with patient.resource("SageMakerRole"):
        trust = patient.client("iam").get_role(RoleName=name)["Role"]["AssumeRolePolicyDocument"]
    document = json.loads(trust) if isinstance(trust, str) else trust
    yield judge(
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


def check_others(patient: Patient) -> Iterator[Finding]:
    """Nobody has deleted the other roles, functions, topics, queues and state machines; each that is gone is told."""
    for kind in OTHERS:
        yield from _guarded(partial(_gone_of, kind), patient, "resources")


def _gone_of(kind: str, patient: Patient) -> Iterator[Finding]:
    for each in patient.made:
        logical_id = each["LogicalResourceId"]
        if each.get("ResourceType") == kind and logical_id not in _OF_OTHER_CHECKS:
            found = _look_at(patient, "resources", logical_id, partial(patient.describe, kind))
            if isinstance(found, Finding):
                yield found


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
        yield _no_cluster(patient, f"There is no cluster {name} in {patient.region}.")
        return
    status = cluster["status"]
    if status in CLUSTER_LOST:
        yield _no_cluster(patient, f"{name} is {status}.")
        return
    good = status in CLUSTER_GOOD
    wait = f"aws eks wait cluster-active --name {name} {patient.here}"
    yield judge("cluster", good, f"{name} is {status}", f"{name} is {status}.", wait)
    if good and ("PodIdentity" in patient.resources if patient.deployed else patient.partition != "aws-cn"):
        yield _pod_identity(patient, name, cluster)
    if good and patient.deployed and patient.settings.kfp_mode == "eks-proxy":
        yield from _cluster_access(patient, name, cluster)


def _no_cluster(patient: Patient, text: str) -> Finding:
    # The stack has the cluster of its own parameter, whatever somebody else asks about.
    if patient.deployed and patient.cluster in ("", patient.settings.kfp_cluster):
        return _replaced(patient, "cluster", text, "EksClusterName=NAME")
    return Finding("cluster", WRONG, text, f"aws eks list-clusters {patient.here}")


def _cluster_access(patient: Patient, name: str, cluster: Mapping[str, Any]) -> Iterator[Finding]:
    """The roles of the functions that call Kubeflow Pipelines are let into the cluster, and their group further on."""
    # First, since who may not look at access entries may still ask this.
    yield from check_proxy_access(patient, name, cluster)
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
    return judge(
        "cluster access",
        KFP_GROUP in groups,
        f"{title} is in {KFP_GROUP}",
        f"The access entry of {title} in {cluster} lacks the group {KFP_GROUP}.",
        f"aws eks update-access-entry {target} --kubernetes-groups {' '.join([*groups, KFP_GROUP])}",
    )


def _pod_identity(patient: Patient, name: str, cluster: Mapping[str, Any]) -> Finding:
    """Judge the agent, as the cluster's add-on or as a part of it."""
    well = Finding("pod identity", OK, "the cluster can give pods their role")
    if (cluster.get("computeConfig") or {}).get("enabled"):
        return well
    agent = _agent(patient.client("eks"), name)
    status = agent.get("status", "")
    if status in AGENT_AT_WORK:
        return well
    what = f"is {status}" if status else "is missing"
    issues = [sentence(str(issue["message"])) for issue in (agent.get("health") or {}).get("issues") or []]
    text = f"The add-on {POD_IDENTITY_AGENT} of {name} {what}, so the pods of a pipeline may get no credentials."
    target = f"--cluster-name {name} --addon-name {POD_IDENTITY_AGENT} {patient.here}"
    steps = " && ".join(f"aws eks {step} {target}" for step in AGENT_MENDS.get(status, _AGENT_ON_ITS_WAY))
    return Finding("pod identity", WRONG, " ".join([text, *issues]), steps)


def _agent(eks: Any, cluster: str) -> dict[str, Any]:
    """Return the add-on as EKS shows it, or nothing where there is none."""
    try:
        found: dict[str, Any] = eks.describe_addon(clusterName=cluster, addonName=POD_IDENTITY_AGENT)["addon"]
    except ClientError as error:
        if is_gone(error):
            return {}
        raise
    return found


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
    if patient.deployed and not patient.kfp_url and settings.kfp_mode == "eks-proxy":
        return _no_proxied_kubeflow(patient, settings, text, error)
    secret = settings.kfp_secret_arn
    if secret and isinstance(error, KfpMisconfigured):
        unusable = _unusable_secret(patient, secret)
        if unusable:
            return unusable
    if _may_be_another(patient, settings) and _is_not_seen(error):
        return Finding("kubeflow pipelines", UNKNOWN, f"Not seen from here: {text}", _look_through_forward(patient))
    if secret and (wants_credentials(error) or str(error).startswith(LOGIN_PAGE)):
        return Finding("kubeflow pipelines", WRONG, f"{sentence(text)} {_WHAT_IS_TAKEN}", _put_secret(patient, secret))
    if patient.kfp_url and isinstance(error, KfpUnavailable) and not _is_silent(error):
        return _unwell(patient, settings, text, error)
    if patient.kfp_url and not wants_credentials(error):
        return _nobody_there(patient, text, error)
    if _was_reached(error):
        return _unwell(patient, settings, text, error)
    if wants_credentials(error):
        return _replaced(patient, "kubeflow pipelines", text, "KfpSecretArn=ARN")
    return _deployed_again(patient, "kubeflow pipelines", WRONG, text, "KfpUrl=URL")


def _inside(patient: Patient) -> bool:
    """Return whether the functions that look are in a VPC."""
    return bool(patient.deployed and (patient.launcher.get("VpcConfig") or {}).get("SubnetIds"))


def _may_be_another(patient: Patient, settings: Settings) -> bool:
    """Return whether the functions, from their VPC, may reach another server by the stack's URL than this machine."""
    return settings.kfp_mode == "direct" and not patient.kfp_url and _inside(patient)


def _is_not_seen(error: BatonError) -> bool:
    """Return whether no Kubeflow Pipelines was found: nobody was reached, or somebody else has answered."""
    refused = isinstance(error, KfpRefused)
    return refused or isinstance(error.__cause__, Unreached) or str(error).startswith(_SOMEBODY_ELSES)


_SOMEBODY_ELSES = (TLS_FAILED, LOGIN_PAGE, NO_API, NOT_THE_API)
"""How the messages about what no Kubeflow Pipelines answers begin."""


def _is_silent(error: BatonError) -> bool:
    return isinstance(error.__cause__, Unreached | Unanswered)


def _was_reached(error: BatonError) -> bool:
    """Return whether a server that is no use was reached all the same, so that no other address would help."""
    return isinstance(error, KfpUnavailable) and not isinstance(error.__cause__, Unreached)


def _unwell(patient: Patient, settings: Settings, text: str, error: BatonError) -> Finding:
    """Say that the server is there and cannot answer now: it starts, fails, or is too busy."""
    if is_busy(error):
        return Finding("kubeflow pipelines", UNKNOWN, f"{sentence(text)} Look again in a while.", patient.look_again)
    if _may_be_another(patient, settings):
        text = f"{sentence(text)} The functions may see another server in their VPC. Looked at through a forwarded port"
        text = f"{text}, it is found to be well, or to need the restart that is offered then."
        return Finding("kubeflow pipelines", WRONG, text, _look_through_forward(patient))
    deployment = f"deployment/ml-pipeline --namespace {_servers_namespace(settings)}"
    restart = f"kubectl rollout restart {deployment} && kubectl rollout status {deployment}"
    text = f"{sentence(text)} It is there, so no deployment mends it; it may still be starting."
    return Finding("kubeflow pipelines", WRONG, text, restart)


def _no_proxied_kubeflow(patient: Patient, settings: Settings, text: str, error: BatonError) -> Finding:
    """Say what is wrong behind a Kubernetes API server, or with the way to it."""
    cluster = patient.client("eks").describe_cluster(name=settings.kfp_cluster)["cluster"]
    through = f"reached through {settings.kfp_cluster}, which is {cluster['status']}"
    if cluster["status"] in CLUSTER_LOST:
        # Whatever still answers there, or does not, is about to go; the line on the cluster has the mend.
        return Finding("kubeflow pipelines", UNKNOWN, f"{through} and will not answer any more")
    if isinstance(error, KfpRefused):
        # The API server judges whoever asks: here that is you, and not one of the functions.
        text = f"{text} Your own credentials were refused; the lines on cluster access are about the functions."
        return Finding("kubeflow pipelines", UNKNOWN, text)
    if isinstance(error.__cause__, NoApiServer):
        return Finding("kubeflow pipelines", UNKNOWN, f"{through} and has no API server yet")
    if _was_reached(error):
        return _unwell(patient, settings, text, error)
    if str(error).startswith(UNREADABLE_AUTHORITY):
        return _unreadable_authority(patient, settings, text)
    if isinstance(error, KfpUnavailable):
        return _no_api_server(patient, settings, cluster, text)
    if str(error).startswith(NO_API):
        find = "kubectl get services --all-namespaces --field-selector metadata.name=ml-pipeline"
        text = f"{sentence(text)} To see in which namespace there is one: {find}"
        return _replaced(patient, "kubeflow pipelines", text, "KfpNamespace=NAMESPACE")
    if str(error).startswith(TLS_FAILED):
        # The authority is the cluster's own, so it is not the cluster that answers.
        text = f"{sentence(text)} Something between here and {settings.kfp_cluster} answers. Look from its network."
        return Finding("kubeflow pipelines", UNKNOWN, text, patient.look_again)
    # Whoever asks has been let in by the API server, and what answers behind it wants something else.
    return _replaced(patient, "kubeflow pipelines", text, "KfpMode=direct", "KfpUrl=URL")


def _unreadable_authority(patient: Patient, settings: Settings, text: str) -> Finding:
    # EKS makes it, and shows the functions the same.
    text = f"{sentence(text)} No deployment mends it: where the command shows no such thing either, ask AWS Support."
    show = f"aws eks describe-cluster --name {settings.kfp_cluster} {patient.here} --query cluster.certificateAuthority"
    return Finding("kubeflow pipelines", WRONG, text, show)


def _no_api_server(patient: Patient, settings: Settings, cluster: Mapping[str, Any], text: str) -> Finding:
    """Say that the API server cannot be reached: by nobody outside its VPC, or not from here."""
    public = (cluster.get("resourcesVpcConfig") or {}).get("endpointPublicAccess", True)
    if public or _inside(patient):
        text = f"The API server of {settings.kfp_cluster} is not seen from here: {text}"
        return Finding("kubeflow pipelines", UNKNOWN, f"{sentence(text)} Look from its network.", patient.look_again)
    text = f"The API server of {settings.kfp_cluster} answers inside its VPC only, where the functions are not: {text}"
    return _replaced(patient, "kubeflow pipelines", text, "VpcSubnetIds=SUBNETS", "VpcSecurityGroupIds=GROUPS")


_UPGRADE = "https://www.kubeflow.org/docs/components/pipelines/operator-guides/installation/"


def _too_old(patient: Patient, text: str) -> Finding:
    # The way to upgrade is the way it was installed, which nobody can see from here.
    how = f"{sentence(text)} Upgrade it the way in which it was installed: {_UPGRADE}"
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
    silent = _is_silent(error)
    if str(error).startswith(NO_URL):
        again = f"{COMMANDS}baton doctor {patient.this_stack} --kfp-url URL"
        return Finding("kubeflow pipelines", WRONG, text, again)
    parts = urlsplit(patient.kfp_url)
    local = silent and parts.hostname in ("localhost", "127.0.0.1", "::1")
    said = f"{'Nobody answers' if silent else 'There is no Kubeflow Pipelines'} at {patient.kfp_url}: {text}"
    mend = _forward(patient, parts.port or 80) if local else f"curl -v {shlex.quote(patient.kfp_url)}"
    return Finding("kubeflow pipelines", WRONG, said, mend)


def _forward(patient: Patient, port: int) -> str:
    namespace = _servers_namespace(patient.settings) if patient.deployed else _STANDARD
    ports = "8888" if port == 8888 else f"{port}:8888"
    return f"kubectl port-forward --namespace {namespace} service/ml-pipeline {ports}"


_STANDARD = "kubeflow"
"""The namespace into which Kubeflow Pipelines is installed, unless somebody chose another."""


def _servers_namespace(settings: Settings) -> str:
    """Return the namespace of Kubeflow Pipelines itself; that of a multi-user installation's stack is a profile's."""
    return _STANDARD if settings.kfp_user else settings.kfp_namespace


def _look_through_forward(patient: Patient) -> str:
    """Return the command that forwards a port, looks through it once it is open, and closes it again."""
    look = f"{patient.look_again} --kfp-url http://localhost:8888"
    opened = "until curl -s -o /dev/null http://localhost:8888; do kill -0 $forward || exit; sleep 1; done"
    return f"({_forward(patient, 8888)} & forward=$!; trap 'kill $forward' EXIT; {opened}; {look})"
