"""Recorded deliveries back into the inbox, from NDJSON in the shape in which the API gives a delivery."""

import base64
import binascii
import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Annotated, BinaryIO, NamedTuple
from uuid import NAMESPACE_URL, UUID, uuid5

import msgspec
from django.utils import timezone

from calls.models import Account
from webhooks.errors import clean_text
from webhooks.inbox import METHODS, MOST_BYTES
from webhooks.models import Delivery
from webhooks.reader import EARLIEST

KNOWN_METHODS = (*METHODS, Delivery.PULL)
BATCH = 500
BATCH_BYTES = 2 * MOST_BYTES
"""A batch ends early when its lines have this many bytes, so that memory stays flat."""
LONGEST_LINE = 8 * MOST_BYTES
"""A longer line is no delivery: in JSON no byte of a body takes more than six."""
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
    others: Counter[str] = field(default_factory=Counter)
    """Lines that name another account, by its slug; they are left out."""
    rejected: list[Rejected] = field(default_factory=list)


class _Error(msgspec.Struct):
    """Why a delivery was in quarantine; only one whose body was cut off at the door is still so."""

    class_: str = msgspec.field(default="", name="class")
    field: str = ""
    value: str = ""
    message: str = ""


class _Line(msgspec.Struct):
    """The fields of a line that are used; all others, such as the status, are worked out again."""

    method: str
    received_at: Annotated[datetime, msgspec.Meta(tz=True)]
    content_type: str = ""
    query: str = ""
    query_encoding: str = "text"
    body: str = ""
    body_encoding: str = "text"
    id: UUID | None = None
    account: str = ""
    provider: str = ""
    size: int = 0
    digest: str = ""
    error: _Error | None = None


_decoder = msgspec.json.Decoder(_Line)


def read_lines(file: BinaryIO) -> Iterator[bytes]:
    """Yield the lines of a file; of one that is longer than ``LONGEST_LINE`` only so much that its length shows."""
    while line := file.readline(LONGEST_LINE + 1):
        yield line
        while len(line) > LONGEST_LINE and not line.endswith(b"\n"):
            line = file.readline(LONGEST_LINE + 1)


def import_deliveries(account: Account, lines: Iterable[bytes], exported_from: str = "") -> Iterator[Imported]:
    """Put one delivery a line into the inbox of ``account`` as pending, and yield what became of each batch.

    Lines that name another account than ``exported_from`` (by default the slug of ``account``) are left out: an export
    may hold those of many. A line that names none is taken.
    The time of arrival is kept. A line with an ``id`` is added once, whichever file it comes in; one without gets an id
    made of account, line number and content, so that a second run over the same file goes on where the first stopped.
    """
    batch = Imported()
    fresh: dict[UUID, tuple[int, bytes, Delivery]] = {}
    for number, raw in enumerate(lines, start=1):
        content = raw.removeprefix(b"\xef\xbb\xbf").strip() if number == 1 else raw.strip()
        batch.size += len(raw)
        batch.read += bool(content)
        if content:
            try:
                line = _parsed(content)
                if line.account in {"", exported_from or account.slug}:
                    delivery = _delivery(account, number, content, line)
                    batch.already += delivery.pk in fresh
                    fresh.setdefault(delivery.pk, (number, content, delivery))
                else:
                    batch.others[clean_text(line.account)[:50]] += 1
            except BadLine as problem:
                batch.rejected.append(Rejected(number, content, str(problem)))
        if len(fresh) == BATCH or batch.size > BATCH_BYTES:
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


def _parsed(content: bytes) -> _Line:
    if len(content) > LONGEST_LINE:
        raise BadLine(f"longer than {LONGEST_LINE} bytes; only its beginning is kept apart")
    try:
        return _decoder.decode(content)
    except msgspec.ValidationError as error:
        raise BadLine(str(error)) from None
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise BadLine(f"no JSON object: {error}") from None


def _delivery(account: Account, number: int, content: bytes, line: _Line) -> Delivery:
    if line.method not in KNOWN_METHODS:
        raise BadLine(f"method: {line.method[:20]!r} is not one of {', '.join(KNOWN_METHODS)}")
    if not EARLIEST <= line.received_at <= timezone.now() + CLOCK_AHEAD:
        raise BadLine(f"received_at: {line.received_at.isoformat()} is not between {EARLIEST:%Y} and now")
    if line.provider and line.provider != account.provider:
        raise BadLine(f"provider: {line.provider[:40]!r}, but the account is one of {account.provider}")
    body = _bytes("body", line.body, line.body_encoding)
    if len(body) > MOST_BYTES:
        raise BadLine(f"body: {len(body)} bytes; {MOST_BYTES} are allowed")
    query = _bytes("query", line.query, line.query_encoding)
    delivery = Delivery(
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
    if line.error and line.error.class_ == "TooLarge":
        _mark_cut_off(delivery, line, line.error)
    return delivery


def _mark_cut_off(delivery: Delivery, line: _Line, error: _Error) -> None:
    """What the door cut off stays in quarantine, with the size and the digest of the whole."""
    if not re.fullmatch("[0-9a-f]{64}", line.digest) or not MOST_BYTES < line.size < 2**31:
        raise BadLine("size, digest: those of the whole body are needed where only its beginning was kept")
    delivery.status = Delivery.Status.QUARANTINED
    delivery.processed_at = delivery.received_at
    delivery.size, delivery.digest = line.size, line.digest
    delivery.error_class, delivery.error_field = error.class_, clean_text(error.field)[:255]
    delivery.error_value, delivery.error_message = clean_text(error.value)[:255], clean_text(error.message)


def _bytes(name: str, text: str, encoding: str) -> bytes:
    if encoding == "text":
        return text.encode()
    if encoding != "base64":
        raise BadLine(f"{name}_encoding: {encoding[:20]!r} is neither text nor base64")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadLine(f"{name}: no base64: {error}") from None
