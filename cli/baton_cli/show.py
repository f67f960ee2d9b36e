"""What the ``baton`` command prints, at 80 columns."""

from __future__ import annotations

import shlex
import sys
import textwrap
import time
from collections.abc import Mapping

from baton_local.history import Step
from baton_local.run import Result
from baton_local.soak import Soak

_WIDTH = 79
_PROGRESS_SECONDS = 10.0


class Screen:
    """Writes to standard output; refusals go to standard error."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._progress = ""
        self._progress_at = 0.0

    def step(self, line: str) -> None:
        """Say what happens now, with the seconds since the command began."""
        first, *rest = textwrap.wrap(line, _WIDTH - 8, break_on_hyphens=False)
        print(f"{time.monotonic() - self._began:6.1f}  {first}", flush=True)
        for more in rest:
            print(f"        {more}", flush=True)

    def progress(self, line: str) -> None:
        """Keep one line up to date on a terminal; in a file, write what has changed every few seconds."""
        now = time.monotonic()
        if sys.stdout.isatty():
            print(f"\r{now - self._began:6.1f}  {line[: _WIDTH - 8]:<{_WIDTH - 8}}", end="", flush=True)
        elif line != self._progress and now >= self._progress_at + _PROGRESS_SECONDS:
            self._progress, self._progress_at = line, now
            self.step(line)

    def state(self, step: Step) -> None:
        """Say that a state was entered or left; one that takes no time has one line instead of two."""
        visit = step.visit
        if visit.instant:
            if step.what == "entered":
                self.step(f"- {visit.name}")
        elif step.what == "entered":
            self.step(f"> {visit.name}")
        else:
            mark = "." if visit.outcome == "succeeded" else "!"
            self.step(f"{mark} {visit.name:<28} {visit.outcome} in {visit.seconds:.1f} s")

    def result(self, result: Result) -> None:
        """Say how the run ended."""
        print()
        self._predictions(result)
        self._line("Status", result.status)
        self._line("Run", result.run_id or "none")
        if result.error:
            self._line("Error", result.error)
            self._line("Cause", result.cause or "")
        self._line("Took", f"{result.seconds:.1f} s, {result.transitions} state transitions")
        if result.data:
            self._line("Data", f"{result.data['rows']:,} rows prepared, {result.data['train_rows']:,} trained on")
        if result.report_file:
            self._line("Report", result.report_file)
        if result.kept:
            self._line("Kept", ", ".join(result.kept) + ", as the plan says")
        self._line("Left over", "nothing" if not result.leftovers else f"{len(result.leftovers)} things:")
        for line in result.leftovers:
            print(f"             {line}")

    def soak(self, soak: Soak) -> None:
        """Say how a soak ended."""
        print()
        for name in ("runs", "succeeded", "failed_as_intended", "excused", "lost", "stuck", "wrong"):
            self._line(name.replace("_", " "), str(getattr(soak, name)))
        self._line("left over", str(len(soak.leftovers)))
        self._line("seconds", f"{soak.seconds:.0f}")
        for outcome in soak.unexpected:
            told = (outcome.get(name) for name in ("verdict", "execution_arn", "run_id", "status", "error", "cause"))
            self._line("!", " ".join(str(part) for part in told if part))
        for line in soak.leftovers:
            self._line("left", line)
        if soak.too_little:
            self._line("!", soak.too_little)

    def _predictions(self, result: Result) -> None:
        test = result.smoke_test
        if not test:
            return
        count = len(test["predictions"])
        print(f"{'Ten' if count == 10 else count} predictions of the endpoint:\n")
        print("  digit     " + "".join(f"{p['label']:>6}" for p in test["predictions"]))
        print("  cluster   " + "".join(f"{p['cluster']:>6}" for p in test["predictions"]))
        print("  read as   " + "".join(f"{p['digit']!s:>6}" for p in test["predictions"]))
        print("  distance  " + "".join(f"{p['distance']:>6.2f}" for p in test["predictions"]))
        latency = test["latency_ms"]
        print(
            f"\n  accuracy {test['accuracy']:.3f}, purity {test['purity']:.3f} on {test['rows']:,} rows; "
            f"latency p50 {latency['p50']:.0f} ms, p95 {latency['p95']:.0f} ms\n"
        )

    def _line(self, label: str, text: str) -> None:
        first, *rest = [part for line in text.splitlines() for part in _wrapped(line)] or [""]
        print(f"  {label:<18} {first}")
        for more in rest:
            print(f"  {'':<18} {more}")

    def outputs(self, outputs: Mapping[str, str]) -> None:
        """Show a stack's outputs."""
        print()
        for name, value in sorted(outputs.items()):
            print(f"  {name}: {value}")

    def exports(self, environment: Mapping[str, str], kfp_url: str) -> None:
        """Print the two lines that point the ``aws`` command at the embedded cloud."""
        endpoint = ("AWS_ENDPOINT_URL", "AWS_REGION", "AWS_DEFAULT_REGION", "NO_PROXY", "no_proxy")
        keys = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
        # A line cannot unset what the shell has, so all that could name another account is set to what names none.
        profile = ("AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE")
        print(f"\nThe embedded cloud is up; Kubeflow Pipelines answers at {kfp_url}.")
        print("Point aws, sam and boto3 at it with these two lines:\n")
        for names in (endpoint, (*keys, *profile)):
            print("export", *(f"{name}={environment[name] and shlex.quote(environment[name])}" for name in names))
        print("\nCtrl-C ends it.", flush=True)

    def refuse(self, sentence: str) -> int:
        """Say why nothing is done; return the exit code for that."""
        print(f"baton: {sentence}", file=sys.stderr)
        return 2


def _wrapped(line: str) -> list[str]:
    """Cut one line, an item of a list so that what follows stands under its text."""
    indent = "  " if line.startswith("- ") else ""
    return textwrap.wrap(line, _WIDTH - 21, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
