"""An account's statement: what became of its balance, and what its calls cost. Each figure is one query.

A time is from ``after`` to just before ``before``; ``None`` leaves that side open.
"""

from collections.abc import Callable, Iterable
from datetime import datetime
from decimal import Decimal
from math import ceil
from typing import Any, NamedTuple

from django.db.models import (
    BigIntegerField,
    Count,
    DecimalField,
    Expression,
    F,
    Func,
    Max,
    Min,
    Q,
    QuerySet,
    Subquery,
    Sum,
    Value,
)
from django.db.models.functions import Cast, Coalesce, Left, Round

from calls import ledger
from calls.choices import Direction, GapKind
from calls.models import Account, BalanceReading, Conversation
from calls.numbers import destination_prefix

PLACES = 6
MOST_POINTS = 400
"""Pieces that a time is cut into for the chart."""
MOST_SUSPECTS = 500
SIGHTED = (GapKind.TOP_UP, GapKind.MISSING)
"""What a chart marks and a statement lists: the gaps that somebody may have to look into."""


class Part(NamedTuple):
    """Amounts of one kind, added, and how many readings they are of."""

    amount: Decimal
    count: int


class Totals(NamedTuple):
    """What became of a balance: opening + top-ups + rounding − charges − unexplained = closing, to the last digit."""

    opening: Decimal | None
    """The balance before the first reading; that of the reading before when there is none, ``None`` without any."""
    top_ups: Part
    charges: Part
    """Of all readings: each has a charge, though it may be 0."""
    unexplained: Part
    """What the balance fell by beyond the charges, as a positive amount."""
    rounding: Part
    closing: Decimal | None
    first_at: datetime | None
    last_at: datetime | None


class Point(NamedTuple):
    """A piece of time in which the balance was read: its last reading, and between what the balance swayed."""

    at: datetime
    low: Decimal
    high: Decimal
    close: Decimal


class Cost(NamedTuple):
    """What some calls cost, unit by unit, and how many there are, those without a cost included."""

    calls: int
    amounts: dict[str, Decimal]


def readings(account: Account, after: datetime | None, before: datetime | None) -> QuerySet[BalanceReading]:
    """Return the account's readings of a time, newest first."""
    found = BalanceReading.objects.filter(account=account)
    if after:
        found = found.filter(booked_at__gte=after)
    return found.filter(booked_at__lt=before) if before else found


def totals(account: Account, after: datetime | None, before: datetime | None) -> Totals:
    """Return what became of the balance, read in one query, so that a drain meanwhile cannot come between the parts."""
    chosen = readings(account, after, before)
    first = chosen.order_by("booked_at").annotate(before=F("balance") + F("charge") - Coalesce("gap", Decimal(0)))
    top_ups, unexplained = Q(gap_kind=GapKind.TOP_UP), Q(gap_kind=GapKind.MISSING)
    others = ~top_ups & ~unexplained
    found = chosen.order_by().aggregate(
        opening=Max(Subquery(first.values("before")[:1]), output_field=DecimalField()),
        closing=Max(Subquery(chosen.values("balance")[:1]), output_field=DecimalField()),
        charged=Sum(_digits("charge")),
        count=Count("pk"),
        top_ups=Sum(_digits("gap"), filter=top_ups),
        top_up_count=Count("pk", filter=top_ups),
        unexplained=Sum(_digits("gap"), filter=unexplained),
        unexplained_count=Count("pk", filter=unexplained),
        rounding=Sum(_digits("gap"), filter=others),
        rounding_count=Count("pk", filter=Q(gap_kind=GapKind.ROUNDING)),
        first_at=Min("booked_at"),
        last_at=Max("booked_at"),
    )
    opening, closing = found["opening"], found["closing"]
    if not found["count"] and (earlier := readings(account, None, before).first()):
        opening = closing = earlier.balance
    return Totals(
        opening=_rounded(opening),
        top_ups=Part(_amount(found["top_ups"]), found["top_up_count"]),
        charges=Part(_amount(found["charged"]), found["count"]),
        unexplained=Part(-_amount(found["unexplained"]), found["unexplained_count"]),
        rounding=Part(_amount(found["rounding"]), found["rounding_count"]),
        closing=_rounded(closing),
        first_at=found["first_at"],
        last_at=found["last_at"],
    )


