"""Kinds of alert that watch calls: what opens, keeps and clears them, and that their links show what was counted."""

import pytest
from django.urls import reverse

from calls.choices import AlertKind, Direction, Disposition, EventKind, State
from calls.models import Account, AlertRule, Conversation
from tests.api.factories import a_conversation, a_leg, a_live_conversation, an_agent, an_event
from tests.calls.alerting.looking import DAY, HOUR, MINUTE, NOON, a_rule, listed, look, verdict

pytestmark = pytest.mark.django_db

MISSED, ANSWERED = Disposition.MISSED, Disposition.ANSWERED


def calls(account: Account, *dispositions: Disposition, before: int = 30, **values) -> list[Conversation]:
    """Inbound calls a minute apart that began ``before`` minutes before noon or later and took 20 seconds."""
    made = []
    for number, disposition in enumerate(dispositions):
        start = NOON - (before - number) * MINUTE
        times = {"started_at": start, "ended_at": start + MINUTE / 3, "last_heard_at": start + MINUTE / 3}
        made.append(a_conversation(account=account, disposition=disposition, **(times | values)))
    return made


def stream_errors(account: Account, count: int, before: int = 30) -> list:
    call = a_conversation(account=account, started_at=NOON - before * MINUTE)
    return [
        an_event(a_leg(call), kind=EventKind.STREAM_ERROR, occurred_at=NOON - before * MINUTE) for _ in range(count)
    ]


# --- Missed calls ----------------------------------------------------------------------------------------------------


@pytest.fixture
def missed_rule(account) -> AlertRule:
    return a_rule(AlertKind.MISSED_CALLS, opens_at=40, clears_at=20, minimum_calls=5)


def test_many_missed_calls_are_found_with_the_answer_rate(account, missed_rule):
    calls(account, MISSED, MISSED, ANSWERED, ANSWERED, Disposition.VOICEMAIL)
    (finding,) = look(missed_rule, account)
    assert finding.message == "2 of 5 inbound calls missed in 1 hour: 40 %, the mark is 40 %. Answered: 40 %."
    assert (finding.value, finding.at, finding.is_over) == (40, NOON, True)


def test_a_missed_share_stays_between_the_marks_and_clears_at_the_lower_one(account, missed_rule):
    calls(account, MISSED, MISSED, ANSWERED, ANSWERED, ANSWERED)
    assert verdict(missed_rule, account) == "opens"
    calls(account, ANSWERED)
    assert verdict(missed_rule, account) == "stays"
    calls(account, *[ANSWERED] * 4)
    assert verdict(missed_rule, account) == "clears"


def test_too_few_calls_open_no_alert_and_clear_none_while_they_are_missed(account, missed_rule):
    calls(account, *[MISSED] * 4)
    assert verdict(missed_rule, account) == "stays"
    assert verdict(missed_rule, account, NOON + HOUR) == "clears"


def test_no_call_at_all_is_no_missed_call(account):
    rule = a_rule(AlertKind.MISSED_CALLS, opens_at=0, minimum_calls=0)
    assert verdict(rule, account) == "clears"
    calls(account, ANSWERED)
    assert verdict(rule, account) == "clears"


def test_outbound_live_and_other_accounts_calls_are_not_among_the_missed(account, missed_rule):
    other = Account.objects.create(slug="mumbai", provider="piopiy")
    calls(other, *[MISSED] * 5)
    calls(account, *[MISSED] * 5, direction=Direction.OUTBOUND)
    calls(account, *[MISSED] * 5, before=90)
    a_live_conversation(account=account, started_at=NOON - MINUTE)
    assert look(missed_rule, account) == []
    assert len(look(missed_rule, other)) == 1


def test_a_moment_of_the_past_is_judged_as_it_was_judged_then(account, missed_rule):
    """The calls come one after the other: what is found at each moment then is what the same moment gives later."""
    ends = [NOON + number * MINUTE for number in range(40)]
    then = []
    for number, end in enumerate(ends):
        disposition = MISSED if 10 <= number < 20 else ANSWERED
        # Calls of up to seven minutes: some that began earlier end later.
        start = end - (number * 3 % 8) * MINUTE
        a_conversation(account=account, disposition=disposition, started_at=start, ended_at=end)
        then.append(look(missed_rule, account, end))
    assert [look(missed_rule, account, end) for end in ends] == then
    assert {found[0].is_over if found else None for found in then} == {True, False, None}


