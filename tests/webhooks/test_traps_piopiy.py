"""The ways in which PIOPIY's notifications mislead, each with the files that show it."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from calls import ledger
from calls.choices import Direction, Disposition, EventKind, Label, Reason, Role
from calls.models import Account, BalanceReading, Conversation, Event
from calls.numbers import normalize
from tests.webhooks.inbox import deliver, deliver_file
from tests.webhooks.wire import call, read
from webhooks import processing
from webhooks.errors import WrongAccount
from webhooks.models import Delivery


def test_trap_01_time_dates_the_start_of_the_leg_on_every_event():
    started, answered = (read("piopiy", f"live_out_{word}_leg_a") for word in ("started", "answered"))
    start = datetime(2024, 9, 10, 4, 34, 31, 456000, UTC)
    assert [wire.records()[0].started_at for wire in (started, answered)] == [start, start]
    assert started.records()[0].occurred_at == start
    assert answered.records()[0].occurred_at == answered.received_at


@pytest.mark.parametrize("names", [["cdr_in_missed_leg_b"], ["cdr_in_missed_leg_b", "cdr_in_missed_leg_a"]])
def test_trap_02_leg_b_of_an_inbound_call_says_outbound(names):
    inbound = call("piopiy", *names)
    assert inbound.direction == Direction.INBOUND
    assert inbound.customer_number == "440000000001"
    leg_b = next(leg for leg in inbound.legs if leg.key.label == Label.B)
    assert (leg_b.direction, leg_b.role) == (Direction.OUTBOUND, Role.AGENT)


def test_trap_09_one_cmiuuid_on_both_legs_is_two_legs():
    missed = call("piopiy", "cdr_in_missed_leg_a", "cdr_in_missed_leg_b")
    assert [leg.key.label for leg in missed.legs] == ["a", "b"]
    assert missed.disposition == Disposition.MISSED


def test_trap_10_a_missed_call_with_an_answer_time_is_missed():
    missed = call("piopiy", "cdr_in_missed_leg_a")
    assert (missed.disposition, missed.answered_at, missed.talk_seconds) == (Disposition.MISSED, None, 0)
    assert (missed.duration_seconds, missed.ring_seconds) == (5, 5)


def test_trap_11_time_is_milliseconds_beside_times_in_seconds():
    answered = call("piopiy", "cdr_in_answered_leg_a")
    assert answered.started_at == datetime(2021, 9, 22, 13, 48, 30, tzinfo=UTC)
    assert answered.ended_at == datetime(2021, 9, 22, 13, 48, 48, tzinfo=UTC)


def test_trap_12_duration_is_the_talk_time():
    answered = call("piopiy", "cdr_in_answered_leg_a")
    assert (answered.talk_seconds, answered.ring_seconds, answered.duration_seconds) == (13, 5, 18)


def test_trap_13_reports_and_events_are_told_apart_without_a_type():
    assert read("piopiy", "cdr_out_missed_leg_a").records()[0].disposition == Disposition.MISSED
    assert read("piopiy", "live_out_answered_leg_a").records()[0].kind == EventKind.ANSWERED


def test_trap_14_out_bridged_is_the_answer_of_leg_b():
    live = call("piopiy", "live_out_started_leg_b", "live_out_bridged_leg_b")
    (leg,) = live.legs
    assert leg.is_answered_live
    assert live.answered_at is not None


def test_trap_15_a_stream_event_waits_for_its_leg_and_says_nothing_of_the_outcome(account):
    deliver_file(account, "piopiy", "live_stream_disconnected")
    processing.drain()
    assert not Conversation.objects.exists()
    assert Delivery.objects.get().status == Delivery.Status.PROCESSED
    leg = read("piopiy", "live_in_answered_leg_a").payload() | {"cmiuuid": "c4ec9bd2-efad-4296-aa5b-eeafa6aeeea0"}
    deliver(account, leg)
    processing.drain()
    conversation = Conversation.objects.get()
    stream = Event.objects.get(kind=EventKind.STREAM_DISCONNECTED)
    assert (stream.conversation, stream.leg) == (conversation, conversation.legs.get())
    assert stream.provider_status == "STREAM_DISCONNECTED"
    assert (conversation.state, conversation.disposition) == ("live", None)


def test_trap_16_pseudo_json_parameters_are_read_or_kept_as_text():
    assert read("piopiy", "cdr_in_answered_leg_a").records()[0].extra_params == {"Name": "Akil", "ID": 8915726}
    assert read("piopiy", "live_in_answered_leg_a").records()[0].extra_params == {"extra_params": "{key: value}"}
    (harmless,) = read("piopiy", "cdr_in_answered_leg_a").records(extra_params="__import__('os').getcwd()")
    assert harmless.extra_params == {"extra_params": "__import__('os').getcwd()"}


def test_trap_18_a_charge_of_zero_is_a_charge():
    assert read("piopiy", "cdr_in_missed_leg_a").records()[0].cost == Decimal(0)
    assert read("piopiy", "cdr_in_answered_leg_a").records()[0].cost == Decimal("0.45")


def test_trap_19_the_same_report_four_times_is_one_report(account):
    for minutes in (0, 5, 15, 30):
        arrived = datetime(2021, 9, 22, 13, 49, tzinfo=UTC) + timedelta(minutes=minutes)
        deliver_file(account, "piopiy", "cdr_in_answered_leg_a", received_at=arrived)
        processing.drain()
    conversation = Conversation.objects.get()
    assert conversation.cost == Decimal("0.45")
    assert BalanceReading.objects.count() == 1
    assert Delivery.objects.count() == 4


def test_trap_20_the_balance_is_that_of_the_latest_end(account):
    deliver_file(account, "piopiy", "cdr_in_answered_leg_a", received_at=datetime(2021, 9, 22, 13, 49, tzinfo=UTC))
    processing.drain()
    deliver_file(account, "piopiy", "cdr_in_missed_leg_a", received_at=datetime(2021, 9, 22, 13, 55, tzinfo=UTC))
    processing.drain()
    assert ledger.current(account).balance == Decimal("878.9")


def test_trap_21_a_number_is_the_same_in_every_spelling():
    spellings = ["919000000003", "+919000000003", "09000000003", "9000000003", "+91 90000-00003"]
    assert {normalize(spelling, "IN") for spelling in spellings} == {"+919000000003"}
    assert normalize("04471000000", "IN") == normalize("4471000000", "IN")


def test_trap_29_requests_of_call_control_make_no_call(account):
    for name in ("answer_url_incoming", "answer_url_input_incoming", "answer_url_dtmf"):
        deliver_file(account, "piopiy", name)
    processing.drain()
    assert set(Delivery.objects.values_list("status", flat=True)) == {Delivery.Status.IGNORED}
    assert not Conversation.objects.exists()


def test_trap_48_ids_belong_to_their_account(account):
    other = Account.objects.create(slug="other", provider="piopiy", app_id="2222229")
    deliver_file(account, "piopiy", "cdr_in_answered_leg_a")
    deliver_file(other, "piopiy", "cdr_in_answered_leg_a")
    processing.drain()
    assert Conversation.objects.get().account == account
    stray = Delivery.objects.get(account=other)
    assert (stray.status, stray.error_class, stray.error_field) == ("quarantined", "WrongAccount", "appid")
    with pytest.raises(WrongAccount):
        read("piopiy", "cdr_in_answered_other_account").records()


def test_outbound_started_on_both_legs_as_the_documentation_shows_it():
    live = call("piopiy", "live_out_started_leg_a", "live_out_started_leg_b")
    assert (live.direction, live.customer_number, live.did) == (Direction.OUTBOUND, "19170000001", "440000000000")
    assert [(leg.key.label, leg.role) for leg in live.legs] == [("a", Role.AGENT), ("b", Role.CUSTOMER)]
    assert live.agent.phone == "19170000000"
    assert live.request_id == "GQqYoKtV3Tn25SVqbWwdzPkNwMBo9hhLwWadm9N71N5"


def test_an_outbound_call_that_the_agent_took_and_the_customer_did_not_is_missed():
    missed = call("piopiy", "cdr_out_missed_leg_a", "cdr_out_missed_leg_b")
    assert (missed.disposition, missed.reason, missed.talk_seconds) == (Disposition.MISSED, Reason.CUSTOMER_CDR, 0)
    assert missed.customer_number == "440000000001"


def test_an_inbound_call_takes_its_talk_time_from_the_agents_leg():
    answered = call("piopiy", "cdr_in_answered_leg_a", "cdr_in_answered_leg_b")
    assert (answered.talk_seconds, answered.cost) == (11, Decimal("0.55"))


def test_a_later_report_with_another_body_corrects_the_first():
    corrected = call("piopiy", "cdr_in_answered_leg_a", "cdr_in_answered_leg_a_corrected")
    assert (corrected.talk_seconds, len(corrected.legs), corrected.cost) == (12, 1, Decimal("0.45"))
