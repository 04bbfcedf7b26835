from datetime import timedelta
from decimal import Decimal

from calls import ledger
from calls.models import BalanceReading
from tests.calls.reports import NOON, paid_call, take


def gaps(account) -> list[Decimal | None]:
    readings = BalanceReading.objects.filter(account=account).order_by(*ledger.ORDER)
    return list(readings.values_list("gap", flat=True))


def test_a_whole_chain_has_no_gaps(account):
    for number, balance in enumerate(["100", "99.55", "99.10"]):
        take(account, paid_call(number, balance=balance))
    assert gaps(account) == [None, 0, 0]


def test_a_top_up_is_a_positive_gap_and_a_missing_call_a_negative_one(account):
    for number, balance in enumerate(["100", "599.55", "590"]):
        take(account, paid_call(number, balance=balance))
    assert gaps(account) == [None, Decimal(500), Decimal("-9.10")]


def test_a_late_report_is_put_in_its_place_and_mends_the_gap(account):
    take(account, paid_call(0, balance="100"))
    take(account, paid_call(2, balance="99.10"))
    assert gaps(account) == [None, Decimal("-0.45")]
    take(account, paid_call(1, balance="99.55"), received_at=NOON + timedelta(hours=1))
    assert gaps(account) == [None, 0, 0]


def test_a_report_that_is_taken_back_opens_the_gap_again(account):
    for number, balance in enumerate(["100", "99.55", "99.10"]):
        take(account, paid_call(number, balance=balance))
    middle = BalanceReading.objects.get(balance="99.55")
    source = middle.conversation.records.get().source
    take(account, source=source)
    assert gaps(account) == [None, Decimal("-0.45")]


def test_the_current_balance_is_that_of_the_latest_end_not_of_the_last_to_arrive(account):
    take(account, paid_call(5, balance="90"))
    take(account, paid_call(1, balance="100"), received_at=NOON + timedelta(hours=2))
    assert ledger.current(account).balance == 90


def test_of_two_legs_that_ended_in_the_same_second_the_lower_balance_is_current(account):
    take(account, paid_call(1, balance="99.55", at=NOON))
    take(account, paid_call(2, balance="100", at=NOON))
    assert ledger.current(account).balance == Decimal("99.55")
    assert gaps(account) == [None, 0]


def test_a_free_leg_that_ended_in_the_same_second_as_a_charged_one_makes_no_gap(account):
    take(account, paid_call(0, balance="100"))
    take(account, paid_call(1, balance="99.55", cost="0", at=NOON + timedelta(minutes=5)))
    take(account, paid_call(2, balance="99.55", at=NOON + timedelta(minutes=5)), received_at=NOON + timedelta(hours=1))
    assert gaps(account) == [None, 0, 0]
