"""The worklist: who is owed a call, until when, and what staff do about it."""

import re
from datetime import UTC, datetime, timedelta
from threading import Barrier, Thread
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

import pytest
import time_machine
from django.contrib.auth.models import Group, User
from django.db import connection, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from calls import business_hours, callbacks, worklist
from calls.choices import Direction, Disposition, EventKind, Label
from calls.intake import Arrival, lock_account, take_in
from calls.models import Account, Agent, AuditEntry, Conversation, MissedCaller, StaffAccess, WorklistStep
from calls.records import Alias, LegCdr, LiveEvent
from calls.worklist import Refused, act

pytestmark = pytest.mark.django_db

CALLER, OTHER_CALLER = "+919000000001", "+919000000002"
DID, OTHER_DID = "+918000000001", "+918000000002"
NINE = datetime(2026, 3, 2, 9, tzinfo=UTC)  # a Monday
Kind, Closing = WorklistStep.Kind, MissedCaller.Closing

EACH_ROLLED_BACK = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=25)


def minutes(number: float) -> datetime:
    """Return the moment that many minutes after nine."""
    return NINE + timedelta(minutes=number)


def report(
    name: str,
    minute: float,
    disposition: Disposition = Disposition.MISSED,
    direction: Direction = Direction.INBOUND,
    *,
    caller: str = CALLER,
    did: str = DID,
) -> LegCdr:
    """Return the final report on a call that began ``minute`` minutes after nine and rang for half a minute."""
    is_answered = disposition == Disposition.ANSWERED
    return LegCdr(
        aliases=(Alias("uuid", name),),
        leg_id=name,
        label=Label.A,
        call_direction=direction,
        disposition=disposition,
        customer_number=caller,
        did=did,
        started_at=minutes(minute),
        answered_at=minutes(minute + 0.5) if is_answered else None,
        ended_at=minutes(minute + (2 if is_answered else 0.5)),
        talk_seconds=90 if is_answered else None,
    )


def called_back(name: str, minute: float, disposition: Disposition = Disposition.ANSWERED, **more: str) -> LegCdr:
    return report(name, minute, disposition, Direction.OUTBOUND, **more)


def take(account: Account, *records: LegCdr | LiveEvent, source: UUID | None = None) -> None:
    with transaction.atomic():
        take_in(lock_account(account.pk), [Arrival(source or uuid4(), NINE, list(records))])


def the_entry(**columns: object) -> MissedCaller:
    return MissedCaller.objects.get(**columns)


@pytest.fixture
def asha(db) -> User:
    return User.objects.create_superuser("asha")


@pytest.fixture
def ravi(db) -> User:
    return User.objects.create_superuser("ravi")


# --- What makes an entry, and what closes it --------------------------------------------------------------------------


def test_a_caller_missed_twice_at_one_did_is_one_entry_and_at_another_did_a_second(account):
    take(account, report("1", 0), report("2", 5), report("3", 7, did=OTHER_DID), report("4", 8, caller=OTHER_CALLER))
    entry = the_entry(customer_number=CALLER, did=DID)
    assert (entry.misses, entry.first_missed_at, entry.last_missed_at) == (2, minutes(0), minutes(5))
    assert entry.closed_at is None
    assert MissedCaller.objects.count() == 3


def test_a_voicemail_is_a_missed_call_and_an_outbound_call_that_nobody_took_is_not(account):
    take(account, report("1", 0, Disposition.VOICEMAIL), called_back("2", 5, Disposition.MISSED, caller=OTHER_CALLER))
    assert the_entry().customer_number == CALLER


@pytest.mark.parametrize("withheld", ["", "anonymous"])
def test_a_withheld_number_makes_no_entry(account, withheld):
    take(account, report("1", 0, caller=withheld))
    assert not MissedCaller.objects.exists()


def test_an_answered_call_to_the_caller_from_any_did_closes_every_entry_of_the_caller(account):
    take(account, report("1", 0), report("2", 1, did=OTHER_DID))
    take(account, called_back("3", 10, did=OTHER_DID))
    call = Conversation.objects.get(direction=Direction.OUTBOUND)
    for entry in MissedCaller.objects.all():
        assert (entry.closing, entry.reached_by, entry.reached_at) == (Closing.CALLED_BACK, call, minutes(10.5))


