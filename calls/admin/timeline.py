"""A conversation drawn in time: its legs as bars, and everything that happened as one list. Pure."""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from calls.choices import EventKind
from calls.models import Event, Leg

WIDTH = 1000
"""Width of a bar in units of the drawing."""
LONGEST = timedelta(days=1)
"""Times that lie further apart come from clocks that disagree; a drawing of them would show nothing."""
# What a final report says is left out where a live event of the same leg says it already.
_TOLD_BY = {
    "Started": {EventKind.STARTED},
    "Answered": {EventKind.ANSWERED},
    "Ended": {EventKind.HANGUP},
}


class Bar(NamedTuple):
    """A piece of a leg, in units of the drawing."""

    kind: str
    x: int
    width: int


class Lane(NamedTuple):
    """A leg with its bars (ring, then talk) and the places of its events."""

    leg: Leg
    bars: list[Bar]
    marks: list[tuple[int, Event]]


class Moment(NamedTuple):
    """Something that happened, how long after the thing before, and who told of it."""

    at: datetime
    gap_seconds: int
    title: str
    leg: Leg | None
    leg_name: str
    teller: str


def lanes(legs: Sequence[Leg], events: Sequence[Event], now: datetime) -> list[Lane]:
    """Return the legs as bars on one scale from the first moment to the last, or [] where no sensible scale exists.

    A leg that is still up reaches to ``now``.
    """
    stops = {leg.pk: leg.ended_at or (now if leg.disposition is None else None) for leg in legs}
    times = [time for leg in legs for time in (leg.started_at, leg.answered_at, stops[leg.pk]) if time]
    times += [event.occurred_at for event in events]
    if not times or not timedelta(0) < max(times) - min(times) <= LONGEST:
        return []
    first, span = min(times), max(times) - min(times)

    def place(time: datetime) -> int:
        return round((time - first) / span * WIDTH)

    def bar(kind: str, start: datetime | None, end: datetime | None) -> list[Bar]:
        return [Bar(kind, place(start), max(place(end) - place(start), 4))] if start and end and end >= start else []

    drawn = []
    for leg in legs:
        stop = stops[leg.pk]
        bars = bar("ring", leg.started_at, leg.answered_at or stop) + bar("talk", leg.answered_at, stop)
        marks = [(place(event.occurred_at), event) for event in events if event.leg_id == leg.pk]
        drawn.append(Lane(leg, bars, marks))
    return drawn


def moments(legs: Sequence[Leg], events: Iterable[Event]) -> list[Moment]:
    """Return what happened on all legs, first to last."""
    by_id = {leg.pk: leg for leg in legs}
    found: list[tuple[datetime, int, str, Leg | None, str, str]] = []
    told = set()
    for event in events:
        leg = by_id.get(event.leg_id)
        teller = f"live event “{event.provider_status}”" if event.provider_status else "live event"
        name = str(leg) if leg else f"{event.leg_label.upper()}-leg, not known otherwise"
        found.append((event.occurred_at, 1, event.get_kind_display(), leg, name, teller))
        told.add((event.leg_id, event.kind))
    for leg in legs:
        facts = [(0, "Started", leg.started_at), (1, "Answered", leg.answered_at), (2, "Ended", leg.ended_at)]
        for rank, title, at in facts:
            if at and not any((leg.pk, kind) in told for kind in _TOLD_BY[title]):
                teller = "final report" if leg.has_cdr else "worked out"
                found.append((at, rank, title, leg, str(leg), teller))
    found.sort(key=lambda item: item[:3])
    result = []
    previous = found[0][0] if found else None
    for at, _, title, leg, name, teller in found:
        result.append(Moment(at, round((at - previous).total_seconds()), title, leg, name, teller))
        previous = at
    return result
