"""The drain: each delivery once in effect, a bad one alone, repeats marked, any number of workers."""

import json
from datetime import timedelta
from decimal import Decimal

import pytest
from django.core.management import call_command
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from calls.models import Account, Conversation, Event, StoredRecord
from tests.calls.tables import call_log
from tests.webhooks.inbox import NOON, deliver
from webhooks import processing
from webhooks.models import Delivery
from webhooks.providers import PROVIDERS, Provider

Status = Delivery.Status
EVENT = {
    "appid": 2222224,
    "conversation_uuid": "a39e868b-a221-48db-ab5e-401147a5c619",
    "direction": "inbound",
    "from": 919000000001,
    "leg": "a",
    "status": "in_answered",
    "time": 1793000000000,
    "to": 918000000000,
    "cmiuuid": "a39e868b-a221-48db-ab5e-401147a5c619",
}
CDR = {
    "appid": 2222224,
    "conversation_uuid": "a39e868b-a221-48db-ab5e-401147a5c619",
    "cmiuuid": "a39e868b-a221-48db-ab5e-401147a5c619",
    "direction": "inbound",
    "from": 919000000001,
    "to": 918000000000,
    "leg": "a",
    "status": "answered",
    "time": 1793000000000,
    "start_time": 1793000000,
    "answer_time": 1793000005,
    "end_time": 1793000018,
    "duration": 13,
    "call_rate": "0.450000",
    "balance": "878.900000",
}


def statuses() -> list[str]:
    return list(Delivery.objects.order_by("received_at", "id").values_list("status", flat=True))


def test_it_turns_deliveries_into_a_call(account):
    deliver(account, EVENT)
    assert processing.drain().account_ids == {account.pk}
    assert Conversation.objects.get().state == "live"
    deliver(account, CDR, received_at=NOON + timedelta(seconds=20))
    processing.drain()
    call = Conversation.objects.get()
    assert (call.state, call.disposition, call.talk_seconds, call.ring_seconds) == ("ended", "answered", 13, 5)
    assert statuses() == ["processed", "processed"]


def test_a_repeat_is_kept_marked_and_counted_on_the_first(account):
    first = deliver(account, CDR)
    processing.drain()
    before = call_log(account)
    for minutes in (5, 15, 30):
        deliver(account, CDR, received_at=NOON + timedelta(minutes=minutes))
        processing.drain()
    assert statuses() == ["processed", "repeat", "repeat", "repeat"]
    first.refresh_from_db()
    assert first.repeats == 3
    assert set(Delivery.objects.filter(status=Status.REPEAT).values_list("repeat_of", flat=True)) == {first.pk}
    assert call_log(account) == before


def test_a_copy_that_arrived_earlier_but_is_drained_later_becomes_the_first(account):
    later = deliver(account, EVENT, received_at=NOON + timedelta(minutes=1))
    processing.drain()
    earlier = deliver(account, EVENT)
    processing.drain()
    later.refresh_from_db()
    earlier.refresh_from_db()
    assert (earlier.status, earlier.repeats) == (Status.PROCESSED, 1)
    assert (later.status, later.repeat_of) == (Status.REPEAT, earlier)
    assert Event.objects.get().received_at == NOON


@pytest.fixture
def read(monkeypatch) -> list:
    """What the adapter was given to read."""
    payloads = []

    def parse(payload, **context):
        payloads.append(payload)
        return PARSE(payload, **context)

    monkeypatch.setitem(PROVIDERS, "piopiy", Provider("PIOPIY", parse))
    return payloads


def test_repeats_are_not_read(account, read):
    deliver(account, EVENT)
    processing.drain()
    for minutes in range(4):
        deliver(account, EVENT, received_at=NOON + timedelta(minutes=minutes))
        deliver(account, CDR, received_at=NOON + timedelta(minutes=minutes))
    processing.drain()
    assert read == [EVENT, CDR]
    assert set(Delivery.objects.filter(status=Status.PROCESSED).values_list("repeats", flat=True)) == {3, 4}


