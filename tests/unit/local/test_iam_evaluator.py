"""The evaluator against what AWS documents about policy evaluation."""

from __future__ import annotations

from typing import Any

import pytest

from baton_local.iam.conditions import RequestKeys, UnknownOperator, condition_holds, substitute
from baton_local.iam.documents import glob_match, parse
from baton_local.iam.evaluator import Caller, PolicySet, Question, decide, sentence

ROLE = "arn:aws:iam::123456789012:role/app"
SESSION = "arn:aws:sts::123456789012:assumed-role/app/session"
CALLER = Caller(arn=SESSION, account_id="123456789012", role_arn=ROLE)
SERVICE = Caller(arn="events.amazonaws.com", account_id="123456789012", service="events.amazonaws.com")


def policy(*statements: dict[str, Any], version: str | None = "2012-10-17", name: str = "p") -> Any:
    document: dict[str, Any] = {"Statement": list(statements)}
    return parse(name, {**({"Version": version} if version else {}), **document})


def allow(action: Any = "s3:GetObject", resource: Any = "*", **more: Any) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": action, "Resource": resource, **more}


def deny(action: Any = "s3:GetObject", resource: Any = "*", **more: Any) -> dict[str, Any]:
    return {**allow(action, resource, **more), "Effect": "Deny"}


def ask(action: str, resource: str, *statements: dict[str, Any], caller: Caller = CALLER, **keys: Any) -> Any:
    named = {k.replace("__", ":"): v for k, v in keys.items()}
    return decide(caller, Question(action, resource, named), PolicySet(identity=(policy(*statements),)))


def test_nothing_is_allowed_by_default():
    decision = decide(CALLER, Question("s3:GetObject", "arn:aws:s3:::b/k"), PolicySet())
    assert not decision
    assert decision.reason == "because no identity-based policy allows the s3:GetObject action"


def test_the_sentence_is_that_of_aws():
    question = Question("dynamodb:GetItem", "arn:aws:dynamodb:eu-west-1:123456789012:table/t")
    decision = decide(CALLER, question, PolicySet())
    assert sentence(SESSION, question, decision) == (
        f"User: {SESSION} is not authorized to perform: dynamodb:GetItem on resource: "
        "arn:aws:dynamodb:eu-west-1:123456789012:table/t because no identity-based policy allows the "
        "dynamodb:GetItem action"
    )


def test_an_explicit_deny_wins_over_any_allow():
    decision = ask("s3:GetObject", "arn:aws:s3:::b/k", allow("*"), deny("s3:Get*", "arn:aws:s3:::b/*"))
    assert not decision
    assert decision.reason == "with an explicit deny in an identity-based policy"
    assert decision.by == "p#1"


@pytest.mark.parametrize(
    ("glob", "value", "matches"),
    [
        ("arn:aws:s3:::b/*", "arn:aws:s3:::b/deep/key", True),
        ("arn:aws:s3:::b/*", "arn:aws:s3:::b", False),
        ("arn:aws:s3:::b?/x", "arn:aws:s3:::b1/x", True),
        ("arn:aws:s3:::b?/x", "arn:aws:s3:::b/x", False),
        ("a[b]*", "a[b]c", True),
        ("a[b]*", "ab", False),
        ("*", "", True),
        ("A*", "abc", False),
    ],
)
def test_only_star_and_question_mark_are_wildcards(glob, value, matches):
    assert glob_match(glob, value) is matches


def test_actions_ignore_case_and_resources_do_not():
    assert ask("s3:GetObject", "arn:aws:s3:::b/k", allow("S3:getobject", "arn:aws:s3:::b/k"))
    assert not ask("s3:GetObject", "arn:aws:s3:::b/K", allow("s3:GetObject", "arn:aws:s3:::b/k"))


def test_not_action_and_not_resource_are_all_but_those():
    statement = {"Effect": "Allow", "NotAction": "iam:*", "NotResource": "arn:aws:s3:::secret/*"}
    assert ask("s3:GetObject", "arn:aws:s3:::open/k", statement)
    assert not ask("s3:GetObject", "arn:aws:s3:::secret/k", statement)
    assert not ask("iam:PassRole", ROLE, statement)


def test_a_resource_scoped_statement_does_not_allow_an_action_that_supports_no_resource():
    scoped = allow("states:SendTaskSuccess", "arn:aws:states:eu-west-1:123456789012:stateMachine:m")
    assert not ask("states:SendTaskSuccess", "*", scoped)
    assert ask("states:SendTaskSuccess", "*", allow("states:SendTaskSuccess"))


