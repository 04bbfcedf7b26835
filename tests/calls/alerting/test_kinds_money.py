"""Kinds of alert that watch money: what opens, keeps and clears them, and that their links show what was counted."""

import random
from datetime import datetime
from decimal import Decimal

import pytest
from django.core.exceptions import ValidationError

from calls.alerting.engine import transitions
from calls.choices import AlertKind, Direction, GapKind
from calls.models import Account, AlertRule, BalanceReading, Conversation
from tests.api.factories import a_conversation, a_leg, a_live_conversation, a_reading, an_agent
from tests.calls.alerting.looking import DAY, HOUR, MINUTE, NOON, WEEK, a_rule, listed, look, verdict

pytestmark = pytest.mark.django_db


def balance(account: Account, amount: str, at: datetime, **values) -> BalanceReading:
    """A reading of ``amount`` at a time."""
    leg = a_leg(a_conversation(account=account, started_at=at - MINUTE, ended_at=at), has_cdr=True)
    return a_reading(leg, balance=Decimal(amount), occurred_at=at, booked_at=at, **values)


def calls(account: Account, count: int, since: datetime, cost: str = "0.45", **values) -> list[Conversation]:
    """Outbound calls that begin a minute apart from ``since`` on and take twenty seconds."""
    starts = [since + number * MINUTE for number in range(count)]
    values = {"account": account, "direction": Direction.OUTBOUND, "cost": Decimal(cost)} | values
    return [a_conversation(**({"started_at": start, "ended_at": start + MINUTE / 3} | values)) for start in starts]


# --- Low balance -----------------------------------------------------------------------------------------------------


@pytest.fixture
def low_rule(account) -> AlertRule:
    return a_rule(AlertKind.LOW_BALANCE, opens_at=50, clears_at=60)


def test_a_low_balance_opens_stays_and_clears(account, low_rule):
    assert verdict(low_rule, account) == "clears"
    for minute, (amount, expected) in enumerate(
        [("50", "stays"), ("49.999999", "opens"), ("50", "stays"), ("59.99", "stays"), ("60", "clears")]
    ):
        balance(account, amount, NOON + minute * MINUTE)
        assert verdict(low_rule, account, NOON + minute * MINUTE) == expected


def test_without_a_clearing_mark_a_balance_at_the_mark_is_no_longer_low(account):
    rule = a_rule(AlertKind.LOW_BALANCE, opens_at=50)
    balance(account, "49", NOON)
    balance(account, "50", NOON + MINUTE)
    assert [verdict(rule, account, NOON), verdict(rule, account, NOON + MINUTE)] == ["opens", "clears"]


def test_a_low_balance_is_told_with_unit_and_mark_from_the_reading_that_crossed(account, low_rule, admin_client):
    account.unit = "credits"
    account.save()
    balance(account, "40", NOON - 6 * MINUTE)
    balance(account, "70", NOON - 5 * MINUTE)
    crossed = [balance(account, amount, NOON - (4 - n) * MINUTE) for n, amount in enumerate(["48.5", "55", "48.2"])]
    balance(account, "990", NOON + MINUTE)
    (finding,) = look(low_rule, account)
    assert finding.message == "The balance is 48.20 credits, below the mark of 50.00 credits."
    assert (finding.value, finding.at, finding.is_over) == (Decimal("48.2"), NOON - 4 * MINUTE, True)
    assert listed(admin_client, finding.evidence[0]) == {reading.pk for reading in crossed}


def test_a_balance_that_jitters_round_the_mark_a_thousand_times_is_one_alert(account, low_rule):
    chance, opened, still_open = random.Random(4), 0, set()
    leg = a_leg(a_conversation(account=account))
    reading = a_reading(leg, balance=Decimal("70"), occurred_at=NOON, booked_at=NOON)
    for number in range(1000):
        reading.balance = Decimal(chance.randint(4500, 5500)) / 100
        reading.booked_at = reading.occurred_at = NOON + number * MINUTE
        reading.save()
        follows = transitions(still_open, look(low_rule, account, reading.booked_at))
        still_open = still_open - follows.cleared | set(follows.opened)
        opened += len(follows.opened)
    assert (opened, still_open) == (1, {""})


def test_the_balance_of_a_moment_of_the_past_is_judged_as_then(account, low_rule):
    then = []
    for minute, amount in enumerate(["70", "49", "55", "61", "49", "48"]):
        balance(account, amount, NOON + minute * MINUTE)
        then.append(look(low_rule, account, NOON + minute * MINUTE))
    assert [look(low_rule, account, NOON + minute * MINUTE) for minute in range(6)] == then
    assert [bool(found) for found in then] == [False, True, True, False, True, True]