def test_a_copy_whose_first_is_gone_before_the_lock_is_read_after_all(account, monkeypatch):
    first = deliver(account, CDR)
    processing.drain()

    def parse(payload, **context):
        Delivery.objects.filter(pk=first.pk).delete()
        return PARSE(payload, **context)

    monkeypatch.setitem(PROVIDERS, "piopiy", Provider("PIOPIY", parse))
    copy = deliver(account, CDR, received_at=NOON + timedelta(minutes=5))
    deliver(account, EVENT, received_at=NOON + timedelta(minutes=6))
    processing.drain()
    assert statuses() == ["processed", "processed"]
    assert copy.pk in StoredRecord.objects.values_list("source", flat=True)


def test_however_many_came_again_they_are_marked_by_as_many_statements(account):
    def came_again(names: range) -> int:
        for name in names:
            for minutes in range(3):
                payload = CDR | {"cmiuuid": f"call-{name}", "conversation_uuid": f"call-{name}"}
                deliver(account, payload, received_at=NOON + timedelta(minutes=minutes))
        with CaptureQueriesContext(connection) as queries:
            assert processing.drain().counts == {"processed": len(names), "repeats": 2 * len(names)}
        return sum("webhooks_delivery" in query["sql"] for query in queries)

    few = came_again(range(2))
    assert came_again(range(100, 120)) == few


def test_as_many_are_claimed_at_once_as_memory_should_hold(account, monkeypatch):
    monkeypatch.setattr(processing, "BATCH_BYTES", 1000)
    for number, length in enumerate([400, 500, 200, 3000, 10]):
        deliver(account, b"x" * length, received_at=NOON + timedelta(seconds=number))
    claims = [[len(delivery.body) for delivery in processing._claim()] for _ in range(4)]
    assert claims == [[400, 500], [200], [3000], [10]]
    assert processing._claim() == []


def test_costs_of_all_kinds_are_written_in_one_go(account, caplog):
    for number, price in enumerate(["0", "0.450000", None, "12"]):
        names = {"conversation_uuid": f"call-{number}", "cmiuuid": f"call-{number}", "call_rate": price}
        # A wallet that is not named, one that is empty, and one that is in debt.
        names |= {"balance": [None, "0", "-3.5", "878.9"][number], "answer_time": [None, 1793000005][number % 2]}
        deliver(account, CDR | names, received_at=NOON + timedelta(seconds=number))
    processing.drain()
    assert caplog.messages == []
    costs = Conversation.objects.order_by("external_id").values_list("cost", flat=True)
    assert list(costs) == [Decimal(0), Decimal("0.45"), None, Decimal(12)]


def test_the_same_bytes_for_another_account_are_no_repeat(account):
    other = Account.objects.create(slug="other", provider="piopiy")
    deliver(account, CDR)
    deliver(other, CDR)
    processing.drain()
    assert statuses() == ["processed", "processed"]
    assert Conversation.objects.count() == 2


def test_a_bad_delivery_is_quarantined_with_its_reason_and_stops_nothing(account):
    deliver(account, b"{ to: 440000000000, type: 'cdr' }")
    deliver(account, CDR | {"duration": -5}, received_at=NOON + timedelta(seconds=1))
    deliver(account, CDR, received_at=NOON + timedelta(seconds=2))
    processing.drain()
    assert statuses() == ["quarantined", "quarantined", "processed"]
    undecodable, bad = Delivery.objects.order_by("received_at")[:2]
    assert undecodable.error_class == "UndecodableBody"
    assert (bad.error_class, bad.error_field, bad.error_value) == ("BadField", "duration", "-5")
    assert Conversation.objects.count() == 1


def test_the_good_payloads_of_a_list_are_kept_when_one_is_bad(account):
    deliver(account, [EVENT, {"status": "in_danced", "cmiuuid": "x", "leg": "a"}, CDR])
    processing.drain()
    delivery = Delivery.objects.get()
    assert (delivery.status, delivery.error_class) == (Status.QUARANTINED, "UnknownWord")
    assert Conversation.objects.get().disposition == "answered"


