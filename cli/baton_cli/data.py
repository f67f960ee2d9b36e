"""``baton data``: data sets on local files."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from baton.errors import InvalidDataset


def add_to(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register ``data`` and its sub-commands; each sets ``run``, which takes the arguments and returns an exit code."""
    data = subparsers.add_parser("data", help="work with data sets on local files")
    commands = data.add_subparsers(dest="data_command", required=True, metavar="COMMAND")
    convert = commands.add_parser(
        "convert",
        help="convert an MNIST pickle as Prepare data does",
        description="Convert an MNIST pickle (.pkl or .pkl.gz) to RecordIO-protobuf and CSV, as Prepare data does.",
    )
    convert.add_argument("source", metavar="IN", type=Path, help="the pickle, zipped or not")
    convert.add_argument("folder", metavar="OUT_DIR", type=Path, help="the folder to write to; made if missing")
    convert.set_defaults(run=_convert)


def _convert(arguments: argparse.Namespace) -> int:
    # numpy is loaded here, so that the other commands start without it.
    from baton.dataset.files import convert_file

    try:
        facts = convert_file(arguments.source, arguments.folder)
    except InvalidDataset as error:
        return _refuse(str(error))
    except OSError as error:
        return _refuse(f"{error.filename or arguments.source}: {error.strerror or error}")
    for fact in facts.values():
        print(_line(fact, arguments.folder))
    return 0


def _line(fact: dict[str, Any], folder: Path) -> str:
    return f"{folder / fact['path']}  {fact['rows']:,} x {fact['columns']}, {fact['bytes']:,} bytes"


def _refuse(message: str) -> int:
    print(f"baton data convert: {message}", file=sys.stderr)
    return 2
