"""The merge: any order, any repetition, any split into batches gives the same tables."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID

from django.db import transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from calls.choices import Direction, Disposition, EventKind, Label, Role
from calls.intake import Arrival, lock_account, take_in
from calls.models import Account, Conversation
from calls.records import AgentRef, Alias, LegCdr, LiveEvent
from calls.summary import Entry, summarize
from tests.calls.tables import call_log

START = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
KINDS = [EventKind.STARTED, EventKind.ANSWERED, EventKind.BRIDGED, EventKind.HANGUP, EventKind.STREAM_CONNECTED]
OUTCOMES = [Disposition.ANSWERED, Disposition.MISSED, Disposition.BUSY, None]

# The account is made once; each example rolls back what it wrote.
EACH_ROLLED_BACK = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


@st.composite
def arrivals(draw) -> list[Arrival]:
    """Deliveries about up to three calls that may turn out to be fewer: their ids are linked by chance."""
    count = draw(st.integers(2, 10))
    result = []
    for number in range(count):
        call = draw(st.integers(0, 2))
        label = draw(st.sampled_from(Label))
        leg_id = f"leg-{call}-{draw(st.sampled_from([label.value, 'x']))}"
        names = draw(st.sets(st.sampled_from(["call", "leg", "request", "bridge"]), min_size=1))
        aliases = {
            "call": Alias("uuid", f"call-{call}"),
            "leg": Alias("uuid", leg_id),
            "request": Alias("request", f"request-{call}"),
            "bridge": Alias("request", f"request-{(call + 1) % 3}"),
        }
        kind = draw(st.sampled_from([*KINDS, "cdr", "cdr", "cdr"]))
        if kind == EventKind.STREAM_CONNECTED:
            names = {"leg"}
        moment = START + timedelta(seconds=draw(st.integers(0, 90)))
        shared = {
            "aliases": tuple(sorted(aliases[name] for name in names)),
            "leg_id": leg_id,
            "label": label,
            "conversation_id": f"call-{call}" if "call" in names else "",
            "call_direction": draw(st.sampled_from(Direction)),
            "direction": draw(st.sampled_from(Direction)),
            "role": draw(st.sampled_from(Role)),
            "from_number": draw(st.sampled_from(["", "919000000001", "+919000000002"])),
            "to_number": draw(st.sampled_from(["", "918000000000"])),
            "agent": draw(st.sampled_from([None, AgentRef(external_id="202"), AgentRef(phone="919000000003")])),
            "started_at": draw(st.sampled_from([None, START, START + timedelta(seconds=5)])),
            "extra_params": draw(st.sampled_from([{}, {"Name": "Akil"}, {"Name": "Asha", "team": "Sales"}])),
        }
        if kind == "cdr":
            has_money = draw(st.booleans())
            record = LegCdr(
                **shared,
                disposition=draw(st.sampled_from(OUTCOMES)),
                ended_at=draw(st.sampled_from([None, moment])),
                talk_seconds=draw(st.sampled_from([None, 0, 13])),
                cost=Decimal("0.45") if has_money else None,
                balance_after=Decimal(100 - number) if has_money else None,
            )
        else:
            record = LiveEvent(
                **shared,
                kind=kind,
                provider_status=str(kind),
                occurred_at=moment,
                is_answer=kind in {EventKind.ANSWERED, EventKind.BRIDGED},
            )
        received_at = START + timedelta(seconds=100 + draw(st.integers(0, 20)))
        result.append(Arrival(UUID(int=number + 1), received_at, [record]))
    return result


@st.composite
def plays(draw) -> tuple[list[Arrival], list[list[Arrival]]]:
    """The deliveries once in order, and the same in another order, some again, in batches."""
    once = draw(arrivals())
    again = draw(st.lists(st.sampled_from(once), max_size=5))
    order = draw(st.permutations([*once, *again]))
    cuts = sorted(draw(st.sets(st.integers(1, len(order)), max_size=4)))
    batches = [order[a:b] for a, b in zip([0, *cuts], [*cuts, len(order)], strict=True)]
    # Within a batch a delivery stands once: the drain finds its copies before it hands it over.
    return once, [list({arrival.source: arrival for arrival in batch}.values()) for batch in batches if batch]


def tables_after(account: Account, batches: list[list[Arrival]]) -> list:
    """Return the tables that the batches lead to from nothing, and leave nothing behind."""
    with transaction.atomic():
        for batch in batches:
            with transaction.atomic():
                take_in(lock_account(account.pk), batch)
        result = call_log(account)
        transaction.set_rollback(True)
    return result


@EACH_ROLLED_BACK
@given(play=plays())
def test_order_repetition_and_batches_do_not_matter(account, play):
    once, batches = play
    assert tables_after(account, batches) == tables_after(account, [once])


@EACH_ROLLED_BACK
@given(play=plays())
def test_taking_everything_in_again_changes_nothing(account, play):
    _, batches = play
    assert tables_after(account, [*batches, *batches]) == tables_after(account, batches)


@EACH_ROLLED_BACK
@given(play=plays())
def test_a_withdrawn_delivery_leaves_no_trace(account, play):
    once, batches = play
    gone = once[0].source
    with transaction.atomic():
        for batch in batches:
            take_in(lock_account(account.pk), batch)
        take_in(lock_account(account.pk), [], withdrawn=[gone])
        result = call_log(account)
        transaction.set_rollback(True)
    assert result == tables_after(account, [[arrival for arrival in once if arrival.source != gone]])


@given(once=arrivals())
def test_a_summary_never_has_impossible_times(once):
    entries = [Entry(record, arrival.received_at) for arrival in once for record in arrival.records]
    account = Account(time_zone="Asia/Kolkata", phone_region="IN")
    call = summarize(entries, account.facts)
    if call is None:
        return
    for row in [call, *call.legs]:
        assert all(value is None or value >= 0 for value in (row.ring_seconds, row.talk_seconds, row.duration_seconds))
    assert (call.disposition is None) == (call.state == "live")
    assert call.started_at is not None


def test_a_delivery_that_names_two_calls_merges_them_and_the_older_id_stays(account):
    def told(number: int, *aliases: str) -> Arrival:
        event = LiveEvent(
            aliases=tuple(Alias("uuid", alias) for alias in aliases),
            leg_id=aliases[0],
            label=Label.A,
            kind=EventKind.STARTED,
            provider_status="started",
            occurred_at=START,
        )
        return Arrival(UUID(int=number), START, [event])

    for arrival in (told(1, "first"), told(2, "second"), told(3, "second", "first")):
        with transaction.atomic():
            take_in(lock_account(account.pk), [arrival])
    survivor = Conversation.objects.get()
    redirect = survivor.redirects.get()
    assert survivor.pk < redirect.pk
    assert survivor.legs.count() == 2


def test_a_batch_without_news_changes_nothing(account):
    cdr = LegCdr(
        aliases=(Alias("uuid", "call"),),
        leg_id="leg",
        label=Label.A,
        call_direction=Direction.INBOUND,
        disposition=Disposition.MISSED,
        started_at=START,
        ended_at=START + timedelta(seconds=9),
        balance_after=Decimal(5),
    )
    arrival = Arrival(UUID(int=1), START, [cdr])
    with transaction.atomic():
        take_in(lock_account(account.pk), [arrival])
    before = call_log(account)
    with transaction.atomic():
        take_in(lock_account(account.pk), [arrival])
    assert call_log(account) == before


def test_another_account_with_the_same_ids_is_not_touched(account):
    other = Account.objects.create(slug="other", provider="piopiy")
    cdr = LegCdr(
        aliases=(Alias("uuid", "call"),), leg_id="leg", label=Label.A, disposition=Disposition.MISSED, started_at=START
    )
    for number, owner in enumerate([account, other], 1):
        with transaction.atomic():
            take_in(lock_account(owner.pk), [Arrival(UUID(int=number), START, [cdr])])
    assert Conversation.objects.filter(account=account).count() == 1
    assert Conversation.objects.filter(account=other).count() == 1
