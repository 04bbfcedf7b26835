"""Calls, legs and events as the API shows them, ready to be written as JSON.

What a page of them costs is the query and little else: rows are read as tuples, and no serializer is run. The
serializers of these tables tell the schema, and say the same.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from django.db.models import QuerySet

from calls.models import Conversation, Event, Leg

_AGENT = ("agent__external_id", "agent__name")
CONVERSATION_COLUMNS = (
    *("id", "account__slug", "account__provider", "external_id", "direction", "state", "disposition", "reason"),
    *("customer_number", "did", "agent_id", *_AGENT, "started_at", "answered_at", "ended_at", "ring_seconds"),
    *("talk_seconds", "duration_seconds", "cost", "cost_unit", "recording", "has_voicemail", "hangup_cause"),
    *("request_id", "extra_params", "flags", "staff_outcome__kind", "staff_outcome__text"),
)
LEG_COLUMNS = (
    *("id", "conversation_id", "external_id", "label", "role", "direction", "from_number", "to_number", "agent_id"),
    *(*_AGENT, "disposition", "started_at", "answered_at", "ended_at", "ring_seconds", "talk_seconds"),
    *("duration_seconds", "hangup_cause", "cost", "balance_after", "recording"),
)
EVENT_COLUMNS = (
    *("id", "conversation_id", "leg_id", "kind", "occurred_at", "received_at", "provider_status", "details"),
)


def conversations(
    rows: QuerySet[Conversation], parts: Collection[str] = (), fields: Collection[str] | None = None
) -> list[dict[str, Any]]:
    """Return the API's conversations of ``rows``, in their order, in as many queries whatever their number.

    ``parts`` are what is embedded, of ``calls.api.serializers.PARTS``; ``fields`` the names to be given, all of them
    by default.
    """
    shown = of_conversations(rows.values_list(*CONVERSATION_COLUMNS, named=True), parts)
    if fields is None:
        return shown
    return [{name: value for name, value in row.items() if name in fields} for row in shown]


def of_conversations(rows: Iterable[Any], parts: Collection[str] = ()) -> list[dict[str, Any]]:
    """Return the conversations of ``rows``, named tuples of ``CONVERSATION_COLUMNS``."""
    rows = list(rows)
    ids = [row.id for row in rows]
    tags = _tags(ids)
    shown = [of_conversation(row, tags[row.id]) for row in rows]
    if "legs" in parts:
        legs = Leg.objects.filter(conversation__among=ids).values_list(*LEG_COLUMNS, named=True)
        _embed(shown, "legs", of_legs(legs))
    if "events" in parts:
        events = Event.objects.filter(conversation__among=ids).order_by("occurred_at", "id")
        _embed(shown, "events", of_events(events.values_list(*EVENT_COLUMNS, named=True)))
    return shown


def of_legs(rows: Iterable[Any]) -> list[dict[str, Any]]:
    """Return the legs of ``rows``, named tuples of ``LEG_COLUMNS``."""
    return [
        {
            "id": row.id,
            "conversation": str(row.conversation_id),
            "external_id": row.external_id,
            "label": row.label,
            "role": row.role,
            "direction": row.direction,
            "from_number": row.from_number,
            "to_number": row.to_number,
            "agent": _agent(row),
            "disposition": row.disposition,
            "started_at": moment(row.started_at),
            "answered_at": moment(row.answered_at),
            "ended_at": moment(row.ended_at),
            "ring_seconds": row.ring_seconds,
            "talk_seconds": row.talk_seconds,
            "duration_seconds": row.duration_seconds,
            "hangup_cause": row.hangup_cause,
            "cost": amount(row.cost),
            "balance_after": amount(row.balance_after),
            "recording": row.recording or None,
        }
        for row in rows
    ]


def of_events(rows: Iterable[Any]) -> list[dict[str, Any]]:
    """Return the events of ``rows``, named tuples of ``EVENT_COLUMNS``."""
    return [
        {
            "id": row.id,
            "conversation": str(row.conversation_id),
            "leg": row.leg_id,
            "kind": row.kind,
            "occurred_at": moment(row.occurred_at),
            "received_at": moment(row.received_at),
            "provider_status": row.provider_status,
            "details": row.details,
        }
        for row in rows
    ]


def moment(value: datetime | None) -> str | None:
    """Return a time of the database, which gives them in UTC, as the API shows it."""
    return None if value is None else f"{value.isoformat()[:-6]}Z"


def amount(value: Decimal | None) -> str | None:
    """Return money or credits as the API shows them."""
    return None if value is None else f"{value:.6f}"


def of_conversation(
    row: Any, tags: Any, moment: Callable[[Any], str | None] = moment, amount: Callable[[Any], str | None] = amount
) -> dict[str, Any]:
    """Return one conversation of ``row``, a named tuple of ``CONVERSATION_COLUMNS``.

    ``moment`` and ``amount`` say how times and money are shown as they stand in ``row``.
    """
    return {
        "id": str(row.id),
        "account": row.account__slug,
        "provider": row.account__provider,
        "external_id": row.external_id,
        "direction": row.direction,
        "state": row.state,
        "disposition": row.disposition,
        "reason": row.reason,
        "customer_number": row.customer_number,
        "did": row.did,
        "agent": _agent(row),
        "started_at": moment(row.started_at),
        "answered_at": moment(row.answered_at),
        "ended_at": moment(row.ended_at),
        "ring_seconds": row.ring_seconds,
        "talk_seconds": row.talk_seconds,
        "duration_seconds": row.duration_seconds,
        "cost": amount(row.cost),
        "cost_unit": row.cost_unit,
        "recording": row.recording or None,
        "has_voicemail": row.has_voicemail,
        "hangup_cause": row.hangup_cause,
        "request_id": row.request_id,
        "extra_params": row.extra_params,
        "flags": row.flags,
        "tags": tags,
        "outcome": _outcome(row),
    }


def _agent(row: Any) -> dict[str, Any] | None:
    if row.agent_id is None:
        return None
    return {"id": row.agent_id, "external_id": row.agent__external_id, "name": row.agent__name}


def _outcome(row: Any) -> dict[str, str] | None:
    if row.staff_outcome__kind is None:
        return None
    return {"kind": row.staff_outcome__kind, "text": row.staff_outcome__text}


def _tags(ids: Sequence[UUID]) -> defaultdict[UUID, list[str]]:
    """Return the tags of each conversation, sorted."""
    tagged = Conversation.tags.through.objects.filter(conversation__among=ids).order_by("tag__name")
    found = defaultdict(list)
    for conversation, name in tagged.values_list("conversation_id", "tag__name"):
        found[conversation].append(name)
    return found


def _embed(shown: list[dict[str, Any]], name: str, parts: list[dict[str, Any]]) -> None:
    """Put into each conversation those ``parts`` that are its own, in their order."""
    of_each = defaultdict(list)
    for part in parts:
        of_each[part["conversation"]].append(part)
    for conversation in shown:
        conversation[name] = of_each[conversation["id"]]
