"""The ways in which TeleCMI's notifications mislead, each with the files that show it."""

from datetime import UTC, datetime
from functools import partial

import pytest

from calls.choices import Direction, Disposition, EventKind, Label, Reason, Role
from calls.records import AgentRef, Alias, LegCdr, LiveEvent, Record
from calls.summary import Entry, summarize
from tests.webhooks import wire
from webhooks.errors import BadField, WrongAccount

call = partial(wire.call, "telecmi")


def records(name: str, **changes: object) -> list[Record]:
    return wire.read("telecmi", name).records(**changes)


def cdr(name: str, **changes: object) -> LegCdr:
    (record,) = records(name, **changes)
    assert isinstance(record, LegCdr)
    return record


def event(name: str, **changes: object) -> LiveEvent:
    (record,) = records(name, **changes)
    assert isinstance(record, LiveEvent)
    return record


def test_trap_01_time_dates_the_start_of_the_leg_and_neither_its_answer_nor_its_end():
    kinds = {"started": EventKind.STARTED, "answered": EventKind.ANSWERED, "hangup": EventKind.HANGUP}
    events = {kind: event(f"live_out_{word}_leg_a") for word, kind in kinds.items()}
    start = datetime(2022, 4, 22, 13, 49, 0, 436000, UTC)
    assert {record.started_at for record in events.values()} == {start}
    assert events[EventKind.STARTED].occurred_at == start
    assert events[EventKind.ANSWERED].occurred_at == datetime(2022, 4, 22, 13, 49, 6, tzinfo=UTC)
    assert events[EventKind.HANGUP].occurred_at == datetime(2022, 4, 22, 13, 49, 30, tzinfo=UTC)
    assert len(call("live_out_started_leg_a", "live_out_answered_leg_a", "live_out_hangup_leg_a").events) == 3


def test_trap_02_the_agents_leg_of_an_inbound_call_says_outbound():
    leg = event("live_in_started_leg_b")
    assert (leg.direction, leg.call_direction) == (Direction.OUTBOUND, Direction.INBOUND)
    assert (leg.role, leg.label, leg.customer_number) == (Role.AGENT, Label.B, "440000000000")
    assert event("live_in_started_leg_b_live").call_direction == Direction.INBOUND
    conversation = call("live_in_waiting_leg_a", "live_in_started_leg_b", "live_in_answered_leg_b")
    assert conversation.direction == Direction.INBOUND
    roles = {leg.key.label: leg.role for leg in conversation.legs}
    assert roles == {"a": Role.CUSTOMER, "b": Role.AGENT}


@pytest.mark.parametrize("name", ["live_in_started_leg_b_india", "live_in_answered_leg_b_india"])
def test_trap_03_the_agents_leg_in_india_has_no_letter(name):
    leg = event(name)
    assert (leg.label, leg.role, leg.call_direction) == (Label.B, Role.AGENT, Direction.INBOUND)
    assert leg.leg_id == "93fa1889-61a5-4d03-b12d-d78ede2cf1ee"
    assert leg.agent == AgentRef(external_id="109")


def test_trap_04_leg_a_is_answered_and_the_customer_is_not():
    conversation = call("cdr_out_answered_leg_a_live", "cdr_out_missed_leg_b_live")
    assert (conversation.disposition, conversation.talk_seconds) == (Disposition.MISSED, 0)
    assert conversation.reason == Reason.CUSTOMER_CDR
    rejected = call("cdr_out_answered_leg_a_live", "cdr_out_rejected_leg_b_live")
    assert (rejected.disposition, rejected.talk_seconds) == (Disposition.BUSY, 0)


def test_trap_04_the_agents_missed_leg_decides_when_no_customer_was_rung():
    conversation = call("cdr_out_missed_leg_a_live")
    assert (conversation.disposition, conversation.reason) == (Disposition.MISSED, Reason.AGENT_MISSED_CDR)
    assert conversation.customer_number == "+919000000003"


