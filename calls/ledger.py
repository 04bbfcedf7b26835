"""Money: balance readings in the order in which the provider booked them, and the gaps between them."""

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from itertools import pairwise

from django.db.models import Exists, F, OuterRef, Q, QuerySet

from calls import bulk
from calls.chain import WINDOW, Link, Reading, chain
from calls.choices import GapKind
from calls.models import Account, BalanceReading, Conversation, Leg

LONGEST_CALL = timedelta(days=1)
"""A call that began earlier before an unexplained charge is not looked for as its cause."""
NEARBY = timedelta(hours=1)
"""Changed readings closer together than this are settled in one go."""
REACH = 3 * WINDOW
"""How far round a change the chain is worked out again, at least."""

_READING = ["id", "occurred_at", "received_at", "balance", "charge"]
_PLACE = ["booked_at", "gap", "gap_kind", "gap_since"]


def current(account: Account) -> BalanceReading | None:
    """Return the account's newest reading by the provider's clock, or ``None``.

    Never the last to arrive: PIOPIY repeats a CDR for up to 30 minutes, and an old balance must not come back.
    """
    return BalanceReading.objects.filter(account=account).first()


def suspects(reading: BalanceReading) -> QuerySet[Conversation]:
    """Return the calls that may be what an unexplained charge was for: seen live in its interval, never reported."""
    reported = Leg.objects.filter(conversation=OuterRef("pk"), has_cdr=True)
    # A charge is booked a little after the end of its call.
    since = (reading.gap_since or reading.booked_at) - WINDOW
    return Conversation.objects.filter(
        ~Exists(reported),
        Q(ended_at=None) | Q(ended_at__gte=since),
        account=reading.account_id,
        started_at__gte=since - LONGEST_CALL,
        started_at__lt=reading.booked_at,
    )


def settle(account: Account, moments: Iterable[datetime]) -> None:
    """Work out the chain again round the readings that are new, changed or gone at ``moments``, with what follows.

    The outcome is that of working out the whole chain (``calls.chain`` says what it means), whatever the order of the
    changes. The caller holds the account's lock.
    """
    for first, last in _runs(sorted(set(moments))):
        links, old = _chain_round(account, first, last)
        changed = [(link.reading.id, *place) for link in links if (place := _place(link)) != old.get(link.reading.id)]
        bulk.update(BalanceReading, _PLACE, changed)


def _chain_round(account: Account, first: datetime, last: datetime) -> tuple[list[Link], dict[int, tuple]]:
    """Return the links from before ``first`` to where the chain is the old one again, and the places held so far."""
    readings = BalanceReading.objects.filter(account=account)
    # A reading whose leg turned out to end later is still in its old place: it is as good as new.
    is_unsettled = Q(booked_at=None) | Q(booked_at__lt=F("occurred_at"))
    settled = readings.exclude(is_unsettled)
    previous = None
    if (
        row := settled.filter(booked_at__lt=first - REACH)
        .order_by("-booked_at")
        .values_list(*_READING, *_PLACE)
        .first()
    ):
        previous = _link(row)
        readings = readings.filter(
            Q(booked_at__gt=previous.booked_at) | is_unsettled, occurred_at__gte=previous.booked_at - 2 * WINDOW
        )
    reach = REACH
    while True:
        horizon = last + reach
        rows = list(readings.filter(occurred_at__lte=horizon).order_by().values_list(*_READING, *_PLACE))
        links = chain([_link(row).reading for row in rows], previous)
        old = {row[0]: row[len(_READING) :] for row in rows}
        if not readings.filter(occurred_at__gt=horizon).exists():
            return links, old
        is_same = {link.reading.id: _place(link) == old[link.reading.id] for link in links}
        in_old_order = sorted((place[0], pk) for pk, place in old.items() if place[0])
        predecessor = {pk: earlier for (_, earlier), (_, pk) in pairwise(in_old_order)}
        for i, (link, following) in enumerate(pairwise(links), 1):
            one, other = link.reading.id, following.reading.id
            is_clear = last + WINDOW < following.reading.occurred_at < horizon - WINDOW
            if is_clear and is_same[one] and is_same[other] and predecessor.get(other) == one:
                return links[:i], old
        reach *= 2


def _link(row: tuple) -> Link:
    reading, (booked_at, gap, kind, since) = Reading(*row[: len(_READING)]), row[len(_READING) :]
    return Link(reading, gap, GapKind(kind), since, booked_at)


def _place(link: Link) -> tuple:
    return link.booked_at, link.gap, str(link.kind), link.since


def _runs(moments: list[datetime]) -> Iterator[tuple[datetime, datetime]]:
    """Yield the first and last of each run of moments without a break longer than ``NEARBY``."""
    start = 0
    for i, moment in enumerate(moments):
        if i + 1 == len(moments) or moments[i + 1] - moment > NEARBY:
            yield moments[start], moment
            start = i + 1
