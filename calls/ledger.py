"""Money: balance readings in the order in which the provider made them, and the gaps between them."""

from collections.abc import Iterable
from datetime import datetime, timedelta

from calls import bulk
from calls.models import Account, BalanceReading

NEARBY = timedelta(hours=1)
"""Changed readings closer together than this are settled in one go."""

# Charges only lower a balance: of two legs that ended in the same second, the lower balance is the later one, and of
# equal balances the one without a charge.
ORDER = ("occurred_at", "-balance", "-charge", "received_at", "id")


def current(account: Account) -> BalanceReading | None:
    """Return the account's newest reading by the provider's clock, or ``None``.

    Never the last to arrive: PIOPIY repeats a CDR for up to 30 minutes, and an old balance must not come back.
    """
    return BalanceReading.objects.filter(account=account).first()


def settle(account: Account, moments: Iterable[datetime]) -> None:
    """Work out ``gap`` again for the readings at ``moments`` and for the one after each.

    ``gap`` = balance − (previous balance − charge): zero when the chain is whole, positive after a top-up, negative
    after a charge without a call or a call that never reached us. The caller holds the account's lock.
    """
    for first, last in _runs(sorted(set(moments))):
        readings = BalanceReading.objects.filter(account=account).order_by(*ORDER)
        previous = readings.filter(occurred_at__lt=first).last()
        affected = list(readings.filter(occurred_at__gte=first, occurred_at__lte=last))
        affected += readings.filter(occurred_at__gt=last)[:1]
        changed = []
        for reading in affected:
            gap = reading.balance - (previous.balance - reading.charge) if previous else None
            if gap != reading.gap:
                changed.append((reading.pk, gap))
            previous = reading
        bulk.update(BalanceReading, ["gap"], changed)


def _runs(moments: list[datetime]) -> Iterable[tuple[datetime, datetime]]:
    """Yield the first and last of each run of moments without a break longer than ``NEARBY``."""
    start = 0
    for i, moment in enumerate(moments):
        if i + 1 == len(moments) or moments[i + 1] - moment > NEARBY:
            yield moments[start], moment
            start = i + 1
