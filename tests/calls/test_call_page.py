"""The page of one call: its timeline, what staff say of it, and why it ended as it did."""

import re
from datetime import datetime, timedelta
from uuid import UUID

import pytest
from django.contrib.auth.models import Permission, User
from django.db import connection, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from calls.admin import timeline
from calls.choices import Direction, Disposition, EventKind, Label, Reason, Role, State
from calls.intake import Arrival, lock_account, take_in
from calls.models import (
    Account,
    AuditEntry,
    CallNote,
    Conversation,
    ConversationRedirect,
    Event,
    Leg,
    StaffOutcome,
)
from calls.records import Alias, LegCdr, LiveEvent
from calls.summary import RULES_VERSION
from tests.calls import rows
from tests.calls.reports import NOON, paid_call, take
from tests.calls.rows import START

pytestmark = pytest.mark.django_db


def make_call(account: Account, **columns: object) -> Conversation:
    """Store a missed call with the columns given."""
    missed = {"disposition": Disposition.MISSED, "reason": Reason.EVENTS_UNANSWERED}
    return rows.make_call(account, **(missed | columns))


def page_of(call: Conversation) -> str:
    return reverse("admin:calls_conversation_change", args=[call.pk])


def post_to(name: str, *args: object) -> str:
    return reverse(f"admin:calls_conversation_{name}", args=args)


def at(seconds: int) -> datetime:
    return START + timedelta(seconds=seconds)


@pytest.fixture
def colleague(db) -> Client:
    """A member of staff who sees all calls, and may write notes and set outcomes."""
    user = User.objects.create_user("asha", password="only-for-tests", is_staff=True)
    user.user_permissions.set(
        Permission.objects.filter(
            codename__in=["view_conversation", "see_all_calls", "see_numbers", "add_callnote", "add_staffoutcome"]
        )
    )
    client = Client()
    client.force_login(user)
    return client


# --- Timeline --------------------------------------------------------------------------------------------------------


def leg_of(call: Conversation, label: str = "a", **columns: object) -> Leg:
    return Leg.objects.create(
        account=call.account,
        conversation=call,
        label=label,
        **({"external_id": f"leg-{label}", "role": Role.CUSTOMER, "disposition": Disposition.ANSWERED} | columns),
    )


def event_of(leg: Leg, kind: EventKind, seconds: int, status: str = "") -> Event:
    return Event.objects.create(
        account=leg.account,
        conversation=leg.conversation,
        leg=leg,
        kind=kind,
        leg_external_id=leg.external_id,
        leg_label=leg.label,
        provider_status=status or str(kind),
        occurred_at=at(seconds),
        received_at=at(seconds),
    )


def drawing_of(call: Conversation, now: datetime = START) -> timeline.Drawing | None:
    legs, events = list(call.legs.all()), list(call.events.order_by("occurred_at", "id"))
    return timeline.draw(legs, events, timeline.moments(legs, events), now)


def bars(drawing: timeline.Drawing | None) -> list[list[tuple[str, str, str, int]]]:
    assert drawing
    return [[tuple(bar) for bar in lane.bars] for lane in drawing.lanes]


def test_a_leg_is_drawn_as_ringing_then_talk_on_the_scale_of_the_whole_call(account):
    call = make_call(account)
    leg_of(call, "a", started_at=at(0), answered_at=at(5), ended_at=at(20))
    leg_of(call, "b", role=Role.AGENT, started_at=at(2), answered_at=at(5), ended_at=at(15))
    assert bars(drawing_of(call)) == [
        [("ring", "0.00%", "25.00%", 5), ("talk", "25.00%", "75.00%", 15)],
        [("ring", "10.00%", "15.00%", 3), ("talk", "25.00%", "50.00%", 10)],
    ]


def test_waiting_lasts_until_the_next_thing_that_happens_on_its_leg(account):
    call = make_call(account)
    leg = leg_of(call, started_at=at(0), answered_at=at(8), ended_at=at(20))
    event_of(leg, EventKind.WAITING, 2)
    event_of(leg, EventKind.STREAM_CONNECTED, 4)
    event_of(leg, EventKind.WAITING, 10, "hold")
    event_of(leg, EventKind.BRIDGED, 15)
    (drawn,) = bars(drawing_of(call))
    assert [bar for bar in drawn if bar[0] == "wait"] == [
        ("wait", "10.00%", "30.00%", 6),
        ("wait", "50.00%", "25.00%", 5),
    ]


def test_a_leg_that_is_still_up_reaches_to_now(account):
    call = make_call(account, state=State.LIVE, disposition=None)
    leg_of(call, disposition=None, started_at=at(0))
    assert bars(drawing_of(call, now=at(30))) == [[("ring", "0.00%", "100.00%", 30)]]


def test_times_of_clocks_that_disagree_are_not_drawn(account):
    call = make_call(account)
    leg_of(call, started_at=at(0), ended_at=at(90_000))
    assert drawing_of(call) is None


