"""From the records of one conversation to its rows: pure, and a function of the *set* of records.

Order, repetition and batching cannot matter because nothing here looks at them: every column is picked from all records
at once. A column takes the value that is best by (final report over live event, time of arrival among reports, the
provider's clock among events), and nothing never beats something. This module says, once, which leg decides.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import NamedTuple, TypeVar

from calls.choices import (
    STREAM_KINDS,
    Direction,
    Disposition,
    EventKind,
    Flag,
    Label,
    Reason,
    Role,
    State,
)
from calls.numbers import normalize
from calls.records import AccountFacts, AgentRef, Alias, LegCdr, LiveEvent, Record, Silence

RULES_VERSION = 1
"""Raised when the same records come to mean another outcome; the page of a call names it beside the rule."""
LONGEST_CALL = timedelta(days=1)
"""Two times of one call that lie further apart come from two clocks; no length is worked out from them."""
PROMPT_REPORT = timedelta(minutes=10)
"""A final report that arrives this soon after the call could have ended tells when it ended."""


class Entry(NamedTuple):
    """A record and when the delivery that told it arrived."""

    record: Record
    received_at: datetime


class Statement(NamedTuple):
    """An entry that a provider made, not we."""

    record: LegCdr | LiveEvent
    received_at: datetime


class LegKey(NamedTuple):
    """A leg's identity within its conversation."""

    external_id: str
    label: str


@dataclass(slots=True)
class LegSummary:
    """The derived columns of a leg; ``calls.models.Leg`` has the same names."""

    key: LegKey
    role: Role = Role.UNKNOWN
    direction: Direction = Direction.UNKNOWN
    from_number: str = ""
    to_number: str = ""
    agent: AgentRef | None = None
    disposition: Disposition | None = None
    started_at: datetime | None = None
    answered_at: datetime | None = None
    ended_at: datetime | None = None
    ring_seconds: int | None = None
    talk_seconds: int | None = None
    duration_seconds: int | None = None
    hangup_cause: str = ""
    cost: Decimal | None = None
    balance_after: Decimal | None = None
    recording: str = ""
    has_cdr: bool = False
    reported_at: datetime | None = None
    """First arrival of a final report."""
    has_outcome: bool = False
    """Whether a final report says how it ended; a billing row does not."""
    is_over: bool = False
    is_answered_live: bool = False
    """Whether a live event shows that a person took it."""


@dataclass(slots=True, frozen=True)
class EventSummary:
    """The derived columns of an event."""

    kind: EventKind
    leg_key: LegKey
    """As the provider names the leg, also when no such leg is known."""
    leg: LegKey | None
    """The leg of ours that it happened on."""
    provider_status: str
    occurred_at: datetime
    received_at: datetime
    details: dict[str, object]


@dataclass(slots=True)
class CallSummary:
    """The derived columns of a conversation, with its legs and events."""

    legs: list[LegSummary]
    events: list[EventSummary]
    aliases: frozenset[Alias]
    external_id: str = ""
    direction: Direction = Direction.UNKNOWN
    state: State = State.LIVE
    disposition: Disposition | None = None
    reason: Reason = Reason.LIVE
    customer_number: str = ""
    did: str = ""
    agent: AgentRef | None = None
    started_at: datetime | None = None
    answered_at: datetime | None = None
    ended_at: datetime | None = None
    ring_seconds: int | None = None
    talk_seconds: int | None = None
    duration_seconds: int | None = None
    cost: Decimal | None = None
    recording: str = ""
    has_voicemail: bool = False
    hangup_cause: str = ""
    request_id: str = ""
    extra_params: dict[str, object] = field(default_factory=dict)
    flags: list[str] = field(default_factory=list)
    last_heard_at: datetime | None = None


class Verdict(NamedTuple):
    """How a conversation stands, why, and which leg says so."""

    state: State
    disposition: Disposition | None
    reason: Reason
    leg: LegSummary | None


LIVE = Verdict(State.LIVE, None, Reason.LIVE, None)