# --- Balance gaps ----------------------------------------------------------------------------------------------------


def test_each_unexplained_charge_of_the_window_is_found_by_itself(account, admin_client):
    rule = a_rule(AlertKind.BALANCE_GAP, opens_at=5)
    known = {"gap_since": NOON - 30 * MINUTE}
    before = balance(account, "100", NOON - 30 * MINUTE)
    small = balance(account, "90", NOON - 25 * MINUTE, gap=Decimal("-4.99"), gap_kind=GapKind.MISSING, **known)
    gap = balance(account, "80", NOON - 20 * MINUTE, gap=Decimal("-12.5"), gap_kind=GapKind.MISSING, **known)
    balance(account, "90", NOON - 10 * MINUTE, gap=Decimal("500"), gap_kind=GapKind.TOP_UP, **known)
    balance(account, "90", NOON - 2 * HOUR, gap=Decimal("-50"), gap_kind=GapKind.MISSING, gap_since=NOON - 3 * HOUR)
    (finding,) = look(rule, account)
    assert finding.message == (
        "12.50 INR went without a call that we know between 4 Mar, 17:00 IST and 4 Mar, 17:10 IST: "
        "a charge without a call, or a CDR that never came."
    )
    assert (finding.value, finding.at) == (Decimal("12.5"), gap.booked_at)
    assert finding.subject == f"A {gap.leg.external_id}"
    assert listed(admin_client, finding.evidence[0]) == {before.pk, small.pk, gap.pk}
    assert look(rule, account, NOON + HOUR) == []


def test_an_unexplained_charge_is_told_once_a_late_cdr_would_have_come_and_leads_to_calls_seen_live(account):
    rule = a_rule(AlertKind.BALANCE_GAP, opens_at=5)
    since = NOON - 30 * MINUTE
    balance(account, "100", since)
    balance(account, "80", NOON, gap=Decimal("-12.5"), gap_kind=GapKind.MISSING, gap_since=since)
    suspect = a_live_conversation(account=account, started_at=NOON - 20 * MINUTE)
    a_leg(suspect, disposition=None)
    assert look(rule, account, NOON + 9 * MINUTE) == []
    (finding,) = look(rule, account, NOON + 10 * MINUTE)
    assert finding.message.endswith("In that time 1 call seen live got no CDR.")
    assert finding.evidence[1].args == (str(suspect.pk),)


# --- Runway ----------------------------------------------------------------------------------------------------------


def burn(account: Account, days: int, opening: str) -> None:
    """An even burn of 1 an hour up to noon, from a balance that ends as ``opening`` less what was burnt."""
    leg_of = [a_leg(a_conversation(account=account, started_at=NOON - DAY)) for _ in range(days * 24)]
    BalanceReading.objects.bulk_create(
        BalanceReading(
            account=account, conversation=leg.conversation, leg=leg, charge=1, received_at=NOON,
            balance=Decimal(opening) - number, gap=0, gap_kind=GapKind.NONE if number else GapKind.OPENING,
            occurred_at=NOON - (len(leg_of) - number) * HOUR, booked_at=NOON - (len(leg_of) - number) * HOUR,
        )
        for number, leg in enumerate(leg_of)
    )  # fmt: skip


def test_a_balance_that_runs_out_soon_is_found_with_the_time_it_lasts(account, admin_client):
    burn(account, days=15, opening="379")  # 20 are left
    rule = a_rule(AlertKind.RUNWAY, opens_at=24, clears_at=48)
    (finding,) = look(rule, account)
    assert finding.is_over
    assert 18 <= finding.value <= 22
    assert finding.message.startswith("The balance is 20.00 INR: ")
    assert finding.message.endswith(" The mark is 24 h.")
    assert len(listed(admin_client, finding.evidence[0])) == 24
    rule.opens_at = 10
    assert verdict(rule, account) == "stays"
    rule.clears_at = 15
    assert verdict(rule, account) == "clears"


def test_nothing_is_said_of_a_balance_without_history(account):
    rule = a_rule(AlertKind.RUNWAY, opens_at=24)
    assert look(rule, account) == []
    balance(account, "0.01", NOON - MINUTE)
    assert look(rule, account) == []


# --- Unusual spend ---------------------------------------------------------------------------------------------------


@pytest.fixture
def spike_rule(account) -> AlertRule:
    return a_rule(AlertKind.SPEND_SPIKE, opens_at=3, clears_at=2, minimum_calls=5)


def weeks(account: Account, count: int, each: int = 2, **values) -> None:
    """``each`` calls in the hour before noon in each of ``count`` weeks before."""
    a_conversation(account=account, started_at=NOON - count * WEEK - HOUR, cost=None)
    for back in range(1, count + 1):
        calls(account, each, NOON - back * WEEK - 30 * MINUTE, **values)


