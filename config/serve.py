"""Everything in one command, for one machine: ``python -m config.serve``.

Prepares the database, then runs web server, worker and scheduler as child processes, starts again what dies, and stops
all of them together. ``--demo`` adds three demo accounts and simulated calls. Production runs the same three processes
under a supervisor of its own: see deploy/.
"""

import argparse
import contextlib
import ctypes
import errno
import fcntl
import functools
import http.client
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import TextIO

MOST_RESTARTS, RESTART_WINDOW_SECONDS = 5, 60
STOP_SECONDS = 7
"""How long children may take to stop before they are killed; all is over within 10 seconds."""
DEMO_ACCOUNTS = {"delhi-support": "piopiy", "mumbai-sales": "telecmi", "pune-care": "callerdesk"}


class CannotStart(Exception):
    """The server cannot start; the message says why and what to do."""


@dataclass
class Child:
    """A process that is kept running."""

    name: str
    command: list[str]
    inherited: tuple[int, ...] = ()
    starts: deque[float] = field(default_factory=lambda: deque(maxlen=MOST_RESTARTS + 1))

    def start(self) -> None:
        """Start it in a process group of its own, so that Ctrl-C reaches only us and all its children can be killed."""
        self.starts.append(time.monotonic())
        self.process = subprocess.Popen(
            self.command,
            start_new_session=True,
            pass_fds=self.inherited,
            preexec_fn=functools.partial(die_with_parent, os.getpid()),
        )

    @property
    def dies_too_often(self) -> bool:
        """Whether it has been started again as often as it may within the window."""
        return len(self.starts) > MOST_RESTARTS and time.monotonic() - self.starts[0] < RESTART_WINDOW_SECONDS

    def kill_group(self) -> None:
        """Kill it with every process that it has left behind."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def die_with_parent(parent: int, signal_number: int = signal.SIGTERM) -> None:
    """Have this process get ``signal_number`` when ``parent``, which has just forked it, dies (Linux only)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, int(signal_number))  # 1 is PR_SET_PDEATHSIG
        if os.getppid() != parent:
            os._exit(1)


def main(arguments: list[str] | None = None) -> int:
    """Serve until a signal comes. Return the exit code: 0 when asked to stop, 1 when it could not start or go on."""
    parser = argparse.ArgumentParser(prog="python -m config.serve", description="Serve Ringledger on this machine.")
    parser.add_argument("--demo", action="store_true", help="add demo accounts and simulate calls")
    options = parser.parse_args(arguments)
    stop = threading.Event()

    def ask_to_stop(signal_number: int, frame: FrameType | None) -> None:
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, ask_to_stop)
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # nohup ignores it, to go on when the terminal closes
        signal.signal(signal.SIGHUP, ask_to_stop)
    try:
        _read_settings()
        lock = _lock_data_directory()
        listener = _listen()
        _prepare(demo=options.demo)
    except CannotStart as error:
        print(f"Ringledger cannot start: {error}", file=sys.stderr)  # noqa: T201
        return 1
    with lock, listener:
        children = _children(listener, demo=options.demo)
        try:
            for child in children:
                child.start()
            return _supervise(children, stop)
        finally:
            _stop(children)


def _read_settings() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    import django
    from django.core.exceptions import ImproperlyConfigured

    try:
        django.setup()
    except ImproperlyConfigured as error:
        raise CannotStart(str(error)) from error


def _lock_data_directory() -> TextIO:
    """Hold a lock that ends with this process, however it ends."""
    from django.conf import settings

    try:
        lock = (settings.DATA_DIR / "serve.lock").open("w")
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise CannotStart(
            f"it already runs with DATA_DIR={settings.DATA_DIR}. Stop that one first, or set another DATA_DIR and PORT."
        ) from error
    except OSError as error:
        raise CannotStart(
            f"DATA_DIR is {str(settings.DATA_DIR)!r}, which cannot be written ({error.strerror})."
        ) from error
    return lock


def _listen() -> socket.socket:
    """Take the port once, here: while the web server is started again, callers wait instead of failing."""
    from django.conf import settings

    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", settings.PORT))
        listener.listen(2048)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise CannotStart(
                f"PORT {settings.PORT} is in use by another program. Set another, such as PORT={settings.PORT + 1}."
            ) from error
        raise CannotStart(f"PORT {settings.PORT} cannot be used ({error.strerror}).") from error
    return listener


