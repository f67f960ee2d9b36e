"""``baton doctor``: looks, with your own credentials, at what a run needs; one line each."""

from __future__ import annotations

import argparse
import json
import textwrap
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from baton.catalogue import Catalogue
from baton_cli.checks import OK, UNKNOWN, WRONG, Finding, Patient, examine

_MARKS = {OK: "ok ", WRONG: "!! ", UNKNOWN: "?? "}
_WIDTH = 79


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``baton doctor``."""
    doctor = commands.add_parser("doctor", help="look at an account, before and after deploying")
    doctor.add_argument("--stack-name", default="baton", metavar="NAME", help="the stack (default: %(default)s)")
    doctor.add_argument("--region", help="the region (default: that of your configuration)")
    doctor.add_argument("--profile", help="the profile of your credentials")
    doctor.add_argument("--json", action="store_true", help="print the findings as JSON")
    doctor.set_defaults(run=_run)


def _run(chosen: argparse.Namespace) -> int:
    try:
        session = boto3.Session(profile_name=chosen.profile, region_name=chosen.region)
        if not session.region_name:
            return _refuse("No region is configured: give --region, or set AWS_REGION.")
        patient = Patient(_Clients(session), session.region_name, chosen.stack_name, packaged())
        findings = list(examine(patient))
    except (BotoCoreError, ClientError) as error:
        return _refuse(f"Your credentials do not work: {error}")
    if chosen.json:
        print(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        show(findings)
    return 1 if any(finding.state == WRONG for finding in findings) else 0


def packaged() -> Catalogue:
    """Return the pipelines of this checkout."""
    return Catalogue.read(Path(__file__).resolve().parents[2] / "pipelines")


class _Clients:
    """Makes each client once; calling it gives the client of a service."""

    def __init__(self, session: boto3.Session) -> None:
        self._session = session
        self._made: dict[str, Any] = {}

    def __call__(self, service: str) -> Any:
        if service not in self._made:
            make: Any = self._session.client
            self._made[service] = make(service)
        return self._made[service]


def show(findings: list[Finding]) -> None:
    """Print a line for each finding, and the command that mends what is wrong."""
    for finding in findings:
        text = f"{_MARKS[finding.state]} {finding.check}: {finding.detail}"
        print("\n".join(textwrap.wrap(text, _WIDTH, subsequent_indent="      ", break_long_words=False)))
        if finding.mend:
            # Not wrapped: a command is there to be copied.
            print(f"      mend: {finding.mend}")
    counts = Counter(finding.state for finding in findings)
    print(f"\n{counts[OK]} ok, {counts[WRONG]} wrong, {counts[UNKNOWN]} that could not be seen")


def _refuse(sentence: str) -> int:
    print(f"baton: {sentence}")
    return 2
