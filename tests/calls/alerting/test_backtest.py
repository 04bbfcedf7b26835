"""Trying a rule out on the past: what it shows is what would have happened."""

import random
from datetime import datetime, timedelta
from decimal import Decimal

import pytest
from django.utils import timezone

from calls.alerting import backtest, engine
from calls.alerting.backtest import would_have_fired
from calls.choices import Direction, Disposition
from calls.models import Agent, Alert, AlertRule, Notice
from calls.records import LegCdr
from tests.calls.reports import NOON, paid_call, take

pytestmark = pytest.mark.django_db

MINUTE, STEP = timedelta(minutes=1), timedelta(minutes=15)
END = NOON + timedelta(days=1)
RULES = {
    "low_balance": {"opens_at": 20, "clears_at": 60},
    "balance_gap": {"opens_at": 5, "window_minutes": 60},
    "missed_calls": {"opens_at": 70, "clears_at": 40, "minimum_calls": 3, "window_minutes": 60},
}


def calls_of_a_day() -> list[tuple[datetime, LegCdr]]:
    """Return calls every few minutes, some missed, with top-ups, hidden charges and a silence of hours."""
    dice, balance, calls = random.Random(6), Decimal(100), []
    at = NOON + timedelta(seconds=100)
    while at < END:
        if balance < 8:
            balance += 100
        balance -= Decimal(dice.choice(["0.45", "3.9"]))
        if dice.random() < 0.05:
            balance -= 7
        is_missed = dice.random() < (0.8 if at.hour % 5 == 0 else 0.2)
        report = paid_call(len(calls), balance=str(balance), cost="0.45", at=at)
        fields = {name: getattr(report, name) for name in report.__struct_fields__}
        fields["disposition"] = Disposition.MISSED if is_missed else Disposition.ANSWERED
        calls.append((at, LegCdr(**fields)))
        # No call stands across one of the moments that are looked at: both then know of the same calls.
        at += MINUTE * dice.choice([5, 9, 11, 14]) + (timedelta(hours=4) if len(calls) == 60 else timedelta(0))
        while at.minute % 15 == 0:
            at += MINUTE
    return calls


def test_it_shows_what_fires_when_the_history_is_played_live(account):
    rules = [AlertRule.objects.create(name=kind, kind=kind, **marks) for kind, marks in RULES.items()]
    calls = calls_of_a_day()
    moment = END - timedelta(days=1)
    while moment <= END:
        while calls and calls[0][0] <= moment:
            at, call = calls.pop(0)
            take(account, call, received_at=at)
        engine.review([account], moment)
        moment += STEP
    for rule in rules:
        alerts = Alert.objects.filter(rule=rule).order_by("opened_at", "subject")
        live = list(alerts.values_list("subject", "opened_at", "cleared_at"))
        fired = would_have_fired(rule, account, days=1, until=END)
        assert sorted(((one.subject, one.opened_at, one.cleared_at) for one in fired), key=lambda one: one[1:0:-1]) == (
            sorted(live, key=lambda one: one[1:0:-1])
        ), rule.kind
        assert len(live) >= 2, rule.kind
        assert live[0][2], rule.kind


def test_nothing_is_written_and_the_rule_need_not_be_saved(account):
    take(account, paid_call(1, balance="19"), paid_call(20, balance="500"), paid_call(50, balance="10"))
    rule = AlertRule(kind="low_balance", opens_at=20)
    first, last = would_have_fired(rule, account, days=1, until=NOON + 60 * MINUTE)
    assert (first.opened_at, first.cleared_at) == (NOON + MINUTE, NOON + 30 * MINUTE)
    assert "19.00 INR" in first.message
    assert [evidence.page for evidence in first.evidence] == ["admin:calls_balancereading_changelist"]
    assert (last.opened_at, last.cleared_at) == (NOON + 50 * MINUTE, None)
    assert not Alert.objects.exists()
    assert not Notice.objects.exists()
    assert rule.pk is None


def test_what_lasted_when_the_days_began_is_among_it(account):
    take(account, paid_call(1, balance="19"))
    (one,) = would_have_fired(AlertRule(kind="low_balance", opens_at=20), account, until=NOON + timedelta(days=60))
    assert (one.opened_at, one.cleared_at) == (NOON + MINUTE, None)


def test_an_account_without_calls_fires_nothing(account):
    assert would_have_fired(AlertRule(kind="low_balance", opens_at=20), account) == []


@pytest.mark.parametrize(
    ("kind", "window", "minutes"),
    [
        ("low_balance", 10, 15),
        ("missed_calls", 5, 5),
        ("missed_calls", 60, 15),
        ("missed_calls", 10_080, 60),
        ("runway", 60, 120),
    ],
)
def test_a_short_window_is_looked_at_more_often(kind, window, minutes):
    assert backtest.step_of(AlertRule(kind=kind, window_minutes=window)) == minutes * MINUTE


def test_it_says_whether_there_were_any_calls_of_the_did_and_the_agent(account):
    now = timezone.now()
    report = paid_call(1, balance="19", at=now - timedelta(days=3))
    fields = {name: getattr(report, name) for name in report.__struct_fields__}
    take(account, LegCdr(**fields | {"call_direction": Direction.INBOUND, "to_number": "918000000000"}))
    matches = [
        backtest.matches_calls(AlertRule(kind="missed_calls", **scope), account)
        for scope in (
            {}, {"did": "080000 00000"}, {"did": "+918000000001"},
            {"agent": Agent.objects.create(account=account, external_id="7")},
        )
    ]  # fmt: skip
    assert matches == [True, True, False, False]
    assert not backtest.matches_calls(AlertRule(kind="missed_calls"), account, days=2)
