"""Figures over any set of conversations."""

from collections import Counter
from decimal import Decimal
from typing import NamedTuple

from django.db.models import Count, QuerySet, Sum

from calls.choices import Disposition, State
from calls.models import Conversation

RATE_PLACES = Decimal("0.0001")
MONEY_PLACES = Decimal("0.000001")


class Amount(NamedTuple):
    """Money or credits in one unit; units are never added to each other."""

    unit: str
    amount: Decimal


class Summary(NamedTuple):
    """Counts by how the conversations ended, and what they add up to. Lengths are in whole seconds."""

    calls: int
    live: int
    answered: int
    missed: int
    busy: int
    failed: int
    cancelled: int
    voicemail: int
    unknown: int
    answer_rate: Decimal | None
    """Answered ÷ ended (ASR), from 0 to 1 with 4 places; ``None`` when none has ended."""
    talk_seconds: int
    ring_seconds: int
    average_talk_seconds: int | None
    """Talk ÷ answered (ACD), of the answered ones only; ``None`` when there are none."""
    average_ring_seconds: int | None
    """Ring ÷ those whose ringing is known; ``None`` when there are none."""
    cost: list[Amount]


def summarize(conversations: QuerySet[Conversation]) -> Summary:
    """Return the figures of ``conversations``, worked out by the database in one query."""
    groups = (
        conversations.order_by()
        .values("state", "disposition", "cost_unit")
        .annotate(
            calls=Count("pk"),
            talk=Sum("talk_seconds"),
            ring=Sum("ring_seconds"),
            rung=Count("ring_seconds"),
            amount=Sum("cost"),
        )
    )
    ended: Counter[str] = Counter()
    live = talk = answered_talk = ring = rung = 0
    money: dict[str, Decimal] = {}
    for group in groups:
        if group["state"] == State.LIVE:
            live += group["calls"]
        else:
            ended[group["disposition"] or Disposition.UNKNOWN] += group["calls"]
        talk += group["talk"] or 0
        if group["disposition"] == Disposition.ANSWERED:
            answered_talk += group["talk"] or 0
        ring += group["ring"] or 0
        rung += group["rung"]
        if group["amount"] is not None:
            money[group["cost_unit"]] = money.get(group["cost_unit"], Decimal(0)) + group["amount"]
    answered = ended[Disposition.ANSWERED]
    return Summary(
        calls=live + ended.total(),
        live=live,
        answered=answered,
        missed=ended[Disposition.MISSED],
        busy=ended[Disposition.BUSY],
        failed=ended[Disposition.FAILED],
        cancelled=ended[Disposition.CANCELLED],
        voicemail=ended[Disposition.VOICEMAIL],
        unknown=ended[Disposition.UNKNOWN],
        answer_rate=(Decimal(answered) / ended.total()).quantize(RATE_PLACES) if ended else None,
        talk_seconds=talk,
        ring_seconds=ring,
        average_talk_seconds=round(answered_talk / answered) if answered else None,
        average_ring_seconds=round(ring / rung) if rung else None,
        cost=[Amount(unit, money[unit].quantize(MONEY_PLACES)) for unit in sorted(money)],
    )
