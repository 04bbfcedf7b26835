"""The statement of an account: a page and a CSV file over a range of days in the viewer's zone."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date, datetime, time, timedelta, tzinfo
from decimal import Decimal
from typing import Any, NamedTuple
from urllib.parse import urlencode

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db.models.functions import TruncDate
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.formats import date_format

from calls import burn, runway, statement
from calls.access import shown, visible
from calls.admin.base import time_range
from calls.choices import Direction, GapKind
from calls.exports.cells import csv_lines, defuse
from calls.exports.streaming import download
from calls.models import Account, Agent, BalanceReading
from calls.numbers import NO_PREFIX
from calls.templatetags import words

MOST_GAPS = 100
"""Top-ups and unexplained charges that a page lists and its chart marks; the newest ones."""
MOST_GROUPS = 400
"""Lines of a table of costs."""
BATCH = 1000
"""Readings of a CSV file that are read at once."""
WIDTH, HEIGHT = 1000, 200
"""Of the chart, in units of the drawing."""
DAY = timedelta(days=1)
RANGES = {"today": "Today", "7d": "7 days", "30d": "30 days", "month": "This month", "last-month": "Last month"}
DEFAULT = "30d"
COLUMNS = [
    "booked_at", "charge", "balance", "unit", "gap", "kind", "reason", "gap_since", "call_ended_at", "number", "call",
]  # fmt: skip


class Days(NamedTuple):
    """A range of days in the viewer's zone, both included, and the parameters that stand for it."""

    first: date
    last: date
    query: dict[str, str]

    @property
    def after(self) -> datetime:
        return _midnight(self.first)

    @property
    def before(self) -> datetime:
        return _midnight(self.last + DAY)


class Mark(NamedTuple):
    """A top-up or an unexplained charge on the chart."""

    x: float
    reading: BalanceReading
    words: str


class Chart(NamedTuple):
    """The balance drawn over time: a path in units of the drawing, and the values and times of its axes."""

    path: str
    zero: float
    marks: list[Mark]
    high: Decimal
    low: Decimal
    begin: datetime
    end: datetime


def page(request: HttpRequest, pk: int) -> HttpResponse:
    """Show what became of an account's balance, and what its calls cost."""
    account = _account(request, pk)
    days, problem = chosen_days(request.GET, timezone.localdate())
    now = timezone.now()
    totals = statement.totals(account, days.after, days.before)
    opening_reading = statement.readings(account, None, days.after).first()
    newest = statement.readings(account, None, None).first()
    gaps = list(statement.gaps(account, days.after, days.before).select_related("conversation")[:MOST_GAPS])
    suspects = statement.suspects(gaps)
    context = admin.site.each_context(request) | {
        "title": f"Statement of {account}",
        "account": account,
        "days": days,
        "problem": problem,
        "ranges": [(name, label, days.query.get("range") == name) for name, label in RANGES.items()],
        "totals": totals,
        "newest": newest,
        "terms": _terms(account, days, totals, opening_reading),
        "readings_url": readings_url(account, days),
        "csv_url": f"{reverse('admin:calls_account_statement_csv', args=[pk])}?{urlencode(days.query)}",
        "chart": _chart(account, days, totals, gaps, now),
        "gaps": [(gap, statement.reason(gap), suspects.get(gap.pk)) for gap in gaps],
        "most_gaps": MOST_GAPS if len(gaps) == MOST_GAPS else None,
        "runway": runway.words(burn.runway_of(account, now), now) if newest else "",
    }
    if request.user.has_perm("calls.view_conversation"):
        context |= {"costs": _costs(account, days), "calls_url": calls_url(account, days)}
    return TemplateResponse(request, "calls/statement.html", context)


def export(request: HttpRequest, pk: int) -> HttpResponse:
    """Send the readings of the range as CSV, oldest first."""
    account = _account(request, pk)
    days, problem = chosen_days(request.GET, timezone.localdate())
    if problem:
        return HttpResponse(problem, status=400, content_type="text/plain; charset=utf-8")
    call_address = request.build_absolute_uri(reverse("admin:calls_conversation_changelist"))
    # The zone is the viewer's only until this function returns; the lines are made later.
    pieces = _csv(account, days.after, days.before, timezone.get_current_timezone(), call_address)
    return download(request, pieces, "text/csv; charset=utf-8", f"{account.slug}-{days.first}-{days.last}.csv")


