"""The log of decisions: what every role asked for, and what the answer was."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import Any

from baton_local.iam.evaluator import Caller, Decision, Question

_LIMIT = 200_000


class DecisionLog:
    """A bounded list of decisions, in order; the oldest go first."""

    def __init__(self) -> None:
        self._entries: deque[dict[str, Any]] = deque(maxlen=_LIMIT)
        self._lock = threading.Lock()

    def add(self, caller: Caller, question: Question, decision: Decision) -> None:
        """Write down one decision."""
        entry = {
            "time": round(time.time(), 3),
            "role": caller.role_arn or caller.service or caller.arn,
            "principal": caller.service or caller.arn,
            "action": question.action,
            "resource": question.resource,
            "context": dict(question.keys),
            "allowed": decision.allowed,
            "reason": decision.reason,
            "by": decision.by,
        }
        with self._lock:
            self._entries.append(entry)

    def entries(self) -> list[dict[str, Any]]:
        """Return the decisions, oldest first: time, role, principal, action, resource, context, allowed, reason, by."""
        with self._lock:
            return list(self._entries)

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._entries.clear()