def faulty(payload, **context):
    if payload.get("explode"):
        raise KeyError("a bug of the adapter")
    return PARSE(payload, **context)


PARSE = PROVIDERS["piopiy"].parse


def test_an_adapter_that_raises_harms_only_that_delivery(account, monkeypatch):
    monkeypatch.setitem(PROVIDERS, "piopiy", Provider("PIOPIY", faulty))
    deliver(account, CDR | {"explode": True})
    deliver(account, CDR, received_at=NOON + timedelta(seconds=1))
    processing.drain()
    assert statuses() == ["quarantined", "processed"]
    delivery = Delivery.objects.order_by("received_at").first()
    assert delivery.error_class == "Crash"
    assert "a bug of the adapter" in delivery.error_message


def test_a_record_that_no_table_takes_harms_only_that_delivery(account, monkeypatch, caplog):
    def oversized(payload, **context):
        records = PARSE(payload, **context)
        if payload.get("explode"):
            # What the column's limit refuses on PostgreSQL, and the aliases' rule everywhere.
            return [type(records[0])(**{**_fields(records[0]), "aliases": ()})]
        return records

    monkeypatch.setitem(PROVIDERS, "piopiy", Provider("PIOPIY", oversized))
    for number in range(7):
        deliver(
            account,
            CDR | {"cmiuuid": f"leg-{number}", "conversation_uuid": f"call-{number}", "explode": number == 3},
            received_at=NOON + timedelta(seconds=number),
        )
    processing.drain()
    assert statuses() == ["processed"] * 3 + ["quarantined"] + ["processed"] * 3
    assert Conversation.objects.count() == 6
    halved = [message for message in caplog.messages if "by halves" in message]
    assert halved == [
        f"{count} deliveries could not be written together, so by halves: IndexError" for count in (7, 4, 2)
    ]


def _fields(record) -> dict:
    return {name: getattr(record, name) for name in record.__struct_fields__}


def test_a_delivery_whose_workers_keep_dying_is_given_up(account):
    deliver(account, CDR)
    Delivery.objects.update(attempts=processing.ATTEMPTS, lease_until=NOON)
    deliver(account, EVENT, received_at=NOON + timedelta(seconds=1))
    processing.drain()
    assert statuses() == ["quarantined", "processed"]
    assert Delivery.objects.get(status=Status.QUARANTINED).error_class == "Crash"


def test_however_many_are_given_up_those_behind_them_are_drained(account, monkeypatch):
    monkeypatch.setattr(processing, "BATCH", 2)
    for number in range(5):
        deliver(account, CDR | {"number": number})
    Delivery.objects.update(attempts=processing.ATTEMPTS, lease_until=NOON)
    deliver(account, EVENT, received_at=NOON + timedelta(seconds=1))
    processing.drain()
    assert statuses() == ["quarantined"] * 5 + ["processed"]


def test_a_leased_delivery_is_left_to_its_worker_until_the_lease_ends(account, time_machine):
    time_machine.move_to(NOON, tick=False)
    deliver(account, CDR)
    Delivery.objects.update(attempts=1, lease_until=NOON + processing.LEASE)
    processing.drain()
    assert statuses() == ["pending"]
    time_machine.shift(processing.LEASE + timedelta(seconds=1))
    processing.drain()
    assert statuses() == ["processed"]


