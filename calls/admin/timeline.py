"""A conversation drawn in time: its legs as bars, and everything that happened as one list. Pure.

Places in the drawing are shares of its width, written as SVG takes them: ``27.5%``.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from calls.choices import STREAM_KINDS, EventKind
from calls.models import Event, Leg

LONGEST = timedelta(days=1)
"""Times that lie further apart come from clocks that disagree; a drawing of them would show nothing."""
STEPS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 21600]
"""Seconds that may lie between the marks of the scale."""
MOST_TICKS = 7

# What a final report says is left out where a live event of the same leg says it already.
_TOLD_BY = {
    "Started": {EventKind.STARTED},
    "Answered": {EventKind.ANSWERED},
    "Ended": {EventKind.HANGUP},
}


class Bar(NamedTuple):
    """A piece of a leg: ringing, talk, or waiting (on hold, or in a queue)."""

    kind: str
    x: str
    width: str
    seconds: int


class Mark(NamedTuple):
    """A live event's place on its leg, and the number of the moment that says more."""

    x: str
    event: Event
    moment: int


class Lane(NamedTuple):
    """A leg with its bars, the later ones drawn over the earlier, and its marks."""

    leg: Leg
    bars: list[Bar]
    marks: list[Mark]


class Tick(NamedTuple):
    """A place on the time scale, in seconds from the first moment."""

    x: str
    seconds: int
    anchor: str
    """Which end of its label stands at the place: the outermost labels would else be cut off."""


class Drawing(NamedTuple):
    """The lanes on one scale, which begins at ``first`` and is ``seconds`` long."""

    lanes: list[Lane]
    ticks: list[Tick]
    first: datetime
    seconds: float


class Moment(NamedTuple):
    """Something that happened, how long after the thing before, and who told of it."""

    number: int
    at: datetime
    gap_seconds: int
    title: str
    leg: Leg | None
    leg_name: str
    teller: str
    event: Event | None


def draw(legs: Sequence[Leg], events: Sequence[Event], moments: Sequence[Moment], now: datetime) -> Drawing | None:
    """Return the legs as bars on one scale from the first moment to the last; ``None`` where no sensible one exists.

    A leg that is still up reaches to ``now``.
    """
    stops = {leg.pk: leg.ended_at or (now if leg.disposition is None else None) for leg in legs}
    times = [time for leg in legs for time in (leg.started_at, leg.answered_at, stops[leg.pk]) if time]
    times += [event.occurred_at for event in events]
    if not times or not timedelta(0) < max(times) - min(times) <= LONGEST:
        return None
    first, span = min(times), max(times) - min(times)
    numbers = {moment.event.pk: moment.number for moment in moments if moment.event}

    def share(length: timedelta) -> str:
        return f"{length / span:.2%}"

    def bar(kind: str, start: datetime | None, end: datetime | None) -> list[Bar]:
        if start is None or end is None or end < start:
            return []
        length = end - start
        return [Bar(kind, share(start - first), share(max(length, span / 250)), round(length.total_seconds()))]

    drawn = []
    for leg in legs:
        stop = stops[leg.pk]
        told = [event for event in events if event.leg_id == leg.pk]
        bars = bar("ring", leg.started_at, leg.answered_at or stop) + bar("talk", leg.answered_at, stop)
        for event in told:
            if event.kind == EventKind.WAITING:
                bars += bar("wait", event.occurred_at, _end_of_wait(event, told, leg, stop))
        drawn.append(
            Lane(leg, bars, [Mark(share(event.occurred_at - first), event, numbers[event.pk]) for event in told])
        )
    return Drawing(drawn, _ticks(span.total_seconds()), first, span.total_seconds())


def _end_of_wait(wait: Event, told: Iterable[Event], leg: Leg, stop: datetime | None) -> datetime | None:
    """Return when the next thing happened on the leg; media streams come and go meanwhile."""
    times = [event.occurred_at for event in told if event.kind not in STREAM_KINDS]
    times += [time for time in (leg.answered_at, stop) if time]
    return min((time for time in times if time > wait.occurred_at), default=None)


def _ticks(span: float) -> list[Tick]:
    step = next((step for step in STEPS if span / step <= MOST_TICKS), STEPS[-1])
    places = [(seconds, seconds / span) for seconds in range(0, int(span) + 1, step)]
    return [
        Tick(f"{place:.2%}", seconds, "start" if place < 0.05 else "end" if place > 0.95 else "middle")
        for seconds, place in places
    ]


def moments(legs: Sequence[Leg], events: Iterable[Event]) -> list[Moment]:
    """Return what happened on all legs, first to last."""
    by_id = {leg.pk: leg for leg in legs}
    found: list[tuple[datetime, int, str, Leg | None, str, str, Event | None]] = []
    told = set()
    for event in events:
        leg = by_id.get(event.leg_id)
        teller = f"live event “{event.provider_status}”" if event.provider_status else "live event"
        name = str(leg) if leg else f"{event.leg_label.upper()}-leg, not known otherwise"
        found.append((event.occurred_at, 1, event.get_kind_display(), leg, name, teller, event))
        told.add((event.leg_id, event.kind))
    for leg in legs:
        facts = [(0, "Started", leg.started_at), (1, "Answered", leg.answered_at), (2, "Ended", leg.ended_at)]
        for rank, title, at in facts:
            if at and not any((leg.pk, kind) in told for kind in _TOLD_BY[title]):
                teller = "final report" if leg.has_cdr else "worked out"
                found.append((at, rank, title, leg, str(leg), teller, None))
    found.sort(key=lambda item: item[:3])
    result = []
    previous = found[0][0] if found else None
    for number, (at, _, title, leg, name, teller, event) in enumerate(found, 1):
        result.append(Moment(number, at, round((at - previous).total_seconds()), title, leg, name, teller, event))
        previous = at
    return result
