"""The kinds of alert that watch deliveries: silence, calls without reports, quarantine, lag and drift."""

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest

from calls.alerting import engine
from calls.alerting.evidence import as_stored, links
from calls.alerting.findings import Finding
from calls.alerting.kinds import KINDS
from calls.choices import AlertKind, Direction, EventKind, Label
from calls.models import Account, Alert, AlertRule, Conversation
from calls.records import Alias, LiveEvent
from tests.calls.reports import paid_call, take
from tests.webhooks.inbox import deliver
from webhooks import processing
from webhooks.models import Delivery

pytestmark = pytest.mark.django_db

MINUTE, HOUR, DAY, WEEK = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1), timedelta(weeks=1)
MONDAY = datetime(2026, 3, 2)  # noqa: DTZ001 - the wall clock of whichever zone a test takes
NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)


def rule_of(kind: AlertKind, **values) -> AlertRule:
    rule = AlertRule(name=kind.label, kind=kind, **values)
    rule.full_clean()
    rule.save()
    return rule


def found(rule: AlertRule, account: Account, at: datetime) -> list[Finding]:
    return KINDS[rule.kind].evaluate(rule, account, at)


def listed(client, finding: Finding, label: str) -> set[str]:
    """Return the ids of the rows that the page of a piece of evidence lists."""
    [link] = [link for link in links(as_stored(finding.evidence)) if link.label == label]
    response = client.get(link.url)
    assert response.status_code == 200, link.url
    return {str(row.pk) for row in response.context["cl"].result_list}


# --- Silence ---------------------------------------------------------------------------------------------------------


def usual_days(zone: str, weeks: int, first: datetime = MONDAY) -> Iterator[datetime]:
    """Yield when the deliveries of a call centre come that works from 9 to 18 but on Sundays, 15 calls an hour of
    three deliveries each, and two on Saturday mornings."""
    chance = random.Random(7)
    for day in range(7 * weeks):
        date = first + day * DAY
        opens, closes, pause = (9, 13, 30) if date.weekday() == 5 else (9, 18, 4)
        if date.weekday() == 6:
            continue
        moment = date.replace(hour=opens, tzinfo=ZoneInfo(zone)).astimezone(UTC)
        until = date.replace(hour=closes, tzinfo=ZoneInfo(zone)).astimezone(UTC)
        while (moment := moment + chance.expovariate(1 / pause) * MINUTE) < until:
            yield from (moment + seconds * timedelta(seconds=1) for seconds in (0, 90, 91))


def receive(account: Account, moments: Iterator[datetime], **values) -> None:
    Delivery.objects.bulk_create(
        [
            Delivery(account=account, received_at=at, method=values.get("method", "POST"), size=0, digest=f"{number}",
                     status="processed", processed_at=at)
            for number, at in enumerate(moments)
        ],
        batch_size=500,
    )  # fmt: skip


def silent_times(account: Account, rule: AlertRule, since: datetime, until: datetime) -> list[datetime]:
    """Walk the clock in steps of ten minutes and return when there was something to find."""
    steps = int((until - since) / (10 * MINUTE))
    return [at for step in range(steps) if found(rule, account, at := since + step * 10 * MINUTE)]


@pytest.fixture
def rule(account) -> AlertRule:
    return rule_of(AlertKind.SILENCE)


@pytest.mark.parametrize(
    ("zone", "first"),
    [("Asia/Kolkata", MONDAY), ("America/New_York", datetime(2026, 2, 16))],  # noqa: DTZ001 - 8 March: an hour less
)
def test_a_stopped_feed_is_found_within_the_hour_on_a_busy_weekday_and_not_on_a_quiet_sunday(
    account, rule, zone, first
):
    Account.objects.filter(pk=account.pk).update(time_zone=zone)
    account.refresh_from_db()

    def clock(days: int, hour: int) -> datetime:
        return (first + 2 * WEEK + days * DAY).replace(hour=hour, tzinfo=ZoneInfo(zone)).astimezone(UTC)

    receive(account, usual_days(zone, 4, first))
    assert silent_times(account, rule, clock(2, 0), clock(3, 0)) == [], "by day and at night, while it flows"
    assert silent_times(account, rule, clock(5, 12), clock(7, 12)) == [], "from Saturday to Monday, while it flows"
    Delivery.objects.filter(received_at__gte=clock(6, 0)).delete()
    [first_found, *_] = silent_times(account, rule, clock(6, 0), clock(7, 12))
    assert clock(7, 9) < first_found <= clock(7, 10), "not on Sunday but on Monday morning"
    stops = clock(2, 11)
    Delivery.objects.filter(received_at__gte=stops).delete()
    [first_found, *_] = silent_times(account, rule, stops, stops + 2 * HOUR)
    assert stops < first_found <= stops + HOUR
    [finding] = found(rule, account, first_found)
    assert first_found - 10 * MINUTE <= finding.at <= first_found
    assert found(rule, account, first_found + 5 * DAY) == [finding], "it stays as it is while it lasts"


