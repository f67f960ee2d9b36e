"""The report as data: everything that the page shows, and what machines read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from baton.names import split_s3_uri
from baton.report.links import Console, web_address
from baton.report.timeline import Timeline
from baton.verdict import endpoint_kept, outcomes_of, unwrap

FORMAT_VERSION = 1

Json = dict[str, Any]

_JOBS = ("tuning", "training", "transform")


@dataclass(frozen=True)
class Material:
    """What a report is made of; ``timeline`` and ``smoke_test`` are None where there is none to read."""

    execution: Json
    run_id: str
    state: Mapping[str, Any]
    verdict: Json
    timeline: Timeline | None
    smoke_test: Json | None
    console: Console
    now: datetime

    @property
    def plan(self) -> Json:
        """The plan, or an empty one where the input was refused."""
        return self.state.get("plan") or {}

    @property
    def outcomes(self) -> Json:
        """The outcomes by kind."""
        return outcomes_of(self.state)


def document_of(material: Material) -> Json:
    """Return the report's document; every section is there, empty where the run did not come so far."""
    plan, verdict = material.plan, material.verdict
    return {
        "format_version": FORMAT_VERSION,
        "generated_at": material.now.isoformat(timespec="seconds"),
        "status": verdict["status"],
        "error": verdict["error"],
        "cause": verdict["cause"],
        "run": _run(material),
        "dataset": {**(plan.get("dataset") or {}), "prepared": material.state.get("data")},
        "parameters": plan.get("parameters") or {},
        "stages": plan.get("stages") or {},
        "outcomes": material.outcomes,
        "gates": _gates(material),
        "smoke_test": material.smoke_test,
        "timeline": _timeline(material),
        "cost_drivers": _cost_drivers(material),
        "receipt": material.state.get("receipt"),
        "stays": _stays(material),
        "clean_up_failure": _clean_up_failure(material),
        "links": _links(material),
    }


def _run(material: Material) -> Json:
    plan, started = material.plan, _time(material.execution["start_time"])
    return {
        "run_id": material.run_id,
        "pipeline": plan.get("pipeline"),
        "execution": material.execution,
        "started_at": started.isoformat(timespec="seconds"),
        "seconds": round((material.now - started).total_seconds(), 1),
        "deadline": plan.get("deadline"),
        "pipeline_run": material.state.get("pipeline_run"),
        "images": plan.get("images") or {},
        "names": plan.get("names") or {},
        "after": plan.get("after"),
    }


_GATES: Mapping[str, Json] = {
    "min_accuracy": {"name": "Accuracy", "relation": "at least", "unit": "", "digits": 4},
    "max_p95_ms": {"name": "p95 latency", "relation": "at most", "unit": "ms", "digits": 1},
}
"""What the report says of each gate; ``digits`` after the point are enough where nothing has to be told apart."""


def _gates(material: Material) -> list[Json]:
    """Return each gate with what was asked, what was measured (None where nothing was) and whether it was met.

    The smoke test has decided that, on figures that are not rounded.
    """
    asked, tested = material.plan.get("smoke_test") or {}, material.smoke_test
    found = []
    for gate, words in _GATES.items():
        if gate in asked:
            measured = tested["measured"][gate] if tested else None
            met = gate not in tested["missed"] if tested else None
            found.append({**words, "asked": asked[gate], "measured": measured, "met": met})
    return found


def _timeline(material: Material) -> Json | None:
    timeline = material.timeline
    if timeline is None:
        return None
    return {"transitions": timeline.transitions, "states": [s.as_dict(material.now) for s in timeline.shown()]}


def _cost_drivers(material: Material) -> list[Json]:
    """Return what the bill depends on: instances and seconds, never prices, which change and differ by account."""
    drivers = [_job_driver(material, kind) for kind, _ in _jobs_made(material)]
    if "endpoint" in _made(material):
        drivers.append(_endpoint_driver(material))
    if material.timeline:
        drivers.append(_driver("Step Functions", None, _transitions(material.timeline)))
    drivers += _small_drivers(material)
    return drivers


def _transitions(timeline: Timeline) -> str:
    """Say how many transitions are billed: https://aws.amazon.com/step-functions/pricing/ counts each retry as one."""
    retries = timeline.retries
    more = f" and {retries} {'retry' if retries == 1 else 'retries'}, each billed as one," if retries else ""
    return f"{timeline.transitions} state transitions{more} up to this report"