def test_the_caller_who_gets_through_closes_the_entry(account):
    take(account, report("1", 0))
    take(account, report("2", 3, Disposition.ANSWERED, did=OTHER_DID))
    assert the_entry().closing == Closing.GOT_THROUGH


def test_a_caller_reached_while_ringing_us_again_is_reached(account):
    """The call back is taken after the second missed call began, though it had begun before it."""
    take(account, report("1", 0), called_back("2", 10), report("3", 10.2))
    assert (the_entry().misses, the_entry().closing) == (2, Closing.CALLED_BACK)


def test_a_call_that_was_ringing_already_when_the_caller_rang_us_still_counts_later(account):
    take(account, called_back("1", 10), report("2", 10.2))
    take(account, report("3", 20))
    first, second = MissedCaller.objects.order_by("first_missed_at")
    assert (first.closing, second.closing) == (Closing.CALLED_BACK, "")


def test_calls_of_another_account_leave_an_entry_open(account):
    take(account, report("1", 0))
    take(Account.objects.create(slug="agra-sales", provider="piopiy"), called_back("2", 10))
    assert the_entry(account=account).closed_at is None


def test_calls_that_were_not_answered_are_counted_as_attempts(account):
    take(account, called_back("0", -5, Disposition.BUSY), report("1", 0))
    take(account, called_back("2", 10, Disposition.MISSED), called_back("3", 20, Disposition.BUSY))
    take(account, called_back("4", 30))
    entry = the_entry()
    assert (entry.attempts, entry.first_attempt_at, entry.last_attempt_at) == (2, minutes(10), minutes(20))
    assert entry.closing == Closing.CALLED_BACK


def test_a_caller_missed_again_after_being_reached_is_a_new_entry(account):
    take(account, report("1", 0), called_back("2", 10), report("3", 20))
    first, second = MissedCaller.objects.order_by("first_missed_at")
    assert (first.closing, second.closing, second.first_missed_at) == (Closing.CALLED_BACK, "", minutes(20))


def test_a_late_report_that_the_call_back_was_not_answered_opens_the_entry_again(account):
    take(account, report("1", 0))
    source = uuid4()
    take(account, called_back("2", 10), source=source)
    assert the_entry().closed_at
    take(account, called_back("2", 10, Disposition.MISSED), source=source)
    assert (the_entry().closed_at, the_entry().reached_by, the_entry().attempts) == (None, None, 1)


def test_a_late_report_of_a_call_back_parts_the_entry_in_two_and_keeps_what_staff_did(account, asha):
    take(account, report("1", 0), report("2", 20))
    act(the_entry(), asha, Kind.TAKE, assigned_to=asha)
    take(account, called_back("3", 10))
    first, second = MissedCaller.objects.order_by("first_missed_at")
    assert (first.closing, first.misses, second.closing, second.misses) == (Closing.CALLED_BACK, 1, "", 1)
    assert second.assigned_to == asha


def test_a_missed_call_that_turns_out_to_be_answered_takes_its_entry_away(account):
    source = uuid4()
    take(account, report("1", 0), source=source)
    take(account, report("1", 0, Disposition.ANSWERED), source=source)
    assert not MissedCaller.objects.exists()


def test_a_missed_call_whose_delivery_is_withdrawn_takes_its_entry_away(account):
    source = uuid4()
    take(account, report("1", 0), source=source)
    with transaction.atomic():
        take_in(lock_account(account.pk), [], withdrawn=[source])
    assert not Conversation.objects.exists()
    assert not MissedCaller.objects.exists()


def test_a_call_that_turns_out_to_be_of_another_number_moves_its_entry(account):
    source = uuid4()
    take(account, report("1", 0), source=source)
    take(account, report("1", 0, caller=OTHER_CALLER), source=source)
    assert the_entry().customer_number == OTHER_CALLER


