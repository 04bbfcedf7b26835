"""What happened, written down for each subscription that is to be told, in the transaction in which it happened."""

from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec
from django.utils import timezone

from calls.api.serializers import AlertSerializer
from calls.choices import AlertKind, EventType
from calls.models import Alert, Message
from calls.subscriptions.reach import reach, running

CONVERSATION_TYPES = frozenset(one for one in EventType if one.startswith("conversation."))
OFFERED = tuple(one for one in EventType if one is not EventType.TEST)
"""What can be subscribed to."""


class Occurrence(NamedTuple):
    """One thing that happened. Of those ``about`` the same, a receiver is told in their order."""

    type: EventType
    about: str
    data: dict[str, Any]
    """What a receiver gets: ready to be written as JSON, as the API shows it."""


def emit(account_id: int, occurrences: Sequence[Occurrence]) -> None:
    """Have every subscription told that asks for such and may know of the account. Costs one query if none does.

    Call it inside the transaction in which it happened.
    """
    types = {occurrence.type for occurrence in occurrences}
    if not types:
        return
    at = timezone.now()
    messages = []
    for subscription in running().select_related("api_key"):
        wanted = types.intersection(subscription.event_types)
        if wanted and reach(subscription).holds(account_id, ()):
            messages += [
                Message(
                    subscription=subscription, account_id=account_id, type=one.type, about=one.about, created_at=at,
                    body=body(one.type, at, one.data), next_attempt_at=at,
                )
                for one in occurrences
                if one.type in wanted
            ]  # fmt: skip
    Message.objects.bulk_create(messages, batch_size=500)


def emit_alerts(account_id: int, opened: Collection[Alert], cleared: Collection[Alert]) -> None:
    """Have subscriptions told of an account's alerts that were opened or cleared, in the same transaction."""
    news = [(EventType.ALERT_OPENED, alert) for alert in opened]
    news += [(EventType.BALANCE_LOW, alert) for alert in opened if alert.kind == AlertKind.LOW_BALANCE]
    news += [(EventType.ALERT_CLEARED, alert) for alert in cleared]
    emit(account_id, [Occurrence(one, f"alert {alert.pk}", AlertSerializer(alert).data) for one, alert in news])


def body(event_type: EventType, at: datetime, data: dict[str, Any]) -> bytes:
    """Return the bytes of a message: its type, when it was noticed, and what it is about."""
    timestamp = at.astimezone(UTC).isoformat().replace("+00:00", "Z")
    return msgspec.json.encode({"type": event_type.value, "timestamp": timestamp, "data": data})
