"""The first page: today's figures, each a link to exactly the calls it counts."""

from typing import Any

from django.db.models import Count, Q
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone

from calls import burn
from calls.choices import Disposition, State
from calls.counting import CAP, count_up_to_cap
from calls.models import Account, Alert, BalanceReading, Conversation
from calls.runway import words


def add_overview(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """Add to the context of the first page what the viewer may see of calls, money and accounts."""
    user = request.user
    context["title"] = "Overview"
    context["may_see_calls"] = user.has_perm("calls.view_conversation")
    context["may_add_account"] = user.has_perm("calls.add_account")
    context["has_accounts"] = Account.objects.exists()
    if context["may_see_calls"]:
        context["has_calls"] = Conversation.objects.exists()
        context["figures"] = _figures()
    if user.has_perm("calls.view_balancereading"):
        context["balances"] = _balances()
    if user.has_perm("calls.view_alert"):
        context["open_alerts"] = Alert.objects.filter(cleared_at=None).select_related("account")[:10]
    return context


def _balances() -> list[tuple[Account, BalanceReading, str]]:
    """Return the active accounts that tell a balance, the newest, and in words how long it lasts."""
    now = timezone.now()
    found = burn.runways(Account.objects.filter(is_active=True), now)
    return [(account, reading, words(lasting, now)) for account, (reading, lasting) in found.items()]


def _figures() -> list[dict[str, Any]]:
    """Return today's figures in the viewer's zone, and the calls going on now."""
    midnight = timezone.localtime().replace(hour=0, minute=0, second=0, microsecond=0)
    calls = reverse("admin:calls_conversation_changelist")
    today = f"{calls}?started_at_from_0={midnight:%Y-%m-%d}&started_at_from_1=00:00:00"
    counts = Conversation.objects.filter(started_at__gte=midnight).aggregate(
        all=Count("pk"),
        answered=Count("pk", filter=Q(disposition=Disposition.ANSWERED)),
        missed=Count("pk", filter=Q(disposition=Disposition.MISSED)),
    )
    live = count_up_to_cap(Conversation.objects.filter(state=State.LIVE))
    return [
        {"title": "Calls today", "count": f"{counts['all']:,}", "url": today, "word": ""},
        {
            "title": "Answered today",
            "count": f"{counts['answered']:,}",
            "url": f"{today}&disposition__exact=answered",
            "word": "answered",
        },
        {
            "title": "Missed today",
            "count": f"{counts['missed']:,}",
            "url": f"{today}&disposition__exact=missed",
            "word": "missed",
        },
        {
            "title": "Live now",
            "count": f"{CAP:,}+" if live > CAP else f"{live:,}",
            "url": f"{calls}?state__exact=live",
            "word": "live",
        },
    ]
