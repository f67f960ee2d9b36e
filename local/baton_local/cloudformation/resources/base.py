"""What a resource type of the embedded CloudFormation is, and what it is told."""

from __future__ import annotations

import random
import string
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from baton_local.cloudformation.shapes import UnsupportedProperty, fit, tag_dict


@dataclass(frozen=True)
class Made:
    """A resource that exists: what ``Ref`` gives, what ``Fn::GetAtt`` gives, and notes for later updates."""

    physical_id: str
    attributes: Mapping[str, Any] = field(default_factory=dict)
    notes: Mapping[str, Any] = field(default_factory=dict)


class NeedsReplacement(Exception):
    """The change cannot be made to the existing resource: a new one is made and the old one deleted."""


@dataclass(frozen=True)
class Job:
    """One resource of a stack at work.

    ``client`` makes clients with the deployer's credentials; ``properties`` are resolved.
    """

    logical_id: str
    properties: Mapping[str, Any]
    stack_name: str
    stack_id: str
    stack_tags: Mapping[str, str]
    region: str
    partition: str
    account_id: str
    client: Callable[[str], Any]
    suffix: str = ""

    def get(self, name: str, default: Any = None) -> Any:
        """Return a property."""
        return self.properties.get(name, default)

    def name(self, property_name: str, limit: int = 64, separator: str = "-") -> str:
        """Return the resource's name: the property's, or ``stack-logicalid-random`` cut to ``limit`` characters."""
        given = self.properties.get(property_name)
        if given:
            return str(given)
        suffix = f"{separator}{self.suffix}"
        logical = f"{separator}{self.logical_id}"[: max(0, (limit - len(suffix)) // 2)]
        return f"{self.stack_name[: limit - len(suffix) - len(logical)]}{logical}{suffix}"

    def tags(self) -> dict[str, str]:
        """Return the resource's tags, the stack's among them."""
        return {**self.stack_tags, **tag_dict(self.properties.get("Tags"))}

    def arn(self, service: str, resource: str, region: bool = True) -> str:
        """Return an ARN in the stack's account."""
        return f"arn:{self.partition}:{service}:{self.region if region else ''}:{self.account_id}:{resource}"

    def only(self, *names: str) -> dict[str, Any]:
        """Return these of the properties, as far as they are given."""
        return {n: self.properties[n] for n in names if n in self.properties}

    def without(self, *names: str) -> dict[str, Any]:
        """Return the properties without these."""
        return {n: v for n, v in self.properties.items() if n not in names}

    def fit(self, client: Any, operation: str, *names: str, **extra: Any) -> dict[str, Any]:
        """Return these properties as arguments of an operation (see ``shapes.fit``)."""
        return fit(client, operation, self.only(*names), **extra)


def random_suffix() -> str:
    """Return the random end of a generated name, as CloudFormation makes it."""
    return "".join(random.choices(string.ascii_uppercase + string.digits, k=12))  # noqa: S311 (a name, no secret)


class ResourceType(ABC):
    """How resources of one type are made, changed and deleted.

    ``properties``: all that this type supports. ``replace_on``: those whose change needs a new resource.
    ``named_by``: the property that names it, by which a replacement with the same name is refused.
    """

    type: ClassVar[str]
    properties: ClassVar[frozenset[str]]
    required: ClassVar[frozenset[str]] = frozenset()
    replace_on: ClassVar[frozenset[str]] = frozenset()
    named_by: ClassVar[str] = ""

    def check(self, job: Job) -> None:
        """Raise an error that names a property which this type does not support, or which is missing."""
        for name in job.properties:
            if name not in self.properties:
                raise UnsupportedProperty(name)
        missing = sorted(self.required - set(job.properties))
        if missing:
            raise ValueError(f"Properties validation failed: required key [{missing[0]}] not found")

    @abstractmethod
    def create(self, job: Job) -> Made:
        """Make the resource."""

    def update(self, job: Job, made: Made, old: Mapping[str, Any]) -> Made:  # noqa: ARG002
        """Change the resource from the old properties to the job's; raise NeedsReplacement if that cannot be."""
        raise NeedsReplacement

    @abstractmethod
    def delete(self, job: Job, made: Made) -> None:
        """Delete the resource; one that is gone already is no error."""


def changed(job: Job, old: Mapping[str, Any], *names: str) -> bool:
    """Return whether one of these properties differs."""
    return any(job.properties.get(n) != old.get(n) for n in names)


def error_code(error: Exception) -> str:
    """Return the code of a boto3 error, or ""."""
    response = getattr(error, "response", None)
    return str(response["Error"]["Code"]) if isinstance(response, dict) else ""


class Ignoring:
    """A context manager that lets errors with these codes pass: what is to be deleted is gone already."""

    def __init__(self, *codes: str) -> None:
        self._codes = codes

    def __enter__(self) -> None:
        """Do nothing."""

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        """Swallow an error with one of the codes."""
        return isinstance(error, Exception) and error_code(error) in self._codes
