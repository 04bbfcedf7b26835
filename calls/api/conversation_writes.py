"""What programs may say of a conversation: its tags and what came of it. All else of it is derived."""

from collections.abc import Iterable
from typing import Any

from django.http import Http404
from django.utils import timezone
from drf_spectacular.utils import OpenApiExample, extend_schema, extend_schema_serializer
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from calls.api import representation
from calls.api.bodies import Body, TextInput, WordInput, checked
from calls.api.etags import check_if_match, etag_of
from calls.api.idempotency import write
from calls.api.parameters import suggestion
from calls.api.problems import BadRequest, FieldError
from calls.api.serializers import PARTS, ConversationDetailSerializer
from calls.api.writing import (
    ANSWER_HEADERS,
    LOCATION_OF_SURVIVOR,
    MOVED,
    Writes,
    locked_call,
    moved,
    note_change,
    tagged,
)
from calls.models import AuditEntry, Conversation, StaffOutcome, Tag

MOST_TAGS = 50


class OutcomeBody(Body):
    """What came of a call."""

    kind = WordInput(StaffOutcome.Kind)
    text = TextInput(max_length=200, allow_blank=True, default="")


@extend_schema_serializer(
    examples=[OpenApiExample("A refund", {"tags": ["refund"], "outcome": {"kind": "resolved", "text": "Refunded"}})]
)
class ConversationBody(Body):
    """What is to be changed; what is left out stays as it is."""

    tags = serializers.ListField(
        child=TextInput(max_length=50),
        max_length=MOST_TAGS,
        required=False,
        help_text="All its tags from now on, by name; those there are: `tags/`.",
    )
    outcome = OutcomeBody(required=False, allow_null=True, help_text="Null takes it back.")


class ConversationWrites(Writes):
    """Changing a conversation, for the view set that shows it."""

    @extend_schema(
        request=ConversationBody,
        parameters=[*ANSWER_HEADERS, LOCATION_OF_SURVIVOR],
        responses={200: ConversationDetailSerializer, 308: MOVED},
    )
    @write
    def partial_update(self, request: Request, pk: str) -> Response:
        """Set the tags of a conversation, what came of it, or both."""
        try:
            call = locked_call(request, pk)
        except Http404:
            return moved(request, pk, "conversation-detail")
        wanted = checked(ConversationBody, request.data)
        before = _shown(call)
        check_if_match(request, etag_of(before))
        if "tags" in wanted:
            call.tags.set(_tags(wanted["tags"]))
        if "outcome" in wanted:
            _set_outcome(request, call, before["outcome"], wanted["outcome"])
        after = _shown(call)
        if after != before:
            note_change(request, AuditEntry.Action.CHANGE, call, call, before, after)
        return tagged(after)


def _shown(call: Conversation) -> dict[str, Any]:
    return representation.conversations(Conversation.objects.filter(pk=call.pk), PARTS)[0]


def _tags(names: Iterable[str]) -> list[Tag]:
    found = {tag.name: tag for tag in Tag.objects.filter(name__in=names)}
    errors = []
    for i, name in enumerate(names):
        if name not in found:
            hint = suggestion(name, Tag.objects.values_list("name", flat=True))
            errors.append(FieldError(f"tags[{i}]", name, f"There is no such tag.{hint} New ones are made at tags/."))
    if errors:
        raise BadRequest(*errors)
    return list(found.values())


def _set_outcome(request: Request, call: Conversation, before: dict | None, wanted: dict | None) -> None:
    if wanted is None:
        StaffOutcome.objects.filter(conversation=call).delete()
    elif wanted != before:
        who_and_when = {"set_by": None, "api_key": request.auth, "set_at": timezone.now()}
        StaffOutcome.objects.update_or_create(conversation=call, defaults=wanted | who_and_when)
