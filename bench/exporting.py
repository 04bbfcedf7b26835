"""How quick the API's export is beside COPY, and what memory it takes, with the database of browsing.

Both send half of the two million calls, the oldest first, with the same columns. COPY's rows are read and dropped; ours
is the whole request in Django's test client, from the address to the last line of NDJSON. ``python -m bench.exporting``
runs against the database of DATABASE_URL and prints JSON.
"""

import json
import resource
import time
from datetime import timedelta
from typing import Any

import django

from bench.browsing import DAYS, END, stored
from bench.figures import Bench, Figure, of_pairs

SINCE = END - timedelta(days=DAYS) / 2
ROUNDS = 3
MOST_MEGABYTES = 100

_COPY = f"""
COPY (
    SELECT c.id, a.slug, a.provider, c.external_id, c.direction, c.state, c.disposition, c.reason, c.customer_number,
        c.did, g.id, g.external_id, g.name, c.started_at, c.answered_at, c.ended_at, c.ring_seconds, c.talk_seconds,
        c.duration_seconds, c.cost, c.cost_unit, c.recording, c.has_voicemail, c.hangup_cause, c.request_id,
        c.extra_params, c.flags,
        ARRAY(
            SELECT t.name FROM calls_conversation_tags ct JOIN calls_tag t ON t.id = ct.tag_id
            WHERE ct.conversation_id = c.id ORDER BY t.name
        ),
        o.kind, o.text
    FROM calls_conversation c JOIN calls_account a ON a.id = c.account_id LEFT JOIN calls_agent g ON g.id = c.agent_id
        LEFT JOIN calls_staffoutcome o ON o.conversation_id = c.id
    WHERE c.started_at >= '{SINCE.isoformat()}' ORDER BY c.started_at, c.id
) TO STDOUT
"""  # noqa: S608 - no input


def measure() -> dict[str, Any]:
    """Return rows a second, ours and COPY's in turn, the megabytes that ours takes, and its time to the first bytes."""
    from django.conf import settings
    from django.test import Client

    from calls.choices import Scope
    from calls.models import ApiKey

    settings.ALLOWED_HOSTS = ["*"]
    _, text = ApiKey.issue(f"bench {time.time()}", [Scope.EXPORT], calls_per_minute=1_000_000)
    client = Client(headers={"authorization": f"Bearer {text}"})
    _exported(client, {"started_after": END.isoformat()})  # what comes but once
    idle = _megabytes()
    found = [(_exported(client, {"started_after": SINCE.isoformat()}), _copied()) for _ in range(ROUNDS)]
    rows = {rows for (rows, _, _), _ in found} | {rows for _, (rows, _) in found}
    assert len(rows) == 1, rows
    return {
        "pairs": [(rows / seconds, copied / took) for (rows, seconds, _), (copied, took) in found],
        "rows": rows.pop(),
        "megabytes": _megabytes() - idle,
        "first_bytes_ms": max(first for (_, _, first), _ in found) * 1000,
    }


def _exported(client: Any, parameters: dict[str, str]) -> tuple[int, float, float]:
    """Return the number of lines, and the seconds to the last and to the first byte."""
    began, first, rows = time.perf_counter(), 0.0, 0
    answer = client.get("/api/v1/conversations/export/", parameters)
    assert answer.status_code == 200, answer
    for piece in answer.streaming_content:
        first = first or time.perf_counter() - began
        rows += piece.count(b"\n")
    return rows, time.perf_counter() - began, first


def _copied() -> tuple[int, float]:
    """Return the number of rows that COPY sends, and the seconds that it takes."""
    from django.db import connection

    began = time.perf_counter()
    with connection.cursor() as cursor, cursor.copy(_COPY) as copy:
        rows = sum(1 for _ in copy)
    return rows, time.perf_counter() - began


def _megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


# --- Figures ---------------------------------------------------------------------------------------------------------


def _measured(bench: Bench) -> dict[str, Any]:
    with stored(bench) as database:
        return json.loads(database.python("-m", "bench.exporting"))


def speed(bench: Bench) -> Figure:
    found = _measured(bench)
    title = f"the API's export of {found['rows']:,} calls ÷ COPY of the same columns"
    return of_pairs(title, found.pop("pairs"), unit="rows/s", at_least=1 / 3, details=found)


def memory(bench: Bench) -> Figure:
    found = _measured(bench)
    title = f"memory of the API's export ÷ {MOST_MEGABYTES} MB"
    return of_pairs(title, [(found["megabytes"], MOST_MEGABYTES)], unit="MB", at_most=1, details=found)


FIGURES = {"api-export": speed, "api-export-memory": memory}


if __name__ == "__main__":
    django.setup()
    print(json.dumps(measure()))
