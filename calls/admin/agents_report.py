"""Agents: what each did in a range of days, and one agent day by day. Each figure leads to the calls that it counts."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import date
from typing import Any, NamedTuple
from urllib.parse import urlencode

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils import timezone
from django.utils.formats import date_format

from calls import agents, audit
from calls.access import visible
from calls.admin.links import calls_list
from calls.admin.statement import RANGES, Days, chosen_days
from calls.agents import Figures
from calls.choices import Disposition
from calls.exports.cells import csv_cell, csv_lines
from calls.exports.streaming import download
from calls.models import Account, Agent, AuditEntry, Conversation, Leg

MOST_DAYS = 92
MOST_AGENTS = 500
"""Lines of the page; the CSV file has all."""
LINES_AT_ONCE = 1000
COLUMNS = [
    "day", "agent", "account", "calls", "answered", "answer share", "talk seconds", "average talk seconds",
    "missed while free", "missed while busy",
]  # fmt: skip


class Line(NamedTuple):
    """A line of the table: what it is about, its figures, and where those lead."""

    title: str
    url: str
    account: str
    figures: Figures
    share: str
    calls_url: str
    answered_url: str
    free_url: str
    busy_url: str


def report(request: HttpRequest) -> HttpResponse:
    """Show one line for each agent with calls in the range."""
    days, problem, account = _chosen(request)
    people = {agent.pk: agent for agent in _agents(request, account)}
    sums: dict[int, Figures] = defaultdict(Figures)
    for (pk, _), figures in _by_day(request, days, people).items():
        sums[pk] += figures
    most_first = sorted(sums, key=lambda pk: (-sums[pk].calls, str(people[pk]), pk))
    context = _context(request, days, problem, account) | {
        "title": "Agents report",
        "first_column": "Agent",
        "lines": [
            _line(people[pk], str(people[pk]), sums[pk], days, _address("agent-days", days, pk))
            for pk in most_first[:MOST_AGENTS]
        ],
        "left_out": max(len(most_first) - MOST_AGENTS, 0),
        "accounts": visible(request.user, Account.objects.all()),
        "csv_url": _address("agents-csv", days, account=account),
    }
    return TemplateResponse(request, "calls/agents.html", context)


def agent_days(request: HttpRequest, pk: int) -> HttpResponse:
    """Show one line for each day on which the agent had calls, newest first, and their sum."""
    days, problem, _ = _chosen(request)
    agent = get_object_or_404(visible(request.user, Agent.objects.select_related("account")), pk=pk)
    found = _by_day(request, days, [agent.pk])
    lines = [
        _line(agent, date_format(day, "D, j M Y"), figures, Days(day, day, {}), "")
        for (_, day), figures in sorted(found.items(), reverse=True)
    ]
    total = sum(found.values(), Figures())
    context = _context(request, days, problem, None) | {
        "title": f"Calls of {agent}",
        "first_column": "Day",
        "lines": lines,
        "total": _line(agent, "All days", total, days, "") if lines else None,
        "agent": agent,
        "all_url": _address("agents", days),
        "csv_url": f"{_address('agents-csv', days)}&agent={agent.pk}",
    }
    return TemplateResponse(request, "calls/agents.html", context)


def export(request: HttpRequest) -> HttpResponse:
    """Send the figures of the range as CSV: one line for each agent and day, oldest first."""
    days, problem, account = _chosen(request)
    if problem:
        return HttpResponse(problem, status=400, content_type="text/plain; charset=utf-8")
    wanted = _agents(request, account)
    if one := request.GET.get("agent"):
        wanted = wanted.filter(pk=int(one[:18])) if one.isascii() and one.isdecimal() else wanted.none()
    people = {agent.pk: agent for agent in wanted}
    found = _by_day(request, days, people)
    ordered = sorted(found, key=lambda key: (key[1], str(people[key[0]]), key[0]))
    zone = timezone.get_current_timezone()
    rows = [[csv_cell(value, zone) for value in _cells(day, people[pk], found[pk, day])] for pk, day in ordered]
    audit.record(request, AuditEntry.Action.EXPORT, name="Agents report", days=f"{days.first} to {days.last}")
    return download(request, _csv(rows), "text/csv; charset=utf-8", f"agents-{days.first}-{days.last}.csv")


def _chosen(request: HttpRequest) -> tuple[Days, str, Account | None]:
    """Return the range, what is wrong with what was asked for, and the account if one is chosen."""
    if not request.user.has_perms(["calls.view_agent", "calls.view_conversation"]):
        raise PermissionDenied
    today = timezone.localdate()
    days, problem = chosen_days(request.GET, today)
    if (days.last - days.first).days >= MOST_DAYS:
        problem = f"{days.first} to {days.last} is longer than {MOST_DAYS} days. Choose a shorter range."
        days, _ = chosen_days({}, today)
    account = None
    if pk := request.GET.get("account"):
        accounts = visible(request.user, Account.objects.all())
        account = get_object_or_404(accounts, pk=int(pk[:18]) if pk.isascii() and pk.isdecimal() else 0)
    return days, problem, account


def _agents(request: HttpRequest, account: Account | None) -> QuerySet[Agent]:
    people = visible(request.user, Agent.objects.select_related("account"))
    return people.filter(account=account) if account else people


def _by_day(request: HttpRequest, days: Days, pks: Iterable[int]) -> dict[tuple[int, date], Figures]:
    """Return the figures of these agents: somebody's call may have been ended by an agent whom the viewer sees not."""
    wanted = set(pks)
    calls = visible(request.user, Conversation.objects.all())
    legs = visible(request.user, Leg.objects.all())
    if len(wanted) == 1:
        calls, legs = calls.filter(agent__in=wanted), legs.filter(agent__in=wanted)
    found = agents.by_day(calls, legs, days.after, days.before, timezone.get_current_timezone())
    return {key: figures for key, figures in found.items() if key[0] in wanted}


