"""The page of a number: everything about one party, across accounts and all its numbers."""

from collections.abc import Sequence
from datetime import date, timedelta
from decimal import Decimal
from typing import Any, NamedTuple
from uuid import UUID

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import Count, Max, Min, Q, QuerySet, Sum
from django.db.models.functions import TruncDate
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.template.response import TemplateResponse
from django.urls import path
from django.utils import timezone
from django.views.decorators.http import require_POST

from calls import audit, contacts
from calls.access import visible
from calls.choices import Direction, Disposition
from calls.models import Account, Agent, AuditEntry, CallNote, Contact, ContactNumber, Conversation, MissedCaller
from calls.numbers import normalize

SHOWN = 50
"""The newest calls that the page lists."""
NOTES = 10
DIDS = 5
DAYS = 30
"""Days of the chart, today included."""
HEIGHT = 60
"""Of the chart, in units of the drawing."""


class Way(NamedTuple):
    """Calls in one direction: how many have ended, and how many of these were answered."""

    label: str
    ended: int
    answered: int

    @property
    def share(self) -> str:
        return f"{self.answered / self.ended:.0%}" if self.ended else "–"


class Day(NamedTuple):
    """A day's column: its place and the heights of its calls and of the answered ones among them, in units."""

    x: int
    day: date
    count: int
    answered: int
    height: int
    answered_height: int


class ContactForm(forms.ModelForm):
    """Whose number it is."""

    class Meta:
        model = Contact
        fields = ["name", "company", "note"]


