"""The read side of the API, one class a resource."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, ClassVar
from uuid import UUID

from django.db.models import DateTimeField, OuterRef, Prefetch, QuerySet, Subquery, Value
from django.db.models.functions import Coalesce
from django.http import Http404
from django.shortcuts import get_object_or_404
from django.urls import reverse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema, extend_schema_view
from rest_framework import status
from rest_framework.mixins import ListModelMixin, RetrieveModelMixin
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import GenericViewSet

from calls import statement
from calls.access import visible
from calls.api import filters, serializers
from calls.api.parameters import StrictFilters, check_names
from calls.api.problems import BadRequest, FieldError
from calls.choices import Scope, State
from calls.metrics import summarize
from calls.models import Account, Alert, BalanceReading, Conversation, ConversationRedirect, Event, Leg

Orderings = Mapping[str, tuple[str, ...]]
BY_START: Orderings = {"-started_at": ("-started_at", "-id"), "started_at": ("started_at", "id")}


class ReadViewSet(GenericViewSet):
    """Reads one resource. A subclass names its scope, its filters and its orderings, and nothing else is accepted."""

    required_scope: ClassVar[Scope] = Scope.READ
    orderings: ClassVar[Orderings] = {}
    """Values of ``?ordering=`` and the columns each stands for; see ``calls.api.pages.CursorPages``."""
    extra_parameters: ClassVar[tuple[str, ...]] = ()
    http_method_names = ["get", "head"]

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        if self.action is not None:
            check_names(request, self.parameter_names())

    def filter_queryset(self, queryset: QuerySet) -> QuerySet:
        """Return what the filters leave of the rows that the key may see."""
        return super().filter_queryset(visible(self.request.auth, queryset))

    def parameter_names(self) -> list[str]:
        """Return the query parameters of the current action."""
        if self.detail:
            return []
        names = list(self.filterset_class.base_filters) + list(self.extra_parameters)
        if self.paginator is not None:
            names += ["cursor", "page_size"]
            names += ["ordering"] if len(self.orderings) > 1 else []
        return names


class AccountViewSet(ListModelMixin, RetrieveModelMixin, ReadViewSet):
    """Accounts, by slug, each with its latest balance; one alone also with how long that lasts."""

    filterset_class = filters.ProviderFilters
    orderings = {"slug": ("slug",)}
    lookup_field = "slug"
    lookup_value_regex = "[^/]+"

    def get_queryset(self) -> QuerySet[Account]:
        latest = BalanceReading.objects.filter(account=OuterRef("pk"))
        return Account.objects.annotate(
            latest_balance=Subquery(latest.values("balance")[:1]),
            latest_balance_at=Subquery(latest.values("occurred_at")[:1]),
        )

    def get_serializer_class(self) -> type[serializers.AccountSerializer]:
        return serializers.AccountDetailSerializer if self.detail else serializers.AccountSerializer


INCLUDE = OpenApiParameter(
    "include",
    {"type": "array", "items": {"type": "string", "enum": list(serializers.PARTS)}},
    description="What to embed in each conversation.",
    style="form",
    explode=False,
)
MOVED = OpenApiResponse(description="It was found to be part of an older conversation, whose address is in `Location`.")


@extend_schema_view(
    list=extend_schema(parameters=[INCLUDE]),
    retrieve=extend_schema(
        parameters=[OpenApiParameter("Location", OpenApiTypes.URI, OpenApiParameter.HEADER, response=[308])],
        responses={200: serializers.ConversationDetailSerializer, 308: MOVED},
    ),
)
class ConversationViewSet(ListModelMixin, RetrieveModelMixin, ReadViewSet):
    """Conversations, newest first."""

    filterset_class = filters.ConversationFilters
    orderings = BY_START
    extra_parameters = ("include",)
    lookup_value_regex = "[^/]+"

    def get_queryset(self) -> QuerySet[Conversation]:
        return with_parts(self.included())

    def get_serializer_class(self) -> type[serializers.ConversationSerializer]:
        return serializers.ConversationDetailSerializer if self.detail else serializers.ConversationSerializer

    def get_serializer_context(self) -> dict[str, Any]:
        return {**super().get_serializer_context(), "include": self.included()}

    def included(self) -> tuple[str, ...]:
        """Return which parts to embed: all of them in one conversation, in a list those that are asked for."""
        if self.detail or self.request is None:
            return serializers.PARTS
        text = self.request.query_params.get("include", "")
        parts = tuple(part.strip() for part in text.split(",")) if text else ()
        if not set(parts) <= set(serializers.PARTS):
            raise BadRequest(FieldError("include", text, f"Give one or more of: {', '.join(serializers.PARTS)}."))
        return parts

    def retrieve(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        try:
            return super().retrieve(request, *args, **kwargs)
        except Http404:
            survivor = survivor_of(kwargs["pk"])
            if not visible(request.auth, Conversation.objects.filter(pk=survivor)).exists():
                raise
            address = request.build_absolute_uri(reverse("conversation-detail", args=[survivor]))
            return Response(status=status.HTTP_308_PERMANENT_REDIRECT, headers={"Location": address})


class LiveViewSet(ListModelMixin, ReadViewSet):
    """The conversations going on now, newest first, with their legs."""

    serializer_class = serializers.ConversationSerializer
    filterset_class = filters.AccountFilters
    orderings = {"-started_at": BY_START["-started_at"]}

    def get_queryset(self) -> QuerySet[Conversation]:
        return with_parts(("legs",)).filter(state=State.LIVE)

    def get_serializer_context(self) -> dict[str, Any]:
        return {**super().get_serializer_context(), "include": ("legs",)}


class LegViewSet(ListModelMixin, ReadViewSet):
    """Legs, newest first; those whose start is not known come last."""

    serializer_class = serializers.LegSerializer
    filterset_class = filters.LegFilters
    orderings = {"-started_at": ("-sort_at", "-id")}

    def get_queryset(self) -> QuerySet[Leg]:
        unknown = Value(datetime(1970, 1, 1, tzinfo=UTC), output_field=DateTimeField())
        return Leg.objects.select_related("agent").annotate(sort_at=Coalesce("started_at", unknown))


class EventViewSet(ListModelMixin, ReadViewSet):
    """Events, newest first."""

    queryset = Event.objects.all()
    serializer_class = serializers.EventSerializer
    filterset_class = filters.EventFilters
    orderings = {"-occurred_at": ("-occurred_at", "-id")}


class BalanceViewSet(ListModelMixin, ReadViewSet):
    """Balance readings, newest first, in the order in which the provider booked them and the gaps are worked out."""

    queryset = BalanceReading.objects.select_related("account")
    serializer_class = serializers.BalanceReadingSerializer
    filterset_class = filters.BalanceFilters
    orderings = {"-booked_at": ("-booked_at", "-id")}


class StatementViewSet(ReadViewSet):
    """What became of an account's balance."""

    queryset = Account.objects.all()
    serializer_class = serializers.StatementSerializer
    filterset_class = filters.StatementFilters
    pagination_class = None
    lookup_field = "slug"

    def parameter_names(self) -> list[str]:
        return list(self.filterset_class.base_filters)

    @extend_schema(filters=True, responses=serializers.StatementSerializer)
    def retrieve(self, request: Request, slug: str) -> Response:
        """Top-ups, charges and what nothing explains, which add up from the opening to the closing balance."""
        chosen = StrictFilters().checked(request, self.queryset, self).form.cleaned_data
        account = get_object_or_404(visible(request.auth, self.get_queryset()), slug=slug)
        totals = statement.totals(account, chosen["after"], chosen["before"])
        return Response(self.get_serializer({"account": account, **totals._asdict()}).data)


