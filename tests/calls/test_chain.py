"""The chain of balances, over charges whose true order is known."""

import random
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from calls.chain import WINDOW, Link, Reading, chain
from calls.choices import GapKind
from tests.calls import year

START = datetime(2026, 3, 2, 9, tzinfo=UTC)
SEEDS = st.integers(0, 10**9)


def reading(number: int, seconds: int, balance: str | Decimal, charge: str | Decimal) -> Reading:
    moment = START + timedelta(seconds=seconds)
    return Reading(number, moment, moment, Decimal(balance), Decimal(charge))


def booked(seed: int, *, top_ups: float = 0.05, lost: float = 0.0) -> tuple[list[Reading], Decimal, Decimal]:
    """Return readings in the order of booking, the sum of what was added, and of what was charged by lost CDRs."""
    chance = random.Random(seed)
    balance, clock, kept, added, gone = Decimal(1000), 0, [], Decimal(0), Decimal(0)
    for number in range(60):
        if number and chance.random() < top_ups:
            amount = Decimal(chance.choice([500, 1000, 2000]))
            balance, added, clock = balance + amount, added + amount, clock + 300
        charge = Decimal(0) if chance.random() < 0.15 else Decimal(chance.randint(1, 900)) / 100
        balance -= charge
        # Pauses at both ends: of what ended together nothing tells what came first or last when others are lost.
        clock += 300 if number in (1, 59) else chance.choice([0, 0, 1, 5, 40, 400])
        if 0 < number < 59 and chance.random() < lost:
            gone += charge
        else:
            kept.append(reading(number, clock - chance.randint(0, 20), balance, charge))
    return kept, added, gone


def total(links: list[Link], kind: GapKind) -> Decimal:
    return sum((link.gap for link in links if link.kind == kind), Decimal(0))


# --- A year ----------------------------------------------------------------------------------------------------------


def test_of_a_year_every_dropped_cdr_hidden_charge_and_top_up_is_found_and_nothing_else():
    readings, happenings = year.generate(seed=1)
    shuffled = [*readings]
    random.Random(1).shuffle(shuffled)
    links = chain(shuffled)
    found = [link for link in links if link.kind not in (GapKind.NONE, GapKind.OPENING)]
    unexplained = []
    for link in found:
        for one in happenings:
            is_within = link.since <= one.at <= link.reading.occurred_at + WINDOW
            if (link.kind, abs(link.gap)) == (one.kind, one.amount) and is_within:
                happenings.remove(one)
                break
        else:
            unexplained.append(link)
    assert happenings == []
    assert len(unexplained) <= len(found) / 100


# --- Any order, any loss ---------------------------------------------------------------------------------------------


@given(SEEDS)
def test_no_loss_is_found_when_every_cdr_is_there(seed):
    kept, added, _ = booked(seed)
    links = chain(kept)
    assert total(links, GapKind.MISSING) == 0
    assert total(links, GapKind.TOP_UP) == added


@given(SEEDS)
def test_losses_and_top_ups_add_up_whatever_was_lost(seed):
    kept, added, gone = booked(seed, lost=0.05)
    links = chain(kept)
    assert total(links, GapKind.TOP_UP) + total(links, GapKind.MISSING) == added - gone


@given(SEEDS)
def test_a_lost_cdr_is_one_gap_of_its_charge(seed):
    kept, _, _ = booked(seed, top_ups=0)
    lost = kept.pop(random.Random(seed).choice([place for place in range(1, 59) if kept[place].charge]))
    links = chain(kept)
    assert [link.gap for link in links if link.kind == GapKind.MISSING] == [-lost.charge]
    assert total(links, GapKind.TOP_UP) == 0


@given(SEEDS, st.randoms(use_true_random=False))
def test_the_order_of_arrival_changes_nothing(seed, chance):
    kept, _, _ = booked(seed, lost=0.05)
    shuffled = [*kept]
    chance.shuffle(shuffled)
    assert chain(shuffled) == chain(kept)


@given(SEEDS, st.integers(1, 40))
def test_a_chain_can_be_taken_up_after_a_pause(seed, cut):
    kept, _, _ = booked(seed, lost=0.05)
    whole = chain(kept)
    pauses = [
        place
        for place, (one, other) in enumerate(pairwise(whole), 1)
        if min(link.reading.occurred_at for link in whole[place:]) > one.booked_at + 3 * WINDOW
    ]
    for place in pauses:
        assert chain([link.reading for link in whole[place:]], whole[place - 1]) == whole[place:]


@given(SEEDS)
def test_no_two_readings_are_booked_at_one_time_and_none_before_it_ended(seed):
    kept, _, _ = booked(seed, lost=0.05)
    links = chain(kept)
    assert all(one.booked_at < other.booked_at for one, other in pairwise(links))
    assert all(link.booked_at >= link.reading.occurred_at for link in links)


# --- One by one ------------------------------------------------------------------------------------------------------


def test_calls_that_end_in_another_order_than_they_were_booked_leave_no_gap():
    links = chain([reading(1, 10, "99", "1"), reading(2, 8, "97", "2"), reading(3, 9, "96", "1")])
    assert [(link.reading.id, link.kind) for link in links] == [
        (1, GapKind.OPENING),
        (2, GapKind.NONE),
        (3, GapKind.NONE),
    ]


def test_a_loss_has_its_amount_and_interval():
    loss = chain([reading(1, 0, "99", "1"), reading(2, 600, "97.55", "1")])[1]
    assert (loss.kind, loss.gap, loss.since) == (GapKind.MISSING, Decimal("-0.45"), START)


def test_a_top_up_and_a_loss_within_a_minute_are_told_apart():
    chained = chain([reading(1, 0, "99.55", "0.45"), reading(2, 30, "599.10", "0.45"), reading(3, 60, "590", "0.45")])
    assert [(link.kind, link.gap) for link in chained[1:]] == [
        (GapKind.TOP_UP, 500),
        (GapKind.MISSING, Decimal("-8.65")),
    ]


def test_a_difference_below_the_providers_step_is_rounding():
    links = chain([reading(1, 0, "99.55", "0.4512"), reading(2, 600, "99.10", "0.4512")])
    assert (links[1].kind, links[1].gap, links[1].since) == (GapKind.ROUNDING, Decimal("0.0012"), None)


def test_nothing_gives_an_empty_chain():
    assert chain([]) == []
