"""What a deployment changes reaches the next run: each change makes new versions of the functions that it concerns.

The state machines call published versions, so a change without a new version would never be run, and a new version
without a change is refused ("A version for this Lambda function exists"), which would fail the deployment:
https://docs.aws.amazon.com/lambda/latest/dg/configuration-versions.html
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import pytest

from baton_local.cloudformation.templates import Template, load
from tests.support import resolved_template
from tests.support.resolved_template import TEXT, template
from tools.lint.iam import expanded

PARAMETERS: dict[str, Any] = load(TEXT)["Parameters"]
ALL = frozenset({"PlanRun", "PrepareData", "LaunchPipeline", "AwaitOutcome", "SmokeTest", "CleanUp", "WriteReport"})
IN_VPC = frozenset({"LaunchPipeline", "AwaitOutcome", "CleanUp"})
WITH_PIPELINES = frozenset({"PlanRun", "PrepareData", "LaunchPipeline"})

IN_A_VPC = {"VpcSubnetIds": "subnet-0aaaaaaaaaaaaaaa1", "VpcSecurityGroupIds": "sg-0aaaaaaaaaaaaaaa1"}
CHANGED = {
    "KfpMode": ("eks-proxy", ALL),
    "KfpUrl": ("https://kfp.example.com", ALL),
    "KfpNamespace": ("team", ALL),
    "KfpUser": ("someone@example.org", ALL),
    "KfpSecretArn": ("arn:aws:secretsmanager:eu-west-1:123456789012:secret:kfp-AbCdEf", ALL),
    "KfpExperiment": ("other", ALL),
    "EksClusterName": ("cluster", ALL),
    "RunPrefix": ("xy-", ALL),
    "ExistingBucketName": ("one-of-mine", ALL),
    "LogLevel": ("DEBUG", ALL),
    "Runtime": ("python3.12", ALL),
    "UploadPrefix": ("incoming/", {"PlanRun"}),
    "DatasetBucketArns": ("arn:aws:s3:::one,arn:aws:s3:::other", {"PlanRun"}),
    "HeartbeatSeconds": ("60", {"PlanRun"}),
    "KmsKeyArn": ("arn:aws:kms:eu-west-1:123456789012:key/1", {"PlanRun"}),
    "PipelineImage": ("registry.example.org/steps:2", {"PlanRun"}),
    "PipelineServiceAccount": ("other", {"LaunchPipeline"}),
    "PodPollSeconds": ("5", {"LaunchPipeline"}),
    "VpcSubnetIds": ("subnet-0aaaaaaaaaaaaaaa1,subnet-0aaaaaaaaaaaaaaa2", IN_VPC),
    "VpcSecurityGroupIds": ("sg-0aaaaaaaaaaaaaaa2", IN_VPC),
}
"""Each parameter that a function's configuration has, another value, and the functions that have it."""

CHANGES_NO_FUNCTION = {
    "PodCredentials": "none",
    "OidcProvider": "oidc.example.org/id/1",
    "NotificationEmail": "someone@example.org",
    "LogRetentionDays": "30",
    "OldestWaiterSeconds": "7200",
    "SettleOutcomeConcurrency": "10",
}

MADE_AGAIN: dict[str, frozenset[str]] = {
    "Table": ALL,
    "RunBucket": ALL,
    "SageMakerRole": frozenset({"PlanRun"}),
    **{f"{name}Role": frozenset({name}) for name in sorted(ALL)},
}
"""Each resource that a function's configuration names and that has another name once it was deleted by hand and made
again, and the functions that name it."""

SAME_WHEN_MADE_AGAIN = frozenset({"FunctionLogs"})
"""The template gives it its name."""


def resolved(given: Mapping[str, str], found: Template | None = None, made_again: str = "") -> dict[str, Any]:
    return resolved_template.resolved({**IN_A_VPC, **given}, other=found, made_again=made_again)


def versions(resources: Mapping[str, Any]) -> dict[str, tuple[str, Any]]:
    """Return each function's version: its logical id and its properties, by the function's short name."""
    found = {}
    for name in ALL:
        [logical_id] = [n for n in resources if n.startswith(f"{name}FunctionVersion")]
        found[name] = logical_id, resources[logical_id]
    return found


def differing(before: Mapping[str, Any], after: Mapping[str, Any]) -> set[str]:
    return {name for name in before if before[name] != after[name]}


def configurations(resources: Mapping[str, Any]) -> dict[str, Any]:
    """Return each function's configuration without what is there only to make it differ."""
    found = {}
    for name in ALL:
        properties = json.loads(json.dumps(resources[f"{name}Function"]))
        properties["Environment"]["Variables"].pop("SETTINGS_VERSION", None)
        found[name] = properties
    return found


def settings_versions(resources: Mapping[str, Any]) -> dict[str, str]:
    """Return each function's SETTINGS_VERSION."""
    return {name: resources[f"{name}Function"]["Environment"]["Variables"]["SETTINGS_VERSION"] for name in ALL}


