"""How quick the admin's pages are beside two million conversations and five million legs.

The database is kept in ``artefacts/postgresql`` for the next time, until a migration changes.
``python -m bench.browsing seed | FIGURE``: runs against the database of DATABASE_URL; the latter prints JSON.
"""

import contextlib
import hashlib
import json
import os
import random
import resource
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

import django
import psycopg

from bench.figures import Bench, Database, Figure, kept_server, of_pairs
from tests.serving import ROOT

CONVERSATIONS = int(os.environ.get("BENCH_CONVERSATIONS", "2000000"))
DAYS = 180
ACCOUNTS, AGENTS, DIDS, CUSTOMERS = 8, 30, 6, 300_000
"""Accounts; agents and DIDs of each; different callers of all."""
END = datetime(2026, 11, 1, tzinfo=UTC)
DAY = timedelta(days=1)
TIMES = 15
"""How often each page and its reference are asked for, in turn."""

Measured = tuple[Callable[[], float], Callable[[], float]]
"""Two functions that return milliseconds: ours and the reference's."""

_OUTCOMES = ["answered"] * 70 + ["missed"] * 18 + ["busy"] * 5 + ["failed"] * 4 + ["voicemail"] * 3
_CALL = [
    *("id", "account_id", "external_id", "direction", "state", "disposition", "reason", "customer_number", "did"),
    *("agent_id", "started_at", "answered_at", "ended_at", "ring_seconds", "talk_seconds", "duration_seconds"),
    *("cost", "cost_unit", "recording", "has_voicemail", "hangup_cause", "request_id", "extra_params", "flags"),
    "last_heard_at",
]
_LEG = [
    *("account_id", "conversation_id", "external_id", "label", "role", "direction", "from_number", "to_number"),
    *("agent_id", "disposition", "started_at", "answered_at", "ended_at", "ring_seconds", "talk_seconds"),
    *("duration_seconds", "hangup_cause", "cost", "recording", "has_cdr"),
]


def seed(url: str) -> None:
    """Fill both tables by COPY, side by side and without their indexes, which are made afterwards."""
    from calls.models import Account, Agent
    from calls.tasks import refresh_rollups

    agents = {}
    for n in range(ACCOUNTS):
        account = Account.objects.create(slug=f"desk-{n}", provider="piopiy")
        people = [Agent(account=account, external_id=f"{n}", name=f"Agent {n}") for n in range(AGENTS)]
        agents[account.pk] = [agent.pk for agent in Agent.objects.bulk_create(people)]
    with psycopg.connect(url, autocommit=True) as calls, psycopg.connect(url, autocommit=True) as legs:
        again = _taken_away(calls, "calls_conversation") + _taken_away(calls, "calls_leg")
        with (
            calls.cursor().copy(f"COPY calls_conversation ({', '.join(_CALL)}) FROM STDIN") as to_calls,
            legs.cursor().copy(f"COPY calls_leg ({', '.join(_LEG)}) FROM STDIN") as to_legs,
        ):
            for call, its_legs in _lines(agents):
                to_calls.write(call)
                to_legs.write(its_legs)
        calls.execute("SET maintenance_work_mem = '1GB'")
        for statement in again:
            calls.execute(statement)
        calls.execute(
            "INSERT INTO calls_conversationalias (scheme, value, account_id, conversation_id)"
            " SELECT 'uuid', external_id, account_id, id FROM calls_conversation"
        )
        calls.execute("VACUUM ANALYZE")
    refresh_rollups()


def _taken_away(connection: psycopg.Connection, table: str) -> list[str]:
    """Drop what slows writing to the table, keys to it included; return the statements that make it again."""
    again = []
    constraints = connection.execute(
        "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint"
        " WHERE (conrelid = %(table)s::regclass OR confrelid = %(table)s::regclass) AND contype IN ('f', 'u')"
        " ORDER BY contype",
        {"table": table},
    ).fetchall()
    for owner, name, definition in constraints:
        connection.execute(f"ALTER TABLE {owner} DROP CONSTRAINT {name}")
        again.append(f"ALTER TABLE {owner} ADD CONSTRAINT {name} {definition}")
    indexes = connection.execute(
        "SELECT indexrelid::regclass::text, pg_get_indexdef(indexrelid) FROM pg_index"
        " WHERE indrelid = %s::regclass AND NOT indisprimary",
        [table],
    ).fetchall()
    for name, definition in indexes:
        connection.execute(f"DROP INDEX {name}")
        again.insert(0, definition)
    return again


