"""The engine: an alert is opened once, kept up to date, cleared once, and told of to those who are to know."""

import json
import logging
import os
import subprocess
import sys
from datetime import datetime, time, timedelta
from decimal import Decimal

import psycopg
import pytest

from calls.alerting import engine
from calls.alerting.findings import Clock, Evidence, Finding, Kind
from calls.alerting.kinds import KINDS
from calls.choices import AlertKind
from calls.models import Account, Alert, AlertRule, Channel, Notice
from tests.calls.reports import NOON, paid_call, take
from tests.serving import ROOT, environment

pytestmark = pytest.mark.django_db

OPENED, CLEARED = Notice.Transition.OPENED, Notice.Transition.CLEARED
SWAYS = 1000 if os.environ.get("RELIABILITY") == "long" else 30
MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)


class Gauge:
    """A kind of alert that finds what it is told to."""

    def __init__(self) -> None:
        self.findings: list[Finding] = []
        self.asked_at: list[datetime] = []

    def __call__(self, rule, account, at):
        self.asked_at.append(at)
        return self.findings

    def shows(self, *findings: Finding) -> None:
        self.findings = list(findings)


@pytest.fixture
def gauge(monkeypatch) -> Gauge:
    gauge = Gauge()
    monkeypatch.setitem(KINDS, AlertKind.STUCK_CALLS, Kind("Made for these tests.", gauge, Clock.WALL, mark=""))
    monkeypatch.setitem(KINDS, AlertKind.MISSED_CALLS, Kind("Made for these tests.", gauge, Clock.DATA, mark=""))
    return gauge


@pytest.fixture
def channels(db) -> list[Channel]:
    return [Channel.objects.create(name=name, kind="email", target=f"{name}@example.com") for name in ("boss", "shift")]


@pytest.fixture
def rule(channels) -> AlertRule:
    rule = AlertRule.objects.create(name="Stuck", kind=AlertKind.STUCK_CALLS)
    rule.channels.set(channels)
    return rule


def found(subject: str = "", message: str = "Too many.", **values) -> Finding:
    return Finding(message, **({"at": NOON, "subject": subject} | values))


def review(now: datetime = NOON) -> int:
    return engine.review(Account.objects.all(), now)


def told() -> list[tuple]:
    return sorted(Notice.objects.values_list("alert__subject", "channel__name", "transition"))


# --- Open, last, clear -----------------------------------------------------------------------------------------------


def test_an_alert_is_opened_once_kept_up_to_date_and_cleared_once(account, rule, gauge):
    evidence = Evidence("The calls", "admin:calls_conversation_changelist", {"state__exact": "live"})
    gauge.shows(found(value=Decimal("3"), evidence=(evidence,)))
    assert [review(), review(NOON + MINUTE)] == [2, 0]
    alert = Alert.objects.get()
    assert (alert.rule, alert.account, alert.kind, alert.message) == (rule, account, "stuck_calls", "Too many.")
    assert (alert.opened_at, alert.updated_at, alert.cleared_at) == (NOON, NOON, None)
    assert alert.evidence == [
        {"label": "The calls", "page": "admin:calls_conversation_changelist", "query": {"state__exact": "live"},
         "args": []}
    ]  # fmt: skip
    gauge.shows(found(message="Far too many.", value=Decimal("9") / 7))
    assert [review(NOON + 2 * MINUTE), review(NOON + 3 * MINUTE)] == [0, 0]
    alert.refresh_from_db()
    assert (alert.message, alert.value) == ("Far too many.", Decimal("1.285714"))
    assert alert.updated_at == NOON + 2 * MINUTE, "the second look found nothing new"
    gauge.shows()
    assert [review(NOON + 4 * MINUTE), review(NOON + 5 * MINUTE)] == [2, 0]
    alert.refresh_from_db()
    assert alert.cleared_at == NOON + 4 * MINUTE
    assert told() == [("", name, word) for name in ("boss", "shift") for word in (CLEARED, OPENED)]
    gauge.shows(found())
    assert review(NOON + 6 * MINUTE) == 2
    assert Alert.objects.count() == 2


def test_between_the_marks_an_open_alert_stays_and_none_is_opened(account, rule, gauge):
    gauge.shows(found(is_over=False))
    review()
    assert not Alert.objects.exists()
    gauge.shows(found())
    review()
    gauge.shows(found(is_over=False, message="Still many."))
    review()
    assert Alert.objects.get(cleared_at=None).message == "Still many."


def test_each_subject_and_each_account_has_its_own_alert(account, rule, gauge):
    Account.objects.create(slug="other", provider="telecmi")
    gauge.shows(found("DID 1"), found("DID 2"), found("DID 2"))
    review()
    gauge.shows(found("DID 2"), found("x" * 300, message="y" * 900))
    review()
    review()
    alerts = Alert.objects.order_by("subject").values_list("account__slug", "subject", "cleared_at")
    for slug in ("delhi-support", "other"):
        assert [alert[1:] for alert in alerts if alert[0] == slug] == [
            ("DID 1", NOON), ("DID 2", None), ("x" * 200, None)
        ]  # fmt: skip


