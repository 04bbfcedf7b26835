"""The ways in which CallerDesk's notifications mislead, each with the files that show it."""

from datetime import UTC, datetime
from decimal import Decimal
from functools import partial

import pytest

from calls.choices import Direction, Disposition, EventKind, Flag, Label, Reason, Role, State
from calls.numbers import normalize
from calls.records import AgentRef, Alias, LegCdr, LiveEvent, Record
from tests.webhooks import wire
from webhooks.decoding import decode
from webhooks.errors import BadField, UnknownWord, UnrecognizedPayload
from webhooks.providers import callerdesk

call = partial(wire.call, "callerdesk")


def records(name: str, **changes: object) -> list[Record]:
    return wire.read("callerdesk", name).records(**changes)


def legs(name: str, **changes: object) -> dict[Label, LegCdr]:
    """Return the legs of a report by their letter."""
    found = records(name, **changes)
    assert all(isinstance(record, LegCdr) for record in found)
    return {record.label: record for record in found}


def event(name: str, **changes: object) -> LiveEvent:
    (record,) = records(name, **changes)
    assert isinstance(record, LiveEvent)
    return record


def ist(text: str) -> datetime:
    return datetime.fromisoformat(f"{text}+05:30")


def test_trap_31_times_without_an_offset_are_local_to_the_account():
    leg_a = legs("call_report_outgoing_answered")[Label.A]
    assert leg_a.started_at == datetime(2024, 12, 30, 7, 13, 19, tzinfo=UTC)
    assert leg_a.ended_at == datetime(2024, 12, 30, 7, 13, 45, tzinfo=UTC)
    file = wire.read("callerdesk", "call_report_outgoing_answered")
    utc = wire.FACTS._replace(time_zone="UTC")
    elsewhere = callerdesk.parse(file.payload(), received_at=file.received_at, account=utc)[0]
    assert elsewhere.started_at == datetime(2024, 12, 30, 12, 43, 19, tzinfo=UTC)


def test_trap_31_the_epoch_in_the_call_sid_proves_the_zone():
    leg_a = legs("call_report_incoming_answered_get")[Label.A]
    assert leg_a.started_at == datetime.fromtimestamp(1586420216, UTC)


def test_trap_32_two_blanks_or_an_n_between_date_and_time_and_every_form_of_no_time():
    assert legs("call_report_incoming_answered_json")[Label.A].started_at == ist("2020-04-09 13:46:56")
    report = legs("call_report_zero_times")
    assert report[Label.A].started_at == ist("2026-10-06 19:49:17")
    assert report[Label.A].answered_at is None
    assert (report[Label.B].started_at, report[Label.B].answered_at) == (None, None)
    assert legs("call_report_table_sample")[Label.A].ended_at is None


def test_trap_33_an_outgoing_call_has_the_agent_as_source_and_the_customer_as_dialled():
    report = legs("call_report_outgoing_answered")
    assert {leg.customer_number for leg in report.values()} == {"07652081234"}
    assert {leg.did for leg in report.values()} == {"0806286123"}
    assert report[Label.A].agent == AgentRef(phone="09000000001", name="Aniket")
    assert (report[Label.A].role, report[Label.B].role) == (Role.AGENT, Role.CUSTOMER)
    conversation = call("call_report_outgoing_answered")
    assert (conversation.direction, conversation.customer_number) == (Direction.OUTBOUND, "+917652081234")
    assert (conversation.talk_seconds, conversation.duration_seconds, conversation.cost) == (2, 26, 2)


def test_trap_34_no_answer_is_no_answer():
    conversation = call("call_report_incoming_status_no_answer")
    assert (conversation.disposition, conversation.talk_seconds) == (Disposition.MISSED, 0)


def test_trap_35_an_empty_status_with_the_word_in_callstatus():
    conversation = call("call_report_incoming_missed_live")
    assert (conversation.state, conversation.disposition) == (State.ENDED, Disposition.MISSED)


def test_trap_36_a_zero_for_number_or_name_is_nobody():
    report = legs("call_report_incoming_missed_live")
    assert report[Label.B].agent is None
    assert report[Label.B].to_number == ""
    assert call("call_report_incoming_missed_live").agent is None


