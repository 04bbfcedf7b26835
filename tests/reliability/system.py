"""The whole program as real processes, which die and come back: web servers, workers, schedulers and their databases.

Web processes share one port, which is held open here, so that callers of a dead one find the others or wait. Each
process is started again as soon as it dies, as a supervisor does it. All logs are printed when the system stops; pytest
shows them for a test that failed.
"""

import contextlib
import functools
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from itertools import chain, count
from pathlib import Path

import psycopg

from config.serve import die_with_parent
from tests.reliability.client import Post, Sender
from tests.servers import Server, descendants
from tests.serving import ROOT, environment, spool_files, until
from webhooks.simulator.plan import DEMO_ACCOUNTS, plan

SECRET = "only-for-tests-" * 5
TOKENS = {account.slug: f"token-of-{account.slug}" for account in DEMO_ACCOUNTS}
"""One account for each provider, by slug."""
PATHS = {account.slug: f"/webhooks/{account.provider}/{TOKENS[account.slug]}/" for account in DEMO_ACCOUNTS}
PIOPIY_ACCOUNT = next(account.slug for account in DEMO_ACCOUNTS if account.provider == "piopiy")
WEB = ["uvicorn", "config.asgi:application", "--loop", "uvloop", "--http", "httptools", "--no-access-log"]
WEB += ["--no-proxy-headers", "--lifespan", "off", "--timeout-graceful-shutdown", "20"]
WORKER = ["celery", "-A", "config", "worker", "--concurrency", "2", "--without-gossip", "--without-mingle"]
WORKER += ["--loglevel", "info"]
BEAT = ["celery", "-A", "config", "beat", "--pidfile", "", "--loglevel", "info"]


