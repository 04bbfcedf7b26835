"""The feed of changes, by which a program keeps a copy of the calls."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from django.db.models import QuerySet
from drf_spectacular.utils import (
    OpenApiExample,
    OpenApiParameter,
    extend_schema,
    extend_schema_field,
    extend_schema_serializer,
)
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from calls import changes
from calls.access import visible
from calls.api import representation
from calls.api.filters import AccountFilters
from calls.api.pages import chosen_fields
from calls.api.parameters import whole_number
from calls.api.problems import BadRequest, FieldError
from calls.api.serializers import ConversationSerializer, Moment, Text, Words
from calls.api.views import INCLUDE, ReadViewSet, included
from calls.models import Account, Change, Conversation

DEFAULT_LIMIT = 100
LARGEST_LIMIT = 1000
NOW = "now"

AFTER = OpenApiParameter(
    "after",
    {"type": "string", "minLength": 1, "example": "now"},
    description="`next_cursor` of the answer before, or the `id` of an event of `live/stream/`: what comes after it is "
    "told. Left out: everything from the start. `now`: nothing but the cursor of this moment. A cursor never expires.",
)


FIELDS = OpenApiParameter(
    "fields",
    {"type": "array", "items": {"type": "string", "enum": list(ConversationSerializer().fields)}},
    description="The only fields to show of each conversation, with commas; left out: all.",
    style="form",
    explode=False,
)


_EXAMPLE_ID = "01997d5e-8a4c-7c3a-9d0a-3f2b1c4d5e6f"


class ChangeSerializer(serializers.Serializer):
    """One change of one conversation."""

    id = serializers.UUIDField(help_text="Id of the conversation.")
    account = Text(help_text="Slug of its account.")
    kind = Words(
        Change.Kind,
        help_text="`created`; `updated`: while it was going on, or by staff or programs (tags, notes, outcome); "
        "`corrected`: its calls had ended, and a later report says otherwise or more; `merged`: it was found to be "
        "part of the conversation `into`; `erased`: what it was made of is gone.",
    )
    steps = serializers.ListField(
        child=serializers.ChoiceField(["started", "answered", "ended"]), help_text="Which steps came with this change."
    )
    into = serializers.UUIDField(allow_null=True, help_text="The conversation that it was merged into.")
    changed_at = Moment(help_text="When it was written; the order is that of the feed, not of this time.")
    conversation = serializers.SerializerMethodField(
        help_text="As it is now; null when it is gone: then a later change says `merged` or `erased`."
    )

    @extend_schema_field(
        {
            "anyOf": [
                {"$ref": "#/components/schemas/Conversation"},
                {"$ref": "#/components/schemas/PartialConversation"},
                {"type": "null"},
            ]
        }
    )
    def get_conversation(self, change: Any) -> dict[str, Any] | None:
        return change["conversation"]


@extend_schema_serializer(
    examples=[
        OpenApiExample(
            "An update and a merger",
            {
                "results": [
                    {
                        "id": _EXAMPLE_ID,
                        "account": "delhi-support",
                        "kind": "updated",
                        "steps": ["answered"],
                        "into": None,
                        "changed_at": "2021-09-22T13:48:36.104512Z",
                        "conversation": {"id": _EXAMPLE_ID, "state": "live", "answered_at": "2021-09-22T13:48:35Z"},
                    },
                    {
                        "id": "01997d5e-9b11-7d42-8e55-6a1f0e9d2c3b",
                        "account": "delhi-support",
                        "kind": "merged",
                        "steps": [],
                        "into": _EXAMPLE_ID,
                        "changed_at": "2021-09-22T13:48:49.881204Z",
                        "conversation": None,
                    },
                ],
                "next_cursor": "txhxnYQHAf8GBgBdgQc",
                "has_more": False,
            },
            description="With `fields=id,state,answered_at`.",
        )
    ]
)
class ChangesSerializer(serializers.Serializer):
    """Some changes, and from where to go on."""

    results = ChangeSerializer(many=True)
    next_cursor = Text(help_text="What to give as `after` the next time, also when there were no results.")
    has_more = serializers.BooleanField(help_text="Whether there is more already.")


class FeedFilters(AccountFilters):
    """Whose changes are read: they are chosen by their accounts."""

    def of_accounts(self, queryset: QuerySet[Account], name: str, slugs: list[str]) -> QuerySet[Account]:
        super().of_accounts(Change.objects.all(), name, slugs)  # refuses those that there are not
        return queryset.filter(slug__in=slugs)


class ChangeViewSet(ReadViewSet):
    """Changes of conversations, in the order in which they were made; none is ever missed."""

    queryset = Account.objects.all()
    serializer_class = ConversationSerializer
    filterset_class = FeedFilters
    pagination_class = None
    extra_parameters = ("after", "limit", "include", "fields")

    @extend_schema(
        filters=True,
        parameters=[
            AFTER,
            OpenApiParameter(
                "limit",
                {"type": "integer", "minimum": 1, "maximum": LARGEST_LIMIT, "default": DEFAULT_LIMIT},
                description="Changes at most.",
            ),
            INCLUDE,
            FIELDS,
        ],
        responses=ChangesSerializer,
    )
    def retrieve(self, request: Request) -> Response:
        """Read on from a cursor: each conversation that was created, updated, corrected, merged or erased since.

        Ask again with `next_cursor` as `after`: at once while `has_more`, else after a while. A conversation comes
        again with each change, as it is by now, so that its `id` is what to keep it by. After 30 days only its newest
        change is told, so that reading from the start gives every conversation and does not grow without end.
        """
        accounts = dict(self.filter_queryset(self.get_queryset()).values_list("pk", "slug"))
        limit = whole_number(request, "limit", LARGEST_LIMIT, DEFAULT_LIMIT)
        parts, fields = included(self), chosen_fields(request, self)
        cursor = cursor_of(accounts, "after", request.query_params.get("after", ""))
        found = changes.read(accounts, cursor, limit + 1)
        page = found[:limit]
        shown = items(page, accounts, visible(request.auth, Conversation.objects.all()), parts, fields)
        return Response({"results": shown, "next_cursor": str(cursor.after(page)), "has_more": len(found) > len(page)})


def items(
    page: Sequence[Change],
    slugs: Mapping[int, str],
    rows: QuerySet[Conversation],
    parts: Collection[str] = (),
    fields: Collection[str] | None = None,
) -> list[dict[str, Any]]:
    """Return changes as the API shows them, each with its conversation as it is now, if it is among ``rows``.

    ``slugs`` are those of the accounts, by id; ``parts`` and ``fields`` are as in ``representation.conversations``.
    """
    ids = {change.conversation for change in page if change.kind not in (Change.Kind.MERGED, Change.Kind.ERASED)}
    wanted = None if fields is None else {*fields, "id"}
    found = {row["id"]: row for row in representation.conversations(rows.filter(pk__among=ids), parts, wanted)}
    if fields is not None and "id" not in fields:
        found = {pk: {name: value for name, value in row.items() if name != "id"} for pk, row in found.items()}
    return [
        {
            "id": str(change.conversation),
            "account": slugs[change.account_id],
            "kind": change.kind,
            "steps": change.steps.split(",") if change.steps else [],
            "into": str(change.into) if change.into else None,
            "changed_at": representation.moment(change.changed_at),
            "conversation": found.get(str(change.conversation)),
        }
        for change in page
    ]


def cursor_of(accounts: Collection[int], name: str, text: str) -> changes.Cursor:
    """Return the cursor that a parameter or header of this name gives. Raises ``BadRequest``."""
    if text == NOW:
        return changes.now(accounts)
    if not text:
        return changes.Cursor()
    try:
        cursor = changes.Cursor.parse(text)
    except changes.BadCursor as error:
        message = "This is no cursor. Take it whole from “next_cursor” or from an event's id, or leave it out."
        raise BadRequest(FieldError(name, text, message)) from error
    newest = changes.now(accounts).positions
    if any(cursor.positions.get(account, 0) > position for account, position in newest.items()):
        message = "This cursor is ahead of all changes: the database was put back from a backup. Leave it out."
        raise BadRequest(FieldError(name, text, message))
    return cursor
