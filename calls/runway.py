"""Runway: when an account's balance is used up, going by its own burn at each hour of the week. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from statistics import fmean, median
from zoneinfo import ZoneInfo

WEEKS = 8
"""How far back the history goes that is looked at."""
ENOUGH_DAYS = 7
ENOUGH_HOURS = 20
"""Hours with a burn that a history must have."""
FARTHEST_DAYS = 365
HALF_LIFE_DAYS = 7
"""The level of the burn goes by the last days: one this old counts half of one that has just ended."""
OUTLIER = 3
"""A day's burn counts up to this many times the median of the same weekday in the weeks round it."""
ENOUGH_TRIALS = 10
LONGEST_TRIAL_DAYS = 14
UNTRIED = (0.5, 2.0)
"""Burn in parts of what was expected, at least and at most, where the history is too short to tell."""

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Runway:
    """When a balance is expected to be used up; the times are all ``None``, with a ``reason``, when it cannot be said.

    It is used up between ``low`` and ``high`` in about three of four cases, going by how the burn kept to what was
    expected of it so far.
    """

    empty_at: datetime | None = None
    low: datetime | None = None
    high: datetime | None = None
    reason: str = ""
    """A sentence for staff."""


def runway(balance: Decimal, now: datetime, burn: Mapping[datetime, Decimal], zone: ZoneInfo) -> Runway:
    """Return when ``balance`` is used up.

    ``burn`` is what was burnt, in the balance's unit, in the hour that begins at each of the keys (full hours of UTC);
    an hour that is not in it burnt nothing. The weeks are those of ``zone``.
    """
    if balance <= 0:
        return Runway(now, now, now)
    this_hour = _hour(now)
    hours = {at: float(amount) for at, amount in burn.items() if this_hour - WEEKS * 7 * DAY <= at < this_hour}
    days = (this_hour - min(hours, default=this_hour)) // DAY
    if days < ENOUGH_DAYS:
        return Runway(reason=f"How long the balance lasts can be said after {ENOUGH_DAYS} days of calls.")
    if sum(amount > 0 for amount in hours.values()) < ENOUGH_HOURS:
        return Runway(reason="Too little was charged in the last weeks to say how long the balance lasts.")
    past = _Past(this_hour, days, hours, zone)
    level = past.level(0)
    empty_at = _empty_at(float(balance), now, zone, {slot: level * amount for slot, amount in past.usual.items()})
    if empty_at is None:
        return Runway(reason=f"At the usual burn the balance lasts more than {FARTHEST_DAYS} days.")
    left = empty_at - now
    least, most = past.spread(min(max(1, round(left / DAY)), LONGEST_TRIAL_DAYS))
    return Runway(empty_at, now + left / max(1.0, most), now + left / min(1.0, least))


def words(found: Runway, now: datetime) -> str:
    """Return for example "empty in about 3 days 4 hours, between 2 d and 5 d", or the reason why not."""
    if found.empty_at is None or found.low is None or found.high is None:
        return found.reason
    if found.empty_at <= now:
        return "empty"
    days, hours = divmod(round((found.empty_at - now) / HOUR), 24)
    parts = [(days, "day"), (0 if days >= 14 else hours, "hour")]
    about = " ".join(f"{n} {unit}{'' if n == 1 else 's'}" for n, unit in parts if n) or "less than an hour"
    low, high = _short(found.low - now), _short(found.high - now)
    return f"empty in about {about}" + (f", between {low} and {high}" if low != high else "")


class _Past:
    """A history cut into days of 24 hours that end now: day 0 is the one that has just ended."""

    def __init__(self, end: datetime, count: int, hours: Mapping[datetime, float], zone: ZoneInfo) -> None:
        days = [[end - day * DAY - hour * HOUR for hour in range(1, 25)] for day in range(count)]
        raw = [sum(hours.get(at, 0.0) for at in day) for day in days]
        self._burnt = _without_outliers(raw)
        parts = [capped / whole if whole else 0.0 for capped, whole in zip(self._burnt, raw, strict=True)]
        slots: dict[int, list[float]] = {}
        for day, part in zip(days, parts, strict=True):
            for at in day:
                slots.setdefault(_slot(at, zone), []).append(hours.get(at, 0.0) * part)
        self.usual = {slot: fmean(amounts) for slot, amounts in slots.items()}
        """Mean burn at each hour of the week."""
        self._expected = [sum(self.usual[_slot(at, zone)] for at in day) for day in days]

    def level(self, day: int) -> float:
        """Return what was burnt before the end of ``day``, the last days above all, in parts of what is usual."""
        weights = [0.5 ** (age / HALF_LIFE_DAYS) for age in range(len(self._burnt) - day)]
        burnt, expected = (
            sum(weight * amount for weight, amount in zip(weights, amounts[day:], strict=True))
            for amounts in (self._burnt, self._expected)
        )
        return burnt / expected if burnt and expected else 1.0

    def spread(self, days: int) -> tuple[float, float]:
        """Return what that many days burnt at least and at most, in parts of what would have been expected of them."""
        ratios = []
        for day in range(days, len(self._burnt) - ENOUGH_DAYS + 1):
            expected = self.level(day) * sum(self._expected[day - days : day])
            if expected:
                ratios.append(sum(self._burnt[day - days : day]) / expected)
        if len(ratios) < ENOUGH_TRIALS:
            return UNTRIED
        wider = 1 + days / len(ratios)  # long spans overlap, so few of them stand for less than all that can happen
        return max(0.1, 1 - (1 - min(ratios)) * wider), 1 + (max(ratios) - 1) * wider


def _without_outliers(days: Sequence[float]) -> list[float]:
    """Return what each day burnt, cut down to what can be believed: a level that lasts two weeks is no outlier."""
    ordinary = median([amount for amount in days if amount > 0] or [0.0])
    capped = []
    for day, amount in enumerate(days):
        near = [days[other] for other in range(day - 14, day + 15, 7) if 0 <= other < len(days)]
        capped.append(min(amount, OUTLIER * (median(near) or ordinary)) if len(near) > 2 else amount)
    return capped


def _empty_at(balance: float, now: datetime, zone: ZoneInfo, burn: Mapping[int, float]) -> datetime | None:
    at, last = now.astimezone(UTC), now + FARTHEST_DAYS * DAY
    while at < last:
        end = _hour(at) + HOUR
        burnt = burn.get(_slot(at, zone), 0.0) * ((end - at) / HOUR)
        if burnt >= balance:
            return at + (end - at) * (balance / burnt)
        balance -= burnt
        at = end
    return None


def _hour(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def _slot(moment: datetime, zone: ZoneInfo) -> int:
    """Return the hour of the week on the clocks of ``zone``."""
    local = moment.astimezone(zone)
    return local.weekday() * 24 + local.hour


def _short(left: timedelta) -> str:
    hours = round(left / HOUR)
    return f"{hours} h" if hours < 48 else f"{round(hours / 24)} d"
