"""The runway over made-up weeks, whose burn is known by the hour."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calls.runway import DAY, HOUR, WEEKS, Runway, runway, words

KOLKATA = ZoneInfo("Asia/Kolkata")
BERLIN = ZoneInfo("Europe/Berlin")
MONDAY = datetime(2026, 3, 2, tzinfo=UTC)
WEEK = timedelta(weeks=1)


def history(
    rate: Callable[[datetime], float], *, now: datetime = MONDAY, weeks: float = WEEKS, zone: ZoneInfo = KOLKATA
) -> dict[datetime, Decimal]:
    """Return what ``rate`` gives for each hour before ``now``, asked with the clocks of ``zone``."""
    hours = [now.astimezone(UTC) - back * HOUR for back in range(1, int(weeks * 168) + 1)]
    return {at: Decimal(str(rate(at.astimezone(zone)))) for at in hours}


def even(_: datetime) -> float:
    return 1


def office(local: datetime) -> float:
    return 10 if local.weekday() < 5 and 9 <= local.hour < 18 else 0


def times(found: Runway) -> tuple[datetime, datetime, datetime]:
    assert not found.reason
    return found.low, found.empty_at, found.high


def left(balance: int, burn: dict[datetime, Decimal], now: datetime = MONDAY, zone: ZoneInfo = KOLKATA) -> timedelta:
    low, empty_at, high = times(runway(Decimal(balance), now, burn, zone))
    assert now < low <= empty_at <= high
    return empty_at - now


def seconds(length: timedelta) -> pytest.approx:
    return pytest.approx(length, abs=timedelta(seconds=1))


def test_an_even_burn_lasts_as_long_as_division_says():
    assert left(76, history(even)) == seconds(timedelta(hours=76))


def test_the_hours_of_the_week_count_on_the_clocks_of_the_account():
    """Friday 17:00: an hour's work is left of the week, and Monday's begins at 9."""
    friday = datetime(2026, 3, 6, 17, tzinfo=BERLIN)
    burn = history(office, now=friday, zone=BERLIN)
    assert left(5, burn, friday, BERLIN) == seconds(timedelta(minutes=30))
    assert left(20, burn, friday, BERLIN) == seconds(timedelta(days=2, hours=17))


def test_nights_and_weekends_off_are_waited_out():
    """Five days of 90 are a week; another 45 are half a Monday. At first it is one in the morning there."""
    assert left(495, history(office, zone=BERLIN), zone=BERLIN) == seconds(WEEK + timedelta(hours=12.5))


def test_zones_half_an_hour_off_are_no_exception():
    """Work begins at 10:30 in India, which is a full hour of UTC; it is half past five there."""
    burn = history(lambda local: 10 if local.hour >= 10 else 0)
    assert left(10, burn) == seconds(timedelta(hours=6))


@pytest.mark.parametrize("now", [datetime(2026, 3, 28, 12, tzinfo=BERLIN), datetime(2026, 10, 24, 12, tzinfo=BERLIN)])
def test_office_hours_stay_where_they_are_when_the_clocks_change(now: datetime):
    """It is Saturday noon; the clocks change at night; Monday's work begins at 9 by the new time."""
    balance = Decimal(20)
    found = runway(balance, now, history(office, now=now, zone=BERLIN), BERLIN)
    assert found.empty_at is not None
    monday = datetime(now.year, now.month, now.day + 2, 11, tzinfo=BERLIN)
    assert found.empty_at.timestamp() == pytest.approx(monday.timestamp(), abs=1)


def test_office_hours_are_known_soon_after_the_clocks_have_changed():
    """Six of the eight weeks were by the other time."""
    now = datetime(2026, 4, 13, 0, tzinfo=BERLIN)
    found = runway(Decimal(45), now, history(office, now=now, zone=BERLIN), BERLIN)
    assert found.empty_at is not None
    assert found.empty_at.timestamp() == pytest.approx((now + timedelta(hours=13.5)).timestamp(), abs=1)


@pytest.mark.parametrize("factor", [10, 1000, 0])
def test_one_odd_day_hardly_moves_it(factor: int):
    """Ten days before: a flood of calls, or a holiday."""
    odd = (MONDAY - 10 * DAY).date()
    burn = history(lambda local: factor if local.date() == odd else 1)
    assert left(240, burn) / timedelta(hours=240) == pytest.approx(1, abs=0.15)


def test_a_fee_of_one_hour_hardly_moves_it():
    burn = history(even)
    burn[MONDAY - 300 * HOUR] += 5000
    assert left(240, burn) / timedelta(hours=240) == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("factor", [0.5, 2])
