"""What docs/embedded-cloud.md and its list of seams say is what the embedded cloud is."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from baton_local.dials import Dials
from baton_local.seams import MOTO_VERSION
from baton_local.server import SERVICES

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "embedded-cloud.md").read_text("utf-8")
LOCAL = ROOT / "local" / "baton_local"


def test_the_list_of_seams_is_the_one_that_is_opened(tmp_path: Path) -> None:
    """In a process of its own, for what is opened stays open until the process ends."""
    written = tmp_path / "seams.md"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p), "HOME": str(tmp_path)}
    subprocess.run(
        [sys.executable, "-m", "tools.seams", str(written)], cwd=ROOT, env=environment, check=True, timeout=120
    )
    assert written.read_text("utf-8").count("\n- `") > 60
    assert (ROOT / "docs" / "embedded-cloud-seams.md").read_text("utf-8") == written.read_text("utf-8")


def test_the_version_of_moto_is_the_one_that_is_checked() -> None:
    assert f"moto](https://docs.getmoto.org) {MOTO_VERSION};" in PAGE


@pytest.mark.parametrize("service", SERVICES)
def test_every_service_module_is_named(service: str) -> None:
    name = service if (LOCAL / service).is_dir() else f"{service}.py"
    assert re.search(rf"`{re.escape(name)}/?`", PAGE), name


def test_the_modules_that_it_names_exist() -> None:
    for name in re.findall(r"`([a-z_0-9*]+(?:\.py|/))`", PAGE):
        assert list(LOCAL.glob(name.rstrip("/"))), name


def test_every_dial_is_named() -> None:
    named = set(re.findall(r"`--([a-z]+)`", PAGE))
    assert {field.name.removesuffix("_seconds") for field in fields(Dials)} <= named


def test_the_admin_routes_are_those_that_the_modules_answer() -> None:
    named = set(re.findall(r"(/_baton/[a-z/-]*[a-z])", PAGE))
    sources = "\n".join(path.read_text("utf-8") for path in LOCAL.rglob("*.py"))
    answered = set(re.findall(r"\"(/_baton/[a-z/-]*[a-z])\"", sources)) | {"/_baton/runs"}
    assert named <= answered
    assert answered - {"/_baton/iam"} <= named


REFUSALS = {
    "DeploymentPreference of type … is not supported by the embedded cloud": "No deployment preference",
    "Template error: … is not supported by the embedded cloud": "of the functions none but those that resolve values",
    "The embedded cloud knows no drift and makes no … change set: delete the stack and create it anew.": (
        "A drift-aware change set (`--deployment-mode REVERT_DRIFT`)"
    ),
    "The embedded cloud does not filter messages.": "Filters of event source mappings are refused",
    "The embedded cloud has no target of the kind …": "an event for another kind is undeliverable",
    "The embedded cloud reads S3Prefix, not ….": "Batch transform: an `S3Prefix` as input",
    "The embedded cloud searches by the Bayesian or the Random strategy, not by ….": "Bayesian or the Random strategy",
    "The embedded cloud serves models of one PrimaryContainer with Image and ModelDataUrl.": "one `PrimaryContainer`",
    "The embedded cloud serves production variants that name a model.": "production variants that name a model",
    "The embedded cloud tunes one TrainingJobDefinition with one HyperParameterTuningJobObjective.": (
        "one `TrainingJobDefinition` with one objective"
    ),
    "The embedded cloud's batch transform knows no ….": "no `DataProcessing` or `DataCaptureConfig`",
    "the embedded cloud runs Python functions only, and this one's runtime is …": "other runtimes are refused",
    "the embedded cloud splits by Line or not at all, not by …": "split by line or not at all",
}
"""What the embedded cloud answers where it refuses what AWS takes, and the words of the page that say so."""

OF_ITSELF = ("did", "ended", "failed", "needs", "expects", "was not ready")
"""How sentences go on that are about the embedded cloud's own end or installation, and refuse nothing of AWS's."""


class _Texts(ast.NodeVisitor):
    """Collects the texts of a module, docstrings left out; … stands for a value that is put in."""

    def __init__(self) -> None:
        self.found: set[str] = set()

    def visit_Expr(self, node: ast.Expr) -> None:
        if not isinstance(node.value, ast.Constant):
            self.generic_visit(node)

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        self.found.add("".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values))

    def visit_Constant(self, node: ast.Constant) -> None:
        self.found.add(str(node.value))


def test_every_refusal_is_on_the_page() -> None:
    texts = _Texts()
    for path in LOCAL.rglob("*.py"):
        texts.visit(ast.parse(path.read_text("utf-8")))
    spoken = {text for text in texts.found if re.search("the embedded cloud", text, re.IGNORECASE)}
    of_itself = re.compile(rf"the embedded cloud ({'|'.join(OF_ITSELF)})", re.IGNORECASE)
    assert {text for text in spoken if not of_itself.search(text)} == set(REFUSALS)


@pytest.mark.parametrize("words", REFUSALS.values())
def test_the_page_says_what_is_refused(words: str) -> None:
    assert words in " ".join(PAGE.split())