class Process:
    """A process that is started again whenever it dies, unless it was stopped by ``stop``.

    ``ready_text`` is what it logs when it has begun to work.
    """

    def __init__(
        self,
        name: str,
        command: list[str],
        ready_text: str,
        *,
        environment: dict[str, str],
        logs: Path,
        inherited: tuple[int, ...] = (),
    ) -> None:
        self.name = name
        self._command, self._ready_text = command, ready_text
        self._environment, self._logs, self._inherited = environment, logs, inherited
        self._lock = threading.Lock()
        self._starts = 0
        self._is_wanted = False

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def children(self) -> list[int]:
        """Process ids of the children: the pool of a worker."""
        return descendants(self.pid)

    @property
    def log(self) -> str:
        """What it has logged since it was last started."""
        return self._log_file.read_text(errors="replace")

    def start(self) -> None:
        """Start it and return at once."""
        with self._lock:
            self._start()

    def start_again_if_dead(self) -> None:
        """Do what a supervisor does, which also ends what a dead process has left behind."""
        with self._lock:
            if self._is_wanted and self._process.poll() is not None:
                self._kill_group()
                self._start()

    def wait_until_ready(self) -> None:
        """Return when the process that runs now has begun to work."""
        assert until(lambda: self._ready_text in self.log, 180), self.log

    def kill(self) -> None:
        """Kill it with its children, and let the supervisor start it again."""
        for pid in (self.pid, *self.children):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def replace(self, signal_number: int = signal.SIGTERM) -> None:
        """Ask it to end, as a deployment does, and return when its successor works."""
        starts = self._starts
        self._process.send_signal(signal_number)
        assert until(lambda: self._starts > starts, 180), self.log
        self.wait_until_ready()

    def stop(self) -> None:
        """End it at once and for good, or until ``start``."""
        with self._lock:
            self._is_wanted = False
            self._kill_group()

    def _start(self) -> None:
        self._starts += 1
        self._is_wanted = True
        self._log_file = self._logs / f"{self.name}-{self._starts:02}.log"
        with self._log_file.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", *self._command],
                cwd=ROOT, env=self._environment, stdout=log, stderr=log, pass_fds=self._inherited,
                start_new_session=True, preexec_fn=functools.partial(die_with_parent, os.getpid()),
            )  # fmt: skip

    def _kill_group(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()


def ask(program: subprocess.Popen[str]) -> str:
    """Have an ``Installation.program`` do its thing once, and return the line that it prints then."""
    program.stdin.write("\n")
    program.stdin.flush()
    return program.stdout.readline().strip()


class Installation:
    """A database and a data directory, with the accounts of ``PATHS``, and what can be said of both."""

    def __init__(self, directory: Path, database_url: str, **settings: str) -> None:
        self.directory, self.database_url = directory, database_url
        self.environment = environment(directory, 8000) | {"DATABASE_URL": database_url, "SECRET_KEY": SECRET}
        self.environment |= {"DJANGO_SETTINGS_MODULE": "config.settings"} | settings

    def prepare(self) -> None:
        """Make the tables and the accounts."""
        accounts = {account.slug: (account.provider, TOKENS[account.slug]) for account in DEMO_ACCOUNTS}
        self.run("-m", "tests.reliability.state", "prepare", given=json.dumps(accounts))

    def run(self, *arguments: str, given: str = "") -> str:
        """Run Python in the installation's environment and return what it prints."""
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=ROOT, env=self.environment, check=False, capture_output=True, text=True, timeout=300, input=given,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    def program(self, text: str) -> subprocess.Popen[str]:
        """Start a program of its own process group that does a thing, and prints a line, at each ``ask``."""
        return subprocess.Popen(
            [sys.executable, "-c", text], cwd=ROOT, env=self.environment, text=True, start_new_session=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip

    def rows(self, statement: str) -> list[tuple]:
        """Return what a query gives."""
        if self.database_url.startswith("sqlite"):
            with contextlib.closing(sqlite3.connect(self.database_url.removeprefix("sqlite:///"))) as database:
                return database.execute(statement).fetchall()
        with psycopg.connect(self.database_url, autocommit=True) as database:
            return database.execute(statement).fetchall()

    def state(self) -> dict:
        """Return what ``tests.reliability.state tell`` prints: ``deliveries``, ``outcomes``, ``calls``."""
        return json.loads(self.run("-m", "tests.reliability.state", "tell"))

    def told_by_providers(self, slug: str) -> str:
        """Return the account's call log without the moments that are those of our own clock."""
        return self.run("-m", "tests.reliability.state", "compare", slug)

    def derived_from(self, deliveries: list[dict]) -> dict:
        """Return the state that comes of ``deliveries`` when this still empty installation drains them undisturbed."""
        return json.loads(self.run("-m", "tests.reliability.state", "derive", given=json.dumps(deliveries)))

    @property
    def spooled(self) -> list[Path]:
        """The files that wait in the spool."""
        return spool_files(self.directory)

    @property
    def pending(self) -> int:
        """How many deliveries of the inbox are not processed yet."""
        return self.rows("SELECT count(*) FROM webhooks_delivery WHERE status = 'pending'")[0][0]

    def wait_until_drained(self) -> None:
        """Return when the spool is empty and nothing is pending, for which a minute is promised."""
        drained = until(lambda: not self.spooled and not self.pending, 60)
        assert drained, f"after a minute: {self.pending} pending, spool {[path.name for path in self.spooled]}"

    def assert_keeps(self, *senders: Sender) -> None:
        """Make sure that the inbox holds what was acknowledged, as it was sent and once, and nothing that was not sent.

        ``senders`` are all that have sent. What was sent without an acknowledgement may be there, as often as it was
        sent.
        """
        kept = {str(row["id"]): row["digest"] for row in self.state()["deliveries"]}
        promised = {delivery: post.digest for sender in senders for delivery, post in sender.acknowledged.items()}
        acknowledged = sum(sender.answers[200] for sender in senders)
        assert len(promised) == acknowledged, "one id was given to two requests"
        lost = {delivery: digest for delivery, digest in promised.items() if kept.get(delivery) != digest}
        assert not lost, f"{len(lost)} of {len(promised)} acknowledged deliveries are lost, such as {list(lost)[:3]}"
        unclear = [post.digest for sender in senders for post in sender.unacknowledged]
        for delivery, digest in kept.items():
            if delivery not in promised:
                assert digest in unclear, f"{delivery} is there and was never sent, or is there twice"
                unclear.remove(digest)


class System(Installation):
    """A running installation: ``webs``, ``workers`` and ``beats`` are its processes, ``port`` is where it answers."""

    def __init__(
        self,
        directory: Path,
        postgresql: Server,
        redis: Server,
        database_url: str,
        *,
        webs: int = 2,
        workers: int = 1,
        beats: int = 1,
        **settings: str,
    ) -> None:
        """The database is there. Further ``settings`` go to the environment of every process."""
        super().__init__(directory, database_url, REDIS_URL=redis.url, **settings)
        self.postgresql, self.redis = postgresql, redis
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=2048)
        self.port = self._listener.getsockname()[1]
        self._logs = directory / "logs"
        self._logs.mkdir()
        shared = self._listener.fileno()
        self.webs = [
            self._process(f"web{number}", [*WEB, "--fd", str(shared)], "Uvicorn running", (shared,))
            for number in range(webs)
        ]
        self.workers = [
            self._process(f"worker{number}", [*WORKER, "-n", f"{number}@%h"], " ready.") for number in range(workers)
        ]
        self.beats = [
            self._process(f"beat{number}", [*BEAT, "--schedule", str(directory / f"beat{number}")], "beat: Starting")
            for number in range(beats)
        ]
        self._is_over = threading.Event()
        self._supervisor = threading.Thread(target=self._supervise)

    @property
    def processes(self) -> list[Process]:
        return [*self.webs, *self.workers, *self.beats]

    def __enter__(self) -> "System":
        self.start()
        self._supervisor.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._is_over.set()
        self._supervisor.join()
        self.stop()
        self._listener.close()
        for log in sorted(self._logs.iterdir()):
            print(f"--- {log.name}\n{log.read_text(errors='replace')[-3000:]}")  # noqa: T201

    @property
    def process_ids(self) -> list[list[int]]:
        """The ids of each process and of its children."""
        return [[process.pid, *sorted(process.children)] for process in self.processes]

    def stop(self) -> None:
        """End every process at once, until ``start``."""
        for process in self.processes:
            process.stop()

    def start(self) -> None:
        """Start every process and return when all have begun to work."""
        for process in self.processes:
            process.start()
        for process in self.processes:
            process.wait_until_ready()

    def send(self, posts: Iterable[Post], rate: float) -> Sender:
        """Return a sender to this system, not yet begun."""
        return Sender(self.port, posts, rate)

    def _process(self, name: str, command: list[str], ready_text: str, inherited: tuple[int, ...] = ()) -> Process:
        return Process(name, command, ready_text, environment=self.environment, logs=self._logs, inherited=inherited)

    def _supervise(self) -> None:
        while not self._is_over.wait(0.05):
            for process in self.processes:
                process.start_again_if_dead()


def simulated(calls: int = 0, *, seed: int = 1) -> Iterator[Post]:
    """Yield what the providers send because of so many calls (0: without end), about seven requests to each."""
    for request in plan(DEMO_ACCOUNTS, seed, calls, datetime(2026, 11, 2, 4, tzinfo=UTC)):
        yield Post(PATHS[request.account], request.body, request.query, request.method, request.content_type)


def endless_calls() -> Iterator[Post]:
    """Yield the deliveries of PIOPIY call after PIOPIY call, each in order, without end."""
    return chain.from_iterable(map(call, count()))


def call(number: int, path: str = PATHS[PIOPIY_ACCOUNT]) -> list[Post]:
    """Return the deliveries of one inbound PIOPIY call: started, answered, hung up, and the final report."""
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
    return [Post(path, json.dumps(payload).encode()) for payload in (*events, report)]
