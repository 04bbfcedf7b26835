"""What payloads look like: a field new or gone, another unit, a word never seen; read again, nothing counts twice."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from django.utils import timezone

from calls.alerting import engine
from calls.alerting.evidence import as_stored, links
from calls.alerting.kinds import KINDS
from calls.choices import AlertKind
from calls.models import Account, Alert, AlertRule
from tests.webhooks.inbox import deliver
from webhooks import drift, processing, rebuilding
from webhooks.models import Delivery, PayloadField, Rebuild

pytestmark = pytest.mark.django_db

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
START = datetime(2026, 3, 2, 12, tzinfo=UTC)
CHANGE = START + 9 * DAY


def report(at: datetime, **values) -> dict:
    """Return a final report of PIOPIY on an answered call."""
    ended = int(at.timestamp())
    call = str(uuid4())
    payload = {
        "type": "cdr", "status": "answered", "direction": "inbound", "leg": "a", "from": 919100000000,
        "to": 4471000000, "time": (ended - 60) * 1000, "start_time": ended - 60, "answer_time": ended - 50,
        "end_time": ended, "duration": 50, "call_rate": "0.450000", "balance": "878.900000", "cmiuuid": call,
        "conversation_uuid": call, "extra_params": "",
    }  # fmt: skip
    return {name: value for name, value in (payload | values).items() if value is not None}


def send(account: Account, since: datetime, count: int, make: Callable[[datetime], dict] = report) -> list[Delivery]:
    """Deliver reports, one a minute, and process them in small batches, as they would come."""
    sent = []
    for number in range(count):
        at = since + number * timedelta(minutes=1)
        sent.append(deliver(account, make(at), received_at=at))
        if len(sent) % drift.LOOKED_AT == 0 or number == count - 1:
            processing.drain()
    return sent


@pytest.fixture
def rule(db) -> AlertRule:
    return AlertRule.objects.create(name="Drift", kind=AlertKind.PAYLOAD_DRIFT)


@pytest.fixture
def settled(account, rule) -> Account:
    """An account whose reports have looked alike for more than a week."""
    for day in range(9):
        send(account, START + day * DAY, 15)
    assert found(account, CHANGE) == []
    return account


def found(account: Account, at: datetime) -> list:
    return KINDS[AlertKind.PAYLOAD_DRIFT].evaluate(AlertRule.objects.get(), account, at)


def pages(finding) -> dict[str, str]:
    return {link.label: link.url for link in links(as_stored(finding.evidence))}


def page_of(delivery: Delivery) -> str:
    return f"/admin/webhooks/delivery/{delivery.pk}/change/"


def test_a_field_that_is_new_is_found_with_its_first_delivery_and_for_a_week(settled):
    send(settled, CHANGE, 3)
    first, *_ = send(settled, CHANGE + HOUR, 3, lambda at: report(at, campaign="spring"))
    [finding] = found(settled, CHANGE + DAY)
    assert (finding.subject, finding.at) == ("field campaign", CHANGE + HOUR)
    assert finding.message.startswith("The field “campaign” is new. In “cdr inbound a answered”.")
    assert pages(finding) == {"A delivery as it is now": page_of(first)}
    assert found(settled, CHANGE) == [], "before it came"
    assert found(settled, CHANGE + 9 * DAY) == []


def test_a_field_that_is_gone_is_found_with_the_last_delivery_that_had_it(settled):
    *_, last = send(settled, CHANGE, 3)
    send(settled, CHANGE + HOUR, drift.GONE_AFTER - 1, lambda at: report(at, answer_time=None))
    assert found(settled, CHANGE + DAY) == []
    send(settled, CHANGE + 2 * HOUR, 1, lambda at: report(at, answer_time=""))
    [finding] = found(settled, CHANGE + DAY)
    assert (finding.subject, finding.at) == ("field answer_time", last.received_at)
    assert finding.message.startswith("The field “answer_time” is gone.")
    assert pages(finding) == {"The last delivery as it was": page_of(last)}
    send(settled, CHANGE + 3 * HOUR, 1)
    assert found(settled, CHANGE + DAY) == [], "it is back"


@pytest.mark.parametrize(
    ("field", "now", "words"),
    [
        (
            "start_time",
            lambda at: int(at.timestamp() - 60) * 1000,
            "time in milliseconds, where it was time in seconds",
        ),
        ("time", lambda at: int(at.timestamp() - 60), "time in seconds, where it was time in milliseconds"),
        ("duration", lambda at: 50_000, "large number, where it was number"),
        ("balance", lambda at: 878.9, "amount, where it was amount, as text"),
    ],
)
def test_another_unit_or_type_is_found_whether_or_not_the_payloads_can_still_be_read(settled, field, now, words):
    *_, last = send(settled, CHANGE, 1)
    *_, newest = send(settled, CHANGE + HOUR, drift.CHANGED_AFTER, lambda at: report(at, **{field: now(at)}))
    [finding] = found(settled, CHANGE + DAY)
    assert finding.subject == f"field {field}"
    assert f"another sort of value: {words}." in finding.message
    assert pages(finding) == {
        "The last delivery as it was": page_of(last),
        "A delivery as it is now": page_of(newest),
    }


def test_a_word_never_seen_is_found_with_exactly_its_deliveries(settled, admin_client):
    odd = send(settled, CHANGE, 2, lambda at: report(at, status="teleported"))
    send(settled, CHANGE + HOUR, 1, lambda at: report(at, status="vanished"))
    teleported, _ = sorted(found(settled, CHANGE + DAY), key=lambda finding: finding.subject)
    assert (teleported.subject, teleported.value, teleported.at) == ("word status: teleported", 2, CHANGE)
    response = admin_client.get(pages(teleported)["The deliveries"])
    assert {row.pk for row in response.context["cl"].result_list} == {delivery.pk for delivery in odd}


def test_one_change_in_many_kinds_of_payload_is_one_alert(account, rule):
    def missed(at: datetime) -> dict:
        return report(at, status="missed", answer_time=None, duration=0)

    for day in range(9):
        send(account, START + day * DAY, 15)
        send(account, START + day * DAY + HOUR, 15, missed)
    send(account, CHANGE, 2, lambda at: report(at, campaign="spring"))
    send(account, CHANGE + HOUR, 2, lambda at: missed(at) | {"campaign": "spring"})
    for _ in range(2):
        engine.review([account], CHANGE + DAY)
    alert = Alert.objects.get()
    assert "In 2 kinds of payload, such as “cdr inbound a answered”." in alert.message
    assert (alert.opened_at, alert.cleared_at) == (CHANGE, None)
    engine.review([account], CHANGE + 9 * DAY)
    alert.refresh_from_db()
    assert alert.cleared_at


def test_a_young_account_and_fields_that_come_now_and_then_say_nothing(account, rule):
    for day in range(9):
        send(account, START + day * DAY, 14)
        send(account, START + day * DAY + HOUR, 1, lambda at: report(at, request_id="r"))
    send(account, CHANGE, 25)
    assert found(account, CHANGE + DAY) == []
    young = Account.objects.create(slug="young", provider="piopiy")
    send(young, CHANGE, 120)
    send(young, CHANGE + 3 * HOUR, 2, lambda at: report(at, campaign="spring"))
    assert found(young, CHANGE + DAY) == []


def test_copies_what_is_read_again_and_imported_history_change_nothing(settled, account):
    def kept() -> list[tuple]:
        return sorted(PayloadField.objects.values_list())

    before = kept()
    for delivery in Delivery.objects.all()[:5]:
        deliver(account, bytes(delivery.body), received_at=CHANGE)
    processing.requeue(Delivery.objects.exclude(status="pending").values_list("pk", flat=True))
    processing.drain()
    assert kept() == before
    rebuild = Rebuild.objects.create(account=account, is_dry_run=False)
    rebuilding.work_off(timedelta(minutes=1))
    rebuild.refresh_from_db()
    assert rebuild.state == Rebuild.State.DONE
    assert kept() == before
    send(account, START - 90 * DAY, 25, lambda at: report(at, balance=None, old="dialect"))
    assert found(account, timezone.now()) == found(account, CHANGE) == []
    assert not PayloadField.objects.filter(name="old").exists()
    assert PayloadField.objects.get(name="").first_seen_at == START - 90 * DAY


def test_what_cannot_be_kept_stops_no_delivery(account, monkeypatch):
    monkeypatch.setattr(PayloadField._meta, "db_table", "nowhere")
    [delivery] = send(account, START, 1)
    delivery.refresh_from_db()
    assert delivery.status == Delivery.Status.PROCESSED


def test_a_provider_that_names_every_field_anew_fills_no_table(account, monkeypatch):
    monkeypatch.setattr(drift, "MOST_ROWS", 60)
    send(account, START, 50, lambda at: report(at, **{f"field {at:%M}": 1}))
    assert PayloadField.objects.count() == 60
