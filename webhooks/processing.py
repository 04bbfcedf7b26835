"""From the inbox to the call log: claim a batch, understand each delivery, hand the records to ``calls.intake``.

Understanding is pure; writing is one transaction for each account of a batch, in which the deliveries are marked too,
so that a delivery is processed exactly once in effect. One that cannot be understood, or that breaks the writing, is
quarantined with its reason and stops nothing else.
"""

import gc
import logging
import time
import traceback
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from itertools import accumulate, groupby
from operator import attrgetter
from typing import NamedTuple
from urllib.parse import parse_qsl
from uuid import UUID

from django.db import InterfaceError, OperationalError, transaction
from django.db.models import F, Q
from django.utils import timezone

from calls import bulk
from calls.intake import Arrival, lock_account, take_in
from calls.models import Account
from calls.records import Record
from webhooks import drift
from webhooks.decoding import Payload, decode
from webhooks.errors import DeliveryError, shorten
from webhooks.models import Delivery
from webhooks.providers import PROVIDERS
from webhooks.telling import Quarantined, tell_of_quarantined
from webhooks.time_limit import TimeLimit, TooSlow

logger = logging.getLogger(__name__)

BATCH = 2000
BATCH_BYTES = 16 * 2**20
"""Bodies that are held in memory at once, unless one alone is larger."""
LEASE = timedelta(seconds=15)
"""How long a claimed delivery is left to its worker; one that was killed is made good by the next claim after it.

One that is only slow loses nothing: whoever comes second finds the deliveries marked.
"""
GROUPS = (BATCH, 50, 1, 1)
"""How many deliveries are claimed together at their first attempt, their second and so on.

One that kills its worker, or its database session, is soon alone, so that it can harm only itself.
"""
ATTEMPTS = len(GROUPS)
"""After so many claims without an end a delivery is quarantined."""
CUT_OFF_TOLD_FOR = timedelta(days=1)
"""How old a delivery that the door cut off may be when subscriptions are told of it."""
READ_SECONDS = 5.0
"""How long reading one delivery may take."""

Status = Delivery.Status


class Claimed(NamedTuple):
    """What is needed of a delivery that is leased to this worker; an instance of the model costs ten times as much."""

    pk: UUID
    account_id: int
    received_at: datetime
    method: str
    content_type: str
    query: bytes
    body: bytes
    digest: str
    processed_at: datetime | None
    account: Account
    lease_until: datetime


class Understood(NamedTuple):
    """What came of reading a delivery: records, an error, or both when only a part of it made sense."""

    delivery: Delivery | Claimed
    records: list[Record]
    error: DeliveryError | None


class Crash(DeliveryError):
    """Our own fault: reading or writing the delivery raised what it should not, or killed its process."""


class Drained(NamedTuple):
    """How many deliveries ended in which status, and the accounts they were for."""

    counts: Counter[str]
    account_ids: set[int]


def drain(budget: timedelta | None = None) -> Drained:
    """Process what is pending, all of it or for about as long as ``budget``.

    Raises ``OperationalError`` when the database is away; what was claimed is taken again after its lease.
    """
    counts: Counter[str] = Counter()
    touched: set[int] = set()
    deadline = timezone.now() + budget if budget else None
    while (deadline is None or timezone.now() < deadline) and (batch := _claim()):
        until = time.monotonic() + LEASE.total_seconds() / 2
        for account_id, group in _by_account(batch):
            with _without_collector():
                in_time, understood = _understand_in_time(group, until)
                if in_time:
                    counts += _settle_or_isolate(account_id, in_time, understood)
                    touched.add(account_id)
    return Drained(counts, touched)


def requeue(deliveries: Iterable[UUID]) -> int:
    """Put deliveries back to pending, to be read again; return how many. Repeats stay what they are."""
    again = Delivery.objects.filter(pk__in=list(deliveries)).exclude(status__in=[Status.REPEAT, Status.PENDING])
    return again.exclude(error_class="TooLarge").update(status=Status.PENDING, attempts=0, lease_until=None)


