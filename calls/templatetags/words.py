"""How values are written for staff, in templates and in the columns of the admin alike. Everything is escaped."""

import json
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit

from django import template
from django.db.models import Model
from django.urls import reverse
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.html import format_html

from calls import masking, numbers, weblinks
from calls.choices import Direction, Disposition, GapKind
from calls.models import BalanceReading, Conversation, Leg

register = template.Library()

EMPTY = "–"
_ARROWS = {Direction.INBOUND: "call_received", Direction.OUTBOUND: "call_made", Direction.UNKNOWN: "question_mark"}


GAPS = {
    GapKind.OPENING: "First reading",
    GapKind.NONE: "Explained",
    GapKind.TOP_UP: "Top-up",
    GapKind.MISSING: "Unexplained charge",
    GapKind.ROUNDING: "Rounding",
}
_GAP_COLOURS = {GapKind.TOP_UP: "answered", GapKind.MISSING: "missed", GapKind.ROUNDING: "busy"}


@register.filter
def phone(number: str) -> str:
    """Return a number grouped for reading, or masked for who may not see it; a withheld one is said to be so."""
    if not number:
        return "Number withheld"
    return masking.masked_number(number) if masking.is_masking() else numbers.display(number)


@register.filter
def did(number: str) -> str:
    """Return a number of ours, grouped for reading: it is shown to everybody who may see the call."""
    return format_html('<span class="rl-did">{}</span>', numbers.display(number)) if number else EMPTY


@register.filter
def shown(text: object) -> str:
    """Return a text that may hold phone numbers as the viewer may see it."""
    return masking.shown(str(text))


@register.inclusion_tag("calls/party.html", takes_context=True)
def party(context: template.Context, row: Model, field: str) -> dict[str, Any]:
    """Show the number in ``field`` of ``row``, with a button that reveals it to who may have it revealed."""
    number = getattr(row, field)
    may_reveal = context["request"].user.has_perm("calls.reveal_numbers")
    return {
        "number": phone(number),
        "address": reverse("reveal", args=[row._meta.label_lower, row.pk, field])
        if masking.is_masking() and may_reveal and number and phone(number) != numbers.display(number)
        else "",
    }


@register.filter
def clock(seconds: int | None) -> str:
    """Return a length as ``m:ss`` or ``h:mm:ss``."""
    if seconds is None:
        return EMPTY
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


@register.filter
def money(amount: Decimal | None, unit: str = "") -> str:
    """Return an amount with its unit: all decimals that say something, but two at least."""
    if amount is None:
        return EMPTY
    whole, _, decimals = f"{amount:,f}".partition(".")
    return f"{whole}.{decimals.rstrip('0').ljust(2, '0')} {unit}".rstrip()


@register.filter
def moment(at: datetime | None) -> str:
    """Return a time in the viewer's zone; how long ago when it is near; in full, with the zone, as the title."""
    if at is None:
        return EMPTY
    local, now = timezone.localtime(at), timezone.localtime()
    form = "H:i:s" if local.date() == now.date() else "j M, H:i:s" if local.year == now.year else "j M Y, H:i:s"
    ago, age = "", now - local
    if timedelta(0) <= age < timedelta(days=1):
        minutes = int(age.total_seconds() // 60)
        ago = f"{minutes // 60} h ago" if minutes >= 60 else f"{minutes} min ago" if minutes else "just now"
    return format_html(
        '<time datetime="{}" title="{} ({})" class="rl-time">{} <small>{}</small></time>',
        at.isoformat(),
        date_format(local, "l, j F Y, H:i:s"),
        timezone.get_current_timezone_name(),
        date_format(local, form),
        ago,
    )


@register.filter
def outcome(subject: Conversation | Leg) -> str:
    """Return the disposition of a call or leg as a coloured word; one without is live."""
    word = subject.disposition or "live"
    label = Disposition(word).label if subject.disposition else "Live"
    return format_html('<span class="rl-word rl-{}">{}</span>', word, label)


@register.filter
def gap(reading: BalanceReading) -> str:
    """Return why a balance is not what the one before and the charge would leave, as a coloured word."""
    colour = _GAP_COLOURS.get(reading.gap_kind, "")
    word = format_html(
        '<span class="{}">{}</span>', f"rl-word rl-{colour}" if colour else "rl-muted", GAPS[reading.gap_kind]
    )
    return format_html('{} <span class="rl-muted">reordered</span>', word) if reading.is_reordered else word


@register.filter
def arrow(direction: str) -> str:
    """Return a direction as an icon and its word."""
    icon = format_html('<span class="material-symbols-outlined" aria-hidden="true">{}</span>', _ARROWS[direction])
    return format_html('<span class="rl-direction rl-{}">{}{}</span>', direction, icon, Direction(direction).label)


@register.filter
def pretty(value: object) -> str:
    """Return a JSON value on several lines, letters of every script as they are."""
    text = json.dumps(value, indent=2, ensure_ascii=False, sort_keys=False, default=str)
    return masking.shown(weblinks.shortened(text))


@register.filter
def web_address(text: str) -> str:
    """Return ``text`` when a browser may be sent there, else an empty string: providers write these values."""
    try:
        parts = urlsplit(text)
        return text if parts.scheme in {"http", "https"} and parts.hostname else ""
    except ValueError:
        return ""
