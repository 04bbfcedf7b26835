"""Figures of the conversations that filters leave, bucket by bucket."""

import zoneinfo
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

from django.db.models import QuerySet
from django.utils import timezone
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from calls import timeseries
from calls.access import visible
from calls.api import filters
from calls.api.parameters import StrictFilters, one_of, suggestion
from calls.api.problems import BadRequest, FieldError
from calls.api.serializers import Moment, SummarySerializer, Text
from calls.api.views import ReadViewSet
from calls.buckets import Buckets, Interval, midnight
from calls.metrics import total
from calls.models import Account, Conversation
from calls.timeseries import GroupBy, Series

MOST_BUCKETS = 1000
MOST_FIGURES = 10_000
"""Buckets of all groups together."""
DEFAULT_DAYS = 7
_FIRST, _LAST = datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)
_OF_ACCOUNTS = {"account", "provider"}
_RANGE = ("started_after", "started_before")
_OWN = ("interval", "group_by", "time_zone")
_known_zones = cache(zoneinfo.available_timezones)


class BucketSerializer(SummarySerializer):
    """The figures of an hour or a day, as far as it lies within the range."""

    starts_at = Moment()
    ends_at = Moment(help_text="Just after it.")
    local = serializers.CharField(
        read_only=True, help_text="When it starts, by the zone's clock, with the offset from UTC that it then has."
    )


class SeriesSerializer(serializers.Serializer):
    """The figures of one group, or of all conversations."""

    key = Text(
        allow_null=True,
        help_text="What the filter of that name takes: the account's slug, the agent's id, the DID, the direction. "
        "Null: all conversations when there are no groups, else those of no agent, or of no DID.",
    )
    name = Text(help_text="For people.")
    total = SummarySerializer(read_only=True, help_text="Of all its buckets.")
    buckets = BucketSerializer(many=True, read_only=True, help_text="Each one, those without calls too, in order.")


class TimeSeriesSerializer(serializers.Serializer):
    """Figures by hours or days."""

    interval = serializers.ChoiceField([word.value for word in Interval], read_only=True)
    group_by = serializers.ChoiceField([word.value for word in GroupBy], read_only=True, allow_null=True)
    time_zone = Text()
    since = Moment(help_text="The range that was asked for …")
    until = Moment(help_text="… up to just before this.")
    series = SeriesSerializer(
        many=True,
        read_only=True,
        help_text="One for each group that has conversations, that with the most first; without groups exactly one.",
    )


_PARAMETERS = [
    OpenApiParameter(
        "interval",
        OpenApiTypes.STR,
        enum=[word.value for word in Interval],
        default=Interval.DAY.value,
        description=f"How long a bucket is, by the zone's clock. At most {MOST_BUCKETS:,} buckets are answered.",
    ),
    OpenApiParameter(
        "group_by",
        OpenApiTypes.STR,
        enum=[word.value for word in GroupBy],
        description=f"What conversations are told apart by. At most {MOST_FIGURES:,} buckets of all groups are "
        "answered.",
    ),
    OpenApiParameter(
        "time_zone",
        {"type": "string", "maxLength": 64},
        default="UTC",
        description="The zone, by its IANA name such as Asia/Kolkata, whose hours and days are meant.",
    ),
]