def understand(delivery: Delivery | Claimed) -> Understood:
    """Return what ``delivery`` says, or why it cannot be understood. Touches no table."""
    records: list[Record] = []
    error: DeliveryError | None = None
    try:
        with TimeLimit(READ_SECONDS):
            body, query = bytes(delivery.body), bytes(delivery.query)
            for payload in decode(body=body, query=query, content_type=delivery.content_type):
                try:
                    if isinstance(payload, DeliveryError):
                        raise payload
                    records += _parse(delivery, payload)
                except TooSlow:
                    raise
                except DeliveryError as problem:
                    records += problem.records
                    error = error or problem
    except DeliveryError as problem:
        error = problem
    except Exception:  # a bug of an adapter must not stop the next delivery
        logger.exception("delivery %s could not be read", delivery.pk)
        error = _crash()
    return Understood(delivery, records, error)


def _parse(delivery: Delivery | Claimed, payload: Payload) -> list[Record]:
    provider, facts = PROVIDERS[delivery.account.provider], delivery.account.facts
    if delivery.method == Delivery.PULL and provider.pull:
        asked = dict(parse_qsl(bytes(delivery.query).decode("utf-8", "replace")))
        return provider.pull.parse(payload, asked=asked, received_at=delivery.received_at, account=facts)
    return provider.parse(payload, received_at=delivery.received_at, account=facts)


def settle(
    account_id: int, deliveries: Sequence[Claimed], understood: Mapping[UUID, Understood]
) -> tuple[Counter[str], set[UUID]]:
    """Write what the deliveries of one account say, and mark them; return counts by status and conversations touched.

    Deliveries that another worker finished meanwhile are passed over. Call it inside a transaction.
    """
    account = lock_account(account_id)
    copies = _copies(account_id, deliveries)
    pending = {copy.pk for same in copies for copy in same if copy.status == Status.PENDING}
    firsts = {same[0].pk for same in copies} & pending
    fresh = [delivery for delivery in deliveries if delivery.pk in firsts]
    drift.note(account, [delivery for delivery in fresh if delivery.processed_at is None])
    # One that was taken for a repeat before the lock has not been read: it is now, should its first be gone.
    return _write(account, [understood.get(delivery.pk) or understand(delivery) for delivery in fresh], copies)


def write(account: Account, understood: Sequence[Understood]) -> tuple[Counter[str], set[UUID]]:
    """As ``settle``, for deliveries in whatever status; the caller holds the account's lock."""
    copies = _copies(account.pk, [item.delivery for item in understood])
    firsts = {same[0].pk for same in copies}
    return _write(account, [item for item in understood if item.delivery.pk in firsts], copies)