def _small_drivers(material: Material) -> list[Json]:
    """Return what costs little beside SageMaker, a line each."""
    timeline, found = material.timeline, []
    preparing = timeline.seconds("Prepare data") if timeline else None
    largest = "elapsed time of Prepare data, the function with the most memory; the others take moments"
    found.append(_driver("Lambda", preparing, largest))
    if material.state.get("pipeline_run"):
        running = timeline.seconds("Await pipeline run") if timeline else None
        found.append(_driver("Pods", running, "elapsed time of the pipeline run, on the cluster's own nodes"))
    if material.plan:
        kept = "what stays, below, and the data set, by size and month; requests, a few hundred"
        found.append(_driver("S3", None, kept))
    return found


def _driver(what: str, seconds: float | None, basis: str) -> Json:
    return {"what": what, "instances": None, "seconds": seconds, "basis": basis}


def _stays(material: Material) -> list[str]:
    """Return what the receipt says is kept, and this report, which is written after it."""
    kept = (material.state.get("receipt") or {}).get("kept", [])
    report = material.verdict["report"].rpartition("/")[0] + "/"
    return [*kept, *([] if report in kept else [report])]


def _job_driver(material: Material, kind: str) -> Json:
    result = material.outcomes.get(kind, {}).get("result", {})
    seconds, basis = result.get("billable_seconds"), "billable seconds, as SageMaker states them"
    if seconds is None:
        seconds = material.timeline.seconds(f"Await {kind}") if material.timeline else None
        basis = "elapsed time of the state; SageMaker bills each job's own seconds"
    jobs = (result.get("counters") or {}).get("Completed")
    if jobs:
        basis = f"{jobs} training jobs completed; {basis}"
    instances = _instances(
        result.get("instance") or _planned(material, "transform" if kind == "transform" else "training")
    )
    return {"what": f"{kind.capitalize()} job", "instances": instances, "seconds": seconds, "basis": basis}


def _endpoint_driver(material: Material) -> Json:
    timeline = material.timeline
    start = timeline.succeeded("Await endpoint") if timeline else None
    end = (timeline.ended("Clean up") if timeline else None) or material.now
    basis = "from InService until clean-up had ended"
    if timeline and not start:
        basis = "it was never seen InService, which is when its cost begins"
    if endpoint_kept(material.state):
        end, basis = material.now, "from InService until this report; the endpoint is kept and goes on costing"
    seconds = round((end - start).total_seconds(), 1) if start else None
    instances = _instances(_planned(material, "endpoint"))
    return {"what": "Endpoint", "instances": instances, "seconds": seconds, "basis": basis}


def _planned(material: Material, what: str) -> Json:
    """Return the instances that the plan's parameters name for a job or the endpoint."""
    parameters = material.plan.get("parameters") or {}
    return {"type": parameters.get(f"{what}_instance_type"), "count": parameters.get(f"{what}_instance_count")}


def _instances(instance: Mapping[str, Any]) -> str | None:
    return f"{instance.get('count') or 1} x {instance['type']}" if instance.get("type") else None


def _clean_up_failure(material: Material) -> Json | None:
    failure = material.state.get("clean_up_failure")
    return dict(zip(("error", "cause"), unwrap(failure), strict=True)) if failure else None


def _links(material: Material) -> list[Json]:
    """Return the addresses of what is still there to look at."""
    console, plan = material.console, material.plan
    found = [("Execution in Step Functions", console.execution(material.execution["id"]))]
    pipeline_run = material.state.get("pipeline_run") or {}
    found.append(("Run in Kubeflow Pipelines", web_address(pipeline_run.get("url"))))
    found += [(f"{kind.capitalize()} job", console.sagemaker(kind, name)) for kind, name in _jobs_made(material)]
    endpoint = endpoint_kept(material.state)
    if endpoint:
        found.append(("Endpoint", console.sagemaker("endpoint", endpoint)))
    if plan:
        folder = "s3://{}/runs/{}/".format(split_s3_uri(plan["uris"]["report"])[0], material.run_id)
        found.append(("Model, predictions and report on S3", console.s3(folder)))
    return [{"text": text, "href": address} for text, address in found if address]


def _jobs_made(material: Material) -> list[tuple[str, str]]:
    made = _made(material)
    return [(kind, made[kind]) for kind in _JOBS if kind in made]


def _made(material: Material) -> dict[str, str]:
    """Return the names of what the run made, by kind: what it awaited, and what clean-up met."""
    items = (material.state.get("receipt") or {}).get("items", [])
    met = {item["kind"]: item["name"] for item in items if item["action"] not in ("absent", "foreign")}
    return {**{kind: outcome["name"] for kind, outcome in material.outcomes.items()}, **met}


def _time(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
