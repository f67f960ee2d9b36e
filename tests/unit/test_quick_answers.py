"""The embedded cloud's quick ways find in each answer of the services what moto's own ways find."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from botocore import xform_name
from botocore.model import ListShape, MapShape, OperationModel, Shape, StructureShape
from moto.core.serialize import SERIALIZERS, DefaultAttributePicker, XFormedAttributePicker

from baton_local import quick_answers
from tests.support.aws_models import session

SERVICES = ("dynamodb", "sagemaker", "secretsmanager", "sqs", "sns", "iam", "s3")


class Other(dict[str, Any]):
    """A dictionary for which there is no quick way."""


def members(shape: Shape | None, seen: frozenset[str] = frozenset()) -> Iterator[tuple[str, Shape]]:
    """Yield the names and shapes of all members below a shape."""
    if isinstance(shape, StructureShape) and shape.name not in seen:
        for name, member in shape.members.items():
            yield name, member
            yield from members(member, seen | {shape.name})
    elif isinstance(shape, ListShape):
        yield from members(shape.member, seen)
    elif isinstance(shape, MapShape):
        yield from members(shape.value, seen)


def answers(name: str, shape: Shape) -> Iterator[dict[str, Any]]:
    """Yield what a service of moto may give for a member: by each of its names, by several of them, and by none."""
    names = list(dict.fromkeys([name, xform_name(name), shape.serialization.get("name", name), name.lower()]))
    for number, each in enumerate(names):
        yield {each: number}
        yield {each: None, f"{each}s": number}
    yield {each: number for number, each in enumerate(names)}
    yield {each: number for number, each in enumerate(reversed(names))}
    yield {"Other": 1}
    yield {}


def operations(service: str) -> Iterator[OperationModel]:
    model = session().get_service_model(service)
    for name in ("Describe", "Get", "List", "Create", "Receive", "Publish", "Update"):
        yield from [model.operation_model(each) for each in model.operation_names if each.startswith(name)][:6]


@pytest.fixture(scope="module", autouse=True)
def _installed() -> None:
    quick_answers.install()


@pytest.mark.parametrize("picker", [XFormedAttributePicker, DefaultAttributePicker])
@pytest.mark.parametrize("service", SERVICES)
def test_a_member_is_found_by_the_names_by_which_moto_finds_it(service: str, picker: Any) -> None:
    compared = 0
    for operation in operations(service):
        serializer = SERIALIZERS[operation.service_model.protocol](operation, value_picker=picker())
        for name, shape in members(operation.output_shape):
            for answer in answers(name, shape):
                found, expected = (serializer.get_value(kind(answer), name, shape) for kind in (dict, Other))
                assert found == expected, (operation.name, name, answer)
                compared += expected is not None
    assert compared > 50
