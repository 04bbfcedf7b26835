"""Where values came from: the statement that is named is the one the summary takes."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from calls.choices import Direction, Disposition, EventKind, Label
from calls.numbers import normalize
from calls.provenance import Explanation, How, Source, explain
from calls.records import AccountFacts, AgentRef, Alias, LegCdr, LiveEvent, Record, Silence
from calls.summary import Entry, summarize

FACTS = AccountFacts(time_zone="Asia/Kolkata", phone_region="IN", app_id="")
START = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
VALUES = [
    "customer_number", "did", "agent", "disposition", "started_at", "answered_at", "ended_at", "ring_seconds",
    "talk_seconds", "duration_seconds", "cost", "recording", "hangup_cause", "request_id",
]  # fmt: skip
OF_LEGS = [name for name in VALUES if name not in {"customer_number", "did", "request_id"}]
OF_LEGS += ["from_number", "to_number", "balance_after"]


@st.composite
def tellings(draw) -> list[Source]:
    """Deliveries about one call of up to four legs, each with an arrival of its own."""
    told = []
    for number in range(draw(st.integers(1, 8))):
        label = draw(st.sampled_from(Label))
        moment = START + timedelta(seconds=draw(st.integers(0, 90)))
        maybe = st.sampled_from([None, moment])
        length = st.sampled_from([None, 0, 5, 13])
        shared = {
            "aliases": (Alias("uuid", "call"),),
            "leg_id": draw(st.sampled_from(["one", "two"])),
            "label": label,
            "conversation_id": draw(st.sampled_from(["", "one"])),
            "request_id": draw(st.sampled_from(["", f"request-{number}"])),
            "call_direction": draw(st.sampled_from(Direction)),
            "direction": draw(st.sampled_from(Direction)),
            "from_number": draw(st.sampled_from(["", "919000000001", "919000000002"])),
            "to_number": draw(st.sampled_from(["", "918000000000"])),
            "customer_number": draw(st.sampled_from(["", "919000000009"])),
            "did": draw(st.sampled_from(["", "918000000009"])),
            "agent": draw(st.sampled_from([None, AgentRef(external_id="202"), AgentRef(phone="919000000003")])),
            "started_at": draw(maybe),
            "call_started_by": draw(maybe),
            "extra_params": draw(st.sampled_from([{}, {"Name": "Akil"}, {"Name": number}])),
        }
        if draw(st.booleans()):
            record: Record = LegCdr(
                **shared,
                disposition=draw(
                    st.sampled_from([None, Disposition.ANSWERED, Disposition.MISSED, Disposition.UNKNOWN])
                ),
                answered_at=draw(maybe),
                ended_at=draw(maybe),
                ring_seconds=draw(length),
                talk_seconds=draw(length),
                duration_seconds=draw(length),
                hangup_cause=draw(st.sampled_from(["", "NORMAL", "BUSY"])),
                cost=draw(st.sampled_from([None, Decimal("0.45"), Decimal(1)])),
                balance_after=draw(st.sampled_from([None, Decimal(100)])),
                recording=draw(st.sampled_from(["", "https://example.com/1.wav"])),
            )
        else:
            kind = draw(st.sampled_from([EventKind.STARTED, EventKind.ANSWERED, EventKind.HANGUP]))
            record = LiveEvent(
                **shared,
                kind=kind,
                provider_status=str(kind),
                occurred_at=moment,
                is_answer=kind == EventKind.ANSWERED,
            )
        told.append(Source(record, START + timedelta(seconds=100 + number), UUID(int=number + 1)))
    if draw(st.booleans()):
        told.append(Source(Silence(aliases=(Alias("uuid", "call"),), nothing_since=START + timedelta(days=1)),
                           START + timedelta(days=1), None))  # fmt: skip
    return told


def explained(told: list[Source]) -> Explanation:
    found = explain(told, FACTS)
    assert found is not None
    return found


def value_of(record: Record, name: str) -> object:
    """Return what a record states of a value, spelled as the summary spells it."""
    if name in {"answered_at", "ended_at"} and isinstance(record, LiveEvent):
        return record.occurred_at
    value = getattr(record, name)
    if name.endswith("number") or name == "did":
        return normalize(value, FACTS.phone_region)
    if isinstance(value, AgentRef):
        return AgentRef(value.external_id, normalize(value.phone, FACTS.phone_region), value.name)
    return value


def other(record: Record, name: str) -> Record:
    """Return the record with another value in the field, such that it is still preferred where the first counts."""
    if name in {"answered_at", "ended_at"} and isinstance(record, LiveEvent):
        name = "occurred_at"
    value = getattr(record, name)
    if isinstance(value, Disposition):
        changed: object = Disposition.FAILED
    elif isinstance(value, datetime):
        changed = value - timedelta(microseconds=1)
    elif isinstance(value, AgentRef):
        changed = AgentRef(external_id="another")
    else:
        changed = value + ("7" if isinstance(value, str) else 1)
    return msgspec.structs.replace(record, **{name: changed})


@given(told=tellings())
def test_every_value_has_an_origin_and_only_values_do(told):
    found = explained(told)
    shown = {name for name in VALUES if getattr(found.call, name) not in (None, "")}
    assert shown == {name for name in found.of_call if name in VALUES}
    assert found.of_parameters.keys() == found.call.extra_params.keys()
    for leg in found.call.legs:
        shown = {name for name in OF_LEGS if getattr(leg, name) not in (None, "")}
        assert shown == found.of_legs[leg.key].keys()
        assert all(origin.sources for origin in found.of_legs[leg.key].values())
    assert all(origin.sources for origin in found.of_call.values())


@given(told=tellings())
def test_what_is_stated_is_what_the_named_record_says_and_the_one_the_summary_takes(told):
    found = explained(told)
    for leg in found.call.legs:
        for name, origin in found.of_legs[leg.key].items():
            if origin.how != How.STATED:
                continue
            (source,) = origin.sources
            field = "call_started_by" if origin.rule else name
            assert value_of(source.record, field) == getattr(leg, name), name
            if name == "started_at" and isinstance(source.record, LegCdr) and source.record.started_at is None:
                continue
            changed = other(source.record, field)
            entries = [Entry(changed if one is source else one.record, one.received_at) for one in told]
            again = summarize(entries, FACTS)
            assert again is not None
            (same,) = [one for one in again.legs if one.key == leg.key]
            assert getattr(same, name) == value_of(changed, field), name


@given(told=tellings())
def test_the_call_has_its_values_from_where_its_explanation_says(told):
    found = explained(told)
    for name in (
        "customer_number",
        "did",
        "agent",
        "recording",
        "hangup_cause",
        "started_at",
        "answered_at",
        "ended_at",
    ):
        origin = found.of_call.get(name)
        if origin is None or origin.how != How.STATED:
            continue
        legs = [
            leg for leg in found.call.legs for value, of_leg in found.of_legs[leg.key].items()
            if of_leg.sources == origin.sources and getattr(leg, value) == getattr(found.call, name)
        ]  # fmt: skip
        (source,) = origin.sources
        fields = ["call_started_by"] if origin.rule else [name]
        assert legs or getattr(found.call, name) in [value_of(source.record, field) for field in fields]


@given(told=tellings())
def test_what_is_worked_out_needs_no_other_record_than_the_named_ones(told):
    # The direction, which any record may tell, decides which legs are one; so let every record tell it.
    direction = explained(told).call.direction
    told = [
        one._replace(record=msgspec.structs.replace(one.record, call_direction=direction))
        for one in told
        if not isinstance(one.record, Silence)
    ]
    found = explained(told)
    for leg in found.call.legs:
        origins = found.of_legs[leg.key]
        for name in ("started_at", "answered_at", "ended_at", "ring_seconds", "talk_seconds", "duration_seconds"):
            origin = origins.get(name)
            if origin is None or origin.how == How.STATED:
                continue
            # Which rule applies depends on how the leg ended and, for its end, on when it started.
            asked = [origin, *(origins[one] for one in ("disposition", "started_at") if one in origins)]
            needed = {id(source.record) for one in asked for source in one.sources}
            alone = summarize([Entry(one.record, one.received_at) for one in told if id(one.record) in needed], FACTS)
            assert alone is not None
            assert getattr(leg, name) in [getattr(one, name) for one in alone.legs], name


@given(told=tellings(), seed=st.randoms(use_true_random=False))
def test_an_explanation_does_not_depend_on_order(told, seed):
    before = explain(told, FACTS)
    shuffled = list(told)
    seed.shuffle(shuffled)
    assert explain(shuffled, FACTS) == before


def test_a_later_report_of_the_same_leg_is_the_one_that_counts():
    def report(number: int, talk: int) -> Source:
        cdr = LegCdr(
            aliases=(Alias("uuid", "call"),), leg_id="one", label=Label.A, disposition=Disposition.ANSWERED,
            started_at=START, talk_seconds=talk, cost=Decimal("0.45") if number == 1 else None,
        )  # fmt: skip
        return Source(cdr, START + timedelta(seconds=60 + number), UUID(int=number))

    first, second = report(1, 13), report(2, 14)
    found = explained([second, first])
    (leg,) = found.of_legs.values()
    assert leg["talk_seconds"].sources == (second,)
    assert leg["cost"].sources == (first,)
    assert found.of_call["talk_seconds"].sources == (second,)


def test_a_call_closed_for_silence_is_said_to_be_so():
    event = LiveEvent(
        aliases=(Alias("uuid", "call"),), leg_id="one", label=Label.A, kind=EventKind.STARTED,
        provider_status="started", occurred_at=START,
    )  # fmt: skip
    silence = Silence(aliases=event.aliases, nothing_since=START + timedelta(hours=4))
    found = explained([Source(event, START, UUID(int=1)), Source(silence, START + timedelta(hours=4), None)])
    assert found.of_call["disposition"].how == found.of_call["ended_at"].how == How.INFERRED
    assert found.of_call["ended_at"].sources[0].delivery == UUID(int=1)


def test_records_that_make_no_call_have_no_explanation():
    event = LiveEvent(
        aliases=(Alias("uuid", "one"),), leg_id="one", label=Label.A, kind=EventKind.STREAM_CONNECTED,
        provider_status="stream_connected", occurred_at=START,
    )  # fmt: skip
    assert explain([Source(event, START, UUID(int=1))], FACTS) is None