def test_conditions_are_joined_by_and_values_by_or():
    condition = {"StringEquals": {"aws:a": ["1", "2"], "aws:b": "3"}}
    statement = allow(Condition=condition)
    assert ask("s3:GetObject", "x", statement, aws__a="2", aws__b="3")
    assert not ask("s3:GetObject", "x", statement, aws__a="2", aws__b="4")
    assert not ask("s3:GetObject", "x", statement, aws__a="3", aws__b="3")
    assert ask("s3:GetObject", "x", statement, AWS__A="1", AWS__B="3"), "condition keys ignore case"


@pytest.mark.parametrize(
    ("operator", "want", "have", "holds"),
    [
        ("StringEquals", ["a"], "a", True),
        ("StringEquals", ["a"], "A", False),
        ("StringEqualsIgnoreCase", ["a"], "A", True),
        ("StringLike", ["a*"], "abc", True),
        ("StringNotLike", ["a*"], "abc", False),
        ("StringNotEquals", ["a", "b"], "b", False),
        ("StringNotEquals", ["a", "b"], "c", True),
        ("NumericLessThan", ["10"], "9.5", True),
        ("NumericGreaterThanEquals", ["10"], "10", True),
        ("NumericEquals", ["10"], "ten", False),
        ("NumericNotEquals", ["10"], "11", True),
        ("DateGreaterThan", ["2026-01-01T00:00:00Z"], "2026-06-01T00:00:00Z", True),
        ("DateLessThan", ["2026-01-01T00:00:00Z"], "1767225599", True),
        ("Bool", ["false"], "true", False),
        ("Bool", ["true"], "true", True),
        ("BinaryEquals", ["QmF0b24="], "QmF0b24=", True),
        ("IpAddress", ["10.0.0.0/8"], "10.1.2.3", True),
        ("NotIpAddress", ["10.0.0.0/8"], "10.1.2.3", False),
        ("ArnLike", ["arn:aws:events:*:*:rule/x*"], "arn:aws:events:eu-west-1:1:rule/xy", True),
        ("ArnLike", ["arn:*:rule/x"], "arn:aws:events:eu-west-1:1:rule/x", False),
        ("ArnEquals", ["arn:aws:sns:eu-west-1:1:t"], "arn:aws:sns:eu-west-1:1:t", True),
        ("ArnNotLike", ["arn:aws:sns:*:1:t"], "arn:aws:sns:eu-west-1:1:t", False),
    ],
)
def test_every_operator(operator, want, have, holds):
    assert condition_holds(operator, "k", tuple(want), RequestKeys({"k": have})) is holds


@pytest.mark.parametrize(
    ("operator", "holds"),
    [
        ("StringEquals", False),
        ("StringNotEquals", True),
        ("StringEqualsIfExists", True),
        ("Bool", False),
        ("NumericLessThanIfExists", True),
        ("ArnNotLike", True),
        ("ForAllValues:StringEquals", True),
        ("ForAnyValue:StringEquals", False),
    ],
)
def test_a_key_that_the_request_does_not_have(operator, holds):
    assert condition_holds(operator, "missing", ("1",), RequestKeys({})) is holds


def test_null_asks_whether_the_key_is_there():
    keys = RequestKeys({"here": "x"})
    assert condition_holds("Null", "here", ("false",), keys)
    assert condition_holds("Null", "absent", ("true",), keys)
    assert not condition_holds("Null", "here", ("true",), keys)


def test_set_operators_on_keys_with_several_values():
    keys = RequestKeys({"aws:TagKeys": ["a", "b"]})
    assert condition_holds("ForAllValues:StringEquals", "aws:TagKeys", ("a", "b", "c"), keys)
    assert not condition_holds("ForAllValues:StringEquals", "aws:TagKeys", ("a",), keys)
    assert condition_holds("ForAnyValue:StringEquals", "aws:TagKeys", ("a",), keys)
    assert not condition_holds("ForAnyValue:StringEquals", "aws:TagKeys", ("z",), keys)


def test_an_unknown_operator_is_an_error_not_a_match():
    with pytest.raises(UnknownOperator, match="StringSortOfEquals"):
        condition_holds("StringSortOfEquals", "k", ("v",), RequestKeys({"k": "v"}))


