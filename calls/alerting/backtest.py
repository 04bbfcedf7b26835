"""What a rule would have done: the past walked through with the very decisions of the engine."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import chain
from typing import Any

from django.db.models import QuerySet
from django.utils import timezone

from calls.alerting.engine import moment_for, transitions
from calls.alerting.findings import Evidence
from calls.alerting.kinds import KINDS
from calls.alerting.kinds.scope import calls_of
from calls.choices import AlertKind
from calls.models import Account, AlertRule, BalanceReading, Conversation

DAYS = 30
_STEP = timedelta(minutes=15)
_SLOW_STEP = timedelta(hours=2)
"""Of the runway, which is worked out of eight weeks of spend each time."""
_SHORTEST_STEP = timedelta(minutes=5)
_LONGEST_STEP = timedelta(hours=1)


@dataclass(slots=True)
class Firing:
    """An alert that would have been opened, as it was then, and cleared unless ``cleared_at`` is ``None``."""

    subject: str
    message: str
    value: Decimal | None
    evidence: tuple[Evidence, ...]
    opened_at: datetime
    cleared_at: datetime | None = None


def step_of(rule: AlertRule) -> timedelta:
    """Return how far apart the moments are at which the past is looked at; the live rule is tried far more often."""
    if rule.kind == AlertKind.RUNWAY:
        return _SLOW_STEP
    if "window_minutes" not in KINDS[rule.kind].fields:
        return _STEP
    return min(max(timedelta(minutes=rule.window_minutes) / 4, _SHORTEST_STEP), _LONGEST_STEP)


def would_have_fired(
    rule: AlertRule, account: Account, days: int = DAYS, until: datetime | None = None
) -> list[Firing]:
    """Return what ``rule``, saved or not, would have opened on ``account`` in the ``days`` up to ``until`` (now).

    The oldest first. What lasted when the days began is among it. Writes nothing.
    """
    until = until or timezone.now()
    kind, step = KINDS[rule.kind], step_of(rule)
    fired: list[Firing] = []
    still_open: dict[str, Firing] = {}
    looked_at = None
    for moment, newest in _moments(account, until - timedelta(days=days), until, step):
        at = moment_for(rule, newest, moment)
        if at is None or at == looked_at:
            continue
        looked_at = at
        follows = transitions(still_open, kind.evaluate(rule, account, at))
        for subject in follows.cleared:
            firing = still_open.pop(subject)
            firing.cleared_at = max(at, firing.opened_at)
        for subject, found in follows.opened.items():
            firing = Firing(subject, found.message, found.value, found.evidence, found.at)
            still_open[subject] = firing
            fired.append(firing)
    return fired


def matches_calls(rule: AlertRule, account: Account, days: int = DAYS) -> bool:
    """Return whether there was any call in these days that ``rule`` concerns."""
    return calls_of(rule, account).filter(started_at__gte=timezone.now() - timedelta(days=days)).exists()


def _moments(
    account: Account, since: datetime, until: datetime, step: timedelta
) -> Iterator[tuple[datetime, datetime | None]]:
    """Yield the moments from ``since`` to ``until``, each with what ``engine.newest_data`` returns for it."""
    reading_by = _newest_by(BalanceReading.objects.filter(account=account), "booked_at", since)
    call_by = _newest_by(Conversation.objects.filter(account=account), "started_at", since, "ended_at")
    moment = since
    while moment <= until:
        known = (*reading_by(moment), *call_by(moment))
        yield moment, max((at for at in known if at and at <= moment), default=None)
        moment += step


def _newest_by(
    rows: QuerySet[Any], column: str, since: datetime, *more: str
) -> Callable[[datetime], tuple[datetime | None, ...]]:
    """Return what gives the columns of the newest row at a moment, for moments from ``since`` on, each asked in turn.

    One query for thousands of moments: an index look-up for each would take as long as all the rest.
    """
    values = rows.values_list(column, *more)
    before, after = values.filter(**{f"{column}__lte": since})[:1], values.filter(**{f"{column}__gt": since}).reverse()
    upcoming = chain(before, after.iterator())
    passed, waiting = (), next(upcoming, None)

    def newest(moment: datetime) -> tuple[datetime | None, ...]:
        nonlocal passed, waiting
        while waiting and waiting[0] <= moment:
            passed, waiting = waiting, next(upcoming, None)
        return passed

    return newest
