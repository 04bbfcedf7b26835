"""Recorded deliveries back into the inbox, from NDJSON in the shape in which the API gives a delivery."""

import base64
import binascii
import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Annotated, NamedTuple
from uuid import NAMESPACE_URL, UUID, uuid5

import msgspec
from django.utils import timezone

from calls.models import Account
from webhooks.errors import clean_text
from webhooks.inbox import METHODS, MOST_BYTES
from webhooks.models import Delivery
from webhooks.reader import EARLIEST

BATCH = 500
CLOCK_AHEAD = timedelta(minutes=5)
"""How far the clock of the machine that recorded may be ahead of ours."""


class BadLine(Exception):
    """A line that is no delivery of the account; the message says why."""


class Rejected(NamedTuple):
    """A line that was not imported. ``number`` counts from 1."""

    number: int
    line: bytes
    reason: str


@dataclass
class Imported:
    """What became of one batch of lines; blank lines are not counted."""

    size: int = 0
    """Bytes of the lines, blank ones included."""
    read: int = 0
    added: int = 0
    already: int = 0
    rejected: list[Rejected] = field(default_factory=list)


class _Line(msgspec.Struct):
    """The fields of a line that are used; all others, such as the status, are worked out again."""

    method: str
    received_at: Annotated[datetime, msgspec.Meta(tz=True)]
    content_type: str = ""
    query: str = ""
    body: str = ""
    body_encoding: str = "text"
    id: UUID | None = None
    provider: str = ""


_decoder = msgspec.json.Decoder(_Line)


def import_deliveries(account: Account, lines: Iterable[bytes]) -> Iterator[Imported]:
    """Put one delivery a line into the inbox of ``account`` as pending, and yield what became of each batch.

    The time of arrival is kept. A line with an ``id`` is added once, whichever file it comes in; one without gets an id
    made of account, line number and content, so that a second run over the same file goes on where the first stopped.
    """
    batch = Imported()
    fresh: dict[UUID, tuple[int, bytes, Delivery]] = {}
    for number, line in enumerate(lines, start=1):
        batch.size += len(line)
        content = line.removeprefix(b"\xef\xbb\xbf").strip() if number == 1 else line.strip()
        if not content:
            continue
        batch.read += 1
        try:
            delivery = _delivery(account, number, content)
        except BadLine as problem:
            batch.rejected.append(Rejected(number, content, str(problem)))
            continue
        if delivery.pk in fresh:
            batch.already += 1
        else:
            fresh[delivery.pk] = number, content, delivery
        if len(fresh) == BATCH:
            yield _add(account, fresh, batch)
            batch, fresh = Imported(), {}
    yield _add(account, fresh, batch)


def _add(account: Account, fresh: dict[UUID, tuple[int, bytes, Delivery]], batch: Imported) -> Imported:
    owners = dict(Delivery.objects.filter(pk__in=list(fresh)).values_list("pk", "account_id"))
    for pk, owner in owners.items():
        number, line, _ = fresh.pop(pk)
        if owner == account.pk:
            batch.already += 1
        else:
            batch.rejected.append(Rejected(number, line, "id: a delivery of another account has this id"))
    # Another import of the same file may be under way.
    Delivery.objects.bulk_create([delivery for *_, delivery in fresh.values()], ignore_conflicts=True)
    batch.added += len(fresh)
    return batch


def _delivery(account: Account, number: int, content: bytes) -> Delivery:
    try:
        line = _decoder.decode(content)
    except msgspec.ValidationError as error:
        raise BadLine(str(error)) from None
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise BadLine(f"no JSON object: {error}") from None
    if line.method not in METHODS:
        raise BadLine(f"method: {line.method[:20]!r} is not one of {', '.join(METHODS)}")
    if not EARLIEST <= line.received_at <= timezone.now() + CLOCK_AHEAD:
        raise BadLine(f"received_at: {line.received_at.isoformat()} is not between {EARLIEST:%Y} and now")
    if line.provider and line.provider != account.provider:
        raise BadLine(f"provider: {line.provider[:40]!r}, but the account is one of {account.provider}")
    body = _body(line)
    query = line.query.encode()
    return Delivery(
        id=line.id or uuid5(NAMESPACE_URL, f"{account.slug} {number} {hashlib.sha256(content).hexdigest()}"),
        account=account,
        received_at=line.received_at,
        method=line.method,
        content_type=clean_text(line.content_type)[:255],
        query=query,
        body=body,
        size=len(body),
        digest=hashlib.sha256(body or query).hexdigest(),
    )


def _body(line: _Line) -> bytes:
    if line.body_encoding == "base64":
        try:
            body = base64.b64decode(line.body, validate=True)
        except (binascii.Error, ValueError) as error:
            raise BadLine(f"body: no base64: {error}") from None
    elif line.body_encoding == "text":
        body = line.body.encode()
    else:
        raise BadLine(f"body_encoding: {line.body_encoding[:20]!r} is neither text nor base64")
    if len(body) > MOST_BYTES:
        raise BadLine(f"body: {len(body)} bytes; {MOST_BYTES} are allowed")
    return body
