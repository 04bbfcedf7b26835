"""A run: which calls come when, and every request of theirs in order of time. The same for the same arguments."""

import heapq
import itertools
import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from webhooks.simulator import callerdesk, piopiy, telecmi
from webhooks.simulator.scenario import Call, Charge, Expected, Notice, Office, Request, Scenario, SimulatedAccount

PROVIDERS = {"piopiy": piopiy, "telecmi": telecmi, "callerdesk": callerdesk}
EXAMPLE_ACCOUNTS = (
    SimulatedAccount("delhi-support", "piopiy"),
    SimulatedAccount("mumbai-sales", "telecmi"),
    SimulatedAccount("pune-care", "callerdesk"),
)
EXAMPLE_START = datetime(2026, 11, 2, 4, 30, tzinfo=UTC)
RATE = 0.5
"""Calls started per second."""
REQUESTS_PER_ODD_ONE = 110
"""At most one in so many cannot be understood."""
# How busy an hour of the account's day is, against the mean. Less lively than life at night: a demo has to show calls.
HOURS = (
    0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.6, 0.7, 1.0, 1.4, 1.8, 1.8,
    1.5, 1.1, 1.4, 1.6, 1.6, 1.5, 1.4, 1.0, 0.8, 0.7, 0.6, 0.5,
)  # fmt: skip


def plan(
    accounts: Sequence[SimulatedAccount],
    *,
    seed: int,
    calls: int | None,
    start: datetime,
    rate: float = RATE,
    speed: float = 1.0,
) -> Iterator[Request]:
    """Yield the requests of a run in order of arrival; ``calls`` is how many calls, ``None`` goes on for ever.

    ``rate`` is calls started per second, on average over a day. ``speed`` is how many times shorter than in life calls
    are; all times in the payloads are those of the shorter call.
    """
    due: list[tuple[datetime, int, bool, int, Charge | Notice, Call]] = []
    order = itertools.count()

    def take() -> Iterator[Request]:
        *_, thing, call = heapq.heappop(due)
        if isinstance(thing, Charge):
            thing.settle()
            return
        yield thing.request(call.account.slug, call.index)
        if thing.again:
            first, *others = sorted(thing.again)
            later = replace(thing, at=first, again=tuple(others))
            heapq.heappush(due, (first, 1, False, next(order), later, call))

    for call, _ in _calls(accounts, seed, calls, start, rate, speed):
        while due and due[0][0] < call.start:
            yield from take()
        for charge in call.charges:
            heapq.heappush(due, (charge.at, 0, charge.amount > 0, next(order), charge, call))
        for notice in call.notices:
            heapq.heappush(due, (notice.at, 1, False, next(order), notice, call))
    while due:
        yield from take()


def generate_calls(
    seed: int,
    calls: int,
    *,
    accounts: Sequence[SimulatedAccount] = EXAMPLE_ACCOUNTS,
    start: datetime = EXAMPLE_START,
    rate: float = RATE,
    speed: float = 1.0,
) -> list[Scenario]:
    """Return ``calls`` whole calls in order of their start, each with its requests and what they should amount to."""
    made = list(_calls(accounts, seed, calls, start, rate, speed))
    charges = [charge for call, _ in made for charge in call.charges]
    for charge in sorted(charges, key=lambda charge: (charge.at, charge.amount > 0)):
        charge.settle()
    return [
        Scenario(call.account.slug, call.kind, call.call_id, call.start, tuple(_requests(call)), expected)
        for call, expected in made
    ]


def _calls(
    accounts: Sequence[SimulatedAccount], seed: int, count: int | None, start: datetime, rate: float, speed: float
) -> Iterator[tuple[Call, Expected]]:
    rng = random.Random(seed)  # noqa: S311 - made-up calls need no secrecy
    ids = random.Random(f"{seed} {start.isoformat()}")  # noqa: S311
    offices = [Office(account, start) for account in accounts]
    at = start
    for index in itertools.count() if count is None else range(count):
        busyness = [HOURS[at.astimezone(ZoneInfo(account.time_zone)).hour] for account in accounts]
        if index:
            at += timedelta(seconds=rng.expovariate(rate * sum(busyness) / len(busyness)))
        office = rng.choices(offices, busyness)[0]
        provider = PROVIDERS[office.account.provider]
        kind = rng.choices(list(provider.KINDS), list(provider.KINDS.values()))[0]
        call = Call(office, index, kind, at, speed, rng, ids)
        expected = provider.act(call)
        office.requests += sum(1 + len(notice.again) for notice in call.notices)
        if office.requests >= (office.odd_requests + 1) * REQUESTS_PER_ODD_ONE:
            office.odd_requests += 1
            call.add_odd()
            expected = expected._replace(quarantined=1)
        yield call, expected


def _requests(call: Call) -> list[Request]:
    requests = []
    for notice in call.notices:
        request = notice.request(call.account.slug, call.index)
        requests += [request, *(request._replace(at=at) for at in notice.again)]
    return sorted(requests, key=lambda request: request.at)
