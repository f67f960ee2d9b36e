"""The ``Condition`` element: every operator that IAM documents, with its rules for keys that a request does not have.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_condition_operators.html
"""

from __future__ import annotations

import base64
import ipaddress
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime

from baton_local.iam.documents import Conditions, glob_match

Values = tuple[str, ...]
Test = Callable[[str, str], bool]
"""(value in the request, value in the policy) -> whether they match."""


class RequestKeys:
    """The condition keys of one request; names are compared without regard to case, as IAM does."""

    def __init__(self, values: Mapping[str, str | Sequence[str]]) -> None:
        self._values = {k.lower(): ((v,) if isinstance(v, str) else tuple(v)) for k, v in values.items()}

    def get(self, key: str) -> Values | None:
        """Return the values of a key, or None if the request does not have it."""
        return self._values.get(key.lower())

    def single(self, key: str) -> str | None:
        """Return the value of a key that has exactly one, else None."""
        values = self.get(key)
        return values[0] if values is not None and len(values) == 1 else None


_VARIABLE = re.compile(r"\$\{([^}]*)\}")
_LITERALS = {"*": "*", "?": "?", "$": "$"}


def substitute(text: str, keys: RequestKeys) -> str | None:
    """Put the request's values in place of policy variables; None if the request lacks one that has no default.

    ``${*}``, ``${?}`` and ``${$}`` are those characters themselves; what a value brings along is never a wildcard.
    """
    missing = False

    def value_of(match: re.Match[str]) -> str:
        nonlocal missing
        name, _, default = match[1].partition(",")
        value = _LITERALS.get(name) or keys.single(name.strip())
        if value is None and default:
            value = default.strip().strip("'")
        missing = missing or value is None
        return value or ""

    result = _VARIABLE.sub(value_of, text)
    return None if missing else result


def _equals(have: str, want: str) -> bool:
    return have == want


def _equals_ignoring_case(have: str, want: str) -> bool:
    return have.lower() == want.lower()


def _like(have: str, want: str) -> bool:
    return glob_match(want, have)


def _numbers(compare: Callable[[float, float], bool]) -> Test:
    def test(have: str, want: str) -> bool:
        try:
            return compare(float(have), float(want))
        except ValueError:
            return False

    return test


def _moment(text: str) -> float:
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return float(text)
    moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _dates(compare: Callable[[float, float], bool]) -> Test:
    def test(have: str, want: str) -> bool:
        try:
            return compare(_moment(have), _moment(want))
        except ValueError:
            return False

    return test


def _bool(have: str, want: str) -> bool:
    return have.lower() == want.lower()


def _binary(have: str, want: str) -> bool:
    try:
        return base64.b64decode(have) == base64.b64decode(want)
    except ValueError:
        return False


def _address(have: str, want: str) -> bool:
    try:
        return ipaddress.ip_address(have) in ipaddress.ip_network(want, strict=False)
    except ValueError:
        return False


def _arn(have: str, want: str) -> bool:
    """Compare the six colon-separated parts one by one: a wildcard does not reach over a colon, save in the last."""
    mine, theirs = have.split(":", 5), want.split(":", 5)
    return len(mine) == len(theirs) and all(glob_match(w, h) for h, w in zip(mine, theirs, strict=True))


_TESTS: dict[str, Test] = {
    "StringEquals": _equals,
    "StringEqualsIgnoreCase": _equals_ignoring_case,
    "StringLike": _like,
    "NumericEquals": _numbers(lambda a, b: a == b),
    "NumericLessThan": _numbers(lambda a, b: a < b),
    "NumericLessThanEquals": _numbers(lambda a, b: a <= b),
    "NumericGreaterThan": _numbers(lambda a, b: a > b),
    "NumericGreaterThanEquals": _numbers(lambda a, b: a >= b),
    "DateEquals": _dates(lambda a, b: a == b),
    "DateLessThan": _dates(lambda a, b: a < b),
    "DateLessThanEquals": _dates(lambda a, b: a <= b),
    "DateGreaterThan": _dates(lambda a, b: a > b),
    "DateGreaterThanEquals": _dates(lambda a, b: a >= b),
    "Bool": _bool,
    "BinaryEquals": _binary,
    "IpAddress": _address,
    "ArnEquals": _arn,
    "ArnLike": _arn,
}
_NEGATIONS = {
    "StringNotEquals": "StringEquals",
    "StringNotEqualsIgnoreCase": "StringEqualsIgnoreCase",
    "StringNotLike": "StringLike",
    "NumericNotEquals": "NumericEquals",
    "DateNotEquals": "DateEquals",
    "NotIpAddress": "IpAddress",
    "ArnNotEquals": "ArnEquals",
    "ArnNotLike": "ArnLike",
}
OPERATORS = frozenset(_TESTS) | frozenset(_NEGATIONS) | {"Null"}
"""Every operator's name, without set prefix and without ``IfExists``."""


class UnknownOperator(ValueError):
    """A policy uses a condition operator that IAM does not have."""


def _split(operator: str) -> tuple[str, str, bool]:
    """Return (set prefix or "", bare operator, whether it ends in IfExists)."""
    prefix, _, bare = operator.rpartition(":")
    if_exists = bare.endswith("IfExists")
    return prefix, bare.removesuffix("IfExists"), if_exists


def _any_of(test: Test, have: str, wants: Values) -> bool:
    return any(test(have, want) for want in wants)


def _compare(prefix: str, bare: str, have: Values, wants: Values) -> bool:
    negated = bare in _NEGATIONS
    test = _TESTS[_NEGATIONS.get(bare, bare)]
    results = [_any_of(test, value, wants) != negated for value in have]
    if prefix == "ForAllValues":
        return all(results)
    if prefix == "ForAnyValue":
        return any(results)
    return all(results) if negated else any(results)


def _absent(prefix: str, bare: str, if_exists: bool) -> bool:
    """Return what a condition is for a key that the request does not have."""
    if prefix == "ForAllValues":
        return True
    if prefix == "ForAnyValue":
        return if_exists
    return if_exists or bare in _NEGATIONS


def condition_holds(operator: str, key: str, wants: Values, keys: RequestKeys, variables: bool = True) -> bool:
    """Evaluate one (operator, key, values); raise UnknownOperator for an operator that IAM does not have."""
    prefix, bare, if_exists = _split(operator)
    if bare not in OPERATORS or prefix not in ("", "ForAllValues", "ForAnyValue"):
        raise UnknownOperator(f"{operator} is no condition operator of IAM")
    have = keys.get(key)
    if bare == "Null":
        return (have is None) == (wants[0].lower() == "true")
    if not have:
        return _absent(prefix, bare, if_exists)
    return _compare(prefix, bare, have, _substituted(wants, keys) if variables else wants)


def _substituted(wants: Values, keys: RequestKeys) -> Values:
    return tuple(text for text in (substitute(w, keys) for w in wants) if text is not None)


def conditions_hold(conditions: Conditions, keys: RequestKeys, variables: bool = True) -> bool:
    """Return whether all conditions of a statement hold: operators and keys are joined by AND, values by OR."""
    return all(condition_holds(operator, key, wants, keys, variables) for operator, key, wants in conditions)
