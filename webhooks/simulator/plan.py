"""Which calls there are, and every request that the providers would make because of them, in order of arrival."""

import heapq
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import count
from random import Random
from typing import NamedTuple
from zlib import crc32
from zoneinfo import ZoneInfo

from webhooks.simulator import callerdesk, piopiy, telecmi
from webhooks.simulator.call import Call, Expected, Kind, Notice, Person, SimulatedAccount, Wire, encode

PROVIDERS = {"piopiy": piopiy, "telecmi": telecmi, "callerdesk": callerdesk}
NAMES = ("Asha", "Ravi", "Meera", "Imran", "Divya", "Karan", "Leela", "Arjun", "Nisha", "Joseph")
AGENTS, DIDS, CUSTOMERS = 6, 3, 300
"""How many there are to each account."""
# Calls of each hour of the day against the mean hour; the nights are busier than real ones, for a demo at night.
HOURS = (
    0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.6, 0.8, 1.1, 1.4, 1.6, 1.6,
    1.4, 1.2, 1.3, 1.5, 1.6, 1.5, 1.4, 1.2, 1.0, 0.8, 0.6, 0.5,
)  # fmt: skip
ODD_EVERY = 40
"""One call in so many is accompanied by a delivery that cannot be understood: below 1 % of all."""
LATE_SHARE, DUPLICATE_SHARE = 0.06, 0.03
FIRST_BALANCE, LOW_BALANCE, TOP_UP = Decimal(150), Decimal(25), Decimal(500)


class Request(NamedTuple):
    """One HTTP request of a provider, and when it arrives."""

    at: datetime
    account: str
    """Slug of the account."""
    method: str
    content_type: str
    query: bytes
    body: bytes
    call: int
    """Number of the call in its plan."""
    is_resend: bool = False
    """Whether it is a later rung of a retry ladder, with the same bytes."""
    is_odd: bool = False
    """Whether it cannot be understood and should end in quarantine."""


@dataclass(frozen=True)
class Scenario:
    """A call with all its requests in order of arrival, and what should be derived from them."""

    account: SimulatedAccount
    kind: Kind
    dialect: str
    requests: list[Request]
    expected: Expected


DEMO_ACCOUNTS = [SimulatedAccount(f"{provider}-demo", provider) for provider in PROVIDERS]


def generate_calls(
    seed: int,
    calls: int,
    *,
    accounts: Sequence[SimulatedAccount] = (),
    start: datetime = datetime(2026, 11, 2, 4, tzinfo=UTC),
    rate: float = 0.5,
    speed: float = 1,
) -> list[Scenario]:
    """Return ``calls`` calls, each with its requests and what should come of them. Arguments as for ``plan``."""
    accounts = accounts or DEMO_ACCOUNTS
    requests: dict[int, list[Request]] = defaultdict(list)
    for request in plan(accounts, seed, calls, start, rate=rate, speed=speed):
        requests[request.call].append(request)
    return [
        Scenario(call.account, call.kind, call.dialect, requests[call.number], _tell(call)[1])
        for call in _draw(accounts, seed, calls, start, rate, speed)
    ]


def plan(
    accounts: Sequence[SimulatedAccount],
    seed: int,
    calls: int,
    start: datetime,
    *,
    rate: float = 0.5,
    speed: float = 1,
) -> Iterator[Request]:
    """Yield the requests of ``calls`` calls (0: without end) in order of arrival.

    ``rate`` is how many calls start in a second, on the average of a day. ``speed`` makes each call and its retries so
    many times shorter than life; what is told is the shortened time, so that lengths and clocks agree. The same
    arguments give the same bytes.
    """
    order = count()
    happenings: list[tuple[datetime, bool, int, Notice, Call]] = []
    due: list[tuple[datetime, int, Request]] = []
    books: dict[str, _Books] = defaultdict(_Books)

    def settle(until: datetime | None) -> None:
        # In order of what happened, not of arrival: a balance falls in the order in which legs end.
        while happenings and (until is None or happenings[0][0] < until):
            *_, notice, call = heapq.heappop(happenings)
            if notice.charge is not None:
                notice.fields["balance"] = str(books[call.account.slug].charge(notice.charge, notice.happened_at))
            for request in _requests(notice, call, speed):
                heapq.heappush(due, (request.at, next(order), request))

    for call in _draw(accounts, seed, calls, start, rate, speed):
        second = _second(call.starts_at)
        settle(second)
        while due and due[0][0] < second:
            yield heapq.heappop(due)[2]
        for notice in _tell(call)[0]:
            # Reports count in seconds. Of legs that end in one, the free ones come first: equal balances have no order.
            key = (_second(notice.happened_at), bool(notice.charge), next(order))
            heapq.heappush(happenings, (*key, notice, call))
    settle(None)
    while due:
        yield heapq.heappop(due)[2]