def test_a_new_level_is_followed_within_two_weeks_and_doubted(factor: float):
    burn = history(lambda local: 10 * (factor if local >= MONDAY - 2 * WEEK else 1))
    truth = timedelta(hours=1000 / (10 * factor))
    low, empty_at, high = times(runway(Decimal(1000), MONDAY, burn, KOLKATA))
    assert (empty_at - MONDAY) / truth == pytest.approx(1, abs=0.35)
    assert low <= MONDAY + truth <= high


def test_what_sways_more_is_said_with_less_confidence():
    def width(burn: dict[datetime, Decimal]) -> timedelta:
        low, _, high = times(runway(Decimal(240), MONDAY, burn, KOLKATA))
        return high - low

    swaying = history(lambda local: 1.6 if local.toordinal() % 3 else 0.4)
    assert width(history(even)) < HOUR < width(swaying)


def test_a_history_of_a_week_is_enough_and_doubted():
    assert left(48, history(even, weeks=1)) == seconds(2 * DAY)
    found = runway(Decimal(48), MONDAY, history(even, weeks=1), KOLKATA)
    assert words(found, MONDAY) == "empty in about 2 days, between 24 h and 4 d"


def test_it_says_when_there_is_too_little_history():
    found = runway(Decimal(48), MONDAY, history(even, weeks=6 / 7), KOLKATA)
    assert words(found, MONDAY) == "How long the balance lasts can be said after 7 days of calls."
    assert (found.empty_at, found.low, found.high) == (None, None, None)
    assert words(runway(Decimal(48), MONDAY, {}, KOLKATA), MONDAY) == words(found, MONDAY)


def test_it_says_when_too_little_was_charged():
    few = history(lambda local: float(local.hour == 9 and local.weekday() < 2))
    found = runway(Decimal(48), MONDAY, few, KOLKATA)
    assert words(found, MONDAY) == "Too little was charged in the last weeks to say how long the balance lasts."
    assert runway(Decimal(48), MONDAY, history(lambda _: 0), KOLKATA) == found


def test_it_says_when_the_balance_lasts_longer_than_can_be_foreseen():
    found = runway(Decimal(24 * 400), MONDAY, history(even), KOLKATA)
    assert words(found, MONDAY) == "At the usual burn the balance lasts more than 365 days."


@pytest.mark.parametrize("balance", ["0", "-0.45"])
def test_a_balance_that_is_used_up_is_empty_now(balance: str):
    found = runway(Decimal(balance), MONDAY, {}, KOLKATA)
    assert found == Runway(MONDAY, MONDAY, MONDAY)
    assert words(found, MONDAY) == "empty"


def test_what_is_older_than_eight_weeks_counts_for_nothing():
    burn = history(even)
    older = {at - WEEKS * WEEK: amount * 100 for at, amount in burn.items()}
    assert runway(Decimal(240), MONDAY, burn | older, KOLKATA) == runway(Decimal(240), MONDAY, burn, KOLKATA)


@given(
    amounts=st.lists(st.decimals(0, 100, places=2), min_size=24 * 8, max_size=24 * 10),
    balance=st.decimals("0.01", 10000, places=2),
    minutes=st.integers(0, 59),
)
def test_any_history_gives_one_answer_in_order(amounts: list[Decimal], balance: Decimal, minutes: int):
    now = MONDAY + timedelta(minutes=minutes)
    burn = {MONDAY - back * HOUR: amount for back, amount in enumerate(amounts, 1)}
    found = runway(balance, now, burn, KOLKATA)
    assert found == runway(balance, now, dict(reversed(burn.items())), KOLKATA)
    if found.empty_at is None:
        assert found.reason
    else:
        low, empty_at, high = times(found)
        assert now <= low <= empty_at <= high


@pytest.mark.parametrize(
    ("hours", "text"),
    [
        ((76, 48, 120), "empty in about 3 days 4 hours, between 2 d and 5 d"),
        ((25, 20, 30), "empty in about 1 day 1 hour, between 20 h and 30 h"),
        ((48, 48, 48), "empty in about 2 days"),
        ((0.3, 0.2, 2), "empty in about less than an hour, between 0 h and 2 h"),
        ((24 * 40 + 5, 24 * 30, 24 * 60), "empty in about 40 days, between 30 d and 60 d"),
    ],
)
def test_its_words(hours: tuple[float, ...], text: str):
    assert words(Runway(*(MONDAY + n * HOUR for n in hours)), MONDAY) == text
