"""Where the values of a call came from, in the words of its page."""

from collections.abc import Sequence
from typing import NamedTuple

from calls.models import Conversation, Leg, StoredRecord
from calls.numbers import display
from calls.provenance import Explanation, Origin, Origins, Source, describe, explain
from calls.records import load_record
from calls.summary import LegKey
from calls.templatetags import words
from calls.weblinks import shortened

NAMES = {
    "disposition": "Disposition",
    "customer_number": "Customer’s number",
    "did": "DID",
    "from_number": "From",
    "to_number": "To",
    "direction": "Direction",
    "agent": "Agent",
    "started_at": "Start",
    "answered_at": "Answer",
    "ended_at": "End",
    "ring_seconds": "Ring",
    "talk_seconds": "Talk",
    "duration_seconds": "Whole length",
    "hangup_cause": "Hang-up cause",
    "cost": "Cost",
    "balance_after": "Balance after",
    "recording": "Recording",
    "request_id": "Request",
}
"""What the page calls each value, in the order in which they stand."""
MOST_PARAMETERS = 50
"""Of a call with more, the first are shown."""


class Row(NamedTuple):
    """A value and where it came from; ``sources`` pairs each record with how staff would call it."""

    name: str
    value: str
    origin: Origin
    sources: list[tuple[str, Source]]


class Section(NamedTuple):
    """The values of the call, of one leg, or the call's parameters."""

    title: str
    rows: list[Row]


def sections(call: Conversation, legs: Sequence[Leg]) -> list[Section]:
    """Return the shown values of a call and its legs with their origins; ``[]`` when no record of it is stored."""
    stored = StoredRecord.objects.filter(conversation=call).values_list("body", "received_at", "source")
    explanation = explain((Source(load_record(body), at, source) for body, at, source in stored), call.account.facts)
    if explanation is None:
        return []
    parts = [Section("Whole call", _rows(call, explanation.of_call, call.cost_unit))]
    for leg in legs:
        of_leg = explanation.of_legs.get(LegKey(leg.external_id, leg.label), {})
        title = f"{leg}, {display(str(leg.agent))}" if leg.agent else str(leg)
        parts.append(Section(title, _rows(leg, of_leg, call.cost_unit)))
    return [part for part in [*parts, _parameters(explanation)] if part.rows]


def _rows(subject: Conversation | Leg, origins: Origins, unit: str) -> list[Row]:
    shown = [name for name in NAMES if name in origins and getattr(subject, name) not in (None, "")]
    return [_row(NAMES[name], _text(subject, name, unit), origins[name]) for name in shown]


def _parameters(explanation: Explanation) -> Section:
    origins = list(explanation.of_parameters.items())[:MOST_PARAMETERS]
    rows = [_row(name, words.pretty(explanation.call.extra_params[name]), origin) for name, origin in origins]
    return Section("Parameters", rows)


def _row(name: str, value: str, origin: Origin) -> Row:
    return Row(name, value, origin, [(describe(source.record), source) for source in origin.sources])


def _text(subject: Conversation | Leg, name: str, unit: str) -> str:
    """Return a value as the rest of the page writes it."""
    value = getattr(subject, name)
    if name == "disposition":
        return words.outcome(subject)
    if name == "direction":
        return words.arrow(value)
    if name == "agent":
        return display(str(value))
    if name.endswith("_at"):
        return words.moment(value)
    if name.endswith("_seconds"):
        return words.clock(value)
    if name == "recording":
        return words.shown(shortened(value))
    if name in {"cost", "balance_after"}:
        return words.money(value, unit)
    if name == "did":
        return words.did(value)
    return words.phone(value) if name.endswith("number") else words.shown(value)
