"""Seams: moto is changed only where it looks as expected, and otherwise the cloud says so and does not start."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator
from typing import Any

import pytest

from baton_local import seams
from baton_local.seams import SeamError, add, added, check_moto_version, opened, register, replace, restore, source_hash

MODULE = "moto.events.models"
SEND = "Rule.send_to_targets"
PARAMETERS = ("self", "original_event", "transform_input")


@pytest.fixture(autouse=True)
def _closed_again() -> Iterator[None]:
    """What another module of the same process has opened stays open: only this test's own seams are put back."""
    before = (dict(seams._pristine), dict(seams._opened), list(seams._undo), dict(seams._added))
    seams._pristine.clear()
    seams._added.clear()
    seams._opened.clear()
    seams._undo.clear()
    yield
    restore()
    seams._pristine.update(before[0])
    seams._opened.update(before[1])
    seams._undo.extend(before[2])
    seams._added.update(before[3])


def test_the_installed_moto_is_the_one_whose_seams_are_known() -> None:
    check_moto_version()


def test_another_moto_is_refused_in_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "5.3.0")
    with pytest.raises(SeamError, match=r"^The embedded cloud needs moto 5\.2\.5 exactly, and 5\.3\.0 is installed\.$"):
        check_moto_version()


def test_a_replacement_takes_the_place_of_the_method_and_gets_the_old_one() -> None:
    from moto.events.models import Rule

    original: Any = Rule.send_to_targets

    def new(self: object, original_event: object, transform_input: bool = True) -> str:
        return "new"

    assert replace(MODULE, SEND, new, PARAMETERS) is original
    assert vars(Rule)["send_to_targets"] is new
    restore()
    assert Rule.send_to_targets is original


def test_two_modules_can_replace_the_same_seam_one_over_the_other() -> None:
    from moto.events.models import Rule

    first, second = (lambda *a: "first"), (lambda *a: "second")
    replace(MODULE, SEND, first, PARAMETERS)
    assert replace(MODULE, SEND, second, PARAMETERS) is first
    assert vars(Rule)["send_to_targets"] is second


def test_every_opened_seam_is_listed_once() -> None:
    register(MODULE, SEND, PARAMETERS)
    register(MODULE, SEND, PARAMETERS)
    assert [seam.name for seam in opened()] == ["moto.events.models.Rule.send_to_targets"]


def test_what_moto_lacks_is_added_again_and_again_and_taken_away() -> None:
    from moto.events.models import Rule

    add(MODULE, "Rule.send_to_moon", lambda self: "first")
    add(MODULE, "Rule.send_to_moon", lambda self: "second")
    assert vars(Rule)["send_to_moon"](None) == "second"
    assert [seam.name for seam in added()] == ["moto.events.models.Rule.send_to_moon"]
    restore()
    assert not hasattr(Rule, "send_to_moon")
    assert added() == ()


def test_what_moto_has_cannot_be_added() -> None:
    with pytest.raises(SeamError, match=r"was expected not to have moto\.events\.models\.Rule\.send_to_targets\.$"):
        add(MODULE, SEND, lambda self: None)


@pytest.mark.parametrize(
    ("module", "attribute", "expects", "sentence"),
    [
        (MODULE, SEND, ("self", "event"), "its parameters are self, original_event, transform_input"),
        (MODULE, SEND, "0123456789abcdef", "its source has the hash"),
        (MODULE, "events_backends", list, "it is no list"),
        (MODULE, "Rule.send_to_moon", None, "was expected to have moto.events.models.Rule.send_to_moon"),
        (MODULE, "Ruler.send", None, "was expected to have moto.events.models.Ruler.send"),
        ("moto.core", "DEFAULT_ACCOUNT_ID", ("self",), "was expected to be callable"),
        ("moto.no_such_service", "x", None, "was expected to have moto.no_such_service.x"),
    ],
)
def test_a_seam_that_looks_different_is_refused(
    module: str, attribute: str, expects: seams.Expectation, sentence: str
) -> None:
    with pytest.raises(SeamError, match=sentence) as refusal:
        replace(module, attribute, lambda: None, expects)
    assert "\n" not in str(refusal.value)


def test_a_seam_can_be_recognised_by_its_source() -> None:
    from moto.events.models import Rule

    assert register(MODULE, SEND, source_hash(Rule.send_to_targets)[:16]) is Rule.send_to_targets


def test_a_function_is_replaced_in_the_modules_that_imported_it_too() -> None:
    import moto.events.models
    import moto.utilities.utils

    original = moto.utilities.utils.get_partition

    def new(region: str) -> str:
        return "aws-test"

    replace("moto.utilities.utils", "get_partition", new, ("region",), imported_in="moto")
    assert vars(moto.events.models)["get_partition"] is new
    restore()
    assert vars(moto.events.models)["get_partition"] is original
