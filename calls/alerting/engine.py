"""Decisions on alerts: each is opened once, kept up to date while it lasts, and cleared once.

A transition and its notices are written in one transaction, by one worker at a time for each rule.
"""

import logging
from collections.abc import Collection, Iterable
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from calls.alerting.evidence import as_stored
from calls.alerting.findings import Clock, Finding
from calls.alerting.kinds import KINDS
from calls.models import Account, Alert, AlertRule, BalanceReading, Conversation, Notice
from calls.subscriptions.occurrences import emit_alerts

logger = logging.getLogger(__name__)

HISTORY = timedelta(hours=24)
"""What opens this far behind our clock comes of calls that were imported or read again, and is news to nobody."""

_LONGEST_SUBJECT = Alert._meta.get_field("subject").max_length
_LONGEST_MESSAGE = Alert._meta.get_field("message").max_length
_SIX_PLACES = Decimal("0.000001")


class Transitions(NamedTuple):
    """What follows from what was found, by subject."""

    opened: dict[str, Finding]
    lasting: dict[str, Finding]
    cleared: set[str]


class _Decision(NamedTuple):
    at: datetime
    opened: dict[str, Finding]
    changed: list[tuple[Alert, Finding]]
    cleared: list[Alert]


def transitions(still_open: Collection[str], findings: Iterable[Finding]) -> Transitions:
    """Return what follows from ``findings`` when the subjects ``still_open`` have an open alert."""
    found = {finding.subject[:_LONGEST_SUBJECT]: finding for finding in findings}
    return Transitions(
        opened={subject: one for subject, one in found.items() if one.is_over and subject not in still_open},
        lasting={subject: one for subject, one in found.items() if subject in still_open},
        cleared=set(still_open) - set(found),
    )


def review(accounts: Iterable[Account], now: datetime | None = None) -> int:
    """Try every active rule on each of ``accounts`` and write the transitions that follow.

    Returns how many notices came of it. A rule that cannot be tried is logged and stops no other.
    """
    notices = 0
    rules = list(AlertRule.objects.filter(is_active=True).select_related("account", "agent"))
    for account in accounts:
        _clear_unwatched(account, now or timezone.now())
        concerning = [rule for rule in rules if account.is_active and rule.account_id in (None, account.pk)]
        newest = newest_data(account, now or timezone.now()) if concerning else None
        for rule in concerning:
            try:
                if any(_decide(rule, account, newest, now or timezone.now())[1:]):
                    notices += _act(rule, account, now)
            except Exception:  # a bug in one kind must not silence the others
                logger.exception("The rule “%s” (%s) could not be tried on %s.", rule, rule.kind, account.slug)
    return notices


def newest_data(account: Account, by: datetime) -> datetime | None:
    """Return the time of the newest that was known of ``account`` at a moment; ``None`` before its first call."""
    readings = BalanceReading.objects.filter(account=account, booked_at__lte=by)
    calls = Conversation.objects.filter(account=account, started_at__lte=by)
    reading = readings.values_list("booked_at").first() or ()
    call = calls.values_list("started_at", "ended_at").first() or ()
    return max((at for at in (*reading, *call) if at and at <= by), default=None)


def moment_for(rule: AlertRule, newest: datetime | None, now: datetime) -> datetime | None:
    """Return the moment as of which ``rule`` looks at an account when the newest data are of ``newest``.

    ``None`` when it goes by the data's clock and there are no data: then there is nothing to find.
    """
    if KINDS[rule.kind].clock is Clock.WALL:
        return now
    return newest and min(now, newest + timedelta(minutes=rule.window_minutes))


def after_quiet_hours(rule: AlertRule, account: Account, now: datetime) -> datetime:
    """Return ``now`` or, when it lies in the quiet hours of ``rule`` in the account's zone, their end."""
    begin, end = rule.quiet_from, rule.quiet_until
    if begin is None or end is None:
        return now
    local = now.astimezone(ZoneInfo(account.time_zone))
    time = local.time()
    is_quiet = begin <= time < end if begin <= end else not end <= time < begin
    ends_on = local.date() + timedelta(days=time >= end)
    return datetime.combine(ends_on, end, local.tzinfo) if is_quiet else now


