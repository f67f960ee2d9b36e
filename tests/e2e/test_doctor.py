"""``baton doctor`` against the embedded cloud: it finds what was broken on purpose, and its commands mend it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from baton_cli.main import main
from tests.e2e.conftest import Stage
from tests.support.aws_command import AwsCommand

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("stage")]


class Doctor:
    """Calls the command with the credentials and the region of the stage."""

    def __init__(self, stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
        self.stage = stage
        self._capsys = capsys

    def look(self, *options: str) -> tuple[int, list[dict[str, str]]]:
        """Return the exit code and what is not ok."""
        code = main(["doctor", "--json", *options])
        findings: list[dict[str, str]] = json.loads(self._capsys.readouterr().out)
        assert len(findings) > 5
        return code, [finding for finding in findings if finding["state"] != "ok"]


@pytest.fixture
def doctor(stage: Stage, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Doctor]:
    for name, value in stage.deployment.cloud.environment(stage.deployment.region).items():
        monkeypatch.setenv(name, value)
    yield Doctor(stage, capsys)
    stage.sagemaker_faults()


def test_a_fresh_deployment_is_well(doctor: Doctor) -> None:
    assert doctor.look() == (0, [])


def test_before_deploying_only_the_stack_is_missing(doctor: Doctor) -> None:
    kfp = doctor.stage.deployment.cloud.kfp_url
    code, wrong = doctor.look("--stack-name", "baton-next", "--cluster", "embedded", "--kfp-url", kfp)
    assert (code, [finding["check"] for finding in wrong]) == (1, ["stack"])


def test_a_cluster_that_does_not_exist_is_seen_before_deploying(doctor: Doctor) -> None:
    _, wrong = doctor.look("--stack-name", "baton-next", "--cluster", "misspelt")
    assert [finding["check"] for finding in wrong] == ["stack", "cluster"]


def _disable_rule(stage: Stage) -> None:
    stage.deployment.client("events").disable_rule(Name=stage.deployment.physical_id("TuningJobRule"))


def _silence_bucket(stage: Stage) -> None:
    s3 = stage.deployment.client("s3")
    s3.put_bucket_notification_configuration(Bucket=stage.deployment.bucket, NotificationConfiguration={})


def _suspend_versions(stage: Stage) -> None:
    versioning = {"Status": "Suspended"}
    stage.deployment.client("s3").put_bucket_versioning(
        Bucket=stage.deployment.bucket, VersioningConfiguration=versioning
    )


def _stop_mapping(stage: Stage) -> None:
    mapping = stage.deployment.physical_id("OutcomeQueueMapping")
    stage.deployment.client("lambda").update_event_source_mapping(UUID=mapping, Enabled=False)


def _lock_sagemaker_out(stage: Stage) -> None:
    trust = {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}],
    }
    role = stage.deployment.outputs["SageMakerRoleArn"].rpartition("/")[2]
    stage.deployment.client("iam").update_assume_role_policy(RoleName=role, PolicyDocument=json.dumps(trust))


def _take_agent_away(stage: Stage) -> None:
    stage.deployment.client("eks").delete_addon(clusterName="embedded", addonName="eks-pod-identity-agent")


def _lower_quota(stage: Stage) -> None:
    stage.sagemaker_faults(limits={"training": 1})


@pytest.mark.parametrize(
    ("check", "harm"),
    [
        ("rule", _disable_rule),
        ("notifications", _silence_bucket),
        ("versions", _suspend_versions),
        ("queue mapping", _stop_mapping),
        ("role", _lock_sagemaker_out),
        ("pod identity", _take_agent_away),
        ("quota", _lower_quota),
    ],
)
def test_what_was_broken_is_found_and_its_command_mends_it(
    doctor: Doctor, check: str, harm: Callable[[Stage], Any]
) -> None:
    harm(doctor.stage)
    code, wrong = doctor.look()
    assert (code, [finding["check"] for finding in wrong]) == (1, [check])
    command = AwsCommand(wrong[0]["mend"])
    assert command.options.get("region", doctor.stage.deployment.region) == doctor.stage.deployment.region
    command.run(doctor.stage.deployment.client)
    assert doctor.look() == (0, [])


def test_a_kubeflow_that_is_down_is_found(doctor: Doctor) -> None:
    doctor.stage.kfp_faults(down="unavailable")
    try:
        code, [finding] = doctor.look()
    finally:
        doctor.stage.kfp_faults(down="")
    assert (code, finding["check"]) == (1, "kubeflow pipelines")
    assert "KfpUnavailable" in finding["detail"]
    assert doctor.look() == (0, [])


def test_without_permission_it_says_so_and_goes_on(doctor: Doctor, monkeypatch: pytest.MonkeyPatch) -> None:
    """A role that may look at the stack and at nothing else."""
    iam, sts = doctor.stage.deployment.client("iam"), doctor.stage.deployment.client("sts")
    trust = {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"}],
    }
    role = iam.create_role(RoleName="onlooker", AssumeRolePolicyDocument=json.dumps(trust))["Role"]["Arn"]
    allow = {"Effect": "Allow", "Action": ["cloudformation:Describe*", "cloudformation:List*"], "Resource": "*"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [allow]})
    iam.put_role_policy(RoleName="onlooker", PolicyName="look", PolicyDocument=policy)
    made = sts.assume_role(RoleArn=role, RoleSessionName="onlooker")["Credentials"]
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", made["AccessKeyId"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", made["SecretAccessKey"])
    monkeypatch.setenv("AWS_SESSION_TOKEN", made["SessionToken"])
    code, findings = doctor.look()
    assert code == 0
    assert {finding["state"] for finding in findings} == {"unknown"}
    assert {finding["check"] for finding in findings} == {
        *("quotas", "runs", "bucket", "rules", "queue", "resources", "role", "cluster", "kfp")
    }
    assert all("onlooker" in finding["detail"] for finding in findings if finding["check"] != "bucket")
