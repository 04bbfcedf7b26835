"""The worklist: missed callers who are owed a call, and what is done about them."""

from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

from django.db import models
from django.db.models import DateTimeField, Q, QuerySet, Value
from django.db.models.functions import Coalesce
from django.utils import timezone
from drf_spectacular.utils import OpenApiExample, extend_schema, extend_schema_serializer
from rest_framework import serializers
from rest_framework.generics import get_object_or_404
from rest_framework.mixins import ListModelMixin
from rest_framework.request import Request
from rest_framework.response import Response

from calls import audit, worklist
from calls.access import visible
from calls.api.bodies import Body, MomentInput, TextInput, WordInput, checked
from calls.api.filters import AccountFilters, spellings
from calls.api.idempotency import Conflict, write
from calls.api.parameters import MomentParameter, TextsParameter, WordsParameter, YesNoParameter
from calls.api.problems import BadRequest, FieldError
from calls.api.serializers import Moment, Number, Text, TextOrNull, Words
from calls.api.views import ReadViewSet
from calls.api.writing import ANSWER_HEADERS, Writes, number_of, tagged
from calls.models import AuditEntry, MissedCaller, WorklistStep

Kind, Closing = WorklistStep.Kind, MissedCaller.Closing
LONGEST_TEXT = 2000
_NEVER = datetime(9999, 12, 31, tzinfo=UTC)

_TAKES: dict[str, tuple[set[str], set[str]]] = {
    Kind.TAKE: ({"assigned_to"}, set()),
    Kind.ASSIGN: ({"assigned_to"}, set()),
    Kind.GIVE_BACK: (set(), set()),
    Kind.SNOOZE: ({"until"}, set()),
    Kind.WAKE: (set(), set()),
    Kind.CLOSE: ({"closing"}, {"text"}),
    Kind.REOPEN: (set(), set()),
    Kind.COMMENT: ({"text"}, set()),
}
"""Which fields each step needs, and which it takes beside them."""


class Standing(models.TextChoices):
    """How an entry stands."""

    OPEN = "open", "Open"
    SNOOZED = "snoozed", "Put off"
    CLOSED = "closed", "Closed"


class EntryFilters(AccountFilters):
    """Which entries."""

    standing = WordsParameter(Standing, "How they stand, or several.", method="that_stand")
    overdue = YesNoParameter("Whether a call back was promised for a time that is over.", method="that_are_overdue")
    assigned_to = TextsParameter("Login of whose task it is, or several.", "assigned_to__username")
    assigned = YesNoParameter("Whether it is anybody's task.", "assigned_to", lookup_expr="isnull", exclude=True)
    customer_number = TextsParameter(
        "The caller's whole number, in any usual spelling, or several.", method="of_whole_number"
    )
    did = TextsParameter("Our whole number, in any usual spelling, or several.", method="of_whole_number")
    missed_after = MomentParameter("First missed at this moment or later.", "first_missed_at", lookup_expr="gte")
    missed_before = MomentParameter("First missed before this moment.", "first_missed_at", lookup_expr="lt")

    def that_stand(self, queryset: QuerySet[MissedCaller], name: str, words: list[str]) -> QuerySet[MissedCaller]:
        is_closed, is_snoozed = Q(closed_at__isnull=False), Q(closed_at=None, snoozed_until__gt=timezone.now())
        conditions = {
            Standing.CLOSED: is_closed,
            Standing.SNOOZED: is_snoozed,
            Standing.OPEN: Q(closed_at=None) & ~is_snoozed,
        }
        wanted = Q()
        for word in words:
            wanted |= conditions[Standing(word)]
        return queryset.filter(wanted)

    def that_are_overdue(self, queryset: QuerySet[MissedCaller], name: str, wanted: bool) -> QuerySet[MissedCaller]:
        now = timezone.now()
        late = Q(pk__in=worklist.due_now(MissedCaller.objects.order_by(), now).filter(due_at__lt=now).values("pk"))
        return queryset.filter(late) if wanted else queryset.exclude(late)

    def of_whole_number(self, queryset: QuerySet[MissedCaller], name: str, texts: list[str]) -> QuerySet[MissedCaller]:
        return queryset.filter((f"{name}__in", spellings(texts)))