def test_a_call_back_that_turns_out_to_be_part_of_another_call_stays_the_one_that_closed_the_entry(account):
    take(account, report("1", 0), called_back("older", 9))
    take(account, called_back("2", 10))
    assert the_entry().reached_at == minutes(9.5)
    both = LiveEvent(
        aliases=(Alias("uuid", "older"), Alias("uuid", "2")),
        leg_id="2",
        label=Label.A,
        kind=EventKind.HANGUP,
        provider_status="hangup",
        occurred_at=minutes(12),
    )
    take(account, both)
    assert the_entry().reached_by == Conversation.objects.get(direction=Direction.OUTBOUND)


# --- Any order -------------------------------------------------------------------------------------------------------


@st.composite
def calls_and_steps(draw) -> tuple[list[Arrival], list[Arrival], list[dict]]:
    """Reports on calls between two callers and two DIDs, as they are first told and as they stand in the end."""
    final, arrivals = [], []
    for number in range(draw(st.integers(1, 9))):
        source = UUID(int=number + 1)

        def told(name: str = str(number)) -> LegCdr:
            return report(
                name,
                draw(st.integers(0, 40)) / 4,  # calls overlap: they are answered after half a minute
                draw(st.sampled_from([Disposition.MISSED, Disposition.ANSWERED, Disposition.BUSY])),
                draw(st.sampled_from([Direction.INBOUND, Direction.OUTBOUND])),
                caller=draw(st.sampled_from([CALLER, CALLER, OTHER_CALLER, ""])),
                did=draw(st.sampled_from([DID, DID, OTHER_DID])),
            )

        last = told()
        final.append(Arrival(source, NINE, [last]))
        if draw(st.booleans()):  # read wrongly at first, and again by better rules
            arrivals.append(Arrival(source, NINE, [told()]))
    steps = [
        {
            "at": minutes(draw(st.integers(0, 11))) + timedelta(seconds=20),
            "kind": kind,
            "closing": Closing.SPAM if kind == Kind.CLOSE else "",
            "until": minutes(60) if kind == Kind.SNOOZE else None,
        }
        for kind in draw(st.lists(st.sampled_from([Kind.TAKE, Kind.SNOOZE, Kind.CLOSE, Kind.REOPEN]), max_size=4))
    ]
    return arrivals, final, steps


def worklist_of(account: Account) -> list[dict]:
    """Return what the worklist holds, ids left out."""
    names = [
        *("customer_number", "did", "misses", "first_missed_at", "last_missed_at", "due_at", "attempts", "reached_at"),
        *("first_attempt_at", "last_attempt_at", "closed_at", "closing", "assigned_to__username", "snoozed_until"),
        *("reached_by__started_at", "reached_by__direction"),
    ]
    entries = MissedCaller.objects.filter(account=account)
    return list(entries.order_by("customer_number", "did", "first_missed_at").values(*names))


@EACH_ROLLED_BACK
@given(play=calls_and_steps(), data=st.data())
def test_the_order_in_which_reports_arrive_does_not_matter_to_the_worklist(account, play, data):
    early, final, steps = play
    user = User.objects.get_or_create(username="asha")[0]

    def worklist_after(batches: list[list[Arrival]]) -> list[dict]:
        with transaction.atomic():
            for step in steps:
                person = user if step["kind"] == Kind.TAKE else None
                WorklistStep.objects.create(
                    account=account, customer_number=CALLER, did=DID, by=user, assigned_to=person, **step
                )
            for batch in batches:
                take_in(lock_account(account.pk), batch)
            result = worklist_of(account)
            transaction.set_rollback(True)
        return result

    expected = worklist_after([final])
    order = data.draw(st.permutations(final))
    cut = data.draw(st.integers(0, len(order)))
    assert worklist_after([[arrival] for arrival in [*early, *order]]) == expected
    assert worklist_after([early, order[:cut], order[cut:], final]) == expected


# --- Promises --------------------------------------------------------------------------------------------------------


@pytest.fixture
def office(db) -> Account:
    """An account that promises a call back within 30 minutes, open on weekdays."""
    return Account.objects.create(
        slug="office", provider="piopiy", time_zone="UTC", business_hours="Mon-Fri 09:00-17:00", callback_minutes=30
    )