def test_processing_again_after_a_fix_gives_the_call_and_clears_the_error(account, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setitem(PROVIDERS, "piopiy", Provider("PIOPIY", faulty))
        deliver(account, CDR | {"explode": True})
        processing.drain()
    delivery = Delivery.objects.get()
    assert delivery.status == Status.QUARANTINED
    assert processing.requeue([delivery.pk]) == 1
    processing.drain()
    delivery.refresh_from_db()
    assert (delivery.status, delivery.error_class, delivery.error_message) == (Status.PROCESSED, "", "")
    assert Conversation.objects.get().disposition == "answered"


def test_processing_again_what_is_well_changes_nothing(account):
    deliver(account, EVENT)
    deliver(account, CDR, received_at=NOON + timedelta(seconds=20))
    processing.drain()
    before, ids = call_log(account), list(Conversation.objects.values_list("pk"))
    processing.requeue(Delivery.objects.values_list("pk", flat=True))
    processing.drain()
    assert call_log(account) == before
    assert list(Conversation.objects.values_list("pk")) == ids


def test_a_silent_call_is_closed_and_a_late_report_corrects_it(account, time_machine):
    from calls.tasks import close_silent_calls

    time_machine.move_to(NOON, tick=False)
    deliver(account, EVENT)
    processing.drain()
    time_machine.shift(timedelta(minutes=account.silence_minutes - 1))
    close_silent_calls()
    assert Conversation.objects.get().state == "live"
    time_machine.shift(timedelta(minutes=2))
    close_silent_calls()
    call = Conversation.objects.get()
    assert (call.state, call.disposition, call.reason) == ("ended", "unknown", "silence")
    deliver(account, CDR, received_at=NOON + timedelta(hours=5))
    processing.drain()
    call.refresh_from_db()
    assert (call.state, call.disposition, call.talk_seconds) == ("ended", "answered", 13)


def test_a_silent_call_that_speaks_again_is_live_again(account, time_machine):
    from calls.tasks import close_silent_calls

    time_machine.move_to(NOON, tick=False)
    deliver(account, EVENT)
    processing.drain()
    time_machine.shift(timedelta(hours=5))
    close_silent_calls()
    assert Conversation.objects.get().state == "ended"
    deliver(account, EVENT | {"status": "stream_connected"}, received_at=NOON + timedelta(hours=5, minutes=1))
    processing.drain()
    assert Conversation.objects.get().state == "live"


def test_the_drain_command_counts_what_it_did(account, capsys):
    deliver(account, CDR)
    deliver(account, CDR, received_at=NOON + timedelta(minutes=5))
    deliver(account, {"from": 919100000000, "to": 4471000000, "cmiuuid": "x"}, received_at=NOON + timedelta(minutes=6))
    deliver(account, b"nonsense", received_at=NOON + timedelta(minutes=7))
    call_command("drain")
    assert json.loads(capsys.readouterr().out) == {
        "processed": 1, "ignored": 1, "quarantined": 1, "repeats": 1, "pending": 0,
    }  # fmt: skip


# --- Orders and workers ---------------------------------------------------------------------------------------------


@st.composite
def schedules(draw):
    """The deliveries of two calls, in an order of arrival, with repeats, and how they fall into drains."""
    payloads = [
        payload | {"conversation_uuid": f"call-{call}", "cmiuuid": f"call-{call}"}
        for call in range(2)
        for payload in (EVENT, EVENT | {"status": "in_hangup"}, CDR)
    ]
    arrived = [(payload, NOON + timedelta(seconds=number)) for number, payload in enumerate(payloads)]
    repeats = draw(st.lists(st.sampled_from(payloads), max_size=4))
    arrived += [(payload, NOON + timedelta(minutes=number)) for number, payload in enumerate(repeats, 5)]
    return arrived, draw(st.permutations(arrived)), draw(st.integers(1, 4))


def drained(account, arrived, size) -> list:
    with transaction.atomic():
        for start in range(0, len(arrived), size):
            for payload, received_at in arrived[start : start + size]:
                deliver(account, payload, received_at=received_at)
            processing.drain()
        result = call_log(account)
        transaction.set_rollback(True)
    return result


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(schedule=schedules())
def test_drained_in_any_order_the_tables_are_the_same(account, schedule):
    in_order, shuffled, size = schedule
    assert drained(account, shuffled, size) == drained(account, in_order, len(in_order))
