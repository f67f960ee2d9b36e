"""What README.md says is what the repository does."""

from __future__ import annotations

import re
import shlex
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest

from baton.errors import all_errors
from baton_cli.main import parser
from baton_local.cloudformation.templates import load
from tests.support.aws_command import AwsCommand

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text("utf-8")
TEMPLATE: dict[str, Any] = load((ROOT / "template.yaml").read_text("utf-8"))


def section(title: str) -> str:
    """Return the text under a heading."""
    return README.split(f"\n## {title}", 1)[1].split("\n## ", 1)[0]


def rows(text: str) -> list[list[str]]:
    """Return the cells of a table's rows, without its head."""
    lines = [line for line in text.splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def test_its_sections_come_in_the_order_in_which_a_stranger_needs_them() -> None:
    titles = re.findall(r"^## (.*)$", README, re.MULTILINE)
    wanted = ["Try it", "Deploy it", "Start a run", "Watch it", "Clean up", "Parameters", "Troubleshooting"]
    assert [title.split(":")[0] for title in titles] == wanted


def test_its_parameters_are_the_templates() -> None:
    said = {name.strip("`"): (default, what.strip(" |")) for name, default, what in rows(section("Parameters"))}
    real = {
        name: (f"`{found['Default']}`" if found["Default"] != "" else "(empty)", " ".join(found["Description"].split()))
        for name, found in TEMPLATE["Parameters"].items()
    }
    assert said == real


def test_its_errors_exist() -> None:
    known = {error.__name__ for error in all_errors()}
    named = {row[0].strip("`") for row in rows(section("Troubleshooting")) if re.fullmatch(r"`[A-Z]\w+`", row[0])}
    assert len(named) > 8
    assert named <= known


def test_its_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    targets = set(re.findall(r"^([a-z]+):", makefile, re.MULTILINE))
    assert {"setup", "demo", "test", "lint", "bench", "build", "deploy", "clean", "help"} <= targets
    named = {word for line in re.findall(r"make ((?:[a-z]+\b ?)+)", README) for word in line.split()}
    assert {word for word in named if word in ("demo", "setup", "build", "deploy", "clean")} <= targets


def test_make_help_fits_into_a_terminal() -> None:
    said = subprocess.run(
        ["make", "--no-print-directory", "help"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert [line for line in said.splitlines() if len(line) > 80] == []


def _commands() -> list[str]:
    return re.findall(r"^ {4,}\.venv/bin/baton (.*)$", README, re.MULTILINE)


@pytest.mark.parametrize("command", [command for command in _commands() if "--help" not in command])
def test_its_baton_commands_are_understood(command: str) -> None:
    assert parser().parse_args(shlex.split(command)).run


def test_its_commands_of_a_deployment_are_those_of_the_transcript() -> None:
    """Those of step 2 and 4 and of the end, that is; the others are of a cluster, or of the embedded cloud itself."""
    command = r"((?:make|\.venv/bin/(?:sam|baton)) .*)$"
    written = re.findall(rf"^ {{4,}}{command}", section("Deploy it") + section("Clean up"), re.MULTILINE)
    transcript = (ROOT / "docs" / "deploy-transcript.md").read_text("utf-8")
    typed = re.findall(rf"^\$ {command}", transcript, re.MULTILINE)
    assert typed == [line for line in written if not line.endswith(" --config-env cn")]


def test_its_data_set_is_where_make_demo_puts_it() -> None:
    commands = "\n".join(re.findall(r"^ {4,}((?:\.venv/bin/baton|aws s3) .*)$", README, re.MULTILINE))
    named = re.findall(r"(?<= )\S+\.pkl\.gz", commands)
    assert len(named) == 3
    assert set(named) == {".cache/mnist.pkl.gz"}
    assert 'datasets.mnist(repository() / ".cache")' in (ROOT / "cli" / "baton_cli" / "local.py").read_text("utf-8")


def test_its_outputs_are_the_templates() -> None:
    named = set(re.findall(r"output\s+`(\w+)`", README))
    assert named
    assert named <= set(TEMPLATE["Outputs"])


def _manifests() -> list[str]:
    return sorted(path.name for path in (ROOT / "deploy" / "kubernetes").glob("*.yaml"))


@pytest.mark.parametrize("manifest", _manifests())
def test_whoever_follows_it_applies_every_manifest_that_fits(manifest: str) -> None:
    """A pod whose service account does not exist never starts."""
    assert f"deploy/kubernetes/{manifest}" in section("Deploy it")
    assert "(deploy/kubernetes/README.md)" in section("Deploy it")
    assert f"`{manifest}`" in (ROOT / "deploy" / "kubernetes" / "README.md").read_text("utf-8")


def _aws_commands() -> list[str]:
    text = README.replace("\\\n", " ")
    found = [*re.findall(r"^ +(aws .*)$", text, re.MULTILINE), *re.findall(r"\$\((aws [^)|]*?)(?:\||\))", text)]
    return [re.sub(r" --(query|output) .*$", "", line) for line in found if not line.startswith("aws s3 ")]


@pytest.mark.parametrize("command", _aws_commands())
def test_its_aws_commands_are_understood(command: str) -> None:
    # Of an input that goes over lines only the first is here, and a variable of the shell may stand for a number.
    assert AwsCommand(re.sub(r"'\{$", "'{}'", command).replace('"$version"', "1")).operation


def test_every_configuration_is_there_to_be_deployed() -> None:
    configurations = set(tomllib.loads((ROOT / "samconfig.toml").read_text("utf-8"))) - {"version"}
    said = re.search(r"has two more configurations: `(\w+)` .* and `(\w+)`", section("Deploy it"))
    assert said
    assert configurations == {"default", *said.groups()}
    assert "sam deploy --guided --config-env cn" in section("Deploy it")
    # On the command line they would take the place of the configuration's own.
    assert "sam deploy --parameter-overrides" not in README


def test_the_longest_stack_name_is_what_the_names_leave_that_begin_with_it() -> None:
    """State machines' names have at most 80 characters, those of AppConfig's applications 64.

    https://docs.aws.amazon.com/step-functions/latest/apireference/API_CreateStateMachine.html
    https://docs.aws.amazon.com/appconfig/2019-10-09/APIReference/API_CreateApplication.html
    """
    longest = {"::StateMachine": 80, "AppConfig::Application": 64}
    names = [
        (limit, str(r["Properties"]["Name"].get("Fn::Sub", "")).removeprefix("${AWS::StackName}"))
        for kind, limit in longest.items()
        for r in TEMPLATE["Resources"].values()
        if r["Type"].endswith(kind)
    ]
    assert len(names) == 3
    assert f"A stack's name has at most {min(limit - len(rest) for limit, rest in names)} characters" in README


def test_its_links_lead_somewhere() -> None:
    for document in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/**/*.md"))]:
        for target in re.findall(r"\]\((?!https?://|#)([^)#]+)", document.read_text("utf-8")):
            assert (document.parent / target).exists(), f"{document.name}: {target}"
