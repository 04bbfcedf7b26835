"""What the simulator's modules share: requests, the people on the phone, and a call while it is being made up."""

import json
import random
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import NamedTuple
from urllib.parse import urlencode

Payload = dict[str, object]


class SimulatedAccount(NamedTuple):
    """An account as far as its traffic depends on it."""

    slug: str
    provider: str
    app_id: str = ""
    time_zone: str = "Asia/Kolkata"


class Request(NamedTuple):
    """One HTTP request of a provider. ``call`` counts the calls of a run from 0; ``at`` is when it is to arrive."""

    at: datetime
    account: str
    call: int
    method: str
    content_type: str
    query: bytes
    body: bytes


class Expected(NamedTuple):
    """What a call amounts to once all its requests have been processed."""

    direction: str
    disposition: str
    customer_number: str | None
    """E.164, or ``None`` where no payload tells it: an agent who was rung first and did not pick up, at PIOPIY."""
    talk_seconds: int
    cost: Decimal | None
    """``None`` where the provider tells no cost."""
    quarantined: int = 0
    """How many of the call's requests cannot be understood."""


@dataclass(frozen=True)
class Scenario:
    """A whole call. ``call_id`` is one of the ids by which the provider refers to it."""

    account: str
    kind: str
    call_id: str
    started_at: datetime
    requests: tuple[Request, ...]
    expected: Expected


class Agent(NamedTuple):
    """One of our people. ``number`` is digits with the country code, like every number here."""

    name: str
    number: str
    extension: str


class Office:
    """The people and numbers of an account, the same in every run, and its id and money counters."""

    def __init__(self, account: SimulatedAccount, start: datetime) -> None:
        self.account = account
        fixed = random.Random(account.slug)  # noqa: S311 - made-up calls need no secrecy
        names = ["Asha", "Ravi", "Meera", "Kiran", "Farhan", "Divya", "Arjun", "Leela", "Aniket", "Nisha"]
        first = fixed.randrange(90) * 10
        self.agents = [
            Agent(name, f"919000009{first + i:03d}", str(201 + i)) for i, name in enumerate(fixed.sample(names, 6))
        ]
        self.dids = [f"918000000{first + i:03d}" for i in range(3)]
        self.purse = Purse()
        self.requests = 0
        """How many were planned so far."""
        self.odd_requests = 0
        self._next_number = int(start.timestamp() * 1000)

    def customer(self, rng: random.Random) -> str:
        """Return a customer's number; some call far more often than others."""
        return f"9190000{min(int(rng.expovariate(1 / 80)), 799) + 1:05d}"

    def next_number(self) -> int:
        """Return a number that no other call of the account has, nor one of an earlier run."""
        self._next_number += 1
        return self._next_number


class Purse:
    """A prepaid balance: charges lower it, and somebody tops it up when it runs low."""

    LOW, TOP_UP = Decimal(100), Decimal(200)

    def __init__(self) -> None:
        self.balance = Decimal(300)
        self._paid_at: datetime | None = None

    def pay(self, amount: Decimal, at: datetime) -> Decimal:
        """Take ``amount`` and return what is left. Call it in order of ``at``."""
        # Not within a second: charges of one second are told apart by their falling balance alone.
        if self.balance < self.LOW and at != self._paid_at:
            self.balance += self.TOP_UP
        self._paid_at = at
        self.balance -= amount
        return self.balance


@dataclass
class Notice:
    """A notification on its way: it arrives at ``at``, and again with the same bytes at the times in ``again``."""

    at: datetime
    payload: Payload
    transport: str
    """``json``, ``form`` (a POST each) or ``get``."""
    again: tuple[datetime, ...] = ()
    raw: bytes | None = None
    """The body where it is not what ``payload`` gives."""

    def request(self, account: str, call: int) -> Request:
        """Return the request as it arrives first."""
        if self.transport == "get":
            return Request(self.at, account, call, "GET", "", _form(self.payload), b"")
        if self.transport == "form":
            body = _form(self.payload)
            return Request(self.at, account, call, "POST", "application/x-www-form-urlencoded", b"", body)
        body = json.dumps(self.payload).encode() if self.raw is None else self.raw
        return Request(self.at, account, call, "POST", "application/json", b"", body)