def _decide(rule: AlertRule, account: Account, newest: datetime | None, now: datetime) -> _Decision:
    at = moment_for(rule, newest, now)
    still_open = {alert.subject: alert for alert in Alert.objects.filter(rule=rule, account=account, cleared_at=None)}
    follows = transitions(still_open, KINDS[rule.kind].evaluate(rule, account, at) if at else [])
    lasting = [(still_open[subject], finding) for subject, finding in follows.lasting.items()]
    return _Decision(
        at=at or now,
        opened=follows.opened,
        changed=[pair for pair in lasting if _differ(*pair)],
        cleared=[still_open[subject] for subject in follows.cleared],
    )


@transaction.atomic
def _act(rule: AlertRule, account: Account, now: datetime | None) -> int:
    # Another worker may be at it. Who comes second looks at what has become of it, and at no older data.
    rows = AlertRule.objects.select_for_update(of=["self"], no_key=True).select_related("account", "agent")
    locked = rows.filter(pk=rule.pk, is_active=True).first()
    if locked is None:
        return 0
    now = now or timezone.now()
    decision = _decide(locked, account, newest_data(account, now), now)
    is_news = decision.at >= now - HISTORY
    notices: list[Notice] = []
    opened: list[Alert] = []
    for subject, finding in decision.opened.items():
        alert = Alert.objects.create(
            rule=locked, account=account, subject=subject, kind=locked.kind, opened_at=finding.at, updated_at=now,
            **_columns(finding),
        )  # fmt: skip
        opened.append(alert)
        if is_news:
            channels = locked.channels.filter(is_active=True)
            notices += [Notice(alert=alert, channel=one, transition=Notice.Transition.OPENED) for one in channels]
    for alert, finding in decision.changed:
        Alert.objects.filter(pk=alert.pk).update(**_columns(finding), updated_at=now)
    for alert in decision.cleared:
        alert.cleared_at, alert.updated_at = max(decision.at, alert.opened_at), now
        alert.save(update_fields=["cleared_at", "updated_at"])
        told = alert.notices.filter(channel__is_active=True).exclude(state=Notice.State.GIVEN_UP)
        notices += [
            Notice(alert=alert, channel=one.channel, transition=Notice.Transition.CLEARED)
            for one in told.select_related("channel")
        ]
    if is_news:  # muted or not: that is for people
        emit_alerts(account.pk, opened, decision.cleared)
    if locked.muted_until and now < locked.muted_until:
        return 0
    for notice in notices:
        notice.due_at = after_quiet_hours(locked, account, now)
    return len(Notice.objects.bulk_create(notices))


@transaction.atomic
def _clear_unwatched(account: Account, now: datetime) -> None:
    """Close what is not watched any more: the rule or the account was switched off. Programs are told, nobody else."""
    rules = AlertRule.objects.filter(Q(account=None) | Q(account=account), is_active=True)
    watching = rules if account.is_active else rules.none()
    open_now = Alert.objects.select_for_update(no_key=True).filter(account=account, cleared_at=None)
    unwatched = list(open_now.exclude(rule__in=watching))
    for alert in unwatched:
        alert.cleared_at = alert.updated_at = now
        alert.save(update_fields=["cleared_at", "updated_at"])
    emit_alerts(account.pk, [], unwatched)


def _columns(finding: Finding) -> dict[str, Any]:
    return {
        "message": finding.message[:_LONGEST_MESSAGE],
        "value": finding.value if finding.value is None else finding.value.quantize(_SIX_PLACES),
        "evidence": as_stored(finding.evidence),
    }


def _differ(alert: Alert, finding: Finding) -> bool:
    # Not the evidence: its links name the moment that was looked at, and lead to as many rows as before.
    columns = _columns(finding)
    return (alert.message, alert.value) != (columns["message"], columns["value"])
