"""While the database is away: every acknowledged delivery is on disk, and in the inbox once when it is back."""

import asyncio
import json
import os
import resource
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from calls.ids import new_id
from calls.models import Account
from tests.servers import postgresql_server
from tests.serving import ROOT, until
from tests.webhooks.door import Door
from tests.webhooks.inbox import NOON
from webhooks import spool
from webhooks.models import Delivery
from webhooks.receiver import Group
from webhooks.storing import NewDelivery, insert, insert_async


@pytest.fixture
def spooling(settings, tmp_path, monkeypatch):
    """A spool of this test's own."""
    settings.DATA_DIR = tmp_path
    monkeypatch.setattr(spool, "_file", spool._OpenFile())
    return tmp_path / "spool"


def delivery(account, number: int = 0) -> NewDelivery:
    body = b'{"number": %d, "nul": "\\u0000"}\x00\xff' % number
    return NewDelivery(
        id=new_id(), account_id=account.pk, received_at=NOON, method="POST", content_type="application/json",
        query=b"a=%FF", body=body, size=len(body), digest="0" * 64, remote_address="203.0.113.9",
    )  # fmt: skip


def test_what_is_spooled_comes_back_byte_for_byte_and_once(account, spooling):
    first, second = delivery(account, 1), delivery(account, 2)
    spool.append([first, second])
    insert([second])  # the commit that was in doubt had gone through
    spool.drain_spools()
    stored = Delivery.objects.get(pk=first.id)
    assert (bytes(stored.body), bytes(stored.query), stored.received_at) == (first.body, b"a=%FF", NOON)
    assert (stored.content_type, stored.remote_address, stored.status) == ("application/json", "203.0.113.9", "pending")
    assert Delivery.objects.count() == 2
    assert spool.waiting_files() == []
    assert spool.drain_spools() == 0


def test_a_process_that_lives_on_holds_nothing_back_and_begins_a_new_file(account, spooling):
    for number in range(2):
        spool.append([delivery(account, number)])
        assert spool.drain_spools() == 1
    assert Delivery.objects.count() == 2


def test_draining_while_others_append_loses_nothing(account, spooling):
    items = [delivery(account, number) for number in range(200)]
    with ThreadPoolExecutor(2) as pool:
        appending = [pool.submit(spool.append, [item]) for item in items]
        while not all(future.done() for future in appending):
            spool.drain_spools()
    spool.drain_spools()
    assert set(Delivery.objects.values_list("pk", flat=True)) == {item.id for item in items}


@pytest.mark.django_db(transaction=True)
def test_a_line_that_the_inbox_refuses_is_kept_apart_and_stops_nothing(account, spooling):
    items = [delivery(account, number) for number in range(3)]
    items[1] = items[1]._replace(account_id=None)
    for item in items:
        spool.append([item])
    assert spool.drain_spools() == 2
    assert set(Delivery.objects.values_list("pk", flat=True)) == {items[0].id, items[2].id}
    (kept,) = spooling.glob("*.bad")
    assert str(items[1].id).encode() in kept.read_bytes()
    assert spool.waiting_files() == []


def test_a_damaged_line_is_kept_apart_and_stops_nothing(account, spooling):
    for number in range(3):
        spool.append([delivery(account, number)])
    (file,) = spooling.glob("*.spool")
    lines = file.read_bytes().splitlines(keepends=True)
    torn = lines[2][: len(lines[2]) // 2]
    file.write_bytes(lines[0] + lines[1].replace(b"POST", b"POOT") + torn)
    assert spool.drain_spools() == 1
    (kept,) = spooling.glob("*.bad")
    assert kept.read_bytes() == lines[1].replace(b"POST", b"POOT") + torn


def test_only_its_owner_may_read_the_spool(account, spooling):
    spool.append([delivery(account)])
    (file,) = spooling.glob("*.spool")
    assert (file.stat().st_mode & 0o777, spooling.stat().st_mode & 0o777) == (0o600, 0o700)


APPEND_UNTIL_FULL = """
import django; django.setup()
from calls.ids import new_id
from webhooks import spool
from webhooks.storing import NewDelivery
from datetime import UTC, datetime
acknowledged = 0
try:
    while True:
        spool.append(2 * [NewDelivery(new_id(), 1, datetime.now(UTC), "POST", "", "", b"", b"x" * 700, 700, "0" * 64)])
        acknowledged += 2
except OSError:
    print(acknowledged)
"""


def test_a_full_disk_is_an_error_and_leaves_no_half_line(account, spooling):
    run = subprocess.run(
        [sys.executable, "-c", APPEND_UNTIL_FULL],
        cwd=ROOT, capture_output=True, text=True, timeout=180, check=True,
        env=os.environ | {"DATA_DIR": str(spooling.parent), "DATABASE_URL": f"sqlite:///{spooling.parent}/none.sqlite3"},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000)),
    )  # fmt: skip
    acknowledged = int(run.stdout)
    assert acknowledged > 5
    (file,) = spooling.glob("*.spool")
    lines = file.read_bytes().splitlines(keepends=True)
    assert len(lines) == acknowledged
    assert all(line.endswith(b"\n") for line in lines)