def test_trap_05_one_agent_missed_it_and_another_took_it():
    conversation = call("cdr_in_user_missed_leg_b_current", "cdr_in_answered_after_user_missed")
    assert conversation.disposition == Disposition.ANSWERED
    assert conversation.talk_seconds == 11
    missed = [leg for leg in conversation.legs if leg.disposition == Disposition.MISSED]
    assert [leg.agent for leg in missed] == [AgentRef(external_id="302")]
    assert conversation.agent == AgentRef(external_id="303")


def test_trap_05_an_agent_who_rejects_is_busy():
    assert cdr("cdr_in_user_rejected_leg_b_current").disposition == Disposition.BUSY


def test_trap_06_the_report_of_an_inbound_call_carries_the_id_of_the_agents_leg():
    report = cdr("cdr_in_answered_live")
    assert (report.conversation_id, report.leg_id, report.label) == ("CONV-1", "CONV-1", Label.A)
    conversation = call("live_in_answered_leg_a_live", "live_in_started_leg_b_live", "cdr_in_answered_live")
    assert conversation.external_id == "CONV-1"
    assert [tuple(leg.key) for leg in conversation.legs] == [("CONV-1", "a"), ("U-b", "b")]


def test_trap_07_the_call_id_of_an_event_joins_nothing():
    started, report = event("live_out_started_leg_a_live"), cdr("cdr_out_answered_leg_a_live")
    schemes = {alias.scheme for record in (started, report) for alias in record.aliases}
    assert "call" not in schemes
    assert set(started.aliases) & set(report.aliases) == {Alias("uuid", "U-a"), Alias("request", "REQ-1")}


def test_trap_08_outbound_reports_name_no_conversation():
    leg_a, leg_b = cdr("cdr_out_answered_leg_a"), cdr("cdr_out_answered_leg_b")
    assert (leg_a.conversation_id, leg_b.conversation_id) == ("", "")
    assert {alias.scheme for alias in set(leg_a.aliases) & set(leg_b.aliases)} == {"request"}
    conversation = call("cdr_out_answered_leg_a", "cdr_out_answered_leg_b")
    assert (conversation.disposition, conversation.talk_seconds) == (Disposition.ANSWERED, 6)
    assert conversation.customer_number == "+442000000001"


def test_trap_08_without_a_request_id_the_call_id_joins_the_reports():
    leg_a, leg_b = cdr("cdr_out_answered_leg_a_no_request"), cdr("cdr_out_answered_leg_b_no_request")
    assert {alias.scheme for alias in set(leg_a.aliases) & set(leg_b.aliases)} == {"call"}


def test_trap_17_an_empty_object_and_the_words_none_and_false_are_no_parameters():
    assert event("live_out_started_leg_a_sdk_live").extra_params == {}
    assert event("live_out_started_leg_a_live").extra_params == {"callCode": "CODE1"}
    assert cdr("cdr_out_answered_leg_a_live").extra_params == {"callCode": "CODE1"}
    assert cdr("cdr_out_answered_leg_a").extra_params == {"click2call": "true", "custom": {"crm": "true"}}


def test_trap_21_numbers_come_as_numbers_and_as_text_with_and_without_plus():
    assert event("live_in_waiting_india").customer_number == event("live_in_hangup_leg_a_older").customer_number
    assert event("live_out_started_leg_a_live").from_number == "+919000000003"
    india = event("live_out_started_leg_a_india", leg="b", cmiuuid="leg-b")
    assert (india.did, india.to_number) == ("04471000000", "9100000000")


@pytest.mark.parametrize(
    "name",
    [
        "live_out_answered_leg_a",
        "live_out_answered_leg_b",
        "live_out_started_leg_a",
        "live_in_started_leg_b",
        "cdr_out_answered_leg_a",
        "cdr_out_answered_leg_b",
        "cdr_in_answered",
        "cdr_in_missed",
    ],
)
def test_trap_22_get_and_form_say_the_same_as_json(name):
    assert records(f"{name}_get") == records(f"{name}_form") == records(name)


def test_trap_22_words_and_digits_are_read_for_what_they_mean():
    report = cdr("cdr_out_answered_leg_b_get")
    assert report.talk_seconds == 6
    assert report.recording == "16506305548176941220057791_2222223.mp3"
    assert cdr("cdr_in_answered", record="false").recording == ""
    assert cdr("cdr_in_missed", voicemail="false").voicemail is False