def test_trap_37_a_missed_call_has_a_duration_and_no_talk():
    conversation = call("call_report_incoming_missed_live")
    assert (conversation.duration_seconds, conversation.talk_seconds, conversation.answered_at) == (9, 0, None)


def test_trap_38_a_call_sid_that_is_a_json_number_keeps_its_digits():
    report = legs("call_report_sid_number")
    assert report[Label.A].leg_id == "1586420216.71"
    (payload,) = decode(
        body=b'{"type": "call_report", "CallSid": 1586420216.710}', query=b"", content_type="application/json"
    )
    (longer,) = callerdesk.parse(payload, received_at=ist("2026-10-06 19:50:00"), account=wire.FACTS)
    assert longer.aliases == (Alias("call", "1586420216.710"),)


def test_trap_39_the_campaign_joins_outgoing_calls_and_never_incoming_ones():
    report = legs("call_report_outgoing_answered")
    assert report[Label.A].aliases == (Alias("call", "8397472"), Alias("campaign", "8397411"))
    assert report[Label.B].aliases == report[Label.A].aliases
    for name in ("call_report_incoming_missed_live", "call_report_incoming_answered_get", "call_report_table_sample"):
        assert {alias.scheme for alias in legs(name)[Label.A].aliases} == {"call"}
    for nothing in ("", "0"):
        assert {alias.scheme for alias in legs("call_report_outgoing_answered", campid=nothing)[Label.A].aliases} == {
            "call"
        }


def test_trap_40_fields_appended_to_a_query_are_read_and_its_secret_is_not_kept():
    appended = records("call_report_incoming_answered_get_appended")
    assert appended == records("call_report_incoming_answered_get")
    assert appended[0].customer_number == "9000000011"
    assert "SECRET" not in repr(appended)


def test_trap_41_changes_of_members_and_groups_are_no_calls():
    assert records("member_event_add_member") == []
    assert records("member_event_add_member", type="call_group_update") == []


def test_trap_42_a_late_live_call_does_not_reopen_a_reported_one():
    live = ["live_call_incoming_ringing", "live_call_incoming_transfer", "live_call_incoming_answered"]
    assert call(*live).state == State.LIVE
    conversation = call(*live, "call_report_incoming_missed_live")
    assert (conversation.state, conversation.disposition) == (State.ENDED, Disposition.MISSED)
    assert conversation.answered_at is None
    conversation = call(*live, "call_report_incoming_answered_names_live")
    assert (conversation.state, conversation.disposition) == (State.ENDED, Disposition.ANSWERED)
    assert conversation.answered_at == ist("2026-10-06 19:49:31")


def test_trap_43_talk_longer_than_the_call_is_kept_and_flagged():
    report = legs("call_report_table_sample")
    assert (report[Label.A].talk_seconds, report[Label.A].duration_seconds) == (40, 18)
    assert report[Label.A].flags == (Flag.TALK_EXCEEDS_DURATION,)
    assert report[Label.B].ring_seconds == 9
    assert call("call_report_table_sample").flags == [Flag.TALK_EXCEEDS_DURATION]


def test_trap_43_an_end_before_the_start_is_flagged_and_gives_no_negative_length():
    conversation = call("call_report_end_before_start")
    assert Flag.END_BEFORE_START in conversation.flags
    assert all((leg.ring_seconds or 0) >= 0 and (leg.duration_seconds or 0) >= 0 for leg in conversation.legs)
    assert conversation.duration_seconds == 21


def test_trap_44_coins_are_decimals_and_stand_on_one_leg():
    report = legs("call_report_incoming_answered_names_live")
    assert report[Label.A].cost == Decimal("1.5")
    assert report[Label.B].cost is None
    report = legs("call_report_outgoing_answered")
    assert (report[Label.A].cost, report[Label.B].cost) == (None, Decimal("2"))


@pytest.mark.parametrize("name", ["call_report_outgoing_agent_only_answer", "call_report_outgoing_status_leg_a_answer"])
def test_trap_45_an_outgoing_answer_by_the_agent_alone_reached_nobody(name):
    conversation = call(name)
    assert (conversation.disposition, conversation.talk_seconds) == (Disposition.MISSED, 0)
    assert legs(name)[Label.A].disposition == Disposition.ANSWERED


