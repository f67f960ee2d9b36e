"""What a recorded question turns into when a stranger's thing takes the place of the run's: it must be refused."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from baton_local.iam.evaluator import Caller, Question
from tests.support import look_alikes
from tests.support.look_alikes import kind_of
from tests.support.permissions import Document, Mutation, Recording, as_list

STRANGER = "a-strangers"
ELSEWHERE = ("us-west-1", "999999999999")
"""A region and an account in which nothing is."""
RUN_TAG = "baton:run-id"
_MAKING = ("sagemaker:Create", "sagemaker:AddTags")
_ENDING = ("sagemaker:Stop", "sagemaker:Delete")
_OTHER_STACKS = "zz-0000000000000"
"""A run whose id has another prefix than the stack's."""
_FOLDERS = ("data", "input", "tuning", "model", "predictions", "report")
PLACES = {
    "an upload": f"uploads/{STRANGER}.pkl",
    "an upload's run.json": f"uploads/{STRANGER}/run.json",
    "elsewhere": f"datasets/{STRANGER}.pkl",
    "a run of another stack": f"runs/{_OTHER_STACKS}/{{folder}}/{STRANGER}",
    **{f"a run's {folder}/": f"runs/{{run}}/{folder}/{STRANGER}" for folder in _FOLDERS},
}
"""The parts of the run bucket, and a key in each."""
_PREFIXES = {"uploads": "uploads/", "a run of another stack": f"runs/{_OTHER_STACKS}/"}


@dataclass(frozen=True)
class Strange:
    """A question that nobody should be allowed: who asks, what is a stranger's in it, and the question itself."""

    caller: Caller
    what: str
    question: Question

    @property
    def who(self) -> str:
        """The role's logical id, or the service."""
        return (self.caller.role_arn or self.caller.arn).rpartition("/")[2].removeprefix("baton-").partition("-")[0]

    def __str__(self) -> str:
        return f"{self.who} {self.question.action} {kind_of(self.question.resource)}: {self.what}"


def strange(recording: Recording) -> Iterator[Strange]:
    """Yield what a recording's questions turn into, each of a kind once."""
    seen = set()
    for caller, question in recording.asked:
        for what, changed in _changed(question):
            found = Strange(caller, what, changed)
            if (key := (str(found), question.resource)) not in seen:
                seen.add(key)
                yield found
    yield from _in_other_places(recording)
    yield from _alike(recording)


def _alike(recording: Recording) -> Iterator[Strange]:
    """Yield questions about what has a like name: of each role and action, and each shape of a name, once.

    Whether an object's version is named makes no difference to whose bucket it may be in.
    """
    asked = {
        (caller.role_arn or caller.arn, question.action, look_alikes.shape_of(question.resource)): (caller, question)
        for caller, question in recording.asked
        if question.resource.startswith("arn:")
    }
    own = {(who, action.removesuffix("Version"), look_alikes.name_of(shape)) for who, action, shape in asked}
    things = _things(recording)
    for (who, action, _shape), (caller, question) in asked.items():
        for what, resource in look_alikes.longer(question.resource, STRANGER):
            yield Strange(caller, f"more in {what}", replace(question, resource=resource))
        for what, resource in look_alikes.elsewhere(question.resource, ELSEWHERE):
            yield Strange(caller, f"of another {what}", replace(question, resource=resource))
        for resource in look_alikes.siblings(question.resource, things):
            if (who, action.removesuffix("Version"), look_alikes.name_of(resource)) not in own:
                yield Strange(caller, "a sibling's", replace(question, resource=resource))


def _things(recording: Recording) -> list[str]:
    """Return what the recording shows of the stack's things: what was asked of, who asked, and what machines run."""
    asked_of = {question.resource for _caller, question in recording.asked}
    executions = {resource.replace(":stateMachine:", ":execution:") for resource in asked_of}
    return sorted(asked_of | executions | {caller.role_arn for caller, _question in recording.asked if caller.role_arn})


def _in_other_places(recording: Recording) -> Iterator[Strange]:
    """Yield each question about an object of the run bucket, asked of those parts of it that it was never asked of.

    Whether an object's version is named makes no difference to where the object may be.
    """
    asked: dict[tuple[str, str], list[tuple[Caller, Question, re.Match[str]]]] = {}
    for caller, question in recording.asked:
        if found := re.fullmatch(r"arn:[\w-]+:s3:::([\w.-]+)/(.+)", question.resource):
            asked.setdefault((caller.role_arn or caller.arn, question.action), []).append((caller, question, found))
    keys = [found for several in asked.values() for *_, found in several]
    bucket, run = next((found[1], found[2].split("/")[1]) for found in keys if found[2].startswith("runs/"))
    own = {
        who: [(caller, question, found[2]) for caller, question, found in several if found[1] == bucket]
        for who, several in asked.items()
    }
    seen = {(role, action.removesuffix("Version"), _place(key)) for (role, action), of in own.items() for *_, key in of}
    for (role, action), several in own.items():
        for caller, question, key in several[:1]:
            folder = key.split("/")[2] if key.startswith("runs/") else "data"
            for place, strange_key in PLACES.items():
                if (role, action.removesuffix("Version"), place) not in seen:
                    resource = question.resource.removesuffix(key) + strange_key.format(run=run, folder=folder)
                    yield Strange(caller, place, replace(question, resource=resource))


def _place(key: str) -> str:
    """Return the part of the run bucket in which a key of the stack's own is."""
    if key.startswith("runs/"):
        return f"a run's {key.split('/')[2]}/"
    if key.startswith("uploads/"):
        return "an upload's run.json" if key.endswith("/run.json") else "an upload"
    return "elsewhere"


