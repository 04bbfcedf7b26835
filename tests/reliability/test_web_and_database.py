"""Web processes, workers and the database are killed, frozen and taken away while webhooks come in.

Whatever happens: what was acknowledged is in the inbox once, as it was sent, and the calls are those of a run to which
nothing happens.
"""

import contextlib
import http.client
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import psycopg
import pytest

from tests.reliability.client import Sender
from tests.reliability.system import Installation, simulated
from tests.serving import ROOT, free_port, processes_of, until


@pytest.fixture
def assert_all_is_well(undisturbed, note) -> Callable[[Installation, Sender], None]:
    """Return a way to make sure of all that is promised of a run, once its sender has ended."""

    def assert_all_is_well(system: Installation, sender: Sender) -> None:
        note(sender)
        sender.repeat_unacknowledged()
        system.wait_until_drained()
        system.assert_keeps(sender)
        state = system.state()
        alone = undisturbed(state)
        assert state["outcomes"] == alone["outcomes"]
        assert state["calls"] == alone["calls"]

    return assert_all_is_well


def test_web_processes_are_killed(start, lengths, assert_all_is_well):
    system = start(webs=2)
    chance = random.Random(1)
    with system.send(simulated(), lengths.rate) as sender:
        for _ in range(lengths.kills):
            time.sleep(chance.uniform(0.1, 0.6))
            chance.choice(system.webs).replace(signal.SIGKILL)
        sender.stop()
    assert_all_is_well(system, sender)


def test_workers_are_killed_in_the_middle_of_a_batch(start, lengths, assert_all_is_well):
    system = start(webs=1, workers=2)
    with system.send(simulated(), lengths.rate) as sender:
        unfinished = 0
        for number in range(lengths.kills):
            with psycopg.connect(system.database_url, autocommit=True) as database:
                assert until(lambda: claimed(database), pause=0.002), "the workers do nothing"
                for worker in system.workers:
                    if number % 2:
                        kill_all(worker.children)  # whose parent replaces them
                    else:
                        worker.kill()
                time.sleep(0.2)
                unfinished += bool(claimed(database))
            for worker in system.workers:
                worker.wait_until_ready()
            time.sleep(0.5)
        sender.stop()
    assert unfinished, "no worker was in the middle of a batch when it was killed"
    assert_all_is_well(system, sender)


def test_the_database_is_stopped(start, lengths, assert_all_is_well):
    system = start()
    with system.send(simulated(), lengths.rate) as sender:
        time.sleep(1)
        system.postgresql.stop()
        time.sleep(lengths.outage_seconds)
        system.postgresql.start()
        time.sleep(1)
        sender.stop()
    assert not sender.unacknowledged
    assert_all_is_well(system, sender)


def test_the_database_crashes(start, lengths, assert_all_is_well):
    system = start()
    with system.send(simulated(), lengths.rate) as sender:
        time.sleep(1)
        system.postgresql.stop(signal.SIGQUIT)
        time.sleep(lengths.outage_seconds)
        system.postgresql.start()
        time.sleep(1)
        sender.stop()
    assert not sender.unacknowledged
    assert_all_is_well(system, sender)


def test_all_sessions_of_the_database_are_ended_again_and_again(start, lengths, assert_all_is_well):
    system = start()
    with system.send(simulated(), lengths.rate) as sender:
        for _ in range(lengths.kills):
            time.sleep(0.5)
            with psycopg.connect(system.postgresql.url, autocommit=True) as database:
                database.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
                    " AND backend_type = 'client backend'"
                )
        time.sleep(1)
        sender.stop()
    assert not sender.unacknowledged
    assert_all_is_well(system, sender)


def test_the_database_is_frozen(start, lengths, assert_all_is_well):
    system = start()
    with system.send(simulated(), lengths.rate) as sender:
        time.sleep(1)
        system.postgresql.pause()
        time.sleep(lengths.outage_seconds)
        system.postgresql.resume()
        time.sleep(1)
        sender.stop()
    assert not sender.unacknowledged
    assert_all_is_well(system, sender)


def test_a_deployment_replaces_every_process(start, lengths, assert_all_is_well):
    system = start(webs=2, workers=2)
    with system.send(simulated(), lengths.rate) as sender:
        for _ in range(1 + lengths.kills // 5):
            for process in system.processes:
                process.replace()
        sender.stop()
    assert_all_is_well(system, sender)


def test_the_single_command_is_killed_with_all_its_processes(tmp_path, lengths, note):
    everything, alone = (_with_sqlite(tmp_path / name) for name in ("everything", "alone"))
    port, log = free_port(), tmp_path / "log"
    chance = random.Random(1)

    def run() -> subprocess.Popen[bytes]:
        with log.open("ab") as output:
            command = [sys.executable, "-m", "config.serve"]
            settings = everything.environment | {"PORT": str(port)}
            process = subprocess.Popen(command, cwd=ROOT, env=settings, stdout=output, stderr=output)
        assert until(lambda: answers(port), 180), log.read_text()
        return process

    running = run()
    try:
        with Sender(port, simulated(), lengths.rate) as sender:
            for _ in range(lengths.kills):
                time.sleep(chance.uniform(0.3, 1))
                kill_all(processes_of(everything.directory))
                running.wait()
                running = run()
            sender.stop()
        note(sender)
        sender.repeat_unacknowledged()
        everything.wait_until_drained()
        everything.assert_keeps(sender)
        state = everything.state()
        undisturbed = alone.derived_from(state["deliveries"])
        assert state["outcomes"] == undisturbed["outcomes"]
        assert state["calls"] == undisturbed["calls"]
    finally:
        running.terminate()
        running.wait(60)
        print(log.read_text())  # noqa: T201


def claimed(database: psycopg.Connection) -> int:
    """Return how many deliveries workers have claimed and not finished."""
    statement = "SELECT count(*) FROM webhooks_delivery WHERE status = 'pending' AND lease_until > now()"
    return database.execute(statement).fetchone()[0]


def kill_all(pids: Iterable[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def answers(port: int) -> bool:
    """Return whether the web server on ``port`` says that it is up."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", "/healthz")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def _with_sqlite(directory: Path) -> Installation:
    directory.mkdir()
    installation = Installation(directory, f"sqlite:///{directory}/ringledger.sqlite3")
    installation.prepare()
    return installation
