"""``baton doctor``: looks, with your own credentials, at what a run needs; one line each."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from dataclasses import asdict
from functools import cache
from pathlib import Path

from botocore.exceptions import BotoCoreError

from baton.catalogue import Catalogue
from baton_cli.account import NoRegion, Origin, add_options, open_account, profile_option, region_origin
from baton_cli.checks import FIRST, examine
from baton_cli.configurations import Configurations
from baton_cli.patient import OK, UNKNOWN, WRONG, Finding, Patient, sentence

_MARKS = {OK: "ok ", WRONG: "!! ", UNKNOWN: "?? "}
_CHECKOUT = Path(__file__).resolve().parents[2]


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``baton doctor``."""
    doctor = commands.add_parser(
        "doctor",
        help="look at an account, before and after deploying",
        description="Look at an account, before and after deploying. Exit code 0: nothing is wrong; 1: something is; "
        "2: nothing could be looked at.",
    )
    add_options(doctor)
    doctor.add_argument(
        "--kfp-url",
        metavar="URL",
        help="where Kubeflow Pipelines answers from here, as after kubectl port-forward (default: the stack's own URL)",
    )
    doctor.add_argument("--cluster", metavar="NAME", help="the EKS cluster to look at before there is a stack")
    doctor.add_argument("--json", action="store_true", help="print the findings as JSON")
    doctor.set_defaults(run=_run)


def _run(chosen: argparse.Namespace) -> int:
    findings = _look(chosen)
    if chosen.json:
        print(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        show(findings)
    if not any(finding.check not in FIRST for finding in findings):
        return 2
    return 1 if any(finding.state == WRONG for finding in findings) else 0


def _look(chosen: argparse.Namespace) -> list[Finding]:
    profile = chosen.profile or ""
    try:
        clients, region, stack_name = open_account(chosen)
    except NoRegion as error:
        return [Finding("region", WRONG, str(error), f"aws configure set region REGION{profile_option(profile)}")]
    except BotoCoreError as error:
        # A profile that there is not, or a file that cannot be read.
        return [Finding("identity", WRONG, sentence(str(error)), "aws configure list-profiles")]
    given = (chosen.kfp_url or "", chosen.cluster or "")
    origin = Origin(region_origin(chosen), clients.credentials_from)
    patient = Patient(clients, region, stack_name, packaged(), *given, configurations(), profile, origin)
    return list(examine(patient))


@cache
def packaged() -> Catalogue:
    """Return the pipelines of this checkout."""
    return Catalogue.read(_CHECKOUT / "pipelines")


def configurations() -> Configurations:
    """Return the configurations of this checkout's samconfig.toml."""
    return Configurations.read(_CHECKOUT / "samconfig.toml")


def show(findings: list[Finding]) -> None:
    """Print a line for each finding: that it is ok, or what is wrong and, at its end, the command that mends it."""
    for finding in findings:
        # Not wrapped, and without line breaks of others' messages: a command is there to be copied.
        text = f"{_MARKS[finding.state]} {finding.check}: {' '.join(finding.detail.split())}"
        print(f"{text}  mend: {finding.mend}" if finding.mend else text)
    counts = Counter(finding.state for finding in findings)
    print(f"\n{counts[OK]} ok, {counts[WRONG]} wrong, {counts[UNKNOWN]} that could not be seen")
