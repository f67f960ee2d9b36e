"""What jobs and endpoints are told to suffer: for tests, by ``POST /_baton/sagemaker/faults``.

The body is one JSON object; each section replaces the one of that name, null takes it away::

    {"training": {"match": "bt-*-train", "times": 1, "fail": "InternalServerError: …", "in_progress_seconds": 5},
     "tuning": {…}, "transform": {…},
     "endpoint": {"fail": "…", "creating_seconds": 30, "deleting_seconds": 5},
     "refuse": {"CreateTrainingJob": {"code": "ThrottlingException", "message": "Rate exceeded", "times": 2}},
     "limits": {"training": 2, "endpoint": 0}}

``match`` is a shell pattern for names (default ``*``), ``times`` how many things or calls it strikes (default all).
Seconds are real ones, on top of the usual ones. GET answers what is set, DELETE takes everything away.
"""

from __future__ import annotations

import fnmatch
import json
import threading
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any

from baton_local.sagemaker.errors import Refusal, limit_exceeded

ROUTE = "/_baton/sagemaker/faults"
KINDS = ("training", "tuning", "transform", "endpoint")


@dataclass
class Fault:
    """What strikes one kind of thing; see the module's description."""

    match: str = "*"
    times: int | None = None
    fail: str | None = None
    in_progress_seconds: float = 0.0
    creating_seconds: float = 0.0
    deleting_seconds: float = 0.0


@dataclass
class Denial:
    """An answer that calls of one operation get instead of their own."""

    code: str
    message: str = ""
    times: int | None = None


_TYPES: dict[str, tuple[type, ...]] = {
    "match": (str,),
    "times": (int, type(None)),
    "fail": (str, type(None)),
    "code": (str,),
    "message": (str,),
    "in_progress_seconds": (int, float),
    "creating_seconds": (int, float),
    "deleting_seconds": (int, float),
}


class Faults:
    """The faults of one embedded cloud; safe to use from every thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.clear()

    def clear(self) -> None:
        """Let everything go well again."""
        self._faults: dict[str, Fault] = {}
        self._denials: dict[str, Denial] = {}
        self._limits: dict[str, int] = {}

    def update(self, settings: dict[str, Any]) -> None:
        """Replace the sections that the settings name; raise ValueError for a setting that does not exist."""
        unknown = sorted(set(settings) - {*KINDS, "refuse", "limits"})
        if unknown:
            raise ValueError(f"unknown sections: {', '.join(unknown)}")
        faults = {kind: _read(Fault, settings[kind]) for kind in KINDS if settings.get(kind)}
        denials = {name: _read(Denial, value) for name, value in (settings.get("refuse") or {}).items()}
        limits = _read_limits(settings.get("limits") or {})
        with self._lock:
            for kind in set(KINDS) & set(settings):
                self._faults.pop(kind, None)
            self._faults.update(faults)
            self._denials = denials if "refuse" in settings else self._denials
            self._limits = limits if "limits" in settings else self._limits

    def as_dict(self) -> dict[str, Any]:
        """Return what is set, in the form that ``update`` reads."""
        with self._lock:
            return {
                **{kind: asdict(fault) for kind, fault in self._faults.items()},
                "refuse": {name: asdict(denial) for name, denial in self._denials.items()},
                "limits": dict(self._limits),
            }

    def strike(self, kind: str, name: str) -> Fault:
        """Return the fault for a new thing of a kind, and count it; a fault without effect when there is none."""
        with self._lock:
            fault = self._faults.get(kind)
            if fault is None or not fnmatch.fnmatchcase(name, fault.match) or not _use(fault):
                return Fault()
            return Fault(**asdict(fault))

    def admit(self, operation: str) -> None:
        """Raise the refusal that a call of an operation is to get, if there is one."""
        with self._lock:
            denial = self._denials.get(operation)
            if denial and _use(denial):
                raise Refusal(denial.code, denial.message)

    def check_limit(self, kind: str, running: Iterable[Any], instance_type: str) -> None:
        """Raise ResourceLimitExceeded if one more of a kind would exceed its limit."""
        with self._lock:
            limit = self._limits.get(kind)
        used = sum(1 for _ in running)
        if limit is not None and used >= limit:
            usage = "endpoint usage" if kind == "endpoint" else f"{kind} job usage"
            raise limit_exceeded(
                f"The account-level service limit '{instance_type} for {usage}' is {limit} Instances, with current "
                f"utilization of {used} Instances and a request delta of 1 Instances. Please use AWS Service Quotas "
                "to request an increase for this quota."
            )


def _use(counted: Fault | Denial) -> bool:
    """Tell whether it still strikes, and count it."""
    if counted.times == 0:
        return False
    counted.times = None if counted.times is None else counted.times - 1
    return True


def _read(kind: Callable[..., Any], value: Any) -> Any:
    if not isinstance(value, dict):
        raise ValueError(f"{value!r} must be an object")
    for name, setting in value.items():
        if not isinstance(setting, _TYPES.get(name, ())) or isinstance(setting, bool):
            raise ValueError(f"unknown setting, or wrong type: {name}={setting!r}")
    try:
        return kind(**value)
    except TypeError as error:
        raise ValueError(str(error)) from error


def _read_limits(limits: dict[str, Any]) -> dict[str, int]:
    if set(limits) - set(KINDS) or not all(isinstance(limit, int) for limit in limits.values()):
        raise ValueError("limits must be whole numbers for training, tuning, transform or endpoint")
    return dict(limits)


def respond(faults: Faults, method: str, body: bytes) -> tuple[str, dict[str, Any]]:
    """Answer a request to the route: return the HTTP status line and the JSON document."""
    try:
        if method == "POST":
            settings = json.loads(body or b"{}")
            if not isinstance(settings, dict):
                raise ValueError("the faults must be a JSON object")
            faults.update(settings)
        elif method == "DELETE":
            faults.clear()
        elif method != "GET":
            return "405 Method Not Allowed", {"message": "GET, POST or DELETE"}
    except (ValueError, AttributeError) as error:
        return "400 Bad Request", {"message": str(error)}
    return "200 OK", faults.as_dict()