def summarize(entries: Iterable[Entry], facts: AccountFacts) -> CallSummary | None:
    """Return what the records of one conversation amount to, or ``None`` when none of them speaks of a call.

    Media stream events alone do not: they wait for the leg they belong to.
    """
    ordered = sorted(entries, key=precedence)
    statements = [
        Statement(entry.record, entry.received_at) for entry in ordered if not isinstance(entry.record, Silence)
    ]
    calls = [entry for entry in statements if not only_annotates(entry.record)]
    if not calls:
        return None
    direction = _direction(calls)
    groups = group_by_leg(statements, direction)
    legs = [_leg(key, groups[key], facts) for key in sorted(groups, key=lambda key: (key.label, key.external_id))]
    _assign_roles(legs, direction, groups, facts)
    verdict = _close_if_silent(decide(direction, legs), ordered, statements)
    call = CallSummary(
        legs=legs,
        events=_events(statements, groups),
        aliases=frozenset(alias for entry in ordered for alias in entry.record.aliases),
        external_id=_best(calls, lambda record: record.conversation_id) or _fallback_id(calls),
        direction=direction,
        state=verdict.state,
        disposition=verdict.disposition,
        reason=verdict.reason,
        request_id=_best(calls, lambda record: record.request_id) or "",
        last_heard_at=max(entry.received_at for entry in statements),
    )
    for entry in statements:
        call.extra_params |= entry.record.extra_params
    _fill_parties(call, verdict, calls, facts)
    _fill_times(call, verdict, calls)
    _fill_rest(call, verdict, calls)
    return call


# --- Which leg decides -----------------------------------------------------------------------------------------------


def decide(direction: Direction, legs: Sequence[LegSummary]) -> Verdict:
    return _decide_outbound(legs) if direction == Direction.OUTBOUND else _decide_inbound(legs)


def _decide_inbound(legs: Sequence[LegSummary]) -> Verdict:
    """The caller's leg decides, or any agent's leg that was answered; an agent who did not pick up never does."""
    agents = [leg for leg in legs if leg.role == Role.AGENT]
    caller = next((leg for leg in legs if leg.role != Role.AGENT), None)
    taken = next((leg for leg in agents if leg.has_outcome and leg.disposition == Disposition.ANSWERED), None)
    if caller and caller.has_outcome and (caller.disposition == Disposition.ANSWERED or not taken):
        return Verdict(State.ENDED, caller.disposition, Reason.CUSTOMER_CDR, caller)
    if taken:
        return Verdict(State.ENDED, Disposition.ANSWERED, Reason.AGENT_ANSWERED_CDR, caller or taken)
    if caller and caller.is_over:
        if caller.is_answered_live or any(leg.is_answered_live for leg in agents):
            return Verdict(State.ENDED, Disposition.ANSWERED, Reason.EVENTS_ANSWERED, caller)
        if caller.has_cdr:
            return Verdict(State.ENDED, Disposition.UNKNOWN, Reason.BILLING_ONLY, caller)
        return Verdict(State.ENDED, Disposition.MISSED, Reason.EVENTS_UNANSWERED, caller)
    return LIVE


def _decide_outbound(legs: Sequence[LegSummary]) -> Verdict:
    """The customer's leg decides; the agent's, who is rung first, only when no customer was ever rung."""
    customers = [leg for leg in legs if leg.role == Role.CUSTOMER]
    agent = next((leg for leg in legs if leg.role != Role.CUSTOMER), None)
    reported = [leg for leg in customers if leg.has_outcome]
    answered = [leg for leg in reported if leg.disposition == Disposition.ANSWERED]
    if answered:
        leg = max(answered, key=lambda leg: (leg.talk_seconds or 0, leg.key))
        if len(legs) == 1 and leg.key.label == Label.A and leg.talk_seconds == 0:
            return Verdict(State.ENDED, Disposition.MISSED, Reason.ZERO_TALK, leg)
        return Verdict(State.ENDED, Disposition.ANSWERED, Reason.CUSTOMER_CDR, leg)
    is_over = bool(agent and agent.is_over) or (bool(customers) and all(leg.is_over for leg in customers))
    if not is_over:
        return LIVE
    if any(leg.is_answered_live for leg in customers if not leg.has_outcome):
        leg = next(leg for leg in customers if leg.is_answered_live and not leg.has_outcome)
        return Verdict(State.ENDED, Disposition.ANSWERED, Reason.EVENTS_ANSWERED, leg)
    if reported:
        leg = max(reported, key=lambda leg: (_stamp(leg.started_at), leg.key))
        return Verdict(State.ENDED, leg.disposition, Reason.CUSTOMER_CDR, leg)
    if customers:
        leg = max(customers, key=lambda leg: (_stamp(leg.started_at), leg.key))
        if leg.has_cdr:
            return Verdict(State.ENDED, Disposition.UNKNOWN, Reason.BILLING_ONLY, leg)
        return Verdict(State.ENDED, Disposition.MISSED, Reason.EVENTS_UNANSWERED, leg)
    if agent and agent.disposition in {Disposition.ANSWERED, Disposition.UNKNOWN}:
        return Verdict(State.ENDED, Disposition.UNKNOWN, Reason.CUSTOMER_UNREPORTED, agent)
    if agent and agent.has_outcome:
        return Verdict(State.ENDED, agent.disposition, Reason.AGENT_MISSED_CDR, agent)
    return Verdict(State.ENDED, Disposition.MISSED, Reason.EVENTS_UNANSWERED, agent)


