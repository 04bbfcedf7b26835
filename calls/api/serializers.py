"""How rows look in the API. All of it is read-only."""

from datetime import UTC
from typing import Any

from django.conf import settings
from django.utils import timezone
from drf_spectacular.utils import OpenApiExample, extend_schema_field, extend_schema_serializer
from rest_framework import serializers

from calls import burn, statement
from calls.alerting.evidence import links
from calls.choices import AlertKind, Direction, Disposition, EventKind, Flag, GapKind, Label, Reason, Role, State
from calls.models import Account, Alert, BalanceReading, Conversation, StaffOutcome
from calls.runway import words

PARTS = ("legs", "events")
"""What ``?include=`` may name."""


class Moment(serializers.DateTimeField):
    """UTC with ``Z``, whatever zone the pages for staff are shown in."""

    def __init__(self, **options: Any) -> None:
        super().__init__(read_only=True, default_timezone=UTC, **options)


class Words(serializers.ChoiceField):
    """One word of a fixed set."""

    def __init__(self, choices: Any, **options: Any) -> None:
        super().__init__(choices=choices.choices, read_only=True, **options)


class Text(serializers.CharField):
    """Text; ``""`` when nothing is known."""

    def __init__(self, **options: Any) -> None:
        super().__init__(read_only=True, **options)


@extend_schema_field({"type": ["string", "null"]})
class TextOrNull(serializers.CharField):
    """Text; null when there is none."""

    def __init__(self, **options: Any) -> None:
        super().__init__(read_only=True, **options)

    def to_representation(self, value: str) -> str | None:
        return value or None


class Money(serializers.DecimalField):
    """An amount as a decimal string with 6 places."""

    def __init__(self, **options: Any) -> None:
        super().__init__(max_digits=18, decimal_places=6, read_only=True, **options)


class Seconds(serializers.IntegerField):
    """A length of time in whole seconds; null when it is not known."""

    def __init__(self, **options: Any) -> None:
        super().__init__(read_only=True, allow_null=True, min_value=0, **options)


class Number(serializers.CharField):
    """A phone number: E.164 where it could be read, else the digits as sent; ``""`` when withheld."""

    def __init__(self, **options: Any) -> None:
        super().__init__(read_only=True, **options)


class LatestBalanceSerializer(serializers.Serializer):
    """The newest balance by the provider's clock."""

    balance = Money(source="latest_balance")
    occurred_at = Moment(source="latest_balance_at")


class RunwaySerializer(serializers.Serializer):
    """How long an account's balance lasts, going by its own spend at each hour of the week."""

    empty_at = Moment(allow_null=True, help_text="When it is expected to be used up; null when that cannot be said.")
    low = Moment(allow_null=True, help_text="In about three of four cases it is used up between this …")
    high = Moment(allow_null=True, help_text="… and this.")
    text = Text(help_text="The same in words, or why it cannot be said.")


class AccountSerializer(serializers.Serializer):
    """One customer account at one provider."""

    slug = Text()
    name = Text()
    provider = Text()
    unit = Text(help_text="What its money is counted in.")
    time_zone = Text(help_text="Zone in which the provider prints times without an offset.")
    phone_region = Text(help_text="Country in which national phone numbers are read.")
    active = serializers.BooleanField(source="is_active", read_only=True)
    balance = serializers.SerializerMethodField()

    @extend_schema_field(LatestBalanceSerializer(allow_null=True))
    def get_balance(self, account: Account) -> dict[str, Any] | None:
        return None if account.latest_balance is None else LatestBalanceSerializer(account).data


class AccountDetailSerializer(AccountSerializer):
    """One account, with how long its balance lasts: that takes a look at weeks of readings."""

    runway = serializers.SerializerMethodField()

    @extend_schema_field(RunwaySerializer(allow_null=True, help_text="Null when its calls tell no balance."))
    def get_runway(self, account: Account) -> dict[str, Any] | None:
        if account.latest_balance is None:
            return None
        now = timezone.now()
        found = burn.runway_of(account, now)
        times = {"empty_at": found.empty_at, "low": found.low, "high": found.high}
        return RunwaySerializer(times | {"text": words(found, now)}).data


class AgentSerializer(serializers.Serializer):
    """One of our people."""

    id = serializers.IntegerField(read_only=True)
    external_id = Text(help_text="The provider's id of the agent.")
    name = Text()


class LegSerializer(serializers.Serializer):
    """One party's connection within a conversation."""

    id = serializers.IntegerField(read_only=True)
    conversation = serializers.UUIDField(source="conversation_id", read_only=True)
    external_id = Text(help_text="The provider's id of the leg.")
    label = Words(Label, help_text="The provider's letter for the leg.")
    role = Words(Role, help_text="Whose connection it is.")
    direction = Words(Direction)
    from_number = Number()
    to_number = Number()
    agent = AgentSerializer(read_only=True, allow_null=True)
    disposition = Words(Disposition, allow_null=True, help_text="How it ended; null while it is up.")
    started_at = Moment(allow_null=True)
    answered_at = Moment(allow_null=True)
    ended_at = Moment(allow_null=True)
    ring_seconds = Seconds()
    talk_seconds = Seconds()
    duration_seconds = Seconds()
    hangup_cause = Text()
    cost = Money(allow_null=True)
    balance_after = Money(allow_null=True)
    recording = TextOrNull()