@pytest.mark.parametrize("zone", ["America/St_Johns", "Asia/Kolkata"])
def test_the_links_list_the_very_calls_that_were_counted(account, missed_rule, admin_client, settings, zone):
    settings.TIME_ZONE_DISPLAY = zone
    missed = calls(account, *[MISSED] * 5)
    answered = calls(account, ANSWERED, ANSWERED)
    at_the_edge = calls(account, MISSED, before=60)
    calls(account, MISSED, before=61)
    calls(account, MISSED, direction=Direction.OUTBOUND)
    calls(account, MISSED, ended_at=NOON + MINUTE)
    calls(Account.objects.create(slug="mumbai", provider="piopiy"), MISSED)
    (finding,) = look(missed_rule, account)
    assert finding.message.startswith("6 of 8 inbound calls")
    missed_link, inbound_link = finding.evidence
    assert listed(admin_client, missed_link) == {call.pk for call in missed + at_the_edge}
    assert listed(admin_client, inbound_link) == {call.pk for call in missed + at_the_edge + answered}


def test_the_times_of_a_link_are_shown_in_the_viewers_zone_and_senseless_ones_refused(admin_client):
    url = reverse("admin:calls_conversation_changelist")
    page = admin_client.get(url, {"started_at_from_0": NOON.isoformat()}).content.decode()
    assert 'value="2026-03-04"' in page
    assert 'value="17:30:00"' in page
    for moment in ["2026-13-04T12:00:00+00:00", "0001-01-01T00:00:00+00:00", "9999-12-31T23:59:59-12:00"]:
        assert admin_client.get(url, {"started_at_from_0": moment}).status_code == 302


def test_a_rule_looks_only_at_its_did_in_whatever_spelling_and_its_agent(account, admin_client):
    agent = an_agent(account=account)
    rule = a_rule(AlertKind.MISSED_CALLS, opens_at=40, minimum_calls=2, did="080 4718 4718", agent=agent)
    calls(account, *[ANSWERED] * 9)
    calls(account, *[ANSWERED] * 9, did="+918047184718")
    theirs = calls(account, MISSED, MISSED, did="+918047184718", agent=agent)
    calls(account, *[ANSWERED] * 9, did="+9180471847189", agent=agent)
    (finding,) = look(rule, account)
    assert finding.value == 100
    assert listed(admin_client, finding.evidence[0]) == {call.pk for call in theirs}


# --- Stream errors ---------------------------------------------------------------------------------------------------


def test_stream_errors_are_counted_in_the_window_and_lead_to_their_calls(account, admin_client):
    rule = a_rule(AlertKind.STREAM_ERRORS, opens_at=3, clears_at=1)
    stream_errors(account, 9, before=61)
    assert verdict(rule, account) == "clears"
    event, *_ = stream_errors(account, 2)
    assert verdict(rule, account) == "stays"
    stream_errors(account, 1)
    (finding,) = look(rule, account)
    assert finding.message == "3 stream errors on 2 calls in 1 hour; the mark is 3."
    assert (finding.value, finding.is_over) == (3, True)
    pages = {evidence.args for evidence in finding.evidence}
    assert (str(event.conversation_id),) in pages
    assert len(pages) == 2


def test_other_events_of_streams_are_no_errors(account):
    rule = a_rule(AlertKind.STREAM_ERRORS, opens_at=1)
    an_event(a_leg(a_conversation(account=account)), kind=EventKind.STREAM_CONNECTED, occurred_at=NOON)
    assert look(rule, account) == []


# --- Stuck calls -----------------------------------------------------------------------------------------------------


def test_calls_that_are_live_for_too_long_are_found_and_listed(account, admin_client):
    rule = a_rule(AlertKind.STUCK_CALLS, opens_at=2, window_minutes=60)
    first = a_live_conversation(account=account, started_at=NOON - HOUR)
    a_live_conversation(account=account, started_at=NOON - HOUR + MINUTE)
    a_conversation(account=account, started_at=NOON - 2 * HOUR)
    assert verdict(rule, account) == "clears"
    second = a_live_conversation(account=account, started_at=NOON - DAY)
    (finding,) = look(rule, account)
    assert finding.message == "2 calls live for 1 hour or longer; the mark is 2."
    assert listed(admin_client, finding.evidence[0]) == {first.pk, second.pk}
    Conversation.objects.filter(pk=first.pk).update(state=State.ENDED)
    assert verdict(rule, account) == "clears"