def _lines(agents: dict[int, list[int]]) -> Iterator[tuple[str, str]]:
    """Yield what COPY reads of each conversation and of its two or three legs, oldest first."""
    chance = random.Random(7)
    accounts = list(agents)
    begin = END - timedelta(days=DAYS)
    step = timedelta(days=DAYS) / CONVERSATIONS
    for n in range(CONVERSATIONS):
        start = begin + n * step
        # Half of all calls are of one account, as in use.
        account = accounts[int(chance.random() * ACCOUNTS) if chance.random() < 0.5 else 0]
        agent = agents[account][int(chance.random() * AGENTS)]
        outcome = _OUTCOMES[int(chance.random() * 100)]
        direction = "inbound" if chance.random() < 0.7 else "outbound"
        customer = f"+9190{int(chance.random() * CUSTOMERS) * 331 % 100_000_000:08}"
        did = f"+91800000{account % 100:02}{int(chance.random() * DIDS):02}"
        ring = 3 + int(chance.random() * 40)
        talk = 5 + int(chance.random() * 600) if outcome == "answered" else 0
        answer = (start + timedelta(seconds=ring)).isoformat() if talk else "\\N"
        end = (start + timedelta(seconds=ring + talk)).isoformat()
        at, cost = start.isoformat(), f"{talk * 0.01:.2f}"
        ident = f"{int(start.timestamp() * 1000):012x}7{n & 0xFFF:03x}8{n:015x}"
        times = f"{at}\t{answer}\t{end}\t{ring}\t{talk}\t{ring + talk}"
        call = (
            f"{ident}\t{account}\tc{n}\t{direction}\tended\t{outcome}\tcustomer_cdr\t{customer}\t{did}\t{agent}\t"
            f"{times}\t{cost}\tINR\t\tf\t\t\t{{}}\t[]\t{end}\n"
        )
        legs = "".join(
            f"{account}\t{ident}\tl{n}-{leg}\t{label}\t{role}\t{direction}\t{customer}\t{did}\t{who}\t{outcome}\t"
            f"{times}\t\t{cost if leg == 0 else '0'}\t\tt\n"
            for leg, (label, role, who) in enumerate(
                [("a", "customer", "\\N"), ("b", "agent", agent), ("b", "agent", agent)][: 3 if n % 2 else 2]
            )
        )
        yield call, legs


# --- Measuring -------------------------------------------------------------------------------------------------------

LIST = "/admin/calls/conversation/"
MONTH = timedelta(days=30)
SLOWEST_EXPORT_BYTE = 1000
MOST_EXPORT_MEGABYTES = 100

_ROWS = (
    "SELECT c.*, a.slug, a.name, g.name FROM calls_conversation c JOIN calls_account a ON a.id = c.account_id"
    " LEFT JOIN calls_agent g ON g.id = c.agent_id WHERE {} ORDER BY c.started_at DESC, c.id DESC LIMIT 51"
)
_LIVE_FIGURES = (
    "SELECT {}, count(*), count(*) FILTER (WHERE disposition = 'answered'), sum(talk_seconds), sum(cost)"
    " FROM calls_conversation WHERE started_at >= '{}' AND started_at < '{}' GROUP BY {}"
)
_HOUR = "date_part('isodow', started_at AT TIME ZONE 'UTC'), date_part('hour', started_at AT TIME ZONE 'UTC')"
_SHOWN_BY = ["account_id, direction", _HOUR, "agent_id", "did", "extra_params ->> 'campaign'"]
"""By what the dashboard shows figures of its days; of the days before these, by the first only."""


