"""Normalized values that adapters return: what one delivery says, in our words.

Records are frozen and know nothing of databases or providers. They are msgspec structs rather than dataclasses because
every record is stored (see ``calls.models.StoredRecord``) and has to come back equal, with its type, its Decimals and
its aware datetimes, from JSON.

Conventions: an empty string or ``None`` means "not said" and never beats something said. Times are aware UTC.
Phone numbers are text as the provider sent it. Seconds are ints. Money is Decimal in the account's unit.
"""

from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple

import msgspec

from calls.choices import Direction, Disposition, EventKind, Label, Role


class AccountFacts(NamedTuple):
    """What a pure function may know of an account."""

    time_zone: str
    """IANA name of the zone in which the provider prints naive times."""
    phone_region: str
    """ISO 3166 region in which national numbers are read."""
    app_id: str
    """The provider's id of the account; empty when it is not to be checked."""


class RecordingSource(NamedTuple):
    """How recordings are had of a provider that gives names of files instead of addresses."""

    address: Callable[..., str]
    """``(name, *, app_id, secret, api_base)`` → the address of a file, which holds the secret."""
    refusal: Callable[[bytes], int | None]
    """The HTTP status that an answer without audio stands for by its words; ``None`` when it has none."""


class Alias(msgspec.Struct, frozen=True, order=True):
    """One of the ids by which a provider refers to a conversation; unique per account, scheme and value."""

    scheme: str
    value: str


class AgentRef(msgspec.Struct, frozen=True, omit_defaults=True):
    """Who of ours took part, as the provider names them. At least ``external_id`` or ``phone`` is set."""

    external_id: str = ""
    phone: str = ""
    name: str = ""


class _LegStatement(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What every record about one leg may say."""

    aliases: tuple[Alias, ...]
    """Every id of the conversation that the payload names; records that share one belong together.

    A media stream event names its leg's id and no more: it waits under that id until something else names it.
    """
    leg_id: str
    """The provider's id of the leg. With ``label`` it is the leg's identity within the conversation."""
    label: Label
    conversation_id: str = ""
    """The provider's id of the whole call, where the payload names one outright."""
    request_id: str = ""
    role: Role = Role.UNKNOWN
    """Only where the payload alone proves it; otherwise it is derived from label and direction."""
    call_direction: Direction = Direction.UNKNOWN
    """Direction of the whole conversation, only where the payload alone proves it."""
    direction: Direction = Direction.UNKNOWN
    """Direction of this leg as sent."""
    from_number: str = ""
    to_number: str = ""
    customer_number: str = ""
    """Only where the payload alone proves it; otherwise it is derived from role and direction."""
    did: str = ""
    agent: AgentRef | None = None
    started_at: datetime | None = None
    """The leg's start."""
    call_started_by: datetime | None = None
    """A time at or before which the conversation had started; says nothing of the leg."""
    extra_params: dict[str, object] = {}
    """Our own parameters that the provider echoes, and fields we do not model."""


class LegCdr(_LegStatement, frozen=True, kw_only=True, omit_defaults=True, tag="cdr"):
    """The provider's final account of a leg."""

    disposition: Disposition | None = None
    """How the leg ended; ``None`` when the row is about money only."""
    answered_at: datetime | None = None
    ended_at: datetime | None = None
    ring_seconds: int | None = None
    talk_seconds: int | None = None
    duration_seconds: int | None = None
    hangup_cause: str = ""
    cost: Decimal | None = None
    balance_after: Decimal | None = None
    recording: str = ""
    """URL or file name of the recording, or of the voicemail when ``voicemail`` is set."""
    voicemail: bool = False
    flags: tuple[str, ...] = ()
    """Values of ``calls.choices.Flag`` that the adapter noticed."""


class LiveEvent(_LegStatement, frozen=True, kw_only=True, omit_defaults=True, tag="event"):
    """Something that happened on a leg while it was up."""

    kind: EventKind
    provider_status: str
    """The provider's own word, as sent."""
    occurred_at: datetime
    """The provider's clock where it tells the time of this event, else our time of arrival."""
    is_answer: bool = False
    """Whether it proves that a person took the leg; an IVR that picks up is no answer."""
    details: dict[str, object] = {}


class Silence(msgspec.Struct, frozen=True, kw_only=True, tag="silence"):
    """Our own inference: nothing was heard of a live conversation for longer than its account allows."""

    aliases: tuple[Alias, ...]
    nothing_since: datetime
    """It closes the conversation as long as no delivery that arrived at or after this moment speaks of it."""


Record = LegCdr | LiveEvent | Silence

_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[Record] = msgspec.json.Decoder(Record)


def dump_record(record: Record) -> str:
    """Return the record as JSON text that ``load_record`` reads back to an equal value."""
    return _encoder.encode(record).decode()


def load_record(text: str) -> Record:
    """Return the record that ``dump_record`` wrote. Raises ``msgspec.DecodeError`` for anything else."""
    return _decoder.decode(text)
