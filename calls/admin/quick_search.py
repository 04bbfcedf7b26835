"""The quick search of the sidebar (Ctrl+K): pages of the admin and, by ``find_calls``, calls."""

from datetime import datetime

from django.contrib import admin
from django.core.paginator import InvalidPage
from django.http import HttpRequest, HttpResponse, HttpResponseBadRequest
from django.urls import reverse
from django.utils import timezone
from unfold.dataclasses import SearchResult

from calls.admin.conversation import find
from calls.models import Conversation
from calls.templatetags import words

FOUND = 10
"""How many calls it shows; the list shows the rest."""


def find_calls(request: HttpRequest, query: str) -> list[SearchResult]:
    """Return the newest calls that ``query`` finds. The theme calls it (settings, ``UNFOLD``)."""
    if not request.user.has_perm("calls.view_conversation"):
        return []
    calls = find(Conversation.objects.all(), query)[:FOUND]
    return [
        SearchResult(
            title=words.phone(call.customer_number),
            description=f"{call.get_disposition_display() or 'Live'}, {_when(call.started_at)}",
            link=reverse("admin:calls_conversation_change", args=[call.pk]),
            icon="call",
        )
        for call in calls
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
