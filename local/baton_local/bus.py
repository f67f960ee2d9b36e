"""EventBridge: event buses whose rules reach every target that Baton uses, with the faults that the dials ask for.

``emit`` is how the other services of the embedded cloud put their events on the default bus.
"""

from __future__ import annotations

import functools
import json
import random
import sys
import time as clock
import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from baton_local import patterns
from baton_local.context import CloudContext
from baton_local.event_delivery import Dispatcher
from baton_local.event_input import InvalidInput, RuleName, iso_time, target_input
from baton_local.event_targets import Consignment, Undeliverable, deliver, put_in_dead_letter_queue
from baton_local.seams import register, replace

MAXIMUM_ENTRY_BYTES = 256 * 1024
MAXIMUM_ENTRIES = 10
DURABLE_SOURCES = frozenset({"aws.s3"})
"""What EventBridge gets at least once, so that the loss dial spares it; SageMaker's and Step Functions' events are best
effort: https://docs.aws.amazon.com/eventbridge/latest/ref/event-delivery-level.html, and each service's page there."""
_DEFAULT_ATTEMPTS = 185
_DEFAULT_AGE_SECONDS = 24 * 3600
_FIRST_RETRY_SECONDS = 0.2
_LONGEST_RETRY_SECONDS = 20.0

_installed: list[tuple[CloudContext, Dispatcher]] = []
_jitter = random.Random()  # noqa: S311 (spreads retries)


def install(context: CloudContext) -> None:
    """Replace moto's EventBridge by one that delivers."""
    shutdown()
    _installed[:] = [(context, Dispatcher(context.dials))]
    models = "moto.events.models"
    replace(models, "Rule.send_to_targets", _send_to_targets, ("self", "original_event", "transform_input"))
    replace(models, "EventPattern.matches_event", _matches_event, ("self", "event"))
    replace(models, "EventPatternParser.parse", _parse_pattern, ("self",))
    replace(models, "EventsBackend.put_events", _put_events, ("self", "events"))
    replace("moto.events.responses", "EventsHandler.test_event_pattern", _test_event_pattern, ("self",))
    register(models, "EventPatternParser.__init__", ("self", "pattern"))


def shutdown() -> None:
    """Stop delivering; say what was still under way."""
    for _, dispatcher in _installed:
        left = dispatcher.shutdown()
        if left:
            print(f"baton: {left} event deliveries were still under way", file=sys.stderr, flush=True)
    _installed.clear()


def drain(seconds: float = 30.0) -> bool:
    """Wait until no delivery is under way; return whether that was reached in time."""
    return _dispatcher().drain(seconds)


def emit(
    account_id: str,
    region: str,
    source: str,
    detail_type: str,
    resources: Sequence[str],
    detail: Mapping[str, Any],
    time: float | None = None,
) -> str:
    """Put an AWS service's event on an account's default bus; return its id.

    ``time``: when it happened, in epoch seconds (default: now).
    """
    event = _envelope(account_id, region, source, detail_type, resources, detail, time)
    _publish(account_id, region, "default", event)
    return str(event["id"])


def emit_scheduled(rule: Any) -> None:
    """Let a rule fire because its schedule says so; the dials leave these events alone."""
    detail: dict[str, Any] = {}
    event = _envelope(rule.account_id, rule.region_name, "aws.events", "Scheduled Event", [rule.arn], detail, None)
    for target in list(rule.targets):
        _send(rule, target, event, faulty=False)


def forward(account_id: str, region: str, bus_name: str, event: Mapping[str, Any]) -> None:
    """Put an event from another bus on a bus; raise Undeliverable if it does not exist."""
    if bus_name not in _buses(account_id, region):
        raise Undeliverable("RESOURCE_NOT_FOUND", f"The event bus {bus_name} does not exist")
    _publish(account_id, region, bus_name, dict(event))


def _context() -> CloudContext:
    return _installed[0][0]


def _dispatcher() -> Dispatcher:
    if not _installed:
        raise RuntimeError("baton_local.bus is not installed")
    return _installed[0][1]


