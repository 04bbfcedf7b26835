"""What agents did, day by day: their calls, and those that they missed while they were free."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta, tzinfo

from django.db.models import Count, Exists, OuterRef, Q, QuerySet, Sum
from django.db.models.functions import Coalesce, TruncDate

from calls.choices import Direction, Disposition, Role, State
from calls.models import Conversation, Leg

LONGEST_TALK = timedelta(hours=12)
"""Talk that began longer ago is taken for one whose end was never told."""


@dataclass
class Figures:
    """What an agent did in a span of time. ``missed_free`` and ``missed_busy`` are as ``missed_legs`` has them."""

    calls: int = 0
    ended: int = 0
    answered: int = 0
    talk_seconds: int = 0
    missed_free: int = 0
    missed_busy: int = 0

    @property
    def answer_share(self) -> float | None:
        """Answered calls by ended ones; ``None`` without any."""
        return self.answered / self.ended if self.ended else None

    @property
    def average_talk_seconds(self) -> int | None:
        """Talk by answered calls; ``None`` without any."""
        return round(self.talk_seconds / self.answered) if self.answered else None

    def __add__(self, other: "Figures") -> "Figures":
        return Figures(**{name: value + getattr(other, name) for name, value in vars(self).items()})


def by_day(
    calls: QuerySet[Conversation], legs: QuerySet[Leg], since: datetime, until: datetime, zone: tzinfo
) -> Mapping[tuple[int, date], Figures]:
    """Return the figures of each agent (by id) and day in ``zone`` on which there are any, in two queries.

    ``calls`` and ``legs`` are those to be counted; of them, the ones of calls that started from ``since`` to just
    before ``until``.
    """
    found: dict[tuple[int, date], Figures] = defaultdict(Figures)
    answered = Q(disposition=Disposition.ANSWERED)
    sums = (
        calls.filter(agent__isnull=False, started_at__gte=since, started_at__lt=until)
        .order_by()
        .values("agent", day=TruncDate("started_at", tzinfo=zone))
        .annotate(
            calls=Count("pk"),
            ended=Count("pk", filter=Q(state=State.ENDED)),
            answered=Count("pk", filter=answered),
            talk_seconds=Sum("talk_seconds", filter=answered, default=0),
        )
    )
    for row in sums:
        key = row.pop("agent"), row.pop("day")
        found[key] = Figures(**row)
    missed = missed_legs(legs).filter(conversation__started_at__gte=since, conversation__started_at__lt=until)
    rung: dict[tuple[int, date, object], bool] = defaultdict(bool)
    for agent, conversation, started_at, was_busy in missed.values_list(
        "agent", "conversation", "conversation__started_at", "was_busy"
    ):
        rung[agent, started_at.astimezone(zone).date(), conversation] |= not was_busy
    for (agent, day, _), was_free in rung.items():
        figures = found[agent, day]
        figures.missed_free += was_free
        figures.missed_busy += not was_free
    return found


def missed_legs(legs: QuerySet[Leg]) -> QuerySet[Leg]:
    """Return those of ``legs`` by which an agent was rung for an inbound call that nobody took.

    ``was_busy`` says whether the agent talked on another call when it began to ring. Where an agent was rung several
    times for one call, the call was missed while free if that is so of one of them.
    """
    talking = Leg.objects.filter(
        ~Q(conversation=OuterRef("conversation")),
        Q(ended_at__gt=OuterRef("rang_at")) | Q(ended_at=None, disposition=None),
        agent=OuterRef("agent"),
        answered_at__lte=OuterRef("rang_at"),
        answered_at__gt=OuterRef("rang_at") - LONGEST_TALK,
    )
    missed = legs.filter(
        role=Role.AGENT,
        agent__isnull=False,
        conversation__direction=Direction.INBOUND,
        conversation__disposition__in=[Disposition.MISSED, Disposition.VOICEMAIL],
    )
    rang_at = Coalesce("started_at", "conversation__started_at")
    return missed.order_by().annotate(rang_at=rang_at).annotate(was_busy=Exists(talking))


def missed_by(agent: int, *, was_busy: bool) -> Q:
    """Return which conversations this agent missed while busy, or else while free: those that ``by_day`` counts."""
    rung = missed_legs(Leg.objects.filter(agent=agent))
    while_free = Q(pk__in=rung.filter(was_busy=False).values("conversation"))
    return Q(pk__in=rung.values("conversation")) & ~while_free if was_busy else while_free
