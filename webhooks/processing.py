"""From the inbox to the call log: claim a batch, understand each delivery, hand the records to ``calls.intake``.

Understanding is pure; writing is one transaction for each account of a batch, in which the deliveries are marked too,
so that a delivery is processed exactly once in effect. One that cannot be understood, or that breaks the writing, is
quarantined with its reason and stops nothing else.
"""

import logging
import traceback
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from django.db import InterfaceError, OperationalError, transaction
from django.db.models import F, Q
from django.utils import timezone

from calls.intake import Arrival, lock_account, take_in
from calls.models import Account
from calls.records import Record
from webhooks.decoding import decode
from webhooks.errors import DeliveryError, shorten
from webhooks.models import Delivery
from webhooks.providers import PROVIDERS

logger = logging.getLogger(__name__)

BATCH = 500
LEASE = timedelta(seconds=60)
"""How long a claimed delivery is left to its worker; one that was killed is made good by the next claim after it."""
ATTEMPTS = 5
"""After so many claims without an end (each killed its worker) a delivery is quarantined."""
SUSPECT = 2
"""From so many attempts on, a delivery is taken alone, so that it can harm only itself."""

Status = Delivery.Status
_NO_ERROR = {"error_class": "", "error_field": "", "error_value": "", "error_message": ""}


class Understood(NamedTuple):
    """What came of reading a delivery: records, an error, or both when only a part of it made sense."""

    delivery: Delivery
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
        understood = [understand(delivery) for delivery in batch]
        for account_id, group in _by_account(understood):
            counts += _settle_or_isolate(account_id, group)
            touched.add(account_id)
    return Drained(counts, touched)


def requeue(deliveries: Iterable[UUID]) -> int:
    """Put deliveries back to pending, to be read again; return how many. Repeats stay what they are."""
    again = Delivery.objects.filter(pk__in=list(deliveries)).exclude(status__in=[Status.REPEAT, Status.PENDING])
    return again.exclude(error_class="TooLarge").update(status=Status.PENDING, attempts=0, lease_until=None)


def understand(delivery: Delivery) -> Understood:
    """Return what ``delivery`` says, or why it cannot be understood. Touches no table."""
    records: list[Record] = []
    error: DeliveryError | None = None
    account = delivery.account
    try:
        payloads = decode(body=bytes(delivery.body), query=bytes(delivery.query), content_type=delivery.content_type)
        for payload in payloads:
            try:
                if isinstance(payload, DeliveryError):
                    raise payload
                parse = PROVIDERS[account.provider].parse
                records += parse(payload, received_at=delivery.received_at, account=account.facts)
            except DeliveryError as problem:
                records += problem.records
                error = error or problem
    except DeliveryError as problem:
        error = problem
    except Exception:  # a bug of an adapter must not stop the next delivery
        logger.exception("delivery %s could not be read", delivery.pk)
        error = _crash()
    return Understood(delivery, records, error)


def settle(account_id: int, understood: Sequence[Understood]) -> tuple[Counter[str], set[UUID]]:
    """Write what the deliveries of one account say, and mark them; return counts by status and conversations touched.

    Deliveries that another worker finished meanwhile are passed over. Call it inside a transaction.
    """
    account = lock_account(account_id)
    ids = [item.delivery.pk for item in understood]
    unfinished = set(Delivery.objects.filter(pk__in=ids, status=Status.PENDING).values_list("pk", flat=True))
    mine = [item for item in understood if item.delivery.pk in unfinished]
    return write(account, mine)


def write(account: Account, understood: Sequence[Understood]) -> tuple[Counter[str], set[UUID]]:
    """As ``settle``, for deliveries in whatever status; the caller holds the account's lock."""
    firsts = _firsts(account, [item.delivery for item in understood])
    fresh = [item for item in understood if firsts[item.delivery.pk] == item.delivery.pk]
    late = {repeat for repeat, first in firsts.items() if repeat != first}
    conversations = take_in(
        account,
        [Arrival(item.delivery.pk, item.delivery.received_at, item.records) for item in fresh],
        withdrawn=late,
    )
    now = timezone.now()
    _mark(fresh, now)
    counts = Counter(str(_status(item)) for item in fresh)
    counts["repeats"] = _mark_repeats(firsts, now)
    return counts, conversations


