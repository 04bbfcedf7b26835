import random
from datetime import timedelta
from decimal import Decimal
from uuid import uuid4

import msgspec
import pytest

from calls import ledger
from calls.chain import Reading, chain
from calls.choices import Direction, EventKind, GapKind, Label
from calls.models import BalanceReading, Conversation
from calls.records import LiveEvent
from tests.calls import year
from tests.calls.reports import NOON, paid_call, take


def gaps(account) -> list[Decimal | None]:
    readings = BalanceReading.objects.filter(account=account).order_by("booked_at")
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


@pytest.mark.parametrize("seed", range(6))
def test_settled_bit_by_bit_the_chain_is_what_it_is_settled_at_once(account, seed):
    """Late CDRs, corrected ends, withdrawn reports, in batches of any size, in traffic dense enough to be in doubt."""
    chance = random.Random(seed)
    made, _ = year.generate(seed, readings=150, top_ups=4, hidden=2, dropped=4)
    squeeze = chance.choice([200, 2_000, 20_000])
    arriving = []
    for number, one in enumerate(made):
        end = (NOON + (one.occurred_at - year.START) / squeeze).replace(microsecond=0)
        report = paid_call(number, balance=str(one.balance), cost=str(one.charge), at=end)
        is_late = chance.random() < 0.1
        arriving.append((number + (chance.randrange(60) if is_late else chance.random() * 5), uuid4(), report))
    arriving.sort(key=lambda item: item[0])
    while arriving:
        size = chance.choice([1, 5, 40])
        batch, arriving = arriving[:size], arriving[size:]
        sources = {source: report for _, source, report in batch}
        if chance.random() < 0.3:  # the end of a call is corrected
            source, report = chance.choice(list(sources.items()))
            sources[source] = msgspec.structs.replace(
                report, ended_at=report.ended_at + timedelta(seconds=chance.choice([-90, 90]))
            )
        for source, report in sources.items():
            take(account, report, source=source)
        if chance.random() < 0.3:  # a report is withdrawn
            take(account, source=chance.choice(list(sources)))
        readings = list(BalanceReading.objects.filter(account=account).order_by("booked_at"))
        whole = chain(Reading(one.pk, one.occurred_at, one.received_at, one.balance, one.charge) for one in readings)
        expected = [(link.reading.id, link.booked_at, link.gap, link.kind, link.since) for link in whole]
        assert [(one.pk, one.booked_at, one.gap, one.gap_kind, one.gap_since) for one in readings] == expected


def test_a_report_of_coins_without_a_balance_makes_no_reading(account):
    take(account, paid_call(0, balance="100"))
    take(account, msgspec.structs.replace(paid_call(1, balance="0"), balance_after=None))
    take(account, paid_call(2, balance="99.55"))
    assert gaps(account) == [None, 0]


def test_calls_seen_live_without_a_report_are_suspected_of_a_missing_charge(account):
    take(account, paid_call(0, balance="100"))
    take(account, paid_call(10, balance="97.30"))
    begun = paid_call(5, balance="0")
    live = LiveEvent(
        aliases=begun.aliases, leg_id="leg-5", label=Label.A, kind=EventKind.STARTED, provider_status="started",
        occurred_at=NOON + timedelta(minutes=5), call_direction=Direction.INBOUND,
    )  # fmt: skip
    take(account, live, received_at=NOON + timedelta(minutes=5))
    gap = BalanceReading.objects.get(gap_kind=GapKind.MISSING)
    assert (gap.gap, gap.gap_since) == (Decimal("-2.25"), NOON)
    assert list(ledger.suspects(gap)) == [Conversation.objects.get(state="live")]
