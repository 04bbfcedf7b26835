"""Figures over any set of conversations."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import NamedTuple

from django.db.models import Count, Q, QuerySet, Sum

from calls.choices import Direction, Disposition, State
from calls.models import Conversation

RATE_PLACES = Decimal("0.0001")
MONEY_PLACES = Decimal("0.000001")

_INBOUND_MISSED = Q(
    state=State.ENDED, direction=Direction.INBOUND, disposition__in=[Disposition.MISSED, Disposition.VOICEMAIL]
)


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


@dataclass
class Tally:
    """What can be added up of conversations, so that the figures of any parts make those of the whole."""

    counts: Counter[str] = field(default_factory=Counter)
    """``calls``, ``live`` and each disposition; ``talk_seconds`` and, of the answered ones, ``answered_talk_seconds``;
    ``ring_seconds``, and ``rung``: calls whose ringing is known; ``paid``: those with a cost; ``inbound_missed``:
    inbound ones that were missed or went to voicemail, which is what staff mean by missed."""
    money: dict[str, Decimal] = field(default_factory=dict)
    """By unit; only of those in which a call had a cost."""
    paid: Counter[str] = field(default_factory=Counter)
    """By unit, how many calls had a cost."""

    def add(self, counts: dict[str, int], unit: str, amount: Decimal | None) -> None:
        """Add the counts of some conversations, and what they cost; ``None``: none of them had a cost."""
        self.counts.update(counts)
        if amount is not None:
            self.paid[unit] += counts["paid"]
            self.money[unit] = self.money.get(unit, Decimal(0)) + amount

    def add_all(self, other: "Tally") -> None:
        """Add what another tally has added up."""
        self.counts.update(other.counts)
        self.paid.update(other.paid)
        for unit, amount in other.money.items():
            self.money[unit] = self.money.get(unit, Decimal(0)) + amount

    @property
    def summary(self) -> Summary:
        """The figures, with rates and averages."""
        counts = self.counts
        ended, answered = counts["calls"] - counts["live"], counts["answered"]
        return Summary(
            **{name: counts[name] for name in ("calls", "live", *Disposition)},
            answer_rate=(Decimal(answered) / ended).quantize(RATE_PLACES) if ended else None,
            talk_seconds=counts["talk_seconds"],
            ring_seconds=counts["ring_seconds"],
            average_talk_seconds=round(counts["answered_talk_seconds"] / answered) if answered else None,
            average_ring_seconds=round(counts["ring_seconds"] / counts["rung"]) if counts["rung"] else None,
            cost=[Amount(unit, self.money[unit].quantize(MONEY_PLACES)) for unit in sorted(self.money)],
        )


def total(tallies: Iterable[Tally]) -> Tally:
    """Return the sum of the tallies."""
    whole = Tally()
    for tally in tallies:
        whole.add_all(tally)
    return whole


def summarize(conversations: QuerySet[Conversation]) -> Summary:
    """Return the figures of ``conversations``, worked out by the database in one query."""
    return total(tallies(conversations).values()).summary


def tallies(conversations: QuerySet[Conversation], *names: str) -> dict[tuple, Tally]:
    """Return the tally of each group of ``conversations`` that agree in the columns ``names``, in one query."""
    groups = (
        conversations.order_by()
        .values_list(*names, "state", "disposition", "cost_unit")
        .annotate(
            *(Count("pk"), Sum("talk_seconds"), Sum("ring_seconds"), Count("ring_seconds"), Count("cost"), Sum("cost")),
            inbound_missed=Count("pk", filter=_INBOUND_MISSED),
        )
    )
    found: dict[tuple, Tally] = defaultdict(Tally)
    for *key, state, disposition, unit, calls, talk, ring, rung, paid, amount, inbound_missed in groups:
        how = "live" if state == State.LIVE else disposition or Disposition.UNKNOWN.value
        counts = {"calls": calls, how: calls, "rung": rung, "paid": paid, "inbound_missed": inbound_missed}
        counts |= {"talk_seconds": talk or 0, "ring_seconds": ring or 0}
        if disposition == Disposition.ANSWERED:
            counts["answered_talk_seconds"] = talk or 0
        found[tuple(key)].add(counts, unit, amount)
    return found
