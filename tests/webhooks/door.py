"""A server with its webhook URL, run as a process of its own, and the ways to ask it."""

import http.client
import json
import socket
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from tests.serving import ROOT, environment, free_port, spool_files, until

COMMANDS = {
    "uvicorn": [
        "uvicorn",
        "config.asgi:application",
        "--host",
        "127.0.0.1",
        "--no-access-log",
        "--no-proxy-headers",
        "--lifespan",
        "off",
    ],
    "runserver": ["django", "runserver", "--noreload"],
}


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    content: dict[str, str]


class Door:
    """A running server and the database behind it."""

    def __init__(self, kind: str, data_directory: Path, **settings: str) -> None:
        self.kind, self.port, self.data_directory = kind, free_port(), data_directory
        self.environment = environment(data_directory, self.port) | settings
        self.environment |= {"DJANGO_SETTINGS_MODULE": "config.settings"}
        self.manage("migrate")
        self.account = json.loads(self.manage("add_account", "delhi", "--provider", "piopiy"))
        self.path = f"/webhooks/piopiy/{self.account['token']}/"
        self.log = (data_directory / "server.log").open("w+")
        self.start()

    def start(self) -> None:
        """Start the server, again after ``stop``, and return when it answers."""
        where = ["--port", str(self.port)] if self.kind == "uvicorn" else [f"127.0.0.1:{self.port}"]
        command = [sys.executable, "-m", *COMMANDS[self.kind], *where]
        self.process = subprocess.Popen(command, cwd=ROOT, env=self.environment, stdout=self.log, stderr=self.log)
        assert until(self.answers), self.log.read()

    def answers(self) -> bool:
        try:
            return self.ask("GET", "/healthz").status == 200
        except OSError:
            return False

    def manage(self, *arguments: str) -> str:
        return subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=ROOT, env=self.environment, check=True, capture_output=True, text=True, timeout=120,
        ).stdout  # fmt: skip

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        response = connection.getresponse()
        content = response.read()
        connection.close()
        named = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, named, json.loads(content) if content.startswith(b"{") else {})

    def raw(self, text: bytes, *, hang_up: bool = False) -> bytes:
        """Send bytes as they are and return all that comes back; ``hang_up`` closes our side first."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=60) as connection:
            connection.sendall(text)
            if hang_up:
                connection.shutdown(socket.SHUT_WR)
            return b"".join(iter(lambda: connection.recv(65536), b""))

    @property
    def spooled(self) -> list[Path]:
        """The files that wait in its spool."""
        return spool_files(self.data_directory)

    def rows(self, columns: str, where: str = "1", *values: object) -> list[tuple]:
        """Return columns of the inbox, once all that was acknowledged is there: what a busy disk held up, too."""
        assert until(lambda: not self.spooled)
        statement = f"SELECT {columns} FROM webhooks_delivery WHERE {where}"  # noqa: S608 - texts of these tests
        with sqlite3.connect(self.data_directory / "ringledger.sqlite3") as database:
            return database.execute(statement, values).fetchall()

    def row(self, answer: Answer, columns: str) -> tuple:
        """Return the columns of the delivery that the answer names."""
        (row,) = self.rows(columns, "id = ?", answer.content["delivery"].replace("-", ""))
        return row

    def count(self) -> int:
        return self.rows("count(*)")[0][0]

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(60)
