"""Subscriptions in the API: who is told of what by webhook, the log of what was sent, and sending it again."""

from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import QuerySet
from django.urls import reverse
from django_filters.rest_framework import FilterSet
from drf_spectacular.utils import (
    OpenApiExample,
    OpenApiResponse,
    extend_schema,
    extend_schema_field,
    extend_schema_serializer,
)
from rest_framework import serializers, status
from rest_framework.decorators import action
from rest_framework.generics import get_object_or_404
from rest_framework.mixins import ListModelMixin, RetrieveModelMixin
from rest_framework.request import Request
from rest_framework.response import Response

from calls import audit, changes, tasks
from calls.access import visible
from calls.addresses import AddressRefused, check_outgoing
from calls.api import etags
from calls.api.bodies import Body, MomentInput, TextInput, WordInput
from calls.api.changes import cursor_of
from calls.api.idempotency import Conflict, write
from calls.api.parameters import IdParameter, MomentParameter, WordsParameter, suggestion
from calls.api.problems import BadRequest, FieldError
from calls.api.serializers import Moment, Text, Words
from calls.api.views import ReadViewSet
from calls.api.writing import ANSWER_HEADERS, Writes, tagged
from calls.choices import Direction, Disposition, EventType, Scope
from calls.models import Account, AuditEntry, Message, Subscription
from calls.subscriptions import control
from calls.subscriptions.filters import MOST_VALUES, faults
from calls.subscriptions.occurrences import OFFERED

