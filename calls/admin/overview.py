"""The first page: figures of a span of days against the week before, each a link to exactly the calls it counts."""

from collections import defaultdict
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any, NamedTuple
from urllib.parse import urlencode

from django.db.models import CharField, QuerySet
from django.db.models.fields.json import KT
from django.db.models.functions import Cast, ExtractHour, ExtractIsoWeekDay
from django.http import HttpRequest
from django.utils import timezone

from calls import burn, metrics, rollups
from calls.access import reach_of, visible
from calls.admin import spans
from calls.admin.links import calls_list
from calls.choices import Direction, Disposition, State
from calls.counting import CAP, count_up_to_cap
from calls.metrics import Tally
from calls.models import Account, Agent, Alert, BalanceReading, Conversation
from calls.rollups import Kind
from calls.runway import words as runway_words
from calls.templatetags import words

MOST = 10
"""How many agents, DIDs and campaigns are named."""
SHADES = 5
"""How dark the cells of the heat map can be."""
HOUR = timedelta(hours=1)
WEEKDAYS = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"]
MISSED = [Disposition.MISSED, Disposition.VOICEMAIL]
"""How an inbound call ends that nobody took."""


class Data(NamedTuple):
    """What is known of a span."""

    by_hour: dict[tuple[int, int], Tally]
    """By weekday (1 is Monday) and hour, in the viewer's zone."""
    before: Tally
    """Of the week before."""
    top: dict[Kind, dict[str, Tally]]
    """Of each kind, those with the most calls."""


