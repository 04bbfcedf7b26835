"""The feed of changes as server-sent events: read once in each process for all who listen."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from time import monotonic
from typing import NamedTuple

import msgspec
from django.http import HttpResponse
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework import status
from rest_framework.exceptions import APIException
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request

from calls import changes
from calls.access import reach_of, visible
from calls.api import representation
from calls.api.changes import AFTER, FeedFilters, cursor_of, items
from calls.api.keys import refusal
from calls.api.problems import MEDIA_TYPE, document
from calls.api.views import ReadViewSet
from calls.changes import Cursor
from calls.choices import Scope, State
from calls.live_streams import ticket_of
from calls.models import Account, ApiKey, Change, Conversation

MOST_STREAMS = 1000
"""Streams of one key at a time in one process."""
KEPT = 2000
"""Changes that are kept for those who listen; who is further behind reads for themselves."""
PAGE = 500
"""Changes that are read at once for all."""
PAGES = 4
"""Pages that one look reads at most."""
MOST_NEWS = 20
"""Different news that are kept for others who are to be told the same."""
BATCH = 100
"""Changes that are told at once to one who listens."""
STALE_SECONDS = 10.0
"""After as long without a look nobody listened meanwhile: the feed is followed anew from where it is."""


EXAMPLE = """\
id: 0gLvjQAB
event: snapshot
data: {"conversations": []}

id: txhxnYQHAf8GBgBdgQc
event: change
data: {"id": "01997d5e-8a4c-7c3a-9d0a-3f2b1c4d5e6f", "kind": "created", "steps": ["started"], …}
"""


@dataclass(frozen=True)
class Listener:
    """Whose changes somebody may and wants to hear of; ``None``: everybody's, of accounts yet to come too."""

    accounts: frozenset[int] | None

    def hears(self, account: int) -> bool:
        """Whether changes of this account are told."""
        return self.accounts is None or account in self.accounts


EVERYBODY = Listener(None)


class Place(NamedTuple):
    """How far somebody was told: the cursor, its text, and the number of the next of the changes that are kept."""

    cursor: Cursor
    text: str
    number: int

    @classmethod
    def at(cls, cursor: Cursor, number: int = -1) -> "Place":
        """Return the place of this cursor; -1: it is not known which change comes next."""
        return cls(cursor, str(cursor), number)


class FeedNews(NamedTuple):
    """Events, and the place after them."""

    id: Place
    text: bytes


class _Told(NamedTuple):
    change: Change
    data: bytes


class _Kept(NamedTuple):
    """The newest changes, in the order of the feed, and the number of the first of them."""

    first: int
    told: Sequence[_Told]
    news: dict[tuple[Listener, str, int], FeedNews]
    """What listeners were told since there is nothing newer: most of them are to be told the same."""

    @property
    def end(self) -> int:
        return self.first + len(self.told)


class Feed:
    """What changes, as this process knows it: ``look`` in one thread; everything else from anywhere.

    It is a ``calls.live_streams.Source`` for listeners. A place of ``None`` is that of somebody new, who is told first
    what goes on now.
    """

    def __init__(self) -> None:
        self._cursor = Cursor()
        self._kept = _Kept(0, (), {})
        self._looked_at = -float("inf")

    def look(self) -> bool:
        """Read what changed since the last look; return whether anything did."""
        began, before = monotonic(), self._kept
        accounts = slugs_of(EVERYBODY)
        if began - self._looked_at > STALE_SECONDS:
            self._cursor = changes.now(accounts)
            self._kept = _Kept(before.end + 1, (), {})  # one number is left out, so that nobody goes on at the gap
        for _ in range(PAGES):
            page = changes.read(accounts, self._cursor, PAGE)
            if page:
                told = [*self._kept.told, *_written(page, accounts)][-KEPT:]
                self._kept = _Kept(self._kept.end + len(page) - len(told), told, {})
                self._cursor = self._cursor.after(page)
            if len(page) < PAGE:
                break
        self._looked_at = began
        return self._kept is not before

    def news(self, viewer: Listener, since: Place | None) -> FeedNews | Callable[[], FeedNews] | None:
        """Return what ``viewer`` was not told yet, or what reads it from the database for somebody far behind."""
        kept = self._kept
        if since is None:
            return partial(self._snapshot, viewer)
        if since.number < kept.first:
            return partial(self._read, viewer, since)
        if since.number == kept.end:
            return None
        key = (viewer, since.text, since.number)
        if key not in kept.news:
            coming = kept.told[since.number - kept.first :][:BATCH]
            read = since.cursor.positions
            new = [
                told
                for told in coming
                if viewer.hears(told.change.account_id) and told.change.pk > read.get(told.change.account_id, 0)
            ]
            if len(kept.news) == MOST_NEWS:
                kept.news.clear()
            kept.news[key] = _news(since.cursor, new, since.number + len(coming))
        return kept.news[key]

    def anew(self, since: Place) -> Place:
        """Return the same place: a cursor has a position for each account."""
        return Place.at(since.cursor)

    def _snapshot(self, listener: Listener) -> FeedNews:
        """Return the calls that go on now, and the place from which their changes are told."""
        # In this order: what changes meanwhile is told again rather than not at all.
        number, accounts = self._kept.end, slugs_of(listener)
        cursor = changes.now(accounts)
        calls = Conversation.objects.filter(state=State.LIVE, account__in=accounts)
        shown = representation.conversations(calls.order_by("-started_at", "-id"))
        data = msgspec.json.encode({"conversations": shown}, enc_hook=str)
        return FeedNews(Place.at(cursor, number), _event(cursor, "snapshot", data))

    def _read(self, listener: Listener, since: Place) -> FeedNews:
        # What is kept from here on was not committed before: whoever has read all there is goes on with it.
        number, accounts = self._kept.end, slugs_of(listener)
        page = changes.read(accounts, since.cursor, BATCH)
        return _news(since.cursor, _written(page, accounts), number if len(page) < BATCH else -1)


