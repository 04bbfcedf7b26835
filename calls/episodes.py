"""When a caller was missed, and until when nobody had talked to them: from their calls and what staff did. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum
from typing import Any, NamedTuple


class Happening(IntEnum):
    """What can happen to a missed caller; of two things at one moment, the smaller comes first."""

    MISSED = 1
    ATTEMPT = 2
    CALLED_BACK = 3
    GOT_THROUGH = 4
    ASSIGNED = 5
    SNOOZED = 6
    CLOSED = 7
    REOPENED = 8


class Fact(NamedTuple):
    """One thing that happened: a call, or a step of staff."""

    at: datetime
    what: Happening
    key: Any
    """Orders facts of the same kind and moment; of a call, its id."""
    value: Any = None
    """Of a call, its start; else to whom it was assigned, until when it was put off, or the reason for closing."""


@dataclass
class Episode:
    """From the first missed call to the call, or the word of staff, that ended it."""

    first_missed_at: datetime
    last_missed_at: datetime
    misses: int = 0
    attempts: int = 0
    first_attempt_at: datetime | None = None
    last_attempt_at: datetime | None = None
    reached_at: datetime | None = None
    reached_by: Any = None
    closed_at: datetime | None = None
    closing: str = ""
    assigned_to: Any = None
    snoozed_until: datetime | None = None


def episodes(facts: Iterable[Fact]) -> list[Episode]:
    """Return what one caller's calls at one DID and the steps of staff amount to, in order; only the last may be open.

    It does not matter in which order ``facts`` are given. What staff do belongs to the episode that had begun by then.
    A caller who rings again is no longer put off.
    """
    found: list[Episode] = []
    for at, what, key, value in sorted(facts, key=lambda fact: fact[:3]):
        last = found[-1] if found else None
        if what == Happening.MISSED:
            if last is None or last.closed_at:
                last = Episode(first_missed_at=at, last_missed_at=at)
                found.append(last)
            last.last_missed_at, last.misses, last.snoozed_until = at, last.misses + 1, None
        elif last is None:
            continue
        elif what == Happening.ASSIGNED:
            last.assigned_to = value
        elif what == Happening.SNOOZED:
            last.snoozed_until = value
        elif what == Happening.REOPENED:
            last.closed_at, last.closing, last.reached_at, last.reached_by = None, "", None, None
        elif last.closed_at:
            continue
        elif what == Happening.CLOSED:
            last.closed_at, last.closing = at, value
        else:
            _call(last, at, what, key, value)
    return found


def _call(episode: Episode, at: datetime, what: Happening, call: Any, started_at: datetime) -> None:
    if what != Happening.GOT_THROUGH:
        episode.first_attempt_at = episode.first_attempt_at or started_at
    if what == Happening.ATTEMPT:
        episode.attempts += 1
        episode.last_attempt_at = started_at
    else:
        episode.reached_at, episode.reached_by = at, call
        episode.closed_at, episode.closing = at, what.name.lower()
