"""How fast the feed of changes is read by HTTP, and what those cost who only listen: the database of browsing.

``python -m bench.feed``: makes a change of each conversation in the database of DATABASE_URL and a key, and prints
``{"key", "cursor"}``, the cursor of half of them.
"""

import asyncio
import http.client
import json
import time
from urllib.parse import urlencode

import django
import psycopg

from bench.browsing import CONVERSATIONS, stored
from bench.figures import ROUNDS, Bench, Database, Figure, of_pairs
from bench.receiving import Inbox, Server, ours

LEAST_CHANGES = 5000
PAGES, LIMIT = 20, 1000
LISTENERS, MOST_MEGABYTES = 500, 100


def prepare() -> dict[str, str]:
    """Write the changes, unless that is done, and make a key."""
    from django.db import connection

    from calls.changes import Cursor
    from calls.choices import Scope
    from calls.models import Account, ApiKey, Change

    with connection.cursor() as cursor:
        if not Change.objects.exists():
            cursor.execute(
                "INSERT INTO calls_change (account_id, conversation, kind, steps, changed_at)"
                " SELECT account_id, id, 'created', 'started,answered,ended', ended_at FROM calls_conversation"
                " ORDER BY started_at"
            )
            cursor.execute("VACUUM ANALYZE calls_change")
        cursor.execute("SELECT min(id) + count(*) / 2 FROM calls_change")
        (middle,) = cursor.fetchone()
    places = dict.fromkeys(Account.objects.values_list("pk", flat=True), middle)
    scopes = [Scope.READ, Scope.STREAM]
    _, text = ApiKey.issue(f"bench {time.time()}", scopes, calls_per_minute=1_000_000)
    return {"key": text, "cursor": str(Cursor(places))}


def _server(database: Database) -> tuple[Server, dict[str, str]]:
    return ours(Inbox(database, "")), json.loads(database.python("-m", "bench.feed"))


def _changes_a_second(port: int, key: str, cursor: str) -> float:
    """Follow the feed for some pages and return the rate."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    read, began = 0, time.perf_counter()
    for _ in range(PAGES):
        query = urlencode({"after": cursor, "limit": LIMIT})
        connection.request("GET", f"/api/v1/changes/?{query}", headers={"Authorization": f"Bearer {key}"})
        answer = json.load(connection.getresponse())
        cursor = answer["next_cursor"]
        read += len(answer["results"])
        assert all(change["conversation"]["id"] == change["id"] for change in answer["results"])
    spent = time.perf_counter() - began
    connection.close()
    assert read == PAGES * LIMIT
    return read / spent


def followed(bench: Bench) -> Figure:
    """Return how many changes are read in a second, half way through."""
    with stored(bench) as database:
        server, found = _server(database)
        with server:
            _changes_a_second(server.port, **found)  # warms up
            pairs = [(_changes_a_second(server.port, **found), float(LEAST_CHANGES)) for _ in range(ROUNDS)]
    title = f"changes read by HTTP, of {CONVERSATIONS:,} ÷ {LEAST_CHANGES:,}"
    return of_pairs(title, pairs, unit="a second", at_least=1)


async def _listen(port: int, key: str) -> asyncio.StreamWriter:
    """Open a stream, and return when its first event is there."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = f"GET /api/v1/live/stream/ HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\n\r\n"
    writer.write(head.encode())
    await reader.readuntil(b"event: snapshot")
    return writer


async def _cost_of_listeners(server: Server, key: str, url: str) -> dict[str, float]:
    (await _listen(server.port, key)).close()  # what the first one brings is not for each
    before = server.megabytes()
    listeners = [await _listen(server.port, key) for _ in range(LISTENERS)]
    with psycopg.connect(url) as database:
        activity = "SELECT count(*) - 1 FROM pg_stat_activity WHERE datname = current_database()"
        (connections,) = database.execute(activity).fetchone() or (0,)
    cost = {"megabytes": server.megabytes() - before, "connections": connections}
    for writer in listeners:
        writer.close()
    return cost


def idle(bench: Bench) -> Figure:
    """Return the memory that takes who only listens; the connections to the database are among the details."""
    with stored(bench) as database:
        server, found = _server(database)
        with server:
            cost = asyncio.run(_cost_of_listeners(server, found["key"], database.url))
    assert cost["connections"] < 10, cost
    title = f"memory of {LISTENERS} who listen to live/stream/ ÷ {MOST_MEGABYTES} MB"
    return of_pairs(title, [(cost["megabytes"], float(MOST_MEGABYTES))], unit="MB", at_most=1, details=cost)


FIGURES = {"feed": followed, "sse-idle": idle}


if __name__ == "__main__":
    django.setup()
    print(json.dumps(prepare()))