def _claim() -> list[Delivery]:
    """Lease the oldest pending deliveries to this worker. The attempt is committed before the work begins."""
    now = timezone.now()
    free = Q(lease_until=None) | Q(lease_until__lt=now)
    with transaction.atomic():
        Delivery.objects.filter(free, status=Status.PENDING, attempts__gte=ATTEMPTS).update(
            status=Status.QUARANTINED,
            processed_at=now,
            error_class="Crash",
            error_message=f"Its processing ended {ATTEMPTS} times without a result: the worker was killed or hung.",
        )
        pending = Delivery.objects.filter(free, status=Status.PENDING).order_by("received_at", "id")
        batch = list(pending.select_for_update(skip_locked=True)[:BATCH])
        if any(delivery.attempts >= SUSPECT for delivery in batch):
            suspects = [delivery for delivery in batch if delivery.attempts >= SUSPECT]
            batch = [delivery for delivery in batch if delivery.attempts < SUSPECT] or suspects[:1]
        Delivery.objects.filter(pk__in=[delivery.pk for delivery in batch]).update(
            attempts=F("attempts") + 1, lease_until=now + LEASE
        )
    accounts = Account.objects.in_bulk({delivery.account_id for delivery in batch})
    for delivery in batch:
        delivery.account = accounts[delivery.account_id]
    return batch


def _by_account(understood: Sequence[Understood]) -> list[tuple[int, list[Understood]]]:
    groups: dict[int, list[Understood]] = defaultdict(list)
    for item in understood:
        groups[item.delivery.account_id].append(item)
    return sorted(groups.items())


def _settle_or_isolate(account_id: int, understood: Sequence[Understood]) -> Counter[str]:
    """Settle the deliveries; halve a group that fails until the culprit is alone, and quarantine that one."""
    try:
        with transaction.atomic():
            return settle(account_id, understood)[0]
    except (OperationalError, InterfaceError):
        raise
    except Exception:  # whatever it is, the neighbours must go on
        if len(understood) > 1:
            middle = len(understood) // 2
            halves = understood[:middle], understood[middle:]
            return sum((_settle_or_isolate(account_id, half) for half in halves), Counter())
        logger.exception("delivery %s could not be written", understood[0].delivery.pk)
        with transaction.atomic():
            return settle(account_id, [Understood(understood[0].delivery, [], _crash())])[0]


def _firsts(account: Account, deliveries: Sequence[Delivery]) -> dict[UUID, UUID]:
    """Return, for each delivery and for those already there with the same bytes, the id of the first to arrive."""
    same: dict[tuple[str, bytes], list[tuple]] = defaultdict(list)
    rows = Delivery.objects.filter(account=account, digest__in={delivery.digest for delivery in deliveries})
    for pk, digest, query, received_at in rows.values_list("pk", "digest", "query", "received_at"):
        same[digest, bytes(query)].append((received_at, pk))
    wanted = {(delivery.digest, bytes(delivery.query)) for delivery in deliveries}
    return {pk: min(same[key])[1] for key in wanted for _, pk in same[key]}


def _status(item: Understood) -> Delivery.Status:
    if item.error:
        return Status.QUARANTINED
    return Status.PROCESSED if item.records else Status.IGNORED


def _mark(understood: Sequence[Understood], now: datetime) -> None:
    """Write what became of the deliveries: one statement for all that are well, one for each that is not."""
    for status in (Status.PROCESSED, Status.IGNORED):
        well = [item.delivery.pk for item in understood if _status(item) == status]
        Delivery.objects.filter(pk__in=well).update(status=status, processed_at=now, lease_until=None, **_NO_ERROR)
    for delivery, _, error in understood:
        if error:
            Delivery.objects.filter(pk=delivery.pk).update(
                status=Status.QUARANTINED,
                processed_at=now,
                lease_until=None,
                error_class=type(error).__name__,
                error_field=shorten(error.field),
                error_value=error.value,
                error_message=error.message,
            )


def _mark_repeats(firsts: dict[UUID, UUID], now: datetime) -> int:
    """Mark what came again and count it on the first; return how many were not marked yet.

    The count on the first is worked out, never added to.
    """
    marked = 0
    repeats: dict[UUID, list[UUID]] = defaultdict(list)
    for pk, first in firsts.items():
        if pk != first:
            repeats[first].append(pk)
    for first, copies in repeats.items():
        unmarked = Delivery.objects.filter(pk__in=copies).exclude(status=Status.REPEAT, repeat_of=first)
        marked += unmarked.update(
            status=Status.REPEAT, repeat_of=first, repeats=0, processed_at=now, lease_until=None, **_NO_ERROR
        )
        Delivery.objects.filter(pk=first).update(repeats=len(copies))
    return marked


def _crash() -> Crash:
    return Crash(shorten(traceback.format_exc(), 4000))
