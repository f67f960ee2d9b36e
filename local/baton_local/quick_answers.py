"""Lets moto remember what it would find out anew for each answer.

Nothing is answered differently: the methods of a class and the names under which an answer may have a member do not
change while a server runs.
"""

from __future__ import annotations

import functools
from typing import Any

from baton_local.seams import register, replace

_SERIALIZE = "moto.core.serialize"
_PICKED_BY = ("obj", "key", "shape", "operation_model", "service_model", "key_path")


def install() -> None:
    """Put the quick ways in place of moto's own."""
    place = ("moto.core.responses", "method_names_from_class")
    names = replace(*place, functools.cache(lambda clazz: frozenset(names(clazz))), ("clazz",))
    _remember_names()


def _remember_names() -> None:
    """Look for the members of a dictionary by names that are kept with each member's shape."""
    context = register(_SERIALIZE, "AttributePickerContext", _PICKED_BY)
    register(_SERIALIZE, "AttributePicker.get_possible_keys", ("self", "context"))

    def get_value(serializer: Any, value: Any, key: str, shape: Any) -> Any:
        picker = serializer._value_picker
        if type(value) is not dict or getattr(picker, "response_transformers", True):
            return get(serializer, value, key, shape)
        known = shape.__dict__.setdefault("baton_names", {})
        names = known.get(type(picker))
        if names is None:
            asked = context(value, key, shape, serializer.operation_model, serializer.operation_model.service_model)
            names = known[type(picker)] = tuple(dict.fromkeys(picker.get_possible_keys(asked)))
        return next((value[name] for name in names if name in value), None)

    get = replace(_SERIALIZE, "ResponseSerializer.get_value", get_value, ("self", "value", "key", "shape"))