def add_overview(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """Add to the context of the first page what the viewer may see of calls, money and accounts."""
    user, now = request.user, timezone.now()
    accounts = list(visible(user, Account.objects.all()))
    context["title"] = "Overview"
    context["accounts"] = accounts
    context["may_see_calls"] = user.has_perm("calls.view_conversation")
    context["may_add_account"] = user.has_perm("calls.add_account")
    context["may_see_inbox"] = user.has_perm("webhooks.view_delivery") and reach_of(user).is_everything
    chosen = [account for account in accounts if str(account.pk) in request.GET.getlist("account")]
    shown = chosen or accounts
    if context["may_see_calls"]:
        found = _dashboard(request, shown, bool(chosen), now)
        context["has_calls"] = found["has_calls"] or visible(user, Conversation.objects.all()).exists()
        if context["has_calls"]:
            context |= found | {"has_calls": True}
    if user.has_perm("calls.view_balancereading"):
        context["balances"] = _balances(shown, now)
    if user.has_perm("calls.view_alert"):
        alerts = visible(user, Alert.objects.filter(cleared_at=None))
        context["open_alerts"] = alerts.filter(account__in=chosen)[:MOST] if chosen else alerts[:MOST]
        context["open_alerts"] = context["open_alerts"].select_related("account")
    return context


def _balances(accounts: Iterable[Account], now: datetime) -> list[tuple[Account, BalanceReading, str]]:
    """Return the active accounts that tell a balance, the newest, and in words how long it lasts."""
    found = burn.runways([account for account in accounts if account.is_active], now)
    return [(account, reading, runway_words(lasting, now)) for account, (reading, lasting) in found.items()]


def _dashboard(request: HttpRequest, accounts: list[Account], is_chosen: bool, now: datetime) -> dict[str, Any]:
    span = spans.span_of(request.GET, now)
    scope = {"account": [account.pk for account in accounts]} if is_chosen else {}
    data = _data(request.user, span, accounts, is_chosen)
    whole, before = metrics.total(data.by_hour.values()), data.before

    def link(**filters: object) -> str:
        return calls_list(span.since, span.until, **scope, **filters)

    def link_before(**filters: object) -> str:
        return calls_list(*span.week_before, **scope, **filters)

    live = visible(request.user, Conversation.objects.filter(state=State.LIVE))
    count = count_up_to_cap(live.filter(account__in=accounts) if is_chosen else live)
    heat = "rate" if request.GET.get("heat") == "rate" else "volume"
    return {
        "has_calls": bool(whole.counts["calls"] or before.counts["calls"] or count),
        "span": span,
        "choices": [
            {"word": word, "is_current": name == span.choice, "url": _address(request, range=name)}
            for name, word in spans.CHOICES.items()
        ],
        "chosen": {account.pk for account in accounts} if is_chosen else set(),
        "reset_url": _address(request, account=None) if is_chosen else "",
        "figures": _figures(whole, before, link, link_before),
        "live": {
            "text": f"{CAP:,}+" if count > CAP else f"{count:,}",
            "url": calls_list(state=State.LIVE, **scope),
            "calls": count,
        },
        "hours": _hours(data.by_hour, link),
        "heat": heat,
        "heat_map": _heat_map(data.by_hour, heat, link),
        "heat_urls": {name: _address(request, heat=name) for name in ("volume", "rate")},
        "tops": _tops(data.top, link),
    }


def _address(request: HttpRequest, **changes: str | None) -> str:
    """Return the page's address with other parameters; a named range has no days of its own."""
    query = {
        name: request.GET.getlist(name) for name in ("range", "from", "to", "account", "heat") if name in request.GET
    }
    if "range" in changes:
        query = {name: values for name, values in query.items() if name not in {"from", "to"}}
    query |= {name: [value] for name, value in changes.items() if value is not None}
    for name, value in changes.items():
        if value is None:
            query.pop(name, None)
    return f"?{urlencode(query, doseq=True)}"


# --- What is known ---------------------------------------------------------------------------------------------------


def _data(user: Any, span: spans.Span, accounts: list[Account], is_chosen: bool) -> Data:
    if not reach_of(user).agents and (offset := _offset(span)) is not None:
        return _rolled_up(span, [account.pk for account in accounts], offset)
    calls = visible(user, Conversation.objects.all())
    return _counted(span, calls.filter(account__in=accounts) if is_chosen else calls)


def _offset(span: spans.Span) -> timedelta | None:
    """Return how long after the hours of UTC the viewer's begin; ``None`` if rollups cannot tell.

    They can tell half hours, and hours that begin alike all the time.
    """
    days = (span.week_before[0] + timedelta(days=day) for day in range((span.until - span.week_before[0]).days + 2))
    offsets = {-timezone.localtime(moment).utcoffset() % HOUR for moment in days}
    offset = offsets.pop()
    return None if offsets or offset % timedelta(minutes=30) else offset


def _rolled_up(span: spans.Span, accounts: list[int], offset: timedelta) -> Data:
    since, until = span.week_before
    # Both may have days in common, which are read once.
    cuts = sorted({since, until, span.since, span.until})
    pieces = [rollups.Span(*between, accounts) for between in pairwise(cuts)]
    by_hour: dict[tuple[int, int], Tally] = defaultdict(Tally)
    before = Tally()
    for piece, steps in zip(pieces, rollups.totals(pieces, HOUR, offset), strict=True):
        for begin, tally in steps.items():
            if span.since <= piece.since < span.until:
                local = timezone.localtime(begin)
                by_hour[local.isoweekday(), local.hour].add_all(tally)
            if since <= piece.since < until:
                before.add_all(tally)
    return Data(by_hour, before, rollups.tops(rollups.Span(span.since, span.until, accounts), MOST))


def _counted(span: spans.Span, calls: QuerySet[Conversation]) -> Data:
    """Return the same by counting calls: for who sees the calls of some agents only, which are few."""
    since, until = span.week_before
    before = calls.filter(started_at__gte=since, started_at__lt=until)
    calls = calls.filter(started_at__gte=span.since, started_at__lt=span.until)
    in_zone = calls.annotate(weekday=ExtractIsoWeekDay("started_at"), hour=ExtractHour("started_at"))
    keyed = {
        Kind.AGENT: calls.exclude(agent=None).annotate(key=Cast("agent", CharField())),
        Kind.DID: calls.annotate(key=Cast("did", CharField())),
        Kind.CAMPAIGN: calls.annotate(key=Cast(KT("extra_params__campaign"), CharField())).exclude(key__isnull=True),
    }
    top = {}
    for kind, rows in keyed.items():
        found = sorted(
            metrics.tallies(rows.exclude(key=""), "key").items(), key=lambda item: (-item[1].counts["calls"], item[0])
        )
        top[kind] = {key: tally for (key,), tally in found[:MOST]}
    return Data(
        metrics.tallies(in_zone, "weekday", "hour"),
        metrics.total(metrics.tallies(before).values()),
        top,
    )


# --- How it is shown -------------------------------------------------------------------------------------------------

Link = Callable[..., str]


def _figures(now: Tally, before: Tally, link: Link, link_before: Link) -> list[dict[str, Any]]:
    """Return the figures with what they were a week before; ``calls`` is how many calls the list behind one holds."""
    found = []

    def add(title: str, read: Callable, filters: dict[str, object], better: str, note: str = "", ink: str = "") -> None:
        """``read`` returns the value of a tally, its text, the number of calls behind it, and how to say a difference;
        ``better`` is whether ``more`` or ``less`` of it is, if either."""
        value, text, calls, differ = read(now)
        value_before, text_before, calls_before, _ = read(before)
        change, trend = _difference(value, value_before, differ)
        found.append(
            {
                "title": title, "note": note, "ink": ink, "text": text, "calls": calls, "url": link(**filters),
                "text_before": text_before, "calls_before": calls_before, "url_before": link_before(**filters),
                "change": change, "trend": trend,
                "mood": "" if not trend or not better else "good" if (trend == "up") == (better == "more") else "bad",
            }
        )  # fmt: skip

    def count(name: str) -> Callable:
        return lambda tally: (tally.counts[name], f"{tally.counts[name]:,}", tally.counts[name], "{:,}".format)

    def rate(tally: Tally) -> tuple:
        figures = tally.summary
        value = None if figures.answer_rate is None else (figures.answer_rate * 100).quantize(Decimal("0.1"))
        return value, _percent(figures.answer_rate), figures.calls - figures.live, "{} points".format

    def talk(tally: Tally) -> tuple:
        figures = tally.summary
        return figures.average_talk_seconds, words.clock(figures.average_talk_seconds), figures.answered, words.clock

    def cost(unit: str) -> Callable:
        def read(tally: Tally) -> tuple:
            amount = tally.money.get(unit)
            return amount, words.money(amount, unit), tally.paid[unit], lambda by: words.money(by, unit)

        return read

    add("Calls", count("calls"), {}, "")
    answered = {"disposition": Disposition.ANSWERED}
    add("Answered", count("answered"), answered, "more", ink="answered")
    missed = {"direction": Direction.INBOUND, "disposition": MISSED}
    add("Missed", count("inbound_missed"), missed, "less", note="Inbound, voicemail included", ink="missed")
    add("Answer rate", rate, {"state": State.ENDED}, "more", note="Answered of all ended (ASR)")
    add("Average talk", talk, answered, "", note="Of the answered calls (ACD)")
    for unit in sorted(now.money.keys() | before.money.keys()):
        add(f"Cost in {unit}", cost(unit), {"cost_unit": unit}, "")
    return found


def _difference(value: Any, before: Any, differ: Callable) -> tuple[str, str]:
    """Return in words by how much ``value`` differs, and whether it went ``up`` or ``down``."""
    if value is None or before is None:
        return "nothing to compare with", ""
    if value == before:
        return "the same as", ""
    return (
        (f"{differ(value - before)} more than", "up")
        if value > before
        else (f"{differ(before - value)} less than", "down")
    )


def _percent(share: Decimal | None) -> str:
    return words.EMPTY if share is None else f"{share * 100:.1f} %"


def _hours(by_hour: dict[tuple[int, int], Tally], link: Link) -> list[dict[str, Any]]:
    """Return a bar for each hour of the day, 100 high for the busiest: answered calls at its foot."""
    hours: dict[int, Tally] = defaultdict(Tally)
    for (_, hour), tally in by_hour.items():
        hours[hour].add_all(tally)
    bars = []
    for hour in range(24):
        counts = hours[hour].counts
        parts = {"answered": counts["answered"], "missed": counts["inbound_missed"]}
        parts["other"] = counts["calls"] - sum(parts.values())
        bars.append({"hour": hour, "calls": counts["calls"], "url": link(hour=hour), **parts})
    most = max(bar["calls"] for bar in bars)
    for bar in bars:
        foot, bar["parts"] = 100.0, []
        for word in ("answered", "missed", "other"):
            height = 100 * bar[word] / most if most else 0
            foot -= height
            if bar[word]:
                bar["parts"].append({"word": word, "y": round(foot, 2), "height": round(height, 2)})
    return bars


def _heat_map(by_hour: dict[tuple[int, int], Tally], heat: str, link: Link) -> list[dict[str, Any]]:
    """Return a row for each weekday with a cell for each hour."""
    most = max((tally.counts["calls"] for tally in by_hour.values()), default=0)
    rows = []
    for weekday, name in enumerate(WEEKDAYS, 1):
        row = []
        for hour in range(24):
            figures = by_hour.get((weekday, hour), Tally()).summary
            share = figures.answer_rate if heat == "rate" else Decimal(figures.calls) / most if most else None
            row.append(
                {
                    "hour": hour,
                    "calls": figures.calls,
                    "rate": _percent(figures.answer_rate),
                    "text": words.EMPTY if share is None else f"{share * 100:.0f}" if heat == "rate" else figures.calls,
                    "shade": 0 if share is None or not figures.calls else 1 + min(int(share * SHADES), SHADES - 1),
                    "url": link(weekday=weekday, hour=hour),
                }
            )
        rows.append({"name": name, "cells": row})
    return rows


_TOPS = {
    Kind.AGENT: ("Agents", "Agent", "agent", "No call has an agent."),
    Kind.DID: ("DIDs", "DID", "did", "No call has a DID."),
    Kind.CAMPAIGN: (
        "Campaigns", "Campaign", "campaign",
        "Give calls a parameter “campaign” when you start them, and they are counted here.",
    ),
}  # fmt: skip


def _tops(top: dict[Kind, dict[str, Tally]], link: Link) -> list[dict[str, Any]]:
    agents = Agent.objects.in_bulk([int(key) for key in top[Kind.AGENT]]) if top[Kind.AGENT] else {}
    found = []
    for kind, (title, heading, name, nothing) in _TOPS.items():
        rows = []
        for key, tally in top[kind].items():
            text = key
            if kind == Kind.AGENT:
                text = words.shown(agents[int(key)])
            elif kind == Kind.DID:
                text = words.did(key)
            figures = tally.summary
            rows.append(
                {
                    "name": text,
                    "calls": figures.calls,
                    "url": link(**{name: key}),
                    "answered": figures.answered,
                    "answered_url": link(**{name: key}, disposition=Disposition.ANSWERED),
                    "rate": _percent(figures.answer_rate),
                    "talk": words.clock(figures.average_talk_seconds),
                }
            )
        found.append({"title": title, "heading": heading, "name": name, "rows": rows, "nothing": nothing})
    return found
