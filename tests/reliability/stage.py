"""The whole system as real processes, and a sender that remembers what was acknowledged."""

import contextlib
import hashlib
import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from uuid import uuid4

import psycopg

from tests.servers import redis_server
from tests.serving import ROOT, environment, free_port, until

IS_LONG = os.environ.get("RELIABILITY") == "long"
"""Whether the long form runs: outages of half a minute and more deliveries."""
PATIENCE = 120
"""Seconds after which something that should have happened counts as failed."""
DERIVED = """
import django; django.setup()
import pprint, sys
from calls.models import Account
from tests.calls.tables import call_log
from webhooks.models import Delivery
def without_arrivals(value):
    if isinstance(value, dict):
        arrived = value.get("received_at")  # which also stands in for a moment that the provider does not tell
        kept = [key for key in value if key != "last_heard_at" and (arrived is None or value[key] != arrived)]
        return [(key, without_arrivals(value[key])) for key in sorted(kept)]
    return sorted(map(without_arrivals, value), key=repr) if isinstance(value, list) else value
pprint.pprint(without_arrivals(call_log(Account.objects.get(slug=sys.argv[1]))), width=200)
"""


class Stage:
    """Web server, workers and schedulers over the given PostgreSQL and Redis."""

    def __init__(self, directory: Path, database_url: str, redis_url: str) -> None:
        self.directory, self.port, self.database_url = directory, free_port(), database_url
        self.environment = environment(directory, self.port) | {
            "DATABASE_URL": database_url,
            "REDIS_URL": redis_url,
            "SECRET_KEY": "only-for-tests-" * 5,
            "DJANGO_SETTINGS_MODULE": "config.settings",
        }
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.manage("migrate", "-v0")
        self.path = self.add_account("delhi")

    def add_account(self, slug: str, provider: str = "piopiy") -> str:
        """Make an account and return the path of its webhook URL."""
        made = json.loads(self.manage("add_account", slug, "--provider", provider))
        return f"/webhooks/{provider}/{made['token']}/"

    def manage(self, *arguments: str) -> str:
        return self.python("manage.py", *arguments)

    def python(self, *arguments: str) -> str:
        run = subprocess.run(
            [sys.executable, *arguments], cwd=ROOT, env=self.environment, capture_output=True, text=True, timeout=300
        )
        assert run.returncode == 0, run.stderr
        return run.stdout

    def start(self, name: str, *command: str, **settings: str) -> subprocess.Popen[bytes]:
        """Start a Python module as a process of this name, whose output goes to a log."""
        with (self.directory / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [sys.executable, "-m", *command],
                cwd=ROOT, env=self.environment | settings, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        return self.processes[name]

    def start_web(self, *more: str) -> None:
        options = [*more, "--port", str(self.port), "--loop", "uvloop", "--http", "httptools", "--lifespan", "off"]
        options += ["--no-access-log", "--no-proxy-headers", "--log-level", "warning"]
        self.start("web", "uvicorn", "config.asgi:application", *options)
        assert until(self.answers, PATIENCE), self.log("web")

    def start_worker(self, name: str = "worker", **settings: str) -> None:
        options = ["--concurrency", "2", "--hostname", name, "--loglevel", "info"]
        options += ["--without-gossip", "--without-mingle", "--without-heartbeat"]
        self.start(name, "celery", "-A", "config", "worker", *options, **settings)

    def start_beat(self, name: str = "beat") -> None:
        options = ["--schedule", str(self.directory / name), "--pidfile", "", "--loglevel", "info"]
        self.start(name, "celery", "-A", "config", "beat", *options)

    def log(self, name: str) -> str:
        return (self.directory / f"{name}.log").read_text(errors="replace")

    def answers(self) -> bool:
        with contextlib.suppress(OSError, http.client.HTTPException):
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
            connection.request("GET", "/healthz")
            return connection.getresponse().status == 200
        return False

    def process_ids(self) -> dict[str, list[str]]:
        """Return the ids of each process and of its children, by name."""
        ids = {}
        for name, process in self.processes.items():
            assert process.poll() is None, f"{name} has ended:\n{self.log(name)}"
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
            ids[name] = [str(process.pid), *sorted(children.split())]
        return ids

    def query(self, statement: str, *values: object) -> list[tuple]:
        """Return rows, in a session of their own."""
        with psycopg.connect(self.database_url) as database:
            cursor = database.execute(statement, values)
            return cursor.fetchall() if cursor.description else []

    def is_spool_empty(self) -> bool:
        return not [path for path in (self.directory / "spool").glob("*") if path.suffix in (".spool", ".draining")]

    def is_drained(self) -> bool:
        """Return whether nothing waits, neither in the spool nor in the inbox."""
        with contextlib.suppress(psycopg.OperationalError):
            pending = self.query("SELECT 1 FROM webhooks_delivery WHERE status = 'pending' LIMIT 1")
            return self.is_spool_empty() and not pending
        return False

    def derived(self, slug: str) -> str:
        """Return what the account's call log holds, when and in which order it arrived left aside."""
        return self.python("-c", DERIVED, slug)

    def stop(self, *names: str) -> None:
        """Kill the processes of these names, or all, with their children."""
        for name in names or list(self.processes):
            process = self.processes.pop(name)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(30)


@contextlib.contextmanager
def stage_on(postgres: str, directory: Path) -> Iterator[Stage]:
    """Set a stage with a database of its own on a running PostgreSQL, and a Redis of its own."""
    name = f"stage_{uuid4().hex}"
    with psycopg.connect(postgres, autocommit=True) as server:
        server.execute(f"CREATE DATABASE {name}")
    with redis_server() as broker:
        stage = Stage(directory, f"{postgres.rpartition('/')[0]}/{name}", broker.url)
        try:
            yield stage
        finally:
            stage.stop()


class Sender:
    """Sends bodies over kept-alive connections, at most so many a second, until there are none or it is stopped."""

    def __init__(
        self, stage: Stage, bodies: Iterable[bytes], *, rate: float = 0, threads: int = 4, path: str = ""
    ) -> None:
        self.acknowledged: dict[str, bytes] = {}
        """The body by the delivery's id."""
        self.answers: Counter[int] = Counter()
        self.refusals: list[bytes] = []
        """Bodies that were answered with 503."""
        self.retry_after: set[str | None] = set()
        self.latencies: deque[float] = deque()
        self._stage, self._path = stage, path or stage.path
        self._bodies = iter(bodies)
        self._pause = threads / rate if rate else 0
        self._lock, self._stopped = threading.Lock(), threading.Event()
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(threads)]

    def __enter__(self) -> "Sender":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stopped.set()
        self.finish()

    def finish(self) -> None:
        """Wait until all is sent."""
        for thread in self._threads:
            thread.join(PATIENCE)
            assert not thread.is_alive()

    def wait_for_more(self, count: int) -> None:
        """Return when so many more answers have come."""
        wanted = self.answers.total() + count
        assert until(lambda: self.answers.total() >= wanted, PATIENCE), self.answers

    def _run(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._stage.port, timeout=30)
        while not self._stopped.is_set():
            with self._lock:
                body = next(self._bodies, None)
            if body is None:
                break
            began = time.monotonic()
            connection.request("POST", self._path, body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            content = response.read()
            self.latencies.append(time.monotonic() - began)
            with self._lock:
                if response.status == 200:
                    self.acknowledged[json.loads(content)["delivery"]] = body
                elif response.status == 503:
                    self.refusals.append(body)
                    self.retry_after.add(response.getheader("Retry-After"))
                self.answers[response.status] += 1
            self._stopped.wait(max(0, self._pause - (time.monotonic() - began)))
        connection.close()

    def assert_all_kept_once(self) -> None:
        """Check that the inbox holds every acknowledged body, byte for byte, under the id that was told."""
        statement = (
            "SELECT delivery.id::text, body FROM webhooks_delivery delivery"
            " JOIN webhooks_endpoint endpoint ON endpoint.account_id = delivery.account_id WHERE endpoint.digest = %s"
        )
        token = self._path.strip("/").rpartition("/")[2]
        rows = self._stage.query(statement, hashlib.sha256(token.encode()).hexdigest())
        stored = {delivery_id: bytes(body) for delivery_id, body in rows}
        assert {key: stored.get(key) for key in self.acknowledged} == self.acknowledged
        # A refusal is no promise that it was not kept; but one body is kept no more often than it was sent.
        copies = Counter(stored.values())
        sent = Counter([*self.acknowledged.values(), *self.refusals])
        assert all(copies[body] <= times for body, times in sent.items())


def calls_on_end(first: int = 0) -> Iterator[bytes]:
    """Return deliveries of call after call, in order, without end."""
    number = first
    while True:
        yield from call(number)
        number += 1


def call(number: int) -> list[bytes]:
    """Return the deliveries of one inbound call: started, answered, hung up, and the final report."""
    start, key = 1_793_620_000 + 60 * number, f"call-{number}"
    common = {
        "appid": 2222222, "conversation_uuid": key, "cmiuuid": key, "leg": "a", "direction": "inbound",
        "from": 919000000000 + number % 40, "to": 918000000000,
    }  # fmt: skip
    events = [
        common | {"status": word, "time": (start + later) * 1000}
        for word, later in (("started", 0), ("in_answered", 5), ("in_hangup", 30))
    ]
    report = common | {
        "status": "answered", "time": (start + 30) * 1000, "start_time": start, "answer_time": start + 5,
        "end_time": start + 30, "duration": 25, "call_rate": "0.450000", "balance": f"{10_000 - number * 0.45:.6f}",
    }  # fmt: skip
    return [json.dumps(payload).encode() for payload in (*events, report)]
