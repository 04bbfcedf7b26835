"""The fast way in: an ASGI application ahead of Django, whose requests in flight share one INSERT and one commit.

Whatever waits while a commit runs goes into the next one, so a lone request waits for nobody and many cost little more
than one. The writing is done by one thread, which outlives every outage: while the database is away it asks once in a
while whether it is back, and meanwhile deliveries go to the spool. When it is back the spool is drained from here too,
since no worker may be running on this machine.
"""

import asyncio
import logging
import os
import threading
import time
from collections.abc import Awaitable, Callable, MutableMapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from django.db import DatabaseError, InterfaceError, connection
from django.db.backends.base.base import BaseDatabaseWrapper

from webhooks import bell, inbox, spool
from webhooks.models import Delivery
from webhooks.storing import insert

logger = logging.getLogger(__name__)

MOST_IN_A_COMMIT = 500
PATIENCE_SECONDS = 2.0
"""How long a request waits for its commit before it goes to the spool, and there before it is refused."""
STUCK_SECONDS = 0.5
"""A commit that takes longer than this sends later requests straight to the spool."""
PROBE_SECONDS = 0.5
"""How often a database that was away is asked whether it is back."""
DRAIN_PAUSE_SECONDS = 2.0
"""How long after a failure the spool is drained again."""
TABLE_SECONDS = 0.3
"""How long a request waits for a fresh table of webhook URLs before it goes by the last one, if there is one."""

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class GroupCommit:
    """Commits deliveries in groups, from one thread."""

    def __init__(self) -> None:
        self._waiting: list[tuple[Delivery, Future[bool]]] = []
        self._changed = threading.Condition()
        self._thread_of = 0
        self._commit_began: float | None = None
        self._is_away = False

    @property
    def is_away(self) -> bool:
        """Whether the database is known to be away, or seems stuck."""
        began = self._commit_began
        return self._is_away or (began is not None and time.monotonic() - began > STUCK_SECONDS)

    def put(self, delivery: Delivery) -> "Future[bool]":
        """Return a future that is true when ``delivery`` is committed, false when it is not or nobody knows."""
        future: Future[bool] = Future()
        with self._changed:
            if self._thread_of != os.getpid():  # threads do not survive a fork
                self._thread_of = os.getpid()
                threading.Thread(target=self._run, name="inbox writer", daemon=True).start()
            self._waiting.append((delivery, future))
            self._changed.notify()
        return future

    def _run(self) -> None:
        # A connection of its own: the pool would let it wait for ten seconds before it says that there is none.
        database = connection.copy()
        database.settings_dict["OPTIONS"].pop("pool", None)
        while True:
            try:
                if self._is_away:
                    self._probe(database)
                else:
                    self._commit(self._next_group(), database)
            except Exception:  # the thread must not end: nobody would be answered again
                logger.exception("the inbox writer goes on after an error")

    def _next_group(self) -> list[tuple[Delivery, "Future[bool]"]]:
        with self._changed:
            while not self._waiting:
                self._changed.wait()
            group = self._waiting[:MOST_IN_A_COMMIT]
            del self._waiting[:MOST_IN_A_COMMIT]
        # One who stopped waiting has gone to the spool.
        return [(delivery, future) for delivery, future in group if future.set_running_or_notify_cancel()]

    def _commit(self, group: list[tuple[Delivery, "Future[bool]"]], database: BaseDatabaseWrapper) -> None:
        deliveries = [delivery for delivery, _ in group]
        self._commit_began = began = time.monotonic()
        try:
            refused = insert(deliveries, database)
        except Exception as error:  # whatever it is, those who wait are told
            refused = deliveries
            self._is_away = True
            is_outage = isinstance(error, DatabaseError | InterfaceError)
            logger.warning("deliveries go to the spool: %s", type(error).__name__, exc_info=not is_outage)
        else:
            bell.ring()
        finally:
            self._commit_began = None
        for delivery, future in group:
            future.set_result(delivery not in refused)
        if not self._is_away and time.monotonic() - began > STUCK_SECONDS:
            _drain_spool()

    def _probe(self, database: BaseDatabaseWrapper) -> None:
        with self._changed:
            abandoned, self._waiting = self._waiting, []
        for _, future in abandoned:
            if future.set_running_or_notify_cancel():
                future.set_result(False)
        try:
            database.close()
            with database.cursor() as cursor:
                cursor.execute("SELECT 1")
        except (DatabaseError, InterfaceError):
            time.sleep(PROBE_SECONDS)
        else:
            self._is_away = False
            logger.warning("the database is back")
            _drain_spool()


def _drain_spool() -> None:
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
    """Has the table of webhook URLs read in a thread, once for all requests that wait for it."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="webhook URLs")
        self._reading: Future[None] | None = None
        self._began = 0.0

    async def wait(self) -> None:
        """Return when the table was read, or when a request should go by the last one."""
        if self._reading is None or self._reading.done():
            self._began = time.monotonic()
            self._reading = self._thread.submit(inbox.ways.read)
        if not inbox.ways.are_known:
            patience = PATIENCE_SECONDS
        elif writer.is_away:
            patience = 0.0
        else:
            patience = TABLE_SECONDS
        left = self._began + patience - time.monotonic()
        if left > 0:
            await asyncio.wait([asyncio.wrap_future(self._reading)], timeout=left)


writer = GroupCommit()
_table = TableReading()
_spooler = ThreadPoolExecutor(max_workers=1, thread_name_prefix="spool")


async def receiver(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer one request under /webhooks/ (ASGI)."""
    body = inbox.Body()
    if not await _read(body, receive):
        return  # the sender went away in the middle: nothing was acknowledged, nothing is kept
    headers: dict[bytes, str] = {}
    for name, value in scope["headers"]:
        text = value.decode("latin-1")
        headers[name] = f"{headers[name]},{text}" if name in headers else text  # joined as under WSGI
    request = inbox.Request(
        method=scope["method"],
        path=scope["path"],
        query=scope["query_string"],
        content_type=headers.get(b"content-type", ""),
        peer=scope["client"][0] if scope.get("client") else "",
        forwarded_for=headers.get(b"x-forwarded-for", ""),
        body=body,
    )
    await _answer(await _accept(request), send)


async def _read(body: inbox.Body, receive: Receive) -> bool:
    """Read the body; return whether it came to its end (or to the limit of what is read)."""
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return False
        if not body.feed(message.get("body", b"")) or not message.get("more_body", False):
            return True


async def _accept(request: inbox.Request) -> inbox.Answer:
    if inbox.needs_reading(request.path):
        await _table.wait()
    verdict = inbox.judge(request)
    if isinstance(verdict, inbox.Answer):
        return verdict
    is_kept = not writer.is_away and await _in_time(writer.put(verdict))
    if not is_kept:  # or nobody knows: the id makes it one when both have it
        is_kept = await _in_time(_spooler.submit(inbox.keep_in_spool, verdict))
    return inbox.answer_for(verdict) if is_kept else inbox.unavailable()


async def _in_time(keeping: "Future[bool]") -> bool:
    try:
        return await asyncio.wait_for(asyncio.wrap_future(keeping), PATIENCE_SECONDS)
    except TimeoutError:
        return False


async def _answer(answer: inbox.Answer, send: Send) -> None:
    payload = answer.payload
    headers = [(name.encode(), value.encode()) for name, value in answer.all_headers.items()]
    headers.append((b"Content-Length", str(len(payload)).encode()))
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": payload})