def _close_if_silent(verdict: Verdict, entries: Sequence[Entry], statements: Sequence[Statement]) -> Verdict:
    """Close a live call that fell silent; any later delivery reopens it."""
    silent = [entry.record.nothing_since for entry in entries if isinstance(entry.record, Silence)]
    if verdict is LIVE and silent and max(silent) > max(entry.received_at for entry in statements):
        return Verdict(State.ENDED, Disposition.UNKNOWN, Reason.SILENCE, None)
    return verdict


# --- Legs ------------------------------------------------------------------------------------------------------------


def group_by_leg(statements: Sequence[Statement], direction: Direction) -> dict[LegKey, list[Statement]]:
    """Return the statements of each leg. What only annotates joins the leg it names and never makes one of its own."""
    keys: dict[LegKey, LegKey] = {}
    for entry in statements:
        record = entry.record
        if not only_annotates(record) and not _is_billing(record):
            keys[_key(record)] = _key(record)
    if direction == Direction.INBOUND:
        _join_caller_legs(keys, statements)
    groups: dict[LegKey, list[Statement]] = {}
    for entry in statements:
        record = entry.record
        key = keys.get(_key(record)) or next((keys[k] for k in sorted(keys) if k.external_id == record.leg_id), None)
        if key is None and _is_billing(record):
            key = next((keys[k] for k in sorted(keys)), None) or _key(record)
        if key is not None:
            groups.setdefault(key, []).append(entry)
    return groups


def _join_caller_legs(keys: dict[LegKey, LegKey], statements: Sequence[Statement]) -> None:
    """Let all caller's legs of an inbound call be one: there is one caller.

    TeleCMI's report on an inbound call may carry the id of the agent's leg (observed live: cdr_in_answered_live).
    """
    named = {entry.record.conversation_id for entry in statements}
    callers = sorted(key for key in keys if key.label == Label.A)
    if len(callers) > 1:
        chosen = next((key for key in callers if key.external_id in named), callers[0])
        keys.update(dict.fromkeys(callers, chosen))


def _leg(key: LegKey, entries: Sequence[Statement], facts: AccountFacts) -> LegSummary:
    cdrs = [entry for entry in entries if isinstance(entry.record, LegCdr)]
    events = [entry.record for entry in entries if isinstance(entry.record, LiveEvent)]
    hangups = [event.occurred_at for event in events if event.kind == EventKind.HANGUP]
    answers = [event.occurred_at for event in events if event.is_answer]
    leg = LegSummary(
        key=key,
        role=_best(entries, lambda record: _known(record.role)) or Role.UNKNOWN,
        direction=_best(entries, lambda record: _known(record.direction)) or Direction.UNKNOWN,
        from_number=normalize(_best(entries, lambda record: record.from_number) or "", facts.phone_region),
        to_number=normalize(_best(entries, lambda record: record.to_number) or "", facts.phone_region),
        agent=_agent(_best(entries, lambda record: record.agent), facts),
        disposition=_cdr(cdrs, lambda cdr: cdr.disposition),
        started_at=_cdr(cdrs, lambda cdr: cdr.started_at) or _leg_start(entries),
        answered_at=_cdr(cdrs, lambda cdr: cdr.answered_at),
        ended_at=_cdr(cdrs, lambda cdr: cdr.ended_at),
        ring_seconds=_cdr(cdrs, lambda cdr: cdr.ring_seconds),
        talk_seconds=_cdr(cdrs, lambda cdr: cdr.talk_seconds),
        duration_seconds=_cdr(cdrs, lambda cdr: cdr.duration_seconds),
        hangup_cause=_cdr(cdrs, lambda cdr: cdr.hangup_cause) or "",
        cost=_cdr(cdrs, lambda cdr: cdr.cost),
        balance_after=_cdr(cdrs, lambda cdr: cdr.balance_after),
        recording=_cdr(cdrs, lambda cdr: cdr.recording) or "",
        has_cdr=bool(cdrs),
        reported_at=min((entry.received_at for entry in cdrs), default=None),
        is_over=bool(cdrs or hangups),
        is_answered_live=bool(answers),
    )
    leg.has_outcome = leg.disposition is not None
    if leg.is_over and not leg.has_outcome:
        leg.disposition = _inferred_disposition(leg)
    is_answered = leg.disposition == Disposition.ANSWERED
    if answers and (is_answered or not leg.is_over):
        leg.answered_at = leg.answered_at or min(answers)
    leg.ended_at = leg.ended_at or min(hangups, default=None) or _end_by_report(leg)
    if is_answered and leg.has_cdr and leg.ended_at and leg.talk_seconds is not None and not leg.answered_at:
        leg.answered_at = leg.ended_at - timedelta(seconds=leg.talk_seconds)
    _fill_leg_lengths(leg)
    return leg