class EntrySerializer(serializers.Serializer):
    """Somebody who called, was not reached and is owed a call: from the first missed call until they are reached."""

    id = serializers.IntegerField(read_only=True)
    account = Text(source="account.slug")
    standing = serializers.SerializerMethodField()
    customer_number = Number()
    did = Number(help_text="Our number that was called.")
    misses = serializers.IntegerField(read_only=True, help_text="Missed calls.")
    first_missed_at = Moment()
    last_missed_at = Moment()
    due_at = Moment(allow_null=True, help_text="Until when a call back was promised; null: there is no promise.")
    attempts = serializers.IntegerField(read_only=True, help_text="Our calls to the number that were not answered.")
    first_attempt_at = Moment(allow_null=True)
    last_attempt_at = Moment(allow_null=True)
    reached_at = Moment(allow_null=True)
    reached_by = serializers.UUIDField(
        source="reached_by_id", read_only=True, allow_null=True, help_text="The conversation that closed it."
    )
    closed_at = Moment(allow_null=True)
    closing = Words(Closing, allow_null=True, help_text="Why it is closed; null while it is not.")
    assigned_to = serializers.CharField(
        source="assigned_to.username",
        default=None,
        read_only=True,
        allow_null=True,
        help_text="Login of whose task it is.",
    )
    snoozed_until = Moment(allow_null=True)

    def to_representation(self, entry: MissedCaller) -> dict[str, Any]:
        return super().to_representation(entry) | {"closing": entry.closing or None}

    def get_standing(self, entry: MissedCaller) -> Standing:
        if entry.closed_at:
            return Standing.CLOSED
        is_snoozed = entry.snoozed_until is not None and entry.snoozed_until > timezone.now()
        return Standing.SNOOZED if is_snoozed else Standing.OPEN


class StepSerializer(serializers.Serializer):
    """Something that was done about an entry."""

    id = serializers.IntegerField(read_only=True)
    kind = Words(Kind)
    at = Moment()
    by = serializers.CharField(
        source="by.username", default=None, read_only=True, allow_null=True, help_text="Login of who did it."
    )
    api_key = serializers.CharField(
        source="api_key.name", default=None, read_only=True, allow_null=True, help_text="Or the key that did it."
    )
    assigned_to = serializers.CharField(
        source="assigned_to.username", default=None, read_only=True, allow_null=True, help_text="Whose task it became."
    )
    until = Moment(allow_null=True)
    closing = TextOrNull(help_text="Why it was closed.")
    text = Text()


@extend_schema_serializer(
    examples=[
        OpenApiExample("Assign it", {"kind": "assign", "assigned_to": "asha"}),
        OpenApiExample("Put it off", {"kind": "snooze", "until": "2026-03-02T10:00:00Z"}),
        OpenApiExample("Close it", {"kind": "close", "closing": "no_answer", "text": "Tried three times."}),
        OpenApiExample("Open it again", {"kind": "reopen"}),
    ]
)
class StepBody(Body):
    """What is to be done.

    `take` and `assign` need `assigned_to`: `take` is refused when somebody has it already. `snooze` needs `until`,
    `close` needs `closing` and, when that is `other`, `text`; `comment` needs `text`. The others take nothing.
    """

    kind = WordInput(Kind)
    assigned_to = TextInput(max_length=150, required=False, help_text="Login of who is to see to it.")
    until = MomentInput(required=False, help_text="When it comes back, at the latest when the caller rings again.")
    closing = WordInput(worklist.REASONS, required=False)
    text = TextInput(max_length=LONGEST_TEXT, required=False)

    def validate(self, given: dict[str, Any]) -> dict[str, Any]:
        kind = given["kind"]
        needed, more = _TAKES[kind]
        if kind == Kind.CLOSE and given.get("closing") == Closing.OTHER:
            needed = needed | {"text"}
        missing, surplus = needed - given.keys(), given.keys() - needed - more - {"kind"}
        errors = dict.fromkeys(sorted(missing), f"“{kind}” needs it. Give it.")
        errors |= dict.fromkeys(sorted(surplus), f"“{kind}” does not take it. Leave it out.")
        if given.get("until") and given["until"] <= timezone.now():
            errors["until"] = "This moment is over. Give one to come."
        if errors:
            raise serializers.ValidationError(errors)
        return given