def test_a_rule_that_cannot_be_tried_is_logged_and_stops_no_other(account, rule, gauge, monkeypatch, caplog):
    def fails(rule, account, at):
        raise ZeroDivisionError

    monkeypatch.setitem(KINDS, AlertKind.SILENCE, Kind("Made for this test.", fails, Clock.WALL, mark=""))
    AlertRule.objects.create(name="A broken one", kind=AlertKind.SILENCE)
    gauge.shows(found())
    with caplog.at_level(logging.ERROR):
        assert review() == 2
    (line,) = caplog.records
    assert "“A broken one” (silence) could not be tried on delhi-support" in line.getMessage()
    assert line.exc_info


@pytest.mark.parametrize("what", ["rule", "account", "parted"])
def test_what_is_not_watched_any_more_is_cleared_and_nobody_is_told(account, rule, gauge, what):
    gauge.shows(found())
    review()
    if what == "rule":
        AlertRule.objects.update(is_active=False)
    elif what == "account":
        Account.objects.update(is_active=False)
    else:
        AlertRule.objects.update(account=Account.objects.create(slug="other", provider="piopiy", is_active=False))
    assert review(NOON + MINUTE) == 0
    assert Alert.objects.get().cleared_at == NOON + MINUTE
    assert {transition for *_, transition in told()} == {OPENED}


def test_a_rule_of_one_account_is_tried_on_no_other(account, rule, gauge):
    AlertRule.objects.update(account=Account.objects.create(slug="other", provider="piopiy"))
    gauge.shows(found())
    review()
    assert Alert.objects.get().account.slug == "other"


# --- The data's clock ------------------------------------------------------------------------------------------------


def test_kinds_that_watch_calls_go_by_the_newest_call_and_others_by_our_clock(account, rule, gauge):
    AlertRule.objects.create(name="Missed", kind=AlertKind.MISSED_CALLS, window_minutes=30)
    take(account, paid_call(1, balance="50"))
    newest = NOON + MINUTE
    for now in (newest + MINUTE, newest + DAY):
        gauge.asked_at.clear()
        review(now)
        assert set(gauge.asked_at) == {now, min(now, newest + timedelta(minutes=30))}


def test_a_call_of_the_future_moves_no_clock(account, rule, gauge):
    take(account, paid_call(1, balance="50"), paid_call(2, balance="49", at=NOON + 900 * DAY))
    assert engine.newest_data(account, NOON + 2 * MINUTE) == NOON + MINUTE


def test_what_opens_long_ago_by_the_datas_clock_is_recorded_and_nobody_is_told(account, channels, gauge):
    rule = AlertRule.objects.create(name="Missed", kind=AlertKind.MISSED_CALLS)
    rule.channels.set(channels)
    take(account, paid_call(0, balance="50"))
    gauge.shows(found())
    assert review(NOON + DAY + 61 * MINUTE) == 0
    assert Alert.objects.get().opened_at == NOON
    gauge.shows()
    assert review(NOON + DAY + 62 * MINUTE) == 0, "who was not told of it is not told that it is over"
    assert Alert.objects.get().cleared_at == NOON + 60 * MINUTE


def test_a_balance_that_sways_round_the_mark_again_and_again_opens_one_alert(account, channels):
    rule = AlertRule.objects.create(name="Low", kind=AlertKind.LOW_BALANCE, opens_at=50, clears_at=80)
    rule.channels.set(channels)
    for number in range(SWAYS):
        balance = "49.55" if number % 2 else "50"
        take(account, paid_call(number, balance=balance), received_at=NOON)
        engine.review([account], NOON + number * MINUTE)
    assert Alert.objects.get().opened_at == NOON + MINUTE
    take(account, paid_call(SWAYS, balance="500"))
    engine.review([account], NOON + SWAYS * MINUTE)
    assert Alert.objects.get().cleared_at == NOON + SWAYS * MINUTE
    assert told() == [("", name, word) for name in ("boss", "shift") for word in (CLEARED, OPENED)]


def test_a_report_that_comes_late_changes_no_alert(account, channels):
    AlertRule.objects.create(name="Low", kind=AlertKind.LOW_BALANCE, opens_at=50)
    take(account, paid_call(10, balance="80"))
    take(account, paid_call(1, balance="10"), received_at=NOON + timedelta(hours=1))
    review(NOON + timedelta(hours=1))
    assert not Alert.objects.exists()


# --- Who is told, and when -------------------------------------------------------------------------------------------