def _line(agent: Agent, title: str, figures: Figures, days: Days, url: str) -> Line:
    span = days.after, days.before
    return Line(
        title=title,
        url=url,
        account=str(agent.account),
        figures=figures,
        share="" if figures.answer_share is None else f"{figures.answer_share:.0%}",
        calls_url=calls_list(*span, agent=agent),
        answered_url=calls_list(*span, agent=agent, disposition=Disposition.ANSWERED),
        free_url=calls_list(*span, missed_by=f"{agent.pk}:free"),
        busy_url=calls_list(*span, missed_by=f"{agent.pk}:busy"),
    )


def _context(request: HttpRequest, days: Days, problem: str, account: Account | None) -> dict[str, Any]:
    return admin.site.each_context(request) | {
        "days": days,
        "problem": problem,
        "account": account,
        "ranges": [(name, label, days.query.get("range") == name) for name, label in RANGES.items()],
    }


def _address(name: str, days: Days, *arguments: int, account: Account | None = None) -> str:
    query = days.query | ({"account": str(account.pk)} if account else {})
    return f"{reverse(name, args=arguments)}?{urlencode(query)}"


def _cells(day: date, agent: Agent, figures: Figures) -> list[object]:
    share = figures.answer_share
    return [
        day.isoformat(),
        str(agent),
        str(agent.account),
        figures.calls,
        figures.answered,
        "" if share is None else f"{share:.4f}",
        figures.talk_seconds,
        figures.average_talk_seconds,
        figures.missed_free,
        figures.missed_busy,
    ]


def _csv(rows: Sequence[Sequence[str]]) -> Iterator[bytes]:
    yield csv_lines([COLUMNS])
    for start in range(0, len(rows), LINES_AT_ONCE):
        yield csv_lines(rows[start : start + LINES_AT_ONCE])


urls = [
    path("admin/agents/", admin.site.admin_view(report), name="agents"),
    path("admin/agents/csv/", admin.site.admin_view(export), name="agents-csv"),
    path("admin/agents/<int:pk>/", admin.site.admin_view(agent_days), name="agent-days"),
]