class EventSerializer(serializers.Serializer):
    """Something that happened on a leg while it was up."""

    id = serializers.IntegerField(read_only=True)
    conversation = serializers.UUIDField(source="conversation_id", read_only=True)
    leg = serializers.IntegerField(source="leg_id", read_only=True, allow_null=True)
    kind = Words(EventKind)
    occurred_at = Moment(help_text="The provider's clock where it tells, else our time of arrival.")
    received_at = Moment()
    provider_status = Text(help_text="The provider's own word.")
    details = serializers.DictField(read_only=True, help_text="What else the provider said of it.")


CALL_EXAMPLE = {
    "id": "01997d5e-8a4c-7c3a-9d0a-3f2b1c4d5e6f",
    "account": "delhi-support",
    "provider": "piopiy",
    "external_id": "c62abd10-1ba8-11ec-9d3c-17d4b1a1d5a0",
    "direction": "inbound",
    "state": "ended",
    "disposition": "answered",
    "reason": "customer_cdr",
    "customer_number": "+919000000001",
    "did": "+918000000000",
    "agent": {"id": 7, "external_id": "202", "name": "Asha"},
    "started_at": "2021-09-22T13:48:30Z",
    "answered_at": "2021-09-22T13:48:35Z",
    "ended_at": "2021-09-22T13:48:48Z",
    "ring_seconds": 5,
    "talk_seconds": 13,
    "duration_seconds": 18,
    "cost": "0.450000",
    "cost_unit": "INR",
    "recording": None,
    "has_voicemail": False,
    "hangup_cause": "",
    "request_id": "",
    "extra_params": {"Name": "Akil", "ID": 8915726},
    "flags": [],
    "tags": ["refund"],
    "outcome": {"kind": "resolved", "text": "Refunded"},
}


class OutcomeSerializer(serializers.Serializer):
    """What came of a call, as staff or programs see it."""

    kind = Words(StaffOutcome.Kind)
    text = Text()


@extend_schema_serializer(examples=[OpenApiExample("An answered call", CALL_EXAMPLE)])
class ConversationSerializer(serializers.Serializer):
    """The whole call. ``legs`` and ``events`` are there when ``?include=`` names them."""

    id = serializers.UUIDField(read_only=True)
    account = Text(source="account.slug")
    provider = Text(source="account.provider")
    external_id = Text(help_text="The provider's id of the conversation.")
    direction = Words(Direction)
    state = Words(State)
    disposition = Words(Disposition, allow_null=True, help_text="How it ended; null while it is live.")
    reason = Words(Reason, help_text="Why it has this state and disposition.")
    customer_number = Number()
    did = Number(help_text="Our number.")
    agent = AgentSerializer(read_only=True, allow_null=True)
    started_at = Moment()
    answered_at = Moment(allow_null=True)
    ended_at = Moment(allow_null=True)
    ring_seconds = Seconds(help_text="From start to answer.")
    talk_seconds = Seconds(help_text="From answer to end.")
    duration_seconds = Seconds(help_text="From start to end.")
    cost = Money(allow_null=True)
    cost_unit = Text(help_text="A currency code, or coins. Amounts in different units are never added.")
    recording = TextOrNull(help_text="Where the provider keeps the recording; null when there is none.")
    has_voicemail = serializers.BooleanField(read_only=True)
    hangup_cause = Text()
    request_id = Text()
    extra_params = serializers.DictField(
        read_only=True, help_text="Our own parameters that the provider echoes, and fields that are not modelled."
    )
    flags = serializers.ListField(
        child=serializers.ChoiceField(choices=Flag.choices),
        read_only=True,
        help_text="Oddities in what the provider sent.",
    )
    tags = serializers.SerializerMethodField()
    outcome = OutcomeSerializer(
        source="staff_outcome", read_only=True, allow_null=True, help_text="Null: nobody has said."
    )
    # Not read-only, so that the schema does not promise them; nothing is ever written by way of these classes.
    legs = LegSerializer(many=True, required=False)
    events = EventSerializer(many=True, required=False)

    def get_tags(self, conversation: Conversation) -> list[str]:
        return [tag.name for tag in conversation.tags.all()]


@extend_schema_serializer(examples=[OpenApiExample("A call", {**CALL_EXAMPLE, "legs": []})])
class LiveConversationSerializer(ConversationSerializer):
    """A call that is going on, with its legs."""

    legs = LegSerializer(many=True, read_only=True)
    events = None


@extend_schema_serializer(examples=[OpenApiExample("An answered call", {**CALL_EXAMPLE, "legs": [], "events": []})])
class ConversationDetailSerializer(ConversationSerializer):
    """The whole call with its legs and events."""

    legs = LegSerializer(many=True, read_only=True)
    events = EventSerializer(many=True, read_only=True)


