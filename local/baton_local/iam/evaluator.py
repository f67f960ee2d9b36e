"""The decision: AWS's evaluation logic for one account.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic_policy-eval-denyallow.html

An explicit Deny anywhere wins; then the permissions boundary and the session policy, if there are any, must allow;
then an identity policy must allow, or a resource policy that names the role or its session itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from baton_local.iam.conditions import RequestKeys, conditions_hold, substitute
from baton_local.iam.documents import Policy, Principals, Statement, any_glob, glob_match


@dataclass(frozen=True)
class Caller:
    """Who makes a request, as policies see it.

    ``arn``: a role session's, a user's, or a service's name such as ``events.amazonaws.com``.
    ``role_arn``: the role of a session, else "".
    ``service``: the service principal for a call that an AWS service makes for itself, else "".
    """

    arn: str
    account_id: str
    role_arn: str = ""
    service: str = ""
    federated: str = ""


@dataclass(frozen=True)
class Question:
    """One action on one resource, with the condition keys of the request."""

    action: str
    resource: str
    keys: Mapping[str, str | Sequence[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class PolicySet:
    """All policies that may have a say about one question."""

    identity: tuple[Policy, ...] = ()
    resource: tuple[Policy, ...] = ()
    boundary: Policy | None = None
    session: Policy | None = None


@dataclass(frozen=True)
class Decision:
    """The answer; true where the request is allowed.

    ``reason`` continues AWS's sentence "… is not authorized to perform: A on resource: R", and ``by`` names the policy
    and statement that decided, where one did.
    """

    allowed: bool
    reason: str = ""
    by: str = ""

    def __bool__(self) -> bool:
        return self.allowed


def _principal_values_match(values: Iterable[str], caller: Caller) -> bool:
    own = {caller.arn, caller.role_arn, caller.account_id} - {""}
    return any(value == "*" or value in own for value in values)


def _account_matches(values: Iterable[str], caller: Caller) -> bool:
    root = f":iam::{caller.account_id}:root"
    return any(value == caller.account_id or value.endswith(root) for value in values)


def principal_matches(principals: Principals | None, caller: Caller, account_counts: bool = True) -> bool:
    """Return whether a resource policy's principal element covers the caller.

    With ``account_counts`` off, naming the account does not count: it only hands the decision to identity policies.
    """
    if principals is None:
        return False
    if caller.service or caller.federated:
        named = any_glob(principals.values("Service"), caller.service) if caller.service else False
        named = named or (bool(caller.federated) and caller.federated in principals.values("Federated"))
        return (named or "*" in principals.values("AWS")) != principals.negated
    values = principals.values("AWS")
    named = _principal_values_match([v for v in values if v != caller.account_id], caller)
    named = named or (account_counts and _account_matches(values, caller))
    return named != principals.negated


def _action_matches(statement: Statement, action: str) -> bool:
    if statement.actions is not None:
        return any_glob(statement.actions, action, ignore_case=True)
    return statement.not_actions is not None and not any_glob(statement.not_actions, action, ignore_case=True)


def _one_resource_matches(pattern: str, resource: str, statement: Statement, keys: RequestKeys) -> bool:
    text = substitute(pattern, keys) if statement.variables and "${" in pattern else pattern
    return text is not None and glob_match(text, resource)


def _resource_matches(statement: Statement, resource: str, keys: RequestKeys) -> bool:
    if statement.resources is not None:
        return any(_one_resource_matches(p, resource, statement, keys) for p in statement.resources)
    if statement.not_resources is not None:
        return not any(_one_resource_matches(p, resource, statement, keys) for p in statement.not_resources)
    return True


def statement_matches(statement: Statement, question: Question, keys: RequestKeys) -> bool:
    """Return whether a statement's action, resource and conditions cover the question (its principal aside)."""
    return (
        _action_matches(statement, question.action)
        and _resource_matches(statement, question.resource, keys)
        and conditions_hold(statement.conditions, keys, statement.variables)
    )


def _first(
    policies: Iterable[Policy], question: Question, keys: RequestKeys, deny: bool, caller: Caller | None = None
) -> str | None:
    """Return the name of the first policy and statement with that effect that matches, or None.

    With a caller, the policies are resource policies, and the statement's principal must cover him: for an Allow he
    himself must be named, not only his account.
    """
    for policy in policies:
        for index, statement in enumerate(policy.statements):
            if statement.denies != deny or not statement_matches(statement, question, keys):
                continue
            if caller is None or principal_matches(statement.principals, caller, account_counts=deny):
                return f"{policy.name}#{statement.sid or index}"
    return None


def _explicit_deny(policies: PolicySet, question: Question, keys: RequestKeys, caller: Caller) -> Decision | None:
    kinds: list[tuple[str, tuple[Policy, ...], Caller | None]] = [
        ("an identity-based policy", policies.identity, None),
        ("a resource-based policy", policies.resource, caller),
        ("a permissions boundary", (policies.boundary,) if policies.boundary else (), None),
        ("a session policy", (policies.session,) if policies.session else (), None),
    ]
    for words, candidates, who in kinds:
        by = _first(candidates, question, keys, deny=True, caller=who)
        if by:
            return Decision(False, f"with an explicit deny in {words}", by)
    return None


def _limits(policies: PolicySet, question: Question, keys: RequestKeys) -> Decision | None:
    limits = [("permissions boundary", policies.boundary), ("session policy", policies.session)]
    for words, policy in limits:
        if policy is not None and not _first([policy], question, keys, deny=False):
            return Decision(False, f"because no {words} allows the {question.action} action")
    return None


def decide(caller: Caller, question: Question, policies: PolicySet) -> Decision:
    """Answer a question for a caller under the policies."""
    keys = RequestKeys(question.keys)
    denied = _explicit_deny(policies, question, keys, caller)
    if denied is not None:
        return denied
    by_resource = _first(policies.resource, question, keys, deny=False, caller=caller)
    if caller.service or caller.federated:
        return _by_resource_only(by_resource, question)
    limited = _limits(policies, question, keys)
    if limited is not None:
        return limited
    by = _first(policies.identity, question, keys, deny=False) or by_resource
    if by:
        return Decision(True, by=by)
    return Decision(False, f"because no identity-based policy allows the {question.action} action")


def _by_resource_only(by: str | None, question: Question) -> Decision:
    if by:
        return Decision(True, by=by)
    return Decision(False, f"because no resource-based policy allows the {question.action} action")


def sentence(caller_arn: str, question: Question, decision: Decision) -> str:
    """Return AWS's sentence for a denial."""
    on = f" on resource: {question.resource}" if question.resource else ""
    return f"User: {caller_arn} is not authorized to perform: {question.action}{on} {decision.reason}"
