"""What templates of calls may ask about deliveries: ``calls`` itself knows nothing of them."""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from uuid import UUID

from django import template
from django.db.models import OuterRef, QuerySet, Subquery

from calls import access, weblinks
from calls.counting import CAP, count_up_to_cap
from calls.models import Account, Conversation, StoredRecord
from calls.provenance import describe
from calls.records import load_record
from webhooks import figures, versions
from webhooks.decoding import decode
from webhooks.errors import DeliveryError, clean_text
from webhooks.models import Delivery
from webhooks.versions import Change

register = template.Library()

SHOWN = 50
"""A call that took more deliveries than this shows the first of them."""
MOST_CHANGES = 100
"""Of a version that differs in more fields, the first are shown."""
HEX_BYTES = 4096
"""How much of a body that is no text is shown."""


class Item(NamedTuple):
    """A delivery as the page of a call shows it."""

    delivery: Delivery
    copies: list[Delivery]
    """The same bytes, come again later."""
    title: str
    """What it speaks of, as staff would say it."""
    former: Delivery | None
    """The version before it: the last delivery of the same kind on the same leg."""
    changes: list[Change] | None
    """What differs from ``former``; ``None`` where there is none or either cannot be decoded."""
    more_changes: int
    """How many changes are left out of ``changes``."""
    means_the_same: bool
    """Whether everything that is derived from ``former`` and from this one is the same."""


@register.inclusion_tag("webhooks/deliveries_of.html", takes_context=True)
def deliveries_of(context: template.Context, conversation: Conversation) -> dict[str, Any]:
    """Show the deliveries that a conversation came from, oldest first, each with the copies that came again.

    One that speaks of the same thing as an earlier one is shown as what it changed.
    """
    if not context["request"].user.has_perm("webhooks.view_delivery"):
        return {"is_hidden": True}
    told: dict[UUID, list[str]] = defaultdict(list)
    stored = StoredRecord.objects.filter(conversation=conversation, source__isnull=False).order_by("position")
    for source, body in stored.values_list("source", "body"):
        told[source].append(body)
    sources = stored.order_by().values("source")
    shown = list(Delivery.objects.filter(pk__in=sources).order_by("received_at", "id")[: SHOWN + 1])
    copies: dict[Any, list[Delivery]] = {delivery.pk: [] for delivery in shown}
    repeats = Delivery.objects.filter(repeat_of__in=copies).order_by("received_at").only("received_at", "repeat_of")
    for repeat in repeats[: SHOWN * 10]:
        copies[repeat.repeat_of_id].append(repeat)
    return {"items": _items(shown[:SHOWN], copies, told), "has_more": len(shown) > SHOWN}


def _items(
    shown: Sequence[Delivery], copies: Mapping[UUID, list[Delivery]], told: Mapping[UUID, list[str]]
) -> list[Item]:
    newest: dict[tuple[str, ...], Delivery] = {}
    items = []
    for delivery in shown:
        records = [load_record(body) for body in told[delivery.pk]]
        # A page of a list speaks of many calls: it is no version of what speaks of this one.
        subject = None if delivery.method == Delivery.PULL else versions.subject(records)
        former = newest.get(subject) if subject else None
        if subject:
            newest[subject] = delivery
        changes = _changes(former, delivery) if former else None
        items.append(
            Item(
                delivery=delivery,
                copies=copies[delivery.pk],
                title=" and ".join(dict.fromkeys(describe(record) for record in records)),
                former=former,
                changes=changes[:MOST_CHANGES] if changes is not None else None,
                more_changes=max(len(changes or ()) - MOST_CHANGES, 0),
                means_the_same=bool(former) and told[former.pk] == told[delivery.pk],
            )
        )
    return items


def _changes(former: Delivery, delivery: Delivery) -> list[Change] | None:
    before, after = (
        versions.fields(body=bytes(one.body), query=bytes(one.query), content_type=one.content_type)
        for one in (former, delivery)
    )
    return None if before is None or after is None else versions.changes(before, after)


register.filter("without_links", weblinks.shortened)


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
    text = clean_text(json.dumps(shown, indent=2, ensure_ascii=False, default=str))
    return access.shown(weblinks.shortened(text))


@register.filter
def raw_text(delivery: Delivery) -> str:
    """Return the bytes of a delivery as they came: as text, or in hexadecimal where they are none."""
    raw = bytes(delivery.body) or bytes(delivery.query)
    try:
        return access.shown(weblinks.shortened(raw.decode()))
    except UnicodeDecodeError:
        if access.is_masking():
            return "It is no text, and may hold phone numbers. You may not see them."
        rest = f"\n… and {len(raw) - HEX_BYTES:,} more bytes" if len(raw) > HEX_BYTES else ""
        return raw[:HEX_BYTES].hex(" ", 4) + rest


@register.simple_tag
def quarantined_count() -> dict[str, Any]:
    """Return how many deliveries are quarantined: a number to show, and whether there is any."""
    count = count_up_to_cap(Delivery.objects.filter(status=Delivery.Status.QUARANTINED))
    return {"count": count, "text": f"{CAP:,}+" if count > CAP else f"{count:,}"}


@register.simple_tag
def inbox_lag() -> dict[str, Any]:
    """Return how many deliveries wait, as a text, and for how many ``seconds`` the oldest does; ``None`` for none."""
    lag = figures.lag()
    return lag | {"text": f"{CAP:,}+" if lag["pending"] > CAP else f"{lag['pending']:,}"}


@register.simple_tag(takes_context=True)
def last_deliveries(context: template.Context) -> QuerySet[Account]:
    """Return the viewer's accounts, each with ``last_received_at``: when the provider last sent one, or ``None``."""
    sent = Delivery.objects.exclude(method=Delivery.PULL)
    newest = sent.filter(account=OuterRef("pk")).order_by("-received_at", "-id")
    accounts = access.visible(context["request"].user, Account.objects.all())
    return accounts.annotate(last_received_at=Subquery(newest.values("received_at")[:1]))