def _inferred_disposition(leg: LegSummary) -> Disposition:
    if leg.is_answered_live:
        return Disposition.ANSWERED
    return Disposition.UNKNOWN if leg.has_cdr else Disposition.MISSED


def _leg_start(entries: Sequence[Statement]) -> datetime | None:
    times = (time for entry in entries for time in (entry.record.started_at, entry.record.call_started_by) if time)
    return min(times, default=None)


def _end_by_report(leg: LegSummary) -> datetime | None:
    """Return when a reported leg ended where the report itself gives only lengths, or ``None``."""
    if not leg.started_at or not leg.reported_at:
        return None
    if leg.duration_seconds is not None:
        return leg.started_at + timedelta(seconds=leg.duration_seconds)
    earliest = leg.started_at + timedelta(seconds=(leg.ring_seconds or 0) + (leg.talk_seconds or 0))
    return leg.reported_at if timedelta(0) <= leg.reported_at - earliest <= PROMPT_REPORT else None


def _fill_leg_lengths(leg: LegSummary) -> None:
    if leg.disposition == Disposition.ANSWERED:
        leg.ring_seconds = _first(leg.ring_seconds, seconds_between(leg.started_at, leg.answered_at))
        leg.talk_seconds = _first(leg.talk_seconds, seconds_between(leg.answered_at, leg.ended_at))
    leg.duration_seconds = _first(leg.duration_seconds, seconds_between(leg.started_at, leg.ended_at))
    if leg.is_over and leg.disposition not in {Disposition.ANSWERED, Disposition.UNKNOWN}:
        leg.talk_seconds = _first(leg.talk_seconds, 0)
        leg.ring_seconds = _first(leg.ring_seconds, leg.duration_seconds)


def _assign_roles(
    legs: Sequence[LegSummary], direction: Direction, groups: dict[LegKey, list[Statement]], facts: AccountFacts
) -> None:
    """Derive whose leg is whose where no payload proves it: the letters swap their meaning with the direction."""
    has_b = any(leg.key.label == Label.B for leg in legs)
    for leg in legs:
        is_a = leg.key.label == Label.A
        if leg.role != Role.UNKNOWN:
            continue
        if direction == Direction.OUTBOUND:
            leg.role = Role.AGENT if is_a and has_b else Role.CUSTOMER
            if leg.role == Role.AGENT and leg.agent is None:
                number = _best(groups[leg.key], lambda record: record.to_number)
                leg.agent = _agent(AgentRef(phone=number) if number else None, facts)
        else:
            leg.role = Role.CUSTOMER if is_a else Role.AGENT


# --- Events ----------------------------------------------------------------------------------------------------------


def _events(statements: Sequence[Statement], groups: dict[LegKey, list[Statement]]) -> list[EventSummary]:
    """Return one event for each (kind, leg, word); of copies, the first that was told."""
    hosts = {id(entry.record): key for key, entries in groups.items() for entry in entries}
    events: dict[tuple[object, ...], EventSummary] = {}
    for entry in statements:
        record = entry.record
        if not isinstance(record, LiveEvent):
            continue
        identity = (record.kind, _key(record), record.provider_status)
        event = EventSummary(
            kind=record.kind,
            leg_key=_key(record),
            leg=hosts.get(id(record)),
            provider_status=record.provider_status,
            occurred_at=record.occurred_at,
            received_at=entry.received_at,
            details=record.details,
        )
        known = events.get(identity)
        if known is None or (event.received_at, event.occurred_at, repr(event.details)) < (
            known.received_at,
            known.occurred_at,
            repr(known.details),
        ):
            events[identity] = event
    return sorted(events.values(), key=lambda event: (event.occurred_at, event.received_at, event.kind, event.leg_key))


