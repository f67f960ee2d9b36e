"""What the image of the pods installs is enough for the executor and for every step, and it is installed as it is."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

STEPS = Path(__file__).parents[3] / "pipelines" / "steps"
INSTALLED = set(re.findall(r"^([a-z0-9-]+)==", (STEPS / "requirements.txt").read_text("utf-8"), re.MULTILINE))
DOCKERFILE = (STEPS / "Dockerfile").read_text("utf-8")
ONLY = """
import sys
class Only:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top not in sys.stdlib_module_names and top not in sys.argv[1:]:
            raise ModuleNotFoundError(f"the image has no {top}", name=top)
sys.meta_path.insert(0, Only())
import kfp.dsl.executor_main, baton_steps.claim, baton_steps.stages
"""


def imported(packages: set[str]) -> subprocess.CompletedProcess[str]:
    """Import what a pod does where only these packages are installed."""
    names = [name for name, of in packages_distributions().items() if packages & set(of)]
    paths = os.pathsep.join([str(STEPS), *(path for path in sys.path if path)])
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": paths, "_KFP_RUNTIME": "true"}
    command = [sys.executable, "-c", ONLY, "baton_steps", *names]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


def test_the_image_has_all_that_a_pod_imports() -> None:
    done = imported(INSTALLED)
    assert done.returncode == 0, done.stderr
    assert "the image has no dateutil" in imported(INSTALLED - {"python-dateutil"}).stderr


def test_the_image_is_built_only_where_a_pod_can_import_what_it_needs() -> None:
    assert "--require-hashes --no-deps --only-binary :all: --requirement /opt/baton/requirements.txt" in DOCKERFILE
    assert "_KFP_RUNTIME=true" in DOCKERFILE
    assert "import kfp.dsl.executor_main, baton_steps.claim, baton_steps.stages" in DOCKERFILE
