"""Telling people: notices are claimed by channel, sent, and tried again until they are through.

A notice is written with its transition and sent afterwards. Its message gets an id, which is written before the first
try and borne by every later one. So nothing is lost by a kill, and a copy, which a kill between the receiver's answer
and our note of it makes, can be told by its id.
"""

import logging
from collections.abc import Sequence
from datetime import datetime, timedelta
from random import SystemRandom
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import F, Q, QuerySet
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils import timezone

from calls.alerting import channels, evidence
from calls.ids import new_id
from calls.models import Channel, Notice

logger = logging.getLogger(__name__)

LEASE = timedelta(seconds=70)
"""For so long a channel is one worker's; longer than a task may take, so that no two ever send to it at once."""
TURN = timedelta(seconds=20)
"""A turn begins no message after this; the next one goes on."""
ALONE = 5
"""Up to so many notices go out each by itself; more of them that are due at once as one message."""
LONGEST_DIGEST = 100
TRIES = 30
"""With the pauses between them, so many take about a day; then a notice is given up."""
LONGEST_PAUSE = timedelta(hours=1)


def waiting() -> list[int]:
    """Return the ids of the channels that have something to send and that nobody is sending to."""
    now = timezone.now()
    due = Channel.objects.filter(_free(now), is_active=True, notices__in=_due(now))
    return list(due.order_by("pk").values_list("pk", flat=True).distinct())


def send_to(channel_id: int) -> int:
    """Send what is due on a channel, unless somebody else is at it; return how many messages went out.

    The first that fails ends the turn: it is tried again after a pause that doubles, the others at the next turn.
    """
    began = timezone.now()
    lease = _claim(channel_id, _free(began))
    sent = 0
    while lease:
        channel = Channel.objects.get(pk=channel_id)
        message = _next_message(channel)
        is_sent = bool(message) and _try(channel, message)
        sent += is_sent
        if not is_sent or timezone.now() - began > TURN:
            Channel.objects.filter(pk=channel_id, lease_until=lease).update(lease_until=None)
            return sent
        lease = _claim(channel_id, Q(lease_until=lease))
    return sent


def send_test(channel: Channel) -> str:
    """Send a test message at once; return why it failed, or an empty string."""
    text = f"This is a test. Notices of alerts will reach you by the channel “{channel}”."
    context = {"notices": [], "text": text}
    message = channels.Message(
        id=new_id(),
        subject="Ringledger: test",
        text=render_to_string("calls/mail/notice.txt", context),
        html=render_to_string("calls/mail/notice.html", context),
        payload={"type": "test", "timestamp": timezone.now().isoformat(), "data": {"channel": channel.name}},
    )
    try:
        channels.send(channel, message)
    except channels.SendFailed as error:
        _note_failure(channel, str(error))
        return str(error)
    _note_success(channel)
    return ""


def _free(now: datetime) -> Q:
    return Q(lease_until=None) | Q(lease_until__lt=now)


def _due(now: datetime) -> QuerySet[Notice]:
    return Notice.objects.filter(state=Notice.State.DUE, due_at__lte=now)


def _claim(channel_id: int, is_ours: Q) -> datetime | None:
    lease = timezone.now() + LEASE
    # The database looks at the row again under its lock: of many who come at once this hits it for one.
    is_claimed = Channel.objects.filter(is_ours, pk=channel_id, is_active=True).update(lease_until=lease)
    return lease if is_claimed else None


def _next_message(channel: Channel) -> list[Notice]:
    """Return the notices of the message to be tried next, which has its id from now on; none when nothing is due."""
    due = list(_due(timezone.now()).filter(channel=channel).order_by("created_at", "pk")[: LONGEST_DIGEST + 1])
    begun = next((notice.message_id for notice in due if notice.message_id), None)
    if begun:
        chosen = Q(message_id=begun)
    else:
        together = due[:LONGEST_DIGEST] if len(due) > ALONE else due[:1]
        chosen = Q(pk__in=[notice.pk for notice in together])
    rows = Notice.objects.filter(chosen, channel=channel, state=Notice.State.DUE)
    rows.update(message_id=begun or new_id(), attempts=F("attempts") + 1)
    with_alerts = rows.select_related("alert__rule", "alert__account", "alert__assigned_to", "channel")
    return list(with_alerts.order_by("created_at", "pk"))


