"""Which conversations a subscription is told of: by field a list of values, of which a conversation has to have one."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple
from uuid import UUID

from django.db.models import QuerySet

from calls.choices import Direction, Disposition
from calls.models import Conversation

MOST_VALUES = 100

CHOICES = {"direction": Direction, "disposition": Disposition}
"""The fields that take words of a fixed set."""
LOOKUPS = {
    "direction": "direction__in",
    "disposition": "disposition__in",
    "did": "did__in",
    "agent": "agent__in",
    "tag": "tags__name__in",
}
"""The fields there are. An agent is named by its id, a DID as the API shows it, a tag by its name."""


class Fault(NamedTuple):
    """One thing wrong with filters; ``message`` says what is allowed."""

    field: str
    value: object
    message: str


def faults(filters: object) -> list[Fault]:
    """Return what is wrong with ``filters`` as somebody gave them."""
    if not isinstance(filters, Mapping):
        return [Fault("filters", filters, 'Give an object of lists, such as {"direction": ["inbound"]}.')]
    return [fault for field, values in filters.items() for fault in _faults_of(field, values)]


def _faults_of(field: object, values: object) -> list[Fault]:
    name = f"filters.{field}"
    if field not in LOOKUPS:
        return [Fault(name, values, f"There is no such filter. Use one of: {', '.join(LOOKUPS)}.")]
    if not isinstance(values, list) or not 0 < len(values) <= MOST_VALUES:
        return [Fault(name, values, f"Give a list of 1 to {MOST_VALUES} values, or leave the field out.")]
    if field == "agent":
        wrong = [value for value in values if type(value) is not int or not 0 < value < 2**63]
        return [Fault(name, value, "Give ids of agents, which are numbers.") for value in wrong[:1]]
    allowed = CHOICES[field].values if field in CHOICES else None
    wrong = [value for value in values if value not in allowed] if allowed else [v for v in values if not _is_text(v)]
    remedy = f"Use one of: {', '.join(allowed)}." if allowed else "Give text of 1 to 64 characters."
    return [Fault(name, value, remedy) for value in wrong[:1]]


def _is_text(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= 64


def passing(conversation_ids: Collection[UUID], filters: Mapping[str, Sequence[Any]]) -> set[UUID]:
    """Return which of these conversations there are and pass ``filters``, which have no faults."""
    rows: QuerySet[Conversation] = Conversation.objects.filter(pk__in=conversation_ids).order_by()
    for field, values in filters.items():
        rows = rows.filter(**{LOOKUPS[field]: values})
    return set(rows.values_list("pk", flat=True))
