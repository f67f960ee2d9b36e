"""Names that a pattern which is a little too loose would take for those of the stack: longer ones, and siblings'."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

_RUN_PREFIX = "bt-"
"""What the parameter RunPrefix is by default."""
_SHAPES = {
    "s3": (
        rf"([\w.-]+/runs/{_RUN_PREFIX})([^/]+)(/\w+/)(.+)",
        rf"([\w.-]+/runs/{_RUN_PREFIX})(.+)",
        r"([\w.-]+/uploads/)(.+)(/run\.json)",
        r"([\w.-]+/)(.+)",
    ),
    "sagemaker": (rf"([a-z-]+/{_RUN_PREFIX})(.+)",),
    "logs": (r"(log-group:/aws/sagemaker/)(.+)",),
    "states": (r"(execution:[^:]+:)(.+)",),
    "lambda": (r"(function:[^:]+:)(.+)",),
}
"""How names of a service are made, where only a part of them is fixed: what is fixed and what is free take turns."""
_SEPARATORS = frozenset(":/-._")


def kind_of(resource: str) -> str:
    """Return a resource's service and type, such as ``sagemaker/endpoint``; of an object and of a bucket ``s3``."""
    parts = resource.split(":", 5)
    if len(parts) < 6 or parts[2] == "s3":
        return "s3" if len(parts) == 6 else resource
    kind = re.match(r"([a-zA-Z-]+)[/:]", parts[5])
    return f"{parts[2]}/{kind[1]}" if kind else parts[2]


def longer(resource: str, more: str) -> Iterator[tuple[str, str]]:
    """Yield a resource with ``more`` at each place in the fixed parts of its name, and which place that is.

    The places are beside a separator, and the end of the name. In front of the name is none of them.
    """
    account, pieces = _pieces(resource)
    for number in range(0, len(pieces), 2):
        fixed, is_last = pieces[number], number == len(pieces) - 1
        for place in _places(fixed, _start(fixed) if number == 0 and account[2] != "s3" else 1, is_last):
            with_more = [*pieces[:number], fixed[:place] + more + fixed[place:], *pieces[number + 1 :]]
            yield f"{fixed[:place]}*{fixed[place:]}", ":".join([*account, "".join(with_more)])


def elsewhere(resource: str, places: tuple[str, str]) -> Iterator[tuple[str, str]]:
    """Yield a resource in another region and in another account, as ``places`` has them, where its ARN says either."""
    fields = resource.split(":", 5)
    for number, place in enumerate(places, 3):
        if len(fields) == 6 and fields[number] not in ("", place):
            yield ("region", "account")[number - 3], ":".join([*fields[:number], place, *fields[number + 1 :]])


def siblings(resource: str, others: Iterable[str]) -> Iterator[str]:
    """Yield a resource with the name of each other one of its kind in place of its own."""
    account, pieces = _pieces(resource)
    rest = "".join(pieces).removeprefix(name_of(resource))
    names = {name_of(other) for other in others if kind_of(other) == kind_of(resource)}
    for name in sorted(names - {name_of(resource)}):
        yield ":".join([*account, name + rest])


def name_of(resource: str) -> str:
    """Return the type and name of a thing of the stack; of what a run makes, what all things of its type share."""
    account, pieces = _pieces(resource)
    return pieces[0].partition("/")[0] if account[2:3] == ["s3"] else pieces[0].rstrip(":/")


def shape_of(resource: str) -> str:
    """Return a resource with ``x`` for what is free in its name."""
    account, pieces = _pieces(resource)
    return ":".join([*account, "".join("x" if number % 2 else piece for number, piece in enumerate(pieces))])


def _pieces(resource: str) -> tuple[list[str], list[str]]:
    """Return the fields of an ARN before its last one, and that one as fixed and free pieces in turn."""
    *account, name = resource.split(":", 5)
    shapes = _SHAPES.get(account[2], ()) if len(account) == 5 else ()
    found = next((match for shape in shapes if (match := re.fullmatch(shape, name))), None)
    return account, list(found.groups()) if found else [name]


def _start(fixed: str) -> int:
    """Return the first place behind the beginning of the name, which follows the type."""
    kind = re.match(r"[a-zA-Z-]+[/:]", fixed)
    return kind.end() + 1 if kind else 1


def _places(fixed: str, start: int, is_last: bool) -> Iterator[int]:
    for place in range(start, len(fixed)):
        if _SEPARATORS & {fixed[place - 1], fixed[place]}:
            yield place
    if is_last:
        yield len(fixed)
