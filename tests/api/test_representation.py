"""Rows as the lists show them are what the serializers, of which the schema is made, say of the same rows."""

import json
from datetime import UTC, timedelta
from decimal import Decimal

import pytest
from django.db import transaction
from django.db.models import Prefetch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from calls.api import representation, serializers
from calls.choices import Direction, Disposition, EventKind, Flag, Label, Reason, Role, State
from calls.models import Conversation, Event, Leg, StaffOutcome
from tests.api.factories import NOON, a_conversation, a_leg, an_agent, an_event

pytestmark = pytest.mark.django_db

# The account is made once; each example rolls back what it wrote.
EACH_ROLLED_BACK = settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
MOMENTS = st.datetimes(
    NOON.replace(year=1971, tzinfo=None), NOON.replace(year=2100, tzinfo=None), timezones=st.just(UTC)
)
MAYBE_MOMENTS = st.none() | MOMENTS | st.just(NOON)
SECONDS = st.none() | st.integers(0, 2**31 - 1)
MONEY = st.none() | st.decimals(-(10**9), 10**9, places=6)
TEXTS = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=20)
JSON = st.dictionaries(TEXTS, st.none() | st.booleans() | st.integers(-(2**53), 2**53) | TEXTS | st.lists(TEXTS))
CALLS = st.fixed_dictionaries(
    {
        "external_id": TEXTS,
        "direction": st.sampled_from(Direction),
        "state": st.sampled_from(State),
        "disposition": st.none() | st.sampled_from(Disposition),
        "reason": st.sampled_from(Reason),
        "customer_number": TEXTS,
        "did": TEXTS,
        "started_at": MOMENTS,
        "answered_at": MAYBE_MOMENTS,
        "ended_at": MAYBE_MOMENTS,
        "ring_seconds": SECONDS,
        "talk_seconds": SECONDS,
        "duration_seconds": SECONDS,
        "cost": MONEY,
        "cost_unit": st.sampled_from(["", "INR", "coins"]),
        "recording": TEXTS,
        "has_voicemail": st.booleans(),
        "hangup_cause": TEXTS,
        "request_id": TEXTS,
        "extra_params": JSON,
        "flags": st.lists(st.sampled_from([flag.value for flag in Flag]), unique=True),
    }
)
LEGS = st.fixed_dictionaries(
    {
        "label": st.sampled_from(Label),
        "role": st.sampled_from(Role),
        "from_number": TEXTS,
        "disposition": st.none() | st.sampled_from(Disposition),
        "started_at": MAYBE_MOMENTS,
        "answered_at": MAYBE_MOMENTS,
        "ended_at": MAYBE_MOMENTS,
        "ring_seconds": SECONDS,
        "talk_seconds": SECONDS,
        "duration_seconds": SECONDS,
        "cost": MONEY,
        "balance_after": MONEY,
        "recording": TEXTS,
    }
)
EVENTS = st.fixed_dictionaries(
    {
        "kind": st.sampled_from(EventKind),
        "provider_status": TEXTS,
        "occurred_at": MOMENTS,
        "received_at": MOMENTS,
        "details": JSON,
    }
)


def by_serializers() -> list[dict]:
    """Return all conversations with their parts as the serializer has them, newest first."""
    events = Event.objects.order_by("occurred_at", "id")
    rows = Conversation.objects.prefetch_related("legs", Prefetch("events", events))
    return plain(serializers.ConversationDetailSerializer(rows, many=True).data)


def plain(shown: object) -> object:
    """Return what a program reads of it."""
    return json.loads(json.dumps(shown))


@EACH_ROLLED_BACK
@given(data=st.data())
def test_conversations_legs_and_events_are_as_the_serializers_say(data: st.DataObject) -> None:
    with transaction.atomic():
        agents = [None, an_agent("202"), an_agent("303", name="")]
        for values in data.draw(st.lists(CALLS, max_size=3)):
            tags = data.draw(st.lists(st.sampled_from(["vip", "refund", "Ärger"]), unique=True))
            call = a_conversation(*tags, **values, agent=data.draw(st.sampled_from(agents)))
            if data.draw(st.booleans()):
                kind = data.draw(st.sampled_from(StaffOutcome.Kind))
                StaffOutcome.objects.create(conversation=call, kind=kind, text=data.draw(TEXTS), set_at=NOON)
            for of_leg in data.draw(st.lists(LEGS, max_size=3)):
                leg = a_leg(call, **of_leg, agent=data.draw(st.sampled_from(agents)))
                for of_event in data.draw(st.lists(EVENTS, max_size=2, unique_by=lambda event: event["kind"])):
                    an_event(leg, **of_event)
        expected = by_serializers()
        shown = plain(representation.conversations(Conversation.objects.all(), serializers.PARTS))
        assert shown == expected
        legs = Leg.objects.order_by("pk")
        by_columns = representation.of_legs(legs.values_list(*representation.LEG_COLUMNS, named=True))
        assert plain(by_columns) == plain(serializers.LegSerializer(legs, many=True).data)
        events = Event.objects.order_by("pk")
        by_columns = representation.of_events(events.values_list(*representation.EVENT_COLUMNS, named=True))
        assert plain(by_columns) == plain(serializers.EventSerializer(events, many=True).data)
        transaction.set_rollback(True)


def test_rows_keep_their_order_and_parts_stay_with_their_own_conversation() -> None:
    calls = [a_conversation(started_at=NOON + timedelta(minutes=minute)) for minute in (3, 1, 2)]
    legs = {call.pk: [a_leg(call, label=label).pk for label in "ab"] for call in calls}
    rows = Conversation.objects.filter(pk__in=[calls[0].pk, calls[1].pk]).order_by("started_at")[:5]
    shown = representation.conversations(rows, ("legs",))
    assert [row["id"] for row in shown] == [str(calls[1].pk), str(calls[0].pk)]
    assert [[leg["id"] for leg in row["legs"]] for row in shown] == [legs[calls[1].pk], legs[calls[0].pk]]
    assert all("events" not in row for row in shown)


def test_only_the_fields_asked_for_are_given_in_the_same_order() -> None:
    a_conversation(cost=Decimal("0.000001"))
    (row,) = representation.conversations(Conversation.objects.all(), fields=["cost", "account"])
    assert list(row.items()) == [("account", "delhi-support"), ("cost", "0.000001")]


def test_every_field_of_the_schema_is_shown_and_no_other() -> None:
    leg = a_leg()
    an_event(leg)
    (row,) = representation.conversations(Conversation.objects.all(), serializers.PARTS)
    assert list(row) == list(serializers.ConversationDetailSerializer().fields)
    assert list(row["legs"][0]) == list(serializers.LegSerializer().fields)
    assert list(row["events"][0]) == list(serializers.EventSerializer().fields)
