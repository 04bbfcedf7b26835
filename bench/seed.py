"""What a delivery costs when millions of legs are stored already.

``make bench`` measures it with as many legs as ``BENCH_LEGS`` says, five million when it says nothing. The database is
kept in ``artefacts/postgresql`` for the next time; making it takes long.
``python -m bench.seed clone LEGS | drain SEED``: runs against the database of DATABASE_URL.
"""

import json
import os
import sys
import time

import django
import psycopg

from bench import draining
from bench.figures import Bench, Database, Figure, compare, kept_server

MANY = int(os.environ.get("BENCH_LEGS", "5000000"))
FEW = 50_000
CALLS = 400
"""Simulated calls that a round adds: few beside those that are stored."""


def clone(legs: int) -> None:
    """Fill the tables with copies of simulated calls, each an hour older than the one before it, up to so many legs."""
    from django.db import connection, models

    from calls.models import BalanceReading, Conversation, ConversationAlias, Event, Leg, StoredRecord
    from webhooks.models import Delivery

    draining.fill(seed=0, calls=draining.CALLS)
    draining.drain()
    copies = legs // Leg.objects.count()
    numbered = {"external_id", "value", "request_id", "leg_external_id", "parked_under"}

    def copied(field: models.Field) -> str:
        """Return the column's value in the copy ``n``."""
        column, kind = f"original.{field.column}", field.target_field if field.remote_field else field
        if isinstance(kind, models.UUIDField):  # what is older sorts before
            return f"(lpad(to_hex({copies} - n), 8, '0') || substr({column}::text, 9))::uuid"
        if field.primary_key or (field.remote_field and field.related_model is Leg):
            return f"{column} + n * 10000000::bigint"
        if isinstance(field, models.DateTimeField):
            return f"{column} - n * interval '1 hour'"
        if field.name == "digest":
            return f"md5({column} || n) || md5(n || {column})"
        if field.name in ("body", "query") and field.model is Delivery:
            return "''::bytea"
        return f"CASE WHEN {column} = '' THEN '' ELSE {column} || '-' || n END" if field.name in numbered else column

    with connection.cursor() as cursor:
        cursor.execute("SET session_replication_role = replica")  # no foreign key is looked up for each row
        for model in (Conversation, ConversationAlias, Leg, Event, BalanceReading, StoredRecord, Delivery):
            table, fields = model._meta.db_table, model._meta.concrete_fields
            columns = ", ".join(field.column for field in fields)
            values = ", ".join(copied(field) for field in fields)
            statement = f"INSERT INTO {table} ({columns}) SELECT {values} FROM {table} original, "  # noqa: S608 - no input
            cursor.execute(statement + "generate_series(1, %s) n", [copies - 1])
        cursor.execute("SET session_replication_role = DEFAULT")
        cursor.execute("VACUUM ANALYZE")


def drain(seed: int) -> None:
    """Add calls that are new and print how many microseconds each of their deliveries takes."""
    from webhooks.models import Delivery

    draining.fill(seed=seed, calls=CALLS)
    count = Delivery.objects.filter(status="pending").count()
    began = time.perf_counter()
    draining.drain()
    print(json.dumps((time.perf_counter() - began) / count * 1e6))


def stored(bench: Bench) -> Figure:
    """Return the cost of a delivery beside many stored legs and beside few, in turn."""
    with kept_server() as server:

        def database(legs: int) -> Database:
            name = f"legs_{legs}"
            url = f"{server.url.rpartition('/')[0]}/{name}"
            with psycopg.connect(server.url, autocommit=True) as connection:
                is_there = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone()
                if not is_there:
                    connection.execute(f"DROP DATABASE IF EXISTS {name}_unfinished")
                    connection.execute(f"CREATE DATABASE {name}_unfinished")
                    unfinished = Database(f"{url}_unfinished", bench.directory("seed"))
                    unfinished.python("-m", "bench.seed", "clone", str(legs))
                    connection.execute(f"ALTER DATABASE {name}_unfinished RENAME TO {name}")
            return Database(url, bench.directory("seed"))

        def cost(chosen: Database) -> float:
            chosen.settle()
            seed = time.time_ns() // 1_000_000  # other calls each time
            return float(chosen.python("-m", "bench.seed", "drain", str(seed)))

        many, few = database(MANY), database(FEW)
        title = f"cost per delivery with {MANY:,} legs stored ÷ with {FEW:,}"
        return compare(title, lambda: cost(many), lambda: cost(few), unit="µs", at_most=1.3)


FIGURES = {"stored": stored}


if __name__ == "__main__":
    django.setup()
    {"clone": clone, "drain": drain}[sys.argv[1]](int(sys.argv[2]))