class Watch:
    """A client of the admin that notes what it asks the database, and for how long."""

    def __init__(self) -> None:
        from django.contrib.auth.models import User
        from django.test import Client

        user, _ = User.objects.get_or_create(username="bench", is_staff=True, is_superuser=True)
        self._client = Client(SERVER_NAME="localhost")
        self._client.force_login(user)
        self.statements: list[tuple[str, object, float]] = []

    def page(self, address: str) -> float:
        """Return how many milliseconds the server takes to make a page."""
        began = time.perf_counter()
        answer = self._client.get(address)
        spent = time.perf_counter() - began
        assert answer.status_code == 200, (address, answer.status_code)
        return spent * 1000

    def database(self, address: str, table: str = "calls_conversation") -> float:
        """Return how many of them the database takes for what is read of ``table``."""
        from django.db import connection

        self.statements.clear()
        with connection.execute_wrapper(self._timed):
            self.page(address)
        return sum(spent for sql, _, spent in self.statements if table in sql) * 1000

    def plans(self) -> Iterator[str]:
        """Yield how the database goes about each statement of the last page."""
        from django.db import connection

        for sql, parameters, _ in list(self.statements):
            if sql.lstrip().upper().startswith(("SELECT", "WITH")):
                with connection.cursor() as cursor:
                    cursor.execute(f"EXPLAIN {sql}", parameters)
                    yield "\n".join(line for (line,) in cursor.fetchall())

    def _timed(self, execute, sql, parameters, many, context):
        began = time.perf_counter()
        try:
            return execute(sql, parameters, many, context)
        finally:
            self.statements.append((sql, parameters, time.perf_counter() - began))


def measure(name: str) -> dict[str, object]:
    """Return the pairs of one figure, ours and the reference's in turn, and what else is to be known of it."""
    watch = Watch()
    ours, reference = MEASURED[name](watch)
    ours(), reference()
    pairs = [(ours(), reference()) for _ in range(TIMES)]
    ours()
    read_whole = [plan for plan in watch.plans() if "Seq Scan on calls_conversation" in plan]
    assert not read_whole, read_whole
    return {"pairs": pairs, "queries": len(watch.statements)}


def _first_page(watch: Watch) -> Measured:
    return lambda: watch.database(LIST), lambda: _query(_ROWS.format("TRUE"))


def _filtered(watch: Watch) -> Measured:
    from calls.admin.links import calls_list
    from calls.models import Account

    account, since = Account.objects.get(slug="desk-0"), END - timedelta(days=7)
    address = calls_list(since, END, account=account, disposition="missed")
    narrowed = f"c.account_id = {account.pk} AND c.disposition = 'missed' AND c.started_at >= '{since}'"
    return lambda: watch.database(address), lambda: _query(_ROWS.format(narrowed))


