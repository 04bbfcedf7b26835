"""What payloads look like, and what has changed in them.

Each field of a payload has a sort of value: its type, and for times and whole numbers the size, because seconds and
milliseconds differ by nothing else. Which sorts the payloads of a shape hold is kept (``PayloadField``) as deliveries
are processed for the first time; read again, by a rebuild or by staff, they count no second time, and repeats do not
count at all. So what is kept is a figure of what came, not something derived that a rebuild would have to give again.
"""

import logging
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime, timedelta
from decimal import Decimal
from operator import attrgetter
from typing import NamedTuple, Protocol
from uuid import UUID

from django.db import DatabaseError, transaction

from calls import bulk
from calls.models import Account
from webhooks.decoding import decode
from webhooks.errors import DeliveryError, clean_text
from webhooks.models import Delivery, PayloadField
from webhooks.providers import PROVIDERS

logger = logging.getLogger(__name__)

LOOKED_AT = 10
"""Of so many deliveries of a batch what they look like is noted: more are a backlog, and look alike."""
LARGEST = 64 * 1024
"""Bytes of the largest body that is looked at."""
MOST_ROWS = 5000
"""Of an account; beyond, nothing new is noted. Real ones have a few hundred."""
HISTORY = timedelta(days=1)
"""What came so long before the newest of its shape is history that was imported: it tells how long a field has been
known, and nothing of what is usual now."""

SETTLED = 100
"""Payloads of a shape after which its form counts as settled …"""
SETTLED_AFTER = timedelta(days=7)
"""… if they came over as long as this."""
GONE_AFTER = 20
"""Payloads without a field that nearly all held before, after which it is gone."""
CHANGED_AFTER = 10
"""Payloads that hold it in another sort and none in the old one, after which the sort has changed."""
NEARLY_ALL = 0.99
NEWS = timedelta(days=7)
"""For so long a change is news; then the new form is the usual one."""

_SMALL = 10_000
"""A length in whole seconds is nearly always below, one in milliseconds nearly always above."""
_NEAR = 5 * 365 * 86400
"""A number is a time when it lies within so many seconds of the delivery's arrival, in one of these units."""
_UNITS = ((1, "seconds"), (1000, "milliseconds"), (1_000_000, "microseconds"))
_WHOLE = re.compile(r"-?[0-9]{1,18}", re.ASCII)
_AMOUNT = re.compile(r"-?[0-9]{1,18}\.[0-9]+", re.ASCII)
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}\b", re.ASCII)
_WORD = re.compile(r"[a-z_ -]{1,30}", re.ASCII)

_Key = tuple[str, str, str]
"""Shape, name and sort."""


class _Look(NamedTuple):
    """What one payload looks like: each field that holds something, with the sort of it."""

    arrived: datetime
    delivery: UUID
    shape: str
    sorts: tuple[tuple[str, str], ...]


@dataclass(slots=True)
class _Seen:
    times: int
    first_number: int
    last_number: int
    first_seen_at: datetime
    last_seen_at: datetime
    first_delivery: UUID
    last_delivery: UUID


_SEEN = [field.name for field in fields(_Seen)]
_as_tuple = attrgetter(*_SEEN)


@dataclass(frozen=True, slots=True)
class Change:
    """What has changed in a field."""

    field: str
    words: str
    at: datetime
    """When the first delivery came that was otherwise, or the last that was as before."""
    shapes: tuple[str, ...]
    """In payloads of which shapes."""
    before: UUID | None
    """The last delivery that was as before."""
    after: UUID | None
    """One that is as they are now."""


# --- What is kept ----------------------------------------------------------------------------------------------------


class Arrived(Protocol):
    """What is needed of a delivery."""

    pk: UUID
    received_at: datetime
    method: str
    content_type: str
    query: bytes
    body: bytes