def of_call(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Lead to the page of the number that a call was with, which is known from then on."""
    call = get_object_or_404(_calls(request), pk=pk)
    if not call.customer_number:
        raise Http404("This call's number is withheld.")
    return redirect("calls_number", contacts.first_sight(call.customer_number).pk)


def page(request: HttpRequest, pk: int) -> HttpResponse:
    """Show what is known of a number's party from the calls that the viewer may see."""
    number = _number(request, pk)
    numbers = contacts.numbers_of(number)
    calls = _calls(request).filter(customer_number__in=numbers)
    last = list(calls.select_related("account", "agent").prefetch_related("tags")[:SHOWN])
    contact = number.contact
    context = admin.site.each_context(request) | {
        "title": str(contact) if contact else "Number",
        "number": number,
        "contact": contact,
        "rows": _rows(number, last),
        "last": last,
        "is_cut": len(last) == SHOWN,
        "form": ContactForm(instance=contact),
        "notes": CallNote.objects.filter(conversation__in=calls.order_by().values("pk"))
        .select_related("author", "api_key", "conversation")
        .order_by("-created_at", "-id")[:NOTES],
        "owed": _owed(request, numbers),
        "may_edit": _may_edit(request),
        **_figures(calls),
    }
    return TemplateResponse(request, "calls/number.html", context)


@require_POST
def save(request: HttpRequest, pk: int) -> HttpResponse:
    """Write down whose number it is."""
    number = _number_to_edit(request, pk)
    form = ContactForm(request.POST, instance=number.contact)
    if not form.is_valid():
        _complain(request, form)
    else:
        contact = form.save()
        contacts.join(contact, number)
        audit.record(request, AuditEntry.Action.CHANGE, contact, "contact", changes=audit.changes_of(form, []))
    return redirect("calls_number", pk)


@require_POST
def join(request: HttpRequest, pk: int) -> HttpResponse:
    """Join the number with another one, or with a contact that is named: they are the same party."""
    number = _number_to_edit(request, pk)
    text = request.POST.get("with", "").strip()
    if any(char.isalpha() for char in text):
        found = list(visible(request.user, contacts.find(text))[:2])
        contact = found[0] if len(found) == 1 else None
        if contact is None:
            problem = "Several contacts match" if found else "No contact matches"
            messages.error(request, f"{problem} “{text}”. Type more of the name, or one of the contact's numbers.")
            return redirect("calls_number", pk)
        contacts.join(contact, number)
    else:
        other_number = normalize(text, _region(number))
        if not other_number or other_number == number.number:
            messages.error(request, "Type another number of the same person, or the name of a contact.")
            return redirect("calls_number", pk)
        other = contacts.first_sight(other_number)
        contact = number.contact or other.contact or Contact.objects.create()
        contacts.join(contact, number)
        contacts.join(contact, other)
    audit.record(request, AuditEntry.Action.CHANGE, contact, "contact", joined=[number.pk])
    messages.success(request, "They are one contact now: this page tells of all its numbers.")
    return redirect("calls_number", pk)


@require_POST
def separate(request: HttpRequest, pk: int, other: int) -> HttpResponse:
    """Take one of the party's numbers away from its contact."""
    number = _number_to_edit(request, pk)
    if number.contact is None:
        raise Http404
    parted = get_object_or_404(number.contact.numbers, pk=other)
    contacts.separate(parted)
    audit.record(request, AuditEntry.Action.CHANGE, number.contact, "contact", separated=[parted.pk])
    messages.success(request, "The number is on its own again.")
    return redirect("calls_number", pk)


def _calls(request: HttpRequest) -> QuerySet[Conversation]:
    if not request.user.has_perm("calls.view_conversation"):
        raise PermissionDenied
    return visible(request.user, Conversation.objects.all())


def _number(request: HttpRequest, pk: int) -> ContactNumber:
    if not request.user.has_perm("calls.view_conversation"):
        raise PermissionDenied
    number = contacts.known_to(request.user, pk)
    if number is None:
        raise Http404
    return number


def _owed(request: HttpRequest, numbers: Sequence[str]) -> QuerySet[MissedCaller]:
    """Return the party's open entries of the worklist."""
    if not request.user.has_perm("calls.view_missedcaller"):
        return MissedCaller.objects.none()
    owed = MissedCaller.objects.filter(customer_number__in=numbers, closed_at=None)
    return visible(request.user, owed).select_related("account")


def _may_edit(request: HttpRequest) -> bool:
    return request.user.has_perms(["calls.add_contact", "calls.change_contact"])


def _number_to_edit(request: HttpRequest, pk: int) -> ContactNumber:
    if not _may_edit(request):
        raise PermissionDenied
    return _number(request, pk)


def _region(number: ContactNumber) -> str:
    """Return the country in which a number beside this one is read: that of the last call's account."""
    last = Conversation.objects.filter(customer_number=number.number).select_related("account").first()
    account = last.account if last else Account.objects.first()
    return account.phone_region if account else ""


def _complain(request: HttpRequest, form: forms.ModelForm) -> None:
    for name, problems in form.errors.items():
        messages.error(request, f"{form.fields[name].label}: {' '.join(problems)}")


def _rows(number: ContactNumber, last: Sequence[Conversation]) -> list[tuple[ContactNumber, Conversation | None]]:
    """Return the party's numbers, each with a call by which it may be revealed."""
    newest: dict[str, Conversation] = {}
    for call in last:
        newest.setdefault(call.customer_number, call)
    rows = list(number.contact.numbers.all()) if number.contact else [number]
    return [(row, newest.get(row.number)) for row in rows]


def _figures(calls: QuerySet[Conversation]) -> dict[str, Any]:
    calls = calls.order_by()
    ended, answered = Q(disposition__isnull=False), Q(disposition=Disposition.ANSWERED)
    counts = {}
    for way in (Direction.INBOUND, Direction.OUTBOUND):
        counts[f"{way}_ended"] = Count("pk", filter=ended & Q(direction=way))
        counts[f"{way}_answered"] = Count("pk", filter=answered & Q(direction=way))
    totals = calls.aggregate(
        count=Count("pk"), first=Min("started_at"), last=Max("started_at"), talk=Sum("talk_seconds"), **counts
    )
    agents = calls.filter(agent__isnull=False).values("agent").annotate(count=Count("pk")).order_by("-count", "agent")
    usual = agents.first()
    dids = calls.exclude(did="").values("did").annotate(count=Count("pk")).order_by("-count", "did")
    costs = calls.filter(cost__isnull=False).values("cost_unit").annotate(cost=Sum("cost")).order_by("cost_unit")
    by_word = calls.values("disposition").annotate(count=Count("pk")).order_by("-count", "disposition")
    return {
        "totals": totals,
        "ways": [
            Way(way.label, totals[f"{way}_ended"], totals[f"{way}_answered"])
            for way in (Direction.INBOUND, Direction.OUTBOUND)
        ],
        "usual_agent": Agent.objects.get(pk=usual["agent"]) if usual else None,
        "usual_count": usual["count"] if usual else 0,
        "dids": list(dids[:DIDS]),
        "costs": [(row["cost_unit"], row["cost"] or Decimal(0)) for row in costs],
        # Each as what words.outcome takes: a call, here without anything but how it ended.
        "dispositions": [(Conversation(disposition=row["disposition"]), row["count"]) for row in by_word],
        "days": _days(calls),
    }


def _days(calls: QuerySet[Conversation]) -> list[Day]:
    """Return the columns of the last days, or ``[]`` when there was no call."""
    today = timezone.localdate()
    first = today - timedelta(days=DAYS - 1)
    recent = calls.filter(started_at__gte=timezone.now() - timedelta(days=DAYS + 1))
    counted = (
        recent.annotate(day=TruncDate("started_at"))
        .filter(day__gte=first)
        .values("day")
        .annotate(count=Count("pk"), answered=Count("pk", filter=Q(disposition=Disposition.ANSWERED)))
    )
    by_day = {row["day"]: (row["count"], row["answered"]) for row in counted}
    most = max((count for count, _ in by_day.values()), default=0)
    if not most:
        return []
    days = []
    for place in range(DAYS):
        day = first + timedelta(days=place)
        count, answered = by_day.get(day, (0, 0))
        heights = [round(part / most * HEIGHT) for part in (count, answered)]
        days.append(Day(place * 10, day, count, answered, *heights))
    return days


def _url(route: str, view: Any, name: str) -> Any:
    return path(route, admin.site.admin_view(view), name=name)


urlpatterns = [
    _url("of/<uuid:pk>/", of_call, "calls_number_of"),
    _url("<int:pk>/", page, "calls_number"),
    _url("<int:pk>/contact/", save, "calls_number_contact"),
    _url("<int:pk>/join/", join, "calls_number_join"),
    _url("<int:pk>/separate/<int:other>/", separate, "calls_number_separate"),
]
