"""What subscriptions are sent, for the OpenAPI document: a webhook of each type, with its headers and an example."""

from typing import Any

from drf_spectacular.utils import (
    OpenApiResponse,
    OpenApiWebhook,
    extend_schema,
    extend_schema_field,
    inline_serializer,
)
from rest_framework import serializers

from calls.api.examples import example_of
from calls.api.serializers import CALL_EXAMPLE, AlertSerializer, ConversationSerializer, Moment, Text
from calls.choices import EventType


class GoneSerializer(serializers.Serializer):
    """A conversation that is gone."""

    id = serializers.UUIDField(read_only=True)
    account = Text()


class MergedSerializer(GoneSerializer):
    """A conversation that was found to be part of another."""

    into = serializers.UUIDField(read_only=True, help_text="The conversation that it is part of now.")


class QuarantineErrorSerializer(serializers.Serializer):
    """Why a delivery could not be understood."""

    def get_fields(self) -> dict[str, serializers.Field]:
        return {"class": Text(), "field": Text(), "value": Text(), "message": Text()}


class QuarantinedSerializer(serializers.Serializer):
    """A delivery that could not be understood."""

    id = serializers.UUIDField(read_only=True)
    account = Text()
    provider = Text()
    received_at = Moment()
    error = QuarantineErrorSerializer(read_only=True)


class TestSerializer(serializers.Serializer):
    """What was asked to be tried."""

    subscription = Text(help_text="Its name.")


_TOLD: dict[EventType, tuple[str, type[serializers.Serializer]]] = {
    EventType.CONVERSATION_STARTED: ("A call was heard of for the first time.", ConversationSerializer),
    EventType.CONVERSATION_ANSWERED: ("A call was answered.", ConversationSerializer),
    EventType.CONVERSATION_ENDED: ("A call ended.", ConversationSerializer),
    EventType.CONVERSATION_UPDATED: (
        "Something of a call changed that is none of the other types, such as its tags.",
        ConversationSerializer,
    ),
    EventType.CONVERSATION_CORRECTED: ("What is known of a call that has ended was corrected.", ConversationSerializer),
    EventType.CONVERSATION_MERGED: ("A call was found to be part of another.", MergedSerializer),
    EventType.CONVERSATION_ERASED: ("A call was withdrawn: nothing speaks of it any more.", GoneSerializer),
    EventType.ALERT_OPENED: ("An alert opened.", AlertSerializer),
    EventType.ALERT_CLEARED: ("The cause of an alert is gone.", AlertSerializer),
    EventType.BALANCE_LOW: ("An alert of a low balance opened.", AlertSerializer),
    EventType.DELIVERY_QUARANTINED: ("A delivery of a provider could not be understood.", QuarantinedSerializer),
    EventType.TEST: ("Somebody asked for a test.", TestSerializer),
}
_HEADERS = {
    "webhook-id": "The id of the message, the same whenever it is sent again: drop what you have had.",
    "webhook-timestamp": "When this attempt was made, in seconds since 1970. Refuse what is 5 minutes off.",
    "webhook-signature": "`v1,` and the Base64 of the HMAC-SHA256 of `id.timestamp.body`; two of them, with a space "
    "between, while the secret is being replaced.",
}
_DESCRIPTION = (
    "{} Signed as [Standard Webhooks](https://www.standardwebhooks.com) has it: verify it before you believe it. "
    "Messages about the same thing come in their order, each at least once."
)


def _constant(text: str) -> type[serializers.Field]:
    @extend_schema_field({"const": text})
    class Constant(serializers.Field):
        """Always the same text."""

    return Constant


def _webhook(event_type: EventType) -> OpenApiWebhook:
    text, data = _TOLD[event_type]
    noun = "".join(part.capitalize() for part in event_type.replace(".", " ").split())
    message = inline_serializer(
        f"{noun}Message",
        {
            "type": _constant(event_type)(),
            "timestamp": serializers.DateTimeField(help_text="When it was noticed."),
            "data": data(),
        },
    )
    answer = OpenApiResponse(description="Any status from 200 to 299 takes it for received; the body is not read.")
    return OpenApiWebhook(
        event_type.value,
        extend_schema(
            operation_id=event_type.replace(".", "_"),
            summary=text,
            description=_DESCRIPTION.format(text),
            tags=["webhooks"],
            request={"application/json": message},
            responses={"2XX": answer},
        ),
    )


ALL = [_webhook(event_type) for event_type in EventType]


def with_headers(result: dict[str, Any], **_: Any) -> dict[str, Any]:
    """Give each webhook of the document its headers and an example. A hook of drf-spectacular."""
    for name, item in result["webhooks"].items():
        operation = item["post"]
        operation["security"] = []
        operation["parameters"] = [
            {"in": "header", "name": header, "required": True, "schema": {"type": "string"}, "description": text}
            for header, text in _HEADERS.items()
        ]
        content = operation["requestBody"]["content"]["application/json"]
        content["example"] = example_of(content["schema"], result["components"]["schemas"])
        if _TOLD[EventType(name)][1] is ConversationSerializer:
            content["example"]["data"] = CALL_EXAMPLE
    return result