def allowed(recording: Recording, asked: list[Strange], documents: tuple[Document, ...]) -> set[str]:
    """Return which of the strange questions some documents allow."""
    replayed = replace(recording, asked=tuple((one.caller, one.question) for one in asked), documents=documents)
    refused = replayed.decisions(documents)
    return {str(one) for one, decision in zip(asked, refused, strict=True) if decision}


def widened(recording: Recording) -> Iterator[Mutation]:
    """Yield each bound of the stack's own documents, taken away: one key of a condition, or the resources."""
    for document in recording.documents:
        if document.aws_managed:
            continue
        for index, statement in enumerate(document.content["Statement"]):
            if statement["Effect"] != "Allow":
                continue
            # A resource's own policy counts for that resource only, whatever it names.
            if statement.get("Resource", "*") != "*" and not document.resources:
                yield _wider(document, index, "resource", {"Resource": "*"})
                yield from _wider_in_the_bucket(document, index, statement)
                yield from _looser(document, index, statement)
            for operator, block in statement.get("Condition", {}).items():
                for key in block:
                    yield _wider(document, index, f"{operator} {key}", _without(statement, operator, key))


def _wider_in_the_bucket(document: Document, index: int, statement: Any) -> Iterator[Mutation]:
    """Yield each pattern of objects, made one of the whole run, and of the whole bucket."""
    resources = as_list(statement["Resource"])
    for resource in resources:
        bucket, slash, key = resource.partition("/")
        if ":s3:::" not in bucket or not slash:
            continue
        run = "/".join(key.split("/")[:2])
        for wider in {f"{bucket}/*", f"{bucket}/{run}" if run.startswith("runs/") else resource} - {resource}:
            rest = [wider if one == resource else one for one in resources]
            yield _wider(document, index, f"{key} as {wider.partition('/')[2]}", {"Resource": rest})


def _looser(document: Document, index: int, statement: Any) -> Iterator[Mutation]:
    """Yield each pattern with one more ``*``: for its region or account, or at a place in what is fixed of its name."""
    resources = as_list(statement["Resource"])
    for resource in resources:
        for _place, looser in [*look_alikes.longer(resource, "*"), *look_alikes.elsewhere(resource, ("*", "*"))]:
            rest = [looser if one == resource else one for one in resources]
            yield _wider(document, index, f"names like {resource.split(':', 5)[5]}", {"Resource": rest})


def _without(statement: Any, operator: str, key: str) -> dict[str, Any]:
    rest = {o: {k: v for k, v in b.items() if (o, k) != (operator, key)} for o, b in statement["Condition"].items()}
    return {"Condition": {o: b for o, b in rest.items() if b}}


def _wider(document: Document, index: int, value: str, change: dict[str, Any]) -> Mutation:
    statements = list(document.content["Statement"])
    sid = str(statements[index].get("Sid", index))
    statements[index] = {**statements[index], **change}
    wider = replace(document, content={**document.content, "Statement": statements})
    return Mutation(document, sid, "bound", value, wider, document.content["Statement"][index])


def _changed(question: Question) -> Iterator[tuple[str, Question]]:
    resource = _of_a_stranger(question)
    if resource:
        yield "another's", replace(question, resource=resource)
    for key, foreign, may_lack in _keys(question):
        yield f"{key} of another", replace(question, keys={**question.keys, key: foreign})
        if may_lack:
            yield f"no {key}", replace(question, keys={k: v for k, v in question.keys.items() if k != key})
    if "s3:prefix" in question.keys:
        for place, prefix in _PREFIXES.items():
            yield f"s3:prefix of {place}", replace(question, keys={**question.keys, "s3:prefix": prefix})


def _of_a_stranger(question: Question) -> str:
    """Return the ARN of a like thing that is no run's, or another's; "" where the question names none."""
    parts = question.resource.split(":", 5)
    if len(parts) < 6:
        return ""
    service, rest = parts[2], parts[5]
    if service == "s3":
        changed = f"{STRANGER}{rest}"
    elif service == "kms" or ("/" not in rest and ":" not in rest):
        changed = f"{rest.rpartition('/')[0]}/{STRANGER}" if "/" in rest else STRANGER
    else:
        cut = min(place for place in (rest.find("/"), rest.find(":")) if place >= 0)
        changed = f"{rest[: cut + 1]}{STRANGER}-{rest[cut + 1 :].lstrip('/')}"
    return ":".join([*parts[:5], changed])


def _keys(question: Question) -> Iterator[tuple[str, str | list[str], bool]]:
    """Yield each key that bounds the question's action, a stranger's value, and whether a request can lack the key."""
    action, keys = question.action, question.keys
    if action.startswith(_MAKING):
        yield f"aws:RequestTag/{RUN_TAG}", STRANGER, True
    if action == "sagemaker:AddTags":
        yield "sagemaker:TaggingAction", STRANGER, True
    if action.startswith(_ENDING):
        yield f"aws:ResourceTag/{RUN_TAG}", STRANGER, True
    if action == "sagemaker:DeleteTags":
        yield "aws:TagKeys", ["baton:expires-at", RUN_TAG], True
    if action.startswith("dynamodb:"):
        yield "dynamodb:LeadingKeys", [STRANGER], False
    if action == "iam:PassRole":
        yield "iam:PassedToService", STRANGER, True
    if action == "events:PutEvents":
        yield "events:source", [STRANGER], True
    if action.startswith("kms:") and "kms:ViaService" in keys:
        yield "kms:ViaService", STRANGER, True
    if action == "s3:ListBucket" and "s3:prefix" in keys:
        yield "s3:prefix", STRANGER, True
    if "aws:SourceArn" in keys:
        yield "aws:SourceArn", f"arn:aws:events:eu-west-1:123456789012:rule/{STRANGER}", True
