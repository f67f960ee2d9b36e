"""The schedule expressions of EventBridge rules: ``rate(…)`` and ``cron(…)``, in UTC.

https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-scheduled-rule-pattern.html
"""

from __future__ import annotations

import calendar
import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

_RATE = re.compile(r"rate\((\d+) (minutes?|hours?|days?)\)")
_CRON = re.compile(r"cron\(([^()]+)\)")
_UNITS = {"minute": 60, "hour": 3600, "day": 86400}
_MONTHS = {name.upper(): number for number, name in enumerate(calendar.month_abbr) if name}
_DAYS = {name: number for number, name in enumerate(("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"), 1)}
_LAST_YEAR = 2199


class InvalidSchedule(ValueError):
    """EventBridge would refuse this expression."""


@dataclass(frozen=True)
class Rate:
    """Fires every ``seconds`` after it was made."""

    seconds: int

    def next_after(self, moment: datetime) -> datetime | None:
        """Return the next time after one at which it fired or was made."""
        return moment + timedelta(seconds=self.seconds)


@dataclass(frozen=True)
class Cron:
    """Fires at the minutes that its fields select; ``days`` and ``weekdays`` are as written, upper-cased."""

    minutes: frozenset[int]
    hours: frozenset[int]
    days: str
    months: frozenset[int]
    weekdays: str
    years: frozenset[int]

    def next_after(self, moment: datetime) -> datetime | None:
        """Return the next time that it selects after a moment, or None if there is none any more."""
        start = moment.astimezone(UTC).replace(second=0, microsecond=0) + timedelta(minutes=1)
        day = start.date()
        while day.year <= max(self.years):
            earliest = start if day == start.date() else datetime(day.year, day.month, day.day, tzinfo=UTC)
            found = self._first_on(day, earliest) if self._selects(day) else None
            if found:
                return found
            day += timedelta(days=1)
        return None

    def _selects(self, day: date) -> bool:
        if day.year not in self.years or day.month not in self.months:
            return False
        return _selects_day(self.days, day) and _selects_weekday(self.weekdays, day)

    def _first_on(self, day: date, earliest: datetime) -> datetime | None:
        for hour in sorted(self.hours):
            for minute in sorted(self.minutes):
                moment = datetime(day.year, day.month, day.day, hour, minute, tzinfo=UTC)
                if moment >= earliest:
                    return moment
        return None


Schedule = Rate | Cron


def parse_schedule(expression: str) -> Schedule:
    """Return the schedule that an expression says; raise InvalidSchedule if it says none."""
    rate = _RATE.fullmatch(expression)
    if rate:
        count, unit = int(rate[1]), rate[2]
        # "rate(1 hours)" and "rate(5 minute)" are refused.
        if count < 1 or (count == 1) == unit.endswith("s"):
            raise InvalidSchedule(expression)
        return Rate(count * _UNITS[unit.rstrip("s")])
    cron = _CRON.fullmatch(expression)
    if not cron:
        raise InvalidSchedule(expression)
    try:
        return _parse_cron(cron[1].upper().split())
    except (ValueError, KeyError) as error:
        raise InvalidSchedule(f"{expression}: {error}") from error


def _parse_cron(fields: list[str]) -> Cron:
    if len(fields) != 6:
        raise ValueError("six fields are needed")
    minutes, hours, days, months, weekdays, years = fields
    if (days == "?") == (weekdays == "?"):
        raise ValueError("exactly one of day-of-month and day-of-week must be ?")
    cron = Cron(
        minutes=_numbers(minutes, 0, 59),
        hours=_numbers(hours, 0, 23),
        days=days,
        months=_numbers(months, 1, 12, _MONTHS),
        weekdays=weekdays,
        years=_numbers(years, 1970, _LAST_YEAR),
    )
    cron._selects(date(2000, 1, 1).replace(year=min(cron.years), month=min(cron.months)))
    return cron


def _numbers(field: str, low: int, high: int, names: dict[str, int] | None = None) -> frozenset[int]:
    """Return the numbers that a field selects: ``*``, ``a``, ``a-b``, ``a/step``, ``*/step``, and lists of them."""
    found: set[int] = set()
    for part in field.split(","):
        base, _, step = part.partition("/")
        first, _, last = base.partition("-")
        start = low if first == "*" else _number(first, names)
        end = _number(last, names) if last else (high if step or first == "*" else start)
        if not low <= start <= high or not low <= end <= high:
            raise ValueError(f"{part} is out of range")
        # FRI-MON goes over the end of the week.
        span = range(start, end + 1) if start <= end else [*range(start, high + 1), *range(low, end + 1)]
        found.update(list(span)[:: int(step or 1)])
    return frozenset(found)


def _number(text: str, names: dict[str, int] | None) -> int:
    return names[text] if names and text in names else int(text)


def _selects_day(field: str, day: date) -> bool:
    last = calendar.monthrange(day.year, day.month)[1]
    if field == "?":
        return True
    if field == "L":
        return day.day == last
    if field.endswith("W"):
        return day.day == _nearest_weekday(day, last if field == "LW" else int(field[:-1]))
    return day.day in _numbers(field, 1, 31)


def _nearest_weekday(month: date, wanted: int) -> int:
    """Return the working day nearest to a day of a month, within that month."""
    last = calendar.monthrange(month.year, month.month)[1]
    by_distance = sorted(range(1, last + 1), key=lambda number: (abs(number - wanted), number))
    return next(number for number in by_distance if month.replace(day=number).weekday() < 5)


def _selects_weekday(field: str, day: date) -> bool:
    weekday = day.isoweekday() % 7 + 1
    if field == "?":
        return True
    if "#" in field:
        wanted, _, week = field.partition("#")
        return weekday == _number(wanted, _DAYS) and (day.day - 1) // 7 + 1 == int(week)
    if field.endswith("L"):
        last_week = day.day + 7 > calendar.monthrange(day.year, day.month)[1]
        return last_week and weekday == (_number(field[:-1], _DAYS) if field[:-1] else 7)
    return weekday in _numbers(field, 1, 7, _DAYS)
