"""The derived fields of calls as comparable values, and what differs between two looks at them."""

from collections.abc import Collection, Iterable
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple
from uuid import UUID

from django.db.models import Model

from calls.models import Conversation, Event, Leg

Field = tuple[str, str]
"""A part of a call, empty for the call itself, and the name of a column of it; empty for an event's moment."""
Values = dict[Field, object]

_NOT_COMPARED = {"id", "conversation", "account"}


class Snapshot(NamedTuple):
    """A call as it is: how staff would name it, and its derived fields as JSON values."""

    number: str
    started_at: datetime
    values: Values


class Difference(NamedTuple):
    """One field that differs; ``None`` stands for a call, leg or event that is not there."""

    part: str
    field: str
    before: object
    after: object


def snapshots(ids: Collection[UUID]) -> dict[UUID, Snapshot]:
    """Return the calls of these ids that exist, legs and events included under names that say which."""
    found = {}
    for call in Conversation.objects.filter(pk__in=ids).select_related("agent"):
        found[call.pk] = Snapshot(call.customer_number, call.started_at, _values(call))
    for leg in Leg.objects.filter(conversation__in=ids).select_related("agent"):
        found[leg.conversation_id].values.update(_values(leg, f"leg {leg.label} {leg.external_id}"))
    for event in Event.objects.filter(conversation__in=ids):
        part = f"event {event.kind} on {event.leg_label} {event.leg_external_id} ({event.provider_status})"
        found[event.conversation_id].values[part, ""] = _plain(event.occurred_at)
    return found


def compare(before: Values, after: Values) -> list[Difference]:
    """Return the fields that differ, those of the call first."""
    return [
        Difference(part, field, before.get((part, field)), after.get((part, field)))
        for part, field in sorted(before.keys() | after.keys())
        if before.get((part, field)) != after.get((part, field))
    ]


def combine(earlier: Iterable[Difference], later: Iterable[Difference]) -> list[Difference]:
    """Return what two changes, one after the other, amount to: a field that is as it was drops out."""
    earlier, later = list(earlier), list(later)
    first = {(one.part, one.field): one.before for one in later} | {
        (one.part, one.field): one.before for one in earlier
    }
    last = {(one.part, one.field): one.after for one in earlier} | {(one.part, one.field): one.after for one in later}
    return compare(first, last)


def _values(row: Model, part: str = "") -> Values:
    fields = [field for field in row._meta.concrete_fields if field.name not in _NOT_COMPARED]
    return {(part, field.name): _plain(getattr(row, field.name)) for field in fields}


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value) if isinstance(value, Decimal | Model) else value
