"""The ``baton`` command: one sub-command a module."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from baton_cli import data, doctor, drain, local, redrive


def parser() -> argparse.ArgumentParser:
    """Return the command's parser; every sub-command sets ``run`` to what it does."""
    top = argparse.ArgumentParser(prog="baton", description="Training runs, from a data set to nothing left running.")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    local.add_to(commands)
    data.add_to(commands)
    doctor.add_to(commands)
    redrive.add_to(commands)
    drain.add_to(commands)
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    chosen = parser().parse_args(arguments)
    try:
        code: int = chosen.run(chosen)
    except KeyboardInterrupt:
        print("\nInterrupted.", file=sys.stderr)
        return 130
    return code


if __name__ == "__main__":
    sys.exit(main())
