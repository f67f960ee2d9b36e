"""The HTTP side of SageMaker: takes a request apart, checks it, and lets the backend answer."""

from __future__ import annotations

import json
from typing import Any

from moto.core.responses import ActionResult, EmptyResult
from moto.sagemaker.responses import SageMakerResponse

from baton_local.sagemaker import engine
from baton_local.sagemaker.backend import Backend
from baton_local.sagemaker.errors import Refusal
from baton_local.sagemaker.validation import check_input

PREFIX = "call_"


class Responses(SageMakerResponse):
    """moto's answers, with those of ``Backend.call_*`` in their place."""


def _method(action: str) -> Any:
    def answer(self: Responses) -> ActionResult:
        operation = str(self._get_action())
        try:
            request = json.loads(self.body or "{}")
        except ValueError:
            raise Refusal("SerializationException", "The request is no JSON.") from None
        check_input(operation, request)
        engine.current().faults.admit(operation)
        result = getattr(self.sagemaker_backend, PREFIX + action)(_without_nulls(request))
        return ActionResult(result) if result is not None else EmptyResult()

    answer.__name__ = action
    return answer


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_nulls(item) for name, item in value.items() if item is not None}
    return [_without_nulls(item) for item in value] if isinstance(value, list) else value


for _name in vars(Backend):
    if _name.startswith(PREFIX):
        setattr(Responses, _name.removeprefix(PREFIX), _method(_name.removeprefix(PREFIX)))
