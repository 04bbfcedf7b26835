"""The feed of changes: each conversation that was created, updated, corrected, merged or erased, and none missed.

Every change is written in the transaction that makes it, under the lock of the account's row
(``calls.intake.lock_account``). A change takes its id under that lock and is committed before the lock is given up: so
the ids of one account are in the order of its commits, and whoever has read up to one of them has all that came
before. That does not hold between accounts, where a transaction that took its id early may commit late, so a cursor
keeps a position for each account. It needs no look at transactions that are still going on, which would have one slow
transaction hold up everybody, and it outlives a dump and a restore.

After ``KEPT`` a conversation is told of by its newest change alone (``sweep``), so that the feed does not grow without
end and a cursor never expires.
"""

import base64
import binascii
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID
from zlib import crc32

from django.db import connection
from django.db.models import Exists, Max, OuterRef, Subquery
from django.db.models.functions import Coalesce
from django.utils import timezone

from calls import bulk
from calls.models import Account, Change

KEPT = timedelta(days=30)
"""How long every change is kept. Of older ones, the newest of each conversation stays for good."""
SWEPT_AT_ONCE = 20_000
"""Ids that one statement of ``sweep`` goes through."""
LONGEST_CURSOR = 64 * 1024
"""Characters of a cursor."""

_COLUMNS = ["account_id", "conversation", "kind", "steps", "into", "changed_at"]
_LARGEST = 2**63 - 1

# The next of each account by the index alone, as many as are wanted in all; and of these the first.
_NEXT = "SELECT id FROM calls_change WHERE account_id = place.account AND id > place.after ORDER BY id LIMIT %s"
_PLACES = {
    "postgresql": f"""
        SELECT next.id FROM unnest(%s::bigint[], %s::bigint[]) AS place(account, after)
        CROSS JOIN LATERAL ({_NEXT}) AS next""",  # noqa: S608 - no input
    "sqlite": f"""
        SELECT next.id FROM (
            SELECT accounts.value AS account, positions.value AS after
            FROM json_each(%s) AS accounts JOIN json_each(%s) AS positions USING (key)
        ) AS place JOIN calls_change AS next ON next.id IN ({_NEXT})""",  # noqa: S608 - no input
}
_FEED = "SELECT * FROM calls_change WHERE id IN ({} ORDER BY 1 LIMIT %s) ORDER BY id"


class BadCursor(ValueError):
    """A text that is no cursor of ours, or a part of one."""


@dataclass(frozen=True)
class Cursor:
    """How far somebody has read: the id of the last change of each account. An account it does not name is unread.

    It is a position and nothing else: what is read from it is looked at for visibility like everything.
    """

    positions: Mapping[int, int] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> "Cursor":
        """Return the cursor that ``str`` wrote. Raises ``BadCursor``."""
        if len(text) > LONGEST_CURSOR or not text.isascii():
            raise BadCursor
        try:
            data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        except binascii.Error as error:
            raise BadCursor from error
        if len(data) < 5 or data[:4] != _check(data[4:]):
            raise BadCursor
        newest, *rest = _numbers(data[4:])
        if len(rest) % 2:
            raise BadCursor
        account, positions = 0, {}
        for step, lag in zip(rest[::2], rest[1::2], strict=True):
            account += step
            positions[account] = newest - lag
        if newest > _LARGEST or account > _LARGEST or min(positions.values(), default=0) < 0:
            raise BadCursor
        return cls(positions)

    def __str__(self) -> str:
        """Return it as text of letters, digits, - and _, of some 6 characters for each account."""
        newest = max(self.positions.values(), default=0)
        numbers, last = [newest], 0
        for account, position in sorted(self.positions.items()):
            numbers += [account - last, newest - position]
            last = account
        data = _varints(numbers)
        return base64.urlsafe_b64encode(_check(data) + data).rstrip(b"=").decode()

    def after(self, changes: Iterable[Change]) -> "Cursor":
        """Return the cursor of somebody who has read these as well, in the order of ``read``."""
        return Cursor({**self.positions, **{change.account_id: change.pk for change in changes}})


def read(accounts: Collection[int], cursor: Cursor, limit: int) -> list[Change]:
    """Return the next changes of these accounts, at most ``limit``, oldest first.

    Within an account they are in the order of their commits; between accounts nearly.
    """
    if not accounts:
        return []
    pks = sorted(accounts)
    places = [cursor.positions.get(pk, 0) for pk in pks]
    arrays = [pks, places] if connection.vendor == "postgresql" else [str(pks), str(places)]
    return list(Change.objects.raw(_FEED.format(_PLACES[connection.vendor]), [*arrays, limit, limit]))


def now(accounts: Collection[int]) -> Cursor:
    """Return the cursor of somebody who has read all there is of these accounts."""
    of_account = Change.objects.filter(account=OuterRef("pk")).order_by("-pk").values("pk")[:1]
    newest = Account.objects.filter(pk__in=accounts).annotate(newest=Coalesce(Subquery(of_account), 0))
    return Cursor(dict(newest.values_list("pk", "newest")))


def edited(conversation_ids: Collection[UUID], account_id: int) -> None:
    """Write that staff or programs changed what is shown of these conversations of the account: tags, notes, outcome.

    Call it inside a transaction that holds ``intake.lock_account``.
    """
    write(account_id, [(pk, Change.Kind.UPDATED, "", None) for pk in conversation_ids])


def write(account_id: int, changes: Iterable[tuple[UUID, Change.Kind, str, UUID | None]]) -> None:
    """Write changes of an account's conversations: conversation, kind, steps, into.

    Call it inside a transaction that holds ``intake.lock_account``.
    """
    at = timezone.now()
    rows = [(account_id, pk, kind.value, steps, into, at) for pk, kind, steps, into in changes]
    bulk.insert(Change, _COLUMNS, rows)


def sweep(at: datetime) -> int:
    """Delete changes that were overtaken, longer than ``KEPT`` before ``at``, by a newer one; return how many.

    So whoever lags by less is told of every change, and whoever reads from the start of every conversation.
    """
    swept, past = 0, Change.objects.filter(changed_at__lt=at - KEPT)
    newest = past.aggregate(Max("pk"))["pk__max"] or 0
    first = Change.objects.order_by("pk").values_list("pk", flat=True).first() or 0
    for low in range(first, newest + 1, SWEPT_AT_ONCE):
        newer = past.filter(conversation=OuterRef("conversation"), pk__gt=OuterRef("pk"))
        rows = past.filter(Exists(newer), pk__gte=low, pk__lt=low + SWEPT_AT_ONCE)
        swept += rows.delete()[0]
    return swept


def _check(data: bytes) -> bytes:
    """Return what tells a cursor from one that lost its end on the way."""
    return crc32(data).to_bytes(4)


def _varints(numbers: Iterable[int]) -> bytes:
    data = bytearray()
    for number in numbers:
        while number > 127:
            data.append(number & 127 | 128)
            number >>= 7
        data.append(number)
    return bytes(data)


def _numbers(data: bytes) -> list[int]:
    numbers, number, shift = [], 0, 0
    for byte in data:
        number |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            numbers.append(number)
            number = shift = 0
        if shift > 63:
            raise BadCursor
    if shift:
        raise BadCursor
    return numbers