def test_trap_45_an_agent_who_never_picked_up_leaves_the_customer_unrung():
    assert list(legs("call_report_outgoing_agent_no_answer")) == [Label.A]
    conversation = call("call_report_outgoing_agent_no_answer")
    assert (conversation.disposition, conversation.reason) == (Disposition.MISSED, Reason.AGENT_MISSED_CDR)
    assert conversation.customer_number == "+917652081234"


def test_trap_46_our_number_with_and_without_its_zero_is_one():
    with_zero, without = (
        legs("call_report_incoming_answered_json", DestinationNumber=number)[Label.A].did
        for number in ("01206851234", "1206851234")
    )
    assert with_zero != without
    assert normalize(with_zero, "IN") == normalize(without, "IN") == "+911206851234"


def test_trap_47_a_row_of_the_call_list_is_not_read_as_a_report():
    with pytest.raises(UnrecognizedPayload):
        records("pull_call_list_v2")


def test_a_voicemail_is_missed_whatever_its_length():
    leg_a = legs("call_report_incoming_status_voice_mail")[Label.A]
    assert (leg_a.disposition, leg_a.voicemail) == (Disposition.MISSED, True)
    assert list(legs("call_report_incoming_status_voice_mail")) == [Label.A]
    conversation = call("call_report_incoming_status_voice_mail")
    assert (conversation.talk_seconds, conversation.has_voicemail) == (0, True)


@pytest.mark.parametrize(
    ("status", "disposition"),
    [
        ("NO ANSWER (0-Agent)", Disposition.MISSED),
        ("noanswer", Disposition.MISSED),
        ("Cancel-Customer", Disposition.MISSED),
        ("BUSY (17)", Disposition.BUSY),
        ("agent engaged", Disposition.BUSY),
        ("UN-AVAIL", Disposition.FAILED),
    ],
)
def test_it_reads_a_status_in_any_spelling(status, disposition):
    assert legs("call_report_incoming_status_missed", Status=status)[Label.A].disposition == disposition


def test_a_report_without_status_is_judged_by_its_times_and_talk():
    empty = {"Status": "", "callstatus": ""}
    assert legs("call_report_outgoing_answered", **empty)[Label.B].disposition == Disposition.ANSWERED
    assert legs("call_report_incoming_missed_live", **empty)[Label.A].disposition == Disposition.MISSED
    untold = legs("call_report_incoming_missed_live", TalkDuration="", **empty)
    assert untold[Label.A].disposition == Disposition.UNKNOWN


def test_a_report_is_told_from_a_live_call_by_its_fields_when_it_has_no_type():
    assert legs("call_report_table_sample")
    assert event("live_call_table_sample").kind == EventKind.ANSWERED
    assert records("live_call_table_sample_get") == records("live_call_table_sample")


def test_a_live_answer_proves_a_person_on_leg_b_and_nobody_when_the_ivr_picked_up():
    answer = event("live_call_incoming_answered")
    assert (answer.label, answer.role, answer.is_answer) == (Label.B, Role.AGENT, True)
    greeting = event("live_call_incoming_answered", Status="Leg A Answer")
    assert (greeting.label, greeting.is_answer) == (Label.A, False)
    assert event("live_call_outgoing_leg_a_answer").is_answer is True


def test_a_live_end_hangs_up_leg_a_until_the_report_comes():
    ended = event("live_call_incoming_no_answer")
    assert (ended.kind, ended.label, ended.provider_status) == (EventKind.HANGUP, Label.A, "NO ANSWER")
    assert call("live_call_incoming_ringing", "live_call_incoming_no_answer").disposition == Disposition.MISSED


def test_words_of_live_calls_are_not_known_in_reports():
    with pytest.raises(UnknownWord) as failure:
        records("call_report_incoming_status_missed", Status="Picked")
    assert (failure.value.field, failure.value.value) == ("Status", "Picked")


@pytest.mark.parametrize("url", ["javascript:alert(1)", "file:///etc/passwd", "data:text/html,x", "//host/x.wav"])
def test_a_recording_has_a_web_address_or_is_refused(url):
    with pytest.raises(BadField) as failure:
        records("call_report_outgoing_answered", CallRecordingUrl=url)
    assert failure.value.field == "CallRecordingUrl"
