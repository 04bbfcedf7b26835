"""Business hours as people write them, and the time outside them."""

from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calls.business_hours import DAYS, closed, is_open, parse

KOLKATA, BERLIN = ZoneInfo("Asia/Kolkata"), ZoneInfo("Europe/Berlin")
OFFICE = parse("Mon-Fri 09:00-18:00; Sat 10:00-14:00")
MONDAY = datetime(2026, 3, 2, tzinfo=KOLKATA)


def hours(text: str) -> list[datetime]:
    """The spans that ``text`` leaves closed from Monday 00:00 to the next, as day of the week and time."""
    spans = closed(parse(text), MONDAY, MONDAY + timedelta(days=7), KOLKATA)
    return [" – ".join(f"{moment.astimezone(KOLKATA):%a %H:%M}" for moment in span) for span in spans]


def test_days_and_times_are_read_in_any_case_a_line_or_semicolon_apart():
    assert parse("mon-FRI 09:00 - 18:00\nSat 10:00-14:00;") == OFFICE
    assert parse("Sun 8:30-24:00") == [(frozenset({6}), time(8, 30), time(0))]
    assert parse("  \n") == []


def test_a_range_of_days_may_go_round_the_week():
    assert parse("Sat-Mon 09:00-10:00")[0][0] == {5, 6, 0}


@pytest.mark.parametrize("text", ["always", "Mon 18:00-09:00", "Mon 09:00-09:00", "Mon 25:00-26:00", "Foo 09:00-10:00"])
def test_what_cannot_be_read_is_named_with_an_example(text):
    with pytest.raises(ValueError, match=f"“{text}” is not understood. Write for example Mon-Fri 09:00-18:00."):
        parse(f"Sun 10:00-11:00; {text}")


def test_open_is_from_the_first_minute_up_to_but_without_the_last_in_the_zone_of_the_account():
    nine, six = MONDAY.replace(hour=9), MONDAY.replace(hour=18)
    assert is_open(OFFICE, nine.astimezone(UTC), KOLKATA)
    assert not is_open(OFFICE, nine - timedelta(microseconds=1), KOLKATA)
    assert is_open(OFFICE, six - timedelta(microseconds=1), KOLKATA)
    assert not is_open(OFFICE, six, KOLKATA)


def test_no_hours_mean_always_open():
    assert is_open([], MONDAY, KOLKATA)
    assert closed([], MONDAY, MONDAY + timedelta(days=7), KOLKATA) == []


def test_the_time_outside_a_week_of_office_hours():
    assert hours("Mon-Fri 09:00-18:00") == [
        "Mon 00:00 – Mon 09:00",
        "Mon 18:00 – Tue 09:00",
        "Tue 18:00 – Wed 09:00",
        "Wed 18:00 – Thu 09:00",
        "Thu 18:00 – Fri 09:00",
        "Fri 18:00 – Mon 00:00",
    ]


def test_hours_that_overlap_or_meet_at_midnight_leave_nothing_between_them():
    assert hours("Mon-Sun 00:00-24:00") == []
    assert hours("Mon 09:00-12:00; Mon 11:00-24:00; Tue-Sun 00:00-24:00") == ["Mon 00:00 – Mon 09:00"]


_TIMES = st.integers(min_value=16, max_value=95).map(lambda quarter: f"{quarter // 4:02}:{quarter % 4 * 15:02}")
_PART = st.tuples(st.sampled_from(DAYS), st.sampled_from(DAYS), _TIMES, _TIMES).filter(lambda part: part[2] < part[3])


@given(parts=st.lists(_PART, min_size=1, max_size=4), zone=st.sampled_from([KOLKATA, BERLIN]), data=st.data())
def test_a_moment_lies_in_a_closed_span_just_when_it_is_not_open_also_where_the_clock_is_changed(parts, zone, data):
    hours = parse("; ".join(f"{first}-{last} {opens}-{closes}" for first, last, opens, closes in parts))
    since = datetime(2026, 3, 26, 5, 7, tzinfo=UTC)  # Berlin's clock goes forward on the 29th
    until = since + timedelta(minutes=data.draw(st.integers(1, 7 * 1440)))
    spans = closed(hours, since, until, zone)
    moments = [since + timedelta(minutes=minute) for minute in data.draw(st.lists(st.integers(0, 7 * 1440 - 1)))]
    for moment in moments + [edge for span in spans for edge in span]:
        if moment < until:
            is_closed = any(begin <= moment < end for begin, end in spans)
            assert is_closed == (not is_open(hours, moment, zone))
