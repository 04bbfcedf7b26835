"""Hours and days by the clock of a zone, whatever that clock does: pure arithmetic.

A day on which clocks are put forward has 23 hours, one on which they are put back has 25. Half an hour that happens
twice makes an hour of its own each time, as the clock shows it.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from enum import StrEnum
from typing import NamedTuple
from zoneinfo import ZoneInfo

DAY = timedelta(days=1)
HOUR = timedelta(hours=1)
_SECOND = timedelta(seconds=1)


class Interval(StrEnum):
    """How long a bucket is, by the clock."""

    HOUR = "hour"
    DAY = "day"

    @property
    def length(self) -> timedelta:
        """How long it nearly always is."""
        return HOUR if self is Interval.HOUR else DAY


class Run(NamedTuple):
    """A time during which the clock is the same distance from UTC."""

    since: datetime
    until: datetime
    offset: timedelta
    """What the clock shows, minus UTC."""


@dataclass(frozen=True)
class Buckets:
    """A time, cut up by the clock of a zone. The first and the last bucket hold only what lies within that time."""

    interval: Interval
    marks: list[datetime]
    """When the buckets begin, in UTC, and when the last one ends."""
    runs: list[Run]
    """The time itself, without what the first and the last bucket may have beyond it."""

    @classmethod
    def of(cls, since: datetime, until: datetime, interval: Interval, zone: ZoneInfo) -> "Buckets":
        """Return the buckets from ``since`` to just before ``until``, which comes later, both aware."""
        around = list(_runs(since - 2 * DAY, until + 2 * DAY, zone))
        marks = sorted(set(_hours(around) if interval == Interval.HOUR else _days(around, zone)))
        marks = marks[bisect_right(marks, since) - 1 : bisect_left(marks, until) + 1]
        within = [Run(max(run.since, since), min(run.until, until), run.offset) for run in around]
        return cls(interval, marks, [run for run in within if run.since < run.until])

    def __len__(self) -> int:
        return len(self.marks) - 1

    def shift(self, run: Run) -> timedelta:
        """Return how long after the full hours, or days, of UTC those of the clock begin during ``run``."""
        return -run.offset % self.interval.length

    def place(self, run: Run, step: datetime) -> int:
        """Return which bucket, counted from 0, holds what is of ``run`` and of the hour, or day, from ``step`` on.

        That is one as the clock would have begun it, had it always been as it is during ``run``.
        """
        return bisect_right(self.marks, max(step, run.since)) - 1

    def is_aligned(self, length: timedelta) -> bool:
        """Return whether every bucket begins at a full ``length`` of UTC, and the clock changes at none but those."""
        moments = [*self.marks, *(run.since for run in self.runs[1:])]
        return all(not (moment - datetime(1970, 1, 1, tzinfo=UTC)) % length for moment in moments)


def midnight(moment: datetime, zone: ZoneInfo, days: int = 0) -> datetime:
    """Return when the day of ``moment`` began by the zone's clock, or that so many days later, in UTC.

    When the clock is put forward at midnight, that is the moment at which it is.
    """
    day = moment.astimezone(zone).date() + timedelta(days=days)
    return datetime.combine(day, time.min, zone).astimezone(UTC)


def _runs(since: datetime, until: datetime, zone: ZoneInfo) -> Iterator[Run]:
    since, until = since.astimezone(UTC).replace(microsecond=0), until.astimezone(UTC)
    begin, known = since, since
    while known < until:
        offset, ahead = _offset(known, zone), min(known + DAY, until)  # no clock changes twice within a day
        if offset == _offset(ahead, zone):
            known = ahead
            continue
        while ahead - known > _SECOND:
            middle = known + (ahead - known) // 2 // _SECOND * _SECOND
            known, ahead = (middle, ahead) if _offset(middle, zone) == offset else (known, middle)
        yield Run(begin, ahead, offset)
        begin = known = ahead
    yield Run(begin, until, _offset(begin, zone))


def _offset(moment: datetime, zone: ZoneInfo) -> timedelta:
    return moment.astimezone(zone).utcoffset() or timedelta()


def _hours(runs: list[Run]) -> Iterator[datetime]:
    for run in runs:
        yield run.since
        past_hour = (run.since + run.offset).replace(minute=0, second=0, microsecond=0) - run.offset
        mark = past_hour + HOUR
        while mark < run.until:
            yield mark
            mark += HOUR


def _days(runs: list[Run], zone: ZoneInfo) -> Iterator[datetime]:
    since, until = runs[0].since, runs[-1].until
    for number in range((until - since).days + 2):
        yield midnight(since, zone, number)
