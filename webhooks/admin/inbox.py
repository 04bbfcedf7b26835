"""The page of the inbox: how much comes in, what waits, what was not understood, and when we seem to have been away."""

from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import reverse

from calls.access import reach_of, shown
from calls.admin.base import time_range
from calls.counting import CAP
from webhooks import figures
from webhooks.admin.labels import ADVICE
from webhooks.models import Delivery

ORDER = [Delivery.Status(name) for name in ("processed", "ignored", "repeat", "pending", "quarantined")]
"""From the foot of a bar to its top."""


def overview(request: HttpRequest) -> HttpResponse:
    """Show the figures of the inbox; with ``?part=1`` only what changes, for the script that keeps it up to date."""
    # Its figures are of all accounts together.
    if not (request.user.has_perm("webhooks.view_delivery") and reach_of(request.user).is_everything):
        raise PermissionDenied
    hour, day = figures.rate_of_hour(), figures.rate_of_day()
    lag = figures.lag()
    groups, groups_since = figures.quarantined()
    outages, outages_since = figures.outages_of_day()
    accounts = figures.repeats(day)
    for row in accounts:
        row["url"] = list_url(row["account"], since=day.since, status="repeat")
        row["share"] = _percent(row["repeats"], row["total"])
    for group in groups:
        group["advice"] = ADVICE.get(group["error_class"], "")
        exact = {f"{name}__exact": group[name] for name in ("error_class", "error_field", "error_value")}
        # The value may be a number: then the address would tell it to who may not see it.
        is_hidden = shown(group["error_value"]) != group["error_value"]
        group["url"] = "" if is_hidden else f"{list_url(since=groups_since, status='quarantined')}&{urlencode(exact)}"
    total, repeated = (sum(row[name] for row in accounts) for name in ("total", "repeats"))
    context = admin.site.each_context(request) | {
        "title": "Inbox",
        "charts": [
            _chart("Per minute, last hour", hour, "H:i"),
            _chart("Per hour, last day", day, "j M, H:i"),
        ],
        "lag": lag,
        "pending_text": f"More than {CAP:,}" if lag["pending"] > CAP else f"{lag['pending']:,}",
        "pending_url": list_url(status="pending"),
        "accounts": accounts,
        "repeated": repeated,
        "repeated_share": _percent(repeated, total),
        "repeated_url": list_url(since=day.since, status="repeat"),
        "day_since": day.since,
        "groups": groups,
        "groups_since": groups_since,
        "quarantined_url": list_url(status="quarantined"),
        "outages": [
            outage._asdict() | {"count": len(outage.deliveries), "url": late_url(outage)} for outage in outages
        ],
        "outages_since": outages_since,
    }
    name = "webhooks/inbox_figures.html" if "part" in request.GET else "webhooks/inbox.html"
    return TemplateResponse(request, name, context)


def list_url(
    account: int | None = None, *, since: datetime | None = None, until: datetime | None = None, status: str
) -> str:
    """Return the list of deliveries received from ``since`` to just before ``until``, to the microsecond."""
    query: dict[str, Any] = {"status__exact": status}
    if account:
        query["account__id__exact"] = account
    query |= time_range("received_at", since, until)
    return f"{reverse('admin:webhooks_delivery_changelist')}?{urlencode(query)}"


def late_url(outage: figures.Outage) -> str:
    """Return the list of the reports that tell of ``outage``."""
    return f"{reverse('admin:webhooks_delivery_changelist')}?{urlencode({'away': outage.first_missed.isoformat()})}"


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "none"


def _chart(title: str, rate: figures.Rate, form: str) -> dict[str, Any]:
    """Return the bars of a chart 100 high and one wide for each; a link for each that is not empty."""
    most = max((counts.total() for counts in rate.buckets.values()), default=0)
    bars = []
    for place, (begin, counts) in enumerate(rate.buckets.items()):
        foot, parts = 100.0, []
        for status in ORDER:
            if counts[status]:
                height = 100 * counts[status] / most
                foot -= height
                parts.append({"status": status.value, "y": round(foot, 2), "height": round(height, 2)})
        words = ", ".join(f"{counts[status]:,} {status.label.lower()}" for status in ORDER if counts[status])
        url = list_url(since=max(begin, rate.since), until=begin + rate.width, status="all")
        bars.append({"x": place, "parts": parts, "total": counts.total(), "words": words, "begin": begin, "url": url})
    return {
        "title": title,
        "form": form,
        "bars": bars,
        "most": most,
        "total": sum(bar["total"] for bar in bars),
        "url": list_url(since=rate.since, status="all"),
        "since": rate.since,
        "is_cut": rate.is_cut,
        "per": "minute" if rate.width == figures.MINUTE else "hour",
    }
