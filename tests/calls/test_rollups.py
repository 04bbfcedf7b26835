"""Rollups say at all times what counting the calls says."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID, uuid4

import pytest
from django.db import transaction
from django.db.models import CharField
from django.db.models.fields.json import KT
from django.db.models.functions import Cast
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from calls import rollups
from calls.choices import Direction, Disposition, Label, Role
from calls.intake import Arrival, lock_account, take_in
from calls.metrics import Tally, summarize, tallies, total
from calls.models import Account, Conversation, Rollup, StaleSlot
from calls.records import AgentRef, Alias, LegCdr
from calls.rollups import Kind, Span

START = datetime(2026, 3, 2, 18, 10, tzinfo=UTC)
# The edges of slots, and what lies just beside them.
MOMENTS = [
    START + timedelta(**span)
    for span in [
        {}, {"minutes": 20}, {"minutes": 20, "microseconds": -1}, {"minutes": 5}, {"minutes": 50}, {"hours": -30},
        {"minutes": -10, "microseconds": -1}, {"minutes": -10}, {"days": 1, "minutes": 20}, {"days": 2, "minutes": 3},
        {"days": 1, "minutes": 20, "microseconds": -1},
    ]
]  # fmt: skip


@st.composite
def cdrs(draw) -> tuple[int, Arrival]:
    """A CDR of one of few calls of one of two accounts: it may change an earlier one, or join two of them."""
    call, other = draw(st.integers(0, 4)), draw(st.integers(0, 4))
    names = {call, other} if draw(st.booleans()) else {call}
    started = draw(st.sampled_from(MOMENTS))
    outcome = draw(st.sampled_from([None, *Disposition]))
    answered = outcome == Disposition.ANSWERED
    record = LegCdr(
        aliases=tuple(Alias("uuid", f"call-{name}") for name in sorted(names)),
        leg_id=f"leg-{call}",
        label=Label.A,
        call_direction=draw(st.sampled_from(Direction)),
        role=Role.CUSTOMER,
        from_number="+919000000001",
        to_number="+918000000001",
        did=draw(st.sampled_from(["", "+918000000001", "+918000000002"])),
        agent=draw(st.sampled_from([None, AgentRef(external_id="202"), AgentRef(external_id="203")])),
        disposition=outcome,
        started_at=started,
        answered_at=started + timedelta(seconds=7) if answered else None,
        ended_at=started + timedelta(seconds=60) if outcome else None,
        talk_seconds=53 if answered else None,
        cost=draw(st.sampled_from([None, Decimal("0.45"), Decimal("0.000001")])),
        extra_params=draw(st.sampled_from([{}, {"campaign": "Diwali"}, {"campaign": 7}])),
    )
    return draw(st.integers(0, 1)), Arrival(uuid4(), started + timedelta(seconds=draw(st.integers(0, 300))), [record])


@st.composite
def spans(draw) -> dict:
    """What may be asked: from one moment to another, of one account or both."""
    since, until = sorted(draw(st.lists(st.sampled_from(MOMENTS), min_size=2, max_size=2, unique=True)))
    return {"since": since, "until": until, "accounts": draw(st.sampled_from([[0], [1], [0, 1], []]))}


steps = st.lists(
    st.one_of(
        cdrs(),
        cdrs(),
        st.tuples(st.just("refresh"), st.sampled_from([0, 1]), st.sampled_from(MOMENTS)),
        st.tuples(st.just("withdraw"), st.integers(0, 9)),
        st.tuples(st.just("unit"), st.sampled_from([0, 1]), st.sampled_from(["INR", "coins"])),
    ),
    min_size=2,
    max_size=14,
)


@pytest.fixture
def accounts(db) -> list[Account]:
    """Two accounts, in different units."""
    return [
        Account.objects.create(slug=slug, provider="piopiy", unit=unit)
        for slug, unit in [("delhi", "INR"), ("pune", "coins")]
    ]


def play(accounts: list[Account], step: tuple, arrived: list[tuple[int, UUID]]) -> None:
    """Do one thing that happens to the call log."""
    what, *rest = step
    if what == "refresh":
        place, now = rest
        with transaction.atomic():
            while rollups.refresh(lock_account(accounts[place].pk), now):
                pass
    elif what == "unit":
        place, unit = rest
        Account.objects.filter(pk=accounts[place].pk).update(unit=unit)
    elif what == "withdraw":
        if arrived:
            place, source = arrived.pop(rest[0] % len(arrived))
            with transaction.atomic():
                take_in(lock_account(accounts[place].pk), [], withdrawn=[source])
    else:
        with transaction.atomic():
            take_in(lock_account(accounts[what].pk), rest)
        arrived.append((what, rest[0].source))


def check(accounts: list[Account], span: dict) -> None:
    """See that every question about a span is answered as by counting its calls."""
    span = Span(span["since"], span["until"], [accounts[place].pk for place in span["accounts"]])
    calls = Conversation.objects.filter(
        started_at__gte=span.since, started_at__lt=span.until, account__in=span.accounts
    )
    for offset in (timedelta(0), timedelta(minutes=30)):
        [steps] = rollups.totals([span], timedelta(hours=1), offset)
        assert total(steps.values()).summary == summarize(calls)
        for begin, tally in steps.items():
            assert begin.minute == offset.seconds // 60
            hour = calls.filter(started_at__gte=begin, started_at__lt=begin + timedelta(hours=1))
            assert same(tally, total(tallies(hour).values()))
    tops = rollups.tops(span, 2)
    by_campaign = calls.annotate(campaign=Cast(KT("extra_params__campaign"), CharField()))
    for kind, rows, column in [
        (Kind.AGENT, calls.exclude(agent=None), "agent"),
        (Kind.DID, calls.exclude(did=""), "did"),
        (Kind.CAMPAIGN, by_campaign.exclude(campaign__isnull=True), "campaign"),
    ]:
        counted = {str(key): tally for (key,), tally in tallies(rows, column).items()}
        assert len(tops[kind]) == min(len(counted), 2)
        for key, tally in tops[kind].items():
            assert tally.counts == counted.pop(key).counts, (kind, key)
        left = max((tally.counts["calls"] for tally in counted.values()), default=0)
        assert all(tally.counts["calls"] >= left for tally in tops[kind].values())


def same(one: Tally, other: Tally) -> bool:
    """Return whether two tallies say the same, down to the counts by unit."""
    return (one.counts, +one.paid, one.summary.cost) == (other.counts, +other.paid, other.summary.cost)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(steps=steps, span=spans())
def test_whatever_happens_to_the_calls_rollups_say_what_counting_them_says(accounts, steps, span):
    with transaction.atomic():
        arrived: list[tuple[int, UUID]] = []
        for step in steps:
            play(accounts, step, arrived)
            check(accounts, span)
        transaction.set_rollback(True)


def test_long_spans_are_read_from_what_is_stored(accounts, django_assert_num_queries):
    account = accounts[0]
    arrival = Arrival(uuid4(), START, [a_cdr("call-1", START)])
    with transaction.atomic():
        take_in(lock_account(account.pk), [arrival])
        assert not rollups.refresh(account, START + timedelta(days=2))
    Rollup.objects.filter(kind=Kind.TOTAL).update(calls=7)
    span = Span(START - timedelta(days=5), START + timedelta(days=1), [account.pk])
    with django_assert_num_queries(2):
        [answer] = rollups.totals([span], timedelta(hours=1), timedelta(0))
    assert total(answer.values()).summary.calls == 7
    Rollup.objects.filter(kind=Kind.DID).update(calls=8)
    with django_assert_num_queries(2):
        answer = rollups.tops(span, 1)
    assert [tally.summary.calls for tally in answer[Kind.DID].values()] == [8]


def test_only_slots_that_are_worked_out_are_marked(accounts):
    account = accounts[0]
    with transaction.atomic():
        rollups.refresh(lock_account(account.pk), START)
        take_in(account, [Arrival(uuid4(), START, [a_cdr("call-1", START)])])
        assert not StaleSlot.objects.exists()
        take_in(account, [Arrival(uuid4(), START, [a_cdr("call-2", START - timedelta(hours=1))])])
        # The half hour; the day is not over.
        assert [slot.seconds for slot in StaleSlot.objects.all()] == [1800]


def test_nothing_waits_once_all_is_worked_out(accounts):
    now = START + timedelta(days=1)
    with transaction.atomic():
        take_in(lock_account(accounts[0].pk), [Arrival(uuid4(), START, [a_cdr("call-1", START)])])
    assert rollups.waiting(now) == [account.pk for account in accounts]
    for account in accounts:
        with transaction.atomic():
            rollups.refresh(lock_account(account.pk), now)
    assert rollups.waiting(now) == []
    assert rollups.waiting(now + timedelta(hours=1)) == [account.pk for account in accounts]
    with transaction.atomic():
        take_in(lock_account(accounts[0].pk), [Arrival(uuid4(), START, [a_cdr("call-2", START)])])
    assert rollups.waiting(now) == [accounts[0].pk]


def a_cdr(call: str, started: datetime) -> LegCdr:
    return LegCdr(
        aliases=(Alias("uuid", call),),
        leg_id=call,
        label=Label.A,
        call_direction=Direction.INBOUND,
        role=Role.CUSTOMER,
        from_number="+919000000001",
        to_number="+918000000001",
        disposition=Disposition.MISSED,
        started_at=started,
        ended_at=started + timedelta(seconds=20),
    )
