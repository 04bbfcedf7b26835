"""``make bench``: each figure as a ratio to a reference measured in the same run, alternating, as a median of rounds.

Starts a private PostgreSQL with its default durability. Prints a table and writes ``artefacts/bench.json``.
"""

import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import psycopg
from rich.console import Console
from rich.table import Table

from tests.servers import postgresql_server
from tests.serving import ROOT, free_port, until

ROUNDS = 5
SECONDS = 4
CONNECTIONS = 32


class Database:
    """A database of the private server with an account in it."""

    def __init__(self, server_url: str, name: str, data_directory: str) -> None:
        with psycopg.connect(server_url, autocommit=True) as server:
            server.execute(f"DROP DATABASE IF EXISTS {name}")
            server.execute(f"CREATE DATABASE {name}")
        self.url = f"{server_url.rpartition('/')[0]}/{name}"
        self.environment = os.environ | {
            "DATABASE_URL": self.url, "DATA_DIR": data_directory, "DJANGO_SETTINGS_MODULE": "config.settings",
        }  # fmt: skip
        self.python("manage.py", "migrate", "-v0")

    def python(self, *arguments: str) -> str:
        return subprocess.run(
            [sys.executable, *arguments], cwd=ROOT, env=self.environment, check=True, capture_output=True, text=True
        ).stdout

    def settle(self) -> None:
        """Have what was written before on disk, so that it does not slow down what is measured next."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute("CHECKPOINT")


def received(database: Database, application: str, path: str) -> dict[str, float]:
    """Return what the load generator measured against ``application`` under uvicorn."""
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", application, "--port", str(port), "--no-access-log", "--loop", "uvloop"]
    command += ["--http", "httptools", "--lifespan", "off", "--log-level", "error"]
    server = subprocess.Popen(command, cwd=ROOT, env=database.environment, stderr=subprocess.DEVNULL)
    try:
        assert until(lambda: _listens(port))
        database.settle()
        figures = json.loads(
            database.python("-m", "bench.load", "127.0.0.1", str(port), path, str(SECONDS), str(CONNECTIONS))
        )
    finally:
        server.terminate()
        server.wait(20)
    assert figures["failed"] == 0
    return {"per_second": figures["requests"] / figures["seconds"], "p99_ms": figures["p99_ms"]}


def committed(database: Database) -> dict[str, float]:
    """Return pgbench's single-row INSERT commits in a second."""
    pgbench = shutil.which("pgbench") or str(sorted(Path("/usr/lib/postgresql").glob("*/bin/pgbench"))[-1])
    with psycopg.connect(database.url, autocommit=True) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS single (id bigserial PRIMARY KEY, body bytea)")
    with tempfile.NamedTemporaryFile("w", suffix=".sql") as script:
        script.write("INSERT INTO single (body) VALUES ('" + "a" * 700 + "');\n")
        script.flush()
        database.settle()
        output = subprocess.run(
            [pgbench, "-n", "-c", str(CONNECTIONS), "-j", "2", "-T", str(SECONDS), "-f", script.name, database.url],
            check=True, capture_output=True, text=True,
        ).stdout  # fmt: skip
    return {"per_second": float(output.partition("tps = ")[2].split()[0])}


def drained(server_url: str, data_directory: str, how: str) -> dict[str, float]:
    """Return how many deliveries a second one worker drains, from a database filled anew."""
    database = Database(server_url, "draining", data_directory)
    database.python("-m", "bench.draining", "fill")
    database.settle()
    figures = json.loads(database.python("-m", "bench.draining", how))
    return {"per_second": figures["deliveries"] / figures["seconds"]}


def compare(name: str, measured: Callable[[], dict[str, float]], reference: Callable[[], dict[str, float]]) -> dict:
    """Measure both in turn and return the medians and the median of the ratios, pair by pair."""
    pairs = [(measured(), reference()) for _ in range(ROUNDS)]
    return {
        "figure": name,
        "per_second": statistics.median(ours["per_second"] for ours, _ in pairs),
        "reference_per_second": statistics.median(theirs["per_second"] for _, theirs in pairs),
        "ratio": statistics.median(ours["per_second"] / theirs["per_second"] for ours, theirs in pairs),
        "p99_ms": statistics.median(ours["p99_ms"] for ours, _ in pairs) if "p99_ms" in pairs[0][0] else None,
        "reference_p99_ms": statistics.median(theirs["p99_ms"] for _, theirs in pairs)
        if "p99_ms" in pairs[0][1]
        else None,
    }


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, postgresql_server(fsync="on") as server:
        database = Database(server.url, "receiving", folder)
        account = json.loads(database.python("manage.py", "add_account", "bench", "--provider", "piopiy"))
        path = f"/webhooks/piopiy/{account['token']}/"

        def ours() -> dict[str, float]:
            return received(database, "config.asgi:application", path)

        figures = [
            compare(
                "accepted and durable ÷ plain Django ORM view",
                ours,
                lambda: received(database, "bench.plain:application", path),
            ),
            compare("accepted and durable ÷ single-row commits of pgbench", ours, lambda: committed(database)),
            compare(
                "drained ÷ get_or_create for each delivery",
                lambda: drained(server.url, folder, "drain"),
                lambda: drained(server.url, folder, "naive"),
            ),
        ]
    table = Table("figure", "a second", "reference", "ratio", "p99 ms", "reference")
    for figure in figures:
        table.add_row(
            figure["figure"], f"{figure['per_second']:,.0f}", f"{figure['reference_per_second']:,.0f}",
            f"{figure['ratio']:.2f}", str(figure["p99_ms"] or ""), str(figure["reference_p99_ms"] or ""),
        )  # fmt: skip
    Console().print(table)
    artefacts = ROOT / "artefacts"
    artefacts.mkdir(exist_ok=True)
    (artefacts / "bench.json").write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