def test_an_outage_of_the_database_costs_no_delivery(tmp_path):
    with postgresql_server() as server:
        door = Door("uvicorn", tmp_path, DATABASE_URL=server.url)

        def send(number: int):
            return door.ask("POST", door.path, json.dumps({"number": number}).encode())

        def kept() -> list[tuple]:
            with psycopg.connect(server.url) as database:
                return database.execute("SELECT id, body FROM webhooks_delivery").fetchall()

        try:
            answers = [send(number) for number in range(5)]
            server.stop()
            with ThreadPoolExecutor(8) as pool:
                answers += pool.map(send, range(5, 45))
            server.start()
            # It finds by itself that the database is back, and drains its spool.
            assert until(lambda: not door.spooled)
            answers += [send(number) for number in range(45, 50)]
            assert {answer.status for answer in answers} == {200}
            assert until(lambda: not door.spooled)
            rows = kept()
            assert len(rows) == 50
            assert {str(row[0]) for row in rows} == {answer.content["delivery"] for answer in answers}
            assert sorted(json.loads(bytes(row[1]))["number"] for row in rows) == list(range(50))
        finally:
            door.stop()


def test_a_database_that_is_stuck_costs_no_delivery(tmp_path):
    door = Door("uvicorn", tmp_path)
    try:
        answers = [door.ask("POST", door.path, b'{"number": 0}')]
        with ThreadPoolExecutor(4) as pool:
            database = sqlite3.connect(tmp_path / "ringledger.sqlite3", isolation_level=None)
            database.execute("BEGIN IMMEDIATE")
            answers += pool.map(lambda number: door.ask("POST", door.path, b'{"number": %d}' % number), range(1, 9))
            assert len(door.spooled) == 1
            database.execute("ROLLBACK")
            database.close()
        assert {answer.status for answer in answers} == {200}
        assert until(lambda: door.count() == 9)
        assert len({answer.content["delivery"] for answer in answers}) == 9
        assert until(lambda: not door.spooled)
    finally:
        door.stop()


def test_on_the_event_loop_too_one_that_the_table_refuses_hinders_no_other(account, tmp_path):
    items = [delivery(account, number) for number in range(5)]
    items[2] = items[2]._replace(account_id=None)

    async def insert_all(url: str) -> list[NewDelivery]:
        async with await psycopg.AsyncConnection.connect(url, autocommit=True) as database:
            return await insert_async(items, database)

    with postgresql_server() as server:
        Door("uvicorn", tmp_path, DATABASE_URL=server.url).stop()  # it has made the tables
        assert asyncio.run(insert_all(server.url)) == [items[2]]
        with psycopg.connect(server.url) as database:
            ids = {key for (key,) in database.execute("SELECT id FROM webhooks_delivery")}
    assert ids == {item.id for item in items if item.account_id}


def test_when_a_commit_is_stuck_one_waits_in_vain_and_the_next_not_at_all():
    async def scene() -> None:
        is_over = asyncio.Event()

        async def write(deliveries: list[NewDelivery]) -> list[NewDelivery]:
            await is_over.wait()
            return []

        group, item = Group(write, 0.05), delivery(Account(pk=1))
        assert await group.keep(item) is False
        with pytest.raises(StopIteration) as answered:
            group.keep(item).send(None)  # it would stop here if it waited for anything
        assert answered.value.value is False
        is_over.set()
        assert await asyncio.wait_for(group._writing, 60) is None
        assert await group.keep(item) is True

    asyncio.run(scene())


def test_while_the_database_is_frozen_each_delivery_is_answered_and_kept(tmp_path):
    with postgresql_server() as server:
        door = Door("uvicorn", tmp_path, DATABASE_URL=server.url)

        def send(number: int) -> int:
            return door.ask("POST", door.path, b'{"number": %d}' % number).status

        try:
            assert send(0) == 200
            server.pause()
            answers = [send(number) for number in range(1, 41)]
            server.resume()
            assert set(answers) == {200}
            assert until(lambda: not door.spooled)
            with psycopg.connect(server.url) as database:
                assert database.execute("SELECT count(*) FROM webhooks_delivery").fetchone() == (41,)
        finally:
            server.resume()
            door.stop()


def test_a_process_that_starts_while_the_database_is_away_accepts_for_known_addresses(tmp_path):
    with postgresql_server() as server:
        door = Door("uvicorn", tmp_path, DATABASE_URL=server.url)
        try:
            assert door.ask("POST", door.path, b"{}").status == 200
            assert until(lambda: not door.spooled)
            door.stop()
            file = tmp_path / "webhook-urls.json"
            assert file.stat().st_mode & 0o777 == 0o600
            assert door.account["token"] not in file.read_text()
            server.stop()
            door.start()
            answer = door.ask("POST", door.path, b'{"early": true}')
            assert (answer.status, len(door.spooled)) == (200, 1)
            assert door.ask("POST", "/webhooks/piopiy/nobody/", b"{}").status == 404
            server.start()
            assert until(lambda: not door.spooled)
        finally:
            door.stop()


def test_what_a_killed_process_left_in_the_spool_is_drained_by_the_next(tmp_path):
    with postgresql_server() as server:
        door = Door("uvicorn", tmp_path, DATABASE_URL=server.url)
        try:
            assert door.ask("POST", door.path, b"{}").status == 200
            server.stop()
            kept = door.ask("POST", door.path, b'{"spooled": true}').content["delivery"]
            door.process.kill()
            door.stop()
            server.start()
            door.start()
            assert until(lambda: not door.spooled)
            with psycopg.connect(server.url) as database:
                found = database.execute("SELECT count(*) FROM webhooks_delivery WHERE id = %s", [kept]).fetchone()
            assert found == (1,)
        finally:
            door.stop()


def test_without_database_and_spool_the_answer_is_503(tmp_path):
    with postgresql_server() as server:
        door = Door("uvicorn", tmp_path, DATABASE_URL=server.url)
        try:
            assert door.ask("POST", door.path, b"{}").status == 200
            server.stop()
            (tmp_path / "spool").write_text("a file where the directory should be")
            answer = door.ask("POST", door.path, b'{"lost": true}')
            assert (answer.status, answer.headers["retry-after"]) == (503, "5")
        finally:
            door.stop()
