"""Where each value of a call came from: the statement it was taken from, or those it was worked out from. Pure.

It asks ``calls.summary`` which statements speak of a leg, in which order they count, and which leg decides; so an
explanation follows the rules by which the values themselves are picked.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from django.db.models import TextChoices

from calls import summary
from calls.choices import Disposition, EventKind, Reason, Role, State
from calls.records import AccountFacts, LegCdr, LiveEvent, Record, Silence
from calls.summary import CallSummary, Entry, LegKey, LegSummary, Statement, Verdict


class How(TextChoices):
    """How a value came about; the label is the word that staff read."""

    STATED = "stated", "Stated"
    WORKED_OUT = "worked_out", "Worked out"
    INFERRED = "inferred", "Inferred"


class Source(NamedTuple):
    """A record, when its delivery arrived, and the delivery's id; ``None`` for an inference of ours."""

    record: Record
    received_at: datetime
    delivery: UUID | None


class Origin(NamedTuple):
    """How a value came about, from which records, and by which rule where it was not simply stated."""

    how: How
    sources: tuple[Source, ...]
    rule: str = ""


Origins = dict[str, Origin]
"""By the name of the value as ``CallSummary`` and ``LegSummary`` have it; only values that are there."""


class Explanation(NamedTuple):
    """A call with the origins of its values and of those of its legs."""

    call: CallSummary
    of_call: Origins
    of_parameters: Origins
    """By the name of the parameter."""
    of_legs: dict[LegKey, Origins]


_REPORTED = (
    "disposition", "answered_at", "ended_at", "ring_seconds", "talk_seconds", "duration_seconds", "hangup_cause",
    "cost", "balance_after", "recording",
)  # fmt: skip
"""What only a final report states of a leg."""
_TO_END = "from the answer to the end"
_TO_ANSWER = "from the start to the answer"
_WHOLE = "from the start to the end"
_NOT_TAKEN = "nobody took it, so there was no talk"
_RANG_ON = "nobody took it, so it rang until it ended"


def explain(sources: Iterable[Source], facts: AccountFacts) -> Explanation | None:
    """Return where the values of the call that the records amount to came from; ``None`` when they make no call."""
    sources = list(sources)
    call = summary.summarize([Entry(source.record, source.received_at) for source in sources], facts)
    if call is None:
        return None
    ordered = sorted(sources, key=lambda source: summary.precedence(Entry(source.record, source.received_at)))
    spoken = [source for source in ordered if not isinstance(source.record, Silence)]
    by_id = {id(source.record): source for source in spoken}
    statements = [Statement(source.record, source.received_at) for source in spoken]  # type: ignore[arg-type]
    groups = summary.group_by_leg(statements, call.direction)
    of_legs = {
        leg.key: _of_leg(leg, [by_id[id(statement.record)] for statement in groups[leg.key]]) for leg in call.legs
    }
    parameters = {name: source for source in spoken for name in _parameters(source)}
    return Explanation(
        call=call,
        of_call=_of_call(call, of_legs, ordered, spoken),
        of_parameters={name: Origin(How.STATED, (parameters[name],)) for name in call.extra_params},
        of_legs=of_legs,
    )


def describe(record: Record) -> str:
    """Return what kind of statement a record is, and on which leg, as staff would say it."""
    if isinstance(record, Silence):
        return "Nothing was heard"
    leg = f"on the {record.label.upper()}-leg"
    if isinstance(record, LiveEvent):
        return f"Live event “{record.provider_status or record.kind.label.lower()}” {leg}"
    return f"Final report {leg}" if record.disposition is not None else f"Billing row {leg}"


# --- A leg -----------------------------------------------------------------------------------------------------------


def _of_leg(leg: LegSummary, told: Sequence[Source]) -> Origins:
    reports = [source for source in told if isinstance(source.record, LegCdr)]
    origins: Origins = {}
    for name in ("from_number", "to_number", "agent"):
        _put(origins, name, _stated(told, name))
    for name in (*_REPORTED, "started_at"):
        _put(origins, name, _stated(reports, name))
    answer = _first_event(told, is_answer=True)
    hangup = _first_event(told, is_answer=False)
    last_report = reports[-1:]
    if leg.disposition is not None and "disposition" not in origins:
        if leg.is_answered_live:
            origins["disposition"] = _worked([*answer, *(hangup or last_report)], "a live event shows an answer")
        elif leg.has_cdr:
            origins["disposition"] = _worked(last_report, "the report does not say how it ended")
        else:
            origins["disposition"] = _worked(hangup, "a live event shows a hang-up, and none an answer")
    if leg.started_at and "started_at" not in origins:
        origins["started_at"] = _earliest_start(told)
    if leg.ended_at and "ended_at" not in origins:
        if hangup:
            origins["ended_at"] = Origin(How.STATED, tuple(hangup))
        elif leg.duration_seconds is not None and "duration_seconds" in origins:
            origins["ended_at"] = _from(
                origins, "started_at", "duration_seconds", rule="the start and the whole length"
            )
        else:
            first = min(reports, key=lambda source: source.received_at)
            origins["ended_at"] = _worked([first], "the moment at which the final report arrived")
    if leg.answered_at and "answered_at" not in origins:
        if answer and leg.answered_at == _occurred_at(answer[0]):
            origins["answered_at"] = Origin(How.STATED, tuple(answer))
        else:
            origins["answered_at"] = _from(origins, "ended_at", "talk_seconds", rule="the end less the talk")
    _explain_lengths(leg, origins)
    if leg.agent and "agent" not in origins:
        number = _stated(told, "to_number")
        origins["agent"] = _worked(number.sources if number else (), "the number that was rung on this leg")
    return {name: origin for name, origin in origins.items() if getattr(leg, name) not in (None, "")}