def test_the_promise_runs_in_business_hours_only(office):
    take(office, report("1", 0), report("2", 7 * 60 + 45, caller=OTHER_CALLER))
    assert the_entry(customer_number=CALLER).due_at == minutes(30)
    # 15 minutes on Monday, the rest on Tuesday.
    assert the_entry(customer_number=OTHER_CALLER).due_at == minutes(24 * 60 + 15)


def test_an_account_without_a_target_promises_nothing(account):
    take(account, report("1", 0))
    assert the_entry().due_at is None


def test_a_new_target_renews_the_promises_that_are_open(office):
    take(office, report("1", 0), report("2", 0, caller=OTHER_CALLER), called_back("3", 1, caller=OTHER_CALLER))
    office.callback_minutes = 5
    office.save()
    worklist.renew_promises(office)
    assert the_entry(customer_number=CALLER).due_at == minutes(5)
    assert the_entry(customer_number=OTHER_CALLER).due_at == minutes(30)


HOURS = st.sampled_from(["", "Mon-Fri 09:00-17:00", "Mon-Fri 09:00-12:30; Mon-Fri 14:00-00:00", "Sun 02:15-02:45"])


@given(
    text=HOURS,
    start=st.integers(0, 60 * 24 * 21),
    length=st.integers(1, 60 * 24 * 3),
    zone=st.sampled_from(["UTC", "Asia/Kolkata", "Europe/Berlin"]),
)
@settings(max_examples=100)
def test_open_time_measures_exactly_the_length_that_a_promise_was_given(text, start, length, zone):
    hours, zone = business_hours.parse(text), ZoneInfo(zone)
    since, length = minutes(start), timedelta(minutes=length)
    due_at = business_hours.after(hours, since, length, zone)
    clock = business_hours.OpenTime(hours, NINE, due_at + timedelta(days=1), zone)
    assert clock.between(since, due_at) == length
    assert clock.between(since, due_at - timedelta(seconds=1)) < length


@pytest.mark.parametrize(
    ("text", "moment", "opening"),
    [
        ("Mon-Fri 09:00-17:00", datetime(2026, 3, 6, 8, tzinfo=UTC), datetime(2026, 3, 9, 9, tzinfo=UTC)),
        ("", datetime(2026, 3, 6, 8, tzinfo=UTC), datetime(2026, 3, 7, 9, tzinfo=UTC)),
        ("Mon-Sun 00:00-00:00", datetime(2026, 3, 6, 8, tzinfo=UTC), datetime(2026, 3, 7, tzinfo=UTC)),
    ],
)
def test_the_next_opening_is_on_a_later_day(text, moment, opening):
    assert business_hours.next_opening(business_hours.parse(text), moment, ZoneInfo("UTC")) == opening


# --- What staff do ---------------------------------------------------------------------------------------------------


def test_what_staff_did_survives_that_the_calls_are_worked_out_anew(account, asha):
    take(account, report("1", 0))
    act(the_entry(), asha, Kind.TAKE, assigned_to=asha)
    act(the_entry(), asha, Kind.COMMENT, text="Rang twice")
    before = the_entry().pk
    take(account, report("0", -30), called_back("2", 3, Disposition.BUSY))
    assert (the_entry().pk, the_entry().assigned_to, the_entry().misses) == (before, asha, 2)
    assert WorklistStep.objects.count() == 2


def test_who_comes_second_is_told_who_has_it(account, asha, ravi):
    take(account, report("1", 0))
    act(the_entry(), asha, Kind.TAKE, assigned_to=asha)
    with pytest.raises(Refused, match="asha has it already"):
        act(the_entry(), ravi, Kind.TAKE, assigned_to=ravi)
    with pytest.raises(Refused, match="not yours to give back: asha has it"):
        act(the_entry(), ravi, Kind.GIVE_BACK)
    act(the_entry(), asha, Kind.GIVE_BACK)
    act(the_entry(), ravi, Kind.TAKE, assigned_to=ravi)
    assert the_entry().assigned_to == ravi