def test_spend_far_above_what_is_usual_opens_stays_and_clears(account, spike_rule, admin_client):
    weeks(account, 4)
    spent = calls(account, 6, NOON - 50 * MINUTE)
    a_live_conversation(account=account, started_at=NOON - MINUTE)
    (finding,) = look(spike_rule, account)
    assert finding.message == (
        "2.70 INR for 6 calls in 1 hour, 3 times what is usual at this hour of the week (0.90 INR)."
    )
    assert (finding.value, finding.is_over) == (3, True)
    assert listed(admin_client, finding.evidence[0]) == {call.pk for call in spent}
    assert verdict(spike_rule, account, NOON + 10 * MINUTE + MINUTE / 2) == "stays"  # 5 calls are left, 2 are usual
    assert verdict(spike_rule, account, NOON + 20 * MINUTE) == "clears"


def test_one_week_out_of_the_common_does_not_change_what_is_usual(account, spike_rule):
    weeks(account, 4)
    calls(account, 20, NOON - 2 * WEEK - 50 * MINUTE, cost="90")
    calls(account, 6, NOON - 50 * MINUTE)
    assert look(spike_rule, account)[0].value == 3


def test_a_burst_in_an_hour_that_never_had_a_call_is_as_many_times_the_usual_as_it_has_calls(account, spike_rule):
    weeks(account, 4, each=0)
    calls(account, 4, NOON - 50 * MINUTE)
    assert verdict(spike_rule, account) == "stays"  # too few to open an alert
    calls(account, 1, NOON - 20 * MINUTE)
    (finding,) = look(spike_rule, account)
    assert (finding.value, finding.is_over) == (5, True)


def test_before_three_weeks_of_calls_nothing_is_unusual(account, spike_rule):
    weeks(account, 2)
    calls(account, 50, NOON - 55 * MINUTE)
    assert look(spike_rule, account) == []


def test_the_usual_hour_is_that_of_the_clock_on_the_wall(account, spike_rule):
    account.time_zone = "Europe/Berlin"
    account.save()
    at = datetime.fromisoformat("2026-04-01T14:00:00+02:00")  # the clock went forward on 29 March
    a_conversation(account=account, started_at=at - 5 * WEEK, cost=None)
    for back in range(1, 5):
        calls(account, 5, at - back * WEEK + HOUR - 30 * MINUTE)  # 13:30, an hour earlier by UTC
    calls(account, 5, at - 30 * MINUTE)
    assert verdict(spike_rule, account, at) == "clears"


def test_spend_is_that_of_the_did_and_agent_of_the_rule_and_in_the_unit_of_the_account(account):
    agent = an_agent(account=account)
    rule = a_rule(AlertKind.SPEND_SPIKE, opens_at=3, minimum_calls=2, did="+918047184718", agent=agent)
    theirs = {"did": "+918047184718", "agent": agent}
    weeks(account, 4, each=1, **theirs)
    calls(account, 1, NOON - 40 * MINUTE, **theirs)
    calls(account, 30, NOON - 40 * MINUTE, did="+918047184718")
    calls(account, 30, NOON - 40 * MINUTE, agent=agent)
    calls(account, 30, NOON - 40 * MINUTE, cost_unit="coins", **theirs)
    assert look(rule, account) == []
    calls(account, 2, NOON - 20 * MINUTE, **theirs)
    assert look(rule, account)[0].value == 3


# --- New destinations ------------------------------------------------------------------------------------------------


def test_the_first_paid_calls_to_a_destination_are_found_and_the_next_are_not(account, admin_client):
    rule = a_rule(AlertKind.NEW_DESTINATION, opens_at=1)
    calls(account, 3, NOON - 8 * DAY, customer_number="+919000000001")
    calls(account, 3, NOON - 10 * MINUTE, customer_number="+919000000002")
    calls(account, 1, NOON - DAY, customer_number="+5350000001", direction=Direction.INBOUND)
    calls(account, 1, NOON - DAY, customer_number="+5350000001", cost="0")
    calls(account, 1, NOON - 2 * DAY, customer_number="+5250000001")  # next to it, and not it
    calls(account, 1, NOON - 15 * MINUTE, customer_number="100", cost="9")
    calls(account, 1, NOON - 15 * MINUTE, customer_number="+447900000001", cost="0.99")
    new = calls(account, 2, NOON - 20 * MINUTE, customer_number="+5350000001", cost="30")
    new += calls(account, 1, NOON - 5 * MINUTE, customer_number="+5350000002", cost="15.5")
    (finding,) = look(rule, account)
    assert finding.message == "First paid calls to +5350: 3 calls for 75.50 INR since 4 Mar, 17:10 IST."
    assert (finding.subject, finding.value, finding.at) == ("+5350", Decimal("75.5"), NOON - 20 * MINUTE)
    assert listed(admin_client, finding.evidence[0]) == {call.pk for call in new}
    calls(account, 1, NOON + 2 * HOUR, customer_number="+5350000001", cost="30")
    assert look(rule, account, NOON + 2 * HOUR + MINUTE) == []
    assert look(rule, account) == [finding]  # the past is as it was