def test_less_than_two_weeks_say_nothing(account, rule):
    receive(account, usual_days("Asia/Kolkata", 2))
    wednesday = datetime(2026, 3, 11, 11, tzinfo=ZoneInfo("Asia/Kolkata"))
    Delivery.objects.filter(received_at__gte=wednesday).delete()
    assert silent_times(account, rule, wednesday, wednesday + DAY) == []


def test_one_holiday_among_the_weeks_and_one_busy_sunday_change_little(account, rule):
    zone = ZoneInfo("Asia/Kolkata")
    receive(account, usual_days("Asia/Kolkata", 6))
    wednesday, sunday = MONDAY + 5 * WEEK + 2 * DAY, MONDAY + 5 * WEEK + 6 * DAY
    holiday = (wednesday - 2 * WEEK).replace(tzinfo=zone)
    Delivery.objects.filter(received_at__gte=holiday, received_at__lt=holiday + DAY).delete()
    busy = (sunday - 3 * WEEK).replace(hour=9, tzinfo=zone)
    receive(account, (busy + number * 3 * MINUTE for number in range(180)))
    assert silent_times(account, rule, sunday.replace(tzinfo=zone), sunday.replace(tzinfo=zone) + DAY) == []
    stops = wednesday.replace(hour=11, tzinfo=zone)
    Delivery.objects.filter(received_at__gte=stops).delete()
    [first_found, *_] = silent_times(account, rule, stops, stops + 2 * HOUR)
    assert first_found <= stops + HOUR


def test_the_next_delivery_ends_it_and_a_page_that_we_asked_for_does_not(account, rule):
    receive(account, usual_days("Asia/Kolkata", 3))
    stops = datetime(2026, 3, 18, 11, tzinfo=ZoneInfo("Asia/Kolkata"))
    Delivery.objects.filter(received_at__gte=stops).delete()
    receive(account, iter([stops + 50 * MINUTE]), method=Delivery.PULL)
    engine.review([account], stops + HOUR)
    assert Alert.objects.get().cleared_at is None
    receive(account, iter([stops + 61 * MINUTE]))
    engine.review([account], stops + 62 * MINUTE)
    assert Alert.objects.get().cleared_at == stops + 62 * MINUTE


def test_the_links_of_silence_list_the_last_delivery_and_the_same_time_a_week_before(account, rule, admin_client):
    receive(account, usual_days("Asia/Kolkata", 3))
    zone = ZoneInfo("Asia/Kolkata")
    stops = datetime(2026, 3, 18, 11, tzinfo=zone)
    Delivery.objects.filter(received_at__gte=stops).delete()
    [finding] = found(rule, account, stops + HOUR)
    last = Delivery.objects.latest("received_at")
    assert links(as_stored(finding.evidence))[0].url == f"/admin/webhooks/delivery/{last.pk}/change/"
    before = Delivery.objects.filter(
        received_at__gte=last.received_at - WEEK, received_at__lte=finding.at - WEEK
    ).values_list("pk", flat=True)
    assert listed(admin_client, finding, "The same time a week before") == set(map(str, before))
    assert before


# --- Calls without final reports -------------------------------------------------------------------------------------


def live_call(account: Account, name: str, at: datetime) -> None:
    """Take in an answered call that ended at ``at``, by its live events alone."""
    for kind, moment in (
        (EventKind.STARTED, at - 2 * MINUTE),
        (EventKind.ANSWERED, at - MINUTE),
        (EventKind.HANGUP, at),
    ):
        event = LiveEvent(
            aliases=(Alias("uuid", name),), leg_id=name, label=Label.A, call_direction=Direction.INBOUND, kind=kind,
            provider_status=kind, occurred_at=moment, is_answer=kind == EventKind.ANSWERED, started_at=at - 2 * MINUTE,
        )  # fmt: skip
        take(account, event, received_at=moment)


