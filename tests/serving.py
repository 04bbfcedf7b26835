"""Runs ``python -m config.serve`` the way ``make run`` does, for the tests that need the whole thing."""

import contextlib
import os
import queue
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from playwright.sync_api import Page

ROOT = Path(__file__).parent.parent


class Running:
    """A started ``config.serve``: its address, its first login and what it has printed."""

    def __init__(self, process: subprocess.Popen[str], data_directory: Path, port: int) -> None:
        self.process = process
        self.data_directory = data_directory
        self.url = f"http://127.0.0.1:{port}"
        self.output = ""
        self._lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def wait_for(self, text: str, seconds: float = 180) -> None:
        """Return when ``text`` has been printed; fail with the output when it is not within ``seconds``."""
        deadline = time.monotonic() + seconds
        while text not in self.output:
            try:
                self.output += self._lines.get(timeout=max(0, deadline - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"{text!r} was not printed:\n{self.output}") from None

    @property
    def password(self) -> str:
        """Password of the first login, as printed."""
        found = re.search(r"admin / (\S+)", self.output)
        assert found, self.output
        return found[1]

    def manage(self, *arguments: str) -> str:
        """Run a management command on the same data and return what it prints."""
        return subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=ROOT, env=environment(self.data_directory, self.url.rpartition(":")[2]),
            check=True, capture_output=True, text=True, timeout=180,
        ).stdout  # fmt: skip

    def stop(self) -> int:
        """Do what Ctrl-C does and return the exit code."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(60)

    def _read(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            self._lines.put(line)


def log_in(page: Page, url: str, username: str, password: str) -> None:
    """Log in to the admin at ``url`` and return when the next page is there."""
    page.goto(f"{url}/admin/")
    page.locator("input[name=username]").fill(username)
    page.locator("input[name=password]").fill(password)
    page.get_by_role("button", name=re.compile("log in", re.IGNORECASE)).click()
    page.wait_for_url(lambda address: "/login/" not in address)


@contextlib.contextmanager
def serve(data_directory: Path, *arguments: str, **settings: str) -> Iterator[Running]:
    """Start it on a free port and wait until it answers."""
    port = free_port()
    process = start(data_directory, port, *arguments, **settings)
    running = Running(process, data_directory, port)
    try:
        running.wait_for("Ctrl-C")
        yield running
    finally:
        if process.poll() is None:
            running.stop()


def start(data_directory: Path, port: int | str, *arguments: str, **settings: str) -> subprocess.Popen[str]:
    """Start it and return at once."""
    return subprocess.Popen(
        [sys.executable, "-m", "config.serve", *arguments],
        cwd=ROOT, env=environment(data_directory, port) | settings, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def environment(data_directory: Path, port: int | str) -> dict[str, str]:
    """Return a nearly empty environment: no setting but these two."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return kept | {"DATA_DIR": str(data_directory), "PORT": str(port)}


def processes_of(data_directory: Path) -> dict[int, str]:
    """Return the command lines, by process id, of all live processes that were started with this DATA_DIR."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if f"DATA_DIR={data_directory}\0".encode() in (folder / "environ").read_bytes():
                found[int(folder.name)] = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
    return found


def spool_files(data_directory: Path) -> list[Path]:
    """Return the files that wait in the spool of what runs with this DATA_DIR."""
    return [path for path in (data_directory / "spool").glob("*") if path.suffix in (".spool", ".draining")]


def until(condition: Callable[[], object], seconds: float = 60, *, pause: float = 0.1) -> bool:
    """Return whether ``condition`` came true within ``seconds``."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(pause)
    return True


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
