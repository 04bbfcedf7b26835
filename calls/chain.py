"""The chain of balances: the order in which the provider booked its charges, and every gap with its reason.

Pure: no model, no clock, no database.

A reading says that the balance fell from ``balance + charge`` to ``balance``. Seen so, readings are the edges of a
graph whose nodes are balances, and a whole chain is a trail that uses each edge once. Charges only lower a balance,
so apart from free calls the graph has no cycles, and joining at each node what arrives with what leaves gives the
fewest trails. What the trails cannot join are the gaps.
"""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import pairwise

from calls.choices import GapKind

WINDOW = timedelta(minutes=1)
"""How far the order of the ends of calls may differ from the order in which the provider booked them."""

STEP = Decimal("0.01")
"""The smallest difference that counts: PIOPIY tells charges to six places, and balances to as few as one or two."""

ZERO = Decimal(0)
MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Reading:
    """One CDR's money; ``occurred_at`` is when the leg ended by the provider's clock, ``balance`` what was left."""

    id: int
    occurred_at: datetime
    received_at: datetime
    balance: Decimal
    charge: Decimal


@dataclass(frozen=True, slots=True)
class Link:
    """A reading in its place.

    ``gap`` = balance − (previous balance − charge), ``None`` for the opening. ``since`` is the start of the interval
    in which a top-up or an unexplained charge happened (it ends with the reading), else ``None``. ``booked_at`` is the
    place as a time: when the leg ended, or a microsecond after the link before where that one ended later.
    """

    reading: Reading
    gap: Decimal | None
    kind: GapKind
    since: datetime | None
    booked_at: datetime


def chain(readings: Iterable[Reading], previous: Link | None = None) -> list[Link]:
    """Return ``readings`` of one account in booking order, each with its gap.

    The order is the same however they arrived. Calls that ended more than ``WINDOW`` apart keep the order of their
    ends. ``previous`` is the link before all of these. A top-up and an unexplained charge between the same two
    readings make one gap of what is left of both: nothing tells them apart.
    """
    links: list[Link] = []
    rows = [*readings, previous.reading] if previous else readings
    for reading in _booked(sorted(rows, key=_key), previous.reading if previous else None):
        gap = reading.balance + reading.charge - previous.reading.balance if previous else None
        kind = _kind(gap)
        booked_at, since = reading.occurred_at, None
        if previous:
            booked_at = max(booked_at, previous.booked_at + MICROSECOND)
            if kind in (GapKind.TOP_UP, GapKind.MISSING):
                since = min(previous.reading.occurred_at, reading.occurred_at)
        previous = Link(reading, gap, kind, since, booked_at)
        links.append(previous)
    return links


def _kind(gap: Decimal | None) -> GapKind:
    if gap is None:
        return GapKind.OPENING
    if not gap:
        return GapKind.NONE
    if abs(gap) < STEP:
        return GapKind.ROUNDING
    return GapKind.TOP_UP if gap > 0 else GapKind.MISSING


def _key(reading: Reading) -> tuple[datetime, Decimal, Decimal, datetime, int]:
    return reading.occurred_at, -reading.balance, -reading.charge, reading.received_at, reading.id


def _booked(rows: list[Reading], first: Reading | None) -> Iterable[Reading]:
    """Yield ``rows`` (in order of their ends) in booking order: along the trails, from trail to trail by ``_cost``.

    ``first`` is one of them that is known to come before the others, and is not yielded.
    """
    following = _follow(rows)
    before = {after: i for i, after in following.items()}
    onward = rows.index(first) if first else None
    if onward in before:
        del following[before.pop(onward)]
    ends = [row.occurred_at for row in rows]  # when the trail from here ends
    for start in set(range(len(rows))) - before.keys():
        trail = [start]
        while trail[-1] in following:
            trail.append(following[trail[-1]])
        for second, one in pairwise(reversed(trail)):
            ends[one] = max(ends[one], ends[second])
    placed = [False] * len(rows)
    balance: Decimal | None = None
    heads: list[int] = []  # trails that may start now
    oldest = reach = 0
    for _ in rows:
        while placed[oldest]:
            oldest += 1
        limit = rows[oldest].occurred_at + WINDOW
        while reach < len(rows) and rows[reach].occurred_at <= limit:
            if reach not in before and rows[reach] is not first:
                heads.append(reach)
            reach += 1
        if onward is not None and rows[onward].occurred_at > limit:
            heads.append(onward)  # an older reading has to come first
            onward = None
        if onward is None:
            near = [i for i in heads if rows[i].occurred_at <= limit]
            if near:
                # A trail that lasts beyond the window of another's start cannot come before that other one.
                fits = [i for i in near if all(ends[i] <= rows[j].occurred_at + WINDOW for j in near if j != i)]
                onward = min(fits or near, key=lambda i: (*_cost(rows[i], balance), i))
                heads.remove(onward)
            else:  # the oldest one's trail is out of reach: cut it there
                onward = oldest
                following.pop(before[oldest], None)
        placed[onward] = True
        balance = rows[onward].balance
        if rows[onward] is not first:
            yield rows[onward]
        onward = following.get(onward)


def _cost(reading: Reading, balance: Decimal | None) -> tuple[int, Decimal]:
    """Rank what may come next: no gap, the smallest loss, a top-up; of several top-ups what ended first."""
    start = reading.balance + reading.charge
    if balance is None or start - balance >= STEP:
        return 2, ZERO
    if balance - start < STEP:
        return 0, abs(start - balance)
    return 1, balance - start


def _follow(rows: list[Reading]) -> dict[int, int]:
    """Return which reading directly follows which without a gap, as far as balances and times tell."""
    times = [row.occurred_at for row in rows]

    def may_follow(first: int, second: int) -> bool:
        if times[second] < times[first] - WINDOW:
            return False
        # A reading between the two, out of the window of both, was booked between them.
        between = bisect_right(times, times[first] + WINDOW)
        return between == len(times) or times[between] >= times[second] - WINDOW

    arriving: dict[Decimal, list[int]] = defaultdict(list)
    leaving: dict[Decimal, list[int]] = defaultdict(list)
    free: dict[Decimal, list[int]] = defaultdict(list)
    for i, row in enumerate(rows):
        if row.charge:
            arriving[row.balance].append(i)
            leaving[row.balance + row.charge].append(i)
        else:
            free[row.balance].append(i)

    following: dict[int, int] = {}
    for balance in {**arriving, **free}:
        ends, starts = arriving.get(balance, []), leaving.get(balance, [])
        calls = free.get(balance, [])
        # Free calls change nothing, so they stand in the order of their ends, each after the nearest arrival.
        visits: list[list[int]] = []
        in_order = [(times[i] if rows[i].charge else times[i] + WINDOW, i) for i in (*ends, *calls)]
        for _, i in sorted(in_order):
            if rows[i].charge == 0 and visits and may_follow(visits[-1][-1], i):
                visits[-1].append(i)
            else:
                visits.append([i])
        for visit in visits:
            following.update(pairwise(visit))
        position = 0
        for visit in visits:
            while position < len(starts) and times[starts[position]] < times[visit[-1]] - WINDOW:
                position += 1
            if position < len(starts) and may_follow(visit[-1], starts[position]):
                following[visit[-1]] = starts[position]
                position += 1
    return following
