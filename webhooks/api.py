"""The inbox in the API: deliveries as they came, and what became of them."""

import base64
from typing import Any
from uuid import UUID

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers
from rest_framework.mixins import ListModelMixin, RetrieveModelMixin

from calls.api.filters import AccountFilters
from calls.api.parameters import MomentParameter, WordsParameter, YesNoParameter
from calls.api.serializers import Moment, Text, Words
from calls.api.views import ReadViewSet
from calls.choices import Scope
from calls.models import StoredRecord
from webhooks.models import Delivery

ENCODING = {"type": "string", "enum": ["text", "base64"]}


class DeliveryFilters(AccountFilters):
    """Which deliveries; repeats are left out unless they are asked for."""

    status = WordsParameter(Delivery.Status, "What became of it, or several.")
    received_after = MomentParameter("Received at this moment or later.", "received_at", lookup_expr="gte")
    received_before = MomentParameter("Received before this moment.", "received_at", lookup_expr="lt")
    include_repeats = YesNoParameter("Whether to show byte-identical repeats too.", method="with_repeats")

    def with_repeats(self, queryset: QuerySet[Delivery], name: str, wanted: bool) -> QuerySet[Delivery]:
        return queryset  # see filter_queryset: repeats are left out when this is not given at all

    def filter_queryset(self, queryset: QuerySet[Delivery]) -> QuerySet[Delivery]:
        chosen = self.form.cleaned_data
        if not chosen["include_repeats"] and Delivery.Status.REPEAT not in (chosen["status"] or []):
            queryset = queryset.exclude(status=Delivery.Status.REPEAT)
        return super().filter_queryset(queryset)


class DeliveryErrorSerializer(serializers.Serializer):
    """Why a delivery is in quarantine."""

    def get_fields(self) -> dict[str, serializers.Field]:
        return {
            "class": Text(source="error_class"),
            "field": Text(source="error_field", help_text="As the provider spells it; blank: the body as a whole."),
            "value": Text(source="error_value"),
            "message": Text(source="error_message"),
        }


class DeliverySerializer(serializers.Serializer):
    """One HTTP request from a provider, as it came."""

    id = serializers.UUIDField(read_only=True)
    account = Text(source="account.slug")
    provider = Text(source="account.provider")
    status = Words(Delivery.Status)
    received_at = Moment()
    processed_at = Moment(allow_null=True)
    method = Text()
    content_type = Text()
    size = serializers.IntegerField(read_only=True, help_text="Bytes of the body as sent.")
    digest = Text(help_text="SHA-256 of the body, or of the query when there is no body.")
    repeats = serializers.IntegerField(read_only=True, help_text="How often the same bytes came again.")
    error = serializers.SerializerMethodField()
    conversations = serializers.SerializerMethodField()
    query = serializers.SerializerMethodField()
    query_encoding = serializers.SerializerMethodField()
    body = serializers.SerializerMethodField()
    body_encoding = serializers.SerializerMethodField()

    @extend_schema_field(DeliveryErrorSerializer(allow_null=True))
    def get_error(self, delivery: Delivery) -> dict[str, Any] | None:
        return DeliveryErrorSerializer(delivery).data if delivery.error_class else None

    @extend_schema_field(serializers.ListField(child=serializers.UUIDField()))
    def get_conversations(self, delivery: Delivery) -> list[str]:
        """Ids of the conversations it speaks of."""
        found = self.context["conversations"].get(delivery.repeat_of_id or delivery.id, ())
        return [str(conversation) for conversation in found]

    def get_query(self, delivery: Delivery) -> str:
        return _encoded(delivery.query)[0]

    @extend_schema_field(ENCODING)
    def get_query_encoding(self, delivery: Delivery) -> str:
        return _encoded(delivery.query)[1]

    def get_body(self, delivery: Delivery) -> str:
        return _encoded(delivery.body)[0]

    @extend_schema_field(ENCODING)
    def get_body_encoding(self, delivery: Delivery) -> str:
        return _encoded(delivery.body)[1]


class DeliveryViewSet(ListModelMixin, RetrieveModelMixin, ReadViewSet):
    """Deliveries, newest first."""

    queryset = Delivery.objects.select_related("account")
    serializer_class = DeliverySerializer
    filterset_class = DeliveryFilters
    required_scope = Scope.MANAGE
    orderings = {"-received_at": ("-received_at", "-id")}
    lookup_value_regex = "[^/]+"

    def get_serializer(self, *args: Any, **kwargs: Any) -> serializers.BaseSerializer:
        shown = args[0] if kwargs.get("many") else args[:1]
        serializer = super().get_serializer(*args, **kwargs)
        serializer.context["conversations"] = conversations_of(shown)
        return serializer


def conversations_of(deliveries: list[Delivery]) -> dict[UUID, list[UUID]]:
    """Return the conversations that each delivery (for a repeat: the first of its kind) speaks of, in one query."""
    sources = {delivery.repeat_of_id or delivery.id for delivery in deliveries}
    pairs = StoredRecord.objects.filter(source__in=sources, conversation__isnull=False).values_list(
        "source", "conversation"
    )
    found: dict[UUID, list[UUID]] = {}
    for source, conversation in sorted(set(pairs)):
        found.setdefault(source, []).append(conversation)
    return found


def _encoded(raw: bytes) -> tuple[str, str]:
    """Return the bytes as text, and how: ``text``, or ``base64`` where they are no UTF-8."""
    raw = bytes(raw)
    try:
        return raw.decode(), "text"
    except UnicodeDecodeError:
        return base64.b64encode(raw).decode(), "base64"
