"""The spans of time that figures are shown for, as a viewer picks them, and what they are compared with."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta

from django.utils import timezone
from django.utils.dateparse import parse_date
from django.utils.formats import date_format

DAY = timedelta(days=1)
WEEK = timedelta(days=7)
LONGEST_DAYS = 366
FIRST_DAY = date(2000, 1, 1)

CHOICES = {"today": "Today", "yesterday": "Yesterday", "7d": "7 days", "30d": "30 days"}
"""The spans that have a name; any other is ``custom``, from one day to another."""
_DAYS_BACK = {"today": (0, 0), "yesterday": (1, 1), "7d": (6, 0), "30d": (29, 0)}


@dataclass(frozen=True)
class Span:
    """Days of the viewer's zone, the last one until now if it is not over."""

    choice: str
    first: date
    last: date
    since: datetime
    until: datetime
    """Just after it. Of a day that goes on, the present moment: what is compared with must be as long."""
    problem: str = ""
    """A sentence for the viewer: why it is not the span that was asked for."""

    @property
    def week_before(self) -> tuple[datetime, datetime]:
        """The same span a week earlier, by the viewer's clock."""
        return _week_before(self.since), _week_before(self.until)

    @property
    def words(self) -> str:
        """Which days it is, such as “Mon 2 Nov until 14:05”."""
        days = date_format(self.first, "D j M") if self.first == self.last else self._from_to(self.first, self.last)
        return f"{days} until {date_format(timezone.localtime(self.until), 'H:i')}" if self.is_going_on else days

    @property
    def words_before(self) -> str:
        """Which days it is compared with."""
        first, last = self.first - WEEK, self.last - WEEK
        days = date_format(first, "D j M") if first == last else self._from_to(first, last)
        return f"{days} until {date_format(timezone.localtime(self.until), 'H:i')}" if self.is_going_on else days

    @property
    def is_going_on(self) -> bool:
        """Whether it ends now and not at the end of a day."""
        return self.until < _midnight(self.last + DAY)

    @staticmethod
    def _from_to(first: date, last: date) -> str:
        return f"{date_format(first, 'D j M')} to {date_format(last, 'D j M')}"


def span_of(query: Mapping[str, str], now: datetime) -> Span:
    """Return the span that ``range``, ``from`` and ``to`` of a page's address ask for; today if that cannot be had."""
    today = timezone.localtime(now).date()
    choice, problem = query.get("range", "today"), ""
    if choice == "custom":
        try:
            first, last = (parse_date(query.get(edge, "")) for edge in ("from", "to"))
        except ValueError:
            first = last = None
        if not (first and last):
            problem = "Give both days, such as 2026-11-02: this is today."
        elif not FIRST_DAY <= first <= last:
            problem = f"The first day, {first}, must not come after the last, {last}: this is today."
        elif first > today:
            problem = f"{first} is still to come: this is today."
        elif (last - first).days >= LONGEST_DAYS:
            problem = f"{first} to {last} is more than {LONGEST_DAYS} days: this is today."
        else:
            return _span("custom", first, min(last, today), now)
    if choice not in CHOICES:
        choice = "today"
    back_first, back_last = _DAYS_BACK[choice]
    return _span(choice, today - back_first * DAY, today - back_last * DAY, now, problem)


def _span(choice: str, first: date, last: date, now: datetime, problem: str = "") -> Span:
    return Span(choice, first, last, _midnight(first), min(_midnight(last + DAY), timezone.localtime(now)), problem)


def _midnight(day: date) -> datetime:
    return timezone.make_aware(datetime.combine(day, time.min))


def _week_before(moment: datetime) -> datetime:
    local = timezone.localtime(moment)
    return timezone.make_aware(local.replace(tzinfo=None) - WEEK)