@pytest.mark.django_db(transaction=True)
def test_of_two_who_take_an_entry_at_once_one_wins_and_the_other_is_told(account, asha, ravi):
    take(account, report("1", 0))
    entry, both_ready, outcomes = the_entry(), Barrier(2), []

    def take_it(person: User) -> None:
        try:
            both_ready.wait(60)
            act(entry, person, Kind.TAKE, assigned_to=person)
            outcomes.append(person.username)
        except Refused as refused:
            outcomes.append(str(refused))
        finally:
            connection.close()

    threads = [Thread(target=take_it, args=(person,)) for person in (asha, ravi)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    winner = the_entry().assigned_to.username
    assert sorted(outcomes) == sorted([winner, f"{winner} has it already."])
    assert WorklistStep.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_a_step_made_while_calls_are_being_taken_in_is_not_lost(account, asha):
    """The step waits for the batch, or the batch for the step; either way the entry shows both."""
    take(account, report("1", 0))
    entry, both_ready = the_entry(), Barrier(2)

    def take_it() -> None:
        both_ready.wait(60)
        act(entry, asha, Kind.TAKE, assigned_to=asha)
        connection.close()

    thread = Thread(target=take_it)
    thread.start()
    both_ready.wait(60)
    take(account, report("2", 5))
    thread.join(60)
    assert (the_entry().assigned_to, the_entry().misses) == (asha, 2)


def test_an_entry_put_off_is_out_of_sight_until_its_time_or_until_the_caller_rings_again(account, asha):
    take(account, report("1", 0))
    act(the_entry(), asha, Kind.SNOOZE, until=timezone.now() + timedelta(hours=1))
    waiting = MissedCaller.objects.order_by()
    assert not worklist.due_now(waiting, timezone.now()).exists()
    assert worklist.due_now(waiting, timezone.now() + timedelta(hours=2)).exists()
    ring_again = (timezone.now() + timedelta(minutes=5) - NINE).total_seconds() / 60
    take(account, report("2", ring_again))
    assert worklist.due_now(waiting, timezone.now()).exists()


def test_staff_close_an_entry_with_a_reason_and_open_it_again(account, asha):
    take(account, report("1", 0))
    act(the_entry(), asha, Kind.CLOSE, closing=Closing.SPAM)
    assert (the_entry().closing, the_entry().reached_by) == (Closing.SPAM, None)
    with pytest.raises(Refused, match="closed already: spam"):
        act(the_entry(), asha, Kind.TAKE, assigned_to=asha)
    act(the_entry(), asha, Kind.REOPEN)
    assert (the_entry().closing, the_entry().closed_at) == ("", None)


def test_an_entry_that_closed_itself_can_be_opened_again_and_closes_at_the_next_call_that_reaches(account, asha):
    take(account, report("1", 0), called_back("2", 5))
    act(the_entry(), asha, Kind.REOPEN)
    assert the_entry().closed_at is None
    later = (timezone.now() + timedelta(minutes=5) - NINE).total_seconds() / 60
    take(account, called_back("3", later))
    assert the_entry().closing == Closing.CALLED_BACK


def test_closing_holds_even_where_the_providers_clock_is_ahead_of_ours(account, asha):
    ahead = (timezone.now() + timedelta(hours=1) - NINE).total_seconds() / 60
    take(account, report("1", ahead))
    act(the_entry(), asha, Kind.CLOSE, closing=Closing.SPAM)
    assert the_entry().closed_at


def test_only_the_newest_entry_of_a_caller_can_be_worked_on(account, asha):
    take(account, report("1", 0), called_back("2", 10), report("3", 20))
    with pytest.raises(Refused, match="Work on the newer entry"):
        act(the_entry(first_missed_at=minutes(0)), asha, Kind.REOPEN)


def test_an_entry_that_a_late_report_took_away_cannot_be_worked_on(account, asha):
    source = uuid4()
    take(account, report("1", 0), source=source)
    entry = the_entry()
    take(account, report("1", 0, Disposition.ANSWERED), source=source)
    with pytest.raises(Refused, match="not there any more"):
        act(entry, asha, Kind.TAKE, assigned_to=asha)


# --- Figures ---------------------------------------------------------------------------------------------------------


@time_machine.travel(datetime(2026, 3, 3, 12, tzinfo=UTC), tick=False)
def test_figures_count_business_hours_and_the_share_of_promises_kept(office):
    take(office, report("1", 0), called_back("1a", 10, Disposition.BUSY), called_back("1b", 19.5))
    take(office, report("2", 7 * 60 + 50, caller=OTHER_CALLER), called_back("2a", 24 * 60 + 49.5, caller=OTHER_CALLER))
    take(office, report("3", 1, caller="+919000000003"))
    ((account, week),) = callbacks.figures(MissedCaller.objects.all(), callbacks.since(7), timezone.now())
    assert (account, week.entries, week.reached, week.kept, week.broken) == (office, 3, 2, 1, 2)
    assert (week.first_try.median, week.first_try.ninetieth) == (timedelta(minutes=34.75), timedelta(minutes=59.5))
    assert (week.reach.median, week.reach.ninetieth) == (timedelta(minutes=40), timedelta(minutes=60))
    assert week.reach_plain.ninetieth == timedelta(hours=17)
    assert callbacks.figures(MissedCaller.objects.all(), callbacks.since(1), timezone.now()) == []
    hours, weekdays = callbacks.when_missed(MissedCaller.objects.all(), callbacks.since(7))
    assert sum(hour.missed for hour in hours) == 3
    assert weekdays[0] == (3, 2)


# --- The page --------------------------------------------------------------------------------------------------------

LIST = "/admin/calls/missedcaller/"


@pytest.fixture
def staff(asha) -> Client:
    client = Client()
    client.force_login(asha)
    return client


def shown(client: Client, query: str = "") -> list[MissedCaller]:
    return [row["entry"] for row in client.get(LIST + query).context["rows"]]


def do(client: Client, entry: MissedCaller, **form: object) -> str:
    """Send a step and return the message that is shown."""
    response = client.post(f"{LIST}{entry.pk}/act/", form, follow=True)
    return " ".join(str(message) for message in response.context["messages"])


def test_the_list_shows_the_oldest_promise_first_and_those_without_one_last(staff, office, account):
    take(account, report("0", -60, caller="+919000000004"))
    take(office, report("2", 5, caller=OTHER_CALLER), report("1", 0))
    assert [entry.customer_number for entry in shown(staff)] == [CALLER, OTHER_CALLER, "+919000000004"]


def test_each_tab_shows_its_entries(staff, office, asha, ravi):
    for number in range(1, 6):
        take(office, report(str(number), 0, caller=f"+91900000000{number}"))
    one, two, three, four, five = MissedCaller.objects.order_by("customer_number")
    act(one, asha, Kind.TAKE, assigned_to=asha)
    act(two, asha, Kind.ASSIGN, assigned_to=ravi)
    act(three, asha, Kind.SNOOZE, until=timezone.now() + timedelta(hours=1))
    act(four, asha, Kind.CLOSE, closing=Closing.SPAM)
    assert {entry.pk for entry in shown(staff)} == {one.pk, two.pk, five.pk}
    assert shown(staff, "?show=mine") == [one]
    assert shown(staff, "?show=nobody") == [five]
    assert {entry.pk for entry in shown(staff, "?show=overdue")} == {one.pk, two.pk, five.pk}
    assert shown(staff, "?show=snoozed") == [three]
    assert shown(staff, "?show=closed") == [four]
    assert shown(staff, "?did=000002") == []


def test_the_list_costs_the_same_for_2_entries_and_for_22(staff, office):
    def queries() -> int:
        with CaptureQueriesContext(connection) as captured:
            staff.get(LIST)
        return len(captured)

    for number in range(2):
        take(office, report(str(number), 0, caller=f"+9190000001{number:02}"))
    queries()  # the first request of a session may cost more
    few = queries()
    for number in range(2, 22):
        take(office, report(str(number), 0, caller=f"+9190000001{number:02}"))
    assert len(shown(staff)) == 22
    assert queries() == few


def test_the_page_of_an_entry_costs_the_same_for_2_calls_and_for_22(staff, office):
    def queries() -> int:
        with CaptureQueriesContext(connection) as captured:
            staff.get(f"{LIST}{the_entry().pk}/change/")
        return len(captured)

    take(office, report("0", 0), report("1", 1))
    act(the_entry(), User.objects.get(), Kind.COMMENT, text="one")
    queries()  # the first request of a session may cost more
    few = queries()
    for number in range(2, 22):
        take(office, report(str(number), number))
        act(the_entry(), User.objects.get(), Kind.COMMENT, text="more")
    assert queries() == few


def test_the_sidebar_says_how_many_callers_wait(staff, office, asha):
    take(office, report("1", 0), report("2", 0, caller=OTHER_CALLER), report("3", 0, caller="+919000000003"))
    act(the_entry(customer_number=CALLER), asha, Kind.CLOSE, closing=Closing.SPAM)
    page = staff.get(LIST).content.decode()
    assert re.search(r"Missed callers\s*</span>\s*<span[^>]*>\s*2\s*</span>", page)


def test_an_entry_put_off_until_the_next_opening_comes_back_when_the_account_opens(staff, office):
    take(office, report("1", 0))
    with time_machine.travel(minutes(60), tick=False):
        staff.force_login(User.objects.get())
        do(staff, the_entry(), kind="snooze", until="opening")
    assert the_entry().snoozed_until == minutes(24 * 60)


def test_staff_take_assign_put_off_comment_close_and_reopen_on_the_page(staff, office, ravi):
    take(office, report("1", 0), called_back("2", 5, Disposition.BUSY))
    entry = the_entry()
    assert do(staff, entry, kind="take") == "It is yours now."
    assert do(staff, entry, kind="assign", assignee=str(ravi.pk)) == "Assigned to ravi."
    assert "Put off" in do(staff, entry, kind="snooze", until="60")
    assert do(staff, entry, kind="wake") == "It is on the list again."
    assert do(staff, entry, kind="comment", text="Rings at noon") == "Comment added."
    assert "“Other” alone" in do(staff, entry, kind="close", closing="other")
    assert do(staff, entry, kind="close", closing="wrong_number", text="A fax") == "Closed."
    page = staff.get(f"{LIST}{entry.pk}/change/").content.decode()
    for text in ("Rings at noon", "wrong number", "A fax", "Attempt", "Missed", "assigned it to ravi", "Open again"):
        assert text in page
    assert do(staff, entry, kind="reopen") == "Open again."
    assert AuditEntry.objects.filter(target_type="calls.missedcaller", target_id=entry.pk).count() == 7


@pytest.mark.parametrize(
    ("form", "problem"),
    [
        ({"kind": "snooze", "until": "99"}, "Choose until when"),
        ({"kind": "close", "closing": "called_back"}, "Choose why"),
        ({"kind": "assign", "assignee": "9" * 30}, "Choose a colleague"),
        ({"kind": "comment", "text": "x" * 2001}, "2,001 characters"),
        ({"kind": "comment", "text": " "}, "The comment is empty"),
    ],
)
def test_a_form_that_makes_no_sense_changes_nothing_and_says_what_to_do(staff, office, form, problem):
    take(office, report("1", 0))
    assert problem in do(staff, the_entry(), **form)
    assert not WorklistStep.objects.exists()


def test_a_step_that_does_not_exist_is_refused_and_no_step_is_made_by_a_link(staff, office):
    take(office, report("1", 0))
    address = f"{LIST}{the_entry().pk}/act/"
    assert staff.post(address, {"kind": "delete"}).status_code == 400
    assert staff.get(address).status_code == 405
    answer = staff.post(address, {"kind": "take", "next": "https://example.com/"})
    assert answer["Location"] == f"{LIST}{the_entry().pk}/change/"


def member(name: str, role: str, *accounts: Account) -> Client:
    person = User.objects.create_user(name, is_staff=True)
    person.groups.add(Group.objects.get(name=role))
    StaffAccess.objects.create(user=person).accounts.set(accounts)
    client = Client()
    client.force_login(person)
    return client


def test_an_agent_works_on_the_entries_of_the_own_account_and_cannot_assign(office, account):
    take(office, report("1", 0))
    take(account, report("2", 0, caller=OTHER_CALLER))
    client = member("meena", "agent")
    own = Agent.objects.create(account=office, external_id="101")
    StaffAccess.objects.get().agents.add(own)
    assert [entry.account for entry in shown(client)] == [office]
    entry = the_entry(account=office)
    page = client.get(f"{LIST}{entry.pk}/change/").content.decode()
    assert CALLER not in page
    assert "90000 00001" not in page
    assert do(client, entry, kind="take") == "It is yours now."
    assert client.post(f"{LIST}{entry.pk}/act/", {"kind": "assign", "assignee": "1"}).status_code == 403
    assert client.post(f"{LIST}{the_entry(account=account).pk}/act/", {"kind": "take"}).status_code == 404


def test_a_viewer_looks_at_the_worklist_and_does_nothing(office):
    take(office, report("1", 0))
    client = member("vera", "viewer", office)
    assert len(shown(client)) == 1
    assert client.post(f"{LIST}{the_entry().pk}/act/", {"kind": "take"}).status_code == 403


def test_an_entry_cannot_be_assigned_to_who_does_not_see_it(staff, office, account):
    take(office, report("1", 0))
    member("mohan", "manager", account)
    assert "does not see the calls of" in do(
        staff, the_entry(), kind="assign", assignee=str(User.objects.get(username="mohan").pk)
    )


def test_the_figures_page_shows_each_account_and_ignores_a_range_that_does_not_exist(staff, office):
    take(office, report("1", 0), called_back("2", 5))
    with time_machine.travel(minutes(60), tick=False):
        staff.force_login(User.objects.get())
        page = staff.get(f"{LIST}figures/?days=7").content.decode()
        assert staff.get(f"{LIST}figures/?days=x").status_code == 200
    text = re.sub(r"<[^>]*>", "", page)
    assert "1 of 1" in text
    assert "By weekday" in text


def test_each_figure_of_the_worklist_leads_to_exactly_the_entries_it_counts(staff, office, asha):
    """Of promises kept, broken and still running, one entry reached otherwise, and a wrong number."""
    for number in range(6):
        begin = 40 if number == 3 else 0
        take(office, report(str(number), begin, caller=f"+91900000000{number}"))
    take(office, called_back("0a", 10, caller="+919000000000"), called_back("1a", 45, caller="+919000000001"))
    entries = MissedCaller.objects.order_by("customer_number")
    with time_machine.travel(minutes(20), tick=False):
        act(entries[4], asha, Kind.CLOSE, closing=Closing.ELSEWHERE)
        act(entries[5], asha, Kind.CLOSE, closing=Closing.WRONG_NUMBER)
    with time_machine.travel(minutes(60), tick=False):
        staff.force_login(User.objects.get())
        page = staff.get(f"{LIST}figures/?days=7")
        (row,) = page.context["accounts"]
        found = {name: len(shown(staff, row[f"{name}_url"].removeprefix(LIST))) for name in
                 ("entries", "reached", "kept", "promised")}  # fmt: skip
        assert found == {name: row[name] for name in found}
        assert found == {"entries": 6, "reached": 3, "kept": 2, "promised": 4}
        for chart in page.context["charts"]:
            for bar in chart["bars"]:
                assert len(shown(staff, bar["url"].removeprefix(LIST))) == bar["missed"]
                assert len(shown(staff, bar["reached_url"].removeprefix(LIST))) == bar["reached"]
            assert chart["total"] == 6
        assert page.content.decode().count("result=kept") == 1


def test_the_account_page_renews_promises(staff, office):
    take(office, report("1", 0))
    form = staff.get(f"/admin/calls/account/{office.pk}/change/").context["adminform"].form
    data = {name: "" if form[name].value() is None else form[name].value() for name in form.fields}
    data = {name: value for name, value in data.items() if value is not False} | {"callback_minutes": "10"}
    assert staff.post(f"/admin/calls/account/{office.pk}/change/", data).status_code == 302
    assert the_entry().due_at == minutes(10)