def _try(channel: Channel, notices: Sequence[Notice]) -> bool:
    rows = Notice.objects.filter(pk__in=[notice.pk for notice in notices], state=Notice.State.DUE)
    try:
        channels.send(channel, _message(notices))
    except channels.SendFailed as error:
        reason, is_gone = str(error), isinstance(error, channels.Gone)
    except Exception as error:  # a bug of ours must not stop the other channels, nor be tried without a pause
        logger.exception("A message could not be sent by the channel %s.", channel.pk)
        reason, is_gone = f"It could not be sent because of an error in Ringledger ({type(error).__name__}).", False
    else:
        with transaction.atomic():
            rows.update(state=Notice.State.SENT, sent_at=timezone.now(), last_error="")
            _note_success(channel)
        return True
    attempts = notices[0].attempts
    state = Notice.State.GIVEN_UP if attempts >= TRIES else Notice.State.DUE
    logger.warning("The channel %s failed at try %s: %s", channel.pk, attempts, reason)
    with transaction.atomic():
        rows.update(state=state, last_error=reason, due_at=timezone.now() + pause_after(attempts))
        _note_failure(channel, reason)
        if is_gone:
            Channel.objects.filter(pk=channel.pk).update(is_active=False)
            give_up(channel, reason)
    return False


def give_up(channel: Channel, reason: str) -> None:
    """Send no more of what is due on a channel, which was switched off: on its return it would be old news."""
    Notice.objects.filter(channel=channel, state=Notice.State.DUE).update(
        state=Notice.State.GIVEN_UP, last_error=reason
    )


def pause_after(attempts: int) -> timedelta:
    """Return how long to wait after so many failed tries: a minute, doubled each time up to an hour, a little mixed."""
    pause = min(timedelta(minutes=2 ** min(attempts - 1, 10)), LONGEST_PAUSE)
    return pause * SystemRandom().uniform(0.8, 1.2)


def _note_success(channel: Channel) -> None:
    Channel.objects.filter(pk=channel.pk).update(failing_since=None, last_error="")


def _note_failure(channel: Channel, reason: str) -> None:
    Channel.objects.filter(pk=channel.pk).update(last_error=reason)
    Channel.objects.filter(pk=channel.pk, failing_since=None).update(failing_since=timezone.now())


def _message(notices: Sequence[Notice]) -> channels.Message:
    """Return the message that speaks of ``notices``, in their order."""
    first = notices[0]
    payloads = [_payload(notice) for notice in notices]
    if len(notices) == 1:
        word = "cleared" if first.transition == Notice.Transition.CLEARED else first.alert.get_kind_display().lower()
        subject, payload = f"Ringledger: {word}, {first.alert.account}", payloads[0]
    else:
        subject = f"Ringledger: {len(notices)} notices"
        payload = {"type": "alert.digest", "timestamp": payloads[0]["timestamp"], "data": {"notices": payloads}}
    context = {
        "notices": [
            {"notice": notice, "alert": notice.alert, "data": payload["data"]}
            for notice, payload in zip(notices, payloads, strict=True)
        ]
    }
    return channels.Message(
        id=first.message_id,
        subject=subject,
        text=render_to_string("calls/mail/notice.txt", context),
        html=render_to_string("calls/mail/notice.html", context),
        payload=payload,
    )


def _payload(notice: Notice) -> dict[str, Any]:
    """Return what a webhook gets of one notice; amounts as text, times in UTC."""
    alert = notice.alert
    return {
        "type": f"alert.{notice.transition}",
        "timestamp": notice.created_at.isoformat(),
        "data": {
            "id": alert.pk,
            "account": alert.account.slug,
            "rule": alert.rule.name,
            "kind": alert.kind,
            "subject": alert.subject,
            "message": alert.message,
            "value": None if alert.value is None else f"{alert.value:f}",
            "opened_at": alert.opened_at.isoformat(),
            "cleared_at": alert.cleared_at.isoformat() if alert.cleared_at else None,
            "url": settings.PUBLIC_URL + reverse("admin:calls_alert_change", args=[alert.pk]),
            "evidence": [
                {"label": link.label, "url": settings.PUBLIC_URL + link.url} for link in evidence.links(alert.evidence)
            ],
        },
    }
