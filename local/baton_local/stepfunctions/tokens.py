"""Task tokens: each is settled once, by whoever sends it first, or is over because its task is."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
import threading
import time
from dataclasses import dataclass
from typing import Any

from baton_local.stepfunctions.errors import api_error
from baton_local.stepfunctions.interruption import Attempt, Interruption

_VERSION = b"\x01"
_RANDOM_BYTES = 191
_MAC_BYTES = 32


@dataclass(frozen=True)
class Success:
    """What SendTaskSuccess said: the output, a JSON text."""

    output: str


@dataclass(frozen=True)
class Failure:
    """What SendTaskFailure said."""

    error: str | None
    cause: str | None


Outcome = Success | Failure


class Token:
    """A token of one attempt at one task."""

    def __init__(self, text: str, attempt: Attempt) -> None:
        self.text = text
        self._attempt = attempt
        self._lock = threading.Lock()
        self._changed = threading.Event()
        self._outcome: Outcome | None = None
        self._over = False

    def settle(self, outcome: Outcome) -> bool:
        """Settle it; return whether this was the first and in time."""
        with self._lock:
            if self._over or self._outcome is not None:
                return False
            self._outcome = outcome
        self._changed.set()
        return True

    def beat(self) -> bool:
        """Let its heartbeat start again; return whether it is still waited for."""
        with self._lock:
            if self._over or self._outcome is not None:
                return False
            self._attempt.reported = time.monotonic()
        self._changed.set()
        return True

    def wait(self, over: Interruption) -> Outcome:
        """Return the outcome; raise Interrupted, TimedOut or HeartbeatTimedOut if there is none in time.

        A token that was settled counts, even if a clock ran out in the same moment: its sender was told so.
        """
        with over.watch(self._changed):
            while True:
                self._changed.wait(self._attempt.remaining())
                self._changed.clear()
                over.check()
                with self._lock:
                    if self._outcome is not None:
                        return self._outcome
                    self._check_clocks()

    def _check_clocks(self) -> None:
        try:
            self._attempt.check()
        except TimeoutError:
            self._over = True
            raise

    def close(self) -> None:
        """Say that nobody waits for it any more."""
        with self._lock:
            self._over = True


class TokenDesk:
    """Hands out the tokens of one account and region, and takes them back."""

    def __init__(self, place: str) -> None:
        self._key = hashlib.sha256(_secret + place.encode()).digest()
        self._open: dict[str, Token] = {}

    def open(self, attempt: Attempt) -> Token:
        """Return a new token."""
        body = _VERSION + secrets.token_bytes(_RANDOM_BYTES)
        text = base64.b64encode(body + self._mac(body)).decode()
        token = self._open[text] = Token(text, attempt)
        return token

    def close(self, token: Token) -> None:
        """Forget a token whose task is over."""
        token.close()
        self._open.pop(token.text, None)

    def settle(self, text: str, outcome: Outcome) -> None:
        """Settle a token; raise the API's error for one that is malformed, unknown or over."""
        token = self._find(text)
        if token is None or not token.settle(outcome):
            raise _over()

    def beat(self, text: str) -> None:
        """Take a heartbeat; raise the API's error for a token that is malformed, unknown or over."""
        token = self._find(text)
        if token is None or not token.beat():
            raise _over()

    def _find(self, text: str) -> Token | None:
        """Return an open token, None for one that is over."""
        token = self._open.get(text)
        if token is None:
            self._check_form(text)
        return token

    def _check_form(self, text: str) -> None:
        try:
            raw = base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError) as error:
            raise api_error("InvalidToken", "Invalid Token: 'Invalid token'") from error
        if len(raw) != 1 + _RANDOM_BYTES + _MAC_BYTES or raw[:1] != _VERSION:
            raise api_error("InvalidToken", "Invalid Token: 'Invalid token'")
        if not hmac.compare_digest(raw[-_MAC_BYTES:], self._mac(raw[:-_MAC_BYTES])):
            raise api_error("TaskDoesNotExist", "Task does not exist.")

    def _mac(self, body: bytes) -> bytes:
        return hmac.new(self._key, body, hashlib.sha256).digest()


_secret = secrets.token_bytes(32)
_desks: dict[tuple[str, str], TokenDesk] = {}
_desks_lock = threading.Lock()


def desk(account_id: str, region: str) -> TokenDesk:
    """Return the desk of an account and region."""
    with _desks_lock:
        return _desks.setdefault((account_id, region), TokenDesk(f"{account_id}/{region}"))


def _over() -> Any:
    return api_error("TaskTimedOut", "Task Timed Out: 'Provided task does not exist anymore'")


__all__ = ["Failure", "Outcome", "Success", "Token", "TokenDesk", "desk"]