LONGEST_OVERLAP_HOURS = 168
MOST_ACCOUNTS = 500
SETTABLE = [Subscription.State.ACTIVE, Subscription.State.PAUSED]
EXAMPLE = {
    "name": "crm",
    "url": "https://crm.example.com/hooks/calls",
    "event_types": ["conversation.started", "conversation.ended"],
    "accounts": ["delhi-support"],
    "filters": {"direction": ["inbound"]},
}
_SHOWN_EXAMPLE = {
    "id": 7,
    **EXAMPLE,
    "state": "active",
    "state_reason": "",
    "previous_secret_until": None,
    "created_at": "2021-09-22T13:40:00Z",
}
_SECRET_EXAMPLE = {**_SHOWN_EXAMPLE, "secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}
_ATTEMPT_EXAMPLE = {
    "message": "01997d5e-8a4c-7c3a-9d0a-3f2b1c4d5e6f",
    "started_at": "2021-09-22T13:48:49Z",
    "milliseconds": 84,
    "request_headers": {
        "Content-Type": "application/json",
        "webhook-id": "01997d5e-8a4c-7c3a-9d0a-3f2b1c4d5e6f",
        "webhook-timestamp": "1632318529",
        "webhook-signature": "v1,K5oZfzN95Z9UVu1EsfQmfVNQhnkZ2pj9o9NDN/H/pI4=",
    },
    "status": 204,
    "error": "",
    "answer": "",
}


def _values(child: serializers.Field, **options: Any) -> serializers.ListField:
    return serializers.ListField(child=child, min_length=1, max_length=MOST_VALUES, required=False, **options)


class Filters(Body):
    """By field the values of which a conversation has to have one."""

    direction = _values(serializers.ChoiceField(Direction.choices))
    disposition = _values(serializers.ChoiceField(Disposition.choices))
    did = _values(serializers.RegexField(r"^[^\u0000]+$", max_length=64), help_text="As the API shows them.")
    agent = _values(serializers.IntegerField(min_value=1, max_value=2**63 - 1), help_text="Ids of agents.")
    tag = _values(serializers.RegexField(r"^[^\u0000]+$", max_length=64), help_text="Names of tags.")


@extend_schema_serializer(examples=[OpenApiExample("A subscription", _SHOWN_EXAMPLE, response_only=True)])
class SubscriptionSerializer(serializers.Serializer):
    """Where a program is told of what happens."""

    id = serializers.IntegerField(read_only=True)
    name = Text()
    url = Text()
    event_types = serializers.ListField(
        child=serializers.ChoiceField([(one.value, one.label) for one in OFFERED]), read_only=True
    )
    accounts = serializers.SerializerMethodField()
    filters = Filters(read_only=True, help_text="Of these conversations; of all when empty.")
    state = Words(Subscription.State)
    state_reason = Text(help_text="Why it is paused or disabled.")
    previous_secret_until = Moment(
        source="previous_until", allow_null=True, help_text="Until then the secret before this one signs along."
    )
    created_at = Moment()

    @extend_schema_field(serializers.ListField(child=serializers.CharField()))
    def get_accounts(self, subscription: Subscription) -> list[str]:
        """Only what is of these accounts is told. None: of all that its key may see."""
        return [account.slug for account in subscription.accounts.all()]


@extend_schema_serializer(examples=[OpenApiExample("With its secret", _SECRET_EXAMPLE, response_only=True)])
class SubscriptionWithSecretSerializer(SubscriptionSerializer):
    """A subscription with the secret that its messages are signed with. It is shown only this once: keep it."""

    secret = serializers.CharField(read_only=True, help_text="Standard Webhooks spell it `whsec_` and Base64.")


class SubscriptionStatusSerializer(serializers.Serializer):
    """How a subscription does."""

    state = Words(Subscription.State)
    state_reason = Text(help_text="Why it is paused or disabled.")
    waiting = serializers.IntegerField(read_only=True, help_text="Messages that are still to be delivered.")
    failures = serializers.IntegerField(read_only=True, help_text="Attempts in a row that failed.")
    failing_since = Moment(allow_null=True, help_text="Null: the last attempt went through, or there was none.")
    last_error = Text()
    last_success_at = Moment(allow_null=True)


@extend_schema_serializer(examples=[OpenApiExample("Delivered", _ATTEMPT_EXAMPLE, response_only=True)])
class AttemptSerializer(serializers.Serializer):
    """One try to deliver a message: what was sent, and what came back."""

    message = serializers.UUIDField(source="message.message_id", read_only=True)
    started_at = Moment()
    milliseconds = serializers.IntegerField(read_only=True, help_text="How long it took.")
    request_headers = serializers.DictField(child=serializers.CharField(), read_only=True)
    status = serializers.IntegerField(
        read_only=True, allow_null=True, help_text="HTTP status of the answer; null: there was none."
    )
    error = Text(help_text='Why it failed; "": it was delivered.')
    answer = Text(help_text="How the body of the answer begins.")


class MessageSerializer(serializers.Serializer):
    """A message, and how far it got."""

    id = serializers.UUIDField(
        source="message_id", read_only=True, help_text="Sent as `webhook-id`, the same at every attempt."
    )
    type = Words(EventType)
    about = Text(help_text="What it speaks of: the id of a conversation, or words such as `alert 7`.")
    state = Words(Message.State)
    created_at = Moment()
    attempts_made = serializers.IntegerField(read_only=True, help_text="Since it was made or last sent again.")
    next_attempt_at = serializers.SerializerMethodField()
    delivered_at = Moment(allow_null=True)
    last_error = Text()

    def get_next_attempt_at(self, message: Message) -> str | None:
        """When it is tried next, or a little later; null when it is not to be tried again."""
        is_waiting = message.state == Message.State.PENDING
        return Moment().to_representation(message.next_attempt_at) if is_waiting else None


class MessageDetailSerializer(MessageSerializer):
    """A message with its body and every attempt, the newest first."""

    body = serializers.SerializerMethodField()
    attempts = AttemptSerializer(many=True, read_only=True)

    def get_body(self, message: Message) -> str:
        """What is sent, to the byte."""
        return bytes(message.body).decode()


class ResentSerializer(serializers.Serializer):
    """What is sent again."""

    messages = serializers.IntegerField(read_only=True, help_text="How many.")


class UrlInput(TextInput):
    """A web address that messages may be posted to."""

    def to_internal_value(self, data: Any) -> str:
        url = super().to_internal_value(data)
        try:
            check_outgoing(url, allowed=settings.ALLOWED_PRIVATE_TARGETS)
        except AddressRefused as error:
            raise serializers.ValidationError(str(error)) from error
        return url


class ListInput(serializers.ListField):
    """A list; what it holds more than once counts once."""

    default_error_messages = {
        "not_a_list": "It is no list. Give one, in brackets.",
        "min_length": "It is empty. Give at least {min_length}.",
        "empty": "It is empty. Give at least one.",
        "max_length": "It is too long. Give at most {max_length}.",
    }

    def to_internal_value(self, data: Any) -> list[Any]:
        return list(dict.fromkeys(super().to_internal_value(data)))


class AccountsInput(ListInput):
    """Slugs of accounts that the key may see."""

    def to_internal_value(self, data: Any) -> list[Account]:
        slugs = super().to_internal_value(data)
        seen = visible(self.context["request"].auth, Account.objects.all())
        found = {account.slug: account for account in seen.filter(slug__in=slugs)}
        for slug in slugs:
            if slug not in found:
                hint = suggestion(slug, seen.values_list("slug", flat=True))
                raise serializers.ValidationError(f"There is no account “{slug}”.{hint}")
        return list(found.values())


def _whole(value: Any) -> Any:
    """Return a number such as 7.0, which JSON does not tell from 7, as a whole one."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


@extend_schema_field(Filters)
class FiltersInput(serializers.Field):
    """Lists of values by field, as ``calls.subscriptions.filters`` has them."""

    def to_internal_value(self, data: Any) -> dict[str, Any]:
        if isinstance(data, dict) and isinstance(data.get("agent"), list):
            data = data | {"agent": [_whole(value) for value in data["agent"]]}
        found = faults(data)
        if found and not isinstance(data, dict):
            raise serializers.ValidationError(found[0].message)
        if found:
            raise serializers.ValidationError({str(f.field).removeprefix("filters."): [f.message] for f in found})
        return data


class SubscriptionValues(Body):
    """What programs say of a subscription."""

    name = TextInput(max_length=120, help_text="For people.")
    url = UrlInput(
        max_length=2000,
        help_text="Where messages are posted to: https, and on the public internet unless the server allows more.",
    )
    event_types = ListInput(child=WordInput(list(OFFERED)), min_length=1, help_text="What it is told of.")
    accounts = AccountsInput(
        child=TextInput(max_length=64),
        max_length=MOST_ACCOUNTS,
        required=False,
        help_text="Slugs; only what is of these is told. None: all that the key may see.",
    )
    filters = FiltersInput(required=False, help_text="Only these conversations are told of; all when empty.")


@extend_schema_serializer(
    examples=[
        OpenApiExample("Of incoming calls", EXAMPLE, request_only=True),
        OpenApiExample("From where the feed was read", {**EXAMPLE, "cursor": "txhxnYQHAf8GBgBdgQc"}, request_only=True),
    ]
)
class NewSubscription(SubscriptionValues):
    """A subscription to be made."""

    cursor = TextInput(
        max_length=changes.LONGEST_CURSOR,
        required=False,
        help_text="Up to where the feed of changes was read: `next_cursor` of `changes/`, or the `id` of an event of "
        "`live/stream/`. What comes after it is told of conversations; of an account that was not read with it, "
        "everything. Left out, or `now`: what happens from now on.",
    )

    def validate_cursor(self, text: str) -> changes.Cursor:
        accounts = visible(self.context["request"].auth, Account.objects.all()).values_list("pk", flat=True)
        try:
            read = cursor_of(accounts, "cursor", text).positions
            return changes.Cursor({pk: read.get(pk, 0) for pk in accounts})
        except BadRequest as error:
            raise serializers.ValidationError(error.errors[0].message) from error


@extend_schema_serializer(examples=[OpenApiExample("Paused", {"state": "paused"}, request_only=True)])
class SubscriptionChange(SubscriptionValues):
    """What is to be changed of a subscription; what is left out stays."""

    state = WordInput(
        SETTABLE, help_text="`paused`: what happens is kept and not sent. `active`: all that waits is sent at once."
    )


class Rotation(Body):
    """How a secret is replaced."""

    overlap_hours = serializers.IntegerField(
        min_value=0,
        max_value=LONGEST_OVERLAP_HOURS,
        default=int(control.OVERLAP.total_seconds() // 3600),
        help_text="For so long the old secret signs along. 0: not at all, such as when it became known.",
    )


@extend_schema_serializer(
    examples=[
        OpenApiExample(
            "All that failed of a day",
            {"after": "2021-09-22T00:00:00Z", "before": "2021-09-23T00:00:00Z", "state": "failed"},
            request_only=True,
        )
    ]
)
class Range(Body):
    """Which messages are to be sent again."""

    after = MomentInput(help_text="Made at this moment or later.")
    before = MomentInput(required=False, help_text="Made before this moment.")
    state = WordInput(
        [Message.State.DELIVERED, Message.State.FAILED, Message.State.CANCELLED],
        required=False,
        help_text="Only those in this state. What waits already is left as it is.",
    )


class SubscriptionFilters(FilterSet):
    """Which subscriptions."""

    state = WordsParameter(Subscription.State, "State, or several.")


class MessageFilters(FilterSet):
    """Which messages of a subscription."""

    state = WordsParameter(Message.State, "How far it got, or several.")
    type = WordsParameter(EventType, "What it tells of, or several.")
    conversation = IdParameter("Messages that speak of this conversation.", "about")
    created_after = MomentParameter("Made at this moment or later.", "created_at", lookup_expr="gte")
    created_before = MomentParameter("Made before this moment.", "created_at", lookup_expr="lt")


class SubscriptionViewSet(Writes, ListModelMixin, RetrieveModelMixin, ReadViewSet):
    """Subscriptions to signed webhooks, newest first."""

    queryset = Subscription.objects.prefetch_related("accounts")
    serializer_class = SubscriptionSerializer
    filterset_class = SubscriptionFilters
    required_scope = Scope.MANAGE
    orderings = {"-id": ("-id",)}
    lookup_value_regex = "[^/]+"

    @extend_schema(
        request=NewSubscription, parameters=ANSWER_HEADERS, responses={201: SubscriptionWithSecretSerializer}
    )
    @write
    def create(self, request: Request) -> Response:
        """Subscribe. What happens from now on is told, or from a cursor on; the secret is shown only now."""
        values = self._checked(NewSubscription)
        accounts, cursor = values.pop("accounts", []), values.pop("cursor", None)
        subscription = Subscription(**values, api_key=request.auth)
        secret = control.begin(subscription, cursor)
        subscription.accounts.set(accounts)
        self._record(AuditEntry.Action.ADD, subscription)
        address = request.build_absolute_uri(reverse("subscription-detail", args=[subscription.pk]))
        return self._with_secret(tagged(self._shown(subscription), status.HTTP_201_CREATED, address), secret)

    @extend_schema(request=SubscriptionChange, parameters=ANSWER_HEADERS, responses=SubscriptionSerializer)
    @write
    def partial_update(self, request: Request, pk: str) -> Response:
        """Change what is given. A new address, and `active` by itself, have all that waits tried at once."""
        self.get_object()
        values = self._checked(SubscriptionChange, partial=True)
        subscription = self._locked()
        before = self._shown(subscription)
        state = values.pop("state", subscription.state)
        if "accounts" in values:
            subscription.accounts.set(values.pop("accounts"))
        for name, value in values.items():
            setattr(subscription, name, value)
        subscription.save(update_fields=values)
        if state == Subscription.State.PAUSED:
            control.pause(subscription)
        elif state == Subscription.State.ACTIVE and {"url", "state"} & request.data.keys():
            control.resume(subscription)
            transaction.on_commit(tasks.call_for_messages)
        if not visible(request.auth, Subscription.objects.filter(pk=subscription.pk)).exists():
            message = "It would be told of accounts that this key may not see. Name accounts that it may see."
            raise BadRequest(FieldError("accounts", "", message))
        after = self._shown(subscription)
        if changes := audit.changed(before, after):
            self._record(AuditEntry.Action.CHANGE, subscription, changes=changes)
        return tagged(after)

    @extend_schema(responses={204: OpenApiResponse(description="It is gone, with its log.")})
    @write
    def destroy(self, request: Request, pk: str) -> Response:
        """Delete a subscription with the log of what it was sent."""
        subscription = self._locked()
        self._record(AuditEntry.Action.DELETE, subscription)
        control.remove(subscription)
        return Response(status=status.HTTP_204_NO_CONTENT)

    @extend_schema(responses=SubscriptionStatusSerializer)
    @action(detail=True, methods=["get"])
    def status(self, request: Request, pk: str) -> Response:
        """How it does: whether messages get through, and how many wait."""
        subscription = self.get_object()
        subscription.waiting = subscription.messages.filter(state=Message.State.PENDING).count()
        return Response(SubscriptionStatusSerializer(subscription).data)

    @extend_schema(request=Rotation, responses=SubscriptionWithSecretSerializer)
    @action(detail=True, methods=["post"])
    @write
    def rotate(self, request: Request, pk: str) -> Response:
        """Sign with a new secret, which is shown only now; the old one signs along for a while."""
        subscription = self.get_object()
        hours = self._checked(Rotation)["overlap_hours"]
        secret = control.rotate(subscription, timedelta(hours=hours))
        self._record(AuditEntry.Action.CHANGE, subscription, note=f"New secret; the old one signs along for {hours} h")
        return self._with_secret(tagged(self._shown(subscription)), secret)

    @extend_schema(request=None, responses=AttemptSerializer)
    @action(detail=True, methods=["post"])
    def test(self, request: Request, pk: str) -> Response:
        """Send a message of the type `test` here and now, and tell what came of it. Takes up to ten seconds."""
        subscription = self.get_object()
        attempt = control.send_test(subscription)
        self._record(AuditEntry.Action.CHANGE, subscription, note="Tested")
        return Response(AttemptSerializer(attempt).data)

    @extend_schema(request=Range, responses={202: ResentSerializer})
    @action(detail=True, methods=["post"])
    @write
    def resend(self, request: Request, pk: str) -> Response:
        """Send messages of a time again, in their order and with their ids."""
        subscription = self.get_object()
        values = self._checked(Range)
        chosen = visible(request.auth, subscription.messages.filter(created_at__gte=values["after"]))
        if "before" in values:
            chosen = chosen.filter(created_at__lt=values["before"])
        if "state" in values:
            chosen = chosen.filter(state=values["state"])
        count = control.resend(chosen)
        transaction.on_commit(tasks.call_for_messages)
        self._record(AuditEntry.Action.CHANGE, subscription, note=f"{count} messages sent again")
        return Response({"messages": count}, status.HTTP_202_ACCEPTED)

    def _checked(self, body: type[Body], *, partial: bool = False) -> dict[str, Any]:
        read = body(data=self.request.data, partial=partial, context=self.get_serializer_context())
        read.is_valid(raise_exception=True)
        return read.validated_data

    def _locked(self) -> Subscription:
        """Return the subscription, locked, if it is as the client knows it."""
        rows = Subscription.objects.select_for_update(no_key=True)
        subscription = get_object_or_404(rows, pk=self.get_object().pk)
        etags.check_if_match(self.request, etags.etag_of(self._shown(subscription)))
        return subscription

    def _shown(self, subscription: Subscription) -> dict[str, Any]:
        return dict(SubscriptionSerializer(self.get_queryset().get(pk=subscription.pk)).data)

    def _with_secret(self, answer: Response, secret: str) -> Response:
        answer.data["secret"] = secret
        answer["Cache-Control"] = "no-store"
        return answer

    def _record(self, did: AuditEntry.Action, subscription: Subscription, **details: Any) -> None:
        audit.record(self.request, did, subscription, f"subscription {subscription}", **details)


class MessageViewSet(Writes, ListModelMixin, RetrieveModelMixin, ReadViewSet):
    """The log of a subscription: its messages, newest first, and what became of them."""

    queryset = Message.objects.all()
    serializer_class = MessageSerializer
    filterset_class = MessageFilters
    required_scope = Scope.MANAGE
    orderings = {"-id": ("-id",)}
    lookup_field = "message_id"
    lookup_value_regex = "[^/]+"

    def filter_queryset(self, queryset: QuerySet[Message]) -> QuerySet[Message]:
        subscriptions = visible(self.request.auth, Subscription.objects.all())
        subscription = get_object_or_404(subscriptions, pk=self.kwargs["subscription"])
        return super().filter_queryset(queryset.filter(subscription=subscription))

    def get_serializer_class(self) -> type[MessageSerializer]:
        return MessageDetailSerializer if self.detail else MessageSerializer

    def get_queryset(self) -> QuerySet[Message]:
        return self.queryset.prefetch_related("attempts") if self.detail else self.queryset.defer("body")

    @extend_schema(request=None, responses={202: MessageDetailSerializer})
    @action(detail=True, methods=["post"])
    @write
    def resend(self, request: Request, subscription: str, message_id: str) -> Response:
        """Send a message again, with the same id; one that is waiting already is left as it is."""
        message = self.get_object()
        if message.type == EventType.TEST:
            raise Conflict("A test message is sent once. Send another test.")
        if control.resend(Message.objects.filter(pk=message.pk)):
            transaction.on_commit(tasks.call_for_messages)
            of = message.subscription
            note = f"Message {message.message_id} sent again"
            audit.record(request, AuditEntry.Action.CHANGE, of, f"subscription {of}", note=note)
        return Response(self.get_serializer(self.get_object()).data, status.HTTP_202_ACCEPTED)
