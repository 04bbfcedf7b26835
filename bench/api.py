"""How quick the API's lists are beside two million conversations and five million legs: the database of browsing.

The reference of a page is the same JSON made by a few lines around SQL written by hand, a mere function: no request,
no key, no limits, no filters, no links. Ours is the whole request in Django's test client, from the address to the last
byte. ``python -m bench.api FIGURE`` runs against the database of DATABASE_URL and prints JSON.
"""

import json
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import django

from bench.browsing import CONVERSATIONS, stored
from bench.figures import Bench, Figure, of_pairs

TIMES = 31
"""How often each page and its reference are asked for, in turn."""
MOST_QUERIES = 6
DRESSED = 1000
"""How many of the newest calls are given events and tags, which the database of browsing has none of."""

_CALLS = """
SELECT c.id, a.slug, a.provider, c.external_id, c.direction, c.state, c.disposition, c.reason, c.customer_number, c.did,
    g.id, g.external_id, g.name, c.started_at, c.answered_at, c.ended_at, c.ring_seconds, c.talk_seconds,
    c.duration_seconds, c.cost, c.cost_unit, c.recording, c.has_voicemail, c.hangup_cause, c.request_id, c.extra_params,
    c.flags,
    ARRAY(
        SELECT t.name FROM calls_conversation_tags ct JOIN calls_tag t ON t.id = ct.tag_id
        WHERE ct.conversation_id = c.id ORDER BY t.name
    ),
    o.kind, o.text
FROM calls_conversation c JOIN calls_account a ON a.id = c.account_id LEFT JOIN calls_agent g ON g.id = c.agent_id
    LEFT JOIN calls_staffoutcome o ON o.conversation_id = c.id
ORDER BY c.started_at DESC, c.id DESC LIMIT %s
"""
_LEGS = """
SELECT l.id, l.conversation_id, l.external_id, l.label, l.role, l.direction, l.from_number, l.to_number, g.id,
    g.external_id, g.name, l.disposition, l.started_at, l.answered_at, l.ended_at, l.ring_seconds, l.talk_seconds,
    l.duration_seconds, l.hangup_cause, l.cost, l.balance_after, l.recording
FROM calls_leg l LEFT JOIN calls_agent g ON g.id = l.agent_id
WHERE l.conversation_id = ANY(%s) ORDER BY l.conversation_id, l.label, l.external_id
"""
_EVENTS = """
SELECT id, conversation_id, leg_id, kind, occurred_at, received_at, provider_status, details
FROM calls_event WHERE conversation_id = ANY(%s) ORDER BY occurred_at, id
"""


def by_hand(size: int, *, is_whole: bool) -> bytes:
    """Return a first page as somebody writes it who needs just this one; whole: with legs and events."""
    rows = _fetched(_CALLS, size)
    calls = [
        {
            "id": str(r[0]), "account": r[1], "provider": r[2], "external_id": r[3], "direction": r[4], "state": r[5],
            "disposition": r[6], "reason": r[7], "customer_number": r[8], "did": r[9], "agent": _agent(r[10:13]),
            "started_at": _moment(r[13]), "answered_at": _moment(r[14]), "ended_at": _moment(r[15]),
            "ring_seconds": r[16], "talk_seconds": r[17], "duration_seconds": r[18], "cost": _amount(r[19]),
            "cost_unit": r[20], "recording": r[21] or None, "has_voicemail": r[22], "hangup_cause": r[23],
            "request_id": r[24], "extra_params": json.loads(r[25]), "flags": json.loads(r[26]), "tags": r[27],
            "outcome": {"kind": r[28], "text": r[29]} if r[28] else None,
        }
        for r in rows
    ]  # fmt: skip
    if is_whole:
        ids = [r[0] for r in rows]
        legs, events = defaultdict(list), defaultdict(list)
        for r in _fetched(_LEGS, ids):
            legs[str(r[1])].append({
                "id": r[0], "conversation": str(r[1]), "external_id": r[2], "label": r[3], "role": r[4],
                "direction": r[5], "from_number": r[6], "to_number": r[7], "agent": _agent(r[8:11]),
                "disposition": r[11], "started_at": _moment(r[12]), "answered_at": _moment(r[13]),
                "ended_at": _moment(r[14]), "ring_seconds": r[15], "talk_seconds": r[16], "duration_seconds": r[17],
                "hangup_cause": r[18], "cost": _amount(r[19]), "balance_after": _amount(r[20]),
                "recording": r[21] or None,
            })  # fmt: skip
        for r in _fetched(_EVENTS, ids):
            events[str(r[1])].append({
                "id": r[0], "conversation": str(r[1]), "leg": r[2], "kind": r[3], "occurred_at": _moment(r[4]),
                "received_at": _moment(r[5]), "provider_status": r[6], "details": json.loads(r[7]),
            })  # fmt: skip
        for call in calls:
            call |= {"legs": legs[call["id"]], "events": events[call["id"]]}
    return json.dumps({"results": calls}).encode()


def _fetched(sql: str, parameter: object) -> list[tuple]:
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute(sql, [parameter])
        return cursor.fetchall()


def _agent(columns: tuple) -> dict[str, Any] | None:
    return None if columns[0] is None else dict(zip(("id", "external_id", "name"), columns, strict=True))


def _moment(value: Any) -> str | None:
    return value and value.isoformat().replace("+00:00", "Z")