def _deep(watch: Watch) -> Measured:
    from calls.models import Conversation

    at, pk = Conversation.objects.values_list("started_at", "pk")[CONVERSATIONS // 2]
    deep = f"{LIST}?{urlencode({'after': f'{at.isoformat()}~{pk}'})}"
    return lambda: watch.page(deep), lambda: watch.page(LIST)


def _search(text: str, condition: str) -> Callable[[Watch], Measured]:
    return lambda watch: (
        lambda: watch.database(f"{LIST}?{urlencode({'q': text})}"),
        lambda: _query(_ROWS.format(condition)),
    )


def _dashboard(watch: Watch) -> Measured:
    since = END - MONTH
    address = f"/admin/?{urlencode({'range': 'custom', 'from': f'{since:%Y-%m-%d}', 'to': f'{END - DAY:%Y-%m-%d}'})}"
    week = timedelta(days=7)
    live = [_LIVE_FIGURES.format(group, since, END, group) for group in _SHOWN_BY]
    live.append(_LIVE_FIGURES.format(_SHOWN_BY[0], since - week, END - week, _SHOWN_BY[0]))
    return lambda: watch.database(address, "calls_rollup"), lambda: sum(map(_query, live))


MEASURED: dict[str, Callable[[Watch], Measured]] = {
    "list": _first_page,
    "filtered": _filtered,
    "deep": _deep,
    "last four": _search("4321", "reverse(c.customer_number) LIKE '1234%'"),
    "seven digits": _search("0331000", "reverse(c.customer_number) LIKE '0001330%'"),
    "a part": _search("*00432*", "c.customer_number LIKE '%00432%'"),
    "dashboard": _dashboard,
}


def _query(sql: str) -> float:
    from django.db import connection

    began = time.perf_counter()
    with connection.cursor() as cursor:
        cursor.execute(sql)
        cursor.fetchall()
    return (time.perf_counter() - began) * 1000


def export() -> dict[str, float]:
    """Return the milliseconds to the first byte of a million rows as CSV, and the megabytes that all of them take."""
    from django.contrib.auth.models import User

    from calls.exports import lists

    user, _ = User.objects.get_or_create(username="bench", is_staff=True, is_superuser=True)
    model_admin = lists.admin_of("calls.conversation")
    since = END - timedelta(days=DAYS) / 2
    query = urlencode({"started_at_from_0": since.isoformat()})

    def megabytes() -> float:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

    next(lists.stream(user, model_admin, urlencode({"q": "nobody"}), "csv", ZoneInfo("UTC")))  # what comes but once
    idle, began = megabytes(), time.perf_counter()
    pieces = lists.stream(user, model_admin, query, "csv", ZoneInfo("UTC"))
    size = len(next(pieces))
    first = time.perf_counter() - began
    size += sum(map(len, pieces))
    return {
        "first_byte_ms": first * 1000,
        "megabytes": megabytes() - idle,
        "seconds": time.perf_counter() - began,
        "bytes": size,
    }


# --- Figures ---------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def stored(bench: Bench) -> Iterator[Database]:
    """Give the database with the calls, made anew when the tables are others than it was made with."""
    tables = hashlib.sha256(b"".join(file.read_bytes() for file in sorted(ROOT.glob("*/migrations/0*.py"))))
    name = f"calls_{CONVERSATIONS}_{tables.hexdigest()[:8]}"
    with kept_server() as server:
        url = f"{server.url.rpartition('/')[0]}/{name}"
        with psycopg.connect(server.url, autocommit=True) as connection:
            old = connection.execute("SELECT datname FROM pg_database WHERE datname LIKE 'calls_%'").fetchall()
            for (other,) in old:
                if other != name:
                    connection.execute(f"DROP DATABASE {other}")
            if (name,) not in old:
                connection.execute(f"CREATE DATABASE {name}_unfinished")
                unfinished = Database(f"{url}_unfinished", bench.directory("browsing"))
                unfinished.python("-m", "bench.browsing", "seed")
                connection.execute(f"ALTER DATABASE {name}_unfinished RENAME TO {name}")
        yield Database(url, bench.directory("browsing"))


def _figure(name: str, title: str, at_most: float) -> Callable[[Bench], Figure]:
    def measured(bench: Bench) -> Figure:
        with stored(bench) as database:
            found = json.loads(database.python("-m", "bench.browsing", name))
        return of_pairs(title, found.pop("pairs"), unit="ms", at_most=at_most, details=found)

    return measured


def _exported(key: str, title: str, limit: float, unit: str) -> Callable[[Bench], Figure]:
    def measured(bench: Bench) -> Figure:
        with stored(bench) as database:
            found = json.loads(database.python("-m", "bench.browsing", "export"))
        return of_pairs(title, [(found[key], limit)], unit=unit, at_most=1, details=found)

    return measured


_MILLIONS = f"of {CONVERSATIONS:,} calls"
FIGURES = {
    "list": _figure("list", f"first page of the list {_MILLIONS} ÷ SQL by hand", 2),
    "filtered": _figure("filtered", "by account, disposition and week ÷ SQL by hand", 2),
    "deep": _figure("deep", f"page at depth {CONVERSATIONS // 2:,} ÷ first page", 1.3),
    "last-four": _figure("last four", "search by the last 4 digits ÷ indexed query", 3),
    "seven-digits": _figure("seven digits", "search by 7 digits ÷ indexed query", 3),
    "part": _figure("a part", "search by a part of a number ÷ indexed query", 3),
    "dashboard": _figure("dashboard", "dashboard of 30 days from rollups ÷ live aggregate", 0.1),
    "export-memory": _exported("megabytes", "memory of a CSV of half the calls ÷ 100 MB", MOST_EXPORT_MEGABYTES, "MB"),
    "export-start": _exported("first_byte_ms", "its first byte ÷ 1 s", SLOWEST_EXPORT_BYTE, "ms"),
}


if __name__ == "__main__":
    django.setup()
    if sys.argv[1] == "seed":
        seed(os.environ["DATABASE_URL"])
    else:
        print(json.dumps(export() if sys.argv[1] == "export" else measure(sys.argv[1])))
