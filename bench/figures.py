"""What every measurement is made of: a private server, databases on it, and figures that are ratios.

A module that measures has ``FIGURES``, a dictionary of functions by the name under which ``python -m bench NAME``
picks one; each takes a ``Bench`` and returns a ``Figure``, mostly by ``compare``.
"""

import contextlib
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psycopg

from tests.servers import Server, postgresql_server
from tests.serving import ROOT

ROUNDS = 5


@dataclass
class Figure:
    """What was measured, beside its reference. ``goal`` is the least that ``ratio`` may be, with ``is_most`` the most.

    ``ours`` and ``reference`` are medians in ``unit``; ``ratio`` is the median of the ratios, pair by pair.
    """

    title: str
    unit: str
    ours: float
    reference: float
    ratio: float
    goal: float
    is_most: bool = False
    details: dict[str, object] = field(default_factory=dict)

    @property
    def is_reached(self) -> bool:
        return self.ratio <= self.goal if self.is_most else self.ratio >= self.goal


class Database:
    """An empty database with our tables. ``url`` is its DATABASE_URL, ``environment`` that of processes that use it."""

    def __init__(self, url: str, data_directory: Path) -> None:
        self.url = url
        self.environment = os.environ | {
            "DATABASE_URL": url, "DATA_DIR": str(data_directory), "DJANGO_SETTINGS_MODULE": "config.settings",
        }  # fmt: skip
        self.python("manage.py", "migrate", "-v0")

    def python(self, *arguments: str) -> str:
        """Run Python on it, such as ``"manage.py", "drain"``, and return what it prints."""
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=ROOT, env=self.environment, check=True, stdout=subprocess.PIPE, text=True,
        ).stdout  # fmt: skip

    def settle(self) -> None:
        """Have what was written before on disk, so that it does not slow down what is measured next."""
        if self.url.startswith("postgres"):
            with psycopg.connect(self.url, autocommit=True) as connection:
                connection.execute("CHECKPOINT")


class Bench:
    """The private PostgreSQL and a folder for files, for as long as the run lasts."""

    def __init__(self, server_url: str, folder: Path) -> None:
        self._server_url = server_url
        self._folder = folder

    def database(self, name: str) -> Database:
        """Return a database of PostgreSQL, made anew."""
        with psycopg.connect(self._server_url, autocommit=True) as server:
            server.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
            server.execute(f"CREATE DATABASE {name}")
        return Database(f"{self._server_url.rpartition('/')[0]}/{name}", self.directory(name))

    def sqlite(self, name: str) -> Database:
        """Return a new database of SQLite."""
        directory = self.directory(name)
        return Database(f"sqlite:///{directory / 'ringledger.sqlite3'}", directory)

    def directory(self, name: str) -> Path:
        """Return a folder to be used as DATA_DIR."""
        directory = self._folder / name
        directory.mkdir(exist_ok=True)
        return directory


def compare(
    title: str,
    ours: Callable[[], float],
    reference: Callable[[], float],
    *,
    unit: str = "a second",
    at_least: float | None = None,
    at_most: float | None = None,
    details: dict[str, object] | None = None,
) -> Figure:
    """Measure both in turn, ``ROUNDS`` times. Exactly one of the two bounds is given."""
    pairs = [(ours(), reference()) for _ in range(ROUNDS)]
    return of_pairs(title, pairs, unit=unit, at_least=at_least, at_most=at_most, details=details)


def of_pairs(
    title: str,
    pairs: Sequence[tuple[float, float]],
    *,
    unit: str,
    at_least: float | None = None,
    at_most: float | None = None,
    details: dict[str, object] | None = None,
) -> Figure:
    """Return the figure of what was measured in turn: ours and the reference's."""
    goal = at_least if at_most is None else at_most
    assert goal is not None
    return Figure(
        title,
        unit,
        ours=statistics.median(mine for mine, _ in pairs),
        reference=statistics.median(theirs for _, theirs in pairs),
        ratio=statistics.median(mine / theirs for mine, theirs in pairs),
        goal=goal,
        is_most=at_most is not None,
        details={"pairs": pairs} | (details or {}),
    )


@contextlib.contextmanager
def kept_server() -> Iterator[Server]:
    """Run a private PostgreSQL whose databases are kept in ``artefacts/postgresql`` for the next time."""
    directory = ROOT / "artefacts" / "postgresql"
    directory.mkdir(parents=True, exist_ok=True)
    with postgresql_server(directory, fsync="on", max_wal_size="8GB") as server:
        yield server
