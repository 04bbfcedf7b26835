"""A generated year of one account's charges, and the truth about it.

Calls overlap, legs of one call end in the same second, the provider books a charge some seconds after the end, most
charges are equal to many others, some are nothing. Money is added in the middle of traffic, charges are hidden, and
CDRs never come.
"""

import random
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import NamedTuple

from calls.chain import Reading
from calls.choices import GapKind

START = datetime(2025, 11, 3, tzinfo=UTC)
PULSE = Decimal("0.45")
"""What a minute costs."""


class Happening(NamedTuple):
    """Something that the readings do not tell: an amount that was added, or that went without a reading."""

    kind: GapKind
    amount: Decimal
    at: datetime


class Year(NamedTuple):
    """``readings`` in the order in which the provider booked them."""

    readings: list[Reading]
    happenings: list[Happening]


def generate(seed: int, *, readings: int = 200_000, top_ups: int = 40, hidden: int = 5, dropped: int = 20) -> Year:
    """Return a year with so many legs and happenings. A CDR without a charge is never dropped: nothing could tell."""
    chance = random.Random(seed)
    legs: list[tuple[datetime, datetime, Decimal]] = []
    while len(legs) < readings:
        day = START + timedelta(days=chance.randrange(365))
        if day.weekday() == 6 and chance.random() < 0.9:
            continue
        hour = min(23.9, max(0.0, chance.gauss(12.5, 3)))
        end = day + timedelta(hours=hour, seconds=chance.random())
        price = PULSE * (int(chance.expovariate(1 / 90)) // 60 + 1)
        charges = [price if chance.random() < 0.85 else Decimal(0)]
        if chance.random() < 0.4:  # a second leg
            charges.append(price if chance.random() < 0.8 else Decimal(0))
        for charge in charges:
            legs.append((end + timedelta(seconds=chance.expovariate(1 / 1.5)), end.replace(microsecond=0), charge))
    legs.sort()
    paid = [place for place in range(len(legs) // 100, len(legs) - 100) if legs[place][2]]
    places = chance.sample(paid, top_ups + hidden + dropped)
    added, charged, lost = set(places[:top_ups]), set(places[top_ups:-dropped]), set(places[-dropped:])

    year, balance = Year([], []), Decimal(500)
    for place, (booked_at, ended_at, charge) in enumerate(legs):
        if place in added:
            amount = Decimal(chance.choice([500, 1000, 5000]))
            balance += amount
            year.happenings.append(Happening(GapKind.TOP_UP, amount, booked_at))
        elif place in charged:
            amount = chance.choice([Decimal("1.80"), Decimal(25), Decimal("99.50")])
            balance -= amount
            year.happenings.append(Happening(GapKind.MISSING, amount, booked_at))
        balance -= charge
        if place in lost:
            year.happenings.append(Happening(GapKind.MISSING, charge, booked_at))
        else:
            received_at = ended_at + timedelta(seconds=chance.choice([1, 3, 300, 900, 1800]))
            year.readings.append(Reading(place, ended_at, received_at, balance, charge))
    return year
