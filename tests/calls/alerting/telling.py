"""Alerts and notices to tell of, written as the engine writes them."""

from datetime import UTC, datetime

from django.utils import timezone

from calls.alerting.evidence import as_stored
from calls.alerting.findings import Evidence
from calls.choices import AlertKind
from calls.models import Account, Alert, AlertRule, Channel, Notice

AT = datetime(2026, 3, 2, 6, 30, tzinfo=UTC)


def alert(account: Account, number: int = 0, **values: object) -> Alert:
    """Make an open alert, of one rule for all."""
    rule, _ = AlertRule.objects.get_or_create(name="Low", kind=AlertKind.LOW_BALANCE)
    values = {
        "message": f"The balance is {number}.00 INR, below 500 INR.",
        "subject": str(number),
        "evidence": as_stored([Evidence("The readings", "admin:calls_balancereading_changelist")]),
        "updated_at": AT,
    } | values
    return Alert.objects.create(rule=rule, account=account, kind=rule.kind, opened_at=AT, **values)


def notice(channel: Channel, alert: Alert, transition: str = Notice.Transition.OPENED) -> Notice:
    """Write a notice that is due now, as the engine does."""
    return Notice.objects.create(alert=alert, channel=channel, transition=transition, due_at=timezone.now())
