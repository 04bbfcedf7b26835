"""One PostgreSQL and one Redis for all of these tests, and a database of its own for each, made from a template.

The tests run the whole program and take both processors, so they do not run beside each other (no ``-n``). They are
short by default; ``RELIABILITY=long`` makes the same tests long.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import psycopg
import pytest

from tests.reliability.client import Sender, summary
from tests.reliability.system import Installation, System
from tests.servers import Server, postgresql_server, redis_server

_figures: list[str] = []


class Lengths(NamedTuple):
    """How much of everything: numbers of kills, seconds of outages, webhooks a second."""

    kills: int
    outage_seconds: float
    rate: int
    is_long: bool = False


SHORT = Lengths(kills=3, outage_seconds=3, rate=300)
LONG = Lengths(kills=20, outage_seconds=30, rate=300, is_long=True)


@pytest.fixture(scope="session")
def lengths() -> Lengths:
    return LONG if os.environ.get("RELIABILITY") == "long" else SHORT


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Server]:
    with postgresql_server() as server:
        yield server


@pytest.fixture(scope="session")
def redis() -> Iterator[Server]:
    with redis_server() as server:
        yield server


@pytest.fixture(scope="session")
def template(postgresql: Server, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Name of a database with all tables and accounts, from which others are copied."""
    _create_database(postgresql, "template_ringledger", "template0")
    Installation(tmp_path_factory.mktemp("template"), _url(postgresql, "template_ringledger")).prepare()
    return "template_ringledger"


@pytest.fixture(scope="session")
def launch(postgresql: Server, redis: Server, template: str) -> Callable[..., AbstractContextManager[System]]:
    """Return a context in which the program runs on a new database; further arguments as for ``System``."""

    @contextmanager
    def launch(directory: Path, **arguments: object) -> Iterator[System]:
        _create_database(postgresql, "ringledger", template)
        with System(directory, postgresql, redis, _url(postgresql, "ringledger"), **arguments) as system:
            yield system
        for server in (postgresql, redis):  # whatever the test did to them
            server.stop()
            server.start()

    return launch


@pytest.fixture
def start(launch: Callable[..., AbstractContextManager[System]], tmp_path: Path) -> Iterator[Callable[..., System]]:
    """Return a way to start the program for this test alone; arguments as for ``System``."""
    with ExitStack() as running:
        yield lambda **arguments: running.enter_context(launch(tmp_path, **arguments))


@pytest.fixture
def undisturbed(postgresql: Server, template: str, tmp_path_factory: pytest.TempPathFactory) -> Callable[[dict], dict]:
    """Return a way to have the deliveries of a state drained by one process that nothing happens to."""

    def derive(state: dict) -> dict:
        _create_database(postgresql, "undisturbed", template)
        alone = Installation(tmp_path_factory.mktemp("undisturbed"), _url(postgresql, "undisturbed"))
        return alone.derived_from(state["deliveries"])

    return derive


@pytest.fixture
def note(request: pytest.FixtureRequest) -> Callable[..., None]:
    """Return a way to have the figures of a sender printed at the end of the whole run."""

    def note(sender: Sender, *, since: float = 0, until: float = float("inf"), what: str = "") -> None:
        sent = [one for one in sender.sent if since <= one.began <= until]
        _figures.append(f"{request.node.name} {what}: {summary(sent)}")

    return note


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if _figures:
        terminalreporter.section("Webhooks sent while things broke")
        for line in _figures:
            terminalreporter.line(line)


def _create_database(server: Server, name: str, template: str) -> None:
    with psycopg.connect(server.url, autocommit=True) as database:
        database.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        database.execute(f"CREATE DATABASE {name} TEMPLATE {template}")


def _url(server: Server, name: str) -> str:
    return server.url.rpartition("/")[0] + f"/{name}"
