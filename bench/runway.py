"""How far off the runway is, beside the usual rule of thumb: balance ÷ mean burn of the last seven days.

Both are asked at moments of generated histories whose future is known; a figure is the median relative error of the
time left. ``level`` is a burn that doubled two weeks before.
"""

import random
from collections import defaultdict
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from statistics import median
from zoneinfo import ZoneInfo

from bench.figures import Bench, Figure
from calls.runway import DAY, HOUR, WEEKS, runway

ZONE = ZoneInfo("Asia/Kolkata")
START = datetime(2026, 1, 4, 18, 30, tzinfo=UTC)
"""A Monday's midnight in the zone."""
NOW = START + timedelta(weeks=WEEKS + 2)
ACCOUNTS = 6
LASTING_DAYS = (1, 3, 7, 14)
CALLS_AN_HOUR = 6.0
Rate = Callable[[datetime, random.Random], float]
"""Calls to be expected in the hour of the week that begins then, on the zone's clocks."""


def in_office(at: datetime, _: random.Random) -> float:
    return CALLS_AN_HOUR * 3 if at.weekday() < 5 and 9 <= at.hour < 18 else CALLS_AN_HOUR / 20


def steady(_: datetime, __: random.Random) -> float:
    return CALLS_AN_HOUR


def growing(at: datetime, chance: random.Random) -> float:
    """By a tenth a week."""
    return in_office(at, chance) * 1.1 ** ((at - START) / timedelta(weeks=1)) / 2


def level(at: datetime, chance: random.Random) -> float:
    return in_office(at, chance) * (2 if at >= NOW - timedelta(weeks=2) else 1)


def campaigns(at: datetime, chance: random.Random) -> float:
    """One hour of work in fifty has ten times the calls."""
    return in_office(at, chance) * (10 if chance.random() < 0.02 else 1)


PATTERNS: dict[str, tuple[Rate, float]] = {
    "steady": (steady, 1.1),
    "office": (in_office, 0.5),
    "growing": (growing, 0.9),
    "level": (level, 0.5),
    "campaigns": (campaigns, 0.9),
}
"""Each with the most that our error may be, in parts of the rule of thumb's."""


def measure(name: str, _: Bench) -> Figure:
    """Ask at ten in the morning on each day of a week, for balances that truly last a day to two weeks."""
    rate, goal = PATTERNS[name]
    ours, theirs, enclosed = [], [], []
    for seed in range(ACCOUNTS):
        charges = list(generate(rate, random.Random(seed)))
        for day in range(7 if rate is not level else 1):
            now = NOW + day * DAY + timedelta(hours=10)
            burn: dict[datetime, Decimal] = defaultdict(Decimal)
            for at, amount in charges:
                if at < now:
                    burn[at.replace(minute=0, second=0)] += amount
            last_week = sum((amount for at, amount in charges if now - 7 * DAY <= at < now), Decimal(0))
            for lasting in LASTING_DAYS:
                coming = [(at, amount) for at, amount in charges if now <= at < now + lasting * DAY]
                balance = sum((amount for _, amount in coming), Decimal(0))
                truth = coming[-1][0]
                found = runway(balance, now, burn, ZONE)
                assert found.empty_at is not None, found.reason
                ours.append(abs((found.empty_at - now) / (truth - now) - 1))
                theirs.append(abs(7 * DAY * float(balance / last_week) / (truth - now) - 1))
                enclosed.append(found.low <= truth <= found.high)
    mine, thumb = median(ours), median(theirs)
    return Figure(
        f"runway, {name}: median error",
        "of the time left",
        mine,
        thumb,
        mine / thumb,
        goal,
        is_most=True,
        details={"asked": len(ours), "within_low_and_high": sum(enclosed) / len(enclosed)},
    )


def generate(rate: Rate, chance: random.Random) -> Iterator[tuple[datetime, Decimal]]:
    """Yield charges in order, up to three weeks after ``NOW``."""
    for hour in range((NOW - START) // HOUR + 22 * 24):
        begin = START + hour * HOUR
        calls, expected = 0, rate(begin.astimezone(ZONE), chance)
        waited = chance.expovariate(1.0)
        while waited < expected:
            calls += 1
            waited += chance.expovariate(1.0)
        for second in sorted(chance.randrange(3600) for _ in range(calls)):
            yield begin + timedelta(seconds=second), Decimal(1 + int(chance.expovariate(0.5))) * Decimal("0.45")


FIGURES = {f"runway-{name}": partial(measure, name) for name in PATTERNS}