def chosen_days(parameters: Mapping[str, str], today: date) -> tuple[Days, str]:
    """Return the days that ``?range=`` or ``?from=&to=`` stand for, or those of ``DEFAULT`` and what is wrong."""
    if "from" in parameters or "to" in parameters:
        texts = parameters.get("from", "").strip(), parameters.get("to", "").strip() or today.isoformat()
        found = []
        for text in texts:
            try:
                found.append(date.fromisoformat(text))
            except ValueError:
                return _days(DEFAULT, today), f"“{text}” is no day. Write it as {today.isoformat()}."
            if not 1900 <= found[-1].year <= 9998:
                return _days(DEFAULT, today), f"The year {found[-1].year} is out of range."
        first, last = found
        if first > last:
            return _days(DEFAULT, today), f"{first} comes after {last}. Give the earlier day first."
        return Days(first, last, {"from": first.isoformat(), "to": last.isoformat()}), ""
    name = parameters.get("range", DEFAULT)
    if name not in RANGES:
        return _days(DEFAULT, today), f"There is no range “{name}”. Choose one of those shown."
    return _days(name, today), ""


def readings_url(account: Account, days: Days, **parameters: str) -> str:
    """Return the list of the account's readings of these days."""
    query = time_range("booked_at", days.after, days.before) | {"account__id__exact": str(account.pk)} | parameters
    return f"{reverse('admin:calls_balancereading_changelist')}?{urlencode(query)}"


def calls_url(account: Account, days: Days, **parameters: str) -> str:
    """Return the list of the account's calls that started on these days."""
    query = time_range("started_at", days.after, days.before) | {"account__id__exact": str(account.pk)} | parameters
    return f"{reverse('admin:calls_conversation_changelist')}?{urlencode(query)}"


def statement_url(account: Account) -> str:
    """Return the address of the account's statement."""
    return reverse("admin:calls_account_statement", args=[account.pk])


def _account(request: HttpRequest, pk: int) -> Account:
    if not request.user.has_perm("calls.view_balancereading"):
        raise PermissionDenied
    return get_object_or_404(visible(request.user, Account.objects.all()), pk=pk)


def _days(name: str, today: date) -> Days:
    begin_of_month = today.replace(day=1)
    first, last = {
        "today": (today, today),
        "7d": (today - 6 * DAY, today),
        "30d": (today - 29 * DAY, today),
        "month": (begin_of_month, today),
        "last-month": ((begin_of_month - DAY).replace(day=1), begin_of_month - DAY),
    }[name]
    return Days(first, last, {"range": name})


def _midnight(day: date) -> datetime:
    return timezone.make_aware(datetime.combine(day, time.min))


def _terms(
    account: Account, days: Days, totals: statement.Totals, opening_reading: BalanceReading | None
) -> list[dict[str, Any]]:
    """Return the terms of the equation, each with its sign, its amount and a link to the rows that it counts."""
    if totals.opening is None:
        return []

    def term(title: str, sign: str, part: statement.Part, **parameters: str) -> dict[str, Any]:
        if part.amount < 0:
            sign = {"+": "−", "−": "+"}[sign]
        url = readings_url(account, days, **parameters) if part.count else ""
        amount = words.money(abs(part.amount), account.unit)
        return {"title": title, "sign": sign, "amount": amount, "count": part.count, "url": url}

    def balance(title: str, sign: str, amount: Decimal, reading: BalanceReading | None) -> dict[str, Any]:
        url = reverse("admin:calls_balancereading_change", args=[reading.pk]) if reading else ""
        return {"title": title, "sign": sign, "amount": words.money(amount, account.unit), "count": None, "url": url}

    closing_reading = statement.readings(account, None, days.before).first()
    return [
        balance("Opening balance", "", totals.opening, opening_reading),
        term("Top-ups", "+", totals.top_ups, gap_kind__exact=GapKind.TOP_UP),
        term("Charges", "−", totals.charges),
        term("Unexplained charges", "−", totals.unexplained, gap_kind__exact=GapKind.MISSING),
        term("Rounding", "+", totals.rounding, gap_kind__exact=GapKind.ROUNDING),
        balance("Closing balance", "=", totals.closing, closing_reading),
    ]