def _buses(account_id: str, region: str) -> Mapping[str, Any]:
    buses: Mapping[str, Any] = backends()[account_id][region].event_buses
    return buses


@functools.cache
def backends() -> Any:
    """Return moto's EventBridge backends, by account and region."""
    return register("moto.events.models", "events_backends")


def _envelope(
    account_id: str,
    region: str,
    source: str,
    detail_type: str,
    resources: Sequence[str],
    detail: Mapping[str, Any],
    time: float | None,
) -> dict[str, Any]:
    return {
        "version": "0",
        "id": str(uuid.uuid4()),
        "detail-type": detail_type,
        "source": source,
        "account": account_id,
        "time": iso_time(clock.time() if time is None else time),
        "region": region,
        "resources": list(resources),
        "detail": json.loads(json.dumps(detail)),
    }


def _publish(account_id: str, region: str, bus_name: str, event: dict[str, Any]) -> None:
    for rule in list(_buses(account_id, region)[bus_name].rules.values()):
        _send_if_matched(rule, event)


def _send_if_matched(rule: Any, event: dict[str, Any]) -> None:
    pattern = rule.event_pattern.get_pattern()
    if rule.state == "DISABLED" or not pattern or not patterns.matches(pattern, event):
        return
    for target in list(rule.targets):
        _send(rule, target, event, faulty=True)


def _send(rule: Any, target: Mapping[str, Any], event: dict[str, Any], faulty: bool) -> None:
    job = functools.partial(_attempt, RuleName(rule.arn, rule.name), dict(target), event, clock.time(), 0)
    _dispatcher().submit(job, key=str(target["Arn"]), faulty=faulty, durable=event["source"] in DURABLE_SOURCES)


def _attempt(rule: RuleName, target: dict[str, Any], event: dict[str, Any], since: float, attempts: int) -> None:
    """Deliver once; on a failure that may pass come again later, on another put the event aside."""
    consignment = Consignment(rule.arn, target, "", event)
    try:
        text = target_input(target, event, rule, since)
        deliver(_context().url, Consignment(rule.arn, target, text, event))
    except InvalidInput as error:
        _give_up(consignment, Undeliverable("INVALID_JSON", str(error)), attempts, "")
    except Undeliverable as error:
        exhausted = _exhausted(target, since, attempts)
        if error.retry and not exhausted:
            again = functools.partial(_attempt, rule, target, event, since, attempts + 1)
            _dispatcher().later(_retry_seconds(attempts), again)
        else:
            _give_up(consignment, error, attempts, exhausted if error.retry else "")


def _retry_seconds(attempts: int) -> float:
    return min(_FIRST_RETRY_SECONDS * 2.0 ** min(attempts, 20), _LONGEST_RETRY_SECONDS) * _jitter.uniform(0.5, 1.0)


def _exhausted(target: Mapping[str, Any], since: float, attempts: int) -> str:
    """Return which limit of a target's retry policy is reached, or an empty text."""
    policy = target.get("RetryPolicy") or {}
    if attempts >= int(policy.get("MaximumRetryAttempts", _DEFAULT_ATTEMPTS)):
        return "MaximumRetryAttempts"
    if clock.time() - since >= int(policy.get("MaximumEventAgeInSeconds", _DEFAULT_AGE_SECONDS)):
        return "MaximumEventAgeInSeconds"
    return ""


def _give_up(consignment: Consignment, error: Undeliverable, attempts: int, exhausted: str) -> None:
    queue_arn = (consignment.target.get("DeadLetterConfig") or {}).get("Arn")
    fate = "and is dropped, for the target has no dead-letter queue"
    if queue_arn:
        try:
            put_in_dead_letter_queue(queue_arn, consignment, error, attempts, exhausted)
            fate = "and is in the dead-letter queue"
        except Exception as second:
            fate = f"and is dropped, for the dead-letter queue did not take it either: {second}"
    what = f"{consignment.event['detail-type']} did not reach {consignment.arn} ({error.code}: {error})"
    print(f"baton: the event {what} {fate}", file=sys.stderr, flush=True)