class BalanceReadingSerializer(serializers.Serializer):
    """The account's balance after a leg."""

    account = Text(source="account.slug")
    conversation = serializers.UUIDField(source="conversation_id", read_only=True)
    leg = serializers.IntegerField(source="leg_id", read_only=True)
    occurred_at = Moment(help_text="When the leg ended.")
    balance = Money()
    charge = Money()
    gap = Money(
        allow_null=True,
        help_text="balance − (previous balance − charge). Not zero: a top-up, a charge without a call, or a call that "
        "never reached us. Null: the account's first reading.",
    )
    gap_kind = Words(GapKind, help_text="Why there is a gap or none.")
    gap_since = Moment(
        allow_null=True, help_text="A top-up or unexplained charge happened between this and `booked_at`; else null."
    )
    reason = serializers.SerializerMethodField(help_text="The same in a sentence.")
    booked_at = Moment(
        help_text="Its place in the chain: when the leg ended, or just after the reading before it where the provider "
        "booked a call that ended later first. No two of an account are equal."
    )

    def get_reason(self, reading: BalanceReading) -> str:
        return statement.reason(reading)


class PartSerializer(serializers.Serializer):
    """Amounts of one kind, added."""

    amount = Money()
    count = serializers.IntegerField(read_only=True, help_text="How many readings they are of.")


class StatementSerializer(serializers.Serializer):
    """What became of a balance: opening + top-ups − charges − unexplained + rounding = closing, to the last digit."""

    account = Text(source="account.slug")
    unit = Text(source="account.unit", help_text="What all amounts are counted in.")
    opening = Money(allow_null=True, help_text="The balance before the first reading; null when none is known.")
    top_ups = PartSerializer(read_only=True)
    charges = PartSerializer(read_only=True, help_text="Of all readings.")
    unexplained = PartSerializer(
        read_only=True, help_text="Charges without a call, and calls whose report never came; not negative."
    )
    rounding = PartSerializer(read_only=True)
    closing = Money(allow_null=True, help_text="The balance after the last reading; null when none is known.")
    first_at = Moment(allow_null=True, help_text="When the first reading was booked; null when there is none.")
    last_at = Moment(allow_null=True, help_text="When the last reading was booked; null when there is none.")


class LinkSerializer(serializers.Serializer):
    """A page for staff."""

    label = Text()
    url = serializers.URLField(read_only=True)


class AlertSerializer(serializers.Serializer):
    """Something staff must know of."""

    id = serializers.IntegerField(read_only=True)
    account = Text(source="account.slug")
    kind = Words(AlertKind)
    rule = Text(source="rule.name", help_text="Name of the rule that opened it.")
    subject = Text(help_text='What of the account it is about, such as a DID or a prefix; "" for the account itself.')
    message = Text()
    value = serializers.DecimalField(
        max_digits=18,
        decimal_places=6,
        read_only=True,
        allow_null=True,
        help_text="The figure that the rule's mark is compared with; its unit is in the message. Null: there is none.",
    )
    evidence = serializers.SerializerMethodField(help_text="Pages for staff with the very rows it is about.")
    opened_at = Moment()
    cleared_at = Moment(allow_null=True, help_text="When its cause was gone; null while it is open.")
    acknowledged_at = Moment(allow_null=True)
    assigned_to = serializers.CharField(
        source="assigned_to.username",
        default=None,
        read_only=True,
        allow_null=True,
        help_text="Login of whose task it is.",
    )

    @extend_schema_field(LinkSerializer(many=True))
    def get_evidence(self, alert: Alert) -> list[dict[str, str]]:
        request = self.context.get("request")  # a message to a subscription answers none
        address = request.build_absolute_uri if request else settings.PUBLIC_URL.__add__
        return [{"label": link.label, "url": address(link.url)} for link in links(alert.evidence)]


class AmountSerializer(serializers.Serializer):
    """Money or credits in one unit."""

    unit = Text()
    amount = Money()


class SummarySerializer(serializers.Serializer):
    """The figures of some conversations."""

    calls = serializers.IntegerField(read_only=True)
    live = serializers.IntegerField(read_only=True)
    answered = serializers.IntegerField(read_only=True)
    missed = serializers.IntegerField(read_only=True)
    busy = serializers.IntegerField(read_only=True)
    failed = serializers.IntegerField(read_only=True)
    cancelled = serializers.IntegerField(read_only=True)
    voicemail = serializers.IntegerField(read_only=True)
    unknown = serializers.IntegerField(read_only=True)
    answer_rate = serializers.DecimalField(
        max_digits=5,
        decimal_places=4,
        read_only=True,
        allow_null=True,
        help_text="Answered ÷ ended, from 0 to 1; null when none has ended.",
    )
    talk_seconds = serializers.IntegerField(read_only=True)
    ring_seconds = serializers.IntegerField(read_only=True)
    average_talk_seconds = Seconds(help_text="Of the answered ones; null when there are none.")
    average_ring_seconds = Seconds(help_text="Of those whose ringing is known; null when there are none.")
    cost = AmountSerializer(many=True, read_only=True, help_text="One amount for each unit.")