def test_policy_variables():
    keys = RequestKeys({"aws:PrincipalTag/team": "ml", "aws:username": "ada"})
    assert substitute("home/${aws:username}/${*}", keys) == "home/ada/*"
    assert substitute("${aws:PrincipalTag/absent, 'none'}", keys) == "none"
    assert substitute("${aws:absent}", keys) is None


def test_policy_variables_only_work_in_the_current_version():
    statement = allow("s3:GetObject", "arn:aws:s3:::b/${aws:username}/*")
    question = Question("s3:GetObject", "arn:aws:s3:::b/ada/k", {"aws:username": "ada"})
    assert decide(CALLER, question, PolicySet(identity=(policy(statement),)))
    assert not decide(CALLER, question, PolicySet(identity=(policy(statement, version=None),)))


# --- resource policies
BUCKET = "arn:aws:s3:::b/k"


def resource(*statements: dict[str, Any]) -> Any:
    return PolicySet(resource=(policy(*statements, name="resource"),))


@pytest.mark.parametrize(
    ("principal", "allowed"),
    [
        ({"AWS": ROLE}, True),
        ({"AWS": SESSION}, True),
        ("*", True),
        ({"AWS": "*"}, True),
        ({"AWS": "arn:aws:iam::123456789012:root"}, False),
        ({"AWS": "123456789012"}, False),
        ({"AWS": "arn:aws:iam::123456789012:role/other"}, False),
        ({"Service": "events.amazonaws.com"}, False),
    ],
)
def test_a_resource_policy_allows_whom_it_names_and_hands_the_account_to_identity_policies(principal, allowed):
    question = Question("s3:GetObject", BUCKET)
    assert bool(decide(CALLER, question, resource(allow(Principal=principal)))) is allowed


def test_a_denying_resource_policy_wins_over_an_identity_policy():
    only_tls = deny("s3:*", Principal="*", Condition={"Bool": {"aws:SecureTransport": "false"}})
    policies = PolicySet(identity=(policy(allow()),), resource=(policy(only_tls),))
    secure = Question("s3:GetObject", BUCKET, {"aws:SecureTransport": "true"})
    insecure = Question("s3:GetObject", BUCKET, {"aws:SecureTransport": "false"})
    assert decide(CALLER, secure, policies)
    assert decide(CALLER, insecure, policies).reason == "with an explicit deny in a resource-based policy"


def test_a_service_needs_a_resource_policy_with_the_right_source():
    rule = "arn:aws:events:eu-west-1:123456789012:rule/r"
    condition = {"ArnEquals": {"aws:SourceArn": rule}}
    policies = resource(allow("sqs:SendMessage", Principal={"Service": "events.amazonaws.com"}, Condition=condition))
    queue = "arn:aws:sqs:eu-west-1:123456789012:q"
    assert decide(SERVICE, Question("sqs:SendMessage", queue, {"aws:SourceArn": rule}), policies)
    assert not decide(SERVICE, Question("sqs:SendMessage", queue, {"aws:SourceArn": rule + "x"}), policies)
    other = Caller(arn="s3.amazonaws.com", account_id="123456789012", service="s3.amazonaws.com")
    assert not decide(other, Question("sqs:SendMessage", queue, {"aws:SourceArn": rule}), policies)
    assert not decide(SERVICE, Question("sqs:SendMessage", queue), PolicySet())


def test_not_principal_denies_everyone_else():
    others = {"Effect": "Deny", "NotPrincipal": {"AWS": [ROLE]}, "Action": "s3:*", "Resource": "*"}
    policies = PolicySet(identity=(policy(allow()),), resource=(policy(others),))
    assert decide(CALLER, Question("s3:GetObject", BUCKET), policies)
    stranger = Caller(arn=SESSION.replace("app", "other"), account_id="123456789012", role_arn=ROLE.replace("app", "o"))
    assert not decide(stranger, Question("s3:GetObject", BUCKET), policies)


# --- limits
@pytest.mark.parametrize(("limit", "words"), [("boundary", "permissions boundary"), ("session", "session policy")])
def test_a_limit_must_allow_too(limit, words):
    identity = (policy(allow("*")),)
    narrow = policy(allow("s3:ListBucket"))
    question = Question("s3:GetObject", BUCKET)
    decision = decide(CALLER, question, PolicySet(identity=identity, **{limit: narrow}))
    assert decision.reason == f"because no {words} allows the s3:GetObject action"
    assert decide(CALLER, question, PolicySet(identity=identity, **{limit: policy(allow("s3:*"))}))
    assert not decide(CALLER, question, PolicySet(**{limit: policy(allow("s3:*"))})), "a limit grants nothing"
