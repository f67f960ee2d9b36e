"""The configurations in samconfig.toml fit the template, and each other."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from baton.names import run_id_for
from baton_local.cloudformation import parameters
from baton_local.cloudformation.templates import load

ROOT = Path(__file__).parents[2]
TEMPLATE = load((ROOT / "template.yaml").read_text("utf-8"))
CONFIGURATIONS: dict[str, Any] = {
    name: found
    for name, found in tomllib.loads((ROOT / "samconfig.toml").read_text("utf-8")).items()
    if isinstance(found, dict)
}


def effective(name: str) -> dict[str, str]:
    text = CONFIGURATIONS[name]["deploy"]["parameters"].get("parameter_overrides", "")
    given = dict(pair.split("=", 1) for pair in text.split())
    return parameters.effective(TEMPLATE, given)


def test_there_are_three() -> None:
    assert list(CONFIGURATIONS) == ["default", "prod", "cn"]


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_its_parameters_are_the_templates_and_its_run_ids_short_enough(name: str) -> None:
    prefix = effective(name)["RunPrefix"]
    run_id = run_id_for("arn:aws:states:eu-west-1:123456789012:execution:m:e", 1_700_000_000, prefix)
    assert len(run_id) <= 20
    assert re.fullmatch(r"[a-z0-9-]+", run_id)


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_it_says_only_what_is_not_the_templates_default(name: str) -> None:
    """A default that is changed there would otherwise be changed for some of the stacks only."""
    given, defaults = effective(name), parameters.effective(TEMPLATE, {})
    text = CONFIGURATIONS[name]["deploy"]["parameters"].get("parameter_overrides", "")
    named = [pair.partition("=")[0] for pair in text.split()]
    assert [parameter for parameter in named if given[parameter] == defaults[parameter]] == []


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_deploying_what_is_deployed_is_no_failure(name: str) -> None:
    assert CONFIGURATIONS[name]["deploy"]["parameters"]["fail_on_empty_changeset"] is False


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_a_failed_deployment_goes_back(name: str) -> None:
    """Without its rollback a stack takes no update that replaces something, and every other only without it again."""
    assert CONFIGURATIONS[name]["deploy"]["parameters"]["disable_rollback"] is False


def test_stacks_that_may_share_an_account_have_prefixes_of_which_none_begins_another() -> None:
    one, other = (effective(name)["RunPrefix"] for name in ("default", "prod"))
    assert not one.startswith(other)
    assert not other.startswith(one)


def test_stacks_that_may_share_a_cluster_have_service_accounts_of_their_own() -> None:
    assert effective("default")["PipelineServiceAccount"] != effective("prod")["PipelineServiceAccount"]


def test_what_each_is_for() -> None:
    assert effective("prod")["LogRetentionDays"] == "365"
    assert effective("cn")["PodCredentials"] == "irsa"
