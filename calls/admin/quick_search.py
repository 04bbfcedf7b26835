"""The quick search of the sidebar (Ctrl+K): pages of the admin and, by ``find_calls``, contacts and calls."""

from datetime import datetime

from django.contrib import admin
from django.core.paginator import InvalidPage
from django.http import HttpRequest, HttpResponse, HttpResponseBadRequest
from django.urls import reverse
from django.utils import timezone
from unfold.dataclasses import SearchResult

from calls import contacts
from calls.access import visible
from calls.models import Conversation
from calls.searching import find
from calls.templatetags import words

FOUND = 10
"""How many calls it shows; the list shows the rest."""
CONTACTS_FOUND = 5


def find_calls(request: HttpRequest, query: str) -> list[SearchResult]:
    """Return the contacts and the newest calls that ``query`` finds. The theme calls it (settings, ``UNFOLD``)."""
    found = _contacts(request, query.strip()) if request.user.has_perm("calls.view_contact") else []
    if not request.user.has_perm("calls.view_conversation"):
        return found
    calls = find(visible(request.user, Conversation.objects.all()), query)[:FOUND]
    return found + [
        SearchResult(
            title=words.phone(call.customer_number),
            description=f"{call.get_disposition_display() or 'Live'}, {_when(call.started_at)}",
            link=reverse("admin:calls_conversation_change", args=[call.pk]),
            icon="call",
        )
        for call in calls
    ]


def _contacts(request: HttpRequest, text: str) -> list[SearchResult]:
    found = visible(request.user, contacts.find(text))[:CONTACTS_FOUND] if text else []
    return [
        SearchResult(
            title=str(contact),
            description="Contact",
            link=reverse("admin:calls_contact_change", args=[contact.pk]),
            icon="contacts",
        )
        for contact in found
    ]


def _when(at: datetime) -> str:
    return f"{timezone.localtime(at):%d %b %Y, %H:%M}"


_themed_search = admin.site.search


def _search(request: HttpRequest, extra_context: dict | None = None) -> HttpResponse:
    try:
        return _themed_search(request, extra_context)
    except (InvalidPage, ValueError):  # the theme trusts ?page=
        return HttpResponseBadRequest("There is no such page.", content_type="text/plain")


admin.site.search = _search