def test_a_muted_rule_opens_alerts_and_tells_nobody(account, rule, gauge):
    AlertRule.objects.update(muted_until=NOON + MINUTE)
    gauge.shows(found())
    assert review() == 0
    assert Alert.objects.filter(cleared_at=None).exists()
    gauge.shows()
    assert review(NOON + 2 * MINUTE) == 0, "who was not told of it is not told that it is over"
    gauge.shows(found())
    assert review(NOON + 3 * MINUTE) == 2


def test_the_end_is_told_to_the_channels_that_were_told_of_the_beginning(account, rule, channels, gauge):
    boss, _ = channels
    gauge.shows(found())
    review()
    Notice.objects.filter(channel=boss).update(state=Notice.State.GIVEN_UP)
    rule.channels.set([Channel.objects.create(name="new", kind="email"), boss])
    gauge.shows()
    review()
    assert told() == [("", "boss", OPENED), ("", "shift", CLEARED), ("", "shift", OPENED)]
    gauge.shows(found())
    Channel.objects.filter(pk=boss.pk).update(is_active=False)
    assert review() == 1, "a channel that is switched off is told nothing"


def in_kolkata(text: str) -> datetime:
    return datetime.fromisoformat(f"{text}+05:30")


@pytest.mark.parametrize(
    ("quiet_from", "quiet_until", "local", "waits_until"),
    [
        (time(22), time(7), "2026-03-02 21:59", None),
        (time(22), time(7), "2026-03-02 22:00", "2026-03-03 07:00"),
        (time(22), time(7), "2026-03-03 06:59", "2026-03-03 07:00"),
        (time(22), time(7), "2026-03-03 07:00", None),
        (time(12), time(14), "2026-03-03 13:00", "2026-03-03 14:00"),
        (time(12), time(14), "2026-03-03 14:00", None),
        (time(12), time(12), "2026-03-03 12:00", None),
        (None, None, "2026-03-03 03:00", None),
    ],
)
def test_notices_wait_for_the_end_of_quiet_hours_in_the_accounts_zone(
    account, rule, gauge, quiet_from, quiet_until, local, waits_until
):
    AlertRule.objects.update(quiet_from=quiet_from, quiet_until=quiet_until)
    now = in_kolkata(local)
    gauge.shows(found())
    review(now)
    due_at = in_kolkata(waits_until) if waits_until else now
    assert set(Notice.objects.values_list("due_at", flat=True)) == {due_at}


# --- Many at once ----------------------------------------------------------------------------------------------------

WORKERS, ROUNDS, SUBJECTS = 4, 10, 5
RACE = f"""
import json, multiprocessing, django; django.setup()
from django.core.management import call_command
from django.db import connection
from calls.alerting import engine
from calls.alerting.findings import Clock, Finding, Kind
from calls.alerting.kinds import KINDS
from calls.models import Account, Alert, AlertRule, Channel, Notice

def evaluate(rule, account, at):
    if Account.objects.get(pk=account.pk).name == "calm":
        return []
    return [Finding("Too many.", at, subject=str(number)) for number in range({SUBJECTS})]

def review(_):
    barrier.wait(60)
    return engine.review(accounts)

call_command("migrate", verbosity=0)
KINDS["stuck_calls"] = Kind("Made for this test.", evaluate, Clock.WALL, mark="")
accounts = [Account.objects.create(slug="delhi-support", provider="piopiy")]
rule = AlertRule.objects.create(name="Stuck", kind="stuck_calls")
rule.channels.set([Channel.objects.create(name="boss", kind="email")])
connection.close()
connection.close_pool()  # a connection must not be shared with a child
fork = multiprocessing.get_context("fork")
barrier, counts = fork.Barrier({WORKERS}), []
with fork.Pool({WORKERS}) as pool:
    for name in ["over", "calm"] * {ROUNDS}:
        Account.objects.update(name=name)
        counts.append(sorted(pool.map(review, range({WORKERS}), chunksize=1)))
notices = [Notice.objects.filter(transition=word).count() for word in ("opened", "cleared")]
alerts = [Alert.objects.count(), Alert.objects.filter(cleared_at=None).count()]
print(json.dumps([counts, alerts, notices]))
"""


def test_of_many_workers_that_review_at_once_one_opens_and_one_clears(postgres, tmp_path):
    with psycopg.connect(postgres, autocommit=True) as server:
        server.execute("CREATE DATABASE many_reviewers")
    url = postgres.rpartition("/")[0] + "/many_reviewers"
    variables = environment(tmp_path, 8000) | {"DATABASE_URL": url, "DJANGO_SETTINGS_MODULE": "config.settings"}
    race = [sys.executable, "-c", RACE]
    output = subprocess.run(race, cwd=ROOT, env=variables, check=True, timeout=120, stdout=subprocess.PIPE).stdout
    counts, alerts, notices = json.loads(output)
    assert counts == [[0] * (WORKERS - 1) + [SUBJECTS]] * 2 * ROUNDS
    assert alerts == [SUBJECTS * ROUNDS, 0]
    assert notices == [SUBJECTS * ROUNDS] * 2