def test_calls_that_come_without_their_reports_are_told_apart_from_silence(account, admin_client):
    rule = rule_of(AlertKind.MISSING_CDRS, opens_at=50, clears_at=20, minimum_calls=5, window_minutes=60)
    silence = rule_of(AlertKind.SILENCE)
    for number in range(30):
        take(account, paid_call(number, balance="9", at=NOON - DAY + number * MINUTE), received_at=NOON - DAY)
    for number in range(6):
        live_call(account, f"live-{number}", NOON + number * MINUTE)
    for number in range(100, 104):
        take(account, paid_call(number, balance="9", at=NOON + number * timedelta(seconds=1)), received_at=NOON)
    assert found(rule, account, NOON + 10 * MINUTE) == [], "a report may come until 15 minutes after the end"
    [finding] = found(rule, account, NOON + 30 * MINUTE)
    assert (finding.value, finding.is_over) == (60, True)
    assert finding.message.startswith("6 of 10 calls that ended in 1 hour have no final report (60 %; usually 0 %")
    unreported = Conversation.objects.filter(reason="events_answered").values_list("pk", flat=True)
    assert listed(admin_client, finding, "The calls without a final report") == set(map(str, unreported))
    assert found(silence, account, NOON + 30 * MINUTE) == []
    for number in range(3):
        take(account, report_on(f"live-{number}", NOON), received_at=NOON + HOUR)
    [finding] = found(rule, account, NOON + 30 * MINUTE)
    assert (finding.value, finding.is_over) == (30, False), "still above the mark at which it clears"
    for number in range(3, 5):
        take(account, report_on(f"live-{number}", NOON), received_at=NOON + HOUR)
    assert found(rule, account, NOON + 30 * MINUTE) == []


def report_on(name: str, at: datetime):
    report = paid_call(0, balance="9", at=at)
    return type(report)(**{field: getattr(report, field) for field in report.__struct_fields__}
                        | {"aliases": (Alias("uuid", name),), "leg_id": name})  # fmt: skip


def test_an_account_that_never_has_reports_is_left_alone(account):
    rule = rule_of(AlertKind.MISSING_CDRS, opens_at=50, minimum_calls=5, window_minutes=60)
    for day in range(3):
        for number in range(6):
            live_call(account, f"live-{day}-{number}", NOON - day * DAY + number * MINUTE)
    assert found(rule, account, NOON + 30 * MINUTE) == []


# --- Quarantine and lag ----------------------------------------------------------------------------------------------


def test_a_growing_quarantine_is_found_until_it_is_below_the_lower_mark(account, admin_client):
    rule = rule_of(AlertKind.QUARANTINE, opens_at=5, clears_at=2, window_minutes=60)
    bad = [deliver(account, b"no %d" % number, received_at=NOON + number * MINUTE) for number in range(5)]
    deliver(account, b"too early", received_at=NOON - DAY)
    processing.drain()
    [finding] = found(rule, account, NOON + HOUR)
    assert (finding.value, finding.at, finding.is_over) == (5, NOON, True)
    assert listed(admin_client, finding, "The deliveries") == {str(delivery.pk) for delivery in bad}
    [finding] = found(rule, account, NOON + HOUR + 2 * MINUTE)
    assert (finding.value, finding.is_over) == (3, False)
    assert found(rule, account, NOON + HOUR + 3 * MINUTE) == []
    [earlier] = found(rule, account, NOON + 2 * MINUTE)
    assert earlier.value == 3, "nothing that came later counts"


def test_what_waits_too_long_is_found_and_what_is_to_be_read_again_is_not(account, admin_client):
    rule = rule_of(AlertKind.INBOX_LAG, opens_at=300, clears_at=60)
    now = datetime.now(UTC)
    waiting = deliver(account, b"waits", received_at=now - 299 * timedelta(seconds=1))
    [finding] = found(rule, account, now)
    assert (finding.value, finding.is_over) == (299, False)
    [finding] = found(rule, account, now + timedelta(seconds=1))
    assert (finding.value, finding.is_over, finding.at) == (300, True, waiting.received_at)
    assert listed(admin_client, finding, "All that wait") == {str(waiting.pk)}
    processing.drain()
    assert found(rule, account, datetime.now(UTC)) == []
    processing.requeue([waiting.pk])
    assert found(rule, account, datetime.now(UTC)) == []


def test_how_long_things_waited_is_known_of_the_past(account):
    rule = rule_of(AlertKind.INBOX_LAG, opens_at=300)
    delivery = deliver(account, b"waited", received_at=NOON)
    Delivery.objects.filter(pk=delivery.pk).update(status="quarantined", processed_at=NOON + HOUR)
    assert [bool(found(rule, account, NOON + number * MINUTE)) for number in (4, 5, 59, 60)] == [
        False, True, True, False
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "values", "field"),
    [
        (AlertKind.MISSING_CDRS, {"opens_at": 101}, "opens_at"),
        (AlertKind.MISSING_CDRS, {"opens_at": 20, "clears_at": 30}, "clears_at"),
        (AlertKind.QUARANTINE, {}, "opens_at"),
        (AlertKind.INBOX_LAG, {"opens_at": -1}, "opens_at"),
    ],
)
def test_rules_that_make_no_sense_are_refused(kind, values, field):
    rule = AlertRule(name="x", kind=kind, **{name: Decimal(value) for name, value in values.items()})
    assert list(KINDS[kind].problems(rule)) == [field]