@pytest.mark.parametrize(("seconds", "ticks"), [(7, [0, 1, 2, 3, 4, 5, 6, 7]), (18, [0, 5, 10, 15]), (600, 6)])
def test_the_scale_has_round_steps_and_few_of_them(account, seconds, ticks):
    call = make_call(account)
    leg_of(call, started_at=at(0), ended_at=at(seconds))
    drawing = drawing_of(call)
    assert drawing
    found = [tick.seconds for tick in drawing.ticks]
    assert found == ticks if isinstance(ticks, list) else len(found) == ticks


def test_every_mark_is_a_link_to_what_happened_there(admin_client, account):
    call = make_call(account)
    leg = leg_of(call, started_at=at(0), answered_at=at(8), ended_at=at(20))
    event_of(leg, EventKind.ANSWERED, 8)
    event_of(leg, EventKind.HANGUP, 20)
    page = admin_client.get(page_of(call)).content.decode()
    marks = re.findall(r'class="rl-event" href="#([\w-]+)" aria-label="(\w[\w ]+) at', page)
    assert [label for _, label in marks] == ["Answered", "Hung up"]
    for target, label in marks:
        entry = page[page.index(f'id="{target}"') :]
        assert f"<strong>{label}</strong>" in entry[: entry.index("</li>")]


# --- Why -------------------------------------------------------------------------------------------------------------


def test_the_page_says_by_which_rule_and_from_which_reports_a_call_is_missed(admin_client, account):
    take(
        account,
        LegCdr(
            aliases=(Alias("uuid", "call-1"),), leg_id="leg-a", label=Label.A, call_direction=Direction.INBOUND,
            from_number="919000000001", disposition=Disposition.MISSED, started_at=START, ended_at=at(12),
        ),
    )  # fmt: skip
    call = Conversation.objects.get()
    page = admin_client.get(page_of(call)).content.decode()
    why = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", "", page[page.index('id="rl-why"') :]))
    assert "Why “missed”?" in why
    assert Reason.CUSTOMER_CDR.label.replace("'", "&#x27;") in why
    assert "Final report on the A-leg" in why
    assert "A-leg, customer: final report says missed, rang 0:12, talk 0:00." in why
    assert "the caller’s leg decides, or any agent’s leg that was answered" in why
    assert f"Rule “customer_cdr”, rules version {RULES_VERSION}." in why


# --- Notes and outcome -----------------------------------------------------------------------------------------------


def test_a_note_stands_on_the_page_with_its_author_and_in_the_audit_log(colleague, account):
    call = make_call(account)
    answer = colleague.post(post_to("note", call.pk), {"text": "Wants <b>a</b> refund"}, follow=True)
    assert "Wants &lt;b&gt;a&lt;/b&gt; refund" in answer.content.decode()
    note = call.notes.get()
    assert note.author.username == "asha"
    entry = AuditEntry.objects.get(action=AuditEntry.Action.ADD, target_type="calls.callnote")
    assert (entry.target_id, entry.details["conversation"]) == (str(note.pk), str(call.pk))
    assert entry.details["changes"] == {"text": ["", "Wants <b>a</b> refund"]}


def test_only_its_author_may_change_or_delete_a_note(colleague, admin_client, account):
    call = make_call(account)
    colleague.post(post_to("note", call.pk), {"text": "First words"})
    note = call.notes.get()
    assert admin_client.post(post_to("edit_note", call.pk, note.pk), {"text": "Not mine"}).status_code == 404
    assert admin_client.post(post_to("delete_note", call.pk, note.pk)).status_code == 404
    assert "Edit" not in admin_client.get(page_of(call)).content.decode().partition('id="rl-notes"')[2][:2000]
    colleague.post(post_to("edit_note", call.pk, note.pk), {"text": "Better words"})
    note.refresh_from_db()
    assert (note.text, note.edited_at is not None) == ("Better words", True)
    colleague.post(post_to("delete_note", call.pk, note.pk))
    assert not call.notes.exists()
    actions = AuditEntry.objects.filter(target_type="calls.callnote").order_by("id").values_list("action", flat=True)
    assert list(actions) == ["add", "change", "delete"]


@pytest.mark.parametrize("text", ["", "   ", "x" * 2001])
def test_a_note_that_says_nothing_or_too_much_is_refused_with_a_reason(colleague, account, text):
    call = make_call(account)
    answer = colleague.post(post_to("note", call.pk), {"text": text}, follow=True)
    assert not CallNote.objects.exists()
    assert re.search("This field is required|at most 2000 characters", answer.content.decode())


def test_staff_set_change_and_clear_the_outcome_beside_the_provider_s_disposition(colleague, account):
    call = make_call(account)
    colleague.post(post_to("outcome", call.pk), {"kind": "call_back", "text": "after 5 pm"})
    assert str(call.staff_outcome) == "Call back: after 5 pm"
    answer = colleague.post(post_to("outcome", call.pk), {"kind": "sale", "text": ""}, follow=True)
    assert "<strong>Sale</strong>" in answer.content.decode()
    assert Conversation.objects.filter(staff_outcome__kind="sale", disposition="missed").get() == call
    colleague.post(post_to("outcome", call.pk), {"kind": ""})
    assert not StaffOutcome.objects.exists()
    colleague.post(post_to("outcome", call.pk), {"kind": "no such"})
    assert not StaffOutcome.objects.exists()


