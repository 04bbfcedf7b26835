"""The fast way in: an ASGI application ahead of Django, whose requests in flight share one INSERT and one commit.

Whatever waits while a commit runs goes into the next one, so a lone request waits for nobody and many cost little more
than one. While the database is away or too slow, deliveries go to the spool in the same way: many with one fsync. When
it is back the spool is drained from here too, since no worker may be running on this machine.

All of this runs on the event loop, and needs no lock. Threads only write, and only one group at a time.
"""

import asyncio
import functools
import logging
import threading
import time
from collections.abc import Awaitable, Callable, Iterable, MutableMapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import psycopg
from django.db import DatabaseError, InterfaceError, connection

from webhooks import bell, inbox, spool
from webhooks.storing import NewDelivery, insert, insert_async

logger = logging.getLogger(__name__)

MOST_IN_A_GROUP = 500
MOST_BYTES_IN_A_GROUP = 4 * inbox.MOST_BYTES
MOST_BYTES_WAITING = 32 * inbox.MOST_BYTES
"""When more than this waits for a commit the next goes to the spool, and when it waits there, the next is refused."""
COMMIT_SECONDS = 0.15
"""A commit that takes longer is taken for stuck: who waits goes to the spool, as do all until it is done."""
SPOOL_SECONDS = 2.0
"""Writing to the spool may take this long before requests are refused."""
PROBE_SECONDS = 0.5
"""How often a database that was away is asked whether it is back."""
DRAIN_PAUSE_SECONDS = 2.0
"""How long after a failure the spool is drained again."""
TABLE_SECONDS = 2.0
"""How long a request waits for a fresh table of webhook URLs: its own may be new, or retired since the last one."""

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class Group:
    """Writes deliveries in groups, one after the other, each within ``seconds``.

    ``write`` takes a group and returns those of it that could not be kept. What it raises is its own to deal with: here
    it means that nothing was kept. Two groups side by side were tried: smaller groups cost what the overlap gained.
    """

    def __init__(self, write: Callable[[list[NewDelivery]], Awaitable[Sequence[NewDelivery]]], seconds: float) -> None:
        self._write = write
        self._seconds = seconds
        self._waiting: list[tuple[NewDelivery, asyncio.Future[bool]]] = []
        self._bytes_waiting = 0
        self._writing: asyncio.Task[None] | None = None
        self.is_stuck = False

    async def keep(self, delivery: NewDelivery) -> bool:
        """Return whether ``delivery`` is kept. When it is not, it may yet turn out that it was."""
        if self.is_stuck or self._bytes_waiting > MOST_BYTES_WAITING:
            return False
        if self._writing is None or self._writing.done():
            self._loop = asyncio.get_running_loop()  # not for each request: it asks the system for the process id
            self._writing = self._loop.create_task(self._write_all())
        kept: asyncio.Future[bool] = self._loop.create_future()
        self._waiting.append((delivery, kept))
        self._bytes_waiting += len(delivery.body) + len(delivery.query)
        return await kept

    async def _write_all(self) -> None:
        """Write until nobody waits. It takes no error to end it, and the next request starts it again."""
        while self._waiting:
            group = self._next()
            limit = self._loop.call_later(self._seconds, self._give_up, group)
            try:
                failed = await self._write([delivery for delivery, _ in group])
            except Exception:
                logger.exception("a group of deliveries could not be written")
                failed = [delivery for delivery, _ in group]
            finally:
                limit.cancel()
                self.is_stuck = False
            for delivery, kept in group:
                if not kept.done():
                    kept.set_result(delivery not in failed)

    def _next(self) -> list[tuple[NewDelivery, "asyncio.Future[bool]"]]:
        size = count = 0
        for delivery, _ in self._waiting[:MOST_IN_A_GROUP]:
            size += len(delivery.body) + len(delivery.query)
            count += 1
            if size > MOST_BYTES_IN_A_GROUP:
                break
        group = self._waiting[:count]
        del self._waiting[:count]
        self._bytes_waiting -= size
        return group

    def _give_up(self, group: list[tuple[NewDelivery, "asyncio.Future[bool]"]]) -> None:
        """Tell all who wait that they wait in vain, for this group and for those that it holds up."""
        self.is_stuck = True
        for _, kept in group + self._waiting:
            if not kept.done():
                kept.set_result(False)
        self._waiting, self._bytes_waiting = [], 0