class WorklistViewSet(ListModelMixin, ReadViewSet):
    """Missed callers, the latest first; by `due_at` the oldest promise first."""

    serializer_class = EntrySerializer
    filterset_class = EntryFilters
    orderings = {
        "-first_missed_at": ("-first_missed_at", "-id"),
        "due_at": ("due_or_never", "first_missed_at", "id"),
    }

    def get_queryset(self) -> QuerySet[MissedCaller]:
        never = Value(_NEVER, output_field=DateTimeField())
        return _entries().annotate(due_or_never=Coalesce("due_at", never))

    def retrieve(self, request: Request, pk: str) -> Response:
        """Return one entry."""
        return Response(EntrySerializer(_found(request, pk)).data)


class StepsViewSet(Writes, ListModelMixin, ReadViewSet):
    """What was done about one entry, the oldest first."""

    serializer_class = StepSerializer
    orderings = {"at": ("at", "id")}

    def get_queryset(self) -> QuerySet[WorklistStep]:
        if "pk" not in self.kwargs:  # the schema asks for the table only
            return WorklistStep.objects.none()
        return worklist.steps_of(_found(self.request, self.kwargs["pk"])).select_related("by", "api_key", "assigned_to")

    def filter_queryset(self, queryset: QuerySet[WorklistStep]) -> QuerySet[WorklistStep]:
        return queryset  # the entry is one that the key may see

    def parameter_names(self) -> list[str]:
        return [] if self.is_write else self.paginator.parameter_names(self)

    def list(self, request: Request, pk: str) -> Response:
        """Return what staff and programs did about an entry."""
        return super().list(request)

    @extend_schema(request=StepBody, parameters=ANSWER_HEADERS[:1], responses={201: EntrySerializer})
    @write
    def create(self, request: Request, pk: str) -> Response:
        """Do something about an entry, and return the entry as it is then. 409: somebody else was quicker."""
        entry = _found(request, pk)
        step = checked(StepBody, request.data)
        kind = Kind(step.pop("kind"))
        said = {name: step[name] for name in ("assigned_to", "closing") if name in step}
        if "assigned_to" in step:
            step["assigned_to"] = _colleague(entry, step["assigned_to"])
        try:
            worklist.act(entry, request.auth, kind, **step)
        except worklist.Refused as refused:
            raise Conflict(str(refused)) from refused
        audit.record(request, AuditEntry.Action.CHANGE, entry, str(entry), step=kind, **said)
        return tagged(EntrySerializer(_found(request, pk)).data, HTTPStatus.CREATED)


def _entries() -> QuerySet[MissedCaller]:
    return MissedCaller.objects.select_related("account", "assigned_to")


def _found(request: Request, pk: str) -> MissedCaller:
    return get_object_or_404(visible(request.auth, _entries()), pk=number_of(pk))


def _colleague(entry: MissedCaller, login: str) -> Any:
    person = worklist.colleagues().filter(username=login).first()
    if person is None:
        message = "Nobody of this login works on the worklist. Give the login of somebody who does."
    elif not visible(person, MissedCaller.objects.filter(pk=entry.pk)).exists():
        message = f"{login} does not see the calls of {entry.account.slug}. Give somebody else."
    else:
        return person
    raise BadRequest(FieldError("assigned_to", login, message))