def note(account: Account, deliveries: Sequence[Arrived]) -> None:
    """Keep what the payloads of ``deliveries`` look like, each of which is processed for the first time.

    The caller holds the account's lock. Whatever goes wrong is logged: no delivery is held up by it.
    """
    step = -(-len(deliveries) // LOOKED_AT) or 1
    try:
        looks = [look for delivery in deliveries[::step] for look in _looks(account, delivery)]
        if looks:
            with transaction.atomic():
                _keep(account, looks)
    except (ArithmeticError, LookupError, TypeError, ValueError, DatabaseError):
        logger.exception("what deliveries of %s look like could not be kept", account.slug)


def shape_of(payload: Mapping[str, object], fields: Iterable[str]) -> str:
    """Return the words of ``fields`` that tell what kind of payload it is; what is no word is left out."""
    values = (payload.get(name) for name in fields)
    words = (value.strip().lower() for value in values if isinstance(value, str))
    return " ".join(filter(_WORD.fullmatch, words))[:100] or "other"


def sort_of(value: object, received_at: float) -> str:
    """Return the sort of a field's value, ``""`` for none; ``received_at`` is the arrival in seconds since 1970."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, int):
        return _size(value, received_at)
    if isinstance(value, Decimal):
        return "amount"
    if isinstance(value, str):
        text = value.strip()
        if not text:
            return ""
        if text[-1].isdigit():
            if _WHOLE.fullmatch(text):
                return _size(int(text), received_at) + ", as text"
            if _AMOUNT.fullmatch(text):
                return "amount, as text"
            if _DATE.match(text):
                return "date"
        return "text"
    return "list" if isinstance(value, list) else "object"


def _size(number: int, received_at: float) -> str:
    if number < _SMALL:
        return "number"
    for factor, unit in _UNITS:
        if abs(number / factor - received_at) < _NEAR:
            return f"time in {unit}"
    return "large number"


def _looks(account: Account, delivery: Arrived) -> Iterator[_Look]:
    if len(delivery.body) > LARGEST or delivery.method == Delivery.PULL or account.provider not in PROVIDERS:
        return
    shape_fields = PROVIDERS[account.provider].shape_fields
    arrived = delivery.received_at.timestamp()
    try:
        payloads = decode(body=bytes(delivery.body), query=bytes(delivery.query), content_type=delivery.content_type)
    except DeliveryError:
        return  # it is in quarantine, and says why
    for payload in payloads:
        if isinstance(payload, Mapping):
            sorts = {clean_text(name)[:100]: sort_of(value, arrived) for name, value in payload.items()}
            held = tuple((name, sort) for name, sort in sorts.items() if name and sort)
            yield _Look(delivery.received_at, delivery.pk, shape_of(payload, shape_fields), held)


def _keep(account: Account, looks: Sequence[_Look]) -> None:
    rows = PayloadField.objects.filter(account=account)
    room = MOST_ROWS - rows.count()
    kept: dict[_Key, _Seen] = {}
    pks: dict[_Key, int] = {}
    of_shapes = rows.filter(shape__in={look.shape for look in looks})
    for pk, shape, name, sort, *seen in of_shapes.values_list("pk", "shape", "name", "sort", *_SEEN):
        kept[shape, name, sort] = _Seen(*seen)
        pks[shape, name, sort] = pk
    changed: set[_Key] = set()
    for look in sorted(looks, key=lambda look: look.arrived):
        shape = kept.get((look.shape, "", ""))
        is_history = shape is not None and look.arrived < shape.last_seen_at - HISTORY
        number = shape.times + 1 if shape else 1
        for name, sort in (("", ""), *look.sorts):
            key = look.shape, name, sort
            seen = kept.get(key)
            if seen is None and (is_history or len(kept) - len(pks) >= room):
                continue
            if seen is None:
                seen = kept[key] = _Seen(0, number, number, look.arrived, look.arrived, look.delivery, look.delivery)
            changed.add(key)
            if look.arrived < seen.first_seen_at:
                seen.first_seen_at, seen.first_delivery = look.arrived, look.delivery
            if not is_history:
                seen.times += 1
                seen.last_number = number
            if look.arrived >= seen.last_seen_at:
                seen.last_seen_at, seen.last_delivery = look.arrived, look.delivery
    new = [(account.pk, *key, *_as_tuple(kept[key])) for key in changed if key not in pks]
    bulk.insert(PayloadField, ["account_id", "shape", "name", "sort", *_SEEN], new)
    bulk.update(PayloadField, _SEEN, [(pks[key], *_as_tuple(kept[key])) for key in changed if key in pks])


# --- What has changed ------------------------------------------------------------------------------------------------


def changes(account: Account, at: datetime) -> list[Change]:
    """Return what has changed in the payloads of ``account`` in the days before ``at``, by field.

    What was seen last is kept and nothing of the time between: of the past it is known when a field came first and,
    if it has not come again, when it came last.
    """
    shapes: dict[str, _Seen] = {}
    sorts_of: dict[tuple[str, str], dict[str, _Seen]] = defaultdict(dict)
    rows = PayloadField.objects.filter(account=account, first_seen_at__lte=at)
    for shape, name, sort, *seen in rows.values_list("shape", "name", "sort", *_SEEN):
        if name:
            sorts_of[shape, name][sort] = _Seen(*seen)
        else:
            shapes[shape] = _Seen(*seen)
    found: dict[tuple[str, str], list[Change]] = defaultdict(list)
    for (shape, name), sorts in sorted(sorts_of.items()):
        for change in filter(None, (_new(shape, name, shapes[shape], sorts), _gone(shape, name, shapes[shape], sorts))):
            if at - NEWS <= change.at <= at:
                found[name, change.words].append(change)
    return [
        replace(min(same, key=lambda change: change.at), shapes=tuple(change.shapes[0] for change in same))
        for same in found.values()
    ]


def _new(shape: str, name: str, whole: _Seen, sorts: Mapping[str, _Seen]) -> Change | None:
    first = min(sorts.values(), key=lambda seen: (seen.first_number, seen.first_seen_at))
    is_settled = first.first_seen_at - whole.first_seen_at >= SETTLED_AFTER and first.first_number > SETTLED
    if not is_settled:
        return None
    return Change(name, f"The field “{name}” is new.", first.first_seen_at, (shape,), None, first.first_delivery)


def _gone(shape: str, name: str, whole: _Seen, sorts: Mapping[str, _Seen]) -> Change | None:
    """Return that a field is gone, or the sort of value that nearly all payloads held in it."""
    for sort, old in sorts.items():
        span = old.last_number - old.first_number + 1
        is_settled = old.last_seen_at - old.first_seen_at >= SETTLED_AFTER and span >= SETTLED
        if not is_settled or old.times < NEARLY_ALL * span:
            continue
        now = {other: seen for other, seen in sorts.items() if seen.last_number > old.last_number}
        if not now and whole.times - old.last_number >= GONE_AFTER:
            return Change(name, f"The field “{name}” is gone.", old.last_seen_at, (shape,), old.last_delivery, None)
        usual, seen = max(now.items(), key=lambda item: item[1].last_number, default=("", old))
        if now and seen.last_number - old.last_number >= CHANGED_AFTER:
            words = f"The field “{name}” now holds another sort of value: {usual}, where it was {sort}."
            return Change(name, words, old.last_seen_at, (shape,), old.last_delivery, seen.last_delivery)
    return None
