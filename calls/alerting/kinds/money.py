"""Kinds of alert that watch money. Amounts are in the account's unit, and no others are added to them."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from statistics import median
from zoneinfo import ZoneInfo

from django.db.models import Count, Min, Q, QuerySet, Sum
from django.db.models.functions import Left

from calls import burn, business_hours, ledger
from calls.alerting.findings import Clock, Evidence, Finding, Kind
from calls.alerting.kinds.scope import (
    SMALLEST,
    beyond,
    call_page,
    ended_calls,
    ended_calls_link,
    figure,
    moments,
    plural,
    span,
    when,
    window,
)
from calls.choices import AlertKind, Direction, GapKind
from calls.models import Account, AlertRule, BalanceReading, Conversation
from calls.numbers import NO_PREFIX, destination_prefix
from calls.runway import words as runway_words
from calls.templatetags.words import money

LOOK_BACK = timedelta(days=1)
"""How far before the newest reading the one that crossed the mark is looked for."""

SETTLING = timedelta(minutes=10)
"""How long a gap is left alone: CDRs overtake each other, and PIOPIY first repeats one after 5 minutes."""
MOST_SUSPECTS = 5

WEEKS = 8
FEWEST_WEEKS = 3
"""Weeks that tell what is usual, and how many of them must be known."""

ENOUGH_HISTORY = timedelta(days=7)
"""Before that, every destination is new."""
PREFIX_TOLD_BY = 6
"""Characters of a number that tell its prefix; see ``destination_prefix``."""

_MICROSECOND = timedelta(microseconds=1)


# --- Balance ---------------------------------------------------------------------------------------------------------


def low_balance(rule: AlertRule, account: Account, at: datetime) -> list[Finding]:
    """Find the newest balance below the mark, or not yet back at the one at which the alert clears."""
    readings = _readings(account, at)
    newest = readings.first()
    clears_at = rule.opens_at if rule.clears_at is None else rule.clears_at
    if newest is None or newest.balance >= max(rule.opens_at, clears_at):
        return []
    is_over = newest.balance < rule.opens_at
    state = "below the mark of" if is_over else "not yet at the clearing mark of"
    mark = rule.opens_at if is_over else clears_at
    first = _crossing(readings.filter(booked_at__gt=newest.booked_at - LOOK_BACK), rule.opens_at, clears_at) or newest
    return [
        Finding(
            f"The balance is {money(newest.balance, account.unit)}, {state} {money(mark, account.unit)}.",
            at=first.booked_at,
            value=newest.balance,
            is_over=is_over,
            evidence=(_readings_link("The readings since", account, first.booked_at, newest.booked_at),),
        )
    ]


def runway(rule: AlertRule, account: Account, at: datetime) -> list[Finding]:
    """Find that the balance is expected to be used up within the mark's hours; nothing when it cannot be said."""
    expected = burn.runway_of(account, at)
    newest = _readings(account, at).first()
    if expected.empty_at is None or newest is None:
        return []
    hours = max(Decimal(0), Decimal((expected.empty_at - at) // timedelta(minutes=1)) / 60)
    if hours >= max(rule.opens_at, rule.clears_at or 0):
        return []
    is_over = hours < rule.opens_at
    text = runway_words(expected, at)
    return [
        Finding(
            f"The balance is {money(newest.balance, account.unit)}: {text}. The mark is {figure(rule.opens_at)} h.",
            at=at,
            value=hours,
            is_over=is_over,
            evidence=(_readings_link("The readings of the last day", account, at - LOOK_BACK, at),),
        )
    ]


def balance_gap(rule: AlertRule, account: Account, at: datetime) -> list[Finding]:
    """Find each unexplained charge of the window that reaches the mark and is old enough to be no CDR on its way.

    It is named by the leg whose reading shows it, which stays the same when calls between are reported late.
    """
    settled = at - min(SETTLING, window(rule) / 2)
    missing = _readings(account, settled).filter(
        gap_kind=GapKind.MISSING, gap__lte=-max(rule.opens_at, SMALLEST), booked_at__gt=at - window(rule)
    )
    return [_gap(account, reading) for reading in missing.select_related("leg")]


def _gap(account: Account, reading: BalanceReading) -> Finding:
    since = reading.gap_since or reading.booked_at
    suspects = list(ledger.suspects(reading)[: MOST_SUSPECTS + 1])
    message = (
        f"{money(-reading.gap, account.unit)} went without a call that we know between {when(since, account)} and "
        f"{when(reading.booked_at, account)}: a charge without a call, or a CDR that never came."
    )
    if suspects:
        more = "more than " if len(suspects) > MOST_SUSPECTS else ""
        count = plural(min(len(suspects), MOST_SUSPECTS), "call")
        message += f" In that time {more}{count} seen live got no CDR."
    return Finding(
        message,
        at=reading.booked_at,
        value=-reading.gap,
        subject=f"{reading.leg.label.upper()} {reading.leg.external_id}",
        evidence=(
            _readings_link("The readings around it", account, since, reading.booked_at),
            *(call_page(f"A call without a CDR: {call}", call.pk) for call in suspects[:MOST_SUSPECTS]),
        ),
    )


def _readings(account: Account, at: datetime) -> QuerySet[BalanceReading]:
    return BalanceReading.objects.filter(account=account, booked_at__lte=at)


def _crossing(readings: QuerySet[BalanceReading], opens_at: Decimal, clears_at: Decimal) -> BalanceReading | None:
    """Return the first reading below the mark since the balance was last at the one at which alerts clear."""
    if cleared := readings.filter(balance__gte=max(opens_at, clears_at)).first():
        readings = readings.filter(booked_at__gt=cleared.booked_at)
    return readings.filter(balance__lt=opens_at).last()


def _readings_link(label: str, account: Account, since: datetime, until: datetime) -> Evidence:
    query = {"account__id__exact": str(account.pk)} | moments("booked_at", since, until)
    return Evidence(label, "admin:calls_balancereading_changelist", query)


# --- Spend -----------------------------------------------------------------------------------------------------------


def spend_spike(rule: AlertRule, account: Account, at: datetime) -> list[Finding]:
    """Find spend in the window far above the median of the same hours of the week, in the weeks before that are known.

    Where less than the price of a call is usual, that price counts, so that a burst in an hour that never had a call
    is as many times the usual as it has calls.
    """
    spend, calls = _spent(rule, account, at - window(rule), at)
    if not calls or beyond(rule, Decimal(calls)) is None:  # it is at most as many times the usual as there are calls
        return []
    weeks = _weeks_before(account, at, window(rule))
    if len(weeks) < FEWEST_WEEKS:
        return []
    usual = median(_spent(rule, account, since, until)[0] for since, until in weeks)
    times = spend / max(usual, spend / calls)
    is_over = beyond(rule, times)
    if is_over is None:
        return []
    message = (
        f"{money(spend, account.unit)} for {plural(calls, 'call')} in {span(rule.window_minutes)}, "
        f"{figure(times)} times what is usual at this hour of the week ({money(usual, account.unit)})."
    )
    return [
        Finding(
            message,
            at=at,
            value=times,
            is_over=is_over and calls >= rule.minimum_calls,
            evidence=(_paid_link("The calls", rule, account, at - window(rule), at),),
        )
    ]


def new_destination(rule: AlertRule, account: Account, at: datetime) -> list[Finding]:
    """Find each destination prefix that calls of the window were paid for and none before."""
    since = at - window(rule)
    first = _first_call(account)
    if first is None or since - first < ENOUGH_HISTORY:
        return []
    outbound = _paid(rule, account, since, at).filter(direction=Direction.OUTBOUND)
    heads = outbound.annotate(head=Left("customer_number", PREFIX_TOLD_BY)).values("head").order_by("head")
    groups: dict[str, tuple[Decimal, int, datetime]] = {}
    for row in heads.annotate(cost_sum=Sum("cost"), calls=Count("id"), first=Min("started_at")):
        prefix = destination_prefix(row["head"])
        cost, calls, begin = groups.get(prefix, (Decimal(0), 0, at))
        groups[prefix] = (cost + row["cost_sum"], calls + row["calls"], min(begin, row["first"]))
    groups.pop(NO_PREFIX, None)
    return [
        Finding(
            f"First paid calls to {prefix}: {plural(calls, 'call')} for {money(cost, account.unit)} "
            f"since {when(begin, account)}.",
            at=begin,
            value=cost,
            subject=prefix,
            evidence=(
                _paid_link(
                    "The calls", rule, account, since, at, direction__exact=Direction.OUTBOUND, destination=prefix
                ),
            ),
        )
        for prefix, (cost, calls, begin) in groups.items()
        if cost >= rule.opens_at and not _was_paid_before(account, prefix, since)
    ]


def after_hours(rule: AlertRule, account: Account, at: datetime) -> list[Finding]:
    """Find the cost of the window's calls that started outside the account's business hours."""
    hours, zone = business_hours.parse(account.business_hours), ZoneInfo(account.time_zone)
    closed = business_hours.closed(hours, at - window(rule), at + _MICROSECOND, zone)
    spans = [(since, until - _MICROSECOND) for since, until in closed]
    if not spans:
        return []
    spent = [(*_spent(rule, account, since, until, known_by=at), since, until) for since, until in spans]
    cost, count = sum((row[0] for row in spent), Decimal(0)), sum(row[1] for row in spent)
    is_over = beyond(rule, cost)
    if is_over is None or not count:
        return []
    return [
        Finding(
            f"{money(cost, account.unit)} for {plural(count, 'call')} outside business hours in "
            f"{span(rule.window_minutes)}; the mark is {money(rule.opens_at, account.unit)}.",
            at=at,
            value=cost,
            is_over=is_over,
            evidence=tuple(
                _paid_link(f"The calls from {when(since, account)}", rule, account, since, until, known_by=at)
                for _, calls, since, until in spent
                if calls
            ),
        )
    ]


def _no_hours(rule: AlertRule) -> dict[str, str]:
    if rule.account and not rule.account.business_hours.strip():
        return {"account": f"{rule.account} has no business hours. Give them on the account's page first."}
    return {}


def _paid(
    rule: AlertRule, account: Account, since: datetime, until: datetime, known_by: datetime | None = None
) -> QuerySet[Conversation]:
    """Return the calls with a cost in the account's unit that started in a time and were over by its end."""
    calls = ended_calls(rule, account, since, known_by or until).filter(started_at__lte=until)
    return calls.filter(cost__gte=SMALLEST, cost_unit=account.unit)


def _paid_link(
    label: str,
    rule: AlertRule,
    account: Account,
    since: datetime,
    until: datetime,
    known_by: datetime | None = None,
    **parameters: str,
) -> Evidence:
    narrow = moments("started_at", None, until) | {"cost_from": str(SMALLEST), "cost_unit__exact": account.unit}
    return ended_calls_link(label, rule, account, since, known_by or until, **narrow, **parameters)


def _spent(
    rule: AlertRule, account: Account, since: datetime, until: datetime, known_by: datetime | None = None
) -> tuple[Decimal, int]:
    """Return the cost and the number of what ``_paid`` returns."""
    sums = _paid(rule, account, since, until, known_by).aggregate(cost=Sum("cost"), calls=Count("id"))
    return sums["cost"] or Decimal(0), sums["calls"]


def _weeks_before(account: Account, at: datetime, length: timedelta) -> Sequence[tuple[datetime, datetime]]:
    """Return the same window, by the account's clock on the wall, in each of the weeks before that is known whole."""
    first, zone = _first_call(account), ZoneInfo(account.time_zone)
    local = at.astimezone(zone)
    ends = [(local - timedelta(weeks=back)).astimezone(at.tzinfo) for back in range(1, WEEKS + 1)]
    return [(end - length, end) for end in ends if first and end - length >= first]


def _first_call(account: Account) -> datetime | None:
    calls = Conversation.objects.filter(account=account).order_by("started_at", "id")
    return calls.values_list("started_at", flat=True).first()


def _was_paid_before(account: Account, prefix: str, moment: datetime) -> bool:
    # The bounds are what an index of any collation can follow; numbers are a + and digits.
    after_prefix = f"{prefix[:-1]}{chr(ord(prefix[-1]) + 1)}"
    return Conversation.objects.filter(
        Q(customer_number__gte=prefix, customer_number__lt=after_prefix),
        account=account,
        direction=Direction.OUTBOUND,
        customer_number__startswith=prefix,
        started_at__lt=moment,
        cost__gte=SMALLEST,
    ).exists()


KINDS = {
    AlertKind.LOW_BALANCE: Kind(
        "Opens when the newest balance is below the mark, and clears when it is at or above the clearing mark.",
        low_balance,
        Clock.DATA,
        mark="Balance, in the account’s unit",
        fields=frozenset({"clears_at"}),
        clears_above=True,
    ),
    AlertKind.RUNWAY: Kind(
        "Opens when the balance is expected to be used up within the mark's hours, going by the account's own spend at "
        "each hour of the week. Says nothing while there is too little history.",
        runway,
        Clock.DATA,
        mark="Time left, in hours",
        fields=frozenset({"clears_at"}),
        clears_above=True,
    ),
    AlertKind.BALANCE_GAP: Kind(
        "Opens for each unexplained charge of the mark or more: the balance fell by more than the calls cost. "
        f"Waits {SETTLING.seconds // 60} minutes for CDRs that are late. Clears when the missing one comes, or when "
        "the window is over.",
        balance_gap,
        Clock.DATA,
        mark="Amount, in the account’s unit",
        fields=frozenset({"window_minutes"}),
    ),
    AlertKind.SPEND_SPIKE: Kind(
        "Opens when the window's spend is the mark times what is usual: the median of the same hours of the week in "
        f"up to {WEEKS} weeks before. Says nothing before {FEWEST_WEEKS} weeks of calls, or with too few calls.",
        spend_spike,
        Clock.DATA,
        mark="Times the usual spend",
        fields=frozenset({"clears_at", "window_minutes", "minimum_calls", "did", "agent"}),
    ),
    AlertKind.NEW_DESTINATION: Kind(
        "Opens when outbound calls are paid for to a country or region, by the head of the number, that the account "
        f"never paid calls to before. Says nothing in the first {ENOUGH_HISTORY.days} days of an account.",
        new_destination,
        Clock.DATA,
        mark="Cost of these calls, in the account’s unit",
        fields=frozenset({"window_minutes"}),
    ),
    AlertKind.AFTER_HOURS: Kind(
        "Opens when calls that started outside the account's business hours cost the mark or more within the window. "
        "Says nothing of an account without business hours.",
        after_hours,
        Clock.DATA,
        mark="Cost, in the account’s unit",
        fields=frozenset({"clears_at", "window_minutes", "did", "agent"}),
        objections=_no_hours,
    ),
}