def _explain_lengths(leg: LegSummary, origins: Origins) -> None:
    is_answered = leg.disposition == Disposition.ANSWERED
    if leg.duration_seconds is not None and "duration_seconds" not in origins:
        origins["duration_seconds"] = _from(origins, "started_at", "ended_at", rule=_WHOLE)
    if leg.ring_seconds is not None and "ring_seconds" not in origins:
        origins["ring_seconds"] = (
            _from(origins, "started_at", "answered_at", rule=_TO_ANSWER)
            if is_answered
            else _from(origins, "duration_seconds", rule=_RANG_ON)
        )
    if leg.talk_seconds is not None and "talk_seconds" not in origins:
        origins["talk_seconds"] = (
            _from(origins, "answered_at", "ended_at", rule=_TO_END)
            if is_answered
            else _from(origins, "disposition", rule=_NOT_TAKEN)
        )


def _earliest_start(told: Sequence[Source]) -> Origin:
    starts = [
        (time, rule, source)
        for source in told
        for time, rule in (
            (source.record.started_at, ""),  # type: ignore[union-attr]
            (source.record.call_started_by, "the call had started by then"),  # type: ignore[union-attr]
        )
        if time
    ]
    _, rule, source = min(starts, key=lambda start: start[0])
    return Origin(How.STATED, (source,), rule)


def _first_event(told: Sequence[Source], *, is_answer: bool) -> list[Source]:
    """Return the first answer, or the first hang-up, in a list; an empty one when there is none."""
    found = [
        source
        for source in told
        if isinstance(source.record, LiveEvent)
        and (source.record.is_answer if is_answer else source.record.kind == EventKind.HANGUP)
    ]
    return [min(found, key=_occurred_at)] if found else []


# --- The call --------------------------------------------------------------------------------------------------------


def _of_call(
    call: CallSummary, of_legs: dict[LegKey, Origins], ordered: Sequence[Source], spoken: Sequence[Source]
) -> Origins:
    verdict = summary.decide(call.direction, call.legs)
    calls = [source for source in spoken if not summary.only_annotates(source.record)]
    origins: Origins = {}
    _put(origins, "direction", _stated(calls, "call_direction") or _stated(calls, "direction"))
    _put(origins, "request_id", _stated(calls, "request_id"))
    _put(origins, "disposition", _outcome(call, verdict, of_legs, ordered))
    _explain_parties(call, verdict, calls, of_legs, origins)
    _explain_times(call, verdict, calls, of_legs, origins)
    deciding = [verdict.leg, *call.legs] if verdict.leg else call.legs
    for name in ("recording", "hangup_cause"):
        _put(origins, name, next((of_legs[leg.key][name] for leg in deciding if name in of_legs[leg.key]), None))
    costs = [of_legs[leg.key]["cost"] for leg in call.legs if leg.cost is not None]
    if costs:
        origins["cost"] = costs[0] if len(costs) == 1 else _worked(_sources(costs), "the legs’ costs together")
    return origins


def _outcome(
    call: CallSummary, verdict: Verdict, of_legs: dict[LegKey, Origins], ordered: Sequence[Source]
) -> Origin | None:
    if call.state == State.LIVE:
        return None
    rule = call.reason.label
    if call.reason == Reason.SILENCE:
        silences = [source for source in ordered if isinstance(source.record, Silence)]
        return Origin(How.INFERRED, (silences[-1],), rule)
    legs = [verdict.leg] if verdict.leg else []
    if call.reason == Reason.CUSTOMER_CDR and legs:
        return of_legs[legs[0].key]["disposition"]
    if call.reason == Reason.AGENT_ANSWERED_CDR:
        legs = [
            leg for leg in call.legs
            if leg.role == Role.AGENT and leg.has_outcome and leg.disposition == Disposition.ANSWERED
        ][:1]  # fmt: skip
    elif call.reason == Reason.EVENTS_ANSWERED:
        legs += [leg for leg in call.legs if leg.is_answered_live and leg not in legs]
    # The leg that decides may itself have no end: then it is the other legs that show that the call is over.
    found = [of_legs[leg.key]["disposition"] for leg in legs if leg.disposition is not None] or [
        of_legs[leg.key]["disposition"] for leg in call.legs if leg.disposition is not None
    ]
    if call.reason == Reason.ZERO_TALK:
        found += [of_legs[leg.key]["talk_seconds"] for leg in legs]
    return _worked(_sources(found), rule)


