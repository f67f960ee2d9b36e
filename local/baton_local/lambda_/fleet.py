"""All sandboxes of an embedded cloud: which are warm, how many there may be, and which of them the crash dial hits."""

from __future__ import annotations

import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable

from baton_local.accounts import Credentials, forget_session
from baton_local.dials import Dials
from baton_local.lambda_.functions import Function
from baton_local.lambda_.runtime_api import Invocation
from baton_local.lambda_.sandbox import Launcher, Outcome, Sandbox

ADMISSION_SECONDS = 120.0
"""How long an invocation waits for a sandbox before it is throttled."""


class ThrottledError(Exception):
    """The function has no concurrency left."""


def default_limit() -> int:
    """Return how many sandboxes this machine may have at a time: each is a process of some 70 MB.

    With fewer than two a function, one function's invocation would end the sandbox that another's is about to need.
    """
    return max(24, 6 * (os.cpu_count() or 2))


class Fleet:
    """Runs invocations in sandboxes that are used again while nothing about their function changes."""

    def __init__(
        self,
        launcher: Launcher,
        credentials_for: Callable[[Function], Credentials],
        dials: Dials,
        limit: int | None = None,
    ) -> None:
        self._launcher = launcher
        self._credentials_for = credentials_for
        self._crashes = CrashDial(dials)
        self._limit = limit or default_limit()
        self._changed = threading.Condition()
        self._idle: list[Sandbox] = []
        self._by_key: dict[str, Sandbox] = {}
        self._admitted = 0
        self._busy: Counter[str] = Counter()

    def invoke(self, function: Function, invocation: Invocation) -> tuple[Outcome, Sandbox]:
        """Run an invocation; raise ThrottledError if there is no sandbox for it."""
        sandbox = self._acquire(function)
        invocation.doomed_after = self._crashes.draw(function.name)
        try:
            return sandbox.invoke(invocation), sandbox
        finally:
            self._crashes.learn(function.name, invocation.calls)
            self._release(sandbox)

    def note_call(self, access_key_id: str) -> None:
        """Count a call that this access key's holder made, if that is a sandbox."""
        sandbox = self._by_key.get(access_key_id)
        if sandbox is not None:
            sandbox.note_call()

    def retire(self, function_name: str) -> None:
        """End the idle sandboxes of a function that was deleted."""
        with self._changed:
            gone = [s for s in self._idle if s.function.name == function_name]
            self._drop(gone)
        _discard_all(gone, self._by_key)

    def shut_down(self) -> None:
        """End every sandbox."""
        with self._changed:
            sandboxes = list(self._by_key.values())
            self._limit = 0
            self._idle.clear()
        for sandbox in sandboxes:
            sandbox.kill()

    def _acquire(self, function: Function) -> Sandbox:
        discarded: list[Sandbox] = []
        try:
            with self._changed:
                self._check_concurrency(function)
                warm = self._admit(function, discarded)
                self._busy[function.name] += 1
        finally:
            _discard_all(discarded, self._by_key)
        return warm or self._start(function)

    def _check_concurrency(self, function: Function) -> None:
        reserved = function.reserved_concurrency
        if reserved is not None and self._busy[function.name] >= reserved:
            raise ThrottledError("Rate Exceeded.")

    def _admit(self, function: Function, discarded: list[Sandbox]) -> Sandbox | None:
        """Return a warm sandbox, or None when the caller may start one; wait for either."""
        until = time.monotonic() + ADMISSION_SECONDS
        while True:
            outdated = [s for s in self._idle if s.function.arn == function.arn and s.function != function]
            discarded += self._drop(outdated + [s for s in self._idle if not s.is_alive])
            warm = [s for s in self._idle if s.function == function]
            if warm:
                self._idle.remove(warm[-1])
                return warm[-1]
            if self._admitted >= self._limit and self._idle:
                discarded += self._drop([min(self._idle, key=lambda s: s.last_used)])
            if self._admitted < self._limit:
                self._admitted += 1
                return None
            if not self._changed.wait(until - time.monotonic()):
                raise ThrottledError("Rate Exceeded.")

    def _start(self, function: Function) -> Sandbox:
        try:
            sandbox = Sandbox(function, self._launcher, self._credentials_for(function))
        except BaseException:
            with self._changed:
                self._admitted -= 1
                self._busy[function.name] -= 1
                self._changed.notify()
            raise
        self._by_key[sandbox.credentials.access_key_id] = sandbox
        return sandbox

    def _release(self, sandbox: Sandbox) -> None:
        with self._changed:
            self._busy[sandbox.function.name] -= 1
            keep = sandbox.is_alive and self._limit > 0
            if keep:
                self._idle.append(sandbox)
            else:
                self._admitted -= 1
            self._changed.notify()
        if not keep:
            _discard_all([sandbox], self._by_key)

    def _drop(self, sandboxes: list[Sandbox]) -> list[Sandbox]:
        for sandbox in sandboxes:
            if sandbox in self._idle:
                self._idle.remove(sandbox)
                self._admitted -= 1
        return sandboxes


def _discard_all(sandboxes: list[Sandbox], by_key: dict[str, Sandbox]) -> None:
    for sandbox in sandboxes:
        by_key.pop(sandbox.credentials.access_key_id, None)
        sandbox.discard()
        forget_session(sandbox.credentials.access_key_id, sandbox.function.role_arn)


class CrashDial:
    """Draws which invocations die, and after which of their AWS calls.

    How many calls an invocation will make is not known before, so the call is drawn among one more than the function
    has made at most so far; an invocation that makes fewer dies after its last.
    """

    def __init__(self, dials: Dials) -> None:
        self._dials = dials
        self._lock = threading.Lock()
        self._randomness: dict[str, random.Random] = {}
        self._most_calls: dict[str, int] = {}

    def draw(self, function_name: str) -> int | None:
        """Return the number of the AWS call after which the next invocation dies, or None if it lives."""
        with self._lock:
            chance = self._randomness.setdefault(function_name, self._dials.randomness(f"crash:{function_name}"))
            if chance.random() >= self._dials.crash:
                return None
            return chance.randint(1, self._most_calls.get(function_name, 0) + 1)

    def learn(self, function_name: str, calls: int) -> None:
        """Remember how many calls an invocation made."""
        with self._lock:
            self._most_calls[function_name] = max(calls, self._most_calls.get(function_name, 0))
