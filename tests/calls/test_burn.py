"""What empties balances, by the readings, and the pages that say how long they last."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
import time_machine

from calls import burn
from calls.models import Account, BalanceReading
from tests.calls.reports import NOON, paid_call, take


def test_a_burn_is_charges_and_what_nobody_explains_but_no_top_up(account):
    balances = ["100", "99.55", "599.10", "590"]  # a top-up of 500, and 8.65 without a call
    take(account, *(paid_call(10 * number, balance=balance) for number, balance in enumerate(balances)))
    take(account, paid_call(130, balance="589.55"))
    found = burn.hourly_burns([account.pk], NOON, NOON + timedelta(hours=5))
    assert found == {account.pk: {NOON: Decimal("10.45"), NOON + timedelta(hours=2): Decimal("0.45")}}


def test_what_came_later_is_not_known_before(account):
    take(account, paid_call(0, balance="100"), paid_call(60, balance="50"))
    assert burn.runway_of(account, NOON - timedelta(seconds=1)).reason == "No call of this account has told a balance."
    assert "7 days" in burn.runway_of(account, NOON + timedelta(minutes=5)).reason


def test_an_account_whose_calls_tell_no_balance_says_so(account):
    assert not BalanceReading.objects.exists()
    assert burn.runway_of(account).reason == "No call of this account has told a balance."


def burn_evenly(account: Account) -> datetime:
    """Take in three weeks of 2 an hour that leave 152, and return their end."""
    begin, hours = datetime(2026, 1, 5, tzinfo=UTC), 21 * 24
    end = begin + timedelta(hours=hours)
    calls = [(number, begin + timedelta(hours=number)) for number in range(hours)]
    take(account, *(paid_call(n, balance=str(150 + 2 * (hours - n)), cost="2", at=at) for n, at in calls))
    return end


def test_the_runway_of_an_account_goes_by_its_own_readings(account):
    end = burn_evenly(account)
    found = burn.runway_of(account, end)
    assert abs(found.empty_at - end - timedelta(hours=76)) < timedelta(minutes=1)
    assert found.low <= found.empty_at <= found.high


def test_what_came_later_does_not_change_what_was_foreseen(account):
    end = burn_evenly(account)
    before = burn.runway_of(account, end)
    take(account, paid_call(9999, balance="99999", cost="2", at=end + timedelta(hours=1)))
    assert burn.runway_of(account, end) == before


@pytest.mark.parametrize("address", ["", "calls/account/{}/change/", "calls/account/{}/statement/"])
def test_staff_read_how_long_the_balance_lasts(account, admin_client, address):
    with time_machine.travel(burn_evenly(account)):
        text = admin_client.get(f"/admin/{address.format(account.pk)}").content.decode()
    assert "152.00 INR" in text
    assert "empty in about 3 days 4 hours" in text.lower()
