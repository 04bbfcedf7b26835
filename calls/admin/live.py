"""The live board: the calls going on now, and what the agents at work do."""

from typing import Any
from uuid import UUID

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils import timezone

from calls import access
from calls.choices import Direction, Disposition
from calls.live import BOARD, Viewer
from calls.live_streams import LOOK_SECONDS, admit
from calls.models import Account, Agent

MOST_AGENTS = 500
"""Agents that can be chosen from."""
GROUPS = {"": "Newest first", "account": "By account", "did": "By DID", "agent": "By agent"}


def board(request: HttpRequest) -> HttpResponse:
    """Show the page; its script asks for the calls."""
    _check(request)
    accounts = access.visible(request.user, Account.objects.all())
    agents = access.visible(request.user, Agent.objects.select_related("account"))
    chosen = {name: request.GET.get(name, "") for name in ("account", "agent", "did", "group")}
    if chosen["account"].isascii() and chosen["account"].isdecimal():
        agents = agents.filter(account=int(chosen["account"][:18]))
    context: dict[str, Any] = admin.site.each_context(request) | {
        "title": "Live board",
        "accounts": accounts,
        "agents": agents.order_by("account", "name", "external_id")[:MOST_AGENTS],
        "chosen": chosen,
        "groups": GROUPS,
        "has_filter": any(chosen[name] for name in ("account", "agent", "did")),
        "call_url": reverse("admin:calls_conversation_change", args=[UUID(int=0)]),
        "zone": timezone.get_current_timezone_name(),
        "directions": Direction.choices,
        "dispositions": Disposition.choices,
    }
    return TemplateResponse(request, "calls/live.html", context)


def stream(request: HttpRequest) -> HttpResponse:
    """Send what is new as server-sent events: see ``calls.live_streams``."""
    _check(request)
    return admit(request, f"user {request.user.pk}", Viewer.of(request.user, request.GET))


def state(request: HttpRequest) -> HttpResponse:
    """Return what is new since the news with the id ``since``, for browsers that can have no stream."""
    _check(request)
    BOARD.look(max_age=LOOK_SECONDS)
    news = BOARD.news(Viewer.of(request.user, request.GET), request.GET.get("since", ""))
    if news is None:
        return JsonResponse({"id": request.GET["since"], "news": None})
    return HttpResponse(f'{{"id":"{news.id}","news":{news.data}}}', content_type="application/json")


def _check(request: HttpRequest) -> None:
    if not request.user.has_perm("calls.view_conversation"):
        raise PermissionDenied


urls = [
    path("admin/live/", admin.site.admin_view(board), name="live"),
    path("admin/live/stream/", admin.site.admin_view(stream), name="live-stream"),
    path("admin/live/state/", admin.site.admin_view(state), name="live-state"),
]
