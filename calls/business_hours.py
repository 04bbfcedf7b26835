"""Business hours as people write them: ``Mon-Fri 09:00-18:00; Sat 10:00-14:00``. Pure."""

import re
from bisect import bisect_right
from datetime import UTC, datetime, time, timedelta
from itertools import accumulate
from zoneinfo import ZoneInfo

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_PART = re.compile(r"([a-z]{3})(?:\s*-\s*([a-z]{3}))?\s+(\d{1,2}:\d{2})\s*-\s*(\d{1,2}:\d{2})", re.ASCII)

Hours = list[tuple[frozenset[int], time, time]]
"""Days of the week (Monday is 0), opening and closing time; closing time 00:00 is the end of the day."""


def parse(text: str) -> Hours:
    """Return what ``text`` says; nothing for blank text, which means always.

    Raises ``ValueError`` with the part that cannot be read and an example.
    """
    hours: Hours = []
    for part in filter(None, (part.strip() for part in re.split(r"[;\n]", text))):
        match = _PART.fullmatch(part.lower())
        try:
            if match is None:
                raise ValueError
            first, last = DAYS.index(match[1]), DAYS.index(match[2] or match[1])
            opens, closes = _time(match[3]), _time(match[4])
            if closes <= opens and closes != time(0):
                raise ValueError
        except ValueError:
            raise ValueError(f"“{part}” is not understood. Write for example Mon-Fri 09:00-18:00.") from None
        count = (last - first) % 7 + 1
        hours.append((frozenset((first + day) % 7 for day in range(count)), opens, closes))
    return hours


def is_open(hours: Hours, moment: datetime, zone: ZoneInfo) -> bool:
    """Return whether ``moment`` lies in the business hours of ``zone``. No hours at all means always."""
    local = moment.astimezone(zone)
    return not hours or any(
        local.weekday() in days and opens <= local.time() and (closes == time(0) or local.time() < closes)
        for days, opens, closes in hours
    )


def closed(hours: Hours, since: datetime, until: datetime, zone: ZoneInfo) -> list[tuple[datetime, datetime]]:
    """Return the spans between ``since`` and ``until`` outside the business hours of ``zone``, in UTC and in order.

    The end of each is not in it. No hours at all means always open: no span.
    """
    if not hours:
        return []
    spans, start = [], since.astimezone(UTC)
    day, last = since.astimezone(zone).date(), until.astimezone(zone).date()
    while day <= last:
        for opens, closes in sorted((opens, closes) for days, opens, closes in hours if day.weekday() in days):
            ends_on = day + timedelta(days=closes == time(0))
            begin = datetime.combine(day, opens, zone).astimezone(UTC)
            end = datetime.combine(ends_on, closes, zone).astimezone(UTC)
            if begin > start:
                spans.append((start, min(begin, until.astimezone(UTC))))
            start = max(start, end)
        day += timedelta(days=1)
    if start < until:
        spans.append((start, until.astimezone(UTC)))
    return [(begin, end) for begin, end in spans if begin < end]


def after(hours: Hours, since: datetime, length: timedelta, zone: ZoneInfo) -> datetime:
    """Return when ``length`` of business hours has passed since ``since``, in UTC. No hours at all means always.

    Raises ``OverflowError`` where that lies beyond what a datetime holds.
    """
    start = since.astimezone(UTC)
    while True:
        week = start + timedelta(days=7)
        for begin, end in [*closed(hours, start, week, zone), (week, week)]:
            if length <= begin - start:
                return start + length
            length -= begin - start
            start = end


def next_opening(hours: Hours, moment: datetime, zone: ZoneInfo) -> datetime:
    """Return when somebody is there again on a later day than ``moment``'s, in UTC; at 09:00 if somebody always is."""
    tomorrow = moment.astimezone(zone).date() + timedelta(days=1)
    if not hours:
        return datetime.combine(tomorrow, time(9), zone).astimezone(UTC)
    midnight = datetime.combine(tomorrow, time(0), zone).astimezone(UTC)
    spans = closed(hours, midnight, midnight + timedelta(days=8), zone)
    return spans[0][1] if spans and spans[0][0] == midnight else midnight


class OpenTime:
    """How much of any span between two moments lies in business hours: worked out once, then asked often."""

    def __init__(self, hours: Hours, since: datetime, until: datetime, zone: ZoneInfo) -> None:
        self._spans = closed(hours, since, until, zone)
        self._ends = [end for _, end in self._spans]
        self._lost = list(accumulate((end - begin for begin, end in self._spans), initial=timedelta(0)))

    def between(self, start: datetime, end: datetime) -> timedelta:
        """Return the business hours from ``start`` to ``end``, both within the span given at first."""
        return end - start - (self._closed_until(end) - self._closed_until(start))

    def _closed_until(self, moment: datetime) -> timedelta:
        place = bisect_right(self._ends, moment)
        begun = place < len(self._spans) and self._spans[place][0] < moment
        return self._lost[place] + (moment - self._spans[place][0] if begun else timedelta(0))


def _time(text: str) -> time:
    hour, minute = text.split(":")
    return time(0) if (hour, minute) == ("24", "00") else time(int(hour), int(minute))