def test_every_destination_is_new_to_a_new_account_and_none_is_told(account):
    rule = a_rule(AlertKind.NEW_DESTINATION, opens_at=0)
    calls(account, 3, NOON - 7 * DAY, customer_number="+919000000001")
    calls(account, 3, NOON - 10 * MINUTE, customer_number="+5350000001")
    assert look(rule, account) == []


# --- After hours -----------------------------------------------------------------------------------------------------


def test_spend_outside_business_hours_is_found_and_listed_span_by_span(account, admin_client):
    account.business_hours = "Mon-Fri 09:00-17:00"
    account.save()
    rule = a_rule(AlertKind.AFTER_HOURS, opens_at=4, clears_at=1, window_minutes=24 * 60)
    opening, closing = NOON - 8 * HOUR - 30 * MINUTE, NOON - 30 * MINUTE  # 9:00 and 17:00 in India
    calls(account, 20, opening)
    calls(account, 1, closing - MINUTE / 60)
    calls(account, 1, opening - 16 * HOUR)  # before the window
    evening = calls(account, 1, closing, cost="1.5")
    assert verdict(rule, account) == "stays"
    night = calls(account, 2, opening - 2 * MINUTE, cost="1.25")
    calls(account, 1, NOON - MINUTE, cost="0")
    (finding,) = look(rule, account)
    assert finding.message == "4.00 INR for 3 calls outside business hours in 1 day; the mark is 4.00 INR."
    assert (finding.value, finding.is_over) == (4, True)
    assert [listed(admin_client, evidence) for evidence in finding.evidence] == [
        {call.pk for call in night},
        {call.pk for call in evening},
    ]
    assert verdict(rule, account, NOON + 2 * DAY) == "clears"


def test_an_account_without_business_hours_has_no_time_outside_them_and_the_form_says_so(account):
    calls(account, 20, NOON - 30 * MINUTE)
    rule = a_rule(AlertKind.AFTER_HOURS, opens_at=1)
    rule.full_clean()
    assert look(rule, account) == []
    rule.account = account
    with pytest.raises(ValidationError, match=r"delhi-support has no business hours\. Give them on the account's page"):
        rule.full_clean()


# --- All -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [AlertKind.SPEND_SPIKE, AlertKind.NEW_DESTINATION, AlertKind.AFTER_HOURS])
def test_a_moment_of_the_past_is_judged_by_what_was_spent_by_then(account, kind):
    account.business_hours = "Mon-Fri 09:00-17:00"
    account.save()
    rule = a_rule(kind, opens_at=2, minimum_calls=3)
    weeks(account, 4, each=1)
    ends = [NOON + number * 5 * MINUTE for number in range(20)]
    then = []
    for number, end in enumerate(ends):
        start = end - (number * 3 % 8) * MINUTE  # some that began earlier end later
        calls(account, 1, start, ended_at=end, cost="1.1", customer_number=f"+53{50 + number // 5}000001")
        then.append(look(rule, account, end))
    assert [look(rule, account, end) for end in ends] == then
    assert any(then)


def test_marks_that_make_no_sense_are_refused_with_the_reason(account):
    with pytest.raises(ValidationError, match=r"40 is below the mark of 50\. Give that or more\."):
        AlertRule(name="Low", kind=AlertKind.LOW_BALANCE, opens_at=50, clears_at=40).full_clean()
    with pytest.raises(ValidationError, match=r"-1 is negative\. Give 0 or more\."):
        AlertRule(name="Gap", kind=AlertKind.BALANCE_GAP, opens_at=-1).full_clean()
    with pytest.raises(ValidationError, match=r"4 is above the mark of 3\. Give that or less\."):
        AlertRule(name="Spike", kind=AlertKind.SPEND_SPIKE, opens_at=3, clears_at=4).full_clean()
    with pytest.raises(ValidationError, match=r"101 can never be reached\. Give at most 100\."):
        AlertRule(name="Missed", kind=AlertKind.MISSED_CALLS, opens_at=101).full_clean()