def test_who_may_only_look_can_neither_write_a_note_nor_set_an_outcome(colleague, account):
    call = make_call(account)
    User.objects.get(username="asha").user_permissions.remove(
        *Permission.objects.filter(codename__in=["add_callnote", "add_staffoutcome"])
    )
    for name, data in (("note", {"text": "Words"}), ("outcome", {"kind": "sale"})):
        assert colleague.post(post_to(name, call.pk), data).status_code == 403
    page = colleague.get(page_of(call)).content.decode()
    assert "Add note" not in page
    assert "Set outcome" not in page


def test_a_call_that_the_viewer_may_not_see_takes_no_note(colleague, account):
    call = make_call(account)
    User.objects.get(username="asha").user_permissions.remove(Permission.objects.get(codename="see_all_calls"))
    assert colleague.post(post_to("note", call.pk), {"text": "Words"}).status_code == 404
    assert not CallNote.objects.exists()


def said_of(call: Conversation) -> tuple[list[str], list[str], list[str]]:
    return (
        [note.text for note in call.notes.all()],
        [str(outcome) for outcome in StaffOutcome.objects.filter(conversation=call)],
        sorted(tag.name for tag in call.tags.all()),
    )


def told(number: int, *aliases: str) -> Arrival:
    event = LiveEvent(
        aliases=tuple(Alias("uuid", alias) for alias in aliases), leg_id=aliases[0], label=Label.A,
        kind=EventKind.STARTED, provider_status="started", occurred_at=START,
    )  # fmt: skip
    return Arrival(UUID(int=number), START, [event])


def drain(account: Account, *arrivals: Arrival) -> None:
    with transaction.atomic():
        take_in(lock_account(account.pk), list(arrivals))


def test_what_staff_said_survives_the_merge_of_two_calls(account, admin_user):
    drain(account, told(1, "first"))
    first = Conversation.objects.get()
    drain(account, told(2, "second"))
    second = Conversation.objects.exclude(pk=first.pk).get()
    CallNote.objects.create(conversation=first, author=admin_user, text="on the first")
    CallNote.objects.create(conversation=second, author=admin_user, text="on the second")
    StaffOutcome.objects.create(conversation=first, kind="call_back", set_by=admin_user, set_at=at(1))
    StaffOutcome.objects.create(conversation=second, kind="sale", set_by=admin_user, set_at=at(2))
    second.tags.create(name="vip")
    drain(account, told(3, "second", "first"))
    survivor = Conversation.objects.get()
    assert survivor.pk == first.pk
    assert ConversationRedirect.objects.get().pk == second.pk
    assert said_of(survivor) == (["on the first", "on the second"], ["Sale"], ["vip"])


def test_an_outcome_set_later_on_the_call_that_stays_is_not_undone_by_a_merge(account, admin_user):
    drain(account, told(1, "first"))
    first = Conversation.objects.get()
    drain(account, told(2, "second"))
    second = Conversation.objects.exclude(pk=first.pk).get()
    StaffOutcome.objects.create(conversation=first, kind="resolved", set_by=admin_user, set_at=at(9))
    StaffOutcome.objects.create(conversation=second, kind="sale", set_by=admin_user, set_at=at(2))
    drain(account, told(3, "second", "first"))
    assert said_of(first) == ([], ["Resolved"], [])


def test_what_staff_said_survives_a_late_report_and_a_second_reading(account, admin_user):
    drain(account, told(1, "first"))
    call = Conversation.objects.get()
    CallNote.objects.create(conversation=call, author=admin_user, text="kept")
    StaffOutcome.objects.create(conversation=call, kind="sale", set_by=admin_user, set_at=at(2))
    take(account, paid_call(1, balance="5"), received_at=NOON)
    drain(account, told(4, "first", "call-1"))
    drain(account, told(1, "first"))
    assert said_of(Conversation.objects.get(pk=call.pk)) == (["kept"], ["Sale"], [])


# --- Cost ------------------------------------------------------------------------------------------------------------


def test_the_page_costs_the_same_for_many_notes_legs_events_and_calls_of_the_number(admin_client, admin_user, account):
    def call_with(count: int) -> Conversation:
        number = f"+9190000000{count:02}"
        call = make_call(account, customer_number=number)
        for place in range(count):
            leg = leg_of(call, "b", external_id=f"leg-{place}", started_at=at(place), ended_at=at(place + 5))
            event_of(leg, EventKind.RINGING, place)
            CallNote.objects.create(conversation=call, author=admin_user, text=str(place))
            make_call(account, customer_number=number)
        return call

    def cost(call: Conversation) -> int:
        with CaptureQueriesContext(connection) as queries:
            assert admin_client.get(page_of(call)).status_code == 200
        return len(queries)

    small, large = call_with(2), call_with(22)
    cost(small)  # what is read once and kept, such as content types
    assert cost(large) == cost(small)
