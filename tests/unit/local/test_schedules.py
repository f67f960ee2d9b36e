from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from baton_local.schedule_expressions import InvalidSchedule, parse_schedule
from baton_local.schedules import ScheduleClock

NOW = datetime(2026, 2, 27, 23, 59, 30, tzinfo=UTC)  # a Friday


@pytest.mark.parametrize(
    ("expression", "following"),
    [
        ("rate(1 minute)", ["2026-02-28T00:00:30", "2026-02-28T00:01:30"]),
        ("rate(2 hours)", ["2026-02-28T01:59:30"]),
        ("rate(3 days)", ["2026-03-02T23:59:30"]),
        ("cron(0 * * * ? *)", ["2026-02-28T00:00:00", "2026-02-28T01:00:00"]),
        ("cron(0/20 23 * * ? *)", ["2026-02-28T23:00:00", "2026-02-28T23:20:00"]),
        ("cron(15 10 ? * MON-FRI *)", ["2026-03-02T10:15:00"]),
        ("cron(0 8 1 * ? *)", ["2026-03-01T08:00:00", "2026-04-01T08:00:00"]),
        ("cron(0 0 29 2 ? *)", ["2028-02-29T00:00:00"]),
        ("cron(0 0 L * ? *)", ["2026-02-28T00:00:00", "2026-03-31T00:00:00"]),
        ("cron(0 0 1W * ? *)", ["2026-03-02T00:00:00"]),
        ("cron(0 0 LW * ? *)", ["2026-03-31T00:00:00"]),
        ("cron(0 0 ? * 6L *)", ["2026-03-27T00:00:00"]),
        ("cron(0 0 ? * TUE#2 *)", ["2026-03-10T00:00:00"]),
        ("cron(0 0 ? JAN,JUL SUN 2027)", ["2027-01-03T00:00:00"]),
        ("cron(30 6 ? * FRI-MON *)", ["2026-02-28T06:30:00", "2026-03-01T06:30:00"]),
    ],
)
def test_when_a_schedule_fires_next(expression: str, following: list[str]) -> None:
    schedule, moment = parse_schedule(expression), NOW
    for expected in following:
        found = schedule.next_after(moment)
        assert found == datetime.fromisoformat(expected).replace(tzinfo=UTC)
        moment = found


def test_a_schedule_of_the_past_never_fires() -> None:
    assert parse_schedule("cron(0 0 1 1 ? 2020)").next_after(NOW) is None


@pytest.mark.parametrize(
    "expression",
    [
        "rate(1 minutes)",
        "rate(5 minute)",
        "rate(0 hours)",
        "rate(1 second)",
        "rate(1.5 hours)",
        "at(2026-01-01T00:00:00)",
        "cron(0 * * * *)",
        "cron(0 * * * * *)",
        "cron(0 * ? * ? *)",
        "cron(60 * * * ? *)",
        "cron(0 24 * * ? *)",
        "cron(0 0 32 * ? *)",
        "cron(0 0 ? * XYZ *)",
        "cron(0 0 ? 13 MON *)",
        "hourly",
    ],
)
def test_what_eventbridge_refuses(expression: str) -> None:
    with pytest.raises(InvalidSchedule):
        parse_schedule(expression)


def rule(expression: str, name: str = "r") -> SimpleNamespace:
    return SimpleNamespace(arn=name, scheduled_expression=expression)


def test_a_rule_fires_a_period_after_it_was_seen_and_once_each_time() -> None:
    clock, hourly = ScheduleClock(), rule("rate(1 hour)")
    assert clock.due([hourly], NOW) == []
    assert clock.due([hourly], NOW + timedelta(minutes=59)) == []
    assert clock.due([hourly], NOW + timedelta(minutes=60)) == [hourly]
    assert clock.due([hourly], NOW + timedelta(minutes=61)) == []
    assert clock.due([hourly], NOW + timedelta(minutes=500)) == [hourly]
    assert clock.due([hourly], NOW + timedelta(minutes=501)) == []


def test_a_rule_that_goes_and_comes_back_starts_anew() -> None:
    clock, hourly = ScheduleClock(), rule("rate(1 hour)")
    clock.due([hourly], NOW)
    clock.due([], NOW + timedelta(minutes=30))
    assert clock.due([hourly], NOW + timedelta(minutes=70)) == []
    assert clock.due([hourly], NOW + timedelta(minutes=130)) == [hourly]


def test_the_clock_runs_as_fast_as_it_is_told() -> None:
    clock = ScheduleClock(scale=36000.0)
    start = clock.now()
    assert timedelta(0) < clock.now() - start
    while clock.now() - start < timedelta(hours=1):
        pass
    assert clock.due([rule("rate(1 hour)")], clock.now()) == []
