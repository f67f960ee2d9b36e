"""Fake AWS clients: each operation has an answer, or an error to raise; what is called is written down."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from botocore.exceptions import ClientError


def refusal(code: str, message: str = "") -> ClientError:
    """Return the error that a service raises."""
    return ClientError({"Error": {"Code": code, "Message": message or code}}, "Operation")


class FakeAws:
    """``answers``: by ``service.operation`` the answer, an exception, or a callable of the parameters."""

    def __init__(self, answers: Mapping[str, Any]) -> None:
        self.answers = dict(answers)
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.options: list[tuple[str, dict[str, Any]]] = []

    def __call__(self, service: str, **options: Any) -> _FakeClient:
        """Return the client of a service, whatever its options."""
        self.options.append((service, options))
        return _FakeClient(self, service)

    def answer(self, operation: str, parameters: dict[str, Any]) -> Any:
        """Answer one call."""
        self.calls.append((operation, parameters))
        answer = self.answers[operation]
        if isinstance(answer, Exception):
            raise answer
        return answer(**parameters) if callable(answer) else answer

    def called(self, operation: str) -> list[dict[str, Any]]:
        """Return the parameters of every call of an operation."""
        return [parameters for name, parameters in self.calls if name == operation]


class _FakeClient:
    def __init__(self, aws: FakeAws, service: str) -> None:
        self._aws = aws
        self._service = service

    def __getattr__(self, operation: str) -> Any:
        return lambda **parameters: self._aws.answer(f"{self._service}.{operation}", parameters)

    def get_paginator(self, operation: str) -> Any:
        return _Pages(self, operation)


class _Pages:
    def __init__(self, client: _FakeClient, operation: str) -> None:
        self._client = client
        self._operation = operation

    def paginate(self, **parameters: Any) -> Iterator[Any]:
        answer = getattr(self._client, self._operation)(**parameters)
        yield from answer if isinstance(answer, list) else [answer]
