"""Rows for the API's tests: each function makes one, with values that may be given by name."""

import itertools
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from django.test import Client

from calls.choices import AlertKind, Direction, Disposition, EventKind, Label, Role, Scope, State
from calls.ids import new_id
from calls.models import (
    Account,
    Agent,
    Alert,
    AlertRule,
    ApiKey,
    BalanceReading,
    Conversation,
    Event,
    Leg,
    StoredRecord,
    Tag,
)
from webhooks.models import Delivery

NOON = datetime(2021, 9, 22, 12, 0, tzinfo=UTC)
_numbers = itertools.count(1)


def an_account(slug: str = "delhi-support", **values: Any) -> Account:
    found = Account.objects.filter(slug=slug).first()
    return found or Account.objects.create(slug=slug, **({"provider": "piopiy"} | values))


def an_agent(external_id: str = "202", **values: Any) -> Agent:
    account = values.pop("account", None) or an_account()
    return Agent.objects.create(account=account, external_id=external_id, **({"name": "Asha"} | values))


def a_conversation(*tags: str, **values: Any) -> Conversation:
    """An answered inbound call of 18 seconds, or whatever ``values`` make of it."""
    started = values.get("started_at", NOON)
    defaults = {
        "account": values.get("account") or an_account(),
        "external_id": f"call-{next(_numbers)}",
        "direction": Direction.INBOUND,
        "state": State.ENDED,
        "disposition": Disposition.ANSWERED,
        "reason": "customer_cdr",
        "customer_number": "+919000000001",
        "did": "+918000000000",
        "started_at": started,
        "answered_at": started + timedelta(seconds=5),
        "ended_at": started + timedelta(seconds=18),
        "ring_seconds": 5,
        "talk_seconds": 13,
        "duration_seconds": 18,
        "cost": Decimal("0.45"),
        "cost_unit": "INR",
        "last_heard_at": started,
    }
    conversation = Conversation.objects.create(**(defaults | values))
    conversation.tags.set([Tag.objects.get_or_create(name=name)[0] for name in tags])
    return conversation


def a_live_conversation(**values: Any) -> Conversation:
    unknown = dict.fromkeys(["disposition", "answered_at", "ended_at", "ring_seconds", "talk_seconds"])
    unknown |= dict.fromkeys(["duration_seconds", "cost"])
    return a_conversation(**(unknown | {"state": State.LIVE, "reason": "live", "cost_unit": ""} | values))


def a_leg(conversation: Conversation | None = None, **values: Any) -> Leg:
    conversation = conversation or a_conversation()
    defaults = {
        "account": conversation.account,
        "conversation": conversation,
        "external_id": f"leg-{next(_numbers)}",
        "label": Label.A,
        "role": Role.CUSTOMER,
        "direction": conversation.direction,
        "from_number": "+919000000001",
        "to_number": "+918000000000",
        "disposition": conversation.disposition,
        "started_at": conversation.started_at,
    }
    return Leg.objects.create(**(defaults | values))


def an_event(leg: Leg | None = None, **values: Any) -> Event:
    leg = leg or a_leg()
    defaults = {
        "account": leg.account,
        "conversation": leg.conversation,
        "leg": leg,
        "leg_external_id": leg.external_id,
        "leg_label": leg.label,
        "kind": EventKind.ANSWERED,
        "provider_status": "answered",
        "occurred_at": NOON,
        "received_at": NOON,
    }
    return Event.objects.create(**(defaults | values))


def a_reading(leg: Leg | None = None, **values: Any) -> BalanceReading:
    leg = leg or a_leg()
    defaults = {
        "account": leg.account,
        "conversation": leg.conversation,
        "leg": leg,
        "occurred_at": NOON,
        "booked_at": values.get("occurred_at", NOON),
        "received_at": NOON,
        "balance": Decimal("878.9"),
        "charge": Decimal("0.45"),
    }
    return BalanceReading.objects.create(**(defaults | values))


def an_alert(**values: Any) -> Alert:
    account = values.pop("account", None) or an_account()
    rule = AlertRule.objects.create(name="Low", kind=AlertKind.LOW_BALANCE, opens_at=50)
    moments = {"opened_at": NOON, "updated_at": NOON}
    defaults = {"rule": rule, "kind": rule.kind, "message": "The balance is low."} | moments
    return Alert.objects.create(account=account, **(defaults | values))


def a_delivery(*conversations: Conversation, **values: Any) -> Delivery:
    """A delivery as it came, with a stored record for each of the conversations it speaks of."""
    defaults = {
        "account": values.get("account") or an_account(),
        "status": Delivery.Status.PROCESSED,
        "received_at": NOON,
        "method": "POST",
        "content_type": "application/json",
        "body": b'{"status":"answered"}',
        "size": 21,
        "digest": f"{next(_numbers):064x}",
    }
    delivery = Delivery.objects.create(**(defaults | values))
    for position, conversation in enumerate(conversations):
        StoredRecord.objects.create(
            account=delivery.account,
            conversation=conversation,
            source=delivery.id,
            position=position,
            received_at=NOON,
            body="{}",
        )
    return delivery


def a_key(*scopes: Scope) -> str:
    """The text of a new key."""
    return ApiKey.issue(f"key {new_id()}", list(scopes))[1]


def client_with(key: str) -> Client:
    """A client that sends the key with every request."""
    return Client(headers={"authorization": f"Bearer {key}"})