def _chart(
    account: Account, days: Days, totals: statement.Totals, gaps: Sequence[BalanceReading], now: datetime
) -> Chart | None:
    """Return the balance as a drawing up to now; ``None`` for a range without a reading."""
    if totals.opening is None or totals.last_at is None:
        return None
    begin = days.after
    end = min(days.before, max(now, totals.last_at + timedelta(seconds=1)))
    points = statement.curve(account, begin, end, totals.opening)
    high = max([totals.opening, *(point.high for point in points)])
    low = min([Decimal(0), totals.opening, *(point.low for point in points)])
    height = high - low or Decimal(1)

    def x(at: datetime) -> float:
        return round((at - begin) / (end - begin) * WIDTH, 1)

    def y(amount: Decimal) -> float:
        return round(float((high - amount) / height) * HEIGHT, 1)

    path = [f"M0 {y(totals.opening)}"]
    for point in points:
        path.append(f"H{x(point.at)}V{y(point.low)}V{y(point.high)}V{y(point.close)}")
    path.append(f"H{WIDTH}")
    marks = [
        Mark(x(gap.booked_at), gap, f"{words.GAPS[gap.gap_kind]} of {words.money(abs(gap.gap), account.unit)}")
        for gap in reversed(gaps)
    ]
    return Chart("".join(path), y(Decimal(0)), marks, high, low, begin, end)


def _costs(account: Account, days: Days) -> list[dict[str, Any]]:
    """Return the tables of costs, each line with a link to the calls that it counts."""
    chosen = statement.calls(account, days.after, days.before)
    by_day = statement.cost_by(chosen, TruncDate("started_at", tzinfo=timezone.get_current_timezone()))
    by_agent = statement.cost_by(chosen, "agent")
    agents = Agent.objects.in_bulk([pk for pk in by_agent if pk])

    def table(of: str, groups: dict[Any, statement.Cost], line: Callable[[Any], tuple[str, str]]) -> dict[str, Any]:
        rows = []
        for group, cost in list(groups.items())[:MOST_GROUPS]:
            label, url = line(group)
            amounts = [words.money(amount, unit) for unit, amount in sorted(cost.amounts.items())]
            rows.append({"label": label, "url": url, "calls": cost.calls, "amounts": amounts})
        return {"of": of, "rows": rows, "left_out": len(groups) - len(rows)}

    def of_day(day: date) -> tuple[str, str]:
        return date_format(day, "D j M Y"), calls_url(account, Days(day, day, {}))

    def of_did(did: str) -> tuple[str, str]:
        if not did:
            return "No DID is known", calls_url(account, days, did__isnull="True")
        return words.did(did), calls_url(account, days, did__exact=did)

    def of_agent(agent: int | None) -> tuple[str, str]:
        if agent is None:
            return "No agent took part", calls_url(account, days, agent__isnull="True")
        return words.phone(str(agents[agent])), calls_url(account, days, agent__id__exact=str(agent))

    def of_destination(prefix: str) -> tuple[str, str]:
        outbound = {"direction__exact": Direction.OUTBOUND.value, "destination": prefix or "none"}
        return f"{prefix} …" if prefix != NO_PREFIX else "No full number", calls_url(account, days, **outbound)

    return [
        table("Day", dict(sorted(by_day.items(), reverse=True)), of_day),
        table("DID", _dearest(account, statement.cost_by(chosen, "did")), of_did),
        table("Agent", _dearest(account, by_agent), of_agent),
        table("Destination", _dearest(account, statement.cost_by_destination(chosen)), of_destination),
    ]


def _dearest(account: Account, groups: dict[Any, statement.Cost]) -> dict[Any, statement.Cost]:
    """Return the groups with the highest amount in the account's unit first; units are not compared."""

    def weight(item: tuple[Any, statement.Cost]) -> tuple[Decimal, int]:
        return -item[1].amounts.get(account.unit, Decimal(0)), -item[1].calls

    return dict(sorted(groups.items(), key=weight))


def _csv(account: Account, after: datetime, before: datetime, zone: tzinfo, calls: str) -> Iterator[bytes]:
    yield csv_lines([COLUMNS])
    start = after
    while True:
        rest = statement.readings(account, start, before).order_by("booked_at").select_related("conversation")
        batch = list(rest.defer("conversation__extra_params", "conversation__flags")[:BATCH])
        if not batch:
            return
        yield csv_lines(_row(reading, account, zone, calls) for reading in batch)
        start = batch[-1].booked_at + timedelta(microseconds=1)  # no two of an account are booked at one time


def _row(reading: BalanceReading, account: Account, zone: tzinfo, calls: str) -> list[str]:
    def local(at: datetime | None) -> str:
        return at.astimezone(zone).isoformat() if at else ""

    return [
        local(reading.booked_at),
        f"{reading.charge:f}",
        f"{reading.balance:f}",
        defuse(account.unit),
        "" if reading.gap is None else f"{reading.gap:f}",
        reading.gap_kind,
        statement.reason(reading),
        local(reading.gap_since),
        local(reading.occurred_at),
        defuse(shown(reading.conversation.customer_number)),
        f"{calls}{reading.conversation_id}/change/",
    ]
