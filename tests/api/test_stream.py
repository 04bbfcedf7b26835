"""live/stream/: the feed as server-sent events, by the cursors of changes/."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any
from urllib.parse import urlencode
from uuid import uuid4

import pytest
from django.core.asgi import get_asgi_application
from django.test import Client
from django.urls import reverse

from calls import changes
from calls.api import live
from calls.api.live import Feed
from calls.choices import Scope
from calls.live_streams import Streams
from calls.models import Account, ApiKey, Change, Conversation
from tests.api.factories import a_conversation, a_live_conversation, an_account, client_with
from tests.calls.test_live import connections_in_use, elsewhere

PATH = "/api/v1/live/stream/"
Event = dict[str, str]


class Listener:
    """A program that listens to the stream, by ASGI. It takes nothing in while ``is_reading`` is not set."""

    def __init__(self, streams: Streams, key: str, last_event_id: str = "", **parameters: str) -> None:
        headers = {"host": "localhost", "authorization": f"Bearer {key}", "accept": "text/event-stream"}
        if last_event_id:
            headers["last-event-id"] = last_event_id
        scope = {
            "type": "http", "method": "GET", "path": PATH, "query_string": urlencode(parameters).encode(),
            "http_version": "1.1", "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        }  # fmt: skip
        self._sent: asyncio.Queue = asyncio.Queue()
        self._left = asyncio.Event()
        self._asked = False
        self._events: list[Event] = []
        self.is_reading = asyncio.Event()
        self.is_reading.set()
        self.task = asyncio.create_task(streams(scope, self._receive, self._send))

    async def _send(self, message: dict[str, Any]) -> None:
        await self.is_reading.wait()
        await self._sent.put(message)

    async def _receive(self) -> dict[str, Any]:
        if not self._asked:
            self._asked = True
            return {"type": "http.request"}
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def start(self) -> dict[str, Any]:
        """Return the start of the answer, its headers as a dictionary."""
        message = await asyncio.wait_for(self._sent.get(), 60)
        return message | {"headers": {name.lower(): value for name, value in message["headers"]}}

    async def body(self) -> bytes:
        """Return a whole answer that is no stream."""
        return (await asyncio.wait_for(self._sent.get(), 60))["body"]

    async def next(self, *names: str) -> Event:
        """Return the next event of one of these names: snapshot, change, end."""
        async for event in self._all():
            if event.get("event") in (names or ("snapshot", "change", "end")):
                return event
        raise AssertionError("the stream has ended")

    async def changes(self, count: int) -> list[Any]:
        """Return the next changes as in ``results`` of changes/, and keep the id of the last."""
        found = []
        for _ in range(count):
            event = await self.next("change")
            self.last_id = event["id"]
            found.append(json.loads(event["data"]))
        return found

    async def _all(self) -> AsyncIterator[Event]:
        while True:
            while self._events:
                yield self._events.pop(0)
            message = {"body": b"", "more_body": True} | await asyncio.wait_for(self._sent.get(), 60)
            for block in message["body"].decode().split("\n\n"):
                if block:
                    self._events.append(dict(line.split(": ", 1) for line in block.splitlines()))
            if not message["more_body"] and not self._events:
                return

    async def leave(self) -> None:
        self._left.set()
        await asyncio.wait_for(self.task, 60)


def write(call: Conversation, kind: str = "updated") -> None:
    changes.write(call.account_id, [(call.pk, Change.Kind(kind), "", None)])


@pytest.fixture
def streams(transactional_db) -> Streams:
    return Streams(get_asgi_application(), Feed(), most=3, beat_seconds=0.2, check_seconds=0.3)


@pytest.fixture
def key(transactional_db) -> str:
    return ApiKey.issue("wallboard", [Scope.STREAM, Scope.READ])[1]


@pytest.fixture
def ask(key: str) -> Callable[..., Any]:
    """Ask changes/ with the same key."""
    client = Client(headers={"Authorization": f"Bearer {key}"})

    def get(**parameters: Any) -> Any:
        return client.get("/api/v1/changes/", parameters).json()

    return get


def test_a_stream_begins_with_the_calls_that_go_on_and_goes_on_with_changes(streams, key, ask):
    call = a_live_conversation()
    a_conversation()
    write(call, "created")

    async def listen() -> None:
        listener = Listener(streams, key)
        start = await listener.start()
        assert start["status"] == 200
        assert start["headers"][b"content-type"].startswith(b"text/event-stream")
        snapshot = await listener.next()
        assert snapshot["event"] == "snapshot"
        assert [shown["id"] for shown in json.loads(snapshot["data"])["conversations"]] == [str(call.pk)]
        await elsewhere(lambda: write(call))
        (change,) = await listener.changes(1)
        (expected,) = (await elsewhere(lambda: ask(after=snapshot["id"])))["results"]
        assert change == expected
        assert (await elsewhere(lambda: ask(after="now")))["next_cursor"] == listener.last_id
        await listener.leave()

    asyncio.run(listen())


def test_a_cursor_goes_from_the_feed_to_the_stream_and_back(streams, key, ask):
    calls = [a_conversation(account=an_account(slug)) for slug in ("delhi", "pune")]
    for number in range(40):
        write(calls[number % 2])
    whole = ask(limit=1000)["results"]

    async def listen() -> None:
        first = await elsewhere(lambda: ask(limit=13))
        listener = Listener(streams, key, last_event_id=first["next_cursor"])
        second = await listener.changes(9)
        await listener.leave()
        again = Listener(streams, key, after=listener.last_id)
        third = await again.changes(5)
        await again.leave()
        rest = await elsewhere(lambda: ask(after=again.last_id, limit=1000))
        assert first["results"] + second + third + rest["results"] == whole

    asyncio.run(listen())


def test_a_connection_that_breaks_while_others_write_misses_and_repeats_nothing(streams, key, ask):
    calls = [a_conversation(account=an_account(slug)) for slug in ("delhi", "pune", "goa")]

    async def listen() -> None:
        now = (await elsewhere(lambda: ask(after="now")))["next_cursor"]
        writer = asyncio.create_task(elsewhere(lambda: [write(calls[number % 3]) for number in range(120)]))
        found, last = [], now
        while len(found) < 120:
            listener = Listener(streams, key, last_event_id=last)
            found += await listener.changes(min(17, 120 - len(found)))
            await listener.leave()
            last = listener.last_id
        await writer
        whole = await elsewhere(lambda: ask(after=now, limit=1000))
        for slug in ("delhi", "pune", "goa"):
            heard = [(change["id"], change["changed_at"]) for change in found if change["account"] == slug]
            assert heard == [
                (change["id"], change["changed_at"]) for change in whole["results"] if change["account"] == slug
            ]
        assert last == whole["next_cursor"]

    asyncio.run(listen())


def test_whoever_is_far_behind_catches_up_and_hears_then_what_is_new(streams, key, ask, monkeypatch):
    monkeypatch.setattr(live, "KEPT", 5)
    monkeypatch.setattr(live, "BATCH", 4)
    call = a_conversation()

    async def listen() -> None:
        listener = Listener(streams, key, after="now")
        await listener.start()
        await elsewhere(lambda: [write(call) for _ in range(3)])
        await listener.changes(3)
        listener.is_reading.clear()
        await elsewhere(lambda: [write(call) for _ in range(30)])
        listener.is_reading.set()
        await listener.changes(30)
        await elsewhere(lambda: write(call, "corrected"))
        assert [change["kind"] for change in await listener.changes(1)] == ["corrected"]
        await listener.leave()

    asyncio.run(listen())


def test_a_stream_tells_of_the_accounts_that_are_asked_for(streams, key):
    delhi, pune = (a_live_conversation(account=an_account(slug)) for slug in ("delhi", "pune"))

    async def listen() -> None:
        listener = Listener(streams, key, account="delhi")
        snapshot = json.loads((await listener.next())["data"])
        assert [shown["account"] for shown in snapshot["conversations"]] == ["delhi"]
        await elsewhere(lambda: [write(pune), write(delhi)])
        assert [change["account"] for change in await listener.changes(1)] == ["delhi"]
        await listener.leave()

    asyncio.run(listen())


def test_a_key_for_some_accounts_hears_of_no_others(streams, transactional_db):
    here, there = (a_live_conversation(account=an_account(slug)) for slug in ("delhi", "pune"))
    text = ApiKey.issue("crm", [Scope.STREAM], accounts=[here.account])[1]
    write(there)

    async def listen() -> None:
        listener = Listener(streams, text)
        snapshot = await listener.next()
        assert [shown["id"] for shown in json.loads(snapshot["data"])["conversations"]] == [str(here.pk)]
        await elsewhere(lambda: [write(there), write(here)])
        assert [change["id"] for change in await listener.changes(1)] == [str(here.pk)]
        await listener.leave()
        forged = str(changes.Cursor({there.account_id: 0, here.account_id: 0}))
        again = Listener(streams, text, last_event_id=forged)
        assert [change["id"] for change in await again.changes(1)] == [str(here.pk)]
        await again.leave()

    asyncio.run(listen())


def test_a_key_for_all_accounts_hears_of_one_that_is_new(streams, key):
    async def listen() -> None:
        listener = Listener(streams, key)
        await listener.next()
        await elsewhere(lambda: write(a_conversation(account=an_account("newcomer"))))
        assert [change["account"] for change in await listener.changes(1)] == ["newcomer"]
        await listener.leave()

    asyncio.run(listen())


def revoked(key: ApiKey) -> None:
    ApiKey.objects.filter(pk=key.pk).update(is_active=False)


def expired(key: ApiKey) -> None:
    ApiKey.objects.filter(pk=key.pk).update(expires_at=key.created_at)


def without_its_scope(key: ApiKey) -> None:
    ApiKey.objects.filter(pk=key.pk).update(scopes=["read"])


def deleted(key: ApiKey) -> None:
    key.delete()


def out_of_reach(key: ApiKey) -> None:
    key.accounts.set([Account.objects.get(slug="pune")])


@pytest.mark.parametrize("taken_away", [revoked, expired, without_its_scope, deleted, out_of_reach])
def test_a_stream_ends_soon_after_its_key_may_no_longer_listen(streams, key, taken_away: Callable[[ApiKey], None]):
    an_account("delhi")
    an_account("pune")

    async def listen() -> None:
        listener = Listener(streams, key, account="delhi")
        await listener.next("snapshot")
        await elsewhere(lambda: taken_away(ApiKey.objects.get(name="wallboard")))
        assert (await listener.next())["event"] == "end"
        await asyncio.wait_for(listener.task, 10)

    asyncio.run(listen())


def test_a_key_that_is_given_fewer_accounts_hears_no_more_of_the_others(streams, key):
    here, there = (a_live_conversation(account=an_account(slug)) for slug in ("delhi", "pune"))

    async def listen() -> None:
        listener = Listener(streams, key)
        await listener.next("snapshot")
        await elsewhere(lambda: ApiKey.objects.get(name="wallboard").accounts.set([here.account]))
        heard = []
        while "pune" in heard or not heard:  # until it was asked again what the key may see
            await elsewhere(lambda: [write(there), write(here)])
            heard = [(await listener.changes(1))[0]["account"]]
            if heard == ["pune"]:
                await listener.changes(1)
        await elsewhere(lambda: [write(there), write(here), write(here)])
        assert [change["account"] for change in await listener.changes(2)] == ["delhi"] * 2
        await listener.leave()

    asyncio.run(listen())


def test_who_may_not_listen_gets_a_problem(streams, key):
    reader = ApiKey.issue("reader", [Scope.READ])[1]

    async def ask() -> None:
        for text, status, parameters in [
            ("unknown", 401, {}),
            (reader, 403, {}),
            (key, 400, {"after": "yesterday"}),
            (key, 400, {"account": "nowhere"}),
            (key, 400, {"limit": "5"}),
        ]:
            listener = Listener(streams, text, **parameters)
            start = await listener.start()
            assert start["status"] == status
            assert start["headers"][b"content-type"] == b"application/problem+json"
        listener = Listener(streams, key, last_event_id="yesterday")
        assert (await listener.start())["status"] == 400
        assert json.loads(await listener.body())["errors"][0]["field"] == "Last-Event-ID"

    asyncio.run(ask())


def test_a_key_has_a_limited_number_of_streams(streams, key):
    async def listen() -> None:
        listeners = [Listener(streams, key) for _ in range(3)]
        assert [(await listener.start())["status"] for listener in listeners] == [200] * 3
        refused = Listener(streams, key)
        assert (await refused.start())["status"] == 429
        assert json.loads(await refused.body())["status"] == 429
        for listener in listeners:
            await listener.leave()

    asyncio.run(listen())


def test_a_listener_who_takes_nothing_in_is_cut_off_and_goes_on_later(key, ask, transactional_db):
    streams = Streams(get_asgi_application(), Feed(), slow_seconds=0.2)
    call = a_conversation()

    async def listen() -> None:
        listener = Listener(streams, key, after="now")
        await listener.start()
        await elsewhere(lambda: write(call))
        await listener.changes(1)
        listener.is_reading.clear()
        await elsewhere(lambda: write(call))
        await asyncio.wait_for(listener.task, 10)
        again = Listener(streams, key, last_event_id=listener.last_id)
        await again.changes(1)
        await again.leave()

    asyncio.run(listen())


def test_an_idle_stream_beats(streams, key):
    async def listen() -> None:
        listener = Listener(streams, key)
        assert await listener.next("beat") == {"event": "beat", "data": "{}"}
        await listener.leave()

    asyncio.run(listen())


def test_listeners_hold_no_thread_and_no_connection_each(key, transactional_db):
    streams = Streams(get_asgi_application(), Feed(), most=40)

    async def listen() -> tuple[int, int]:
        before = threading.active_count()
        listeners = [Listener(streams, key) for _ in range(40)]
        for listener in listeners:
            await listener.next("snapshot")
        threads, busy = threading.active_count() - before, await elsewhere(connections_in_use)
        for listener in listeners:
            await listener.leave()
        return threads, busy

    threads, busy = asyncio.run(listen())
    assert threads <= 4  # two of the streams' own, and what asyncio keeps for the test's own
    assert busy <= 3


def test_a_server_without_streams_names_the_feed_instead(db):
    response = client_with(ApiKey.issue("crm", [Scope.STREAM])[1]).get(PATH, headers={"Accept": "text/event-stream"})
    assert response.status_code == 501
    assert "/api/v1/changes/" in response.json()["detail"]


def test_the_server_sends_what_asks_for_the_stream_to_its_keeper(db):
    from config.asgi import STREAMS

    assert {reverse("live-changes"), reverse("live-stream")} == STREAMS.keys()


def test_a_change_of_a_conversation_that_is_gone_is_told_without_it(streams, key):
    account = an_account()

    async def listen() -> None:
        listener = Listener(streams, key)
        await listener.next("snapshot")
        await elsewhere(lambda: changes.write(account.pk, [(uuid4(), Change.Kind.ERASED, "", None)]))
        (change,) = await listener.changes(1)
        assert (change["kind"], change["conversation"]) == ("erased", None)
        await listener.leave()

    asyncio.run(listen())
