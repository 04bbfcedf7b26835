"""The read side of the API, one class a resource."""

from collections.abc import Mapping
from typing import Any, ClassVar

from django.db.models import OuterRef, QuerySet, Subquery
from django.shortcuts import get_object_or_404
from drf_spectacular.utils import OpenApiParameter, extend_schema, extend_schema_view
from rest_framework.mixins import ListModelMixin, RetrieveModelMixin
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import GenericViewSet

from calls import statement
from calls.access import visible
from calls.api import etags, filters, representation, serializers
from calls.api.conversation_writes import ConversationWrites
from calls.api.pages import chosen_fields
from calls.api.parameters import StrictFilters, check_names
from calls.api.problems import BadRequest, FieldError
from calls.api.writing import LOCATION_OF_SURVIVOR, MOVED, id_of, moved
from calls.choices import Scope, State
from calls.metrics import summarize
from calls.models import Account, Alert, BalanceReading, Conversation, Event, Leg
from calls.models.leg import START_OR_NEVER

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
            names += self.paginator.parameter_names(self)
        return names

    def finalize_response(self, request: Request, response: Any, *args: Any, **kwargs: Any) -> Any:
        response = super().finalize_response(request, response, *args, **kwargs)
        if request.method in ("GET", "HEAD") and isinstance(response, Response) and response.status_code == 200:
            etags.tag(request, response)
        return response


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
    description="What to embed in each conversation; to name it in `fields` will do too.",
    style="form",
    explode=False,
)


@extend_schema_view(
    list=extend_schema(parameters=[INCLUDE]),
    retrieve=extend_schema(
        parameters=[LOCATION_OF_SURVIVOR],
        responses={200: serializers.ConversationDetailSerializer, 308: MOVED},
    ),
)
class ConversationViewSet(ConversationWrites, ReadViewSet):
    """Conversations, newest first."""

    queryset = Conversation.objects.all()
    filterset_class = filters.ConversationFilters
    orderings = BY_START
    extra_parameters = ("include",)
    lookup_value_regex = "[^/]+"

    def get_serializer_class(self) -> type[serializers.ConversationSerializer]:
        return serializers.ConversationDetailSerializer if self.detail else serializers.ConversationSerializer

    def list(self, request: Request) -> Response:
        parts = included(self)
        rows = self.filter_queryset(self.get_queryset()).values_list(*representation.CONVERSATION_COLUMNS, named=True)
        page = self.paginate_queryset(rows)
        return self.get_paginated_response(representation.of_conversations(page, parts))

    def retrieve(self, request: Request, pk: str) -> Response:
        rows = visible(request.auth, self.get_queryset())
        for shown in representation.conversations(rows.filter(pk=id_of(pk)), serializers.PARTS):
            return Response(shown)
        return moved(request, pk, "conversation-detail")


class LiveViewSet(ReadViewSet):
    """The conversations going on now, newest first, with their legs."""

    queryset = Conversation.objects.filter(state=State.LIVE)
    serializer_class = serializers.LiveConversationSerializer
    filterset_class = filters.AccountFilters
    orderings = {"-started_at": BY_START["-started_at"]}

    def list(self, request: Request) -> Response:
        rows = self.filter_queryset(self.get_queryset()).values_list(*representation.CONVERSATION_COLUMNS, named=True)
        return self.get_paginated_response(representation.of_conversations(self.paginate_queryset(rows), ("legs",)))


class LegViewSet(ReadViewSet):
    """Legs, newest first; those whose start is not known come last."""

    queryset = Leg.objects.annotate(sort_at=START_OR_NEVER)
    serializer_class = serializers.LegSerializer
    filterset_class = filters.LegFilters
    orderings = {"-started_at": ("-sort_at", "-id")}

    def list(self, request: Request) -> Response:
        columns = (*representation.LEG_COLUMNS, "sort_at")
        page = self.paginate_queryset(self.filter_queryset(self.get_queryset()).values_list(*columns, named=True))
        return self.get_paginated_response(representation.of_legs(page))


class EventViewSet(ReadViewSet):
    """Events, newest first."""

    queryset = Event.objects.all()
    serializer_class = serializers.EventSerializer
    filterset_class = filters.EventFilters
    orderings = {"-occurred_at": ("-occurred_at", "-id")}

    def list(self, request: Request) -> Response:
        rows = self.filter_queryset(self.get_queryset()).values_list(*representation.EVENT_COLUMNS, named=True)
        return self.get_paginated_response(representation.of_events(self.paginate_queryset(rows)))


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


def included(view: ReadViewSet) -> tuple[str, ...]:
    """Return which parts to embed in the conversations of a list: those that are asked for."""
    text = view.request.query_params.get("include", "")
    parts = tuple(part.strip() for part in text.split(",")) if text else ()
    if not set(parts) <= set(serializers.PARTS):
        raise BadRequest(FieldError("include", text, f"Give one or more of: {', '.join(serializers.PARTS)}."))
    fields = chosen_fields(view.request, view)
    return parts if fields is None else tuple(fields.intersection(serializers.PARTS))
