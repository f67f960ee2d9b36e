"""Recorded decisions, replayed against policies from which one permission was taken away."""

from __future__ import annotations

import copy
import json
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from baton_local.iam.documents import parse
from baton_local.iam.evaluator import Caller, PolicySet, Question, decide

# These differ at every call, and no policy of the stack looks at them.
_MOMENTARY = ("aws:CurrentTime", "aws:EpochTime", "aws:UserAgent", "aws:SourceIp")

_BY_KIND_OF_ROLE = ("FunctionPolicy", "MachinePolicy")
"""Policies of which no call shows that a role needs them; tests/contract/test_roles.py knows which roles do."""


@dataclass(frozen=True)
class Document:
    """One policy document: the logical id of what holds it, and the ARNs of the roles or resources it counts for."""

    holder: str
    content: Mapping[str, Any]
    principals: frozenset[str] = frozenset()
    resources: frozenset[str] = frozenset()
    aws_managed: bool = False

    @cached_property
    def parsed(self) -> Any:
        return parse(self.holder, json.dumps({"Version": "2012-10-17", **self.content}))


@dataclass(frozen=True)
class Mutation:
    """A document with one thing taken away: an action, a resource, a value of a condition, or an attachment."""

    document: Document
    sid: str
    kind: str
    value: str
    replacement: Document
    statement: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.document.holder}/{self.sid}: {self.kind} {self.value}"


@dataclass(frozen=True)
class Recording:
    """What was asked of IAM while the flows were played, and the policies that answered.

    ``denied``: who was denied which action, but for what he had been allowed on the same resource before. The right to
    delete hangs on the resource's tag, so when two clean-ups meet, the second deletion is denied: nothing has a tag.
    """

    asked: tuple[tuple[Caller, Question], ...]
    denied: frozenset[tuple[str, str]]
    documents: tuple[Document, ...]

    @classmethod
    def of(cls, log: list[dict[str, Any]], documents: list[Document]) -> Recording:
        """Keep one of each question that was answered with yes, and who was denied what."""
        unique: dict[str, tuple[Caller, Question]] = {}
        deletions = {(e["role"], e["action"], e["resource"]) for e in log if e["allowed"] and ":Delete" in e["action"]}
        for entry in log:
            if entry["allowed"]:
                keys = {k: v for k, v in entry["context"].items() if k not in _MOMENTARY}
                key = json.dumps([entry["role"], entry["action"], entry["resource"], keys], sort_keys=True)
                unique[key] = _caller(entry), Question(entry["action"], entry["resource"], keys)
        refused = {(e["role"], e["action"], e["resource"]) for e in log if not e["allowed"]} - deletions
        denied = frozenset((role, action) for role, action, _resource in refused)
        return cls(tuple(unique.values()), denied, tuple(documents))

    def refused(self, documents: tuple[Document, ...]) -> list[str]:
        """Return what of all that was asked these documents would not allow."""
        return list(self._refused(documents, self.asked))

    def needs(self, mutation: Mutation) -> bool:
        """Return whether something recorded is refused once the mutation is made."""
        others = [d for d in self.documents if d is not mutation.document]
        concerned = [(c, q) for c, q in self.asked if counts_for(mutation.document, c, q)]
        return next(self._refused((*others, mutation.replacement), concerned), None) is not None

    def decisions(self, documents: tuple[Document, ...]) -> list[bool]:
        """Return what these documents answer to each question of ``asked``."""
        return [_decided(documents, caller, question) for caller, question in self.asked]

    @staticmethod
    def _refused(documents: tuple[Document, ...], asked: Any) -> Iterator[str]:
        for caller, question in asked:
            if not _decided(documents, caller, question):
                yield f"{caller.role_arn or caller.arn} {question.action} {question.resource}"

    def mutations(self) -> Iterator[Mutation]:
        """Yield each permission of the stack's own documents, taken away."""
        for document in self.documents:
            if document.aws_managed:
                continue
            for index, statement in enumerate(document.content["Statement"]):
                yield from _mutated(document, index, statement)
            if len(document.principals) > 1:
                yield from _detached(document)


def _caller(entry: Mapping[str, Any]) -> Caller:
    account = "123456789012"
    if ":role/" not in entry["role"]:
        return Caller(arn=entry["role"], account_id=account, service=entry["role"])
    return Caller(arn=entry["principal"], account_id=account, role_arn=entry["role"])


