"""The repository's layout, and what must not be written anywhere in it."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from baton_local.cloudformation.templates import load
from tests.support.starting import catalogue

ROOT = Path(__file__).parents[2]
TEMPLATE: dict[str, Any] = load((ROOT / "template.yaml").read_text("utf-8"))


def tracked(*folders: str) -> list[Path]:
    """Return the text files under version control, in these folders or anywhere."""
    listed = subprocess.run(["git", "ls-files", "-z", *folders], cwd=ROOT, capture_output=True, text=True, check=True)
    paths = [ROOT / name for name in listed.stdout.split("\0") if name]
    return [path for path in paths if path.is_file() and path.suffix not in (".gz", ".pbr", ".bin", ".png", ".pkl")]


def text_of(path: Path) -> str:
    return path.read_text("utf-8", errors="replace")


def test_the_top_level_is_as_the_architecture_says() -> None:
    folders = [
        "statemachine",
        "functions",
        "layers",
        "pipelines",
        "events",
        "tests",
        "benchmarks",
        "local",
        "cli",
        "docs",
        "requirements",
    ]
    assert not [name for name in folders if not (ROOT / name).is_dir()]
    files = [
        "template.yaml",
        "pyproject.toml",
        "Makefile",
        "README.md",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "LICENSE",
        ".ci/run",
    ]
    assert not [name for name in files if not (ROOT / name).is_file()]


def test_every_function_of_the_template_is_a_folder_with_an_app_and_the_other_way_round() -> None:
    functions = [r for r in TEMPLATE["Resources"].values() if r["Type"] == "AWS::Serverless::Function"]
    declared = {function["Properties"]["CodeUri"] for function in functions}
    assert declared == {f"functions/{app.parent.name}" for app in ROOT.glob("functions/*/app.py")}


def test_ci_can_run() -> None:
    assert os.access(ROOT / ".ci/run", os.X_OK)
    subprocess.run(["bash", "-n", ".ci/run"], cwd=ROOT, check=True)


@pytest.mark.parametrize(
    "literal", [r"arn:aws:", r"arn:aws-cn:", r"amazonaws\.com", r"\b(us-east-1|eu-west-1|cn-northwest-1)\b"]
)
def test_partition_suffix_and_region_are_nowhere_written_down(literal: str) -> None:
    found = []
    for path in tracked("functions", "layers", "statemachine", "pipelines", "template.yaml"):
        if path.suffix in (".txt", ".in") or path.name == "Dockerfile":
            continue
        for number, line in enumerate(text_of(path).splitlines(), 1):
            if re.search(literal, _without_what_aws_fixes(line)):
                found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()}")
    assert not found


def _without_what_aws_fixes(line: str) -> str:
    """Drop what is the same everywhere: service principals, EKS's audience, KMS's names, links, tables by region."""
    line = line.replace('"sts.amazonaws.com"', "")
    line = re.sub(r'^ +- !Sub "(dynamodb|s3|secretsmanager|sns|sqs)\.\$\{AWS::Region\}\.amazonaws\.com"$', "", line)
    line = re.sub(r"(events|sagemaker|lambda|states|pods\.eks|sns|sqs|cloudwatch|logs)\.amazonaws\.com\b", "", line)
    line = re.sub(r"https?://\S+", lambda url: url[0] if "${" in url[0] else "", line)
    return re.sub(r'^[a-z]{2}(-[a-z]+)+-\d = "\d{12}"$', "", line)


def test_nothing_in_functions_or_layers_knows_the_embedded_cloud() -> None:
    known = re.compile(r"baton_local|\bmoto\b|localhost|127\.0\.0\.1|embedded", re.IGNORECASE)
    sources = [path for path in tracked("functions", "layers") if path.suffix == ".py"]
    assert len(sources) > 20
    assert not [str(path) for path in sources if known.search(text_of(path))]


def test_no_machine_and_no_registry_is_named() -> None:
    hosts = "|".join(["registry" + r"\.npmjs", "files" + r"\.pythonhosted", r"pypi\." + "org", "index" + "-url"])
    paths = "|".join(["/" + "root/", "/" + "work/", r"/home/(?!baton)\w+/"])
    forbidden = re.compile(f"{hosts}|(?<![\\w.}}])(?:{paths})")
    assert not [str(path.relative_to(ROOT)) for path in tracked() if forbidden.search(text_of(path))]


def test_the_sagemaker_role_may_pull_the_image_of_every_pipeline() -> None:
    policies = TEMPLATE["Resources"]["SageMakerRole"]["Properties"]["Policies"]
    statements = [statement for policy in policies for statement in policy["PolicyDocument"]["Statement"]]
    (pull,) = [statement for statement in statements if statement["Sid"] == "PullBuiltInImages"]
    for pipeline in catalogue().pipelines:
        assert str(pull["Resource"]).endswith(f":repository/{pipeline.images.repository.partition(':')[0]}'}}")


def test_the_licence_is_whole() -> None:
    licence = text_of(ROOT / "LICENSE")
    assert licence.lstrip().startswith("Apache License\n                           Version 2.0, January 2004")
    assert "END OF TERMS AND CONDITIONS" in licence
    assert len(licence.splitlines()) > 195
