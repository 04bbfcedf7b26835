"""Deriving calls again from the stored deliveries, with a field-by-field account of what changes.

This is how an adapter's fix reaches calls that are already there. A dry run does the very same work and rolls it back.
"""

from collections.abc import Iterator
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from django.db import transaction
from django.db.models import QuerySet
from django.forms.models import model_to_dict

from calls.intake import lock_account
from calls.models import Account, Conversation, Event, Leg, StoredRecord
from webhooks.models import Delivery
from webhooks.processing import understand, write

BATCH = 500


class Change(NamedTuple):
    """One field of one call that differs; ``None`` stands for a call, leg or event that is not there."""

    conversation_id: UUID
    field: str
    before: object
    after: object


class Step(NamedTuple):
    """A batch that was done: how many deliveries were read again, and what that changed."""

    deliveries: int
    changes: list[Change]


def deliveries_to_rebuild(account: Account, since: datetime | None, until: datetime | None) -> QuerySet[Delivery]:
    """Return the deliveries that calls are derived from: no repeats, none that is still pending, none cut off."""
    chosen = Delivery.objects.filter(account=account).exclude(error_class="TooLarge")
    chosen = chosen.exclude(status__in=[Delivery.Status.PENDING, Delivery.Status.REPEAT])
    if since:
        chosen = chosen.filter(received_at__gte=since)
    if until:
        chosen = chosen.filter(received_at__lt=until)
    return chosen.order_by("received_at", "id")


def rebuild(
    account: Account, *, since: datetime | None = None, until: datetime | None = None, dry_run: bool = False
) -> Iterator[Step]:
    """Read the account's deliveries again, oldest first, and yield what each batch changed."""
    last: tuple[datetime, UUID] | None = None
    while True:
        chosen = deliveries_to_rebuild(account, since, until)
        if last:
            chosen = chosen.filter(received_at__gte=last[0]).exclude(received_at=last[0], pk__lte=last[1])
        batch = list(chosen.select_related("account")[:BATCH])
        if not batch:
            return
        last = (batch[-1].received_at, batch[-1].pk)
        with transaction.atomic():
            locked = lock_account(account.pk)
            sources = [delivery.pk for delivery in batch]
            before = _snapshot(set(_conversations_of(sources)))
            touched = write(locked, [understand(delivery) for delivery in batch])[1]
            after = _snapshot(touched | before.keys())
            changes = _differences(before, after)
            transaction.set_rollback(dry_run)
        yield Step(len(batch), changes)


def _conversations_of(sources: list[UUID]) -> QuerySet:
    records = StoredRecord.objects.filter(source__in=sources, conversation__isnull=False)
    return records.values_list("conversation", flat=True)


def _snapshot(ids: set[UUID]) -> dict[UUID, dict[str, object]]:
    """Return every derived field of the calls, those of legs and events under a name that says which."""
    calls: dict[UUID, dict[str, object]] = {}
    for call in Conversation.objects.filter(pk__in=ids):
        calls[call.pk] = model_to_dict(call, exclude=["tags"])
    for leg in Leg.objects.filter(conversation__in=ids):
        fields = model_to_dict(leg, exclude=["id", "conversation", "account"])
        name = f"leg {leg.label} {leg.external_id}"
        calls[leg.conversation_id] |= {f"{name}: {field}": value for field, value in fields.items()}
    for event in Event.objects.filter(conversation__in=ids):
        name = f"event {event.kind} on {event.leg_label} {event.leg_external_id} ({event.provider_status})"
        calls[event.conversation_id][name] = event.occurred_at
    return calls


def _differences(before: dict[UUID, dict[str, object]], after: dict[UUID, dict[str, object]]) -> list[Change]:
    return [
        Change(pk, field, before.get(pk, {}).get(field), after.get(pk, {}).get(field))
        for pk in sorted(before.keys() | after.keys())
        for field in sorted(before.get(pk, {}).keys() | after.get(pk, {}).keys())
        if before.get(pk, {}).get(field) != after.get(pk, {}).get(field)
    ]