def _explain_parties(
    call: CallSummary,
    verdict: Verdict,
    calls: Sequence[Source],
    of_legs: dict[LegKey, Origins],
    origins: Origins,
) -> None:
    customers = [leg for leg in call.legs if leg.role == Role.CUSTOMER]
    ours, theirs = ("from_number", "to_number") if call.direction == "outbound" else ("to_number", "from_number")
    for name, side in (("customer_number", theirs), ("did", ours)):
        of_leg = next((of_legs[leg.key][side] for leg in customers if side in of_legs[leg.key]), None)
        _put(origins, name, _stated(calls, name) or of_leg)
    named = [leg for leg in call.legs if leg.agent and leg.agent == call.agent]
    if named:
        best = max(named, key=lambda leg: (summary.was_taken(leg), leg == verdict.leg, leg.has_outcome))
        origins["agent"] = of_legs[best.key]["agent"]


def _explain_times(
    call: CallSummary,
    verdict: Verdict,
    calls: Sequence[Source],
    of_legs: dict[LegKey, Origins],
    origins: Origins,
) -> None:
    bridge, decider = summary.bridge_of(call, verdict), verdict.leg
    origins["started_at"] = _call_start(call, calls, of_legs)
    if call.answered_at:
        leg = bridge if bridge and bridge.answered_at == call.answered_at else decider
        if leg:
            origins["answered_at"] = of_legs[leg.key]["answered_at"]
    if call.reason == Reason.SILENCE:
        newest = max(calls, key=lambda source: source.received_at)
        origins["ended_at"] = Origin(How.INFERRED, (newest,), "nothing was heard of it any more")
    elif call.ended_at:
        ends = [leg for leg in call.legs if leg.ended_at == call.ended_at]
        origins["ended_at"] = of_legs[(decider if decider in ends else ends[0]).key]["ended_at"]
    if call.duration_seconds is not None:
        if summary.seconds_between(call.started_at, call.ended_at) is not None:
            origins["duration_seconds"] = _from(origins, "started_at", "ended_at", rule=_WHOLE)
        elif decider:
            origins["duration_seconds"] = of_legs[decider.key]["duration_seconds"]
    is_answered = call.disposition == Disposition.ANSWERED
    if call.ring_seconds is not None:
        if is_answered and summary.seconds_between(call.started_at, call.answered_at) is not None:
            origins["ring_seconds"] = _from(origins, "started_at", "answered_at", rule=_TO_ANSWER)
        elif decider and decider.ring_seconds is not None:
            origins["ring_seconds"] = of_legs[decider.key]["ring_seconds"]
        else:
            origins["ring_seconds"] = _from(origins, "duration_seconds", rule=_RANG_ON)
    if call.talk_seconds is not None:
        tellers = [leg for leg in (bridge, decider) if leg and leg.talk_seconds == call.talk_seconds]
        best = [leg for leg in tellers if leg.has_outcome and leg.disposition == Disposition.ANSWERED] or tellers
        if is_answered:
            origins["talk_seconds"] = of_legs[best[0].key]["talk_seconds"]
        else:
            origins["talk_seconds"] = _from(origins, "disposition", rule=_NOT_TAKEN)


def _call_start(call: CallSummary, calls: Sequence[Source], of_legs: dict[LegKey, Origins]) -> Origin:
    for leg in call.legs:
        if leg.started_at == call.started_at:
            return of_legs[leg.key]["started_at"]
    for source in calls:
        if source.record.call_started_by == call.started_at:  # type: ignore[union-attr]
            return Origin(How.STATED, (source,), "the call had started by then")
    first = min(calls, key=lambda source: source.received_at)
    return _worked([first], "no start is known: the first that was heard of it")


# --- Small tools -----------------------------------------------------------------------------------------------------


def _stated(told: Sequence[Source], name: str) -> Origin | None:
    """Return the best statement of a value; the sources stand in order of precedence, the best last."""
    nothing = (None, "", "unknown") if name in {"direction", "call_direction"} else (None, "")
    for source in reversed(told):
        if getattr(source.record, name) not in nothing:
            return Origin(How.STATED, (source,))
    return None


def _put(origins: Origins, name: str, origin: Origin | None) -> None:
    if origin:
        origins[name] = origin


def _worked(sources: Iterable[Source], rule: str) -> Origin:
    """Return a value worked out from ``sources``, each named once."""
    return Origin(How.WORKED_OUT, tuple({id(source.record): source for source in sources}.values()), rule)


def _from(origins: Origins, *names: str, rule: str) -> Origin:
    return _worked(_sources(origins[name] for name in names), rule)


def _sources(origins: Iterable[Origin]) -> list[Source]:
    return [source for origin in origins for source in origin.sources]


def _occurred_at(source: Source) -> datetime:
    return source.record.occurred_at  # type: ignore[union-attr]


def _parameters(source: Source) -> Iterable[str]:
    return source.record.extra_params  # type: ignore[union-attr]
