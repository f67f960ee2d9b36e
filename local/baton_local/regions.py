"""The regions that botocore knows, which are those in which the embedded cloud can be."""

from __future__ import annotations

import difflib
import functools
import re
from collections.abc import Mapping
from typing import Any

from botocore.session import get_session

EXAMPLES = ("eu-west-1", "us-east-1", "cn-northwest-1", "us-gov-west-1")


@functools.cache
def url_suffix(region: str) -> str:
    """Return the domain of a region's endpoints: amazonaws.com, or amazonaws.com.cn in China."""
    fits = [p for p in partitions() if region in p["regions"] or re.match(p["regionRegex"], region)]
    return str(fits[0]["outputs"]["dnsSuffix"]) if fits else "amazonaws.com"


@functools.cache
def regions() -> Mapping[str, str]:
    """Return every region's name and partition; the global pseudo-regions are none."""
    return {
        name: partition["id"]
        for partition in partitions()
        for name in sorted(partition["regions"])
        if not name.endswith("-global")
    }


def problem_with(region: str) -> str | None:
    """Return what is wrong with the name of a region, in one sentence with some that work; None where nothing is."""
    if region in regions():
        return None
    close = difflib.get_close_matches(region, regions(), n=1)
    hint = f"perhaps {close[0]} is meant" if close else f"there are, for example, {', '.join(EXAMPLES)}"
    return f"There is no region {region!r}; {hint}."


@functools.cache
def partitions() -> list[dict[str, Any]]:
    """Return what botocore knows of each partition; a new session takes longer than to look at it."""
    found: list[dict[str, Any]] = get_session().get_data("partitions")["partitions"]
    return found
