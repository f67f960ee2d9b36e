"""``baton data``: data sets on local files."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from baton.catalogue import Catalogue, Pipeline
from baton.errors import InvalidDataset
from baton_cli import beforehand
from baton_cli.beforehand import WouldBeRefused
from baton_local.deployment import repository


def add_to(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register ``data`` and its sub-commands; each sets ``run``, which takes the arguments and returns an exit code."""
    data = subparsers.add_parser("data", help="work with data sets on local files")
    commands = data.add_subparsers(dest="data_command", required=True, metavar="COMMAND")
    convert = commands.add_parser(
        "convert",
        help="convert an MNIST pickle as Prepare data does",
        description="Convert an MNIST pickle (.pkl or .pkl.gz) to RecordIO-protobuf and CSV, as Prepare data does for a"
        " run of a pipeline.",
    )
    # As texts, because an empty one would be the current folder.
    convert.add_argument("source", metavar="IN", help="the pickle, zipped or not")
    convert.add_argument("folder", metavar="OUT_DIR", help="the folder to write to: a new one, or one that is empty")
    convert.add_argument("--pipeline", metavar="NAME", help="whose rules hold (default: the default pipeline's)")
    convert.set_defaults(run=_convert)


def _convert(arguments: argparse.Namespace) -> int:
    # numpy is loaded here, so that the other commands start without it.
    from baton.dataset.files import convert_file

    source, folder = Path(arguments.source), Path(arguments.folder)
    try:
        problem = _problem(arguments)
        if problem:
            return _refuse(problem)
        facts = convert_file(source, folder, _pipeline(arguments.pipeline))
    except WouldBeRefused as error:
        return _refuse(str(error))
    except InvalidDataset as error:
        return _refuse(f"{source}: {error}")
    except OSError as error:
        return _refuse(f"{error.filename or source}: {error.strerror or error}")
    for fact in facts.values():
        print(_line(fact, folder))
    return 0


def _pipeline(name: str | None) -> Pipeline:
    catalogue = Catalogue.read(repository() / "pipelines")
    if name is not None:
        return beforehand.pipeline(catalogue, name)
    if catalogue.default is None:
        raise WouldBeRefused(f"--pipeline is needed, because there are several: {', '.join(catalogue.names)}.")
    return catalogue.default


def _problem(arguments: argparse.Namespace) -> str | None:
    """Return why nothing may be written where the user says, in one sentence; None where it may."""
    for name, given in (("IN", arguments.source), ("OUT_DIR", arguments.folder)):
        if not given:
            return f"{name} is empty; it must name a {'file' if name == 'IN' else 'folder'}."
    folder = Path(arguments.folder)
    if folder.exists() and not folder.is_dir():
        return f"{folder} is a file; OUT_DIR must be a folder."
    if folder.is_dir() and any(folder.iterdir()):
        return f"The folder {folder} is not empty; give a new one, or an empty one."
    return None


def _line(fact: dict[str, Any], folder: Path) -> str:
    return f"{folder / fact['path']}  {fact['rows']:,} x {fact['columns']}, {fact['bytes']:,} bytes"


def _refuse(message: str) -> int:
    print(f"baton data convert: {message}", file=sys.stderr)
    return 2