def counts_for(document: Document, caller: Caller, question: Question) -> bool:
    """Return whether a document has a say about a question: it is the caller's, or the resource's."""
    return (caller.role_arn or caller.arn) in document.principals or question.resource in document.resources


def _decided(documents: tuple[Document, ...], caller: Caller, question: Question) -> bool:
    counting = [d for d in documents if counts_for(d, caller, question)]
    identity = tuple(d.parsed for d in counting if caller.arn in d.principals or caller.role_arn in d.principals)
    resource = tuple(d.parsed for d in counting if question.resource in d.resources)
    return bool(decide(caller, question, PolicySet(identity=identity, resource=resource)))


def as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _mutated(document: Document, index: int, statement: Mapping[str, Any]) -> Iterator[Mutation]:
    for kind, element in (("action", "Action"), ("resource", "Resource")):
        for value in as_list(statement.get(element, [])):
            rest = [v for v in as_list(statement[element]) if v != value]
            yield _mutation(document, index, kind, str(value), {element: rest} if rest else None)
    for operator, block in statement.get("Condition", {}).items():
        for key, values in block.items() if operator != "Null" else ():
            for value in as_list(values):
                condition = _without_value(statement["Condition"], operator, key, value)
                yield _mutation(document, index, "value", f"{key} {value}", condition)


def _without_value(condition: Mapping[str, Any], operator: str, key: str, value: Any) -> dict[str, Any] | None:
    """Return the change that takes one value away, or None where it was the key's only one."""
    rest = [v for v in as_list(condition[operator][key]) if v != value]
    return {"Condition": {**condition, operator: {**condition[operator], key: rest}}} if rest else None


def _mutation(document: Document, index: int, kind: str, value: str, change: Mapping[str, Any] | None) -> Mutation:
    """Change a statement, or take it out where nothing would be left of the element."""
    content = copy.deepcopy(dict(document.content))
    statement = document.content["Statement"][index]
    content["Statement"][index : index + 1] = [{**statement, **change}] if change else []
    replacement = Document(document.holder, content, document.principals, document.resources)
    return Mutation(document, str(statement.get("Sid", index)), kind, value, replacement, statement)


def _detached(document: Document) -> Iterator[Mutation]:
    for principal in sorted(document.principals):
        rest = Document(document.holder, document.content, document.principals - {principal}, document.resources)
        yield Mutation(document, "", "attachment", principal, rest)


@dataclass(frozen=True)
class Reasons:
    """Why permissions are there that no embedded call can show to be needed; read from a TOML file."""

    actions: Mapping[tuple[str, str, str], Mapping[str, str]]
    managed_policies: Mapping[str, Mapping[str, str]]
    attachments: Mapping[tuple[str, str], Mapping[str, str]]
    values: Mapping[tuple[str, str, str], Mapping[str, str]]

    @classmethod
    def read(cls, path: Path) -> Reasons:
        """Read the file; every entry has a reason and a page of AWS's documentation that says so."""
        entries = tomllib.loads(path.read_text("utf-8"))
        actions = {
            (entry["holder"], entry["sid"], action): entry
            for entry in entries["permission"]
            for action in entry["actions"]
        }
        managed = {entry["name"]: entry for entry in entries["managed_policy"]}
        attachments = {(entry["holder"], entry["role"]): entry for entry in entries["attachment"]}
        values = {(entry["holder"], entry["sid"], entry["value"]): entry for entry in entries["value"]}
        return cls(actions, managed, attachments, values)

    def explain(self, mutation: Mutation) -> bool:
        """Return whether the reasons cover a mutation: by its action, or by all actions of what it takes away."""
        holder = mutation.document.holder
        if mutation.kind == "action":
            return (holder, mutation.sid, mutation.value) in self.actions
        if mutation.kind == "attachment" and holder not in _BY_KIND_OF_ROLE:
            return any(holder == of and f"/baton-{role}-" in mutation.value for of, role in self.attachments)
        if mutation.kind == "value" and any(
            (holder, mutation.sid) == (of, sid) and mutation.value.startswith(value) for of, sid, value in self.values
        ):
            return True
        statements = [mutation.statement] if mutation.statement else mutation.document.content["Statement"]
        return all((holder, s["Sid"], a) in self.actions for s in statements for a in as_list(s["Action"]))