def _amount(value: Any) -> str | None:
    return None if value is None else str(value)


# --- Measuring -------------------------------------------------------------------------------------------------------

LIST = "/api/v1/conversations/"
WHOLE = f"{LIST}?include=legs,events"


def measure(name: str) -> dict[str, object]:
    """Return the pairs of one figure, ours and the reference's in turn, and what else is to be known of it."""
    from django.conf import settings
    from django.test import Client

    from calls.choices import Scope
    from calls.models import ApiKey

    settings.ALLOWED_HOSTS = ["*"]
    _dress()
    _, text = ApiKey.issue(f"bench {time.time()}", [Scope.READ], calls_per_minute=1_000_000)
    client = Client(headers={"authorization": f"Bearer {text}"})
    return MEASURED[name](client)


def _dress() -> None:
    """Give the newest calls events and a tag, once."""
    from calls.choices import EventKind
    from calls.models import Conversation, Event, Leg, Tag

    if Event.objects.exists():
        return
    newest = list(Conversation.objects.values_list("pk", flat=True)[:DRESSED])
    tag, _ = Tag.objects.get_or_create(name="bench")
    tag.conversations.set(newest[::3])
    Event.objects.bulk_create(
        Event(
            account_id=leg.account_id, conversation_id=leg.conversation_id, leg=leg, leg_label=leg.label,
            leg_external_id=leg.external_id, kind=kind, provider_status=kind, occurred_at=leg.started_at,
            received_at=leg.started_at,
        )
        for leg in Leg.objects.filter(conversation__in=newest)
        for kind in (EventKind.STARTED, EventKind.RINGING, EventKind.HANGUP)
    )  # fmt: skip


def _page(client: Any, address: str) -> float:
    began = time.perf_counter()
    answer = client.get(address)
    spent = time.perf_counter() - began
    assert answer.status_code == 200, (address, answer.content)
    return spent * 1000


def _timed(function: Callable[[], object]) -> float:
    began = time.perf_counter()
    function()
    return (time.perf_counter() - began) * 1000


def _beside_sql(address: str, size: int, *, is_whole: bool) -> Callable[[Any], dict[str, object]]:
    def measured(client: Any) -> dict[str, object]:
        from django.db import connection
        from django.test.utils import CaptureQueriesContext

        def reference() -> bytes:
            return by_hand(size, is_whole=is_whole)

        theirs = json.loads(reference())["results"]
        assert client.get(address).json()["results"] == theirs
        assert len(theirs) == size
        pairs = [(_page(client, address), _timed(reference)) for _ in range(TIMES)]
        with CaptureQueriesContext(connection) as queries:
            client.get(address)
        return {"pairs": pairs, "queries": len(queries)}

    return measured


def _deep(path: str) -> Callable[[Any], dict[str, object]]:
    """Return what measures the page after the row at half the table's depth beside the first page of that list."""

    def measured(client: Any) -> dict[str, object]:
        from calls.api.pages import cursor_after
        from calls.api.views import ConversationViewSet, LegViewSet

        view = {"conversations/": ConversationViewSet, "legs/": LegViewSet}[path]
        order = view.orderings["-started_at"]
        depth = CONVERSATIONS // 2
        row = view.queryset.order_by(*order)[depth]
        first = f"/api/v1/{path}"
        deep = f"{first}?cursor={cursor_after(row, order)}"
        assert len(client.get(deep).json()["results"]) == 100
        return {"pairs": [(_page(client, deep), _page(client, first)) for _ in range(TIMES)]}

    return measured


MEASURED: dict[str, Callable[[Any], dict[str, object]]] = {
    "list": _beside_sql(LIST, 100, is_whole=False),
    "whole": _beside_sql(f"{WHOLE}&page_size=500", 500, is_whole=True),
    "deep": _deep("conversations/"),
    "deep legs": _deep("legs/"),
}


# --- Figures ---------------------------------------------------------------------------------------------------------


def _measured(bench: Bench, name: str) -> dict[str, Any]:
    with stored(bench) as database:
        return json.loads(database.python("-m", "bench.api", name))


def _figure(name: str, title: str, at_most: float) -> Callable[[Bench], Figure]:
    def measured(bench: Bench) -> Figure:
        found = _measured(bench, name)
        return of_pairs(title, found.pop("pairs"), unit="ms", at_most=at_most, details=found)

    return measured


def _queries(bench: Bench) -> Figure:
    found = _measured(bench, "whole")
    title = "queries for 500 conversations with legs and events ÷ 6"
    return of_pairs(title, [(found["queries"], MOST_QUERIES)], unit="queries", at_most=1)


_MILLIONS = f"of {CONVERSATIONS:,} conversations"
FIGURES = {
    "api-list": _figure("list", f"page of 100 {_MILLIONS} ÷ the same JSON from SQL by hand", 2.5),
    "api-included": _figure("whole", "500 with legs and events ÷ the same JSON from SQL by hand", 2.5),
    "api-queries": _queries,
    "api-deep": _figure("deep", f"API page at depth {CONVERSATIONS // 2:,} ÷ first page", 1.3),
    "api-deep-legs": _figure("deep legs", f"API page of legs at depth {CONVERSATIONS // 2:,} ÷ first page", 1.3),
}


if __name__ == "__main__":
    django.setup()
    print(json.dumps(measure(sys.argv[1])))