@dataclass
class Charge:
    """Money that a leg costs when it ends; the CDR's ``balance`` is known only when all earlier ends are."""

    at: datetime
    amount: Decimal
    payload: Payload
    purse: Purse

    def settle(self) -> None:
        """Write the balance into the CDR. Call it in order of ``at``, and within a second the free legs first."""
        self.payload["balance"] = f"{self.purse.pay(self.amount, self.at):.6f}"


@dataclass
class Call:
    """A call while it is being made up."""

    office: Office
    index: int
    kind: str
    start: datetime
    speed: float
    rng: random.Random
    ids: random.Random
    """Gives ids only, so that a second run with the same seed tells of the same calls under other ids."""
    call_id: str = ""
    notices: list[Notice] = field(default_factory=list)
    charges: list[Charge] = field(default_factory=list)

    @property
    def account(self) -> SimulatedAccount:
        return self.office.account

    @property
    def whole_start(self) -> datetime:
        """The first whole second of the call, for providers that count in seconds."""
        return self.start.replace(microsecond=0) + timedelta(seconds=bool(self.start.microsecond))

    def ring(self) -> int:
        """Return how long it rings before somebody picks up, in seconds of the run."""
        return self.seconds(self.rng.triangular(4, 30, 10))

    def ring_out(self) -> int:
        """Return how long it rings in vain, in seconds of the run."""
        return self.seconds(self.rng.uniform(15, 45))

    def talk(self) -> int:
        """Return how long they talk, in seconds of the run."""
        return self.seconds(min(self.rng.lognormvariate(4.4, 0.9), 600))

    def seconds(self, lifelike: float) -> int:
        """Return a length of real life in whole seconds of the run, at least one."""
        return max(1, round(lifelike / self.speed))

    def uuid(self) -> str:
        return str(uuid.UUID(int=self.ids.getrandbits(128), version=4))

    def token(self) -> str:
        """Return an id as dial APIs give: 43 letters and digits."""
        letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
        return "".join(self.ids.choices(letters, k=43))

    def tell(
        self, at: datetime, payload: Payload, transport: str, *, is_live: bool, resent: tuple[timedelta, ...] = ()
    ) -> None:
        """Have a notification sent that is due at ``at``. Some come late, behind younger ones; live ones may double."""
        lag = self.rng.uniform(0.05, 0.4) + (self.rng.uniform(1, 6) if self.rng.random() < 0.06 else 0)
        arrival = at + timedelta(seconds=lag)
        again = [arrival + pause for pause in resent]
        if is_live and self.rng.random() < 0.04:
            again.append(arrival + timedelta(seconds=self.rng.uniform(0.2, 2)))
        self.notices.append(Notice(arrival, payload, transport, tuple(again)))

    def add_odd(self) -> None:
        """Add a notification that cannot be understood: an unknown word, a cut body, or no JSON at all."""
        model = self.rng.choice(self.notices)
        at = model.at + timedelta(seconds=self.rng.uniform(0.1, 1))
        status = "Status" if "Status" in model.payload else "status"
        payload = {key: value for key, value in model.payload.items() if key != "callstatus"} | {status: "parked"}
        raw = None
        if model.transport == "json":
            text = json.dumps(payload)
            raw = self.rng.choice([None, text[: len(text) // 2].encode(), _javascript(payload).encode()])
        self.notices.append(Notice(at, payload, model.transport, raw=raw))


def _form(payload: Mapping[str, object]) -> bytes:
    return urlencode({key: _form_value(value) for key, value in payload.items()}).encode()


def _form_value(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _javascript(payload: Mapping[str, object]) -> str:
    """Return the style in which the providers' pages print their samples."""
    return "{ " + ", ".join(f"{key}: {value!r}" for key, value in payload.items()) + " }"