class Database:
    """Commits groups, and knows whether the database is away.

    With PostgreSQL it talks from the event loop, over a connection of its own: the pool would let it wait for ten
    seconds before it says that there is none. With SQLite a thread does the writing.
    """

    def __init__(self) -> None:
        self.is_away = False
        # One at a time: a connection that is closed while something waits for it leaves its number of a file to the
        # next request's socket, and the event loop mixes up the two.
        self._turn = asyncio.Lock()
        self._connection: psycopg.AsyncConnection | None = None
        self._probing: asyncio.Task[None] | None = None

    async def write(self, deliveries: list[NewDelivery]) -> Sequence[NewDelivery]:
        """Commit ``deliveries`` and return those that were not, or of which nobody knows."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            if connection.vendor == "postgresql":
                async with self._turn:
                    refused = await insert_async(deliveries, await self._connected())
            else:
                refused = await loop.run_in_executor(_sqlite, insert, deliveries)
        except (psycopg.Error, DatabaseError, InterfaceError) as error:
            logger.warning("deliveries go to the spool: %s", type(error).__name__)
            self.is_away = True
            if self._probing is None or self._probing.done():
                self._probing = loop.create_task(self._probe())
            return deliveries
        if loop.time() - began > COMMIT_SECONDS:
            drain_spool()
        bell.ring()
        return refused

    async def _connected(self) -> psycopg.AsyncConnection:
        if self._connection is None:
            parameters = connection.get_connection_params()
            for name in ("cursor_factory", "context", "prepare_threshold", "pool"):
                parameters.pop(name, None)
            self._connection = await psycopg.AsyncConnection.connect(**parameters, autocommit=True)
        return self._connection

    async def _probe(self) -> None:
        while True:
            async with self._turn:
                if await self._answers():
                    break
            await asyncio.sleep(PROBE_SECONDS)
        self.is_away = False
        logger.warning("the database is back")
        drain_spool()

    async def _answers(self) -> bool:
        try:
            if self._connection:
                await self._connection.close()
                self._connection = None
            if connection.vendor == "postgresql":
                await (await self._connected()).execute("SELECT 1")
        except psycopg.Error:
            return False
        return True


async def _spool(deliveries: list[NewDelivery]) -> Sequence[NewDelivery]:
    loop = asyncio.get_running_loop()
    is_kept = await loop.run_in_executor(_spooler, inbox.keep_in_spool, deliveries)
    return [] if is_kept else deliveries


def drain_spool() -> None:
    """Have the spool drained in a thread, which tries until it is."""
    threading.Thread(target=_drain_in_thread, name="spool drainer", daemon=True).start()


def _drain_in_thread() -> None:
    while True:
        try:
            if spool.drain_spools():
                bell.ring()
            return
        except (DatabaseError, InterfaceError) as error:
            logger.warning("the spool could not be drained yet: %s", type(error).__name__)
        finally:
            connection.close()
        time.sleep(DRAIN_PAUSE_SECONDS)


class TableReading:
    """Has the table of webhook URLs read in a thread, once for all requests that need it."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="webhook URLs")
        self._reading: Future[None] | None = None
        self._began = 0.0

    async def begin(self, path: str) -> None:
        """Have it read; return when it was, or when a request for ``path`` may, or must, go by the last one.

        With a URL of the last one none waits while the database is away. A short limit in its place was tried: on a
        busy machine it let a retired URL work for longer than a second.
        """
        if self._reading is None or self._reading.done():
            self._began = time.monotonic()
            self._reading = self._thread.submit(inbox.ways.read)
        inbox.ways.recall()
        if inbox.ways.find(path) and (is_away() or inbox.ways.age < inbox.STALE_SECONDS):
            return
        left = self._began + TABLE_SECONDS - time.monotonic()
        if left > 0:
            await asyncio.wait([asyncio.wrap_future(self._reading)], timeout=left)


_database = Database()
_sqlite = ThreadPoolExecutor(max_workers=1, thread_name_prefix="inbox writer")
_spooler = ThreadPoolExecutor(max_workers=1, thread_name_prefix="spool")
_commits = Group(_database.write, COMMIT_SECONDS)
_spooling = Group(_spool, SPOOL_SECONDS)
_table = TableReading()


def is_away() -> bool:
    """Whether the database is known to be away, or seems stuck."""
    return _database.is_away or _commits.is_stuck


async def receiver(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer one request under /webhooks/ (ASGI)."""
    body = inbox.Body()
    if not await _read(body, receive):
        return  # the sender went away in the middle: nothing was acknowledged, nothing is kept
    headers = scope["headers"]
    request = inbox.Request(
        method=scope["method"],
        path=scope["path"],
        query=scope["query_string"],
        content_type=_joined(headers, b"content-type"),
        peer=scope["client"][0] if scope.get("client") else "",
        forwarded_for=_joined(headers, b"x-forwarded-for"),
        body=body,
    )
    answer = await _accept(request)
    await send(_start(answer.status, answer.headers, len(answer.payload)))
    await send({"type": "http.response.body", "body": answer.payload})


async def _read(body: inbox.Body, receive: Receive) -> bool:
    """Read the body; return whether it came to its end (or to the limit of what is read)."""
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return False
        if not body.feed(message.get("body", b"")) or not message.get("more_body", False):
            return True


def _joined(headers: Iterable[tuple[bytes, bytes]], wanted: bytes) -> str:
    """Return the header, joined as under WSGI when it is there more than once."""
    return b",".join([value for name, value in headers if name == wanted]).decode("latin-1")


async def _accept(request: inbox.Request) -> inbox.Answer:
    if inbox.needs_reading(request.path):
        await _table.begin(request.path)
    verdict = inbox.judge(request)
    if isinstance(verdict, inbox.Answer):
        return verdict
    is_kept = not _database.is_away and await _commits.keep(verdict)
    if not is_kept:  # or nobody knows: the id makes it one when both have it
        is_kept = await _spooling.keep(verdict)
    return inbox.answer_for(verdict) if is_kept else inbox.unavailable()


@functools.lru_cache(maxsize=64)
def _start(status: int, headers: tuple[tuple[str, str], ...], length: int) -> MutableMapping[str, Any]:
    """Return the message that begins an answer; there are not many different ones."""
    encoded = [(name.lower().encode(), value.encode()) for name, value in (*headers, ("Content-Length", str(length)))]
    return {"type": "http.response.start", "status": status, "headers": encoded}