# --- The conversation's columns --------------------------------------------------------------------------------------


def _direction(calls: Sequence[Statement]) -> Direction:
    return (
        _best(calls, lambda record: _known(record.call_direction))
        or _best(calls, lambda record: _known(record.direction))
        or Direction.UNKNOWN
    )


def _fill_parties(call: CallSummary, verdict: Verdict, calls: Sequence[Statement], facts: AccountFacts) -> None:
    customers = [leg for leg in call.legs if leg.role == Role.CUSTOMER]
    is_outbound = call.direction == Direction.OUTBOUND
    customer = _best(calls, lambda record: record.customer_number)
    did = _best(calls, lambda record: record.did)
    call.customer_number = (
        normalize(customer, facts.phone_region)
        if customer
        else _first_text(leg.to_number if is_outbound else leg.from_number for leg in customers)
    )
    call.did = (
        normalize(did, facts.phone_region)
        if did
        else _first_text(leg.from_number if is_outbound else leg.to_number for leg in customers)
    )
    answered = [leg for leg in call.legs if leg.role == Role.AGENT and leg.agent and was_taken(leg)]
    named = {leg.agent for leg in call.legs if leg.agent}
    if answered:
        call.agent = max(answered, key=lambda leg: (leg.has_outcome, leg.talk_seconds or 0, leg.key)).agent
    elif verdict.leg and verdict.leg.agent:
        call.agent = verdict.leg.agent
    elif len(named) == 1:
        call.agent = named.pop()


def _fill_times(call: CallSummary, verdict: Verdict, calls: Sequence[Statement]) -> None:
    starts = [leg.started_at for leg in call.legs if leg.started_at]
    starts += [record.call_started_by for record, _ in calls if record.call_started_by]
    call.started_at = min(starts) if starts else min(entry.received_at for entry in calls)
    bridge = bridge_of(call, verdict)
    if call.disposition == Disposition.ANSWERED or call.state == State.LIVE:
        call.answered_at = bridge.answered_at if bridge else None
    if call.state == State.LIVE:
        return
    if call.reason == Reason.SILENCE:
        call.ended_at = call.last_heard_at
        return
    ends = [leg.ended_at for leg in call.legs if leg.ended_at]
    call.ended_at = (verdict.leg.ended_at if verdict.leg else None) or max(ends, default=None)
    call.duration_seconds = seconds_between(call.started_at, call.ended_at)
    if call.duration_seconds is None and verdict.leg:
        call.duration_seconds = verdict.leg.duration_seconds
    if call.disposition == Disposition.ANSWERED:
        call.talk_seconds = _talk(call, verdict, bridge)
        if call.answered_at is None and verdict.leg:
            call.answered_at = verdict.leg.answered_at
        call.ring_seconds = _first(
            seconds_between(call.started_at, call.answered_at), verdict.leg.ring_seconds if verdict.leg else None
        )
    elif call.disposition != Disposition.UNKNOWN:
        call.talk_seconds = 0
        call.ring_seconds = _first(verdict.leg.ring_seconds if verdict.leg else None, call.duration_seconds)


def bridge_of(call: CallSummary, verdict: Verdict) -> LegSummary | None:
    """Return the leg whose answer joined customer and agent: the one rung second, else another that was taken."""
    second = Role.CUSTOMER if call.direction == Direction.OUTBOUND else Role.AGENT
    taken = [leg for leg in call.legs if was_taken(leg) and leg.answered_at]
    bridges = [leg for leg in taken if leg.role == second] or taken
    if not bridges:
        return verdict.leg
    return max(bridges, key=lambda leg: (leg.has_outcome, leg.talk_seconds or 0, -_stamp(leg.answered_at), leg.key))


def _talk(call: CallSummary, verdict: Verdict, bridge: LegSummary | None) -> int | None:
    """A length that a final report gives is worth more than one worked out from live events."""
    for leg in (bridge, verdict.leg):
        if leg and leg.has_outcome and leg.talk_seconds is not None and leg.disposition == Disposition.ANSWERED:
            return leg.talk_seconds
    return bridge.talk_seconds if bridge else None


