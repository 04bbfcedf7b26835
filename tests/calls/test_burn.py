from datetime import UTC, datetime, timedelta
from decimal import Decimal

from calls import burn
from calls.models import BalanceReading
from tests.calls.reports import NOON, paid_call, take


def test_a_burn_is_charges_and_what_nobody_explains_but_no_top_up(account):
    balances = ["100", "99.55", "599.10", "590"]  # a top-up of 500, and 8.65 without a call
    take(account, *(paid_call(10 * number, balance=balance) for number, balance in enumerate(balances)))
    take(account, paid_call(130, balance="589.55"))
    found = burn.hourly_burn(account, NOON, NOON + timedelta(hours=5))
    assert found == {NOON: Decimal("10.45"), NOON + timedelta(hours=2): Decimal("0.45")}


def test_what_came_later_is_not_known_before(account):
    take(account, paid_call(0, balance="100"), paid_call(60, balance="50"))
    assert burn.runway_of(account, NOON - timedelta(seconds=1)).reason == "No call of this account has told a balance."
    assert "7 days" in burn.runway_of(account, NOON + timedelta(minutes=5)).reason


def test_an_account_whose_calls_tell_no_balance_says_so(account):
    assert not BalanceReading.objects.exists()
    assert burn.runway_of(account).reason == "No call of this account has told a balance."


def test_the_runway_of_an_account_goes_by_its_own_readings(account):
    balance, begin = Decimal(5000), datetime(2026, 1, 5, tzinfo=UTC)
    reports = []
    for number in range(21 * 24):
        balance -= 2
        end = begin + timedelta(hours=number)
        reports.append(paid_call(number, balance=str(balance), cost="2", at=end))
    take(account, *reports)
    at = begin + timedelta(days=21)
    found = burn.runway_of(account, at)
    assert abs((found.empty_at - at) / timedelta(hours=1) - float(balance / 2)) < 24