class TimeSeries(ReadViewSet):
    """The figures of `stats/summary/`, by hours or days of a zone's clock.

    The range is that of `started_after` and `started_before`. Without the latter it ends now; without the former it
    begins with the day six days before the one in which it ends. A day has 23 or 25 hours where clocks are changed.
    """

    queryset = Conversation.objects.all()
    serializer_class = TimeSeriesSerializer
    filterset_class = filters.ConversationFilters
    pagination_class = None
    extra_parameters = _OWN

    @extend_schema(
        operation_id="stats_timeseries", filters=True, parameters=_PARAMETERS, responses=TimeSeriesSerializer
    )
    def retrieve(self, request: Request) -> Response:
        interval = Interval(one_of(request, "interval", list(Interval), Interval.DAY))
        is_grouped = "group_by" in request.query_params
        group_by = GroupBy(one_of(request, "group_by", list(GroupBy), "")) if is_grouped else None
        zone = _zone(request)
        found = StrictFilters().checked(request, visible(request.auth, self.get_queryset()), self)
        chosen = found.form.cleaned_data
        since, until = _range(request, chosen, zone)
        buckets = _buckets(request, since, until, interval, zone)
        return Response(
            self.get_serializer(
                {
                    "interval": interval.value,
                    "group_by": group_by and group_by.value,
                    "time_zone": zone.key,
                    "since": since,
                    "until": until,
                    "series": [_shown(one, buckets, zone) for one in self._series(found.qs, chosen, buckets, group_by)],
                }
            ).data
        )

    def _series(
        self, calls: QuerySet[Conversation], chosen: dict[str, Any], buckets: Buckets, group_by: GroupBy | None
    ) -> list[Series]:
        """Return the figures: from rollups where nothing is asked that they cannot tell."""
        most = MOST_FIGURES // len(buckets)
        if set(self.request.query_params) <= {*_OF_ACCOUNTS, *_RANGE, *_OWN}:
            accounts = visible(self.request.auth, Account.objects.all())
            if chosen["account"]:
                accounts = accounts.filter(slug__in=chosen["account"])
            if chosen["provider"]:
                accounts = accounts.filter(provider__in=chosen["provider"])
            pks = list(accounts.values_list("pk", flat=True))
            if timeseries.can_be_rolled_up(pks, buckets, group_by) and (group_by is None or len(pks) <= most):
                return timeseries.rolled_up(pks, buckets, group_by)
        if group_by and timeseries.groups_of(calls, buckets, group_by, most) > most:
            message = (
                f"There are more than {most} groups, and at most {MOST_FIGURES:,} buckets of all groups are answered. "
                "Ask for a shorter range or longer interval, or for fewer groups by a filter."
            )
            raise BadRequest(FieldError("group_by", group_by, message))
        return timeseries.counted(calls, buckets, group_by)


def _zone(request: Request) -> zoneinfo.ZoneInfo:
    name = request.query_params.get("time_zone", "UTC")
    known = _known_zones()
    if name not in known:
        message = f"There is no such time zone. Give an IANA name such as Asia/Kolkata.{suggestion(name, known)}"
        raise BadRequest(FieldError("time_zone", name, message))
    return zoneinfo.ZoneInfo(name)


def _range(request: Request, chosen: dict[str, Any], zone: zoneinfo.ZoneInfo) -> tuple[datetime, datetime]:
    for name in _RANGE:
        if chosen[name] and not _FIRST <= chosen[name] <= _LAST:
            message = f"Give a moment from {_FIRST:%Y-%m-%d} to {_LAST:%Y-%m-%d}."
            raise BadRequest(FieldError(name, request.query_params[name], message))
    until = chosen["started_before"] or timezone.now()
    since = chosen["started_after"] or midnight(until - timedelta(microseconds=1), zone, 1 - DEFAULT_DAYS)
    if since >= until:
        name = _RANGE[bool(chosen["started_before"])]
        message = "The range ends before it begins. Give a “started_before” that comes after “started_after”."
        raise BadRequest(FieldError(name, request.query_params[name], message))
    return since, until


def _buckets(
    request: Request, since: datetime, until: datetime, interval: Interval, zone: zoneinfo.ZoneInfo
) -> Buckets:
    message = f"At most {MOST_BUCKETS:,} buckets are answered. Ask for a shorter range{{}}."
    message = message.format(", or for interval=day" if interval == Interval.HOUR else "")
    problem = BadRequest(FieldError("interval", interval, message))
    if (until - since) / interval.length > MOST_BUCKETS + 1:
        raise problem
    buckets = Buckets.of(since, until, interval, zone)
    if len(buckets) > MOST_BUCKETS:
        raise problem
    return buckets


def _shown(one: Series, buckets: Buckets, zone: zoneinfo.ZoneInfo) -> dict[str, Any]:
    marks = buckets.marks
    return {
        "key": one.key,
        "name": one.name,
        "total": total(one.tallies).summary,
        "buckets": [
            {
                "starts_at": begin,
                "ends_at": end,
                "local": begin.astimezone(zone).isoformat(),
                **tally.summary._asdict(),
            }
            for begin, end, tally in zip(marks, marks[1:], one.tallies, strict=False)
        ],
    }