def _fill_rest(call: CallSummary, verdict: Verdict, calls: Sequence[Statement]) -> None:
    cdrs = [record for record, _ in calls if isinstance(record, LegCdr)]
    costs = [leg.cost for leg in call.legs if leg.cost is not None]
    call.cost = sum(costs, Decimal(0)) if costs else None
    legs = [verdict.leg, *call.legs] if verdict.leg else call.legs
    call.recording = _first_text(leg.recording for leg in legs)
    call.hangup_cause = _first_text(leg.hangup_cause for leg in legs)
    call.has_voicemail = any(cdr.voicemail for cdr in cdrs)
    flags = {flag for cdr in cdrs for flag in cdr.flags}
    times = [leg.ended_at or leg.answered_at for leg in call.legs if leg.ended_at or leg.answered_at]
    if call.started_at and any(abs(time - call.started_at) > LONGEST_CALL for time in times if time):
        flags.add(Flag.CLOCK_SKEW)
    call.flags = sorted(str(flag) for flag in flags)


# --- Small tools -----------------------------------------------------------------------------------------------------

Value = TypeVar("Value")
Word = TypeVar("Word", Role, Direction)


def _key(record: LegCdr | LiveEvent) -> LegKey:
    return LegKey(record.leg_id, str(record.label))


def only_annotates(record: Record) -> bool:
    return isinstance(record, LiveEvent) and record.kind in STREAM_KINDS


def _is_billing(record: Record) -> bool:
    return isinstance(record, LegCdr) and record.disposition is None


class _Spelling:
    """All that a record says, as text: it costs more than all else here, so it is written only to tell two apart."""

    def __init__(self, record: Record) -> None:
        self._record = record

    def __eq__(self, other: object) -> bool:
        return repr(self) == repr(other)

    def __lt__(self, other: "_Spelling") -> bool:
        return repr(self) < repr(other)

    def __hash__(self) -> int:
        return hash(repr(self))

    def __repr__(self) -> str:
        return repr(self._record)


def precedence(entry: Entry) -> tuple[int, float, float, _Spelling]:
    """Sort key: worst first. All reports of a leg speak of the same moment, its end, so the later arrival corrects."""
    record = entry.record
    spelling = _Spelling(record)
    if isinstance(record, LiveEvent):
        return 1, record.occurred_at.timestamp(), entry.received_at.timestamp(), spelling
    if isinstance(record, LegCdr):
        return (2 if _is_billing(record) else 3), 0.0, entry.received_at.timestamp(), spelling
    return 0, record.nothing_since.timestamp(), 0.0, spelling


def _best(entries: Sequence[Statement], read: Callable[[LegCdr | LiveEvent], Value | None]) -> Value | None:
    """Return the best non-empty value; the entries stand in order of precedence."""
    for entry in reversed(entries):
        value = read(entry.record)
        if value not in (None, ""):
            return value
    return None


def _cdr(entries: Sequence[Statement], read: Callable[[LegCdr], Value | None]) -> Value | None:
    return _best(entries, lambda record: read(record) if isinstance(record, LegCdr) else None)


def _known(word: Word) -> Word | None:
    return None if word == "unknown" else word


def _agent(ref: AgentRef | None, facts: AccountFacts) -> AgentRef | None:
    if ref is None:
        return None
    return AgentRef(external_id=ref.external_id, phone=normalize(ref.phone, facts.phone_region), name=ref.name)


def was_taken(leg: LegSummary) -> bool:
    return leg.disposition == Disposition.ANSWERED or (not leg.is_over and leg.is_answered_live)


def _fallback_id(calls: Sequence[Statement]) -> str:
    return _best(calls, lambda record: record.request_id) or min(entry.record.leg_id for entry in calls)


def seconds_between(start: datetime | None, end: datetime | None) -> int | None:
    if start is None or end is None or not timedelta(0) <= end - start <= LONGEST_CALL:
        return None
    return round((end - start).total_seconds())


def _stamp(time: datetime | None) -> float:
    return time.timestamp() if time else 0.0


def _first(*values: int | None) -> int | None:
    return next((value for value in values if value is not None), None)


def _first_text(values: Iterable[str]) -> str:
    return next((value for value in values if value), "")
