"""A made-up call, and what a provider tells of it."""

import json
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from math import ceil
from random import Random
from typing import NamedTuple
from urllib.parse import urlencode
from uuid import UUID

from calls.choices import Direction, Disposition


class Kind(StrEnum):
    """How a call goes."""

    IN_ANSWERED = "in answered"
    IN_MISSED = "in missed"
    IN_BUSY = "in busy"
    IN_VOICEMAIL = "in voicemail"
    IN_STREAM = "in stream"
    """Answered by a bot that has the call's sound streamed to it."""
    OUT_ANSWERED = "out answered"
    OUT_AGENT_MISSED = "out agent missed"
    """The agent, who is rung first, does not pick up; the customer is never rung."""
    OUT_CUSTOMER_MISSED = "out customer missed"
    OUT_CUSTOMER_BUSY = "out customer busy"


class SimulatedAccount(NamedTuple):
    """What the simulator needs to know of an account. Without an ``app_id`` the samples' one is sent."""

    slug: str
    provider: str
    app_id: str = ""
    time_zone: str = "Asia/Kolkata"


class Person(NamedTuple):
    """An agent. ``phone`` is digits with the country code."""

    name: str
    extension: str
    phone: str


@dataclass(frozen=True)
class Call:
    """A made-up call. Lengths are whole seconds, already compressed by the speed of the simulation."""

    account: SimulatedAccount
    number: int
    """Counts the calls of a plan from 1."""
    kind: Kind
    dialect: str
    starts_at: datetime
    pickup_seconds: int
    """Until the first party that is rung (agent of an outgoing call, IVR of an incoming one) picks up or gives up."""
    ring_seconds: int
    """Until the second party picks up or gives up."""
    talk_seconds: int
    billed_minute: float
    """Length of what is billed as one minute, in seconds of this simulation."""
    customer: str
    """Digits with the country code, as ``did``."""
    did: str
    agents: tuple[Person, ...]
    """Those who are rung, one after the other; only the last may pick up."""
    is_click_to_call: bool
    chance: Random
    """For small choices: the same for the same seed."""
    ids: Random
    """For ids: the same for the same seed and start, so that two runs do not tell of the same calls."""

    @property
    def agent(self) -> Person:
        return self.agents[-1]

    def at(self, seconds: float) -> datetime:
        """Return the moment ``seconds`` after the call's start."""
        return self.starts_at + timedelta(seconds=seconds)

    def minutes(self, seconds: int) -> int:
        """Return how many started minutes are billed for ``seconds``."""
        return ceil(seconds / self.billed_minute)

    def uuid(self) -> str:
        return str(UUID(int=self.ids.getrandbits(128), version=4))

    def token(self) -> str:
        """Return an id such as the dial API's request_id: 43 letters and digits."""
        alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
        return "".join(self.ids.choices(alphabet, k=43))


class Transport(StrEnum):
    """How a provider sends its fields."""

    JSON = "json"
    FORM = "form"
    QUERY = "query"


@dataclass
class Notice:
    """One thing that a provider tells: what happened and when. ``fields`` are as the provider spells them."""

    happened_at: datetime
    fields: dict[str, object] = field(default_factory=dict)
    transport: Transport = Transport.JSON
    is_report: bool = False
    """Whether it is a final report, as opposed to a live event."""
    charge: Decimal | None = None
    """What the balance falls by, where the report states the balance after it."""
    raw: bytes = b""
    """A body that is sent instead of the fields."""
    is_odd: bool = False
    """Whether it cannot be understood and should end in quarantine."""


class Wire(NamedTuple):
    """A notice as it goes over HTTP."""

    method: str
    content_type: str
    query: bytes
    body: bytes


@dataclass(frozen=True)
class Expected:
    """What should be derived from a call's requests, in any order and number."""

    direction: Direction
    disposition: Disposition
    customer_number: str | None
    """E.164; ``None`` where the provider never tells it."""
    talk_seconds: int
    cost: Decimal | None
    """In the account's unit; ``None`` where the provider never tells it."""


def encode(notice: Notice) -> Wire:
    """Return the notice as bytes. Forms and queries know text only; values that are no text go in as JSON."""
    if notice.raw:
        return Wire("POST", "application/json", b"", notice.raw)
    if notice.transport == Transport.JSON:
        return Wire("POST", "application/json", b"", json.dumps(notice.fields).encode())
    texts = {
        name: value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
        for name, value in notice.fields.items()
    }
    content = urlencode(texts).encode()
    if notice.transport == Transport.QUERY:
        return Wire("GET", "", content, b"")
    return Wire("POST", "application/x-www-form-urlencoded", b"", content)


def milliseconds(moment: datetime) -> int:
    """Return the time in milliseconds since 1970."""
    return round(moment.timestamp() * 1000)


def expect(call: Call, *, cost: Decimal | None, is_customer_told: bool = True) -> Expected:
    """Return what should come of ``call``; voicemail counts as missed (doc.telecmi.com/chub/docs/incoming-missed)."""
    dispositions = {
        Kind.IN_ANSWERED: Disposition.ANSWERED,
        Kind.IN_STREAM: Disposition.ANSWERED,
        Kind.OUT_ANSWERED: Disposition.ANSWERED,
        Kind.IN_BUSY: Disposition.BUSY,
        Kind.OUT_CUSTOMER_BUSY: Disposition.BUSY,
    }
    disposition = dispositions.get(call.kind, Disposition.MISSED)
    return Expected(
        direction=Direction.INBOUND if call.kind.startswith("in") else Direction.OUTBOUND,
        disposition=disposition,
        customer_number=f"+{call.customer}" if is_customer_told else None,
        talk_seconds=call.talk_seconds if disposition == Disposition.ANSWERED else 0,
        cost=cost,
    )
