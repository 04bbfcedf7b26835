"""How the changes that a rebuild makes are written for staff: which field, what it was, what it is."""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple

from django.core.exceptions import FieldDoesNotExist
from django.db.models import BooleanField, DateTimeField, DecimalField, Field, Model
from django.utils.text import capfirst

from calls.access import shown
from calls.choices import EventKind, Flag
from calls.models import Conversation, Leg
from calls.templatetags import words
from calls.weblinks import shortened
from webhooks.models import RebuildChange

_NUMBERS = {"customer_number", "from_number", "to_number"}
_NOTHING = (None, "", [], {})


class Row(NamedTuple):
    """One field of a call in words; ``part`` names the leg or event, and is empty for the call itself."""

    part: str
    field: str
    before: str
    after: str


def rows_of(change: RebuildChange) -> list[Row]:
    """Return what differs, without the fields of a new call that say nothing."""
    parts = {part for part, *_ in change.fields if part}
    return [
        Row(_part(part, parts), *_in_words(part, field, before, after))
        for part, field, before, after in change.fields
        if before not in _NOTHING or after not in _NOTHING
    ]


def _part(part: str, parts: set[str]) -> str:
    """Return “A-leg” for “leg a 38cd…”; the provider's id of the leg is added only where two have the same label."""
    kind, _, rest = part.partition(" ")
    if kind == "leg":
        label, _, external_id = rest.partition(" ")
        alike = [other for other in parts if other.startswith(f"leg {label} ")]
        return f"{label.upper()}-leg {external_id}" if len(alike) > 1 else f"{label.upper()}-leg"
    if kind == "event":
        label = rest.partition(" on ")[2].partition(" ")[0]
        return f"{label.upper()}-leg"
    return ""


def _in_words(part: str, name: str, before: object, after: object) -> tuple[str, str, str]:
    if not name:
        word = part.split()[1]
        return f"Event “{EventKind(word).label if word in EventKind else word}”", _moment(before), _moment(after)
    model: type[Model] = Leg if part else Conversation
    try:
        field = model._meta.get_field(name)
    except FieldDoesNotExist:  # it was changed before the field was renamed
        return name, shown(shortened(str(before))), shown(shortened(str(after)))
    return capfirst(field.verbose_name), _value(field, before), _value(field, after)


def _value(field: Field, value: object) -> str:
    if value in _NOTHING:
        return words.EMPTY
    if isinstance(field, DateTimeField):
        return _moment(value)
    if isinstance(field, BooleanField):
        return "Yes" if value else "No"
    if isinstance(field, DecimalField):
        return words.money(Decimal(str(value)))
    if field.name.endswith("_seconds"):
        return words.clock(value)
    if field.name == "did":
        return words.did(value)
    if field.name in _NUMBERS:
        return words.phone(value)
    if field.name == "flags":
        return "; ".join(_flags(value))
    if isinstance(value, dict):
        return words.pretty(value)
    return shown(shortened(str(dict(field.flatchoices).get(value, value))))


def _flags(flags: Sequence[str]) -> list[str]:
    return [str(Flag(flag).label) if flag in Flag else flag for flag in flags]


def _moment(value: object) -> str:
    return words.moment(datetime.fromisoformat(str(value))) if value else words.EMPTY