FEED = Feed()
"""The one of this process."""


def slugs_of(listener: Listener) -> dict[int, str]:
    """Return the accounts whose changes the listener hears of, each with its slug."""
    accounts = Account.objects.all() if listener.accounts is None else Account.objects.filter(pk__in=listener.accounts)
    return dict(accounts.values_list("pk", "slug"))


def _written(page: Sequence[Change], slugs: dict[int, str]) -> list[_Told]:
    shown = items(page, slugs, Conversation.objects.all())
    return [_Told(change, msgspec.json.encode(item, enc_hook=str)) for change, item in zip(page, shown, strict=True)]


def _news(cursor: Cursor, coming: Iterable[_Told], number: int) -> FeedNews:
    text = b""
    for told in coming:
        cursor = cursor.after([told.change])
        text += _event(cursor, "change", told.data)
    return FeedNews(Place.at(cursor, number), text)


def _event(cursor: Cursor, name: str, data: bytes) -> bytes:
    return b"id: %s\nevent: %s\ndata: %s\n\n" % (str(cursor).encode(), name.encode(), data)


# --- Who may listen --------------------------------------------------------------------------------------------------


class EventStream(BaseRenderer):
    """Names the media type; the events are written by ``calls.live_streams``."""

    media_type = "text/event-stream"
    format = "event-stream"


class NoStreams(APIException):
    """This server answers one request after the other."""

    status_code = status.HTTP_501_NOT_IMPLEMENTED
    default_detail = "This server sends no streams. Read /api/v1/changes/ again and again instead, or run it by ASGI."


class LiveStreamViewSet(ReadViewSet):
    """Changes as they happen."""

    required_scope = Scope.STREAM
    queryset = Account.objects.all()
    filterset_class = FeedFilters
    pagination_class = None
    extra_parameters = ("after",)
    renderer_classes = [EventStream]
    http_method_names = ["get"]

    @extend_schema(
        filters=True,
        parameters=[
            OpenApiParameter(
                "after",
                AFTER.type,
                description="`next_cursor` of `changes/`, or the `id` of an event: what comes after it is told. Left "
                "out: the calls that go on now, then what comes. `now`: what comes.",
            ),
            OpenApiParameter(
                "Last-Event-ID",
                {"type": "string"},
                OpenApiParameter.HEADER,
                description="The `id` of the last event that was taken in, which browsers send by themselves. It is a "
                "cursor of `changes/`, and goes before `after`.",
            ),
        ],
        responses={
            (200, "text/event-stream"): OpenApiResponse(
                {"type": "string"},
                "Server-sent events. `snapshot`, first and only without a cursor: `conversations`, those that go on "
                "now. `change`: one of the `results` of `changes/`. `beat`: every 15 seconds without news. `end`: the "
                "key may no longer listen. The `id` of each of the first two is the cursor after it.",
                [OpenApiExample("Events", EXAMPLE)],
            ),
            (501, MEDIA_TYPE): OpenApiResponse(
                {"$ref": "#/components/schemas/Problem"},
                "This server sends no streams: read `changes/` again and again instead.",
                [OpenApiExample("No streams", document(501, NoStreams.default_detail))],
            ),
        },
    )
    def retrieve(self, request: Request) -> HttpResponse:
        """Follow the feed of changes by server-sent events, from a cursor or from now."""
        self.filter_queryset(self.get_queryset())  # refuses accounts that there are not
        slugs = frozenset(filter(None, request.query_params.get("account", "").split(",")))
        name = "Last-Event-ID" if request.headers.get("Last-Event-ID") else "after"
        text = request.headers.get("Last-Event-ID") or request.query_params.get("after")
        listener = listener_of(request.auth, slugs)
        ticket = ticket_of(request._request)
        if ticket is None:
            raise NoStreams
        ticket.since = Place.at(cursor_of(slugs_of(listener), name, text)) if text else None
        ticket.owner, ticket.viewer = f"key {request.auth.pk}", listener
        ticket.renew = partial(_renewed, request.META["HTTP_AUTHORIZATION"].strip().partition(" ")[2].strip(), slugs)
        return HttpResponse(status=status.HTTP_204_NO_CONTENT)


def listener_of(key: ApiKey, slugs: frozenset[str]) -> Listener | None:
    """Return what ``key`` hears of the accounts with these slugs, none: of all; ``None`` when it may not see one."""
    reach = reach_of(key)
    if not slugs:
        return Listener(None if reach.is_everything else reach.accounts)
    wanted = visible(key, Account.objects.filter(slug__in=slugs)).values_list("pk", flat=True)
    return Listener(frozenset(wanted)) if len(wanted) == len(slugs) else None


def _renewed(text: str, slugs: frozenset[str]) -> Listener | None:
    """Return what whoever has this text of a key may hear by now; ``None``: nothing any more."""
    key = ApiKey.of_text(text)
    if key is None or refusal(key, text) or Scope.STREAM not in key.scopes:
        return None
    return listener_of(key, slugs)
