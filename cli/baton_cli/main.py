"""The ``baton`` command: one sub-command a module."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from baton_cli import data, doctor, drain, local, redrive

_UNREAD = 141
"""The exit code where nobody reads the output to its end, as head does: a shell's for what SIGPIPE has ended."""


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
        # By print, which knows of an output that was closed from the beginning.
        print(end="", flush=True)
    except KeyboardInterrupt:
        print("\nInterrupted.", file=sys.stderr)
        return 130
    except BrokenPipeError:
        if _is_read():
            raise
        # What is still to be written must not fail at the exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _UNREAD
    return code


def _is_read() -> bool:
    """Return whether somebody still reads the output, so that it is another pipe that is broken."""
    try:
        # An empty line, since what failed before is not always kept to be written again.
        print(flush=True)
    except BrokenPipeError:
        return False
    return True


if __name__ == "__main__":
    sys.exit(main())
