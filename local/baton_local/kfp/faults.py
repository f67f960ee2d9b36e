"""What the embedded Kubeflow Pipelines can be told to do wrong: ``POST /_baton/faults`` with some of these fields."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

DOWN = ("", "unavailable", "reset", "refused")


@dataclass
class Faults:
    """The faults that are on; the values here are those of a healthy server.

    ``down``: every call is answered 503 (``unavailable``), its connection is cut (``reset``), or nothing listens any
    more (``refused``, for ``refused_seconds``). ``slow_seconds``: before each answer. ``login_page``: every call is
    redirected to one. The next ``lose_next_runs`` calls that create a run are carried out and get no answer; the next
    ``late_next_runs`` get no answer either, and are carried out ``late_seconds`` later. The next ``fail_next_runs``
    runs fail before their first task, without their exit task. ``tag_name``: the release that healthz tells.
    ``linger_seconds``: how long a run stays RUNNING after its last task ended.
    """

    down: str = ""
    refused_seconds: float = 3600.0
    slow_seconds: float = 0.0
    login_page: bool = False
    lose_next_runs: int = 0
    late_next_runs: int = 0
    late_seconds: float = 1.0
    fail_next_runs: int = 0
    tag_name: str = "2.17.0"
    linger_seconds: float = 0.3

    def change(self, values: Mapping[str, Any]) -> None:
        """Turn faults on or off; raise ValueError for an unknown one or a value of the wrong type."""
        known = {f.name: type(f.default) for f in fields(self)}
        for name, value in values.items():
            if name not in known or not isinstance(value, (int, float) if known[name] is float else known[name]):
                raise ValueError(f"no such fault: {name}={value!r}")
        if values.get("down", "") not in DOWN:
            raise ValueError(f"down must be one of {DOWN}")
        for name, value in values.items():
            setattr(self, name, value)

    def take(self, name: str) -> bool:
        """Use up one of a fault that strikes a number of times; return whether it strikes now."""
        left: int = getattr(self, name)
        if left > 0:
            setattr(self, name, left - 1)
        return left > 0

    def as_dict(self) -> dict[str, Any]:
        """Return all of them."""
        return asdict(self)
