"""What templates of calls may ask about deliveries: ``calls`` itself knows nothing of them."""

import json
from typing import Any

from django import template
from django.db.models import OuterRef, QuerySet, Subquery

from calls.counting import CAP, count_up_to_cap
from calls.models import Account, Conversation, StoredRecord
from webhooks.decoding import decode
from webhooks.errors import DeliveryError, clean_text
from webhooks.models import Delivery

register = template.Library()

SHOWN = 50
"""A call that took more deliveries than this shows the first of them."""
HEX_BYTES = 4096
"""How much of a body that is no text is shown."""


@register.inclusion_tag("webhooks/deliveries_of.html", takes_context=True)
def deliveries_of(context: template.Context, conversation: Conversation) -> dict[str, Any]:
    """Show the deliveries that a conversation came from, oldest first, each with the copies that came again."""
    if not context["request"].user.has_perm("webhooks.view_delivery"):
        return {"is_hidden": True}
    sources = StoredRecord.objects.filter(conversation=conversation, source__isnull=False).values("source")
    found = Delivery.objects.filter(pk__in=sources).order_by("received_at", "id")
    shown = list(found[: SHOWN + 1])
    copies: dict[Any, list[Delivery]] = {delivery.pk: [] for delivery in shown}
    repeats = Delivery.objects.filter(repeat_of__in=copies).order_by("received_at").only("received_at", "repeat_of")
    for repeat in repeats[: SHOWN * 10]:
        copies[repeat.repeat_of_id].append(repeat)
    return {
        "items": [(delivery, copies[delivery.pk]) for delivery in shown[:SHOWN]],
        "has_more": len(shown) > SHOWN,
    }


@register.filter
def body_text(delivery: Delivery) -> str:
    """Return what a delivery says on several lines: decoded where it can be, else as it came."""
    query, content_type = bytes(delivery.query), delivery.content_type
    try:
        payloads = decode(body=bytes(delivery.body), query=query, content_type=content_type)
    except DeliveryError:
        return raw_text(delivery)
    if any(isinstance(payload, DeliveryError) for payload in payloads):
        return raw_text(delivery)
    shown = payloads[0] if len(payloads) == 1 else payloads
    return clean_text(json.dumps(shown, indent=2, ensure_ascii=False, default=str))


@register.filter
def raw_text(delivery: Delivery) -> str:
    """Return the bytes of a delivery as they came: as text, or in hexadecimal where they are none."""
    raw = bytes(delivery.body) or bytes(delivery.query)
    try:
        return raw.decode()
    except UnicodeDecodeError:
        rest = f"\n… and {len(raw) - HEX_BYTES:,} more bytes" if len(raw) > HEX_BYTES else ""
        return raw[:HEX_BYTES].hex(" ", 4) + rest


@register.simple_tag
def quarantined_count() -> dict[str, Any]:
    """Return how many deliveries are quarantined: a number to show, and whether there is any."""
    count = count_up_to_cap(Delivery.objects.filter(status=Delivery.Status.QUARANTINED))
    return {"count": count, "text": f"{CAP:,}+" if count > CAP else f"{count:,}"}


@register.simple_tag
def last_deliveries() -> QuerySet[Account]:
    """Return the accounts, each with ``last_received_at``: when its newest delivery came, or ``None``."""
    newest = Delivery.objects.filter(account=OuterRef("pk")).order_by("-received_at", "-id")
    return Account.objects.annotate(last_received_at=Subquery(newest.values("received_at")[:1]))
