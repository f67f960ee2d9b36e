"""The one way in which the embedded cloud changes moto: named seams, checked before they are opened.

moto's classes are private to it and may change with any release. So every place that the embedded cloud replaces or
relies on is declared with what it must look like, and so is what it adds where moto has nothing. A cloud whose seams
look different refuses to start with one sentence instead of misbehaving later::

    _send = replace("moto.events.models", "Rule.send_to_targets", send_to_targets,
                    expects=("self", "original_event", "transform_input"))
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.metadata
import inspect
import sys
import textwrap
from dataclasses import dataclass
from typing import Any

MOTO_VERSION = "5.2.5"

Expectation = tuple[str, ...] | str | type | None
"""What a seam must look like: its parameter names; the first 12 hex digits or more of the SHA-256 of its dedented
source; a class that it is an instance or a subclass of; or None, when it only has to be there."""


class SeamError(RuntimeError):
    """moto does not look as the embedded cloud expects; the message is one sentence that says where."""


@dataclass(frozen=True)
class Seam:
    """A place in moto that the embedded cloud opens: a module, a dotted attribute in it, and what it must be."""

    module: str
    attribute: str
    expects: Expectation

    @property
    def name(self) -> str:
        """The full dotted name, for messages."""
        return f"{self.module}.{self.attribute}"

    def holder(self) -> Any:
        """Return the object that has the attribute; raise SeamError if it is not there."""
        try:
            found: Any = importlib.import_module(self.module)
            for part in self.attribute.split(".")[:-1]:
                found = getattr(found, part)
        except (ImportError, AttributeError) as error:
            raise SeamError(f"moto {MOTO_VERSION} was expected to have {self.name}: {error}.") from error
        return found

    def check(self, value: Any) -> None:
        """Raise SeamError unless the value is what this seam expects."""
        difference = _difference(value, self.expects)
        if difference:
            raise SeamError(f"moto's {self.name} is not what the embedded cloud expects: {difference}.")


_pristine: dict[tuple[str, str], Any] = {}
_opened: dict[Seam, None] = {}
_added: dict[Seam, None] = {}
_undo: list[tuple[Any, str, Any, bool]] = []


def check_moto_version() -> None:
    """Raise SeamError unless the installed moto is the one whose seams are known."""
    found = importlib.metadata.version("moto")
    if found != MOTO_VERSION:
        raise SeamError(f"The embedded cloud needs moto {MOTO_VERSION} exactly, and {found} is installed.")


def register(module: str, attribute: str, expects: Expectation = None) -> Any:
    """Declare a private place of moto that is used as it is, check it, and return it."""
    return _open(Seam(module, attribute, expects))


def replace(module: str, attribute: str, new: Any, expects: Expectation = None, imported_in: str | None = None) -> Any:
    """Check a seam, put ``new`` there, and return what was there before, to be called from ``new``.

    The check looks at moto's own code also when another module has replaced the seam already. With ``imported_in``
    (a package), every loaded module of that package that imported the old value by the same name gets the new one.
    """
    seam = Seam(module, attribute, expects)
    old = _open(seam)
    name = attribute.rpartition(".")[2]
    _set(seam.holder(), name, new)
    for other in _importers(imported_in, name, old):
        _set(other, name, new)
    return old


def add(module: str, attribute: str, new: Any) -> None:
    """Put something where moto has nothing, such as an operation that it does not know; replace() is for what it has.

    Raises SeamError where moto has something of that name after all.
    """
    seam = Seam(module, attribute, None)
    holder, name = seam.holder(), attribute.rpartition(".")[2]
    if hasattr(holder, name) and seam not in _added:
        raise SeamError(f"moto {MOTO_VERSION} was expected not to have {seam.name}.")
    _added.setdefault(seam)
    _set(holder, name, new)


def opened() -> tuple[Seam, ...]:
    """Return every seam that was declared so far, in order."""
    return tuple(_opened)


def added() -> tuple[Seam, ...]:
    """Return every place where something was put that moto does not have, in order."""
    return tuple(_added)


def pristine(seam: Seam) -> Any:
    """Return what an opened seam was before anything was put there."""
    return _pristine[(seam.module, seam.attribute)]


def restore() -> None:
    """Put everything back as moto had it: for tests that open seams in their own process."""
    while _undo:
        holder, name, old, was_own = _undo.pop()
        if was_own:
            setattr(holder, name, old)
        else:
            delattr(holder, name)
    _pristine.clear()
    _opened.clear()
    _added.clear()


def _open(seam: Seam) -> Any:
    holder = seam.holder()
    name = seam.attribute.rpartition(".")[2]
    if not hasattr(holder, name):
        raise SeamError(f"moto {MOTO_VERSION} was expected to have {seam.name}.")
    current = getattr(holder, name)
    seam.check(_pristine.setdefault((seam.module, seam.attribute), current))
    _opened.setdefault(seam)
    return current


def _set(holder: Any, name: str, new: Any) -> None:
    own = vars(holder)
    _undo.append((holder, name, own.get(name), name in own))
    setattr(holder, name, new)


def _importers(package: str | None, name: str, old: Any) -> list[Any]:
    if package is None:
        return []
    inside = [m for n, m in list(sys.modules.items()) if n == package or n.startswith(f"{package}.")]
    return [m for m in inside if vars(m).get(name) is old]


def _difference(value: Any, expects: Expectation) -> str:
    if expects is None:
        return ""
    if isinstance(expects, type):
        fits = isinstance(value, expects) or (isinstance(value, type) and issubclass(value, expects))
        return "" if fits else f"it is no {expects.__name__}"
    if isinstance(expects, str):
        found = source_hash(value)
        return "" if len(expects) >= 12 and found.startswith(expects) else f"its source has the hash {found[:16]}"
    names = parameter_names(value)
    return "" if names == expects else f"its parameters are {', '.join(names) or 'none'}"


def parameter_names(value: Any) -> tuple[str, ...]:
    """Return the parameter names of a callable, ``self`` included for a function found in its class."""
    if not callable(value):
        raise SeamError(f"{value!r} of moto was expected to be callable.")
    return tuple(inspect.signature(value).parameters)


def source_hash(value: Any) -> str:
    """Return the SHA-256 of an object's source text, dedented, as hexadecimal digits."""
    return hashlib.sha256(textwrap.dedent(inspect.getsource(value)).encode()).hexdigest()
