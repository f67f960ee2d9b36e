"""A deployment has the runtime for which it was built."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from baton_local.cloudformation.templates import load
from tools import built_runtime

ROOT = Path(__file__).parents[2]


@pytest.fixture
def template(tmp_path: Path) -> Path:
    """A template as ``sam build`` leaves it: that of the repository, where only the artefacts' paths are others."""
    path = tmp_path / "template.yaml"
    shutil.copy(ROOT / "template.yaml", path)
    return path


SMALL = """\
Parameters: {Runtime: {Type: String, Default: python3.13, AllowedValues: [python3.12, python3.13]}}
Resources: {Topic: {Type: AWS::SNS::Topic}}
"""


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A template with nothing but the parameter: reading and writing the repository's takes a second."""
    path = tmp_path / "template.yaml"
    path.write_text(SMALL)
    return path


def config(folder: Path, overrides: str) -> Path:
    path = folder / "samconfig.toml"
    path.write_text(f"version = 0.1\n[cn.deploy.parameters]\nparameter_overrides = {overrides}\n")
    return path


@pytest.mark.parametrize("runtime", ["python3.11", "python3.12", "python3.13"])
def test_the_built_runtime_is_offered_and_no_other_is_taken(template: Path, runtime: str) -> None:
    built_runtime.write(template, runtime)
    parameter = load(template.read_text())["Parameters"]["Runtime"]
    assert (parameter["Default"], parameter["AllowedValues"]) == (runtime, [runtime])
    assert runtime in parameter["ConstraintDescription"]
    assert built_runtime.built(template) == runtime


def test_nothing_else_of_the_template_changes(template: Path) -> None:
    before = load(template.read_text())
    built_runtime.write(template, "python3.12")
    after = load(template.read_text())
    for each in (before, after):
        del each["Parameters"]["Runtime"]
    assert after == before


@pytest.mark.parametrize(
    "overrides",
    [
        '"KfpUrl=\\"http://a b\\" Runtime=\\"python3.13\\""',
        '"Runtime=python3.13"',
        '"ParameterKey=Runtime,ParameterValue=python3.13"',
        '["KfpUrl=http://x", "Runtime=python3.13"]',
        '{Runtime = "python3.13"}',
    ],
)
def test_a_configuration_with_another_runtime_is_refused(small: Path, overrides: str) -> None:
    built_runtime.write(small, "python3.12")
    samconfig = config(small.parent, overrides)
    said = built_runtime.check(small, samconfig, "cn")
    assert "This build is for python3.12, but [cn.deploy.parameters]" in said
    assert "says Runtime=python3.13" in said
    built_runtime.write(small, "python3.13")
    assert built_runtime.check(small, samconfig, "cn") == ""


@pytest.mark.parametrize("overrides", ['"PodCredentials=irsa"', '["PodCredentials=irsa"]', '{PodCredentials = "irsa"}'])
def test_a_configuration_that_says_no_runtime_takes_the_built_one(small: Path, overrides: str) -> None:
    built_runtime.write(small, "python3.11")
    assert built_runtime.check(small, config(small.parent, overrides), "cn") == ""
    assert built_runtime.check(small, config(small.parent, overrides), "other") == ""


def test_the_command_says_it_in_one_sentence(
    small: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(small.parent)
    (small.parent / ".aws-sam" / "build").mkdir(parents=True)
    small.rename(built_runtime.BUILT)
    config(small.parent, '"Runtime=python3.13"')
    assert built_runtime.main(["write", "python3.12"]) == 0
    assert built_runtime.main(["check", "cn"]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert len(said.err.splitlines()) == 1
    assert built_runtime.main(["check", "default"]) == 0


def test_make_writes_after_building_and_checks_before_deploying() -> None:
    recipes = (ROOT / "Makefile").read_text()
    build, deploy = (recipes.split(f"\n{target}:", 1)[1].split("\n\n", 1)[0] for target in ("$(BUILT)", "deploy"))
    assert build.index("sam build") < build.index("tools.built_runtime write")
    assert deploy.index("tools.built_runtime check") < deploy.index("sam deploy")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A checkout whose ``sam`` and ``python`` only write down that they were called."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    for name in ("template.yaml", "requirements/dev.txt", "pyproject.toml", "functions/one/app.py", "layers/a.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    programs = tmp_path / ".venv" / "bin"
    programs.mkdir(parents=True)
    (tmp_path / "pipelines").mkdir()
    for name, script in (
        ("sam", 'echo "sam $@" >> calls; mkdir -p .aws-sam/build; touch .aws-sam/build/template.yaml'),
        ("python", '[ "$1" = -c ] && echo python3.12 && exit; echo "python $@" >> calls; [ ! -e broken ]'),
    ):
        (programs / name).write_text(f"#!/bin/sh\n{script}\n")
        (programs / name).chmod(0o755)
    (tmp_path / ".venv" / "ready").touch()
    return tmp_path


def builds(tree: Path, expect: int = 0) -> int:
    """Run ``make build``; return how often anything was built so far."""
    done = subprocess.run(["make", "build"], cwd=tree, capture_output=True, text=True, check=False)
    assert done.returncode == expect, done.stderr
    return (tree / "calls").read_text().count("sam build")


def later(path: Path) -> None:
    """Let a file or folder have changed a moment after everything that is there."""
    os.utime(path, (time.time() + 10, time.time() + 10))


def test_make_builds_again_only_where_something_has_changed(tree: Path) -> None:
    assert [builds(tree), builds(tree)] == [1, 1]
    later(tree / "functions" / "one" / "app.py")
    assert builds(tree) == 2


@pytest.mark.parametrize("changed", ["template.yaml", "layers", ".venv/ready"])
def test_a_change_of_the_template_of_what_a_folder_holds_or_of_the_python_is_built(tree: Path, changed: str) -> None:
    assert builds(tree) == 1
    later(tree / changed)
    assert builds(tree) == 2


def test_a_build_that_failed_half_way_is_made_again(tree: Path) -> None:
    (tree / "broken").touch()
    assert builds(tree, expect=2) == 1
    (tree / "broken").unlink()
    assert builds(tree) == 2


@pytest.mark.parametrize(("given", "config"), [([], "default"), (["CONFIG=cn"], "cn"), (["CONFIG=prod"], "prod")])
def test_make_checks_and_deploys_the_configuration_that_is_named(tree: Path, given: list[str], config: str) -> None:
    subprocess.run(["make", "deploy", *given], cwd=tree, capture_output=True, text=True, check=True)
    *_, checked, deployed = (tree / "calls").read_text().splitlines()
    assert checked == f"python -m tools.built_runtime check {config}"
    assert deployed == f"sam deploy --config-env {config}"