# --- moto's seams -----------------------------------------------------------------------------------------------------


def _send_to_targets(self: Any, original_event: Any, transform_input: bool = True) -> None:
    """Take an event from moto's own services (replays, archives)."""
    del transform_input
    event = {name: value for name, value in original_event.items() if name != "ingestion-time"}
    if not isinstance(event.get("time"), str):
        event["time"] = iso_time(float(event["time"]))
    _send_if_matched(self, event)


def _matches_event(self: Any, event: Any) -> bool:
    pattern = self.get_pattern()
    return not pattern or patterns.matches(pattern, json.loads(json.dumps(event)))


def _parse_pattern(self: Any) -> dict[str, Any]:
    """Return a rule's pattern; refuse one that EventBridge would refuse."""
    if not self.pattern:
        return {}
    try:
        return patterns.parse_pattern(self.pattern)
    except patterns.InvalidPattern as error:
        raise register("moto.events.exceptions", "InvalidEventPatternException")(reason=str(error)) from error


def _test_event_pattern(self: Any) -> str:
    pattern = register("moto.events.models", "EventPattern").load(self._get_param("EventPattern"))
    return json.dumps({"Result": _matches_event(pattern, json.loads(self._get_param("Event")))})


def _put_events(self: Any, events: list[dict[str, Any]]) -> list[dict[str, str]]:
    """Answer PutEvents: one result per entry, in order; raise ValidationException for a request that is too large."""
    refuse = register("moto.events.exceptions", "ValidationException")
    if not 1 <= len(events) <= MAXIMUM_ENTRIES:
        raise refuse(
            "1 validation error detected: Value '[PutEventsRequestEntry]' at 'entries' failed to satisfy constraint: "
            "Member must have length less than or equal to 10"
        )
    if sum(_entry_bytes(entry) for entry in events) > MAXIMUM_ENTRY_BYTES:
        raise refuse("Total size of the entries in the request is over the limit.")
    return [_put_entry(self, entry) for entry in events]


def _put_entry(backend: Any, entry: dict[str, Any]) -> dict[str, str]:
    problem = _entry_problem(entry)
    if problem:
        return problem
    event = _envelope(
        backend.account_id,
        backend.region_name,
        entry["Source"],
        entry["DetailType"],
        entry.get("Resources") or [],
        json.loads(entry["Detail"]),
        _epoch(entry.get("Time")),
    )
    bus = backend.describe_event_bus((entry.get("EventBusName") or "default").rsplit("/", 1)[-1])
    _publish(backend.account_id, backend.region_name, bus.name, event)
    return {"EventId": str(event["id"])}


def _entry_problem(entry: Mapping[str, Any]) -> dict[str, str]:
    for name in ("Source", "DetailType", "Detail"):
        if not entry.get(name):
            return _refused("InvalidArgument", f"Parameter {name} is not valid. Reason: {name} is a required argument.")
    if str(entry["Source"]).startswith("aws."):
        return _refused("NotAuthorizedForSourceException", "Not authorized for the source.")
    try:
        detail = json.loads(entry["Detail"])
    except ValueError:
        detail = None
    return {} if isinstance(detail, dict) else _refused("MalformedDetail", "Detail is malformed.")


def _refused(code: str, message: str) -> dict[str, str]:
    return {"ErrorCode": code, "ErrorMessage": message}


def _entry_bytes(entry: Mapping[str, Any]) -> int:
    """Return an entry's size as EventBridge counts it.

    https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-putevents.html#eb-putevent-size
    """
    texts = [entry.get("Source"), entry.get("DetailType"), entry.get("Detail"), *(entry.get("Resources") or [])]
    return sum(len(str(text).encode()) for text in texts if text) + (14 if entry.get("Time") else 0)


def _epoch(value: Any) -> float | None:
    if value is None or isinstance(value, int | float):
        return value
    return datetime.fromisoformat(str(value).replace("Z", "+00:00")).timestamp()
