"""How quickly missed callers are called back: figures over the entries of the worklist."""

import math
from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime, timedelta
from statistics import median
from typing import NamedTuple
from zoneinfo import ZoneInfo

from django.db.models import Count, F, Q, QuerySet
from django.db.models.functions import ExtractHour, ExtractIsoWeekDay
from django.utils import timezone

from calls import business_hours
from calls.models import Account, MissedCaller

_TIMES = ["first_missed_at", "first_attempt_at", "reached_at", "closed_at", "due_at"]
_ELSEWHERE = MissedCaller.Closing.ELSEWHERE
_AHEAD = timedelta(days=1)  # a provider's clock may be ahead of ours


class Entry(NamedTuple):
    """The times of one entry."""

    account_id: int
    missed_at: datetime
    tried_at: datetime | None
    reached_at: datetime | None
    closed_at: datetime | None
    due_at: datetime | None
    closing: str


class Times(NamedTuple):
    """How long it took: the middle value and the one that nine out of ten keep; ``None`` where nothing was done."""

    count: int
    median: timedelta | None
    ninetieth: timedelta | None


class Figures(NamedTuple):
    """Figures of one account over the entries that began in a span of time."""

    entries: int
    reached: int
    """Called back, got through, or reached otherwise by the word of staff."""
    first_try: Times
    """From the first missed call to our first call to the number, in business hours."""
    first_try_plain: Times
    """The same by the clock on the wall."""
    reach: Times
    """From the first missed call until somebody talked to the caller, in business hours."""
    reach_plain: Times
    kept: int
    """Reached by the time that was promised when the caller was missed."""
    broken: int
    """Reached too late, or not yet although the time has passed."""


def is_reached() -> Q:
    """Return the condition for entries whose caller was called back, got through, or was reached otherwise."""
    return Q(reached_at__isnull=False) | Q(closing=_ELSEWHERE)


def is_kept() -> Q:
    """Return the condition for entries that ``Figures.kept`` counts."""
    return Q(reached_at__lte=F("due_at")) & ~Q(closing=_ELSEWHERE) | Q(closing=_ELSEWHERE, closed_at__lte=F("due_at"))


def is_broken(now: datetime) -> Q:
    """Return the condition for entries that ``Figures.broken`` counts."""
    late = Q(reached_at__gt=F("due_at")) & ~Q(closing=_ELSEWHERE) | Q(closing=_ELSEWHERE, closed_at__gt=F("due_at"))
    return late | Q(closed_at=None, due_at__lt=now)


def figures(entries: QuerySet[MissedCaller], start: datetime, now: datetime) -> list[tuple[Account, Figures]]:
    """Return the figures of each account that has entries whose first missed call came at ``start`` or later."""
    by_account: dict[int, list[Entry]] = defaultdict(list)
    recent = entries.filter(first_missed_at__gte=start).order_by().select_related(None)
    for entry in map(Entry._make, recent.values_list("account_id", *_TIMES, "closing").iterator(chunk_size=5000)):
        by_account[entry.account_id].append(entry)
    return [
        (account, _figures(account, by_account[account.pk], start, now))
        for account in Account.objects.filter(pk__in=by_account).order_by("slug")
    ]


def since(days: int) -> datetime:
    """Return the midnight, in the viewer's zone, with which the last ``days`` days began; 1 is today."""
    midnight = timezone.localtime().replace(hour=0, minute=0, second=0, microsecond=0)
    return midnight - timedelta(days=days - 1)


class When(NamedTuple):
    """How many callers were missed first in an hour of the day, or on a weekday, and how many of them were reached."""

    missed: int
    reached: int


def when_missed(entries: QuerySet[MissedCaller], start: datetime) -> tuple[list[When], list[When]]:
    """Return by hour (0 to 23) and by weekday (from Monday), in the viewer's zone, the entries from ``start`` on."""
    counts = (
        entries.filter(first_missed_at__gte=start)
        .order_by()
        .values_list(ExtractHour("first_missed_at"), ExtractIsoWeekDay("first_missed_at"))
        .annotate(missed=Count("pk"), reached=Count("pk", filter=is_reached()))
    )
    hours, weekdays = [When(0, 0)] * 24, [When(0, 0)] * 7
    for hour, weekday, missed, reached in counts:
        hours[hour] = When(hours[hour].missed + missed, hours[hour].reached + reached)
        of_day = weekdays[weekday - 1]
        weekdays[weekday - 1] = When(of_day.missed + missed, of_day.reached + reached)
    return hours, weekdays


def _figures(account: Account, entries: Sequence[Entry], start: datetime, now: datetime) -> Figures:
    hours, zone = business_hours.parse(account.business_hours), ZoneInfo(account.time_zone)
    clock = business_hours.OpenTime(hours, start, now + _AHEAD, zone)
    tried = [(entry.missed_at, entry.tried_at) for entry in entries if entry.tried_at]
    reached = [(entry.missed_at, at) for entry in entries if (at := _reached_at(entry))]
    due = [(entry, _reached_at(entry)) for entry in entries if entry.due_at]
    return Figures(
        entries=len(entries),
        reached=len(reached),
        first_try=_times([clock.between(*span) for span in tried]),
        first_try_plain=_times([end - begin for begin, end in tried]),
        reach=_times([clock.between(*span) for span in reached]),
        reach_plain=_times([end - begin for begin, end in reached]),
        kept=sum(at is not None and at <= entry.due_at for entry, at in due),
        broken=sum(at > entry.due_at if at else not entry.closed_at and entry.due_at < now for entry, at in due),
    )


def _reached_at(entry: Entry) -> datetime | None:
    return entry.closed_at if entry.closing == _ELSEWHERE else entry.reached_at


def _times(lengths: list[timedelta]) -> Times:
    if not lengths:
        return Times(0, None, None)
    ordered = sorted(lengths)
    return Times(len(ordered), median(ordered), ordered[math.ceil(0.9 * len(ordered)) - 1])