def _prepare(*, demo: bool) -> None:
    """Bring the database up to date; make and print the first login when there is none."""
    from django.contrib.auth import get_user_model
    from django.core.management import call_command
    from django.db import DatabaseError, connections

    try:
        call_command("migrate", interactive=False, verbosity=0)
        if not get_user_model().objects.filter(is_superuser=True).exists():
            password = secrets.token_urlsafe(12)
            get_user_model().objects.create_superuser("admin", password=password)
            _say(f"\nFirst login, shown only this once: admin / {password}\n")
        if demo:
            _add_demo_accounts()
    except DatabaseError as error:
        reason = " ".join(str(error).split())
        raise CannotStart(f"the database of DATABASE_URL does not answer as it should: {reason}") from error
    finally:
        for connection in connections.all(initialized_only=True):
            connection.close()
            if connection.vendor == "postgresql":
                connection.close_pool()


def _add_demo_accounts() -> None:
    from calls.models import Account
    from webhooks.management.commands.add_account import add_account

    for slug, provider in DEMO_ACCOUNTS.items():
        if not Account.objects.filter(slug=slug).exists():
            add_account(slug, provider)


def _children(listener: socket.socket, *, demo: bool) -> list[Child]:
    from django.conf import settings

    python = sys.executable
    web = [python, "-m", "uvicorn", "config.asgi:application", "--fd", str(listener.fileno())]
    # The address of a caller behind proxies is worked out by TRUSTED_PROXIES, not by uvicorn.
    web += ["--loop", "uvloop", "--http", "httptools", "--no-access-log", "--no-proxy-headers", "--lifespan", "off"]
    web += ["--log-level", "warning", "--timeout-graceful-shutdown", "4"]
    celery = [python, "-m", "celery", "--quiet", "-A", "config"]
    # Prefork: a task that hangs or takes its process down does not take the worker with it.
    worker = [*celery, "worker", "--pool", "prefork", "--concurrency", "2", "--loglevel", "warning"]
    worker += ["--without-gossip", "--without-mingle", "--without-heartbeat"]
    beat = [*celery, "beat", "--schedule", str(settings.DATA_DIR / "beat-schedule"), "--pidfile", ""]
    beat += ["--loglevel", "warning"]
    children = [Child("web server", web, (listener.fileno(),)), Child("worker", worker), Child("scheduler", beat)]
    if demo:
        simulate = [python, "manage.py", "simulate", "--calls", "0", "--rate", "1", "--speed", "6"]
        simulate += ["--url", f"http://127.0.0.1:{settings.PORT}"]
        children.append(Child("simulator", simulate))
    return children


def _supervise(children: list[Child], stop: threading.Event) -> int:
    from django.conf import settings

    has_greeted = False
    while not stop.wait(0.2):
        for child in children:
            code = child.process.poll()
            if code is None:
                continue
            child.kill_group()
            if child.dies_too_often:
                _say(
                    f"The {child.name} has died {MOST_RESTARTS + 1} times within {RESTART_WINDOW_SECONDS} seconds "
                    f"(last exit code {code}); its messages are above. Everything is being stopped."
                )
                return 1
            _say(f"The {child.name} has died (exit code {code}) and is started again.")
            child.start()
        if not has_greeted and _answers(settings.PORT):
            _greet(settings.PORT)
            has_greeted = True
    return 0


def _stop(children: list[Child]) -> None:
    running = [child for child in children if hasattr(child, "process")]
    for child in running:
        child.process.terminate()
    deadline = time.monotonic() + STOP_SECONDS
    for child in running:
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.process.wait(max(0, deadline - time.monotonic()))
        child.kill_group()


def _answers(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=0.5)  # unlike urlopen it takes no proxy
    try:
        connection.request("GET", "/healthz")
        connection.getresponse()
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
    return True


def _greet(port: int) -> None:
    """Say where to go."""
    same = "".join(f"{name}={os.environ[name]} " for name in ("DATA_DIR", "PORT") if os.environ.get(name))
    _say(
        f"\nRingledger is running.\n"
        f"  Admin           http://127.0.0.1:{port}/admin/\n"
        f"  Password lost?  {same}.venv/bin/python manage.py changepassword admin\n"
        f"  Add an account  {same}.venv/bin/python manage.py add_account delhi-support --provider piopiy\n"
        f"  Stop            Ctrl-C\n"
    )


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201


if __name__ == "__main__":
    os.chdir(Path(__file__).resolve().parent.parent)
    sys.exit(main())