def test_every_parameter_is_judged() -> None:
    not_in_the_base = {"RunBucketName"}
    assert set(CHANGED) | set(CHANGES_NO_FUNCTION) | not_in_the_base == set(PARAMETERS)


@pytest.mark.parametrize("name", CHANGED)
def test_a_changed_parameter_makes_new_versions_of_the_functions_that_have_it(name: str) -> None:
    value, functions = CHANGED[name]
    before, after = resolved({}), resolved({name: value})
    assert differing(configurations(before), configurations(after)) == set(functions)
    assert differing(versions(before), versions(after)) == set(functions)


@pytest.mark.parametrize("name", CHANGES_NO_FUNCTION)
def test_another_parameter_makes_none(name: str) -> None:
    before, after = resolved({}), resolved({name: CHANGES_NO_FUNCTION[name]})
    assert differing(configurations(before), configurations(after)) == set()
    assert differing(versions(before), versions(after)) == set()


@pytest.mark.parametrize("name", CHANGED)
def test_what_is_published_anew_is_changed(name: str) -> None:
    """Also by itself: Lambda publishes nothing for a function that is what its last version is."""
    value, functions = CHANGED[name]
    before, after = resolved({}), resolved({name: value})
    numbers = [settings_versions(before), settings_versions(after)]
    assert differing(*numbers) == set(functions)
    assert {n: d["Description"].removeprefix("Settings ") for n, (_, d) in versions(after).items()} == numbers[1]


def is_layer(name: str) -> bool:
    """Return whether it is a layer version: those that are published already have theirs even after it is deleted.

    https://docs.aws.amazon.com/lambda/latest/dg/creating-deleting-layers.html
    """
    return str(template()["Resources"][name]["Type"]) == "AWS::Lambda::LayerVersion"


def test_every_resource_that_a_function_names_is_judged() -> None:
    named = set(re.findall(r"-of-(\w+)", json.dumps(configurations(resolved({})))))
    assert {name for name in named if not is_layer(name)} == set(MADE_AGAIN) | SAME_WHEN_MADE_AGAIN
    assert all("LogGroupName" in resolved({})[name] for name in SAME_WHEN_MADE_AGAIN)


@pytest.mark.parametrize("name", MADE_AGAIN)
def test_a_resource_that_is_made_again_makes_new_versions_of_the_functions_that_name_it(name: str) -> None:
    before, after = resolved({}), resolved({}, made_again=name)
    assert differing(configurations(before), configurations(after)) == MADE_AGAIN[name]
    published = differing(versions(before), versions(after))
    assert published >= MADE_AGAIN[name]
    assert differing(settings_versions(before), settings_versions(after)) == published


def test_another_bucket_makes_new_versions() -> None:
    """The bucket's own name is what counts: a bucket with another name is another bucket."""
    content = template()["Resources"]["RunSettings"]["Properties"]["Content"]
    [_, given] = content["Fn::Sub"]
    assert given == {"Bucket": {"Fn::If": ["MakesBucket", {"Ref": "RunBucket"}, {"Ref": "ExistingBucketName"}]}}


def test_a_description_has_room_for_its_numbers_only() -> None:
    """256 characters is all that Lambda takes, however long the values are."""
    for resource in template()["Resources"].values():
        if resource["Type"] == "AWS::Lambda::Version":
            text = resource["Properties"]["Description"]["Fn::Sub"]
            assert set(text.removeprefix("Settings ").split(".")) <= {
                f"${{{name}" for name in ("RunSettings", "PlanSettings", "LaunchSettings", "NetworkSettings")
            } | {"VersionNumber}"}


@pytest.mark.parametrize(("layer", "functions"), [("BatonLayer", ALL), ("PipelinesLayer", WITH_PIPELINES)])
def test_a_changed_layer_makes_new_versions_of_the_functions_that_have_it(
    layer: str, functions: frozenset[str]
) -> None:
    folder = {"BatonLayer": "layers/baton", "PipelinesLayer": "pipelines"}[layer]
    before = versions(resolved({}))
    found = load(TEXT)
    assert found["Resources"][layer]["Properties"]["ContentUri"] == folder
    after = versions(resolved({}, expanded(TEXT, {layer: "s3://bucket/another"})))
    assert differing(before, after) == functions
    assert all(before[name][0] != after[name][0] for name in functions)


def test_versions_that_are_replaced_or_dropped_stay_for_the_runs_under_way() -> None:
    for name, resource in template()["Resources"].items():
        if resource["Type"] == "AWS::Lambda::Version":
            assert (resource["DeletionPolicy"], resource["UpdateReplacePolicy"]) == ("Retain", "Retain"), name


def test_functions_go_with_the_stack() -> None:
    functions = [r for r in template()["Resources"].values() if r["Type"] == "AWS::Lambda::Function"]
    assert len(functions) == len(ALL) + 3
    assert not any("DeletionPolicy" in function for function in functions)
