"""How fast webhooks are accepted, beside what else one might run."""

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import psutil
import psycopg

from bench.figures import Bench, Database, Figure, compare
from tests.serving import ROOT, free_port, until

CONNECTIONS = 32
SECONDS = 4
UVICORN = ["uvicorn", "--loop", "uvloop", "--http", "httptools", "--lifespan", "off", "--no-access-log"]
UVICORN += ["--no-proxy-headers", "--log-level", "error", "--port"]


class Inbox(NamedTuple):
    """A database and the path of a webhook URL in it."""

    database: Database
    path: str


def inbox(database: Database) -> Inbox:
    """Add an account and return the way to it."""
    account = json.loads(database.python("manage.py", "add_account", "bench", "--provider", "piopiy"))
    return Inbox(database, f"/webhooks/piopiy/{account['token']}/")


class Server:
    """One web process on a free port; ``with`` stops it at the end."""

    def __init__(self, inbox: Inbox, *command: str) -> None:
        self._inbox = inbox
        self.port = free_port()
        arguments = [argument.replace("PORT", str(self.port)) for argument in command]
        self._process = subprocess.Popen(
            [sys.executable, "-m", *arguments], cwd=ROOT, env=inbox.database.environment,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        assert until(self._listens)

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *error: object) -> None:
        self._process.terminate()
        self._process.wait(20)

    def load(self, *options: str) -> dict[str, float]:
        """Return what the load generator measured, and ``server_cpu_us``: this server's CPU time per request."""
        self._inbox.database.settle()
        before = self._cpu_seconds()
        url = f"http://127.0.0.1:{self.port}{self._inbox.path}"
        figures = json.loads(
            self._inbox.database.python("-m", "bench.load", url, "--connections", str(CONNECTIONS), *options)
        )
        assert figures["failed"] == 0
        return figures | {"server_cpu_us": (self._cpu_seconds() - before) / figures["sent"] * 1e6}

    def megabytes(self) -> float:
        """Return the memory that it has resident."""
        return psutil.Process(self._process.pid).memory_info().rss / 1e6

    def _cpu_seconds(self) -> float:
        processes = [psutil.Process(self._process.pid), *psutil.Process(self._process.pid).children(recursive=True)]
        return sum(process.cpu_times().user + process.cpu_times().system for process in processes)

    def _listens(self) -> bool:
        return any(one.laddr.port == self.port for one in psutil.net_connections("tcp4") if one.status == "LISTEN")


def ours(inbox: Inbox) -> Server:
    """Our application under uvicorn."""
    return Server(inbox, *UVICORN, "PORT", "config.asgi:application")


def plain(inbox: Inbox) -> Server:
    """An ordinary Django view that stores one row through the ORM, on the same server."""
    return Server(inbox, *UVICORN, "PORT", "bench.references.plain:application")


def asyncpg(inbox: Inbox) -> Server:
    """FastAPI with one INSERT a request, on the same server."""
    options = [option if option != "off" else "on" for option in UVICORN]  # it opens its pool in its lifespan
    return Server(inbox, *options, "PORT", "bench.references.asyncpg_app:application")


def flask(inbox: Inbox) -> Server:
    """The provider's own example, which stores nothing."""
    return Server(inbox, "gunicorn", "-w", "1", "-b", "127.0.0.1:PORT", "bench.references.flask_app:application")


def per_second(start: Callable[[], Server], *options: str) -> float:
    """Return the rate of a server that is started for it."""
    with start() as server:
        return server.load("--seconds", str(SECONDS), *options)["per_second"]


def committed(database: Database) -> float:
    """Return pgbench's single-row INSERT commits in a second."""
    pgbench = shutil.which("pgbench") or str(sorted(Path("/usr/lib/postgresql").glob("*/bin/pgbench"))[-1])
    with psycopg.connect(database.url, autocommit=True) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS single (id bigserial PRIMARY KEY, body bytea)")
    with tempfile.NamedTemporaryFile("w", suffix=".sql") as script:
        script.write("INSERT INTO single (body) VALUES ('" + "a" * 700 + "');\n")
        script.flush()
        command = [pgbench, "-n", "-c", str(CONNECTIONS), "-j", "2", "-f", script.name, database.url]
        subprocess.run([*command, "-T", "1"], check=True, capture_output=True)
        database.settle()
        output = subprocess.run([*command, "-T", str(SECONDS)], check=True, capture_output=True, text=True).stdout
    return float(output.partition("tps = ")[2].split()[0])


def against_pgbench(bench: Bench) -> Figure:
    """Against the rate at which the database itself commits."""
    ways = inbox(bench.database("receiving"))
    return compare(
        "accepted and durable ÷ single-row commits of pgbench",
        lambda: per_second(lambda: ours(ways)),
        lambda: committed(ways.database),
        at_least=0.9,
    )


def against_plain(bench: Bench) -> Figure:
    """Against a Django view."""
    ways = inbox(bench.database("receiving"))
    return compare(
        "accepted and durable ÷ plain Django ORM view",
        lambda: per_second(lambda: ours(ways)),
        lambda: per_second(lambda: plain(ways)),
        at_least=10,
    )


def against_asyncpg(bench: Bench) -> Figure:
    """Against a faster framework."""
    ways = inbox(bench.database("receiving"))
    return compare(
        "accepted and durable ÷ FastAPI and asyncpg, one INSERT a request",
        lambda: per_second(lambda: ours(ways)),
        lambda: per_second(lambda: asyncpg(ways)),
        at_least=3,
    )


def without_keep_alive(bench: Bench) -> Figure:
    """Each request over a connection of its own, against the provider's own example."""
    ways = inbox(bench.database("receiving"))
    return compare(
        "without keep-alive ÷ Flask handler of the provider's page, which stores nothing",
        lambda: per_second(lambda: ours(ways), "--close"),
        lambda: per_second(lambda: flask(ways), "--close"),
        at_least=1.5,
    )


def on_sqlite(bench: Bench) -> Figure:
    """Without a database server; both with a WAL that is synced at each commit."""
    ways = inbox(bench.sqlite("sqlite"))
    return compare(
        "SQLite: accepted and durable ÷ plain Django ORM view",
        lambda: per_second(lambda: ours(ways)),
        lambda: per_second(lambda: plain(ways)),
        at_least=6,
    )


def p99(bench: Bench) -> Figure:
    """How long the slowest hundredth waits, each server at half of its own top rate."""
    ways = inbox(bench.database("receiving"))

    def at_half_rate(start: Callable[[Inbox], Server]) -> float:
        with start(ways) as server:
            top = server.load("--seconds", "2")["per_second"]
            return server.load("--seconds", str(SECONDS), "--rate", str(top / 2))["p99_ms"]

    return compare(
        "p99 at half of the top rate, beside the plain Django ORM view's",
        lambda: at_half_rate(ours),
        lambda: at_half_rate(plain),
        unit="ms",
        at_most=0.5,
    )


def memory(bench: Bench) -> Figure:
    """What the web process keeps of what it has received. One round: it takes half a million webhooks."""
    with ours(inbox(bench.database("receiving"))) as server:
        server.load("--requests", "50000")
        early = server.megabytes()
        server.load("--requests", "450000")
        late = server.megabytes()
    title = "memory of the web process after 500,000 webhooks ÷ after 50,000"
    return Figure(title, "MB", ours=late, reference=early, ratio=late / early, goal=1.1, is_most=True)


FIGURES = {
    "pgbench": against_pgbench,
    "plain": against_plain,
    "asyncpg": against_asyncpg,
    "close": without_keep_alive,
    "sqlite": on_sqlite,
    "p99": p99,
    "memory": memory,
}
