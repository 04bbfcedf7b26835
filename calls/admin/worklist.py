"""The worklist: missed callers who are owed a call, and the page on which somebody sees to one."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

from django.contrib import admin, messages
from django.contrib.admin.views.main import ChangeList
from django.core.exceptions import PermissionDenied
from django.db.models import F, OrderBy, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseBadRequest
from django.shortcuts import get_object_or_404, redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.http import require_POST
from unfold.contrib.filters.admin import DropdownFilter, TextFilter

from calls import audit, business_hours, callbacks
from calls.access import may_see_numbers, visible
from calls.admin.base import ReadOnlyAdmin, RelatedFilter, TimeRangeFilter
from calls.admin.conversation_filters import HourFilter, WeekdayFilter
from calls.admin.export import ExportMixin
from calls.choices import Direction
from calls.counting import count_up_to_cap
from calls.exports import tables
from calls.models import Account, AuditEntry, Conversation, MissedCaller, WorklistStep
from calls.numbers import search_digits
from calls.templatetags import words
from calls.worklist import MISSED, REASONS, Refused, act, colleagues, due_now, next_entry, role_of, steps_of

Kind, Closing = WorklistStep.Kind, MissedCaller.Closing
SHOW = "show"
TABS = {
    "open": "Open",
    "mine": "Mine",
    "nobody": "Nobody’s",
    "overdue": "Overdue",
    "snoozed": "Put off",
    "closed": "Closed",
    "all": "All",
}
CALLS, OTHER_CALLS = 100, 5
"""How many calls of an entry its page shows, and how many others of the caller."""
MOST_IN_BADGE = 100
_RANGES = {1: "Today", 7: "7 days", 30: "30 days"}
_WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_SOON = timedelta(minutes=15)
_ROLES = {"MISSED": "Missed", "ATTEMPT": "Attempt", "CALLED_BACK": "Called back", "GOT_THROUGH": "Got through"}


class ShowFilter(DropdownFilter):
    """Which entries: those that can be worked on now, unless something else is asked for."""

    title = "show"
    parameter_name = SHOW
    all_option = None

    def lookups(self, request: HttpRequest, model_admin: admin.ModelAdmin) -> list[tuple[str, str]]:
        return list(TABS.items())

    def queryset(self, request: HttpRequest, queryset: QuerySet[MissedCaller]) -> QuerySet[MissedCaller]:
        now = timezone.now()
        match self.value():
            case "all":
                return queryset
            case "closed":
                return queryset.filter(closed_at__isnull=False)
            case "snoozed":
                return queryset.filter(closed_at=None, snoozed_until__gt=now)
            case "mine":
                return due_now(queryset, now).filter(assigned_to=request.user)
            case "nobody":
                return due_now(queryset, now).filter(assigned_to=None)
            case "overdue":
                return due_now(queryset, now).filter(due_at__lt=now)
        return due_now(queryset, now)


class ResultFilter(DropdownFilter):
    """What came of an entry, as the page of figures counts it."""

    title = "what came of it"
    parameter_name = "result"

    def lookups(self, request: HttpRequest, model_admin: admin.ModelAdmin) -> list[tuple[str, str]]:
        return [("reached", "Reached"), ("kept", "Promise kept"), ("promised", "Promise kept or broken")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[MissedCaller]) -> QuerySet[MissedCaller]:
        match self.value():
            case "reached":
                return queryset.filter(callbacks.is_reached())
            case "kept":
                return queryset.filter(callbacks.is_kept())
            case "promised":
                return queryset.filter(callbacks.is_kept() | callbacks.is_broken(timezone.now()))
        return queryset


class MissedHourFilter(HourFilter):
    """The hour of the day of the first missed call."""

    moment = "first_missed_at"


class MissedWeekdayFilter(WeekdayFilter):
    """The day of the week of the first missed call."""

    moment = "first_missed_at"


class DidFilter(TextFilter):
    """The number of ours that was called, in any spelling or in part."""

    title = "DID"
    parameter_name = "did"

    def queryset(self, request: HttpRequest, queryset: QuerySet[MissedCaller]) -> QuerySet[MissedCaller]:
        digits = search_digits(self.value() or "")
        return queryset.filter(did__contains=digits) if digits else queryset


@admin.register(MissedCaller)
class MissedCallerAdmin(ExportMixin, ReadOnlyAdmin):
    """Who is owed a call, the oldest promise first."""

    list_display = ["customer_number"]  # the page shows the rows by its own template
    list_display_links = None
    list_select_related = ["account", "assigned_to"]
    list_filter = [
        ShowFilter,
        ("account", RelatedFilter),
        DidFilter,
        ("first_missed_at", TimeRangeFilter),
        ResultFilter,
        MissedHourFilter,
        MissedWeekdayFilter,
    ]
    sortable_by = ()
    export_columns = tables.MISSED_CALLERS
    change_list_template = "calls/worklist.html"
    change_form_outer_before_template = "calls/worklist_entry.html"

    def get_actions(self, request: HttpRequest) -> dict:
        return {}

    def get_fieldsets(self, request: HttpRequest, obj: MissedCaller | None = None) -> list:
        return []  # the page shows everything by its own template

    def get_ordering(self, request: HttpRequest) -> list[str | OrderBy]:
        if request.GET.get(SHOW) == "closed":
            return ["-closed_at", "-id"]
        if request.GET.get(SHOW) == "all":
            return ["-first_missed_at", "-id"]
        return [F("due_at").asc(nulls_last=True), "first_missed_at", "id"]

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view
        return [
            path("figures/", view(self.figures), name="calls_missedcaller_figures"),
            path("<int:pk>/act/", view(require_POST(self.act)), name="calls_missedcaller_act"),
            *super().get_urls(),
        ]

    def figures(self, request: HttpRequest) -> HttpResponse:
        """Show how quickly missed callers were called back, per account, and when they were missed."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        days = {"1": 1, "7": 7}.get(request.GET.get("days", ""), 30)
        entries, start = self.get_queryset(request), callbacks.since(days)
        context = self.admin_site.each_context(request) | {
            "title": "Call backs",
            "accounts": _figure_rows(callbacks.figures(entries, start, timezone.now()), start),
            "ranges": [(each, label, each == days) for each, label in _RANGES.items()],
            "charts": _charts(*callbacks.when_missed(entries, start), start),
            "worklist_url": reverse("admin:calls_missedcaller_changelist"),
        }
        return TemplateResponse(request, "calls/worklist_figures.html", context)

    def changelist_view(self, request: HttpRequest, extra_context: dict | None = None) -> HttpResponse:
        response = super().changelist_view(request, extra_context)
        context = getattr(response, "context_data", None)
        if context and "cl" in context:
            self._add_list(request, context["cl"], context)
        return response

    def _add_list(self, request: HttpRequest, entries: ChangeList, context: dict[str, Any]) -> None:
        now = timezone.now()
        shown = request.GET.get(SHOW, "open")
        context |= {
            "title": "Missed callers",
            "rows": [_row(entry, now) for entry in entries.result_list],
            "tabs": [
                {"label": label, "url": entries.get_query_string({SHOW: name}, ["p"]), "is_current": name == shown}
                for name, label in TABS.items()
            ],
            "shown": shown,
            "is_narrowed": bool(request.GET.keys() - {SHOW, "p", "e"}),
            "may_work": request.user.has_perm("calls.work_missed"),
            "withheld": _withheld_today(request.user),
            "has_promise": Account.objects.filter(callback_minutes__isnull=False).exists(),
            "may_promise": request.user.has_perm("calls.change_account"),
        }

    def render_change_form(self, request: HttpRequest, context: dict[str, Any], **kwargs: Any) -> HttpResponse:
        context |= _entry_context(request, kwargs["obj"])
        return super().render_change_form(request, context, **kwargs)

    def act(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Do what the form asks for and return to the page it stands on; who comes too late is told why."""
        if not request.user.has_perm("calls.work_missed"):
            raise PermissionDenied
        entry = get_object_or_404(self.get_queryset(request).select_related("account"), pk=pk)
        kind = request.POST.get("kind", "")
        try:
            details = _details(request, entry, kind)
            act(entry, request.user, Kind(kind), **details)
        except _Problem as problem:
            self.message_user(request, str(problem), messages.ERROR)
        except Refused as refused:
            self.message_user(request, str(refused), messages.WARNING)
        except ValueError:
            return HttpResponseBadRequest("There is no such step.", content_type="text/plain")
        else:
            step = {name: str(value) for name, value in details.items() if name in {"assigned_to", "closing"} and value}
            audit.record(request, AuditEntry.Action.CHANGE, entry, str(entry), step=kind, **step)
            self.message_user(request, _DONE[kind].format(**details), messages.SUCCESS)
        back = request.POST.get("next", "")
        if not url_has_allowed_host_and_scheme(back, allowed_hosts=None):
            back = reverse("admin:calls_missedcaller_change", args=[pk])
        return redirect(back)


class _Problem(Exception):
    """What is wrong with a form; the message is for who sent it."""


_DONE = {
    Kind.TAKE: "It is yours now.",
    Kind.ASSIGN: "Assigned to {assigned_to}.",
    Kind.GIVE_BACK: "Given back: whoever is free can take it.",
    Kind.SNOOZE: "Put off. It comes back by itself, at the latest when the caller rings again.",
    Kind.WAKE: "It is on the list again.",
    Kind.CLOSE: "Closed.",
    Kind.REOPEN: "Open again.",
    Kind.COMMENT: "Comment added.",
}


def _details(request: HttpRequest, entry: MissedCaller, kind: str) -> dict[str, Any]:
    """Return the columns of the step that a form asks for."""
    form = request.POST
    text = form.get("text", "").strip()
    if len(text) > 2000:
        raise _Problem(f"The text has {len(text):,} characters. Write at most 2,000.")
    match kind:
        case Kind.TAKE:
            return {"assigned_to": request.user}
        case Kind.ASSIGN:
            return {"assigned_to": _colleague(request, entry)}
        case Kind.SNOOZE:
            return {"until": _until(entry.account, form.get("until", ""))}
        case Kind.CLOSE:
            if form.get("closing") not in REASONS:
                raise _Problem("Choose why it is closed.")
            if form["closing"] == Closing.OTHER and not text:
                raise _Problem("Write why it is closed: “Other” alone tells nobody anything.")
            return {"closing": form["closing"], "text": text}
        case Kind.COMMENT:
            if not text:
                raise _Problem("The comment is empty. Write what you have found out or done.")
            return {"text": text}
    return {}


def _colleague(request: HttpRequest, entry: MissedCaller) -> Any:
    if not request.user.has_perm("calls.assign_missed"):
        raise PermissionDenied
    wanted = request.POST.get("assignee", "")
    person = colleagues().filter(pk=wanted).first() if wanted.isdecimal() and len(wanted) < 19 else None
    if person is None:
        raise _Problem("Choose a colleague who works on the worklist.")
    if not visible(person, MissedCaller.objects.filter(pk=entry.pk)).exists():
        raise _Problem(f"{person} does not see the calls of {entry.account}. Choose somebody else.")
    return person


def _until(account: Account, wanted: str) -> datetime:
    now = timezone.now()
    if wanted == "opening":
        return _next_opening(account, now)
    if wanted not in {"15", "60"}:
        raise _Problem("Choose until when it is put off.")
    return now + timedelta(minutes=int(wanted))


def _next_opening(account: Account, now: datetime) -> datetime:
    hours = business_hours.parse(account.business_hours)
    return business_hours.next_opening(hours, now, ZoneInfo(account.time_zone))


def waiting(request: HttpRequest) -> str:
    """Return how many missed callers the viewer sees who wait for a call now, for the sidebar."""
    entries = due_now(visible(request.user, MissedCaller.objects.order_by()), timezone.now())
    count = entries[:MOST_IN_BADGE].count()
    return f"{MOST_IN_BADGE - 1}+" if count == MOST_IN_BADGE else str(count)


def _withheld_today(user: Any) -> int:
    """Return how many calls were missed today, in the viewer's zone, that nobody can return."""
    midnight = timezone.localtime().replace(hour=0, minute=0, second=0, microsecond=0)
    missed = Conversation.objects.filter(
        started_at__gte=midnight, direction=Direction.INBOUND, disposition__in=MISSED, customer_number=""
    )
    return count_up_to_cap(visible(user, missed))


def _row(entry: MissedCaller, now: datetime) -> dict[str, Any]:
    return {"entry": entry} | _promise(entry, now)


def _promise(entry: MissedCaller, now: datetime) -> dict[str, str]:
    """Return how an entry stands, as a word and its colour."""
    if entry.closed_at:
        return {"promise": entry.get_closing_display(), "colour": "answered" if entry.reached_at else "unknown"}
    if entry.snoozed_until and entry.snoozed_until > now:
        return {"promise": f"Put off for {lasting(entry.snoozed_until - now)}", "colour": "voicemail"}
    if entry.due_at is None:
        return {"promise": f"Waits for {lasting(now - entry.first_missed_at)}", "colour": "unknown"}
    if entry.due_at < now:
        return {"promise": f"Overdue by {lasting(now - entry.due_at)}", "colour": "missed"}
    left = entry.due_at - now
    return {"promise": f"Due in {lasting(left)}", "colour": "busy" if left < _SOON else "unknown"}


def lasting(length: timedelta) -> str:
    """Return a length of time in its two largest units, such as ``2 h 05 min``."""
    minutes = max(0, int(length.total_seconds() // 60))
    hours, days = minutes // 60, minutes // (24 * 60)
    if days:
        return f"{days} d {hours % 24} h"
    return f"{hours} h {minutes % 60:02} min" if hours else f"{minutes} min"


def _entry_context(request: HttpRequest, entry: MissedCaller) -> dict[str, Any]:
    """Return what the page of an entry shows."""
    user, now = request.user, timezone.now()
    newer = next_entry(entry)
    calls = visible(user, Conversation.objects.filter(customer_number=entry.customer_number)).select_related(
        "account", "agent"
    )
    begun = calls.filter(account=entry.account, started_at__gte=entry.first_missed_at)
    if newer:
        begun = begun.filter(started_at__lt=newer.first_missed_at)
    own = list(begun.order_by("started_at", "pk")[:CALLS])
    others = calls.exclude(pk__in=[call.pk for call in own]).order_by("-started_at")[:OTHER_CALLS]
    return {
        "title": "Missed caller",
        "entry": entry,
        **_promise(entry, now),
        "waited": lasting((entry.reached_at or entry.closed_at or now) - entry.first_missed_at),
        "is_late": entry.due_at is not None and entry.due_at < (entry.reached_at or entry.closed_at or now),
        "is_snoozed": entry.closed_at is None and entry.snoozed_until is not None and entry.snoozed_until > now,
        "newer": newer,
        "entry_calls": [(call, _role(call, entry)) for call in own],
        "other_calls": others,
        "history": steps_of(entry).select_related("by", "api_key", "assigned_to"),
        "may_work": user.has_perm("calls.work_missed") and newer is None,
        "may_assign": user.has_perm("calls.assign_missed"),
        "may_call": may_see_numbers(user),
        "colleagues": colleagues() if user.has_perm("calls.assign_missed") else [],
        "next_opening": _next_opening(entry.account, now),
        "reasons": [(reason.value, reason.label) for reason in REASONS],
        "worklist_url": reverse("admin:calls_missedcaller_changelist"),
    }


def _role(call: Conversation, entry: MissedCaller) -> str:
    """Return in a word what a call is to an entry."""
    if call.pk == entry.reached_by_id:
        return entry.get_closing_display()
    what = role_of(call.direction, call.disposition)
    if what is None:
        return ""
    word = _ROLES[what.name]
    return f"{word} at another DID" if word == "Missed" and call.did != entry.did else word


def _counted(start: datetime, **filters: object) -> str:
    """Return the address of the list of the entries that began at ``start`` or later and pass ``filters``."""
    query = {SHOW: "all", "first_missed_at_from_0": start.isoformat(), **filters}
    return f"{reverse('admin:calls_missedcaller_changelist')}?{urlencode(query)}"


def _figure_rows(found: list[tuple[Account, callbacks.Figures]], start: datetime) -> list[dict[str, Any]]:
    """Return what the page of figures shows of each account."""
    rows = []
    for account, figures in found:
        promised = figures.kept + figures.broken
        of_account = {"account__id__exact": account.pk}
        rows.append(
            {
                "account": account,
                "entries": figures.entries,
                "entries_url": _counted(start, **of_account),
                "reached": figures.reached,
                "reached_url": _counted(start, **of_account, result="reached"),
                "reached_share": _share(figures.reached, figures.entries),
                "times": [
                    (_times(figures.first_try), _times(figures.first_try_plain)),
                    (_times(figures.reach), _times(figures.reach_plain)),
                ],
                "kept": figures.kept,
                "kept_url": _counted(start, **of_account, result="kept"),
                "promised": promised,
                "promised_url": _counted(start, **of_account, result="promised"),
                "kept_share": _share(figures.kept, promised),
            }
        )
    return rows


def _times(times: callbacks.Times) -> dict[str, str]:
    if times.median is None or times.ninetieth is None:
        return {"median": words.EMPTY, "ninetieth": words.EMPTY}
    return {"median": lasting(times.median), "ninetieth": lasting(times.ninetieth)}


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.0f} %" if whole else words.EMPTY


def _charts(hours: list[callbacks.When], weekdays: list[callbacks.When], start: datetime) -> list[dict[str, Any]]:
    of_hours = [_counted(start, hour=hour) for hour in range(24)]
    of_weekdays = [_counted(start, weekday=weekday) for weekday in range(1, 8)]
    return [
        _chart("By hour of the first missed call", [f"{hour:02}:00" for hour in range(24)], hours, of_hours),
        _chart("By weekday of the first missed call", _WEEKDAYS, weekdays, of_weekdays),
    ]


def _chart(title: str, labels: Sequence[str], counts: Sequence[callbacks.When], urls: Sequence[str]) -> dict[str, Any]:
    """Return the bars of a chart 100 high and one wide for each, the callers who were reached at their feet."""
    most = max(count.missed for count in counts)
    bars = [
        {
            "x": place,
            "label": label,
            "missed": count.missed,
            "reached": count.reached,
            "url": url,
            "reached_url": f"{url}&result=reached",
            "top": round(100 - 100 * count.missed / (most or 1), 2),
            "open_height": round(100 * (count.missed - count.reached) / (most or 1), 2),
            "reached_top": round(100 - 100 * count.reached / (most or 1), 2),
            "reached_height": round(100 * count.reached / (most or 1), 2),
        }
        for place, (label, count, url) in enumerate(zip(labels, counts, urls, strict=True))
    ]
    return {"title": title, "bars": bars, "most": most, "total": sum(count.missed for count in counts)}