@contextmanager
def _without_collector() -> Iterator[None]:
    """Look for no garbage in cycles: all of a batch lives until its end, and looking took a tenth of the time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _claim() -> list[Claimed]:
    """Lease the oldest pending deliveries to this worker. The attempt is committed before the work begins."""
    now = timezone.now()
    lease_until = now + LEASE
    free = Delivery.objects.filter(Q(lease_until=None) | Q(lease_until__lt=now), status=Status.PENDING)
    oldest = free.order_by("received_at", "id").select_for_update(skip_locked=True)
    with transaction.atomic():
        while rows := list(oldest.values_list("pk", "attempts", "size")[:BATCH]):
            if spent := [pk for pk, attempts, _ in rows if attempts >= ATTEMPTS]:
                _give_up(spent, now)
            elif ids := _together(rows):
                break
        else:
            return []
        claimed = Delivery.objects.filter(pk__among=ids).order_by()
        claimed.update(attempts=F("attempts") + 1, lease_until=lease_until)
        columns = claimed.values_list(*Claimed._fields[:-2])
        by_pk = {row[0]: row for row in columns}
    accounts = Account.objects.in_bulk({row[1] for row in by_pk.values()})
    return [Claimed(*by_pk[pk], accounts[by_pk[pk][1]], lease_until) for pk in ids]


def _together(rows: Sequence[tuple[UUID, int, int]]) -> list[UUID]:
    """Return the ids of those to be claimed at once: all at the same attempt, and not too many bytes."""
    fewest = min(attempts for _, attempts, _ in rows)
    alike = [(pk, size) for pk, attempts, size in rows if attempts == fewest][: GROUPS[fewest]]
    sums = list(accumulate(size for _, size in alike))
    return [pk for pk, _ in alike[: max(1, bisect_right(sums, BATCH_BYTES))]]


def _give_up(spent: Sequence[UUID], now: datetime) -> None:
    error = Crash(f"Its processing ended {ATTEMPTS} times without a result: the worker was killed or hung.")
    rows = Delivery.objects.filter(pk__among=spent)
    fresh = list(rows.filter(processed_at=None).values_list("pk", flat=True))
    rows.update(status=Status.QUARANTINED, processed_at=now, **dict(zip(_ERROR, _error(error), strict=True)))
    _tell_of_quarantined(fresh)


def tell_of_cut_off(now: datetime) -> None:
    """Have subscriptions told of deliveries that were put into quarantine at the door, for want of room.

    The door has no time for it. That it was done is noted as the attempt that these deliveries are not worth otherwise.
    """
    since = now - CUT_OFF_TOLD_FOR
    at_door = Delivery.objects.filter(status=Status.QUARANTINED, error_class="TooLarge", received_at__gt=since)
    with transaction.atomic():
        untold = at_door.filter(attempts=0).select_for_update(skip_locked=True)
        if ids := list(untold.values_list("pk", flat=True)):
            Delivery.objects.filter(pk__among=ids).update(attempts=1)
            _tell_of_quarantined(ids)


def _tell_of_quarantined(ids: Sequence[UUID]) -> None:
    rows = Delivery.objects.filter(pk__among=ids).order_by("account", "received_at").select_related("account")
    for account, of_account in groupby(rows.defer("body", "query"), attrgetter("account")):
        columns = ("pk", "received_at", *_ERROR)
        tell_of_quarantined(account, [Quarantined(*attrgetter(*columns)(one)) for one in of_account])


def _by_account(batch: Sequence[Claimed]) -> list[tuple[int, list[Claimed]]]:
    groups: dict[int, list[Claimed]] = defaultdict(list)
    for delivery in batch:
        groups[delivery.account_id].append(delivery)
    return sorted(groups.items())


def _understand_in_time(group: Sequence[Claimed], until: float) -> tuple[Sequence[Claimed], dict[UUID, Understood]]:
    """Read as many as the lease allows; the others go back, for it is not they that are slow.

    Returns those that are not given back, and what they say. What is known to be a repeat is not read.
    """
    repeats = {copy.pk for same in _copies(group[0].account_id, group) for copy in same[1:]}
    understood = {}
    for number, delivery in enumerate(group):
        if time.monotonic() > until:
            _give_back(group[number:])
            return group[:number], understood
        if delivery.pk not in repeats:
            understood[delivery.pk] = understand(delivery)
    return group, understood


def _give_back(batch: Sequence[Claimed]) -> None:
    """Undo the claim of those that are still pending by it: the attempt was not theirs."""
    mine = Delivery.objects.filter(pk__among=[delivery.pk for delivery in batch], lease_until=batch[0].lease_until)
    with transaction.atomic():
        # Those that another worker is just marking as repeats are not waited for: it may wait for one of ours.
        free = list(mine.filter(status=Status.PENDING).select_for_update(skip_locked=True).values_list("pk", flat=True))
        Delivery.objects.filter(pk__among=free).update(attempts=F("attempts") - 1, lease_until=None)


def _settle_or_isolate(
    account_id: int, deliveries: Sequence[Claimed], understood: Mapping[UUID, Understood]
) -> Counter[str]:
    """Settle the deliveries; halve a group that fails until the culprit is alone, and quarantine that one."""
    try:
        with transaction.atomic():
            return settle(account_id, deliveries, understood)[0]
    except (OperationalError, InterfaceError):
        raise
    except Exception as error:  # whatever it is, the neighbours must go on
        if len(deliveries) > 1:
            name = type(error).__name__
            logger.warning("%d deliveries could not be written together, so by halves: %s", len(deliveries), name)
            middle = len(deliveries) // 2
            halves = deliveries[:middle], deliveries[middle:]
            return sum((_settle_or_isolate(account_id, half, understood) for half in halves), Counter())
        [alone] = deliveries
        logger.exception("delivery %s could not be written", alone.pk)
        with transaction.atomic():
            return settle(account_id, deliveries, {alone.pk: Understood(alone, [], _crash())})[0]


class _Copy(NamedTuple):
    """A delivery as it stands, for comparison with the others of the same bytes. Sorts by arrival."""

    received_at: datetime
    pk: UUID
    status: str
    repeat_of: UUID | None
    repeats: int


def _copies(account_id: int, deliveries: Sequence[Delivery | Claimed]) -> list[list[_Copy]]:
    """Return each of the deliveries with all others of the account that have the same bytes, the first first."""
    digests = {delivery.digest for delivery in deliveries}
    rows = Delivery.objects.filter(account=account_id, digest__among=digests).order_by()
    same: dict[tuple[str, bytes], list[_Copy]] = defaultdict(list)
    for digest, query, *copy in rows.values_list("digest", "query", *_Copy._fields):
        same[digest, bytes(query)].append(_Copy(*copy))
    return [sorted(same[key]) for key in {(delivery.digest, bytes(delivery.query)) for delivery in deliveries}]


def _write(
    account: Account, fresh: Sequence[Understood], copies: Sequence[Sequence[_Copy]]
) -> tuple[Counter[str], set[UUID]]:
    """Write what the fresh say, and mark them, their repeats, and whatever else has no right mark yet."""
    moved = [
        (copy.pk, same[0].pk)
        for same in copies
        for copy in same[1:]
        if (copy.status, copy.repeat_of) != (Status.REPEAT, same[0].pk)
    ]
    conversations = take_in(
        account,
        [Arrival(item.delivery.pk, item.delivery.received_at, item.records) for item in fresh],
        withdrawn=[pk for pk, _ in moved],
    )
    # How often one came again is worked out, never added to.
    repeats = {same[0].pk: len(same) - 1 for same in copies}
    now = timezone.now()
    marks = [
        (item.delivery.pk, str(_status(item)), now, None, None, repeats[item.delivery.pk], *_error(item.error))
        for item in fresh
    ]
    marks += [(pk, str(Status.REPEAT), now, None, first, 0, *_error(None)) for pk, first in moved]
    bulk.update(Delivery, _MARK, marks)
    # One that is read again is no news.
    tell_of_quarantined(
        account,
        [
            Quarantined(item.delivery.pk, item.delivery.received_at, *_error(item.error))
            for item in fresh
            if item.error and item.delivery.processed_at is None
        ],
    )
    marked = {mark[0] for mark in marks}
    firsts = [same[0] for same in copies if same[0].pk not in marked]
    recounted = [(first.pk, repeats[first.pk]) for first in firsts if first.repeats != repeats[first.pk]]
    bulk.update(Delivery, ["repeats"], recounted)
    counts = Counter(str(_status(item)) for item in fresh)
    counts["repeats"] = len(moved)
    return counts, conversations


_ERROR = ["error_class", "error_field", "error_value", "error_message"]
_MARK = ["status", "processed_at", "lease_until", "repeat_of_id", "repeats", *_ERROR]


def _status(item: Understood) -> Delivery.Status:
    if item.error:
        return Status.QUARANTINED
    return Status.PROCESSED if item.records else Status.IGNORED


def _error(error: DeliveryError | None) -> tuple[str, str, str, str]:
    if error is None:
        return "", "", "", ""
    return type(error).__name__, shorten(error.field), error.value, error.message


def _crash() -> Crash:
    return Crash(shorten(traceback.format_exc(), 4000))