class _Books:
    """The balance of an account: it starts anew with each plan and is topped up when it runs low."""

    def __init__(self) -> None:
        self._balance = FIRST_BALANCE
        self._last_second: datetime | None = None

    def charge(self, amount: Decimal, ended_at: datetime) -> Decimal:
        """Return the balance after ``amount``, to 6 decimals."""
        second = _second(ended_at)
        # Of two legs that end in one second the lower balance is the later; a top-up between them would tell a lie.
        if self._balance < LOW_BALANCE and second != self._last_second:
            self._balance += TOP_UP
        self._last_second = second
        self._balance -= amount
        return self._balance.quantize(Decimal("0.000001"))


def _draw(
    accounts: Sequence[SimulatedAccount], seed: int, calls: int, start: datetime, rate: float, speed: float
) -> Iterator[Call]:
    random = Random(seed)  # noqa: S311 - no secret depends on it
    starts_at = start
    for number in count(1):
        if calls and number > calls:
            return
        account = random.choice(accounts)
        provider = PROVIDERS[account.provider]
        block = crc32(account.slug.encode()) % 80
        agents = [
            Person(NAMES[(block + i) % len(NAMES)], str(201 + i), f"91900000{1000 + block * 10 + i:04d}")
            for i in range(AGENTS)
        ]

        def compressed(seconds: float) -> int:
            return max(1, round(seconds / speed))

        starts_at += timedelta(seconds=random.expovariate(rate * _busyness(starts_at, account.time_zone)))
        yield Call(
            account=account,
            number=number,
            kind=random.choices(list(provider.SHARES), list(provider.SHARES.values()))[0],
            dialect=random.choices(list(provider.DIALECTS), list(provider.DIALECTS.values()))[0],
            starts_at=starts_at,
            pickup_seconds=compressed(random.triangular(2, 20, 5)),
            ring_seconds=compressed(random.triangular(3, 40, 12)),
            talk_seconds=compressed(min(1800, random.lognormvariate(4.5, 0.9))),
            billed_minute=60 / speed,
            # Some customers call again and again, most hardly ever.
            customer=f"91900000{5000 + int(CUSTOMERS * random.random() ** 2.5):04d}",
            did=f"9180000{block:03d}{random.randrange(DIDS):02d}",
            agents=tuple(random.sample(agents, random.choices((1, 2, 3), (70, 22, 8))[0])),
            is_click_to_call=random.random() < 0.5,
            chance=Random(f"{seed} {number}"),  # noqa: S311
            ids=Random(f"{seed} {number} {start.isoformat()}"),  # noqa: S311
        )


def _tell(call: Call) -> tuple[list[Notice], Expected]:
    provider = PROVIDERS[call.account.provider]
    notices, expected = provider.tell(call)
    if call.number % ODD_EVERY == 3:
        notices.append(provider.odd(call))
    return notices, expected


def _requests(notice: Notice, call: Call, speed: float) -> Iterator[Request]:
    """Yield every request by which ``notice`` is delivered: some late, some twice, some of PIOPIY's again and again."""
    chance = call.chance
    delay = chance.uniform(0.05, 0.4) if chance.random() > LATE_SHARE else chance.uniform(1, 8) / speed
    wire = encode(notice)
    arrives_at = notice.happened_at + timedelta(seconds=delay)
    yield _request(wire, notice, call, arrives_at)
    if not notice.is_report and not notice.is_odd and chance.random() < DUPLICATE_SHARE:
        yield _request(wire, notice, call, arrives_at + timedelta(seconds=chance.uniform(0, 3)))
    if notice.is_report:
        for minutes in PROVIDERS[call.account.provider].RESEND_MINUTES:
            again_at = arrives_at + timedelta(minutes=minutes) / speed
            yield _request(wire, notice, call, again_at, is_resend=True)


def _request(wire: Wire, notice: Notice, call: Call, at: datetime, *, is_resend: bool = False) -> Request:
    return Request(at, call.account.slug, *wire, call=call.number, is_resend=is_resend, is_odd=notice.is_odd)


def _busyness(moment: datetime, zone: str) -> float:
    return HOURS[moment.astimezone(ZoneInfo(zone)).hour]


def _second(moment: datetime) -> datetime:
    return moment.replace(microsecond=0)