def curve(account: Account, after: datetime, before: datetime, opening: Decimal) -> list[Point]:
    """Return the balance over a time in no more than ``MOST_POINTS`` + 1 points, first to last.

    ``opening`` is that of ``totals``.
    """
    width = ceil((before - after).total_seconds() / MOST_POINTS)
    pieces = readings(account, after, before).order_by().values(piece=_Piece("booked_at", width=width))
    rows = pieces.annotate(
        at=Max("booked_at"),
        low=Min("balance"),
        high=Max("balance"),
        moved=Sum(Coalesce(_digits("gap"), 0) - _digits("charge")),
    )
    points, balance = [], opening
    for row in rows.order_by("piece"):
        balance += _amount(row["moved"])
        points.append(Point(row["at"], row["low"], row["high"], balance))
    return points


def gaps(account: Account, after: datetime | None, before: datetime | None) -> QuerySet[BalanceReading]:
    """Return the readings at which money was added or is not accounted for, newest first."""
    return readings(account, after, before).filter(gap_kind__in=SIGHTED)


def suspects(found: Iterable[BalanceReading]) -> dict[int, list[Conversation]]:
    """Return, by id of the reading, the calls that may explain why a balance fell by more than the charge.

    It is one query for all readings, and finds ``MOST_SUSPECTS`` calls at most.
    """
    queries = [
        ledger.suspects(reading).order_by().annotate(reading=Value(reading.pk))
        for reading in found
        if reading.gap_kind == GapKind.MISSING
    ]
    by_reading: dict[int, list[Conversation]] = {}
    if queries:
        for call in queries[0].union(*queries[1:], all=True)[:MOST_SUSPECTS]:
            by_reading.setdefault(call.reading, []).append(call)
    return by_reading


def reason(reading: BalanceReading) -> str:
    """Return in a sentence or two why the balance is what it is after the one before and the charge."""
    text = GapKind(reading.gap_kind).label
    return f"{text} A call that ended later was booked before it." if reading.is_reordered else text


def calls(account: Account, after: datetime, before: datetime) -> QuerySet[Conversation]:
    """Return the account's calls that started in a time."""
    return Conversation.objects.filter(account=account, started_at__gte=after, started_at__lt=before)


def cost_by(
    chosen: QuerySet[Conversation], key: str | Expression, group_of: Callable[[Any], Any] = lambda value: value
) -> dict[Any, Cost]:
    """Return what calls cost by the groups that the values of a column or expression belong to.

    A group is left out when none of its calls has a cost.
    """
    counts: dict[Any, int] = {}
    amounts: dict[Any, dict[str, Decimal]] = {}
    rows = chosen.order_by().values_list(key, "cost_unit")
    for value, unit, count, digits in rows.annotate(count=Count("pk"), digits=Sum(_digits("cost"))):
        group = group_of(value)
        counts[group] = counts.get(group, 0) + count
        if digits is not None:
            of_group = amounts.setdefault(group, {})
            of_group[unit] = of_group.get(unit, Decimal(0)) + _amount(digits)
    return {group: Cost(counts[group], of_group) for group, of_group in amounts.items()}


def cost_by_destination(chosen: QuerySet[Conversation]) -> dict[str, Cost]:
    """Return what outbound calls cost by ``calls.numbers.destination_prefix`` of the customer's number."""
    outbound = chosen.filter(direction=Direction.OUTBOUND)
    return cost_by(outbound, Left("customer_number", 6), destination_prefix)


class _Piece(Func):
    """The number of the piece of ``width`` seconds that a time lies in."""

    output_field = BigIntegerField()

    def __init__(self, column: str, *, width: int) -> None:
        super().__init__(column, width=width)

    def as_postgresql(self, compiler: Any, connection: Any, **context: Any) -> Any:
        return self.as_sql(
            compiler, connection, template="FLOOR(EXTRACT(EPOCH FROM %(expressions)s) / %(width)s)", **context
        )

    def as_sqlite(self, compiler: Any, connection: Any, **context: Any) -> Any:
        return self.as_sql(
            compiler, connection, template="CAST(STRFTIME('%%%%s', %(expressions)s) AS integer) / %(width)s", **context
        )


def _digits(column: str) -> Cast:
    """Return an amount as a whole number of its smallest unit: SQLite adds decimals as floats."""
    return Cast(Round(F(column) * 10**PLACES), BigIntegerField())


def _amount(digits: int | None) -> Decimal:
    return Decimal(digits or 0).scaleb(-PLACES)


def _rounded(amount: Decimal | None) -> Decimal | None:
    return None if amount is None else round(amount, PLACES)