class AlertViewSet(ListModelMixin, ReadViewSet):
    """Alerts, newest first."""

    queryset = Alert.objects.select_related("account", "rule", "assigned_to")
    serializer_class = serializers.AlertSerializer
    filterset_class = filters.AlertFilters
    orderings = {"-opened_at": ("-opened_at", "-id")}


class SummaryViewSet(ReadViewSet):
    """Figures over the conversations that the filters leave."""

    queryset = Conversation.objects.all()
    serializer_class = serializers.SummarySerializer
    filterset_class = filters.ConversationFilters
    pagination_class = None

    @extend_schema(filters=True, responses=serializers.SummarySerializer)
    def retrieve(self, request: Request) -> Response:
        """Counts by how the conversations ended, answer rate, talk and ring time, and cost in each unit."""
        figures = summarize(self.filter_queryset(self.get_queryset()))
        return Response(self.get_serializer(figures).data)


def with_parts(parts: tuple[str, ...]) -> QuerySet[Conversation]:
    """Return all conversations with what their serializer shows, in as many queries whatever their number."""
    found = Conversation.objects.select_related("account", "agent").prefetch_related("tags")
    if "legs" in parts:
        found = found.prefetch_related(Prefetch("legs", Leg.objects.select_related("agent")))
    if "events" in parts:
        found = found.prefetch_related(Prefetch("events", Event.objects.order_by("occurred_at", "id")))
    return found


def survivor_of(text: str) -> UUID | None:
    """Return the id of the conversation that the one with this id became part of, or ``None``."""
    try:
        former = UUID(text)
    except ValueError:
        return None
    return ConversationRedirect.objects.filter(pk=former).values_list("conversation", flat=True).first()