def test_trap_23_a_recording_needs_both_the_flag_and_the_file():
    assert cdr("cdr_in_answered").recording == "1634720915260737218351_2222223.mp3"
    assert cdr("cdr_in_answered_india").recording == "15700950846189478332012_1111113.mp3"
    assert cdr("cdr_in_answered_record_false").recording == ""
    assert cdr("cdr_in_answered_record_no_file").recording == ""


def test_trap_24_a_billed_row_is_no_answer():
    row = cdr("pull_missed_v2")
    assert (row.disposition, row.duration_seconds, str(row.cost)) == (None, 4, "1.000000")
    assert row.talk_seconds is None
    assert row.extra_params["billedsec"] == 4
    assert call("pull_missed_v2").disposition != Disposition.ANSWERED


def test_trap_25_the_pull_apis_cmiuid_is_the_webhooks_cmiuuid():
    report = cdr("cdr_in_answered")
    rows = wire.read("telecmi", "pull_answered_v2").payload()["cdr"]
    row = cdr("pull_answered_v2", cdr=[rows[0] | {"cmiuid": report.leg_id, "rate": 1}])
    assert set(row.aliases) & set(report.aliases)
    told = [
        Entry(report, wire.read("telecmi", "cdr_in_answered").received_at),
        Entry(row, datetime(2021, 10, 21, tzinfo=UTC)),
    ]
    conversation = summarize(told, wire.FACTS)
    assert conversation == summarize(reversed(told), wire.FACTS)
    assert len(conversation.legs) == 1
    assert (conversation.disposition, conversation.talk_seconds, conversation.cost) == (Disposition.ANSWERED, 11, 1)
    assert conversation.extra_params["notes"][0]["msg"] == "Support Query"


def test_trap_26_the_from_of_an_indian_outgoing_row_is_the_agent():
    row = cdr("pull_out_missed_v1_india")
    assert (row.from_number, row.agent) == ("", AgentRef(external_id="209"))


def test_trap_27_a_voicemail_leaves_a_missed_call_missed():
    report = cdr("cdr_in_missed")
    assert (report.disposition, report.voicemail, report.talk_seconds) == (Disposition.MISSED, True, 0)
    assert (report.recording, report.ring_seconds) == ("1634721220656289350027_2222223.mp3", 127)
    assert cdr("cdr_in_missed_india").voicemail is True
    assert cdr("legacy_2019_cdr_in_missed").ring_seconds == 143


def test_trap_28_the_time_of_an_answered_report_is_not_the_callers_start():
    report = cdr("cdr_in_answered_live")
    assert report.started_at is None
    assert report.call_started_by == datetime(2026, 9, 24, 11, 29, 55, 701000, UTC)
    conversation = call("live_in_answered_leg_a_live", "cdr_in_answered_live")
    assert conversation.started_at == datetime(2026, 9, 24, 11, 29, 54, 912000, UTC)


def test_trap_29_a_request_for_a_route_tells_nothing_of_a_call():
    assert records("http_flow_inbound") == []


def test_trap_30_each_row_of_a_batch_counts_and_a_bad_one_keeps_no_other_back():
    row = cdr("webhook_wrapped_cdr_batch")
    assert (row.duration_seconds, str(row.cost), row.recording) == (45, "0.100000", "rec.mp3")
    with pytest.raises(BadField) as failure:
        records("webhook_wrapped_cdr_batch_one_bad")
    assert (failure.value.field, failure.value.value) == ("rate", "a lot")
    assert [record.leg_id for record in failure.value.records] == [
        "0a562832-ac7c-48c6-8847-47c8bf2a0b7d",
        "8b5f88dd-0396-4f9d-907f-7807275d2def",
    ]


@pytest.mark.parametrize(
    ("name", "field"), [("cdr_in_missed_other_account", "appid"), ("live_in_waiting_other_account", "app_id")]
)
def test_trap_48_another_accounts_app_id_is_refused(name, field):
    with pytest.raises(WrongAccount) as failure:
        records(name)
    assert (failure.value.field, failure.value.value) == (field, "1111113")
    assert records("cdr_in_answered_own_account")
