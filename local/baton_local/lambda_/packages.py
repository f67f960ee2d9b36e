"""What a sandbox can import: its function's code, its layers, and what the Lambda runtime brings along; nothing else.

Everything is unpacked once by its content hash into a cache that later clouds use again, see ``folder_cache``.
"""

from __future__ import annotations

import importlib.metadata
import io
import re
import shutil
import sys
import zipfile
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from baton_local.lambda_.folder_cache import FolderCache

RUNTIME_DISTRIBUTIONS = ("boto3", "awslambdaric")
"""What AWS's Python runtimes bring along, each with what it requires:
https://docs.aws.amazon.com/lambda/latest/dg/lambda-python.html."""

_PYTHON_LIB = f"lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages"


class Packages:
    """A cache of unpacked code and layers under one folder."""

    def __init__(self, root: Path) -> None:
        self._cache = FolderCache(root)

    def task(self, content_hash: str, archive: bytes) -> Path:
        """Return the folder with a function's code, as Lambda has it in /var/task."""
        return self._cache.folder("task", [content_hash], lambda target: _unpack(archive, target))

    def layers(self, layers: Iterable[tuple[str, bytes]]) -> Path:
        """Return the folder with the layers (content hash, archive), a later one over an earlier, as in /opt."""
        ordered = list(layers)

        def fill(target: Path) -> None:
            for _, archive in ordered:
                _unpack(archive, target)

        return self._cache.folder("opt", [content_hash for content_hash, _ in ordered], fill)

    def runtime(self) -> Path:
        """Return the folder with links to what the runtime brings along, taken from this Python's environment."""
        found = _closure(RUNTIME_DISTRIBUTIONS)
        names = [f"{name}=={importlib.metadata.version(name)}" for name in found]
        return self._cache.folder("runtime", [sys.executable, *names], lambda target: _link_all(found, target))


def import_path(task: Path, opt: Path, runtime: Path) -> list[str]:
    """Return the folders that Python searches in a sandbox, in Lambda's order."""
    return [str(task), str(opt / "python" / _PYTHON_LIB), str(opt / "python"), str(runtime)]


def has_awslambdaric() -> bool:
    """Tell whether AWS's own runtime client is installed here; it has no wheels for macOS on arm64 nor for Windows."""
    return "awslambdaric" in _closure(("awslambdaric",))


def _unpack(archive: bytes, target: Path) -> None:
    with zipfile.ZipFile(io.BytesIO(archive)) as bundle:
        for entry in bundle.infolist():
            path = bundle.extract(entry, target)
            mode = (entry.external_attr >> 16) & 0o777
            if mode and not entry.is_dir():
                Path(path).chmod(mode | 0o600)


@cache
def _closure(names: tuple[str, ...]) -> tuple[str, ...]:
    """Return the installed distributions among these and all that they require, extras left out."""
    found: list[str] = []
    waiting = list(names)
    while waiting:
        name = waiting.pop(0)
        if name in found or not _is_installed(name):
            continue
        found.append(name)
        requirements = importlib.metadata.requires(name) or []
        waiting += [_requirement_name(r) for r in requirements if "extra ==" not in r]
    return tuple(found)


def _requirement_name(requirement: str) -> str:
    match = re.match(r"[A-Za-z0-9._-]+", requirement)
    return match[0].lower().replace("_", "-") if match else ""


def _is_installed(name: str) -> bool:
    try:
        importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _link_all(distributions: Iterable[str], target: Path) -> None:
    for name in distributions:
        for source in _top_level(name):
            if not (target / source.name).exists():
                _link(source, target / source.name)


def _top_level(name: str) -> set[Path]:
    """Return the files and folders that a distribution has at the top of site-packages."""
    distribution = importlib.metadata.distribution(name)
    files = [f for f in distribution.files or [] if f.parts[0] not in ("..", "__pycache__")]
    return {Path(str(distribution.locate_file(f.parts[0]))) for f in files}


def _link(source: Path, target: Path) -> None:
    try:
        target.symlink_to(source, target_is_directory=source.is_dir())
    except OSError:
        # Windows allows links only to developers.
        shutil.copytree(source, target) if source.is_dir() else shutil.copy2(source, target)
