"""Alerts: decided from the ledger by the data's clock, opened once, mailed once.

A state change is one statement that either hits a row or does not; whoever hits it acts, nobody else does.
"""

import logging
from datetime import timedelta

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.mail import EmailMultiAlternatives
from django.db.models import F, Q
from django.template.loader import render_to_string
from django.utils import timezone

from calls import ledger
from calls.choices import AlertKind
from calls.models import Account, Alert

logger = logging.getLogger(__name__)

LEASE = timedelta(minutes=2)
LONGEST_PAUSE = timedelta(hours=1)


def review_balance(account: Account) -> None:
    """Open or clear the account's low-balance alert, going by its newest reading.

    An open alert is not opened again: there is at most one, and only a balance at or above the mark clears it. A
    rebuild or a late repeat changes nothing, because neither changes which reading is the newest.
    """
    reading = ledger.current(account)
    still_open = Alert.objects.filter(account=account, kind=AlertKind.LOW_BALANCE, cleared_at=None)
    if reading is None or account.low_balance_mark is None:
        return
    if reading.balance >= account.low_balance_mark:
        still_open.update(cleared_at=reading.occurred_at)
        return
    Alert.objects.get_or_create(
        account=account,
        kind=AlertKind.LOW_BALANCE,
        cleared_at=None,
        defaults={
            "opened_at": reading.occurred_at,
            "reading": reading,
            "message": (
                f"The balance of {account} is {reading.balance:.2f} {account.unit}, "
                f"below the mark of {account.low_balance_mark:.2f} {account.unit}."
            ),
        },
    )


def send_due() -> int:
    """Mail the alerts that were not mailed yet; return how many were handed over.

    Each is claimed for a while before it is sent, so that of several workers one sends. A failed one is tried again
    after a pause that doubles; a copy after a kill in between carries the same Message-ID.
    """
    now = timezone.now()
    free = Q(notify_lease_until=None) | Q(notify_lease_until__lt=now)
    sent = 0
    for alert in Alert.objects.filter(free, notified_at=None).select_related("account", "reading"):
        claimed = Alert.objects.filter(free, pk=alert.pk, notified_at=None).update(
            notify_lease_until=now + LEASE, notify_attempts=F("notify_attempts") + 1
        )
        recipients = _recipients(alert.account)
        if not claimed or not recipients:
            continue
        try:
            _mail(alert, recipients).send()
        except OSError as error:  # SMTP errors among them
            pause = min(timedelta(minutes=2**alert.notify_attempts), LONGEST_PAUSE)
            Alert.objects.filter(pk=alert.pk).update(notify_lease_until=now + pause)
            logger.warning("alert %s could not be mailed, next try in %s: %s", alert.pk, pause, type(error).__name__)
        else:
            Alert.objects.filter(pk=alert.pk).update(notified_at=timezone.now(), notify_lease_until=None)
            sent += 1
    return sent


def _recipients(account: Account) -> list[str]:
    if account.alert_emails.split():
        return account.alert_emails.split()
    administrators = get_user_model().objects.filter(is_superuser=True, is_active=True).exclude(email="")
    return list(administrators.values_list("email", flat=True))


def _mail(alert: Alert, recipients: list[str]) -> EmailMultiAlternatives:
    context = {"alert": alert, "account": alert.account, "url": f"{settings.PUBLIC_URL}/admin/calls/alert/{alert.pk}/"}
    message = EmailMultiAlternatives(
        subject=f"Ringledger: low balance, {alert.account}",
        body=render_to_string("calls/mail/low_balance.txt", context),
        to=recipients,
        headers={"Message-ID": f"<alert-{alert.pk}-{alert.opened_at:%Y%m%d%H%M%S}@ringledger>"},
    )
    message.attach_alternative(render_to_string("calls/mail/low_balance.html", context), "text/html")
    return message
