"""The report as a page: one HTML file without scripts that asks the network for nothing."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import cache
from typing import Any

from jinja2 import ChainableUndefined, Environment, PackageLoader, Template

from baton.report.pictures import digit_png
from baton.smoke import told_apart

Json = dict[str, Any]

_NOTHING = "\N{EN DASH}"
_KINDS = {
    "tuning": "Tuning job",
    "training": "Training job",
    "transform": "Transform job",
    "model": "Model",
    "endpoint": "Endpoint",
    "endpoint_config": "Endpoint configuration",
    "pipeline-run": "Pipeline run",
}


def render(document: Json) -> str:
    """Return the page of a report's document; everything in it is escaped."""
    return _template().render(
        {**document, "gates": _gates(document["gates"])},
        digits=_digits(document["smoke_test"]),
        single_picture=_single_picture(document["smoke_test"]),
        heat=_heat(document["smoke_test"]),
        bars=_bars(document["timeline"]),
        strip=_strip(document["smoke_test"]),
    )


@cache
def _template() -> Template:
    # A section that a partial run lacks is left out by the template; nothing missing may fail the report itself.
    environment = Environment(
        loader=PackageLoader("baton.report", ""),
        autoescape=True,
        undefined=ChainableUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        duration=duration, moment=moment, number=number, size=size, kind=lambda name: _KINDS.get(name, name)
    )
    return environment.get_template("report.html.j2")


def duration(seconds: float | None) -> str:
    """Return seconds for a person, such as ``0.84 s``, ``12 s``, ``3 min 05 s`` or ``2 h 10 min``."""
    if seconds is None:
        return _NOTHING
    if seconds < 10:
        return f"{seconds:.2f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def moment(text: str | None) -> str:
    """Return an ISO 8601 time for a person; it is in UTC, and the page says so."""
    if not text:
        return _NOTHING
    when = datetime.fromisoformat(text)
    return f"{when.day} {when:%B %Y, %H:%M:%S}"


def number(value: Any) -> str:
    """Return a value as short as it can be read: integers with separators, floats with four digits."""
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: _NOTHING}[value]
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.4g}" if isinstance(value, float) else str(value)


def size(count: int | None) -> str:
    """Return a number of bytes for a person, in decimal units."""
    if count is None:
        return _NOTHING
    for unit, scale in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= scale:
            return f"{count / scale:.1f} {unit}"
    return f"{count} bytes"


def _gates(gates: Sequence[Json]) -> list[Json]:
    """Return the gates with their figures as texts; what was measured looks like what was asked only if it is that."""
    return [{**gate, "asked": f"{gate['asked']:.15g}", "measured": _measured(gate)} for gate in gates]


def _measured(gate: Json) -> str | None:
    return None if gate["measured"] is None else told_apart(gate["measured"], gate["asked"], gate["digits"])


def _digits(smoke_test: Json | None) -> list[Json]:
    """Return the sample predictions with their pictures."""
    if not smoke_test:
        return []
    pixels = smoke_test["pixels"]["predictions"]
    return [{**told, "picture": digit_png(row)} for told, row in zip(smoke_test["predictions"], pixels, strict=True)]


def _single_picture(smoke_test: Json | None) -> str | None:
    return digit_png(smoke_test["pixels"]["single_row"]) if smoke_test else None


def _heat(smoke_test: Json | None) -> Json | None:
    """Return the confusion matrix as cells with their share of their row; a column of zeros for no digit is dropped."""
    if not smoke_test:
        return None
    axis, rows = smoke_test["confusion"]["axis"], smoke_test["confusion"]["rows"]
    columns = [str(digit) for digit in axis] + (["none"] if any(row[-1] for row in rows) else [])
    cells = [[_cell(count, row) for count in row[: len(columns)]] for row in rows]
    return {"columns": columns, "labels": axis, "rows": cells}


def _cell(count: int, row: Sequence[int]) -> Json:
    return {"count": count, "share": round(count / max(1, sum(row)), 3)}


def _bars(timeline: Json | None) -> list[Json]:
    """Return the states with where their bars start and how wide they are, in per cent of the whole."""
    states = timeline["states"] if timeline else []
    if not states:
        return []
    starts = [datetime.fromisoformat(state["started"]).timestamp() for state in states]
    first = min(starts)
    whole = max(start + state["seconds"] for start, state in zip(starts, states, strict=True)) - first or 1
    return [
        {**state, "left": round(100 * (start - first) / whole, 2), "width": round(100 * state["seconds"] / whole, 2)}
        for start, state in zip(starts, states, strict=True)
    ]


def _strip(smoke_test: Json | None) -> list[Json]:
    """Return the requests' latencies as bars; the highest is 100."""
    latencies = smoke_test["latencies_ms"] if smoke_test else []
    most = max(latencies, default=0) or 1
    return [{"ms": latency, "height": round(100 * latency / most, 1)} for latency in latencies]
